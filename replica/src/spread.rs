//! Sees to it that what was minted here reaches the other owners, without any client.
//!
//! The client that puts a value sends the minted record on to the other owners; it may die in
//! between. So with each batch that mints something goes a note in [`Notes`], of all the keys that
//! it minted at: its key is one byte of tag, the stamp of the batch (8) and the start of the
//! server's incarnation (8), so that the oldest come first and no two are the same; its value the
//! storage keys, each behind the stamp of what was minted last (8) and its length (2).
//!
//! A client that was told by every owner that it has the record says so, and the key goes from the
//! note ([`confirmed`]). After a while every other owner is asked about the rest, whether its
//! record agrees; one that does not gets the record, to merge it; and a key of which all have the
//! record goes.
//!
//! [`Notes`]: crate::store::Family::Notes

pub mod confirmed;

use crate::layout::siblings as layout;
use crate::rules::Task;
use crate::store::{Family, Span, Store, StoreError};
use annulet_protocol::clock::Stamp;
use annulet_protocol::hash::parse_storage_key;
use annulet_protocol::ids::{Incarnation, NodeId};
use annulet_protocol::message::{Answer, Operation, Source};
use annulet_protocol::siblings::Siblings;
use annulet_protocol::siblings::message::{Compare, Merge};
use annulet_protocol::view::View;
use annulet_ring::owners::{Nodes, Owners};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::collections::BTreeMap;

/// Tag of a note that other owners may not have some records.
const UNSPREAD: u8 = 3;
/// How long a client has to send a record on itself, in milliseconds.
pub const CLIENT_HAS_MS: u64 = 10_000;
/// Most records of one round.
const ROUND_MAX: usize = 1_024;
/// Bytes of records and keys after which a round is full. One that is longer than a request may be,
/// since several owners took long values at once, is so the last of its round.
const ROUND_BYTES: usize = 1 << 20;
/// Most notes that are read at once, and their bytes.
const SLICE: (usize, usize) = (1_024, 1 << 20);
/// Slices of notes that one round reads at most: most keys are of clients that said that all have
/// the record, and fill no round.
const SLICES_MAX: usize = 4;
/// Time between two looks at all notes, in milliseconds.
const PAUSE_MS: u64 = 5_000;

/// Key of the note about what one batch of one start of a server minted.
pub fn note(stamp: Stamp, incarnation: Incarnation) -> Bytes {
    let mut bytes = BytesMut::with_capacity(17);
    bytes.put_u8(UNSPREAD);
    bytes.put_u64(stamp.0);
    bytes.put_slice(&incarnation.0[..8]);
    bytes.freeze()
}

/// What a note says: these storage keys, with the last stamp of each.
pub fn encode(minted: &BTreeMap<Bytes, Stamp>) -> Bytes {
    let mut bytes = BytesMut::new();
    for (key, stamp) in minted {
        bytes.put_u64(stamp.0);
        // A storage key is some bytes longer than the longest key, of 4 KiB.
        bytes.put_u16(key.len() as u16);
        bytes.put_slice(key);
    }
    bytes.freeze()
}

/// The keys of a note. The store sees to it that it is whole.
fn decode(mut value: Bytes) -> BTreeMap<Bytes, Stamp> {
    let mut keys = BTreeMap::new();
    while let (Ok(stamp), Ok(length)) = (value.try_get_u64(), value.try_get_u16())
        && usize::from(length) <= value.len()
    {
        keys.insert(value.split_to(usize::from(length)), Stamp(stamp));
    }
    keys
}

/// The first key that a note of this millisecond could have.
fn first_of(ms: u64) -> Bytes {
    note(Stamp::at(ms), Incarnation([0; 16]))
}

/// Where the look at the notes stands.
#[derive(Clone, Debug)]
pub struct Spreader {
    /// How long a client has to send a record on itself, in milliseconds.
    pub client_has_ms: u64,
    /// The note that this pass goes on with, and the last of its keys that was looked at.
    at: (Bytes, Bytes),
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
    /// The notes that it is about.
    notes: BTreeMap<Bytes, Left>,
    /// The places of the entries, by their storage keys.
    places: BTreeMap<Bytes, usize>,
    /// Bytes of all records.
    bytes: usize,
    /// Whether the records themselves are sent.
    sends: bool,
}

