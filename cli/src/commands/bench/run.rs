//! One process's share of a benchmark: its callers, and the clock they go by.

use super::contexts::Contexts;
use super::tally::Tally;
use super::workload::{Keys, Operation, Workload};
use crate::clock;
use crate::connect::Session;
use crate::failure::Failure;
use bytes::Bytes;
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// What one process does.
#[derive(Clone)]
pub(super) struct Share {
    pub(super) workload: Workload,
    pub(super) keys: Keys,
    pub(super) values: Values,
    pub(super) contexts: Contexts,
    pub(super) callers: usize,
    /// Operations a second of an open loop; a closed one if it is not given.
    pub(super) rate: Option<f64>,
    pub(super) warmup: Duration,
    pub(super) measured: Duration,
    pub(super) seed: u64,
}

/// Values to write, cut out of random bytes, so that storing them is no easier than real ones.
#[derive(Clone)]
pub(super) struct Values {
    pool: Bytes,
    size: usize,
}

impl Values {
    pub(super) fn new(size: usize, seed: u64) -> Self {
        let mut pool = vec![0; size + POOL_BYTES];
        ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut pool);
        Self {
            pool: pool.into(),
            size,
        }
    }

    pub(super) fn next(&self, random: &mut impl Rng) -> Bytes {
        let at = random.random_range(0..=POOL_BYTES);
        self.pool.slice(at..at + self.size)
    }
}

/// Runs a share to its end.
pub(super) async fn run(share: Share, session: Arc<Session>) -> Result<Tally, Failure> {
    let start = clock::now();
    let from = start + share.warmup;
    let end = from + share.measured;
    let pace = share.rate.map(|rate| Arc::new(Pace::new(start, rate)));
    let tallies: Vec<_> = (0..share.callers.min(TALLIES))
        .map(|_| Tally::new().map(|tally| Arc::new(Mutex::new(tally))))
        .collect::<Result<_, _>>()?;
    let pacer = pace
        .clone()
        .map(|pace| pacing_thread(pace, end, share.callers))
        .transpose()?;
    let taken = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for number in 0..share.callers {
        let caller = Caller {
            share: share.clone(),
            session: Arc::clone(&session),
            tally: Arc::clone(&tallies[number % tallies.len()]),
            random: ChaCha8Rng::seed_from_u64(share.seed.wrapping_add(number as u64)),
            taken: Arc::clone(&taken),
            from,
            end,
        };
        callers.spawn(caller.run(pace.clone()));
    }
    while let Some(ended) = callers.join_next().await {
        ended.map_err(|error| Failure::failed(format!("a caller was cut short: {error}")))?;
    }
    let elapsed = clock::now().max(end) - from;
    if let Some(pacer) = pacer {
        // It ends by itself at the end of the time, which is over.
        pacer
            .join()
            .map_err(|_| Failure::failed("the pacing thread was cut short"))?;
    }
    let mut whole = Tally::new()?;
    for tally in tallies {
        whole.merge(&tally.lock().unwrap_or_else(PoisonError::into_inner));
    }
    whole.elapsed = elapsed;
    whole.unstarted = pace.map_or(0, |pace| pace.unstarted(from, end));
    Ok(whole)
}

/// One caller: an operation after the other.
struct Caller {
    share: Share,
    session: Arc<Session>,
    tally: Arc<Mutex<Tally>>,
    random: ChaCha8Rng,
    taken: Arc<AtomicU64>,
    from: Instant,
    end: Instant,
}

impl Caller {
    async fn run(mut self, pace: Option<Arc<Pace>>) {
        loop {
            // In an open loop latency counts from when the operation was meant to begin, so that
            // a slow answer does not hide what waits behind it.
            let began = match &pace {
                None => Some(clock::now()).filter(|now| *now < self.end),
                Some(pace) => pace.next(self.from, self.end).await,
            };
            let Some(began) = began else { return };
            let done = self.operate().await;
            let latency = clock::now().saturating_duration_since(began);
            if began < self.from {
                continue;
            }
            let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
            match done {
                Ok(found) => {
                    tally.record(latency);
                    tally.not_found += u64::from(!found);
                }
                Err(error) => tally.record_error(error.kind().as_str()),
            }
        }
    }

    /// Says whether what was read was there.
    async fn operate(&mut self) -> annulet::Result<bool> {
        let Self {
            share,
            session,
            random,
            ..
        } = self;
        let (bucket, reading) = (&session.bucket, session.reading());
        let put = async |key: String, value| {
            let options = share.contexts.with(session.writing(None), &key);
            let written = bucket.put_with(&key, value, &options).await?;
            share.contexts.note(key, written);
            annulet::Result::Ok(())
        };
        match share.workload.operation(random) {
            Operation::Read => {
                let key = share.keys.existing(random);
                Ok(bucket.get_with(key, &reading).await?.is_some())
            }
            Operation::Update => {
                let (key, value) = (share.keys.existing(random), share.values.next(random));
                put(key, value).await?;
                Ok(true)
            }
            Operation::Insert => {
                let (key, value) = (share.keys.fresh(&self.taken), share.values.next(random));
                put(key, value).await?;
                share.keys.was_inserted();
                Ok(true)
            }
            Operation::ReadThenUpdate => {
                let (key, value) = (share.keys.existing(random), share.values.next(random));
                let found = bucket.get_with(&key, &reading).await?.is_some();
                put(key, value).await?;
                Ok(found)
            }
        }
    }
}

