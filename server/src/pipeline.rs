//! From operations to answers: two lanes over one store.
//!
//! | lane | threads | bound |
//! |---|---|---|
//! | writes | one: it decides a batch, writes it, syncs it, answers it | operations and bytes |
//! | reads | none where all is in memory; else a small pool | operations |
//!
//! An answer to a read may rest on a write that is not yet durable; then it waits in the lobby for
//! the sync that the write waits for.
//!
//! # Layout
//! - `writer`: the thread of the write lane
//! - `readers`: the threads of the read lane, and what is read without them
//! - `lobby`: answers that wait for a sync

mod lobby;
mod readers;
#[cfg(test)]
mod tests;
mod writer;

use crate::budget::{Budget, Share};
use crate::clock;
use crate::config::Limits;
use crate::metrics::{Metrics, UnderWay};
use crate::store::Engine;
use annulet_protocol::message::{Answer, Load, Operation, Read, Refusal, RefusalKind, Write};
use annulet_protocol::view::View;
use annulet_replica::rules::{Moment, Replica};
use annulet_replica::store::StoreError;
use crossbeam_channel::{Receiver, Sender, bounded};
use lobby::{Lobby, Rest};
use readers::{ReadJob, Reader, Warmth};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::sync::{oneshot, watch};
use writer::{WriteJob, Writer};

/// What a pipeline is made of.
pub(crate) struct Parts {
    pub(crate) replica: Replica,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) view: Arc<View>,
    pub(crate) metrics: Arc<Metrics>,
    /// Memory of requests and replies.
    pub(crate) memory: Arc<Budget>,
}

/// What the lanes share.
struct Shared {
    parts: Parts,
    lobby: Lobby,
    clock_trusted: AtomicBool,
    failed: AtomicBool,
    failure: watch::Sender<Option<String>>,
}

/// The lanes.
pub(crate) struct Pipeline {
    shared: Arc<Shared>,
    writer: Queue<WriteJob>,
    readers: Queue<ReadJob>,
    writes_queued: Arc<Budget>,
    write_bytes_queued: Arc<Budget>,
    reads_queued: Arc<Budget>,
    in_flight: Arc<Budget>,
    service_us: AtomicU32,
    warmth: Warmth,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Answers, and the memory that their values take until they are sent.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) answers: Vec<Answer>,
    pub(crate) share: Option<Share>,
}

/// The store failed: nothing may be answered any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failed;

