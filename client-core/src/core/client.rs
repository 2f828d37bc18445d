//! What all operations of one client share.

use super::clock::ClientClock;
use super::policy::hedge::Hedging;
use super::policy::replicas::Peers;
use super::policy::retry::{RetryBudget, mix};
use super::policy::throttle::WHOLE;
use super::policy::waiting::Class;
use super::strong::proposer::Proposer;
use crate::error::{Error, ErrorKind, Result};
use annulet_protocol::bucket::{Bucket, Mode};
use annulet_protocol::clock::Stamp;
use annulet_protocol::epoch::ordinal;
use annulet_protocol::hash::KeyHash;
use annulet_protocol::ids::{Incarnation, NodeId, OpId};
use annulet_protocol::level::Level;
use annulet_protocol::limits::{BUDGET_MS_MAX, KEY_BYTES_MAX};
use annulet_protocol::message::Load;
use annulet_protocol::session::Known;
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
    /// Whether the caller named the level.
    is_level_named: bool,
    /// How long the caller waits, in milliseconds.
    pub timeout_ms: u64,
    /// When the caller stops waiting, in monotonic milliseconds.
    pub deadline_ms: u64,
    #[cfg(feature = "faults")]
    fault: Option<Fault>,
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
        self.quorum_at(self.level, side, owners)
    }

    /// What this level asks of these owners.
    ///
    /// # Errors
    /// `InvalidInput` if there are not so many.
    pub fn quorum_at(&self, level: Level, side: Side, owners: &Owners) -> Result<Quorum> {
        let owners = self.counted(side, owners);
        Quorum::of(level, side, &owners, self.home)
            .map_err(|error| Error::new(ErrorKind::InvalidInput, error.to_string()))
    }

    /// Milliseconds left until the deadline.
    pub fn budget_ms(&self, now_ms: u64) -> u32 {
        let left = self.deadline_ms.saturating_sub(now_ms);
        u32::try_from(left)
            .unwrap_or(BUDGET_MS_MAX)
            .min(BUDGET_MS_MAX)
    }

    /// Why an operation ends whose bucket is in the view no more.
    pub fn bucket_deleted(&self) -> Error {
        let why = format!("bucket `{}` was deleted", self.bucket().name);
        Error::new(ErrorKind::InvalidInput, why)
    }

    /// The same operation at this level.
    #[must_use]
    pub fn at(&self, level: Level) -> Self {
        Self {
            level,
            ..self.clone()
        }
    }

    /// Checks that its bucket has this mode. `what`: the operation, for people.
    ///
    /// # Errors
    /// `InvalidInput`.
    pub fn expect(&self, mode: Mode, what: &str) -> Result<()> {
        let bucket = self.bucket();
        if bucket.mode == mode {
            return Ok(());
        }
        let why = format!(
            "bucket `{}` has mode {}, where there is no {what}: that is of mode {mode}",
            bucket.name, bucket.mode
        );
        Err(Error::new(ErrorKind::InvalidInput, why))
    }

    /// The same operation at the bucket's read level, unless the caller named one.
    #[must_use]
    pub fn reading(&self) -> Self {
        let level = match self.is_level_named {
            true => self.level,
            false => self.bucket().read_level,
        };
        Self {
            level,
            ..self.clone()
        }
    }

    /// The epoch that set the lists of the key's partition.
    pub fn lists_epoch(&self) -> u64 {
        let table = &self.view.table;
        let number = table.lists_epoch(self.hash.partition(table.partitions));
        ordinal(self.view.tip.generation, number)
    }

    /// Moves to a newer view in which the key has the very same owners, set by the same epoch, if
    /// it is such a one: then the operation goes on, and all that was answered still counts.
    pub fn goes_on_under(&mut self, view: &Arc<View>, home: &Home) -> bool {
        let bucket = view.bucket(self.bucket().number);
        let same = bucket.is_some_and(|b| Owners::of(view, b, self.hash) == self.owners());
        // Epochs of an earlier generation may have been lost, and their numbers been used again.
        let generation = |view: &View| view.tip.generation;
        same && generation(view) == generation(&self.view) && self.move_to(view, home)
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

/// What a reply says of its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// From request to reply, in microseconds.
    pub round_trip_us: u64,
    /// The server's clock, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// How busy it is.
    pub load: Load,
    /// Whether it answered reads, with values short enough that their times can be compared.
    pub is_read: bool,
}

