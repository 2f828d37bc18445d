//! Copying an arc of the ring from those who own it to those who are to own it, in pages.
//!
//! What travels is what the store holds, byte for byte: records with their tombstones, expiries,
//! dots, ballots and promises. Each has its own checksums, and is checked before it is merged.

use crate::bounded;
use crate::hash::KeyHash;
use crate::ids::NodeId;
use crate::limits::PAGE_ENTRIES_MAX;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Asks an owner for all that it holds in an arc that lies within one joint partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CopyArc {
    /// Who asks: it gets what it is to own, and what the other owns.
    pub node: NodeId,
    /// The epoch that set the lists: whoever does not act under just these answers nothing.
    pub since: u64,
    /// First position of the arc.
    pub from: KeyHash,
    /// Last position of the arc.
    pub until: KeyHash,
    /// Only what comes after this storage key; empty: all of the arc.
    #[serde(default, skip_serializing_if = "Bytes::is_empty")]
    pub after: Bytes,
    /// Only up to this storage key; empty: to the end of the arc.
    #[serde(default, skip_serializing_if = "Bytes::is_empty")]
    pub last: Bytes,
    /// The digest of what the asker has there: where the other has the same, nothing is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<u64>,
    /// Most bytes to answer; the first entry may have more.
    pub bytes_max: u32,
}

/// A part of an arc: all there is from where it was asked up to where it ends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Copied {
    /// In order of storage keys; none where both have the same.
    #[serde(deserialize_with = "bounded::list::<{ PAGE_ENTRIES_MAX as usize }, _, _>")]
    pub entries: Vec<CopiedEntry>,
    /// The storage key up to which the server has looked; `None`: to the end of the arc.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<Bytes>,
}

/// What is stored under one key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CopiedEntry {
    /// The storage key.
    pub key: Bytes,
    /// What is stored.
    pub entry: Bytes,
    /// What is stored apart, where it is long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Bytes>,
}

impl Copied {
    /// Bytes of all entries.
    pub fn bytes(&self) -> usize {
        self.entries.iter().map(CopiedEntry::bytes).sum()
    }
}

impl CopiedEntry {
    /// Bytes of the key and of what is stored.
    pub fn bytes(&self) -> usize {
        self.key.len() + self.entry.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}
