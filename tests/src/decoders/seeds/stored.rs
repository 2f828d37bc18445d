//! Seeds of what a store holds.

use super::Seeds;
use annulet_protocol::clock::Stamp;
use annulet_protocol::hash::{KeyHash, storage_key};
use annulet_protocol::ids::{Incarnation, NodeId, OpId};
use annulet_protocol::limits::OWNERS_MAX;
use annulet_protocol::record::{Origin, Record};
use annulet_protocol::siblings::merges::{Counter, Set};
use annulet_protocol::siblings::{self, Actor, Siblings};
use annulet_replica::hints::{Kept, KeptRecord, Tally};
use annulet_replica::layout;
use annulet_replica::layout::siblings as siblings_layout;
use bytes::Bytes;
use std::collections::BTreeMap;

const KEY: &[u8] = b"key";

pub(super) fn add(seeds: &mut Seeds) {
    let value = record(Some("value".into()), None);
    let mut other_client = record(Some("value".into()), Some(77));
    other_client.head.op.client = Incarnation([6; 16]);
    let long = record(Some(vec![7; 5_000].into()), None);
    let (apart, _) = layout::encode(&long);
    let whole = layout::encode_whole(&value);
    for (name, entry) in [
        ("value", whole.clone()),
        ("tombstone", layout::encode_whole(&record(None, None))),
        (
            "expiring_of_other_client",
            layout::encode_whole(&other_client),
        ),
        ("apart", apart),
        ("gone", layout::encode_gone(&other_client.head)),
        ("damaged", [&whole[..whole.len() - 1], b"?"].concat().into()),
        ("newer_format", [&[2], &whole[1..]].concat().into()),
        ("unknown_flag", [&[1, 0x80], &whole[2..]].concat().into()),
        ("apart_and_gone", [&[1, 0x18], &whole[2..]].concat().into()),
        ("cut_short", whole.slice(..30)),
        ("empty", Bytes::new()),
    ] {
        seeds.add("stored_record", name, entry);
    }
    add_values(seeds);
    add_siblings(seeds);
    add_mergeable(seeds);
    add_kept(seeds, value, other_client);
    for (name, waiting, aside) in [
        ("nothing", BTreeMap::new(), 0),
        (
            "two_owners",
            BTreeMap::from([(NodeId(2), 3), (NodeId(u64::MAX), 1)]),
            1,
        ),
    ] {
        let tally = Tally {
            bytes: 500,
            aside,
            waiting,
        };
        seeds.add("tally", name, tally.encode());
    }
    seeds.add("tally", "cut_short", vec![1; 20]);
    let key = |bucket, key: &[u8]| storage_key(KeyHash(0x0102_0304_0506_0708), bucket, key);
    seeds.add("storage_key", "key", key(1, KEY));
    seeds.add("storage_key", "empty_key", key(u32::MAX, b""));
    seeds.add("storage_key", "cut_short", &key(1, KEY)[..11]);
}

/// As the check takes them: the version, the length, and the stored value.
fn add_values(seeds: &mut Seeds) {
    let (_, stored) = layout::encode(&record(Some(vec![7; 4_097].into()), None));
    let stored = stored.expect("it is longer than what is stored inline");
    let (version, value) = stored.split_at(32);
    let given =
        |length: u64, value: &[u8]| [version, &length.to_be_bytes(), version, value].concat();
    seeds.add("stored_value", "short", given(9, &value[..9]));
    seeds.add("stored_value", "long", given(400, &value[..400]));
    seeds.add("stored_value", "empty", given(0, b""));
    seeds.add("stored_value", "other_length", given(u64::MAX, &value[..9]));
    seeds.add(
        "stored_value",
        "other_version",
        [&[0; 8], &given(0, b"")[8..]].concat(),
    );
    seeds.add("stored_value", "cut_short", &given(0, b"")[..60]);
}

fn add_kept(seeds: &mut Seeds, value: Record, other_client: Record) {
    let kept = |owners: &[u64], aside, record| Kept {
        since_ms: 1_000,
        epoch: 7,
        aside,
        owners: owners.iter().copied().map(NodeId).collect(),
        record: KeptRecord::Lww(record),
    };
    let all: Vec<u64> = (0..=OWNERS_MAX as u64).collect();
    let too_many = kept(&all, false, record(None, None)).encode();
    seeds.add("kept_record", "too_many_owners", too_many);
    let two = kept(&[2, 3], false, value).encode();
    seeds.add("kept_record", "for_two", &two[..]);
    let one = kept(&[2], false, record(None, Some(5))).encode();
    seeds.add("kept_record", "deleted_for_one", one);
    seeds.add(
        "kept_record",
        "aside",
        kept(&[9], true, other_client).encode(),
    );
    let many = [&two[..18], &[0xff, 0xff], &two[20..]].concat();
    seeds.add("kept_record", "for_65535", many);
    seeds.add("kept_record", "cut_short", &two[..40]);
    // The record in it says that its value is elsewhere.
    let apart = [&two[..37], &[0x08], &two[38..]].concat();
    seeds.add("kept_record", "value_apart", apart);
}

