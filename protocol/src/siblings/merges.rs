//! Built-in merges: what a bucket makes of concurrent values by itself, the same in every language.
//!
//! A merged value is what the next write stores, so merging must not depend on who does it, in
//! which order or how often: each of these is commutative, associative and idempotent.
//!
//! | name | a value is | merged |
//! |---|---|---|
//! | `union` | a MessagePack list of byte strings | all of them, each once, in order |
//! | `max` | any bytes | the greatest, compared byte by byte |
//! | `counter` | a MessagePack list of writers' ids, sequences, sums | the higher sequence |
//! | `lww` | any bytes | the one minted last |

use super::{Dot, Sibling};
use crate::bounded;
use crate::codec::{self, DecodeError};
use crate::ids::{Incarnation, OpId};
use crate::names::named;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

named! {
    /// What a bucket makes of concurrent values.
    ///
    /// ```
    /// # use annulet_protocol::siblings::merges::Merge;
    /// assert_eq!("union".parse(), Ok(Merge::Union));
    /// assert_eq!(Merge::Counter.as_str(), "counter");
    /// ```
    pub enum Merge {
        /// Sets grow together.
        Union = "union",
        /// The greatest value stands.
        Max = "max",
        /// Every writer counts for itself.
        Counter = "counter",
        /// The value minted last stands.
        Lww = "lww",
    }
}

/// Most elements of a set.
pub const ELEMENTS_MAX: usize = 65_536;
/// Most writers of a counter. More is refused, since a writer left out would be a count lost.
pub const WRITERS_MAX: usize = 256;

/// Why values are not merged. They stand as they are, and the application may merge them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// A value is not what the merge takes.
    #[error("a value is no {kind}: {why}")]
    Malformed {
        /// The merge.
        kind: Merge,
        /// What is wrong.
        why: String,
    },
    /// The merged value would be over a limit.
    #[error("the merged {kind} would have {count} {what}, at most {most}")]
    TooMany {
        /// The merge.
        kind: Merge,
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        most: usize,
    },
}

impl Merge {
    /// One value out of concurrent ones; `None` out of none.
    ///
    /// # Errors
    /// If a value is not what the merge takes, or the result would be over a limit.
    pub fn apply<'a>(
        self,
        siblings: impl IntoIterator<Item = &'a Sibling>,
    ) -> Result<Option<Bytes>, MergeError> {
        let siblings: Vec<_> = siblings.into_iter().collect();
        if siblings.is_empty() {
            return Ok(None);
        }
        let values = siblings.iter().map(|sibling| &sibling.write.value);
        match self {
            Self::Union => {
                let sets = values.map(|value| Set::decode(value));
                let all = sets.collect::<Result<Vec<_>, _>>()?;
                let all: BTreeSet<_> = all.into_iter().flat_map(|set| set.0).collect();
                Set(all).encode().map(Some)
            }
            Self::Max => Ok(values.max().cloned()),
            Self::Counter => {
                let mut merged = Counter::default();
                for value in values {
                    merged.take(&Counter::decode(value)?);
                }
                merged.encode().map(Some)
            }
            Self::Lww => {
                let last = siblings.iter().max_by_key(|sibling| minted_last(sibling));
                Ok(last.map(|sibling| sibling.write.value.clone()))
            }
        }
    }
}

/// By what of two siblings the later one is known: the highest stamp, then what tells them apart.
fn minted_last(sibling: &Sibling) -> (Option<(crate::clock::Stamp, Dot)>, OpId) {
    let dots = sibling.minted.iter().map(|m| (m.dot.stamp, m.dot));
    (dots.max(), sibling.write.op)
}

