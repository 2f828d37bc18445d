//! Records of concurrent values as bytes: on the wire, on disk, and as the opaque contexts that
//! applications hold. A map, so that later versions may add fields, of lists that lie end to end:
//! a key that is often written has dozens of dots and operations, and names for the parts of each
//! would be most of the bytes. All numbers in the lists are big-endian.
//!
//! | list | an entry |
//! |---|---|
//! | vector | a dot: node (8), incarnation (16), tenure (8), stamp (8) |
//! | siblings | flags (1), operation, expiry (8) if flagged, checksum (8), value, dots |
//! | past | flags (1), operation |
//!
//! An operation is client (16), sequence (8) and when it was first sent (8); a value lies behind
//! its length (4), the dots of a sibling behind their number (2), each behind its flags (1).
//!
//! Sealed bytes begin with a format byte and a checksum over bucket, key and the rest: made anew by
//! whoever puts a record together, after it checked what it was made from.

use super::{Actor, Dot, Minting, PAST_MAX, Past, Sibling, Siblings, Write};
use crate::clock::Stamp;
use crate::codec::{self, DecodeError};
use crate::ids::{Incarnation, NodeId, OpId};
use crate::limits::{OWNERS_MAX, SIBLINGS_MERGED_MAX};
use bytes::{Buf, BufMut, Bytes, TryGetError};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// Most actors of one record, until the base covers them: each start of each owner is one, and each
/// time that another server begins to keep the key for owners.
pub const ACTORS_MAX: usize = 16_384;
/// Most overwritten operations of one record on the wire: those that each owner remembers, and all
/// siblings, which a context adds.
pub const PAST_WIRE_MAX: usize = SIBLINGS_MERGED_MAX + PAST_MAX * OWNERS_MAX;
/// Most dots of one value: it is minted once by each server that an attempt comes to.
pub const DOTS_MAX: usize = 256;

/// First byte of sealed bytes.
const FORMAT: u8 = 1;
/// Format and checksum before a sealed record.
const SEAL_BYTES: usize = 9;

/// An entry was minted again, of a dot or of an operation.
const AGAIN: u8 = 1;
/// A sibling has an end.
const EXPIRES: u8 = 1 << 1;
/// Bytes of a dot, and of an operation.
const DOT_BYTES: usize = 40;
const OP_BYTES: usize = 32;
/// About what the rest of a record's map takes.
const NAMES_BYTES: usize = 64;

#[derive(Serialize, Deserialize)]
struct WireRecord<'a> {
    base: Stamp,
    #[serde(borrow, with = "serde_bytes")]
    vector: &'a [u8],
    #[serde(
        borrow,
        default,
        with = "serde_bytes",
        skip_serializing_if = "<[u8]>::is_empty"
    )]
    siblings: &'a [u8],
    #[serde(
        borrow,
        default,
        with = "serde_bytes",
        skip_serializing_if = "<[u8]>::is_empty"
    )]
    past: &'a [u8],
}

fn put_dot(bytes: &mut Vec<u8>, actor: &Actor, stamp: Stamp) {
    bytes.put_u64(actor.node.0);
    bytes.put_slice(&actor.incarnation.0);
    bytes.put_u64(actor.tenure);
    bytes.put_u64(stamp.0);
}

fn put_op(bytes: &mut Vec<u8>, flags: u8, op: &OpId) {
    bytes.put_u8(flags);
    bytes.put_slice(&op.client.0);
    bytes.put_u64(op.sequence);
    bytes.put_u64(op.first_sent_ms);
}

fn again(again: bool) -> u8 {
    if again { AGAIN } else { 0 }
}

fn put_sibling(bytes: &mut Vec<u8>, sibling: &Sibling, value: &[u8]) {
    let Write {
        op,
        expires_at_ms,
        checksum,
        ..
    } = &sibling.write;
    let flags = if expires_at_ms.is_some() { EXPIRES } else { 0 };
    put_op(bytes, flags, op);
    if let Some(at_ms) = expires_at_ms {
        bytes.put_u64(*at_ms);
    }
    bytes.put_u64(*checksum);
    // Values have at most some MiB, and a value at most `DOTS_MAX` dots.
    bytes.put_u32(value.len() as u32);
    bytes.put_slice(value);
    bytes.put_u16(sibling.minted.len() as u16);
    for minting in &sibling.minted {
        bytes.put_u8(again(minting.again));
        put_dot(bytes, &minting.dot.actor, minting.dot.stamp);
    }
}

fn cut(error: TryGetError) -> DecodeError {
    DecodeError::Malformed(format!("a record of concurrent values is cut off: {error}"))
}

