//! What all operations of one client share.

use super::clock::ClientClock;
use super::policy::replicas::Peers;
use super::policy::retry::{RetryBudget, mix};
use crate::error::{Error, ErrorKind, Result};
use annulet_protocol::bucket::{Bucket, Mode};
use annulet_protocol::clock::Stamp;
use annulet_protocol::hash::KeyHash;
use annulet_protocol::ids::{Incarnation, NodeId, OpId};
use annulet_protocol::level::Level;
use annulet_protocol::limits::{BUDGET_MS_MAX, KEY_BYTES_MAX};
use annulet_protocol::message::Load;
use annulet_protocol::view::View;
use annulet_ring::owners::{Nodes, Owners};
use annulet_ring::quorum::{Quorum, Side};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;

/// Whether a rule is broken on purpose.
macro_rules! breaks {
    ($core:expr, $fault:ident) => {{
        #[cfg(feature = "faults")]
        let broken = $core.breaks(Fault::$fault);
        #[cfg(not(feature = "faults"))]
        let broken = {
            let _ = $core;
            false
        };
        broken
    }};
}

/// A moment, by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never jumps: deadlines and waits.
    pub mono_ms: u64,
    /// Milliseconds since the Unix epoch by the machine's clock: stamps and expiry.
    pub wall_ms: u64,
}

/// Where a client is, for the choice of replicas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Home {
    /// Its zone; empty: none in particular.
    pub zone: String,
    /// Its region; empty: none in particular.
    pub region: String,
}

/// What a caller says of an operation.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// Name of the bucket.
    pub bucket: &'a str,
    /// The key.
    pub key: Bytes,
    /// The level, or the bucket's.
    pub level: Option<Level>,
    /// How long the caller waits, in milliseconds, at least 1.
    pub timeout_ms: u64,
}

/// What every operation begins with.
#[derive(Clone, Debug)]
pub struct Start {
    /// The view that the owners are read off.
    pub view: Arc<View>,
    /// Place of the bucket among the view's.
    place: usize,
    /// The key.
    pub key: Bytes,
    /// Where it lies.
    pub hash: KeyHash,
    /// The operation, for life.
    pub op: OpId,
    /// Index of the client's region in the view's table.
    pub home: Option<usize>,
    /// The level.
    pub level: Level,
    /// When the caller stops waiting, in monotonic milliseconds.
    pub deadline_ms: u64,
}

impl Start {
    /// The bucket, as of its view.
    pub fn bucket(&self) -> &Bucket {
        // Place and view are set together, by `begin` and `move_to`, and a view never changes.
        &self.view.buckets[self.place]
    }

    /// The owners under its view.
    pub fn owners(&self) -> Owners {
        Owners::of(&self.view, self.bucket(), self.hash)
    }

    /// What the level asks of these owners.
    ///
    /// # Errors
    /// `InvalidInput` if there are not so many.
    pub fn quorum(&self, side: Side, owners: &Owners) -> Result<Quorum> {
        Quorum::of(self.level, side, owners, self.home)
            .map_err(|error| Error::new(ErrorKind::InvalidInput, error.to_string()))
    }

    /// Milliseconds left until the deadline.
    pub fn budget_ms(&self, now_ms: u64) -> u32 {
        let left = self.deadline_ms.saturating_sub(now_ms);
        u32::try_from(left)
            .unwrap_or(BUDGET_MS_MAX)
            .min(BUDGET_MS_MAX)
    }

    /// Moves to a newer view. `false` if the bucket is not there any more.
    pub fn move_to(&mut self, view: &Arc<View>, home: &Home) -> bool {
        let number = self.bucket().number;
        let Some(place) = view.buckets.iter().position(|b| b.number == number) else {
            return false;
        };
        self.place = place;
        self.home = home.region_of(view);
        self.view = Arc::clone(view);
        true
    }
}

impl Home {
    /// Index of the region in a view's table.
    pub fn region_of(&self, view: &View) -> Option<usize> {
        view.table
            .regions
            .iter()
            .position(|table| table.region == self.region)
    }
}

