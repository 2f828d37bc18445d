//! Epochs: the records that lead from one view to the next, what servers say to each other to
//! decide them, and what those who may change buckets ask for.
//!
//! A record is named by its hash, so its bytes must be the same everywhere: it travels as bytes,
//! and bytes that this version would not write itself are refused. So a record with a field that
//! only a newer version knows stops an older one, which would else go on under another view.

mod lists;

use crate::ballot::Ballot;
use crate::bounded;
use crate::bucket::Bucket;
use crate::codec::{self, DecodeError};
use crate::ids::{ChangeId, ClusterId, EpochHash, NodeId};
use crate::level::Level;
use crate::limits::{
    BUCKET_CHANGES_MAX, EPOCH_BYTES_MAX, EPOCH_NUMBER_MAX, EPOCHS_MAX, GENERATION_MAX, JOINT_MAX,
    KEEPERS_MAX, LIST_CHANGES_MAX, MEMBER_CHANGES_MAX,
};
use crate::names::tagged;
use crate::recovery::{Seal, Stands};
use crate::view::{Member, MemberState, View};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

pub use lists::{ListChange, NextList, Step};

/// An epoch of a chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Point {
    /// How often the chain was begun anew up to it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub generation: u64,
    /// Its number: one above that of the epoch before.
    pub number: u64,
    /// Its hash.
    pub hash: EpochHash,
}

impl Point {
    /// Where it stands in the order of all epochs.
    pub fn ordinal(self) -> u64 {
        ordinal(self.generation, self.number)
    }
}

/// Bits of an ordinal that are the epoch's number.
const NUMBER_BITS: u32 = EPOCH_NUMBER_MAX.count_ones();

/// Where an epoch stands in the order of all: by its generation, then by its number. A chain that
/// was begun anew goes on from the newest epoch that was found, so its epochs may have numbers
/// that others had which were lost. Without a recovery it is the number.
pub fn ordinal(generation: u64, number: u64) -> u64 {
    let generation = generation.min(GENERATION_MAX);
    generation << NUMBER_BITS | number.min(EPOCH_NUMBER_MAX)
}

/// The generation of the epoch that has this ordinal.
pub fn generation_of(ordinal: u64) -> u64 {
    ordinal >> NUMBER_BITS
}

/// The number of the epoch that has this ordinal.
pub fn number_of(ordinal: u64) -> u64 {
    ordinal & EPOCH_NUMBER_MAX
}

/// One decision: what is different from the epoch before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Counts how often the chain was begun anew after its keepers were lost.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub generation: u64,
    /// One above that of the epoch before.
    pub number: u64,
    /// The epoch before.
    pub before: EpochHash,
    /// The servers among which the next one is decided: one, three or five. None: the same as among
    /// which this one was.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "bounded::list::<KEEPERS_MAX, _, _>"
    )]
    pub keepers: Vec<NodeId>,
    /// Who asked for it can tell by this that it was done.
    pub change: ChangeId,
    /// Changes of buckets, in order.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "bounded::list::<BUCKET_CHANGES_MAX, _, _>"
    )]
    pub buckets: Vec<BucketChange>,
    /// Changes of members, in order.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "bounded::list::<MEMBER_CHANGES_MAX, _, _>"
    )]
    pub members: Vec<MemberChange>,
    /// Changes of who owns what, in order; after those of members.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "lists")]
    pub lists: Vec<ListChange>,
    /// The ring is cut into twice as many partitions, before anything else is changed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub doubles: bool,
    /// How many owners each list is to have from now on, if that changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list_length: Option<u8>,
}

tagged! {
    /// What becomes of one server.
    pub enum MemberChange {
        /// It is one of the cluster from now on, and owns nothing yet.
        Joined(Member) = "joined",
        /// What may change of it changes.
        Set(MemberSettings) = "set",
        /// It owns nothing any more, and is gone.
        Left(MemberGone) = "left",
    }
}

