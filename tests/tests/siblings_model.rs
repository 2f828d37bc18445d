//! Concurrent values of one key, every course of few operations; and rules that look right and are
//! not, each of which some course shows to be wrong.

use annulet_tests::siblings_model::Durability::{Async, Group};
use annulet_tests::siblings_model::{Act, Broken, Durability, Scenario, Source};

fn put() -> Act {
    Act::put(Source::Blind)
}

fn read_put() -> Act {
    Act::put(Source::Read)
}

fn chained(after: usize) -> Act {
    Act::put(Source::Ack(after))
}

fn delete() -> Act {
    Act::delete()
}

/// These operations, with pushes between owners.
fn of(acts: &[Act]) -> Scenario {
    Scenario {
        acts: acts.to_vec(),
        pushes: true,
        ..Scenario::default()
    }
}

fn without_pushes(scenario: Scenario) -> Scenario {
    Scenario {
        pushes: false,
        ..scenario
    }
}

fn unpushed(acts: &[Act]) -> Scenario {
    without_pushes(of(acts))
}

fn holding(scenario: Scenario) -> Scenario {
    Scenario {
        holds: true,
        ..scenario
    }
}

fn hinting(scenario: Scenario) -> Scenario {
    Scenario {
        hints: true,
        ..scenario
    }
}

fn hinted(acts: &[Act]) -> Scenario {
    hinting(of(acts))
}

fn crashing(durability: Durability, scenario: Scenario) -> Scenario {
    Scenario {
        crash: Some(durability),
        ..scenario
    }
}

fn later(acts: &[Act]) -> Scenario {
    Scenario {
        later: true,
        ..of(acts)
    }
}

fn floored(acts: &[Act]) -> Scenario {
    Scenario {
        floors: true,
        ..later(acts)
    }
}

