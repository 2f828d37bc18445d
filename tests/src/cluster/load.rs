//! Load on a cluster, for figures: so many operations a second (an open loop), or as many as some
//! callers manage (a closed one).
#![expect(
    clippy::disallowed_methods,
    reason = "figures are measured: this is the clock that they are measured with"
)]

use annulet::{Error, ErrorKind};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Longest time that is told from longer ones.
const LONGEST_US: u64 = 60_000_000;
/// How often what is due is begun.
const BEAT: Duration = Duration::from_micros(100);

/// What became of a load's operations.
#[derive(Clone, Debug)]
pub struct Figures {
    /// How long those took that were done, in microseconds; in an open loop from when they were
    /// due, so that what waited before is part of it.
    pub times: Histogram<u64>,
    /// Operations that failed, by the kind of error.
    pub errors: BTreeMap<&'static str, u64>,
    /// Operations that were due.
    pub offered: u64,
    /// Of those, how many were not begun since too many were under way: the application's own
    /// limit.
    pub withheld: u64,
    /// From the first operation to the end of the last.
    pub elapsed: Duration,
}

impl Default for Figures {
    fn default() -> Self {
        let times = Histogram::new_with_bounds(1, LONGEST_US, 3);
        Self {
            times: times.expect("bounds that make sense"),
            errors: BTreeMap::new(),
            offered: 0,
            withheld: 0,
            elapsed: Duration::ZERO,
        }
    }
}

impl Figures {
    fn note(&mut self, took: Duration, done: Result<(), ErrorKind>) {
        match done {
            Ok(()) => {
                let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                self.times.saturating_record(us.max(1));
            }
            Err(kind) => *self.errors.entry(kind.as_str()).or_default() += 1,
        }
    }

    /// Takes another load's operations in; times follow each other.
    pub fn add(&mut self, other: &Self) {
        self.times.add(&other.times).expect("the same bounds");
        for (kind, count) in &other.errors {
            *self.errors.entry(kind).or_default() += count;
        }
        self.offered += other.offered;
        self.withheld += other.withheld;
        self.elapsed += other.elapsed;
    }

    /// Operations done for each second.
    pub fn rate(&self) -> f64 {
        self.times.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// The time that so many percent of the operations that were done took at most.
    pub fn percentile(&self, percent: f64) -> Duration {
        Duration::from_micros(self.times.value_at_percentile(percent))
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |percent| self.percentile(percent).as_secs_f64() * 1_000.0;
        write!(
            f,
            "{:7.0}/s  p50 {:7.2} ms  p99 {:7.2} ms  p99.9 {:7.2} ms",
            self.rate(),
            ms(50.0),
            ms(99.0),
            ms(99.9)
        )?;
        if self.withheld > 0 {
            write!(f, "  withheld {}", self.withheld)?;
        }
        for (kind, count) in &self.errors {
            write!(f, "  {kind} {count}")?;
        }
        Ok(())
    }
}

/// Begins operations as they are due, whether earlier ones are done or not, for some time, and
/// waits for their ends. No more than `most` are under way: what is due then is withheld.
pub async fn open<F>(
    rate: f64,
    time: Duration,
    most: usize,
    operation: impl Fn(u64) -> F,
) -> Figures
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let figures = Arc::new(Mutex::new(Figures::default()));
    let begun = Instant::now();
    let due = Arc::new(Semaphore::new(0));
    let pacer = std::thread::spawn({
        let due = Arc::clone(&due);
        move || pace(rate, begun, time, &due)
    });
    let (mut offered, mut withheld) = (0, 0);
    let mut under_way = JoinSet::new();
    while let Ok(permit) = due.acquire().await {
        permit.forget();
        let due_at = begun + Duration::from_secs_f64(offered as f64 / rate);
        offered += 1;
        while under_way.try_join_next().is_some() {}
        if under_way.len() >= most {
            withheld += 1;
            continue;
        }
        let (operation, figures) = (operation(offered), Arc::clone(&figures));
        under_way.spawn(async move {
            let done = operation.await.map_err(|error| error.kind());
            let took = due_at.elapsed();
            let mut figures = figures.lock().unwrap_or_else(PoisonError::into_inner);
            figures.note(took, done);
        });
    }
    while under_way.join_next().await.is_some() {}
    pacer.join().expect("it only counts");
    // Due, and begun by nobody: this process had not the time.
    let left = due.available_permits() as u64;
    (offered, withheld) = (offered + left, withheld + left);
    let figures = figures.lock().unwrap_or_else(PoisonError::into_inner);
    Figures {
        offered,
        withheld,
        elapsed: begun.elapsed(),
        ..figures.clone()
    }
}

/// Says when operations are due, on a thread of its own: the timers of the runtime are coarser
/// than what is measured.
fn pace(rate: f64, begun: Instant, time: Duration, due: &Semaphore) {
    let mut said = 0;
    while begun.elapsed() < time {
        std::thread::sleep(BEAT);
        let all = (begun.elapsed().min(time).as_secs_f64() * rate) as usize;
        due.add_permits(all - said);
        said = all;
    }
    due.close();
}

/// Callers that each do one operation after the other, for some time. `operation` is given a
/// number that no other operation of this load has.
pub async fn closed<F>(
    callers: u64,
    time: Duration,
    operation: impl Fn(u64) -> F + Clone + Send + 'static,
) -> Figures
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let begun = Instant::now();
    let over = Arc::new(AtomicBool::new(false));
    let mut set = JoinSet::new();
    for caller in 0..callers {
        let (operation, over) = (operation.clone(), Arc::clone(&over));
        set.spawn(async move {
            let mut figures = Figures::default();
            let mut number = caller;
            while !over.load(Ordering::Relaxed) {
                let at = Instant::now();
                let done = operation(number).await.map_err(|error| error.kind());
                figures.note(at.elapsed(), done);
                figures.offered += 1;
                number += callers;
            }
            figures
        });
    }
    tokio::time::sleep(time).await;
    over.store(true, Ordering::Relaxed);
    let mut all = Figures::default();
    for figures in set.join_all().await {
        all.add(&figures);
    }
    all.elapsed = begun.elapsed();
    all
}
