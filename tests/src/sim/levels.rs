//! Which quorums overlap: counted here anew, so that a mistake in the counting of the core shows.

use annulet_protocol::level::Level;

/// Most regions that the simulator makes.
pub(crate) const REGIONS_MAX: usize = 2;

/// Owners of a key in each region.
pub(crate) type PerRegion = [u8; REGIONS_MAX];

/// How many owners of a key answered, or hold a record, at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Needs {
    /// Of all.
    pub(crate) total: u8,
    /// Of each region.
    pub(crate) regions: PerRegion,
}

/// Which number of an explicit level counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Read,
    Write,
}

impl Needs {
    /// What a level asks of the owners. `None` if there are not so many.
    pub(crate) fn of(level: Level, side: Side, owners: PerRegion, home: usize) -> Option<Self> {
        let all: u8 = owners.iter().sum();
        let of_all = |total| Self {
            total,
            regions: [0; REGIONS_MAX],
        };
        let needs = match level {
            Level::One => of_all(1),
            // Fallbacks will do: it promises nothing of owners.
            Level::Available => of_all(0),
            Level::Quorum => of_all(all / 2 + 1),
            Level::All => of_all(all),
            Level::Explicit { read, write } => of_all(match side {
                Side::Read => read,
                Side::Write => write,
            }),
            Level::LocalQuorum => {
                let mut needs = of_all(0);
                needs.regions[home] = owners[home] / 2 + 1;
                needs
            }
            Level::EachQuorum => {
                let mut needs = of_all(0);
                for (need, owners) in needs.regions.iter_mut().zip(owners) {
                    *need = if owners == 0 { 0 } else { owners / 2 + 1 };
                }
                needs
            }
        };
        (needs.total <= all).then_some(needs)
    }

    /// How many hold what a read at this level has returned: as many as showed it where all that
    /// answered agreed, or as many as it was written back to. Each of the two may be the case.
    pub(crate) fn held_after_read(self, owners: PerRegion) -> Self {
        let held = |need: u8, owners: u8| need.min((owners + 1).saturating_sub(need));
        let mut regions = self.regions;
        for (need, owners) in regions.iter_mut().zip(owners) {
            *need = held(*need, owners);
        }
        Self {
            total: held(self.total, owners.iter().sum()),
            regions,
        }
    }

    /// Whether this many owners and that many have one in common, whichever they are.
    pub(crate) fn meets(self, other: Self, owners: PerRegion) -> bool {
        // Look for two sets without a common member, by their numbers in each region.
        let counts = |n: u8| (0..=n).flat_map(move |x| (0..=n - x).map(move |y| (x, y)));
        !counts(owners[0]).any(|(x0, y0)| {
            counts(owners[1]).any(|(x1, y1)| self.is_met([x0, x1]) && other.is_met([y0, y1]))
        })
    }

    /// Whether so many of each region are enough.
    pub(crate) fn is_met(self, held: PerRegion) -> bool {
        held.iter().sum::<u8>() >= self.total
            && held
                .iter()
                .zip(self.regions)
                .all(|(held, need)| *held >= need)
    }

    /// Whether this is more than half of all.
    pub(crate) fn is_majority(self, owners: PerRegion) -> bool {
        let all: u8 = owners.iter().sum();
        self.total > all / 2 || self.regions.iter().sum::<u8>() > all / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_overlap_as_the_design_says() {
        let meets = |write: Level, read: Level, owners: PerRegion| {
            let write = Needs::of(write, Side::Write, owners, 0).unwrap();
            let read = Needs::of(read, Side::Read, owners, 1).unwrap();
            write.meets(read, owners)
        };
        assert!(meets(Level::Quorum, Level::Quorum, [3, 0]));
        assert!(!meets(Level::One, Level::Quorum, [3, 0]));
        assert!(meets(Level::One, Level::All, [3, 0]));
        assert!(meets(Level::EachQuorum, Level::LocalQuorum, [3, 3]));
        assert!(meets(Level::EachQuorum, Level::Quorum, [3, 3]));
        assert!(!meets(Level::LocalQuorum, Level::LocalQuorum, [3, 3]));
        assert!(!meets(Level::Quorum, Level::LocalQuorum, [3, 3]));
    }
}
