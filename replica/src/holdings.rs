//! What a server comes to own, and owns no more, as views follow each other.
//!
//! What it gains it begins with empty: it may hold of an earlier time what was deleted and
//! forgotten since. What it loses it keeps until those who own it now have shown that they miss
//! nothing of it. Either is noted in the batch that makes the new view durable, so it is never
//! forgotten: the note is a key of two bytes of tag, the first (8) and the last position (8) of the
//! arc, and the least and the most replicas of the buckets that it is about; its value is empty.

use crate::store::{Batch, Change, Family, Span, Store, StoreError};
use annulet_protocol::bucket::Bucket;
use annulet_protocol::hash::KeyHash;
use annulet_protocol::ids::NodeId;
use annulet_protocol::table::Table;
use annulet_protocol::view::View;
use bytes::{BufMut, Bytes, BytesMut};

/// Tags of notes about what was gained and is to be emptied, and what was lost.
const GAINED: [u8; 2] = *b"Ag";
const LOST: [u8; 2] = *b"Al";
/// Of a server that is no owner in any bucket.
const NEVER: u16 = u8::MAX as u16 + 1;

/// An arc of the ring, and the buckets of it that a server owns: a place further back in a list
/// counts only in buckets of more replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holding {
    /// First position.
    pub from: KeyHash,
    /// Last position.
    pub until: KeyHash,
    /// Least replicas of the buckets.
    pub least: u8,
    /// Most replicas of the buckets.
    pub most: u8,
}

impl Holding {
    /// Whether a key of a bucket is in it.
    pub fn covers(&self, bucket: &Bucket, hash: KeyHash) -> bool {
        (self.from..=self.until).contains(&hash)
            && (self.least..=self.most).contains(&bucket.replicas)
    }

    /// Whether a part of it lies in this arc.
    pub fn meets(&self, from: KeyHash, until: KeyHash) -> bool {
        self.from <= until && from <= self.until
    }

    /// The epoch that set the lists of the partition that its arc begins in.
    pub fn lists_epoch(&self, view: &View) -> u64 {
        let partition = self.from.partition(view.table.partitions);
        view.table.lists_epoch(partition)
    }

    /// Whether nothing in the arc is owned besides.
    pub fn is_whole(&self) -> bool {
        self.most == u8::MAX
    }

    /// Whether all of its arc lies in that of another.
    pub fn lies_in(&self, other: &Self) -> bool {
        other.from <= self.from && self.until <= other.until
    }

    /// Whether another one has to be emptied before. What was gained as a whole goes at once, and
    /// with it whatever else lies in its arc: had a part of that been emptied before, it might
    /// have taken something by then. Nothing in it was owned before, so it is all of an earlier
    /// time, whichever was gained first.
    pub fn waits_for(&self, other: &Self) -> bool {
        let together = self.is_whole() && other.lies_in(self);
        other.is_whole() && self.lies_in(other) && !together
    }

    /// All storage keys in its arc.
    pub fn span(&self, entries_max: usize, bytes_max: usize) -> Span {
        Span::arc(self.from, self.until, entries_max, bytes_max)
    }

    fn note(&self, tag: [u8; 2]) -> Bytes {
        let mut key = BytesMut::with_capacity(20);
        key.put_slice(&tag);
        key.put_u64(self.from.0);
        key.put_u64(self.until.0);
        key.put_slice(&[self.least, self.most]);
        key.freeze()
    }

    /// The note that it is to be emptied.
    pub fn gained_note(&self) -> Bytes {
        self.note(GAINED)
    }

    /// The note that it was lost.
    pub fn lost_note(&self) -> Bytes {
        self.note(LOST)
    }

    fn read(key: &[u8]) -> Option<Self> {
        let key = key.get(2..)?;
        let (from, key) = key.split_first_chunk::<8>()?;
        let (until, key) = key.split_first_chunk::<8>()?;
        let [least, most] = *key else { return None };
        Some(Self {
            from: KeyHash(u64::from_be_bytes(*from)),
            until: KeyHash(u64::from_be_bytes(*until)),
            least,
            most,
        })
    }
}

