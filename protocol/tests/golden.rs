//! The wire, pinned: bytes of every kind of message. A version that writes other bytes, or no
//! longer reads these, cannot serve together with the one before.
//!
//! What newer versions may add is tolerated: unknown fields, operations, answers and names.

use annulet_protocol::bucket::{Bucket, Durability, Mode};
use annulet_protocol::clock::Stamp;
use annulet_protocol::codec::{
    DecodeError, decode_failure, decode_hello, decode_hints, decode_reply, decode_request,
    decode_view, encode,
};
use annulet_protocol::hash::KeyHash;
use annulet_protocol::hints::{HintAside, HintsReport, HintsWaiting};
use annulet_protocol::ids::{ClusterId, EpochHash, Incarnation, NodeId, OpId};
use annulet_protocol::level::Level;
use annulet_protocol::limits::{DEPTH_MAX, OPERATIONS_MAX, REQUEST_OVERHEAD_BYTES};
use annulet_protocol::message::{
    Absent, Answer, DiskState, Failure, FailureKind, Hello, Hint, Lacking, Load, Operation, Read,
    Refusal, RefusalKind, Reply, Request, Source, Touch, Write, Written,
};
use annulet_protocol::record::{Expiry, Head, Origin, Record, Version};
use annulet_protocol::scan::{Page, PageEntry, Scan};
use annulet_protocol::table::{RegionTable, Table};
use annulet_protocol::view::{Member, MemberState, Tip, View};
use bytes::Bytes;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

const CLUSTER: ClusterId = ClusterId([0xc1; 16]);
const VALUE_BYTES_MAX: usize = 1 << 20;

fn record(value: Option<&'static str>, expires_at_ms: Option<u64>) -> Record {
    let op = OpId {
        client: Incarnation([0xaa; 16]),
        sequence: 3,
        first_sent_ms: 1_700_000_000_000,
    };
    let origin = Origin {
        stamp: Stamp::at(1_700_000_000_001).next(),
        op,
    };
    Record::seal(1, b"key", origin, value.map(Bytes::from), expires_at_ms)
}

fn request(operations: Vec<Operation>) -> Request {
    Request {
        cluster: CLUSTER,
        epoch: 7,
        budget_ms: 5_000,
        operations,
    }
}

fn read(head_only: bool) -> Operation {
    Operation::Read(Read {
        head_only,
        ..Read::new(1, "key".into())
    })
}

/// A read of any server, whose value may be left out.
fn read_anywhere() -> Operation {
    Operation::Read(Read {
        value_bytes_max: Some(4_096),
        hinted: true,
        ..Read::new(1, "key".into())
    })
}

fn hint(record: Record) -> Operation {
    Operation::Hint(Hint {
        bucket: 1,
        key: "key".into(),
        owners: vec![NodeId(2), NodeId(3)],
        source: Source::FirstHand,
        record,
    })
}

fn touch(version: Version) -> Operation {
    let stamp = Stamp::at(1_700_000_000_005);
    Operation::Touch(Touch {
        bucket: 1,
        key: "key".into(),
        version,
        expiry: Expiry::seal(1, b"key", &version, 1_700_000_090_000, stamp),
    })
}

fn scan(after: &'static str) -> Operation {
    Operation::Scan(Scan {
        bucket: 1,
        from: KeyHash(5),
        until: KeyHash(9),
        after: after.into(),
        entries_max: 100,
        bytes_max: 65_536,
        value_bytes_max: 4_096,
    })
}

fn page(record: Record, reached: Option<&'static str>) -> Page {
    Page {
        entries: vec![PageEntry {
            key: "key".into(),
            head: record.head,
            value: reached.map(|_| record.value),
        }],
        reached: reached.map(Bytes::from),
    }
}

fn write(source: Source, record: Record) -> Operation {
    Operation::Write(Write {
        bucket: 1,
        key: "key".into(),
        source,
        record,
        gone: false,
    })
}

