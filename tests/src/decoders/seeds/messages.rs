//! Seeds of messages.

use super::Seeds;
use super::examples::{
    BUCKET, KEY, compare, copied, copy_arc, expiry, failure, found_siblings, hello, hint, merge,
    mint, minted, page_entry, read_anywhere, record, region, reply, report, request, scan, spread,
    view, write, write_gone,
};
use annulet_protocol::clock::Stamp;
use annulet_protocol::codec::encode;
use annulet_protocol::hints::HintsReport;
use annulet_protocol::ids::NodeId;
use annulet_protocol::limits::DEPTH_MAX;
use annulet_protocol::message::{
    Absent, Answer, Lacking, Operation, Read, Refusal, RefusalKind, Source, Touch, Written,
};
use annulet_protocol::scan::Page;
use annulet_protocol::table::{Joint, Table};
use annulet_protocol::view::{Members, View};
use serde::Serialize;

pub(super) fn add(seeds: &mut Seeds) {
    add_requests(seeds);
    add_replies(seeds);
    seeds.add("failure", "overloaded", encode(&failure()));
    seeds.add("failure", "without_names", without_names(&failure()));
    let unknown_kind = changed(&encode(&failure()), b"\xaaOverloaded", b"\xa4Tidy");
    seeds.add("failure", "unknown_kind", unknown_kind);
    seeds.add(
        "failure",
        "message_of_4_gib",
        b"\x81\xa7message\xdb\xff\xff\xff\xff",
    );
    seeds.add("hello", "filling", encode(&hello()));
    seeds.add("hello", "without_names", without_names(&hello()));
    let older = changed(&encode(&hello()), b"\xa4disk", b"\xa4disc");
    seeds.add("hello", "without_disk", older);
    let short = changed(&encode(&hello()), b"\xc4\x10", b"\xc4\x0f");
    seeds.add("hello", "short_cluster", short);
    seeds.add("hints_report", "waiting_and_aside", encode(&report()));
    seeds.add("hints_report", "none", encode(&HintsReport::default()));
    seeds.add("hints_report", "without_names", without_names(&report()));
    let many = changed(&encode(&report()), b"\x91\x82", b"\xdd\xff\xff\xff\xff\x82");
    seeds.add("hints_report", "list_of_4_gib", many);
    add_views(seeds);
}

fn add_requests(seeds: &mut Seeds) {
    let record = record(Some("value"), Some(1_700_000_060_000));
    let touch = Touch {
        bucket: BUCKET,
        key: KEY,
        version: record.head.version,
        expiry: expiry(&record),
    };
    let operations = [
        ("read", Operation::Read(Read::new(BUCKET, KEY))),
        ("read_of_any_server", Operation::Read(read_anywhere())),
        ("write", write(Source::FirstHand, record.clone())),
        ("delete", write(Source::Repair, self::record(None, None))),
        ("write_gone", write_gone(record.clone())),
        ("hint", Operation::Hint(hint(record))),
        ("touch", Operation::Touch(touch)),
        ("scan", Operation::Scan(scan())),
        ("copy_arc", Operation::CopyArc(copy_arc())),
        ("mint", mint(Vec::new())),
        ("mint_for_others", mint(vec![NodeId(2), NodeId(3)])),
        ("merge", merge()),
        ("compare", compare()),
        ("spread", spread()),
        ("unknown", Operation::Unknown),
    ];
    for (name, operation) in operations.clone() {
        seeds.add("request", name, encode(&request(vec![operation])));
    }
    let all = request(operations.map(|(_, operation)| operation).into());
    let bytes = encode(&all);
    seeds.add("request", "all", &bytes[..]);
    seeds.add("request", "all_without_names", without_names(&all));
    seeds.add("request", "all_cut_short", &bytes[..bytes.len() / 2]);
    seeds.add("request", "all_and_a_byte", [&bytes[..], &[0]].concat());
    seeds.add("request", "empty", encode(&request(Vec::new())));
    add_malformed_requests(seeds);
}

