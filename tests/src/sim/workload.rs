//! What the clients do.

use super::client::{Machine, Running};
use super::levels::{Needs, Side};
use super::sessions::Floor;
use super::strong::{Ask, is_strong};
use super::world::{Event, VALUE_BYTES_MAX, World, key_bytes};
use annulet::core::client::Call;
use annulet::core::read::ReadOperation;
use annulet::core::scan::{PageLimits, ScanOperation};
use annulet::core::touch::TouchOperation;
use annulet::core::write::WriteOperation;
use annulet::{Error, ErrorKind};
use annulet_protocol::bucket::{Bucket, Mode};
use annulet_protocol::hash::KeyHash;
use annulet_protocol::level::Level;
use annulet_protocol::record::Origin;
use annulet_ring::quorum;
use bytes::Bytes;
use rand::Rng;
use rand::seq::IndexedRandom;

/// Time between the last operation and the quiet.
const LAST_US: u64 = 100_000;

/// One call of the application.
#[derive(Clone, Debug)]
pub(crate) struct Errand {
    pub(crate) bucket: Bucket,
    pub(crate) key: usize,
    pub(crate) level: Option<Level>,
    pub(crate) timeout_ms: u64,
    pub(crate) action: Action,
    /// It must succeed.
    pub(crate) must_succeed: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Action {
    Get,
    Exists,
    Put {
        bytes: usize,
        ttl_ms: Option<u64>,
    },
    Delete,
    Touch {
        ttl_ms: Option<u64>,
    },
    /// Of this partition.
    Scan {
        partition: u32,
        entries: u32,
    },
    /// In a strong bucket.
    Strong(Ask),
}

impl World {
    /// The application of a client does something, and something else later.
    pub(crate) fn invoke(&mut self, client: usize) {
        if self.operations_left == 0 {
            return;
        }
        self.operations_left -= 1;
        if self.operations_left == 0 {
            self.schedule(LAST_US, Event::Quiet);
        }
        let errand = self.draw(client);
        self.call(client, errand);
        let gap_us = self.rng.random_range(0..2 * self.scenario.gap_us);
        self.schedule(gap_us, Event::Invoke { client });
    }

    /// Somebody may read at once what an operation has shown or written.
    pub(crate) fn follow(&mut self, first: &Errand) {
        if self.quiet || !self.rng.random_bool(self.scenario.follow) {
            return;
        }
        let errand = Errand {
            level: None,
            action: match self.rng.random_bool(0.8) {
                true => Action::Get,
                false => Action::Exists,
            },
            ..first.clone()
        };
        let client = self.rng.random_range(0..self.clients.len());
        self.schedule(1, Event::Follow { client, errand });
    }

    pub(crate) fn follow_now(&mut self, client: usize, errand: Errand) {
        // Its view may be older than the bucket.
        if self.clients[client]
            .core
            .view()
            .bucket(errand.bucket.number)
            .is_some()
        {
            self.call(client, errand);
        }
    }

    fn draw(&mut self, client: usize) -> Errand {
        let view = std::sync::Arc::clone(self.clients[client].core.view());
        let strong = self.rng.random_bool(self.scenario.strong);
        let buckets = view.buckets.iter();
        let only = self.scenario.only_buckets;
        let fits = |b: &&Bucket| {
            let wanted = strong || only.is_empty() || only.contains(&b.number);
            is_strong(b.number) == strong && wanted
        };
        let buckets: Vec<_> = buckets.filter(fits).collect();
        let bucket = buckets
            .choose(&mut self.rng)
            .expect("a view has buckets of both");
        let bucket = Bucket::clone(bucket);
        let key = self.rng.random_range(0..self.scenario.keys);
        if strong {
            return Errand {
                action: self.draw_strong(&bucket, key),
                bucket,
                key,
                level: None,
                timeout_ms: self.rng.random_range(10..=self.scenario.timeout_ms_max),
                must_succeed: false,
            };
        }
        let level = self.draw_level();
        let rng = &mut self.rng;
        let action = match rng.random_range(0..12) {
            _ if rng.random_bool(self.scenario.scans) => Action::Scan {
                // One that has keys: in the others nothing can go wrong.
                partition: view
                    .hash(bucket.number, &key_bytes(key))
                    .partition(view.table.partitions),
                entries: rng.random_range(1..4),
            },
            0..=2 => Action::Get,
            3 => Action::Exists,
            4 => Action::Delete,
            5 => Action::Touch {
                ttl_ms: rng.random_bool(0.8).then(|| rng.random_range(1..1_500)),
            },
            _ => Action::Put {
                bytes: match rng.random_range(0..30) {
                    0..=4 => rng.random_range(4_000..9_000),
                    5 => VALUE_BYTES_MAX as usize + rng.random_range(0..2),
                    _ => rng.random_range(0..60),
                },
                ttl_ms: rng.random_bool(0.3).then(|| rng.random_range(1..1_500)),
            },
        };
        let action = match action {
            // Where concurrent values are kept there is none of these.
            Action::Touch { .. } | Action::Scan { .. } if bucket.mode == Mode::Siblings => {
                Action::Get
            }
            action => action,
        };
        Errand {
            bucket,
            key,
            level,
            timeout_ms: rng.random_range(10..=self.scenario.timeout_ms_max),
            action,
            must_succeed: false,
        }
    }

