//! What a server tells people and their tools of how it is: how much it holds, how far it is with
//! what it copies, and whether it can be stopped.

use crate::bounded;
use crate::ids::NodeId;
use crate::limits::JOINT_MAX;
use crate::names::named;
use serde::{Deserialize, Serialize};

/// Most reasons in one answer.
pub const STOP_REASONS_MAX: usize = 64;

/// The answer to `GET /v1/status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// The server that answers.
    pub node: NodeId,
    /// The epoch that it acts under.
    pub epoch: u64,
    /// Bytes of what it holds, as its disk has them and roughly.
    pub stored_bytes: u64,
    /// Partitions that move and that it is to own, or goes on owning, when they have moved.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "bounded::list::<JOINT_MAX, _, _>"
    )]
    pub copies: Vec<CopyState>,
    /// Bytes that it copied in a second, of late.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub copied_bytes_per_second: u64,
    /// Copies of partitions that it got in a second, of late, in parts per million of one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub copied_ppm_per_second: u64,
}

/// How far a server is with one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyState {
    /// The partition.
    pub partition: u32,
    /// The epoch that made it joint as it is.
    pub since: u64,
    /// The part that it has copied or compared, in parts per million.
    pub copied_ppm: u32,
    /// Whether it has all that it should.
    pub over: bool,
}

/// The answer to `GET /v1/safe-to-stop`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopReply {
    /// The server that answers.
    pub node: NodeId,
    /// The epoch that it acts under.
    pub epoch: u64,
    /// Why it should not be stopped now; none: it can be. At most [`STOP_REASONS_MAX`].
    #[serde(deserialize_with = "bounded::list::<STOP_REASONS_MAX, _, _>")]
    pub reasons: Vec<StopReason>,
}

/// A reason to wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopReason {
    /// Which one.
    pub kind: StopReasonKind,
    /// For people, with what to do.
    pub message: String,
}

named! {
    /// Kinds of reasons to wait with stopping a server.
    pub enum StopReasonKind {
        /// It does not serve yet.
        Starting = "starting",
        /// It has not got the newest epoch.
        Behind = "behind",
        /// Partitions would have no quorum.
        Quorum = "quorum",
        /// Too few keepers would be left.
        Keepers = "keepers",
        /// It keeps records for owners that were away.
        Hints = "hints",
        /// It was the first to take records that others may lack.
        Unspread = "unspread",
        /// It has still to hand over what it owns no more.
        HandingOver = "handing_over",
        /// It does not know what became of a change.
        Undecided = "undecided",
        /// A reason that this version does not know.
        Other = "other",
    }
    else Other
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
