//! What an acceptor of a strong bucket remembers of a key, as the store holds it.
//!
//! One byte of format, one of flags, and the highest ballot promised (8, 16). If something was
//! accepted: its ballot (8, 16) and, if flagged, the reserved one (8, 16); then the register: its
//! version (8, 16), the operation's client (16), sequence (8) and first-sent time (8), if flagged
//! the expiry's time (8), the value's length (4), the client's checksum (8), the seal (4), the
//! log's length (2) and the log; then the value, unless flagged: a value over 4 KiB lies in
//! [`Values`] under the same key, behind its version (24) and the client's checksum (8), and stays
//! there while rounds only settle it. Last, a checksum over all before (4). All numbers are
//! big-endian.
//!
//! [`Values`]: crate::store::Family::Values

use super::{INLINE_VALUE_BYTES_MAX, StoredValue, seal, take_incarnation, unseal};
use crate::acceptor::{Accepted, Acceptor};
use annulet_protocol::ballot::Ballot;
use annulet_protocol::ids::OpId;
use annulet_protocol::record::Kind;
use annulet_protocol::register::{Head, Log, Register};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use xxhash_rust::xxh3::xxh3_64;

/// Format byte of an acceptor.
pub(crate) const FORMAT: u8 = 3;
const ACCEPTED: u8 = 1;
const RESERVED: u8 = 1 << 1;
const TOMBSTONE: u8 = 1 << 2;
const HAS_EXPIRY: u8 = 1 << 3;
const VALUE_APART: u8 = 1 << 4;
const KNOWN_FLAGS: u8 = ACCEPTED | RESERVED | TOMBSTONE | HAS_EXPIRY | VALUE_APART;

/// A register as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRegister {
    /// The register.
    pub register: Register,
    /// Its value, or where that is; empty of a tombstone.
    pub value: StoredValue,
}

/// An acceptor as it is stored.
pub type Stored = Acceptor<StoredRegister>;

impl StoredRegister {
    /// A register with its value, which is kept here if it is short.
    pub fn of(register: Register, value: &Bytes) -> Self {
        let value = match value.len() > INLINE_VALUE_BYTES_MAX {
            true => StoredValue::Apart(value.len() as u64),
            false => StoredValue::Inline(value.clone()),
        };
        Self { register, value }
    }

    /// Whether its value lies apart.
    pub fn is_apart(&self) -> bool {
        matches!(self.value, StoredValue::Apart(_))
    }
}

/// An acceptor's entry.
pub fn encode(acceptor: &Stored) -> Bytes {
    let mut bytes = BytesMut::with_capacity(256);
    bytes.put_u8(FORMAT);
    bytes.put_u8(flags(acceptor.accepted()));
    put_ballot(&mut bytes, acceptor.promised());
    let Some(Accepted {
        ballot,
        value: StoredRegister { register, value },
        next,
    }) = acceptor.accepted()
    else {
        return seal(bytes);
    };
    put_ballot(&mut bytes, *ballot);
    if let Some(next) = next {
        put_ballot(&mut bytes, *next);
    }
    let Head {
        version,
        op,
        expires_at_ms,
        length,
        checksum,
        ..
    } = register.head;
    put_ballot(&mut bytes, version);
    bytes.put_slice(&op.client.0);
    bytes.put_u64(op.sequence);
    bytes.put_u64(op.first_sent_ms);
    if let Some(at_ms) = expires_at_ms {
        bytes.put_u64(at_ms);
    }
    bytes.put_u32(length);
    bytes.put_u64(checksum);
    bytes.put_u32(register.head.seal);
    let log = register.log.encode();
    // A log has at most 32 entries of 57 bytes.
    bytes.put_u16(log.len() as u16);
    bytes.put_slice(&log);
    if let StoredValue::Inline(value) = value {
        bytes.put_slice(value);
    }
    seal(bytes)
}

fn flags(accepted: Option<&Accepted<StoredRegister>>) -> u8 {
    let flag = |on: bool, flag: u8| if on { flag } else { 0 };
    accepted.map_or(0, |accepted| {
        let head = &accepted.value.register.head;
        ACCEPTED
            | flag(accepted.next.is_some(), RESERVED)
            | flag(head.kind == Kind::Tombstone, TOMBSTONE)
            | flag(head.expires_at_ms.is_some(), HAS_EXPIRY)
            | flag(accepted.value.is_apart(), VALUE_APART)
    })
}

