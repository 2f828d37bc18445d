//! Rules of how members come, go and are replaced, broken on purpose. Each must be noticed.
#![cfg(feature = "faults")]

use annulet_replica::copy::Fault as Copy;
use annulet_tests::sim::noticed::{LOST, noticed_among_members as noticed};
use annulet_tests::sim::{Fault, ListsFault};

#[test]
fn a_newcomer_that_copies_from_one_owner_only_is_noticed() {
    noticed(Fault::Copy(Copy::OneCopy), LOST);
}

#[test]
fn a_server_that_comes_back_empty_under_its_old_id_is_noticed() {
    noticed(Fault::Lists(ListsFault::EmptyReturns), LOST);
}

#[test]
fn a_move_to_a_newcomer_that_is_closed_early_is_noticed() {
    noticed(Fault::Lists(ListsFault::ClosedEarly), LOST);
}

#[test]
fn a_member_that_is_gone_before_it_has_handed_over_is_noticed() {
    noticed(Fault::Lists(ListsFault::GoneEarly), &["carried"]);
}

#[test]
fn what_a_leaving_member_drops_without_another_look_is_noticed() {
    noticed(Fault::Lists(ListsFault::DroppedEarly), &["carried"]);
}