fn add_malformed_requests(seeds: &mut Seeds) {
    let one = encode(&request(vec![Operation::Unknown]));
    let operation = b"\x81\xa7unknown\xc0";
    let read = |key: &[u8]| [b"\x81\xa4read\x82\xa6bucket\x01\xa3key", key].concat();
    for (name, from, to) in [
        (
            "field_twice",
            &b"\xa5epoch\x07"[..],
            &b"\xa5epoch\x07\xa5epoch\x07"[..],
        ),
        ("unknown_field", b"\x84", b"\x85\xa4news\x91\x92\x01\xc0"),
        ("missing_field", b"\xa5epoch", b"\xa5epoqu"),
        ("epoch_below_zero", b"\xa5epoch\x07", b"\xa5epoch\xff"),
        ("list_of_4_gib", b"\x91\x81", b"\xdd\xff\xff\xff\xff\x81"),
        ("cluster_as_list", b"\xc4\x10", b"\xdc\x00\x10"),
        (
            "operation_of_two_names",
            operation,
            b"\x82\xa1a\xc0\xa1b\xc0",
        ),
        ("operation_of_no_name", operation, b"\x80"),
        ("key_of_4_gib", operation, &read(b"\xc6\xff\xff\xff\xff")),
        ("key_as_list", operation, &read(b"\x93\x01\x02\xcc\xff")),
    ] {
        seeds.add("request", name, changed(&one, from, to));
    }
    for (name, depth) in [("deep", DEPTH_MAX - 2), ("too_deep", 200)] {
        let nested = [&b"\x85\xa4news"[..], &vec![0x91; depth], b"\xc0"].concat();
        seeds.add("request", name, changed(&one, b"\x84", &nested));
    }
}

fn add_replies(seeds: &mut Seeds) {
    let stored = record(Some("value"), Some(1_700_000_060_000));
    let superseded = Some(stored.head.version);
    let refusal = Refusal {
        retry_after_ms: Some(40),
        ..Refusal::new(RefusalKind::Overloaded, "busy")
    };
    let page = Page {
        entries: vec![
            page_entry(&stored, Some(stored.value.clone())),
            page_entry(&record(None, None), None),
        ],
        reached: Some("reached".into()),
    };
    let floor = Stamp::at(6);
    let copied = copied(&stored);
    let answers = [
        ("found_head", Answer::FoundHead(stored.head)),
        ("found", Answer::Found(stored)),
        ("absent", Answer::Absent(Absent { floor })),
        ("siblings", found_siblings(false)),
        ("bare_siblings", found_siblings(true)),
        ("minted", minted()),
        ("written", Answer::Written(Written { superseded })),
        ("lacking", Answer::Lacking(Lacking {})),
        ("page", Answer::Page(page)),
        ("copied", Answer::Copied(copied)),
        ("refused", Answer::Refused(refusal)),
        ("unknown", Answer::Unknown),
    ];
    for (name, answer) in answers.clone() {
        seeds.add("reply", name, encode(&reply(vec![answer])));
    }
    let all = reply(answers.map(|(_, answer)| answer).into());
    let bytes = encode(&all);
    seeds.add("reply", "all", &bytes[..]);
    seeds.add("reply", "all_without_names", without_names(&all));
    seeds.add("reply", "all_cut_short", &bytes[..bytes.len() / 2]);
    let one = encode(&reply(vec![Answer::Page(Page::default())]));
    let lists = b"\xa7entries\xdd\xff\xff\xff\xff\x83";
    for (name, from, to) in [
        ("lists_of_4_gib", &b"\xa7entries\x90"[..], &lists[..]),
        ("null_for_a_map", b"\xa4load\x82", b"\xa4load\xc0"),
        (
            "extension",
            b"\xa7entries\x90",
            b"\xa7entries\xc7\x01\x05\x00",
        ),
    ] {
        seeds.add("reply", name, changed(&one, from, to));
    }
}

