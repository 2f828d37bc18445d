//! Records of concurrent values as bytes: on the wire, on disk, and as the opaque contexts that
//! applications hold. Maps, so that later versions may add fields; actors and dots are lists of
//! fixed length. Sealed bytes begin with a format byte and a checksum over bucket, key and the
//! rest: made anew by whoever puts a record together, after it checked what it was made from.

use super::{Actor, Dot, Minting, Past, Sibling, Siblings, Write};
use crate::bounded;
use crate::clock::Stamp;
use crate::codec::{self, DecodeError};
use crate::ids::{Incarnation, NodeId, OpId};
use crate::limits::SIBLINGS_MERGED_MAX;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// Most actors of one record. Each start of each owner is one, until the base covers it.
pub const ACTORS_MAX: usize = 16_384;
/// Most overwritten operations of one record on the wire: those remembered, and what contexts add.
pub const PAST_WIRE_MAX: usize = 1_024;
/// Most dots of one value: it is minted once by each server that an attempt comes to.
pub const DOTS_MAX: usize = 256;

/// First byte of sealed bytes.
const FORMAT: u8 = 1;
/// Format and checksum before a sealed record.
const SEAL_BYTES: usize = 9;

#[derive(Serialize, Deserialize)]
struct WireRecord {
    base: Stamp,
    #[serde(deserialize_with = "bounded::list::<ACTORS_MAX, _, _>")]
    vector: Vec<WireDot>,
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "bounded::list::<SIBLINGS_MERGED_MAX, _, _>"
    )]
    siblings: Vec<WireSibling>,
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "bounded::list::<PAST_WIRE_MAX, _, _>"
    )]
    past: Vec<(OpId, bool)>,
}

/// Node, incarnation, tenure, stamp.
type WireDot = (NodeId, Incarnation, u64, Stamp);

#[derive(Serialize, Deserialize)]
struct WireSibling {
    op: OpId,
    value: Bytes,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at_ms: Option<u64>,
    checksum: u64,
    /// Each with whether it was minted again.
    #[serde(deserialize_with = "bounded::list::<DOTS_MAX, _, _>")]
    minted: Vec<(WireDot, bool)>,
}

fn wire_dot(dot: &Dot) -> WireDot {
    let Actor {
        node,
        incarnation,
        tenure,
    } = dot.actor;
    (node, incarnation, tenure, dot.stamp)
}

fn dot((node, incarnation, tenure, stamp): WireDot) -> Dot {
    let actor = Actor {
        node,
        incarnation,
        tenure,
    };
    Dot { actor, stamp }
}

fn checksum(bucket: u32, key: &[u8], body: &[u8]) -> u64 {
    let mut bytes = smallvec::SmallVec::<[u8; 256]>::new();
    bytes.extend_from_slice(&bucket.to_be_bytes());
    bytes.extend_from_slice(&xxh3_64(body).to_be_bytes());
    bytes.extend_from_slice(key);
    xxh3_64(&bytes)
}

impl Siblings {
    /// Its bytes with the checksum that binds them to this key of this bucket.
    pub fn seal(&self, bucket: u32, key: &[u8]) -> Bytes {
        let body = self.encode();
        let mut bytes = Vec::with_capacity(SEAL_BYTES + body.len());
        bytes.push(FORMAT);
        bytes.extend_from_slice(&checksum(bucket, key, &body).to_be_bytes());
        bytes.extend_from_slice(&body);
        bytes.into()
    }

    /// Reads what [`Siblings::seal`] made.
    ///
    /// # Errors
    /// As those of [`Siblings::decode`]; or if the bytes are damaged, of another key, or of a newer
    /// version.
    pub fn unseal(bucket: u32, key: &[u8], bytes: &[u8]) -> Result<Self, DecodeError> {
        let malformed = |why: String| Err(DecodeError::Malformed(why));
        let Some((seal, body)) = bytes.split_at_checked(SEAL_BYTES) else {
            return malformed("a record of concurrent values is cut off".into());
        };
        if seal[0] != FORMAT {
            let why = format!("concurrent values of format {}, {FORMAT} is known", seal[0]);
            return malformed(why);
        }
        if seal[1..] != checksum(bucket, key, body).to_be_bytes() {
            let why = "concurrent values that are damaged, or of another key";
            return malformed(why.into());
        }
        Self::decode(body)
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let entry = |(actor, stamp): (&Actor, &Stamp)| {
            wire_dot(&Dot {
                actor: *actor,
                stamp: *stamp,
            })
        };
        let sibling = |sibling: &Sibling| {
            let Write {
                op,
                value,
                expires_at_ms,
                checksum,
            } = sibling.write.clone();
            let minted = sibling.minted.iter().map(|m| (wire_dot(&m.dot), m.again));
            WireSibling {
                op,
                value,
                expires_at_ms,
                checksum,
                minted: minted.collect(),
            }
        };
        codec::encode(&WireRecord {
            base: self.base,
            vector: self.vector.iter().map(entry).collect(),
            siblings: self.siblings.values().map(sibling).collect(),
            past: self.past.iter().map(|(op, p)| (*op, p.again)).collect(),
        })
    }

    /// Reads its bytes. What is not in order, or says a thing twice, is put in order.
    ///
    /// # Errors
    /// If they are malformed, over a limit, or say what no record can: a dot of a sibling that the
    /// record does not know.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let WireRecord {
            base,
            vector,
            siblings,
            past,
        } = codec::decode(bytes)?;
        codec::no_more("actors", vector.len(), ACTORS_MAX)?;
        codec::no_more("siblings", siblings.len(), SIBLINGS_MERGED_MAX)?;
        codec::no_more("overwritten operations", past.len(), PAST_WIRE_MAX)?;
        let mut record = Self {
            base,
            ..Self::default()
        };
        for entry in vector.into_iter().map(dot).filter(|dot| dot.stamp > base) {
            let stamp = record.vector.entry(entry.actor).or_default();
            *stamp = (*stamp).max(entry.stamp);
        }
        for (op, again) in past {
            record.past.entry(op).or_insert(Past { again }).again |= again;
        }
        for one in siblings {
            codec::no_more("dots", one.minted.len(), DOTS_MAX)?;
            record.take(one)?;
        }
        Ok(record)
    }

    fn take(&mut self, one: WireSibling) -> Result<(), DecodeError> {
        let minting = |(of, again)| Minting {
            dot: dot(of),
            again,
        };
        let mut minted: Vec<_> = one.minted.into_iter().map(minting).collect();
        minted.sort_unstable();
        minted.dedup();
        let malformed = |why: &str| Err(DecodeError::Malformed(why.into()));
        if minted.is_empty() || minted.iter().any(|m| !self.knows(&m.dot)) {
            return malformed("a sibling under no dot, or under one that the record does not know");
        }
        if self.has_done(&one.op) {
            return malformed("an operation that is there twice");
        }
        let write = Write {
            op: one.op,
            value: one.value,
            expires_at_ms: one.expires_at_ms,
            checksum: one.checksum,
        };
        self.siblings.insert(one.op, Sibling { write, minted });
        Ok(())
    }
}