/// When the operations of an open loop are due: the n-th at `start + n / rate`.
struct Pace {
    start: Instant,
    rate: f64,
    /// Operations that are due and not begun. A number, not a queue: it takes no memory.
    due: Semaphore,
    begun: AtomicU64,
}

impl Pace {
    fn new(start: Instant, rate: f64) -> Self {
        Self {
            start,
            rate,
            due: Semaphore::new(0),
            begun: AtomicU64::new(0),
        }
    }

    /// Waits for the next operation that is due and says since when; `None` when there is none
    /// any more, or too late for it. What of the warm-up is left when measuring begins is skipped.
    async fn next(&self, from: Instant, end: Instant) -> Option<Instant> {
        loop {
            self.due.acquire().await.ok()?.forget();
            let now = clock::now();
            if now >= end + CATCH_UP {
                return None;
            }
            let number = self.begun.fetch_add(1, Ordering::Relaxed);
            let due = self.time_of(number);
            if due >= end {
                self.begun.fetch_sub(1, Ordering::Relaxed);
                return None;
            }
            if due >= from || now < from {
                return Some(due);
            }
        }
    }

    fn time_of(&self, number: u64) -> Instant {
        self.start + Duration::from_secs_f64(number as f64 / self.rate)
    }

    /// How many are due until a time.
    fn due_until(&self, time: Instant) -> u64 {
        let seconds = time.saturating_duration_since(self.start).as_secs_f64();
        (seconds * self.rate).ceil() as u64
    }

    /// Measured operations that were due and never begun.
    fn unstarted(&self, from: Instant, end: Instant) -> u64 {
        let begun = self.begun.load(Ordering::Relaxed).max(self.due_until(from));
        self.due_until(end).saturating_sub(begun)
    }
}

/// Lets operations begin when they are due. On a thread of its own, since tokio's timers tick in
/// milliseconds.
fn pacing_thread(
    pace: Arc<Pace>,
    end: Instant,
    callers: usize,
) -> Result<std::thread::JoinHandle<()>, Failure> {
    let work = move || {
        let mut released = 0;
        loop {
            let now = clock::now();
            let due = pace.due_until(now.min(end));
            pace.due.add_permits((due - released) as usize);
            released = due;
            if now >= end {
                // One more for each caller, to find out that it is over.
                pace.due.add_permits(callers);
                return;
            }
            let next = pace.time_of(due).min(end);
            clock::pause(next.saturating_duration_since(now).max(SHORTEST_PAUSE));
        }
    };
    std::thread::Builder::new()
        .name("pacer".to_owned())
        .spawn(work)
        .map_err(|error| Failure::failed(format!("cannot start a thread: {error}")))
}

/// Random bytes beyond one value: so many different values there are.
const POOL_BYTES: usize = 64 << 10;
/// Callers share this many tallies: few enough for their memory, enough not to wait for one.
const TALLIES: usize = 8;
/// How long after its end an open loop goes on with what was due before.
const CATCH_UP: Duration = Duration::from_secs(5);
/// A pause the system can keep; shorter ones only burn the processor.
const SHORTEST_PAUSE: Duration = Duration::from_micros(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_loop_knows_when_each_operation_is_due_and_what_it_missed() {
        let start = clock::now();
        let pace = Pace::new(start, 100.0);
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(pace.time_of(50), at(500));
        assert_eq!((pace.due_until(at(0)), pace.due_until(at(995))), (0, 100));
        // One second of warm-up, two of measuring.
        assert_eq!(pace.unstarted(at(1000), at(3000)), 200);
        pace.begun.store(250, Ordering::Relaxed);
        assert_eq!(pace.unstarted(at(1000), at(3000)), 50);
        pace.begun.store(300, Ordering::Relaxed);
        assert_eq!(pace.unstarted(at(1000), at(3000)), 0);
    }

    #[tokio::test]
    async fn what_is_left_of_the_warm_up_when_measuring_begins_is_skipped() {
        let second = Duration::from_secs(1);
        let now = clock::now();
        let (start, from, end) = (now - 2 * second, now - second, now + 60 * second);
        let pace = Pace::new(start, 100.0);
        pace.due.add_permits(150);
        assert_eq!(pace.next(from, end).await, Some(from));
        assert_eq!(pace.unstarted(from, end), 6099);
        let late = pace.next(from, now - 10 * second).await;
        assert_eq!(late, None, "nothing begins long after the end");
    }

    #[test]
    fn values_have_their_size_and_differ() {
        let values = Values::new(100, 1);
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let (one, other) = (values.next(&mut random), values.next(&mut random));
        assert_eq!((one.len(), other.len()), (100, 100));
        assert_ne!(one, other);
        assert_eq!(Values::new(0, 1).next(&mut random), Bytes::new());
    }
}
