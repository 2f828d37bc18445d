//! What a session has seen and written, key by key, so that it is never shown anything older: its
//! own writes are there, and nothing that it has read goes back, at any level and after failover.
//!
//! An entry may only be forgotten once a majority of the owners holds what it says; from then on,
//! keys without an entry are read at `quorum`.

use super::clock::ClientClock;
use annulet_protocol::hash::KeyHash;
use annulet_protocol::ids::ClusterId;
use annulet_protocol::level::Level;
use annulet_protocol::session::{Known, SESSION_KEYS_MAX, TOKEN_BYTES_MAX, Token};
use bytes::Bytes;
use std::collections::BTreeMap;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Session {
    entries: BTreeMap<KeyHash, Entry>,
    /// Keys by when they were last used.
    order: BTreeMap<u64, KeyHash>,
    uses: u64,
    overflowed: bool,
}

#[derive(Clone, Debug)]
struct Entry {
    known: Known,
    /// A majority of the owners holds it.
    settled: bool,
    used: u64,
}

impl Session {
    /// Goes on from what a token says.
    pub fn from_token(token: Token) -> Self {
        let mut session = Self {
            overflowed: token.overflowed,
            ..Self::default()
        };
        for (hash, known) in token.entries.into_iter().rev() {
            session.observe(hash, known, false);
        }
        session
    }

    /// What a read of this key must show at least.
    pub fn floor(&self, hash: KeyHash) -> Option<&Known> {
        self.entries.get(&hash).map(|entry| &entry.known)
    }

    /// Moves a client's clock past all that was seen, as far as one key may move it for others: so
    /// that what had expired there has expired here.
    pub fn tell(&self, clock: &mut ClientClock, wall_ms: u64) {
        // A stamp from far ahead is left alone, and must not keep lower ones from being told.
        for entry in self.entries.values() {
            if let Known::Version(version) = &entry.known {
                clock.reach(version.stamp, wall_ms);
            }
        }
    }

    /// The level at which a key is read that would be read at this one; `owners`: of the key.
    pub fn level(&self, hash: KeyHash, level: Level, owners: usize) -> Level {
        if !self.overflowed || self.entries.contains_key(&hash) {
            return level;
        }
        match level {
            Level::Quorum | Level::All | Level::EachQuorum => level,
            Level::Explicit { read, .. } if usize::from(read) > owners / 2 => level,
            Level::Explicit { .. } | Level::One | Level::LocalQuorum | Level::Available => {
                Level::Quorum
            }
        }
    }

    /// Notes what was seen or written. `settled`: a majority of the owners holds it.
    pub fn observe(&mut self, hash: KeyHash, known: Known, settled: bool) {
        self.uses += 1;
        let used = self.uses;
        let entry = match self.entries.remove(&hash) {
            None => Entry {
                known,
                settled,
                used,
            },
            Some(before) => {
                self.order.remove(&before.used);
                let (known, newer) = join(before.known.clone(), known);
                Entry {
                    settled: settled || !newer && before.settled,
                    known,
                    used,
                }
            }
        };
        self.entries.insert(hash, entry);
        self.order.insert(used, hash);
    }

    /// Forgets the oldest keys that may be, as far as there are too many. If there are still too
    /// many, gives the oldest of which `can_settle` holds: it is to be read at `quorum`, and noted.
    pub fn crowded(&mut self, can_settle: impl Fn(KeyHash) -> bool) -> Option<KeyHash> {
        while self.entries.len() > SESSION_KEYS_MAX {
            if !self.forget_settled() {
                let mut oldest = self.order.values();
                return oldest.find(|hash| can_settle(**hash)).copied();
            }
        }
        None
    }

    /// The bytes to hand to another process. If all that may be forgotten was and they are still
    /// too many, gives the oldest key of which `can_settle` holds, as [`Session::crowded`] does.
    pub fn token(
        &mut self,
        cluster: ClusterId,
        can_settle: impl Fn(KeyHash) -> bool,
    ) -> Result<Bytes, Option<KeyHash>> {
        loop {
            let entries = self.order.values().rev();
            let entry = |hash: &KeyHash| Some((*hash, self.entries.get(hash)?.known.clone()));
            let token = Token {
                cluster,
                overflowed: self.overflowed,
                entries: entries.filter_map(entry).collect(),
            };
            let bytes = token.encode();
            if bytes.len() <= TOKEN_BYTES_MAX {
                return Ok(bytes);
            }
            // A sixteenth at a time: encoding all of it for each would take long.
            let many = self.entries.len() / 16 + 1;
            let forgotten = (0..many).take_while(|_| self.forget_settled()).count();
            if forgotten == 0 {
                let mut oldest = self.order.values();
                return Err(oldest.find(|hash| can_settle(**hash)).copied());
            }
        }
    }