/// What is brought of a record that expired long ago.
fn gone(head: Head) -> Operation {
    Operation::Write(Write {
        bucket: 1,
        key: "key".into(),
        source: Source::Repair,
        record: Record {
            head,
            value: Bytes::new(),
        },
        gone: true,
    })
}

fn reply(results: Vec<Answer>) -> Reply {
    Reply {
        cluster: CLUSTER,
        node: NodeId(0x0102_0304_0506_0708),
        epoch: 8,
        time_ms: 1_700_000_000_002,
        load: Load {
            in_flight: 2,
            service_us: 150,
        },
        results,
    }
}

fn view() -> View {
    View {
        cluster: CLUSTER,
        name: "prod".into(),
        seed: 42,
        epoch: 8,
        value_bytes_max: 16 << 20,
        members: vec![Member {
            id: NodeId(9),
            address: "host:7400".into(),
            capacity: 2,
            zone: "a".into(),
            region: String::new(),
            state: MemberState::Active,
        }]
        .into(),
        table: Table {
            partitions: 2,
            epoch: 5,
            list_length: 0,
            regions: vec![RegionTable::new("", 1, 1, [0, 0])],
            ..Table::default()
        },
        buckets: vec![Bucket {
            mode: Mode::Strong,
            durability: Durability::Group,
            read_level: Level::Explicit { read: 1, write: 3 },
            ttl_ms: Some(60_000),
            ..Bucket::new(4, "carts")
        }],
        tip: Tip::default(),
    }
}

/// A message writes these bytes, and they are read as it.
fn pin<M: Serialize + DeserializeOwned + PartialEq + Debug>(
    name: &str,
    message: &M,
    decode: impl Fn(&[u8]) -> Result<M, DecodeError>,
    golden: &str,
) {
    let bytes = encode(message);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, golden, "{name} writes other bytes");
    assert_eq!(
        decode(&bytes).as_ref(),
        Ok(message),
        "{name} is read as something else"
    );
    for length in 0..bytes.len() {
        assert!(
            decode(&bytes[..length]).is_err(),
            "{name}, cut after {length} bytes"
        );
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(
        decode(&longer).is_err(),
        "{name}, with a byte after its end"
    );
}

fn any_request(bytes: &[u8]) -> Result<Request, DecodeError> {
    decode_request(bytes, VALUE_BYTES_MAX)
}

#[test]
fn requests_never_change() {
    let put = record(Some("value"), Some(1_700_000_060_000));
    for (name, operation, golden) in [
        (
            "read",
            read(false),
            "84a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a565706f636807a962\
             75646765745f6d73cd1388aa6f7065726174696f6e739181a47265616482a66275636b65\
             7401a36b6579c4036b6579",
        ),
        (
            "read of the head",
            read(true),
            "84a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a565706f636807a962\
             75646765745f6d73cd1388aa6f7065726174696f6e739181a47265616483a66275636b65\
             7401a36b6579c4036b6579a9686561645f6f6e6c79c3",
        ),
        (
            "first-hand write",
            write(Source::FirstHand, put),
            "84a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a565706f636807a962\
             75646765745f6d73cd1388aa6f7065726174696f6e739181a5777269746584a66275636b\
             657401a36b6579c4036b6579a6736f75726365aa66697273745f68616e64a67265636f72\
             6482a46865616484a776657273696f6e83a57374616d70cf018bcfe568010001a6777269\
             746572c410aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa8636865636b73756dcf6ea1104208\
             b19589a26f7083a6636c69656e74c410aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa8736571\
             75656e636503ad66697273745f73656e745f6d73cf0000018bcfe56800a46b696e64a576\
             616c7565a665787069727983a561745f6d73cf0000018bcfe65260a57374616d70cf018b\
             cfe568010001a8636865636b73756dce666d0014a576616c7565c40576616c7565",
        ),
        (
            "repair",
            write(Source::Repair, record(None, None)),
            "84a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a565706f636807a962\
             75646765745f6d73cd1388aa6f7065726174696f6e739181a5777269746584a66275636b\
             657401a36b6579c4036b6579a6736f75726365a6726570616972a67265636f726482a468\
             65616483a776657273696f6e83a57374616d70cf018bcfe568010001a6777269746572c4\
             10aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa8636865636b73756dcf98202eb80d17090ba2\
             6f7083a6636c69656e74c410aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa873657175656e63\
             6503ad66697273745f73656e745f6d73cf0000018bcfe56800a46b696e64a9746f6d6273\
             746f6e65a576616c7565c400",
        ),
        (
            "unknown",
            Operation::Unknown,
            "84a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a565706f636807a962\
             75646765745f6d73cd1388aa6f7065726174696f6e739181a7756e6b6e6f776ec0",
        ),
    ] {
        pin(name, &request(vec![operation]), any_request, golden);
    }
}