/// What a note still has to say.
#[derive(Clone, Debug)]
struct Left {
    keys: BTreeMap<Bytes, Stamp>,
    changed: bool,
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
    /// Notes that are about it.
    notes: Vec<Bytes>,
}

impl Spreader {
    /// One that has not looked yet.
    pub fn new(client_has_ms: u64) -> Self {
        Self {
            client_has_ms,
            at: Default::default(),
            due_ms: 0,
        }
    }

    /// The next records to compare; an empty round: none now. What is noted of records that are no
    /// more, or have no other owner, is settled at once by the tasks. `confirmed` takes from the
    /// keys of a note those that every owner is known to have, and says whether there are any: see
    /// [`Confirmed::take_from`](confirmed::Confirmed::take_from).
    ///
    /// # Errors
    /// What the store says.
    pub fn round(
        &mut self,
        store: &impl Store,
        view: &View,
        own: NodeId,
        now_ms: u64,
        mut confirmed: impl FnMut(&mut BTreeMap<Bytes, Stamp>) -> bool,
    ) -> Result<(Round, Vec<Task>), StoreError> {
        let mut round = Round::default();
        let pause_ms = PAUSE_MS.min(self.client_has_ms);
        if now_ms < self.due_ms && self.due_ms <= now_ms + pause_ms {
            return Ok((round, Vec::new()));
        }
        let passed = self.look(store, (view, own), now_ms, &mut confirmed, &mut round)?;
        if passed {
            self.at = Default::default();
            self.due_ms = now_ms + pause_ms;
        }
        let tasks = round.settle();
        Ok((round, tasks))
    }

    /// Goes on with this pass until the round is full. Says whether the pass is over.
    fn look(
        &mut self,
        store: &impl Store,
        (view, own): (&View, NodeId),
        now_ms: u64,
        confirmed: &mut impl FnMut(&mut BTreeMap<Bytes, Stamp>) -> bool,
        round: &mut Round,
    ) -> Result<bool, StoreError> {
        let all = Span::prefix(&[UNSPREAD], SLICE.0, SLICE.1);
        let due_ms = now_ms.saturating_sub(self.client_has_ms);
        let due = Span {
            until: Some(first_of(due_ms.saturating_add(1))),
            ..all.clone()
        };
        // A time to come is of a clock that was ahead, and has been set right.
        let ahead = Span {
            from: first_of(now_ms.saturating_add(1)),
            ..all
        };
        let mut slices = 0;
        for span in [due, ahead] {
            loop {
                let from = span.from.clone().max(self.at.0.clone());
                if span.until.as_ref().is_some_and(|until| *until <= from) {
                    break;
                }
                if slices == SLICES_MAX {
                    return Ok(false);
                }
                slices += 1;
                let slice = store.range(
                    Family::Notes,
                    &Span {
                        from,
                        ..span.clone()
                    },
                )?;
                for (note, value) in slice.entries {
                    let left = Left::of(decode(value), confirmed);
                    if !self.take_up(store, (view, own), (note, left), round) {
                        return Ok(false);
                    }
                }
                if !slice.cut {
                    break;
                }
            }
        }
        Ok(true)
    }

    /// Takes up what is left of a note, from the key on that this pass has come to. Says whether
    /// there was room for all of it.
    fn take_up(
        &mut self,
        store: &impl Store,
        (view, own): (&View, NodeId),
        (note, left): (Bytes, Left),
        round: &mut Round,
    ) -> bool {
        let keys: Vec<_> = left.keys.keys().cloned().collect();
        round.notes.insert(note.clone(), left);
        let seen = match &self.at {
            (at, seen) if *at == note => seen.clone(),
            _ => Bytes::new(),
        };
        for key in keys.into_iter().filter(|key| *key > seen) {
            if round.is_full() {
                return false;
            }
            self.at = (note.clone(), key.clone());
            round.add(store, (view, own), &note, key);
        }
        // No key lies between one and the same with a zero behind it.
        self.at = ([&note[..], &[0]].concat().into(), Bytes::new());
        true
    }
}