/// What is noted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// What was gained and is still to be emptied: nothing is answered about it before.
    pub unready: Vec<Holding>,
    /// What was lost and is still there.
    pub lost: Vec<Holding>,
}

impl Holdings {
    /// Reads what is noted.
    ///
    /// # Errors
    /// What the store says.
    pub fn load(store: &impl Store) -> Result<Self, StoreError> {
        let read = |tag: [u8; 2]| -> Result<Vec<Holding>, StoreError> {
            let span = Span::prefix(&tag, usize::MAX, usize::MAX);
            let notes = store.range(Family::Notes, &span)?.entries;
            let damaged = || StoreError::Damaged("a note about an arc is none".into());
            let holdings = notes.iter().map(|(key, _)| Holding::read(key));
            holdings
                .map(|holding| holding.ok_or_else(damaged))
                .collect()
        };
        Ok(Self {
            unready: read(GAINED)?,
            lost: read(LOST)?,
        })
    }

    /// What changes for a server from one view to the next, which is the very next.
    pub fn between(before: &View, after: &View, node: NodeId) -> Self {
        let mut changed = Self::default();
        let own = |view: &View| {
            let found = view.members.binary_search_by_key(&node, |member| member.id);
            found.ok()
        };
        let (was, is) = (own(before), own(after));
        let doublings = after.table.partitions.max(1) / before.table.partitions.max(1);
        let mut compare = |partition: u32| {
            let then = first(&before.table, was, partition / doublings.max(1));
            let now = first(&after.table, is, partition);
            let (from, until) = KeyHash::arc(partition, after.table.partitions);
            // They are at most `u8::MAX`: `NEVER` is one above.
            let holding = |least: u16, beyond: u16| Holding {
                from,
                until,
                least: least as u8,
                most: (beyond - 1) as u8,
            };
            match now.cmp(&then) {
                std::cmp::Ordering::Less => changed.unready.push(holding(now, then)),
                std::cmp::Ordering::Greater => changed.lost.push(holding(then, now)),
                std::cmp::Ordering::Equal => {}
            }
        };
        let table = &after.table;
        if table.epoch == after.epoch {
            (0..table.partitions).for_each(compare);
        } else {
            let changed = table.changed.iter().filter(|c| c.epoch == after.epoch);
            changed.for_each(|changed| compare(changed.partition));
        }
        changed
    }

    /// What notes them.
    pub fn notes(&self) -> Batch {
        let unready = self.unready.iter().map(Holding::gained_note);
        let lost = self.lost.iter().map(Holding::lost_note);
        let put = |key| Change::Put(Family::Notes, key, Bytes::new());
        unready.chain(lost).map(put).collect()
    }

    /// Adds others, each once.
    pub fn join(&mut self, others: Self) {
        let add = |all: &mut Vec<Holding>, more: Vec<Holding>| {
            for holding in more {
                if !all.contains(&holding) {
                    all.push(holding);
                }
            }
        };
        add(&mut self.unready, others.unready);
        add(&mut self.lost, others.lost);
    }
}

/// The least replicas of the buckets in which a server owns a partition, be it now or when its next
/// list is closed.
fn first(table: &Table, own: Option<usize>, partition: u32) -> u16 {
    let Some(own) = own else { return NEVER };
    let current = table.regions.iter();
    let current = current.filter_map(|region| region.list(partition).position(|o| o == own));
    let next = table.joint(partition);
    let next = next.and_then(|joint| joint.next.iter().position(|o| *o as usize == own));
    // Lists have at most `REPLICAS_MAX` owners.
    current.chain(next).min().map_or(NEVER, |at| at as u16 + 1)
}

#[cfg(test)]
mod tests;
