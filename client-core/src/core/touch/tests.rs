//! One touch of a key with the owners 1, 2 and 3; see [`testing`](super::super::testing).

use super::*;
use crate::core::testing::*;
use crate::error::ErrorKind;
use annulet_protocol::level::Level;
use annulet_protocol::message::{Absent, Answer, Lacking, Operation, RefusalKind, Written};
use annulet_protocol::record::Record;

const UNTIL_MS: u64 = WALL_MS + 60_000;
const LACKING: Answer = Answer::Lacking(Lacking {});

fn touch() -> Rig<TouchOperation> {
    let mut core = core();
    let writing = begin(&mut core, Side::Write, Level::Quorum);
    let machine = TouchOperation::touch(writing.reading(), writing, Some(UNTIL_MS));
    Rig::new(core, machine.expect("a sound touch"))
}

/// The record that is touched.
fn session() -> Record {
    record(5, Some(WALL_MS + 500))
}

/// A touch whose first part found the session at two owners.
fn found() -> Rig<TouchOperation> {
    let mut rig = touch();
    for at in 0..2 {
        let node = rig.sent[at].node.0;
        rig.answer(node, Answer::FoundHead(session().head));
    }
    rig
}

fn touches(rig: &Rig<TouchOperation>) -> Vec<(u64, &'static str)> {
    rig.sent_since(2)
}

#[test]
fn the_version_that_was_read_gets_the_expiry_at_all_owners() {
    let mut rig = found();
    assert_eq!(touches(&rig), [(1, "touch"), (2, "touch"), (3, "touch")]);
    let Operation::Touch(sent) = &rig.sent[2].operation else {
        panic!("a touch was sent");
    };
    assert_eq!(sent.version, session().head.version);
    assert_eq!(sent.expiry.at_ms, UNTIL_MS);
    assert_eq!(sent.expiry.verify(BUCKET, KEY, &sent.version), Ok(()));
    assert_eq!(rig.machine.expiry(), Some(sent.expiry));
    rig.answer(1, WRITTEN);
    assert_eq!(rig.done, None);
    rig.answer(2, WRITTEN);
    let done = TouchDone {
        touched: Some(session().head.version),
        superseded: None,
        seen: Some(session().head.version),
    };
    assert_eq!(rig.done, Some(Ok(done)));
    assert!(!rig.machine.is_finished());
    rig.answer(3, WRITTEN);
    assert!(rig.machine.is_finished());
}

#[test]
fn what_is_not_there_or_has_expired_is_not_touched() {
    let absent = Answer::Absent(Absent::default());
    let expired = Answer::FoundHead(record(5, Some(WALL_MS - 1)).head);
    for answer in [absent, expired] {
        let mut rig = touch();
        for at in 0..2 {
            let node = rig.sent[at].node.0;
            rig.answer(node, answer.clone());
        }
        let done = rig.done.clone().expect("a result").expect("a success");
        assert_eq!(done.touched, None);
        assert_eq!(rig.sent.len(), 2);
        assert!(rig.machine.is_finished());
    }
}

#[test]
fn a_touch_in_a_session_finds_what_its_session_has_written() {
    let mut core = core();
    let writing = begin(&mut core, Side::Write, Level::One);
    let machine = TouchOperation::touch(writing.reading(), writing, Some(UNTIL_MS));
    let machine = machine.expect("a sound touch");
    let written = Known::Version(session().head.version);
    let mut rig = Rig::new(core, machine.at_least(written));
    let behind = rig.sent[0].node.0;
    rig.answer(behind, Answer::Absent(Absent::default()));
    assert_eq!(rig.done, None, "that owner is behind");
    let others: Vec<_> = rig.sent_since(1);
    assert_eq!(others.len(), 2, "so the others are asked: {others:?}");
    rig.answer(others[0].0, Answer::FoundHead(session().head));
    // The owner that is behind is brought the record, too.
    rig.answer(others[0].0, Answer::Found(session()));
    rig.answer(others[0].0, WRITTEN);
    let done = rig.done.clone().expect("a result").expect("a success");
    assert_eq!(done.touched, Some(session().head.version));
}

#[test]
fn a_touch_says_what_it_has_found_in_place_of_a_value() {
    let mut rig = touch();
    let expired = record(5, Some(WALL_MS - 1)).head;
    for at in 0..2 {
        let node = rig.sent[at].node.0;
        rig.answer(node, Answer::FoundHead(expired));
    }
    let done = rig.done.clone().expect("a result").expect("a success");
    assert_eq!((done.touched, done.seen), (None, Some(expired.version)));
}

