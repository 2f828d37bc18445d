//! The bytes of the chain of epochs, pinned: records are named by the hash of theirs.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use annulet_protocol::ballot::Ballot;
use annulet_protocol::bucket::Bucket;
use annulet_protocol::codec::{
    DecodeError, decode_bucket_reply, decode_bucket_request, decode_chain_reply,
    decode_chain_request, decode_deltas, decode_view, encode,
};
use annulet_protocol::epoch::{
    Accept, BucketChange, BucketCommand, BucketGone, BucketReply, BucketRequest, BucketSettings,
    ChainAnswer, ChainQuestion, ChainReply, ChainRequest, Decided, DeleteBucket, Deltas,
    EpochRecord, Granted, ListChange, ListPlace, MemberChange, MemberGone, MemberSettings,
    NextList, Offer, Point, Prepare, Promised, SetBucket, Step,
};
use annulet_protocol::ids::{ChangeId, ClusterId, EpochHash, Incarnation, NodeId};
use annulet_protocol::level::Level;
use annulet_protocol::limits::{EPOCHS_MAX, REQUEST_OVERHEAD_BYTES};
use annulet_protocol::table::{Joint, RegionTable, Table};
use annulet_protocol::view::{Member, MemberState, Tip, View};
use bytes::Bytes;
use serde::Serialize;
use std::fmt::Debug;

const CLUSTER: ClusterId = ClusterId([0xc1; 16]);

fn record() -> EpochRecord {
    EpochRecord {
        generation: 0,
        number: 7,
        before: EpochHash([0xe6; 16]),
        keepers: vec![NodeId(1), NodeId(2), NodeId(3)],
        change: ChangeId([0xab; 16]),
        buckets: vec![
            BucketChange::Created(Bucket::new(4, "carts")),
            BucketChange::Set(BucketSettings {
                number: 3,
                read_level: Level::One,
                write_level: Level::All,
                ttl_ms: Some(60_000),
            }),
            BucketChange::Deleted(BucketGone { number: 2 }),
        ],
        ..EpochRecord::default()
    }
}

/// A record that changes members and lists.
fn grown() -> EpochRecord {
    let place = ListPlace {
        partition: 6,
        since: 5,
    };
    EpochRecord {
        number: 7,
        before: EpochHash([0xe6; 16]),
        keepers: vec![NodeId(1)],
        change: ChangeId([0xab; 16]),
        members: vec![
            MemberChange::Joined(Member {
                id: NodeId(9),
                address: "host:7400".into(),
                capacity: 2,
                zone: "a".into(),
                region: "north".into(),
                state: MemberState::Joining,
            }),
            MemberChange::Set(MemberSettings {
                id: NodeId(8),
                address: "host:7401".into(),
                capacity: 1,
                zone: String::new(),
                state: MemberState::Active,
            }),
            MemberChange::Left(MemberGone { id: NodeId(4) }),
        ],
        lists: vec![
            ListChange::Opened(NextList {
                partition: 3,
                region: "north".into(),
                step: Step::Replaced {
                    position: 1,
                    owner: 8,
                },
            }),
            ListChange::Closed(place),
            ListChange::Aborted(ListPlace {
                partition: 7,
                ..place
            }),
        ],
        doubles: true,
        list_length: Some(5),
        ..EpochRecord::default()
    }
}

fn point() -> Point {
    record().point()
}

