//! What an epoch changes of who owns what, and its bytes in a record: a join changes many lists,
//! so a change takes few.

use super::ListPlace;
use crate::limits::{LIST_CHANGES_MAX, NAME_BYTES_MAX, REPLICAS_MAX};
use crate::table::List;
use serde::de::Error;
use serde::{Deserializer, Serializer};
use serde_bytes::ByteBuf;

/// What becomes of the lists of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListChange {
    /// One of its lists is to become another: the partition is joint, until that is over. What was
    /// to become of the same list before is so no more.
    Opened(NextList),
    /// Every owner of the next list has all that it should: that is the list now.
    Closed(ListPlace),
    /// The list stays as it is.
    Aborted(ListPlace),
}

/// A list that one of a partition's is to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextList {
    /// The partition.
    pub partition: u32,
    /// Name of the region whose list it is.
    pub region: String,
    /// How it differs from the list that there is.
    pub step: Step,
}

/// How a list changes at once. Every prefix of it changes by one owner at most, so that any one
/// node may die meanwhile, in buckets of any number of replicas. Owners are named by their index
/// among the members of the view before: a record follows one view only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Another owner comes in place of the one at a position.
    Replaced {
        /// The position, from 0.
        position: u8,
        /// Who comes.
        owner: u32,
    },
    /// An owner comes at a position; who stands there and behind moves on.
    Inserted {
        /// The position, from 0.
        position: u8,
        /// Who comes.
        owner: u32,
    },
    /// The owner at a position goes.
    Removed {
        /// The position, from 0.
        position: u8,
    },
    /// Two owners change places.
    Swapped {
        /// The position of the one, from 0.
        position: u8,
        /// That of the other.
        with: u8,
    },
}

impl ListChange {
    /// The partition whose lists it changes.
    pub fn partition(&self) -> u32 {
        match self {
            Self::Opened(next) => next.partition,
            Self::Closed(place) | Self::Aborted(place) => place.partition,
        }
    }
}

impl Step {
    /// The step from one list to another. `None`: they are the same, or more than a step apart.
    pub fn between(have: &[u32], next: &[u32]) -> Option<Self> {
        let differs = |(have, next): (&u32, &u32)| have != next;
        let first = have.iter().zip(next).position(differs);
        let at = first.unwrap_or(have.len().min(next.len()));
        let position = u8::try_from(at).ok()?;
        let step = if have.len() < next.len() {
            let owner = *next.get(at)?;
            Self::Inserted { position, owner }
        } else if have.len() > next.len() {
            Self::Removed { position }
        } else {
            let owner = *next.get(at)?;
            match have.iter().position(|other| *other == owner) {
                None => Self::Replaced { position, owner },
                Some(with) => Self::Swapped {
                    position,
                    with: u8::try_from(with).ok()?,
                },
            }
        };
        let same = |list: &List| list[..] == *next;
        step.apply(have).filter(same).map(|_| step)
    }

    /// The list that it makes of another. `None`: there is no such position, or no list is so long.
    pub fn apply(self, list: &[u32]) -> Option<List> {
        let mut next = List::from_slice(list);
        match self {
            Self::Replaced { position, owner } => *next.get_mut(usize::from(position))? = owner,
            Self::Inserted { position, owner } => {
                let position = usize::from(position);
                if position > next.len() || next.len() >= REPLICAS_MAX {
                    return None;
                }
                next.insert(position, owner);
            }
            Self::Removed { position } => {
                next.get(usize::from(position))?;
                next.remove(usize::from(position));
            }
            Self::Swapped { position, with } => {
                let (one, other) = (usize::from(position), usize::from(with));
                if one.max(other) >= next.len() {
                    return None;
                }
                next.swap(one, other);
            }
        }
        Some(next)
    }

    /// The owner whom it brings.
    pub fn comes(self) -> Option<u32> {
        match self {
            Self::Replaced { owner, .. } | Self::Inserted { owner, .. } => Some(owner),
            Self::Removed { .. } | Self::Swapped { .. } => None,
        }
    }
}

// The first byte of a change: its kind in the lowest three bits, the position in the next three.
const CLOSED: u8 = 0;
const ABORTED: u8 = 1;
const REPLACED: u8 = 2;
const INSERTED: u8 = 3;
const REMOVED: u8 = 4;
const SWAPPED: u8 = 5;
const KIND: u8 = 0b0000_0111;
const POSITION_BITS: u32 = 3;
/// Who comes is whoever came in the change before that brought one.
const SAME_OWNER: u8 = 0b0100_0000;
/// The list is of another region than that of the change before that named one; the first of all
/// are of the region without a name.
const OTHER_REGION: u8 = 0b1000_0000;

