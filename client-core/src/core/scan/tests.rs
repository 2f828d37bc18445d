//! One page of a bucket with the owners 1, 2 and 3 and a single partition; see
//! [`testing`](super::super::testing).

use super::*;
use crate::core::testing::*;
use annulet_protocol::clock::Stamp;
use annulet_protocol::ids::{Incarnation, OpId};
use annulet_protocol::level::Level;
use annulet_protocol::message::RefusalKind;
use annulet_protocol::record::Origin;

const LIMITS: PageLimits = PageLimits {
    entries: 10,
    bytes: 1_000,
    value_bytes: 100,
};

fn scan(level: Level, after: Bytes, limits: PageLimits) -> Rig<ScanOperation> {
    let mut core = core();
    let start = core.begin_scan(NOW, "b", Some(level), TIMEOUT_MS);
    let machine = ScanOperation::new(start.expect("a sound call"), after, limits);
    Rig::new(core, machine.expect("a sound scan"))
}

fn all() -> Rig<ScanOperation> {
    scan(Level::Quorum, Bytes::new(), LIMITS)
}

fn key(name: &str) -> Bytes {
    let hash = view(1).hash(BUCKET, name.as_bytes());
    storage_key(hash, BUCKET, name.as_bytes())
}

fn entry(name: &str, stamp_ms: u64, with_value: bool) -> PageEntry {
    let op = OpId {
        client: Incarnation([8; 16]),
        sequence: stamp_ms,
        first_sent_ms: 0,
    };
    let stamp = Stamp::at(WALL_MS + stamp_ms);
    let value = Some(Bytes::from(format!("value {stamp_ms}")));
    let origin = Origin { stamp, op };
    let record = Record::seal(BUCKET, name.as_bytes(), origin, value, None);
    PageEntry {
        key: Bytes::copy_from_slice(name.as_bytes()),
        head: record.head,
        value: with_value.then_some(record.value),
    }
}

/// A page of these entries, which ends after the key of the last one if `cut`.
fn page(mut entries: Vec<PageEntry>, cut: bool) -> Answer {
    let at = |entry: &PageEntry| key(std::str::from_utf8(&entry.key).expect("text"));
    entries.sort_by_key(at);
    let reached = entries.last().map(at).filter(|_| cut);
    Answer::Page(Page { entries, reached })
}

/// What it is done with: keys, keys that are not settled, and its cursor.
fn done(rig: &Rig<ScanOperation>) -> ScanDone {
    rig.done.clone().expect("a result").expect("a success")
}

fn names(entries: &[Scanned]) -> Vec<String> {
    let name = |entry: &Scanned| String::from_utf8_lossy(&entry.key).into_owned();
    let mut names: Vec<_> = entries.iter().map(name).collect();
    names.sort();
    names
}

#[test]
fn one_owner_sends_values_and_the_others_heads() {
    let mut rig = all();
    let asked: Vec<_> = rig.sent.iter().map(|send| &send.operation).collect();
    let values: Vec<_> = asked
        .iter()
        .map(|operation| match operation {
            Operation::Scan(scan) => scan.value_bytes_max,
            other => panic!("a scan was sent, not {other:?}"),
        })
        .collect();
    assert_eq!(values, [100, 0]);
    let nodes: Vec<_> = rig.sent.iter().map(|send| send.node.0).collect();
    rig.answer(
        nodes[0],
        page(vec![entry("a", 1, true), entry("b", 2, true)], false),
    );
    assert_eq!(rig.done, None);
    rig.answer(
        nodes[1],
        page(vec![entry("a", 1, false), entry("b", 2, false)], false),
    );
    let done = done(&rig);
    assert_eq!(names(&done.entries), ["a", "b"]);
    assert!(done.entries.iter().all(|entry| entry.value.is_some()));
    assert_eq!((done.unsettled.len(), done.cursor), (0, None));
    assert!(rig.machine.is_finished());
}

#[test]
fn keys_on_which_owners_differ_are_left_to_be_read() {
    let mut rig = all();
    let nodes: Vec<_> = rig.sent.iter().map(|send| send.node.0).collect();
    let mut damaged = entry("damaged", 1, true);
    damaged.value = Some(Bytes::from_static(b"other"));
    let first = vec![
        entry("same", 1, true),
        entry("older", 1, true),
        damaged.clone(),
    ];
    damaged.value = None;
    let second = vec![
        entry("same", 1, false),
        entry("older", 2, false),
        damaged,
        entry("only", 1, false),
    ];
    rig.answer(nodes[0], page(first, false));
    rig.answer(nodes[1], page(second, false));
    let done = done(&rig);
    assert_eq!(names(&done.entries), ["same"]);
    let mut unsettled = done.unsettled;
    unsettled.sort();
    assert_eq!(unsettled, ["damaged", "older", "only"]);
}

