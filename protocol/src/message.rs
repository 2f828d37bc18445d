//! What clients ask of servers, and what servers answer.
//!
//! Messages are MessagePack maps with names as keys. A field that is not known is ignored, an
//! operation that is not known is refused by itself, so old and new versions serve together.

use crate::bounded;
use crate::copy::{Copied, CopyArc};
use crate::epoch::Point;
use crate::ids::{ClusterId, EpochHash, NodeId};
use crate::limits::{OPERATIONS_MAX, OWNERS_MAX};
use crate::names::{named, tagged};
use crate::record::{Expiry, Head, Record, Version};
use crate::register::message::{Accept, Accepted, Learn, Outbid, Prepare, Promise, ReadRegister};
use crate::scan::{Page, Scan};
use crate::siblings::message::{Compare, Found as SiblingsFound, Merge, Mint, Minted, Spread};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One request: operations on any keys, answered in one reply in the same order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The cluster that the sender means; a server of another one refuses.
    pub cluster: ClusterId,
    /// The ordinal of the epoch that the sender chose the owners by.
    pub epoch: u64,
    /// How long the sender still waits, in milliseconds from arrival. What is older is dropped.
    pub budget_ms: u32,
    /// At most [`OPERATIONS_MAX`].
    #[serde(deserialize_with = "bounded::list::<OPERATIONS_MAX, _, _>")]
    pub operations: Vec<Operation>,
}

tagged! {
    /// One question about one key.
    pub enum Operation {
        /// What is stored.
        Read(Read) = "read",
        /// Merge this record into what is stored.
        Write(Write) = "write",
        /// Keep this record for owners that could not be reached.
        Hint(Hint) = "hint",
        /// Set when what is stored expires.
        Touch(Touch) = "touch",
        /// What is stored in an arc.
        Scan(Scan) = "scan",
        /// Store one of possibly many concurrent values.
        Mint(Mint) = "mint",
        /// Merge concurrent values, or what was seen of them.
        Merge(Merge) = "merge",
        /// Whether concurrent values are the same.
        Compare(Compare) = "compare",
        /// Every owner has what was minted.
        Spread(Spread) = "spread",
        /// What was promised and accepted.
        ReadRegister(ReadRegister) = "read_register",
        /// Promise this ballot.
        Prepare(Prepare) = "prepare",
        /// Accept this register.
        Accept(Box<Accept>) = "accept",
        /// Take what another owner accepted.
        Learn(Box<Learn>) = "learn",
        /// All that is held in an arc, for one who is to own it: between servers only.
        CopyArc(CopyArc) = "copy_arc",
    }
}

/// Asks what is stored under a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Read {
    /// Number of the bucket.
    pub bucket: u32,
    /// The key.
    pub key: Bytes,
    /// Answer with the head only.
    #[serde(default, skip_serializing_if = "is_false")]
    pub head_only: bool,
    /// Answer with the head only where the value has more bytes than this: another server is asked
    /// for the whole of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_bytes_max: Option<u32>,
    /// Answer from what is kept for owners that could not be reached, too, be the server an owner
    /// or not.
    #[serde(default, skip_serializing_if = "is_false")]
    pub hinted: bool,
}

impl Read {
    /// A read of the whole record.
    pub fn new(bucket: u32, key: Bytes) -> Self {
        Self {
            bucket,
            key,
            head_only: false,
            value_bytes_max: None,
            hinted: false,
        }
    }
}

/// Merges a record into what is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Write {
    /// Number of the bucket.
    pub bucket: u32,
    /// The key.
    pub key: Bytes,
    /// First hand, or brought again.
    pub source: Source,
    /// The record.
    pub record: Record,
    /// The record has expired so long ago that nobody has its value any more: its head stands for
    /// it, and is brought again only.
    #[serde(default, skip_serializing_if = "is_false")]
    pub gone: bool,
}

/// Keeps a record until owners that could not be reached are back; the server that keeps it owns no
/// such key itself, or owns it and keeps the record beside its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hint {
    /// Number of the bucket.
    pub bucket: u32,
    /// The key.
    pub key: Bytes,
    /// Owners that are to get the record, each once, at least one.
    #[serde(deserialize_with = "bounded::list::<OWNERS_MAX, _, _>")]
    pub owners: Vec<NodeId>,
    /// First hand while no owner has taken the record.
    pub source: Source,
    /// The record.
    pub record: Record,
}

/// Sets when a record expires, if it still is of this version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Touch {
    /// Number of the bucket.
    pub bucket: u32,
    /// The key.
    pub key: Bytes,
    /// What the expiry was made for.
    pub version: Version,
    /// The expiry.
    pub expiry: Expiry,
}

named! {
    /// Where a write comes from; only first-hand stamps are checked against the server's clock.
    pub enum Source {
        /// From the client that made the record.
        FirstHand = "first_hand",
        /// Brought by a reader that saw it elsewhere.
        Repair = "repair",
    }
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The cluster.
    pub cluster: ClusterId,
    /// The server that answers.
    pub node: NodeId,
    /// The ordinal of the server's epoch; a sender with an older one should fetch the view.
    pub epoch: u64,
    /// The server's clock, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// How busy the server is.
    pub load: Load,
    /// One for each operation, in order.
    #[serde(deserialize_with = "bounded::list::<OPERATIONS_MAX, _, _>")]
    pub results: Vec<Answer>,
}

/// How busy a server is, for the choice of replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Operations that it is working on or has queued.
    pub in_flight: u32,
    /// Its recent mean time from arrival to answer, in microseconds.
    pub service_us: u32,
}