fn take_incarnation(bytes: &mut &[u8]) -> Result<Incarnation, DecodeError> {
    let mut incarnation = [0; 16];
    bytes.try_copy_to_slice(&mut incarnation).map_err(cut)?;
    Ok(Incarnation(incarnation))
}

fn take_dot(bytes: &mut &[u8]) -> Result<Dot, DecodeError> {
    let actor = Actor {
        node: NodeId(bytes.try_get_u64().map_err(cut)?),
        incarnation: take_incarnation(bytes)?,
        tenure: bytes.try_get_u64().map_err(cut)?,
    };
    let stamp = Stamp(bytes.try_get_u64().map_err(cut)?);
    Ok(Dot { actor, stamp })
}

/// Flags, of which only `known` may be set.
fn take_flags(bytes: &mut &[u8], known: u8) -> Result<u8, DecodeError> {
    let flags = bytes.try_get_u8().map_err(cut)?;
    match flags & !known {
        0 => Ok(flags),
        _ => Err(DecodeError::Malformed(format!(
            "a part of a record of concurrent values with flags {flags:#010b}"
        ))),
    }
}

fn take_op(bytes: &mut &[u8], known: u8) -> Result<(u8, OpId), DecodeError> {
    let flags = take_flags(bytes, known)?;
    let op = OpId {
        client: take_incarnation(bytes)?,
        sequence: bytes.try_get_u64().map_err(cut)?,
        first_sent_ms: bytes.try_get_u64().map_err(cut)?,
    };
    Ok((flags, op))
}

fn take_sibling(bytes: &mut &[u8]) -> Result<Sibling, DecodeError> {
    let (flags, op) = take_op(bytes, EXPIRES)?;
    let expires_at_ms = match flags & EXPIRES {
        0 => None,
        _ => Some(bytes.try_get_u64().map_err(cut)?),
    };
    let checksum = bytes.try_get_u64().map_err(cut)?;
    let length = bytes.try_get_u32().map_err(cut)? as usize;
    let Some((value, rest)) = bytes.split_at_checked(length) else {
        let (requested, available) = (length, bytes.len());
        return Err(cut(TryGetError {
            requested,
            available,
        }));
    };
    *bytes = rest;
    let dots = usize::from(bytes.try_get_u16().map_err(cut)?);
    codec::no_more("dots", dots, DOTS_MAX)?;
    let mut minted = Vec::with_capacity(dots.min(bytes.len() / DOT_BYTES));
    for _ in 0..dots {
        let again = take_flags(bytes, AGAIN)? != 0;
        let dot = take_dot(bytes)?;
        minted.push(Minting { dot, again });
    }
    minted.sort_unstable();
    minted.dedup();
    let write = Write {
        op,
        value: Bytes::copy_from_slice(value),
        expires_at_ms,
        checksum,
    };
    Ok(Sibling { write, minted })
}

fn checksum(bucket: u32, key: &[u8], body: &[u8]) -> u64 {
    let mut bytes = smallvec::SmallVec::<[u8; 256]>::new();
    bytes.extend_from_slice(&bucket.to_be_bytes());
    bytes.extend_from_slice(&xxh3_64(body).to_be_bytes());
    bytes.extend_from_slice(key);
    xxh3_64(&bytes)
}

/// Which values are written.
enum Values<'a> {
    All,
    None,
    AllBut(&'a OpId),
}

/// Checks that sealed bytes are whole, and of this key. Gives those of the record.
///
/// # Errors
/// If they are damaged, of another key, or of a newer version.
pub fn check_seal<'a>(bucket: u32, key: &[u8], bytes: &'a [u8]) -> Result<&'a [u8], DecodeError> {
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
    Ok(body)
}

impl Siblings {
    /// Its bytes with the checksum that binds them to this key of this bucket.
    pub fn seal(&self, bucket: u32, key: &[u8]) -> Bytes {
        self.seal_values(bucket, key, &Values::All)
    }

    /// The same with the value of one operation left out, which the other side has.
    pub fn seal_without(&self, bucket: u32, key: &[u8], op: &OpId) -> Bytes {
        self.seal_values(bucket, key, &Values::AllBut(op))
    }

    fn seal_values(&self, bucket: u32, key: &[u8], values: &Values<'_>) -> Bytes {
        let mut bytes = vec![0; SEAL_BYTES];
        self.lay_out(&mut bytes, values, true);
        let checksum = checksum(bucket, key, &bytes[SEAL_BYTES..]);
        bytes[0] = FORMAT;
        bytes[1..SEAL_BYTES].copy_from_slice(&checksum.to_be_bytes());
        bytes.into()
    }

