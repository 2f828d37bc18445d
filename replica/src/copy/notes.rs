//! How far copies are, among the server's [`Notes`]: under two bytes of tag, the first (8) and the
//! last position (8) of the arc, the epoch that set the lists (8) and the owner (8) lies one byte
//! that says whether it is over, and the storage key up to which that owner was asked; last a
//! checksum over all before (4). All numbers are big-endian.
//!
//! [`Notes`]: crate::store::Family::Notes

use super::Job;
use crate::layout::{seal, unseal};
use crate::store::{Family, Span, Store, StoreError};
use annulet_protocol::hash::KeyHash;
use annulet_protocol::ids::NodeId;
use bytes::{BufMut, Bytes, BytesMut};

const TAG: [u8; 2] = *b"Ac";

pub(super) fn key(job: &Job) -> Bytes {
    let mut key = BytesMut::with_capacity(34);
    key.put_slice(&TAG);
    for number in [job.from.0, job.until.0, job.since, job.source.0] {
        key.put_u64(number);
    }
    key.freeze()
}

fn read_key(key: &[u8]) -> Option<Job> {
    let numbers = key.strip_prefix(&TAG)?;
    let (chunks, []) = numbers.as_chunks::<8>() else {
        return None;
    };
    let [from, until, since, source] = *chunks else {
        return None;
    };
    let [from, until, since, source] = [from, until, since, source].map(u64::from_be_bytes);
    Some(Job {
        from: KeyHash(from),
        until: KeyHash(until),
        since,
        source: NodeId(source),
    })
}

pub(super) fn encode(after: &[u8], over: bool) -> Bytes {
    let mut value = BytesMut::with_capacity(1 + after.len() + 4);
    value.put_u8(u8::from(over));
    value.put_slice(after);
    seal(value)
}

pub(super) fn decode(mut value: Bytes) -> Result<(Bytes, bool), StoreError> {
    let damaged = || StoreError::Damaged("a note about a copy is damaged".into());
    unseal(&mut value).map_err(|_| damaged())?;
    let (over, _) = value.split_first().ok_or_else(damaged)?;
    let over = *over != 0;
    Ok((value.slice(1..), over))
}

/// All that is noted. A note that is damaged is as good as none: the arc is asked for once more.
pub(super) fn load(store: &impl Store) -> Result<Vec<(Job, Bytes, bool)>, StoreError> {
    let span = Span::prefix(&TAG, usize::MAX, usize::MAX);
    let notes = store.range(Family::Notes, &span)?.entries;
    let read = notes.into_iter().filter_map(|(key, value)| {
        let job = read_key(&key)?;
        let (after, over) = decode(value).unwrap_or_default();
        Some((job, after, over))
    });
    Ok(read.collect())
}
