//! From operations to answers: two lanes over one store.
//!
//! | lane | threads | bound |
//! |---|---|---|
//! | writes | one: it decides a batch, writes it, syncs it, answers it | operations and bytes |
//! | reads | none where all is in memory; else a small pool | operations |
//!
//! What the server finds out by itself goes through the write lane like everything else; so does
//! a new view, which takes effect between two batches: what was admitted under the old one is
//! written before. An answer
//! to a read may rest on a write that is not yet durable; then it waits in the lobby for
//! the sync that the write waits for.
//!
//! # Layout
//! - `writer`: the thread of the write lane
//! - `readers`: the threads of the read lane, and what is read without them
//! - `lobby`: answers that wait for a sync; `split`: a request's operations by lane
//! - `delay`: what is refused since it would be done too late

mod delay;
mod lobby;
mod readers;
mod split;
#[cfg(test)]
mod tests;
mod writer;

use crate::budget::{Budget, Share};
use crate::clock;
use crate::config::Limits;
use crate::disk::Disk;
use crate::metrics::{Metrics, UnderWay};
use crate::served::{Current, ServedView};
use crate::store::Engine;
use annulet_protocol::clock::Stamp;
use annulet_protocol::message::{Answer, DiskState, Load, Operation, Refusal, RefusalKind};
use annulet_protocol::siblings::message::Spread;
use annulet_replica::holdings::Holding;
use annulet_replica::rules::{Moment, Mutation, Replica};
use annulet_replica::spread::confirmed::Confirmed;
use annulet_replica::store::{Batch, StoreError};
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};
use delay::Delay;
use lobby::{Lobby, Rest};
use readers::{Asked, Found, ReadJob, Reader, Warmth};
use split::{Split, size};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};
use writer::{Install, Job, WriteJob, Writer};

/// What a pipeline is made of.
pub(crate) struct Parts {
    pub(crate) replica: Replica,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) disk: Disk,
    pub(crate) current: Arc<Current>,
    pub(crate) metrics: Arc<Metrics>,
    /// Memory of requests and replies.
    pub(crate) memory: Arc<Budget>,
}

/// What the lanes share.
struct Shared {
    parts: Parts,
    lobby: Lobby,
    write_delay: Delay,
    read_delay: Delay,
    clock_trusted: AtomicBool,
    /// Storage keys of records that were found damaged, until somebody takes them.
    damaged: Mutex<Vec<Bytes>>,
    /// What clients said of what was minted here.
    confirmed: Mutex<Confirmed>,
    failed: AtomicBool,
    failure: watch::Sender<Option<String>>,
}

