//! Seeds of the chain of epochs.

use super::Seeds;
use super::messages::{changed, crowded, without_names};
use annulet_protocol::ballot::Ballot;
use annulet_protocol::bucket::Bucket;
use annulet_protocol::codec::encode;
use annulet_protocol::epoch::{
    Accept, BucketChange, BucketCommand, BucketGone, BucketReply, BucketRequest, BucketSettings,
    ChainAnswer, ChainQuestion, ChainReply, ChainRequest, Copies, CopiesOver, Decided,
    DeleteBucket, Deltas, EpochRecord, Granted, ListChange, ListPlace, MemberChange, MemberGone,
    MemberSettings, NextList, Offer, Point, Prepare, Promised, SetBucket, Step,
};
use annulet_protocol::ids::{ChangeId, ClusterId, EpochHash, Incarnation, NodeId};
use annulet_protocol::level::Level;
use annulet_protocol::members::{
    LeaveMember, MemberCommand, MemberReply, MemberRequest, SetMember,
};
use annulet_protocol::recovery::{
    Anew, MemberFound, RecoverOutcome, RecoverReply, RecoverRequest, Seal, Stands,
};
use annulet_protocol::view::{Member, MemberState};
use bytes::Bytes;

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

fn ballot() -> Ballot {
    Ballot {
        number: 5,
        proposer: Incarnation([0xba; 16]),
    }
}

pub(super) fn add(seeds: &mut Seeds) {
    let bytes = record().encode();
    seeds.add("epoch_record", "all_changes", bytes.to_vec());
    seeds.add("epoch_record", "cut_short", &bytes[..bytes.len() / 2]);
    let unknown = changed(&bytes, b"\xa7deleted", b"\xa7renamed");
    seeds.add("epoch_record", "unknown_change", unknown);
    let many = changed(&bytes, b"\x93\x01\x02\x03", b"\x96\x01\x02\x03\x04\x05\x06");
    seeds.add("epoch_record", "too_many_keepers", many);
    let higher = EpochRecord {
        generation: 2,
        buckets: Vec::new(),
        ..record()
    };
    seeds.add("epoch_record", "higher_generation", encode(&higher));
    let grown = encode(&grown());
    // The kind of a change is in the lowest bits of its first byte.
    let odd = changed(&grown, b"\x06\x05\x01\x07\x05", b"\x06\x05\x07\x07\x05");
    seeds.add("epoch_record", "unknown_list_change", odd);
    seeds.add("epoch_record", "members_and_lists", grown);
    add_questions(seeds);
    add_answers(seeds);
    add_buckets(seeds);
    add_members(seeds);
    add_recoveries(seeds);
}

fn add_questions(seeds: &mut Seeds) {
    let (of, ballot, record) = (record().point(), ballot(), record().encode());
    let anew = Point {
        generation: 2,
        ..of
    };
    let offer = Offer {
        records: vec![record.clone(), Bytes::from_static(b"no record")],
        settled: 6,
        ..Offer::question()
    };
    for (name, question) in [
        ("offer", ChainQuestion::Offer(offer)),
        ("prepare", ChainQuestion::Prepare(Prepare { of, ballot })),
        (
            "accept",
            ChainQuestion::Accept(Accept { of, ballot, record }),
        ),
        ("copies", ChainQuestion::Copies(Copies {})),
        (
            "seal",
            ChainQuestion::Seal(Seal {
                generation: 2,
                after: of,
            }),
        ),
        (
            "offer_anew",
            ChainQuestion::Offer(Offer::new(Vec::new(), anew, anew)),
        ),
        ("unknown", ChainQuestion::Unknown),
    ] {
        let request = ChainRequest {
            cluster: CLUSTER,
            question,
        };
        seeds.add("chain_request", name, encode(&request));
    }
    let none = Offer {
        records: Vec::new(),
        settled: 6,
        ..Offer::question()
    };
    let none = ChainRequest {
        cluster: CLUSTER,
        question: ChainQuestion::Offer(none),
    };
    let many = changed(
        &encode(&none),
        b"records\x90",
        b"records\xdd\xff\xff\xff\xff",
    );
    seeds.add("chain_request", "list_of_4_gib", many);
    seeds.add("chain_request", "without_names", without_names(&none));
}

