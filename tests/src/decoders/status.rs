//! Checks of the decoders of what servers say of themselves.

use super::messages::round_trip;
use annulet_protocol::codec::{decode_status, decode_stop_reply};
use annulet_protocol::limits::JOINT_MAX;
use annulet_protocol::status::STOP_REASONS_MAX;

pub(super) fn report(bytes: &[u8]) -> bool {
    let Some(report) = round_trip(bytes, decode_status) else {
        return false;
    };
    assert!(report.copies.len() <= JOINT_MAX && report.copies.len() <= bytes.len());
    true
}

pub(super) fn stop_reply(bytes: &[u8]) -> bool {
    let Some(reply) = round_trip(bytes, decode_stop_reply) else {
        return false;
    };
    assert!(reply.reasons.len() <= STOP_REASONS_MAX);
    let content: usize = reply.reasons.iter().map(|one| one.message.len()).sum();
    assert!(content <= bytes.len(), "{content} bytes out of nothing");
    true
}