/// Reads an entry.
///
/// # Errors
/// If it is none: damaged, or of a newer version of this program.
pub fn decode(mut bytes: Bytes) -> Result<Stored, String> {
    let cut = |e: bytes::TryGetError| format!("a stored register is cut off: {e}");
    unseal(&mut bytes)?;
    let format = bytes.try_get_u8().map_err(cut)?;
    if format != FORMAT {
        return Err(format!("a stored register has format {format}, not 3"));
    }
    let flags = bytes.try_get_u8().map_err(cut)?;
    if flags & !KNOWN_FLAGS != 0 || flags & ACCEPTED == 0 && flags != 0 {
        return Err(format!("a stored register has flags {flags:#010b}"));
    }
    let promised = take_ballot(&mut bytes).map_err(cut)?;
    if flags & ACCEPTED == 0 {
        return match bytes.is_empty() {
            true => Ok(Acceptor::new(promised, None)),
            false => Err("a stored promise has bytes after its end".into()),
        };
    }
    let ballot = take_ballot(&mut bytes).map_err(cut)?;
    let next = match flags & RESERVED {
        0 => None,
        _ => Some(take_ballot(&mut bytes).map_err(cut)?),
    };
    let register = take_register(&mut bytes, flags).map_err(cut)?;
    let length = register.head.length as usize;
    let value = match flags & VALUE_APART {
        0 if bytes.len() == length => StoredValue::Inline(bytes),
        0 => return Err("a stored register's value is not as long as its head says".into()),
        _ if bytes.has_remaining() => {
            return Err("a stored register has bytes after its end".into());
        }
        _ => StoredValue::Apart(length as u64),
    };
    let log = register
        .log
        .map_err(|why| format!("a stored register: {why}"))?;
    let head = register.head;
    let accepted = Accepted {
        ballot,
        value: StoredRegister {
            register: Register { head, log },
            value,
        },
        next,
    };
    Ok(Acceptor::new(promised, Some(accepted)))
}

struct Read {
    head: Head,
    log: Result<Log, String>,
}

fn take_register(bytes: &mut Bytes, flags: u8) -> Result<Read, bytes::TryGetError> {
    let version = take_ballot(bytes)?;
    let op = OpId {
        client: take_incarnation(bytes)?,
        sequence: bytes.try_get_u64()?,
        first_sent_ms: bytes.try_get_u64()?,
    };
    let expires_at_ms = match flags & HAS_EXPIRY {
        0 => None,
        _ => Some(bytes.try_get_u64()?),
    };
    let length = bytes.try_get_u32()?;
    let checksum = bytes.try_get_u64()?;
    let seal = bytes.try_get_u32()?;
    let log_length = usize::from(bytes.try_get_u16()?);
    if bytes.len() < log_length {
        return Err(bytes::TryGetError {
            requested: log_length,
            available: bytes.len(),
        });
    }
    let log = bytes.split_to(log_length);
    let head = Head {
        kind: match flags & TOMBSTONE {
            0 => Kind::Value,
            _ => Kind::Tombstone,
        },
        version,
        op,
        expires_at_ms,
        length,
        checksum,
        log_checksum: xxh3_64(&log),
        seal,
    };
    Ok(Read {
        head,
        log: Log::decode(log),
    })
}

/// A value that lies apart, as it is stored.
pub fn encode_value(head: &Head, value: &Bytes) -> Bytes {
    let mut bytes = BytesMut::with_capacity(32 + value.len());
    put_ballot(&mut bytes, head.version);
    bytes.put_u64(head.checksum);
    bytes.put_slice(value);
    bytes.freeze()
}

/// Reads a value that lies apart and belongs to this head.
///
/// # Errors
/// If it is cut off, or belongs to another head.
pub fn decode_value(mut bytes: Bytes, head: &Head) -> Result<Bytes, String> {
    let cut = |e: bytes::TryGetError| format!("a stored value is cut off: {e}");
    let version = take_ballot(&mut bytes).map_err(cut)?;
    let checksum = bytes.try_get_u64().map_err(cut)?;
    let same = (version, checksum, bytes.len()) == (head.version, head.checksum, head.length as _);
    match same {
        true => Ok(bytes),
        false => Err(format!(
            "a stored value of {} bytes has version {version:?}, its head {:?}",
            bytes.len(),
            head.version
        )),
    }
}

fn put_ballot(bytes: &mut BytesMut, ballot: Ballot) {
    bytes.put_u64(ballot.number);
    bytes.put_slice(&ballot.proposer.0);
}

