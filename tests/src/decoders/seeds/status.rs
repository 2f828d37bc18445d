//! Seeds of what servers say of themselves.

use super::Seeds;
use super::messages::{changed, crowded, without_names};
use annulet_protocol::codec::encode;
use annulet_protocol::ids::NodeId;
use annulet_protocol::status::{CopyState, StatusReport, StopReason, StopReasonKind, StopReply};

/// A server that copies one partition.
fn report() -> StatusReport {
    StatusReport {
        node: NodeId(9),
        epoch: 7,
        stored_bytes: 1_000_000,
        copies: vec![CopyState {
            partition: 5,
            since: 6,
            copied_ppm: 250_000,
            over: false,
        }],
        copied_bytes_per_second: 500,
        copied_ppm_per_second: 1_000,
    }
}

/// A server that has a reason.
fn reply() -> StopReply {
    StopReply {
        node: NodeId(9),
        epoch: 7,
        reasons: vec![StopReason {
            kind: StopReasonKind::Hints,
            message: "7 records wait".into(),
        }],
    }
}

pub(super) fn add(seeds: &mut Seeds) {
    seeds.add("status_report", "copying", encode(&report()));
    seeds.add("status_report", "quiet", encode(&StatusReport::default()));
    seeds.add("status_report", "without_names", without_names(&report()));
    let many = changed(&encode(&report()), b"\x91\x84", b"\xdd\xff\xff\xff\xff\x84");
    seeds.add("status_report", "list_of_4_gib", many);
    seeds.add("stop_reply", "hints", encode(&reply()));
    let safe = StopReply {
        reasons: Vec::new(),
        ..reply()
    };
    seeds.add("stop_reply", "safe", encode(&safe));
    seeds.add("stop_reply", "without_names", without_names(&reply()));
    let newer = changed(&encode(&reply()), b"\xa5hints", b"\xa5later");
    seeds.add("stop_reply", "unknown_kind", newer);
    let mut cut = encode(&reply());
    cut.truncate(cut.len() - 3);
    seeds.add("stop_reply", "cut_short", cut);
}

pub(super) fn add_crowded(seeds: &mut Seeds) {
    let copy = b"\x84\xa9partition\x05\xa5since\x06\xaacopied_ppm\xce\x00\x03\xd0\x90\xa4over\xc2";
    let copies = [b"\x91", &copy[..]].concat();
    let copies = crowded(&encode(&report()), &copies, b"\x94\x05\x06\x07\xc2");
    seeds.add("status_report", "copies", copies);
    let short = StopReply {
        reasons: Vec::new(),
        ..reply()
    };
    let reasons = changed(&encode(&short), b"reasons\x90", b"reasons\x91\x01");
    let reasons = crowded(&reasons, b"\x91\x01", b"\x92\xa5hints\xa0");
    seeds.add("stop_reply", "reasons", reasons);
}