type Cases = Vec<(&'static str, Scenario)>;

fn writes() -> Cases {
    vec![
        ("a put and another that read", of(&[put(), read_put()])),
        ("two puts, one read", of(&[put(), put(), read_put()])),
        (
            "a put and two that read",
            holding(of(&[put(), read_put(), read_put()])),
        ),
        (
            "two puts and two that read",
            unpushed(&[put(), put(), read_put(), read_put()]),
        ),
        (
            "a put, a delete, a put that read",
            holding(of(&[put(), delete(), read_put()])),
        ),
        (
            "put, delete, put",
            unpushed(&[put(), put(), delete(), read_put()]),
        ),
        ("a writer that never reads", of(&[put(), put(), chained(0)])),
    ]
}

fn retries() -> Cases {
    vec![
        (
            "a retried put and one that read",
            holding(of(&[put().times(2), read_put()])),
        ),
        ("three attempts", unpushed(&[put().times(3), read_put()])),
        (
            "a retried put and two that read",
            unpushed(&[put().times(2), read_put(), read_put()]),
        ),
        (
            "both retried",
            unpushed(&[put().times(2), read_put().times(2)]),
        ),
        (
            "a retried overwriter",
            unpushed(&[put(), read_put().times(2), read_put()]),
        ),
        (
            "a retried put and a delete",
            holding(of(&[put().times(2), delete()])),
        ),
        (
            "a retried put, a delete, a put",
            unpushed(&[put().times(2), delete(), read_put()]),
        ),
        (
            "a retried writer that never reads",
            unpushed(&[put().times(2), chained(0).times(2)]),
        ),
    ]
}

fn hints() -> Cases {
    let unpushed = without_pushes;
    let [late, retried] = [put().at_fallback(), put().times(2).at_fallback()];
    vec![
        ("minted by a fallback", hinted(&[late, read_put()])),
        (
            "by an owner and a fallback",
            unpushed(hinted(&[retried, read_put()])),
        ),
        ("two by a fallback", hinted(&[late, late])),
        (
            "an overwriter by a fallback",
            hinted(&[put(), read_put().at_fallback()]),
        ),
        (
            "both by a fallback",
            hinted(&[late, read_put().at_fallback()]),
        ),
        (
            "by a fallback, a delete, a put",
            hinted(&[late, delete(), read_put()]),
        ),
        (
            "by an owner and a fallback, a delete",
            hinted(&[retried, delete()]),
        ),
        (
            "by a fallback, and a crash",
            crashing(Async, hinted(&[late, read_put()])),
        ),
    ]
}

fn crashes() -> Cases {
    let retried = put().times(2);
    vec![
        ("async", crashing(Async, of(&[put(), read_put()]))),
        (
            "async, retried",
            crashing(Async, of(&[retried, read_put()])),
        ),
        (
            "async, two puts",
            crashing(Async, unpushed(&[put(), put(), read_put()])),
        ),
        (
            "async, a delete",
            crashing(Async, of(&[put(), delete(), put()])),
        ),
        ("group", crashing(Group, of(&[put(), read_put()]))),
        (
            "group, retried",
            crashing(Group, of(&[retried, read_put()])),
        ),
        (
            "group, two puts",
            crashing(Group, unpushed(&[put(), put(), read_put()])),
        ),
    ]
}

fn floors() -> Cases {
    let unpushed = without_pushes;
    let [late, retried] = [put().at_fallback(), put().times(2)];
    vec![
        ("a floor", holding(floored(&[put(), read_put()]))),
        ("a floor and two puts", floored(&[put(), put()])),
        ("a floor and a delete", holding(floored(&[put(), delete()]))),
        (
            "a floor, a retried put",
            unpushed(floored(&[retried, read_put()])),
        ),
        (
            "a floor, a retried put, a delete",
            unpushed(floored(&[retried, delete()])),
        ),
        (
            "a floor and hints",
            unpushed(hinting(floored(&[late, read_put()]))),
        ),
        (
            "a floor and a crash",
            unpushed(crashing(Async, floored(&[put(), read_put()]))),
        ),
        (
            "a floor, a crash, two puts",
            unpushed(crashing(Async, floored(&[put(), put()]))),
        ),
        ("forgotten", later(&[retried, read_put()])),
        ("forgotten, with hints", hinting(later(&[late, read_put()]))),
    ]
}

fn try_all(cases: Cases) {
    for (name, scenario) in cases {
        match scenario.check(None) {
            Ok(tried) => {
                println!("{name}: {tried:?}");
                assert!(
                    tried.states > 1 && tried.acknowledged > 0,
                    "{name}: {tried:?}"
                );
            }
            Err(why) => panic!("{name}: {why}"),
        }
    }
}

#[test]
fn no_course_of_writes_breaks_a_rule() {
    try_all(writes());
}

#[test]
fn no_course_of_retries_breaks_a_rule() {
    try_all(retries());
}

#[test]
fn no_course_of_hints_breaks_a_rule() {
    try_all(hints());
}

#[test]
fn no_course_of_crashes_breaks_a_rule() {
    try_all(crashes());
}

#[test]
fn no_course_of_floors_breaks_a_rule() {
    try_all(floors());
}

/// A scenario must show that the rule is broken, in this way.
fn assert_noticed(broken: Broken, scenario: &Scenario, how: &str) {
    match scenario.check(Some(broken)) {
        Ok(tried) => panic!("{broken:?} is not noticed: {tried:?}"),
        Err(why) => {
            println!("{broken:?}: {why}");
            assert!(why.contains(how), "{broken:?} is noticed by something else");
        }
    }
}

#[test]
fn an_actor_that_outlives_a_crash_is_noticed() {
    let scenario = crashing(Async, of(&[put(), read_put()]));
    assert_noticed(Broken::IncarnationKept, &scenario, "lost");
}

#[test]
fn a_fallback_that_stays_one_actor_is_noticed() {
    let late = put().at_fallback();
    assert_noticed(Broken::TenureKept, &hinted(&[late, late]), "lost");
}

#[test]
fn records_that_do_not_travel_whole_are_noticed() {
    assert_noticed(Broken::DottedAlone, &of(&[put(), read_put()]), "lost");
}

#[test]
fn a_retry_under_another_op_id_is_noticed() {
    let scenario = of(&[put().times(2), read_put()]);
    assert_noticed(Broken::RetriedAsAnother, &scenario, "alive");
}

#[test]
fn op_ids_forgotten_too_early_are_noticed() {
    let scenario = of(&[put().times(2), read_put()]);
    assert_noticed(Broken::PastForgotten, &scenario, "alive");
}

#[test]
fn a_context_that_hides_siblings_is_noticed() {
    let scenario = of(&[put(), put(), chained(0)]);
    assert_noticed(Broken::SiblingsHidden, &scenario, "lost");
}

#[test]
fn a_retry_answered_before_the_sync_is_noticed() {
    let scenario = crashing(Group, of(&[put().times(2), read_put()]));
    assert_noticed(Broken::KnownUnsynced, &scenario, "not shown");
}

#[test]
fn an_owner_that_counts_before_it_has_compared_is_noticed() {
    let scenario = crashing(Async, of(&[put(), read_put()]));
    assert_noticed(Broken::NotCompared, &scenario, "not shown");
}

#[test]
fn a_dot_below_the_floor_is_noticed() {
    let scenario = floored(&[put(), put()]);
    assert_noticed(Broken::MintedBelowFloor, &scenario, "lost");
}

#[test]
fn a_floor_without_proof_is_noticed() {
    assert_noticed(Broken::Unproved, &floored(&[put(), put()]), "lost");
}

#[test]
fn old_values_taken_after_closing_are_noticed() {
    let scenario = hinting(floored(&[put().at_fallback(), put()]));
    assert_noticed(Broken::LateTaken, &scenario, "lost");
}

#[test]
fn what_is_gathered_before_all_have_closed_is_noticed() {
    let scenario = hinting(floored(&[put().at_fallback(), put()]));
    assert_noticed(Broken::GatheredEarly, &scenario, "lost");
}

#[test]
fn a_proof_from_what_is_not_synced_is_noticed() {
    let scenario = crashing(Async, floored(&[put(), put()]));
    assert_noticed(Broken::GatheredUnsynced, &scenario, "lost");
}

#[test]
fn an_absent_record_without_its_floor_is_noticed() {
    let scenario = holding(floored(&[put(), delete()]));
    assert_noticed(Broken::AbsentUnfloored, &scenario, "alive");
}

#[test]
fn what_was_set_aside_and_is_merged_is_noticed() {
    let scenario = hinting(floored(&[put().at_fallback(), read_put()]));
    assert_noticed(Broken::AsideMerged, &scenario, "lost");
}

#[test]
fn old_values_kept_by_a_fallback_are_noticed() {
    let scenario = hinting(floored(&[put().at_fallback(), read_put()]));
    assert_noticed(Broken::LateKept, &scenario, "lost");
}

#[cfg(feature = "faults")]
#[test]
fn faults_a_base_that_does_not_travel_is_noticed() {
    let scenario = floored(&[put(), read_put()]);
    assert_noticed(
        Broken::BaseIgnored,
        &scenario,
        "owners do not come to the same",
    );
}
