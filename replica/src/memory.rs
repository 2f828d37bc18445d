//! The in-memory twin of the server's store: the same promises, and crashes on demand.

use crate::store::{Batch, Change, Family, Store, StoreError};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A store in memory that knows what a crash would lose.
#[derive(Debug, Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: BTreeMap<(Family, Bytes), Bytes>,
    /// What each change since the last sync replaced, oldest first.
    undo: Vec<((Family, Bytes), Option<Bytes>)>,
}

impl MemoryStore {
    /// Loses what was not synced, as a crash does.
    pub fn crash(&self) {
        let mut inner = self.lock();
        while let Some((key, before)) = inner.undo.pop() {
            match before {
                Some(value) => inner.entries.insert(key, value),
                None => inner.entries.remove(&key),
            };
        }
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

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        let mut inner = self.lock();
        for change in batch {
            let (place, value) = match change {
                Change::Put(family, key, value) => ((family, key), Some(value)),
                Change::Delete(family, key) => ((family, key), None),
            };
            let before = match value {
                Some(value) => inner.entries.insert(place.clone(), value),
                None => inner.entries.remove(&place),
            };
            inner.undo.push((place, before));
        }
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
}
