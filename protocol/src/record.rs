//! What is stored under a key: a value or a tombstone, its version, its expiry, and checksums made
//! by the client that wrote it and checked by every server and reader after it.

use crate::clock::Stamp;
use crate::ids::{Incarnation, OpId};
use crate::names::named;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use xxhash_rust::xxh3::xxh3_64;

named! {
    /// What a record says of its key.
    pub enum Kind {
        /// The key has this value.
        Value = "value",
        /// The key was deleted.
        Tombstone = "tombstone",
    }
}

/// The version of a last-write-wins record. Compared field by field in this order; two different
/// writes never compare as equal, since a client core uses a stamp once.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Version {
    /// When it was written, by the writer's hybrid clock.
    pub stamp: Stamp,
    /// The client core that wrote it.
    pub writer: Incarnation,
    /// The client's checksum over bucket, key, stamp, writer, op id, kind and value.
    pub checksum: u64,
}

impl std::fmt::Debug for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}@{}#{:016x}", self.stamp, self.writer, self.checksum)
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Every read and write tells one: the formatter takes ten times as long for it.
        let mut text = [b'-'; 66];
        write_hexadecimal(&mut text[..16], &self.stamp.0.to_be_bytes());
        write_hexadecimal(&mut text[17..49], &self.writer.0);
        write_hexadecimal(&mut text[50..], &self.checksum.to_be_bytes());
        f.write_str(str::from_utf8(&text).map_err(|_| std::fmt::Error)?)
    }
}

/// Two digits a byte.
fn write_hexadecimal(text: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// When a record stops being readable. It has a stamp of its own, so that renewing a session never
/// overwrites a newer value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expiry {
    /// Milliseconds since the Unix epoch; 0: never.
    pub at_ms: u64,
    /// When this expiry was set, by its writer's hybrid clock.
    pub stamp: Stamp,
    /// Over bucket, key, version, time and stamp.
    pub checksum: u32,
}

/// What a replica keeps of a key, without the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The version; decides which of two records is kept.
    pub version: Version,
    /// The operation that wrote it.
    pub op: OpId,
    /// Value or tombstone.
    pub kind: Kind,
    /// When it stops being readable; `None`: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry: Option<Expiry>,
}

/// What a replica keeps of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// All but the value.
    pub head: Head,
    /// The value's bytes; empty in a tombstone.
    #[serde(default)]
    pub value: Bytes,
}

/// What a checksum found wrong. It says where, not why: a damaged record is never merged, compared
/// or counted as absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The record's checksum does not match its bucket, key, operation or value.
    #[error("the record's checksum does not match its content")]
    Record,
    /// The expiry's checksum does not match.
    #[error("the expiry's checksum does not match its content")]
    Expiry,
    /// A tombstone with a value.
    #[error("a tombstone carries a value")]
    Tombstone,
}

impl Head {
    /// Which of two records of one key is kept: the higher version, then the later set expiry.
    pub fn freshness(&self, other: &Self) -> Ordering {
        let expiry = |head: &Self| head.expiry.map(|e| (e.stamp, e.at_ms));
        self.version
            .cmp(&other.version)
            .then_with(|| expiry(self).cmp(&expiry(other)))
    }

    /// Whether a reader at `now_ms` sees a value: neither deleted nor expired.
    pub fn is_live(&self, now_ms: u64) -> bool {
        self.kind == Kind::Value && !self.is_expired(now_ms)
    }

    /// Whether its time is over. An expired record is a tombstone of the same version.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expiry
            .is_some_and(|e| e.at_ms != 0 && e.at_ms <= now_ms)
    }

    /// Checks the expiry's checksum, all that can be checked without the value.
    ///
    /// # Errors
    /// [`Damage::Expiry`].
    pub fn verify_expiry(&self, bucket: u32, key: &[u8]) -> Result<(), Damage> {
        match self.expiry {
            Some(expiry) => expiry.verify(bucket, key, &self.version),
            None => Ok(()),
        }
    }
}

impl Expiry {
    /// An expiry of this version with its checksum. `at_ms`: 0 for never.
    pub fn seal(bucket: u32, key: &[u8], version: &Version, at_ms: u64, stamp: Stamp) -> Self {
        let bare = Self {
            at_ms,
            stamp,
            checksum: 0,
        };
        let checksum = expiry_checksum(bucket, key, version, &bare);
        Self { checksum, ..bare }
    }

    /// Checks the checksum against the content.
    ///
    /// # Errors
    /// [`Damage::Expiry`].
    pub fn verify(&self, bucket: u32, key: &[u8], version: &Version) -> Result<(), Damage> {
        match self.checksum == expiry_checksum(bucket, key, version, self) {
            true => Ok(()),
            false => Err(Damage::Expiry),
        }
    }
}

/// What a writer decides of a record; [`Record::seal`] adds the checksums.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The record's stamp, unique to this operation.
    pub stamp: Stamp,
    /// The operation; its client is the writer.
    pub op: OpId,
}

impl Record {
    /// A record with its checksums. `value`: `None` makes a tombstone. `expires_at_ms`: the time
    /// from which it is no longer readable.
    pub fn seal(
        bucket: u32,
        key: &[u8],
        origin: Origin,
        value: Option<Bytes>,
        expires_at_ms: Option<u64>,
    ) -> Self {
        let kind = if value.is_some() {
            Kind::Value
        } else {
            Kind::Tombstone
        };
        let version = Version {
            stamp: origin.stamp,
            writer: origin.op.client,
            checksum: 0,
        };
        let head = Head {
            version,
            op: origin.op,
            kind,
            expiry: None,
        };
        let mut record = Self {
            head,
            value: value.unwrap_or_default(),
        };
        record.head.version.checksum = record.checksum(bucket, key);
        let version = record.head.version;
        record.head.expiry =
            expires_at_ms.map(|at_ms| Expiry::seal(bucket, key, &version, at_ms, origin.stamp));
        record
    }

