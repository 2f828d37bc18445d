//! What a batch has decided so far. Later mutations of the batch see what earlier ones changed.

use super::Decided;
use crate::hints::{Kept, Tally};
use crate::holdings::Holding;
use crate::layout::register::{self, StoredRegister};
use crate::layout::siblings::{self as siblings_layout, Apart, Marks};
use crate::layout::{self, Stored, StoredValue};
use crate::spread;
use crate::store::{Batch, Change, Family, Span, Store, StoreError};
use annulet_protocol::clock::Stamp;
use annulet_protocol::hash::KeyHash;
use annulet_protocol::limits::SIBLINGS_WARNED;
use annulet_protocol::message::Answer;
use annulet_protocol::record::Record;
use annulet_protocol::siblings::{Dot, Siblings};
use bytes::Bytes;
use std::collections::BTreeMap;

/// See the module.
pub(super) struct Draft {
    pub(super) answers: Vec<Answer>,
    pub(super) touched: Vec<KeyHash>,
    pub(super) needs_sync: bool,
    pub(super) damaged: Vec<Bytes>,
    crowded: usize,
    ready: Vec<Holding>,
    batch: Batch,
    /// Storage keys at which something was minted, with the last stamp.
    minted: BTreeMap<Bytes, Stamp>,
    /// Records as the batch leaves them.
    records: BTreeMap<Bytes, Stored>,
    /// Concurrent values as the batch leaves them.
    siblings: BTreeMap<Bytes, Held>,
    /// Acceptors as the batch leaves them.
    registers: BTreeMap<Bytes, register::Stored>,
    /// Kept records as the batch leaves them; `None`: removed.
    kept: BTreeMap<Bytes, Option<Kept>>,
    /// The tally as the batch leaves it, once it was asked for.
    tally: Option<Tally>,
    tally_changed: bool,
}

/// A record of concurrent values with all its values, and how it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) record: Siblings,
    pub(super) apart: Option<Apart>,
    pub(super) marks: Marks,
}

impl Draft {
    pub(super) fn new(count: usize) -> Self {
        Self {
            answers: Vec::with_capacity(count),
            touched: Vec::new(),
            needs_sync: false,
            damaged: Vec::new(),
            crowded: 0,
            ready: Vec::new(),
            batch: Batch::new(),
            minted: BTreeMap::new(),
            records: BTreeMap::new(),
            siblings: BTreeMap::new(),
            registers: BTreeMap::new(),
            kept: BTreeMap::new(),
            tally: None,
            tally_changed: false,
        }
    }

    /// The record as the batch left it, if it changed it.
    pub(super) fn record(&self, key: &Bytes) -> Option<&Stored> {
        self.records.get(key)
    }

    /// The acceptor as the batch left it, if it changed it.
    pub(super) fn register(&self, key: &Bytes) -> Option<&register::Stored> {
        self.registers.get(key)
    }

    /// Writes an acceptor over what is stored; a value that lies apart only if it is another one.
    /// `value`: that of what was accepted, unless it is the one that was there before.
    pub(super) fn put_register(
        &mut self,
        key: &Bytes,
        before: &register::Stored,
        after: register::Stored,
        value: Option<&Bytes>,
    ) {
        let entry = register::encode(&after);
        self.batch
            .push(Change::Put(Family::Records, key.clone(), entry));
        let apart = |stored: &register::Stored| {
            let accepted = stored.accepted().map(|accepted| &accepted.value);
            accepted
                .filter(|accepted| accepted.is_apart())
                .map(|StoredRegister { register, .. }| register.head)
        };
        match (apart(before), apart(&after), value) {
            (Some(old), Some(new), _) if old.has_value_of(&new) => {}
            (_, Some(new), Some(value)) => {
                let entry = register::encode_value(&new, value);
                self.batch
                    .push(Change::Put(Family::Values, key.clone(), entry));
            }
            (Some(_), None, _) => self.remove_value(key),
            // An acceptor that changed its value was given one.
            (_, Some(_), None) | (None, None, _) => {}
        }
        self.registers.insert(key.clone(), after);
    }

