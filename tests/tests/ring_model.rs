//! A key whose partition changes hands, every course of few operations; and rules that look right
//! and are not, each of which some course shows to be wrong.

use annulet_tests::ring_model::{Act, Broken, Scenario};

/// One owner is replaced by another.
const REPLACED: &[&str] = &["ABC", "ABC/ABD", "ABD"];
/// Both owners are replaced at once.
const ALL_REPLACED: &[&str] = &["AB", "AB/CD", "CD"];
/// A move that is aimed at another target in the middle.
const AIMED_ANEW: &[&str] = &["AB", "AB/AC", "AB/AD", "AD"];
/// A move that is aborted, and made after all.
const ABORTED: &[&str] = &["AB", "AB/AC", "AB", "AB/AC", "AC"];
/// An owner that loses the key and gains it again.
const REGAINED: &[&str] = &["A", "A/B", "B", "B/A", "A"];
const GROWN: &[&str] = &["A", "A/AB", "AB", "AB/ABC", "ABC"];
/// A list of which the first two change places.
const SWAPPED: &[&str] = &["ABC", "ABC/BAC", "BAC"];
const SHRUNK: &[&str] = &["ABC", "ABC/A", "A"];

fn one_write(reads: usize) -> Vec<Act> {
    let reads = std::iter::repeat_n(Act::read(), reads);
    std::iter::once(Act::write(1)).chain(reads).collect()
}

fn two_changes(fast_reads: usize) -> Vec<Act> {
    let reads = std::iter::repeat_n(Act::fast_read(), fast_reads);
    let changes = [Act::change(1, 1), Act::change(2, 2)];
    changes.into_iter().chain(reads).collect()
}

/// A change that follows another one under the ballot that that reserved, and one by somebody else
/// under this ballot.
fn reserved(other: u8) -> Vec<Act> {
    vec![
        Act::change(1, 1).reserving(3),
        Act::change(2, 3).following(0),
        Act::change(3, other),
        Act::fast_read(),
    ]
}

