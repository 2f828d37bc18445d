//! One read of a key with the owners 1, 2 and 3; see [`testing`](super::super::testing).

use super::*;
use crate::core::testing::*;
use annulet_protocol::message::{Absent, RefusalKind};
use annulet_ring::owners::Nodes;

mod anywhere;
mod tails;

fn read_by(mut core: Core, level: Level, head_only: bool) -> Rig<ReadOperation> {
    let start = begin(&mut core, Side::Read, level);
    let machine = ReadOperation::new(start, head_only).expect("a sound read");
    Rig::new(core, machine)
}

fn get(level: Level) -> Rig<ReadOperation> {
    read_by(core(), level, false)
}

fn exists(level: Level) -> Rig<ReadOperation> {
    read_by(core(), level, true)
}

const ABSENT: Answer = Answer::Absent(Absent {
    floor: annulet_protocol::clock::Stamp(0),
});

fn found(stamp_ms: u64) -> Answer {
    Answer::Found(record(stamp_ms, None))
}

fn head(stamp_ms: u64) -> Answer {
    Answer::FoundHead(record(stamp_ms, None).head)
}

/// The nodes asked so far, in order.
fn asked(rig: &Rig<ReadOperation>) -> Nodes {
    rig.sent.iter().map(|send| send.node).collect()
}

/// Whether it is done, and with which value.
fn value(rig: &Rig<ReadOperation>) -> Option<Option<Bytes>> {
    let done = rig.done.as_ref()?.as_ref().expect("a success");
    Some(done.value.clone())
}

fn text(stamp_ms: u64) -> Option<Bytes> {
    Some(Bytes::from(format!("value {stamp_ms}")))
}

fn error(rig: &Rig<ReadOperation>) -> Option<ErrorKind> {
    let error = rig.done.as_ref()?.as_ref().err()?;
    Some(error.kind())
}

/// The owner that was not asked at level `quorum`.
fn third(rig: &Rig<ReadOperation>) -> u64 {
    let asked = asked(rig);
    (1..=3)
        .find(|node| !asked.contains(&NodeId(*node)))
        .expect("two were asked")
}

#[test]
fn a_read_asks_no_more_owners_than_its_level_needs() {
    for (level, count) in [(Level::One, 1), (Level::Quorum, 2), (Level::All, 3)] {
        let mut rig = get(level);
        assert_eq!(asked(&rig).len(), count, "{level}");
        for node in asked(&rig) {
            assert_eq!(rig.done, None, "{level}");
            rig.answer(node.0, found(5));
        }
        assert_eq!(value(&rig), Some(text(5)), "{level}");
        assert!(rig.machine.is_finished(), "{level}: they agree");
        assert_eq!(rig.sent.len(), count, "{level}: nothing to repair");
    }
}

#[test]
fn absence_is_an_answer() {
    let mut rig = get(Level::Quorum);
    for node in asked(&rig) {
        rig.answer(node.0, ABSENT);
    }
    assert_eq!(value(&rig), Some(None));
}

#[test]
fn a_quorum_read_returns_after_a_majority_holds_what_it_saw() {
    let mut rig = get(Level::Quorum);
    let nodes = asked(&rig);
    rig.answer(nodes[0].0, found(9));
    rig.answer(nodes[1].0, found(3));
    assert_eq!(
        rig.done, None,
        "the newer value may be gone with its one owner"
    );
    assert_eq!(rig.sent_since(2), [(nodes[1].0, "repair")]);
    rig.answer(nodes[1].0, WRITTEN);
    assert_eq!(value(&rig), Some(text(9)));
    assert!(rig.machine.is_finished());
}

#[test]
fn a_repair_that_is_slow_goes_to_another_owner_too() {
    let mut rig = get(Level::Quorum);
    let (nodes, third) = (asked(&rig), third(&rig));
    rig.answer(nodes[0].0, found(9));
    rig.answer(nodes[1].0, ABSENT);
    rig.pass(SLOW_MS);
    assert_eq!(rig.sent_since(3), [(third, "repair")]);
    rig.answer(third, WRITTEN);
    assert_eq!(value(&rig), Some(text(9)), "any owner will do");
    assert!(
        !rig.machine.is_finished(),
        "the stale one is still being repaired"
    );
    rig.answer(nodes[1].0, WRITTEN);
    assert!(rig.machine.is_finished());
}

#[test]
fn a_read_of_all_owners_repairs_the_stale_ones_after_its_result() {
    let mut rig = get(Level::All);
    rig.answer(1, found(3));
    rig.answer(2, found(9));
    rig.answer(3, ABSENT);
    assert_eq!(
        value(&rig),
        Some(text(9)),
        "every read of all meets one that has it"
    );
    assert_eq!(rig.sent_since(3), [(1, "repair"), (3, "repair")]);
    rig.answer(1, WRITTEN);
    rig.respond(3, 1, Err(unanswered()));
    rig.pass(20);
    assert_eq!(rig.sent_since(5), [(3, "repair")], "until they have it");
    rig.answer(3, WRITTEN);
    assert!(rig.machine.is_finished());
}

