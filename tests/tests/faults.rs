//! Rules broken on purpose. Each must be noticed: a test that cannot fail shows nothing.
#![cfg(feature = "faults")]

use annulet::core::client::Fault as Client;
use annulet_replica::chain::Fault as Chain;
use annulet_replica::rules::Fault as Replica;
use annulet_tests::sim::Fault;
use annulet_tests::sim::noticed::{noticed, noticed_near};

#[test]
fn answers_that_do_not_wait_for_their_sync_are_noticed() {
    noticed(
        Fault::Replica(Replica::AckBeforeSync),
        &["lost", "monotonic", "resurrected"],
    );
}

#[test]
fn reads_that_show_what_a_crash_can_take_away_are_noticed() {
    noticed(
        Fault::Replica(Replica::ReadsPassTheGate),
        &["monotonic", "resurrected"],
    );
}

#[test]
fn a_server_that_takes_stamps_from_far_ahead_is_noticed() {
    noticed(Fault::Replica(Replica::SkewAccepted), &["skew"]);
}

#[test]
fn deletes_that_leave_no_tombstone_are_noticed() {
    let oracles = ["resurrected", "lost", "monotonic", "convergence"];
    noticed(Fault::Replica(Replica::TombstoneDropped), &oracles);
}

#[test]
fn older_records_that_overwrite_newer_ones_are_noticed() {
    let oracles = ["lost", "monotonic", "resurrected", "convergence"];
    noticed(Fault::Replica(Replica::StaleOverwrites), &oracles);
}

#[test]
fn a_server_that_serves_requests_of_an_older_epoch_is_noticed() {
    noticed(
        Fault::Replica(Replica::Unfenced),
        &["probe", "lost", "monotonic"],
    );
}

#[test]
fn a_server_that_merges_damaged_records_is_noticed() {
    noticed(
        Fault::Replica(Replica::ChecksumIgnored),
        &["probe", "phantom"],
    );
}

#[test]
fn a_server_that_fills_its_disk_is_noticed() {
    noticed(Fault::Replica(Replica::FullDiskIgnored), &["full"]);
}

#[test]
fn records_that_are_not_kept_for_others_are_noticed() {
    let oracles = ["handed-over"];
    noticed_near(279, Fault::Replica(Replica::HintsForgotten), &oracles);
}

#[test]
fn a_touch_that_undoes_a_later_one_is_noticed() {
    let oracles = ["lost", "monotonic", "convergence"];
    noticed(Fault::Replica(Replica::TouchRewinds), &oracles);
}

#[test]
fn hints_that_are_counted_like_owners_are_noticed() {
    noticed(Fault::Client(Client::HintsCounted), &["quorum"]);
}

#[test]
fn a_value_shown_with_the_head_of_another_is_noticed() {
    noticed(Fault::Client(Client::DigestTrusted), &["phantom"]);
}

#[test]
fn a_scan_that_goes_on_beyond_where_an_answer_ends_is_noticed() {
    let oracles = ["lost", "monotonic", "phantom"];
    noticed(Fault::Client(Client::CutIgnored), &oracles);
}

#[test]
fn a_session_that_is_shown_something_older_is_noticed() {
    noticed_near(298, Fault::Client(Client::SessionIgnored), &["session"]);
}

#[test]
fn a_server_that_stays_the_same_actor_over_a_restart_is_noticed() {
    noticed_near(231, Fault::IncarnationKept, &["dropped"]);
}

#[test]
fn an_overwritten_value_that_is_minted_when_it_comes_late_is_noticed() {
    noticed(Fault::Replica(Replica::LateMinted), &["resurrected"]);
}

#[test]
fn a_put_that_is_another_one_at_another_owner_is_noticed() {
    noticed(Fault::Client(Client::OpIdForgotten), &["twin"]);
}

#[test]
fn a_value_that_is_sent_on_without_its_record_is_noticed() {
    noticed(Fault::Client(Client::DotAlone), &["dropped", "lost"]);
}

#[test]
fn a_minter_that_is_told_too_early_that_all_have_its_record_is_noticed() {
    noticed(Fault::Client(Client::SpreadEarly), &["spread"]);
}

#[test]
fn a_context_that_hides_siblings_is_noticed() {
    noticed(Fault::Client(Client::SiblingsHidden), &["dropped", "lost"]);
}

#[test]
fn reads_that_do_not_repair_are_noticed() {
    noticed(
        Fault::Client(Client::RepairOff),
        &["monotonic", "resurrected", "convergence"],
    );
}

