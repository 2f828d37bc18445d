//! What servers do by themselves, over an imagined network between them: they hand hints over, look
//! at all that they hold, and bring back what is damaged.

use super::Fault;
#[cfg(feature = "faults")]
use super::ListsFault;
use super::damage::any_damaged;
use super::network::Link;
use super::oracle::KeyId;
use super::scenario::Micros;
use super::server::{Return, Server, State};
use super::world::{Event, World, key_bytes};
use annulet_protocol::codec;
use annulet_protocol::hash::parse_storage_key;
use annulet_protocol::ids::NodeId;
use annulet_protocol::message::{Answer, Operation, Request};
use annulet_protocol::siblings::message::Spread;
use annulet_replica::copy::empty::Emptier;
use annulet_replica::copy::handover::{self, Handover};
use annulet_replica::copy::{Copier, Errand};
use annulet_replica::courier::{Courier, Parcel};
use annulet_replica::hints::{Tally, waiting_for};
use annulet_replica::restore::{Inquiry, Restorer};
use annulet_replica::rules::{Mutation, Task};
use annulet_replica::spread::confirmed::Confirmed;
use annulet_replica::spread::{Round, Spreader};
use annulet_replica::sweep::Sweep;
use bytes::Bytes;
use rand::Rng;
use std::collections::BTreeMap;

/// Time between two looks at what is to be done.
const EVERY_US: Micros = 60_000;
/// How long an answer of a peer is waited for.
const PATIENCE_US: Micros = 300_000;
/// How long a damaged record is left alone: longer than any operation takes.
const DAMAGE_WAIT_MS: u64 = 2_500;
/// How long a client has to send on what it put.
const CLIENT_HAS_MS: u64 = 500;

/// See the module. All of it is in memory only.
#[derive(Debug)]
pub(crate) struct Upkeep {
    pub(crate) courier: Courier,
    sweep: Sweep,
    restorer: Restorer,
    spreader: Spreader,
    confirmed: Confirmed,
    pub(crate) copier: Copier,
    pub(crate) emptier: Emptier,
    pub(crate) handover: Handover,
    pub(crate) asked: BTreeMap<u64, Asked>,
    /// Storage keys of records that were found damaged.
    pub(crate) damaged: Vec<Bytes>,
}

/// What a server has asked of others.
#[derive(Debug)]
pub(crate) enum Asked {
    Parcel(Parcel),
    Inquiry(Inquiry, Vec<(NodeId, Answer)>),
    Round(Round),
    Page(Errand),
    Handover(handover::Round),
}

impl Server {
    /// A client says that every owner has what was minted here.
    pub(crate) fn confirm(&mut self, epoch: u64, spread: &Spread) {
        let own = self.replica.incarnation;
        self.upkeep.confirmed.note(&self.view, own, epoch, spread);
    }
}

impl Upkeep {
    pub(crate) fn new(expired_kept_ms: u64, fault: Fault) -> Self {
        #[allow(unused_mut)]
        let (mut copier, mut handover) = (Copier::default(), Handover::default());
        match fault {
            #[cfg(feature = "faults")]
            Fault::Copy(fault) => copier.fault = Some(fault),
            #[cfg(feature = "faults")]
            Fault::Lists(ListsFault::DroppedEarly) => handover.drops_early = true,
            _ => {}
        }
        Self {
            copier,
            emptier: Emptier::default(),
            handover,
            courier: Courier::default(),
            sweep: Sweep::new(expired_kept_ms),
            restorer: Restorer::new(DAMAGE_WAIT_MS),
            spreader: Spreader::new(CLIENT_HAS_MS),
            confirmed: Confirmed::default(),
            asked: BTreeMap::new(),
            damaged: Vec::new(),
        }
    }
}

impl World {
    /// A server that has just started looks after things from now on.
    pub(crate) fn begin_upkeep(&mut self, server: usize) {
        let kept_ms = self.scenario.expired_kept_ms;
        self.servers[server].upkeep = Upkeep::new(kept_ms, self.options.fault);
        self.begin_copying(server);
        let life = self.servers[server].life;
        let delay_us = self.rng.random_range(0..EVERY_US);
        self.schedule(delay_us, Event::Upkeep { server, life });
        // It greets the others, which then know that it is back.
        let node = self.servers[server].replica.node;
        for other in &mut self.servers {
            other.upkeep.courier.handle_sign_of_life(node);
        }
    }

    pub(crate) fn upkeep(&mut self, server: usize, life: u32) {
        let at = &self.servers[server];
        if at.life != life || at.state != State::Up {
            return;
        }
        let rests = at.stalled_until_us > self.now_us;
        self.schedule(EVERY_US, Event::Upkeep { server, life });
        if rests {
            return;
        }
        self.deliver(server);
        self.sweep(server);
        self.restore(server);
        self.spread(server);
        self.copy(server);
        self.greet_one(server);
        self.finish_chain(server);
    }

