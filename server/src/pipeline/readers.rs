//! The read lane: from memory on the caller's task, else by a small pool of threads.

use super::{Shared, refuse_all, run_lane};
use crate::budget::Share;
use crate::clock;
use crate::store::wrap::{Counted, InMemory};
use annulet_protocol::copy::CopyArc;
use annulet_protocol::message::{Answer, Read};
use annulet_protocol::register::message::ReadRegister;
use annulet_protocol::scan::Scan;
use annulet_replica::rules::ReadAnswers;
use annulet_replica::store::Store;
use crossbeam_channel::Receiver;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;
use tokio::sync::oneshot;

/// Most reads tried in memory by the caller's task itself: more would keep it from other requests.
const IN_MEMORY_MAX: usize = 256;

/// What a request asks.
pub(super) enum Asked {
    Reads(Vec<Read>),
    Registers(Vec<ReadRegister>),
    Scans(Vec<Scan>),
    Copies(Vec<CopyArc>),
}

impl Asked {
    /// How many answers there are to be.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Reads(reads) => reads.len(),
            Self::Registers(reads) => reads.len(),
            Self::Scans(scans) => scans.len(),
            Self::Copies(copies) => copies.len(),
        }
    }

    /// Whether all of it may be in memory.
    fn fits_memory(&self) -> bool {
        let possible = match self {
            // What is kept for others is always looked for on disk.
            Self::Reads(reads) => !reads.iter().any(|read| read.hinted),
            Self::Registers(_) => true,
            Self::Scans(_) | Self::Copies(_) => false,
        };
        possible && self.count() <= IN_MEMORY_MAX
    }

    fn answer(&self, shared: &Shared, epoch: u64, store: &impl Store) -> ReadAnswers {
        let served = shared.parts.current.load();
        let (replica, moment) = (&shared.parts.replica, shared.moment(&served));
        match self {
            Self::Reads(reads) => replica.read(store, moment, reads.iter().map(|r| (epoch, r))),
            Self::Registers(reads) => {
                let reads = reads.iter().map(|read| (epoch, read));
                replica.read_registers(store, moment, reads)
            }
            Self::Scans(scans) => replica.scan(store, moment, scans.iter().map(|s| (epoch, s))),
            Self::Copies(copies) => replica.copy(store, moment, copies.iter().map(|c| (epoch, c))),
        }
    }
}

/// A request's reads, or its scans.
pub(super) struct ReadJob {
    pub(super) epoch: u64,
    pub(super) asked: Asked,
    pub(super) queued: Instant,
    pub(super) deadline: Instant,
    pub(super) reply: oneshot::Sender<Found>,
    /// Its places in the queue, held until it is answered.
    pub(super) place: Share,
}

/// What a thread found.
pub(super) struct Found {
    pub(super) read: ReadAnswers,
    pub(super) share: Option<Share>,
}

/// One thread of the pool.
pub(super) struct Reader {
    shared: Arc<Shared>,
    jobs: Receiver<ReadJob>,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, jobs: Receiver<ReadJob>) -> Self {
        Self { shared, jobs }
    }

    /// Works until the queue is closed. Each request is read by itself: requests are batches
    /// already, and a short one must not wait for the disk on behalf of a long one.
    pub(super) fn run(&self) {
        run_lane(&self.shared, &self.jobs, || {
            while let Ok(job) = self.jobs.recv() {
                let found = self.read(&job);
                self.shared.read_delay.note(job.queued);
                // Whoever has an answer finds the places free again.
                drop(job.place);
                // Whoever gave up waiting needs no answer.
                let _ = job.reply.send(found);
            }
            Ok(())
        });
    }

    fn read(&self, job: &ReadJob) -> Found {
        let too_late = clock::now() >= job.deadline;
        // Nobody waits for it any more: the request was cancelled.
        if too_late || job.reply.is_closed() {
            let answers = refuse_all(job.asked.count(), &super::too_late());
            return Found {
                read: resting_on_nothing(answers),
                share: None,
            };
        }
        let Shared { parts, .. } = &*self.shared;
        let store = Counted::new(&*parts.engine, &parts.memory);
        let read = job.asked.answer(&self.shared, job.epoch, &store);
        self.shared.note_damaged(&read.damaged);
        Found {
            read,
            share: store.into_share(),
        }
    }
}

fn resting_on_nothing(answers: Vec<Answer>) -> ReadAnswers {
    ReadAnswers {
        answers,
        touched: Vec::new(),
        damaged: Vec::new(),
    }
}

/// How often memory held all that was asked for. Where it mostly does not, trying costs more than
/// it saves, and only some requests try.
#[derive(Debug, Default)]
pub(super) struct Warmth {
    /// Recent share of misses, of [`MISS_UNIT`].
    misses: AtomicU32,
    turn: AtomicU32,
}

const MISS_UNIT: u32 = 1 << 16;
const TRY_ONE_IN: u32 = 16;

impl Warmth {
    /// Answers reads from memory, or `None` if a part of them is not there.
    pub(super) fn try_memory(
        &self,
        shared: &Shared,
        epoch: u64,
        asked: &Asked,
    ) -> Option<ReadAnswers> {
        if !asked.fits_memory() || !self.worth_it() {
            return None;
        }
        let store = InMemory::new(&*shared.parts.engine);
        let read = asked.answer(shared, epoch, &store);
        let missed = store.missed();
        self.note(missed);
        if missed {
            return None;
        }
        shared.note_damaged(&read.damaged);
        shared
            .parts
            .metrics
            .reads_from_memory
            .inc_by(asked.count() as u64);
        Some(read)
    }

    fn worth_it(&self) -> bool {
        let cold = self.misses.load(Ordering::Relaxed) > MISS_UNIT / 2;
        !cold
            || self
                .turn
                .fetch_add(1, Ordering::Relaxed)
                .is_multiple_of(TRY_ONE_IN)
    }

    /// Moves the mean by a 64th of the way. Two at a time may lose one of them; it is a mean.
    fn note(&self, missed: bool) {
        let mean = self.misses.load(Ordering::Relaxed);
        let target = if missed { MISS_UNIT } else { 0 };
        let moved = mean - mean / 64 + target / 64;
        self.misses.store(moved, Ordering::Relaxed);
    }
}