/// Two changes that need not be completed: one may be left at the owner that goes, from which
/// nobody copied, and come from there when the other was read.
fn left_behind() -> Scenario {
    let acts = [
        Act::change(1, 1).under(0),
        Act::change(2, 2).under(0),
        Act::fast_read().under(2),
        Act::fast_read().under(2),
    ];
    Scenario::new(REPLACED, &acts).pushing()
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
fn noticed(broken: Broken, scenario: &Scenario) {
    match scenario.check(Some(broken)) {
        Ok(tried) => panic!("not noticed: {tried:?}"),
        Err(why) => {
            let steps = why.lines().count() - 1;
            assert!(
                why.starts_with("what is shown") || why.starts_with("two lists"),
                "{why}"
            );
            eprintln!("noticed after {steps} steps");
        }
    }
}

#[test]
fn reads_see_what_was_written_whoever_owns_it_by_then() {
    holds(&Scenario::new(REPLACED, &one_write(1)).pushing());
    holds(&Scenario::new(ALL_REPLACED, &one_write(2)));
    holds(&Scenario::new(AIMED_ANEW, &one_write(1)).pushing());
    holds(&Scenario::new(ABORTED, &one_write(1)));
    holds(&Scenario::new(REGAINED, &one_write(2)).pushing());
    holds(&Scenario::new(GROWN, &one_write(1)).pushing());
    holds(&Scenario::new(SHRUNK, &one_write(1)).pushing());
}

/// Lists in another order, and one that loses its first owner, as buckets of fewer replicas have
/// them.
#[test]
fn a_list_in_another_order_is_a_move_of_the_first_in_it() {
    let reordered = &["ABC", "ABC/ACB", "ACB"];
    for acts in [one_write(1), two_changes(0)] {
        holds(&Scenario::of_first(1, SWAPPED, &acts).pushing());
        holds(&Scenario::of_first(2, reordered, &acts).pushing());
        holds(&Scenario::of_first(2, &["ABC", "ABC/DBC", "DBC"], &acts));
    }
    // The first three are as they were.
    holds(&Scenario::of_first(3, reordered, &one_write(1)));
}

#[test]
fn two_writes_are_read_in_one_order() {
    let acts = [Act::write(1), Act::write(2), Act::read()];
    holds(&Scenario::new(ALL_REPLACED, &acts));
    holds(&Scenario::new(REGAINED, &acts).pushing());
}

#[test]
fn a_strong_key_has_one_history_whoever_owns_it() {
    holds(&Scenario::new(REPLACED, &two_changes(0)));
    holds(&Scenario::new(ALL_REPLACED, &two_changes(1)));
    holds(&Scenario::new(AIMED_ANEW, &two_changes(0)).pushing());
    holds(&Scenario::new(REGAINED, &two_changes(1)).pushing());
    holds(&Scenario::new(GROWN, &two_changes(0)));
    holds(&Scenario::new(SHRUNK, &two_changes(0)).pushing());
    holds(&left_behind());
}

#[test]
fn an_operation_is_done_once_however_often_it_is_tried() {
    let acts = [
        Act::change(1, 1),
        Act::change(2, 2),
        Act::change(1, 3).retrying(0),
    ];
    holds(&Scenario::new(ALL_REPLACED, &acts));
}

#[test]
fn what_was_reserved_is_used_under_the_same_lists() {
    holds(&Scenario::new(ALL_REPLACED, &reserved(4)[..3]).pushing());
    holds(&Scenario::new(REGAINED, &reserved(4)).pushing());
}

/// A fault of reads and writes, and of a strong key.
#[track_caller]
fn noticed_by_all(broken: Broken) {
    noticed(broken, &Scenario::new(REPLACED, &one_write(1)));
    noticed(broken, &Scenario::new(REPLACED, &two_changes(0)));
}

#[test]
fn weaker_copies_are_noticed() {
    noticed_by_all(Broken::CopiedFromOne);
    noticed_by_all(Broken::CopiedUnfenced);
    noticed_by_all(Broken::ClosedEarly);
    for acts in [one_write(1), two_changes(0)] {
        // A majority of the list is those two that never had the key.
        noticed(
            Broken::CopiedFromList,
            &Scenario::of_first(1, SWAPPED, &acts),
        );
    }
    let shrunk = Scenario::new(SHRUNK, &one_write(1));
    noticed(Broken::StaysUncopied, &shrunk);
    let aimed = Scenario::new(&["A", "A/B", "A/C", "C"], &one_write(1));
    noticed(Broken::OldFence, &aimed);
    noticed(Broken::PromisesNotCopied, &left_behind());
    let acts = [Act::change(1, 1), Act::change(2, 2), Act::change(3, 3)];
    let three = Scenario::new(ALL_REPLACED, &acts);
    noticed(Broken::LowCopyIgnored, &three);
}

#[test]
fn weaker_fences_are_noticed() {
    let write = Scenario::new(REPLACED, &one_write(1));
    noticed(Broken::Unfenced, &write);
    let strong = Scenario::new(ALL_REPLACED, &two_changes(1));
    noticed(Broken::Unfenced, &strong);
    noticed(Broken::FenceForgotten, &write);
    let handed_over = Scenario::new(&["A", "A/B", "B"], &two_changes(0));
    noticed(Broken::FenceForgotten, &handed_over);
    noticed(Broken::BehindAnswers, &write);
    // The target that has taken it begins anew when the move is made after all.
    let aborted = Scenario::new(&["A", "A/B", "A", "A/B", "B"], &one_write(1));
    noticed(Broken::EpochsMixed, &aborted);
}

#[test]
fn quorums_of_one_list_are_noticed() {
    for broken in [
        Broken::CurrentRead,
        Broken::NextRead,
        Broken::CurrentWritten,
    ] {
        noticed(broken, &Scenario::new(REPLACED, &one_write(1)));
        noticed(broken, &Scenario::new(ALL_REPLACED, &two_changes(1)));
    }
    let reads = Scenario::new(ALL_REPLACED, &one_write(2));
    noticed(Broken::NotWrittenBack, &reads);
}

#[test]
fn reads_and_changes_that_ignore_promises_are_noticed() {
    // Pushes bring what was accepted to those who have promised more: no move is needed for that.
    let pushed = |acts: Vec<Act>| Scenario::new(&["ABC"], &acts).pushing();
    noticed(Broken::PromisesIgnored, &pushed(two_changes(1)));
    noticed(Broken::ReservationStretched, &pushed(reserved(2)));
    noticed(Broken::ReservedEarly, &pushed(reserved(2)));
}
