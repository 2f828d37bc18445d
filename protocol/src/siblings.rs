//! What is stored under a key of a bucket that keeps concurrent writes: all values that no later
//! write has seen, and what is needed to tell.
//!
//! A record is a dotted version vector set after Preguiça, Baquero and others ("Dotted Version
//! Vectors", 2010), with two additions. `past` holds the operations whose values were overwritten:
//! a write that was sent again through another owner got two dots, and an overwriter may have seen
//! one of them alone. And `base` stands for every entry of the vector at or below it, so that old
//! entries can be dropped by proof.
//!
//! | word | meaning |
//! |---|---|
//! | dot | one minting of a value: by whom, and a stamp that rises for each minter |
//! | known | a dot at or below `base`, or at or below its minter's entry in the vector |
//! | sibling | one operation's value, with the dots that it was minted under, mostly one |
//! | context | a record without values, which a reader hands back when it writes |
//!
//! Records are merged in any order, any number of times, and always whole: a dot without the vector
//! that it came with would claim knowledge that its holder does not have. Only servers mint dots.
//! [`wire`] has the bytes, [`message`] the requests, [`merges`] what a bucket makes of concurrent
//! values by itself.

#[cfg(feature = "faults")]
mod faults;
pub mod merges;
pub mod message;
pub mod wire;

use crate::clock::Stamp;
use crate::ids::{Incarnation, NodeId, OpId};
use crate::limits::SIBLINGS_MAX;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use wire::ACTORS_MAX;
use xxhash_rust::xxh3::xxh3_64;

/// Who mints: one start of one store, during one ownership of an arc. A store that lost what it
/// minted, or that lost the arc and gained it again, is another actor, so that nobody ever mints
/// over a record that has lost something of the same actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actor {
    /// The store.
    pub node: NodeId,
    /// Drawn at random at every start, and durable before the first answer.
    pub incarnation: Incarnation,
    /// The epoch at which the store gained the arc; of a server that keeps a record for others, the
    /// stamp at which it began to.
    pub tenure: u64,
}

/// One minting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// By whom.
    pub actor: Actor,
    /// When, by the actor's hybrid clock; above the record's base and all of the actor's earlier
    /// ones.
    pub stamp: Stamp,
}

/// A dot of a value, and how it came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Minting {
    /// The dot.
    pub dot: Dot,
    /// The operation had been, or may have been, sent to another owner before: there may be other
    /// dots of it.
    pub again: bool,
}

/// What a writer makes of a value; the same through whichever owner it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// The operation.
    pub op: OpId,
    /// The value.
    #[serde(default)]
    pub value: Bytes,
    /// The time from which it is no longer readable, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
    /// The client's, over bucket, key, operation, expiry and value.
    pub checksum: u64,
}

/// One operation's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// What was written.
    pub write: Write,
    /// What it was minted under, in order.
    pub minted: Vec<Minting>,
}

/// An operation whose value was overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    /// A dot of it that was seen was minted again: there may be others that were not seen.
    pub again: bool,
}

/// What is stored under a key. The default is what a key without anything has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Siblings {
    base: Stamp,
    /// The highest stamp known of each actor; those at or below `base` are left out.
    vector: BTreeMap<Actor, Stamp>,
    siblings: BTreeMap<OpId, Sibling>,
    past: BTreeMap<OpId, Past>,
}

/// What became of a put at its minter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The value is a sibling under a new dot.
    Minted(Dot),
    /// The operation was there already, and may be overwritten by now: nothing was minted.
    Known,
}

/// Why a put was refused. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// There would be too many siblings.
    #[error(
        "the key has {SIBLINGS_MAX} concurrent values: read it and write it with the context that \
         came with them"
    )]
    TooMany,
    /// The values would be too long together.
    #[error(
        "the key's concurrent values would be too long together: read it and write it with the \
         context that came with them"
    )]
    TooLong,
    /// There would be too many actors.
    #[error(
        "the key was written by {ACTORS_MAX} starts of servers, and not all owners are proved to \
         know of them"
    )]
    TooManyActors,
    /// The operation was first sent so long ago that it may have been overwritten and forgotten.
    #[error("the operation was first sent too long ago to be done now")]
    TooOld,
}

/// Nothing is minted later than this after its operation was first sent, in milliseconds.
pub const MINT_AGE_MS_MAX: u64 = 600_000;
/// How long an overwritten operation is remembered, in milliseconds: longer than it may be minted.
pub const PAST_AGE_MS: u64 = 900_000;
/// Most overwritten operations that are remembered.
pub const PAST_MAX: usize = 32;

impl Write {
    /// A value with its checksum.
    pub fn seal(
        bucket: u32,
        key: &[u8],
        op: OpId,
        value: Bytes,
        expires_at_ms: Option<u64>,
    ) -> Self {
        let mut write = Self {
            op,
            value,
            expires_at_ms,
            checksum: 0,
        };
        write.checksum = write.sum(bucket, key);
        write
    }