#[test]
fn a_page_ends_where_the_first_answer_was_cut_off() {
    let mut names_in_order = ["a", "b", "c", "d"];
    names_in_order.sort_by_key(|name| key(name));
    let entries = |count: usize, with_value| {
        let names = names_in_order[..count].iter();
        names
            .map(|name| entry(name, 1, with_value))
            .collect::<Vec<_>>()
    };
    let mut rig = all();
    let nodes: Vec<_> = rig.sent.iter().map(|send| send.node.0).collect();
    rig.answer(nodes[0], page(entries(2, true), true));
    rig.answer(nodes[1], page(entries(4, false), false));
    let done = done(&rig);
    assert_eq!(done.entries.len(), 2);
    assert_eq!(
        done.unsettled,
        [] as [Bytes; 0],
        "what comes after the cut is not known"
    );
    assert_eq!(done.cursor, Some(key(names_in_order[1])));
    assert!(!done.is_whole);
    let next = scan(Level::Quorum, key(names_in_order[1]), LIMITS);
    let Operation::Scan(asked) = &next.sent[0].operation else {
        panic!("a scan was sent");
    };
    assert_eq!(asked.after, key(names_in_order[1]));
}

#[test]
fn another_owner_is_asked_for_one_that_fails_or_is_slow() {
    let mut rig = all();
    let nodes: Vec<_> = rig.sent.iter().map(|send| send.node.0).collect();
    rig.answer(nodes[0], refusal(RefusalKind::Damaged));
    let third = rig.sent[2].node.0;
    let Operation::Scan(asked) = &rig.sent[2].operation else {
        panic!("a scan was sent");
    };
    assert_eq!(asked.value_bytes_max, 100, "now it is asked for values");
    rig.answer(third, page(vec![entry("a", 1, true)], false));
    rig.answer(nodes[1], page(vec![entry("a", 1, false)], false));
    assert_eq!(names(&done(&rig).entries), ["a"]);

    let mut rig = all();
    rig.pass(SLOW_MS);
    assert_eq!(rig.sent.len(), 3);
    rig.pass(TIMEOUT_MS);
    let error = rig.done.clone().expect("a result").expect_err("a failure");
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[test]
fn a_page_that_is_no_answer_counts_for_nothing() {
    let whole = || vec![entry("a", 1, true), entry("b", 1, true)];
    let reversed = || {
        let Answer::Page(mut page) = page(whole(), false) else {
            unreachable!("it makes pages");
        };
        page.entries.reverse();
        Answer::Page(page)
    };
    let backwards = Answer::Page(Page {
        entries: Vec::new(),
        reached: Some(Bytes::new()),
    });
    for answer in [reversed(), backwards, WRITTEN] {
        let mut rig = all();
        let first = rig.sent[0].node.0;
        rig.answer(first, answer);
        assert_eq!(rig.sent.len(), 3, "another owner is asked");
    }
}

#[test]
fn a_new_view_asks_again_from_the_same_cursor() {
    let mut rig = all();
    let nodes: Vec<_> = rig.sent.iter().map(|send| send.node.0).collect();
    rig.answer(nodes[0], page(vec![entry("a", 1, true)], false));
    rig.respond(nodes[1], 2, Ok(refusal(RefusalKind::StaleEpoch)));
    assert_eq!(rig.wanted, Some(2));
    rig.view(&view(2));
    let again: Vec<_> = rig.sent[2..]
        .iter()
        .filter(|s| s.epoch == 2)
        .map(|s| s.node.0)
        .collect();
    assert_eq!(again.len(), 2);
    for node in again {
        assert_eq!(rig.done, None, "no earlier answer counts");
        rig.respond(node, 2, Ok(page(Vec::new(), false)));
    }
    assert_eq!(done(&rig).entries, []);
}

#[test]
fn arcs_follow_each_other_to_the_end_of_the_ring() {
    let mut core = core_of(wide_view());
    let mut after = Bytes::new();
    for arc in 0..2 {
        let start = core
            .begin_scan(NOW, "b", None, TIMEOUT_MS)
            .expect("a sound call");
        let machine = ScanOperation::new(start, after, LIMITS).expect("a sound scan");
        let mut rig = Rig::new(core, machine);
        let nodes: Vec<_> = rig.sent.iter().map(|send| send.node.0).collect();
        for node in nodes {
            rig.answer(node, page(Vec::new(), false));
        }
        let done = done(&rig);
        assert!(done.is_whole);
        assert_eq!(done.cursor.is_some(), arc == 0);
        after = done.cursor.unwrap_or_default();
        core = rig.core;
    }
}

#[test]
fn a_new_view_with_the_same_owners_changes_nothing() {
    let mut rig = all();
    let nodes: Vec<_> = rig.sent.iter().map(|send| send.node.0).collect();
    rig.answer(nodes[0], page(Vec::new(), false));
    rig.view(&grown_view());
    assert_eq!(rig.sent.len(), 2);
    rig.answer(nodes[1], page(Vec::new(), false));
    assert!(done(&rig).is_whole);
}
