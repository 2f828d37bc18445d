//! What the owners of a key of a strong bucket agree on, round after round: a register.
//!
//! A register is a value or a tombstone, its version, and what became of the last operations. A
//! round of CASPaxos reads it, applies one of the fixed changes of [`Change`], and has the result
//! accepted. The **version** is the ballot of the round that made the value, and stays as it is
//! when a later round only settles what is there. A key that nobody has written has the default
//! register, a tombstone of version zero; a deleted key keeps a register without a value for ever.
//!
//! Two checksums: the **client's**, over bucket, key, operation, kind, value and version, is made by
//! the writer and lasts as long as the value; the **seal**, over all but the value, is made by
//! whoever composes the register, which is the proposer of the round.

mod change;
mod log;
pub mod message;
#[cfg(test)]
mod tests;

pub use change::{Change, Changed, Condition, NewValue, Turn, Verdict};
pub use log::{Entry, Fate, LOG_MAX, Log};

use crate::ballot::Ballot;
use crate::ids::OpId;
use crate::record::Kind;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

/// A register without its value and its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Head {
    /// Value or tombstone.
    pub kind: Kind,
    /// The round that made it; zero: nobody has written the key.
    pub version: Ballot,
    /// The operation that made it.
    pub op: OpId,
    /// When it stops being readable, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
    /// Bytes of the value.
    pub length: u32,
    /// The client's, over bucket, key, operation, kind, version and value.
    pub checksum: u64,
    /// Over the bytes of the log.
    pub log_checksum: u64,
    /// Over bucket, key and all of the above.
    pub seal: u32,
}

/// A register without its value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Register {
    /// All but value and log.
    pub head: Head,
    /// What became of the last operations.
    pub log: Log,
}

/// What a checksum found wrong, or what no register can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The seal does not match the content, or the key.
    #[error("the register's seal does not match its content")]
    Seal,
    /// The log does not match its checksum.
    #[error("the register's log does not match its checksum")]
    Log,
    /// The value does not match its checksum or length.
    #[error("the register's value does not match its checksum")]
    Value,
    /// A tombstone with a value or a time to live.
    #[error("a tombstone carries a value or an end")]
    Tombstone,
}

impl Head {
    /// Whether a reader at `now_ms` sees a value: neither deleted nor expired.
    pub fn is_live(&self, now_ms: u64) -> bool {
        self.kind == Kind::Value && !self.is_expired(now_ms)
    }

    /// Whether it is a value whose time is over. It is not answered as absent before a round has
    /// put a tombstone in its place.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.kind == Kind::Value && self.expires_at_ms.is_some_and(|at_ms| at_ms <= now_ms)
    }

    /// Checks all that can be checked without value and log.
    ///
    /// # Errors
    /// Where the content does not match.
    pub fn verify(&self, bucket: u32, key: &[u8]) -> Result<(), Damage> {
        if self.seal != self.seal_over(bucket, key) {
            return Err(Damage::Seal);
        }
        let bare = self.length == 0 && self.expires_at_ms.is_none();
        match self.kind == Kind::Value || bare {
            true => Ok(()),
            false => Err(Damage::Tombstone),
        }
    }

    /// Checks a value against its checksum and length.
    ///
    /// # Errors
    /// [`Damage::Value`].
    pub fn verify_value(&self, bucket: u32, key: &[u8], value: &[u8]) -> Result<(), Damage> {
        let same = value.len() == self.length as usize;
        match same && self.checksum == self.checksum_over(bucket, key, value) {
            true => Ok(()),
            false => Err(Damage::Value),
        }
    }

    /// Whether another register has the very same value: made by the same round, by the client's
    /// checksum the same.
    pub fn has_value_of(&self, other: &Self) -> bool {
        let of = |head: &Self| (head.kind, head.version, head.op, head.length, head.checksum);
        of(self) == of(other)
    }

    /// xxh3 over a fixed-size head, the key, and the value's own xxh3.
    fn checksum_over(&self, bucket: u32, key: &[u8], value: &[u8]) -> u64 {
        let mut bytes = self.identity(bucket);
        bytes.extend_from_slice(&xxh3_64(value).to_be_bytes());
        bytes.extend_from_slice(key);
        xxh3_64(&bytes)
    }

    /// The low half of xxh3 over everything but value and log, and the key.
    fn seal_over(&self, bucket: u32, key: &[u8]) -> u32 {
        let mut bytes = self.identity(bucket);
        bytes.extend_from_slice(&self.checksum.to_be_bytes());
        bytes.extend_from_slice(&self.log_checksum.to_be_bytes());
        bytes.push(u8::from(self.expires_at_ms.is_some()));
        bytes.extend_from_slice(&self.expires_at_ms.unwrap_or(0).to_be_bytes());
        bytes.extend_from_slice(key);
        xxh3_64(&bytes) as u32
    }

    fn identity(&self, bucket: u32) -> SmallVec<[u8; 256]> {
        let mut bytes = SmallVec::new();
        bytes.extend_from_slice(&bucket.to_be_bytes());
        bytes.extend_from_slice(&self.version.number.to_be_bytes());
        bytes.extend_from_slice(&self.version.proposer.0);
        bytes.extend_from_slice(&self.op.client.0);
        bytes.extend_from_slice(&self.op.sequence.to_be_bytes());
        bytes.extend_from_slice(&self.op.first_sent_ms.to_be_bytes());
        bytes.push(match self.kind {
            Kind::Value => 1,
            Kind::Tombstone => 2,
        });
        bytes.extend_from_slice(&self.length.to_be_bytes());
        bytes
    }
}

impl Register {
    /// The register of a key that nobody has written.
    pub fn unwritten(bucket: u32, key: &[u8]) -> Self {
        let mut register = Self::bare(Kind::Tombstone, Ballot::default(), OpId::default());
        register.head.checksum = register.head.checksum_over(bucket, key, &[]);
        register.seal(bucket, key);
        register
    }

    fn bare(kind: Kind, version: Ballot, op: OpId) -> Self {
        Self {
            head: Head {
                kind,
                version,
                op,
                expires_at_ms: None,
                length: 0,
                checksum: 0,
                log_checksum: 0,
                seal: 0,
            },
            log: Log::default(),
        }
    }

    /// Makes the checksums anew that do not cover the value.
    fn seal(&mut self, bucket: u32, key: &[u8]) {
        self.head.log_checksum = xxh3_64(&self.log.encode());
        self.head.seal = self.head.seal_over(bucket, key);
    }

    /// Checks all but the value.
    ///
    /// # Errors
    /// Where the content does not match.
    pub fn verify(&self, bucket: u32, key: &[u8]) -> Result<(), Damage> {
        self.head.verify(bucket, key)?;
        match self.head.log_checksum == xxh3_64(&self.log.encode()) {
            true => Ok(()),
            false => Err(Damage::Log),
        }
    }
}
