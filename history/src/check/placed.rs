//! Which moves are placed, and where the search has been.

use crate::register::{Move, State};
use std::collections::HashMap;
use std::iter;

/// A set of moves.
pub(super) struct Placed {
    /// Where each move is: whether among the required ones, and its place there in the order of
    /// calls.
    places: Vec<(bool, usize)>,
    required: Bits,
    optional: Bits,
}

/// The configurations that were gone on from: state and required moves, each with the smallest sets
/// of other moves that were placed there.
#[derive(Default)]
pub(super) struct Seen(HashMap<(State, Key), Vec<Box<[u64]>>>);

/// Required moves as they are remembered: how many words of bits are full and how many follow up to
/// the last that is not 0, and those. A long prefix of the moves and nothing far behind it is
/// placed, so there are few.
type Key = Box<[u64]>;

#[derive(Default)]
struct Bits {
    words: Vec<u64>,
    /// Words before this one are full.
    full: usize,
    /// Words from this one are 0.
    end: usize,
}

impl Placed {
    /// None of these.
    pub(super) fn none_of(moves: &[Move]) -> Self {
        let (mut required, mut optional) = (0, 0);
        let place = |a_move: &Move| {
            let count = match a_move.is_required {
                true => &mut required,
                false => &mut optional,
            };
            *count += 1;
            (a_move.is_required, *count - 1)
        };
        Self {
            places: moves.iter().map(place).collect(),
            required: Bits::zeros(required),
            optional: Bits::zeros(optional),
        }
    }

    pub(super) fn has(&self, index: usize) -> bool {
        match self.places[index] {
            (true, place) => self.required.has(place),
            (false, place) => self.optional.has(place),
        }
    }

    pub(super) fn insert(&mut self, index: usize) {
        match self.places[index] {
            (true, place) => self.required.insert(place),
            (false, place) => self.optional.insert(place),
        }
    }

    pub(super) fn remove(&mut self, index: usize) {
        match self.places[index] {
            (true, place) => self.required.remove(place),
            (false, place) => self.optional.remove(place),
        }
    }

    fn key(&self) -> Key {
        let Bits { words, full, end } = &self.required;
        let rest = &words[*full..*end.max(full)];
        [&[*full as u64], rest].concat().into()
    }
}

impl Seen {
    /// Whether the configuration was not seen before; now it is.
    pub(super) fn insert(&mut self, state: State, placed: &Placed) -> bool {
        let others = self.0.entry((state, placed.key())).or_default();
        let optional = &placed.optional.words[..placed.optional.end];
        let is_within = |one: &[u64], other: &[u64]| {
            let others = other.iter().copied().chain(iter::repeat(0));
            one.iter().zip(others).all(|(one, other)| one & !other == 0)
        };
        if others.iter().any(|other| is_within(other, optional)) {
            return false;
        }
        others.retain(|other| !is_within(optional, other));
        others.push(optional.into());
        true
    }
}

impl Bits {
    fn zeros(count: usize) -> Self {
        Self {
            words: vec![0; count.div_ceil(64)],
            full: 0,
            end: 0,
        }
    }

    fn has(&self, place: usize) -> bool {
        self.words[place / 64] & (1 << (place % 64)) != 0
    }

    fn insert(&mut self, place: usize) {
        self.words[place / 64] |= 1 << (place % 64);
        self.end = self.end.max(place / 64 + 1);
        while self.words.get(self.full) == Some(&u64::MAX) {
            self.full += 1;
        }
    }

    fn remove(&mut self, place: usize) {
        self.words[place / 64] &= !(1 << (place % 64));
        self.full = self.full.min(place / 64);
        while self.end > 0 && self.words[self.end - 1] == 0 {
            self.end -= 1;
        }
    }
}
