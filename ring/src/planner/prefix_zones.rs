//! Spreads short prefixes over zones where whole lists can't be.
//!
//! With fewer zones than owners, lists have zones more than once, and the first two owners may
//! share one although there are two zones: a bucket with two replicas would then be less safe than
//! it could be. Swapping two owners **at the same position** of two lists changes no node's count
//! in any prefix, so what the earlier steps promise stays true. This step swaps while that gives
//! prefixes of as many owners as there are zones more distinct zones.
//!
//! It is a bounded improvement, not a promise: where one zone's capacity asks for more than one
//! place in such a prefix, balance goes first.

use super::{MAX_LIST_LENGTH, Region};

/// Lists looked at per wanted swap, to bound the time on tables where nothing more can be gained.
const TRIES: usize = 8;

/// Improves `lists`, as of [`super::spread::spread`], in place.
pub(super) fn improve(region: &Region, lists: &mut [u32]) {
    let zones = region.zones.len();
    if zones < 2 || zones >= region.length {
        return;
    }
    let zone_of = region.zone_of_nodes();
    let crowded = vec![Vec::new(); zones * zones];
    let mut table = Table {
        lists,
        zone_of,
        zones,
        length: region.length,
        zone_limit: region.zone_limit,
        crowded,
    };
    let partitions = region.partitions as usize;
    for partition in 0..partitions {
        if table.is_crowded(partition) {
            for position in 0..zones {
                table.note(partition, position);
            }
        }
    }
    for partition in 0..partitions {
        while table.is_crowded(partition) && table.swap_one(partition) {}
    }
}

/// The lists, and which of them have a zone twice in the prefix of `zones` owners.
struct Table<'a> {
    lists: &'a mut [u32],
    zone_of: Vec<u32>,
    zones: usize,
    length: usize,
    zone_limit: usize,
    /// Per position and zone (`position * zones + zone`), the crowded lists that have that zone
    /// there. Entries that no longer hold are dropped when met.
    crowded: Vec<Vec<usize>>,
}

impl Table<'_> {
    fn list(&self, partition: usize) -> &[u32] {
        &self.lists[partition * self.length..(partition + 1) * self.length]
    }

    fn zone_at(&self, partition: usize, position: usize) -> usize {
        self.zone_of[self.lists[partition * self.length + position] as usize] as usize
    }

    /// How often each zone stands among the first `prefix` owners.
    fn zone_counts(&self, partition: usize, prefix: usize) -> [usize; MAX_LIST_LENGTH] {
        let mut counts = [0; MAX_LIST_LENGTH];
        for position in 0..prefix {
            counts[self.zone_at(partition, position)] += 1;
        }
        counts
    }

    fn is_crowded(&self, partition: usize) -> bool {
        self.zone_counts(partition, self.zones)
            .iter()
            .any(|&count| count > 1)
    }

    fn note(&mut self, partition: usize, position: usize) {
        let zone = self.zone_at(partition, position);
        self.crowded[position * self.zones + zone].push(partition);
    }

    /// Finds and does one swap that gives `partition`, a crowded list, one more zone in its prefix
    /// without taking it from another list.
    fn swap_one(&mut self, partition: usize) -> bool {
        let counts = self.zone_counts(partition, self.zones);
        for position in (0..self.zones).rev() {
            if counts[self.zone_at(partition, position)] < 2 {
                continue;
            }
            for missing in (0..self.zones).filter(|&zone| counts[zone] == 0) {
                let Some((other, behind)) = self.find_swap(partition, position, missing) else {
                    continue;
                };
                for place in std::iter::once(position).chain(behind) {
                    self.swap(partition, other, place);
                }
                for changed in [partition, other] {
                    if self.is_crowded(changed) {
                        self.note(changed, position);
                    }
                }
                return true;
            }
        }
        false
    }

    fn swap(&mut self, partition: usize, other: usize, position: usize) {
        let (a, b) = (
            partition * self.length + position,
            other * self.length + position,
        );
        self.lists.swap(a, b);
    }

    /// A crowded list that has zone `wanted` at `position` and may swap its owner there with that
    /// of `partition`; and a position behind the prefix to swap as well, if that is needed.
    fn find_swap(
        &mut self,
        partition: usize,
        position: usize,
        wanted: usize,
    ) -> Option<(usize, Option<usize>)> {
        let key = position * self.zones + wanted;
        let mut index = self.crowded[key].len();
        for _ in 0..TRIES {
            index = index.checked_sub(1)?;
            let other = self.crowded[key][index];
            if self.zone_at(other, position) != wanted || !self.is_crowded(other) {
                self.crowded[key].swap_remove(index);
            } else if self.gains(partition, other, position) {
                let mut behind = std::iter::once(None).chain((self.zones..self.length).map(Some));
                if let Some(behind) = behind.find(|&b| self.may_swap(partition, other, position, b))
                {
                    self.crowded[key].swap_remove(index);
                    return Some((other, behind));
                }
            }
        }
        None
    }

    /// Whether the other list doesn't lose the zone that `partition` would gain, or gains one too.
    fn gains(&self, partition: usize, other: usize, position: usize) -> bool {
        let (given, taken) = (
            self.zone_at(partition, position),
            self.zone_at(other, position),
        );
        let prefix = self.zone_counts(other, self.zones);
        prefix[taken] > 1 || prefix[given] == 0
    }

    /// Whether both lists stay valid when their owners at `position`, and `behind` if given, swap.
    /// The second swap takes back in whole lists what the first does to their zones.
    fn may_swap(
        &self,
        partition: usize,
        other: usize,
        position: usize,
        behind: Option<usize>,
    ) -> bool {
        let (given, taken) = (
            self.zone_at(partition, position),
            self.zone_at(other, position),
        );
        let zones_fit = match behind {
            None => {
                self.zone_counts(partition, self.length)[taken] < self.zone_limit
                    && self.zone_counts(other, self.length)[given] < self.zone_limit
            }
            Some(behind) => {
                self.zone_at(partition, behind) == taken && self.zone_at(other, behind) == given
            }
        };
        let moves = |place: usize| place == position || Some(place) == behind;
        let newcomer_fits = |to: usize, from: usize| {
            (0..self.length).filter(|&place| moves(place)).all(|place| {
                let newcomer = self.list(from)[place];
                let mut stay = (0..self.length).filter(|&place| !moves(place));
                stay.all(|place| self.list(to)[place] != newcomer)
            })
        };
        zones_fit && newcomer_fits(partition, other) && newcomer_fits(other, partition)
    }
}
