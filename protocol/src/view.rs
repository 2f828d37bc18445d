//! The ring view: the members, the partition table and the buckets of one epoch. A view is an
//! immutable snapshot; what changes is which snapshot is current.

mod members;

use crate::bounded;
use crate::bucket::Bucket;
use crate::epoch::Point;
use crate::hash::KeyHash;
use crate::ids::{ClusterId, EpochHash, NodeId};
use crate::limits::{
    BUCKETS_MAX, EPOCH_NUMBER_MAX, GENERATION_MAX, KEEPERS_MAX, MEMBERS_MAX, NAME_BYTES_MAX,
};
use crate::names::named;
use crate::table::Table;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

pub use members::Members;

named! {
    /// Where a member stands in its life.
    pub enum MemberState {
        /// Admitted, owns nothing yet.
        Joining = "joining",
        /// Owns its share.
        Active = "active",
        /// Hands its share over.
        Leaving = "leaving",
        /// It is gone for good, with its data: others take its share, and of what they do not
        /// have nobody waits for it.
        Lost = "lost",
    }
}

impl MemberState {
    /// Whether it is to own nothing any more.
    #[must_use]
    pub fn is_to_go(self) -> bool {
        match self {
            Self::Joining | Self::Active => false,
            Self::Leaving | Self::Lost => true,
        }
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
    pub members: Members,
    /// Who owns what.
    pub table: Table,
    /// The buckets, in order of number.
    pub buckets: Vec<Bucket>,
    /// Where it stands in the chain of epochs; without keepers it is of no chain.
    #[serde(default, skip_serializing_if = "Tip::is_none")]
    pub tip: Tip,
}

impl View {
    /// The epoch that it is of.
    pub fn point(&self) -> Point {
        Point {
            generation: self.tip.generation,
            number: self.epoch,
            hash: self.tip.hash,
        }
    }

    /// Where its epoch stands in the order of all. Requests and replies name epochs by it.
    pub fn ordinal(&self) -> u64 {
        self.point().ordinal()
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
        self.members.get(self.place(id)?)
    }

    /// The index of the member of this id.
    pub fn place(&self, id: NodeId) -> Option<usize> {
        self.members.ids().binary_search(&id).ok()
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
        self.validate_but_table()?;
        self.table.validate(self.epoch, &self.members)
    }

    /// Checks the same of a view made of a sound one, in which no list of a partition is another
    /// but for these: all of the lists of a large table take long to check.
    ///
    /// # Errors
    /// Says which rule is broken, and where.
    pub fn validate_changes(&self, partitions: impl Iterator<Item = u32>) -> Result<(), String> {
        self.validate_but_table()?;
        let Self { table, members, .. } = self;
        table.validate_changes(self.epoch, members, partitions)
    }

    fn validate_but_table(&self) -> Result<(), String> {
        if !(1..=crate::limits::VALUE_BYTES_MAX).contains(&(self.value_bytes_max as usize)) {
            return Err(format!(
                "largest value of {} bytes is out of range",
                self.value_bytes_max
            ));
        }
        if self.epoch > EPOCH_NUMBER_MAX || self.tip.generation > GENERATION_MAX {
            let (generation, number) = (self.tip.generation, self.epoch);
            return Err(format!(
                "epoch {number} of generation {generation}; at most {EPOCH_NUMBER_MAX} of \
                 {GENERATION_MAX}"
            ));
        }
        self.validate_members()?;
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
        if !self.members.are_ids_right() {
            return Err("the id of a member was changed in place".into());
        }
        Ok(())
    }
}