#[test]
fn requests_about_hints_expiries_and_arcs_never_change() {
    let put = record(Some("value"), None);
    let version = put.head.version;
    let expired = record(Some("value"), Some(1_700_000_060_000)).head;
    for (name, operation, golden) in [
        (
            "repair without a value",
            gone(expired),
            "84a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a565706f636807a9\
             6275646765745f6d73cd1388aa6f7065726174696f6e739181a5777269746585a66275\
             636b657401a36b6579c4036b6579a6736f75726365a6726570616972a67265636f7264\
             82a46865616484a776657273696f6e83a57374616d70cf018bcfe568010001a6777269\
             746572c410aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa8636865636b73756dcf6ea11042\
             08b19589a26f7083a6636c69656e74c410aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa873\
             657175656e636503ad66697273745f73656e745f6d73cf0000018bcfe56800a46b696e\
             64a576616c7565a665787069727983a561745f6d73cf0000018bcfe65260a57374616d\
             70cf018bcfe568010001a8636865636b73756dce666d0014a576616c7565c400a4676f\
             6e65c3",
        ),
        (
            "read of any server",
            read_anywhere(),
            "84a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a565706f636807a9\
             6275646765745f6d73cd1388aa6f7065726174696f6e739181a47265616484a6627563\
             6b657401a36b6579c4036b6579af76616c75655f62797465735f6d6178cd1000a66869\
             6e746564c3",
        ),
        (
            "hint",
            hint(put),
            "84a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a565706f636807a9\
             6275646765745f6d73cd1388aa6f7065726174696f6e739181a468696e7485a6627563\
             6b657401a36b6579c4036b6579a66f776e657273920203a6736f75726365aa66697273\
             745f68616e64a67265636f726482a46865616483a776657273696f6e83a57374616d70\
             cf018bcfe568010001a6777269746572c410aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa8\
             636865636b73756dcf6ea1104208b19589a26f7083a6636c69656e74c410aaaaaaaaaa\
             aaaaaaaaaaaaaaaaaaaaaaa873657175656e636503ad66697273745f73656e745f6d73\
             cf0000018bcfe56800a46b696e64a576616c7565a576616c7565c40576616c7565",
        ),
        (
            "touch",
            touch(version),
            "84a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a565706f636807a9\
             6275646765745f6d73cd1388aa6f7065726174696f6e739181a5746f75636884a66275\
             636b657401a36b6579c4036b6579a776657273696f6e83a57374616d70cf018bcfe568\
             010001a6777269746572c410aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa8636865636b73\
             756dcf6ea1104208b19589a665787069727983a561745f6d73cf0000018bcfe6c790a5\
             7374616d70cf018bcfe568050000a8636865636b73756dcedf184100",
        ),
        (
            "scan",
            scan("after"),
            "84a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a565706f636807a9\
             6275646765745f6d73cd1388aa6f7065726174696f6e739181a47363616e87a6627563\
             6b657401a466726f6d05a5756e74696c09a56166746572c4056166746572ab656e7472\
             6965735f6d617864a962797465735f6d6178ce00010000af76616c75655f6279746573\
             5f6d6178cd1000",
        ),
        (
            "scan of a whole arc",
            scan(""),
            "84a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a565706f636807a9\
             6275646765745f6d73cd1388aa6f7065726174696f6e739181a47363616e86a6627563\
             6b657401a466726f6d05a5756e74696c09ab656e74726965735f6d617864a962797465\
             735f6d6178ce00010000af76616c75655f62797465735f6d6178cd1000",
        ),
    ] {
        pin(name, &request(vec![operation]), any_request, golden);
    }
}

