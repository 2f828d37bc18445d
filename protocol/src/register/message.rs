//! What proposers ask of the owners of a register, and what these answer.

use super::{Head, Log, Register};
use crate::ballot::Ballot;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Asks what an owner promised and accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadRegister {
    /// Number of the bucket.
    pub bucket: u32,
    /// The key.
    pub key: Bytes,
    /// Answer without the value where that has more bytes than this; `None`: with it in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_bytes_max: Option<u32>,
    /// Answer with the log, too: for whoever brings the whole to another owner.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub with_log: bool,
}

/// Asks for the promise to accept nothing below this ballot. It is given only if the ballot is
/// above every earlier promise; answered by what was accepted, or by [`Outbid`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepare {
    /// Number of the bucket.
    pub bucket: u32,
    /// The key.
    pub key: Bytes,
    /// The round.
    pub ballot: Ballot,
    /// Answer without the value where that has more bytes than this. A value over 4 KiB is never
    /// sent: it is read from one owner, by the ballot that it was accepted under.
    #[serde(default)]
    pub value_bytes_max: u32,
}

/// Asks an owner to accept a register, unless it promised a higher ballot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accept {
    /// Number of the bucket.
    pub bucket: u32,
    /// The key.
    pub key: Bytes,
    /// The round.
    pub ballot: Ballot,
    /// The proposer's next ballot, promised to it with this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Ballot>,
    /// The register's head.
    pub head: Head,
    /// The register's log.
    #[serde(default)]
    pub log: Log,
    /// The value.
    #[serde(default)]
    pub value: Bytes,
    /// In place of the value: it is the one that the owner accepted under this very ballot. An
    /// owner that has accepted another one lacks it, and takes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Ballot>,
}

/// Brings an owner what another one accepted. It is taken if its ballot is higher than what the
/// owner accepted; a higher promise stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learn {
    /// Number of the bucket.
    pub bucket: u32,
    /// The key.
    pub key: Bytes,
    /// The round in which it was accepted.
    pub ballot: Ballot,
    /// The register's head.
    pub head: Head,
    /// The register's log.
    #[serde(default)]
    pub log: Log,
    /// The value.
    #[serde(default)]
    pub value: Bytes,
}

/// What an owner promised and accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// The highest ballot that it promised.
    pub promised: Ballot,
    /// What it accepted last; `None`: nothing so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Shown>,
}

/// What an owner accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The round.
    pub ballot: Ballot,
    /// The ballot that its proposer reserved with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Ballot>,
    /// The register's head.
    pub head: Head,
    /// The register's log, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Log>,
    /// The value, where it was asked for and is short enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Bytes>,
}

impl Shown {
    /// The register, if it came with its log.
    pub fn register(&self) -> Option<Register> {
        let log = self.log.clone()?;
        let head = self.head;
        Some(Register { head, log })
    }
}

/// Nothing was promised or accepted: a higher ballot, or the same one, was promised before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outbid {
    /// The promise.
    pub promised: Ballot,
}

/// The register is accepted, durably.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {}
