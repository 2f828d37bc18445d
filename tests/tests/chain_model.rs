//! The keepers' chain, every course of few proposals and recoveries; and rules that look right and
//! are not, each of which some course shows to be wrong.

use annulet_tests::chain_model::{Broken, Scenario};

const TWO_DECIDED: &str = "two records were decided";
const TOO_FEW: &str = "a server acts under an epoch that too few";
const STUCK: &str = "a majority of the keepers is alive";
const LEFT_SILENTLY: &str = "a server left an epoch";
const UNDONE: &str = "a server that was alive holds what";
const APART: &str = "two servers go on";

/// One keeper hands over to another one, or does not.
fn handed_over() -> Scenario {
    Scenario::new("A")
        .propose('A', 0, "B")
        .propose('B', 0, "A")
        .propose('B', 1, "B")
        .propose('A', 2, "B")
}

/// One keeper becomes three, of which one is replaced.
fn grown() -> Scenario {
    Scenario::new("A")
        .propose('D', 0, "ABC")
        .propose('A', 0, "A")
        .propose('B', 1, "BCD")
        .propose('A', 2, "ABC")
}

/// One of three keepers is replaced.
fn replaced() -> Scenario {
    Scenario::new("ABC")
        .propose('D', 0, "ABD")
        .propose('A', 0, "ABC")
        .propose('B', 1, "ABD")
        .propose('A', 2, "BCD")
}

/// All but one of three keepers are replaced.
fn mostly_replaced() -> Scenario {
    Scenario::new("ABC")
        .propose('D', 0, "CDE")
        .propose('A', 0, "ABC")
        .propose('C', 1, "CDE")
}

/// Three proposals at once.
fn contended() -> Scenario {
    Scenario::new("ABC")
        .propose('A', 0, "ABC")
        .propose('B', 0, "ABC")
        .propose('C', 0, "ABC")
}

/// The only keeper is lost after it has handed over, or before.
fn one_keeper() -> Scenario {
    Scenario::new("A").propose('C', 0, "B").propose('A', 0, "A")
}

/// A majority of three keepers is lost.
fn three_keepers() -> Scenario {
    Scenario::new("ABC")
        .propose('D', 0, "ABC")
        .propose('A', 0, "ABC")
}

#[track_caller]
fn holds(scenario: &Scenario) {
    match scenario.check(None) {
        Ok(tried) => {
            eprintln!("{tried:?}");
            assert!(tried.completed > 0, "nothing was tried to its end");
        }
        Err(why) => panic!("{why}"),
    }
}

#[track_caller]
fn noticed(broken: Broken, scenario: &Scenario, rule: &str) {
    match scenario.check(Some(broken)) {
        Ok(tried) => panic!("not noticed: {tried:?}"),
        Err(why) => {
            let steps = why.lines().count() - 1;
            let first = why.lines().next().unwrap_or_default();
            assert!(why.starts_with(rule), "{why}");
            eprintln!("{broken:?}: noticed after {steps} steps: {first}");
        }
    }
}

#[test]
fn one_record_is_decided_to_follow_an_epoch() {
    holds(&handed_over().deaths(1));
    holds(&contended());
    holds(&grown().deaths(2));
    holds(&mostly_replaced());
    let deadly = Scenario::new("ABC")
        .propose('D', 0, "CDE")
        .propose('C', 1, "CDE");
    holds(&deadly.deaths(1));
}

#[test]
fn another_can_be_decided_whoever_dies() {
    holds(&replaced().deaths(1));
}

#[test]
fn a_recovery_undoes_nothing_that_the_living_hold() {
    holds(&one_keeper().recoveries(1).deaths(2).returning());
    holds(&three_keepers().recoveries(1).deaths(1));
    let one = Scenario::new("ABC").propose('A', 0, "ABC");
    holds(&one.recoveries(1).deaths(2).returning());
}

#[test]
fn two_recoveries_at_once_end_with_one_chain() {
    holds(&one_keeper().recoveries(2).deaths(1).returning());
}

#[test]
fn nobody_leaves_its_chain_silently_where_recoveries_ask_a_few() {
    holds(&one_keeper().recoveries(1).deaths(1).partial().returning());
    holds(&one_keeper().recoveries(2).deaths(1).partial());
}

#[test]
fn weaker_votes_are_noticed() {
    noticed(Broken::VotesForgotten, &handed_over(), TWO_DECIDED);
    noticed(Broken::VotesForgotten, &replaced().deaths(1), TWO_DECIDED);
    noticed(Broken::OneDecides, &contended(), TWO_DECIDED);
    noticed(Broken::OneDecides, &mostly_replaced(), TWO_DECIDED);
    noticed(Broken::OwnRecordKept, &handed_over(), TWO_DECIDED);
    noticed(Broken::OwnRecordKept, &contended(), TWO_DECIDED);
}

#[test]
fn keepers_that_go_or_are_trusted_early_are_noticed() {
    for scenario in [handed_over(), mostly_replaced(), replaced().deaths(1)] {
        noticed(Broken::LeftEarly, &scenario, STUCK);
    }
    // The next keepers are dead when they are chosen.
    noticed(Broken::NoReceipts, &handed_over().deaths(1), STUCK);
    noticed(Broken::NoReceipts, &grown().deaths(2), STUCK);
    noticed(Broken::NoReceipts, &replaced().deaths(2), STUCK);
    // That it is done, then what follows from it.
    noticed(Broken::ActedEarly, &handed_over(), TOO_FEW);
    noticed(Broken::ActedEarly, &contended(), TOO_FEW);
    noticed(Broken::ActedEarly, &handed_over().deaths(1), STUCK);
    noticed(Broken::ActedEarly, &replaced().deaths(1), STUCK);
}

#[test]
fn weaker_recoveries_are_noticed() {
    let one = one_keeper().recoveries(1).deaths(1);
    noticed(Broken::Unsealed, &one, APART);
    noticed(Broken::VotesSealed, &one, UNDONE);
    let three = three_keepers().recoveries(1);
    noticed(Broken::Unsealed, &three.clone().deaths(1), APART);
    noticed(Broken::VotesSealed, &three.deaths(2), UNDONE);
    let two = one_keeper().recoveries(2).deaths(1);
    noticed(Broken::GenerationReused, &two, UNDONE);
    noticed(Broken::NotAskedAgain, &two, APART);
    let returning = one.returning();
    noticed(Broken::NumbersCompared, &returning, LEFT_SILENTLY);
    let partial = one_keeper().recoveries(1).deaths(1).partial();
    noticed(Broken::NumbersCompared, &partial, LEFT_SILENTLY);
}
