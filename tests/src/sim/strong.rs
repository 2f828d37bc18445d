//! What clients do in strong buckets, and what they are told.

use super::client::{Machine, Running};
use super::histories::{Asked, Moment, What};
use super::oracle::KeyId;
use super::server::State;
use super::views::learned;
use super::workload::{Action, Errand};
use super::world::{Event, STRONG, VALUE_BYTES_MAX, World, key_bytes};
use annulet::core::Send;
use annulet::core::client::{Call, Start};
use annulet::core::strong::update::{Step, Update};
use annulet::core::strong::{Resolved, StrongDone, StrongOperation, Task};
use annulet::{Error, ErrorKind, OpId, Outcome};
use annulet_history::{Condition as Wanted, Op};
use annulet_protocol::ballot::Ballot;
use annulet_protocol::bucket::{Bucket, Mode};
use annulet_protocol::hash::storage_key;
use annulet_protocol::message::Operation;
use annulet_protocol::register::{Change, Condition};
use annulet_replica::layout::register::{self, Stored};
use annulet_replica::memory::MemoryStore;
use annulet_replica::store::{Family, Store};
use annulet_ring::owners::Owners;
use annulet_ring::quorum::{Side, majority};
use bytes::Bytes;
use rand::Rng;
use rand::seq::IndexedRandom;

/// Writes of a key that are asked about at the end at most, the oldest first.
const RESOLVED_MAX: usize = 2;

/// What is asked of a key of a strong bucket.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// What is there.
    Read { head_only: bool, stale: bool },
    /// Put a value of so many bytes there.
    Set {
        bytes: usize,
        ttl_ms: Option<u64>,
        condition: Condition,
    },
    /// Remove what is there.
    Delete { condition: Condition },
    /// Set another end, in so many milliseconds.
    Touch { ttl_ms: Option<u64> },
    /// What became of a write?
    Resolve { write: u64, name: OpId },
    /// The read of an update, or its first.
    Look { update: Option<Loop> },
    /// The write of an update.
    Commit { update: Loop },
}

/// An update under way.
#[derive(Clone, Debug)]
pub(crate) struct Loop {
    state: Update,
    /// The life of its client: it ends with that.
    life: u32,
}

impl Ask {
    fn side(&self) -> Side {
        match self {
            Self::Read { .. } | Self::Look { .. } => Side::Read,
            _ => Side::Write,
        }
    }

    fn life(&self) -> Option<u32> {
        match self {
            Self::Look { update } => update.as_ref().map(|update| update.life),
            Self::Commit { update } => Some(update.life),
            _ => None,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Read { stale: true, .. } => "stale_read",
            Self::Read { head_only, .. } if *head_only => "exists",
            Self::Read { .. } => "read",
            Self::Set { condition, .. } => match condition {
                Condition::Always => "put",
                Condition::Absent => "put_if_absent",
                Condition::Version(_) => "put_if_version",
            },
            Self::Delete { condition } => match condition {
                Condition::Always => "delete",
                Condition::Absent | Condition::Version(_) => "delete_if_version",
            },
            Self::Touch { .. } => "touch",
            Self::Resolve { .. } => "resolve",
            Self::Look { .. } => "update_reads",
            Self::Commit { .. } => "update_writes",
        }
    }
}

/// Whether the bucket of a key is a strong one.
pub(crate) fn is_strong(bucket: u32) -> bool {
    STRONG.contains(&bucket)
}

impl World {
    /// Whether values of this strong bucket expire in this run.
    fn has_ends(&self, bucket: u32) -> bool {
        self.scenario.strong_ends && bucket == STRONG[1]
    }

