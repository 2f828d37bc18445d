//! The chain of epochs on simulated servers: what they hold of it, over a store that forgets what
//! was not synced, and what they say to each other about it.

use super::Fault;
use super::changes::{Attempt, Change};
use super::damage::any_damaged;
use super::network::Link;
use super::scenario::Micros;
use super::server::State;
use super::world::{Event, World};
use annulet_protocol::ballot::Ballot;
use annulet_protocol::epoch::{ChainAnswer, ChainQuestion, Deltas, EpochRecord, Offer, Point};
use annulet_protocol::hash::parse_storage_key;
use annulet_protocol::ids::{ChangeId, EpochHash, NodeId};
use annulet_protocol::view::View;
use annulet_replica::chain::open::open;
use annulet_replica::chain::{Chain, Step};
use annulet_replica::memory::{Mark, MemoryStore};
use annulet_replica::store::{Family, Store};
use annulet_ring::chain::Relation;
use annulet_ring::chain::proposer::Question;
use rand::Rng;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Longest time that a server that starts asks others for newer epochs.
const BEGIN_US: Micros = 100_000;

/// A server's part in the chain.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) chain: Chain,
    /// The view of the cluster file.
    file: View,
    fault: Fault,
    pending: VecDeque<Pending>,
    /// The end of what it wrote about the chain, and of what is durable.
    written: Mark,
    synced: Mark,
    /// The newest epoch that it holds durably.
    pub(crate) durable: u64,
    /// The attempt under way.
    pub(crate) attempt: Option<Attempt>,
    /// The highest ballot that it heard of.
    pub(crate) turn: Ballot,
    pub(crate) unfinished_us: Option<Micros>,
    /// It has asked others for newer epochs since it started; else how many have answered.
    pub(crate) begun: bool,
    answered: usize,
}

/// What waits until everything before it is durable.
#[derive(Debug)]
struct Pending {
    mark: Mark,
    installed: Option<Arc<View>>,
    newest: Point,
    /// On which epoch's successor, and at which ballot, it is a vote.
    vote: Option<(EpochHash, Ballot)>,
    answer: ChainAnswer,
    then: Then,
}

/// What comes then.
#[derive(Debug)]
pub(crate) enum Then {
    Nothing,
    /// An answer goes to another server, or to this one itself.
    Answer {
        to: usize,
        life: u32,
        attempt: u64,
        question: Question,
    },
    /// A decided record is held.
    Taken(u64),
    /// A settled record is acted under.
    Concluded(Box<EpochRecord>),
}

/// Something that happens at its time.
#[derive(Debug)]
pub(crate) enum ChainEvent {
    Arrives {
        server: usize,
        from: usize,
        message: Box<Message>,
    },
    Over {
        server: usize,
        life: u32,
        attempt: u64,
        question: Question,
    },
    Asked {
        server: usize,
        change: Box<Change>,
    },
    Again {
        server: usize,
        life: u32,
        change: Box<Change>,
    },
    Begins {
        server: usize,
        life: u32,
    },
}

/// What one server says to another.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Ask {
        life: u32,
        attempt: u64,
        question: Question,
        asked: ChainQuestion,
    },
    Answer {
        life: u32,
        attempt: u64,
        question: Question,
        answer: ChainAnswer,
    },
    Hello {
        newest: Point,
        first: u64,
    },
    Want(Point),
    Deltas(Deltas),
}

/// What was decided, as far as anybody has seen it.
#[derive(Debug, Default)]
pub(crate) struct Decided {
    /// Hashes by number.
    epochs: BTreeMap<u64, EpochHash>,
    /// Every bucket that was ever made, with the epoch that made it.
    pub(crate) numbers: BTreeMap<u32, u64>,
    /// The highest ballots that a server has told that it promised and accepted, by the epoch whose
    /// successor was voted on.
    told: BTreeMap<(usize, EpochHash), (Ballot, Ballot)>,
    /// Changes that were acknowledged, by the epochs that made them.
    pub(crate) acknowledged: BTreeMap<u64, ChangeId>,
}

