//! What a replica answers to each operation.
//!
//! | rule | where |
//! |---|---|
//! | only the owners of the view answer, at an epoch that knows their lists | `Replica::place` |
//! | a record is checked before it is merged | `Replica::admit` |
//! | the fresher record stays, whatever the order of arrival | `merge` |
//! | what is damaged is refused, never taken for absent | `decode_stored` |

use crate::gate::{Gate, SyncPoint};
use crate::layout::{self, Stored, StoredValue};
use crate::store::{Batch, Change, Family, Store, StoreError};
use annulet_protocol::bucket::{Bucket, Durability, Mode};
use annulet_protocol::hash::KeyHash;
use annulet_protocol::ids::NodeId;
use annulet_protocol::limits::KEY_BYTES_MAX;
use annulet_protocol::message::{
    Absent, Answer, Read, Refusal, RefusalKind, Source, Write, Written,
};
use annulet_protocol::record::{Damage, Head, Kind, Record};
use annulet_protocol::view::View;
use annulet_ring::owners::Owners;
use bytes::Bytes;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Whether a rule is broken on purpose.
macro_rules! breaks {
    ($replica:expr, $fault:ident) => {{
        #[cfg(feature = "faults")]
        let broken = $replica.breaks(Fault::$fault);
        #[cfg(not(feature = "faults"))]
        let broken = {
            let _ = $replica;
            false
        };
        broken
    }};
}

/// One server's rules.
#[derive(Clone, Debug)]
pub struct Replica {
    /// The server's own id.
    pub node: NodeId,
    /// Furthest that a first-hand stamp may lie ahead of the server's clock, in milliseconds.
    pub skew_ms_max: u64,
    /// A rule that is broken on purpose, so that tests can show that they would notice.
    #[cfg(feature = "faults")]
    pub fault: Option<Fault>,
}

/// What an answer depends on besides the store.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// The server's clock, in milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// Whether that clock agrees with the peers' clocks.
    pub clock_trusted: bool,
    /// The server's view.
    pub view: &'a View,
}

/// Answers to reads, and what they rest on.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadAnswers {
    /// One for each read, in order.
    pub answers: Vec<Answer>,
    /// The keys read in buckets whose writes are durable before they are acknowledged.
    pub touched: Vec<KeyHash>,
}

/// What to do about a batch of writes, and what to answer once it is durable.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    /// One for each write, in order.
    pub answers: Vec<Answer>,
    /// The changes to apply.
    pub batch: Batch,
    /// The keys answered about in buckets whose writes are durable before they are acknowledged.
    pub touched: Vec<KeyHash>,
    /// Whether the batch changes one of them, so that the answers wait for a sync.
    pub needs_sync: bool,
}

impl Decided {
    /// Notes the batch at the gate; call it before the batch is written. Returns what its answers
    /// wait for.
    pub fn enter(&self, gate: &mut Gate) -> SyncPoint {
        match self.needs_sync {
            true => gate.begin(self.touched.iter().copied()),
            false => gate.rests_on(self.touched.iter().copied()),
        }
    }
}

/// A write that passed [`Replica::admit`].
struct Admitted<'a> {
    bucket: &'a Bucket,
    hash: KeyHash,
    storage_key: Bytes,
    write: &'a Write,
}

