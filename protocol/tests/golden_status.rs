//! Bytes of what servers say of themselves, pinned.

use annulet_protocol::codec::{decode_status, decode_stop_reply, encode};
use annulet_protocol::ids::NodeId;
use annulet_protocol::limits::JOINT_MAX;
use annulet_protocol::status::{
    CopyState, STOP_REASONS_MAX, StatusReport, StopReason, StopReasonKind, StopReply,
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const COPY: CopyState = CopyState {
    partition: 5,
    since: 6,
    copied_ppm: 250_000,
    over: false,
};

#[test]
fn how_a_server_is_never_changes() {
    let quiet = StatusReport {
        node: NodeId(2),
        epoch: 7,
        stored_bytes: 1_000,
        ..StatusReport::default()
    };
    let busy = StatusReport {
        copies: vec![COPY],
        copied_bytes_per_second: 500,
        copied_ppm_per_second: 1_000,
        ..quiet.clone()
    };
    for (report, golden) in [
        (
            quiet,
            "83a46e6f646502a565706f636807ac73746f7265645f6279746573cd03e8",
        ),
        (
            busy,
            "86a46e6f646502a565706f636807ac73746f7265645f6279746573cd03e8a6636f7069\
             65739184a9706172746974696f6e05a573696e636506aa636f706965645f70706dce00\
             03d090a46f766572c2b7636f706965645f62797465735f7065725f7365636f6e64cd01\
             f4b5636f706965645f70706d5f7065725f7365636f6e64cd03e8",
        ),
    ] {
        let bytes = encode(&report);
        assert_eq!(decode_status(&bytes), Ok(report));
        assert_eq!(hex(&bytes), golden);
    }
}

#[test]
fn whether_a_server_can_be_stopped_never_changes() {
    let reason = StopReason {
        kind: StopReasonKind::HandingOver,
        message: "wait".into(),
    };
    for (reasons, golden) in [
        (Vec::new(), "83a46e6f646502a565706f636807a7726561736f6e7390"),
        (
            vec![reason],
            "83a46e6f646502a565706f636807a7726561736f6e739182a46b696e64ac68616e6469\
             6e675f6f766572a76d657373616765a477616974",
        ),
    ] {
        let reply = StopReply {
            node: NodeId(2),
            epoch: 7,
            reasons,
        };
        let bytes = encode(&reply);
        assert_eq!(decode_stop_reply(&bytes), Ok(reply));
        assert_eq!(hex(&bytes), golden);
    }
}

#[test]
fn names_of_reasons_never_change() {
    let names: Vec<_> = StopReasonKind::ALL
        .iter()
        .map(|kind| kind.as_str())
        .collect();
    let expected = [
        "starting",
        "behind",
        "quorum",
        "keepers",
        "hints",
        "unspread",
        "handing_over",
        "undecided",
        "other",
    ];
    assert_eq!(names, expected);
    assert_eq!("of tomorrow".parse(), Ok(StopReasonKind::Other));
}

#[test]
fn lists_over_their_limits_are_refused() {
    let report = StatusReport {
        copies: vec![COPY; JOINT_MAX + 1],
        ..StatusReport::default()
    };
    assert!(decode_status(&encode(&report)).is_err());
    let reason = StopReason {
        kind: StopReasonKind::Behind,
        message: String::new(),
    };
    let reply = StopReply {
        node: NodeId(2),
        epoch: 7,
        reasons: vec![reason; STOP_REASONS_MAX + 1],
    };
    assert!(decode_stop_reply(&encode(&reply)).is_err());
}