/// A message of a mebibyte that is one long list of what is shortest on the wire.
pub(super) fn add_crowded(seeds: &mut Seeds) {
    let offer = Offer {
        records: vec![Bytes::new()],
        settled: 6,
        ..Offer::question()
    };
    let offer = ChainRequest {
        cluster: CLUSTER,
        question: ChainQuestion::Offer(offer),
    };
    let offer = crowded(&encode(&offer), b"\x91\xc4\x00", b"\xc4\x00");
    seeds.add("chain_request", "records", offer);
}

fn add_answers(seeds: &mut Seeds) {
    let (point, ballot, record) = (record().point(), ballot(), record().encode());
    let promised = |record| Promised { ballot, record };
    let place = ListPlace {
        partition: 5,
        since: 6,
    };
    let copied = |epoch, hands_over| CopiesOver {
        over: vec![place, place],
        epoch,
        partitions: 8,
        hands_over,
    };
    for (name, answer) in [
        ("holds", ChainAnswer::Holds(point)),
        (
            "promised",
            ChainAnswer::Promised(promised(Some(record.clone()))),
        ),
        ("promised_nothing", ChainAnswer::Promised(promised(None))),
        ("accepted", ChainAnswer::Accepted(Granted {})),
        ("rejected", ChainAnswer::Rejected(ballot)),
        (
            "decided",
            ChainAnswer::Decided(Decided {
                record: record.clone(),
            }),
        ),
        ("lacks", ChainAnswer::Lacks(point)),
        ("copied", ChainAnswer::Copied(copied(0, false))),
        ("handing_over", ChainAnswer::Copied(copied(7, true))),
        ("refused", ChainAnswer::Refused("why".into())),
        ("stands", ChainAnswer::Stands(Box::new(stands()))),
        ("sealed_above", ChainAnswer::SealedAbove(3)),
    ] {
        let reply = ChainReply {
            cluster: CLUSTER,
            node: NodeId(9),
            answer,
        };
        seeds.add("chain_reply", name, encode(&reply));
    }
    let reply = ChainReply {
        cluster: CLUSTER,
        node: NodeId(9),
        answer: ChainAnswer::Lacks(point),
    };
    let short = changed(&encode(&reply), b"\xc4\x10", b"\xc4\x0f");
    seeds.add("chain_reply", "short_cluster", short);
    let deltas = Deltas {
        cluster: CLUSTER,
        node: NodeId(9),
        newest: point,
        first: 1,
        fork: false,
        records: vec![record],
    };
    seeds.add("deltas", "one", encode(&deltas));
    let none = Deltas {
        fork: true,
        records: Vec::new(),
        ..deltas
    };
    seeds.add("deltas", "fork", encode(&none));
    let many = changed(
        &encode(&none),
        b"records\x90",
        b"records\xdd\xff\xff\xff\xff",
    );
    seeds.add("deltas", "list_of_4_gib", many);
}

fn add_members(seeds: &mut Seeds) {
    let member = Member {
        id: NodeId(4),
        address: "host:7400".into(),
        capacity: 2,
        zone: "z".into(),
        region: "r".into(),
        state: MemberState::Joining,
    };
    let set = SetMember {
        id: NodeId(4),
        address: Some("other:7400".into()),
        capacity: Some(3),
        zone: Some(String::new()),
    };
    for (file, command) in [
        ("join", MemberCommand::Join(member.clone())),
        ("set", MemberCommand::Set(set)),
        ("leave", MemberCommand::Leave(LeaveMember { id: NodeId(4) })),
        ("unknown", MemberCommand::Unknown),
    ] {
        let request = MemberRequest {
            cluster: CLUSTER,
            change: ChangeId([0xab; 16]),
            command,
        };
        let bytes = encode(&request);
        if file == "join" {
            seeds.add("member_request", "cut_short", &bytes[..bytes.len() / 2]);
        }
        seeds.add("member_request", file, bytes);
    }
    for (file, member) in [("made", Some(member)), ("gone", None)] {
        let reply = MemberReply {
            cluster: CLUSTER,
            epoch: 7,
            member,
        };
        let bytes = encode(&reply);
        if file == "made" {
            seeds.add("member_reply", "cut_short", &bytes[..bytes.len() / 2]);
        }
        seeds.add("member_reply", file, bytes);
    }
}