fn take_ballot(bytes: &mut Bytes) -> Result<Ballot, bytes::TryGetError> {
    Ok(Ballot {
        number: bytes.try_get_u64()?,
        proposer: take_incarnation(bytes)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use annulet_protocol::ids::Incarnation;
    use annulet_protocol::register::{Change, Condition, NewValue, Turn};
    use proptest::prelude::*;

    fn ballot(number: u64) -> Ballot {
        Ballot {
            number,
            proposer: Incarnation([5; 16]),
        }
    }

    fn stored(value: Option<Bytes>, expires_at_ms: Option<u64>, next: Option<u64>) -> Stored {
        let turn = Turn {
            ballot: ballot(7),
            op: OpId {
                client: Incarnation([6; 16]),
                sequence: 3,
                first_sent_ms: 90,
            },
            since: None,
            now_ms: 0,
        };
        let condition = Condition::Always;
        let change = match value {
            None => Change::Delete { condition },
            Some(value) => Change::Set {
                value,
                expires_at_ms,
                condition,
            },
        };
        let changed = Register::unwritten(1, b"k").change((1, b"k"), &turn, &change);
        let NewValue::Is(value) = changed.value else {
            panic!("set or deleted");
        };
        let accepted = Accepted {
            ballot: ballot(8),
            value: StoredRegister::of(changed.register, &value),
            next: next.map(ballot),
        };
        Acceptor::new(ballot(9), Some(accepted))
    }

    #[test]
    fn the_disk_format_never_changes() {
        let hex = |stored: &Stored| -> String {
            let entry = encode(stored);
            entry.iter().map(|byte| format!("{byte:02x}")).collect()
        };
        assert_eq!(
            hex(&Acceptor::new(ballot(9), None)),
            "03000000000000000009050505050505050505050505050505057647c40a"
        );
        assert_eq!(
            hex(&stored(Some("v".into()), Some(77), Some(9))),
            "030b000000000000000905050505050505050505050505050505000000000000000805050505\
         0505050505050505050505050000000000000009050505050505050505050505050505050000\
         0000000000070505050505050505050505050505050506060606060606060606060606060606\
         0000000000000003000000000000005a000000000000004d000000019ef669575ed9abcead29\
         c52c005100000000000000000000000000000000000000000000000002060606060606060606\
         060606060606060000000000000003000000000000005a000000000000000705050505050505\
         0505050505050505057668738aa9"
        );
        assert_eq!(
            hex(&stored(None, None, None)),
            "0305000000000000000905050505050505050505050505050505000000000000000805050505\
         0505050505050505050505050000000000000007050505050505050505050505050505050606\
         06060606060606060606060606060000000000000003000000000000005a000000000fd1886b\
         f5f84c7055a7d221005100000000000000000000000000000000000000000000000002060606\
         060606060606060606060606060000000000000003000000000000005a000000000000000705\
         050505050505050505050505050505391001e3"
        );
        let long = stored(Some(vec![1; 5_000].into()), None, None);
        assert_eq!(hex(&long)[..4], *"0311");
    }

    #[test]
    fn any_flipped_bit_of_an_entry_is_found() {
        let entry = encode(&stored(Some("v".into()), Some(77), Some(9)));
        for bit in 0..entry.len() * 8 {
            let mut damaged = entry.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(damaged.into()).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_value_belongs_to_its_version() {
        let value = Bytes::from(vec![1; 5_000]);
        let of = |stored: &Stored| stored.accepted().expect("it has one").value.register.head;
        let head = of(&stored(Some(value.clone()), None, None));
        let kept = encode_value(&head, &value);
        assert_eq!(decode_value(kept.clone(), &head), Ok(value));
        let other = of(&stored(Some(vec![2; 5_000].into()), None, None));
        assert!(decode_value(kept.clone(), &other).is_err());
        assert!(decode_value(kept.slice(..4_000), &head).is_err());
        assert!(decode_value(kept.slice(..20), &head).is_err());
    }

    proptest! {
        #[test]
        fn entries_are_read_as_they_were_written(
            length in prop::option::of(0usize..9000),
            expires: Option<u64>,
            next in prop::option::of(9u64..99),
        ) {
            let value = length.map(|length| Bytes::from(vec![1; length]));
            let stored = stored(value, expires, next);
            prop_assert_eq!(decode(encode(&stored)), Ok(stored));
        }

        #[test]
        fn damaged_entries_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(Bytes::from(bytes.clone()));
            // What is behind the checksum is reached as well.
            let _ = decode(seal(BytesMut::from(&[&[FORMAT, 31][..], &bytes].concat()[..])));
        }
    }
}
