//! The closed loop: callers that each have one operation under way, and what they saw.

use crate::args::Workload;
use crate::clock;
use crate::connection::Connection;
use bytes::Bytes;
use hdrhistogram::Histogram;
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// What to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) workload: Workload,
    pub(crate) callers: usize,
    pub(crate) measured: Duration,
    pub(crate) value_size: usize,
    pub(crate) keys: u32,
}

/// What happened while it was measured.
pub(crate) struct Outcome {
    /// Nanoseconds of each operation that succeeded.
    pub(crate) latencies: Histogram<u64>,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
}

/// Stores every key once.
pub(crate) async fn store_keys<C: Connection>(
    connections: &[C],
    plan: &Plan,
) -> Result<(), String> {
    let mut callers = JoinSet::new();
    for caller in 0..LOADERS {
        let mut connection = connections[caller % connections.len()].clone();
        let plan = *plan;
        callers.spawn(async move {
            let value = value(&plan, caller);
            for number in (caller as u32..plan.keys).step_by(LOADERS) {
                connection.put(key(number), value.clone()).await?;
            }
            Ok::<(), String>(())
        });
    }
    while let Some(ended) = callers.join_next().await {
        let stored = ended.map_err(|error| error.to_string())?;
        stored.map_err(|error| format!("while storing the keys: {error}"))?;
    }
    Ok(())
}

/// Warms up, then measures.
pub(crate) async fn measure<C: Connection>(
    connections: &[C],
    plan: &Plan,
) -> Result<Outcome, String> {
    let start = clock::now() + WARM_UP;
    let window = (start, start + plan.measured);
    let mut callers = JoinSet::new();
    for caller in 0..plan.callers {
        let connection = connections[caller % connections.len()].clone();
        callers.spawn(call(connection, *plan, caller, window));
    }
    let mut total = Outcome::new()?;
    while let Some(ended) = callers.join_next().await {
        total.add(ended.map_err(|error| error.to_string())??)?;
    }
    Ok(total)
}

/// One caller: the next operation begins when the last one has ended. What ends in the window
/// counts.
async fn call<C: Connection>(
    mut connection: C,
    plan: Plan,
    caller: usize,
    (start, end): (Instant, Instant),
) -> Result<Outcome, String> {
    let mut random = ChaCha8Rng::seed_from_u64(caller as u64);
    let value = value(&plan, caller);
    let mut outcome = Outcome::new()?;
    let mut before = clock::now();
    while before < end {
        let key = key(random.random_range(0..plan.keys));
        let answer = match plan.workload {
            Workload::Put => connection.put(key, value.clone()).await,
            Workload::Get => connection.get(key).await.and_then(|length| {
                (length == Some(plan.value_size))
                    .then_some(())
                    .ok_or_else(|| format!("a value of {length:?} bytes"))
            }),
        };
        let after = clock::now();
        if after >= start && after < end {
            outcome.record(answer, after - before);
        }
        before = after;
    }
    Ok(outcome)
}

impl Outcome {
    fn new() -> Result<Self, String> {
        Ok(Self {
            latencies: Histogram::new_with_bounds(1, LATENCY_NANOS_MAX, SIGNIFICANT_DIGITS)
                .map_err(|error| error.to_string())?,
            errors: 0,
            first_error: None,
        })
    }

    fn record(&mut self, answer: Result<(), String>, latency: Duration) {
        match answer {
            Ok(()) => {
                let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
                self.latencies.saturating_record(nanos);
            }
            Err(error) => {
                self.errors += 1;
                self.first_error.get_or_insert(error);
            }
        }
    }

    fn add(&mut self, other: Self) -> Result<(), String> {
        self.errors += other.errors;
        if self.first_error.is_none() {
            self.first_error = other.first_error;
        }
        let added = self.latencies.add(other.latencies);
        added.map_err(|error| error.to_string())
    }
}

fn key(number: u32) -> Bytes {
    Bytes::from(format!("bench-{number:010}"))
}

/// Bytes that do not compress, the same for all operations of a caller.
fn value(plan: &Plan, caller: usize) -> Bytes {
    let mut bytes = vec![0; plan.value_size];
    ChaCha8Rng::seed_from_u64(caller as u64).fill_bytes(&mut bytes);
    Bytes::from(bytes)
}

/// Callers that store the keys.
const LOADERS: usize = 256;
const WARM_UP: Duration = Duration::from_secs(1);
/// Longer than any operation may take.
const LATENCY_NANOS_MAX: u64 = 60_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;
