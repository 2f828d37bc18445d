//! Checks of what reads a store's entries.
//!
//! An entry ends with a checksum, which hardly any mutation matches. So these bytes are read as
//! they are, and once more with the checksums put right: then all that is behind them is reached.

use annulet_protocol::clock::Stamp;
use annulet_protocol::hash::{parse_storage_key, storage_key};
use annulet_protocol::ids::{Incarnation, OpId};
use annulet_protocol::limits::OWNERS_MAX;
use annulet_protocol::record::{Head, Kind, Record, Version};
use annulet_protocol::register::{LOG_MAX, Log};
use annulet_replica::hints::{Kept, KeptRecord, Tally};
use annulet_replica::layout::register;
use annulet_replica::layout::siblings as siblings_layout;
use annulet_replica::layout::{self, INLINE_VALUE_BYTES_MAX, Stored, StoredValue};
use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

const CHECKSUM_BYTES: usize = 4;
/// Bytes before the ids of the owners of a kept record: format, flags, time, epoch, number.
const KEPT_HEAD_BYTES: usize = 20;
const VERSION_BYTES: usize = 32;
/// The flag of a stored record whose operation's client is not its writer.
const OTHER_CLIENT: u8 = 1 << 2;

pub(super) fn record(bytes: &[u8]) -> bool {
    let as_it_is = layout::decode(Bytes::copy_from_slice(bytes));
    assert!(as_it_is.is_err() || is_sealed(bytes), "damage went unseen");
    let Ok(stored) = layout::decode(sealed(bytes)) else {
        return false;
    };
    if let Ok(as_it_is) = as_it_is {
        assert_eq!(as_it_is, stored);
    }
    assert!(stored.value_bytes() <= bytes.len() as u64 || is_apart(&stored));
    let again = match &stored.value {
        StoredValue::Inline(value) => whole(&stored, value.clone()),
        StoredValue::Apart(length) => layout::encode_apart(&stored.head, *length),
        StoredValue::Gone => layout::encode_gone(&stored.head),
    };
    check_same_bytes(bytes, &again, &stored.head);
    assert_eq!(layout::decode(again), Ok(stored), "written and read again");
    true
}

/// There is one way to write an entry, but that a client that is the writer may be spelt out.
fn check_same_bytes(bytes: &[u8], again: &[u8], head: &Head) {
    let spelt_out = bytes[1] & OTHER_CLIENT != 0 && head.op.client == head.version.writer;
    assert!(spelt_out || again == sealed(bytes), "written otherwise");
}

fn is_apart(stored: &Stored) -> bool {
    matches!(stored.value, StoredValue::Apart(_))
}

fn whole(stored: &Stored, value: Bytes) -> Bytes {
    layout::encode_whole(&Record {
        head: stored.head,
        value,
    })
}

/// The bytes are the version that is looked for (32), the length that the head says (8), then what
/// is stored.
pub(super) fn value(bytes: &[u8]) -> bool {
    let Some((version, rest)) = bytes.split_first_chunk::<VERSION_BYTES>() else {
        return false;
    };
    let Some((length, stored)) = rest.split_first_chunk::<8>() else {
        return false;
    };
    check_own_value(stored);
    let stored = Bytes::copy_from_slice(stored);
    let length = u64::from_be_bytes(*length);
    let Ok(value) = layout::decode_value(stored.clone(), &version_of(version), length) else {
        return false;
    };
    assert_eq!(value.len() as u64, length);
    assert_eq!([version, &value[..]].concat(), stored);
    true
}

/// A value that is long enough belongs to the version it begins with, has the length it has, and
/// no other.
fn check_own_value(stored: &[u8]) {
    let Some((version, rest)) = stored.split_first_chunk::<VERSION_BYTES>() else {
        return;
    };
    let version = version_of(version);
    let read = |version, length| {
        layout::decode_value(Bytes::copy_from_slice(stored), version, length as u64)
    };
    let value = read(&version, rest.len()).expect("its own version and length");
    assert_eq!(value, rest);
    assert!(read(&version, rest.len() + 1).is_err(), "another length");
    let other = Version {
        checksum: !version.checksum,
        ..version
    };
    assert!(read(&other, rest.len()).is_err(), "another version");
    let head = Head {
        version,
        op: OpId::default(),
        kind: Kind::Value,
        expiry: None,
    };
    let (entry, apart) = layout::encode(&Record { head, value });
    assert_eq!(apart.is_some(), rest.len() > INLINE_VALUE_BYTES_MAX);
    assert!(layout::decode(entry).is_ok_and(|stored| stored.head == head));
}

fn version_of(bytes: &[u8; VERSION_BYTES]) -> Version {
    let number = |at: usize| {
        let bytes = bytes[at..at + 8].try_into().expect("eight bytes");
        u64::from_be_bytes(bytes)
    };
    Version {
        stamp: Stamp(number(0)),
        writer: Incarnation(bytes[8..24].try_into().expect("sixteen bytes")),
        checksum: number(24),
    }
}