#[test]
fn a_repair_that_no_owner_takes_fails_the_read() {
    let mut rig = get(Level::Quorum);
    let (nodes, third) = (asked(&rig), third(&rig));
    rig.answer(nodes[0].0, found(9));
    rig.answer(nodes[1].0, ABSENT);
    rig.answer(nodes[1].0, refusal(RefusalKind::Damaged));
    rig.answer(third, refusal(RefusalKind::Damaged));
    assert_eq!(error(&rig), Some(ErrorKind::Unavailable));
}

#[test]
fn the_deadline_ends_a_read_to_the_millisecond_also_while_it_repairs() {
    let mut rig = get(Level::Quorum);
    let nodes = asked(&rig);
    rig.answer(nodes[0].0, found(9));
    rig.answer(nodes[1].0, ABSENT);
    rig.pass(TIMEOUT_MS - 1);
    assert_eq!(rig.done, None);
    rig.pass(1);
    assert_eq!(error(&rig), Some(ErrorKind::Timeout));
    assert!(rig.machine.is_finished());
}

#[test]
fn exists_reads_heads_and_fetches_the_record_only_to_repair() {
    let mut rig = exists(Level::Quorum);
    let nodes = asked(&rig);
    assert!(rig.sent_since(0).iter().all(|(_, kind)| *kind == "head"));
    rig.answer(nodes[0].0, head(9));
    rig.answer(nodes[1].0, head(3));
    assert_eq!(rig.sent_since(2), [(nodes[0].0, "read")]);
    rig.answer(nodes[0].0, found(9));
    assert_eq!(rig.sent_since(3), [(nodes[1].0, "repair")]);
    rig.answer(nodes[1].0, WRITTEN);
    let done = rig.done.clone().expect("a result").expect("a success");
    assert_eq!((done.live, done.value), (true, None));

    let mut rig = exists(Level::Quorum);
    for node in asked(&rig) {
        rig.answer(node.0, head(9));
    }
    assert_eq!(value(&rig), Some(None));
    assert_eq!(rig.sent.len(), 2, "they agree");
}

#[test]
fn an_owner_that_no_longer_has_what_it_showed_is_judged_by_what_it_has() {
    let mut rig = exists(Level::Quorum);
    let nodes = asked(&rig);
    rig.answer(nodes[0].0, head(9));
    rig.answer(nodes[1].0, head(3));
    // It crashed, and lost an unsynced write of an `async` bucket.
    rig.answer(nodes[0].0, found(3));
    let done = rig.done.clone().expect("a result").expect("a success");
    assert_eq!(done.head, Some(record(3, None).head));
}

#[test]
fn an_owner_that_cannot_send_what_it_showed_is_replaced_by_another() {
    let mut rig = exists(Level::Quorum);
    let (nodes, third) = (asked(&rig), third(&rig));
    rig.answer(nodes[0].0, head(9));
    rig.answer(nodes[1].0, head(3));
    rig.answer(nodes[0].0, refusal(RefusalKind::Damaged));
    assert_eq!(rig.sent_since(3), [(third, "head")]);
    rig.answer(third, head(3));
    assert_eq!(value(&rig), Some(None), "two sound owners agree");
}

#[test]
fn a_damaged_record_counts_for_nothing() {
    let mut rig = get(Level::Quorum);
    let (nodes, third) = (asked(&rig), third(&rig));
    let mut damaged = record(9, None);
    damaged.value = Bytes::from_static(b"other");
    rig.answer(nodes[0].0, Answer::Found(damaged));
    assert_eq!(rig.sent_since(2), [(third, "read")]);
    rig.answer(nodes[1].0, refusal(RefusalKind::Damaged));
    rig.answer(third, found(3));
    assert_eq!(
        error(&rig),
        Some(ErrorKind::Unavailable),
        "one sound answer is no quorum"
    );
}

#[test]
fn a_slow_owner_is_not_waited_for_and_its_late_answer_counts() {
    let mut rig = get(Level::Quorum);
    let (nodes, third) = (asked(&rig), third(&rig));
    rig.answer(nodes[0].0, found(5));
    rig.pass(SLOW_MS - 1);
    assert_eq!(rig.sent.len(), 2);
    rig.pass(1);
    assert_eq!(rig.sent_since(2), [(third, "digest")]);
    rig.answer(nodes[1].0, found(5));
    assert_eq!(value(&rig), Some(text(5)));
}

#[test]
fn another_owner_is_asked_at_once_for_one_that_cannot_be_reached() {
    let mut rig = get(Level::Quorum);
    let (nodes, third) = (asked(&rig), third(&rig));
    rig.respond(nodes[0].0, 1, Err(not_sent()));
    assert_eq!(rig.sent_since(2), [(third, "read")]);
    rig.answer(third, found(5));
    rig.answer(nodes[1].0, found(5));
    assert_eq!(value(&rig), Some(text(5)));
}