    /// The level of a bucket that is not strong; none is the bucket's own.
    fn draw_level(&mut self) -> Option<Level> {
        if let Some(level) = self.scenario.only_level {
            return Some(level);
        }
        let rng = &mut self.rng;
        match rng.random_bool(self.scenario.plain_level) {
            true => None,
            false => Some(match rng.random_range(0..7) {
                0 => Level::One,
                1 => Level::Quorum,
                2 => Level::All,
                3 => Level::LocalQuorum,
                4 => Level::EachQuorum,
                5 => Level::Available,
                _ => Level::Explicit {
                    read: rng.random_range(1..=3),
                    write: rng.random_range(1..=3),
                },
            }),
        }
    }

    /// Begins an operation as the client's shell does.
    pub(crate) fn call(&mut self, client: usize, errand: Errand) {
        if let Action::Strong(ask) = errand.action.clone() {
            return self.call_strong(client, errand, &ask);
        }
        let op = self.next_number();
        let now_us = self.now_us;
        self.trace
            .line(now_us, || format!("c{client} op{op} calls {errand:?}"));
        let now = self.client_now(client);
        let (side, needs_side) = match errand.action {
            Action::Get | Action::Exists | Action::Scan { .. } => (quorum::Side::Read, Side::Read),
            _ => (quorum::Side::Write, Side::Write),
        };
        let call = Call {
            bucket: &errand.bucket.name,
            key: key_bytes(errand.key),
            level: errand.level,
            timeout_ms: errand.timeout_ms,
        };
        let core = &mut self.clients[client].core;
        let started = match errand.action {
            Action::Scan { .. } => {
                core.begin_scan(now, call.bucket, errand.level, errand.timeout_ms)
            }
            _ => core.begin(now, side, call),
        };
        let level = started.as_ref().ok().map(|start| start.level);
        let key = (errand.bucket.number, errand.key);
        let mut floor = Floor::default();
        let made = match started {
            Ok(start) => {
                floor = self.session_floor(client, key, &start);
                let deadline_us = self.at_mono(client, start.deadline_ms);
                self.make((client, &floor), &errand, start, op)
                    .map(|machine| (machine, deadline_us))
            }
            Err(error) => Err(error),
        };
        let home = client % self.scenario.regions;
        let owners = self.oracle.owners(key);
        let (machine, deadline_us) = match made {
            Ok(made) => made,
            Err(error) => return self.refused(&errand, &error),
        };
        let siblings = errand.bucket.mode == Mode::Siblings;
        let needs = level.and_then(|l| Needs::of(l, needs_side, owners, home));
        self.note_call(&errand, level);
        let mut running = Running::new(machine, errand, deadline_us);
        (running.floor, running.level) = (floor, level);
        let errand = &running.errand;
        if let (Action::Scan { partition, .. }, Some(needs)) = (&errand.action, needs) {
            let (bucket, partition) = (errand.bucket.number, *partition);
            running.scanned = self.begin_scan(client, bucket, partition, needs);
        }
        match needs {
            Some(needs) if siblings => {
                self.oracle.begin(op, key, needs);
                self.oracle.causal.begin(op, key, needs);
            }
            Some(needs) => self.oracle.begin(op, key, needs),
            // Its bucket was deleted, and the client does not know.
            None if owners == [0, 0] => {}
            None => self.oracle.fail(
                "level",
                format!("operation {op} goes on: {:?}", running.errand),
            ),
        }
        self.start(client, op, running);
    }