/// What may change of a member, all of it as it is from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberSettings {
    /// The member.
    pub id: NodeId,
    /// Host and port that clients and peers connect to.
    pub address: String,
    /// Its share of the data, relative to the others', at least 1.
    pub capacity: u32,
    /// What fails together with it.
    #[serde(default)]
    pub zone: String,
    /// Where it stands. No member ever joins twice.
    pub state: MemberState,
}

/// A member that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberGone {
    /// The member.
    pub id: NodeId,
}

/// A partition that is joint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListPlace {
    /// The partition.
    pub partition: u32,
    /// The epoch that made it joint as it is: an order that was given before that means another
    /// move.
    pub since: u64,
}

tagged! {
    /// What becomes of one bucket.
    pub enum BucketChange {
        /// It is there from now on.
        Created(Bucket) = "created",
        /// Its policy changes where that may change.
        Set(BucketSettings) = "set",
        /// It is there no more, and its number is never used again.
        Deleted(BucketGone) = "deleted",
    }
}

/// What may change of a bucket, all of it as it is from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketSettings {
    /// The bucket.
    pub number: u32,
    /// Level of reads that name none.
    pub read_level: Level,
    /// Level of writes that name none.
    pub write_level: Level,
    /// How long a value lives if its writer does not say, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
}

/// A bucket that is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketGone {
    /// The bucket.
    pub number: u32,
}

impl EpochRecord {
    /// Its bytes, by which it is named.
    pub fn encode(&self) -> Bytes {
        codec::encode(self).into()
    }

    /// Reads a record.
    ///
    /// # Errors
    /// If it is malformed, over a limit, or says anything that this version does not know.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::limit("bytes", bytes.len(), EPOCH_BYTES_MAX)?;
        let record: Self = codec::decode(bytes)?;
        codec::no_more("keepers", record.keepers.len(), KEEPERS_MAX)?;
        codec::no_more("changes", record.buckets.len(), BUCKET_CHANGES_MAX)?;
        codec::no_more("members", record.members.len(), MEMBER_CHANGES_MAX)?;
        codec::no_more("lists", record.lists.len(), LIST_CHANGES_MAX)?;
        if record.encode() != bytes {
            let why = "it is not what this version would write: a newer version wrote it";
            return Err(DecodeError::Malformed(why.into()));
        }
        Ok(record)
    }

    /// The epoch that it makes.
    pub fn point(&self) -> Point {
        Point {
            generation: self.generation,
            number: self.number,
            hash: hash(&self.encode()),
        }
    }
}

/// What a record's bytes, or those of a first view, are named by. It tells records of one cluster
/// apart, whose servers trust each other; it is no proof against forgery.
pub fn hash(bytes: &[u8]) -> EpochHash {
    EpochHash(xxh3_128(bytes).to_be_bytes())
}

/// What one server asks another about the chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChainRequest {
    /// The cluster.
    pub cluster: ClusterId,
    /// What it asks.
    pub question: ChainQuestion,
}

tagged! {
    /// A question of a server that proposes an epoch, or has one to tell.
    pub enum ChainQuestion {
        /// Take these records if they go on from what you hold.
        Offer(Offer) = "offer",
        /// Promise to accept nothing under a lower ballot.
        Prepare(Prepare) = "prepare",
        /// Accept this record.
        Accept(Accept) = "accept",
        /// Say which partitions you are to own and have copied.
        Copies(Copies) = "copies",
        /// Say where you stand, and let nothing change that below a generation.
        Seal(Seal) = "seal",
    }
}

/// Asks a server which of the partitions that it is to own it has copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copies {}

/// Decided records, each of which follows the one before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The records; none: only what is held is asked.
    #[serde(deserialize_with = "bounded::list::<EPOCHS_MAX, _, _>")]
    pub records: Vec<Bytes>,
    /// The last epoch of this chain that a majority of its own keepers holds, so that it may be
    /// acted under.
    pub settled: u64,
    /// The hash of that epoch.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hash: EpochHash,
    /// The generation of the newest epoch that whoever offers holds, to which the records lead.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub generation: u64,
}

