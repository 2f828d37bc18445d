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
    /// From the begin of measuring to the end of the last operation.
    pub(crate) elapsed: Duration,
}

/// Stores every key once.
pub(crate) async fn store_keys<C: Connection>(
    connections: &[C],
    plan: &Plan,
) -> Result<(), String> {
    let values = Values::new(plan.value_size);
    let mut callers = JoinSet::new();
    for caller in 0..LOADERS {
        let mut connection = connections[caller % connections.len()].clone();
        let values = values.clone();
        let mut random = ChaCha8Rng::seed_from_u64(caller as u64);
        let numbers = (caller as u32..plan.keys).step_by(LOADERS);
        callers.spawn(async move {
            for number in numbers {
                connection
                    .put(key(number), values.next(&mut random))
                    .await?;
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
    let values = Values::new(plan.value_size);
    let from = clock::now() + WARM_UP;
    let end = from + plan.measured;
    let mut callers = JoinSet::new();
    for number in 0..plan.callers {
        let caller = Caller {
            connection: connections[number % connections.len()].clone(),
            plan: *plan,
            values: values.clone(),
            random: ChaCha8Rng::seed_from_u64(number as u64),
            from,
            end,
        };
        callers.spawn(caller.run());
    }
    let mut total = Outcome::new()?;
    while let Some(ended) = callers.join_next().await {
        total.add(ended.map_err(|error| error.to_string())??)?;
    }
    total.elapsed = clock::now().max(end) - from;
    Ok(total)
}

/// One caller: the next operation begins when the last one has ended. What begins between
/// `from` and `end` counts, however long it takes.
struct Caller<C> {
    connection: C,
    plan: Plan,
    values: Values,
    random: ChaCha8Rng,
    from: Instant,
    end: Instant,
}

impl<C: Connection> Caller<C> {
    async fn run(mut self) -> Result<Outcome, String> {
        let mut outcome = Outcome::new()?;
        loop {
            let began = clock::now();
            if began >= self.end {
                return Ok(outcome);
            }
            let answer = self.operate().await;
            if began >= self.from {
                outcome.record(answer, clock::now() - began)?;
            }
        }
    }

    async fn operate(&mut self) -> Result<(), String> {
        let key = key(self.random.random_range(0..self.plan.keys));
        match self.plan.workload {
            Workload::Put => {
                let value = self.values.next(&mut self.random);
                self.connection.put(key, value).await
            }
            Workload::Get => match self.connection.get(key).await? {
                Some(length) if length == self.plan.value_size => Ok(()),
                length => Err(format!("a value of {length:?} bytes was read")),
            },
        }
    }
}

impl Outcome {
    fn new() -> Result<Self, String> {
        Ok(Self {
            latencies: Histogram::new(SIGNIFICANT_DIGITS).map_err(|error| error.to_string())?,
            errors: 0,
            first_error: None,
            elapsed: Duration::ZERO,
        })
    }

    fn record(&mut self, answer: Result<(), String>, latency: Duration) -> Result<(), String> {
        match answer {
            Ok(()) => {
                let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
                // Not `saturating_record`, which cuts off instead of growing.
                let recorded = self.latencies.record(nanos.max(1));
                recorded.map_err(|error| error.to_string())
            }
            Err(error) => {
                self.errors += 1;
                self.first_error.get_or_insert(error);
                Ok(())
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

/// Values to write, cut out of random bytes, so that storing them is no easier than real ones.
#[derive(Clone)]
struct Values {
    pool: Bytes,
    size: usize,
}

impl Values {
    fn new(size: usize) -> Self {
        let mut pool = vec![0; size + POOL_BYTES];
        ChaCha8Rng::seed_from_u64(0).fill_bytes(&mut pool);
        Self {
            pool: pool.into(),
            size,
        }
    }

    fn next(&self, random: &mut impl Rng) -> Bytes {
        let at = random.random_range(0..=POOL_BYTES);
        self.pool.slice(at..at + self.size)
    }
}

fn key(number: u32) -> Bytes {
    Bytes::from(format!("bench-{number:012}"))
}

/// Callers that store the keys.
const LOADERS: usize = 256;
const WARM_UP: Duration = Duration::from_secs(1);
const SIGNIFICANT_DIGITS: u8 = 3;
/// Random bytes beyond one value: so many different values there are.
const POOL_BYTES: usize = 64 << 10;
