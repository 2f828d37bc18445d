//! What a session has seen and written, key by key, so that it is never shown anything older: its
//! own writes are there, and nothing that it has read goes back, at any level and after failover.
//!
//! An entry may only be forgotten once a majority of the owners holds what it says; from then on,
//! keys without an entry are read at `quorum`.

use super::clock::ClientClock;
use annulet_protocol::bucket::Mode;
use annulet_protocol::clock::Stamp;
use annulet_protocol::hash::KeyHash;
use annulet_protocol::ids::ClusterId;
use annulet_protocol::level::Level;
use annulet_protocol::session::{Known, SESSION_KEYS_MAX, TOKEN_BYTES_MAX, Token};
use annulet_protocol::view::View;
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
    /// The time by which things were told to have expired.
    reached: Stamp,
}

#[derive(Clone, Debug)]
struct Entry {
    known: Known,
    /// A majority of the owners holds it.
    settled: bool,
    used: u64,
    /// The bucket and the key, if this process has used it: only then it can be read.
    place: Option<(u32, Bytes)>,
}

/// How something came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A read.
    Read,
    /// A read of what any one owner of a strong bucket has.
    StaleRead,
    /// A write.
    Write,
}

/// A key that can only be forgotten once a read has seen to it that a majority has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsettled {
    /// Where it lies.
    pub hash: KeyHash,
    /// The number of its bucket.
    pub bucket: u32,
    /// The key.
    pub key: Bytes,
    /// What was seen of it.
    pub known: Known,
}

/// Whether an operation leaves what it is about with a majority of the owners. A read of more than
/// a majority writes back to fewer: as many as later reads at its level must meet. In a strong
/// bucket the level says nothing: every operation is one of a majority, unless it is stale.
pub fn is_settled(by: By, mode: Mode, level: Level, owners: usize) -> bool {
    match (by, mode, level) {
        (By::StaleRead, ..) => false,
        (By::Read | By::Write, Mode::Strong, _) => true,
        (By::Read | By::Write, _, Level::Quorum) => true,
        (By::Write, _, Level::All | Level::EachQuorum) => true,
        (By::Write, _, Level::Explicit { write, .. }) => usize::from(write) > owners / 2,
        (By::Read, _, Level::All | Level::EachQuorum | Level::Explicit { .. }) => false,
        (_, _, Level::One | Level::LocalQuorum | Level::Available) => false,
    }
}

/// The bucket of this number, and the level at which its keys are read so that a majority has them.
/// `None`: the bucket was deleted, and nobody reads its keys again.
pub fn settling(view: &View, number: u32) -> Option<(&str, Option<Level>)> {
    let bucket = view.bucket(number)?;
    let level = match bucket.mode {
        // It takes none.
        Mode::Strong => None,
        Mode::Lww | Mode::Siblings => Some(Level::Quorum),
    };
    Some((&bucket.name, level))
}

impl Session {
    /// Goes on from what a token says.
    pub fn from_token(token: Token) -> Self {
        let mut session = Self {
            overflowed: token.overflowed,
            reached: token.reached,
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
        clock.reach(self.reached, wall_ms);
        // A stamp from far ahead is left alone, and must not keep lower ones from being told.
        for entry in self.entries.values() {
            if let Known::Version(version) = &entry.known {
                clock.reach(version.stamp, wall_ms);
            }
        }
    }

    /// Notes the time that the client's clock has reached, before the session is handed on.
    pub fn reach(&mut self, reached_ms: u64) {
        self.reached = self.reached.max(Stamp::at(reached_ms));
    }

    /// Whether a read of this key may ask fewer owners than a majority: it was not forgotten, so
    /// what they show can be compared with what was seen.
    pub fn may_ask_few(&self, hash: KeyHash) -> bool {
        !self.overflowed || self.entries.contains_key(&hash)
    }

    /// The level at which a key is read that would be read at this one; `owners`: of the key.
    pub fn level(&self, hash: KeyHash, level: Level, owners: usize) -> Level {
        if self.may_ask_few(hash) {
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
                place: None,
            },
            Some(before) => {
                self.order.remove(&before.used);
                let (known, newer) = join(before.known.clone(), known);
                Entry {
                    settled: settled || !newer && before.settled,
                    known,
                    used,
                    place: before.place,
                }
            }
        };
        self.entries.insert(hash, entry);
        self.order.insert(used, hash);
    }

