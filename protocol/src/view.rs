//! The ring view: the members, the partition table and the buckets of one epoch. A view is an
//! immutable snapshot; what changes is which snapshot is current.

use crate::bounded;
use crate::bucket::Bucket;
use crate::epoch::Point;
use crate::hash::KeyHash;
use crate::ids::{ClusterId, EpochHash, NodeId};
use crate::limits::{
    BUCKETS_MAX, KEEPERS_MAX, MEMBERS_MAX, NAME_BYTES_MAX, PARTITIONS_MAX, REGIONS_MAX,
    REPLICAS_MAX,
};
use crate::names::named;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

named! {
    /// Where a member stands in its life.
    pub enum MemberState {
        /// Admitted, owns nothing yet.
        Joining = "joining",
        /// Owns its share.
        Active = "active",
        /// Hands its share over.
        Leaving = "leaving",
    }
}

/// One server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// The id of its store.
    pub id: NodeId,
    /// Host and port that clients and peers connect to.
    pub address: String,
    /// Its share of the data, relative to the others', at least 1.
    pub capacity: u32,
    /// What fails together with it: a rack, an availability zone.
    #[serde(default)]
    pub zone: String,
    /// Its datacentre. Every region holds a full set of replicas.
    #[serde(default)]
    pub region: String,
    /// Where it stands.
    pub state: MemberState,
}

/// The owner lists of one region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegionTable {
    /// Name of the region, as its members give it.
    pub region: String,
    /// Owners in each list, at most the members of the region.
    pub length: u8,
    /// One list after the other, partition by partition: each owner as its index among the view's
    /// members, 4 bytes little-endian.
    #[serde(with = "serde_bytes")]
    pub owners: Vec<u8>,
}

/// Which members own which partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Equal arcs that the ring is cut into, a power of two.
    pub partitions: u32,
    /// The epoch that set these lists. A request of an older one is refused.
    pub epoch: u64,
    /// Owners that each list has where there are so many members; no bucket is made with more
    /// replicas. 0: not known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub list_length: u8,
    /// The lists, region by region, in order of name.
    pub regions: Vec<RegionTable>,
}

/// Where a view stands in the chain of epochs, and what it takes to go on from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tip {
    /// Counts how often the chain was begun anew after its keepers were lost.
    pub generation: u64,
    /// The epoch's own.
    pub hash: EpochHash,
    /// The servers among which the next epoch is decided.
    #[serde(deserialize_with = "bounded::list::<KEEPERS_MAX, _, _>")]
    pub keepers: Vec<NodeId>,
    /// The number that the next new bucket gets: above all that any bucket ever had.
    pub next_bucket: u32,
}

impl Tip {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Everything that clients and servers must agree on, as of one epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its name for people.
    pub name: String,
    /// Seed of the key hash.
    pub seed: u64,
    /// The number of this view; later ones are higher.
    pub epoch: u64,
    /// Longest value in bytes that the servers take.
    pub value_bytes_max: u32,
    /// The servers, in order of id.
    pub members: Vec<Member>,
    /// Who owns what.
    pub table: Table,
    /// The buckets, in order of number.
    pub buckets: Vec<Bucket>,
    /// Where it stands in the chain of epochs; without keepers it is of no chain.
    #[serde(default, skip_serializing_if = "Tip::is_none")]
    pub tip: Tip,
}

impl RegionTable {
    /// Member indices of the owners of a partition, the first is the first choice.
    pub fn list(&self, partition: u32) -> impl ExactSizeIterator<Item = usize> + '_ {
        let width = usize::from(self.length) * 4;
        let start = partition as usize * width;
        let list = self.owners.get(start..start + width).unwrap_or_default();
        list.chunks_exact(4)
            .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize)
    }
}

impl View {
    /// The epoch that it is of.
    pub fn point(&self) -> Point {
        Point {
            number: self.epoch,
            hash: self.tip.hash,
        }
    }

    /// The bucket of this name.
    pub fn bucket_named(&self, name: &str) -> Option<&Bucket> {
        self.buckets.iter().find(|bucket| bucket.name == name)
    }

    /// The bucket of this number.
    pub fn bucket(&self, number: u32) -> Option<&Bucket> {
        let at = self
            .buckets
            .binary_search_by_key(&number, |bucket| bucket.number)
            .ok()?;
        self.buckets.get(at)
    }

    /// Whether there was a bucket of this number once, and is none any more. A number that none
    /// has had yet is of a view that is still to come.
    pub fn had_bucket(&self, number: u32) -> bool {
        let last = self.buckets.last().map_or(0, |bucket| bucket.number);
        let minted = number < self.tip.next_bucket || number < last;
        minted && self.bucket(number).is_none()
    }

