//! Whole clusters from seeds. `SEEDS=n` runs n of them, `SEED=n` replays one and tells its story.

use annulet_tests::sim::{Coverage, Fault, Options, run};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Seeds of an ordinary run.
const SEEDS: u64 = 10_000;
/// Failures that are enough to look at.
const FAILURES_MAX: usize = 10;
/// Seeds that must be enough for everything to happen once.
const COVERED: u64 = 1_000;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is not a number")),
    )
}

#[test]
fn seeds_keep_every_promise() {
    if let Some(seed) = number("SEED") {
        return replay(seed);
    }
    let seeds = number("SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let coverage = Mutex::new(Coverage::default());
    let failed = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while failed.lock().unwrap().len() < FAILURES_MAX {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    match attempt(seed) {
                        Ok(of_seed) => coverage.lock().unwrap().merge(&of_seed),
                        Err(why) => failed.lock().unwrap().push((seed, why)),
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort();
    for (seed, why) in &failed {
        println!("seed {seed}: {why}\n{}\n", how_to_replay(*seed));
    }
    assert!(
        failed.is_empty(),
        "{} seeds failed, see above",
        failed.len()
    );
    let coverage = coverage.into_inner().unwrap();
    println!("{seeds} seeds\n{coverage}");
    if seeds >= COVERED {
        let missing = coverage.missing();
        assert!(
            missing.is_empty(),
            "never happened in {seeds} seeds: {missing:#?}"
        );
    }
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    for seed in [1, 17, 400, 1_234] {
        let traced = Options {
            traced: true,
            fault: Fault::None,
        };
        let first = run(seed, traced).expect("it keeps every promise");
        let second = run(seed, traced).expect("it keeps every promise");
        assert_eq!(first.trace, second.trace, "seed {seed}");
        let silent = run(seed, Options::default()).expect("it keeps every promise");
        assert_eq!(
            first.hash, silent.hash,
            "seed {seed}: telling it changes it"
        );
        assert_eq!(first.coverage, silent.coverage, "seed {seed}");
    }
}

/// Runs a seed; a panic anywhere in it is a failure like any other.
fn attempt(seed: u64) -> Result<Coverage, String> {
    match catch_unwind(AssertUnwindSafe(|| run(seed, Options::default()))) {
        Ok(Ok(report)) => Ok(report.coverage),
        Ok(Err(violation)) => Err(format!("{}: {}", violation.oracle, violation.detail)),
        Err(_) => Err("it panicked, see above".into()),
    }
}

fn how_to_replay(seed: u64) -> String {
    format!(
        "replay: SEED={seed} cargo nextest run --cargo-profile checked -p annulet-tests \
         --no-capture -E 'test(=seeds_keep_every_promise)'"
    )
}

fn replay(seed: u64) {
    let traced = Options {
        traced: true,
        fault: Fault::None,
    };
    match run(seed, traced) {
        Ok(report) => {
            println!("{}", report.trace.join("\n"));
            println!("seed {seed} keeps every promise; hash {:016x}", report.hash);
        }
        Err(violation) => {
            println!("{}", violation.trace.join("\n"));
            panic!("seed {seed}: {}: {}", violation.oracle, violation.detail);
        }
    }
}