    pub(crate) fn draw_strong(&mut self, bucket: &Bucket, key: usize) -> Action {
        let id = (bucket.number, key);
        let open = self.histories.open(id);
        let ends = self.has_ends(bucket.number);
        let resolves = self.scenario.resolves;
        let version = self.recall_version(id);
        let rng = &mut self.rng;
        if let Some((write, name)) = open.choose(rng).filter(|_| rng.random_bool(resolves)) {
            let (write, name) = (*write, *name);
            return Action::Strong(Ask::Resolve { write, name });
        }
        let bytes = match rng.random_range(0..30) {
            0..=3 => rng.random_range(4_000..9_000),
            4 if rng.random_bool(0.3) => VALUE_BYTES_MAX as usize + rng.random_range(0..2),
            _ => rng.random_range(0..60),
        };
        let ttl_ms = match ends && rng.random_bool(0.6) {
            true => Some(rng.random_range(1..1_500)),
            false => None,
        };
        let set = |condition| Ask::Set {
            bytes,
            ttl_ms,
            condition,
        };
        let read = |head_only, stale| Ask::Read { head_only, stale };
        let ask = match (rng.random_range(0..24), version) {
            (0..=4, _) => read(false, false),
            (5, _) => read(true, false),
            (6, _) => read(rng.random_bool(0.3), true),
            (7..=10, _) => set(Condition::Always),
            (11..=12, _) => set(Condition::Absent),
            (13..=16, Some(version)) => set(Condition::Version(version)),
            (17, Some(version)) => Ask::Delete {
                condition: Condition::Version(version),
            },
            (18, _) => Ask::Delete {
                condition: Condition::Always,
            },
            (19..=20, _) if ends => Ask::Touch {
                ttl_ms: rng.random_bool(0.8).then(|| rng.random_range(1..1_500)),
            },
            _ => Ask::Look { update: None },
        };
        Action::Strong(ask)
    }

    /// A version that somebody has seen, mostly the last one.
    fn recall_version(&mut self, key: KeyId) -> Option<Ballot> {
        let seen = self.histories.seen(key);
        match self.rng.random_bool(0.8) {
            true => seen.last().copied(),
            false => seen.choose(&mut self.rng).copied(),
        }
    }

    /// Begins an operation on a key of a strong bucket as the client's shell does.
    pub(crate) fn call_strong(&mut self, client: usize, errand: Errand, ask: &Ask) {
        let life = self.clients[client].life;
        if ask.life().is_some_and(|of| of != life) {
            return;
        }
        let op = self.next_number();
        let now_us = self.now_us;
        self.trace
            .line(now_us, || format!("c{client} op{op} calls {errand:?}"));
        let now = self.client_now(client);
        let call = Call {
            bucket: &errand.bucket.name,
            key: key_bytes(errand.key),
            level: None,
            timeout_ms: errand.timeout_ms,
        };
        let started = self.clients[client].core.begin(now, ask.side(), call);
        let made = started.and_then(|start| self.make_strong(client, &errand, (op, ask), start));
        match made {
            Ok(running) => {
                self.coverage.hit("strong call", ask.name());
                self.start(client, op, running);
            }
            Err(error) => self.strong_refused(&errand, ask, &error),
        }
    }

    fn make_strong(
        &mut self,
        client: usize,
        errand: &Errand,
        (op, ask): (u64, &Ask),
        start: Start,
    ) -> Result<Running, Error> {
        // Every value is another one.
        let value = |bytes: usize| {
            let text = format!("{op} ");
            let value: Bytes = text.bytes().cycle().take(bytes.max(text.len())).collect();
            value
        };
        let now = self.client_now(client);
        let clock = &self.clients[client].core.clock;
        let end = |ttl_ms: Option<u64>| ttl_ms.map(|ttl| clock.corrected_ms(now.wall_ms) + ttl);
        let set = |value, ttl_ms, condition| {
            let expires_at_ms = end(ttl_ms);
            Task::Write(Change::Set {
                value,
                expires_at_ms,
                condition,
            })
        };
        let (mut errand, name) = (errand.clone(), start.op);
        let task = match ask {
            Ask::Read { head_only, stale } => Task::Read {
                head_only: *head_only,
                stale: *stale,
            },
            Ask::Look { update } => {
                let new = || Loop {
                    state: Update::new(start.op, start.deadline_ms),
                    life: self.clients[client].life,
                };
                let update = Some(update.clone().unwrap_or_else(new));
                errand.action = Action::Strong(Ask::Look { update });
                let (head_only, stale) = (false, false);
                Task::Read { head_only, stale }
            }
            Ask::Set {
                bytes,
                ttl_ms,
                condition,
            } => set(value(*bytes), *ttl_ms, *condition),
            Ask::Commit { update } => set(value(0), None, update.state.condition()),
            Ask::Delete { condition } => Task::Write(Change::Delete {
                condition: *condition,
            }),
            Ask::Touch { ttl_ms } => Task::Write(Change::Touch {
                expires_at_ms: end(*ttl_ms),
            }),
            Ask::Resolve { name, .. } => Task::Resolve(*name),
        };
        let what = what_of(ask, &task);
        let deadline_us = self.at_mono(client, start.deadline_ms);
        let machine = StrongOperation::new(start, task)?;
        let key = (errand.bucket.number, errand.key);
        let process = (client as u64) << 32 | u64::from(self.clients[client].life);
        let who = (process, self.now_us);
        let asked = Asked::new((key, self.has_ends(key.0)), name, what, who);
        self.histories.begin(op, asked);
        Ok(Running::new(Machine::Strong(machine), errand, deadline_us))
    }