    /// Notes where a key is that is known.
    pub fn place(&mut self, hash: KeyHash, bucket: u32, key: Bytes) {
        if let Some(entry) = self.entries.get_mut(&hash) {
            entry.place = Some((bucket, key));
        }
    }

    /// Notes that a majority holds what was seen, unless more was seen since.
    pub fn settle(&mut self, settled: &Unsettled) {
        if let Some(entry) = self.entries.get_mut(&settled.hash) {
            entry.settled |= entry.known == settled.known;
        }
    }

    /// Forgets a key that nobody will read again.
    pub fn remove(&mut self, hash: KeyHash) {
        if let Some(entry) = self.entries.remove(&hash) {
            self.order.remove(&entry.used);
        }
    }

    /// Forgets the oldest keys that may be, as far as there are too many. If there are still too
    /// many, gives the oldest that can be settled.
    pub fn crowded(&mut self) -> Option<Unsettled> {
        while self.entries.len() > SESSION_KEYS_MAX {
            if !self.forget_settled() {
                return self.oldest();
            }
        }
        None
    }

    /// The oldest key that this process can read.
    fn oldest(&self) -> Option<Unsettled> {
        let mut known = self.order.values().filter_map(|hash| {
            let entry = self.entries.get(hash)?;
            Some((*hash, entry, entry.place.as_ref()?))
        });
        let (hash, entry, (bucket, key)) = known.next()?;
        Some(Unsettled {
            hash,
            bucket: *bucket,
            key: key.clone(),
            known: entry.known.clone(),
        })
    }

    /// The bytes to hand to another process.
    ///
    /// # Errors
    /// If all that may be forgotten was and they are still too many: the oldest key that can be
    /// settled.
    pub fn token(&mut self, cluster: ClusterId) -> Result<Bytes, Option<Box<Unsettled>>> {
        loop {
            let entries = self.order.values().rev();
            let entry = |hash: &KeyHash| Some((*hash, self.entries.get(hash)?.known.clone()));
            let token = Token {
                cluster,
                overflowed: self.overflowed,
                reached: self.reached,
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
                return Err(self.oldest().map(Box::new));
            }
        }
    }