/// One client core.
#[derive(Debug)]
pub struct Core {
    /// Drawn at random for this core alone.
    incarnation: Incarnation,
    sequence: u64,
    view: Arc<View>,
    /// Places of the view's buckets by name.
    buckets: HashMap<String, usize>,
    /// Distance of each member, as [`Peers::rank`] takes it.
    distances: HashMap<NodeId, u8>,
    home: Home,
    /// Mints stamps and judges expiry.
    pub clock: ClientClock,
    /// What is known of the servers.
    pub peers: Peers,
    /// How many retries may still be made.
    pub retries: RetryBudget,
    /// One read at level `one` in this many looks at the other owners afterwards; 0: none does.
    pub check_one_in: u32,
    /// A rule that is broken on purpose, so that tests can show that they would notice.
    #[cfg(feature = "faults")]
    pub fault: Option<Fault>,
}

/// One read at level `one` in this many is checked against the other owners in the background.
const CHECK_ONE_IN: u32 = 10;

impl Core {
    /// A core that has this view. `incarnation` must be drawn at random for it alone.
    pub fn new(incarnation: Incarnation, view: Arc<View>, home: Home) -> Self {
        let mut core = Self {
            incarnation,
            sequence: 0,
            view: Arc::clone(&view),
            buckets: HashMap::new(),
            distances: HashMap::new(),
            home,
            clock: ClientClock::default(),
            peers: Peers::default(),
            retries: RetryBudget::default(),
            check_one_in: CHECK_ONE_IN,
            #[cfg(feature = "faults")]
            fault: None,
        };
        core.index(view);
        core
    }

    /// The newest view it has.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Where it is.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Whether its view has a bucket of this name.
    pub fn has_bucket(&self, name: &str) -> bool {
        self.buckets.contains_key(name)
    }

    /// Takes a view if it is newer than the one it has. Says whether it was.
    pub fn install(&mut self, view: Arc<View>) -> bool {
        let newer = view.epoch > self.view.epoch && view.cluster == self.view.cluster;
        if newer {
            self.index(view);
        }
        newer
    }

    fn index(&mut self, view: Arc<View>) {
        let places = view.buckets.iter().enumerate();
        self.buckets = places.map(|(place, b)| (b.name.clone(), place)).collect();
        let Home { zone, region } = &self.home;
        let distance = |member: &annulet_protocol::view::Member| match () {
            () if !region.is_empty() && member.region != *region => 2,
            () if !zone.is_empty() && member.zone != *zone => 1,
            () => 0,
        };
        self.distances = view.members.iter().map(|m| (m.id, distance(m))).collect();
        let distances = &self.distances;
        self.peers.retain(|node| distances.contains_key(&node));
        self.clock.retain(|node| distances.contains_key(&node));
        self.view = view;
    }

    /// Notes a server's reply, which took so long.
    pub fn note_reply(
        &mut self,
        node: NodeId,
        now: Now,
        round_trip_us: u64,
        time_ms: u64,
        load: Load,
    ) {
        self.peers
            .note_answer(node, now.mono_ms, round_trip_us, load);
        // The server read its clock about half a round trip ago.
        let server_ms = time_ms.saturating_add(round_trip_us / 2_000);
        self.clock.note_server(node, server_ms, now.wall_ms);
    }

    /// Notes that a server could not be reached or did not answer.
    pub fn note_failure(&mut self, node: NodeId, now: Now) {
        self.peers.note_failure(node, now.mono_ms);
    }