impl Part {
    pub(crate) fn new(store: &MemoryStore, node: NodeId, file: View, fault: Fault) -> Self {
        let opened =
            open(store, node, Some(file.clone())).expect("a sound file and an empty store");
        let writes = "a store in memory does not fail";
        store.write(opened.batch).expect(writes);
        store.sync().expect(writes);
        let mut part = Self {
            durable: opened.chain.newest().number,
            chain: opened.chain,
            file,
            fault,
            pending: VecDeque::new(),
            written: store.mark(),
            synced: store.mark(),
            attempt: None,
            turn: Ballot::default(),
            unfinished_us: None,
            begun: true,
            answered: 0,
        };
        part.break_a_rule();
        part
    }

    /// What is left after a stop of any kind.
    pub(crate) fn reopen(&mut self, store: &MemoryStore, node: NodeId) {
        let file = self.file.clone();
        *self = Self {
            begun: false,
            ..Self::new(store, node, file, self.fault)
        };
    }

    fn break_a_rule(&mut self) {
        #[cfg(feature = "faults")]
        if let Fault::Chain(fault) = self.fault {
            self.chain.fault = Some(fault);
        }
    }
}

impl World {
    pub(crate) fn chain_happens(&mut self, event: ChainEvent) {
        match event {
            ChainEvent::Arrives {
                server,
                from,
                message,
            } => self.chain_arrives(server, from, *message),
            ChainEvent::Over {
                server,
                life,
                attempt,
                question,
            } if self.servers[server].life == life => {
                self.attempt_fails(server, attempt, question);
            }
            ChainEvent::Again {
                server,
                life,
                change,
            } if self.servers[server].life == life => self.begin_change(server, *change),
            ChainEvent::Asked { server, change } if !self.quiet => {
                self.begin_change(server, *change);
            }
            ChainEvent::Begins { server, life } => self.chain_begins(server, life),
            ChainEvent::Over { .. } | ChainEvent::Again { .. } | ChainEvent::Asked { .. } => {}
        }
    }

    /// Asks a server, which answers once all that its answer rests on is durable.
    pub(crate) fn ask_chain(&mut self, server: usize, asked: &ChainQuestion, then: Then) {
        let at = &mut self.servers[server];
        let Some(part) = &mut at.part else { return };
        let step = part.chain.handle(&at.store, asked);
        let Step {
            answer,
            batch,
            installed,
            fork,
            // Buckets change here, and no lists.
            changed: _,
        } = step.expect("notes are never damaged here");
        let writes = !batch.is_empty();
        if writes {
            let written = at.store.write(batch);
            written.expect("a store in memory does not fail");
            part.written = at.store.mark();
        }
        part.pending.push_back(Pending {
            mark: part.written,
            installed,
            newest: part.chain.newest(),
            vote: match asked {
                ChainQuestion::Prepare(prepare) => Some((prepare.of.hash, prepare.ballot)),
                ChainQuestion::Accept(accept) => Some((accept.of.hash, accept.ballot)),
                ChainQuestion::Offer(_)
                | ChainQuestion::Seal(_)
                | ChainQuestion::Copies(_)
                | ChainQuestion::Unknown => None,
            },
            answer,
            then,
        });
        if let Some(why) = fork {
            let why = format!("server {server}: {why}");
            return self.oracle.fail("agreement", why);
        }
        match writes {
            true => self.begin_sync(server),
            false => self.release_chain(server),
        }
    }

    /// What was written up to here is durable.
    pub(crate) fn chain_synced(&mut self, server: usize, mark: Mark) {
        if let Some(part) = &mut self.servers[server].part {
            part.synced = part.synced.max(mark);
            self.release_chain(server);
        }
    }

    /// Whether something about the chain is not durable yet.
    pub(crate) fn chain_is_busy(&self, server: usize) -> bool {
        let part = self.servers[server].part.as_ref();
        part.is_some_and(|part| !part.pending.is_empty())
    }