fn ballot() -> Ballot {
    Ballot {
        number: 5,
        proposer: Incarnation([0xba; 16]),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A message writes these bytes, and they are read as it.
#[track_caller]
fn pin<M: Serialize + PartialEq + Debug>(
    message: &M,
    decode: impl Fn(&[u8]) -> Result<M, DecodeError>,
    expected: &str,
) {
    let bytes = encode(message);
    assert_eq!(hex(&bytes), expected.replace(char::is_whitespace, ""));
    assert_eq!(decode(&bytes).as_ref(), Ok(message));
}

#[test]
fn records() {
    pin(
        &record(),
        EpochRecord::decode,
        "85a66e756d62657207a66265666f7265c410e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6a76b \
             65657065727393010203a66368616e6765c410ababababababababababababababababa7 \
             6275636b6574739381a76372656174656487a66e756d62657204a46e616d65a563617274 \
             73a46d6f6465a36c7777a87265706c6963617303aa6475726162696c697479a567726f75 \
             70aa726561645f6c6576656ca671756f72756dab77726974655f6c6576656ca671756f72 \
             756d81a373657484a66e756d62657203aa726561645f6c6576656ca36f6e65ab77726974 \
             655f6c6576656ca3616c6ca674746c5f6d73cdea6081a764656c6574656481a66e756d62 \
             657202",
    );
    assert_eq!(point().hash.to_string(), "5ef2c981213182ad76bd50c2e6028604");
    let higher = EpochRecord {
        generation: 2,
        buckets: Vec::new(),
        ..record()
    };
    pin(
        &higher,
        EpochRecord::decode,
        "85aa67656e65726174696f6e02a66e756d62657207a66265666f7265c410e6e6e6e6e6e6 \
             e6e6e6e6e6e6e6e6e6e6a76b65657065727393010203a66368616e6765c410ababababab \
             ababababababababababab",
    );
}

#[test]
fn records_of_members_and_lists() {
    pin(
        &grown(),
        EpochRecord::decode,
        "88a66e756d62657207a66265666f7265c410e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6a76b6565706572739101a\
         66368616e6765c410ababababababababababababababababa76d656d626572739381a66a6f696e656486a269\
         6409a761646472657373a9686f73743a37343030a8636170616369747902a47a6f6e65a161a6726567696f6ea\
         56e6f727468a57374617465a76a6f696e696e6781a373657485a2696408a761646472657373a9686f73743a37\
         343031a8636170616369747901a47a6f6e65a0a57374617465a661637469766581a46c65667481a2696404a56\
         c69737473c40f8a03056e6f72746808000605010705a7646f75626c6573c3ab6c6973745f6c656e67746805",
    );
}

#[test]
fn joint_partitions() {
    let member = |id| Member {
        id: NodeId(id),
        address: "host:7400".into(),
        capacity: 2,
        zone: "a".into(),
        region: String::new(),
        state: MemberState::Active,
    };
    let mut region = RegionTable::empty("", 2, 2, 2);
    region.set(0, &[1, 0]);
    region.set(1, &[0]);
    let mut table = Table {
        partitions: 2,
        epoch: 5,
        list_length: 2,
        regions: vec![region],
        ..Table::default()
    };
    let joint = Joint {
        partition: 1,
        region: String::new(),
        next: vec![0, 1],
    };
    table.open(joint, 7);
    let view = View {
        cluster: CLUSTER,
        name: "prod".into(),
        seed: 42,
        epoch: 8,
        value_bytes_max: 16 << 20,
        members: vec![member(9), member(10)].into(),
        table,
        buckets: Vec::new(),
        tip: Tip::default(),
    };
    pin(
        &view,
        decode_view,
        "88a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e616d65a470726f64a4736565642aa56\
         5706f636808af76616c75655f62797465735f6d6178ce01000000a76d656d626572739286a2696409a7616464\
         72657373a9686f73743a37343030a8636170616369747902a47a6f6e65a161a6726567696f6ea0a5737461746\
         5a661637469766586a269640aa761646472657373a9686f73743a37343030a8636170616369747902a47a6f6e\
         65a161a6726567696f6ea0a57374617465a6616374697665a57461626c6586aa706172746974696f6e7302a56\
         5706f636805ab6c6973745f6c656e67746802a7726567696f6e739184a6726567696f6ea0a66c656e67746802\
         ab706c6163655f627974657302a66f776e657273c408010000000000ffffa76368616e6765649182a97061727\
         46974696f6e01a565706f636807a56a6f696e749183a9706172746974696f6e01a6726567696f6ea0a46e6578\
         74920001a76275636b65747390",
    );
}

#[test]
fn questions() {
    let request = |question| ChainRequest {
        cluster: CLUSTER,
        question,
    };
    let (of, ballot) = (point(), ballot());
    let record = Bytes::from_static(b"record");
    for (question, expected) in [
        (
            ChainQuestion::Offer(Offer {
                records: vec![record.clone()],
                settled: 6,
                ..Offer::question()
            }),
            "82a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a87175657374696f6e \
             81a56f6666657282a77265636f72647391c4067265636f7264a7736574746c656406",
        ),
        (
            ChainQuestion::Prepare(Prepare { of, ballot }),
            "82a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a87175657374696f6e \
             81a77072657061726582a26f6682a66e756d62657207a468617368c4105ef2c981213182 \
             ad76bd50c2e6028604a662616c6c6f7482a66e756d62657205a870726f706f736572c410 \
             babababababababababababababababa",
        ),
        (
            ChainQuestion::Accept(Accept { of, ballot, record }),
            "82a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a87175657374696f6e \
             81a661636365707483a26f6682a66e756d62657207a468617368c4105ef2c981213182ad \
             76bd50c2e6028604a662616c6c6f7482a66e756d62657205a870726f706f736572c410ba \
             bababababababababababababababaa67265636f7264c4067265636f7264",
        ),
    ] {
        pin(&request(question), decode_chain_request, expected);
    }
}

#[test]
fn answers() {
    let reply = |answer| ChainReply {
        cluster: CLUSTER,
        node: NodeId(9),
        answer,
    };
    let record = Bytes::from_static(b"record");
    for (answer, expected) in [
        (
            ChainAnswer::Holds(point()),
            "83a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e6f646509a6616e \
             7377657281a5686f6c647382a66e756d62657207a468617368c4105ef2c981213182ad76 \
             bd50c2e6028604",
        ),
        (
            ChainAnswer::Promised(Promised {
                ballot: ballot(),
                record: Some(record.clone()),
            }),
            "83a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e6f646509a6616e \
             7377657281a870726f6d6973656482a662616c6c6f7482a66e756d62657205a870726f70 \
             6f736572c410babababababababababababababababaa67265636f7264c4067265636f72 \
             64",
        ),
        (
            ChainAnswer::Promised(Promised {
                ballot: Ballot::default(),
                record: None,
            }),
            "83a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e6f646509a6616e \
             7377657281a870726f6d6973656481a662616c6c6f7482a66e756d62657200a870726f70 \
             6f736572c41000000000000000000000000000000000",
        ),
        (
            ChainAnswer::Accepted(Granted {}),
            "83a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e6f646509a6616e \
             7377657281a8616363657074656480",
        ),
        (
            ChainAnswer::Rejected(ballot()),
            "83a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e6f646509a6616e \
             7377657281a872656a656374656482a66e756d62657205a870726f706f736572c410baba \
             babababababababababababababa",
        ),
        (
            ChainAnswer::Decided(Decided { record }),
            "83a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e6f646509a6616e \
             7377657281a76465636964656481a67265636f7264c4067265636f7264",
        ),
        (
            ChainAnswer::Lacks(point()),
            "83a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e6f646509a6616e \
             7377657281a56c61636b7382a66e756d62657207a468617368c4105ef2c981213182ad76 \
             bd50c2e6028604",
        ),
        (
            ChainAnswer::Refused("why".into()),
            "83a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e6f646509a6616e \
             7377657281a772656675736564a3776879",
        ),
    ] {
        pin(&reply(answer), decode_chain_reply, expected);
    }
}

#[test]
fn deltas() {
    let deltas = Deltas {
        cluster: CLUSTER,
        node: NodeId(9),
        newest: point(),
        first: 1,
        fork: false,
        records: vec![Bytes::from_static(b"record")],
    };
    pin(
        &deltas,
        decode_deltas,
        "86a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e6f646509a66e65 \
             7765737482a66e756d62657207a468617368c4105ef2c981213182ad76bd50c2e6028604 \
             a5666972737401a4666f726bc2a77265636f72647391c4067265636f7264",
    );
}

#[test]
fn changes_of_buckets() {
    let request = |command| BucketRequest {
        cluster: CLUSTER,
        change: ChangeId([0xab; 16]),
        command,
    };
    for (command, expected) in [
        (
            BucketCommand::Create(Bucket::new(0, "carts")),
            "83a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a66368616e6765c410 \
             ababababababababababababababababa7636f6d6d616e6481a663726561746587a66e75 \
             6d62657200a46e616d65a56361727473a46d6f6465a36c7777a87265706c6963617303aa \
             6475726162696c697479a567726f7570aa726561645f6c6576656ca671756f72756dab77 \
             726974655f6c6576656ca671756f72756d",
        ),
        (
            BucketCommand::Set(SetBucket {
                name: "carts".into(),
                number: Some(4),
                read_level: Some(Level::One),
                write_level: None,
                ttl_ms: Some(0),
            }),
            "83a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a66368616e6765c410 \
             ababababababababababababababababa7636f6d6d616e6481a373657484a46e616d65a5 \
             6361727473a66e756d62657204aa726561645f6c6576656ca36f6e65a674746c5f6d7300",
        ),
        (
            BucketCommand::Delete(DeleteBucket {
                name: "carts".into(),
                number: Some(4),
            }),
            "83a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a66368616e6765c410 \
             ababababababababababababababababa7636f6d6d616e6481a664656c65746582a46e61 \
             6d65a56361727473a66e756d62657204",
        ),
    ] {
        pin(&request(command), decode_bucket_request, expected);
    }
    let reply = BucketReply {
        cluster: CLUSTER,
        epoch: 7,
        bucket: Bucket::new(4, "carts"),
    };
    pin(
        &reply,
        decode_bucket_reply,
        "83a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a565706f636807a662 \
             75636b657487a66e756d62657204a46e616d65a56361727473a46d6f6465a36c7777a872 \
             65706c6963617303aa6475726162696c697479a567726f7570aa726561645f6c6576656c \
             a671756f72756dab77726974655f6c6576656ca671756f72756d",
    );
}

#[test]
fn what_is_over_a_limit_is_refused() {
    let records = vec![Bytes::new(); EPOCHS_MAX + 1];
    let offer = Offer {
        records: records.clone(),
        settled: 0,
        ..Offer::question()
    };
    let request = ChainRequest {
        cluster: CLUSTER,
        question: ChainQuestion::Offer(offer),
    };
    let over = decode_chain_request(&encode(&request));
    assert!(matches!(over, Err(DecodeError::Limit(_))), "{over:?}");
    let deltas = Deltas {
        cluster: CLUSTER,
        node: NodeId(9),
        newest: Point::default(),
        first: 0,
        fork: true,
        records,
    };
    let over = decode_deltas(&encode(&deltas));
    assert!(matches!(over, Err(DecodeError::Limit(_))), "{over:?}");
    let long = decode_bucket_request(&vec![0; REQUEST_OVERHEAD_BYTES + 1]);
    assert!(matches!(long, Err(DecodeError::Limit(_))), "{long:?}");
}