#[test]
fn a_new_view_starts_it_over_and_counts_no_earlier_answer() {
    let mut rig = get(Level::Quorum);
    let nodes = asked(&rig);
    rig.answer(nodes[0].0, found(9));
    rig.respond(nodes[1].0, 2, Ok(refusal(RefusalKind::StaleEpoch)));
    assert_eq!(rig.wanted, Some(2));
    rig.view(&view(2));
    let again: Vec<_> = rig
        .sent
        .iter()
        .filter(|send| send.epoch == 2)
        .cloned()
        .collect();
    assert_eq!(again.len(), 2);
    for send in again {
        assert_eq!(rig.done, None, "answers of the new epoch only");
        rig.respond(send.node.0, 2, Ok(found(3)));
    }
    assert_eq!(value(&rig), Some(text(3)));
}

#[test]
fn a_read_of_one_owner_returns_at_once_and_looks_at_the_others_when_sampled() {
    let mut core = core();
    core.check_one_in = 1;
    let mut rig = read_by(core, Level::One, false);
    let first = asked(&rig)[0];
    rig.answer(first.0, found(3));
    assert_eq!(value(&rig), Some(text(3)), "whatever the others have");
    let others: Vec<_> = (1..=3).filter(|node| *node != first.0).collect();
    assert_eq!(
        rig.sent_since(1),
        [(others[0], "head"), (others[1], "head")]
    );
    rig.answer(others[0], head(9));
    rig.answer(others[1], refusal(RefusalKind::Damaged));
    assert_eq!(
        rig.sent_since(3),
        [(others[0], "read")],
        "those that answered are enough"
    );
    rig.answer(others[0], found(9));
    assert_eq!(rig.sent_since(4), [(first.0, "repair")]);
    rig.answer(first.0, WRITTEN);
    assert!(rig.machine.is_finished());
}

#[test]
fn an_expired_value_is_not_shown_and_spreads_like_any_other() {
    let (over, alive) = (WALL_MS - 1, WALL_MS + 500);
    for (expires_at_ms, live) in [(over, false), (alive, true)] {
        let mut rig = get(Level::Quorum);
        let nodes = asked(&rig);
        rig.answer(nodes[0].0, Answer::Found(record(0, Some(expires_at_ms))));
        rig.answer(nodes[1].0, ABSENT);
        assert_eq!(rig.sent_since(2), [(nodes[1].0, "repair")]);
        rig.answer(nodes[1].0, WRITTEN);
        assert_eq!(value(&rig).map(|value| value.is_some()), Some(live));
    }
}

#[test]
fn a_cancelled_read_sends_nothing_and_says_nothing() {
    let mut rig = get(Level::Quorum);
    let nodes = asked(&rig);
    rig.machine.cancel();
    rig.respond(nodes[0].0, 1, Err(unanswered()));
    rig.pass(2 * TIMEOUT_MS);
    assert_eq!((rig.sent.len(), rig.done.is_none()), (2, true));
    assert!(rig.machine.is_finished());
}

/// Answers all that is asked of a node; the others cannot be reached.
fn only(rig: &mut Rig<ReadOperation>, there: &[u64]) {
    let mut next = 0;
    while let Some(node) = rig.sent.get(next).map(|send| send.node.0) {
        next += 1;
        match there.contains(&node) {
            true => rig.answer(node, found(5)),
            false => rig.respond(node, 1, Err(not_sent())),
        }
    }
}

#[test]
fn a_read_of_a_joint_partition_needs_both_lists() {
    for (there, enough) in [
        (&[1, 2][..], true),
        (&[2, 3, 4], true),
        (&[1, 3], false),
        (&[3, 4], false),
    ] {
        let mut rig = read_by(core_of(joint_view()), Level::Quorum, false);
        only(&mut rig, there);
        assert_eq!(rig.done.is_some(), enough, "{there:?}");
    }
}

#[test]
fn one_owner_to_be_does_not_answer_a_read_alone() {
    let mut rig = read_by(core_of(joint_view()), Level::One, false);
    only(&mut rig, &[4]);
    assert_eq!(rig.done, None);
    let asked = rig.sent_since(0);
    assert_eq!(asked, [1, 2, 3].map(|node| (node, "read")));
}

#[test]
fn a_new_view_with_the_same_owners_changes_nothing() {
    let mut rig = get(Level::Quorum);
    let nodes = asked(&rig);
    rig.answer(nodes[0].0, found(5));
    rig.view(&grown_view());
    assert_eq!(rig.sent.len(), 2);
    rig.answer(nodes[1].0, found(5));
    assert_eq!(value(&rig), Some(text(5)));
}