/// A value of a bucket with merge `union`, of up to 65,536 elements.
///
/// ```
/// # use annulet_protocol::siblings::merges::Set;
/// let mut cart = Set::default();
/// cart.0.insert("apples".into());
/// // What is put into the bucket, and what comes out of it again.
/// let value = cart.encode()?;
/// assert_eq!(Set::decode(&value)?, cart);
/// # Ok::<(), annulet_protocol::siblings::merges::MergeError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set(pub BTreeSet<Bytes>);

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct WireSet(#[serde(deserialize_with = "bounded::list::<ELEMENTS_MAX, _, _>")] Vec<Bytes>);

impl Set {
    /// Its bytes.
    ///
    /// # Errors
    /// If it has too many elements.
    pub fn encode(&self) -> Result<Bytes, MergeError> {
        no_more(Merge::Union, "elements", self.0.len(), ELEMENTS_MAX)?;
        Ok(codec::encode(&WireSet(self.0.iter().cloned().collect())).into())
    }

    /// Reads its bytes.
    ///
    /// # Errors
    /// If they are not a list of byte strings, or it is too long.
    pub fn decode(bytes: &[u8]) -> Result<Self, MergeError> {
        let WireSet(list) = codec::decode(bytes).map_err(|e| malformed(Merge::Union, &e))?;
        no_more(Merge::Union, "elements", list.len(), ELEMENTS_MAX)?;
        Ok(Self(list.into_iter().collect()))
    }
}

/// A value of a bucket with merge `counter`: how many times each writer has added something, and
/// what that makes together. It has up to 256 writers.
///
/// ```
/// # use annulet_protocol::{ids::Incarnation, siblings::merges::Counter};
/// // Drawn once by each process that counts, and its own.
/// let writer = Incarnation([7; 16]);
/// let mut likes = Counter::default();
/// likes.add(writer, 2)?;
/// likes.add(writer, -1)?;
/// // What is put into the bucket, and what comes out of it again.
/// let value = likes.encode()?;
/// assert_eq!(Counter::decode(&value)?.total(), 1);
/// # Ok::<(), annulet_protocol::siblings::merges::MergeError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counter(BTreeMap<Incarnation, (u64, i64)>);

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct WireCounter(
    #[serde(deserialize_with = "bounded::list::<WRITERS_MAX, _, _>")] Vec<(Incarnation, u64, i64)>,
);

impl Counter {
    /// What all writers have added. Over the range of 64 bits it stays at the end of it.
    pub fn total(&self) -> i64 {
        let sum: i128 = self.0.values().map(|(_, sum)| i128::from(*sum)).sum();
        i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX })
    }

    /// Adds as this writer, who must write its counts one after the other.
    ///
    /// # Errors
    /// If there would be too many writers; then nothing changes.
    pub fn add(&mut self, writer: Incarnation, amount: i64) -> Result<(), MergeError> {
        let count = self.0.len() + usize::from(!self.0.contains_key(&writer));
        no_more(Merge::Counter, "writers", count, WRITERS_MAX)?;
        let (sequence, sum) = self.0.entry(writer).or_default();
        (*sequence, *sum) = (sequence.saturating_add(1), sum.saturating_add(amount));
        Ok(())
    }

    fn take(&mut self, other: &Self) {
        for (writer, theirs) in &other.0 {
            let own = self.0.entry(*writer).or_insert(*theirs);
            *own = (*own).max(*theirs);
        }
    }

    /// Its bytes.
    ///
    /// # Errors
    /// If it has too many writers.
    pub fn encode(&self) -> Result<Bytes, MergeError> {
        no_more(Merge::Counter, "writers", self.0.len(), WRITERS_MAX)?;
        let entry =
            |(writer, (sequence, sum)): (&Incarnation, &(u64, i64))| (*writer, *sequence, *sum);
        Ok(codec::encode(&WireCounter(self.0.iter().map(entry).collect())).into())
    }

    /// Reads its bytes.
    ///
    /// # Errors
    /// If they are not a counter, or it has too many writers.
    pub fn decode(bytes: &[u8]) -> Result<Self, MergeError> {
        let WireCounter(list) = codec::decode(bytes).map_err(|e| malformed(Merge::Counter, &e))?;
        no_more(Merge::Counter, "writers", list.len(), WRITERS_MAX)?;
        let mut counter = Self::default();
        for (writer, sequence, sum) in list {
            counter.take(&Self(BTreeMap::from([(writer, (sequence, sum))])));
        }
        Ok(counter)
    }
}

fn malformed(kind: Merge, error: &DecodeError) -> MergeError {
    let why = error.to_string();
    MergeError::Malformed { kind, why }
}

