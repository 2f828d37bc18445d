//! Quorum counting: from each of these owner lists, at least so many.
//!
//! One type counts every level. A plain majority is one list; a majority in every region is a list
//! for each region; while a partition moves, a quorum of both lists is the two joined.

use crate::owners::{Lists, Nodes, Owners};
use annulet_protocol::ids::NodeId;
use annulet_protocol::level::Level;
use smallvec::SmallVec;

/// So many out of one list of owners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Distinct nodes.
    pub owners: Nodes,
    /// How many of them are needed, at most all.
    pub need: usize,
}

/// What must be reached: every share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quorum {
    shares: SmallVec<[Share; 2]>,
}

/// Which side of an operation a level is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// How many must answer a read.
    Read,
    /// How many must take a write.
    Write,
}

/// Why a level cannot be reached, whatever the servers do. Never rounded down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LevelError {
    /// More owners are asked for than the key has.
    #[error("level `{level}` needs {need} owners and the key has {have}; use a lower level")]
    TooFewOwners {
        /// The level asked for.
        level: Level,
        /// How many it needs.
        need: usize,
        /// How many there are.
        have: usize,
    },
    /// A level of the client's own region where that region is not known.
    #[error("level `local_quorum` needs the client's region; set `region` in the profile")]
    NoRegion,
}

impl Quorum {
    /// What `level` asks of a key's owners. `home`: index of the client's region in the view.
    ///
    /// While the partition is joint it is a quorum of the lists as they are and of those to be;
    /// where one owner's word is enough, for a read, one of the lists as they are: an owner to be
    /// may have next to nothing yet.
    ///
    /// # Errors
    /// If the level asks for more than there are, now or then.
    pub fn of(
        level: Level,
        side: Side,
        owners: &Owners,
        home: Option<usize>,
    ) -> Result<Self, LevelError> {
        let current = Self::of_lists(level, side, &owners.regions, home)?;
        let Some(next) = &owners.next else {
            return Ok(current);
        };
        match (level, side) {
            (Level::Available, _) | (Level::One, Side::Read) => Ok(current),
            _ => Ok(current.and(Self::of_lists(level, side, next, home)?)),
        }
    }

    fn of_lists(
        level: Level,
        side: Side,
        lists: &Lists,
        home: Option<usize>,
    ) -> Result<Self, LevelError> {
        let all = || -> Nodes {
            let nodes = lists.iter().flat_map(|list| list.nodes.iter().copied());
            nodes.collect()
        };
        let count = all().len();
        let shares = match level {
            // What fallbacks add to `available` is no quorum: any one of them will do.
            Level::One | Level::Available => single(all(), 1),
            Level::Quorum => single(all(), majority(count)),
            Level::All => single(all(), count),
            Level::Explicit { read, write } => single(
                all(),
                usize::from(match side {
                    Side::Read => read,
                    Side::Write => write,
                }),
            ),
            Level::LocalQuorum => {
                let home = match (home, lists.as_slice()) {
                    (_, [only]) => only,
                    (Some(home), lists) => lists
                        .iter()
                        .find(|l| l.region == home)
                        .ok_or(LevelError::NoRegion)?,
                    (None, _) => return Err(LevelError::NoRegion),
                };
                single(home.nodes.clone(), majority(home.nodes.len()))
            }
            Level::EachQuorum => lists
                .iter()
                .map(|list| Share {
                    need: majority(list.nodes.len()),
                    owners: list.nodes.clone(),
                })
                .collect(),
        };
        for Share { owners, need } in &shares {
            if *need > owners.len() || owners.is_empty() {
                let (need, have) = (*need, owners.len());
                return Err(LevelError::TooFewOwners { level, need, have });
            }
        }
        Ok(Self { shares })
    }

    /// What is met without anybody.
    pub fn none() -> Self {
        Self {
            shares: SmallVec::new(),
        }
    }

    /// Both quorums at once, as while a partition has two lists.
    pub fn and(mut self, other: Self) -> Self {
        self.shares.extend(other.shares);
        self
    }

    /// Who must tell an owner what it has lost: in each region a majority, itself not counted, of
    /// the lists as they are and of those to be. Among them is one that holds each write that a
    /// majority there has taken. `None` if there is nobody else.
    pub fn witnesses(owners: &Owners, lost: NodeId) -> Option<Self> {
        let lists = owners
            .regions
            .iter()
            .chain(owners.next.as_deref().into_iter().flatten());
        let shares = lists.map(|list| {
            let others = list.nodes.iter().copied().filter(|node| *node != lost);
            let others: Nodes = others.collect();
            Share {
                need: majority(list.nodes.len()).min(others.len()),
                owners: others,
            }
        });
        let shares: SmallVec<[Share; 2]> = shares.collect();
        let alone = shares.iter().all(|share| share.owners.is_empty());
        (!alone).then_some(Self { shares })
    }