    /// The core refused before anything was sent.
    fn strong_refused(&mut self, errand: &Errand, ask: &Ask, error: &Error) {
        self.coverage.hit("outcome", "invalid_input");
        let long = matches!(ask, Ask::Set { bytes, .. } if *bytes > VALUE_BYTES_MAX as usize);
        if error.kind() != ErrorKind::InvalidInput || !long {
            let why = format!("{errand:?} was refused: {error}");
            self.oracle.fail("level", why);
        }
    }

    /// Notes what an operation sends.
    pub(crate) fn note_round(&mut self, op: u64, send: &Send) {
        match &send.operation {
            Operation::Prepare(prepare) if self.histories.prepares(op, prepare.ballot) => {
                self.coverage.hit("strong", "another_round");
            }
            Operation::Accept(accept) => {
                if accept.held.is_some() {
                    self.coverage.hit("strong", "value_held");
                }
                let checked = self.histories.proposes(op, accept);
                self.check(checked);
            }
            _ => {}
        }
    }

    pub(crate) fn strong_ends(
        &mut self,
        client: usize,
        op: u64,
        result: Result<StrongDone, Error>,
    ) {
        let Some((_, errand)) = self.note_end(client, op) else {
            return;
        };
        let Action::Strong(ask) = errand.action.clone() else {
            return;
        };
        let moment = Moment {
            now_us: self.now_us,
            at_ms: self.true_ms(),
            margin_ms: self.oracle.expiry_margin_ms(),
        };
        match result {
            Ok(done) => {
                self.note_done(op, &ask, &done);
                let checked = match (&ask, done.written, &done.resolved) {
                    (Ask::Read { .. } | Ask::Look { .. }, _, _) => {
                        self.histories.read(op, &done, moment)
                    }
                    (_, _, Some(said)) => self.histories.resolved(op, said, moment.now_us),
                    (_, Some(version), None) => self.histories.written(op, version, moment.now_us),
                    (_, None, None) => {
                        self.histories.forget(op);
                        Ok(())
                    }
                };
                self.check(checked);
                self.go_on(client, &errand, ask, &done);
            }
            Err(error) => self.strong_failed((client, op), errand, ask, &error),
        }
    }

    fn note_done(&mut self, op: u64, ask: &Ask, done: &StrongDone) {
        let Some(asked) = self.histories.under_way(op) else {
            return;
        };
        let by_reserved = asked.by_reserved && asked.prepared.is_empty();
        let name = match ask {
            Ask::Read { stale: true, .. } => "stale_read",
            Ask::Read { .. } | Ask::Look { .. } if asked.prepared.is_empty() => "clean_read",
            Ask::Read { .. } | Ask::Look { .. } => "round_read",
            Ask::Touch { .. } if done.written.is_none() => "not_touched",
            Ask::Touch { .. } => "touched",
            Ask::Resolve { .. } => match done.resolved {
                Some(Resolved::Applied { .. }) => "resolved_applied",
                Some(Resolved::NotApplied) | None => "resolved_not_applied",
                Some(Resolved::Forgotten) => "resolved_forgotten",
            },
            Ask::Commit { .. } => "updated",
            Ask::Set { .. } | Ask::Delete { .. } => "written",
        };
        self.coverage.hit("strong", name);
        if by_reserved {
            self.coverage.hit("strong", "one_round_trip");
        }
    }

    /// The update that an operation belongs to goes on, or somebody follows.
    fn go_on(&mut self, client: usize, errand: &Errand, ask: Ask, done: &StrongDone) {
        if let Ask::Look {
            update: Some(mut update),
        } = ask
        {
            let seen = done.head.filter(|_| done.live).map(|head| head.version);
            update.state.saw(seen);
            return self.commit(client, errand, update);
        }
        if self.quiet || !self.rng.random_bool(self.scenario.follow) {
            return;
        }
        let version = done.written.or(done.head.map(|head| head.version));
        let read = |head_only| Ask::Read {
            head_only,
            stale: false,
        };
        let ask = match (self.rng.random_range(0..10), version) {
            (0..=2, Some(version)) => Ask::Set {
                bytes: 0,
                ttl_ms: None,
                condition: Condition::Version(version),
            },
            (3, _) => read(true),
            _ => read(false),
        };
        let errand = Errand {
            action: Action::Strong(ask),
            ..errand.clone()
        };
        let client = self.rng.random_range(0..self.clients.len());
        self.schedule(1, Event::Follow { client, errand });
    }

