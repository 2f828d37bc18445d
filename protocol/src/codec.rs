//! Bytes of messages: MessagePack maps, decoded with limits.

use crate::epoch::{BucketReply, BucketRequest, ChainReply, ChainRequest, Deltas};
use crate::epoch::{ChainAnswer, ChainQuestion, Offer};
use crate::hints::HintsReport;
use crate::limits::{
    DEPTH_MAX, EPOCHS_MAX, JOINT_MAX, KEEPERS_MAX, KEY_BYTES_MAX, MEMBERS_MAX, OPERATIONS_MAX,
    REQUEST_OVERHEAD_BYTES, SIBLINGS_LONGEST_MAX, VIEW_BYTES_MAX,
};
use crate::members::{MemberReply, MemberRequest};
use crate::message::{Failure, Hello, Reply, Request};
use crate::recovery::{RecoverOutcome, RecoverReply, RecoverRequest};
use crate::status::{STOP_REASONS_MAX, StatusReport, StopReply};
use crate::view::View;
use serde::{Deserialize, Serialize};

/// Media type of every message.
pub const CONTENT_TYPE: &str = "application/vnd.msgpack";

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not MessagePack, not such a message, or a field of the wrong kind.
    #[error("not a well-formed message: {0}")]
    Malformed(String),
    /// Well-formed, but over a limit.
    #[error("message over a limit: {0}")]
    Limit(String),
}

/// The bytes of a message.
pub fn encode<M: Serialize>(message: &M) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    encode_behind(&mut bytes, message);
    bytes
}

/// Puts the bytes of a message behind those that are there.
pub(crate) fn encode_behind<M: Serialize>(bytes: &mut Vec<u8>, message: &M) {
    rmp_serde::encode::write_named(bytes, message)
        .expect("a message of plain data into memory cannot fail");
}

/// Reads a request of at most [`request_bytes_max`] bytes.
///
/// # Errors
/// If it is malformed, too long, or has too many operations. Keys and single values are checked
/// per operation by the replica, so that one bad key does not refuse its neighbours.
pub fn decode_request(bytes: &[u8], value_bytes_max: usize) -> Result<Request, DecodeError> {
    limit("bytes", bytes.len(), request_bytes_max(value_bytes_max))?;
    let request: Request = decode(bytes)?;
    no_more("operations", request.operations.len(), OPERATIONS_MAX)?;
    Ok(request)
}

/// Longest request in bytes where values may have `value_bytes_max`: it brings one record.
pub fn request_bytes_max(value_bytes_max: usize) -> usize {
    merged_bytes_max(value_bytes_max) + REQUEST_OVERHEAD_BYTES + KEY_BYTES_MAX
}

/// Most bytes that the values of one record of concurrent values have together, where each of them
/// may have `value_bytes_max`.
pub fn merged_bytes_max(value_bytes_max: usize) -> usize {
    SIBLINGS_LONGEST_MAX * value_bytes_max
}

/// Reads a reply.
///
/// # Errors
/// If it is malformed or has too many results.
pub fn decode_reply(bytes: &[u8]) -> Result<Reply, DecodeError> {
    let reply: Reply = decode(bytes)?;
    no_more("results", reply.results.len(), OPERATIONS_MAX)?;
    Ok(reply)
}

/// Reads a failure.
///
/// # Errors
/// If it is malformed.
pub fn decode_failure(bytes: &[u8]) -> Result<Failure, DecodeError> {
    limit("bytes", bytes.len(), REQUEST_OVERHEAD_BYTES)?;
    decode(bytes)
}

/// Reads a report about hints.
///
/// # Errors
/// If it is malformed or too long.
pub fn decode_hints(bytes: &[u8]) -> Result<HintsReport, DecodeError> {
    limit("bytes", bytes.len(), HINTS_REPORT_BYTES_MAX)?;
    decode(bytes)
}

