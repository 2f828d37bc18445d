//! Checks of the decoders of the chain of epochs.

use super::messages::round_trip;
use annulet_protocol::codec::{
    CHAIN_BYTES_MAX, decode_bucket_reply, decode_bucket_request, decode_chain_reply,
    decode_chain_request, decode_deltas, decode_member_reply, decode_member_request,
    decode_recover_reply, decode_recover_request,
};
use annulet_protocol::epoch::{ChainAnswer, ChainQuestion, EpochRecord};
use annulet_protocol::limits::{
    BUCKET_CHANGES_MAX, EPOCH_BYTES_MAX, EPOCHS_MAX, KEEPERS_MAX, MEMBERS_MAX,
};

pub(super) fn record(bytes: &[u8]) -> bool {
    let Ok(record) = EpochRecord::decode(bytes) else {
        return false;
    };
    assert!(bytes.len() <= EPOCH_BYTES_MAX);
    assert!(record.keepers.len() <= KEEPERS_MAX);
    assert!(record.buckets.len() <= BUCKET_CHANGES_MAX);
    assert_eq!(record.encode(), bytes, "one record has one form");
    assert_eq!(record.point().number, record.number);
    true
}

pub(super) fn request(bytes: &[u8]) -> bool {
    let Some(request) = round_trip(bytes, decode_chain_request) else {
        return false;
    };
    assert!(bytes.len() <= CHAIN_BYTES_MAX);
    let content = match &request.question {
        ChainQuestion::Offer(offer) => {
            assert!(offer.records.len() <= EPOCHS_MAX);
            offer.records.iter().map(|record| record.len()).sum()
        }
        ChainQuestion::Accept(accept) => accept.record.len(),
        ChainQuestion::Prepare(_)
        | ChainQuestion::Copies(_)
        | ChainQuestion::Seal(_)
        | ChainQuestion::Unknown => 0,
    };
    assert!(content <= bytes.len(), "{content} bytes out of nothing");
    true
}

pub(super) fn reply(bytes: &[u8]) -> bool {
    let Some(reply) = round_trip(bytes, decode_chain_reply) else {
        return false;
    };
    let content = match &reply.answer {
        ChainAnswer::Promised(promised) => promised.record.as_ref().map_or(0, |r| r.len()),
        ChainAnswer::Decided(decided) => decided.record.len(),
        ChainAnswer::Refused(why) => why.len(),
        ChainAnswer::Stands(stands) => {
            assert!(stands.records.len() <= EPOCHS_MAX);
            let accepted = stands.accepted.as_ref().map_or(0, |record| record.len());
            stands.records.iter().map(|r| r.len()).sum::<usize>() + accepted
        }
        ChainAnswer::Holds(_)
        | ChainAnswer::Accepted(_)
        | ChainAnswer::Rejected(_)
        | ChainAnswer::Lacks(_)
        | ChainAnswer::Copied(_)
        | ChainAnswer::SealedAbove(_)
        | ChainAnswer::Unknown => 0,
    };
    assert!(content <= bytes.len(), "{content} bytes out of nothing");
    true
}

pub(super) fn deltas(bytes: &[u8]) -> bool {
    let Some(deltas) = round_trip(bytes, decode_deltas) else {
        return false;
    };
    assert!(deltas.records.len() <= EPOCHS_MAX);
    let content: usize = deltas.records.iter().map(|record| record.len()).sum();
    assert!(content <= bytes.len(), "{content} bytes out of nothing");
    true
}

pub(super) fn bucket_request(bytes: &[u8]) -> bool {
    round_trip(bytes, decode_bucket_request).is_some()
}

pub(super) fn member_request(bytes: &[u8]) -> bool {
    round_trip(bytes, decode_member_request).is_some()
}

pub(super) fn member_reply(bytes: &[u8]) -> bool {
    round_trip(bytes, decode_member_reply).is_some()
}

pub(super) fn bucket_reply(bytes: &[u8]) -> bool {
    round_trip(bytes, decode_bucket_reply).is_some()
}

pub(super) fn recover_request(bytes: &[u8]) -> bool {
    round_trip(bytes, decode_recover_request).is_some()
}

pub(super) fn recover_reply(bytes: &[u8]) -> bool {
    let Some(reply) = round_trip(bytes, decode_recover_reply) else {
        return false;
    };
    assert!(reply.members.len() <= MEMBERS_MAX);
    assert!(reply.keepers.len() <= KEEPERS_MAX);
    true
}
