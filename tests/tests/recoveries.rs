//! Chains of epochs that are begun anew, by the seed.

use annulet_tests::recoveries::{Seen, World};

/// Seeds of a run unless `SEEDS` says otherwise.
const SEEDS: u64 = 3_000;

#[test]
fn nobody_leaves_silently_what_it_acted_under() {
    let given = std::env::var("SEEDS").ok();
    let seeds = given.map_or(SEEDS, |seeds| seeds.parse().expect("a number"));
    let first: u64 = std::env::var("SEED").map_or(0, |seed| seed.parse().expect("a number"));
    let mut all = Seen::default();
    for seed in first..first + seeds {
        let seen = World::new(seed, false).run();
        all = all.and(seen.unwrap_or_else(|why| panic!("SEED={seed} SEEDS=1: {why}")));
    }
    println!("{all:?}");
    if seeds < SEEDS {
        return;
    }
    let Seen {
        begun,
        settled,
        joined,
        stopped,
        interrupted,
        taken_over,
    } = all;
    let happens = [begun, settled, joined, stopped, interrupted, taken_over];
    assert!(happens.iter().all(|count| *count > 0), "{all:?}");
}

#[cfg(feature = "faults")]
mod faults {
    use super::*;

    #[test]
    fn a_recovery_without_a_seal_is_noticed() {
        let noticed = (0..10_000).find_map(|seed| {
            let why = World::new(seed, true).run().err()?;
            why.starts_with("sealed").then_some((seed, why))
        });
        println!("{:?}", noticed.expect("it is noticed"));
    }
}