    /// Whether its time is over.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_some_and(|at_ms| at_ms <= now_ms)
    }

    /// Whether the checksum fits the content.
    pub fn is_sound(&self, bucket: u32, key: &[u8]) -> bool {
        self.checksum == self.sum(bucket, key)
    }

    /// xxh3 over a fixed-size head, the value's own xxh3, and the key.
    fn sum(&self, bucket: u32, key: &[u8]) -> u64 {
        let mut bytes = smallvec::SmallVec::<[u8; 256]>::new();
        bytes.extend_from_slice(&bucket.to_be_bytes());
        bytes.extend_from_slice(&self.op.client.0);
        bytes.extend_from_slice(&self.op.sequence.to_be_bytes());
        bytes.extend_from_slice(&self.op.first_sent_ms.to_be_bytes());
        bytes.push(u8::from(self.expires_at_ms.is_some()));
        bytes.extend_from_slice(&self.expires_at_ms.unwrap_or(0).to_be_bytes());
        bytes.extend_from_slice(&(self.value.len() as u64).to_be_bytes());
        bytes.extend_from_slice(&xxh3_64(&self.value).to_be_bytes());
        bytes.extend_from_slice(key);
        xxh3_64(&bytes)
    }
}

impl Siblings {
    /// The concurrent values, in order of their operations.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Sibling> {
        self.siblings.values()
    }

    /// Operations that were overwritten and are still remembered.
    pub fn past(&self) -> impl ExactSizeIterator<Item = (&OpId, Past)> {
        self.past.iter().map(|(op, past)| (op, *past))
    }

    /// Whether it says nothing: such a record need not be kept.
    pub fn is_nothing(&self) -> bool {
        self.siblings.is_empty() && self.vector.is_empty() && self.past.is_empty()
    }

    /// Every dot at or below this stamp is known.
    pub fn base(&self) -> Stamp {
        self.base
    }

    /// The highest stamp in it.
    pub fn newest(&self) -> Stamp {
        let highest = self.vector.values().max().copied();
        highest.unwrap_or_default().max(self.base)
    }

    /// Whether it knows this dot, be it a sibling's or overwritten.
    pub fn knows(&self, dot: &Dot) -> bool {
        let entry = self.vector.get(&dot.actor).copied().unwrap_or_default();
        dot.stamp <= self.base.max(entry)
    }

    /// Bytes of all values together.
    pub fn value_bytes(&self) -> usize {
        self.iter().map(|sibling| sibling.write.value.len()).sum()
    }

    /// The sibling of this operation.
    pub fn sibling(&self, op: &OpId) -> Option<&Sibling> {
        self.siblings.get(op)
    }

    /// It with every value left out: enough to compare and to merge, not to read or to keep.
    #[must_use]
    pub fn bare(&self) -> Self {
        let mut bare = self.clone();
        for sibling in bare.siblings.values_mut() {
            sibling.write.value = Bytes::new();
        }
        bare
    }

    /// It with the value of one operation left out, which the other side has.
    #[must_use]
    pub fn without_value(self, op: &OpId) -> Self {
        self.with_value(op, Bytes::new())
    }

    /// It with this as the value of one operation, if that is a sibling.
    #[must_use]
    pub fn with_value(mut self, op: &OpId, value: Bytes) -> Self {
        if let Some(sibling) = self.siblings.get_mut(op) {
            sibling.write.value = value;
        }
        self
    }

    /// It without the siblings that no reader can see any more: those that had expired by then.
    /// Each owner comes to the same, since a value's end never changes.
    #[must_use]
    pub fn without_expired(&self, now_ms: u64) -> Self {
        let mut rest = self.clone();
        rest.siblings
            .retain(|_, sibling| !sibling.write.is_expired(now_ms));
        rest
    }

    /// Whether both say the same of every write. What is remembered of overwritten operations is
    /// not compared: it is forgotten at different times.
    pub fn agrees(&self, other: &Self) -> bool {
        let dots = |record: &Self| -> Vec<_> {
            let dot = |sibling: &Sibling| (sibling.write.op, sibling.minted.clone());
            record.iter().map(dot).collect()
        };
        self.base == other.base && self.vector == other.vector && dots(self) == dots(other)
    }

    /// A number that is the same for records that agree, and for hardly any others.
    pub fn fingerprint(&self) -> u64 {
        xxh3_64(&self.encode_standing())
    }

    /// Whether it was done here: its value stands, or was overwritten.
    pub fn has_done(&self, op: &OpId) -> bool {
        self.siblings.contains_key(op) || self.past.contains_key(op)
    }

    /// It without values, for a reader to hand back: to write under it is to have seen all of it.
    #[must_use]
    pub fn context(&self) -> Self {
        let seen = |sibling: &Sibling| {
            let again = sibling.minted.iter().any(|minting| minting.again);
            (sibling.write.op, Past { again })
        };
        let mut past = self.past.clone();
        past.extend(self.siblings.values().map(seen));
        Self {
            base: self.base,
            vector: self.vector.clone(),
            siblings: BTreeMap::new(),
            past,
        }
    }

    /// Both together. Commutative, associative and idempotent: whoever has merged the same records
    /// has the same record.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        let mut merged = self.clone();
        merged.absorb(other);
        merged
    }

    /// Merges another record into this one.
    pub fn absorb(&mut self, other: &Self) {
        for (op, theirs) in &other.past {
            self.past.entry(*op).or_insert(*theirs).again |= theirs.again;
        }
        let mut siblings = BTreeMap::new();
        for sibling in self.siblings.values().chain(other.siblings.values()) {
            let op = sibling.write.op;
            if !self.past.contains_key(&op) && !siblings.contains_key(&op) {
                siblings.extend(self.meet(other, sibling).map(|met| (op, met)));
            }
        }
        self.siblings = siblings;
        // Only now: what stays depends on what each side knew.
        for (actor, stamp) in &other.vector {
            let entry = self.vector.entry(*actor).or_default();
            *entry = (*entry).max(*stamp);
        }
        self.raise(other.base);
    }

    /// What is left of one side's sibling when both sides come together: a dot stays if each side
    /// has it or does not know it.
    fn meet(&self, other: &Self, sibling: &Sibling) -> Option<Sibling> {
        let op = &sibling.write.op;
        let sides = [self, other].map(|side| (side, side.siblings.get(op)));
        let listed = sides.iter().filter_map(|(_, one)| *one);
        let mut minted: Vec<_> = listed.flat_map(|one| &one.minted).copied().collect();
        minted.sort_unstable();
        minted.dedup();
        let stays = |minting: &Minting, side: &Self, one: Option<&Sibling>| {
            one.is_some_and(|one| one.minted.contains(minting)) || !side.knows(&minting.dot)
        };
        minted.retain(|minting| sides.iter().all(|(side, one)| stays(minting, side, *one)));
        (!minted.is_empty()).then(|| Sibling {
            write: sibling.write.clone(),
            minted,
        })
    }

    /// Writes a value that has seen `context`, as this actor. `stamp`: of the actor's clock;
    /// `again`: it was, or may have been, sent to another owner before; `bytes_max`: longest that
    /// all values may be together.
    ///
    /// # Errors
    /// If it is refused; then nothing changes.
    pub fn put(
        &mut self,
        context: &Self,
        (write, again): (Write, bool),
        (actor, stamp): (Actor, Stamp),
        bytes_max: usize,
    ) -> Result<Put, PutError> {
        if stamp.millis() > write.op.first_sent_ms.saturating_add(MINT_AGE_MS_MAX) {
            return Err(PutError::TooOld);
        }
        let mut merged = self.merge(context);
        if merged.has_done(&write.op) {
            *self = merged;
            return Ok(Put::Known);
        }
        if merged.siblings.len() >= SIBLINGS_MAX {
            return Err(PutError::TooMany);
        }
        if !merged.siblings.is_empty() && merged.value_bytes() + write.value.len() > bytes_max {
            return Err(PutError::TooLong);
        }
        if merged.vector.len() >= ACTORS_MAX && !merged.vector.contains_key(&actor) {
            return Err(PutError::TooManyActors);
        }
        let entry = merged.vector.get(&actor).copied().unwrap_or_default();
        let stamp = stamp.max(entry.next()).max(merged.base.next());
        let dot = Dot { actor, stamp };
        merged.vector.insert(actor, stamp);
        let sibling = Sibling {
            write,
            minted: vec![Minting { dot, again }],
        };
        merged.siblings.insert(sibling.write.op, sibling);
        *self = merged;
        Ok(Put::Minted(dot))
    }

    /// Lifts the base, once it is proved that every owner has all that is at or below it.
    pub fn raise(&mut self, base: Stamp) {
        self.base = self.base.max(base);
        self.vector.retain(|_, stamp| *stamp > self.base);
    }

    /// Forgets overwritten operations that can hardly come again: those first sent long before
    /// `now_ms`; of those that were sent to several owners, those whose dots the base covers; and
    /// the oldest over the bound. Nothing is lost by it: a value that was minted twice, overwritten
    /// and forgotten could at worst be a sibling once more.
    pub fn forget_past(&mut self, now_ms: u64) {
        let base_ms = self.base.millis();
        self.past.retain(|op, past| {
            let until_ms = op.first_sent_ms.saturating_add(PAST_AGE_MS);
            let reached_ms = if past.again { base_ms } else { now_ms };
            reached_ms < until_ms
        });
        let over = self.past.len().saturating_sub(PAST_MAX);
        if over > 0 {
            let mut order: Vec<_> = self.past.iter().map(|(op, past)| (*op, *past)).collect();
            order.sort_unstable_by_key(|(op, past)| (past.again, op.first_sent_ms, *op));
            for (op, _) in &order[..over] {
                self.past.remove(op);
            }
        }
    }
}

#[cfg(test)]
mod tests;
