//! The owner lists of one region, as they are kept and sent: one array of places.

use super::is_list;
use crate::limits::REPLICAS_MAX;
use serde::{Deserialize, Serialize};

/// Stands in a list for nobody: behind its owners, where it is shorter than others.
pub const NOBODY: u32 = u32::MAX;

/// The owner lists of one region. Look-ups read it at random, so it is as small as it can be
/// without work to unpack it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegionTable {
    /// Name of the region, as its members give it.
    pub region: String,
    /// Owners in the longest list.
    pub length: u8,
    /// Bytes of a place in `owners`: 2, or 3 if there are more members than two can name.
    place_bytes: u8,
    /// One list after the other, partition by partition: each owner as its index among the view's
    /// members, little-endian; all ones, for [`NOBODY`], behind the last owner of a shorter list.
    #[serde(with = "serde_bytes")]
    owners: Vec<u8>,
}

impl RegionTable {
    /// A table of these places in a view of so many members: the list of one partition after that
    /// of the other, each of `length` places, [`NOBODY`] behind its last owner.
    pub fn new(
        region: &str,
        length: u8,
        members: usize,
        places: impl IntoIterator<Item = u32>,
    ) -> Self {
        let place_bytes = place_bytes(members);
        let mut owners = Vec::new();
        for place in places {
            owners.extend_from_slice(&place.to_le_bytes()[..usize::from(place_bytes)]);
        }
        Self {
            region: region.into(),
            length,
            place_bytes,
            owners,
        }
    }

    /// A table without any owner, in a view of so many members.
    pub fn empty(region: &str, length: u8, members: usize, partitions: u32) -> Self {
        let places = partitions as usize * usize::from(length);
        Self::new(region, length, members, std::iter::repeat_n(NOBODY, places))
    }

    /// Bytes of one list.
    #[inline]
    fn list_bytes(&self) -> usize {
        usize::from(self.length) * usize::from(self.place_bytes)
    }