/// What is not written again.
#[derive(Default)]
struct Last {
    region: String,
    owner: Option<u32>,
}

pub(super) fn serialize<S: Serializer>(
    lists: &[ListChange],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut bytes = Vec::new();
    let mut last = Last::default();
    for change in lists {
        write(&mut bytes, change, &mut last);
    }
    serializer.serialize_bytes(&bytes)
}

/// Reads changes; of more than may be, one more: what comes after it is skipped.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<ListChange>, D::Error> {
    let bytes: ByteBuf = serde_bytes::deserialize(deserializer)?;
    let (mut rest, mut last) = (&bytes[..], Last::default());
    let mut lists = Vec::new();
    while !rest.is_empty() && lists.len() <= LIST_CHANGES_MAX {
        let change = read(&mut rest, &mut last);
        lists.push(change.ok_or_else(|| D::Error::custom("no change of a list"))?);
    }
    Ok(lists)
}

fn write(bytes: &mut Vec<u8>, change: &ListChange, last: &mut Last) {
    let (partition, region, step) = match change {
        ListChange::Opened(next) => (next.partition, &next.region, &next.step),
        ListChange::Closed(place) => return write_place(bytes, CLOSED, *place),
        ListChange::Aborted(place) => return write_place(bytes, ABORTED, *place),
    };
    let (kind, position) = match step {
        Step::Replaced { position, .. } => (REPLACED, position),
        Step::Inserted { position, .. } => (INSERTED, position),
        Step::Removed { position } => (REMOVED, position),
        Step::Swapped { position, .. } => (SWAPPED, position),
    };
    // A longer list there is not.
    debug_assert!(usize::from(*position) <= REPLICAS_MAX);
    let mut head = kind | (position << POSITION_BITS & !SAME_OWNER & !OTHER_REGION);
    let owner = step.comes().filter(|owner| last.owner != Some(*owner));
    if step.comes().is_some() && owner.is_none() {
        head |= SAME_OWNER;
    }
    if *region != last.region {
        head |= OTHER_REGION;
    }
    bytes.push(head);
    write_number(bytes, partition.into());
    if *region != last.region {
        write_number(bytes, region.len() as u64);
        bytes.extend_from_slice(region.as_bytes());
        last.region.clone_from(region);
    }
    if let Some(owner) = owner {
        write_number(bytes, owner.into());
        last.owner = Some(owner);
    }
    if let Step::Swapped { with, .. } = step {
        bytes.push(*with);
    }
}

fn write_place(bytes: &mut Vec<u8>, kind: u8, place: ListPlace) {
    bytes.push(kind);
    write_number(bytes, place.partition.into());
    write_number(bytes, place.since);
}

fn read(bytes: &mut &[u8], last: &mut Last) -> Option<ListChange> {
    let head = read_byte(bytes)?;
    let partition = u32::try_from(read_number(bytes)?).ok()?;
    let kind = head & KIND;
    let position = (head & !SAME_OWNER & !OTHER_REGION) >> POSITION_BITS;
    if matches!(kind, CLOSED | ABORTED) {
        let since = read_number(bytes)?;
        let place = ListPlace { partition, since };
        return Some(match kind {
            CLOSED => ListChange::Closed(place),
            _ => ListChange::Aborted(place),
        });
    }
    if head & OTHER_REGION != 0 {
        let length = usize::try_from(read_number(bytes)?).ok()?;
        if length > NAME_BYTES_MAX {
            return None;
        }
        let (name, rest) = bytes.split_at_checked(length)?;
        last.region = std::str::from_utf8(name).ok()?.into();
        *bytes = rest;
    }
    let mut owner = || {
        if head & SAME_OWNER == 0 {
            last.owner = Some(u32::try_from(read_number(bytes)?).ok()?);
        }
        last.owner
    };
    let step = match kind {
        REPLACED => Step::Replaced {
            position,
            owner: owner()?,
        },
        INSERTED => Step::Inserted {
            position,
            owner: owner()?,
        },
        REMOVED => Step::Removed { position },
        SWAPPED => Step::Swapped {
            position,
            with: read_byte(bytes)?,
        },
        _ => return None,
    };
    Some(ListChange::Opened(NextList {
        partition,
        region: last.region.clone(),
        step,
    }))
}

/// Seven bits a byte, the lowest first; the highest bit of a byte: there are more.
fn write_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn read_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let byte = read_byte(bytes)?;
        // What does not fit is lost, so that it is not what would be written.
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn read_byte(bytes: &mut &[u8]) -> Option<u8> {
    let (byte, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*byte)
}

#[cfg(test)]
mod tests;