impl Offer {
    /// Records, by one who holds `newest` and knows that `settled` may be acted under.
    pub fn new(records: Vec<Bytes>, settled: Point, newest: Point) -> Self {
        Self {
            records,
            settled: settled.number,
            hash: settled.hash,
            generation: newest.generation,
        }
    }

    /// Asks only what is held.
    pub fn question() -> Self {
        Self::new(Vec::new(), Point::default(), Point::default())
    }
}

/// The first half of a round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepare {
    /// The epoch whose successor is to be decided.
    pub of: Point,
    /// The round.
    pub ballot: Ballot,
}

/// The second half of a round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accept {
    /// The epoch whose successor is to be decided.
    pub of: Point,
    /// The round.
    pub ballot: Ballot,
    /// The successor.
    pub record: Bytes,
}

/// The answer to a [`ChainRequest`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChainReply {
    /// The cluster.
    pub cluster: ClusterId,
    /// Who answers.
    pub node: NodeId,
    /// What it answers.
    pub answer: ChainAnswer,
}

tagged! {
    /// The answer of one server, which rests on what it holds durably.
    pub enum ChainAnswer {
        /// This is the newest epoch that it holds.
        Holds(Point) = "holds",
        /// It promises.
        Promised(Promised) = "promised",
        /// It accepted the record.
        Accepted(Granted) = "accepted",
        /// It has copied these partitions.
        Copied(CopiesOver) = "copied",
        /// It promised a higher ballot before.
        Rejected(Ballot) = "rejected",
        /// The successor has been decided already.
        Decided(Decided) = "decided",
        /// It does not hold that epoch, but only this one.
        Lacks(Point) = "lacks",
        /// It stands here, and is sealed if that was asked.
        Stands(Box<Stands>) = "stands",
        /// It is not sealed: it is sealed already for this generation, or holds an epoch of it.
        SealedAbove(u64) = "sealed_above",
        /// It will not, for this reason.
        Refused(String) = "refused",
    }
}

/// Partitions of which a server has all that it is to own, and whether it is done with what it
/// owns no more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiesOver {
    /// Each under the epoch that made it joint as it is.
    #[serde(deserialize_with = "bounded::list::<JOINT_MAX, _, _>")]
    pub over: Vec<ListPlace>,
    /// The ordinal of the epoch that it acts under; 0: it is of a version that does not say so.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub epoch: u64,
    /// How many partitions that epoch has: those before a doubling have the same numbers as others
    /// after it.
    #[serde(default, skip_serializing_if = "is_none_at_all")]
    pub partitions: u32,
    /// Something that it owns no more, or keeps for others, is still to be handed over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hands_over: bool,
}

impl CopiesOver {
    /// Whether the partitions that it names are those of this view: not of before they were cut in
    /// halves, and of no epoch that was given up.
    pub fn is_of(&self, view: &View) -> bool {
        let generation = generation_of(self.epoch);
        self.partitions == view.table.partitions && generation == view.tip.generation
    }

    /// Whether a server that stands in no list of the epoch of this ordinal has handed over all
    /// that it had. What it says under an older one is out of date: it may have lost more since.
    pub fn has_handed_over(&self, epoch: u64) -> bool {
        !self.hands_over && (self.epoch == 0 || self.epoch >= epoch)
    }
}

/// A promise, and what was accepted before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promised {
    /// The round of what was accepted.
    pub ballot: Ballot,
    /// The record; `None`: nothing was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Bytes>,
}

/// It is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {}

/// A record that was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// The record.
    pub record: Bytes,
}

