//! Which members own which partition of the ring.
//!
//! A partition is **stable**, with one list of owners in each region, or **joint**: then one of its
//! lists has a next one, and every quorum is one of the lists as they are and of those to be.
//!
//! Each partition's lists were set by an epoch, and a request of an older one is refused where they
//! changed since. The table knows that epoch of the partitions that changed last; of all others it
//! is the table's own, which rises when there are too many.

mod region;

use crate::bounded;
use crate::limits::{CHANGED_MAX, JOINT_MAX, PARTITIONS_MAX, REGIONS_MAX, REPLICAS_MAX};
use crate::view::Member;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

pub use region::{NOBODY, Places, RegionTable};

/// One list, as indices of members.
pub type List = SmallVec<[u32; REPLICAS_MAX]>;

/// Which members own which partition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Equal arcs that the ring is cut into, a power of two.
    pub partitions: u32,
    /// The epoch that set the lists of all partitions that are not in `changed`, or a later one.
    pub epoch: u64,
    /// Owners that each list has where there are so many members; no bucket is made with more
    /// replicas. 0: not known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub list_length: u8,
    /// The lists, region by region, in order of name.
    pub regions: Vec<RegionTable>,
    /// Partitions whose lists were set by epochs of their own, in order.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "bounded::list::<CHANGED_MAX, _, _>"
    )]
    pub changed: Vec<Changed>,
    /// Partitions that are joint, in order.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "bounded::list::<JOINT_MAX, _, _>"
    )]
    pub joint: Vec<Joint>,
}

/// A partition whose lists were set lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The partition.
    pub partition: u32,
    /// The epoch that set its lists, be they current or next ones.
    pub epoch: u64,
}

/// A partition of which one list is to become another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joint {
    /// The partition.
    pub partition: u32,
    /// Name of the region whose list it is.
    #[serde(default)]
    pub region: String,
    /// The owners to be, as indices of members, the first is the first choice.
    #[serde(deserialize_with = "bounded::list::<REPLICAS_MAX, _, _>")]
    pub next: Vec<u32>,
}

impl Table {
    /// The epoch that set the lists of a partition: a request of an older one is refused.
    #[inline]
    pub fn lists_epoch(&self, partition: u32) -> u64 {
        let at = self
            .changed
            .binary_search_by_key(&partition, |c| c.partition);
        at.ok()
            .and_then(|at| self.changed.get(at))
            .map_or(self.epoch, |changed| changed.epoch)
    }

    /// What a partition is to become, if it is joint.
    #[inline]
    pub fn joint(&self, partition: u32) -> Option<&Joint> {
        let at = self.joint.binary_search_by_key(&partition, |j| j.partition);
        self.joint.get(at.ok()?)
    }

    /// The table of a region.
    pub fn region_mut(&mut self, name: &str) -> Option<&mut RegionTable> {
        self.regions.iter_mut().find(|table| table.region == name)
    }

    /// Makes a partition joint, or joint with another next list.
    pub fn open(&mut self, joint: Joint, epoch: u64) {
        self.note_changed(joint.partition, epoch);
        let at = self
            .joint
            .binary_search_by_key(&joint.partition, |j| j.partition);
        match at {
            Ok(at) => self.joint[at] = joint,
            Err(at) => self.joint.insert(at, joint),
        }
    }

    /// Makes a joint partition stable: with its next list, or, unless `takes`, with the one that it
    /// had. Gives what it was to become; `None`: it was not joint.
    pub fn settle(&mut self, partition: u32, takes: bool, epoch: u64) -> Option<Joint> {
        let at = self.joint.binary_search_by_key(&partition, |j| j.partition);
        let joint = self.joint.remove(at.ok()?);
        self.note_changed(partition, epoch);
        if let Some(table) = self.region_mut(&joint.region).filter(|_| takes) {
            table.set(partition, &joint.next);
        }
        Some(joint)
    }

    /// Cuts every partition in two halves, which have all that the whole had.
    pub fn halve(&mut self) {
        self.partitions *= 2;
        self.regions.iter_mut().for_each(RegionTable::halve);
        let halves = |partition: u32| [2 * partition, 2 * partition + 1];
        let changed = self.changed.iter().flat_map(|changed| {
            halves(changed.partition).map(|partition| Changed {
                partition,
                ..*changed
            })
        });
        self.changed = changed.collect();
        let joint = self.joint.iter().flat_map(|joint| {
            halves(joint.partition).map(|partition| Joint {
                partition,
                ..joint.clone()
            })
        });
        self.joint = joint.collect();
        // It looks at what is joint, so that has to be cut before.
        self.forget_oldest();
    }

    /// Gives members other indices; `members`: how many there are now.
    pub fn renumber(&mut self, members: usize, index: impl Fn(u32) -> u32) {
        let tables = self.regions.iter_mut();
        tables.for_each(|table| table.renumber(members, &index));
        let next = self.joint.iter_mut().flat_map(|joint| &mut joint.next);
        next.for_each(|owner| *owner = index(*owner));
    }

    fn note_changed(&mut self, partition: u32, epoch: u64) {
        let changed = Changed { partition, epoch };
        match self
            .changed
            .binary_search_by_key(&partition, |c| c.partition)
        {
            Ok(at) => self.changed[at] = changed,
            Err(at) => self.changed.insert(at, changed),
        }
        self.forget_oldest();
    }