    /// How many must hold a value so that every set that meets this quorum meets one of them: of
    /// each share, all but `need - 1`.
    pub fn blocking(&self) -> Self {
        let shares = self.shares.iter().map(|share| Share {
            owners: share.owners.clone(),
            need: share.owners.len() + 1 - share.need,
        });
        Self {
            shares: shares.collect(),
        }
    }

    /// Whether the nodes for which `has` holds meet every share. A node counts once in a share,
    /// however often it answered.
    pub fn is_met(&self, has: impl Fn(NodeId) -> bool) -> bool {
        self.shares
            .iter()
            .all(|share| count(share, &has) >= share.need)
    }

    /// Whether it can still be met when the nodes for which `lost` holds never answer.
    pub fn is_possible(&self, lost: impl Fn(NodeId) -> bool) -> bool {
        self.is_met(|node| !lost(node))
    }

    /// The fewest more that are needed of each share, summed: 0 when met.
    pub fn missing(&self, has: impl Fn(NodeId) -> bool) -> usize {
        self.shares
            .iter()
            .map(|share| share.need.saturating_sub(count(share, &has)))
            .sum()
    }

    /// Whether this node's answer would bring the quorum nearer.
    pub fn wants(&self, node: NodeId, has: impl Fn(NodeId) -> bool) -> bool {
        let open = |share: &&Share| share.owners.contains(&node) && count(share, &has) < share.need;
        self.shares.iter().any(|share| open(&share))
    }

    /// The shares.
    pub fn shares(&self) -> &[Share] {
        &self.shares
    }
}

/// More than half.
pub fn majority(count: usize) -> usize {
    count / 2 + 1
}

fn single(owners: Nodes, need: usize) -> SmallVec<[Share; 2]> {
    std::iter::once(Share { owners, need }).collect()
}

