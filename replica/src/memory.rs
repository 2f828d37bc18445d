//! The in-memory twin of the server's store: the same promises, and crashes on demand.

use crate::store::{Batch, Change, Family, Slice, Span, Store, StoreError};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A store in memory that knows what a crash would lose.
#[derive(Debug, Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: BTreeMap<(Family, Bytes), Bytes>,
    /// Batches written so far.
    written: u64,
    /// What each batch since the last sync replaced, oldest first.
    undo: VecDeque<Vec<Replaced>>,
}

/// A place, and what was there before.
type Replaced = ((Family, Bytes), Option<Bytes>);

/// A point in the order of batches, between two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

impl MemoryStore {
    /// Loses what was not synced, as a crash does.
    pub fn crash(&self) {
        self.crash_keeping(0);
    }

    /// Loses what was not synced but for the first `keep` batches, which reached the disk by
    /// chance: a log ends somewhere, and nothing after its end is read.
    pub fn crash_keeping(&self, keep: usize) {
        let mut inner = self.lock();
        while inner.undo.len() > keep {
            for (place, before) in inner.undo.pop_back().into_iter().flatten().rev() {
                match before {
                    Some(value) => inner.entries.insert(place, value),
                    None => inner.entries.remove(&place),
                };
            }
        }
        inner.undo.clear();
    }

    /// Batches that a crash would lose.
    pub fn unsynced(&self) -> usize {
        self.lock().undo.len()
    }

    /// The end of what was written so far: a sync that begins now makes this much durable.
    pub fn mark(&self) -> Mark {
        Mark(self.lock().written)
    }

    /// Ends a sync that began at this mark. What was written since is still not durable.
    pub fn sync_to(&self, mark: Mark) {
        let mut inner = self.lock();
        let newer = usize::try_from(inner.written.saturating_sub(mark.0)).unwrap_or(usize::MAX);
        let older = inner.undo.len().saturating_sub(newer);
        inner.undo.drain(..older);
    }

    /// Everything of a family, in order of key.
    pub fn entries(&self, family: Family) -> Vec<(Bytes, Bytes)> {
        let inner = self.lock();
        let range = inner.entries.iter().filter(|((f, _), _)| *f == family);
        range
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect()
    }

    /// Changes a stored value in place, as a failing disk does.
    pub fn damage(&self, family: Family, key: &Bytes, damage: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = self.lock();
        if let Some(value) = inner.entries.get_mut(&(family, key.clone())) {
            let mut bytes = value.to_vec();
            damage(&mut bytes);
            *value = bytes.into();
        }
    }

    /// A panic elsewhere does not tear the map, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn read(&self, family: Family, keys: &[Bytes]) -> Vec<Result<Option<Bytes>, StoreError>> {
        let inner = self.lock();
        keys.iter()
            .map(|key| Ok(inner.entries.get(&(family, key.clone())).cloned()))
            .collect()
    }

    fn range(&self, family: Family, span: &Span) -> Result<Slice, StoreError> {
        let inner = self.lock();
        let mut slice = Slice::default();
        let mut bytes = 0;
        let from = (family, span.from.clone());
        for ((of, key), value) in inner.entries.range(from..) {
            if *of != family || span.until.as_ref().is_some_and(|until| key >= until) {
                break;
            }
            if slice.entries.len() >= span.entries_max || bytes >= span.bytes_max {
                slice.cut = true;
                break;
            }
            bytes += key.len() + value.len();
            slice.entries.push((key.clone(), value.clone()));
        }
        Ok(slice)
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        let mut inner = self.lock();
        let mut replaced = Vec::with_capacity(batch.len());
        for change in batch {
            match change {
                Change::Put(family, key, value) => {
                    let place = (family, key);
                    let before = inner.entries.insert(place.clone(), value);
                    replaced.push((place, before));
                }
                Change::Delete(family, key) => {
                    let place = (family, key);
                    let before = inner.entries.remove(&place);
                    replaced.push((place, before));
                }
                Change::DeleteRange(family, from, until) => {
                    let all = inner.entries.range((family, from)..);
                    let within = |key: &Bytes| until.as_ref().is_none_or(|until| key < until);
                    let all = all.take_while(|((of, key), _)| *of == family && within(key));
                    let places: Vec<_> = all.map(|(place, _)| place.clone()).collect();
                    for place in places {
                        let before = inner.entries.remove(&place);
                        replaced.push((place, before));
                    }
                }
            }
        }
        inner.undo.push_back(replaced);
        inner.written += 1;
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.lock().undo.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_loses_what_was_not_synced_and_nothing_else() {
        let store = MemoryStore::default();
        let put = |k: &'static str, v: &'static str| {
            store
                .write(vec![Change::Put(Family::Records, k.into(), v.into())])
                .unwrap();
        };
        put("a", "1");
        store.sync().unwrap();
        put("a", "2");
        put("b", "1");
        store
            .write(vec![Change::Delete(Family::Records, "a".into())])
            .unwrap();
        store.crash();
        assert_eq!(
            store.entries(Family::Records),
            vec![("a".into(), "1".into())]
        );
    }

    #[test]
    fn a_range_is_removed_and_comes_back_with_a_crash() {
        let store = MemoryStore::default();
        let put = |f, k: &'static str| Change::Put(f, k.into(), "1".into());
        let records = [put(Family::Records, "a"), put(Family::Records, "b")];
        let others = [put(Family::Records, "c"), put(Family::Values, "b")];
        store
            .write(records.into_iter().chain(others).collect())
            .unwrap();
        store.sync().unwrap();
        let keys = |family| store.entries(family).into_iter().map(|(key, _)| key);
        let range = |until| Change::DeleteRange(Family::Records, "b".into(), until);
        store.write(vec![range(Some("c".into()))]).unwrap();
        assert!(keys(Family::Records).eq(["a", "c"]));
        store.write(vec![range(None)]).unwrap();
        assert!(keys(Family::Records).eq(["a"]));
        assert!(keys(Family::Values).eq(["b"]), "another family");
        store.crash();
        assert!(keys(Family::Records).eq(["a", "b", "c"]));
    }

    #[test]
    fn a_sync_covers_what_was_written_before_it_began() {
        let store = MemoryStore::default();
        let put = |k: &'static str| {
            store
                .write(vec![Change::Put(Family::Records, k.into(), "1".into())])
                .unwrap();
        };
        let keys = || {
            let entries = store.entries(Family::Records);
            entries.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        put("a");
        let mark = store.mark();
        put("b");
        put("c");
        store.sync_to(mark);
        assert_eq!(store.unsynced(), 2);
        store.crash_keeping(1);
        assert_eq!(keys(), ["a", "b"], "the log ended after `b`");
        assert_eq!(store.unsynced(), 0);
        put("d");
        store.sync_to(mark);
        assert_eq!(store.unsynced(), 1, "an old sync ends late");
    }
}
