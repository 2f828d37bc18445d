//! Reads at level `available`. In the wide view the owners are 1, 2, 3 and the fallbacks 4, 5, 6.

use super::*;

fn wide() -> Rig<ReadOperation> {
    read_by(core_of(wide_view()), Level::Available, false)
}

/// Every owner fails, and whoever is asked in its place is asked.
fn without_owners() -> Rig<ReadOperation> {
    let mut rig = wide();
    while rig.core.retries.spend() {}
    for _ in 1..=3 {
        let last = rig.sent.iter().rev().find(|send| send.node.0 <= 3).unwrap();
        rig.respond(last.node.0, 1, Err(too_busy()));
    }
    rig
}

#[test]
fn one_owner_is_enough() {
    let mut rig = wide();
    let first = asked(&rig);
    assert_eq!(first.len(), 1);
    assert!(first[0].0 <= 3);
    rig.answer(first[0].0, found(5));
    assert_eq!(value(&rig), Some(text(5)));
    assert!(rig.machine.is_finished());
}

#[test]
fn for_an_owner_that_does_not_answer_a_fallback_is_asked_too() {
    let mut rig = wide();
    let first = asked(&rig)[0];
    rig.respond(first.0, 1, Err(not_sent()));
    let more = rig.sent_since(1);
    assert_eq!(more.len(), 2, "{more:?}");
    assert_eq!(more[1], (4, "hinted"));
    let other = more[0].0;
    rig.answer(other, found(3));
    assert_eq!(rig.done, None, "the fallback may have something newer");
    rig.answer(4, found(9));
    assert_eq!(value(&rig), Some(text(9)));
    assert_eq!(
        rig.sent_since(3),
        [(other, "repair")],
        "and it goes to the owners"
    );
    rig.answer(other, WRITTEN);
    assert!(rig.machine.is_finished());
}

#[test]
fn without_owners_the_fallbacks_answer() {
    let mut rig = without_owners();
    let fallbacks = [(4, "hinted"), (5, "hinted"), (6, "hinted")];
    assert_eq!(rig.sent_since(0)[3..], fallbacks);
    rig.answer(4, ABSENT);
    rig.answer(5, found(5));
    assert_eq!(rig.done, None);
    rig.answer(6, ABSENT);
    assert_eq!(value(&rig), Some(text(5)));
    assert!(rig.machine.is_finished(), "no fallback is repaired");

    let mut rig = without_owners();
    for node in 4..=6 {
        rig.answer(node, ABSENT);
    }
    assert_eq!(value(&rig), Some(None));
}

#[test]
fn one_fallback_is_enough_where_the_others_cannot_be_reached() {
    let mut rig = without_owners();
    rig.respond(4, 1, Err(too_busy()));
    rig.answer(6, found(5));
    rig.respond(5, 1, Err(too_busy()));
    assert_eq!(value(&rig), Some(text(5)));
}

#[test]
fn where_nobody_answers_it_fails() {
    let mut rig = without_owners();
    for node in 4..=6 {
        rig.respond(node, 1, Err(too_busy()));
    }
    assert_eq!(error(&rig), Some(ErrorKind::Overloaded));

    let mut rig = wide();
    rig.pass(TIMEOUT_MS);
    assert_eq!(error(&rig), Some(ErrorKind::Timeout));
}

#[test]
fn owners_that_do_not_answer_in_time_are_taken_for_missing() {
    let mut rig = wide();
    rig.pass(3 * SLOW_MS);
    let asked = rig.sent_since(0);
    assert!(asked.len() >= 5, "{asked:?}");
    assert!(asked.contains(&(4, "hinted")));
}