    /// Does what waited for what is durable now.
    fn release_chain(&mut self, server: usize) {
        loop {
            let Some(part) = &mut self.servers[server].part else {
                return;
            };
            let synced = part.synced;
            if part
                .pending
                .front()
                .is_none_or(|pending| pending.mark > synced)
            {
                return;
            }
            let Some(pending) = part.pending.pop_front() else {
                return;
            };
            let Pending {
                installed,
                newest,
                vote,
                answer,
                then,
                ..
            } = pending;
            part.durable = part.durable.max(newest.number);
            self.note_decided(server, newest);
            if let Some(vote) = vote {
                self.note_vote(server, vote, &answer);
            }
            if let Some(view) = installed {
                self.chain_installs(server, view);
            }
            self.chain_goes_on(server, answer, then);
        }
    }

    fn chain_goes_on(&mut self, server: usize, answer: ChainAnswer, then: Then) {
        match then {
            Then::Nothing => {}
            Then::Answer {
                to,
                life,
                attempt,
                question,
            } if to == server => self.attempt_answered((server, life, attempt), question, answer),
            Then::Answer {
                to,
                life,
                attempt,
                question,
            } => {
                let message = Message::Answer {
                    life,
                    attempt,
                    question,
                    answer,
                };
                self.tell(server, to, message);
            }
            Then::Taken(attempt) => self.attempt_taken(server, attempt, &answer),
            Then::Concluded(record) => self.attempt_concluded(server, *record),
        }
    }

    /// A view takes effect at a server.
    fn chain_installs(&mut self, server: usize, view: Arc<View>) {
        let epoch = view.epoch;
        let now_us = self.now_us;
        self.trace
            .line(now_us, || format!("s{server} acts under epoch {epoch}"));
        let keepers = &view.tip.keepers;
        let holds = |node: &&NodeId| {
            let part = &self.servers[self.server_of(**node)].part;
            part.as_ref().is_some_and(|part| part.durable >= epoch)
        };
        if keepers.iter().filter(holds).count() <= keepers.len() / 2 {
            let why = format!("server {server} acts under epoch {epoch}, which too few hold");
            self.oracle.fail("settled", why);
        }
        self.coverage.hit("chain", "installed");
        self.servers[server].view = Arc::clone(&view);
        if epoch > self.operator.view.epoch {
            self.know_view(&view);
        }
    }

    /// A view that nobody has acted under before.
    fn know_view(&mut self, view: &Arc<View>) {
        let before = Arc::clone(&self.operator.view);
        for bucket in &view.buckets {
            if before.bucket(bucket.number).is_some() {
                continue;
            }
            let numbers = &mut self.decided.numbers;
            if numbers.insert(bucket.number, view.epoch).is_some() {
                let why = format!("bucket number {} in epoch {}", bucket.number, view.epoch);
                self.oracle.fail("number", why);
            }
            self.coverage.hit("chain", "bucket_created");
        }
        for bucket in &before.buckets {
            match view.bucket(bucket.number) {
                None => {
                    self.oracle.bucket_deleted(bucket.number);
                    self.coverage.hit("chain", "bucket_deleted");
                }
                Some(after) if after != bucket => self.coverage.hit("chain", "bucket_set"),
                Some(_) => {}
            }
        }
        self.know_keys(view);
        self.operator.views.insert(view.epoch, Arc::clone(view));
        self.operator.view = Arc::clone(view);
    }

    /// All servers hold the same epoch of one number.
    fn note_decided(&mut self, server: usize, newest: Point) {
        let known = self.decided.epochs.entry(newest.number);
        let known = *known.or_insert(newest.hash);
        if known != newest.hash {
            let why = format!("server {server} holds {newest:?}, another one {known}");
            self.oracle.fail("agreement", why);
        }
    }

