//! What is asked and answered about keys of buckets that keep concurrent writes. Records and
//! contexts are bytes sealed to their key, see [`wire`](super::wire).

use super::Write;
use crate::bounded;
use crate::clock::Stamp;
use crate::ids::{Incarnation, NodeId};
use crate::limits::OWNERS_MAX;
use crate::message::Source;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Stores a value under a new dot. The answer is the whole record, which goes to the other owners.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mint {
    /// Number of the bucket.
    pub bucket: u32,
    /// The key.
    pub key: Bytes,
    /// What its writer has seen; empty: nothing.
    #[serde(default, skip_serializing_if = "Bytes::is_empty")]
    pub context: Bytes,
    /// The value.
    pub write: Write,
    /// It was, or may have been, sent to another server before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
    /// Owners that are to get it; the server keeps it for them. Empty: the server is an owner.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "bounded::list::<OWNERS_MAX, _, _>"
    )]
    pub owners: Vec<NodeId>,
}

/// Merges a record, or a context, which deletes what it has seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Merge {
    /// Number of the bucket.
    pub bucket: u32,
    /// The key.
    pub key: Bytes,
    /// First hand, or brought again.
    pub source: Source,
    /// The record.
    pub record: Bytes,
    /// Owners that are to get it; the server keeps it for them. Empty: the server is an owner.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "bounded::list::<OWNERS_MAX, _, _>"
    )]
    pub owners: Vec<NodeId>,
}

/// Asks whether the server's record agrees with the sender's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compare {
    /// Number of the bucket.
    pub bucket: u32,
    /// The key.
    pub key: Bytes,
    /// [`Siblings::fingerprint`](super::Siblings::fingerprint) of the sender's record.
    pub fingerprint: u64,
}

/// Says that every owner has what the server minted under a key up to this stamp.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Number of the bucket.
    pub bucket: u32,
    /// The key.
    pub key: Bytes,
    /// The start of the server in which it minted that.
    pub incarnation: Incarnation,
    /// The stamp of the dot.
    pub stamp: Stamp,
}

/// A record of concurrent values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// The record.
    pub record: Bytes,
    /// Its values were left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bare: bool,
}

/// The value is stored, or was before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Minted {
    /// The record as it is now. The value that came with the request is left out.
    pub record: Bytes,
}