    fn commit(&mut self, client: usize, errand: &Errand, update: Loop) {
        let now_ms = self.client_now(client).mono_ms;
        match update.state.budget_ms(now_ms) {
            Ok(timeout_ms) => {
                let errand = Errand {
                    action: Action::Strong(Ask::Commit { update }),
                    timeout_ms,
                    ..errand.clone()
                };
                self.schedule(0, Event::Follow { client, errand });
            }
            Err(_) => self.coverage.hit("strong", "update_late"),
        }
    }

    fn strong_failed(&mut self, at: (usize, u64), errand: Errand, ask: Ask, error: &Error) {
        let (client, op) = at;
        self.note_error(op, error, errand.must_succeed);
        let conflict = error.kind() == ErrorKind::Conflict;
        // Or somebody asked what had become of it.
        let not_held = conflict && error.message().contains("the condition does not hold");
        if not_held {
            self.coverage.hit("strong", "conflict");
            let checked = self.histories.not_held(op, self.now_us);
            self.check(checked);
        } else {
            let name = match error.outcome() {
                Some(Outcome::NotApplied) if conflict => "refused_for_good",
                Some(Outcome::NotApplied) => "not_applied",
                Some(Outcome::Unknown) => "unknown",
                None => "failed",
            };
            self.coverage.hit("strong", name);
            let said = (error.outcome(), error.op_id().copied());
            let checked = self.histories.failed(op, said.0, said.1, self.now_us);
            self.check(checked);
        }
        let Ask::Commit { mut update } = ask else {
            return;
        };
        let now_ms = self.client_now(client).mono_ms;
        if let Ok(Step::Again { wait_ms }) = update.state.after::<()>(Err(error.clone()), now_ms) {
            self.coverage.hit("strong", "update_again");
            let Ok(timeout_ms) = update.state.budget_ms(now_ms + wait_ms) else {
                return self.coverage.hit("strong", "update_late");
            };
            let update = Some(update);
            let errand = Errand {
                action: Action::Strong(Ask::Look { update }),
                timeout_ms,
                ..errand
            };
            self.schedule(wait_ms * 1_000, Event::Follow { client, errand });
        }
    }

    /// What an owner has just accepted may come to another one by itself, at any time.
    pub(crate) fn repair_register(&mut self, server: usize, (bucket, key): (u32, &Bytes)) {
        if self.quiet || !self.rng.random_bool(self.scenario.repairs) {
            return;
        }
        let at = &self.servers[server];
        let hash = at.view.hash(bucket, key);
        let Some(policy) = at.view.bucket(bucket) else {
            return;
        };
        let owners = Owners::of(&at.view, policy, hash);
        let others = owners.all().filter(|node| *node != at.replica.node);
        let others: Vec<_> = others.collect();
        let learn = learned([&at.store].iter(), &storage_key(hash, bucket, key));
        if let (Some(learn), Some(other)) = (learn, others.choose(&mut self.rng)) {
            let number = self.next_number();
            let learn = Operation::Learn(Box::new(learn));
            self.ask_peer(server, number, *other, vec![learn]);
        }
    }

    /// How many owners of a key can take part in rounds, of how many.
    pub(crate) fn acceptors(&self, bucket: &Bucket, key: usize) -> (Vec<Option<Stored>>, usize) {
        let view = &self.operator.view;
        let bytes = key_bytes(key);
        let hash = view.hash(bucket.number, &bytes);
        let storage_key = storage_key(hash, bucket.number, &bytes);
        let owners: Vec<_> = Owners::of(view, bucket, hash).all().collect();
        let servers = owners
            .iter()
            .map(|node| &self.servers[self.server_of(*node)]);
        let there = servers.filter(|at| at.state != State::Perished);
        let stored = there.filter_map(|at| stored(&at.store, &storage_key).ok());
        (stored.collect(), owners.len())
    }