/// What follows an epoch, for whoever has not got it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deltas {
    /// The cluster.
    pub cluster: ClusterId,
    /// Who answers.
    pub node: NodeId,
    /// The newest epoch that it acts under.
    pub newest: Point,
    /// The number of the epoch that its chain begins with: what follows was decided.
    pub first: u64,
    /// Its chain is as long, and does not hold the epoch that it was asked about.
    pub fork: bool,
    /// The records that follow that epoch; not all, if they are too many for one message.
    #[serde(deserialize_with = "bounded::list::<EPOCHS_MAX, _, _>")]
    pub records: Vec<Bytes>,
}

/// What somebody asks to be changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BucketRequest {
    /// The cluster.
    pub cluster: ClusterId,
    /// Names the change, also when it is asked for again.
    pub change: ChangeId,
    /// What is to be done.
    pub command: BucketCommand,
}

tagged! {
    /// A change of a bucket.
    pub enum BucketCommand {
        /// Make it. Its number is minted, whatever is said here.
        Create(Bucket) = "create",
        /// Change what may change of it.
        Set(SetBucket) = "set",
        /// Delete it, with all that is in it.
        Delete(DeleteBucket) = "delete",
    }
}

/// Changes a bucket's policy; what is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetBucket {
    /// Its name.
    pub name: String,
    /// Its number, if no other of that name is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// Level of reads that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_level: Option<Level>,
    /// Level of writes that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_level: Option<Level>,
    /// How long a value lives if its writer does not say, in milliseconds; 0: for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
}

/// Deletes a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteBucket {
    /// Its name.
    pub name: String,
    /// Its number, if no other of that name is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
}