    /// Begins an operation: checks it, numbers it, and finds where it goes.
    ///
    /// # Errors
    /// `InvalidInput`: the key, the bucket or the timeout cannot be.
    pub fn begin(&mut self, now: Now, side: Side, call: Call<'_>) -> Result<Start> {
        let Call {
            bucket: name,
            key,
            level,
            timeout_ms,
        } = call;
        let invalid = |why: String| Err(Error::new(ErrorKind::InvalidInput, why));
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return invalid(format!(
                "the key has {} bytes; it must have 1 to {KEY_BYTES_MAX}",
                key.len()
            ));
        }
        if timeout_ms == 0 || timeout_ms > u64::from(BUDGET_MS_MAX) {
            return invalid(format!(
                "a timeout of {timeout_ms} ms; it must be 1 to {BUDGET_MS_MAX} ms"
            ));
        }
        let Some(&place) = self.buckets.get(name) else {
            return invalid(format!("the cluster has no bucket `{name}`"));
        };
        let bucket = &self.view.buckets[place];
        if bucket.mode != Mode::Lww {
            return invalid(format!(
                "bucket `{name}` has mode {}, which this version does not serve",
                bucket.mode
            ));
        }
        let own = match side {
            Side::Read => bucket.read_level,
            Side::Write => bucket.write_level,
        };
        self.sequence += 1;
        self.retries.earn();
        let op = OpId {
            client: self.incarnation,
            sequence: self.sequence,
            first_sent_ms: self.clock.corrected_ms(now.wall_ms),
        };
        Ok(Start {
            view: Arc::clone(&self.view),
            hash: self.view.hash(bucket.number, &key),
            level: level.unwrap_or(own),
            home: self.home.region_of(&self.view),
            deadline_ms: now.mono_ms + timeout_ms,
            place,
            key,
            op,
        })
    }

    /// A stamp for a write of this key.
    pub fn mint(&mut self, hash: KeyHash, now: Now) -> Stamp {
        self.clock.mint(hash, now.wall_ms)
    }

    /// Sorts the owners of an operation, the one to ask first at the front.
    pub fn rank(&self, op: &OpId, owners: &mut Nodes, now: Now) {
        let distance = |node| self.distances.get(&node).copied().unwrap_or(2);
        self.peers.rank(owners, now.mono_ms, mix(op, 0), distance);
    }

    /// Whether this read at level `one` looks at the other owners afterwards.
    pub fn samples(&self, op: &OpId) -> bool {
        self.check_one_in > 0 && mix(op, 1).is_multiple_of(u64::from(self.check_one_in))
    }
}

#[cfg(feature = "faults")]
pub use faults::Fault;

mod faults {
    //! Rules to break, so that tests can show that they would notice. Without the feature each is
    //! a constant that the compiler removes.

    use super::Core;

    /// A rule to break. Only test builds have these.
    #[cfg(feature = "faults")]
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Fault {
        /// Reads do not write back what they saw.
        RepairOff,
        /// Reads return before what they saw is written back.
        RepairNotAwaited,
        /// Expired values are shown.
        ExpiryIgnored,
        /// Acknowledgements are counted, not the owners that gave them.
        DuplicateCounted,
        /// Acknowledgements of two epochs make one quorum.
        EpochsMixed,
        /// A write whose messages were not answered is said not to be applied.
        OutcomeGuessed,
        /// What owners send is not checked.
        ChecksumIgnored,
    }

    impl Core {
        #[cfg(feature = "faults")]
        fn breaks(&self, fault: Fault) -> bool {
            self.fault == Some(fault)
        }

        pub(in crate::core) fn repairs(&self) -> bool {
            !breaks!(self, RepairOff)
        }
        pub(in crate::core) fn awaits_repair(&self) -> bool {
            !breaks!(self, RepairNotAwaited)
        }
        pub(in crate::core) fn heeds_expiry(&self) -> bool {
            !breaks!(self, ExpiryIgnored)
        }
        pub(in crate::core) fn counts_duplicates(&self) -> bool {
            breaks!(self, DuplicateCounted)
        }
        pub(in crate::core) fn mixes_epochs(&self) -> bool {
            breaks!(self, EpochsMixed)
        }
        pub(in crate::core) fn guesses_outcomes(&self) -> bool {
            breaks!(self, OutcomeGuessed)
        }
        pub(in crate::core) fn checks_records(&self) -> bool {
            !breaks!(self, ChecksumIgnored)
        }
    }
}
