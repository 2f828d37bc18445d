//! One write to a key with the owners 1, 2 and 3; see [`testing`](super::super::testing).

use super::*;
use crate::core::policy::waiting::Class;
use crate::core::testing::*;
use annulet_protocol::level::Level;
use annulet_protocol::message::{Refusal, RefusalKind};

mod hints;

fn put(level: Level) -> Rig<WriteOperation> {
    put_by(core(), level)
}

fn put_by(mut core: Core, level: Level) -> Rig<WriteOperation> {
    let start = begin(&mut core, Side::Write, level);
    let origin = Origin {
        stamp: core.mint(start.hash, NOW),
        op: start.op,
    };
    let machine = WriteOperation::new(start, origin, Some("v".into()), None);
    Rig::new(core, machine.expect("a sound write"))
}

fn records(rig: &Rig<WriteOperation>) -> Vec<&Record> {
    rig.sent
        .iter()
        .filter_map(|send| match &send.operation {
            Operation::Write(write) => Some(&write.record),
            _ => None,
        })
        .collect()
}

/// The kind and the outcome of a write that failed.
fn failure(rig: &Rig<WriteOperation>) -> Option<(ErrorKind, Outcome)> {
    let error = rig.done.as_ref()?.as_ref().err()?;
    Some((error.kind(), error.outcome()?))
}

#[test]
fn a_write_is_done_when_enough_distinct_owners_took_it() {
    let explicit = Level::Explicit { read: 1, write: 3 };
    for (level, takers) in [
        (Level::One, 1),
        (Level::Quorum, 2),
        (Level::LocalQuorum, 2),
        (Level::EachQuorum, 2),
        (Level::All, 3),
        (explicit, 3),
    ] {
        let mut rig = put(level);
        assert_eq!(
            rig.sent_since(0),
            [(1, "write"), (2, "write"), (3, "write")]
        );
        for node in 1..=takers {
            assert_eq!(rig.done, None, "{level} before {node}");
            rig.answer(node, WRITTEN);
        }
        assert!(matches!(rig.done, Some(Ok(_))), "{level}: {:?}", rig.done);
        assert_eq!(
            rig.machine.is_finished(),
            takers == 3,
            "it waits for the others"
        );
    }
}

#[test]
fn a_level_above_the_number_of_owners_is_refused_at_once() {
    let mut core = core();
    let level = Level::Explicit { read: 1, write: 4 };
    let start = begin(&mut core, Side::Write, level);
    let origin = Origin {
        stamp: core.mint(start.hash, NOW),
        op: start.op,
    };
    let error = WriteOperation::new(start, origin, None, None).expect_err("only three owners");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(error.outcome(), Some(Outcome::NotApplied));
}

#[test]
fn an_owner_that_answers_twice_counts_once() {
    let mut rig = put(Level::Quorum);
    let attempt = rig.sent[0].attempt;
    for _ in 0..3 {
        rig.respond_to(1, attempt, 1, Ok(WRITTEN));
    }
    assert_eq!(rig.done, None);
    rig.answer(2, WRITTEN);
    assert!(matches!(rig.done, Some(Ok(_))));
}

#[test]
fn an_answer_to_an_earlier_attempt_comes_too_late() {
    let mut rig = put(Level::All);
    let first = rig.sent[0].attempt;
    rig.respond(1, 1, Err(unanswered()));
    rig.answer(2, WRITTEN);
    rig.answer(3, WRITTEN);
    rig.respond_to(1, first, 1, Ok(WRITTEN));
    assert_eq!(rig.done, None, "the owner is to be asked again");
    rig.pass(20);
    rig.answer(1, WRITTEN);
    assert!(matches!(rig.done, Some(Ok(_))));
}

#[test]
fn not_applied_is_said_only_when_every_message_was_refused_or_never_left() {
    let skewed = || Ok(refusal(RefusalKind::SkewedClock));
    let internal = || {
        let error = Error::new(ErrorKind::Internal, "the disk failed");
        Err(SendFailure::Rejected(error, None))
    };
    let unauthorized = || {
        let error = Error::new(ErrorKind::Unauthorized, "no");
        Err(SendFailure::Rejected(error, None))
    };
    type Responses = [Response; 3];
    let cases: [(&str, Responses, ErrorKind, Outcome); 7] = [
        (
            "all refused",
            [skewed(), skewed(), skewed()],
            ErrorKind::Unavailable,
            Outcome::NotApplied,
        ),
        (
            "one took it",
            [Ok(WRITTEN), skewed(), skewed()],
            ErrorKind::Unavailable,
            Outcome::Unknown,
        ),
        (
            "one did not answer",
            [Err(unanswered()), skewed(), skewed()],
            ErrorKind::Unavailable,
            Outcome::Unknown,
        ),
        (
            "one could not be reached",
            [Err(not_sent()), skewed(), skewed()],
            ErrorKind::Unavailable,
            Outcome::NotApplied,
        ),
        (
            "all rejected unread",
            [unauthorized(), unauthorized(), unauthorized()],
            ErrorKind::Unauthorized,
            Outcome::NotApplied,
        ),
        (
            "one failed inside",
            [internal(), skewed(), skewed()],
            ErrorKind::Unavailable,
            Outcome::Unknown,
        ),
        (
            "one said something unknown",
            [Ok(Answer::Unknown), skewed(), skewed()],
            ErrorKind::Unavailable,
            Outcome::Unknown,
        ),
    ];
    for (name, responses, kind, outcome) in cases {
        let mut rig = put(Level::Quorum);
        for (node, response) in (1..).zip(responses) {
            rig.respond(node, 1, response);
        }
        assert_eq!(failure(&rig), Some((kind, outcome)), "{name}");
    }
}

