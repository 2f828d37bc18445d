//! What clients say of records that were minted here: that every owner has them.

use annulet_protocol::bucket::Mode;
use annulet_protocol::clock::Stamp;
use annulet_protocol::hash::storage_key;
use annulet_protocol::ids::Incarnation;
use annulet_protocol::limits::KEY_BYTES_MAX;
use annulet_protocol::siblings::message::Spread;
use annulet_protocol::view::View;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use xxhash_rust::xxh3::xxh3_64;

/// Most keys that are remembered, half of them from before the last turn.
const KEYS_MAX: usize = 200_000;

/// Up to which stamp every owner has what was minted here, by a hash of the storage key. It is in
/// memory only and bounded: what is forgotten is compared.
#[derive(Clone, Debug, Default)]
pub struct Confirmed {
    stamps: HashMap<u64, Stamp>,
    /// Those from before the last turn.
    before: HashMap<u64, Stamp>,
}

impl Confirmed {
    /// Notes what a client says, of what this start of the server minted. `epoch`: the client's; of
    /// another one than the server's, the owners may be others.
    pub fn note(&mut self, view: &View, own: Incarnation, epoch: u64, spread: &Spread) {
        let bucket = view.bucket(spread.bucket);
        let minted = bucket.is_some_and(|bucket| bucket.mode == Mode::Siblings);
        let minted = minted && spread.key.len() <= KEY_BYTES_MAX;
        if epoch != view.ordinal() || spread.incarnation != own || !minted {
            return;
        }
        let hash = view.hash(spread.bucket, &spread.key);
        self.hold(&storage_key(hash, spread.bucket, &spread.key), spread.stamp);
    }

    /// How many keys are remembered.
    pub fn count(&self) -> usize {
        self.stamps.len() + self.before.len()
    }

    fn hold(&mut self, key: &[u8], stamp: Stamp) {
        if self.stamps.len() >= KEYS_MAX / 2 {
            self.before = std::mem::take(&mut self.stamps);
        }
        let held = self.stamps.entry(xxh3_64(key)).or_default();
        *held = (*held).max(stamp);
    }

    /// Whether every owner is known to have what was minted at this key up to this stamp. It
    /// forgets nothing.
    pub fn covers(&self, key: &[u8], minted: Stamp) -> bool {
        let key = xxh3_64(key);
        let stamps = [&self.stamps, &self.before].map(|stamps| stamps.get(&key).copied());
        stamps.into_iter().flatten().any(|stamp| stamp >= minted)
    }

    /// Removes the keys of a note of which every owner has what it is about. Says whether there are
    /// any.
    pub fn take_from(&mut self, note: &mut BTreeMap<Bytes, Stamp>) -> bool {
        let before = note.len();
        note.retain(|key, minted| {
            let key = xxh3_64(key);
            let stamps = [&mut self.stamps, &mut self.before].map(|stamps| {
                let stamp = stamps.get(&key).copied();
                // A later note is about what was minted later.
                if stamp.is_some_and(|stamp| stamp <= *minted) {
                    stamps.remove(&key);
                }
                stamp
            });
            stamps.iter().flatten().all(|stamp| stamp < minted)
        });
        note.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Bytes {
        Bytes::copy_from_slice(name.as_bytes())
    }

    fn note(keys: &[(&str, u64)]) -> BTreeMap<Bytes, Stamp> {
        let keys = keys.iter().map(|(name, stamp)| (key(name), Stamp(*stamp)));
        keys.collect()
    }

    #[test]
    fn what_every_owner_has_goes_from_the_notes_that_it_is_about() {
        let mut confirmed = Confirmed::default();
        for (name, stamp) in [("a", 5), ("a", 3), ("b", 8)] {
            confirmed.hold(&key(name), Stamp(stamp));
        }
        let mut first = note(&[("a", 5), ("b", 4), ("c", 5)]);
        let covers = |name: &str, stamp| confirmed.covers(&key(name), Stamp(stamp));
        assert!(covers("a", 5) && !covers("a", 6) && covers("b", 4) && !covers("c", 1));
        assert!(confirmed.take_from(&mut first));
        assert_eq!(first, note(&[("c", 5)]));
        let mut later = note(&[("a", 6), ("b", 8)]);
        assert!(confirmed.take_from(&mut later));
        assert_eq!(later, note(&[("a", 6)]), "it was minted later");
        assert!(!confirmed.take_from(&mut later));
        assert_eq!(confirmed.count(), 0, "nothing is left behind");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut confirmed = Confirmed::default();
        for number in 0..2 * KEYS_MAX {
            confirmed.hold(&key(&number.to_string()), Stamp(5));
            assert!(confirmed.count() <= KEYS_MAX);
        }
        for number in [2 * KEYS_MAX - 1, 2 * KEYS_MAX - KEYS_MAX / 2] {
            assert!(confirmed.take_from(&mut note(&[(&number.to_string(), 5)])));
        }
        assert!(!confirmed.take_from(&mut note(&[("1", 5)])), "long ago");
    }
}
