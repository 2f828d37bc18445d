//! Sees to it that what was minted here reaches the other owners, without any client.
//!
//! The client that puts a value sends the minted record on to the other owners; it may die in
//! between. So a record is marked when something was minted in it, with a note in [`Notes`] whose
//! key is one byte of tag and the storage key, and whose value is when (8). After a while every
//! other owner is asked whether its record agrees; one that does not gets the record, to merge it;
//! and when all have it, mark and note go.
//!
//! [`Notes`]: crate::store::Family::Notes

use crate::layout::siblings as layout;
use crate::rules::Task;
use crate::store::{Family, Span, Store, StoreError};
use annulet_protocol::hash::parse_storage_key;
use annulet_protocol::ids::NodeId;
use annulet_protocol::message::{Answer, Operation, Source};
use annulet_protocol::siblings::Siblings;
use annulet_protocol::siblings::message::{Compare, Merge};
use annulet_protocol::view::View;
use annulet_ring::owners::{Nodes, Owners};
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::BTreeMap;

/// Tag of a note that other owners may not have a record.
const UNSPREAD: u8 = 3;
/// How long a client has to send a record on itself, in milliseconds.
pub const CLIENT_HAS_MS: u64 = 10_000;
/// Most records of one round.
const ROUND_MAX: usize = 256;
/// Bytes of values after which a round is full.
const ROUND_BYTES: usize = 1 << 20;
/// Time between two looks at all notes, in milliseconds.
const PAUSE_MS: u64 = 5_000;

/// Key of the note about a record.
pub fn note(storage_key: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(1 + storage_key.len());
    bytes.put_u8(UNSPREAD);
    bytes.put_slice(storage_key);
    bytes.freeze()
}

/// Where the look at the notes stands.
#[derive(Clone, Debug)]
pub struct Spreader {
    /// How long a client has to send a record on itself, in milliseconds.
    pub client_has_ms: u64,
    /// Storage key of the last record that was looked at in this pass.
    after: Bytes,
    due_ms: u64,
}

impl Default for Spreader {
    fn default() -> Self {
        Self::new(CLIENT_HAS_MS)
    }
}

/// Records that are compared with other owners, and sent to those that lack something.
#[derive(Clone, Debug, Default)]
pub struct Round {
    entries: Vec<Entry>,
    /// What each owner is asked, by the places of the entries.
    asked: BTreeMap<NodeId, Vec<usize>>,
    /// Whether the records themselves are sent.
    sends: bool,
}

#[derive(Clone, Debug)]
struct Entry {
    storage_key: Bytes,
    bucket: u32,
    key: Bytes,
    record: Siblings,
    /// Owners that are not known to have it.
    lacking: Nodes,
    /// Owners that said so.
    found_lacking: Nodes,
}

impl Spreader {
    /// One that has not looked yet.
    pub fn new(client_has_ms: u64) -> Self {
        Self {
            client_has_ms,
            after: Bytes::new(),
            due_ms: 0,
        }
    }

    /// The next records to compare; an empty round: none now. What is noted of records that are no
    /// more, or have no other owner, is settled at once by the tasks.
    ///
    /// # Errors
    /// What the store says.
    pub fn round(
        &mut self,
        store: &impl Store,
        view: &View,
        own: NodeId,
        now_ms: u64,
    ) -> Result<(Round, Vec<Task>), StoreError> {
        let mut round = Round::default();
        let mut tasks = Vec::new();
        let pause_ms = PAUSE_MS.min(self.client_has_ms);
        if now_ms < self.due_ms && self.due_ms <= now_ms + pause_ms {
            return Ok((round, tasks));
        }
        let span = Span::prefix(&[UNSPREAD], ROUND_MAX, usize::MAX);
        let span = match self.after.is_empty() {
            true => span,
            false => span.after(&note(&self.after)),
        };
        let slice = store.range(Family::Notes, &span)?;
        let mut bytes = 0;
        let mut cut = slice.cut;
        for (note, since) in slice.entries {
            if bytes >= ROUND_BYTES {
                cut = true;
                break;
            }
            let storage_key = note.slice(1..);
            self.after = storage_key.clone();
            let since_ms = since.as_ref().try_into().map_or(0, u64::from_be_bytes);
            // A time to come is of a clock that was ahead, and has been set right.
            let early = since_ms.saturating_add(self.client_has_ms) > now_ms;
            if early && since_ms <= now_ms {
                continue;
            }
            match entry(store, view, own, storage_key.clone()) {
                Some(entry) if entry.lacking.is_empty() => tasks.push(entry.spread()),
                Some(entry) => {
                    bytes += entry.record.value_bytes();
                    round.add(entry);
                }
                None if is_gone(store, &storage_key) => tasks.push(Task::Spread {
                    key: storage_key,
                    fingerprint: 0,
                }),
                // It is of no bucket, or damaged: others see to it.
                None => {}
            }
        }
        if !cut {
            self.after = Bytes::new();
            self.due_ms = now_ms + pause_ms;
        }
        Ok((round, tasks))
    }
}

