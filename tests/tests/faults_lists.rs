//! Rules of how lists change hands, broken on purpose. Each must be noticed.
#![cfg(feature = "faults")]

use annulet_replica::copy::Fault as Copy;
use annulet_replica::rules::Fault as Replica;
use annulet_tests::sim::noticed::{LOST, noticed, noticed_near};
use annulet_tests::sim::{Fault, ListsFault};

#[test]
fn a_fence_that_a_crash_takes_away_is_noticed() {
    noticed_near(5_573, Fault::Lists(ListsFault::FenceForgotten), LOST);
}

#[test]
fn a_server_that_serves_what_it_is_behind_of_is_noticed() {
    noticed_near(2_626, Fault::Replica(Replica::BehindServes), LOST);
}

#[test]
fn what_is_copied_from_one_owner_only_is_noticed() {
    noticed(Fault::Copy(Copy::OneCopy), LOST);
}

#[test]
fn what_is_copied_from_an_owner_without_the_fence_is_noticed() {
    noticed_near(657, Fault::Replica(Replica::CopiedUnfenced), LOST);
}

#[test]
fn a_move_that_is_closed_before_every_owner_is_done_is_noticed() {
    noticed(Fault::Lists(ListsFault::ClosedEarly), LOST);
}

#[test]
fn an_owner_that_stays_and_does_not_compare_is_noticed() {
    noticed(Fault::Copy(Copy::StayerSkips), LOST);
}

#[test]
fn a_majority_of_the_list_in_place_of_the_prefix_is_noticed() {
    noticed_near(1_109, Fault::Copy(Copy::ListMajority), LOST);
}

#[test]
fn a_copy_for_other_lists_that_counts_for_these_is_noticed() {
    noticed_near(3_759, Fault::Copy(Copy::OldCopy), LOST);
}

#[test]
fn an_arc_that_is_not_empty_when_it_is_gained_is_noticed() {
    let oracles = ["ghost", "phantom", "resurrected"];
    noticed(Fault::Lists(ListsFault::ArcKept), &oracles);
}

#[test]
fn promises_that_are_not_copied_are_noticed() {
    noticed(Fault::Replica(Replica::PromisesLeft), &["carried"]);
}

#[test]
fn an_arc_that_is_dropped_without_another_look_is_noticed() {
    noticed(Fault::Lists(ListsFault::DroppedEarly), &["carried"]);
}