fn add_views(seeds: &mut Seeds) {
    let bytes = encode(&view());
    seeds.add("view", "two_regions", &bytes[..]);
    let mut joint = view();
    joint.table.regions[0].set(1, &[1]);
    joint.table.open(
        Joint {
            partition: 1,
            region: "north".into(),
            next: vec![1, 0],
        },
        6,
    );
    seeds.add("view", "a_joint_partition", encode(&joint));
    seeds.add("view", "without_names", without_names(&view()));
    seeds.add("view", "cut_short", &bytes[..bytes.len() / 2]);
    let one = View {
        members: vec![view().members[2].clone()].into(),
        table: Table {
            partitions: 1,
            epoch: 0,
            list_length: 1,
            regions: vec![region("south", 1, &[0])],
            ..Table::default()
        },
        buckets: Vec::new(),
        ..view()
    };
    seeds.add("view", "one_member", encode(&one));
    for (name, from, to) in [
        (
            "not_a_power_of_two",
            &b"\xaapartitions\x02"[..],
            &b"\xaapartitions\x03"[..],
        ),
        (
            "no_partitions",
            b"\xaapartitions\x02",
            b"\xaapartitions\x00",
        ),
        (
            "table_of_4_gib",
            b"\xa6owners\xc4\x08",
            b"\xa6owners\xc6\xff\xff\xff\xff",
        ),
        (
            "foreign_owner",
            b"\xa6owners\xc4\x04\x02",
            b"\xa6owners\xc4\x04\x01",
        ),
        ("no_capacity", b"\xa8capacity\x02", b"\xa8capacity\x00"),
    ] {
        seeds.add("view", name, changed(&bytes, from, to));
    }
}

/// Messages of a mebibyte that are one long list of what is shortest on the wire.
pub(super) fn add_crowded(seeds: &mut Seeds) {
    let unknown = b"\x91\x81\xa7unknown\xc0";
    let nameless = b"\x81\xa0\xc0";
    let operations = encode(&request(vec![Operation::Unknown]));
    let operations = crowded(&operations, unknown, nameless);
    seeds.add("request", "operations", operations);
    let results = encode(&reply(vec![Answer::Unknown]));
    seeds.add("reply", "results", crowded(&results, unknown, nameless));
    let mut one = hint(record(Some("value"), None));
    one.owners = vec![NodeId(2)];
    let owners = encode(&request(vec![Operation::Hint(one)]));
    let owners = crowded(&owners, b"\x91\x02", b"\x02");
    seeds.add("request", "owners", owners);
    let news = changed(&encode(&hello()), b"\x88", b"\x89\xa4news\x91\x01");
    seeds.add(
        "hello",
        "unknown_field",
        crowded(&news, b"\x91\x01", b"\x01"),
    );
    let text = encode(&failure());
    let text = changed(&text, b"\xa4busy", b"\x91\x01");
    seeds.add(
        "failure",
        "text_as_list",
        crowded(&text, b"\x91\x01", b"\x01"),
    );
    let waiting = encode(&report());
    let waiting = crowded(
        &waiting,
        b"\x91\x82\xa5owner\x02\xa5count\x03",
        b"\x92\x02\x03",
    );
    seeds.add("hints_report", "waiting", waiting);
    let shortest = View {
        members: Members::default(),
        buckets: Vec::new(),
        ..view()
    };
    let members = changed(&encode(&shortest), b"members\x90", b"members\x91\x01");
    let member = b"\x96\x01\xa1a\x01\xa0\xa0\xa6active";
    seeds.add("view", "members", crowded(&members, b"\x91\x01", member));
    let buckets = changed(&encode(&shortest), b"buckets\x90", b"buckets\x91\x01");
    let bucket = b"\x95\x01\xa1b\xa3lww\x03\xa5group";
    seeds.add("view", "buckets", crowded(&buckets, b"\x91\x01", bucket));
}

/// The bytes with a list of one entry in place of which there is one of many.
pub(super) fn crowded(bytes: &[u8], list: &[u8], entry: &[u8]) -> Vec<u8> {
    let count = CROWDED_BYTES / entry.len();
    let mut crowd = vec![0xdd];
    crowd.extend_from_slice(&(count as u32).to_be_bytes());
    crowd.extend_from_slice(&entry.repeat(count));
    changed(bytes, list, &crowd)
}

/// A message whose maps are lists of their values, which MessagePack has as well.
pub(super) fn without_names<M: Serialize>(message: &M) -> Vec<u8> {
    rmp_serde::to_vec(message).expect("plain data into memory")
}

/// The bytes with the first of these in place of those.
pub(super) fn changed(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let place = bytes.windows(from.len()).position(|part| part == from);
    let place = place.unwrap_or_else(|| {
        let (from, bytes) = (from.escape_ascii(), bytes.escape_ascii());
        panic!("{from} is to be changed, and is not in {bytes}")
    });
    [&bytes[..place], to, &bytes[place + from.len()..]].concat()
}

/// Length of the lists of [`add_crowded`]: what a request may have besides values.
const CROWDED_BYTES: usize = (1 << 20) - 4_096;