    /// The last calls of a run: as long as a majority of its owners can answer, a key is read and
    /// written, and what became of its writes can be found out.
    pub(crate) fn call_at_the_end(&mut self, client: usize, bucket: &Bucket, key: usize) {
        let (there, owners) = self.acceptors(bucket, key);
        if there.len() < majority(owners) {
            return self.coverage.hit("strong", "majority_lost");
        }
        // A long value that is damaged may have been the last one.
        let readable = self.healthy_owners(bucket.number, key).len() == there.len();
        let read = Ask::Read {
            head_only: false,
            stale: false,
        };
        let put = Ask::Set {
            bytes: 0,
            ttl_ms: None,
            condition: Condition::Always,
        };
        let open = self.histories.open((bucket.number, key)).into_iter();
        let asks = open.take(RESOLVED_MAX);
        let asks = asks.map(|(write, name)| Ask::Resolve { write, name });
        let asks: Vec<_> = asks.map(|ask| (ask, true)).collect();
        for (ask, must_succeed) in [(read, readable), (put, true)].into_iter().chain(asks) {
            let errand = Errand {
                bucket: bucket.clone(),
                key,
                level: None,
                timeout_ms: super::finale::READ_TIMEOUT_MS,
                action: Action::Strong(ask),
                must_succeed,
            };
            self.call(client, errand);
        }
    }

    /// What a majority of the owners holds agrees with what was told.
    pub(crate) fn check_registers(&mut self) {
        let view = std::sync::Arc::clone(&self.operator.view);
        let strong = view.buckets.iter().filter(|b| b.mode == Mode::Strong);
        let keys = self.scenario.keys;
        for (bucket, key) in strong.flat_map(|b| (0..keys).map(move |k| (b, k))) {
            let (there, owners) = self.acceptors(bucket, key);
            let accepted = there
                .iter()
                .filter_map(|stored| stored.as_ref()?.accepted());
            let accepted: Vec<_> = accepted.collect();
            let newest = accepted.iter().map(|accepted| accepted.ballot).max();
            let holders = accepted.iter().filter(|a| Some(a.ballot) == newest);
            let holders: Vec<_> = holders.collect();
            if let Some(first) = holders
                .first()
                .filter(|_| holders.len() >= majority(owners))
            {
                let log = &first.value.register.log;
                let checked = self.histories.remembers((bucket.number, key), log);
                self.check(checked);
            }
        }
        let checked = self.histories.check();
        self.check(checked);
    }
}

/// What is noted of an operation.
fn what_of(ask: &Ask, task: &Task) -> What {
    let write = |value: Option<Bytes>, condition: &Condition| {
        let condition = match condition {
            Condition::Always => {
                return What::Write(match value {
                    Some(value) => Op::Put { value },
                    None => Op::Delete,
                });
            }
            Condition::Absent => Wanted::Absent,
            Condition::Version(version) => Wanted::Version(version.to_string()),
        };
        What::Write(Op::Cas { condition, value })
    };
    match (task, ask) {
        (
            Task::Write(Change::Set {
                value, condition, ..
            }),
            _,
        ) => write(Some(value.clone()), condition),
        (Task::Write(Change::Delete { condition }), _) => write(None, condition),
        (Task::Write(_), _) => What::Touch,
        (Task::Resolve(_), Ask::Resolve { write, .. }) => What::Resolve { write: *write },
        (Task::Read { stale, .. }, _) => What::Read { stale: *stale },
        (Task::Resolve(_), _) => What::Read { stale: true },
    }
}

/// What a store holds of a key of a strong bucket; an error if that cannot be read.
pub(crate) fn stored(store: &MemoryStore, storage_key: &Bytes) -> Result<Option<Stored>, String> {
    let keys = [storage_key.clone()];
    let entry = store.read(Family::Records, &keys).pop();
    let Some(bytes) = entry.and_then(Result::ok).flatten() else {
        return Ok(None);
    };
    register::decode(bytes).map(Some)
}

/// The value of an acceptor that lies apart, if it has one; an error if that cannot be read.
pub(crate) fn value_apart(
    store: &MemoryStore,
    storage_key: &Bytes,
    stored: &Stored,
) -> Result<Option<Bytes>, String> {
    let Some(accepted) = stored.accepted().filter(|a| a.value.is_apart()) else {
        return Ok(None);
    };
    let keys = [storage_key.clone()];
    let entry = store.read(Family::Values, &keys).pop();
    let bytes = entry.and_then(Result::ok).flatten();
    let bytes = bytes.ok_or("the value is missing")?;
    register::decode_value(bytes, &accepted.value.register.head).map(Some)
}