#[test]
fn a_newer_version_at_an_owner_is_told() {
    let mut rig = found();
    let newer = record(9, None).head.version;
    let superseded = Some(newer);
    rig.answer(1, Answer::Written(Written { superseded }));
    rig.answer(2, WRITTEN);
    let done = rig.done.clone().expect("a result").expect("a success");
    assert_eq!(done.superseded, Some(newer));
}

#[test]
fn an_owner_that_lacks_the_version_is_brought_the_record_with_the_expiry() {
    let mut rig = found();
    rig.answer(1, LACKING);
    assert_eq!(rig.sent.len(), 5, "nobody is known to have it");
    rig.answer(2, WRITTEN);
    assert_eq!(rig.sent_since(5), [(2, "read")]);
    rig.answer(2, Answer::Found(session()));
    assert_eq!(rig.sent_since(6), [(1, "repair")]);
    let Operation::Write(brought) = &rig.sent[6].operation else {
        panic!("the record was brought");
    };
    assert_eq!(brought.record.head.expiry, rig.machine.expiry());
    assert_eq!(brought.record.verify(BUCKET, KEY), Ok(()));
    rig.answer(1, WRITTEN);
    assert!(matches!(rig.done, Some(Ok(_))));
    rig.answer(3, WRITTEN);
    assert!(rig.machine.is_finished());
}

#[test]
fn another_owner_is_asked_for_a_record_that_one_does_not_send() {
    let mut rig = found();
    rig.answer(1, LACKING);
    rig.answer(2, WRITTEN);
    rig.answer(2, refusal(RefusalKind::Damaged));
    rig.answer(3, WRITTEN);
    assert!(matches!(rig.done, Some(Ok(_))));
    assert_eq!(rig.sent_since(6), [(3, "read")]);
    rig.answer(3, Answer::Found(session()));
    assert_eq!(rig.sent_since(7), [(1, "repair")]);
}

#[test]
fn a_version_that_no_owner_has_any_more_fails_at_once() {
    let mut rig = found();
    for node in 1..=3 {
        rig.answer(node, LACKING);
    }
    let error = rig.done.clone().expect("a result").expect_err("a failure");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.outcome(), Some(Outcome::NotApplied));
    assert!(rig.machine.is_finished());
}

#[test]
fn what_became_of_it_is_said() {
    let mut rig = touch();
    rig.pass(TIMEOUT_MS);
    let error = rig.done.clone().expect("a result").expect_err("a failure");
    assert_eq!(
        error.outcome(),
        Some(Outcome::NotApplied),
        "nothing was sent but reads"
    );
    let mut rig = found();
    rig.answer(1, WRITTEN);
    rig.pass(TIMEOUT_MS);
    let error = rig.done.clone().expect("a result").expect_err("a failure");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(error.outcome(), Some(Outcome::Unknown));
}

#[test]
fn a_new_view_starts_the_part_under_way_over() {
    let mut rig = found();
    rig.respond(1, 2, Ok(refusal(RefusalKind::StaleEpoch)));
    assert_eq!(rig.wanted, Some(2));
    rig.view(&view(2));
    assert_eq!(
        rig.sent_since(5),
        [(1, "touch"), (2, "touch"), (4, "touch")]
    );
    for node in [2, 4] {
        assert_eq!(rig.done, None);
        rig.respond(node, 2, Ok(WRITTEN));
    }
    assert!(matches!(rig.done, Some(Ok(_))));

    let mut rig = touch();
    rig.view(&view(2));
    let again: Vec<_> = rig.sent[2..].iter().map(|send| send.node.0).collect();
    for node in again {
        rig.respond(node, 2, Ok(Answer::FoundHead(session().head)));
    }
    let touched = rig
        .sent
        .iter()
        .filter(|send| matches!(send.operation, Operation::Touch(_)));
    assert!(touched.clone().count() == 3 && touched.clone().all(|send| send.epoch == 2));
}

#[test]
fn a_cancelled_touch_sends_nothing_more() {
    let mut rig = found();
    rig.machine.cancel();
    rig.answer(1, LACKING);
    rig.pass(TIMEOUT_MS);
    assert_eq!((rig.sent.len(), rig.done.is_none()), (5, true));
    assert!(rig.machine.is_finished());
}