#[test]
fn answers_about_hints_expiries_and_arcs_never_change() {
    let stored = record(Some("value"), None);
    for (name, answer, golden) in [
        (
            "lacking",
            Answer::Lacking(Lacking {}),
            "86a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e6f6465cf0102\
             030405060708a565706f636808a774696d655f6d73cf0000018bcfe56802a46c6f6164\
             82a9696e5f666c6967687402aa736572766963655f7573cc96a7726573756c74739181\
             a76c61636b696e6780",
        ),
        (
            "page",
            Answer::Page(page(stored.clone(), Some("reached"))),
            "86a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e6f6465cf0102\
             030405060708a565706f636808a774696d655f6d73cf0000018bcfe56802a46c6f6164\
             82a9696e5f666c6967687402aa736572766963655f7573cc96a7726573756c74739181\
             a47061676582a7656e74726965739183a36b6579c4036b6579a46865616483a7766572\
             73696f6e83a57374616d70cf018bcfe568010001a6777269746572c410aaaaaaaaaaaa\
             aaaaaaaaaaaaaaaaaaaaa8636865636b73756dcf6ea1104208b19589a26f7083a6636c\
             69656e74c410aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa873657175656e636503ad6669\
             7273745f73656e745f6d73cf0000018bcfe56800a46b696e64a576616c7565a576616c\
             7565c40576616c7565a772656163686564c40772656163686564",
        ),
        (
            "last page, heads only",
            Answer::Page(page(stored.clone(), None)),
            "86a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e6f6465cf0102\
             030405060708a565706f636808a774696d655f6d73cf0000018bcfe56802a46c6f6164\
             82a9696e5f666c6967687402aa736572766963655f7573cc96a7726573756c74739181\
             a47061676581a7656e74726965739182a36b6579c4036b6579a46865616483a7766572\
             73696f6e83a57374616d70cf018bcfe568010001a6777269746572c410aaaaaaaaaaaa\
             aaaaaaaaaaaaaaaaaaaaa8636865636b73756dcf6ea1104208b19589a26f7083a6636c\
             69656e74c410aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa873657175656e636503ad6669\
             7273745f73656e745f6d73cf0000018bcfe56800a46b696e64a576616c7565",
        ),
    ] {
        pin(name, &reply(vec![answer]), decode_reply, golden);
    }
    let report = HintsReport {
        node: NodeId(9),
        bytes: 500,
        bytes_max: 1_000,
        waiting: vec![HintsWaiting {
            owner: NodeId(2),
            count: 3,
        }],
        aside: 1,
        aside_listed: vec![HintAside {
            bucket: 1,
            key: "key".into(),
            version: stored.head.version,
            owners: vec![NodeId(3)],
            since_ms: 1_700_000_000_002,
        }],
    };
    pin(
        "report about hints",
        &report,
        decode_hints,
        "86a46e6f646509a56279746573cd01f4a962797465735f6d6178cd03e8a77761697469\
             6e679182a56f776e657202a5636f756e7403a5617369646501ac61736964655f6c6973\
             7465649185a66275636b657401a36b6579c4036b6579a776657273696f6e83a5737461\
             6d70cf018bcfe568010001a6777269746572c410aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
             aaa8636865636b73756dcf6ea1104208b19589a66f776e6572739103a873696e63655f\
             6d73cf0000018bcfe56802",
    );
}

