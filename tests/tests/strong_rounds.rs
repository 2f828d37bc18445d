//! Rounds of strong buckets, by the seed: each history has one order that explains it.

use annulet_tests::rounds::history::Seen;
use annulet_tests::rounds::{Setup, World};

/// Seeds of a run unless `SEEDS` says otherwise.
const SEEDS: u64 = 2_000;

fn seeds() -> u64 {
    let given = std::env::var("SEEDS").ok();
    given.map_or(SEEDS, |seeds| seeds.parse().expect("a number"))
}

#[test]
fn every_history_has_one_order() {
    let first: u64 = std::env::var("SEED").map_or(0, |seed| seed.parse().expect("a number"));
    let mut failed = Vec::new();
    let (mut successes, mut unknown, mut all) = (0, 0, 0);
    for seed in first..first + seeds() {
        let history = World::new(Setup::new(seed)).run();
        successes += history.successes();
        unknown += history.count(|seen| seen == Seen::Lost);
        all += history.count(|_| true);
        if let Err(why) = history.check() {
            failed.push(format!("SEED={seed} SEEDS=1: {why}"));
        }
    }
    println!("{all} operations, {successes} with a result, {unknown} of unknown outcome");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(successes * 10 > all * 8, "{successes} of {all}");
}

#[test]
fn many_clients_all_get_their_turn() {
    for seed in 0..20 {
        let setup = Setup {
            clients: 32,
            operations: 20,
            timeout_ms: 20_000,
            steady: true,
            updates: true,
            repairs: false,
            lossy: 0,
            deadly: 0,
            padding: 0,
            expiring: false,
            ..Setup::new(seed)
        };
        let history = World::new(setup).run();
        assert_eq!(history.check(), Ok(()), "seed {seed}");
        let lost = history.count(|seen| seen == Seen::Lost);
        let late = history.count(|seen| seen == Seen::NotApplied);
        let took_ms = history.took_ms();
        println!("seed {seed}: {lost} of unknown outcome, {late} too late, {took_ms} ms");
        assert_eq!((lost, late), (0, 0), "seed {seed}");
    }
}

#[cfg(feature = "faults")]
mod faults {
    use super::*;
    use annulet::core::client::Fault;
    use annulet_replica::rules::Fault as OwnerFault;

    /// Whether a history of these seeds shows that a rule is broken.
    fn is_noticed(change: impl Fn(&mut Setup)) -> bool {
        (0..SEEDS * 10).any(|seed| {
            let mut setup = Setup::new(seed);
            change(&mut setup);
            World::new(setup).run().check().is_err()
        })
    }

    #[test]
    fn every_broken_rule_of_a_client_is_noticed() {
        let missed: Vec<_> = [
            Fault::PromisesIgnored,
            Fault::ReservationStretched,
            Fault::ReservedEarly,
            Fault::ConditionFirst,
            Fault::ExpiryUnsettled,
            Fault::ReadUnsettled,
            Fault::OneAccepts,
        ]
        .into_iter()
        .filter(|fault| !is_noticed(|setup| setup.client_fault = Some(*fault)))
        .collect();
        assert_eq!(missed, []);
    }

    #[test]
    fn an_owner_that_breaks_its_promises_is_noticed() {
        let fault = OwnerFault::AcceptUnpromised;
        assert!(is_noticed(|setup| setup.owner_fault = Some(fault)));
    }
}
