//! The write lane: one thread, so that a batch is decided on what the batch before it left.

use super::{Shared, refuse_all, run_lane, too_late};
use crate::budget::Share;
use crate::clock;
use crate::served::ServedView;
use crate::store::wrap::Plain;
use annulet_protocol::clock::HybridClock;
use annulet_protocol::message::Answer;
use annulet_replica::holdings::Holding;
use annulet_replica::rules::Mutation;
use annulet_replica::store::{Batch, Store, StoreError};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Most writes decided together. More would not make a sync cheaper, only later.
const BATCH_OPERATIONS_MAX: usize = 1024;
/// Most bytes of keys and values decided together.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// Longest time that a write of durability `async` stays unsynced.
const ASYNC_SYNC: Duration = Duration::from_millis(10);

/// What the lane is given to do.
pub(super) enum Job {
    Write(WriteJob),
    Install(Install),
}

/// Notes to make durable, then a view that takes effect.
pub(super) struct Install {
    pub(super) batch: Batch,
    pub(super) view: Option<Arc<ServedView>>,
    pub(super) gained: Vec<Holding>,
    pub(super) reply: oneshot::Sender<()>,
}

/// What a request changes.
pub(super) struct WriteJob {
    pub(super) epoch: u64,
    pub(super) mutations: Vec<Mutation>,
    pub(super) bytes: usize,
    pub(super) queued: Instant,
    pub(super) deadline: Instant,
    pub(super) reply: oneshot::Sender<Vec<Answer>>,
    /// Its places in the queue, held until it is answered.
    pub(super) shares: [Share; 2],
}

impl WriteJob {
    /// Gives it its part of the answers.
    fn answer(self, answers: &mut impl Iterator<Item = Answer>) {
        let answers = answers.take(self.mutations.len()).collect();
        // Whoever has an answer finds the places free again.
        drop((self.mutations, self.shares));
        // Whoever gave up waiting needs no answer.
        let _ = self.reply.send(answers);
    }
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    jobs: Receiver<Job>,
    /// Since when something is written and not synced.
    unsynced: Option<Instant>,
    /// Stamps the concurrent values that are minted here.
    clock: HybridClock,
    stop: bool,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, jobs: Receiver<Job>) -> Self {
        Self {
            shared,
            jobs,
            unsynced: None,
            clock: HybridClock::default(),
            stop: false,
        }
    }

    /// Works until the queue is closed or the store fails.
    pub(super) fn run(&mut self) {
        let (shared, jobs) = (self.shared.clone(), self.jobs.clone());
        run_lane(&shared, &jobs, || {
            while !self.stop {
                self.round()?;
            }
            Ok(())
        });
    }

    /// Takes what is queued, writes it, and answers it.
    fn round(&mut self) -> Result<(), StoreError> {
        let mut jobs = Vec::new();
        let install = self.gather(&mut jobs);
        let oldest = jobs.first().map(|job| job.queued);
        let now = clock::now();
        let (late, jobs): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|j| now >= j.deadline);
        for job in late {
            let refusals = refuse_all(job.mutations.len(), &too_late());
            job.answer(&mut refusals.into_iter());
        }
        if !jobs.is_empty() {
            self.write(jobs)?;
        }
        if let Some(install) = install {
            self.install(install)?;
        }
        if let Some(oldest) = oldest {
            self.shared.write_delay.note(oldest);
        }
        let due = self
            .unsynced
            .is_some_and(|since| clock::since(since) >= ASYNC_SYNC);
        if self.unsynced.is_some() && (due || self.stop) {
            self.sync()?;
        }
        Ok(())
    }

    /// Waits for a job, but not longer than unsynced writes may; then takes all that are there, up
    /// to a new view: what was queued before that is written first.
    fn gather(&mut self, jobs: &mut Vec<WriteJob>) -> Option<Install> {
        let first = match self.unsynced {
            Some(since) => self.jobs.recv_deadline(since + ASYNC_SYNC),
            None => self.jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let mut next = match first {
            Ok(job) => Some(job),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                self.stop = true;
                None
            }
        };
        let (mut operations, mut bytes) = (0, 0);
        while let Some(job) = next {
            let job = match job {
                Job::Write(job) => job,
                Job::Install(install) => return Some(install),
            };
            operations += job.mutations.len();
            bytes += job.bytes;
            jobs.push(job);
            let full = operations >= BATCH_OPERATIONS_MAX || bytes >= BATCH_BYTES_MAX;
            next = if full {
                None
            } else {
                self.jobs.try_recv().ok()
            };
        }
        None
    }

    /// The view is durable before anything is answered under it.
    fn install(&mut self, install: Install) -> Result<(), StoreError> {
        let Install {
            batch,
            view,
            gained,
            reply,
        } = install;
        if !batch.is_empty() {
            Plain(&*self.shared.parts.engine).write(batch)?;
            self.sync()?;
        }
        if let Some(view) = view {
            let current = &self.shared.parts.current;
            let mut unready = current.load().unready.to_vec();
            unready.extend(gained);
            current.set(view.with_unready(unready));
        }
        // Whoever gave up waiting needs no answer.
        let _ = reply.send(());
        Ok(())
    }

    fn write(&mut self, jobs: Vec<WriteJob>) -> Result<(), StoreError> {
        let shared = self.shared.clone();
        let parts = &shared.parts;
        let store = Plain(&*parts.engine);
        let mutations = jobs
            .iter()
            .flat_map(|job| job.mutations.iter().map(|m| (job.epoch, m)));
        let count = jobs.iter().map(|job| job.mutations.len() as u64).sum();
        let stamp = self.clock.reserve(clock::now_ms(), count);
        let served = parts.current.load();
        let moment = shared.write_moment(&served, stamp);
        let decided = parts.replica.decide(&store, moment, mutations)?;
        shared.note_damaged(&decided.damaged);
        if decided.crowded > 0 {
            parts.metrics.crowded.inc_by(decided.crowded as u64);
        }
        let (point, needs_sync) = shared.lobby.enter(&decided);
        parts
            .metrics
            .write_batch
            .observe(decided.answers.len() as f64);
        if !decided.batch.is_empty() {
            store.write(decided.batch)?;
            self.unsynced.get_or_insert_with(clock::now);
        }
        if needs_sync {
            self.sync()?;
        }
        if !decided.ready.is_empty() {
            let mut unready = served.unready.to_vec();
            unready.retain(|holding| !decided.ready.contains(holding));
            parts.current.set(served.with_unready(unready));
        }
        shared.lobby.synced(point);
        let mut answers = decided.answers.into_iter();
        for job in jobs {
            job.answer(&mut answers);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        let began = clock::now();
        self.shared.parts.engine.sync()?;
        self.unsynced = None;
        self.shared
            .parts
            .metrics
            .sync_seconds
            .observe(clock::since(began).as_secs_f64());
        Ok(())
    }
}