/// How many records were minted here before this time that other owners may lack, as far as it is
/// looked: at the first notes. `covered`: whether all are known to have what was minted at a key up
/// to a stamp.
///
/// # Errors
/// What the store says.
pub fn unspread(
    store: &impl Store,
    before_ms: u64,
    covered: impl Fn(&[u8], Stamp) -> bool,
) -> Result<u64, StoreError> {
    let span = Span {
        until: Some(first_of(before_ms)),
        ..Span::prefix(&[UNSPREAD], SLICE.0, SLICE.1)
    };
    let notes = store.range(Family::Notes, &span)?.entries;
    let keys = notes.into_iter().flat_map(|(_, value)| decode(value));
    Ok(keys.filter(|(key, stamp)| !covered(key, *stamp)).count() as u64)
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
        notes: Vec::new(),
    })
}

impl Left {
    /// What is left of the keys of a note when those of which every owner has the record are gone.
    fn of(
        mut keys: BTreeMap<Bytes, Stamp>,
        confirmed: &mut impl FnMut(&mut BTreeMap<Bytes, Stamp>) -> bool,
    ) -> Self {
        // A note of nothing goes.
        let changed = confirmed(&mut keys) || keys.is_empty();
        Self { keys, changed }
    }

    fn remove(&mut self, storage_key: &Bytes) {
        self.changed |= self.keys.remove(storage_key).is_some();
    }
}

impl Round {
    fn is_full(&self) -> bool {
        self.entries.len() >= ROUND_MAX || self.bytes >= ROUND_BYTES
    }

    /// Takes up a record of a note. Several notes may be about one record.
    fn add(
        &mut self,
        store: &impl Store,
        (view, own): (&View, NodeId),
        note: &Bytes,
        storage_key: Bytes,
    ) {
        if let Some(place) = self.places.get(&storage_key) {
            return self.entries[*place].notes.push(note.clone());
        }
        match entry(store, view, own, storage_key.clone()) {
            Some(mut entry) if !entry.lacking.is_empty() => {
                entry.notes.push(note.clone());
                self.bytes += entry.key.len() + entry.record.wire_bytes();
                self.places.insert(storage_key, self.entries.len());
                self.ask(entry.lacking.clone(), entry);
            }
            // It is of no bucket, or damaged: others see to it.
            None if !is_gone(store, &storage_key) => {}
            Some(_) | None => {
                let left = self.notes.get_mut(note);
                left.into_iter().for_each(|left| left.remove(&storage_key));
            }
        }
    }

    fn ask(&mut self, owners: Nodes, entry: Entry) {
        for owner in owners {
            let asked = self.asked.entry(owner).or_default();
            asked.push(self.entries.len());
        }
        self.entries.push(entry);
    }

    /// What the notes that have changed have to say now.
    fn settle(&mut self) -> Vec<Task> {
        let mut tasks = Vec::new();
        for (note, left) in &mut self.notes {
            if std::mem::take(&mut left.changed) {
                let (key, left) = (note.clone(), left.keys.clone());
                tasks.push(Task::Spread { key, left });
            }
        }
        tasks
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
        let mut next = Self {
            sends: true,
            notes: self.notes,
            ..Self::default()
        };
        for mut entry in self.entries {
            let found = std::mem::take(&mut entry.found_lacking);
            if entry.lacking.is_empty() {
                for note in &entry.notes {
                    let left = next.notes.get_mut(note);
                    let key = &entry.storage_key;
                    left.into_iter().for_each(|left| left.remove(key));
                }
            } else if !self.sends {
                next.ask(found, entry);
            }
        }
        let tasks = next.settle();
        (tasks, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryStore;
    use crate::store::Change;

    #[test]
    fn what_was_minted_a_while_ago_and_is_not_known_to_be_everywhere_is_counted() {
        let store = MemoryStore::default();
        let minted = |ms: u64, keys: &[&'static str]| {
            let stamp = Stamp::at(ms);
            let keys = keys
                .iter()
                .map(|key| (Bytes::from_static(key.as_bytes()), stamp));
            let note = note(stamp, Incarnation([1; 16]));
            Change::Put(Family::Notes, note, encode(&keys.collect()))
        };
        store
            .write(vec![minted(1_000, &["a", "b"]), minted(2_000, &["c"])])
            .unwrap();
        let count = |before_ms, covered: &str| {
            let covered = |key: &[u8], _: Stamp| covered.as_bytes() == key;
            unspread(&store, before_ms, covered).unwrap()
        };
        assert_eq!([500, 1_500, 2_500].map(|ms| count(ms, "")), [0, 2, 3]);
        assert_eq!(count(2_500, "b"), 2);
    }
}
