//! Chains of epochs whose members come and go, and that are begun anew, by the seed.

use annulet_tests::recoveries::{Kind, Seen, World};

/// Runs so many seeds unless `SEEDS` says otherwise, and asserts that all that can happen did.
fn run(kind: Kind, usual: u64, happens: fn(&Seen) -> Vec<usize>) {
    let given = std::env::var("SEEDS").ok();
    let seeds = given.map_or(usual, |seeds| seeds.parse().expect("a number"));
    let first: u64 = std::env::var("SEED").map_or(0, |seed| seed.parse().expect("a number"));
    let mut all = Seen::default();
    for seed in first..first + seeds {
        let seen = World::new(seed, kind).run();
        all = all.and(seen.unwrap_or_else(|why| panic!("SEED={seed} SEEDS=1: {why}")));
    }
    println!("{all:?}");
    let happens = happens(&all);
    assert!(
        seeds < usual || happens.iter().all(|count| *count > 0),
        "{all:?}"
    );
}

fn recoveries(seen: &Seen) -> Vec<usize> {
    let Seen {
        begun,
        settled,
        joined,
        stopped,
        interrupted,
        taken_over,
        ..
    } = *seen;
    vec![begun, settled, joined, stopped, interrupted, taken_over]
}

fn members(seen: &Seen) -> Vec<usize> {
    vec![seen.settled, seen.came, seen.left, seen.kept]
}

#[test]
fn nobody_leaves_silently_what_it_acted_under() {
    run(Kind::Recoveries, 3_000, recoveries);
}

#[test]
fn members_come_and_go_and_there_are_keepers_who_can_decide() {
    run(Kind::Members, 1_000, members);
}

#[test]
fn members_come_and_go_while_chains_are_begun_anew() {
    run(Kind::Both, 1_000, |seen| {
        [recoveries(seen), members(seen)].concat()
    });
}

#[cfg(feature = "faults")]
mod faults {
    use super::*;

    #[test]
    fn a_recovery_without_a_seal_is_noticed() {
        let noticed = (0..10_000).find_map(|seed| {
            let why = World::new(seed, Kind::Unsealed).run().err()?;
            why.starts_with("sealed").then_some((seed, why))
        });
        println!("{:?}", noticed.expect("it is noticed"));
    }
}