    /// What a keeper has told of its votes holds for ever, whatever it lost since.
    fn note_vote(&mut self, server: usize, vote: (EpochHash, Ballot), answer: &ChainAnswer) {
        let (of, ballot) = vote;
        let (promised, accepted) = self.decided.told.entry((server, of)).or_default();
        let broken = match answer {
            ChainAnswer::Promised(answer) => ballot <= *promised || answer.ballot < *accepted,
            ChainAnswer::Accepted(_) => ballot < *promised,
            _ => return,
        };
        *promised = ballot.max(*promised);
        if matches!(answer, ChainAnswer::Accepted(_)) {
            *accepted = ballot.max(*accepted);
        }
        if broken {
            let why = format!("server {server} forgot what it told, and says {answer:?}");
            self.oracle.fail("promise", why);
        }
    }

    /// Sends one server's message to another.
    pub(crate) fn tell(&mut self, from: usize, to: usize, message: Message) {
        for delay_us in self.network.fate(Link::Peer(from, to)).copies {
            let event = ChainEvent::Arrives {
                server: to,
                from,
                message: Box::new(message.clone()),
            };
            self.schedule(delay_us, Event::Chain(event));
        }
    }

    fn chain_arrives(&mut self, server: usize, from: usize, message: Message) {
        let at = &self.servers[server];
        if matches!(at.state, State::Down | State::Perished) {
            return;
        }
        // What is looked up waits until what was written is durable.
        let looks = matches!(message, Message::Hello { .. } | Message::Want(_));
        let busy = looks && self.chain_is_busy(server);
        let wake_us = at.stalled_until_us.max(self.now_us + u64::from(busy) * 500);
        if wake_us > self.now_us {
            let event = ChainEvent::Arrives {
                server,
                from,
                message: Box::new(message),
            };
            return self.schedule_at(wake_us, Event::Chain(event));
        }
        match message {
            Message::Ask {
                life,
                attempt,
                question,
                asked,
            } => {
                let then = Then::Answer {
                    to: from,
                    life,
                    attempt,
                    question,
                };
                self.ask_chain(server, &asked, then);
            }
            Message::Answer {
                life,
                attempt,
                question,
                answer,
            } => self.attempt_answered((server, life, attempt), question, answer),
            Message::Hello { newest, first } => self.chain_heard(server, from, newest, first),
            Message::Want(after) => {
                let Some(part) = &at.part else { return };
                let deltas = part.chain.deltas(&at.store, after);
                let deltas = deltas.expect("notes are never damaged here");
                self.tell(server, from, Message::Deltas(deltas));
            }
            Message::Deltas(deltas) => self.deltas_arrive(server, deltas),
        }
    }

    /// A server tells another where its chain ends.
    fn chain_heard(&mut self, server: usize, from: usize, newest: Point, first: u64) {
        let at = &self.servers[server];
        let Some(part) = &at.part else { return };
        let relation = part.chain.relation(&at.store, newest);
        match relation.expect("notes are never damaged here") {
            Relation::Ahead => {
                let after = part.chain.newest();
                self.tell(server, from, Message::Want(after));
            }
            Relation::Same => self.settle_up_to(server, newest),
            Relation::Behind | Relation::Abandoned => {}
            Relation::Fork if newest.number > first => {
                let why = format!("servers {server} and {from} hold other epochs");
                self.oracle.fail("agreement", why);
            }
            Relation::Fork => {}
        }
    }

    fn settle_up_to(&mut self, server: usize, settled: Point) {
        let offer = ChainQuestion::Offer(Offer::new(Vec::new(), settled, settled));
        self.ask_chain(server, &offer, Then::Nothing);
    }

    fn deltas_arrive(&mut self, server: usize, deltas: Deltas) {
        let Deltas {
            newest, records, ..
        } = deltas;
        if let Some(part) = &mut self.servers[server].part {
            part.answered += 1;
            let keepers = part.chain.view().tip.keepers.len();
            part.begun |= part.answered > keepers / 2;
        }
        if !records.is_empty() {
            self.coverage.hit("chain", "caught_up");
            let offer = ChainQuestion::Offer(Offer::new(records, newest, newest));
            self.ask_chain(server, &offer, Then::Nothing);
        }
    }