    /// Compares what was minted here with what the other owners have.
    fn spread(&mut self, server: usize) {
        let now_ms = self.server_ms(server);
        let at = &mut self.servers[server];
        let (own, view) = (at.replica.node, std::sync::Arc::clone(&at.view));
        let Upkeep {
            spreader,
            confirmed,
            ..
        } = &mut at.upkeep;
        let mut by_clients = false;
        let round = spreader.round(&at.store, &view, own, now_ms, |note| {
            let any = confirmed.take_from(note);
            by_clients |= any;
            any
        });
        if by_clients {
            self.coverage.hit("upkeep", "confirmed");
        }
        let (round, tasks) = round.expect("notes are never damaged here");
        self.note_tasks(server, tasks);
        self.begin_round(server, round);
    }

    fn begin_round(&mut self, server: usize, round: Round) {
        if round.is_empty() {
            return;
        }
        let number = self.next_number();
        let questions: Vec<_> = round.questions().collect();
        for (owner, operations) in questions {
            let sends = matches!(operations.first(), Some(Operation::Merge(_)));
            let name = if sends { "sent_on" } else { "compared" };
            self.coverage.hit("upkeep", name);
            self.ask_peer(server, number, owner, operations);
        }
        let asked = Asked::Round(round);
        self.servers[server].upkeep.asked.insert(number, asked);
    }

    pub(crate) fn note_tasks(&mut self, server: usize, tasks: Vec<Task>) {
        for task in &tasks {
            self.note_task(task);
        }
        let tasks: Vec<_> = tasks.into_iter().map(Mutation::Task).collect();
        self.note(server, &tasks);
    }

    fn deliver(&mut self, server: usize) {
        let now_ms = self.server_ms(server);
        let at = &mut self.servers[server];
        let tally = Tally::of(&at.store).expect("notes are never damaged here");
        for owner in at.upkeep.courier.due(&tally, now_ms) {
            let at = &mut self.servers[server];
            let (courier, own) = (&mut at.upkeep.courier, at.replica.node);
            let parcel = courier.parcel(&at.store, &at.view, own, owner);
            let parcel = parcel.expect("hints are never damaged here");
            let items = parcel.items.iter();
            let operations: Vec<_> = items.map(|item| item.operation.clone()).collect();
            let number = self.next_number();
            let asked = Asked::Parcel(parcel);
            self.servers[server].upkeep.asked.insert(number, asked);
            if operations.is_empty() {
                let life = self.servers[server].life;
                self.peer_over(server, life, number);
            } else {
                self.coverage.hit("upkeep", "parcel");
                self.ask_peer(server, number, owner, operations);
            }
        }
    }

    fn sweep(&mut self, server: usize) {
        let now_ms = self.server_ms(server);
        let at = &mut self.servers[server];
        if !at.clock_trusted {
            return;
        }
        let view = std::sync::Arc::clone(&at.view);
        let found = at.upkeep.sweep.step(&at.store, &view, now_ms);
        let found = found.expect("a store in memory does not fail");
        at.upkeep.damaged.extend(found.damaged);
        self.note_tasks(server, found.tasks);
    }

    fn restore(&mut self, server: usize) {
        let now_ms = self.server_ms(server);
        let at = &mut self.servers[server];
        let Upkeep {
            restorer, damaged, ..
        } = &mut at.upkeep;
        for key in damaged.drain(..) {
            restorer.note(key, now_ms);
        }
        let (view, own) = (std::sync::Arc::clone(&at.view), at.replica.node);
        while let Some(inquiry) = self.servers[server].upkeep.restorer.due(&view, own, now_ms) {
            let number = self.next_number();
            for owner in inquiry.owners.clone() {
                let read = Operation::Read(inquiry.read.clone());
                self.ask_peer(server, number, owner, vec![read]);
            }
            let asked = Asked::Inquiry(inquiry, Vec::new());
            self.servers[server].upkeep.asked.insert(number, asked);
        }
    }

    pub(crate) fn ask_peer(
        &mut self,
        server: usize,
        number: u64,
        to: NodeId,
        operations: Vec<Operation>,
    ) {
        let at = &self.servers[server];
        let request = Request {
            cluster: at.view.cluster,
            epoch: at.view.epoch,
            budget_ms: 5_000,
            operations,
        };
        let life = at.life;
        let bytes = Bytes::from(codec::encode(&request));
        let target = self.server_of(to);
        for delay_us in self.network.fate(Link::Peer(server, target)).copies {
            let from = Return::Peer(server, life, number);
            let event = Event::RequestArrives {
                server: target,
                from,
                bytes: bytes.clone(),
            };
            self.schedule(delay_us, event);
        }
        let event = Event::PeerOver {
            server,
            life,
            number,
        };
        self.schedule(PATIENCE_US, event);
    }