impl Pipeline {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the system does not give them.
    pub(crate) fn start(parts: Parts, limits: &Limits) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            parts,
            lobby: Lobby::default(),
            clock_trusted: AtomicBool::new(true),
            failed: AtomicBool::new(false),
            failure: watch::Sender::new(None),
        });
        let (writer, write_jobs) = Queue::new(limits.operations_queued);
        let (readers, read_jobs) = Queue::new(limits.operations_queued);
        let mut threads = Vec::with_capacity(1 + limits.reader_threads);
        let spawn = |name: String| std::thread::Builder::new().name(name);
        let mut lane = Writer::new(shared.clone(), write_jobs);
        threads.push(spawn("writer".into()).spawn(move || lane.run())?);
        for number in 0..limits.reader_threads {
            let lane = Reader::new(shared.clone(), read_jobs.clone());
            threads.push(spawn(format!("reader-{number}")).spawn(move || lane.run())?);
        }
        Ok(Self {
            shared,
            writer,
            readers,
            writes_queued: Budget::new(limits.operations_queued),
            write_bytes_queued: Budget::new(limits.write_bytes_queued),
            reads_queued: Budget::new(limits.operations_queued),
            in_flight: Budget::new(usize::MAX),
            service_us: AtomicU32::new(0),
            warmth: Warmth::default(),
            threads: Mutex::new(threads),
        })
    }

    /// Answers operations of a request of this epoch, in order. What is not begun before
    /// `deadline` is refused.
    ///
    /// # Errors
    /// [`Failed`]: it is not known what was done, and the server is about to stop.
    pub(crate) async fn answer(
        &self,
        epoch: u64,
        operations: Vec<Operation>,
        arrived: Instant,
        deadline: Instant,
    ) -> Result<Answered, Failed> {
        let _in_flight = self.in_flight.take(operations.len());
        let mut split = Split::of(operations);
        // The writer works while this task reads.
        let writing = self.submit(epoch, std::mem::take(&mut split.writes), deadline);
        let (read, share) = self
            .read(epoch, std::mem::take(&mut split.reads), deadline)
            .await?;
        let written = match writing {
            Submitted::Nothing => Vec::new(),
            Submitted::Refused(refusal) => refuse_all(split.write_at.len(), &refusal),
            Submitted::Pending(answers) => answers.await.map_err(|_| Failed)?,
        };
        if self.shared.failed.load(Ordering::Acquire) {
            return Err(Failed);
        }
        let answers = split.join(read, written);
        self.shared.parts.metrics.count_answers(&answers);
        self.note_service(clock::since(arrived).as_micros());
        Ok(Answered { answers, share })
    }

    /// How busy the lanes are.
    pub(crate) fn load(&self) -> Load {
        Load {
            in_flight: u32::try_from(self.in_flight.used()).unwrap_or(u32::MAX),
            service_us: self.service_us.load(Ordering::Relaxed),
        }
    }

    /// What is queued, for the metrics.
    pub(crate) fn under_way(&self) -> UnderWay {
        UnderWay {
            reads_queued: self.reads_queued.used(),
            writes_queued: self.writes_queued.used(),
            write_bytes_queued: self.write_bytes_queued.used(),
            message_bytes: self.shared.parts.memory.used(),
        }
    }

    /// The store.
    pub(crate) fn engine(&self) -> &dyn Engine {
        &*self.shared.parts.engine
    }

    /// Says whether first-hand stamps are to be measured by this server's clock.
    pub(crate) fn trust_clock(&self, trusted: bool) {
        self.shared.clock_trusted.store(trusted, Ordering::Relaxed);
    }

    /// Waits until the store fails.
    pub(crate) async fn failure(&self) {
        let mut failure = self.shared.failure.subscribe();
        while self.failed().is_none() {
            if failure.changed().await.is_err() {
                // The sender lives as long as `self`.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Why the store failed, if it did.
    pub(crate) fn failed(&self) -> Option<String> {
        self.shared.failure.borrow().clone()
    }

    /// Ends the threads after what is queued, with a last sync. Blocks until they ended.
    pub(crate) fn stop(&self) {
        self.writer.close();
        self.readers.close();
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if thread.join().is_err() {
                tracing::error!(name, "a thread of the pipeline panicked");
            }
        }
    }

    /// Queues writes.
    fn submit(&self, epoch: u64, writes: Vec<Write>, deadline: Instant) -> Submitted {
        if writes.is_empty() {
            return Submitted::Nothing;
        }
        self.shared.parts.metrics.writes.inc_by(writes.len() as u64);
        let bytes = writes
            .iter()
            .map(|write| write.key.len() + write.record.value.len())
            .sum();
        let shares = self.writes_queued.take(writes.len());
        let shares = shares.and_then(|count| Some([count, self.write_bytes_queued.take(bytes)?]));
        let Some(shares) = shares else {
            return Submitted::Refused(self.overloaded("writes"));
        };
        let (reply, answers) = oneshot::channel();
        let job = WriteJob {
            epoch,
            writes,
            bytes,
            deadline,
            reply,
            shares,
        };
        if !self.writer.send(job) {
            return Submitted::Refused(stopping());
        }
        Submitted::Pending(answers)
    }

    /// Answers reads, from memory if possible.
    async fn read(
        &self,
        epoch: u64,
        reads: Vec<Read>,
        deadline: Instant,
    ) -> Result<(Vec<Answer>, Option<Share>), Failed> {
        if reads.is_empty() {
            return Ok((Vec::new(), None));
        }
        let count = reads.len();
        self.shared.parts.metrics.reads.inc_by(count as u64);
        if clock::now() >= deadline {
            return Ok((refuse_all(count, &too_late()), None));
        }
        let mut share = None;
        let found = match self.warmth.try_memory(&self.shared, epoch, &reads) {
            Some(found) => found,
            None => {
                let Some(place) = self.reads_queued.take(count) else {
                    return Ok((refuse_all(count, &self.overloaded("reads")), None));
                };
                let (reply, found) = oneshot::channel();
                let job = ReadJob {
                    epoch,
                    reads,
                    deadline,
                    reply,
                    place,
                };
                if !self.readers.send(job) {
                    return Ok((refuse_all(count, &stopping()), None));
                }
                let found = found.await.map_err(|_| Failed)?;
                share = found.share;
                found.read
            }
        };
        match self.shared.lobby.rest(found.touched) {
            Rest::Open => {}
            Rest::Until(synced) => synced.await.map_err(|_| Failed)?,
            Rest::Full => return Ok((refuse_all(count, &self.overloaded("reads")), None)),
        }
        Ok((found.answers, share))
    }

    /// When to come back: when about half of what is queued is done.
    fn overloaded(&self, what: &str) -> Refusal {
        let each_us = u64::from(self.service_us.load(Ordering::Relaxed));
        let retry_ms = (each_us / 1000).clamp(RETRY_MS_MIN, RETRY_MS_MAX);
        Refusal {
            retry_after_ms: Some(retry_ms as u32),
            ..Refusal::new(
                RefusalKind::Overloaded,
                format!("too many {what} are queued"),
            )
        }
    }

    /// Moves the mean by an eighth of the way. Two at a time may lose one of them; it is a mean.
    fn note_service(&self, us: u128) {
        let us = i64::try_from(us)
            .unwrap_or(i64::MAX)
            .min(i64::from(u32::MAX));
        let mean = i64::from(self.service_us.load(Ordering::Relaxed));
        let moved = mean + (us - mean) / 8;
        self.service_us.store(moved as u32, Ordering::Relaxed);
    }
}

const RETRY_MS_MIN: u64 = 10;
const RETRY_MS_MAX: u64 = 1_000;

impl Drop for Pipeline {
    /// The threads use the store: it is not closed before they ended.
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn moment(&self) -> Moment<'_> {
        Moment {
            now_ms: clock::now_ms(),
            clock_trusted: self.clock_trusted.load(Ordering::Relaxed),
            view: &self.parts.view,
        }
    }

    /// From here on nothing is answered.
    fn fail(&self, why: String) {
        self.failed.store(true, Ordering::Release);
        self.lobby.close();
        tracing::error!(why, "the store failed; nothing is acknowledged any more");
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            failure.get_or_insert(why);
            first
        });
    }
}