    /// A server that has started asks the keepers for newer epochs before it serves.
    pub(crate) fn begin_chain(&mut self, server: usize) {
        let at = &mut self.servers[server];
        let Some(part) = &mut at.part else { return };
        part.reopen(&at.store, at.replica.node);
        at.view = Arc::clone(part.chain.view());
        let (newest, life) = (part.chain.newest(), at.life);
        let view = Arc::clone(&at.view);
        self.note_decided(server, newest);
        // It may have been durable before the crash, and not yet acted under.
        if view.epoch > self.operator.view.epoch {
            self.know_view(&view);
        }
        self.ask_keepers(server, Message::Want(newest));
        self.schedule(BEGIN_US, Event::Chain(ChainEvent::Begins { server, life }));
    }

    /// It has asked for long enough.
    fn chain_begins(&mut self, server: usize, life: u32) {
        let at = &mut self.servers[server];
        if at.life == life
            && let Some(part) = &mut at.part
        {
            part.begun = true;
        }
    }

    fn ask_keepers(&mut self, server: usize, message: Message) {
        let keepers = self.servers[server].view.tip.keepers.clone();
        for keeper in keepers {
            let keeper = self.server_of(keeper);
            if keeper != server {
                self.tell(server, keeper, message.clone());
            }
        }
    }

    /// A request names an epoch that a server does not know.
    pub(crate) fn look_up(&mut self, server: usize) {
        if let Some(part) = &self.servers[server].part {
            let after = part.chain.newest();
            self.coverage.hit("chain", "looked_up");
            self.ask_keepers(server, Message::Want(after));
        }
    }

    /// What a server does by itself about the chain, at times: it tells another where it stands.
    pub(crate) fn greet_one(&mut self, server: usize) {
        let Some(part) = &self.servers[server].part else {
            return;
        };
        let newest = self.servers[server].view.point();
        let first = part.chain.first();
        let other = self.rng.random_range(0..self.servers.len());
        if other != server {
            self.tell(server, other, Message::Hello { newest, first });
        }
    }

    /// In the end all servers act under the same epoch, and what was acknowledged is in the chain.
    pub(crate) fn check_chain(&mut self) {
        let view = Arc::clone(&self.operator.view);
        let keepers = &view.tip.keepers;
        let there = |node: &&NodeId| self.servers[self.server_of(**node)].state != State::Perished;
        // What only those knew that are gone for good, nobody hears of any more.
        if keepers.iter().filter(there).count() <= keepers.len() / 2 {
            return self.coverage.hit("chain", "keepers_lost");
        }
        for (server, at) in self.servers.iter().enumerate() {
            let Some(part) = &at.part else { return };
            if at.state == State::Perished {
                continue;
            }
            if at.view.point() != view.point() || part.chain.newest() != view.point() {
                let why = format!("server {server} is at {:?}", at.view.point());
                return self.oracle.fail("chain", why);
            }
            let made = |change| part.chain.made(&at.store, change);
            for (number, change) in &self.decided.acknowledged {
                let record = made(*change).expect("notes are never damaged here");
                if record.is_none_or(|record| record.number != *number) {
                    let why = format!("{change} is not in epoch {number} at server {server}");
                    return self.oracle.fail("acknowledged", why);
                }
            }
            let entries = at.store.entries(Family::Records);
            let gone = entries.iter().find(|(key, _)| {
                parse_storage_key(key).is_some_and(|(_, bucket, _)| view.had_bucket(bucket))
            });
            if let Some((key, _)) = gone.filter(|_| !any_damaged(&at.store)) {
                let why = format!("server {server} still holds {key:?}");
                return self.oracle.fail("deleted", why);
            }
        }
    }
}