    /// Lets the epoch of all others rise over those that changed longest ago, until what is left is
    /// within bounds. What a joint partition waits for names the epoch that made it so: that stays.
    fn forget_oldest(&mut self) {
        if self.changed.len() <= CHANGED_MAX {
            return;
        }
        let joint: Vec<_> = self.joint.iter().map(|joint| joint.partition).collect();
        let stays = |changed: &Changed| joint.binary_search(&changed.partition).is_ok();
        let others = self.changed.iter().filter(|changed| !stays(changed));
        let mut epochs: Vec<_> = others.map(|changed| changed.epoch).collect();
        epochs.sort_unstable();
        // The excess, and as many more: not every change has to look for the oldest.
        let over = self.changed.len() - CHANGED_MAX / 2;
        let newest = epochs.get(over.min(epochs.len()).saturating_sub(1));
        self.epoch = self.epoch.max(newest.copied().unwrap_or(0));
        let floor = self.epoch;
        self.changed.retain(|c| c.epoch > floor || stays(c));
    }

    /// Checks every rule that the rest of the code relies on. `epoch`, `members`: the view's.
    ///
    /// # Errors
    /// Says which rule is broken, and where.
    pub fn validate(&self, epoch: u64, members: &[Member]) -> Result<(), String> {
        self.validate_frame(epoch, members)?;
        for table in &self.regions {
            // A region's name is compared once for each member, not for each list.
            let here: Vec<_> = members.iter().map(|m| m.region == table.region).collect();
            let here = |index: u32| here.get(index as usize).copied().unwrap_or(false);
            for partition in 0..self.partitions {
                table.validate_list(partition, here)?;
            }
        }
        (0..self.partitions).try_for_each(|partition| self.validate_owned(partition))?;
        self.validate_joint(members)
    }

    /// Checks the same of a table in which the lists of these partitions only are not those of a
    /// sound one, but for the indices of members, who are of the same regions.
    ///
    /// # Errors
    /// Says which rule is broken, and where.
    pub fn validate_changes(
        &self,
        epoch: u64,
        members: &[Member],
        partitions: impl Iterator<Item = u32>,
    ) -> Result<(), String> {
        self.validate_frame(epoch, members)?;
        for partition in partitions {
            for table in &self.regions {
                table.validate_list(partition, |index| is_of(&table.region, index, members))?;
            }
            self.validate_owned(partition)?;
        }
        self.validate_joint(members)
    }

    /// Checks all but what the lists say.
    fn validate_frame(&self, epoch: u64, members: &[Member]) -> Result<(), String> {
        let Self {
            partitions,
            regions,
            ..
        } = self;
        if !partitions.is_power_of_two() || *partitions > PARTITIONS_MAX {
            return Err(format!(
                "{partitions} partitions; a power of two up to {PARTITIONS_MAX} is needed"
            ));
        }
        if self.epoch > epoch {
            return Err(format!(
                "table of epoch {} in a view of epoch {epoch}",
                self.epoch
            ));
        }
        if regions.is_empty() || regions.len() > REGIONS_MAX {
            return Err(format!("{} regions; 1 to {REGIONS_MAX}", regions.len()));
        }
        if !regions
            .windows(2)
            .all(|pair| pair[0].region < pair[1].region)
        {
            return Err("regions are not in order of name".into());
        }
        for table in regions {
            table.validate_size(*partitions, members.len())?;
        }
        self.validate_changed(epoch)
    }

    fn validate_owned(&self, partition: u32) -> Result<(), String> {
        let mut tables = self.regions.iter();
        match tables.any(|table| table.list(partition).next().is_some()) {
            true => Ok(()),
            false => Err(format!("nobody owns partition {partition}")),
        }
    }

    fn validate_changed(&self, epoch: u64) -> Result<(), String> {
        let changed = &self.changed;
        let in_order = changed.windows(2).all(|p| p[0].partition < p[1].partition);
        let last = changed.last().map_or(0, |changed| changed.partition);
        let known = |changed: &Changed| changed.epoch <= epoch;
        if changed.len() > CHANGED_MAX
            || !in_order
            || last >= self.partitions
            || !changed.iter().all(known)
        {
            return Err("bad epochs of lists that changed".into());
        }
        Ok(())
    }

    fn validate_joint(&self, members: &[Member]) -> Result<(), String> {
        if self.joint.len() > JOINT_MAX {
            return Err(format!("more than {JOINT_MAX} partitions are joint"));
        }
        if !self
            .joint
            .windows(2)
            .all(|p| p[0].partition < p[1].partition)
        {
            return Err("joint partitions are not in order, each once".into());
        }
        for joint in &self.joint {
            let Joint {
                partition,
                region,
                next,
            } = joint;
            let known = self.regions.iter().any(|table| table.region == *region);
            let others = self.regions.iter().filter(|table| table.region != *region);
            let mut others = others.flat_map(|table| table.list(*partition));
            let owned = !next.is_empty() || others.next().is_some();
            let changed = &self.changed;
            let set = changed.binary_search_by_key(partition, |c| c.partition);
            let here = |index| is_of(region, index, members);
            let sound = known && owned && set.is_ok() && is_list(next, here);
            if *partition >= self.partitions || next.len() > REPLICAS_MAX || !sound {
                return Err(format!(
                    "region `{region}`: bad next owners of partition {partition}"
                ));
            }
        }
        Ok(())
    }
}

/// Whether these are distinct, and each is where it should be.
fn is_list(list: &[u32], here: impl Fn(u32) -> bool) -> bool {
    let twice = |(at, index): (usize, &u32)| list[..at].contains(index);
    list.iter().all(|index| here(*index)) && !list.iter().enumerate().any(twice)
}

/// Whether the member of this index is one of a region.
fn is_of(region: &str, index: u32, members: &[Member]) -> bool {
    let member = members.get(index as usize);
    member.is_some_and(|member| member.region == region)
}

fn is_zero(number: &u8) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests;