tagged! {
    /// The answer to one operation.
    pub enum Answer {
        /// This is stored: a value, or a tombstone.
        Found(Record) = "found",
        /// This is stored; the value was not asked for.
        FoundHead(Head) = "found_head",
        /// Nothing is stored.
        Absent(Absent) = "absent",
        /// Concurrent values are stored.
        Siblings(SiblingsFound) = "siblings",
        /// The record is stored, or something newer is.
        Written(Written) = "written",
        /// The value is stored beside or in place of others.
        Minted(Minted) = "minted",
        /// The version that was to be touched, the record compared with, or the value that an
        /// accept refers to is not stored.
        Lacking(Lacking) = "lacking",
        /// A part of an arc.
        Page(Page) = "page",
        /// What was promised and accepted: the answer to a read, and a promise given.
        Promise(Box<Promise>) = "promise",
        /// The register is accepted.
        Accepted(Accepted) = "accepted",
        /// A higher ballot was promised before.
        Outbid(Outbid) = "outbid",
        /// A part of an arc, as it is stored.
        Copied(Copied) = "copied",
        /// Nothing was done.
        Refused(Refusal) = "refused",
    }
}

/// Nothing is stored under the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absent {
    /// What was at or below this stamp may have been deleted and forgotten.
    #[serde(default)]
    pub floor: crate::clock::Stamp,
}

/// A touch found nothing to set, or a comparison a difference: the record must come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lacking {}

/// The record is merged, and durable as the bucket asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// The newer version that was stored already, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded: Option<Version>,
}

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What the sender should do about it.
    pub kind: RefusalKind,
    /// For people.
    pub message: String,
    /// When to come back, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u32>,
}

impl Refusal {
    /// A refusal without a time to come back.
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            retry_after_ms: None,
        }
    }
}

named! {
    /// Kinds of refusal. What a newer server says and this version does not know is `Other`.
    pub enum RefusalKind {
        /// The key's owners changed after the request's epoch: fetch the view, start again.
        StaleEpoch = "stale_epoch",
        /// The server has not yet learned of the request's epoch, or is not yet ready to own what
        /// that gives it: ask another, or again.
        Behind = "behind",
        /// The server does not own the key: fetch the view.
        NotOwner = "not_owner",
        /// The view has no such bucket.
        UnknownBucket = "unknown_bucket",
        /// The bucket's mode does not take such an operation.
        WrongMode = "wrong_mode",
        /// The stamp or ballot is too far ahead of the server's clock, or that clock is off.
        SkewedClock = "skewed_clock",
        /// The key is empty or too long, or the value too long.
        TooLarge = "too_large",
        /// The record does not match its checksum.
        BadChecksum = "bad_checksum",
        /// What is stored under the key does not allow it: read it, then write with what was read.
        Conflict = "conflict",
        /// What is stored under the key is damaged; ask another owner.
        Damaged = "damaged",
        /// Another register was accepted under this very ballot: a fault of its proposer.
        Contradiction = "contradiction",
        /// Too much to do: come back after the time given.
        Overloaded = "overloaded",
        /// No room on disk: deletes are taken, and nothing else until an operator makes room.
        Full = "full",
        /// The sender had stopped waiting before the work began.
        TooLate = "too_late",
        /// The server stops.
        Stopping = "stopping",
        /// The server does not know such an operation: it is older.
        Unsupported = "unsupported",
        /// A reason that this version does not know.
        Other = "other",
    }
    else Other
}

named! {
    /// Kinds of error that answer a whole request, in the body of an HTTP status other than 200.
    pub enum FailureKind {
        /// The request is malformed (400) or over a limit (413).
        InvalidInput = "InvalidInput",
        /// No certificate (401), or one whose role does not allow it (403).
        Unauthorized = "Unauthorized",
        /// Too much to do (503).
        Overloaded = "Overloaded",
        /// Another cluster is meant (421).
        WrongCluster = "WrongCluster",
        /// What is to be changed is there already, or is not as the sender thinks (409).
        Conflict = "Conflict",
        /// Too few servers answer that have to agree (503). It may be done later all the same.
        Unavailable = "Unavailable",
        /// No such path (404) or method (405).
        NotFound = "NotFound",
        /// The server's own fault (500).
        Internal = "Internal",
    }
    else Internal
}

/// The body of an answer that refuses a whole request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What the sender should do about it.
    pub kind: FailureKind,
    /// For people: what was wrong and what to do.
    pub message: String,
    /// When to come back, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u32>,
}

/// What one server tells another when they meet, and at times after: both ask and answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The cluster.
    pub cluster: ClusterId,
    /// Who speaks.
    pub node: NodeId,
    /// The number of its epoch.
    pub epoch: u64,
    /// xxh3 of its encoded view: two servers with one epoch and two digests were given different
    /// cluster files.
    pub view_digest: u64,
    /// Its clock, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// How much room it has on disk.
    #[serde(default = "disk_ok")]
    pub disk: DiskState,
    /// The hash of its epoch.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hash: EpochHash,
    /// The number of the epoch that its chain begins with: what follows was decided.
    #[serde(default, skip_serializing_if = "is_default")]
    pub first: u64,
    /// The generation of its epoch.
    #[serde(default, skip_serializing_if = "is_default")]
    pub generation: u64,
}

impl Hello {
    /// The epoch that it acts under.
    pub fn point(&self) -> Point {
        Point {
            generation: self.generation,
            number: self.epoch,
            hash: self.hash,
        }
    }
}

named! {
    /// How much room a server has on disk.
    pub enum DiskState {
        /// Enough.
        Ok = "ok",
        /// Little: it should be given no more data than it has.
        Filling = "filling",
        /// None: it takes no new values.
        Full = "full",
        /// A state that this version does not know.
        Other = "other",
    }
    else Other
}

fn disk_ok() -> DiskState {
    DiskState::Ok
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn is_false(flag: &bool) -> bool {
    !*flag
}
