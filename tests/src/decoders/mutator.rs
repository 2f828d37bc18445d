//! Bytes that are nearly right: a few changes to what the corpus holds, all from one seed.

use super::Shape;
use super::corpus::Entry;
use rand::seq::{IndexedMutRandom, IndexedRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;

/// Makes bytes out of a decoder's corpus.
#[derive(Debug)]
pub struct Mutator<'a> {
    shape: Shape,
    corpus: &'a [Entry],
    tokens: Vec<Vec<u8>>,
}

impl<'a> Mutator<'a> {
    /// `corpus`: not empty.
    pub fn new(shape: Shape, corpus: &'a [Entry]) -> Self {
        assert!(!corpus.is_empty(), "nothing to change");
        let mut tokens = BTreeSet::new();
        for entry in corpus {
            match shape {
                Shape::Message => collect_names(&entry.bytes, &mut tokens),
                Shape::Fixed => {}
                Shape::Text => collect_words(&entry.bytes, &mut tokens),
            }
        }
        let always = match shape {
            Shape::Message => MESSAGE_TOKENS,
            Shape::Fixed => FIXED_TOKENS,
            Shape::Text => TEXT_TOKENS,
        };
        tokens.extend(always.iter().map(|token| token.to_vec()));
        Self {
            shape,
            corpus,
            tokens: tokens.into_iter().collect(),
        }
    }

    /// The bytes of this seed, always the same while the corpus is the same.
    pub fn mutation(&self, seed: u64) -> Vec<u8> {
        let mut draw = Draw {
            random: ChaCha8Rng::seed_from_u64(seed),
            mutator: self,
        };
        let mut bytes = draw.entry().to_vec();
        // Mostly one change, which leaves the rest to be read; sometimes many.
        loop {
            draw.change(&mut bytes);
            bytes.truncate(BYTES_MAX);
            if draw.random.random_bool(0.6) {
                return bytes;
            }
        }
    }
}

/// The seed's choices.
struct Draw<'a> {
    random: ChaCha8Rng,
    mutator: &'a Mutator<'a>,
}

impl Draw<'_> {
    fn entry(&mut self) -> &[u8] {
        let entry = self.mutator.corpus.choose(&mut self.random);
        entry.map_or(&[], |entry| &entry.bytes)
    }

    /// A place in the bytes, or right behind them.
    fn place(&mut self, bytes: &[u8]) -> usize {
        self.random.random_range(0..=bytes.len())
    }

    /// A short stretch of the bytes.
    fn stretch(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let start = self.place(bytes);
        let most = (bytes.len() - start).min(STRETCH_BYTES_MAX);
        start..start + self.random.random_range(0..=most)
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        match self.random.random_range(0..20) {
            0..3 => self.flip(bytes),
            3..5 => {
                if let Some(byte) = bytes.choose_mut(&mut self.random) {
                    *byte = self.random.random();
                }
            }
            5..7 => self.put_number(bytes),
            7 => {
                let place = self.place(bytes);
                bytes.insert(place, self.random.random());
            }
            8..10 => {
                let stretch = self.stretch(bytes);
                bytes.drain(stretch);
            }
            10 => {
                let copy = bytes[self.stretch(bytes)].to_vec();
                let place = self.place(bytes);
                bytes.splice(place..place, copy);
            }
            11 => {
                let place = self.place(bytes);
                bytes.truncate(place);
            }
            12..14 => self.splice(bytes),
            14..17 => self.put_token(bytes),
            _ => match self.mutator.shape {
                Shape::Message => self.edit_marker(bytes),
                Shape::Fixed => self.put_number(bytes),
                Shape::Text => self.edit_digit(bytes),
            },
        }
    }

    fn flip(&mut self, bytes: &mut [u8]) {
        let bit = 1 << self.random.random_range(0..8);
        if let Some(byte) = bytes.choose_mut(&mut self.random) {
            *byte ^= bit;
        }
    }

    /// Overwrites a number of 1, 2, 4 or 8 bytes by one at an edge of its range, or by what is
    /// left or too much.
    fn put_number(&mut self, bytes: &mut [u8]) {
        let width = 1 << self.random.random_range(0..4);
        let Some(last) = bytes.len().checked_sub(width) else {
            return;
        };
        let place = self.random.random_range(0..=last);
        let left = (last - place) as u64;
        let number = match self.random.random_range(0..7) {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << self.random.random_range(0..64),
            3 => (1u64 << self.random.random_range(0..64)) - 1,
            4 => left,
            5 => left + 1,
            _ => self.random.random_range(0..300),
        };
        bytes[place..place + width].copy_from_slice(&number.to_be_bytes()[8 - width..]);
    }

    /// The beginning of these and the end of other bytes.
    fn splice(&mut self, bytes: &mut Vec<u8>) {
        let other = self.entry().to_vec();
        bytes.truncate(self.place(bytes));
        let place = self.place(&other);
        bytes.extend_from_slice(&other[place..]);
    }

    /// Puts a token in place of another, over bytes or between them.
    fn put_token(&mut self, bytes: &mut Vec<u8>) {
        let tokens = &self.mutator.tokens;
        let Some(token) = tokens.choose(&mut self.random) else {
            return;
        };
        let mut start = self.place(bytes);
        let mut end = start;
        match self.random.random_range(0..3) {
            0 => end = (start + token.len()).min(bytes.len()),
            1 => {}
            _ => {
                // The next token from there on, of all that begin at that place the longest.
                let at = |start: &usize| {
                    let starts = |token: &&Vec<u8>| bytes[*start..].starts_with(token);
                    tokens.iter().filter(starts).map(Vec::len).max()
                };
                let reach = (start + SEARCH_BYTES_MAX).min(bytes.len());
                if let Some(found) = (start..reach).find(|place| at(place).is_some()) {
                    start = found;
                    end = found + at(&found).unwrap_or(0);
                }
            }
        }
        bytes.splice(start..end, token.iter().copied());
    }

    /// Changes the kind or the length of a value.
    fn edit_marker(&mut self, bytes: &mut Vec<u8>) {
        let start = self.place(bytes);
        let is_marker = |byte: &u8| matches!(byte, 0x80..=0xdf);
        let Some(found) = bytes[start..].iter().position(is_marker) else {
            return;
        };
        let place = start + found;
        match bytes[place] {
            // The length of a map, a list or a text of few entries or bytes.
            0x80..=0xbf if self.random.random() => {
                let less = self.random.random();
                let near = if less {
                    bytes[place] - 1
                } else {
                    bytes[place] + 1
                };
                bytes[place] = near;
            }
            0x80..=0x9f => {
                // The same length, or any, in a wider field.
                let length = self.length(u32::from(bytes[place] & 0x0f));
                let marker = if bytes[place] < 0x90 { 0xdf } else { 0xdd };
                bytes.splice(place..=place, wide(marker, length));
            }
            0xa0..=0xbf => {
                let length = self.length(u32::from(bytes[place] & 0x1f));
                let marker = if self.random.random() { 0xdb } else { 0xc6 };
                bytes.splice(place..=place, wide(marker, length));
            }
            _ => {
                if let Some(next) = bytes.get_mut(place + 1).filter(|_| self.random.random()) {
                    *next = self.random.random();
                } else {
                    bytes[place] = self.random.random_range(0xc0..=0xdf);
                }
            }
        }
    }

    fn length(&mut self, right: u32) -> u32 {
        match self.random.random_range(0..4) {
            0 => u32::MAX,
            1 => self.random.random_range(0..70_000),
            _ => right,
        }
    }

    fn edit_digit(&mut self, bytes: &mut Vec<u8>) {
        let start = self.place(bytes);
        let Some(found) = bytes[start..].iter().position(u8::is_ascii_digit) else {
            return;
        };
        let place = start + found;
        match self.random.random_range(0..3) {
            0 => bytes[place] = self.random.random_range(b'0'..=b'9'),
            1 => bytes.insert(place, self.random.random_range(b'0'..=b'9')),
            _ => drop(bytes.remove(place)),
        }
    }
}