/// What became of a request's writes.
enum Submitted {
    Nothing,
    Refused(Refusal),
    Pending(oneshot::Receiver<Vec<Answer>>),
}

/// A request's operations by lane, and where their answers go.
struct Split {
    answers: Vec<Answer>,
    reads: Vec<Read>,
    read_at: Vec<usize>,
    writes: Vec<Write>,
    write_at: Vec<usize>,
}

impl Split {
    fn of(operations: Vec<Operation>) -> Self {
        let mut split = Self {
            answers: Vec::with_capacity(operations.len()),
            reads: Vec::new(),
            read_at: Vec::new(),
            writes: Vec::new(),
            write_at: Vec::new(),
        };
        for (at, operation) in operations.into_iter().enumerate() {
            match operation {
                Operation::Read(read) => {
                    split.reads.push(read);
                    split.read_at.push(at);
                }
                Operation::Write(write) => {
                    split.writes.push(write);
                    split.write_at.push(at);
                }
                Operation::Unknown => {
                    let why = "this server's version does not know the operation";
                    let refusal = Refusal::new(RefusalKind::Unsupported, why);
                    split.answers.push(Answer::Refused(refusal));
                    continue;
                }
            }
            // Keeps the place; `join` puts the lane's answer there.
            split.answers.push(Answer::Unknown);
        }
        split
    }

    fn join(mut self, read: Vec<Answer>, written: Vec<Answer>) -> Vec<Answer> {
        let places = self
            .read_at
            .iter()
            .zip(read)
            .chain(self.write_at.iter().zip(written));
        for (at, answer) in places {
            self.answers[*at] = answer;
        }
        self.answers
    }
}

/// The jobs of a lane. What was sent is done, or dropped if the store failed: nothing is left in a
/// queue that nobody reads.
struct Queue<J>(RwLock<Option<Sender<J>>>);

impl<J> Queue<J> {
    /// A queue of at most `most` jobs. A job has at least one operation, so the lane's budget of
    /// operations is the bound that refuses.
    fn new(most: usize) -> (Self, Receiver<J>) {
        let (sender, receiver) = bounded(most);
        (Self(RwLock::new(Some(sender))), receiver)
    }

    /// Queues a job; `false`: the lane ends.
    fn send(&self, job: J) -> bool {
        let sender = self.0.read().unwrap_or_else(PoisonError::into_inner);
        sender
            .as_ref()
            .is_some_and(|sender| sender.try_send(job).is_ok())
    }

    /// Lets the lane end after what is queued.
    fn close(&self) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }
}

/// Works in a lane until its queue is closed. If the store fails, nothing is answered from then on,
/// and whoever waits for an answer learns that there is none.
fn run_lane<J>(shared: &Shared, jobs: &Receiver<J>, work: impl FnOnce() -> Result<(), StoreError>) {
    // A panic is a mistake of ours; it must not leave a server that takes work and never answers.
    let why = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "a thread of the pipeline panicked; this is a bug".into(),
    };
    shared.fail(why);
    while let Ok(job) = jobs.recv() {
        drop(job);
    }
}

fn refuse_all(count: usize, refusal: &Refusal) -> Vec<Answer> {
    vec![Answer::Refused(refusal.clone()); count]
}

fn too_late() -> Refusal {
    Refusal::new(
        RefusalKind::TooLate,
        "the time given was over before the work began",
    )
}

fn stopping() -> Refusal {
    Refusal::new(RefusalKind::Stopping, "this server stops: ask another")
}