pub(super) fn siblings(bytes: &[u8]) -> bool {
    let as_it_is = siblings_layout::decode(Bytes::copy_from_slice(bytes));
    assert!(as_it_is.is_err() || is_sealed(bytes), "damage went unseen");
    let Ok(stored) = siblings_layout::decode(sealed(bytes)) else {
        return false;
    };
    let again = match stored.apart {
        Some(apart) => siblings_layout::encode_apart(&stored.record, apart, stored.marks),
        None => siblings_layout::encode_whole(&stored.record, stored.marks),
    };
    assert_eq!(
        siblings_layout::decode(again),
        Ok(stored),
        "written and read again"
    );
    true
}

pub(super) fn register(bytes: &[u8]) -> bool {
    let as_it_is = register::decode(Bytes::copy_from_slice(bytes));
    assert!(as_it_is.is_err() || is_sealed(bytes), "damage went unseen");
    let Ok(stored) = register::decode(sealed(bytes)) else {
        return false;
    };
    if let Ok(as_it_is) = as_it_is {
        assert_eq!(as_it_is, stored);
    }
    if let Some(accepted) = stored.accepted() {
        let _ = accepted.value.register.verify(1, b"key");
        let inline = match &accepted.value.value {
            StoredValue::Inline(value) => value.len(),
            StoredValue::Apart(_) | StoredValue::Gone => 0,
        };
        assert!(inline <= bytes.len());
    }
    let again = register::encode(&stored);
    assert_eq!(again, sealed(bytes), "written otherwise");
    assert_eq!(
        register::decode(again),
        Ok(stored),
        "written and read again"
    );
    true
}

pub(super) fn log(bytes: &[u8]) -> bool {
    let Ok(log) = Log::decode(Bytes::copy_from_slice(bytes)) else {
        return false;
    };
    assert!(log.iter().len() <= LOG_MAX);
    assert_eq!(log.encode(), bytes, "written otherwise");
    for entry in log.iter() {
        assert!(log.is_complete_since(entry.at) && log.find(&entry.op).is_some());
    }
    true
}

pub(super) fn kept(bytes: &[u8]) -> bool {
    let as_it_is = Kept::decode(Bytes::copy_from_slice(bytes));
    assert!(as_it_is.is_err() || is_sealed(bytes), "damage went unseen");
    let Ok(kept) = Kept::decode(sealed(&with_inner_checksum(bytes))) else {
        return false;
    };
    assert!(kept.owners.len() <= OWNERS_MAX);
    let values = match &kept.record {
        KeptRecord::Lww(record) => record.value.len(),
        KeptRecord::Siblings { record, .. } => record.value_bytes(),
    };
    assert!(kept.owners.len() * 8 + values <= bytes.len());
    assert_eq!(kept.notes(b"key").count(), kept.owners.len());
    let mut tally = Tally::default();
    tally.add(b"key", &kept);
    tally.remove(b"key", &kept);
    assert_eq!(tally, Tally::default(), "added and removed");
    let again = kept.encode();
    let record = KEPT_HEAD_BYTES + 8 * kept.owners.len();
    assert_eq!(again[..record], bytes[..record], "written otherwise");
    let record = |bytes: &[u8]| bytes[record..bytes.len() - CHECKSUM_BYTES].to_vec();
    if let KeptRecord::Lww(of) = &kept.record {
        check_same_bytes(&record(bytes), &record(&again), &of.head);
    }
    assert_eq!(Kept::decode(again), Ok(kept), "written and read again");
    true
}

/// The bytes of a kept record with the checksum of the record in it put right.
fn with_inner_checksum(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let Some(owners) = bytes.get(KEPT_HEAD_BYTES - 2..KEPT_HEAD_BYTES) else {
        return bytes;
    };
    let start = KEPT_HEAD_BYTES + 8 * usize::from(u16::from_be_bytes([owners[0], owners[1]]));
    let end = bytes.len().saturating_sub(CHECKSUM_BYTES);
    if let Some(record) = bytes.get_mut(start..end) {
        let right = sealed(record);
        record.copy_from_slice(&right[..record.len()]);
    }
    bytes
}

pub(super) fn tally(bytes: &[u8]) -> bool {
    let as_it_is = Tally::decode(Bytes::copy_from_slice(bytes));
    assert!(as_it_is.is_err() || is_sealed(bytes), "damage went unseen");
    let Ok(tally) = Tally::decode(sealed(bytes)) else {
        return false;
    };
    assert!(tally.waiting.len() * 16 <= bytes.len());
    let again = Tally::decode(tally.encode());
    assert_eq!(again, Ok(tally), "written and read again");
    true
}

pub(super) fn key(bytes: &[u8]) -> bool {
    let Some((hash, bucket, key)) = parse_storage_key(bytes) else {
        assert!(bytes.len() < 12, "long enough");
        return false;
    };
    assert_eq!(storage_key(hash, bucket, key), bytes);
    true
}

/// The bytes with a last word that is the checksum over what is before it.
fn sealed(bytes: &[u8]) -> Bytes {
    let content = &bytes[..bytes.len().saturating_sub(CHECKSUM_BYTES)];
    [content, &checksum(content)].concat().into()
}

fn is_sealed(bytes: &[u8]) -> bool {
    let content = &bytes[..bytes.len().saturating_sub(CHECKSUM_BYTES)];
    bytes[content.len()..] == checksum(content)
}

fn checksum(content: &[u8]) -> [u8; CHECKSUM_BYTES] {
    (xxh3_64(content) as u32).to_be_bytes()
}