impl Replica {
    /// The rules of the server of this id, with the usual skew.
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            skew_ms_max: annulet_protocol::limits::SKEW_MS_MAX,
            #[cfg(feature = "faults")]
            fault: None,
        }
    }

    /// Answers reads, each with the epoch of its request.
    pub fn read<'a>(
        &self,
        store: &impl Store,
        moment: Moment<'a>,
        reads: impl IntoIterator<Item = (u64, &'a Read)>,
    ) -> ReadAnswers {
        let mut answers = Vec::new();
        let mut touched = Vec::new();
        let mut found = Vec::new();
        let mut keys = Vec::new();
        for (epoch, read) in reads {
            match self.place(moment, epoch, read.bucket, &read.key) {
                Err(refusal) => answers.push(Answer::Refused(refusal)),
                Ok((bucket, hash)) => {
                    if bucket.durability == Durability::Group && self.gates_reads() {
                        touched.push(hash);
                    }
                    keys.push(layout::storage_key(hash, read.bucket, &read.key));
                    found.push((answers.len(), read));
                    answers.push(Answer::Absent(Absent::default()));
                }
            }
        }
        let entries = store.read(Family::Records, &keys);
        for (((at, read), key), entry) in found.into_iter().zip(keys).zip(entries) {
            answers[at] = answer_read(store, read, key, entry);
        }
        ReadAnswers { answers, touched }
    }

    /// Decides a batch of writes, each with the epoch of its request, as if one after the other.
    ///
    /// # Errors
    /// [`StoreError::Failed`]: nothing may be acknowledged any more.
    pub fn decide<'a>(
        &self,
        store: &impl Store,
        moment: Moment<'a>,
        writes: impl IntoIterator<Item = (u64, &'a Write)>,
    ) -> Result<Decided, StoreError> {
        let admitted: Vec<_> = writes
            .into_iter()
            .map(|(epoch, write)| self.admit(moment, epoch, write))
            .collect();
        let keys: Vec<_> = admitted
            .iter()
            .flatten()
            .map(|a| a.storage_key.clone())
            .collect();
        let mut entries = store.read(Family::Records, &keys).into_iter();
        // What the batch itself has changed so far.
        let mut changed = BTreeMap::<Bytes, Stored>::new();
        let mut decided = Decided {
            answers: Vec::with_capacity(admitted.len()),
            batch: Batch::new(),
            touched: Vec::new(),
            needs_sync: false,
        };
        for admitted in admitted {
            let answer = match admitted {
                Err(refusal) => Answer::Refused(refusal),
                Ok(admitted) => {
                    let entry = entries.next().unwrap_or(Ok(None));
                    let current = match changed.get(&admitted.storage_key) {
                        Some(stored) => Ok(Some(stored.clone())),
                        None => decode_stored(entry, admitted.write.bucket, &admitted.write.key),
                    };
                    match current {
                        Err(failed @ StoreError::Failed(_)) => return Err(failed),
                        Err(error) => Answer::Refused(refusal(error)),
                        Ok(current) => {
                            self.merge(moment, &admitted, current, &mut changed, &mut decided)
                        }
                    }
                }
            };
            decided.answers.push(answer);
        }
        Ok(decided)
    }

    /// Where a key lies, if this server answers for it at all.
    fn place<'a>(
        &self,
        moment: Moment<'a>,
        epoch: u64,
        bucket: u32,
        key: &[u8],
    ) -> Result<(&'a Bucket, KeyHash), Refusal> {
        let view = moment.view;
        if epoch > view.epoch {
            let why = format!(
                "this server is at epoch {}, the request at {epoch}",
                view.epoch
            );
            return Err(Refusal::new(RefusalKind::Behind, why));
        }
        if epoch < view.table.epoch && self.is_fenced() {
            let why = format!(
                "the owners changed in epoch {}, the request is of epoch {epoch}: fetch the view",
                view.table.epoch
            );
            return Err(Refusal::new(RefusalKind::StaleEpoch, why));
        }
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            let why = format!(
                "the key has {} bytes; it must have 1 to {KEY_BYTES_MAX}",
                key.len()
            );
            return Err(Refusal::new(RefusalKind::TooLarge, why));
        }
        let Some(bucket) = view.bucket(bucket) else {
            let why = format!("epoch {} has no bucket number {bucket}", view.epoch);
            return Err(Refusal::new(RefusalKind::UnknownBucket, why));
        };
        if bucket.mode != Mode::Lww {
            let why = format!("bucket `{}` has mode {}", bucket.name, bucket.mode);
            return Err(Refusal::new(RefusalKind::WrongMode, why));
        }
        let hash = view.hash(bucket.number, key);
        if !Owners::of(view, bucket, hash).contains(self.node) {
            let why = format!("server {} does not own this key", self.node);
            return Err(Refusal::new(RefusalKind::NotOwner, why));
        }
        Ok((bucket, hash))
    }

    /// Checks a write by itself. The stamp of a first-hand write is checked in `merge`, which
    /// knows what is stored.
    fn admit<'a>(
        &self,
        moment: Moment<'a>,
        epoch: u64,
        write: &'a Write,
    ) -> Result<Admitted<'a>, Refusal> {
        let (bucket, hash) = self.place(moment, epoch, write.bucket, &write.key)?;
        let most = moment.view.value_bytes_max as usize;
        if write.record.value.len() > most {
            let why = format!(
                "the value has {} bytes, at most {most}",
                write.record.value.len()
            );
            return Err(Refusal::new(RefusalKind::TooLarge, why));
        }
        let sound = write.record.verify(write.bucket, &write.key);
        if let Err(damage) = sound.or_else(|damage| self.forgive(damage)) {
            return Err(Refusal::new(RefusalKind::BadChecksum, damage.to_string()));
        }
        let storage_key = layout::storage_key(hash, write.bucket, &write.key);
        Ok(Admitted {
            bucket,
            hash,
            storage_key,
            write,
        })
    }

    /// Merges one record into what is stored: the fresher one stays.
    fn merge(
        &self,
        moment: Moment<'_>,
        admitted: &Admitted<'_>,
        current: Option<Stored>,
        changed: &mut BTreeMap<Bytes, Stored>,
        decided: &mut Decided,
    ) -> Answer {
        let Admitted {
            bucket,
            hash,
            storage_key,
            write,
        } = admitted;
        if let Some(refusal) = self.refuse_stamp(moment, write, current.as_ref().map(|s| &s.head)) {
            return Answer::Refused(refusal);
        }
        let durable = bucket.durability == Durability::Group && !self.acks_before_sync();
        if durable {
            decided.touched.push(*hash);
        }
        let record = &write.record;
        let fresher = self.overwrites_blindly()
            || current
                .as_ref()
                .is_none_or(|stored| record.head.freshness(&stored.head) == Ordering::Greater);
        if fresher {
            decided.needs_sync |= durable;
            if self.drops_tombstones() && record.head.kind == Kind::Tombstone {
                decided
                    .batch
                    .push(Change::Delete(Family::Records, storage_key.clone()));
                return Answer::Written(Written::default());
            }
            let stored = put(storage_key, record, current.as_ref(), &mut decided.batch);
            changed.insert(storage_key.clone(), stored);
        }
        let newer = current.map(|stored| stored.head.version);
        let superseded = newer.filter(|version| *version > record.head.version);
        Answer::Written(Written { superseded })
    }

    /// First-hand stamps must be near this server's clock, unless the key has one as far ahead.
    fn refuse_stamp(
        &self,
        moment: Moment<'_>,
        write: &Write,
        current: Option<&Head>,
    ) -> Option<Refusal> {
        if write.source != Source::FirstHand || self.accepts_skew() {
            return None;
        }
        if !moment.clock_trusted {
            let why =
                "this server's clock is off its peers'; it takes no new writes until it is set";
            return Some(Refusal::new(RefusalKind::SkewedClock, why));
        }
        let limit_ms = moment.now_ms.saturating_add(self.skew_ms_max);
        let head = &write.record.head;
        let stamp = head
            .expiry
            .map_or(head.version.stamp, |e| e.stamp.max(head.version.stamp));
        let ahead = stamp.millis() > limit_ms;
        if !ahead || current.is_some_and(|current| current.version.stamp.millis() >= stamp.millis())
        {
            return None;
        }
        let why = format!(
            "the write is stamped {} ms ahead of this server's clock, at most {} are taken: set \
             the client's clock",
            stamp.millis().saturating_sub(moment.now_ms),
            self.skew_ms_max
        );
        Some(Refusal::new(RefusalKind::SkewedClock, why))
    }
}

