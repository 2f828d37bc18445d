//! What a client needs to propose: ballots of its own, and those that owners reserved for it.
//!
//! A ballot's number starts from the clock, so that a new client's first attempt is mostly above
//! what others proposed before. Nothing depends on the clock: who is outbid goes above.

use annulet_protocol::ballot::Ballot;
use annulet_protocol::clock::Stamp;
use annulet_protocol::ids::Incarnation;
use annulet_protocol::register::{Entry, Register};
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};

/// What may be remembered of keys, in bytes: of some 40,000 that were written once or twice.
const BYTES_MAX: usize = 16 << 20;
/// What a key takes at least, with its places in a map and a queue.
const KEY_BYTES: usize = 160;

/// A ballot that a quorum promised when it accepted a register: the next change of that register
/// needs one round trip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The epoch that had set the owner lists under which it was reserved. Under later lists it
    /// counts for nothing.
    pub epoch: u64,
    /// The round that was accepted.
    pub ballot: Ballot,
    /// The ballot.
    pub next: Ballot,
    /// What was accepted. What is proposed under the reserved ballot must follow it.
    pub register: Register,
}

impl Reservation {
    /// About what it takes.
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.register.log.iter().len() * size_of::<Entry>()
    }
}

/// What is remembered of a key.
#[derive(Clone, Debug, Default)]
struct Known {
    reservation: Option<Reservation>,
    /// The highest number that was proposed under, or is reserved.
    last: u64,
    /// How many clients seem to be at work there, as a power of two.
    crowd: u32,
}

/// Most that is believed of a crowd.
const CROWD_MAX: u32 = 6;

/// A key of a bucket.
pub type Slot = (u32, Bytes);

/// See the module.
#[derive(Clone, Debug)]
pub struct Proposer {
    incarnation: Incarnation,
    /// The last number that came from the clock.
    last: u64,
    known: HashMap<Slot, Known>,
    /// The keys of `known`, the oldest first.
    order: VecDeque<Slot>,
    /// About what all of it takes.
    bytes: usize,
}

impl Proposer {
    /// One that has proposed nothing yet.
    pub fn new(incarnation: Incarnation) -> Self {
        Self {
            incarnation,
            last: 0,
            known: HashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
        }
    }

    /// A new ballot, above one that was seen and above all that were minted for the key. One seen
    /// far ahead moves the ballots of this key alone, not those of others.
    pub fn mint(&mut self, slot: &Slot, above: Ballot, now_ms: u64) -> Ballot {
        self.last = Stamp::at(now_ms).0.max(self.last.saturating_add(1));
        let least = self.last.max(above.number.saturating_add(1));
        let known = self.known(slot);
        // Two rounds that saw the same ballot must not go under one: each would refuse the other.
        known.last = least.max(known.last.saturating_add(1));
        Ballot {
            number: known.last,
            proposer: self.incarnation,
        }
    }

    /// Remembers a ballot that a quorum has reserved.
    pub fn reserve(&mut self, slot: &Slot, reservation: Reservation) {
        let known = self.known(slot);
        known.last = known.last.max(reservation.next.number);
        self.replace(slot, Some(reservation));
        self.forget_oldest();
    }

    /// Takes the ballot that is reserved for a key under the lists of this epoch; it can be used
    /// once.
    pub fn take(&mut self, slot: &Slot, epoch: u64) -> Option<Reservation> {
        let reservation = self.replace(slot, None)?;
        (reservation.epoch == epoch).then_some(reservation)
    }

    /// Notes what the owners of a key showed: a reserved ballot that they have gone beyond is of no
    /// use any more.
    pub fn observe(&mut self, slot: &Slot, accepted: Ballot, promised: Ballot) {
        let reserved = self.known.get(slot).and_then(|k| k.reservation.as_ref());
        if reserved.is_some_and(|r| accepted > r.ballot || promised > r.next) {
            self.replace(slot, None);
        }
    }

    /// Puts a reservation in the place of the one that is remembered of a known key.
    fn replace(&mut self, slot: &Slot, with: Option<Reservation>) -> Option<Reservation> {
        let reservation = &mut self.known.get_mut(slot)?.reservation;
        self.bytes += with.as_ref().map_or(0, Reservation::bytes);
        let before = std::mem::replace(reservation, with);
        self.bytes -= before.as_ref().map_or(0, Reservation::bytes);
        before
    }

    /// Notes that a round was outbid, or that one came to its end: who is often outbid waits longer
    /// at once when it happens again, so that as many try as can be served.
    pub fn note_round(&mut self, slot: &Slot, outbid: bool) {
        let crowd = &mut self.known(slot).crowd;
        *crowd = match outbid {
            true => (*crowd + 1).min(CROWD_MAX),
            false => crowd.saturating_sub(1),
        };
    }

    /// How many clients seem to be at work on a key, as a power of two.
    pub fn crowd(&self, slot: &Slot) -> u32 {
        self.known.get(slot).map_or(0, |known| known.crowd)
    }