    /// Forgets the oldest key that a majority has. Says whether there was one.
    fn forget_settled(&mut self) -> bool {
        let settled = |hash: &&KeyHash| self.entries.get(hash).is_some_and(|entry| entry.settled);
        let Some(hash) = self.order.values().find(settled).copied() else {
            return false;
        };
        if let Some(entry) = self.entries.remove(&hash) {
            self.order.remove(&entry.used);
        }
        self.overflowed = true;
        true
    }
}

/// Both together, and whether that is more than the first.
fn join(before: Known, known: Known) -> (Known, bool) {
    match (before, known) {
        (Known::Version(before), Known::Version(known)) => {
            (Known::Version(before.max(known)), known > before)
        }
        (Known::Register(before), Known::Register(known)) => {
            (Known::Register(before.max(known)), known > before)
        }
        (Known::Siblings(before), Known::Siblings(known)) => {
            let joined = before.merge(&known).bare();
            let newer = !joined.agrees(&before);
            (Known::Siblings(joined), newer)
        }
        // The bucket was made anew in another mode: what was seen of the old one is of no use.
        (_, known) => (known, true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::{NOW, WALL_MS, core};
    use annulet_protocol::clock::Stamp;
    use annulet_protocol::record::Version;

    const CLUSTER: ClusterId = ClusterId([7; 16]);

    fn version(number: u64) -> Known {
        Known::Version(Version {
            stamp: Stamp(number),
            ..Version::default()
        })
    }

    #[test]
    fn what_was_seen_never_sinks() {
        let mut session = Session::default();
        let key = KeyHash(1);
        session.observe(key, version(5), true);
        session.observe(key, version(3), false);
        assert_eq!(session.floor(key), Some(&version(5)));
        assert!(session.entries[&key].settled, "what came is no news");
        session.observe(key, version(6), false);
        assert_eq!(session.floor(key), Some(&version(6)));
        assert!(!session.entries[&key].settled);
        assert_eq!(session.floor(KeyHash(2)), None);
    }

    #[test]
    fn a_write_comes_after_what_its_session_has_seen_in_another_process() {
        let ahead = |ms| {
            Known::Version(Version {
                stamp: Stamp::at(WALL_MS + ms),
                ..Version::default()
            })
        };
        let mut session = Session::default();
        session.observe(KeyHash(1), ahead(600), true);
        session.observe(KeyHash(2), ahead(300), true);
        let mut core = core();
        session.tell(&mut core.clock, NOW.wall_ms);
        assert_eq!(core.judged_ms(NOW), WALL_MS + 300);
        let stamp = core.mint_after(KeyHash(1), session.floor(KeyHash(1)), NOW);
        assert!(stamp > Stamp::at(WALL_MS + 600), "{stamp:?}");
        let other = core.mint_after(KeyHash(3), session.floor(KeyHash(3)), NOW);
        assert!(other < Stamp::at(WALL_MS + 301), "{other:?}");
    }

    #[test]
    fn only_what_a_majority_has_is_forgotten_and_then_the_rest_is_read_at_quorum() {
        let mut session = Session::default();
        for number in 0..=SESSION_KEYS_MAX as u64 {
            session.observe(KeyHash(number), version(1), number == 7);
        }
        let level = |session: &Session, key, level| session.level(KeyHash(key), level, 3);
        assert_eq!(level(&session, 7, Level::One), Level::One);
        assert_eq!(session.crowded(|_| true), None);
        assert_eq!(session.floor(KeyHash(7)), None, "the oldest that may be");
        assert_eq!(level(&session, 7, Level::One), Level::Quorum);
        assert_eq!(level(&session, 7, Level::All), Level::All);
        assert_eq!(level(&session, 8, Level::One), Level::One);
        session.observe(KeyHash(9_999), version(1), false);
        assert_eq!(session.crowded(|hash| hash.0 > 4), Some(KeyHash(5)));
        session.observe(KeyHash(5), version(1), true);
        assert_eq!(session.crowded(|_| true), None);
        assert_eq!(session.entries.len(), SESSION_KEYS_MAX);
    }

    #[test]
    fn a_token_is_short_and_says_what_matters() {
        let mut session = Session::default();
        for number in 0..3_000 {
            session.observe(KeyHash(number), version(number), true);
        }
        let bytes = session
            .token(CLUSTER, |_| true)
            .expect("all may be forgotten");
        assert!(bytes.len() <= TOKEN_BYTES_MAX);
        let token = Token::decode(&bytes).expect("just encoded");
        assert!(
            token.overflowed && token.entries.len() > 300,
            "{}",
            token.entries.len()
        );
        let again = Session::from_token(token);
        assert_eq!(again.floor(KeyHash(2_999)), Some(&version(2_999)));
        assert_eq!(again.floor(KeyHash(0)), None);
        assert_eq!(again.level(KeyHash(0), Level::One, 3), Level::Quorum);

        let mut session = Session::default();
        for number in 0..3_000 {
            session.observe(KeyHash(number), version(number), false);
        }
        assert_eq!(session.token(CLUSTER, |_| true), Err(Some(KeyHash(0))));
        assert_eq!(session.token(CLUSTER, |_| false), Err(None));
    }
}
