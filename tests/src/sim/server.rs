//! A simulated server: the replica's rules and gate, over a store that forgets what was not
//! synced, behind a queue.

use super::Fault;
use super::chain::Part;
use super::network::Link;
use super::scenario::Micros;
use super::siblings::Kept;
use super::upkeep::Upkeep;
use super::world::{Event, World};
use annulet_protocol::clock::{HybridClock, Stamp};
use annulet_protocol::codec;
use annulet_protocol::copy::CopyArc;
use annulet_protocol::hash::storage_key;
use annulet_protocol::ids::{Incarnation, NodeId};
use annulet_protocol::message::{
    Answer, Failure, FailureKind, Load, Operation, Read, Refusal, RefusalKind, Reply, Request,
    Source,
};
use annulet_protocol::record::Head;
use annulet_protocol::register::message::ReadRegister;
use annulet_protocol::scan::Scan;
use annulet_protocol::view::View;
use annulet_replica::gate::{Gate, SyncPoint};
use annulet_replica::holdings::Holding;
use annulet_replica::layout;
use annulet_replica::memory::MemoryStore;
use annulet_replica::rules::{Demand, Moment, Mutation, ReadAnswers, Replica};
use annulet_replica::store::{Family, Store};
use bytes::Bytes;
use rand::Rng;
use std::collections::VecDeque;
use std::sync::Arc;

/// Time between the syncs of what need not be synced before it is acknowledged.
const ASYNC_SYNC_US: Micros = 10_000;
/// Requests that are worked on together at most.
const TOGETHER_MAX: usize = 4;
/// Requests that wait at most while a server has room.
pub(crate) const QUEUE_MAX: usize = 64;

/// Whether a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Up,
    /// It refuses what comes, and goes down when it is ready.
    Stopping,
    Down,
    /// It will not come back.
    Perished,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) replica: Replica,
    pub(crate) store: MemoryStore,
    pub(crate) gate: Gate,
    /// Stamps what is minted in this life.
    clock: HybridClock,
    pub(crate) view: Arc<View>,
    /// Its part in the chain of epochs, in runs in which views are decided.
    pub(crate) part: Option<Part>,
    pub(crate) state: State,
    /// Counts its starts; what belonged to an earlier one is ignored.
    pub(crate) life: u32,
    pub(crate) skew_ms: i64,
    pub(crate) clock_trusted: bool,
    pub(crate) disk_full: bool,
    pub(crate) upkeep: Upkeep,
    /// What its view gives it to own and what has still to be emptied.
    pub(crate) unready: Vec<Holding>,
    /// The view before its own.
    pub(crate) view_before: Arc<View>,
    pub(crate) queue_max: usize,
    pub(crate) stalled_until_us: Micros,
    pub(crate) slow_disk_until_us: Micros,
    queue: VecDeque<Queued>,
    pub(crate) parked: Vec<Parked>,
    pub(crate) last_point: SyncPoint,
    pub(crate) syncing: bool,
    pub(crate) sync_again: bool,
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Return {
    /// A client: its number, its life, the call.
    Client(usize, u32, u64),
    /// The probe of this number.
    Probe(usize),
    /// Another server: its number, its life, what it asked.
    Peer(usize, u32, u64),
}