#[test]
fn repairs_of_too_few_owners_are_noticed() {
    noticed(
        Fault::Client(Client::RepairOfWrites),
        &["monotonic", "resurrected"],
    );
}

#[test]
fn reads_that_return_before_their_repair_are_noticed() {
    noticed(
        Fault::Client(Client::RepairNotAwaited),
        &["monotonic", "resurrected"],
    );
}

#[test]
fn expired_values_that_are_shown_are_noticed() {
    noticed(Fault::Client(Client::ExpiryIgnored), &["expired"]);
}

#[test]
fn an_owner_that_is_counted_twice_is_noticed() {
    noticed(Fault::Client(Client::DuplicateCounted), &["quorum", "lost"]);
}

#[test]
fn a_quorum_out_of_two_epochs_is_noticed() {
    noticed(Fault::Client(Client::EpochsMixed), &["quorum"]);
}

#[test]
fn reads_of_the_lists_as_they_are_alone_are_noticed() {
    let oracles = ["monotonic", "resurrected", "dropped"];
    noticed_near(1_089, Fault::Client(Client::CurrentListsRead), &oracles);
}

#[test]
fn reads_of_the_lists_to_be_alone_are_noticed() {
    let oracles = ["monotonic", "resurrected", "dropped"];
    noticed(Fault::Client(Client::NextListsRead), &oracles);
}

#[test]
fn writes_to_the_lists_as_they_are_alone_are_noticed() {
    let oracles = ["monotonic", "resurrected", "lost", "linearizable"];
    noticed_near(644, Fault::Client(Client::CurrentListsWritten), &oracles);
}

#[test]
fn a_write_that_is_wrongly_said_not_to_be_applied_is_noticed() {
    noticed(Fault::Client(Client::OutcomeGuessed), &["not-applied"]);
}

#[test]
fn a_client_that_returns_damaged_values_is_noticed() {
    noticed_near(245, Fault::Client(Client::ChecksumIgnored), &["phantom"]);
}

#[test]
fn votes_that_are_forgotten_in_a_crash_are_noticed() {
    let oracles = ["promise", "agreement"];
    noticed_near(238, Fault::Chain(Chain::VotesForgotten), &oracles);
}

#[test]
fn an_epoch_that_is_accepted_below_a_promise_is_noticed() {
    let oracles = ["promise", "agreement"];
    noticed(Fault::Chain(Chain::AcceptsBelowPromises), &oracles);
}

#[test]
fn an_epoch_that_is_acted_under_before_its_keepers_hold_it_is_noticed() {
    noticed(Fault::Chain(Chain::ActsUnsettled), &["settled"]);
}

#[test]
fn a_proposal_that_is_accepted_below_a_promise_is_noticed() {
    noticed(Fault::Replica(Replica::AcceptUnpromised), STRONG);
}

#[test]
fn promises_of_a_round_that_a_crash_takes_away_are_noticed() {
    noticed_near(2_593, Fault::Replica(Replica::PromisesForgotten), STRONG);
}

#[test]
fn a_read_that_passes_over_a_round_under_way_is_noticed() {
    noticed_near(458, Fault::Client(Client::PromisesIgnored), STRONG);
}

#[test]
fn a_reserved_ballot_that_is_used_too_early_is_noticed() {
    noticed(Fault::Client(Client::ReservedEarly), STRONG);
}

#[test]
fn a_condition_that_is_judged_before_the_operation_is_looked_for_is_noticed() {
    noticed(Fault::Client(Client::ConditionFirst), STRONG);
}

#[test]
fn an_expired_value_that_is_absent_before_its_tombstone_is_noticed() {
    noticed(Fault::Client(Client::ExpiryUnsettled), &["expired"]);
}

#[test]
fn a_read_that_does_not_settle_what_it_shows_is_noticed() {
    noticed(Fault::Client(Client::ReadUnsettled), STRONG);
}

#[test]
fn a_round_of_one_acceptance_is_noticed() {
    noticed(Fault::Client(Client::OneAccepts), STRONG);
}

#[test]
fn a_proposal_that_is_wrongly_said_not_to_be_applied_is_noticed() {
    noticed(Fault::Client(Client::ProposalForgotten), STRONG);
}

/// What sees that a rule of strong buckets is broken.
const STRONG: &[&str] = &["linearizable", "monotonic", "not-applied", "twin"];