    /// The member of this id.
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        let at = self
            .members
            .binary_search_by_key(&id, |member| member.id)
            .ok()?;
        self.members.get(at)
    }

    /// Where a key of a bucket lies.
    pub fn hash(&self, bucket: u32, key: &[u8]) -> KeyHash {
        KeyHash::of(self.seed, bucket, key)
    }

    /// Checks every rule that the rest of the code relies on. Decoders call it, so a view in hand
    /// is a sound one.
    ///
    /// # Errors
    /// Says which rule is broken, and where.
    pub fn validate(&self) -> Result<(), String> {
        if !(1..=crate::limits::VALUE_BYTES_MAX).contains(&(self.value_bytes_max as usize)) {
            return Err(format!(
                "largest value of {} bytes is out of range",
                self.value_bytes_max
            ));
        }
        self.validate_members()?;
        self.validate_table()?;
        if self.buckets.len() > BUCKETS_MAX {
            return Err(format!(
                "{} buckets; at most {BUCKETS_MAX}",
                self.buckets.len()
            ));
        }
        self.buckets.iter().try_for_each(Bucket::validate)?;
        if !self
            .buckets
            .windows(2)
            .all(|pair| pair[0].number < pair[1].number)
        {
            return Err("buckets are not in order of number".into());
        }
        let names: BTreeSet<_> = self.buckets.iter().map(|b| &b.name).collect();
        if names.len() != self.buckets.len() {
            return Err("two buckets have one name".into());
        }
        self.validate_tip()
    }

    fn validate_tip(&self) -> Result<(), String> {
        let Tip {
            keepers,
            next_bucket,
            ..
        } = &self.tip;
        if keepers.len() > KEEPERS_MAX {
            return Err(format!("more than {KEEPERS_MAX} keepers"));
        }
        let last = self.buckets.last().map_or(0, |bucket| bucket.number);
        if !self.tip.is_none() && *next_bucket <= last {
            return Err(format!(
                "the next bucket would be number {next_bucket}, there is number {last} already"
            ));
        }
        Ok(())
    }

    fn validate_members(&self) -> Result<(), String> {
        if self.members.is_empty() || self.members.len() > MEMBERS_MAX {
            return Err(format!(
                "{} members; 1 to {MEMBERS_MAX}",
                self.members.len()
            ));
        }
        for member in &self.members {
            let Member {
                id,
                address,
                zone,
                region,
                capacity,
                ..
            } = member;
            if address.is_empty()
                || [address, zone, region]
                    .iter()
                    .any(|s| s.len() > NAME_BYTES_MAX)
            {
                return Err(format!(
                    "member {id}: address must have 1 to {NAME_BYTES_MAX} bytes, zone and region \
                     at most {NAME_BYTES_MAX}"
                ));
            }
            if *capacity == 0 {
                return Err(format!("member {id}: capacity must be at least 1"));
            }
        }
        if !self.members.windows(2).all(|pair| pair[0].id < pair[1].id) {
            return Err("members are not in order of id, each id once".into());
        }
        Ok(())
    }

    fn validate_table(&self) -> Result<(), String> {
        let Table {
            partitions,
            epoch,
            regions,
            ..
        } = &self.table;
        if !partitions.is_power_of_two() || *partitions > PARTITIONS_MAX {
            return Err(format!(
                "{partitions} partitions; a power of two up to {PARTITIONS_MAX} is needed"
            ));
        }
        if *epoch > self.epoch {
            return Err(format!(
                "table of epoch {epoch} in a view of epoch {}",
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
        regions
            .iter()
            .try_for_each(|region| self.validate_region(region))
    }

    fn validate_region(&self, table: &RegionTable) -> Result<(), String> {
        let RegionTable {
            region,
            length,
            owners,
        } = table;
        let length = usize::from(*length);
        if !(1..=REPLICAS_MAX).contains(&length) {
            return Err(format!(
                "region `{region}`: lists of {length} owners; 1 to {REPLICAS_MAX}"
            ));
        }
        if owners.len() != self.table.partitions as usize * length * 4 {
            return Err(format!(
                "region `{region}`: a table of {} bytes",
                owners.len()
            ));
        }
        for partition in 0..self.table.partitions {
            let mut seen = smallvec::SmallVec::<[usize; REPLICAS_MAX]>::new();
            for index in table.list(partition) {
                let here = self.members.get(index).is_some_and(|m| m.region == *region);
                if !here || seen.contains(&index) {
                    return Err(format!(
                        "region `{region}`: bad owners of partition {partition}"
                    ));
                }
                seen.push(index);
            }
        }
        Ok(())
    }
}

fn is_zero(number: &u8) -> bool {
    *number == 0
}