/// What a request asks.
#[derive(Clone, Copy, Debug)]
enum Question<'a> {
    Read(&'a Read),
    Register(&'a ReadRegister),
    Scan(&'a Scan),
    Copy(&'a CopyArc),
}

#[derive(Debug)]
struct Queued {
    from: Return,
    request: Request,
    arrived_us: Micros,
}

#[derive(Debug)]
pub(crate) struct Parked {
    pub(crate) from: Return,
    pub(crate) point: SyncPoint,
    pub(crate) epoch: u64,
    pub(crate) results: Vec<Answer>,
}

impl Server {
    pub(crate) fn new(
        (node, start): (NodeId, Incarnation),
        view: Arc<View>,
        skew_ms: i64,
        fault: Fault,
    ) -> Self {
        #[allow(unused_mut)]
        let mut replica = Replica::new(node, start);
        match fault {
            Fault::None => {}
            #[cfg(feature = "faults")]
            Fault::Replica(fault) => replica.fault = Some(fault),
            #[cfg(feature = "faults")]
            _ => {}
        }
        Self {
            replica,
            store: MemoryStore::default(),
            gate: Gate::default(),
            clock: HybridClock::default(),
            view_before: Arc::clone(&view),
            view,
            part: None,
            state: State::Up,
            life: 0,
            skew_ms,
            clock_trusted: true,
            disk_full: false,
            upkeep: Upkeep::new(0, fault),
            unready: Vec::new(),
            queue_max: QUEUE_MAX,
            stalled_until_us: 0,
            slow_disk_until_us: 0,
            queue: VecDeque::new(),
            parked: Vec::new(),
            last_point: SyncPoint::NONE,
            syncing: false,
            sync_again: false,
        }
    }

    /// Who waits for an answer of this server.
    pub(crate) fn waiting(&self) -> Vec<Return> {
        let queued = self.queue.iter().map(|queued| queued.from);
        queued
            .chain(self.parked.iter().map(|parked| parked.from))
            .collect()
    }

    /// Forgets what is only in memory, as a stop of any kind does.
    pub(crate) fn go_down(&mut self, state: State) {
        self.state = state;
        self.life += 1;
        self.gate = Gate::default();
        self.clock = HybridClock::default();
        self.queue.clear();
        self.parked.clear();
        self.last_point = SyncPoint::NONE;
        self.syncing = false;
        self.sync_again = false;
        self.unready.clear();
    }
}

impl World {
    pub(crate) fn server_ms(&self, server: usize) -> u64 {
        self.true_ms()
            .saturating_add_signed(self.servers[server].skew_ms)
    }

    /// Bytes of a request arrive.
    pub(crate) fn request_arrives(&mut self, server: usize, from: Return, bytes: &Bytes) {
        let max = self.servers[server].view.value_bytes_max as usize;
        let at = &mut self.servers[server];
        if matches!(at.state, State::Down | State::Perished) {
            return self.connection_breaks(from);
        }
        let request = match codec::decode_request(bytes, max) {
            Ok(request) if request.cluster == at.view.cluster => request,
            Ok(_) => return self.reject(server, from, FailureKind::WrongCluster),
            Err(_) => return self.reject(server, from, FailureKind::InvalidInput),
        };
        if at.queue.len() >= at.queue_max {
            if self.rng.random_bool(0.5) {
                return self.reject(server, from, FailureKind::Overloaded);
            }
            return self.refuse_all(server, from, &request, RefusalKind::Overloaded);
        }
        at.queue.push_back(Queued {
            from,
            request,
            arrived_us: self.now_us,
        });
        let service_us = self.rng.random_range(10..=self.scenario.service_us_max);
        let at_us = (self.now_us + service_us).max(self.servers[server].stalled_until_us);
        let life = self.servers[server].life;
        self.schedule_at(at_us, Event::ServerRuns { server, life });
    }

    /// Works on the oldest requests, together.
    pub(crate) fn server_runs(&mut self, server: usize, life: u32) {
        let at = &mut self.servers[server];
        if at.life != life {
            return;
        }
        if at.stalled_until_us > self.now_us {
            let at_us = at.stalled_until_us;
            return self.schedule_at(at_us, Event::ServerRuns { server, life });
        }
        let together = at.queue.len().min(self.rng.random_range(1..=TOGETHER_MAX));
        let batch: Vec<_> = at.queue.drain(..together).collect();
        let stopping = at.state == State::Stopping;
        let mut admitted = Vec::new();
        for queued in batch {
            let waited_ms = (self.now_us - queued.arrived_us) / 1_000;
            let Queued { from, request, .. } = &queued;
            if waited_ms > u64::from(request.budget_ms) {
                self.refuse_all(server, *from, request, RefusalKind::TooLate);
            } else if stopping {
                self.refuse_all(server, *from, request, RefusalKind::Stopping);
            } else if self.servers[server]
                .part
                .as_ref()
                .is_some_and(|part| !part.begun)
            {
                // It still asks the others for newer epochs.
                self.refuse_all(server, *from, request, RefusalKind::Overloaded);
            } else if self.rng.random_bool(self.scenario.from_the_future) {
                self.answer_from_the_future(server, *from, request);
            } else {
                admitted.push(queued);
            }
        }
        let newest = admitted
            .iter()
            .map(|queued: &Queued| queued.request.epoch)
            .max();
        if newest.is_some_and(|epoch| epoch > self.servers[server].view.ordinal()) {
            self.look_up(server);
        }
        if !admitted.is_empty() {
            self.decide(server, admitted);
        }
    }

    /// Decides requests by the rules, and parks the answers until they may be given.
    fn decide(&mut self, server: usize, batch: Vec<Queued>) {
        let (reads, writes) = split(&batch);
        self.note_operations(&batch);
        let reads_first = self.rng.random_bool(0.5);
        let mut read = None;
        if reads_first {
            read = Some(self.decide_reads(server, &reads));
        }
        let (written, write_point) = self.decide_writes(server, &writes);
        let (found, read_point) = match read {
            Some(read) => read,
            None => self.decide_reads(server, &reads),
        };
        let epoch = self.servers[server].view.ordinal();
        self.check_deleted(server, &reads, &found);
        let (mut written, mut found) = (written.into_iter(), found.into_iter());
        for Queued { from, request, .. } in &batch {
            let mut point = SyncPoint::NONE;
            let results = request.operations.iter().map(|operation| match operation {
                Operation::Read(_)
                | Operation::ReadRegister(_)
                | Operation::Scan(_)
                | Operation::CopyArc(_) => {
                    point = point.max(read_point);
                    found.next().expect("one answer for each read")
                }
                Operation::Spread(spread) => {
                    self.servers[server].confirm(request.epoch, spread);
                    Answer::Written(Default::default())
                }
                Operation::Unknown => {
                    let why = "this server does not know such an operation";
                    Answer::Refused(Refusal::new(RefusalKind::Unsupported, why))
                }
                _ => {
                    point = point.max(write_point);
                    written.next().expect("one answer for each write")
                }
            });
            let results = results.collect();
            let epoch = match self.options.fault.claims_epochs() {
                true => epoch.max(request.epoch),
                false => epoch,
            };
            let parked = Parked {
                from: *from,
                point,
                epoch,
                results,
            };
            self.note_waiting(server, &parked);
            self.servers[server].parked.push(parked);
        }
        self.release(server);
    }

    /// Nothing is told of buckets that are no more.
    fn check_deleted(&mut self, server: usize, asked: &[(u64, Question<'_>)], found: &[Answer]) {
        let view = Arc::clone(&self.servers[server].view);
        for ((_, question), answer) in asked.iter().zip(found) {
            let bucket = match question {
                Question::Read(read) => read.bucket,
                Question::Register(read) => read.bucket,
                Question::Scan(scan) => scan.bucket,
                Question::Copy(_) => continue,
            };
            let refused = matches!(answer, Answer::Refused(_));
            if view.had_bucket(bucket) && !refused {
                let why = format!("server {server} tells {answer:?} of bucket {bucket}");
                self.oracle.fail("deleted", why);
            }
        }
    }

    fn decide_reads(
        &mut self,
        server: usize,
        asked: &[(u64, Question<'_>)],
    ) -> (Vec<Answer>, SyncPoint) {
        let now_ms = self.server_ms(server);
        let at = &mut self.servers[server];
        let moment = Moment {
            now_ms,
            stamp: Stamp::default(),
            clock_trusted: at.clock_trusted,
            disk_full: at.disk_full,
            view: &at.view,
            unready: &at.unready,
        };
        // Each by itself, in the order of the request: as one moment it is all the same.
        let mut all = Vec::new();
        let mut point = SyncPoint::NONE;
        for (epoch, question) in asked {
            let ReadAnswers {
                answers,
                touched,
                damaged,
            } = match question {
                Question::Read(read) => at.replica.read(&at.store, moment, [(*epoch, *read)]),
                Question::Register(read) => {
                    let reads = [(*epoch, *read)];
                    at.replica.read_registers(&at.store, moment, reads)
                }
                Question::Scan(scan) => at.replica.scan(&at.store, moment, [(*epoch, *scan)]),
                Question::Copy(asked) => at.replica.copy(&at.store, moment, [(*epoch, *asked)]),
            };
            point = point.max(at.gate.rests_on(touched));
            at.upkeep.damaged.extend(damaged);
            all.extend(answers);
        }
        (all, point)
    }

    pub(crate) fn decide_writes(
        &mut self,
        server: usize,
        writes: &[(u64, Mutation)],
    ) -> (Vec<Answer>, SyncPoint) {
        if writes.is_empty() {
            return (Vec::new(), SyncPoint::NONE);
        }
        let now_ms = self.server_ms(server);
        let at = &mut self.servers[server];
        let view = Arc::clone(&at.view);
        let stamp = at.clock.reserve(now_ms, writes.len() as u64);
        let moment = Moment {
            now_ms,
            stamp,
            clock_trusted: at.clock_trusted,
            disk_full: at.disk_full,
            view: &view,
            unready: &at.unready,
        };
        let kept = Kept::before(&at.store, &view, writes);
        let decided = at.replica.decide(
            &at.store,
            moment,
            writes.iter().map(|(epoch, m)| (*epoch, m)),
        );
        let decided = decided.expect("a store in memory does not fail");
        at.upkeep.damaged.extend(decided.damaged.iter().cloned());
        let ahead = too_far_ahead(at, now_ms, writes, &decided.answers);
        let point = decided.enter(&mut at.gate);
        if decided.needs_sync {
            at.last_point = at.last_point.max(point);
        }
        let changes = !decided.batch.is_empty();
        let needs_sync = decided.needs_sync;
        at.store
            .write(decided.batch)
            .expect("a store in memory does not fail");
        if !decided.ready.is_empty() {
            at.store.sync().expect("a store in memory does not fail");
            at.unready
                .retain(|holding| !decided.ready.contains(holding));
            self.carried.forgive(Some(server));
        }
        let dropped = kept.dropped(&self.servers[server].store);
        let checked = self
            .oracle
            .causal
            .dropped(&dropped, now_ms.max(self.true_ms()));
        self.check(checked);
        if let Some(head) = ahead {
            let why = format!("server {server} at {now_ms} took {head:?}");
            self.oracle.fail("skew", why);
        }
        for ((_, mutation), answer) in writes.iter().zip(&decided.answers) {
            self.note_taken(server, mutation, answer);
        }
        if needs_sync {
            self.begin_sync(server);
        } else if changes {
            let life = self.servers[server].life;
            self.schedule(ASYNC_SYNC_US, Event::SyncDue { server, life });
        }
        (decided.answers, point)
    }

    /// Notes what a server took, and what it had no room for.
    fn note_taken(&mut self, server: usize, mutation: &Mutation, answer: &Answer) {
        if let Answer::Written(_) = answer {
            self.note_end_taken(mutation);
        }
        if let (Mutation::Hint(hint), Answer::Written(_)) = (mutation, answer) {
            self.oracle.stored(hint.record.head.version);
        }
        if let (Mutation::Mint(mint), Answer::Minted(_)) = (mutation, answer) {
            if self.servers[server].disk_full {
                let why = format!("server {server} minted {mint:?}");
                self.oracle.fail("full", why);
            }
            let checked = self.oracle.causal.stored(&mint.write.value);
            self.check(checked);
        }
        if let (Mutation::Accept(accept), Answer::Accepted(_)) = (mutation, answer) {
            let new = accept.head.version == accept.ballot && !accept.value.is_empty();
            if new && self.servers[server].disk_full {
                let why = format!("server {server} accepted {accept:?}");
                self.oracle.fail("full", why);
            }
            self.repair_register(server, (accept.bucket, &accept.key));
        }
        if let (Mutation::Write(write), Answer::Written(_)) = (mutation, answer) {
            let new = write.source == Source::FirstHand && !write.record.value.is_empty();
            if new && self.servers[server].disk_full {
                self.oracle
                    .fail("full", format!("server {server} took {write:?}"));
            }
            self.oracle.stored(write.record.head.version);
        }
    }

    /// Notes an end of a value that a server took.
    fn note_end_taken(&mut self, mutation: &Mutation) {
        let (version, expiry) = match mutation {
            Mutation::Touch(touch) => (touch.version, Some(touch.expiry)),
            Mutation::Write(write) => (write.record.head.version, write.record.head.expiry),
            Mutation::Hint(hint) => (hint.record.head.version, hint.record.head.expiry),
            _ => return,
        };
        let checked = self.oracle.touches.stored(version, expiry);
        self.check(checked);
    }

    /// Notes what a server finds out by itself, or is brought by hand.
    pub(crate) fn note(&mut self, server: usize, mutations: &[Mutation]) {
        let epoch = self.servers[server].view.epoch;
        let mutations: Vec<_> = mutations.iter().map(|m| (epoch, m.clone())).collect();
        self.decide_writes(server, &mutations);
    }

    fn note_operations(&mut self, batch: &[Queued]) {
        for operation in batch.iter().flat_map(|queued| &queued.request.operations) {
            let name = match operation {
                Operation::Read(read) if read.head_only => "read_head",
                Operation::Read(read) if read.hinted => "read_hinted",
                Operation::Read(read) if read.value_bytes_max.is_some() => "read_digest",
                Operation::Read(_) => "read",
                Operation::Write(write) if write.gone => "write_gone",
                Operation::Write(write) => match write.source {
                    Source::FirstHand => "write_first_hand",
                    Source::Repair => "write_repair",
                },
                Operation::Hint(_) => "hint",
                Operation::Mint(mint) if mint.owners.is_empty() => "mint",
                Operation::Mint(_) => "mint_hint",
                Operation::Merge(merge) if !merge.owners.is_empty() => "merge_hint",
                Operation::Merge(_) => "merge",
                Operation::Compare(_) => "compare",
                Operation::Spread(_) => "spread",
                Operation::Touch(_) => "touch",
                Operation::Scan(_) => "scan",
                Operation::CopyArc(asked) if asked.digest.is_some() => "copy_compared",
                Operation::CopyArc(_) => "copy",
                Operation::ReadRegister(_) => "read_register",
                Operation::Prepare(_) => "prepare",
                Operation::Accept(_) => "accept",
                Operation::Learn(_) => "learn",
                Operation::Unknown => "unknown",
            };
            self.coverage.hit("operation", name);
        }
    }

    fn refuse_all(&mut self, server: usize, from: Return, request: &Request, kind: RefusalKind) {
        let retry_after_ms = (kind == RefusalKind::Overloaded && self.rng.random_bool(0.5))
            .then(|| self.rng.random_range(1..80));
        let refusal = Refusal {
            retry_after_ms,
            ..Refusal::new(kind, "refused as a whole")
        };
        let results = vec![Answer::Refused(refusal); request.operations.len()];
        let epoch = self.servers[server].view.epoch;
        self.answer(server, from, epoch, results);
    }

    /// What this version does not know.
    fn answer_from_the_future(&mut self, server: usize, from: Return, request: &Request) {
        if self.rng.random_bool(0.5) {
            return self.refuse_all(server, from, request, RefusalKind::Other);
        }
        let results = vec![Answer::Unknown; request.operations.len()];
        let epoch = self.servers[server].view.epoch;
        self.answer(server, from, epoch, results);
    }

    pub(crate) fn answer(&mut self, server: usize, from: Return, epoch: u64, results: Vec<Answer>) {
        let now_us = self.now_us;
        for answer in &results {
            self.trace
                .line(now_us, || format!("s{server} answers {from:?} {answer:?}"));
        }
        let time_ms = self.server_ms(server);
        let at = &self.servers[server];
        let reply = Reply {
            cluster: at.view.cluster,
            node: at.replica.node,
            epoch,
            time_ms,
            load: Load {
                in_flight: at.queue.len() as u32,
                service_us: 100,
            },
            results,
        };
        self.send_back(server, from, Ok(codec::encode(&reply).into()));
    }

    fn reject(&mut self, server: usize, from: Return, kind: FailureKind) {
        let overloaded = kind == FailureKind::Overloaded;
        let failure = Failure {
            kind,
            message: "rejected as a whole".into(),
            retry_after_ms: overloaded.then(|| self.rng.random_range(1..80)),
        };
        self.send_back(server, from, Err(codec::encode(&failure).into()));
    }

    /// `Ok`: a reply; `Err`: a failure.
    fn send_back(&mut self, server: usize, from: Return, bytes: Result<Bytes, Bytes>) {
        let (client, life, call) = match from {
            Return::Probe(probe) => return self.probe_answered(server, probe, bytes),
            Return::Peer(peer, life, number) => {
                // A request that is rejected as a whole is as good as lost.
                let Ok(bytes) = bytes else { return };
                for delay_us in self.network.fate(Link::Peer(server, peer)).copies {
                    let event = Event::PeerAnswers {
                        server: peer,
                        life,
                        number,
                        bytes: bytes.clone(),
                    };
                    self.schedule(delay_us, event);
                }
                return;
            }
            Return::Client(client, life, call) => (client, life, call),
        };
        let fate = self.network.fate(Link::Reply(client, server));
        match fate.copies.len() {
            0 => self.coverage.hit("network", "reply_lost"),
            1 => {}
            _ => self.coverage.hit("network", "reply_duplicated"),
        }
        if fate.spike {
            self.coverage.hit("network", "delay_spike");
        }
        for delay_us in fate.copies {
            let event = Event::ReplyArrives {
                client,
                life,
                call,
                bytes: bytes.clone(),
                sent_us: self.now_us,
            };
            self.schedule(delay_us, event);
        }
    }

    /// Whoever waits on the other end of a connection finds it broken soon.
    pub(crate) fn connection_breaks(&mut self, from: Return) {
        let Return::Client(client, life, call) = from else {
            return;
        };
        let delay_us = self.rng.random_range(100..2_000);
        self.schedule(delay_us, Event::CallFails { client, life, call });
    }
}

/// A record that a server took first hand from further ahead than it may. `at`: the server before
/// it stored them.
fn too_far_ahead(
    at: &Server,
    now_ms: u64,
    writes: &[(u64, Mutation)],
    answers: &[Answer],
) -> Option<Head> {
    // What an earlier write of the same batch has stored counts as stored.
    let mut taken: Vec<(u32, &Bytes, u64)> = Vec::new();
    for ((_, write), answer) in writes.iter().zip(answers) {
        let (Mutation::Write(write), Answer::Written(_)) = (write, answer) else {
            continue;
        };
        let (bucket, key, head) = (write.bucket, &write.key, write.record.head);
        let stamp_ms = head.version.stamp.millis();
        let first_hand = write.source == Source::FirstHand;
        if first_hand && stamp_ms > now_ms + at.replica.skew_ms_max {
            let hash = at.view.hash(bucket, key);
            let storage_key = [storage_key(hash, bucket, key)];
            let entry = at.store.read(Family::Records, &storage_key).pop();
            let before = entry.and_then(|e| layout::decode(e.ok()??).ok());
            let far_ms = before.map(|stored| stored.head.version.stamp.millis());
            let own = taken.iter().filter(|(b, k, _)| (*b, *k) == (bucket, key));
            let far_ms = far_ms.into_iter().chain(own.map(|(_, _, ms)| *ms)).max();
            if far_ms.is_none_or(|far_ms| far_ms < stamp_ms) {
                return Some(head);
            }
        }
        taken.push((bucket, key, stamp_ms));
    }
    None
}

/// Each with the epoch of its request.
type WithEpoch<T> = Vec<(u64, T)>;

/// What requests read and what they change, in order.
fn split(batch: &[Queued]) -> (WithEpoch<Question<'_>>, WithEpoch<Mutation>) {
    let (mut reads, mut writes) = (Vec::new(), Vec::new());
    for Queued { request, .. } in batch {
        let epoch = request.epoch;
        for operation in &request.operations {
            match operation.clone().into() {
                Demand::Change(mutation) => writes.push((epoch, mutation)),
                _ => reads.extend(question(operation).map(|question| (epoch, question))),
            }
        }
    }
    (reads, writes)
}

fn question(operation: &Operation) -> Option<Question<'_>> {
    match operation {
        Operation::Read(read) => Some(Question::Read(read)),
        Operation::ReadRegister(read) => Some(Question::Register(read)),
        Operation::Scan(scan) => Some(Question::Scan(scan)),
        Operation::CopyArc(asked) => Some(Question::Copy(asked)),
        _ => None,
    }
}
