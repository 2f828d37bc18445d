//! Messages of one class to one server, batched as they wait.
//!
//! A lane has a few requests on the way at once. What comes while they are out waits, and goes
//! together as soon as one of them returns: an idle lane adds no delay, a busy one makes big
//! batches by itself. Long values have a lane of their own, one to a request, so that nothing
//! short waits behind them.

use super::connection::Connection;
use super::under_way::UnderWay;
use crate::core::client::Heard;
use crate::core::policy::retry::AWAY_MS_MAX;
use crate::core::policy::throttle;
use crate::core::policy::waiting::Class;
use crate::core::{Attempt, Response, Send, SendFailure};
use crate::error::{Error, ErrorKind};
use crate::run::Target;
use crate::shared::Shared;
use crate::statistics::add;
use annulet_protocol::codec;
use annulet_protocol::ids::NodeId;
use annulet_protocol::message::{Answer, Operation, Reply, Request, Source};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Most messages in one request.
const BATCH_MAX: usize = 128;
/// Most bytes of values in one request, and aimed at in one reply.
const BATCH_BYTES_MAX: usize = 256 << 10;
/// Bytes aimed at in one reply to a batch of reads.
const REPLY_BYTES_AIM: u64 = 1 << 20;
/// Most messages that wait in one lane.
const QUEUE_MAX: usize = 16_384;
/// Longest reply whose time says how quick a server is.
const COMPARED_BYTES_MAX: usize = 64 << 10;
/// Operations end by their own deadlines, and after those what they have under way.
const GRACE: Duration = Duration::from_millis(20);
/// Longest time to open a connection.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// Requests on the way at once.
fn requests_max(class: Class) -> usize {
    match class {
        Class::Read | Class::Write => 2,
        Class::Large => 8,
    }
}

/// A message that waits for its turn, and who wants the answer.
pub(crate) struct Pending {
    pub(crate) send: Send,
    pub(crate) target: Arc<dyn Target>,
}

#[derive(Default)]
struct Queue {
    /// Messages, and when they came, in monotonic milliseconds.
    waiting: VecDeque<(u64, Pending)>,
    /// Tasks that are sending from this lane.
    workers: usize,
}

/// See the module.
pub(crate) struct Lane {
    node: NodeId,
    address: String,
    class: Class,
    queue: Mutex<Queue>,
    connection: tokio::sync::Mutex<Link>,
    /// Requests on the way whose answers may be given up.
    under_way: UnderWay,
    open: AtomicBool,
    used_ms: AtomicU64,
    /// Recent mean of a reply's bytes for each message in it.
    reply_bytes: AtomicU64,
}

/// The connection, or why there is none.
#[derive(Debug, Default)]
struct Link {
    connection: Option<Connection>,
    failures: u32,
    away_until_ms: u64,
    why: Option<SendFailure>,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lane({} {} {:?})", self.node, self.address, self.class)
    }
}

impl Lane {
    pub(crate) fn new(node: NodeId, address: String, class: Class) -> Self {
        Self {
            node,
            address,
            class,
            queue: Mutex::default(),
            connection: tokio::sync::Mutex::default(),
            under_way: UnderWay::default(),
            open: AtomicBool::new(false),
            used_ms: AtomicU64::new(0),
            reply_bytes: AtomicU64::new(0),
        }
    }