#[test]
fn nothing_is_sent_after_a_write_has_failed() {
    let mut rig = put(Level::Quorum);
    let later = Refusal {
        retry_after_ms: Some(20),
        ..Refusal::new(RefusalKind::Overloaded, "busy")
    };
    rig.answer(1, Answer::Refused(later));
    rig.answer(2, refusal(RefusalKind::SkewedClock));
    rig.answer(3, refusal(RefusalKind::SkewedClock));
    let said = Some((ErrorKind::Unavailable, Outcome::NotApplied));
    assert_eq!(failure(&rig), said);
    rig.pass(2 * TIMEOUT_MS);
    rig.view(&view(2));
    assert_eq!(rig.sent.len(), 3, "what was said of the outcome stays true");
    assert!(rig.machine.is_finished());
}

#[test]
fn the_deadline_ends_a_write_to_the_millisecond() {
    let mut rig = put(Level::Quorum);
    rig.answer(1, WRITTEN);
    rig.pass(TIMEOUT_MS - 1);
    assert_eq!(rig.done, None);
    rig.pass(1);
    assert_eq!(failure(&rig), Some((ErrorKind::Timeout, Outcome::Unknown)));
    assert!(rig.machine.is_finished());
}

#[test]
fn an_overloaded_owner_is_asked_again_when_it_said_so_and_the_budget_allows() {
    let overloaded = || {
        let later = Refusal {
            retry_after_ms: Some(200),
            ..Refusal::new(RefusalKind::Overloaded, "busy")
        };
        Answer::Refused(later)
    };
    let mut rig = put(Level::All);
    rig.answer(1, overloaded());
    rig.pass(199);
    assert_eq!(rig.sent.len(), 3);
    rig.pass(1);
    assert_eq!(rig.sent_since(3), [(1, "write")]);

    let mut rig = put(Level::All);
    while rig.core.retries.spend() {}
    rig.answer(1, overloaded());
    rig.answer(2, WRITTEN);
    rig.answer(3, WRITTEN);
    let said = Some((ErrorKind::Overloaded, Outcome::Unknown));
    assert_eq!(failure(&rig), said, "no retry is left");
}

#[test]
fn a_new_view_starts_it_over_with_the_same_record_and_counts_no_earlier_answer() {
    let mut rig = put(Level::Quorum);
    rig.answer(1, WRITTEN);
    let old = rig.sent[1].attempt;
    rig.respond(3, 2, Ok(refusal(RefusalKind::StaleEpoch)));
    assert_eq!(rig.wanted, Some(2));
    let before = rig.sent.len();
    rig.view(&view(2));
    assert_eq!(
        rig.sent_since(before),
        [(1, "write"), (2, "write"), (4, "write")]
    );
    let sent = records(&rig);
    assert!(
        sent.iter().all(|record| *record == sent[0]),
        "one op id, one stamp"
    );
    rig.respond_to(2, old, 1, Ok(WRITTEN));
    rig.respond(4, 2, Ok(WRITTEN));
    assert_eq!(rig.done, None, "one answer of this epoch");
    rig.respond(2, 2, Ok(WRITTEN));
    assert!(matches!(rig.done, Some(Ok(_))));
}

#[test]
fn a_refusal_by_a_server_that_knows_no_newer_view_is_final() {
    let mut rig = put(Level::All);
    rig.answer(1, refusal(RefusalKind::NotOwner));
    rig.answer(2, WRITTEN);
    rig.answer(3, WRITTEN);
    assert_eq!((rig.wanted, failure(&rig).is_some()), (None, true));
}

#[test]
fn a_write_to_a_bucket_that_was_deleted_meanwhile_fails() {
    let mut rig = put(Level::Quorum);
    rig.respond(1, 2, Ok(refusal(RefusalKind::UnknownBucket)));
    rig.view(&view_without_bucket());
    let said = Some((ErrorKind::InvalidInput, Outcome::Unknown));
    assert_eq!(failure(&rig), said, "two messages were under way");
    rig.pass(2 * TIMEOUT_MS);
    assert_eq!(rig.sent.len(), 3);
}

