//! An answer waits until what it rests on is durable.
//!
//! Between the write of a batch and its sync, readers can see what a crash would still take away.
//! An answer that showed it would have shown a value that never was. So writes of durability
//! `group` are noted here before they become visible, and an answer that touched one of their keys
//! waits for the same sync as the writer's acknowledgement does.

use annulet_protocol::hash::KeyHash;
use std::collections::BTreeMap;

/// A point in the order of batches; reached once that batch is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct SyncPoint(u64);

impl SyncPoint {
    /// Reached from the start: what rests on nothing.
    pub const NONE: Self = Self(0);
}

/// Which keys were written and not yet synced.
#[derive(Debug, Default)]
pub struct Gate {
    begun: u64,
    synced: u64,
    pending: BTreeMap<KeyHash, u64>,
}

impl Gate {
    /// Notes a batch that is about to become visible. Call it before the write, so that no reader
    /// can see the batch and miss the note. Returns the point that its acknowledgements wait for.
    pub fn begin(&mut self, keys: impl IntoIterator<Item = KeyHash>) -> SyncPoint {
        self.begun += 1;
        for key in keys {
            self.pending.insert(key, self.begun);
        }
        SyncPoint(self.begun)
    }

    /// What an answer about these keys waits for. Call it after the read: what was synced since is
    /// durable, what is still noted may be what was read.
    pub fn rests_on(&self, keys: impl IntoIterator<Item = KeyHash>) -> SyncPoint {
        if self.pending.is_empty() {
            return SyncPoint::NONE;
        }
        let points = keys
            .into_iter()
            .filter_map(|key| self.pending.get(&key).copied());
        SyncPoint(points.max().unwrap_or(0))
    }

    /// Everything begun up to `point` is durable.
    pub fn synced(&mut self, point: SyncPoint) {
        self.synced = self.synced.max(point.0);
        let synced = self.synced;
        self.pending.retain(|_, batch| *batch > synced);
    }

    /// Whether an answer that rests on `point` may be given.
    pub fn is_open(&self, point: SyncPoint) -> bool {
        point.0 <= self.synced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_waits_for_the_last_unsynced_write_of_its_keys() {
        let mut gate = Gate::default();
        assert!(gate.is_open(SyncPoint::NONE));
        let first = gate.begin([KeyHash(1), KeyHash(2)]);
        let second = gate.begin([KeyHash(2)]);
        assert_eq!(gate.rests_on([KeyHash(1)]), first);
        assert_eq!(gate.rests_on([KeyHash(1), KeyHash(2)]), second);
        assert_eq!(gate.rests_on([KeyHash(3)]), SyncPoint::NONE);
        gate.synced(first);
        assert!(gate.is_open(first) && !gate.is_open(second));
        assert_eq!(gate.rests_on([KeyHash(1)]), SyncPoint::NONE);
        assert_eq!(gate.rests_on([KeyHash(2)]), second);
        gate.synced(second);
        assert!(gate.is_open(second));
    }
}