/// Whether nothing is stored under a key.
fn is_gone(store: &impl Store, storage_key: &Bytes) -> bool {
    let found = store.read(Family::Records, std::slice::from_ref(storage_key));
    matches!(found.as_slice(), [Ok(None)])
}

/// A record and its other owners. `None`: it cannot be read, and is somebody else's business.
fn entry(store: &impl Store, view: &View, own: NodeId, storage_key: Bytes) -> Option<Entry> {
    let (hash, bucket, name) = parse_storage_key(&storage_key)?;
    let key = storage_key.slice(storage_key.len() - name.len()..);
    let keys = std::slice::from_ref(&storage_key);
    let read = |family| store.read(family, keys).pop().unwrap_or(Ok(None)).ok()?;
    let stored = layout::decode(read(Family::Records)?).ok()?;
    let record = match stored.apart {
        None => stored.record,
        Some(apart) => layout::decode_values(read(Family::Values)?, apart).ok()?,
    };
    let owners = view.bucket(bucket).map(|b| Owners::of(view, b, hash))?;
    let lacking = owners.all().filter(|node| *node != own).collect();
    Some(Entry {
        storage_key,
        bucket,
        key,
        record,
        lacking,
        found_lacking: Nodes::new(),
    })
}

impl Entry {
    fn spread(&self) -> Task {
        Task::Spread {
            key: self.storage_key.clone(),
            fingerprint: self.record.fingerprint(),
        }
    }
}

impl Round {
    fn add(&mut self, entry: Entry) {
        let place = self.entries.len();
        for owner in &entry.lacking {
            self.asked.entry(*owner).or_default().push(place);
        }
        self.entries.push(entry);
    }

    /// Whether nobody is asked anything.
    pub fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// Whom to ask what. Every one's answers go to [`Round::take`].
    pub fn questions(&self) -> impl Iterator<Item = (NodeId, Vec<Operation>)> + '_ {
        self.asked.iter().map(|(owner, places)| {
            let question = |place: &usize| self.question(&self.entries[*place]);
            (*owner, places.iter().map(question).collect())
        })
    }

    fn question(&self, entry: &Entry) -> Operation {
        let (bucket, key) = (entry.bucket, entry.key.clone());
        match self.sends {
            true => Operation::Merge(Merge {
                bucket,
                key,
                source: Source::Repair,
                record: entry.record.seal(bucket, &entry.key),
                owners: Vec::new(),
            }),
            false => Operation::Compare(Compare {
                bucket,
                key,
                fingerprint: entry.record.fingerprint(),
            }),
        }
    }

    /// Takes what an owner answered, in order.
    pub fn take(&mut self, owner: NodeId, answers: &[Answer]) {
        let places = self.asked.remove(&owner).unwrap_or_default();
        for (place, answer) in places.into_iter().zip(answers) {
            let entry = &mut self.entries[place];
            match answer {
                Answer::Written(_) => entry.lacking.retain(|lacking| *lacking != owner),
                Answer::Lacking(_) => entry.found_lacking.push(owner),
                // It is asked again in a later round.
                _ => {}
            }
        }
    }

    /// Ends the comparison: what is spread, and the round that sends the rest; an empty one if
    /// nothing is to be sent. Those who did not answer are asked again in a later pass.
    pub fn end(self) -> (Vec<Task>, Self) {
        let (over, open): (Vec<_>, Vec<_>) = self
            .entries
            .into_iter()
            .partition(|entry| entry.lacking.is_empty());
        let tasks = over.iter().map(Entry::spread).collect();
        let mut next = Self {
            sends: true,
            ..Self::default()
        };
        if !self.sends {
            for mut entry in open {
                let found = std::mem::take(&mut entry.found_lacking);
                let place = next.entries.len();
                for owner in found {
                    next.asked.entry(owner).or_default().push(place);
                }
                next.entries.push(entry);
            }
        }
        (tasks, next)
    }
}