/// Writes a record over what is stored; the value only if it is another one.
fn put(key: &Bytes, record: &Record, current: Option<&Stored>, batch: &mut Batch) -> Stored {
    let (entry, apart) = layout::encode(record);
    batch.push(Change::Put(Family::Records, key.clone(), entry));
    let before = current.filter(|stored| matches!(stored.value, StoredValue::Apart(_)));
    let value = match apart {
        Some(value) => {
            if before.is_none_or(|stored| stored.head.version != record.head.version) {
                batch.push(Change::Put(Family::Values, key.clone(), value));
            }
            StoredValue::Apart(record.value.len() as u64)
        }
        None => {
            if before.is_some() {
                batch.push(Change::Delete(Family::Values, key.clone()));
            }
            StoredValue::Inline(record.value.clone())
        }
    };
    Stored {
        head: record.head,
        value,
    }
}

/// Reads an entry of the store. What cannot be read is damaged, not absent.
fn decode_stored(
    entry: Result<Option<Bytes>, StoreError>,
    bucket: u32,
    key: &[u8],
) -> Result<Option<Stored>, StoreError> {
    let Some(bytes) = entry? else { return Ok(None) };
    let stored = layout::decode(bytes).map_err(StoreError::Damaged)?;
    stored
        .head
        .verify_expiry(bucket, key)
        .map_err(|e| StoreError::Damaged(e.to_string()))?;
    Ok(Some(stored))
}