    /// The kept record as the batch left it, if it changed it.
    pub(super) fn kept(&self, key: &Bytes) -> Option<Option<&Kept>> {
        self.kept.get(key).map(Option::as_ref)
    }

    /// Writes a record over what is stored; the value only if it is another one.
    pub(super) fn put(&mut self, key: &Bytes, record: &Record, current: Option<&Stored>) {
        let (entry, apart) = layout::encode(record);
        self.batch
            .push(Change::Put(Family::Records, key.clone(), entry));
        let before = current.filter(|stored| matches!(stored.value, StoredValue::Apart(_)));
        let value = match apart {
            Some(value) => {
                if before.is_none_or(|stored| stored.head.version != record.head.version) {
                    self.batch
                        .push(Change::Put(Family::Values, key.clone(), value));
                }
                StoredValue::Apart(record.value.len() as u64)
            }
            None => {
                if before.is_some() {
                    self.batch.push(Change::Delete(Family::Values, key.clone()));
                }
                StoredValue::Inline(record.value.clone())
            }
        };
        let head = record.head;
        self.records.insert(key.clone(), Stored { head, value });
    }

    /// Writes another head to the value that is stored.
    pub(super) fn put_head(&mut self, key: &Bytes, stored: Stored) {
        let entry = match &stored.value {
            StoredValue::Inline(value) => layout::encode_whole(&Record {
                head: stored.head,
                value: value.clone(),
            }),
            StoredValue::Apart(length) => layout::encode_apart(&stored.head, *length),
            StoredValue::Gone => layout::encode_gone(&stored.head),
        };
        self.batch
            .push(Change::Put(Family::Records, key.clone(), entry));
        self.records.insert(key.clone(), stored);
    }

    /// Removes whatever is stored under a key.
    pub(super) fn remove(&mut self, key: &Bytes) {
        self.batch
            .push(Change::Delete(Family::Records, key.clone()));
        self.remove_value(key);
        self.records.remove(key);
        self.siblings.insert(key.clone(), Held::default());
    }

    /// Notes that other owners may not have what was minted under a key by this batch.
    pub(super) fn note_minted(&mut self, key: &Bytes, dot: Dot) {
        self.minted.insert(key.clone(), dot.stamp);
    }

    /// Notes which records of an earlier note other owners may still not have.
    pub(super) fn note_left(&mut self, note: &Bytes, left: &BTreeMap<Bytes, Stamp>) {
        self.batch.push(match left.is_empty() {
            true => Change::Delete(Family::Notes, note.clone()),
            false => Change::Put(Family::Notes, note.clone(), spread::encode(left)),
        });
    }

    /// Puts a note, or removes it. `durable`: the batch is not answered before it is.
    pub(super) fn put_note(&mut self, key: &Bytes, value: Option<&Bytes>, durable: bool) {
        self.batch.push(match value {
            Some(value) => Change::Put(Family::Notes, key.clone(), value.clone()),
            None => Change::Delete(Family::Notes, key.clone()),
        });
        self.needs_sync |= durable;
    }

    /// Whether the last so many mutations of the batch were all written.
    pub(super) fn wrote_last(&self, count: usize) -> bool {
        let mut answers = self.answers.iter().rev().take(count);
        self.answers.len() >= count && answers.all(|answer| matches!(answer, Answer::Written(_)))
    }

    /// What was gained is empty by now, or is by this batch: then so is whatever else lies in its
    /// arc of what is `unready`.
    pub(super) fn make_ready(&mut self, holding: &Holding, unready: &[Holding]) {
        if holding.is_whole() {
            let Span { from, until, .. } = holding.span(0, 0);
            for family in [Family::Records, Family::Values] {
                let range = Change::DeleteRange(family, from.clone(), until.clone());
                self.batch.push(range);
            }
        }
        let settled = unready.iter().filter(|other| {
            let wiped = holding.is_whole() && other.lies_in(holding);
            *other == holding || wiped
        });
        for settled in settled {
            self.put_note(&settled.gained_note(), None, true);
            self.ready.push(*settled);
        }
    }