/// Longest report about hints in bytes: each of those listed has a key of any length.
const HINTS_REPORT_BYTES_MAX: usize = 16 << 20;

/// Reads how a server is.
///
/// # Errors
/// If it is malformed, too long, or tells of too many copies.
pub fn decode_status(bytes: &[u8]) -> Result<StatusReport, DecodeError> {
    limit("bytes", bytes.len(), REQUEST_OVERHEAD_BYTES)?;
    let report: StatusReport = decode(bytes)?;
    no_more("copies", report.copies.len(), JOINT_MAX)?;
    Ok(report)
}

/// Reads whether a server can be stopped.
///
/// # Errors
/// If it is malformed, too long, or has too many reasons.
pub fn decode_stop_reply(bytes: &[u8]) -> Result<StopReply, DecodeError> {
    limit("bytes", bytes.len(), REQUEST_OVERHEAD_BYTES)?;
    let reply: StopReply = decode(bytes)?;
    no_more("reasons", reply.reasons.len(), STOP_REASONS_MAX)?;
    Ok(reply)
}

/// Reads a peer's greeting.
///
/// # Errors
/// If it is malformed.
pub fn decode_hello(bytes: &[u8]) -> Result<Hello, DecodeError> {
    limit("bytes", bytes.len(), REQUEST_OVERHEAD_BYTES)?;
    decode(bytes)
}

/// Reads a server's question about the chain.
///
/// # Errors
/// If it is malformed, too long, or has too many records.
pub fn decode_chain_request(bytes: &[u8]) -> Result<ChainRequest, DecodeError> {
    limit("bytes", bytes.len(), CHAIN_BYTES_MAX)?;
    let request: ChainRequest = decode(bytes)?;
    if let ChainQuestion::Offer(Offer { records, .. }) = &request.question {
        no_more("records", records.len(), EPOCHS_MAX)?;
    }
    Ok(request)
}

/// Reads a server's answer about the chain.
///
/// # Errors
/// If it is malformed, too long, or has too many records.
pub fn decode_chain_reply(bytes: &[u8]) -> Result<ChainReply, DecodeError> {
    limit("bytes", bytes.len(), CHAIN_BYTES_MAX)?;
    let reply: ChainReply = decode(bytes)?;
    if let ChainAnswer::Stands(stands) = &reply.answer {
        no_more("records", stands.records.len(), EPOCHS_MAX)?;
    }
    Ok(reply)
}

/// Reads the records that follow an epoch.
///
/// # Errors
/// If they are malformed, too long or too many.
pub fn decode_deltas(bytes: &[u8]) -> Result<Deltas, DecodeError> {
    limit("bytes", bytes.len(), CHAIN_BYTES_MAX)?;
    let deltas: Deltas = decode(bytes)?;
    no_more("records", deltas.records.len(), EPOCHS_MAX)?;
    Ok(deltas)
}

/// Longest message about the chain in bytes: some records, or one of any length.
pub const CHAIN_BYTES_MAX: usize = 2 << 20;

/// Reads who asks for a recovery.
///
/// # Errors
/// If it is malformed or too long.
pub fn decode_recover_request(bytes: &[u8]) -> Result<RecoverRequest, DecodeError> {
    limit("bytes", bytes.len(), REQUEST_OVERHEAD_BYTES)?;
    decode(bytes)
}

/// Reads what became of a recovery.
///
/// # Errors
/// If it is malformed, too long, or names too many servers.
pub fn decode_recover_reply(bytes: &[u8]) -> Result<RecoverReply, DecodeError> {
    limit("bytes", bytes.len(), RECOVER_BYTES_MAX)?;
    let reply: RecoverReply = decode(bytes)?;
    no_more("members", reply.members.len(), MEMBERS_MAX)?;
    let anew = match &reply.outcome {
        RecoverOutcome::Possible(anew)
        | RecoverOutcome::Done(anew)
        | RecoverOutcome::Unsettled(anew) => anew.keepers.len(),
        RecoverOutcome::Refused(_) | RecoverOutcome::Interrupted(_) | RecoverOutcome::Unknown => 0,
    };
    no_more("keepers", reply.keepers.len().max(anew), KEEPERS_MAX)?;
    Ok(reply)
}