    /// Whether it is within the limits of what [`Siblings::decode`] reads.
    pub fn fits(&self) -> bool {
        let dots = self.iter().all(|sibling| sibling.minted.len() <= DOTS_MAX);
        let siblings = self.siblings.len() <= SIBLINGS_MERGED_MAX;
        self.vector.len() <= ACTORS_MAX && siblings && dots && self.past.len() <= PAST_WIRE_MAX
    }

    /// About how many bytes it has, values and all.
    pub fn wire_bytes(&self) -> usize {
        let dots: usize = self.iter().map(|sibling| sibling.minted.len()).sum();
        let dots = (self.vector.len() + dots) * DOT_BYTES;
        NAMES_BYTES
            + dots
            + (2 * self.siblings.len() + self.past.len()) * (1 + OP_BYTES)
            + self.value_bytes()
    }

    /// Reads what [`Siblings::seal`] made.
    ///
    /// # Errors
    /// As those of [`Siblings::decode`] and of [`check_seal`].
    pub fn unseal(bucket: u32, key: &[u8], bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::decode(check_seal(bucket, key, bytes)?)
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.lay_out(&mut bytes, &Values::All, true);
        bytes
    }

    /// Its bytes with every value left out.
    pub fn encode_bare(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.lay_out(&mut bytes, &Values::None, true);
        bytes
    }

    /// The same without what is remembered of overwritten operations.
    pub(super) fn encode_standing(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.lay_out(&mut bytes, &Values::None, false);
        bytes
    }

    /// Puts its bytes behind those that are there.
    fn lay_out(&self, bytes: &mut Vec<u8>, values: &Values<'_>, past: bool) {
        let mut vector = Vec::with_capacity(self.vector.len() * DOT_BYTES);
        for (actor, stamp) in &self.vector {
            put_dot(&mut vector, actor, *stamp);
        }
        let value = |sibling: &'_ Sibling| match values {
            Values::All => sibling.write.value.clone(),
            Values::AllBut(op) if **op != sibling.write.op => sibling.write.value.clone(),
            Values::AllBut(_) | Values::None => Bytes::new(),
        };
        let mut siblings = Vec::with_capacity(self.siblings.len() * 3 * DOT_BYTES);
        for sibling in self.siblings.values() {
            let value = value(sibling);
            siblings.reserve(value.len());
            put_sibling(&mut siblings, sibling, &value);
        }
        let mut overwritten = Vec::new();
        if past {
            overwritten.reserve_exact(self.past.len() * (1 + OP_BYTES));
            for (op, past) in &self.past {
                put_op(&mut overwritten, again(past.again), op);
            }
        }
        bytes.reserve(NAMES_BYTES + vector.len() + siblings.len() + overwritten.len());
        let record = WireRecord {
            base: self.base,
            vector: &vector,
            siblings: &siblings,
            past: &overwritten,
        };
        codec::encode_behind(bytes, &record);
    }

    /// Reads its bytes. What is not in order, or says a thing twice, is put in order.
    ///
    /// # Errors
    /// If they are malformed, over a limit, or say what no record can: a dot of a sibling that the
    /// record does not know.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let WireRecord {
            base,
            mut vector,
            mut siblings,
            mut past,
        } = codec::decode(bytes)?;
        codec::no_more("actors", vector.len() / DOT_BYTES, ACTORS_MAX)?;
        let operations = past.len() / (1 + OP_BYTES);
        codec::no_more("overwritten operations", operations, PAST_WIRE_MAX)?;
        let mut record = Self {
            base,
            ..Self::default()
        };
        while !vector.is_empty() {
            let dot = take_dot(&mut vector)?;
            if dot.stamp > base {
                let stamp = record.vector.entry(dot.actor).or_default();
                *stamp = (*stamp).max(dot.stamp);
            }
        }
        while !past.is_empty() {
            let (flags, op) = take_op(&mut past, AGAIN)?;
            let again = flags != 0;
            record.past.entry(op).or_insert(Past { again }).again |= again;
        }
        while !siblings.is_empty() {
            codec::no_more("siblings", record.siblings.len() + 1, SIBLINGS_MERGED_MAX)?;
            record.take(take_sibling(&mut siblings)?)?;
        }
        Ok(record)
    }

    fn take(&mut self, sibling: Sibling) -> Result<(), DecodeError> {
        let malformed = |why: &str| Err(DecodeError::Malformed(why.into()));
        let minted = &sibling.minted;
        if minted.is_empty() || minted.iter().any(|m| !self.knows(&m.dot)) {
            return malformed("a sibling under no dot, or under one that the record does not know");
        }
        if self.has_done(&sibling.write.op) {
            return malformed("an operation that is there twice");
        }
        self.siblings.insert(sibling.write.op, sibling);
        Ok(())
    }
}