fn count(share: &Share, has: impl Fn(NodeId) -> bool) -> usize {
    share.owners.iter().filter(|node| has(**node)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owners::RegionOwners;
    use proptest::prelude::*;

    fn owners(regions: &[&[u64]]) -> Owners {
        let region = |(region, ids): (usize, &&[u64])| RegionOwners {
            region,
            nodes: ids.iter().copied().map(NodeId).collect(),
        };
        Owners::stable(regions.iter().enumerate().map(region).collect(), 1)
    }

    fn joint(current: &[u64], next: &[u64]) -> Owners {
        Owners {
            next: Some(Box::new(owners(&[next]).regions)),
            ..owners(&[current])
        }
    }

    fn met(level: Level, side: Side, regions: &[&[u64]], answered: &[u64]) -> bool {
        let quorum = Quorum::of(level, side, &owners(regions), Some(0)).expect("reachable");
        quorum.is_met(|node| answered.contains(&node.0))
    }

    #[test]
    fn levels_count_distinct_owners() {
        let three: &[&[u64]] = &[&[1, 2, 3]];
        assert!(met(Level::One, Side::Read, three, &[2]));
        assert!(!met(Level::One, Side::Read, three, &[9]));
        assert!(!met(Level::Quorum, Side::Write, three, &[1, 1, 1]));
        assert!(met(Level::Quorum, Side::Write, three, &[1, 3]));
        assert!(!met(Level::All, Side::Write, three, &[1, 3]));
        let explicit = Level::Explicit { read: 1, write: 3 };
        assert!(met(explicit, Side::Read, three, &[1]));
        assert!(!met(explicit, Side::Write, three, &[1, 2]));
    }

    #[test]
    fn a_majority_in_every_region_is_more_than_a_majority_of_all() {
        let two: &[&[u64]] = &[&[1, 2, 3], &[4, 5, 6]];
        assert!(met(Level::Quorum, Side::Write, two, &[1, 2, 3, 4]));
        assert!(!met(Level::EachQuorum, Side::Write, two, &[1, 2, 3, 4]));
        assert!(met(Level::EachQuorum, Side::Write, two, &[1, 2, 4, 5]));
        assert!(met(Level::LocalQuorum, Side::Read, two, &[1, 2]));
        assert!(!met(Level::LocalQuorum, Side::Read, two, &[4, 5, 6]));
    }

    #[test]
    fn a_level_that_asks_for_more_owners_than_there_are_is_refused() {
        let explicit = Level::Explicit { read: 3, write: 3 };
        let error = Quorum::of(explicit, Side::Read, &owners(&[&[1, 2]]), None);
        assert_eq!(
            error,
            Err(LevelError::TooFewOwners {
                level: explicit,
                need: 3,
                have: 2
            })
        );
        let two = owners(&[&[1], &[2]]);
        assert_eq!(
            Quorum::of(Level::LocalQuorum, Side::Read, &two, None),
            Err(LevelError::NoRegion)
        );
    }

    #[test]
    fn a_joint_quorum_needs_both_lists() {
        let owners = joint(&[1, 2, 3], &[2, 3, 4]);
        assert_eq!(
            owners.all().map(|node| node.0).collect::<Vec<_>>(),
            [1, 2, 3, 4]
        );
        let of = |level, side| Quorum::of(level, side, &owners, None).unwrap();
        let met = |level, side, ids: &[u64]| of(level, side).is_met(|node| ids.contains(&node.0));
        for (level, side, met_by, not_by) in [
            (Level::Quorum, Side::Write, &[2, 3][..], &[1, 2][..]),
            (Level::Quorum, Side::Read, &[1, 2, 4], &[1, 4]),
            (Level::LocalQuorum, Side::Read, &[2, 3], &[3, 4]),
            (Level::EachQuorum, Side::Write, &[1, 3, 4], &[1, 2]),
            (Level::All, Side::Write, &[1, 2, 3, 4], &[1, 2, 3]),
            (Level::One, Side::Write, &[3], &[1]),
            (Level::One, Side::Write, &[1, 4], &[4]),
            (
                Level::Explicit { read: 1, write: 3 },
                Side::Read,
                &[2],
                &[4],
            ),
            // An owner to be may have nothing yet.
            (Level::One, Side::Read, &[1], &[4]),
            (Level::Available, Side::Write, &[1], &[9]),
        ] {
            assert!(met(level, side, met_by), "{level} {side:?} {met_by:?}");
            assert!(!met(level, side, not_by), "{level} {side:?} {not_by:?}");
        }
        let quorum = of(Level::Quorum, Side::Write);
        assert!(!quorum.is_possible(|n| [3, 4].contains(&n.0)));
        let shrinks = joint(&[1, 2, 3], &[1, 2]);
        let refused = Quorum::of(
            Level::Explicit { read: 1, write: 3 },
            Side::Write,
            &shrinks,
            None,
        );
        assert!(matches!(
            refused,
            Err(LevelError::TooFewOwners { have: 2, .. })
        ));
    }

    #[test]
    fn what_an_owner_has_lost_is_told_by_a_majority_of_the_others() {
        for (regions, told, silent) in [
            (&[&[1, 2, 3][..]][..], &[2, 3][..], &[2][..]),
            (&[&[1, 2]], &[2], &[]),
            (&[&[1, 2, 3, 4]], &[2, 3, 4], &[2, 3]),
            (&[&[1, 2, 3], &[4, 5, 6]], &[2, 3, 4, 5], &[2, 4, 5, 6]),
        ] {
            let witnesses = Quorum::witnesses(&owners(regions), NodeId(1)).unwrap();
            assert!(
                witnesses.is_met(|node| told.contains(&node.0)),
                "{regions:?}"
            );
            assert!(
                !witnesses.is_met(|node| silent.contains(&node.0)),
                "{regions:?}"
            );
        }
        assert_eq!(Quorum::witnesses(&owners(&[&[1]]), NodeId(1)), None);
        let witnesses = Quorum::witnesses(&joint(&[1, 2, 3], &[2, 3, 4]), NodeId(2)).unwrap();
        assert!(witnesses.is_met(|node| [1, 3, 4].contains(&node.0)));
        assert!(
            !witnesses.is_met(|node| [1, 3].contains(&node.0)),
            "two of each list"
        );
    }

    proptest! {
        #[test]
        fn every_set_that_meets_a_quorum_meets_a_holder_of_its_blocking_set(
            n in 1usize..8, need in 1usize..8, reads: u8, holds: u8
        ) {
            prop_assume!(need <= n);
            let ids: Vec<u64> = (0..n as u64).collect();
            let level = Level::Explicit { read: need as u8, write: 1 };
            let quorum = Quorum::of(level, Side::Read, &owners(&[&ids]), None).unwrap();
            let has = |mask: u8| move |node: NodeId| mask >> node.0 & 1 == 1;
            if quorum.is_met(has(reads)) && quorum.blocking().is_met(has(holds)) {
                prop_assert!(ids.iter().any(|id| (reads & holds) >> id & 1 == 1));
            }
        }

        #[test]
        fn what_is_met_stays_possible(mask: u8, lost: u8) {
            let five = owners(&[&[0, 1, 2, 3, 4]]);
            let quorum = Quorum::of(Level::Quorum, Side::Read, &five, None).unwrap();
            let has = |mask: u8| move |node: NodeId| mask >> node.0 & 1 == 1;
            if quorum.is_met(has(mask & !lost)) {
                prop_assert!(quorum.is_possible(has(lost)));
            }
            prop_assert_eq!(quorum.missing(has(mask)) == 0, quorum.is_met(has(mask)));
        }
    }
}