    /// A peer's answer arrives.
    pub(crate) fn peer_answers(&mut self, server: usize, life: u32, number: u64, bytes: &Bytes) {
        if self.servers[server].life != life {
            return;
        }
        let reply = codec::decode_reply(bytes).expect("a server's reply is well-formed");
        let Some(asked) = self.servers[server].upkeep.asked.get_mut(&number) else {
            return;
        };
        if let Asked::Inquiry(_, answers) = asked {
            let told = answers.iter().any(|(node, _)| *node == reply.node);
            let answer = reply.results.into_iter().next();
            answers.extend(answer.filter(|_| !told).map(|answer| (reply.node, answer)));
            return;
        }
        match asked {
            Asked::Round(round) => return round.take(reply.node, &reply.results),
            Asked::Handover(round) => return round.take(reply.node, &reply.results),
            _ => {}
        }
        if let Asked::Page(errand) = asked {
            let errand = errand.clone();
            self.servers[server].upkeep.asked.remove(&number);
            return self.page_comes(server, &errand, reply.results);
        }
        if let Some(Asked::Parcel(parcel)) = self.servers[server].upkeep.asked.remove(&number) {
            self.settle_parcel(server, &parcel, Some(&reply.results));
        }
    }

    /// What a server has asked is not waited for any longer.
    pub(crate) fn peer_over(&mut self, server: usize, life: u32, number: u64) {
        let at = &mut self.servers[server];
        if at.life != life || at.state != State::Up {
            return;
        }
        match at.upkeep.asked.remove(&number) {
            None => {}
            Some(Asked::Parcel(parcel)) => self.settle_parcel(server, &parcel, None),
            Some(Asked::Page(errand)) => at.upkeep.copier.handle_failure(&errand),
            Some(Asked::Handover(round)) => self.handover_ends(server, round),
            Some(Asked::Round(round)) => {
                let (tasks, next) = round.end();
                self.note_tasks(server, tasks);
                self.begin_round(server, next);
            }
            Some(Asked::Inquiry(inquiry, answers)) => {
                let (view, own) = (std::sync::Arc::clone(&at.view), at.replica.node);
                let restorer = &mut at.upkeep.restorer;
                if let Some(task) = restorer.handle_answers(&view, own, &inquiry, answers) {
                    self.note_task(&task);
                    // What only the damaged copy held is gone.
                    self.oracle.moved();
                    self.note(server, &[Mutation::Task(task)]);
                }
            }
        }
    }

    fn settle_parcel(&mut self, server: usize, parcel: &Parcel, answers: Option<&[Answer]>) {
        let (now_ms, random) = (self.server_ms(server), self.rng.random());
        let courier = &mut self.servers[server].upkeep.courier;
        // Without writes there is nothing to answer.
        let answers = answers.or(parcel.items.is_empty().then_some(&[]));
        let tasks = courier.handle_answers(parcel, answers, now_ms, random);
        let tasks: Vec<_> = parcel.tasks.iter().cloned().chain(tasks).collect();
        for task in &tasks {
            self.note_task(task);
        }
        let own = parcel.own.iter().cloned();
        let mutations: Vec<_> = own.chain(tasks.into_iter().map(Mutation::Task)).collect();
        self.note(server, &mutations);
    }

    pub(crate) fn note_task(&mut self, task: &Task) {
        let name = match task {
            Task::Delivered { .. } => "delivered",
            Task::SetAside { .. } => "set_aside",
            Task::Reroute { .. } => "rerouted",
            Task::Discard { .. } => "discarded",
            Task::Remove { .. } => "removed",
            Task::Expire { .. } => "expired",
            Task::Restore { .. } => "restored",
            Task::RestoreSiblings { .. } => "siblings_restored",
            Task::ExpireSiblings { .. } => "siblings_expired",
            Task::Spread { .. } => "spread",
            Task::Copied { .. } => "copied",
            Task::Vacate { .. } => "vacated",
            Task::Ready { .. } => "ready",
            Task::Handed { .. } => "handed",
            Task::Note { .. } => "noted",
        };
        self.coverage.hit("upkeep", name);
    }

    /// In the end nothing waits for a server that is there.
    pub(crate) fn check_hints(&mut self) {
        // A record that is damaged and that too few others have is not written over.
        let takes_nothing = |at: &&Server| at.state == State::Perished || any_damaged(&at.store);
        let perished = self.servers.iter().filter(takes_nothing);
        let perished: Vec<_> = perished.map(|at| at.replica.node).collect();
        let view = &self.operator.view;
        for (server, at) in self.servers.iter().enumerate() {
            let tally = Tally::of(&at.store).expect("notes are never damaged here");
            let here = |owner: &&NodeId| !perished.contains(owner);
            for owner in tally.waiting.keys().filter(here) {
                let waiting = waiting_for(&at.store, *owner, b"", usize::MAX);
                let waiting = waiting.expect("notes are never damaged here");
                // A bucket that was the last one may be taken for one that is to come. What was
                // damaged for long may have come back just now.
                let damaged = &self.damaged_to_the_end;
                let known = waiting.iter().find(|waiting| {
                    let parsed = parse_storage_key(&waiting.key);
                    parsed.is_some_and(|(_, bucket, name)| {
                        let was = |(b, key): &KeyId| *b == bucket && key_bytes(*key) == name;
                        view.bucket(bucket).is_some() && !damaged.iter().any(was)
                    })
                });
                if let Some(waits) = known.filter(|_| at.state != State::Perished) {
                    let why =
                        format!("s{server} still keeps {waits:?} for {owner}, which is there");
                    return self.oracle.fail("hints", why);
                }
            }
        }
    }
}