#[test]
fn answers_to_reads_never_change() {
    let stored = record(Some("value"), None);
    let floor = Stamp::at(6);
    for (name, answer, golden) in [
        (
            "found head",
            Answer::FoundHead(stored.head),
            "86a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e6f6465cf010203\
             0405060708a565706f636808a774696d655f6d73cf0000018bcfe56802a46c6f616482a9\
             696e5f666c6967687402aa736572766963655f7573cc96a7726573756c74739181aa666f\
             756e645f6865616483a776657273696f6e83a57374616d70cf018bcfe568010001a67772\
             69746572c410aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa8636865636b73756dcf6ea11042\
             08b19589a26f7083a6636c69656e74c410aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa87365\
             7175656e636503ad66697273745f73656e745f6d73cf0000018bcfe56800a46b696e64a5\
             76616c7565",
        ),
        (
            "found",
            Answer::Found(stored),
            "86a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e6f6465cf010203\
             0405060708a565706f636808a774696d655f6d73cf0000018bcfe56802a46c6f616482a9\
             696e5f666c6967687402aa736572766963655f7573cc96a7726573756c74739181a5666f\
             756e6482a46865616483a776657273696f6e83a57374616d70cf018bcfe568010001a677\
             7269746572c410aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa8636865636b73756dcf6ea110\
             4208b19589a26f7083a6636c69656e74c410aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa873\
             657175656e636503ad66697273745f73656e745f6d73cf0000018bcfe56800a46b696e64\
             a576616c7565a576616c7565c40576616c7565",
        ),
        (
            "absent",
            Answer::Absent(Absent { floor }),
            "86a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e6f6465cf010203\
             0405060708a565706f636808a774696d655f6d73cf0000018bcfe56802a46c6f616482a9\
             696e5f666c6967687402aa736572766963655f7573cc96a7726573756c74739181a66162\
             73656e7481a5666c6f6f72ce00060000",
        ),
    ] {
        pin(name, &reply(vec![answer]), decode_reply, golden);
    }
}

#[test]
fn answers_to_writes_and_refusals_never_change() {
    let superseded = Some(record(Some("value"), None).head.version);
    let busy = Refusal {
        retry_after_ms: Some(40),
        ..Refusal::new(RefusalKind::Overloaded, "busy")
    };
    for (name, answer, golden) in [
        (
            "written",
            Answer::Written(Written::default()),
            "86a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e6f6465cf010203\
             0405060708a565706f636808a774696d655f6d73cf0000018bcfe56802a46c6f616482a9\
             696e5f666c6967687402aa736572766963655f7573cc96a7726573756c74739181a77772\
             697474656e80",
        ),
        (
            "superseded",
            Answer::Written(Written { superseded }),
            "86a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e6f6465cf010203\
             0405060708a565706f636808a774696d655f6d73cf0000018bcfe56802a46c6f616482a9\
             696e5f666c6967687402aa736572766963655f7573cc96a7726573756c74739181a77772\
             697474656e81aa7375706572736564656483a57374616d70cf018bcfe568010001a67772\
             69746572c410aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa8636865636b73756dcf6ea11042\
             08b19589",
        ),
        (
            "refused",
            Answer::Refused(busy),
            "86a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e6f6465cf010203\
             0405060708a565706f636808a774696d655f6d73cf0000018bcfe56802a46c6f616482a9\
             696e5f666c6967687402aa736572766963655f7573cc96a7726573756c74739181a77265\
             667573656483a46b696e64aa6f7665726c6f61646564a76d657373616765a462757379ae\
             72657472795f61667465725f6d7328",
        ),
        (
            "unknown",
            Answer::Unknown,
            "86a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e6f6465cf010203\
             0405060708a565706f636808a774696d655f6d73cf0000018bcfe56802a46c6f616482a9\
             696e5f666c6967687402aa736572766963655f7573cc96a7726573756c74739181a7756e\
             6b6e6f776ec0",
        ),
    ] {
        pin(name, &reply(vec![answer]), decode_reply, golden);
    }
}