fn add_buckets(seeds: &mut Seeds) {
    let (name, number) = (String::from("carts"), Some(4));
    let set = SetBucket {
        name: name.clone(),
        number,
        read_level: Some(Level::One),
        write_level: Some(Level::Explicit { read: 1, write: 2 }),
        ttl_ms: Some(0),
    };
    for (file, command) in [
        ("create", BucketCommand::Create(Bucket::new(0, &name))),
        ("set", BucketCommand::Set(set)),
        (
            "delete",
            BucketCommand::Delete(DeleteBucket { name, number }),
        ),
    ] {
        let request = BucketRequest {
            cluster: CLUSTER,
            change: ChangeId([0xab; 16]),
            command,
        };
        seeds.add("bucket_request", file, encode(&request));
    }
    let unnamed = BucketRequest {
        cluster: CLUSTER,
        change: ChangeId([0xab; 16]),
        command: BucketCommand::Create(Bucket::new(0, "carts")),
    };
    let unnamed = changed(&encode(&unnamed), b"\xa4name", b"\xa4game");
    seeds.add("bucket_request", "without_name", unnamed);
    let reply = BucketReply {
        cluster: CLUSTER,
        epoch: 7,
        bucket: Bucket::new(4, "carts"),
    };
    let bytes = encode(&reply);
    seeds.add("bucket_reply", "cut_short", &bytes[..bytes.len() / 2]);
    seeds.add("bucket_reply", "made", bytes);
}

fn stands() -> Stands {
    Stands {
        newest: record().point(),
        sealed: 2,
        known: true,
        records: vec![record().encode()],
        ballot: ballot(),
        accepted: Some(record().encode()),
    }
}

fn add_recoveries(seeds: &mut Seeds) {
    let request = RecoverRequest {
        cluster: CLUSTER,
        recovery: ChangeId([0xab; 16]),
        proceed: true,
    };
    let bytes = encode(&request);
    seeds.add("recover_request", "cut_short", &bytes[..bytes.len() / 2]);
    seeds.add("recover_request", "proceed", bytes);
    let found = |newest, why: &str| MemberFound {
        id: NodeId(1),
        newest,
        sealed: 2,
        forks: true,
        why: why.into(),
    };
    let anew = Anew {
        epoch: record().point(),
        keepers: vec![NodeId(1)],
    };
    for (file, outcome) in [
        ("possible", RecoverOutcome::Possible(anew.clone())),
        ("done", RecoverOutcome::Done(anew.clone())),
        ("unsettled", RecoverOutcome::Unsettled(anew)),
        ("refused", RecoverOutcome::Refused("why".into())),
        ("interrupted", RecoverOutcome::Interrupted("why".into())),
        ("unknown", RecoverOutcome::Unknown),
    ] {
        let reply = RecoverReply {
            cluster: CLUSTER,
            node: NodeId(9),
            members: vec![found(Some(record().point()), ""), found(None, "why")],
            newest: record().point(),
            keepers: vec![NodeId(1), NodeId(2), NodeId(3)],
            outcome,
        };
        let bytes = encode(&reply);
        if file == "done" {
            seeds.add("recover_reply", "cut_short", &bytes[..bytes.len() / 2]);
        }
        seeds.add("recover_reply", file, bytes);
    }
}