    /// Queues a message. A full lane answers at once that it is.
    pub(crate) fn push(self: &Arc<Self>, shared: &Arc<Shared>, pending: Pending) {
        let mut queue = self.lock();
        if queue.waiting.len() >= QUEUE_MAX {
            drop(queue);
            let why = format!("{QUEUE_MAX} messages wait for server {}", self.node);
            let full = SendFailure::Rejected(Error::new(ErrorKind::Overloaded, why), None);
            // Not from here: the caller may hold the operation's lock.
            let shared = Arc::clone(shared);
            let runtime = shared.runtime.clone();
            runtime.spawn(async move {
                shared.deliver(vec![(pending, None, Err(full))], |_, _| {});
            });
            return;
        }
        let now_ms = shared.clock.now().mono_ms;
        queue.waiting.push_back((now_ms, pending));
        if queue.workers < requests_max(self.class) {
            queue.workers += 1;
            drop(queue);
            shared
                .runtime
                .spawn(Arc::clone(self).work(Arc::clone(shared)));
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    pub(crate) fn used_ms(&self) -> u64 {
        self.used_ms.load(Ordering::Relaxed)
    }

    /// Whether messages wait or are under way.
    pub(crate) fn is_busy(&self) -> bool {
        let queue = self.lock();
        queue.workers > 0 || !queue.waiting.is_empty()
    }

    /// The answer to a message is of no use any more.
    pub(crate) fn cancel(&self, target: &Arc<dyn Target>, attempt: Attempt) {
        self.under_way.cancel(target, attempt);
    }

    /// Closes the connection unless something is being sent.
    pub(crate) fn close_if_idle(&self) -> bool {
        let queue = self.lock();
        if queue.workers > 0 {
            return false;
        }
        let Ok(mut link) = self.connection.try_lock() else {
            return false;
        };
        self.open.store(false, Ordering::Relaxed);
        link.connection.take().is_some()
    }

    /// No worker leaves the queue torn, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends until nothing waits.
    async fn work(self: Arc<Self>, shared: Arc<Shared>) {
        loop {
            let batch = self.take(&shared);
            if batch.is_empty() {
                // `take` has signed this worker off.
                return;
            }
            self.used_ms
                .store(shared.clock.now().mono_ms, Ordering::Relaxed);
            self.send(&shared, batch).await;
        }
    }

    /// The next messages that may go together. If there are none, the worker is signed off in the
    /// same step, so that a message queued after it starts a new one.
    fn take(&self, shared: &Shared) -> Vec<Pending> {
        let most = match self.class {
            Class::Large => 1,
            Class::Read | Class::Write => {
                let mean = self.reply_bytes.load(Ordering::Relaxed).max(1);
                usize::try_from(REPLY_BYTES_AIM / mean)
                    .unwrap_or(BATCH_MAX)
                    .clamp(1, BATCH_MAX)
            }
        };
        let now_ms = shared.clock.now().mono_ms;
        let mut queue = self.lock();
        let mut batch = Vec::with_capacity(queue.waiting.len().min(most));
        let mut bytes = 0;
        while batch.len() < most {
            let Some((_, next)) = queue.waiting.front() else {
                break;
            };
            let Pending { send, target } = next;
            if !target.is_waiting(now_ms, send.node, send.attempt) {
                queue.waiting.pop_front();
                continue;
            }
            bytes += size(&send.operation);
            let other = batch.first().is_some_and(|first: &Pending| {
                first.send.epoch != send.epoch || bytes > BATCH_BYTES_MAX
            });
            if other {
                break;
            }
            batch.extend(queue.waiting.pop_front().map(|(since_ms, mut next)| {
                // What it has waited is no longer left.
                let waited_ms = now_ms.saturating_sub(since_ms);
                let waited_ms = u32::try_from(waited_ms).unwrap_or(u32::MAX);
                next.send.budget_ms = next.send.budget_ms.saturating_sub(waited_ms).max(1);
                next
            }));
        }
        if batch.is_empty() {
            queue.workers -= 1;
        }
        batch
    }

    /// Since how long the oldest message waits that is not on the way yet.
    fn waits_ms(&self, now_ms: u64) -> u64 {
        let queue = self.lock();
        let oldest = queue.waiting.front();
        oldest.map_or(0, |(since_ms, _)| now_ms.saturating_sub(*since_ms))
    }

    /// Sends one request and hands out what became of its messages.
    async fn send(&self, shared: &Arc<Shared>, batch: Vec<Pending>) {
        let (request, pending) = self.request(shared, batch);
        let limit = Duration::from_millis(u64::from(request.budget_ms)) + GRACE;
        let body = Bytes::from(codec::encode(&request));
        drop(request);
        let reads = match self.class {
            Class::Read => pending.len() as u64,
            Class::Write | Class::Large => 0,
        };
        if reads > 0 {
            shared.core().peers.note_sent(self.node, reads);
        }
        let sent_us = shared.clock.mono_us();
        let exchanged = self
            .exchange_or_give_up(shared, &pending, body, limit)
            .await;
        let count = pending.len();
        match exchanged.map(|e| e.and_then(|body| self.check(shared, body, count))) {
            Some(Ok((reply, bytes))) => {
                let heard = Heard {
                    round_trip_us: shared.clock.mono_us() - sent_us,
                    time_ms: reply.time_ms,
                    load: reply.load,
                    is_read: reads > 0 && bytes <= COMPARED_BYTES_MAX,
                };
                let epoch = reply.epoch;
                let refused = throttle::refused(&reply.results);
                let each =
                    |(pending, answer): (Pending, Answer)| (pending, Some(epoch), Ok(answer));
                let answers = pending.into_iter().zip(reply.results).map(each).collect();
                // Before the core is locked: others wait for that.
                let waits_ms = self.waits_ms(shared.clock.now().mono_ms);
                shared.deliver(answers, |core, now| {
                    core.peers.note_over(self.node, reads);
                    core.note_reply(self.node, now, heard);
                    let (lane, now_ms) = ((self.node, self.class), now.mono_ms);
                    let taken = count as u64 - refused;
                    core.peers.note_taken(lane, (taken, refused), now_ms);
                    core.peers
                        .note_waiting(self.node, self.class, waits_ms, now_ms);
                });
                shared.hear_of(epoch);
            }
            Some(Err(failure)) => self.fail(shared, pending, reads, &failure),
            // Nobody waits for any of the answers.
            None => {
                add(&shared.counters.cancelled, count);
                shared.core().peers.note_over(self.node, reads);
            }
        }
    }

    /// A request of these messages, and who waits for them.
    fn request(&self, shared: &Shared, batch: Vec<Pending>) -> (Request, Vec<Pending>) {
        let mut pending = Vec::with_capacity(batch.len());
        let mut operations = Vec::with_capacity(batch.len());
        let (mut epoch, mut budget_ms, mut repairs) = (0, 1, 0);
        for Pending { mut send, target } in batch {
            let operation = std::mem::replace(&mut send.operation, Operation::Unknown);
            repairs += usize::from(
                matches!(&operation, Operation::Write(w) if w.source == Source::Repair),
            );
            operations.push(operation);
            (epoch, budget_ms) = (send.epoch, budget_ms.max(send.budget_ms));
            pending.push(Pending { send, target });
        }
        add(&shared.counters.messages, pending.len());
        add(&shared.counters.repairs, repairs);
        add(&shared.counters.requests, 1);
        let request = Request {
            cluster: shared.cluster,
            epoch,
            budget_ms,
            operations,
        };
        (request, pending)
    }

    /// Tells those who wait that there is no answer.
    fn fail(&self, shared: &Arc<Shared>, pending: Vec<Pending>, reads: u64, failure: &SendFailure) {
        let silent = match failure {
            SendFailure::NotSent(_) | SendFailure::Unanswered(_) => true,
            SendFailure::Rejected(..) => false,
        };
        if silent {
            add(&shared.counters.unanswered, pending.len());
        }
        let refused = match failure {
            SendFailure::Rejected(error, _) if error.kind() == ErrorKind::Overloaded => {
                pending.len() as u64
            }
            SendFailure::NotSent(_) | SendFailure::Unanswered(_) | SendFailure::Rejected(..) => 0,
        };
        let each = |pending| (pending, None, Response::Err(failure.clone()));
        let answers = pending.into_iter().map(each).collect();
        shared.deliver(answers, |core, now| {
            core.peers.note_over(self.node, reads);
            core.peers
                .note_taken((self.node, self.class), (0, refused), now.mono_ms);
            if silent {
                core.note_failure(self.node);
            }
        });
    }

    /// Sends a request and gives the reply's body; `None`: its answers are of no use any more.
    async fn exchange_or_give_up(
        &self,
        shared: &Shared,
        pending: &[Pending],
        body: Bytes,
        limit: Duration,
    ) -> Option<Result<Bytes, SendFailure>> {
        let exchange = tokio::time::timeout(limit, self.exchange(shared, body, limit));
        let late = |_| Err(SendFailure::Unanswered("no answer in time".into()));
        if self.class != Class::Read {
            return Some(exchange.await.unwrap_or_else(late));
        }
        let given_up = self.under_way.note(pending);
        let exchanged = tokio::select! {
            biased;
            exchanged = exchange => Some(exchanged.unwrap_or_else(late)),
            () = given_up.notified() => None,
        };
        self.under_way.over(&given_up);
        exchanged
    }

    async fn exchange(
        &self,
        shared: &Shared,
        body: Bytes,
        limit: Duration,
    ) -> Result<Bytes, SendFailure> {
        let mut connection = self.connect(shared, limit).await?;
        connection.post("/v1/ops", body).await
    }

    /// The open connection, or a new one.
    async fn connect(&self, shared: &Shared, limit: Duration) -> Result<Connection, SendFailure> {
        let mut link = self.connection.lock().await;
        if let Some(connection) = link.connection.as_ref().filter(|open| !open.is_closed()) {
            return Ok(connection.clone());
        }
        link.connection = None;
        self.open.store(false, Ordering::Relaxed);
        let now_ms = shared.clock.now().mono_ms;
        if now_ms < link.away_until_ms {
            let unknown = || SendFailure::NotSent("no connection".into());
            return Err(link.why.clone().unwrap_or_else(unknown));
        }
        let tls = Arc::clone(&shared.tls);
        match Connection::open(&self.address, tls, limit.min(CONNECT_MAX)).await {
            Ok(connection) => {
                add(&shared.counters.connections, 1);
                add(
                    &shared.counters.connections_resumed,
                    usize::from(connection.resumed),
                );
                *link = Link {
                    connection: Some(connection.clone()),
                    ..Link::default()
                };
                self.open.store(true, Ordering::Relaxed);
                Ok(connection)
            }
            Err(why) => {
                tracing::debug!(node = %self.node, ?why, "no connection");
                link.failures = link.failures.saturating_add(1);
                // From 20 ms, doubling, each client at its own point of the upper half.
                let whole = (10u64 << link.failures.min(7)).min(AWAY_MS_MAX);
                let wait = whole / 2 + shared.jitter(self.node) % (whole / 2 + 1);
                link.away_until_ms = shared.clock.now().mono_ms + wait;
                link.why = Some(why.clone());
                Err(why)
            }
        }
    }

    /// Reads a reply, checks that it is one to this request, and says how long it is.
    fn check(
        &self,
        shared: &Shared,
        body: Bytes,
        count: usize,
    ) -> Result<(Reply, usize), SendFailure> {
        let reply = codec::decode_reply(&body)
            .map_err(|e| SendFailure::Unanswered(format!("an unreadable reply: {e}")))?;
        if reply.cluster != shared.cluster || reply.node != self.node {
            let why = format!(
                "server {} answers at the address of {}",
                reply.node, self.node
            );
            return Err(SendFailure::Unanswered(why));
        }
        if reply.results.len() != count {
            let why = format!("{} answers to {count} operations", reply.results.len());
            return Err(SendFailure::Unanswered(why));
        }
        let mean = self.reply_bytes.load(Ordering::Relaxed);
        let each = (body.len() / count.max(1)) as u64;
        // Quick to grow, slow to shrink: a reply too big costs more than one too small.
        let mean = if each > mean {
            each
        } else {
            (mean * 7 + each) / 8
        };
        self.reply_bytes.store(mean, Ordering::Relaxed);
        Ok((reply, body.len()))
    }
}

/// Bytes of a message, roughly.
fn size(operation: &Operation) -> usize {
    match operation {
        Operation::Read(read) => read.key.len(),
        Operation::Write(write) => write.key.len() + write.record.value.len(),
        Operation::Hint(hint) => hint.key.len() + hint.record.value.len(),
        Operation::Touch(touch) => touch.key.len(),
        Operation::Scan(scan) => scan.after.len(),
        // No client asks it.
        Operation::CopyArc(asked) => asked.after.len() + asked.last.len(),
        Operation::Mint(mint) => mint.key.len() + mint.context.len() + mint.write.value.len(),
        Operation::Merge(merge) => merge.key.len() + merge.record.len(),
        Operation::Compare(compare) => compare.key.len(),
        Operation::Spread(spread) => spread.key.len(),
        Operation::ReadRegister(read) => read.key.len(),
        Operation::Prepare(prepare) => prepare.key.len(),
        Operation::Accept(accept) => accept.key.len() + accept.value.len(),
        Operation::Learn(learn) => learn.key.len() + learn.value.len(),
        Operation::Unknown => 0,
    }
}