#[test]
fn failures_greetings_and_views_never_change() {
    let failure = Failure {
        kind: FailureKind::Overloaded,
        message: "busy".into(),
        retry_after_ms: Some(40),
    };
    pin(
        "failure",
        &failure,
        decode_failure,
        "83a46b696e64aa4f7665726c6f61646564a76d657373616765a462757379ae7265747279\
             5f61667465725f6d7328",
    );
    let hello = Hello {
        cluster: CLUSTER,
        node: NodeId(9),
        epoch: 8,
        view_digest: 0xdead_beef,
        time_ms: 1_700_000_000_002,
        disk: DiskState::Filling,
        hash: EpochHash::default(),
        first: 0,
        generation: 0,
    };
    pin(
        "hello",
        &hello,
        decode_hello,
        "86a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e6f646509a56570\
         6f636808ab766965775f646967657374cedeadbeefa774696d655f6d73cf0000018bcfe5\
         6802a46469736ba766696c6c696e67",
    );
    pin(
        "view",
        &view(),
        decode_view,
        "88a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e616d65a470726f64a4736565642aa56\
         5706f636808af76616c75655f62797465735f6d6178ce01000000a76d656d626572739186a2696409a7616464\
         72657373a9686f73743a37343030a8636170616369747902a47a6f6e65a161a6726567696f6ea0a5737461746\
         5a6616374697665a57461626c6583aa706172746974696f6e7302a565706f636805a7726567696f6e739184a6\
         726567696f6ea0a66c656e67746801ab706c6163655f627974657302a66f776e657273c40400000000a762756\
         36b6574739188a66e756d62657204a46e616d65a56361727473a46d6f6465a67374726f6e67a87265706c6963\
         617303aa6475726162696c697479a567726f7570aa726561645f6c6576656ca7723d312c773d33ab777269746\
         55f6c6576656ca671756f72756da674746c5f6d73cdea60",
    );
}

#[test]
fn names_of_kinds_never_change() {
    let refusals = "stale_epoch behind not_owner unknown_bucket wrong_mode skewed_clock too_large \
                    bad_checksum conflict damaged contradiction overloaded full too_late stopping \
                    unsupported \
                    other";
    let failures = "InvalidInput Unauthorized Overloaded WrongCluster Conflict Unavailable \
                    NotFound Internal";
    let all: Vec<_> = RefusalKind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(all.join(" "), refusals);
    let all: Vec<_> = FailureKind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(all.join(" "), failures);
}

#[test]
fn what_a_newer_version_adds_is_tolerated() {
    #[derive(Serialize)]
    struct NewerRequest {
        novelty: Vec<Vec<u8>>,
        cluster: ClusterId,
        epoch: u64,
        budget_ms: u32,
        operations: Vec<NewerOperation>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "snake_case")]
    enum NewerOperation {
        Sing { key: String, ttl_ms: u64 },
        Read(NewerRead),
    }
    #[derive(Serialize)]
    struct NewerRead {
        bucket: u32,
        hint: Option<String>,
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
    }
    let newer = NewerRequest {
        novelty: vec![vec![1, 2]],
        cluster: CLUSTER,
        epoch: 7,
        budget_ms: 5_000,
        operations: vec![
            NewerOperation::Sing {
                key: "key".into(),
                ttl_ms: 1,
            },
            NewerOperation::Read(NewerRead {
                bucket: 1,
                hint: Some("fast".into()),
                key: b"key".to_vec(),
            }),
        ],
    };
    let read_as = any_request(&encode(&newer));
    assert_eq!(read_as, Ok(request(vec![Operation::Unknown, read(false)])));
}

#[test]
fn reasons_of_a_newer_version_are_read_as_other() {
    #[derive(Serialize)]
    struct NewerRefusal {
        kind: &'static str,
        message: &'static str,
        since_ms: u64,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "snake_case")]
    enum NewerAnswer {
        Refused(NewerRefusal),
        Moved(u32),
    }
    #[derive(Serialize)]
    struct NewerReply {
        cluster: ClusterId,
        node: NodeId,
        epoch: u64,
        time_ms: u64,
        load: Load,
        results: Vec<NewerAnswer>,
    }
    let Reply {
        cluster,
        node,
        epoch,
        time_ms,
        load,
        ..
    } = reply(Vec::new());
    let refused = NewerRefusal {
        kind: "asleep",
        message: "zzz",
        since_ms: 1,
    };
    let newer = NewerReply {
        cluster,
        node,
        epoch,
        time_ms,
        load,
        results: vec![NewerAnswer::Moved(3), NewerAnswer::Refused(refused)],
    };
    let other = Answer::Refused(Refusal::new(RefusalKind::Other, "zzz"));
    let read_as = decode_reply(&encode(&newer));
    assert_eq!(read_as, Ok(reply(vec![Answer::Unknown, other])));
}