#[test]
fn after_the_result_it_goes_on_for_the_other_owners_until_the_deadline() {
    let mut rig = put(Level::One);
    rig.answer(1, WRITTEN);
    rig.respond(2, 1, Err(unanswered()));
    rig.pass(20);
    assert_eq!(rig.sent_since(3), [(2, "write")]);
    assert!(!rig.machine.is_finished());
    rig.pass(TIMEOUT_MS);
    assert!(rig.machine.is_finished(), "the deadline ends that too");
}

#[test]
fn a_newer_version_at_an_owner_is_told_and_moves_the_clock() {
    let mut rig = put(Level::Quorum);
    let newer = record(300, None).head.version;
    let superseded = Some(newer);
    rig.answer(1, Answer::Written(Written { superseded }));
    rig.answer(2, WRITTEN);
    let done = rig.done.clone().expect("a result").expect("a success");
    assert_eq!(done.superseded, Some(newer));
    let hash = rig.core.view().hash(BUCKET, KEY);
    assert!(rig.core.mint(hash, rig.now) > newer.stamp);
}

#[test]
fn a_cancelled_write_sends_nothing_and_says_nothing() {
    let mut rig = put(Level::Quorum);
    rig.machine.cancel();
    rig.respond(1, 1, Err(unanswered()));
    rig.answer(2, WRITTEN);
    rig.pass(2 * TIMEOUT_MS);
    assert_eq!((rig.sent.len(), rig.done.is_none()), (3, true));
    assert!(rig.machine.is_finished());
}

#[test]
fn what_was_not_sent_is_sent_again_although_no_retry_is_left() {
    for (failure, again) in [(not_sent(), true), (too_busy(), false)] {
        let mut rig = put(Level::All);
        while rig.core.retries.spend() {}
        rig.answer(1, WRITTEN);
        rig.answer(2, WRITTEN);
        let before = rig.sent.len();
        rig.respond(3, 1, Err(failure.clone()));
        rig.pass(10);
        assert_eq!(rig.sent.len() > before, again, "{failure:?}");
        assert_eq!(rig.done.is_none(), again, "{failure:?}");
    }
}

#[test]
fn a_change_of_the_ring_costs_no_retry() {
    let mut rig = put(Level::All);
    while rig.core.retries.spend() {}
    for node in 1..=3 {
        rig.respond(node, 2, Ok(refusal(RefusalKind::StaleEpoch)));
    }
    assert_eq!((rig.wanted, rig.done.is_none()), (Some(2), true));
    rig.view(&view(2));
    assert_eq!(rig.sent_since(3).len(), 3, "all owners under the new view");
    for node in [1, 2, 4] {
        rig.respond(node, 2, Ok(WRITTEN));
    }
    assert!(matches!(rig.done, Some(Ok(_))));
}

#[test]
fn what_would_be_too_late_is_not_begun() {
    let crowded = |nodes: &[u64], waits_ms| {
        let mut core = core();
        for node in nodes {
            core.peers
                .note_waiting(NodeId(*node), Class::Write, waits_ms, NOW.mono_ms);
        }
        put_by(core, Level::Quorum)
    };
    let rig = crowded(&[1, 2], TIMEOUT_MS / 2 + 1);
    assert_eq!(rig.sent, []);
    assert_eq!(
        failure(&rig),
        Some((ErrorKind::Overloaded, Outcome::NotApplied))
    );
    assert!(rig.machine.is_finished());
    for rig in [crowded(&[1], TIMEOUT_MS), crowded(&[1, 2], TIMEOUT_MS / 2)] {
        assert_eq!(rig.sent.len(), 3, "enough owners are left");
    }
}

#[test]
fn a_write_of_a_joint_partition_is_done_by_both_lists() {
    let mut rig = put_by(core_of(joint_view()), Level::Quorum);
    let sent = rig.sent_since(0);
    assert_eq!(sent, [1, 2, 3, 4].map(|node| (node, "write")));
    rig.answer(3, WRITTEN);
    rig.answer(1, WRITTEN);
    assert_eq!(rig.done, None, "one of the list to be");
    rig.answer(4, WRITTEN);
    assert!(matches!(rig.done, Some(Ok(_))));
    assert!(!rig.machine.is_finished(), "it goes on to the last owner");
}

#[test]
fn a_new_view_with_the_same_owners_changes_nothing() {
    let mut rig = put(Level::Quorum);
    rig.answer(1, WRITTEN);
    rig.view(&grown_view());
    assert_eq!(rig.sent.len(), 3);
    rig.answer(2, WRITTEN);
    assert!(matches!(rig.done, Some(Ok(_))));
    // Somebody asked for it: then nobody is waited for who only had to see it.
    let mut rig = put(Level::Quorum);
    rig.respond(1, 2, Ok(refusal(RefusalKind::StaleEpoch)));
    rig.view(&grown_view());
    assert_eq!(rig.sent.len(), 6);
}
