//! Keys and values as the store holds them.
//!
//! A storage key is the key's hash (8 bytes, big-endian), the bucket's number (4 bytes,
//! big-endian) and the key, so that any arc of the ring is one contiguous range.
//!
//! A record is one byte of format, then for last-write-wins records: one byte of flags, the stamp
//! (8), the writer (16), the checksum (8), the operation's sequence (8) and first-sent time (8);
//! if flagged the operation's client (16, else the writer) and the expiry's time (8), stamp (8)
//! and checksum (4); then the value, or, if flagged, its length (8) and the value itself lies in
//! [`Values`] under the same key, behind the first 32 bytes of its version; last, a
//! checksum over all before (4, the low half of xxh3), since a damaged head would decide which
//! record stays. A value that lies apart has the client's checksum only, which its readers check.
//! All numbers are big-endian.
//!
//! [`Values`]: crate::store::Family::Values

use annulet_protocol::clock::Stamp;
use annulet_protocol::hash::KeyHash;
use annulet_protocol::ids::{Incarnation, OpId};
use annulet_protocol::record::{Expiry, Head, Kind, Record, Version};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use xxhash_rust::xxh3::xxh3_64;

/// Longest value that is stored with its head, in bytes.
pub const INLINE_VALUE_BYTES_MAX: usize = 4096;

/// Format byte of a last-write-wins record.
const FORMAT_LWW: u8 = 1;
const TOMBSTONE: u8 = 1;
const HAS_EXPIRY: u8 = 1 << 1;
const OTHER_CLIENT: u8 = 1 << 2;
const VALUE_APART: u8 = 1 << 3;
const KNOWN_FLAGS: u8 = TOMBSTONE | HAS_EXPIRY | OTHER_CLIENT | VALUE_APART;
/// Checksum at the end of an entry.
const CHECKSUM_BYTES: usize = 4;
/// Version before a value that lies apart.
const VERSION_BYTES: usize = 32;

/// The storage key of a key.
pub fn storage_key(hash: KeyHash, bucket: u32, key: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(12 + key.len());
    bytes.put_u64(hash.0);
    bytes.put_u32(bucket);
    bytes.put_slice(key);
    bytes.freeze()
}

/// Takes a storage key apart. `None` if it is too short to be one.
pub fn parse_storage_key(bytes: &[u8]) -> Option<(KeyHash, u32, &[u8])> {
    let (hash, rest) = bytes.split_first_chunk::<8>()?;
    let (bucket, key) = rest.split_first_chunk::<4>()?;
    Some((
        KeyHash(u64::from_be_bytes(*hash)),
        u32::from_be_bytes(*bucket),
        key,
    ))
}

/// A record as it is stored: the entry, and the value if that lies apart.
pub fn encode(record: &Record) -> (Bytes, Option<Bytes>) {
    let Head {
        version,
        op,
        kind,
        expiry,
    } = &record.head;
    let apart = record.value.len() > INLINE_VALUE_BYTES_MAX;
    let mut flags = 0;
    let flag = |on: bool, flag: u8| if on { flag } else { 0 };
    flags |= flag(*kind == Kind::Tombstone, TOMBSTONE);
    flags |= flag(expiry.is_some(), HAS_EXPIRY);
    flags |= flag(op.client != version.writer, OTHER_CLIENT);
    flags |= flag(apart, VALUE_APART);
    let mut bytes = BytesMut::with_capacity(100 + if apart { 8 } else { record.value.len() });
    bytes.put_u8(FORMAT_LWW);
    bytes.put_u8(flags);
    put_version(&mut bytes, version);
    bytes.put_u64(op.sequence);
    bytes.put_u64(op.first_sent_ms);
    if op.client != version.writer {
        bytes.put_slice(&op.client.0);
    }
    if let Some(expiry) = expiry {
        bytes.put_u64(expiry.at_ms);
        bytes.put_u64(expiry.stamp.0);
        bytes.put_u32(expiry.checksum);
    }
    if !apart {
        bytes.put_slice(&record.value);
        return (seal(bytes), None);
    }
    bytes.put_u64(record.value.len() as u64);
    let mut value = BytesMut::with_capacity(VERSION_BYTES + record.value.len());
    put_version(&mut value, version);
    value.put_slice(&record.value);
    (seal(bytes), Some(value.freeze()))
}

fn seal(mut bytes: BytesMut) -> Bytes {
    bytes.put_u32(checksum(&bytes));
    bytes.freeze()
}

fn checksum(bytes: &[u8]) -> u32 {
    xxh3_64(bytes) as u32
}

/// A stored entry, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The head.
    pub head: Head,
    /// The value, or where it is.
    pub value: StoredValue,
}

/// Where the value of a stored entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredValue {
    /// Here.
    Inline(Bytes),
    /// In [`Family::Values`], with this length.
    ///
    /// [`Family::Values`]: crate::store::Family::Values
    Apart(u64),
}