    /// Keeps within the bound: a new key takes room, and so does each further entry of a log.
    fn forget_oldest(&mut self) {
        while self.bytes >= BYTES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.replace(&oldest, None);
            self.known.remove(&oldest);
            self.bytes -= KEY_BYTES + oldest.1.len();
        }
    }

    fn known(&mut self, slot: &Slot) -> &mut Known {
        if !self.known.contains_key(slot) {
            self.forget_oldest();
            self.order.push_back(slot.clone());
            self.bytes += KEY_BYTES + slot.1.len();
        }
        self.known.entry(slot.clone()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use annulet_protocol::ids::OpId;
    use annulet_protocol::register::Fate;

    fn ballot(number: u64) -> Ballot {
        Ballot {
            number,
            proposer: Incarnation([7; 16]),
        }
    }

    fn reservation(epoch: u64, number: u64) -> Reservation {
        Reservation {
            epoch,
            ballot: ballot(number),
            next: ballot(number + 1),
            register: Register::unwritten(1, b"k"),
        }
    }

    fn slot(key: &str) -> Slot {
        (1, Bytes::copy_from_slice(key.as_bytes()))
    }

    #[test]
    fn ballots_rise_and_a_far_one_moves_its_own_key_only() {
        let mut proposer = Proposer::new(Incarnation([7; 16]));
        let (key, other) = (slot("k"), slot("other"));
        let first = proposer.mint(&key, Ballot::default(), 1_000);
        assert_eq!(first, ballot(Stamp::at(1_000).0));
        assert!(proposer.mint(&key, Ballot::default(), 900) > first);
        let far = ballot(u64::MAX / 2);
        assert!(proposer.mint(&key, far, 1_000) > far);
        assert!(proposer.mint(&other, Ballot::default(), 1_000) < far);
    }

    #[test]
    fn rounds_that_saw_the_same_ballot_go_under_ballots_of_their_own() {
        let mut proposer = Proposer::new(Incarnation([7; 16]));
        let (key, far) = (slot("k"), ballot(u64::MAX / 2));
        let first = proposer.mint(&key, far, 1_000);
        assert!(proposer.mint(&key, far, 1_000) > first);
        proposer.reserve(&key, reservation(1, u64::MAX / 2 + 9));
        assert!(proposer.mint(&key, far, 1_000) > ballot(u64::MAX / 2 + 10));
    }

    #[test]
    fn a_reserved_ballot_is_used_once_in_its_epoch_and_while_nobody_went_beyond() {
        let mut proposer = Proposer::new(Incarnation([7; 16]));
        let key = slot("k");
        proposer.reserve(&key, reservation(3, 5));
        assert_eq!(proposer.take(&slot("other"), 3), None);
        assert_eq!(proposer.take(&key, 3), Some(reservation(3, 5)));
        assert_eq!(proposer.take(&key, 3), None, "used");
        proposer.reserve(&key, reservation(3, 7));
        assert_eq!(proposer.take(&key, 4), None, "another epoch");
        for (accepted, promised, stays) in [(7, 8, true), (8, 8, false), (7, 9, false)] {
            proposer.reserve(&key, reservation(3, 7));
            proposer.observe(&key, ballot(accepted), ballot(promised));
            assert_eq!(proposer.take(&key, 3).is_some(), stays);
        }
    }

    #[test]
    fn a_crowd_grows_with_rounds_that_are_outbid_and_shrinks_with_others() {
        let mut proposer = Proposer::new(Incarnation([7; 16]));
        let key = slot("k");
        for _ in 0..20 {
            proposer.note_round(&key, true);
        }
        assert_eq!(proposer.crowd(&key), CROWD_MAX);
        proposer.note_round(&key, false);
        assert_eq!(proposer.crowd(&key), CROWD_MAX - 1);
        assert_eq!(proposer.crowd(&slot("other")), 0);
    }

    #[test]
    fn what_is_remembered_is_bounded_in_bytes() {
        let mut proposer = Proposer::new(Incarnation([7; 16]));
        let least = KEY_BYTES + size_of::<Reservation>();
        let keys = 3 * BYTES_MAX / least;
        for number in 0..keys {
            proposer.reserve(&slot(&number.to_string()), reservation(1, 1));
            proposer.reserve(&slot("often"), reservation(1, 1));
        }
        assert!(proposer.bytes <= BYTES_MAX + least + 8);
        assert!(proposer.known.len() <= BYTES_MAX / least + 1);
        assert_eq!(proposer.order.len(), proposer.known.len());
        // Logs grow although no key is new.
        let mut grown = reservation(1, 1);
        for number in 0..32 {
            grown.register.log.push(Entry {
                op: OpId::default(),
                at: ballot(number),
                fate: Fate::Applied,
            });
        }
        for number in 0..keys {
            proposer.reserve(&slot(&number.to_string()), grown.clone());
        }
        assert!(proposer.bytes <= BYTES_MAX);
        let last = slot(&(keys - 1).to_string());
        assert!(proposer.take(&last, 1).is_some());
        assert_eq!(proposer.take(&slot("1"), 1), None, "it was long ago");
        for slot in std::mem::take(&mut proposer.order) {
            proposer.replace(&slot, None);
            proposer.bytes -= KEY_BYTES + slot.1.len();
        }
        assert_eq!(proposer.bytes, 0, "nothing is counted twice");
    }
}
