//! Records of concurrent values, pinned: contexts are held by applications, and records lie on
//! disks, so what these bytes say must not change.

use annulet_protocol::clock::Stamp;
use annulet_protocol::codec;
use annulet_protocol::ids::{ClusterId, Incarnation, NodeId, OpId};
use annulet_protocol::message::{Answer, Load, Operation, Reply, Request, Source};
use annulet_protocol::siblings::message::{Compare, Found, Merge, Mint, Minted, Spread};
use annulet_protocol::siblings::{Actor, Siblings, Write};
use bytes::Bytes;

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
    let put = record.put(&nothing, (write(1, None), false), (actor(1), at(1)), 99);
    put.expect("the first");
    let seen = record.context();
    let put = record.put(&seen, (write(2, Some(5)), false), (actor(1), at(2)), 99);
    put.expect("the second");
    let put = record.put(&nothing, (write(3, None), true), (actor(2), at(3)), 99);
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
        "84a462617365cf018bcfe568010000a6766563746f72c45000000000000000010101010101010101010101010\
         10101010000000000000007018bcfe56802000000000000000000020202020202020202020202020202020200\
         00000000000007018bcfe568030000a87369626c696e6773c4bc02aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa000\
         00000000000020000018bcfe5680000000000000000056a694de8875f13e40000000276320001000000000000\
         000001010101010101010101010101010101010000000000000007018bcfe56802000000aaaaaaaaaaaaaaaaa\
         aaaaaaaaaaaaaaa00000000000000030000018bcfe56800938554c81da406c200000002763300010100000000\
         00000002020202020202020202020202020202020000000000000007018bcfe568030000a470617374c42100a\
         aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa00000000000000010000018bcfe56800",
    );
}

#[test]
fn bytes_of_a_context() {
    check(
        &record().context(),
        "83a462617365cf018bcfe568010000a6766563746f72c45000000000000000010101010101010101010101010\
         10101010000000000000007018bcfe56802000000000000000000020202020202020202020202020202020200\
         00000000000007018bcfe568030000a470617374c46300aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa00000000000\
         000010000018bcfe5680000aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa00000000000000020000018bcfe5680001\
         aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa00000000000000030000018bcfe56800",
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

#[test]
fn sealed_bytes_are_of_their_key_alone() {
    let sealed = record().seal(1, b"key");
    let hex: String = sealed[..9]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(hex, "01046dded07a253be0");
    assert_eq!(Siblings::unseal(1, b"key", &sealed), Ok(record()));
    assert!(Siblings::unseal(2, b"key", &sealed).is_err());
    assert!(Siblings::unseal(1, b"Key", &sealed).is_err());
    for bit in 0..sealed.len() * 8 {
        let mut damaged = sealed.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(Siblings::unseal(1, b"key", &damaged).is_err(), "bit {bit}");
    }
}

fn pin(bytes: &[u8], golden: &str) {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, golden);
}

#[test]
fn requests_about_concurrent_values_never_change() {
    let (bucket, key) = (1, Bytes::from("key"));
    let mint = Mint {
        bucket,
        key: key.clone(),
        context: Bytes::new(),
        write: write(1, None),
        again: false,
        owners: Vec::new(),
    };
    let kept = Mint {
        context: "context".into(),
        again: true,
        owners: vec![NodeId(2)],
        ..mint.clone()
    };
    let merge = Merge {
        bucket,
        key: key.clone(),
        source: Source::Repair,
        record: "record".into(),
        owners: Vec::new(),
    };
    let compare = Compare {
        bucket,
        key: key.clone(),
        fingerprint: 7,
    };
    let spread = Spread {
        bucket,
        key,
        incarnation: Incarnation([0xbb; 16]),
        stamp: Stamp(9),
    };
    let request = Request {
        cluster: ClusterId([0xc1; 16]),
        epoch: 7,
        budget_ms: 5_000,
        operations: vec![
            Operation::Mint(mint),
            Operation::Mint(kept),
            Operation::Merge(merge),
            Operation::Compare(compare),
            Operation::Spread(spread),
        ],
    };
    let bytes = codec::encode(&request);
    assert_eq!(codec::decode_request(&bytes, 99), Ok(request));
    pin(
        &bytes,
        "84a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a565706f636807a96275646765745f6d73c\
         d1388aa6f7065726174696f6e739581a46d696e7483a66275636b657401a36b6579c4036b6579a57772697465\
         83a26f7083a6636c69656e74c410aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa873657175656e636501ad6669727\
         3745f73656e745f6d73cf0000018bcfe56800a576616c7565c4027631a8636865636b73756dcf97eb25740ddc\
         c6a681a46d696e7486a66275636b657401a36b6579c4036b6579a7636f6e74657874c407636f6e74657874a57\
         77269746583a26f7083a6636c69656e74c410aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa873657175656e636501\
         ad66697273745f73656e745f6d73cf0000018bcfe56800a576616c7565c4027631a8636865636b73756dcf97e\
         b25740ddcc6a6a5616761696ec3a66f776e657273910281a56d6572676584a66275636b657401a36b6579c403\
         6b6579a6736f75726365a6726570616972a67265636f7264c4067265636f726481a7636f6d7061726583a6627\
         5636b657401a36b6579c4036b6579ab66696e6765727072696e740781a673707265616484a66275636b657401\
         a36b6579c4036b6579ab696e6361726e6174696f6ec410bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbba57374616d7\
         009",
    );
}

#[test]
fn answers_about_concurrent_values_never_change() {
    let found = |bare| {
        Answer::Siblings(Found {
            record: "record".into(),
            bare,
        })
    };
    let reply = Reply {
        cluster: ClusterId([0xc1; 16]),
        node: NodeId(3),
        epoch: 7,
        time_ms: 9,
        load: Load::default(),
        results: vec![
            found(false),
            found(true),
            Answer::Minted(Minted {
                record: "record".into(),
            }),
        ],
    };
    let bytes = codec::encode(&reply);
    assert_eq!(codec::decode_reply(&bytes), Ok(reply));
    pin(
        &bytes,
        "86a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e6f646503a565706f636807a77469\
         6d655f6d7309a46c6f616482a9696e5f666c6967687400aa736572766963655f757300a7726573756c7473\
         9381a87369626c696e677381a67265636f7264c4067265636f726481a87369626c696e677382a67265636f\
         7264c4067265636f7264a462617265c381a66d696e74656481a67265636f7264c4067265636f7264",
    );
}