    /// Concurrent values as the batch left them, if it changed them.
    pub(super) fn held(&self, key: &Bytes) -> Option<&Held> {
        self.siblings.get(key)
    }

    /// Writes concurrent values over those that were stored; long ones only if they are others. A
    /// tenure stays without any: the actor that it took the place of must not come back.
    pub(super) fn put_siblings(&mut self, key: &Bytes, mut after: Held, before: &Held) {
        if after.record.is_nothing() && after.marks.tenure.is_none() {
            return self.remove(key);
        }
        if after.record.iter().len() > SIBLINGS_WARNED && after.record != before.record {
            self.crowded += 1;
        }
        let (entry, values) = siblings_layout::encode(&after.record, after.marks);
        let put = |family, value| Change::Put(family, key.clone(), value);
        self.batch.push(put(Family::Records, entry));
        after.apart = values.as_ref().map(|(apart, _)| *apart);
        match values {
            Some((apart, values)) if before.apart != Some(apart) => {
                self.batch.push(put(Family::Values, values));
            }
            None if before.apart.is_some() => self.remove_value(key),
            Some(_) | None => {}
        }
        self.siblings.insert(key.clone(), after);
    }

    /// Removes the value that lies apart.
    pub(super) fn remove_value(&mut self, key: &Bytes) {
        self.batch.push(Change::Delete(Family::Values, key.clone()));
    }

    /// How much is kept for others, as the batch leaves it.
    ///
    /// # Errors
    /// If that cannot be read.
    pub(super) fn tally(&mut self, store: &impl Store) -> Result<&mut Tally, StoreError> {
        if self.tally.is_none() {
            self.tally = Some(Tally::of(store)?);
        }
        Ok(self.tally.get_or_insert_default())
    }

    /// Puts a kept record in place of another, or of none; or removes it.
    ///
    /// # Errors
    /// If the tally cannot be read.
    pub(super) fn put_kept(
        &mut self,
        store: &impl Store,
        key: &Bytes,
        before: Option<&Kept>,
        after: Option<Kept>,
    ) -> Result<(), StoreError> {
        let tally = self.tally(store)?;
        if let Some(before) = before {
            tally.remove(key, before);
        }
        if let Some(after) = &after {
            tally.add(key, after);
        }
        self.tally_changed = true;
        let notes = before.into_iter().flat_map(|kept| kept.notes(key));
        let gone = notes.map(|(note, _)| Change::Delete(Family::Notes, note));
        self.batch.extend(gone);
        match &after {
            None => self.batch.push(Change::Delete(Family::Hints, key.clone())),
            Some(kept) => {
                let notes = kept.notes(key);
                let new = notes.map(|(note, since)| Change::Put(Family::Notes, note, since));
                self.batch.extend(new);
                let entry = kept.encode();
                self.batch
                    .push(Change::Put(Family::Hints, key.clone(), entry));
            }
        }
        self.kept.insert(key.clone(), after);
        Ok(())
    }

    /// What is to be done. `note`: the key of the note about what was minted.
    pub(super) fn finish(mut self, note: Bytes) -> Decided {
        if !self.minted.is_empty() {
            let minted = spread::encode(&self.minted);
            self.batch.push(Change::Put(Family::Notes, note, minted));
        }
        if let (Some(tally), true) = (&self.tally, self.tally_changed) {
            self.batch
                .push(Change::Put(Family::Notes, Tally::key(), tally.encode()));
        }
        Decided {
            answers: self.answers,
            batch: self.batch,
            touched: self.touched,
            needs_sync: self.needs_sync,
            damaged: self.damaged,
            crowded: self.crowded,
            ready: self.ready,
        }
    }
}
