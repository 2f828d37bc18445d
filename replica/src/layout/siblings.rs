//! Records of concurrent values as the store holds them.
//!
//! An entry is one byte of format, one of flags; if flagged the stamp that takes the place of the
//! epoch in the server's actor (8); then the record's bytes, or, if flagged, the checksum of its
//! values (8) and their length (8) and the record's bytes without values: the record with its
//! values lies in [`Values`] under the same key, behind that checksum. Last a checksum over all
//! before (4). All numbers are big-endian.
//!
//! [`Values`]: crate::store::Family::Values

use super::{INLINE_VALUE_BYTES_MAX, seal, unseal};
use annulet_protocol::clock::Stamp;
use annulet_protocol::siblings::Siblings;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use xxhash_rust::xxh3::xxh3_64;

/// Format byte of a record of concurrent values.
pub(crate) const FORMAT: u8 = 2;
const APART: u8 = 1;
const TENURE: u8 = 1 << 1;
const KNOWN_FLAGS: u8 = APART | TENURE;

/// A stored entry, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSiblings {
    /// The record, without its values if they lie apart.
    pub record: Siblings,
    /// Where its values lie, if not here.
    pub apart: Option<Apart>,
    /// What this server notes of the record.
    pub marks: Marks,
}

/// Values that lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Apart {
    /// Over the record with its values: ties the two entries together.
    pub checksum: u64,
    /// Bytes of the values together.
    pub value_bytes: u64,
}

/// What a server notes of a record for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Takes the place of the epoch in the server's actor: the record is kept for others, or was
    /// put together anew after it was lost.
    pub tenure: Option<Stamp>,
}

/// The entry of a record, and its values if they lie apart.
pub fn encode(record: &Siblings, marks: Marks) -> (Bytes, Option<(Apart, Bytes)>) {
    let value_bytes = record.value_bytes();
    let whole = record.encode();
    if value_bytes <= INLINE_VALUE_BYTES_MAX {
        return (entry(marks, None, &whole), None);
    }
    let apart = Apart {
        checksum: xxh3_64(&whole),
        value_bytes: value_bytes as u64,
    };
    let mut values = BytesMut::with_capacity(8 + whole.len());
    values.put_u64(apart.checksum);
    values.put_slice(&whole);
    let bare = record.encode_bare();
    (
        entry(marks, Some(apart), &bare),
        Some((apart, values.freeze())),
    )
}

/// The entry of a record with all its values, however long they are.
pub fn encode_whole(record: &Siblings, marks: Marks) -> Bytes {
    entry(marks, None, &record.encode())
}

/// The entry of a record whose values lie apart already.
pub fn encode_apart(bare: &Siblings, apart: Apart, marks: Marks) -> Bytes {
    entry(marks, Some(apart), &bare.encode_bare())
}

fn entry(marks: Marks, apart: Option<Apart>, record: &[u8]) -> Bytes {
    let Marks { tenure } = marks;
    let flag = |on: bool, flag: u8| if on { flag } else { 0 };
    let mut bytes = BytesMut::with_capacity(40 + record.len());
    bytes.put_u8(FORMAT);
    bytes.put_u8(flag(apart.is_some(), APART) | flag(tenure.is_some(), TENURE));
    if let Some(tenure) = tenure {
        bytes.put_u64(tenure.0);
    }
    if let Some(apart) = apart {
        bytes.put_u64(apart.checksum);
        bytes.put_u64(apart.value_bytes);
    }
    bytes.put_slice(record);
    seal(bytes)
}

/// Reads a stored entry.
///
/// # Errors
/// If it is not one: damaged, or of a newer version of this program.
pub fn decode(mut bytes: Bytes) -> Result<StoredSiblings, String> {
    let read = |e: bytes::TryGetError| format!("a stored record is cut off: {e}");
    unseal(&mut bytes)?;
    let format = bytes.try_get_u8().map_err(read)?;
    let flags = bytes.try_get_u8().map_err(read)?;
    if format != FORMAT || flags & !KNOWN_FLAGS != 0 {
        return Err(format!(
            "concurrent values have format {format} and flags {flags:#010b}, this program knows \
             format {FORMAT}"
        ));
    }
    let mut number = |flag: u8| match flags & flag {
        0 => Ok(None),
        _ => bytes.try_get_u64().map_err(read).map(Some),
    };
    let marks = Marks {
        tenure: number(TENURE)?.map(Stamp),
    };
    let apart = match (number(APART)?, number(APART)?) {
        (Some(checksum), Some(value_bytes)) => Some(Apart {
            checksum,
            value_bytes,
        }),
        _ => None,
    };
    let record = Siblings::decode(&bytes).map_err(|error| error.to_string())?;
    if apart.is_some() && record.value_bytes() > 0 {
        return Err("a stored record has values of its own beside those that lie apart".into());
    }
    Ok(StoredSiblings {
        record,
        apart,
        marks,
    })
}

