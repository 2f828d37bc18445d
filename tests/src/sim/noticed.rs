//! Whether a rule that is broken on purpose is noticed.

use super::{Fault, Options, run};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

/// Seeds after which a fault must have been noticed: as many as are simulated without one. Most
/// are noticed within some hundred.
const SEEDS: u64 = 10_000;
/// The same where members come and go.
const SEEDS_OF_MEMBERS: u64 = 1_500;

/// What sees that something was lost with an owner, or on the way to another one.
pub const LOST: &[&str] = &[
    "lost",
    "monotonic",
    "linearizable",
    "resurrected",
    "session",
    "dropped",
];

/// Runs seeds until one breaks a promise, and checks that it is one of those that the fault is
/// about: what is noticed by accident may not be noticed tomorrow.
///
/// # Panics
/// If none does.
pub fn noticed(fault: Fault, oracles: &[&str]) {
    noticed_near(0, fault, oracles);
}

/// The same of a fault that few seeds notice. `hint`: one that did. The search begins there and
/// goes round all of them, so that a hint that is out of date costs time and nothing else.
///
/// # Panics
/// If none does.
pub fn noticed_near(hint: u64, fault: Fault, oracles: &[&str]) {
    let options = Options {
        fault,
        ..Options::default()
    };
    search(options, (hint, SEEDS), oracles);
}

/// The same in runs in which members come and go.
///
/// # Panics
/// If none does.
pub fn noticed_among_members(fault: Fault, oracles: &[&str]) {
    let options = Options {
        fault,
        elastic: true,
        ..Options::default()
    };
    search(options, (0, SEEDS_OF_MEMBERS), oracles);
}

/// Goes round so many seeds, beginning with a hint.
fn search(options: Options, (hint, seeds): (u64, u64), oracles: &[&str]) {
    let fault = options.fault;
    let seed = |turn: u64| (hint + turn) % seeds;
    let next = AtomicU64::new(0);
    let first = AtomicU64::new(u64::MAX);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    if turn >= seeds.min(first.load(Ordering::Relaxed)) {
                        break;
                    }
                    if attempt(seed(turn), options).is_some_and(|oracle| oracles.contains(&oracle))
                    {
                        first.fetch_min(turn, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let first = first.into_inner();
    assert!(first < seeds, "{fault:?} was not noticed in {seeds} seeds");
    let oracle = attempt(seed(first), options).expect("it was noticed once");
    println!(
        "{fault:?}: noticed by `{oracle}` at seed {}, after {} seeds",
        seed(first),
        first + 1
    );
}

/// The oracle that a seed violates.
fn attempt(seed: u64, options: Options) -> Option<&'static str> {
    match catch_unwind(AssertUnwindSafe(|| run(seed, options))) {
        Ok(result) => result.err().map(|violation| violation.oracle),
        Err(_) => Some("panic"),
    }
}
