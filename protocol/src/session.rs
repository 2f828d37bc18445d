//! What one reader or writer has seen, as bytes to hand to another process: so that nothing older
//! is shown to whoever goes on from there.

use crate::ballot::Ballot;
use crate::bounded;
use crate::clock::Stamp;
use crate::codec::{self, DecodeError};
use crate::hash::KeyHash;
use crate::ids::ClusterId;
use crate::record::Version;
use crate::siblings::Siblings;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Most keys that a session remembers.
pub const SESSION_KEYS_MAX: usize = 4_096;
/// Longest token in bytes (64 KiB).
pub const TOKEN_BYTES_MAX: usize = 64 << 10;
/// First byte of a token.
const FORMAT: u8 = 1;

/// What was seen or written of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// This version of a last-write-wins record.
    Version(Version),
    /// The version of a strong register.
    Register(Ballot),
    /// Concurrent values, without the values themselves: what stands, and what is known to be
    /// overwritten. A vector alone would not tell of a delete, which mints nothing.
    Siblings(Siblings),
}

/// What a token says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Token {
    /// The cluster that it is of.
    pub cluster: ClusterId,
    /// Keys were left out, which a majority of their owners has as they were seen.
    pub overflowed: bool,
    /// The time that the clock of who hands it on had reached: what they were told has expired,
    /// had expired by then. Zero: they do not say.
    pub reached: Stamp,
    /// By the keys' hashes, the last used first.
    pub entries: Vec<(KeyHash, Known)>,
}

#[derive(Serialize, Deserialize)]
struct WireToken {
    cluster: ClusterId,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    overflowed: bool,
    #[serde(default, skip_serializing_if = "is_zero")]
    reached: Stamp,
    #[serde(deserialize_with = "bounded::list::<SESSION_KEYS_MAX, _, _>")]
    entries: Vec<WireEntry>,
}

#[derive(Serialize, Deserialize)]
struct WireEntry {
    hash: KeyHash,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<Version>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    register: Option<Ballot>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    siblings: Option<Bytes>,
}

fn is_zero(stamp: &Stamp) -> bool {
    *stamp == Stamp::default()
}

impl Token {
    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let entry = |(hash, known): &(KeyHash, Known)| {
            let mut entry = WireEntry {
                hash: *hash,
                version: None,
                register: None,
                siblings: None,
            };
            match known {
                Known::Version(version) => entry.version = Some(*version),
                Known::Register(ballot) => entry.register = Some(*ballot),
                Known::Siblings(record) => entry.siblings = Some(record.encode_bare().into()),
            }
            entry
        };
        let body = codec::encode(&WireToken {
            cluster: self.cluster,
            overflowed: self.overflowed,
            reached: self.reached,
            entries: self.entries.iter().map(entry).collect(),
        });
        [&[FORMAT], &body[..]].concat().into()
    }

    /// Reads its bytes.
    ///
    /// # Errors
    /// If they are malformed, over a limit, or of a newer version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let malformed = |why: String| DecodeError::Malformed(why);
        codec::no_more("bytes of a session", bytes.len(), TOKEN_BYTES_MAX)?;
        let (format, body) = bytes
            .split_first()
            .ok_or_else(|| malformed("an empty session".into()))?;
        if *format != FORMAT {
            let why = format!("a session of format {format}, {FORMAT} is known");
            return Err(malformed(why));
        }
        let wire: WireToken = codec::decode(body)?;
        codec::no_more("keys", wire.entries.len(), SESSION_KEYS_MAX)?;
        let mut entries = Vec::with_capacity(wire.entries.len());
        for entry in wire.entries {
            let known = match (entry.version, entry.register, entry.siblings) {
                (Some(version), None, None) => Known::Version(version),
                (None, Some(ballot), None) => Known::Register(ballot),
                (None, None, Some(bytes)) => Known::Siblings(Siblings::decode(&bytes)?.bare()),
                _ => return Err(malformed("a key of a session without one version".into())),
            };
            entries.push((entry.hash, known));
        }
        Ok(Self {
            cluster: wire.cluster,
            overflowed: wire.overflowed,
            reached: wire.reached,
            entries,
        })
    }
}