/// Longest reply about a recovery in bytes: every member, and what it said.
pub const RECOVER_BYTES_MAX: usize = 32 << 20;

/// Reads what is to be changed of a bucket.
///
/// # Errors
/// If it is malformed or too long.
pub fn decode_bucket_request(bytes: &[u8]) -> Result<BucketRequest, DecodeError> {
    limit("bytes", bytes.len(), REQUEST_OVERHEAD_BYTES)?;
    decode(bytes)
}

/// Reads what was changed of a bucket.
///
/// # Errors
/// If it is malformed or too long.
pub fn decode_bucket_reply(bytes: &[u8]) -> Result<BucketReply, DecodeError> {
    limit("bytes", bytes.len(), REQUEST_OVERHEAD_BYTES)?;
    decode(bytes)
}

/// Reads what is to be changed of a member.
///
/// # Errors
/// If it is malformed or too long.
pub fn decode_member_request(bytes: &[u8]) -> Result<MemberRequest, DecodeError> {
    limit("bytes", bytes.len(), REQUEST_OVERHEAD_BYTES)?;
    decode(bytes)
}

/// Reads what was changed of a member.
///
/// # Errors
/// If it is malformed or too long.
pub fn decode_member_reply(bytes: &[u8]) -> Result<MemberReply, DecodeError> {
    limit("bytes", bytes.len(), REQUEST_OVERHEAD_BYTES)?;
    decode(bytes)
}

/// Reads a view, and checks that it is a sound one.
///
/// # Errors
/// If it is malformed, too long, or breaks a rule of [`View::validate`].
pub fn decode_view(bytes: &[u8]) -> Result<View, DecodeError> {
    limit("bytes", bytes.len(), VIEW_BYTES_MAX)?;
    let view: View = decode(bytes)?;
    view.validate().map_err(DecodeError::Limit)?;
    Ok(view)
}

pub(crate) fn limit(what: &str, is: usize, most: usize) -> Result<(), DecodeError> {
    if is > most {
        return Err(DecodeError::Limit(format!("{is} {what}, at most {most}")));
    }
    Ok(())
}

/// Like [`limit`], for a list that is not kept beyond its limit: nobody knows how long it was.
pub(crate) fn no_more(what: &str, kept: usize, most: usize) -> Result<(), DecodeError> {
    if kept > most {
        return Err(DecodeError::Limit(format!("more than {most} {what}")));
    }
    Ok(())
}

/// Reads one message and nothing after it. From the slice itself: a reader would copy each string,
/// names of fields too, through a buffer of its own.
pub(crate) fn decode<'a, M: Deserialize<'a>>(bytes: &'a [u8]) -> Result<M, DecodeError> {
    let mut decoder = rmp_serde::Deserializer::from_read_ref(bytes);
    decoder.set_max_depth(DEPTH_MAX);
    let message =
        M::deserialize(&mut decoder).map_err(|e| DecodeError::Malformed(e.to_string()))?;
    // The decoder does not say how far it is, but at the end there is no further marker.
    match <()>::deserialize(&mut decoder) {
        Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => {}
        _ => return Err(DecodeError::Malformed("bytes after its end".into())),
    }
    Ok(message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // In a test, a panic is the report.
mod tests {
    use super::*;

    #[test]
    fn nothing_may_follow_a_message() {
        let message = encode(&Some(7u64));
        assert_eq!(decode::<Option<u64>>(&message), Ok(Some(7)));
        for byte in 0..=u8::MAX {
            for more in [&[byte][..], &[byte, 0x91], &[byte, 0xc1, 0]] {
                let longer = [&message, more].concat();
                decode::<Option<u64>>(&longer).unwrap_err();
            }
        }
    }
}
