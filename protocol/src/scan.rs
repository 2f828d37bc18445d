//! Reading an arc of the ring in pages, in order of storage keys.

use crate::hash::KeyHash;
use crate::record::Head;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Asks what is stored of a bucket in an arc that lies within one partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scan {
    /// Number of the bucket.
    pub bucket: u32,
    /// First position of the arc.
    pub from: KeyHash,
    /// Last position of the arc.
    pub until: KeyHash,
    /// Only what comes after this storage key; empty: all of the arc.
    #[serde(default, skip_serializing_if = "Bytes::is_empty")]
    pub after: Bytes,
    /// Most entries to answer, at least 1.
    pub entries_max: u32,
    /// Most bytes of keys and values to answer; the first entry may have more.
    pub bytes_max: u32,
    /// Longest value to answer; of a longer one only the head comes. 0: heads only.
    #[serde(default)]
    pub value_bytes_max: u32,
}

/// A part of an arc: all there is from where it was asked up to where it ends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// In order of storage keys; tombstones and what has expired among them.
    pub entries: Vec<PageEntry>,
    /// The storage key up to which the server has looked, which may be of another bucket; `None`:
    /// to the end of the arc.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<Bytes>,
}

/// What is stored under one key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PageEntry {
    /// The key.
    pub key: Bytes,
    /// All but the value.
    pub head: Head,
    /// The value, where it is not too long and there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Bytes>,
}