    /// Checks both checksums against the content.
    ///
    /// # Errors
    /// Where the content does not match.
    pub fn verify(&self, bucket: u32, key: &[u8]) -> Result<(), Damage> {
        if self.head.kind == Kind::Tombstone && !self.value.is_empty() {
            return Err(Damage::Tombstone);
        }
        if self.head.version.checksum != self.checksum(bucket, key) {
            return Err(Damage::Record);
        }
        self.head.verify_expiry(bucket, key)
    }

    /// xxh3 over a fixed-size head, the key, and the value's own xxh3.
    fn checksum(&self, bucket: u32, key: &[u8]) -> u64 {
        let Head {
            version, op, kind, ..
        } = &self.head;
        let mut bytes = smallvec::SmallVec::<[u8; 256]>::new();
        bytes.extend_from_slice(&bucket.to_be_bytes());
        bytes.extend_from_slice(&version.stamp.0.to_be_bytes());
        bytes.extend_from_slice(&version.writer.0);
        bytes.extend_from_slice(&op.client.0);
        bytes.extend_from_slice(&op.sequence.to_be_bytes());
        bytes.extend_from_slice(&op.first_sent_ms.to_be_bytes());
        bytes.push(match kind {
            Kind::Value => 1,
            Kind::Tombstone => 2,
        });
        bytes.extend_from_slice(&(self.value.len() as u64).to_be_bytes());
        bytes.extend_from_slice(&xxh3_64(&self.value).to_be_bytes());
        bytes.extend_from_slice(key);
        xxh3_64(&bytes)
    }
}

/// The low half of xxh3 over bucket, version, time, stamp and key.
fn expiry_checksum(bucket: u32, key: &[u8], version: &Version, expiry: &Expiry) -> u32 {
    let mut bytes = smallvec::SmallVec::<[u8; 256]>::new();
    bytes.extend_from_slice(&bucket.to_be_bytes());
    bytes.extend_from_slice(&version.stamp.0.to_be_bytes());
    bytes.extend_from_slice(&version.writer.0);
    bytes.extend_from_slice(&version.checksum.to_be_bytes());
    bytes.extend_from_slice(&expiry.at_ms.to_be_bytes());
    bytes.extend_from_slice(&expiry.stamp.0.to_be_bytes());
    bytes.extend_from_slice(key);
    xxh3_64(&bytes) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_version_is_told_in_hexadecimal(stamp: u64, writer: [u8; 16], checksum: u64) {
            let version = Version { stamp: Stamp(stamp), writer: Incarnation(writer), checksum };
            let writer = u128::from_be_bytes(writer);
            let told = format!("{stamp:016x}-{writer:032x}-{checksum:016x}");
            prop_assert_eq!(version.to_string(), told);
        }
    }

    fn origin(stamp: u64) -> Origin {
        let op = OpId {
            client: Incarnation([7; 16]),
            sequence: 3,
            first_sent_ms: 40,
        };
        Origin {
            stamp: Stamp(stamp),
            op,
        }
    }

    fn sealed(stamp: u64, expires_at_ms: Option<u64>) -> Record {
        Record::seal(
            1,
            b"k",
            origin(stamp),
            Some(Bytes::from_static(b"v")),
            expires_at_ms,
        )
    }

    #[test]
    fn any_changed_field_is_found() {
        let good = sealed(9, Some(500));
        assert_eq!(good.verify(1, b"k"), Ok(()));
        assert_eq!(good.verify(2, b"k"), Err(Damage::Record));
        assert_eq!(good.verify(1, b"K"), Err(Damage::Record));
        let changed = |change: fn(&mut Record)| {
            let mut record = good.clone();
            change(&mut record);
            record.verify(1, b"k")
        };
        assert_eq!(
            changed(|r| r.value = Bytes::from_static(b"w")),
            Err(Damage::Record)
        );
        assert_eq!(changed(|r| r.head.op.sequence += 1), Err(Damage::Record));
        assert_eq!(
            changed(|r| r.head.op.first_sent_ms += 1),
            Err(Damage::Record)
        );
        assert_eq!(
            changed(|r| r.head.version.stamp = Stamp(10)),
            Err(Damage::Record)
        );
        assert_eq!(
            changed(|r| r.head.version.writer.0[0] = 0),
            Err(Damage::Record)
        );
        assert_eq!(
            changed(|r| r.head.kind = Kind::Tombstone),
            Err(Damage::Tombstone)
        );
        let expiry = |change: fn(&mut Expiry)| {
            let mut record = good.clone();
            change(record.head.expiry.as_mut().expect("sealed with one"));
            record.verify(1, b"k")
        };
        assert_eq!(expiry(|e| e.at_ms += 1), Err(Damage::Expiry));
        assert_eq!(expiry(|e| e.stamp = Stamp(1)), Err(Damage::Expiry));
    }

    #[test]
    fn an_expiry_ends_a_record_at_its_time() {
        let record = sealed(9, Some(500));
        assert!(record.head.is_live(499) && !record.head.is_live(500));
        assert!(sealed(9, None).head.is_live(u64::MAX));
        assert!(!Record::seal(1, b"k", origin(9), None, None).head.is_live(0));
    }

    proptest! {
        #[test]
        fn the_fresher_of_two_records_does_not_depend_on_their_order(
            a in 1u64..5, b in 1u64..5, x in 0u64..3, y in 0u64..3
        ) {
            let left = sealed(a, (x > 0).then_some(x)).head;
            let right = sealed(b, (y > 0).then_some(y)).head;
            prop_assert_eq!(left.freshness(&right), right.freshness(&left).reverse());
        }
    }
}