    /// Forgets the oldest key that a majority has. Says whether there was one.
    fn forget_settled(&mut self) -> bool {
        let settled = |hash: &&KeyHash| self.entries.get(hash).is_some_and(|entry| entry.settled);
        let Some(hash) = self.order.values().find(settled).copied() else {
            return false;
        };
        self.remove(hash);
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
    use crate::core::testing::{BUCKET, NOW, WALL_MS, core, view};
    use annulet_protocol::record::Version;

    const CLUSTER: ClusterId = ClusterId([7; 16]);

    fn version(number: u64) -> Known {
        Known::Version(Version {
            stamp: Stamp(number),
            ..Version::default()
        })
    }

    fn key(number: u64) -> Bytes {
        number.to_string().into()
    }

    fn unsettled(number: u64) -> Unsettled {
        Unsettled {
            hash: KeyHash(number),
            bucket: BUCKET,
            key: key(number),
            known: version(1),
        }
    }

    #[test]
    fn a_majority_has_what_every_later_read_of_one_must_show() {
        let settled = |by, mode, level| is_settled(by, mode, level, 3);
        for level in [Level::One, Level::LocalQuorum, Level::Quorum] {
            assert!(
                !settled(By::StaleRead, Mode::Strong, level),
                "one owner has it"
            );
            assert!(
                settled(By::Read, Mode::Strong, level),
                "{level} is not heeded"
            );
            assert!(
                settled(By::Write, Mode::Strong, level),
                "{level} is not heeded"
            );
        }
        for mode in [Mode::Lww, Mode::Siblings] {
            assert!(settled(By::Read, mode, Level::Quorum));
            assert!(!settled(By::Read, mode, Level::All));
            assert!(settled(By::Write, mode, Level::All));
            assert!(!settled(By::Write, mode, Level::One));
            assert!(!settled(By::Write, mode, Level::Available));
            let (few, many) = (1, 2);
            let write = |write| Level::Explicit { read: 1, write };
            assert!(!settled(By::Write, mode, write(few)));
            assert!(settled(By::Write, mode, write(many)));
            assert!(!settled(By::Read, mode, write(many)));
        }
    }

    #[test]
    fn a_key_is_settled_as_its_bucket_takes_it() {
        let mut view = View::clone(&view(1));
        let how = |view: &View| {
            let (name, level) = settling(view, BUCKET)?;
            Some((name.to_owned(), level))
        };
        assert_eq!(how(&view), Some(("b".into(), Some(Level::Quorum))));
        view.buckets[0].mode = Mode::Strong;
        assert_eq!(how(&view), Some(("b".into(), None)));
        view.buckets.clear();
        assert_eq!(how(&view), None);
    }

    #[test]
    fn what_was_settled_may_be_forgotten_unless_more_was_seen_since() {
        let mut session = Session::default();
        session.observe(KeyHash(1), version(1), false);
        session.settle(&unsettled(1));
        assert!(session.entries[&KeyHash(1)].settled);
        session.observe(KeyHash(2), version(2), false);
        session.settle(&unsettled(2));
        assert!(!session.entries[&KeyHash(2)].settled);
        session.remove(KeyHash(2));
        assert_eq!(session.entries.len(), session.order.len());
        assert!(
            session.may_ask_few(KeyHash(2)),
            "it is not to be read again"
        );
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
    fn what_had_expired_for_a_session_has_expired_where_it_goes_on() {
        let mut session = Session::default();
        session.reach(WALL_MS + 400);
        session.reach(WALL_MS + 300);
        let token = session.token(CLUSTER).expect("it is short");
        let token = Token::decode(&token).expect("just encoded");
        let mut core = core();
        Session::from_token(token).tell(&mut core.clock, NOW.wall_ms);
        assert_eq!(core.judged_ms(NOW), WALL_MS + 400);
    }

    #[test]
    fn only_what_a_majority_has_is_forgotten_and_then_the_rest_is_read_at_quorum() {
        let mut session = Session::default();
        for number in 0..=SESSION_KEYS_MAX as u64 {
            session.observe(KeyHash(number), version(1), number == 7);
        }
        let level = |session: &Session, key, level| session.level(KeyHash(key), level, 3);
        assert_eq!(level(&session, 7, Level::One), Level::One);
        assert_eq!(session.crowded(), None);
        assert_eq!(session.floor(KeyHash(7)), None, "the oldest that may be");
        assert_eq!(level(&session, 7, Level::One), Level::Quorum);
        assert_eq!(level(&session, 7, Level::All), Level::All);
        assert_eq!(level(&session, 8, Level::One), Level::One);
        session.observe(KeyHash(9_999), version(1), false);
        assert_eq!(
            session.crowded(),
            None,
            "this process has used none of them"
        );
        for number in 5..9 {
            session.place(KeyHash(number), BUCKET, key(number));
        }
        assert_eq!(session.crowded(), Some(unsettled(5)));
        session.observe(KeyHash(5), version(1), true);
        assert_eq!(session.crowded(), None);
        assert_eq!(session.entries.len(), SESSION_KEYS_MAX);
    }

    #[test]
    fn a_token_is_short_and_says_what_matters() {
        let mut session = Session::default();
        for number in 0..3_000 {
            session.observe(KeyHash(number), version(number), true);
        }
        let bytes = session.token(CLUSTER).expect("all may be forgotten");
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
        assert_eq!(session.token(CLUSTER), Err(None));
        session.place(KeyHash(1), BUCKET, key(1));
        assert_eq!(session.token(CLUSTER), Err(Some(Box::new(unsettled(1)))));
    }
}