fn no_more(kind: Merge, what: &'static str, count: usize, most: usize) -> Result<(), MergeError> {
    match count > most {
        true => Err(MergeError::TooMany {
            kind,
            what,
            count,
            most,
        }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Stamp;
    use crate::ids::NodeId;
    use crate::siblings::{Actor, Minting, Write};
    use proptest::prelude::*;

    fn sibling(sequence: u64, value: Bytes) -> Sibling {
        let op = OpId {
            sequence,
            ..OpId::default()
        };
        let actor = Actor {
            node: NodeId(1),
            incarnation: Incarnation([1; 16]),
            tenure: 1,
        };
        let dot = Dot {
            actor,
            stamp: Stamp::at(sequence),
        };
        Sibling {
            write: Write::seal(1, b"k", op, value, None),
            minted: vec![Minting { dot, again: false }],
        }
    }

    fn merged(kind: Merge, values: &[Bytes]) -> Bytes {
        let siblings: Vec<_> = (0..).zip(values).collect();
        let siblings = siblings
            .iter()
            .map(|(at, value)| sibling(*at, (*value).clone()));
        let siblings: Vec<_> = siblings.collect();
        kind.apply(&siblings).unwrap().unwrap()
    }

    fn set(elements: &[&'static str]) -> Bytes {
        let elements = elements.iter().map(|element| Bytes::from(*element));
        Set(elements.collect()).encode().unwrap()
    }

    fn writer(number: u8) -> Incarnation {
        Incarnation([number; 16])
    }

    #[test]
    fn sets_grow_and_the_greatest_and_the_last_stand() {
        let sets = [set(&["b", "a"]), set(&[]), set(&["c", "a"])];
        assert_eq!(merged(Merge::Union, &sets), set(&["a", "b", "c"]));
        let values = ["b".into(), "ba".into(), "a".into()];
        assert_eq!(merged(Merge::Max, &values), "ba");
        assert_eq!(merged(Merge::Lww, &values), "a");
        assert_eq!(Merge::Union.apply(&[]), Ok(None));
    }

    #[test]
    fn no_count_is_lost_whoever_merges_and_adds() {
        let mut first = Counter::default();
        first.add(writer(1), 5).unwrap();
        let mut second = first.clone();
        second.add(writer(2), -7).unwrap();
        first.add(writer(1), 1).unwrap();
        let values = [first.encode().unwrap(), second.encode().unwrap()];
        let both = Counter::decode(&merged(Merge::Counter, &values)).unwrap();
        assert_eq!(both.total(), 5 + 1 - 7);
        let mut most = Counter::default();
        most.add(writer(1), i64::MAX).unwrap();
        most.add(writer(2), 1).unwrap();
        assert_eq!(most.total(), i64::MAX);
    }

    #[test]
    fn what_cannot_be_merged_is_said() {
        for kind in [Merge::Union, Merge::Counter] {
            let error = kind.apply(&[sibling(1, "text".into())]).unwrap_err();
            assert!(error.to_string().contains(kind.as_str()), "{error}");
        }
        let mut counter = Counter::default();
        let writers = (0..=WRITERS_MAX as u128).map(|n| Incarnation(n.to_be_bytes()));
        let refused = writers.filter(|writer| counter.add(*writer, 1).is_err());
        assert_eq!(refused.count(), 1);
        assert_eq!(counter.total(), WRITERS_MAX as i64);
        let halves = [0u128, 200].map(|from| {
            let mut counter = Counter::default();
            for n in from..from + 200 {
                counter.add(Incarnation(n.to_be_bytes()), 1).unwrap();
            }
            sibling(from as u64, counter.encode().unwrap())
        });
        let error = Merge::Counter.apply(&halves).unwrap_err();
        assert!(error.to_string().contains("400 writers"), "{error}");
    }

    fn value(kind: Merge) -> BoxedStrategy<Bytes> {
        let bytes = prop::collection::vec(any::<u8>(), 0..4).prop_map(Bytes::from);
        match kind {
            Merge::Max | Merge::Lww => bytes.boxed(),
            Merge::Union => prop::collection::btree_set(bytes, 0..6)
                .prop_map(|elements| Set(elements).encode().unwrap())
                .boxed(),
            Merge::Counter => prop::collection::vec((0u8..4, -9i64..9), 0..8)
                .prop_map(|adds| {
                    let mut counter = Counter::default();
                    for (by, amount) in adds {
                        counter.add(writer(by), amount).unwrap();
                    }
                    counter.encode().unwrap()
                })
                .boxed(),
        }
    }

    fn values() -> impl Strategy<Value = (Merge, Vec<Bytes>)> {
        let kinds = [Merge::Union, Merge::Max, Merge::Counter];
        prop::sample::select(kinds.to_vec())
            .prop_flat_map(|kind| (Just(kind), prop::collection::vec(value(kind), 3)))
    }

    proptest! {
        #[test]
        fn merging_depends_on_no_order_and_no_number_of_times((kind, values) in values()) {
            let [a, b, c] = [0, 1, 2].map(|at| values[at].clone());
            let two = |a: &Bytes, b: &Bytes| merged(kind, &[a.clone(), b.clone()]);
            let ab = two(&a, &b);
            prop_assert_eq!(&ab, &two(&b, &a));
            prop_assert_eq!(two(&a, &a), merged(kind, std::slice::from_ref(&a)));
            prop_assert_eq!(&two(&ab, &b), &ab);
            prop_assert_eq!(two(&ab, &c), two(&a, &two(&b, &c)));
            prop_assert_eq!(merged(kind, &values), two(&ab, &c));
        }
    }
}