/// A change is done: every majority of the keepers knows of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BucketReply {
    /// The cluster.
    pub cluster: ClusterId,
    /// The ordinal of the epoch that made the change.
    pub epoch: u64,
    /// The bucket as it is in that epoch, or as it was before.
    pub bucket: Bucket,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_none_at_all(number: &u32) -> bool {
    *number == 0
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;
    use crate::view::{Members, Tip};

    fn record() -> EpochRecord {
        EpochRecord {
            generation: 0,
            number: 7,
            before: EpochHash([1; 16]),
            keepers: vec![NodeId(1), NodeId(2), NodeId(3)],
            change: ChangeId([2; 16]),
            buckets: vec![BucketChange::Created(Bucket::new(4, "carts"))],
            ..EpochRecord::default()
        }
    }

    #[test]
    fn what_was_copied_counts_for_partitions_of_that_number_only() {
        let copied = CopiesOver {
            epoch: ordinal(1, 7),
            partitions: 8,
            ..CopiesOver::default()
        };
        let mut view = View {
            cluster: ClusterId([1; 16]),
            name: String::new(),
            seed: 0,
            epoch: 9,
            value_bytes_max: 0,
            members: Members::default(),
            table: Table::default(),
            buckets: Vec::new(),
            tip: Tip::default(),
        };
        let mut is_of = |partitions, generation| {
            (view.table.partitions, view.tip.generation) = (partitions, generation);
            copied.is_of(&view)
        };
        assert!(is_of(8, 1));
        assert!(!is_of(16, 1), "they have been cut in halves since");
        assert!(!is_of(8, 2), "the epoch was given up");
    }

    #[test]
    fn a_record_is_only_what_this_version_writes() {
        let record = record();
        let bytes = record.encode();
        assert_eq!(EpochRecord::decode(&bytes), Ok(record));
        // A field more, as a newer version may have it, at any depth.
        #[derive(Serialize)]
        struct Newer {
            number: u64,
            before: EpochHash,
            keepers: Vec<NodeId>,
            change: ChangeId,
            later: u8,
        }
        let newer = codec::encode(&Newer {
            number: 7,
            before: EpochHash::default(),
            keepers: vec![NodeId(1)],
            change: ChangeId::default(),
            later: 1,
        });
        let why = EpochRecord::decode(&newer).unwrap_err().to_string();
        assert!(why.contains("newer version"), "{why}");
        let unknown = EpochRecord {
            buckets: vec![BucketChange::Unknown],
            ..super::tests::record()
        };
        let read = EpochRecord::decode(&unknown.encode());
        assert!(
            read.is_ok_and(|read| read == unknown),
            "applying refuses it"
        );
    }

    #[test]
    fn epochs_are_ordered_by_generation_and_then_by_number() {
        let ordinals = [
            (0, 0),
            (0, 9),
            (0, EPOCH_NUMBER_MAX),
            (1, 1),
            (1, 2),
            (2, 0),
        ];
        let ordinals = ordinals.map(|(generation, number)| ordinal(generation, number));
        assert!(ordinals.is_sorted_by(|a, b| a < b), "{ordinals:?}");
        assert_eq!(ordinals[1], 9, "the number alone while nothing was lost");
        assert_eq!((generation_of(ordinals[4]), number_of(ordinals[4])), (1, 2));
        assert_eq!(ordinal(u64::MAX, u64::MAX), u64::MAX);
    }

    #[test]
    fn every_bit_of_a_record_counts_for_its_hash() {
        let one = record();
        let other = EpochRecord {
            change: ChangeId([3; 16]),
            ..record()
        };
        assert_ne!(one.point().hash, other.point().hash);
        assert_eq!(one.point(), record().point());
    }

    #[test]
    fn the_longest_record_is_within_its_limit() {
        use crate::limits::{BUCKET_NAME_BYTES_MAX, NAME_BYTES_MAX, REPLICAS_MAX};
        let far = |id| NodeId(u64::MAX - id);
        let long = "n".repeat(NAME_BYTES_MAX);
        let member = Member {
            id: far(0),
            address: long.clone(),
            capacity: u32::MAX,
            zone: long.clone(),
            region: long.clone(),
            state: MemberState::Joining,
        };
        let list = |at| {
            ListChange::Opened(NextList {
                partition: u32::MAX,
                // Every one of another region than the one before.
                region: long[at % 2..].into(),
                step: Step::Inserted {
                    position: REPLICAS_MAX as u8,
                    owner: u32::MAX - at as u32,
                },
            })
        };
        let bucket = Bucket {
            ttl_ms: Some(u64::MAX),
            merge: crate::siblings::merges::Merge::ALL.last().copied(),
            ..Bucket::new(u32::MAX, &"b".repeat(BUCKET_NAME_BYTES_MAX))
        };
        let longest = EpochRecord {
            generation: u64::MAX,
            number: u64::MAX,
            keepers: (0..KEEPERS_MAX as u64).map(far).collect(),
            buckets: vec![BucketChange::Created(bucket); BUCKET_CHANGES_MAX],
            members: vec![MemberChange::Joined(member); MEMBER_CHANGES_MAX],
            lists: (0..LIST_CHANGES_MAX).map(list).collect(),
            doubles: true,
            list_length: Some(REPLICAS_MAX as u8),
            ..EpochRecord::default()
        };
        let bytes = longest.encode();
        assert!(bytes.len() <= EPOCH_BYTES_MAX, "{} bytes", bytes.len());
        assert_eq!(EpochRecord::decode(&bytes), Ok(longest));
    }

    #[test]
    fn lists_over_their_limits_are_refused() {
        let keepers = (0..=KEEPERS_MAX as u64).map(NodeId).collect();
        let record = EpochRecord {
            keepers,
            ..record()
        };
        let gone = MemberChange::Left(MemberGone { id: NodeId(1) });
        let closed = ListChange::Closed(ListPlace {
            partition: 1,
            since: 1,
        });
        let members = EpochRecord {
            members: vec![gone; MEMBER_CHANGES_MAX + 1],
            ..self::record()
        };
        let lists = EpochRecord {
            lists: vec![closed; LIST_CHANGES_MAX + 1],
            ..self::record()
        };
        for record in [record, members, lists] {
            let refused = EpochRecord::decode(&record.encode());
            assert!(matches!(refused, Err(DecodeError::Limit(_))), "{refused:?}");
        }
    }
}
