//! What a server keeps for owners that could not be reached, as it tells people.

use crate::ids::NodeId;
use crate::record::Version;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Most hints set aside that a report lists one by one.
pub const ASIDE_LISTED_MAX: usize = 1_000;

/// The answer to `GET /v1/hints`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HintsReport {
    /// The server that answers.
    pub node: NodeId,
    /// Bytes that all its hints take.
    pub bytes: u64,
    /// Bytes that they may take.
    pub bytes_max: u64,
    /// How many wait for each owner, in order of id; an owner without any is left out.
    pub waiting: Vec<HintsWaiting>,
    /// How many were set aside: they will not be handed over by themselves.
    pub aside: u64,
    /// The first of them, at most [`ASIDE_LISTED_MAX`].
    pub aside_listed: Vec<HintAside>,
}

/// Hints for one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HintsWaiting {
    /// The owner.
    pub owner: NodeId,
    /// Records that wait for it.
    pub count: u64,
}

/// A hint that was set aside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HintAside {
    /// Number of the bucket.
    pub bucket: u32,
    /// The key.
    pub key: Bytes,
    /// The version of the record.
    pub version: Version,
    /// Owners that have not got it.
    pub owners: Vec<NodeId>,
    /// When it was taken, by the server's clock, in milliseconds since the Unix epoch.
    pub since_ms: u64,
}