fn wide(marker: u8, length: u32) -> [u8; 5] {
    let [a, b, c, d] = length.to_be_bytes();
    [marker, a, b, c, d]
}

/// Short texts with their markers: names of fields, operations and kinds.
fn collect_names(bytes: &[u8], tokens: &mut BTreeSet<Vec<u8>>) {
    for (place, marker) in bytes.iter().enumerate() {
        let length = usize::from(marker & 0x1f);
        let is_name = |text: &&[u8]| text.iter().all(|byte| byte.is_ascii_graphic());
        if (0xa2..=0xbf).contains(marker)
            && let Some(text) = bytes.get(place + 1..=place + length).filter(is_name)
        {
            tokens.insert([&[*marker], text].concat());
        }
    }
}

fn collect_words(bytes: &[u8], tokens: &mut BTreeSet<Vec<u8>>) {
    let is_between = |byte: &u8| !byte.is_ascii_alphanumeric() && *byte != b'_';
    let words = bytes.split(is_between).filter(|word| word.len() > 1);
    tokens.extend(words.map(<[u8]>::to_vec));
}

/// Longest bytes that are made.
const BYTES_MAX: usize = 4_096;
/// Longest stretch that is removed or repeated.
const STRETCH_BYTES_MAX: usize = 64;
/// How far a token to be replaced is looked for.
const SEARCH_BYTES_MAX: usize = 32;

const MESSAGE_TOKENS: &[&[u8]] = &[
    b"\x80",
    b"\x90",
    b"\xa0",
    b"\xc0",
    b"\xc2",
    b"\xc4\x00",
    b"\xc7\x00\x01",
    b"\xca\x7f\xc0\x00\x00",
    b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00",
    b"\x81\xa1x\xc0",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
];

const FIXED_TOKENS: &[&[u8]] = &[&[0; 8], &[0xff; 8], &[0; 16], &[0; 4]];

const TEXT_TOKENS: &[&[u8]] = &[
    b" ",
    b"\n",
    b"=",
    b"+",
    b"-1",
    b"0",
    b"18446744073709551615",
    b"9223372036854775807",
    b"9223372036854775808",
    b"4294967296",
    b"1e400",
    b"nan",
    b"true",
    b"\"\"",
    b"'''",
    b"[",
    b"]",
    b"[[",
    b"{",
    b"}",
    b"#",
    b".",
    b"\\u0000",
    b"\xc3\xa9",
    b"\xff",
    b"1979-05-27",
];