    /// The keys that a scan may show, each as a read of its own.
    fn begin_scan(
        &mut self,
        client: usize,
        bucket: u32,
        partition: u32,
        needs: Needs,
    ) -> Vec<(u64, usize)> {
        let view = std::sync::Arc::clone(self.clients[client].core.view());
        let mut scanned = Vec::new();
        for key in 0..self.scenario.keys {
            let hash = view.hash(bucket, &key_bytes(key));
            if hash.partition(view.table.partitions) == partition {
                let number = self.next_number();
                self.oracle.begin(number, (bucket, key), needs);
                scanned.push((number, key));
            }
        }
        scanned
    }

    fn make(
        &mut self,
        (client, floor): (usize, &Floor),
        errand: &Errand,
        start: annulet::core::client::Start,
        op: u64,
    ) -> Result<Machine, Error> {
        if errand.bucket.mode == Mode::Siblings {
            return self.make_of_siblings((client, floor), errand, start, op);
        }
        let read = |start, head_only| {
            let read = ReadOperation::new(start, head_only)?;
            Ok(match &floor.known {
                Some(known) => read.at_least(known.clone()),
                None => read,
            })
        };
        let now = self.client_now(client);
        let core = &mut self.clients[client].core;
        let mut write = |value: Option<Bytes>, ttl_ms: Option<u64>| {
            let origin = Origin {
                stamp: core.mint_after(start.hash, floor.known.as_ref(), now),
                op: start.op,
            };
            let expires = ttl_ms.map(|ttl| core.clock.corrected_ms(now.wall_ms) + ttl);
            WriteOperation::new(start.clone(), origin, value, expires).map(Machine::Write)
        };
        match errand.action {
            Action::Get => read(start, false).map(Machine::Get),
            Action::Exists => read(start, true).map(Machine::Exists),
            Action::Delete | Action::Strong(_) => write(None, None),
            Action::Touch { ttl_ms } => {
                let now_ms = core.clock.corrected_ms(now.wall_ms);
                let at_ms = ttl_ms.map(|ttl_ms| now_ms + ttl_ms);
                let touch = TouchOperation::touch(start.reading(), start, at_ms)?;
                let touch = match &floor.known {
                    Some(known) => touch.at_least(known.clone()),
                    None => touch,
                };
                Ok(Machine::Touch(touch))
            }
            Action::Scan { partition, entries } => {
                let (from, _) = KeyHash::arc(partition, start.view.table.partitions);
                let after = match from.0 {
                    0 => Bytes::new(),
                    first => Bytes::copy_from_slice(&first.to_be_bytes()),
                };
                let limits = PageLimits {
                    entries,
                    bytes: 10_000,
                    value_bytes: 5_000,
                };
                ScanOperation::new(start, after, limits).map(Machine::Scan)
            }
            Action::Put { bytes, ttl_ms } => {
                // Every value is another one.
                let text = format!("{op} ");
                let value = text.bytes().cycle().take(bytes.max(text.len()));
                write(Some(value.collect()), ttl_ms.or(errand.bucket.ttl_ms))
            }
        }
    }

    /// The core refused before anything was sent.
    fn refused(&mut self, errand: &Errand, error: &Error) {
        self.coverage.hit("outcome", "invalid_input");
        let owners = self
            .oracle
            .owners((errand.bucket.number, errand.key))
            .iter()
            .sum::<u8>();
        let most = match errand.level {
            Some(Level::Explicit { read, write }) => read.max(write),
            _ => 0,
        };
        let long =
            matches!(errand.action, Action::Put { bytes, .. } if bytes > VALUE_BYTES_MAX as usize);
        let due = long || most > owners;
        if error.kind() != ErrorKind::InvalidInput || !due {
            self.oracle
                .fail("level", format!("{errand:?} was refused: {error}"));
        }
    }

    fn note_call(&mut self, errand: &Errand, level: Option<Level>) {
        let name = match errand.action {
            Action::Get => "get",
            Action::Exists => "exists",
            Action::Delete => "delete",
            Action::Touch { .. } => "touch",
            Action::Scan { .. } => "scan",
            Action::Put { bytes, .. } if bytes > 4096 => "large_put",
            Action::Put {
                ttl_ms: Some(_), ..
            } => "put_ttl",
            Action::Put { .. } => "put",
            Action::Strong(_) => "strong",
        };
        self.coverage.hit("call", name);
        let name = match level {
            Some(Level::One) => "one",
            Some(Level::Quorum) => "quorum",
            Some(Level::All) => "all",
            Some(Level::LocalQuorum) => "local_quorum",
            Some(Level::EachQuorum) => "each_quorum",
            Some(Level::Available) => "available",
            Some(Level::Explicit { .. }) => "explicit",
            None => return,
        };
        self.coverage.hit("level", name);
    }
}
