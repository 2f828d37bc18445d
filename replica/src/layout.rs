//! Records as the store holds them, each under its storage key.
//!
//! A record is one byte of format, then for last-write-wins records: one byte of flags, the stamp
//! (8), the writer (16), the checksum (8), the operation's sequence (8) and first-sent time (8);
//! if flagged the operation's client (16, else the writer) and the expiry's time (8), stamp (8)
//! and checksum (4); then the value, or, if flagged, its length (8) and the value itself lies in
//! [`Values`] under the same key, behind the first 32 bytes of its version; or, if flagged, there
//! is no value any more, since it has expired long ago; last, a checksum over all before (4, the
//! low half of xxh3), since a damaged head would decide which record stays. A value that lies apart
//! has the client's checksum only, which its readers check. All numbers are big-endian.
//! [`siblings`] has the layout of records of concurrent values.
//!
//! What owners of strong buckets keep of a key is in [`register`](mod@register).
//!
//! [`Values`]: crate::store::Family::Values

pub mod register;
pub mod siblings;

use annulet_protocol::clock::Stamp;
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
const VALUE_GONE: u8 = 1 << 4;
const KNOWN_FLAGS: u8 = TOMBSTONE | HAS_EXPIRY | OTHER_CLIENT | VALUE_APART | VALUE_GONE;
/// Checksum at the end of an entry.
const CHECKSUM_BYTES: usize = 4;
/// Version before a value that lies apart.
const VERSION_BYTES: usize = 32;

/// A record as it is stored: the entry, and the value if that lies apart.
pub fn encode(record: &Record) -> (Bytes, Option<Bytes>) {
    let Record { head, value } = record;
    if value.len() <= INLINE_VALUE_BYTES_MAX {
        return (encode_whole(record), None);
    }
    let mut apart = BytesMut::with_capacity(VERSION_BYTES + value.len());
    put_version(&mut apart, &head.version);
    apart.put_slice(value);
    (encode_apart(head, value.len() as u64), Some(apart.freeze()))
}

/// A record as one entry, however long its value is.
pub fn encode_whole(record: &Record) -> Bytes {
    let mut bytes = encode_head(&record.head, 0, record.value.len());
    bytes.put_slice(&record.value);
    seal(bytes)
}

/// The entry of a record whose value lies apart already.
pub fn encode_apart(head: &Head, length: u64) -> Bytes {
    let mut bytes = encode_head(head, VALUE_APART, 8);
    bytes.put_u64(length);
    seal(bytes)
}

/// The entry of a record without its value.
pub fn encode_gone(head: &Head) -> Bytes {
    seal(encode_head(head, VALUE_GONE, 0))
}

fn encode_head(head: &Head, mut flags: u8, room: usize) -> BytesMut {
    let Head {
        version,
        op,
        kind,
        expiry,
    } = head;
    let flag = |on: bool, flag: u8| if on { flag } else { 0 };
    flags |= flag(*kind == Kind::Tombstone, TOMBSTONE);
    flags |= flag(expiry.is_some(), HAS_EXPIRY);
    flags |= flag(op.client != version.writer, OTHER_CLIENT);
    let mut bytes = BytesMut::with_capacity(100 + room);
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
    bytes
}

/// Ends an entry by the checksum over all of it.
pub(crate) fn seal(mut bytes: BytesMut) -> Bytes {
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
    /// It has expired, and is not kept any more.
    Gone,
}

impl Stored {
    /// Bytes of its value, as far as there is one.
    pub fn value_bytes(&self) -> u64 {
        match &self.value {
            StoredValue::Inline(value) => value.len() as u64,
            StoredValue::Apart(length) => *length,
            StoredValue::Gone => 0,
        }
    }
}

/// Takes the checksum off the end of an entry, once it was checked.
///
/// # Errors
/// If the entry is damaged.
pub(crate) fn unseal(bytes: &mut Bytes) -> Result<(), String> {
    let sealed = bytes.split_off(bytes.len().saturating_sub(CHECKSUM_BYTES));
    if *sealed != checksum(bytes).to_be_bytes() {
        return Err("a stored record does not match its checksum".into());
    }
    Ok(())
}

/// Reads a stored entry.
///
/// # Errors
/// If it is not one: damaged, or of a newer version of this program.
pub fn decode(mut bytes: Bytes) -> Result<Stored, String> {
    let read = |e: bytes::TryGetError| format!("a stored record is cut off: {e}");
    unseal(&mut bytes)?;
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
    let value = match flags & (VALUE_APART | VALUE_GONE) {
        0 => {
            return Ok(Stored {
                head,
                value: StoredValue::Inline(bytes),
            });
        }
        VALUE_APART => StoredValue::Apart(bytes.try_get_u64().map_err(read)?),
        VALUE_GONE => StoredValue::Gone,
        _ => return Err("a stored record has its value apart and not at all".into()),
    };
    if bytes.has_remaining() {
        return Err("a stored record has bytes after its end".into());
    }
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

pub(crate) fn take_incarnation(bytes: &mut Bytes) -> Result<Incarnation, bytes::TryGetError> {
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
            StoredValue::Gone => panic!("it was encoded with its value"),
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
    fn a_record_without_its_value_keeps_its_head() {
        let head = record(Some("v".into()), Some(77)).head;
        let gone = encode_gone(&head);
        assert_eq!(gone[..2], [1, 0x12]);
        let stored = Stored {
            head,
            value: StoredValue::Gone,
        };
        assert_eq!(decode(gone), Ok(stored));
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
    }
}
