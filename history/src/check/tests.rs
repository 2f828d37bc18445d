use super::*;
use crate::operation::{Answer, Condition, Outcome};
use crate::sample::{at, delete, delete_if, get, get_nothing, put, put_if};

fn good(history: &[Operation]) {
    assert_eq!(check(history, STEPS_MAX), Ok(()));
}

/// Returns what is said of it.
fn bad(history: &[Operation]) -> String {
    match check(history, STEPS_MAX) {
        Err(failure @ Failure::Violation(_)) => failure.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_happened() {
    good(&[]);
    good(&[get_nothing(0..1)]);
    bad(&[get("x", 0..1)]);
}

#[test]
fn a_read_sees_a_write_that_has_ended() {
    good(&[put("x", 0..1), get("x", 2..3)]);
    bad(&[put("x", 0..1), get_nothing(2..3)]);
    bad(&[put("x", 0..1), put("y", 2..3), get("x", 4..5)]);
    bad(&[put("x", 0..1), delete(2..3), get("x", 4..5)]);
}

#[test]
fn a_read_sees_a_concurrent_write_or_not() {
    for read in [get("x", 2..3), get("y", 2..3)] {
        good(&[put("x", 0..1), put("y", 2..4), read]);
    }
    bad(&[get("x", 0..1), put("x", 2..3)]);
}

#[test]
fn operations_that_touch_are_concurrent() {
    good(&[put("x", 0..5), get_nothing(5..6)]);
    good(&[get("x", 0..5), put("x", 5..6)]);
    bad(&[put("x", 0..5), get_nothing(6..7)]);
}

#[test]
fn a_new_value_does_not_turn_old_again() {
    let writes = [put("x", 0..1), put("y", 2..20)];
    good(&[&writes[..], &[get("x", 3..4), get("y", 5..6)]].concat());
    bad(&[&writes[..], &[get("y", 3..4), get("x", 5..6)]].concat());
    let flips = [get("x", 3..4), get("y", 5..6), get("x", 7..8)];
    bad(&[&writes[..], &flips].concat());
}

#[test]
fn two_processes_see_concurrent_writes_in_one_order() {
    let writes = [put("x", 0..20), put("y", 0..20)];
    let one = [get("x", 1..2), get("y", 3..4)];
    let other = [get("y", 1..2), get("x", 3..4)];
    good(&[&writes[..], &one].concat());
    good(&[&writes[..], &other].concat());
    bad(&[&writes[..], &one, &other].concat());
}

#[test]
fn a_write_of_unknown_outcome_takes_effect_late_or_never() {
    let lost = put("y", 2..3).unknown();
    good(&[put("x", 0..1), lost.clone(), get("x", 10..11)]);
    good(&[
        put("x", 0..1),
        lost.clone(),
        get("x", 10..11),
        get("y", 12..13),
    ]);
    let gone_again = [get("x", 10..11), get("y", 12..13), get("x", 14..15)];
    bad(&[&[put("x", 0..1), lost.clone()], &gone_again[..]].concat());
    bad(&[put("x", 0..1), get("y", 0..1), lost]);
}

#[test]
fn a_write_of_unknown_outcome_takes_effect_once() {
    let seen_twice = [get("y", 4..5), put("x", 6..7), get("y", 8..9)];
    bad(&[&[put("y", 0..1).unknown()], &seen_twice[..]].concat());
    let removed_twice = [get_nothing(4..5), put("y", 6..7), get_nothing(8..9)];
    let removed_twice = [&[put("x", 0..1)], &removed_twice[..]].concat();
    bad(&[&[delete(2..3).unknown()], &removed_twice[..]].concat());
    let deletes = [delete(2..3).unknown(), delete(2..3).unknown()];
    good(&[&deletes[..], &removed_twice].concat());
}

#[test]
fn a_write_that_was_not_applied_is_never_seen() {
    good(&[put("x", 0..1).not_applied(), get_nothing(2..3)]);
    let said = bad(&[put("x", 0..1).not_applied(), get("x", 2..3)]);
    assert!(said.contains("whose write never took effect"), "{said}");
    bad(&[
        put("x", 0..1),
        delete(2..3).not_applied(),
        get_nothing(4..5),
    ]);
    // It may be tried again with the same value.
    good(&[put("x", 0..1).not_applied(), put("x", 2..3), get("x", 4..5)]);
}

#[test]
fn two_writes_do_not_both_find_a_key_absent() {
    let first = put_if(Condition::Absent, "x", 0..10);
    let second = put_if(Condition::Absent, "y", 0..10);
    good(&[first.clone(), second.clone().not_held()]);
    bad(&[first.clone(), second.clone()]);
    good(&[first, second, delete(0..10)]);
}

#[test]
fn a_condition_holds_if_it_should() {
    good(&[
        put_if(Condition::Absent, "x", 0..1).not_held(),
        put("y", 0..1),
    ]);
    bad(&[
        put_if(Condition::Absent, "x", 0..1).not_held(),
        put("y", 2..3),
    ]);
    let write = put("x", 0..1).told("1");
    good(&[write.clone(), put_if(at("1"), "y", 2..3), get("y", 4..5)]);
    bad(&[write.clone(), put_if(at("1"), "y", 2..3).not_held()]);
    good(&[
        write.clone(),
        put("z", 1..2),
        put_if(at("1"), "y", 2..3).not_held(),
    ]);
    // The value of a condition that did not hold was not written.
    bad(&[
        write.clone(),
        put("z", 1..2),
        put_if(at("1"), "y", 2..3).not_held(),
        get("y", 4..5),
    ]);
    bad(&[write.clone(), put("z", 2..3), put_if(at("1"), "y", 4..5)]);
    bad(&[write, put_if(at("1"), "y", 2..3), get("x", 4..5)]);
}

#[test]
fn an_update_is_not_lost() {
    let history = [
        put("1", 0..1).told("v1"),
        put_if(at("v1"), "2", 2..10).told("v2"),
        put_if(at("v1"), "3", 2..10).told("v3"),
    ];
    let said = bad(&history);
    assert!(said.contains("an update was lost"), "{said}");
    good(&history[..2]);
    let [first, second, third] = history;
    good(&[first, second, third.unknown()]);
}

#[test]
fn a_delete_on_a_version_deletes_that_one() {
    let write = put("x", 0..1).told("1");
    good(&[write.clone(), delete_if("1", 2..3), get_nothing(4..5)]);
    bad(&[write.clone(), delete_if("1", 2..3), get("x", 4..5)]);
    bad(&[write.clone(), put("y", 2..3), delete_if("1", 4..5)]);
    good(&[
        write,
        put("y", 2..3),
        delete_if("1", 4..5).not_held(),
        get("y", 6..7),
    ]);
}

#[test]
fn the_version_of_a_delete_names_no_value() {
    let gone = delete(0..1).told("1");
    good(&[gone.clone(), put_if(at("1"), "x", 2..3).not_held()]);
    good(&[
        gone.clone(),
        put_if(at("1"), "x", 2..3).unknown(),
        get_nothing(4..5),
    ]);
    bad(&[
        gone.clone(),
        put_if(at("1"), "x", 2..3).unknown(),
        get("x", 4..5),
    ]);
    bad(&[gone, put_if(at("1"), "x", 2..3)]);
}

#[test]
fn a_get_tells_the_version_of_a_write_whose_answer_was_lost() {
    let lost = put("x", 0..1).unknown();
    let shown = get("x", 2..3).told("1");
    good(&[lost.clone(), shown.clone(), put_if(at("1"), "y", 4..5)]);
    bad(&[
        lost.clone(),
        shown.clone(),
        put_if(at("1"), "y", 4..5).not_held(),
    ]);
    bad(&[lost.clone(), shown.clone(), get("x", 4..5).told("2")]);
    // It had that version before it was shown.
    let before = [get("x", 2..3), put_if(at("1"), "y", 4..5).not_held()];
    bad(&[&[lost], &before[..], &[get("x", 6..7).told("1")]].concat());
}

#[test]
fn a_condition_may_show_the_version_of_a_write_whose_answer_was_lost() {
    let lost = put("x", 0..1).unknown();
    good(&[lost.clone(), put_if(at("1"), "y", 2..3), get("y", 4..5)]);
    bad(&[lost, put_if(at("1"), "y", 2..3), put_if(at("1"), "z", 4..5)]);
    // Here all are known.
    bad(&[put("x", 0..1).told("2"), put_if(at("1"), "y", 2..3)]);
}

#[test]
fn versions_tell_writes_apart() {
    bad(&[put("x", 0..1).told("1"), put("y", 2..3).told("1")]);
    bad(&[put("x", 0..1).told("1"), get("x", 2..3).told("2")]);
    good(&[put("x", 0..1).told("1"), get("x", 2..3)]);
}

#[test]
fn an_answer_of_another_kind_is_a_violation() {
    let mut odd = get("x", 2..3);
    odd.outcome = Outcome::Ok(Answer::NotHeld);
    bad(&[put("x", 0..1), odd]);
}

#[test]
fn values_that_repeat_are_not_decided() {
    let checked = check(&[put("x", 0..1), put("x", 2..3)], STEPS_MAX);
    assert!(matches!(checked, Err(Failure::Undecided(_))), "{checked:?}");
}

#[test]
fn keys_are_checked_apart_and_a_violation_counts_most() {
    let on = |key: &'static str, operation: Operation| Operation {
        key: key.into(),
        ..operation
    };
    let undecided = [on("a", put("x", 0..1)), on("a", put("x", 2..3))];
    let fine = [on("b", put("x", 0..1)), on("c", get_nothing(2..3))];
    let violation = on("d", get("x", 2..3));
    good(&fine);
    let said = bad(&[&undecided[..], &fine, &[violation]].concat());
    assert!(said.starts_with("key \"d\": "), "{said}");
}

#[test]
fn too_many_steps_are_no_proof_of_anything() {
    let history = [put("1", 0..1), put("2", 2..3), put("3", 4..5)];
    assert_eq!(check(&history, 3), Ok(()));
    let checked = check(&history, 2);
    let Err(Failure::Undecided(evidence)) = checked else {
        panic!("{checked:?}");
    };
    assert_eq!(evidence.why, "no order was found in 2 steps");
    assert_eq!(evidence.prefix, history[..2]);
    assert_eq!(evidence.unplaced, history[2..]);
}

#[test]
fn a_violation_says_how_far_it_went_and_what_is_in_the_way() {
    let history = [
        put("x", 0..1),
        get("x", 2..3),
        put("y", 4..5).told("2"),
        get("x", 6..8),
        get_nothing(7..9),
        put_if(at("9"), "z", 10..11).not_held(),
    ];
    assert_eq!(
        bad(&history),
        "key \"key\": no order of the operations explains their answers\n  \
         2 operations can be put in order, at last:\n    \
         process 1, 0..1 ns: put \"x\" -> written\n    \
         process 1, 2..3 ns: get -> \"x\"\n  \
         and then not all of these:\n    \
         process 1, 4..5 ns: put \"y\" -> written at version \"2\""
    );
}