/// How often some things were done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Reads for which another replica was asked since the first took longer than most do.
    pub hedges: u64,
    /// Messages to find out how a replica is that nobody asks otherwise.
    pub trials: u64,
    /// Records left with a fallback for an owner that could not be reached.
    pub hints: u64,
    /// Reads of a session for which more owners were asked than their level needs.
    pub widened: u64,
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
    /// When reads ask another replica.
    pub hedging: Hedging,
    /// Ballots of rounds in strong buckets.
    pub proposer: Proposer,
    /// How often some things were done.
    pub counts: Counts,
    /// One read at level `one` in this many looks at the other owners afterwards; 0: none does.
    pub check_one_in: u32,
    /// Whether reads try replicas now and then that they do not ask otherwise.
    pub tries_others: bool,
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
            hedging: Hedging::default(),
            proposer: Proposer::new(incarnation),
            counts: Counts::default(),
            check_one_in: CHECK_ONE_IN,
            tries_others: true,
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
        let newer = view.ordinal() > self.view.ordinal() && view.cluster == self.view.cluster;
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

    /// Notes a server's reply.
    pub fn note_reply(&mut self, node: NodeId, now: Now, heard: Heard) {
        self.peers.note_answer(node, now.mono_ms, heard.load);
        if heard.is_read {
            let took_us = heard.round_trip_us;
            self.peers.note_read(node, now.mono_ms, took_us);
            self.hedging.note_answer(self.distance(node), took_us);
        }
        // The server read its clock about half a round trip ago.
        let server_ms = heard.time_ms.saturating_add(heard.round_trip_us / 2_000);
        self.clock.note_server(node, server_ms, now.wall_ms);
    }

    /// Notes that a server could not be reached or did not answer.
    pub fn note_failure(&mut self, node: NodeId) {
        self.peers.note_failure(node);
    }

    /// Begins an operation: checks it, numbers it, and finds where it goes.
    ///
    /// # Errors
    /// `InvalidInput`: the key, the bucket or the timeout cannot be.
    pub fn begin(&mut self, now: Now, side: Side, call: Call<'_>) -> Result<Start> {
        let Call {
            bucket,
            key,
            level,
            timeout_ms,
        } = call;
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            let why = format!(
                "the key has {} bytes; it must have 1 to {KEY_BYTES_MAX}",
                key.len()
            );
            return Err(Error::new(ErrorKind::InvalidInput, why));
        }
        let start = self.begin_in(now, side, bucket, (level, timeout_ms))?;
        Ok(Start {
            hash: start.view.hash(start.bucket().number, &key),
            key,
            ..start
        })
    }

    /// Begins a page of a scan, which is of no key.
    ///
    /// # Errors
    /// `InvalidInput`: the bucket or the timeout cannot be.
    pub fn begin_scan(
        &mut self,
        now: Now,
        bucket: &str,
        level: Option<Level>,
        timeout_ms: u64,
    ) -> Result<Start> {
        self.begin_in(now, Side::Read, bucket, (level, timeout_ms))
    }

    fn begin_in(
        &mut self,
        now: Now,
        side: Side,
        name: &str,
        (level, timeout_ms): (Option<Level>, u64),
    ) -> Result<Start> {
        let invalid = |why: String| Err(Error::new(ErrorKind::InvalidInput, why));
        if timeout_ms == 0 || timeout_ms > u64::from(BUDGET_MS_MAX) {
            return invalid(format!(
                "a timeout of {timeout_ms} ms; it must be 1 to {BUDGET_MS_MAX} ms"
            ));
        }
        let Some(&place) = self.buckets.get(name) else {
            return invalid(format!("the cluster has no bucket `{name}`"));
        };
        let bucket = &self.view.buckets[place];
        let own = match side {
            Side::Read => bucket.read_level,
            Side::Write => bucket.write_level,
        };
        self.sequence += 1;
        self.retries.earn();
        if side == Side::Read {
            self.hedging.earn();
        }
        let op = OpId {
            client: self.incarnation,
            sequence: self.sequence,
            first_sent_ms: self.clock.corrected_ms(now.wall_ms),
        };
        Ok(Start {
            view: Arc::clone(&self.view),
            hash: KeyHash::default(),
            level: level.unwrap_or(own),
            is_level_named: level.is_some(),
            home: self.home.region_of(&self.view),
            timeout_ms,
            deadline_ms: now.mono_ms + timeout_ms,
            place,
            key: Bytes::new(),
            op,
            #[cfg(feature = "faults")]
            fault: self.fault,
        })
    }

    /// Whether an operation of this class is begun, or owners that count have so much to do, or so
    /// much waits for them, that it would be done too late.
    ///
    /// # Errors
    /// `Overloaded`.
    pub fn admit(
        &mut self,
        now: Now,
        start: &Start,
        class: Class,
        (quorum, owners): (&Quorum, impl Iterator<Item = NodeId>),
    ) -> Result<()> {
        let draw = mix(&start.op, 3) % WHOLE;
        let (timeout_ms, now_ms) = (start.timeout_ms, now.mono_ms);
        let peers = &mut self.peers;
        let busy = owners.filter(|node| peers.is_busy(*node, class, (timeout_ms, draw), now_ms));
        let busy: Nodes = busy.collect();
        match quorum.is_possible(|node| busy.contains(&node)) {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Overloaded,
                "the owners have too much to do, and this would be done too late: ask for less at \
                 a time",
            )),
        }
    }

    /// A stamp for a write of this key.
    pub fn mint(&mut self, hash: KeyHash, now: Now) -> Stamp {
        self.clock.mint(hash, now.wall_ms)
    }

    /// A stamp for a write of this key by a session that has seen this of it, maybe in another
    /// process whose clock was ahead of this one.
    pub fn mint_after(&mut self, hash: KeyHash, seen: Option<&Known>, now: Now) -> Stamp {
        if let Some(Known::Version(version)) = seen {
            self.clock.observe(hash, version.stamp, now.wall_ms);
        }
        self.mint(hash, now)
    }

    /// The time by which expiry is judged, in milliseconds since the Unix epoch.
    pub fn judged_ms(&self, now: Now) -> u64 {
        match self.heeds_expiry() {
            true => self.clock.reached_ms(now.wall_ms),
            false => 0,
        }
    }

    /// How far a server is: 0 in the client's zone, 1 in its region, 2 elsewhere.
    pub fn distance(&self, node: NodeId) -> u8 {
        self.distances.get(&node).copied().unwrap_or(2)
    }

    /// Sorts the owners of an operation, the one to ask first at the front.
    pub fn rank(&self, op: &OpId, owners: &mut Nodes, now: Now) {
        let distance = |node| self.distance(node);
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

    use super::{Core, OpId, Start};
    use annulet_protocol::siblings::Siblings;
    #[cfg(feature = "faults")]
    use annulet_ring::owners::Lists;
    use annulet_ring::owners::Owners;
    use annulet_ring::quorum::Side;
    use std::borrow::Cow;

    /// A rule to break. Only test builds have these.
    #[cfg(feature = "faults")]
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Fault {
        /// Reads do not write back what they saw.
        RepairOff,
        /// Reads return before what they saw is written back.
        RepairNotAwaited,
        /// What reads saw is written back to as many owners as a write at their level needs.
        RepairOfWrites,
        /// Expired values are shown.
        ExpiryIgnored,
        /// Acknowledgements are counted, not the owners that gave them.
        DuplicateCounted,
        /// Acknowledgements of two epochs make one quorum.
        EpochsMixed,
        /// Reads of joint partitions count the lists as they are alone.
        CurrentListsRead,
        /// Reads of joint partitions count the lists to be alone.
        NextListsRead,
        /// Writes and rounds of joint partitions count the lists as they are alone.
        CurrentListsWritten,
        /// A write whose messages were not answered is said not to be applied.
        OutcomeGuessed,
        /// What owners send is not checked.
        ChecksumIgnored,
        /// Who keeps a record for an owner counts like an owner, at every level.
        HintsCounted,
        /// A value is shown with whatever head is the newest.
        DigestTrusted,
        /// A page of a scan is taken to be whole beyond where an answer was cut off.
        CutIgnored,
        /// Reads of a session show what its level's owners have, be it older than what was seen.
        SessionIgnored,
        /// A put that another owner is asked to mint has another op id there.
        OpIdForgotten,
        /// Owners are sent the value of a put alone, not the record that was minted with it.
        DotAlone,
        /// The minter is told that all owners have its record once a quorum has it.
        SpreadEarly,
        /// A put gives a context although other values stand beside its own.
        SiblingsHidden,
        /// A read of a strong bucket is answered whatever its owners promised since.
        PromisesIgnored,
        /// A promise below a ballot that was reserved is taken for the reservation.
        ReservationStretched,
        /// A reserved ballot is used before its quorum has reserved it.
        ReservedEarly,
        /// A condition is judged although the operation may have been applied.
        ConditionFirst,
        /// An expired value is answered as absent and left as it is.
        ExpiryUnsettled,
        /// A read of a strong bucket shows what it found without settling it.
        ReadUnsettled,
        /// One acceptance makes a round.
        OneAccepts,
        /// A proposal that an owner did not answer counts as refused.
        ProposalForgotten,
    }

    impl Start {
        /// The lists that a quorum is counted of.
        pub(in crate::core) fn counted<'a>(
            &self,
            side: Side,
            owners: &'a Owners,
        ) -> Cow<'a, Owners> {
            #[cfg(feature = "faults")]
            {
                let stable = |lists: &Lists| Owners::stable(lists.clone(), owners.epoch);
                match (self.fault, side, &owners.next) {
                    (Some(Fault::CurrentListsRead), Side::Read, _)
                    | (Some(Fault::CurrentListsWritten), Side::Write, _) => {
                        return Cow::Owned(stable(&owners.regions));
                    }
                    (Some(Fault::NextListsRead), Side::Read, Some(next)) => {
                        return Cow::Owned(stable(next));
                    }
                    _ => {}
                }
            }
            let _ = side;
            Cow::Borrowed(owners)
        }
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
        pub(in crate::core) fn repairs_like_writes(&self) -> bool {
            breaks!(self, RepairOfWrites)
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
        pub(in crate::core) fn counts_hints(&self) -> bool {
            breaks!(self, HintsCounted)
        }
        pub(in crate::core) fn trusts_digests(&self) -> bool {
            breaks!(self, DigestTrusted)
        }
        pub(in crate::core) fn ignores_cuts(&self) -> bool {
            breaks!(self, CutIgnored)
        }
        pub(in crate::core) fn heeds_sessions(&self) -> bool {
            !breaks!(self, SessionIgnored)
        }
        pub(in crate::core) fn forgets_op_ids(&self) -> bool {
            breaks!(self, OpIdForgotten)
        }
        /// What is sent on of a record that was minted.
        pub(in crate::core) fn sent_on(&self, record: Siblings, op: &OpId) -> Siblings {
            #[cfg(feature = "faults")]
            if breaks!(self, DotAlone) {
                return record.only(op);
            }
            let _ = op;
            record
        }
        pub(in crate::core) fn confirms_early(&self) -> bool {
            breaks!(self, SpreadEarly)
        }
        pub(in crate::core) fn hides_siblings(&self) -> bool {
            breaks!(self, SiblingsHidden)
        }
        pub(in crate::core) fn ignores_promises(&self) -> bool {
            breaks!(self, PromisesIgnored)
        }
        pub(in crate::core) fn takes_promises_below_next(&self) -> bool {
            breaks!(self, ReservationStretched)
        }
        pub(in crate::core) fn reserves_early(&self) -> bool {
            breaks!(self, ReservedEarly)
        }
        pub(in crate::core) fn judges_conditions_first(&self) -> bool {
            breaks!(self, ConditionFirst)
        }
        pub(in crate::core) fn settles_expiry(&self) -> bool {
            !breaks!(self, ExpiryUnsettled)
        }
        pub(in crate::core) fn settles_reads(&self) -> bool {
            !breaks!(self, ReadUnsettled)
        }
        pub(in crate::core) fn counts_one_acceptance(&self) -> bool {
            breaks!(self, OneAccepts)
        }
        pub(in crate::core) fn forgets_proposals(&self) -> bool {
            breaks!(self, ProposalForgotten)
        }
        pub(in crate::core) fn checks_records(&self) -> bool {
            !breaks!(self, ChecksumIgnored)
        }
    }
}
