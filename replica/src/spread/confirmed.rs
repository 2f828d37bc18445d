//! What clients say of records that were minted here: that every owner has them.

use annulet_protocol::clock::Stamp;
use annulet_protocol::hash::storage_key;
use annulet_protocol::ids::Incarnation;
use annulet_protocol::siblings::message::Spread;
use annulet_protocol::view::View;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};

/// Most keys that are remembered, half of them from before the last turn.
const KEYS_MAX: usize = 200_000;

/// Up to which stamp every owner has what was minted here, by storage key. It is in memory only and
/// bounded: what is forgotten is compared.
#[derive(Clone, Debug, Default)]
pub struct Confirmed {
    stamps: HashMap<Bytes, Stamp>,
    /// Those from before the last turn.
    before: HashMap<Bytes, Stamp>,
}

impl Confirmed {
    /// Notes what a client says, of what this start of the server minted. `epoch`: the client's; of
    /// another one than the server's, the owners may be others.
    pub fn note(&mut self, view: &View, own: Incarnation, epoch: u64, spread: &Spread) {
        if epoch != view.epoch || spread.incarnation != own {
            return;
        }
        let hash = view.hash(spread.bucket, &spread.key);
        self.hold(storage_key(hash, spread.bucket, &spread.key), spread.stamp);
    }

    fn hold(&mut self, key: Bytes, stamp: Stamp) {
        if self.stamps.len() >= KEYS_MAX / 2 {
            self.before = std::mem::take(&mut self.stamps);
        }
        let held = self.stamps.entry(key).or_default();
        *held = (*held).max(stamp);
    }

    /// Removes the keys of a note of which every owner has what it is about. Says whether there are
    /// any.
    pub fn take_from(&mut self, note: &mut BTreeMap<Bytes, Stamp>) -> bool {
        let before = note.len();
        note.retain(|key, minted| {
            let stamps = [&mut self.stamps, &mut self.before].map(|stamps| {
                let stamp = stamps.get(key).copied();
                // A later note is about what was minted later.
                if stamp.is_some_and(|stamp| stamp <= *minted) {
                    stamps.remove(key);
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
            confirmed.hold(key(name), Stamp(stamp));
        }
        let mut first = note(&[("a", 5), ("b", 4), ("c", 5)]);
        assert!(confirmed.take_from(&mut first));
        assert_eq!(first, note(&[("c", 5)]));
        let mut later = note(&[("a", 6), ("b", 8)]);
        assert!(confirmed.take_from(&mut later));
        assert_eq!(later, note(&[("a", 6)]), "it was minted later");
        assert!(!confirmed.take_from(&mut later));
        assert!(confirmed.stamps.is_empty(), "nothing is left behind");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut confirmed = Confirmed::default();
        for number in 0..2 * KEYS_MAX {
            confirmed.hold(key(&number.to_string()), Stamp(5));
            assert!(confirmed.stamps.len() + confirmed.before.len() <= KEYS_MAX);
        }
        for number in [2 * KEYS_MAX - 1, 2 * KEYS_MAX - KEYS_MAX / 2] {
            assert!(confirmed.take_from(&mut note(&[(&number.to_string(), 5)])));
        }
        assert!(!confirmed.take_from(&mut note(&[("1", 5)])), "long ago");
    }
}
