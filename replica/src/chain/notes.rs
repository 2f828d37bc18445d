//! The chain as it lies in the store, among the server's [`Notes`]: each key begins with a byte of
//! tag and one that says what it is, each value ends with a checksum over all before it (4).
//!
//! | second byte | then | value |
//! |---|---|---|
//! | `g` | | the view that the chain begins with, as it is sent |
//! | `r` | the epoch's number (8) | the record |
//! | `s` | | the number of the newest epoch that is acted under (8) |
//! | `c` | | the generation below which the chain is closed here (8) |
//! | `v` | the hash of an epoch (16) | the votes for its successor |
//!
//! Votes are the ballot promised (number 8, proposer 16), then, if something was accepted, its
//! ballot (24) and the record. All numbers are big-endian.
//!
//! [`Notes`]: crate::store::Family::Notes

use crate::acceptor::{Accepted, Acceptor};
use crate::layout;
use crate::store::StoreError;
use annulet_protocol::ballot::Ballot;
use annulet_protocol::ids::{EpochHash, Incarnation};
use bytes::{Buf, BufMut, Bytes, BytesMut};

const TAG: u8 = b'E';
const FIRST: u8 = b'g';
const RECORD: u8 = b'r';
const SETTLED: u8 = b's';
const SEALED: u8 = b'c';
const VOTES: u8 = b'v';
const BALLOT_BYTES: usize = 24;

pub(super) fn first_key() -> Bytes {
    Bytes::from_static(&[TAG, FIRST])
}

pub(super) fn settled_key() -> Bytes {
    Bytes::from_static(&[TAG, SETTLED])
}

pub(super) fn sealed_for_key() -> Bytes {
    Bytes::from_static(&[TAG, SEALED])
}

pub(super) fn record_key(number: u64) -> Bytes {
    let mut key = BytesMut::with_capacity(10);
    key.put_slice(&[TAG, RECORD]);
    key.put_u64(number);
    key.freeze()
}

pub(super) fn votes_key(of: EpochHash) -> Bytes {
    [&[TAG, VOTES][..], &of.0].concat().into()
}

/// A value with its checksum.
pub(super) fn sealed(value: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(value.len() + 4);
    bytes.put_slice(value);
    layout::seal(bytes)
}

/// A value without its checksum.
pub(super) fn unseal(mut bytes: Bytes) -> Result<Bytes, StoreError> {
    layout::unseal(&mut bytes).map_err(|_| damaged("does not match its checksum"))?;
    Ok(bytes)
}

fn damaged(what: &str) -> StoreError {
    StoreError::Damaged(format!("a note about the chain of epochs {what}"))
}

pub(super) fn encode_number(number: u64) -> Bytes {
    sealed(&number.to_be_bytes())
}

pub(super) fn decode_number(value: Bytes) -> Result<u64, StoreError> {
    let number = <[u8; 8]>::try_from(&*unseal(value)?);
    let number = number.map_err(|_| damaged("has another length"))?;
    Ok(u64::from_be_bytes(number))
}

pub(super) fn encode_votes(votes: &Acceptor<Bytes>) -> Bytes {
    let accepted = votes.accepted();
    let length = accepted.map_or(0, |accepted| accepted.value.len());
    let mut bytes = BytesMut::with_capacity(2 * BALLOT_BYTES + length + 4);
    put_ballot(&mut bytes, votes.promised());
    if let Some(Accepted { ballot, value, .. }) = accepted {
        put_ballot(&mut bytes, *ballot);
        bytes.put_slice(value);
    }
    layout::seal(bytes)
}

/// Reads votes.
///
/// # Errors
/// If they are damaged.
pub(super) fn decode_votes(value: Bytes) -> Result<Acceptor<Bytes>, StoreError> {
    let mut bytes = unseal(value)?;
    let promised = take_ballot(&mut bytes)?;
    if bytes.is_empty() {
        return Ok(Acceptor::new(promised, None));
    }
    let accepted = Accepted {
        ballot: take_ballot(&mut bytes)?,
        value: bytes,
        next: None,
    };
    Ok(Acceptor::new(promised, Some(accepted)))
}

fn put_ballot(bytes: &mut BytesMut, ballot: Ballot) {
    bytes.put_u64(ballot.number);
    bytes.put_slice(&ballot.proposer.0);
}

fn take_ballot(bytes: &mut Bytes) -> Result<Ballot, StoreError> {
    if bytes.len() < BALLOT_BYTES {
        return Err(damaged("is cut off"));
    }
    let number = bytes.get_u64();
    let mut proposer = Incarnation::default();
    bytes.copy_to_slice(&mut proposer.0);
    Ok(Ballot { number, proposer })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ballot(number: u64) -> Ballot {
        let proposer = Incarnation([7; 16]);
        Ballot { number, proposer }
    }

    fn accepted(number: u64, record: &'static str) -> Option<Accepted<Bytes>> {
        Some(Accepted {
            ballot: ballot(number),
            value: record.into(),
            next: None,
        })
    }

    #[test]
    fn the_disk_format_never_changes() {
        let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
        assert_eq!(hex(&first_key()), "4567");
        assert_eq!(hex(&settled_key()), "4573");
        assert_eq!(hex(&record_key(258)), "45720000000000000102");
        let votes = format!("4576{}", "05".repeat(16));
        assert_eq!(hex(&votes_key(EpochHash([5; 16]))), votes);
        assert_eq!(hex(&sealed_for_key()), "4563");
        assert_eq!(hex(&encode_number(3)), "0000000000000003c6b31c1d");
        let votes = Acceptor::new(ballot(9), accepted(4, "r"));
        assert_eq!(
            hex(&encode_votes(&votes)),
            "0000000000000009070707070707070707070707070707070000000000000004\
                     0707070707070707070707070707070772650e4ea2"
        );
    }

    #[test]
    fn votes_are_read_as_they_were_written() {
        for votes in [
            Acceptor::new(ballot(9), None),
            Acceptor::new(ballot(9), accepted(4, "record")),
        ] {
            let bytes = encode_votes(&votes);
            assert_eq!(decode_votes(bytes.clone()), Ok(votes));
            for at in 0..bytes.len() {
                let mut flipped = bytes.to_vec();
                flipped[at] ^= 1;
                assert!(decode_votes(flipped.into()).is_err(), "byte {at}");
                assert!(decode_votes(bytes.slice(..at)).is_err(), "{at} bytes");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let sealed = sealed(&bytes);
            for bytes in [Bytes::from(bytes), sealed] {
                let _ = decode_number(bytes.clone());
                if let Ok(votes) = decode_votes(bytes.clone()) {
                    prop_assert_eq!(encode_votes(&votes), bytes);
                }
            }
        }
    }
}