fn record(value: Option<Bytes>, expires_at_ms: Option<u64>) -> Record {
    let op = OpId {
        client: Incarnation([5; 16]),
        sequence: 7,
        first_sent_ms: 90,
    };
    let origin = Origin {
        stamp: Stamp(3),
        op,
    };
    Record::seal(1, KEY, origin, value, expires_at_ms)
}

fn add_mergeable(seeds: &mut Seeds) {
    let sets: [&[&str]; 3] = [&[], &["a"], &["", "a", "longer than most"]];
    for (name, elements) in ["nothing", "one", "three"].into_iter().zip(sets) {
        let elements = elements.iter().map(|element| Bytes::from(*element));
        let bytes = Set(elements.collect()).encode().expect("few elements");
        seeds.add("set", name, bytes);
    }
    seeds.add(
        "set",
        "twice_and_out_of_order",
        *b"\x93\xc4\x01b\xc4\x01a\xc4\x01b",
    );
    seeds.add("set", "of_a_map", *b"\x91\x80");
    let mut counter = Counter::default();
    seeds.add("counter", "nothing", counter.encode().expect("no writers"));
    for (writer, amount) in [(1, 5), (1, -7), (2, i64::MAX), (3, i64::MIN)] {
        let added = counter.add(Incarnation([writer; 16]), amount);
        added.expect("few writers");
    }
    let bytes = counter.encode().expect("few writers");
    seeds.add("counter", "cut_short", bytes.slice(..30));
    seeds.add("counter", "three_writers", bytes);
}

fn add_siblings(seeds: &mut Seeds) {
    let actor = |node| Actor {
        node: NodeId(node),
        incarnation: Incarnation([node as u8; 16]),
        tenure: 7,
    };
    let write = |sequence| {
        let op = OpId {
            client: Incarnation([5; 16]),
            sequence,
            first_sent_ms: 9,
        };
        siblings::Write::seal(1, KEY, op, "value".into(), Some(sequence))
    };
    let (mut one, nothing) = (Siblings::default(), Siblings::default());
    let mut put = |context: &Siblings, sequence, node| {
        let minter = (actor(node), Stamp::at(10 + sequence));
        let put = one.put(context, (write(sequence), sequence > 2), minter, 1 << 20);
        put.expect("few siblings");
        one.clone()
    };
    let first = put(&nothing, 1, 1);
    let overwritten = put(&first.context(), 2, 1);
    let two = put(&nothing, 3, 2);
    let mut raised = two.clone();
    raised.raise(raised.newest());
    let mut twice = first.encode();
    // The base, which comes first: with it at zero and the vector gone, the dot is not known.
    let vector = twice.windows(7).position(|word| word == b"\xa6vector");
    let vector = vector.expect("a field of this name") + 7;
    twice.splice(vector..twice.len(), *b"\x90");
    twice[0] = 0x82;
    for (name, bytes) in [
        ("nothing", nothing.encode()),
        ("one", first.encode()),
        ("overwritten", overwritten.encode()),
        ("two", two.encode()),
        ("context", two.context().encode()),
        ("under_the_base", raised.encode()),
        ("without_vector", twice),
        ("cut_short", two.encode()[..60].to_vec()),
    ] {
        seeds.add("siblings", name, bytes);
    }
    add_stored_siblings(seeds, &first, two);
}

fn add_stored_siblings(seeds: &mut Seeds, first: &Siblings, two: Siblings) {
    let marks = siblings_layout::Marks {
        tenure: Some(Stamp(7)),
    };
    let apart = siblings_layout::Apart {
        checksum: 5,
        value_bytes: 9_000,
    };
    let plain = siblings_layout::Marks::default();
    let whole = siblings_layout::encode_whole(&two, marks);
    let bare = siblings_layout::encode_apart(&two.bare(), apart, plain);
    seeds.add("stored_siblings", "cut_short", &whole[..40]);
    seeds.add(
        "stored_siblings",
        "unknown_flag",
        [&whole[..1], &[0x08], &whole[2..]].concat(),
    );
    seeds.add("stored_siblings", "with_marks", whole);
    seeds.add("stored_siblings", "apart", bare);
    seeds.add(
        "stored_siblings",
        "plain",
        siblings_layout::encode_whole(first, plain),
    );
    let kept = Kept {
        since_ms: 1_000,
        epoch: 7,
        aside: false,
        owners: vec![NodeId(2)],
        record: KeptRecord::Siblings {
            record: two,
            tenure: Stamp(3),
        },
    };
    seeds.add("kept_record", "siblings", kept.encode());
}