    /// Member indices of the owners of a partition, the first is the first choice.
    // Every operation looks up its owners, from another crate.
    #[inline]
    pub fn list(&self, partition: u32) -> impl Iterator<Item = usize> + '_ {
        let width = self.list_bytes();
        let start = partition as usize * width;
        let bytes = self.owners.get(start..start + width).unwrap_or_default();
        self.read(bytes)
            .take_while(|index| *index != NOBODY)
            .map(|index| index as usize)
    }

    /// All places of all lists: indices of members, or [`NOBODY`].
    pub fn places(&self) -> Places<'_> {
        self.read(&self.owners)
    }

    #[inline]
    fn read<'a>(&self, bytes: &'a [u8]) -> Places<'a> {
        Places {
            bytes,
            place_bytes: self.place_bytes,
        }
    }

    /// Bytes that the lists take.
    pub fn size(&self) -> usize {
        self.owners.len()
    }

    /// Whether nobody owns anything here.
    pub fn is_empty(&self) -> bool {
        self.owners.iter().all(|byte| *byte == u8::MAX)
    }

    /// Puts another list in place of a partition's.
    pub fn set(&mut self, partition: u32, list: &[u32]) {
        if list.len() > usize::from(self.length) {
            self.widen(list.len());
        }
        let width = self.list_bytes();
        let place_bytes = usize::from(self.place_bytes);
        let start = partition as usize * width;
        let places = self.owners.get_mut(start..start + width);
        let places = places
            .unwrap_or_default()
            .chunks_exact_mut(place_bytes.max(1));
        let padded = list.iter().copied().chain(std::iter::repeat(NOBODY));
        for (place, index) in places.zip(padded) {
            debug_assert!(index == NOBODY || index >> (8 * place_bytes) == 0);
            place.copy_from_slice(&index.to_le_bytes()[..place_bytes]);
        }
    }

    /// Makes room for longer lists.
    fn widen(&mut self, length: usize) {
        let before = self.list_bytes();
        let after = length * usize::from(self.place_bytes);
        let mut owners = Vec::with_capacity(self.owners.len() / before.max(1) * after);
        for list in self.owners.chunks_exact(before.max(1)) {
            owners.extend_from_slice(list);
            owners.extend(std::iter::repeat_n(u8::MAX, after - before));
        }
        self.owners = owners;
        // Lists have at most `REPLICAS_MAX` owners.
        self.length = length as u8;
    }

    /// Gives each half of every partition the list of the whole.
    pub(super) fn halve(&mut self) {
        let lists = self.owners.chunks_exact(self.list_bytes().max(1));
        let halves = lists.flat_map(|list| [list, list]);
        self.owners = halves.flatten().copied().collect();
    }

    /// Gives members other indices, of which there are so many.
    pub(super) fn renumber(&mut self, members: usize, index: &impl Fn(u32) -> u32) {
        let other = |place| match place {
            NOBODY => NOBODY,
            place => index(place),
        };
        if self.place_bytes == 2 && place_bytes(members) == 2 {
            for place in self.owners.as_chunks_mut::<2>().0 {
                *place = narrow(other(widened(*place)));
            }
        } else {
            let places = self.places().map(other);
            *self = Self::new(&self.region, self.length, members, places);
        }
    }

    /// Checks all but what the lists say, in a view of so many members.
    pub(super) fn validate_size(&self, partitions: u32, members: usize) -> Result<(), String> {
        let Self { region, length, .. } = self;
        if !(1..=REPLICAS_MAX).contains(&usize::from(*length)) {
            return Err(format!(
                "region `{region}`: lists of {length} owners; 1 to {REPLICAS_MAX}"
            ));
        }
        let wanted = place_bytes(members);
        if self.place_bytes != wanted {
            return Err(format!(
                "region `{region}`: places of {} bytes; those of {members} members have {wanted}",
                self.place_bytes,
            ));
        }
        if self.owners.len() != partitions as usize * self.list_bytes() {
            return Err(format!(
                "region `{region}`: a table of {} bytes",
                self.owners.len()
            ));
        }
        Ok(())
    }

    /// Checks the list of a partition of a table of the right size. `here`: whether the member of
    /// an index is one of the region.
    pub(super) fn validate_list(
        &self,
        partition: u32,
        here: impl Fn(u32) -> bool,
    ) -> Result<(), String> {
        let mut list = [NOBODY; REPLICAS_MAX];
        let width = self.list_bytes();
        let start = partition as usize * width;
        let bytes = self.owners.get(start..start + width).unwrap_or_default();
        for (owner, place) in list.iter_mut().zip(self.read(bytes)) {
            *owner = place;
        }
        let count = list.iter().position(|index| *index == NOBODY);
        let (list, rest) = list.split_at(count.unwrap_or(list.len()));
        if !is_list(list, here) || rest.iter().any(|index| *index != NOBODY) {
            return Err(format!(
                "region `{}`: bad owners of partition {partition}",
                self.region
            ));
        }
        Ok(())
    }
}

/// Places of a table, one after the other: indices of members, or [`NOBODY`].
#[derive(Clone, Debug)]
pub struct Places<'a> {
    bytes: &'a [u8],
    place_bytes: u8,
}

impl ExactSizeIterator for Places<'_> {}

impl Iterator for Places<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        // A whole number of places by length, and no division to say so.
        if self.place_bytes == 2 {
            let (place, rest) = self.bytes.split_first_chunk()?;
            self.bytes = rest;
            return Some(widened(*place));
        }
        let ([low, middle, high], rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        let place = u32::from_le_bytes([*low, *middle, *high, 0]);
        Some(if place == NOBODY >> 8 { NOBODY } else { place })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let places = match self.place_bytes {
            2 => self.bytes.len() / 2,
            _ => self.bytes.len() / 3,
        };
        (places, Some(places))
    }
}

/// Bytes of a place among so many members. All ones stand for nobody.
fn place_bytes(members: usize) -> u8 {
    if members <= usize::from(u16::MAX) {
        2
    } else {
        // Three name more members than there may be.
        3
    }
}

#[inline]
fn widened(place: [u8; 2]) -> u32 {
    match u16::from_le_bytes(place) {
        u16::MAX => NOBODY,
        place => place.into(),
    }
}

fn narrow(place: u32) -> [u8; 2] {
    let [low, high, ..] = place.to_le_bytes();
    [low, high]
}
