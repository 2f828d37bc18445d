//! Running many seeds of the simulator. `SEEDS=n` runs n of them, `SEED=n` replays one and tells
//! its story.

use crate::sim::{Coverage, Options, run};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Failures that are enough to look at.
const FAILURES_MAX: usize = 10;
/// What a seed panics with is caught.
const NO_PANIC: &str = "nobody panics with it";

/// Seeds of one test.
#[derive(Clone, Copy, Debug)]
pub struct Seeds {
    /// The name of the test, which replays one of them.
    pub test: &'static str,
    /// How they are run.
    pub options: Options,
    /// Seeds of an ordinary run.
    pub count: u64,
    /// Seeds that must be enough for everything to happen once.
    pub covered: u64,
    /// What must happen and did not.
    pub missing: fn(&Coverage) -> Vec<String>,
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is not a number")),
    )
}

impl Seeds {
    /// Runs them on all cores.
    ///
    /// # Panics
    /// If one of them breaks a promise, or something that must happen never did.
    pub fn run(&self) {
        if let Some(seed) = number("SEED") {
            return self.replay(seed);
        }
        let seeds = number("SEEDS").unwrap_or(self.count);
        let next = AtomicU64::new(0);
        let coverage = Mutex::new(Coverage::default());
        let failed = Mutex::new(Vec::new());
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while failed.lock().expect(NO_PANIC).len() < FAILURES_MAX {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds {
                            break;
                        }
                        match self.attempt(seed) {
                            Ok(of_seed) => coverage.lock().expect(NO_PANIC).merge(&of_seed),
                            Err(why) => failed.lock().expect(NO_PANIC).push((seed, why)),
                        }
                    }
                });
            }
        });
        let mut failed = failed.into_inner().expect(NO_PANIC);
        failed.sort();
        for (seed, why) in &failed {
            println!("seed {seed}: {why}\n{}\n", self.how_to_replay(*seed));
        }
        assert!(
            failed.is_empty(),
            "{} seeds failed, see above",
            failed.len()
        );
        let coverage = coverage.into_inner().expect(NO_PANIC);
        println!("{seeds} seeds\n{coverage}");
        if seeds >= self.covered {
            let missing = (self.missing)(&coverage);
            assert!(
                missing.is_empty(),
                "never happened in {seeds} seeds: {missing:#?}"
            );
        }
    }

    /// Runs a seed; a panic anywhere in it is a failure like any other.
    fn attempt(&self, seed: u64) -> Result<Coverage, String> {
        match catch_unwind(AssertUnwindSafe(|| run(seed, self.options))) {
            Ok(Ok(report)) => Ok(report.coverage),
            Ok(Err(violation)) => Err(format!("{}: {}", violation.oracle, violation.detail)),
            Err(_) => Err("it panicked, see above".into()),
        }
    }

    fn how_to_replay(&self, seed: u64) -> String {
        format!(
            "replay: SEED={seed} cargo nextest run --cargo-profile checked -p annulet-tests \
             --no-capture -E 'test(={})'",
            self.test
        )
    }

    fn replay(&self, seed: u64) {
        let traced = Options {
            traced: true,
            ..self.options
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

    /// Runs some seeds twice, and once more without anybody who listens.
    ///
    /// # Panics
    /// If they do not tell the same story.
    pub fn tell_twice(&self, seeds: &[u64]) {
        for seed in seeds {
            let traced = Options {
                traced: true,
                ..self.options
            };
            let first = run(*seed, traced).expect("it keeps every promise");
            let second = run(*seed, traced).expect("it keeps every promise");
            assert_eq!(first.trace, second.trace, "seed {seed}");
            let silent = run(*seed, self.options).expect("it keeps every promise");
            assert_eq!(
                first.hash, silent.hash,
                "seed {seed}: telling it changes it"
            );
            assert_eq!(first.coverage, silent.coverage, "seed {seed}");
        }
    }
}
