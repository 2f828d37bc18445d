//! What a replica finds out by looking at all that it holds, a step at a time: values that expired
//! long ago, records of buckets that are no more, hints that are too old.
//!
//! A tombstone, and the head of an expired record, stay until it is proved that every owner has
//! them: without such a proof an owner that missed them would bring back what they deleted. So what
//! goes is the value of an expired record. Its head stays, and a later renewal that came to other
//! owners brings the value again.

use crate::hints;
use crate::layout::{self, Stored, StoredValue};
use crate::rules::Task;
use crate::store::{Family, Slice, Span, Store, StoreError};
use annulet_protocol::bucket::Mode;
use annulet_protocol::hash::parse_storage_key;
use annulet_protocol::ids::NodeId;
use annulet_protocol::limits::HINT_AGE_MS_MAX;
use annulet_protocol::record::Kind;
use annulet_protocol::view::View;
use bytes::Bytes;

/// Most entries looked at in a step.
const STEP: usize = 1_024;
/// Most bytes looked at in a step.
const STEP_BYTES: usize = 1 << 20;
/// How long an expired value is kept, in milliseconds: longer than any clock is off and any renewal
/// is under way.
pub const EXPIRED_KEPT_MS: u64 = 3_600_000;

/// Where the look at everything stands.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// How long an expired value is kept, in milliseconds.
    pub expired_kept_ms: u64,
    /// How long a record is kept for an owner that is away, in milliseconds.
    pub hint_age_ms_max: u64,
    place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// Among the records, after this storage key.
    Records(Bytes),
    /// Among the hints of this owner, after this storage key.
    Hints(NodeId, Bytes),
}

/// What a step found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// What is to be noted.
    pub tasks: Vec<Task>,
    /// Entries that cannot be read, by storage key.
    pub damaged: Vec<Bytes>,
    /// Everything was looked at once; the next step begins anew.
    pub over: bool,
}

impl Default for Sweep {
    fn default() -> Self {
        Self::new(EXPIRED_KEPT_MS)
    }
}

impl Sweep {
    /// A look that begins with the first record.
    pub fn new(expired_kept_ms: u64) -> Self {
        Self {
            expired_kept_ms,
            hint_age_ms_max: HINT_AGE_MS_MAX,
            place: Place::Records(Bytes::new()),
        }
    }

    /// Looks at the next entries.
    ///
    /// # Errors
    /// What the store says of a part that cannot be read; the next step goes on behind it.
    pub fn step(
        &mut self,
        store: &impl Store,
        view: &View,
        now_ms: u64,
    ) -> Result<Found, StoreError> {
        let start = Place::Records(Bytes::new());
        match std::mem::replace(&mut self.place, start) {
            Place::Records(after) => self.records(store, view, now_ms, &after),
            Place::Hints(owner, after) => self.hints(store, now_ms, owner, &after),
        }
    }

    fn records(
        &mut self,
        store: &impl Store,
        view: &View,
        now_ms: u64,
        after: &[u8],
    ) -> Result<Found, StoreError> {
        let span = Span::prefix(&[], STEP, STEP_BYTES);
        let span = match after.is_empty() {
            true => span,
            false => span.after(after),
        };
        // Where a part ends that cannot be read is not known: about a block further on is tried.
        self.place = behind(after);
        let Slice { entries, cut } = store.range(Family::Records, &span)?;
        let last = entries.last().map(|(key, _)| key.clone());
        let mut found = Found::default();
        for (key, entry) in entries {
            self.look(view, now_ms, key, entry, &mut found);
        }
        self.place = match last.filter(|_| cut) {
            Some(last) => Place::Records(last),
            None => Place::Hints(NodeId(0), Bytes::new()),
        };
        Ok(found)
    }

    fn look(&self, view: &View, now_ms: u64, key: Bytes, entry: Bytes, found: &mut Found) {
        let Some((_, number, _)) = parse_storage_key(&key) else {
            found.damaged.push(key);
            return;
        };
        let Some(bucket) = view.bucket(number) else {
            if view.had_bucket(number) {
                found.tasks.push(Task::Remove { key });
            }
            return;
        };
        let until_ms = now_ms.saturating_sub(self.expired_kept_ms);
        let expired = match bucket.mode {
            Mode::Lww => expired_record(&key, entry, until_ms),
            Mode::Siblings => expired_siblings(&key, entry, until_ms),
            // Promises stay for ever, with whatever the register is.
            Mode::Strong => layout::register::decode(entry).map(|_| None),
        };
        match expired {
            Ok(task) => found.tasks.extend(task),
            Err(_) => found.damaged.push(key),
        }
    }

    fn hints(
        &mut self,
        store: &impl Store,
        now_ms: u64,
        owner: NodeId,
        after: &[u8],
    ) -> Result<Found, StoreError> {
        let tally = hints::Tally::of(store)?;
        let Some((&owner, _)) = tally.waiting.range(owner..).next() else {
            return Ok(Found {
                over: true,
                ..Found::default()
            });
        };
        let waiting = hints::waiting_for(store, owner, after, STEP)?;
        let old_ms = now_ms.saturating_sub(self.hint_age_ms_max);
        let aged = waiting.iter().filter(|waiting| waiting.since_ms < old_ms);
        let tasks = aged.map(|waiting| Task::SetAside {
            key: waiting.key.clone(),
        });
        let found = Found {
            tasks: tasks.collect(),
            ..Found::default()
        };
        self.place = match waiting.last().filter(|_| waiting.len() == STEP) {
            Some(last) => Place::Hints(owner, last.key.clone()),
            None => Place::Hints(NodeId(owner.0.saturating_add(1)), Bytes::new()),
        };
        Ok(found)
    }
}

/// What is to be done about a record whose value had expired by then.
fn expired_record(key: &Bytes, entry: Bytes, until_ms: u64) -> Result<Option<Task>, String> {
    let Stored { head, value } = layout::decode(entry)?;
    let gone = value == StoredValue::Gone || head.kind == Kind::Tombstone;
    let key = key.clone();
    let expired = !gone && head.is_expired(until_ms);
    Ok(expired.then_some(Task::Expire { key, head }))
}

/// The same of concurrent values.
fn expired_siblings(key: &Bytes, entry: Bytes, until_ms: u64) -> Result<Option<Task>, String> {
    let stored = layout::siblings::decode(entry)?;
    let key = key.clone();
    let mut siblings = stored.record.iter();
    let expired = siblings.any(|sibling| sibling.write.is_expired(until_ms));
    Ok(expired.then_some(Task::ExpireSiblings { key, until_ms }))
}

/// A place a 65,536th of the ring further on; at the end of the ring the hints follow.
fn behind(after: &[u8]) -> Place {
    let position = parse_storage_key(after).map_or(0, |(hash, _, _)| hash.0);
    match position.checked_add(1 << 48) {
        Some(further) => Place::Records(Bytes::copy_from_slice(&further.to_be_bytes())),
        None => Place::Hints(NodeId(0), Bytes::new()),
    }
}