/// Reads the record whose values lie apart.
///
/// # Errors
/// If it is damaged, or belongs to another entry.
pub fn decode_values(mut bytes: Bytes, apart: Apart) -> Result<Siblings, String> {
    let read = |e: bytes::TryGetError| format!("stored values are cut off: {e}");
    let found = bytes.try_get_u64().map_err(read)?;
    if found != apart.checksum || xxh3_64(&bytes) != found {
        return Err("stored values do not belong to their record, or are damaged".into());
    }
    Siblings::decode(&bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use annulet_protocol::ids::{Incarnation, NodeId, OpId};
    use annulet_protocol::siblings::{Actor, Write};
    use proptest::prelude::*;

    fn record(length: usize) -> Siblings {
        let op = OpId {
            client: Incarnation([5; 16]),
            sequence: 7,
            first_sent_ms: 90,
        };
        let actor = Actor {
            node: NodeId(3),
            incarnation: Incarnation([4; 16]),
            tenure: 2,
        };
        let write = Write::seal(1, b"k", op, vec![1; length].into(), None);
        let mut record = Siblings::default();
        let nothing = Siblings::default();
        let put = record.put(&nothing, (write, false), (actor, Stamp(9)), 1 << 20);
        put.expect("the first");
        record
    }

    #[test]
    fn the_disk_format_never_changes() {
        let marks = Marks {
            tenure: Some(Stamp(6)),
        };
        let (entry, values) = encode(&record(1), marks);
        let hex: String = entry.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(values, None);
        assert_eq!(
            hex,
            "0202000000000000000683a46261736500a6766563746f72c428000000000000000304040404040404040\
             40404040404040400000000000000020000000000000009a87369626c696e6773c4590005050505050505\
             0505050505050505050000000000000007000000000000005a22e2f610bc32b25e0000000101000100000\
             00000000000030404040404040404040404040404040400000000000000020000000000000009ff82f317"
        );
        let (entry, values) = encode(&record(4_097), marks);
        let (apart, values) = values.expect("they are long");
        assert_eq!(entry[..2], [2, 3]);
        assert_eq!(apart.value_bytes, 4_097);
        assert_eq!(values[..8], apart.checksum.to_be_bytes());
    }

    proptest! {
        #[test]
        fn records_are_read_as_they_were_written(
            length in 0usize..9_000, tenure: Option<u64>
        ) {
            let record = record(length);
            let marks = Marks { tenure: tenure.map(Stamp) };
            let (entry, values) = encode(&record, marks);
            let stored = decode(entry).expect("just encoded");
            prop_assert_eq!(stored.marks, marks);
            match (stored.apart, values) {
                (None, None) => prop_assert_eq!(stored.record, record.clone()),
                (Some(apart), Some((same, values))) => {
                    prop_assert_eq!(apart, same);
                    prop_assert_eq!(&stored.record, &record.bare());
                    prop_assert_eq!(decode_values(values, apart), Ok(record.clone()));
                    let again = encode_apart(&record.bare(), apart, marks);
                    prop_assert_eq!(decode(again).expect("just encoded"), stored);
                }
                _ => prop_assert!(false, "values here or there"),
            }
            let whole = decode(encode_whole(&record, marks)).expect("just encoded");
            prop_assert_eq!(whole.record, record);
        }

        #[test]
        fn damage_is_found_and_never_panics(
            bytes in prop::collection::vec(any::<u8>(), 0..200), bit: prop::sample::Index
        ) {
            let apart = Apart { checksum: 7, value_bytes: 3 };
            let _ = decode(bytes.clone().into());
            let _ = decode_values(bytes.into(), apart);
            let (entry, values) = encode(&record(4_097), Marks::default());
            let flip = |bytes: &Bytes| {
                let mut damaged = bytes.to_vec();
                let bit = bit.index(damaged.len() * 8);
                damaged[bit / 8] ^= 1 << (bit % 8);
                Bytes::from(damaged)
            };
            prop_assert!(decode(flip(&entry)).is_err());
            let (apart, values) = values.expect("they are long");
            prop_assert!(decode_values(flip(&values), apart).is_err());
        }
    }
}
