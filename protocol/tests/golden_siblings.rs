//! Records of concurrent values, pinned: contexts are held by applications, and records lie on
//! disks, so what these bytes say must not change.

use annulet_protocol::clock::Stamp;
use annulet_protocol::ids::{Incarnation, NodeId, OpId};
use annulet_protocol::siblings::{Actor, Siblings, Write};

fn write(sequence: u64, expires_at_ms: Option<u64>) -> Write {
    let op = OpId {
        client: Incarnation([0xaa; 16]),
        sequence,
        first_sent_ms: 1_700_000_000_000,
    };
    Write::seal(1, b"key", op, format!("v{sequence}").into(), expires_at_ms)
}

/// Two concurrent values, one of which has overwritten another, over a base.
fn record() -> Siblings {
    let actor = |node| Actor {
        node: NodeId(node),
        incarnation: Incarnation([node as u8; 16]),
        tenure: 7,
    };
    let at = |ms: u64| Stamp::at(1_700_000_000_000 + ms);
    let mut record = Siblings::default();
    let nothing = Siblings::default();
    let put = record.put(&nothing, write(1, None), false, (actor(1), at(1)));
    put.expect("the first");
    let seen = record.context();
    let put = record.put(&seen, write(2, Some(5)), false, (actor(1), at(2)));
    put.expect("the second");
    let put = record.put(&nothing, write(3, None), true, (actor(2), at(3)));
    put.expect("the third");
    record.raise(at(1));
    record
}

fn check(record: &Siblings, golden: &str) {
    let bytes = record.encode();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, golden);
    assert_eq!(Siblings::decode(&bytes).as_ref(), Ok(record));
    for length in 0..bytes.len() {
        assert!(
            Siblings::decode(&bytes[..length]).is_err(),
            "cut at {length}"
        );
    }
}

#[test]
fn bytes_of_a_record() {
    check(
        &record(),
        "84a462617365cf018bcfe568010000a6766563746f72929401c4100101010101010101010101010101010107\
         cf018bcfe5680200009402c4100202020202020202020202020202020207cf018bcfe568030000a87369626c\
         696e67739285a26f7083a6636c69656e74c410aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa873657175656e6365\
         02ad66697273745f73656e745f6d73cf0000018bcfe56800a576616c7565c4027632ad657870697265735f61\
         745f6d7305a8636865636b73756dcf6a694de8875f13e4a66d696e74656491929401c4100101010101010101\
         010101010101010107cf018bcfe568020000c284a26f7083a6636c69656e74c410aaaaaaaaaaaaaaaaaaaaaa\
         aaaaaaaaaaa873657175656e636503ad66697273745f73656e745f6d73cf0000018bcfe56800a576616c7565\
         c4027633a8636865636b73756dcf938554c81da406c2a66d696e74656491929402c410020202020202020202\
         0202020202020207cf018bcfe568030000c3a470617374919283a6636c69656e74c410aaaaaaaaaaaaaaaaaa\
         aaaaaaaaaaaaaaa873657175656e636501ad66697273745f73656e745f6d73cf0000018bcfe56800c2",
    );
}

#[test]
fn bytes_of_a_context() {
    check(
        &record().context(),
        "83a462617365cf018bcfe568010000a6766563746f72929401c4100101010101010101010101010101010107\
         cf018bcfe5680200009402c4100202020202020202020202020202020207cf018bcfe568030000a470617374\
         939283a6636c69656e74c410aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa873657175656e636501ad6669727374\
         5f73656e745f6d73cf0000018bcfe56800c29283a6636c69656e74c410aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
         aaa873657175656e636502ad66697273745f73656e745f6d73cf0000018bcfe56800c29283a6636c69656e74\
         c410aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa873657175656e636503ad66697273745f73656e745f6d73cf00\
         00018bcfe56800c3",
    );
}

#[test]
fn fields_of_later_versions_are_left_alone() {
    let mut bytes = record().encode();
    // A map of four fields becomes one of five.
    assert_eq!(bytes[0], 0x84);
    bytes[0] = 0x85;
    bytes.extend(b"\xa5newer\x92\x01\x02");
    assert_eq!(Siblings::decode(&bytes), Ok(record()));
}