#[test]
fn messages_over_a_limit_are_refused() {
    let operations = |count| request(vec![read(false); count]);
    assert!(any_request(&encode(&operations(OPERATIONS_MAX))).is_ok());
    for count in [OPERATIONS_MAX + 1, 3 * OPERATIONS_MAX] {
        let over = any_request(&encode(&operations(count)));
        assert!(matches!(over, Err(DecodeError::Limit(_))), "{over:?}");
    }
    let over = decode_reply(&encode(&reply(vec![Answer::Unknown; OPERATIONS_MAX + 1])));
    assert!(matches!(over, Err(DecodeError::Limit(_))), "{over:?}");
    let long = decode_request(&vec![0; REQUEST_OVERHEAD_BYTES + 8_192], 1);
    assert!(matches!(long, Err(DecodeError::Limit(_))), "{long:?}");
    let bad_view = View {
        members: Vec::new().into(),
        ..view()
    };
    let bad = decode_view(&encode(&bad_view));
    assert!(matches!(bad, Err(DecodeError::Limit(_))), "{bad:?}");
}

#[test]
fn deep_nesting_is_refused_instead_of_overflowing_the_stack() {
    // {"novelty": [[[...]]]}
    let deep = [&[0x81, 0xa7][..], b"novelty", &[0x91; 100_000], &[0xc0]].concat();
    const { assert!(DEPTH_MAX < 100) };
    assert!(matches!(any_request(&deep), Err(DecodeError::Malformed(_))));
}

#[test]
fn a_length_that_is_not_there_is_not_believed() {
    // {"operations": [... 4 billion of them ...
    let array = [
        &[0x81, 0xaa][..],
        b"operations",
        &[0xdd, 0xff, 0xff, 0xff, 0xff],
    ]
    .concat();
    assert!(any_request(&array).is_err());
    // {"message": "... 4 billion bytes ...
    let text = [
        &[0x81, 0xa7][..],
        b"message",
        &[0xdb, 0xff, 0xff, 0xff, 0xff],
    ]
    .concat();
    assert!(decode_failure(&text).is_err());
}

/// Reads bytes as every kind of message.
fn read_as_anything(bytes: &[u8]) {
    let _ = any_request(bytes);
    let _ = decode_reply(bytes);
    let _ = decode_failure(bytes);
    let _ = decode_hello(bytes);
    let _ = decode_view(bytes);
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read_as_anything(&bytes);
    }

    #[test]
    fn mutated_messages_never_panic(
        which in 0usize..4,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let put = write(Source::FirstHand, record(Some("value"), Some(9)));
        let found = Answer::Found(record(Some("value"), None));
        let mut bytes = match which {
            0 => encode(&request(vec![put, read(true)])),
            1 => encode(&reply(vec![found, Answer::Absent(Absent::default())])),
            2 => encode(&view()),
            _ => encode(&Failure {
                kind: FailureKind::Internal,
                message: "m".into(),
                retry_after_ms: None,
            }),
        };
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        read_as_anything(&bytes);
        bytes.truncate(cut.index(bytes.len() + 1));
        read_as_anything(&bytes);
    }

    #[test]
    fn requests_are_read_as_they_were_written(
        key in prop::collection::vec(any::<u8>(), 0..50),
        value in prop::collection::vec(any::<u8>(), 0..500),
        expires_at_ms: Option<u64>,
        epoch: u64,
        budget_ms: u32,
    ) {
        let sealed = record(Some("value"), expires_at_ms);
        let write = Operation::Write(Write {
            bucket: u32::MAX,
            key: key.into(),
            source: Source::Repair,
            record: Record { value: value.into(), ..sealed },
            gone: false,
        });
        let request = Request { epoch, budget_ms, ..request(vec![write, read(true)]) };
        prop_assert_eq!(any_request(&encode(&request)), Ok(request));
    }
}