/// Answers one read from its entry.
fn answer_read(
    store: &impl Store,
    read: &Read,
    storage_key: Bytes,
    entry: Result<Option<Bytes>, StoreError>,
) -> Answer {
    let full = decode_stored(entry, read.bucket, &read.key).and_then(|stored| match stored {
        None => Ok(Answer::Absent(Absent::default())),
        Some(stored) if read.head_only => Ok(Answer::FoundHead(stored.head)),
        Some(stored) => fetch_value(store, read, storage_key, stored).map(Answer::Found),
    });
    full.unwrap_or_else(|error| Answer::Refused(refusal(error)))
}

/// What is said of a key that the store could not give.
fn refusal(error: StoreError) -> Refusal {
    match error {
        StoreError::Damaged(why) => Refusal::new(RefusalKind::Damaged, why),
        StoreError::Busy(why) => Refusal {
            retry_after_ms: Some(BUSY_RETRY_MS),
            ..Refusal::new(RefusalKind::Overloaded, why)
        },
        failed @ StoreError::Failed(_) => Refusal::new(RefusalKind::Damaged, failed.to_string()),
    }
}

/// When to come back to a store that had no room for the answer: some replies later.
const BUSY_RETRY_MS: u32 = 50;

/// Completes an entry by its value. A value that lies apart may be replaced between the two reads:
/// then both are read again.
fn fetch_value(
    store: &impl Store,
    read: &Read,
    storage_key: Bytes,
    mut stored: Stored,
) -> Result<Record, StoreError> {
    /// One replacement after each read would need a writer faster than this loop, each time.
    const ATTEMPTS: usize = 8;
    let keys = [storage_key];
    let mut why = String::new();
    for _ in 0..ATTEMPTS {
        let length = match stored.value {
            StoredValue::Inline(value) => {
                return Ok(Record {
                    head: stored.head,
                    value,
                });
            }
            StoredValue::Apart(length) => length,
        };
        let value = store
            .read(Family::Values, &keys)
            .pop()
            .unwrap_or(Ok(None))?;
        why = match value.map(|v| layout::decode_value(v, &stored.head.version, length)) {
            Some(Ok(value)) => {
                return Ok(Record {
                    head: stored.head,
                    value,
                });
            }
            Some(Err(why)) => why,
            None => "the value of a stored record is missing".into(),
        };
        let entry = store.read(Family::Records, &keys).pop().unwrap_or(Ok(None));
        match decode_stored(entry, read.bucket, &read.key)? {
            Some(again) => stored = again,
            None => break,
        }
    }
    Err(StoreError::Damaged(why))
}

#[cfg(feature = "faults")]
pub use faults::Fault;

mod faults {
    //! Rules to break, so that tests can show that they would notice. Without the feature each is
    //! a constant that the compiler removes.

    use super::{Damage, Replica};

    /// A rule to break. Only test builds have these.
    #[cfg(feature = "faults")]
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Fault {
        /// Answers do not wait for the sync they rest on.
        AckBeforeSync,
        /// Answers to reads do not wait for the sync of what they show.
        ReadsPassTheGate,
        /// First-hand stamps are not checked against the clock.
        SkewAccepted,
        /// A delete removes the record instead of leaving a tombstone.
        TombstoneDropped,
        /// What comes last stays, not what is fresher.
        StaleOverwrites,
        /// Requests of before the owners changed are served.
        Unfenced,
        /// Records are not checked before they are merged.
        ChecksumIgnored,
    }

    impl Replica {
        #[cfg(feature = "faults")]
        fn breaks(&self, fault: Fault) -> bool {
            self.fault == Some(fault)
        }

        pub(super) fn acks_before_sync(&self) -> bool {
            breaks!(self, AckBeforeSync)
        }
        pub(super) fn gates_reads(&self) -> bool {
            if self.acks_before_sync() {
                return false;
            }
            !breaks!(self, ReadsPassTheGate)
        }
        pub(super) fn accepts_skew(&self) -> bool {
            breaks!(self, SkewAccepted)
        }
        pub(super) fn drops_tombstones(&self) -> bool {
            breaks!(self, TombstoneDropped)
        }
        pub(super) fn overwrites_blindly(&self) -> bool {
            breaks!(self, StaleOverwrites)
        }
        pub(super) fn is_fenced(&self) -> bool {
            !breaks!(self, Unfenced)
        }
        pub(super) fn forgive(&self, damage: Damage) -> Result<(), Damage> {
            if breaks!(self, ChecksumIgnored) {
                return Ok(());
            }
            Err(damage)
        }
    }
}

#[cfg(test)]
mod tests;