/// Reads a stored entry.
///
/// # Errors
/// If it is not one: damaged, or of a newer version of this program.
pub fn decode(mut bytes: Bytes) -> Result<Stored, String> {
    let read = |e: bytes::TryGetError| format!("a stored record is cut off: {e}");
    let sealed = bytes.split_off(bytes.len().saturating_sub(CHECKSUM_BYTES));
    if *sealed != checksum(&bytes).to_be_bytes() {
        return Err("a stored record does not match its checksum".into());
    }
    let format = bytes.try_get_u8().map_err(read)?;
    if format != FORMAT_LWW {
        return Err(format!(
            "a stored record has format {format}, this program knows 1"
        ));
    }
    let flags = bytes.try_get_u8().map_err(read)?;
    if flags & !KNOWN_FLAGS != 0 {
        return Err(format!("a stored record has unknown flags {flags:#010b}"));
    }
    let version = take_version(&mut bytes).map_err(read)?;
    let sequence = bytes.try_get_u64().map_err(read)?;
    let first_sent_ms = bytes.try_get_u64().map_err(read)?;
    let client = match flags & OTHER_CLIENT {
        0 => version.writer,
        _ => take_incarnation(&mut bytes).map_err(read)?,
    };
    let expiry = match flags & HAS_EXPIRY {
        0 => None,
        _ => Some(Expiry {
            at_ms: bytes.try_get_u64().map_err(read)?,
            stamp: Stamp(bytes.try_get_u64().map_err(read)?),
            checksum: bytes.try_get_u32().map_err(read)?,
        }),
    };
    let kind = if flags & TOMBSTONE == 0 {
        Kind::Value
    } else {
        Kind::Tombstone
    };
    let head = Head {
        version,
        op: OpId {
            client,
            sequence,
            first_sent_ms,
        },
        kind,
        expiry,
    };
    let value = match flags & VALUE_APART {
        0 => StoredValue::Inline(bytes),
        _ => {
            let length = bytes.try_get_u64().map_err(read)?;
            if bytes.has_remaining() {
                return Err("a stored record has bytes after its end".into());
            }
            StoredValue::Apart(length)
        }
    };
    Ok(Stored { head, value })
}

/// Reads a value that lies apart and belongs to `version`.
///
/// # Errors
/// If it is cut off, or belongs to another version.
pub fn decode_value(mut bytes: Bytes, version: &Version, length: u64) -> Result<Bytes, String> {
    let found = take_version(&mut bytes).map_err(|e| format!("a stored value is cut off: {e}"))?;
    if found != *version {
        return Err(format!(
            "a stored value has version {found:?}, its head {version:?}"
        ));
    }
    if bytes.len() as u64 != length {
        return Err(format!(
            "a stored value has {} bytes, its head says {length}",
            bytes.len()
        ));
    }
    Ok(bytes)
}

fn put_version(bytes: &mut BytesMut, version: &Version) {
    bytes.put_u64(version.stamp.0);
    bytes.put_slice(&version.writer.0);
    bytes.put_u64(version.checksum);
}

fn take_version(bytes: &mut Bytes) -> Result<Version, bytes::TryGetError> {
    Ok(Version {
        stamp: Stamp(bytes.try_get_u64()?),
        writer: take_incarnation(bytes)?,
        checksum: bytes.try_get_u64()?,
    })
}

fn take_incarnation(bytes: &mut Bytes) -> Result<Incarnation, bytes::TryGetError> {
    let mut incarnation = [0; 16];
    bytes.try_copy_to_slice(&mut incarnation)?;
    Ok(Incarnation(incarnation))
}

#[cfg(test)]
mod tests {
    use super::*;
    use annulet_protocol::record::Origin;
    use proptest::prelude::*;

    fn record(value: Option<Bytes>, expires: Option<u64>) -> Record {
        let op = OpId {
            client: Incarnation([5; 16]),
            sequence: 7,
            first_sent_ms: 90,
        };
        Record::seal(
            1,
            b"k",
            Origin {
                stamp: Stamp(3),
                op,
            },
            value,
            expires,
        )
    }

    fn round_trip(record: &Record) -> Record {
        let (entry, apart) = encode(record);
        let stored = decode(entry).expect("just encoded");
        let value = match stored.value {
            StoredValue::Inline(value) => value,
            StoredValue::Apart(length) => {
                let apart = apart.expect("flagged as apart");
                decode_value(apart, &stored.head.version, length).expect("just encoded")
            }
        };
        Record {
            head: stored.head,
            value,
        }
    }

    #[test]
    fn the_disk_format_never_changes() {
        let (entry, apart) = encode(&record(Some("v".into()), Some(77)));
        let hex: String = entry.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(apart, None);
        assert_eq!(
            hex,
            "0102000000000000000305050505050505050505050505050505\
             3208ef7c29a8d1690000000000000007000000000000005a\
             000000000000004d0000000000000003ecfccabd\
             7661625111"
        );
    }

    #[test]
    fn any_flipped_bit_of_an_entry_is_found() {
        let (entry, _) = encode(&record(Some("v".into()), Some(77)));
        for bit in 0..entry.len() * 8 {
            let mut damaged = entry.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(damaged.into()).is_err(), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn records_are_read_as_they_were_written(
            length in 0usize..9000,
            expires: Option<u64>,
            other: bool,
            tombstone: bool,
        ) {
            let mut record = record((!tombstone).then(|| Bytes::from(vec![1; length])), expires);
            if other { record.head.op.client = Incarnation([6; 16]); }
            prop_assert_eq!(round_trip(&record), record);
        }

        #[test]
        fn damaged_entries_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(Bytes::from(bytes.clone()));
            let _ = decode_value(Bytes::from(bytes), &Version::default(), 3);
        }

        #[test]
        fn storage_keys_sort_by_position(a: u64, b: u64, x: u32, y: u32) {
            let left = storage_key(KeyHash(a), x, b"k");
            let right = storage_key(KeyHash(b), y, b"k");
            prop_assert_eq!(left.cmp(&right), (a, x).cmp(&(b, y)));
            prop_assert_eq!(parse_storage_key(&left), Some((KeyHash(a), x, &b"k"[..])));
        }
    }
}
