//! Records left with fallbacks. In the wide view the owners are 1, 2, 3 and the fallbacks 4, 5, 6.

use super::*;

fn wide(level: Level) -> Rig<WriteOperation> {
    put_by(core_of(wide_view()), level)
}

/// The hints sent so far: to whom, for whom, whether first hand.
fn hints(rig: &Rig<WriteOperation>) -> Vec<(u64, Vec<u64>, bool)> {
    let hint = |send: &Send| match &send.operation {
        Operation::Hint(hint) => Some((
            send.node.0,
            hint.owners.iter().map(|owner| owner.0).collect(),
            hint.source == Source::FirstHand,
        )),
        _ => None,
    };
    rig.sent.iter().filter_map(hint).collect()
}

/// An owner has too much to do, and is not asked again.
fn lose(rig: &mut Rig<WriteOperation>, node: u64) {
    while rig.core.retries.spend() {}
    rig.respond(node, 1, Err(too_busy()));
}

#[test]
fn an_owner_that_cannot_be_reached_gets_the_record_from_a_fallback() {
    let mut rig = wide(Level::Quorum);
    lose(&mut rig, 3);
    assert_eq!(hints(&rig), [], "the write is not done yet");
    rig.answer(1, WRITTEN);
    rig.answer(2, WRITTEN);
    assert!(matches!(rig.done, Some(Ok(_))));
    assert_eq!(
        hints(&rig),
        [(4, vec![3], false)],
        "owners have checked the stamp"
    );
    assert!(!rig.machine.is_finished());
    rig.answer(4, WRITTEN);
    assert!(rig.machine.is_finished());
    assert_eq!(rig.core.counts.hints, 1);
}

#[test]
fn an_owner_that_does_not_answer_for_long_gets_it_too() {
    let mut rig = wide(Level::Quorum);
    rig.answer(1, WRITTEN);
    rig.answer(2, WRITTEN);
    rig.pass(KEEP_AFTER_MS - 1);
    assert_eq!(hints(&rig), []);
    rig.pass(1);
    assert_eq!(hints(&rig), [(4, vec![3], false)]);
    rig.answer(4, WRITTEN);
    assert!(!rig.machine.is_finished(), "it may still answer");
    rig.answer(3, WRITTEN);
    assert!(rig.machine.is_finished());
}

#[test]
fn refusals_that_stay_leave_no_hint() {
    for (kind, passing) in [
        (RefusalKind::SkewedClock, false),
        (RefusalKind::BadChecksum, false),
        (RefusalKind::Full, true),
        (RefusalKind::Damaged, true),
    ] {
        let mut rig = wide(Level::Quorum);
        rig.answer(1, WRITTEN);
        rig.answer(2, WRITTEN);
        rig.answer(3, refusal(kind));
        assert_eq!(!hints(&rig).is_empty(), passing, "{kind}");
    }
}

#[test]
fn a_hint_counts_at_no_other_level_than_available() {
    let mut rig = wide(Level::Quorum);
    lose(&mut rig, 2);
    lose(&mut rig, 3);
    rig.answer(1, WRITTEN);
    assert_eq!(
        failure(&rig),
        Some((ErrorKind::Overloaded, Outcome::Unknown))
    );
    assert_eq!(hints(&rig), [], "a failed write is not spread");
    assert!(rig.machine.is_finished());
}

#[test]
fn at_available_one_fallback_is_enough_and_the_owners_get_it_after() {
    let mut rig = wide(Level::Available);
    for node in 1..=3 {
        rig.respond(node, 1, Err(not_sent()));
    }
    assert_eq!(
        hints(&rig),
        [
            (4, vec![1, 2, 3], true),
            (5, vec![2], true),
            (6, vec![3], true)
        ]
    );
    assert_eq!(rig.done, None);
    rig.answer(5, WRITTEN);
    assert!(matches!(rig.done, Some(Ok(_))), "{:?}", rig.done);
}

#[test]
fn at_available_slow_owners_are_not_waited_for() {
    let mut rig = wide(Level::Available);
    rig.pass(FALL_BACK_AFTER_MS);
    assert_eq!(hints(&rig).len(), 3);
    rig.answer(2, WRITTEN);
    assert!(matches!(rig.done, Some(Ok(_))), "an owner is as good");
}

#[test]
fn the_next_fallback_is_asked_for_one_that_fails_and_one_may_keep_it_for_several() {
    let mut rig = wide(Level::Available);
    for node in 1..=3 {
        lose(&mut rig, node);
    }
    rig.answer(4, refusal(RefusalKind::Full));
    rig.respond(5, 1, Err(too_busy()));
    assert_eq!(hints(&rig).len(), 3, "nobody else is left");
    rig.answer(6, WRITTEN);
    assert!(matches!(rig.done, Some(Ok(_))));
    assert_eq!(
        hints(&rig)[3..],
        [(6, vec![1], true)],
        "one after the other"
    );
    rig.answer(6, WRITTEN);
    assert_eq!(hints(&rig)[4..], [(6, vec![2], true)]);
}

#[test]
fn in_a_small_cluster_an_owner_keeps_it_for_another() {
    let mut rig = put(Level::Quorum);
    lose(&mut rig, 3);
    rig.answer(1, WRITTEN);
    rig.answer(2, WRITTEN);
    assert_eq!(hints(&rig), [(1, vec![3], false)], "there is nobody else");
    rig.respond(1, 1, Err(too_busy()));
    assert_eq!(hints(&rig)[1..], [(2, vec![3], false)]);
    rig.answer(2, WRITTEN);
    assert!(rig.machine.is_finished());
}

#[test]
fn where_nobody_can_be_reached_an_available_write_fails_by_its_deadline() {
    let mut rig = wide(Level::Available);
    while rig.core.retries.spend() {}
    for node in 1..=6 {
        rig.respond(node, 1, Err(too_busy()));
    }
    assert_eq!(
        failure(&rig),
        Some((ErrorKind::Overloaded, Outcome::NotApplied))
    );

    let mut rig = wide(Level::Available);
    rig.pass(TIMEOUT_MS);
    assert_eq!(failure(&rig), Some((ErrorKind::Timeout, Outcome::Unknown)));
    assert!(rig.machine.is_finished());
}

#[test]
fn a_new_view_counts_no_hint_of_the_old_one() {
    let mut rig = put_by(core(), Level::Available);
    for node in 1..=3 {
        rig.respond(node, 1, Err(not_sent()));
    }
    rig.view(&view(2));
    rig.answer(4, WRITTEN);
    assert!(matches!(rig.done, Some(Ok(_))), "now it is an owner");
    assert!(hints(&rig).iter().all(|(holder, ..)| *holder == 4));
}
