//! Which moves were placed, and that as a short key.

use crate::register::Move;

/// A set of moves.
pub(super) struct Placed {
    /// Where each move is: whether among the required ones, and its place there in the order of
    /// calls.
    places: Vec<(bool, usize)>,
    required: Bits,
    optional: Bits,
}

/// The set as it is remembered: how many words of required moves are full and how many follow that
/// are not, those, and the words of the other moves up to the last that is not 0. Of the required
/// moves, a long prefix and nothing far behind it is placed, so there are few words.
pub(super) type Key = Box<[u64]>;

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

    pub(super) fn key(&self) -> Key {
        let Bits { words, full, end } = &self.required;
        let partial = &words[*full..*end.max(full)];
        let counts = [*full as u64, partial.len() as u64];
        let optional = &self.optional.words[..self.optional.end];
        [&counts, partial, optional].concat().into()
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
