//! Whether a rule that is broken on purpose is noticed.

use super::{Fault, Options, run};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

/// Seeds after which a fault must have been noticed: as many as are simulated without one. Most
/// are noticed within some hundred.
const SEEDS: u64 = 10_000;
/// The same where members come and go.
const SEEDS_OF_MEMBERS: u64 = 1_500;

/// Runs seeds until one breaks a promise, and checks that it is one of those that the fault is
/// about: what is noticed by accident may not be noticed tomorrow.
///
/// # Panics
/// If none does.
pub fn noticed(fault: Fault, oracles: &[&str]) {
    search((fault, false), oracles);
}

/// The same in runs in which members come and go.
///
/// # Panics
/// If none does.
pub fn noticed_among_members(fault: Fault, oracles: &[&str]) {
    search((fault, true), oracles);
}

fn search(broken: (Fault, bool), oracles: &[&str]) {
    let (fault, elastic) = broken;
    let seeds = if elastic { SEEDS_OF_MEMBERS } else { SEEDS };
    let next = AtomicU64::new(0);
    let first = AtomicU64::new(u64::MAX);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.min(first.load(Ordering::Relaxed)) {
                        break;
                    }
                    if attempt(seed, broken).is_some_and(|oracle| oracles.contains(&oracle)) {
                        first.fetch_min(seed, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let first = first.into_inner();
    assert!(first < seeds, "{fault:?} was not noticed in {seeds} seeds");
    let oracle = attempt(first, broken).expect("it was noticed once");
    println!("{fault:?}: noticed by `{oracle}` after {} seeds", first + 1);
}

/// The oracle that a seed violates.
fn attempt(seed: u64, (fault, elastic): (Fault, bool)) -> Option<&'static str> {
    let options = Options {
        fault,
        elastic,
        ..Options::default()
    };
    match catch_unwind(AssertUnwindSafe(|| run(seed, options))) {
        Ok(result) => result.err().map(|violation| violation.oracle),
        Err(_) => Some("panic"),
    }
}
