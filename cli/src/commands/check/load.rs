//! The load of `annulet check`: clients that read, write and compare the same few keys.

use crate::args::{Common, Target};
use crate::clock;
use crate::connect::{self, Session};
use crate::failure::Failure;
use annulet::{Bucket, ErrorKind, Outcome as Applied, ReadOptions, WriteOptions};
use annulet_history::{Answer, Condition, Op, Operation, Outcome};
use bytes::Bytes;
use futures_util::future::join_all;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a load is like.
#[derive(Clone, Debug)]
pub(super) struct Load {
    /// What its keys begin with, which tells them from those of other runs.
    pub(super) name: String,
    pub(super) lasts: Duration,
    pub(super) clients: u64,
    pub(super) keys: u64,
    pub(super) operations: u64,
    pub(super) seed: u64,
}

/// What the clients of one load share.
struct Shared {
    began: Instant,
    load: Load,
    begun: AtomicU64,
}

impl Load {
    /// Runs it, and gives what was asked and answered, by when it was asked.
    pub(super) async fn run(
        self,
        common: &Common,
        target: &Target,
    ) -> Result<Vec<Operation>, Failure> {
        let mut sessions = Vec::new();
        for _ in 0..self.clients {
            sessions.push(connect::session(common, target).await?);
        }
        let shared = Arc::new(Shared {
            began: clock::now(),
            load: self,
            begun: AtomicU64::new(0),
        });
        let mut workers: Vec<_> = sessions
            .iter()
            .enumerate()
            .map(|(index, session)| Worker::new(index as u64, session, Arc::clone(&shared)))
            .collect();
        let each = workers.iter_mut().map(Worker::work);
        let mut history: Vec<_> = join_all(each).await.into_iter().flatten().collect();
        // Not before all have ended: a write that is under way would stay behind.
        if let Some(worker) = workers.first_mut() {
            history.extend(worker.clean_up().await);
        }
        for session in &sessions {
            session.client.close().await;
        }
        history.sort_by_key(|operation| operation.start_ns);
        Ok(history)
    }
}

impl Shared {
    fn key(&self, number: u64) -> Bytes {
        format!("{}/{number}", self.load.name).into()
    }

    fn elapsed(&self) -> Duration {
        clock::now().duration_since(self.began)
    }
}

/// One client.
struct Worker {
    process: u64,
    bucket: Bucket,
    reading: ReadOptions,
    writing: WriteOptions,
    shared: Arc<Shared>,
    random: ChaCha8Rng,
    /// The last version that it saw of each key; `None`: it saw no value.
    seen: HashMap<Bytes, Option<String>>,
    written: u64,
}

impl Worker {
    fn new(index: u64, session: &Session, shared: Arc<Shared>) -> Self {
        let seed = shared.load.seed.wrapping_add(index);
        let random = ChaCha8Rng::seed_from_u64(seed);
        Self {
            // Programs that share keys are told apart in one history.
            process: u64::from(std::process::id()) * PROCESSES_MAX + index,
            bucket: session.bucket.clone(),
            reading: session.reading(),
            writing: session.writing(None),
            shared,
            random,
            seen: HashMap::new(),
            written: 0,
        }
    }

    async fn work(&mut self) -> Vec<Operation> {
        let mut history = Vec::new();
        let shared = Arc::clone(&self.shared);
        let load = &shared.load;
        while shared.elapsed() < load.lasts
            && shared.begun.fetch_add(1, Ordering::Relaxed) < load.operations
        {
            let key = shared.key(self.random.random_range(0..load.keys));
            let op = self.draw(&key);
            history.push(self.record(key, op).await);
        }
        history
    }

    /// Leaves no values behind, as far as it can.
    async fn clean_up(&mut self) -> Vec<Operation> {
        let mut history = Vec::new();
        for number in 0..self.shared.load.keys {
            let key = self.shared.key(number);
            history.push(self.record(key, Op::Delete).await);
        }
        history
    }

    async fn record(&mut self, key: Bytes, op: Op) -> Operation {
        let start_ns = clock::monotonic_ns();
        let outcome = self.call(&key, &op).await;
        let end_ns = Some(clock::monotonic_ns()).filter(|_| outcome != Outcome::Unknown);
        Operation {
            process: self.process,
            key,
            op,
            start_ns,
            end_ns,
            outcome,
        }
    }

    fn draw(&mut self, key: &Bytes) -> Op {
        let condition = match self.seen.get(key) {
            Some(Some(version)) => Condition::Version(version.clone()),
            Some(None) | None => Condition::Absent,
        };
        match self.random.random_range(0..20) {
            0..=7 => Op::Get,
            8..=10 => Op::Put {
                value: self.value(),
            },
            11 => Op::Delete,
            12 => Op::Cas {
                condition: Condition::Absent,
                value: Some(self.value()),
            },
            13 if condition != Condition::Absent => Op::Cas {
                condition,
                value: None,
            },
            _ => Op::Cas {
                condition,
                value: Some(self.value()),
            },
        }
    }

    /// No two writes have the same value.
    fn value(&mut self) -> Bytes {
        self.written += 1;
        format!("{}/{}", self.process, self.written).into()
    }

    async fn call(&mut self, key: &Bytes, op: &Op) -> Outcome {
        let (bucket, options) = (&self.bucket, &self.writing);
        let written = match op {
            Op::Get => return self.get(key).await,
            Op::Put { value } => bucket.put_with(key, value.clone(), options).await,
            Op::Delete => bucket.delete_with(key, options).await,
            Op::Cas {
                condition: Condition::Absent,
                value,
            } => {
                let value = value.clone().unwrap_or_default();
                bucket.put_if_absent_with(key, value, options).await
            }
            Op::Cas {
                condition: Condition::Version(version),
                value: Some(value),
            } => {
                let value = value.clone();
                bucket
                    .put_if_version_with(key, value, version, options)
                    .await
            }
            Op::Cas {
                condition: Condition::Version(version),
                value: None,
            } => bucket.delete_if_version_with(key, version, options).await,
        };
        match written {
            Ok(written) => {
                let stands = !matches!(op, Op::Delete | Op::Cas { value: None, .. });
                let version = Some(written.version);
                self.seen
                    .insert(key.clone(), version.clone().filter(|_| stands));
                Outcome::Ok(Answer::Written { version })
            }
            Err(error) if error.kind() == ErrorKind::Conflict => {
                self.seen.remove(key);
                Outcome::Ok(Answer::NotHeld)
            }
            Err(error) => match error.outcome() {
                Some(Applied::NotApplied) => Outcome::NotApplied,
                Some(Applied::Unknown) | None => Outcome::Unknown,
            },
        }
    }

    async fn get(&mut self, key: &Bytes) -> Outcome {
        match self.bucket.get_with(key, &self.reading).await {
            Ok(Some(entry)) => {
                let version = Some(entry.version);
                self.seen.insert(key.clone(), version.clone());
                let value = entry.value;
                Outcome::Ok(Answer::Found { value, version })
            }
            Ok(None) => {
                self.seen.insert(key.clone(), None);
                Outcome::Ok(Answer::Absent)
            }
            // A read that failed has told nothing, and changed nothing.
            Err(_) => Outcome::NotApplied,
        }
    }
}

/// More clients than one program can have here.
const PROCESSES_MAX: u64 = 1_000;