/// The lanes.
pub(crate) struct Pipeline {
    shared: Arc<Shared>,
    writer: Queue<Job>,
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
    /// Something may have been written, so that the answers must be heard.
    pub(crate) may_have_written: bool,
    pub(crate) shares: [Option<Share>; 4],
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
            write_delay: Delay::default(),
            read_delay: Delay::default(),
            clock_trusted: AtomicBool::new(true),
            damaged: Mutex::default(),
            confirmed: Mutex::default(),
            failed: AtomicBool::new(false),
            failure: watch::Sender::new(None),
        });
        // One place more than there can be requests: the next view always finds it free.
        let (writer, write_jobs) = Queue::new(limits.operations_queued + 1);
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
        self.shared.confirm(epoch, &split.spreads);
        // The writer works while this task reads.
        let writing = self.submit(epoch, std::mem::take(&mut split.mutations), deadline);
        let asked = Asked::Reads(std::mem::take(&mut split.reads));
        let (read, share) = self.read(epoch, asked, deadline).await?;
        let asked = Asked::Registers(std::mem::take(&mut split.registers));
        let (registers, register_share) = self.read(epoch, asked, deadline).await?;
        let asked = Asked::Scans(std::mem::take(&mut split.scans));
        let (pages, page_share) = self.read_pages(epoch, asked, deadline).await?;
        // Pages for other servers say nothing about how long clients wait.
        let is_page = !split.copies.is_empty();
        let asked = Asked::Copies(std::mem::take(&mut split.copies));
        let (copies, copy_share) = self.read_pages(epoch, asked, deadline).await?;
        let may_have_written = matches!(writing, Submitted::Pending(_));
        let written = match writing {
            Submitted::Nothing => Vec::new(),
            Submitted::Refused(refusal) => refuse_all(split.mutation_at.len(), &refusal),
            Submitted::Pending(answers) => answers.await.map_err(|_| Failed)?,
        };
        if self.shared.failed.load(Ordering::Acquire) {
            return Err(Failed);
        }
        let answers = split.join([read, registers, pages, copies, written]);
        self.shared.parts.metrics.count_answers(&answers);
        if !is_page {
            self.note_service(clock::since(arrived).as_micros());
        }
        let shares = [share, register_share, page_share, copy_share];
        Ok(Answered {
            answers,
            may_have_written,
            shares,
        })
    }

    /// Notes what the server found out by itself, and what it brings itself up to date with.
    /// `None`: the lane is full, takes too long or ends, and nothing was noted.
    ///
    /// # Errors
    /// [`Failed`].
    pub(crate) async fn note(
        &self,
        mutations: Vec<Mutation>,
    ) -> Result<Option<Vec<Answer>>, Failed> {
        self.note_until(mutations, clock::now() + NOTE_TIME).await
    }

    async fn note_until(
        &self,
        mutations: Vec<Mutation>,
        deadline: Instant,
    ) -> Result<Option<Vec<Answer>>, Failed> {
        let epoch = self.shared.parts.current.load().view.ordinal();
        match self.submit(epoch, mutations, deadline) {
            Submitted::Nothing => Ok(Some(Vec::new())),
            Submitted::Refused(_) => Ok(None),
            Submitted::Pending(answers) => {
                let answers = answers.await.map_err(|_| Failed)?;
                // What comes too late is refused as a whole.
                Ok(Some(answers).filter(|answers| !answers.iter().any(is_too_late)))
            }
        }
    }

    /// Makes notes about the chain durable and, if there is one, a new view take effect. `gained`:
    /// what that gives this server, and is to be emptied. One such call at a time: there is room
    /// for one.
    ///
    /// # Errors
    /// [`Failed`].
    pub(crate) async fn install(
        &self,
        batch: Batch,
        view: Option<Arc<ServedView>>,
        gained: Vec<Holding>,
    ) -> Result<(), Failed> {
        let (reply, done) = oneshot::channel();
        let install = Install {
            batch,
            view,
            gained,
            reply,
        };
        match self.writer.send(Job::Install(install)) {
            true => done.await.map_err(|_| Failed),
            false => Err(Failed),
        }
    }

    /// From here on nothing is answered, for another reason than the store.
    pub(crate) fn give_up(&self, why: String) {
        self.shared.fail(why);
    }

    /// Storage keys of records that were found damaged since this was last called.
    pub(crate) fn take_damaged(&self) -> Vec<Bytes> {
        std::mem::take(&mut *self.shared.damaged())
    }

    /// Notes damaged records, for [`Self::take_damaged`].
    pub(crate) fn note_damaged(&self, keys: &[Bytes]) {
        self.shared.note_damaged(keys);
    }

    /// What clients said of what was minted here.
    pub(crate) fn confirmed(&self) -> MutexGuard<'_, Confirmed> {
        self.shared.confirmed()
    }

    /// The disk under the store.
    pub(crate) fn disk(&self) -> &Disk {
        &self.shared.parts.disk
    }

    /// Tells when another view has taken effect.
    pub(crate) fn view_changes(&self) -> watch::Receiver<()> {
        self.shared.parts.current.changes()
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

    /// Queues mutations.
    fn submit(&self, epoch: u64, mutations: Vec<Mutation>, deadline: Instant) -> Submitted {
        if mutations.is_empty() {
            return Submitted::Nothing;
        }
        self.shared
            .parts
            .metrics
            .writes
            .inc_by(mutations.len() as u64);
        let queued = clock::now();
        let left = deadline.saturating_duration_since(queued);
        if self.writes_queued.used() > 0 && !self.shared.write_delay.fits(left) {
            return Submitted::Refused(overloaded("writes", &self.shared.write_delay));
        }
        let bytes = mutations.iter().map(size).sum();
        let shares = self.writes_queued.take(mutations.len());
        let shares = shares.and_then(|count| Some([count, self.write_bytes_queued.take(bytes)?]));
        let Some(shares) = shares else {
            return Submitted::Refused(overloaded("writes", &self.shared.write_delay));
        };
        let (reply, answers) = oneshot::channel();
        let job = WriteJob {
            epoch,
            mutations,
            bytes,
            queued,
            deadline,
            reply,
            shares,
        };
        if !self.writer.send(Job::Write(job)) {
            return Submitted::Refused(stopping());
        }
        Submitted::Pending(answers)
    }

    /// Answers reads, from memory if possible.
    async fn read(
        &self,
        epoch: u64,
        asked: Asked,
        deadline: Instant,
    ) -> Result<(Vec<Answer>, Option<Share>), Failed> {
        let count = asked.count();
        if count == 0 {
            return Ok((Vec::new(), None));
        }
        self.shared.parts.metrics.reads.inc_by(count as u64);
        if clock::now() >= deadline {
            return Ok((refuse_all(count, &too_late()), None));
        }
        let in_memory = self.warmth.try_memory(&self.shared, epoch, &asked);
        let found = match in_memory {
            Some(read) => Ok(Found { read, share: None }),
            None => self.ask_readers(epoch, asked, deadline).await?,
        };
        self.rest(found).await
    }

    /// Reads pages, which are never looked for in memory only.
    async fn read_pages(
        &self,
        epoch: u64,
        asked: Asked,
        deadline: Instant,
    ) -> Result<(Vec<Answer>, Option<Share>), Failed> {
        if asked.count() == 0 {
            return Ok((Vec::new(), None));
        }
        let found = self.ask_readers(epoch, asked, deadline).await?;
        self.rest(found).await
    }

    /// Lets the pool of threads read, or says why it does not.
    async fn ask_readers(
        &self,
        epoch: u64,
        asked: Asked,
        deadline: Instant,
    ) -> Result<Result<Found, Vec<Answer>>, Failed> {
        let count = asked.count();
        let queued = clock::now();
        let left = deadline.saturating_duration_since(queued);
        let delay = &self.shared.read_delay;
        let in_time = self.reads_queued.used() == 0 || delay.fits(left);
        let Some(place) = self.reads_queued.take(count).filter(|_| in_time) else {
            return Ok(Err(refuse_all(count, &overloaded("reads", delay))));
        };
        let (reply, found) = oneshot::channel();
        let job = ReadJob {
            epoch,
            asked,
            queued,
            deadline,
            reply,
            place,
        };
        if !self.readers.send(job) {
            return Ok(Err(refuse_all(count, &stopping())));
        }
        found.await.map(Ok).map_err(|_| Failed)
    }

    /// Waits until what was found may be told.
    async fn rest(
        &self,
        found: Result<Found, Vec<Answer>>,
    ) -> Result<(Vec<Answer>, Option<Share>), Failed> {
        let Found { read, share } = match found {
            Ok(found) => found,
            Err(refusals) => return Ok((refusals, None)),
        };
        match self.shared.lobby.rest(read.touched) {
            Rest::Open => {}
            Rest::Until(synced) => synced.await.map_err(|_| Failed)?,
            Rest::Full => {
                let refusal = overloaded("reads", &self.shared.write_delay);
                let refusals = refuse_all(read.answers.len(), &refusal);
                return Ok((refusals, None));
            }
        }
        Ok((read.answers, share))
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

/// Longest time that what the server found out waits for the write lane.
const NOTE_TIME: Duration = Duration::from_secs(10);
/// Most damaged records that wait to be looked at.
const DAMAGED_MAX: usize = 10_000;
const RETRY_MS_MIN: u64 = 10;
const RETRY_MS_MAX: u64 = 1_000;

impl Drop for Pipeline {
    /// The threads use the store: it is not closed before they ended.
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// The moment of a read, which depends on no room on disk.
    fn moment<'a>(&self, served: &'a ServedView) -> Moment<'a> {
        Moment {
            now_ms: clock::now_ms(),
            stamp: Stamp::default(),
            clock_trusted: self.clock_trusted.load(Ordering::Relaxed),
            disk_full: false,
            view: &served.view,
            unready: &served.unready,
        }
    }

    /// The moment of a batch of writes, whose first stamp is this.
    fn write_moment<'a>(&self, served: &'a ServedView, stamp: Stamp) -> Moment<'a> {
        Moment {
            stamp,
            disk_full: self.parts.disk.state() == DiskState::Full,
            ..self.moment(served)
        }
    }

    /// A panic elsewhere does not tear the list, so a poisoned lock is still good.
    fn damaged(&self) -> MutexGuard<'_, Vec<Bytes>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is right after each call, so a poisoned lock is still good.
    fn confirmed(&self) -> MutexGuard<'_, Confirmed> {
        self.confirmed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what clients of this epoch say of what was minted here.
    fn confirm(&self, epoch: u64, spreads: &[Spread]) {
        if spreads.is_empty() {
            return;
        }
        let served = self.parts.current.load();
        let own = self.parts.replica.incarnation;
        let mut confirmed = self.confirmed();
        for spread in spreads {
            confirmed.note(&served.view, own, epoch, spread);
        }
    }

    /// What is over the bound is found again when it is next looked at.
    fn note_damaged(&self, keys: &[Bytes]) {
        if keys.is_empty() {
            return;
        }
        let mut damaged = self.damaged();
        let room = DAMAGED_MAX.saturating_sub(damaged.len());
        damaged.extend(keys.iter().take(room).cloned());
    }

    /// From here on nothing is answered.
    fn fail(&self, why: String) {
        self.failed.store(true, Ordering::Release);
        self.lobby.close();
        tracing::error!(why, "nothing is acknowledged any more");
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

/// Come back when about half of what is queued is done.
fn overloaded(what: &str, delay: &Delay) -> Refusal {
    let retry_ms = u64::try_from(delay.last().as_millis() / 2).unwrap_or(u64::MAX);
    Refusal {
        retry_after_ms: Some(retry_ms.clamp(RETRY_MS_MIN, RETRY_MS_MAX) as u32),
        ..Refusal::new(
            RefusalKind::Overloaded,
            format!("too many {what} are queued"),
        )
    }
}

fn too_late() -> Refusal {
    Refusal::new(
        RefusalKind::TooLate,
        "the time given was over before the work began",
    )
}

fn is_too_late(answer: &Answer) -> bool {
    matches!(answer, Answer::Refused(refusal) if refusal.kind == RefusalKind::TooLate)
}

fn stopping() -> Refusal {
    Refusal::new(RefusalKind::Stopping, "this server stops: ask another")
}
