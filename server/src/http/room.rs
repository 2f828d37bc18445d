//! Room for connections: how many are open, and which one goes when another wants in.
//!
//! Idle connections must not keep others out, whoever holds them and however many. So when all
//! places are taken, the connection goes that is worth least: one whose holder has presented no
//! certificate of the cluster before one whose holder has, and among these the one that has had no
//! request for longest. Nobody goes who has a request under way. A connection that still shakes
//! hands has had none.

use crate::clock;
use crate::metrics::{ClosedLabels, Metrics};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

/// How long one that wants in waits before it looks again who can go.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Connections that are looked at for one that can go. Those with requests under way are looked at
/// last the next time.
const LOOKS_MAX: usize = 1024;

/// All connections of a server.
#[derive(Debug)]
pub(super) struct Room {
    free: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    started: Instant,
    listed: Mutex<Listed>,
}

/// Connections by their worth, the least first. A worth may be out of date, and is then too low:
/// it is corrected when its turn comes, so that a request costs no lock.
#[derive(Debug, Default)]
struct Listed {
    order: BTreeMap<Worth, Arc<Place>>,
    /// Under which worth each connection is listed.
    worths: HashMap<u64, Worth>,
    last: u64,
}

/// What a connection is worth. It only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Worth {
    known: bool,
    used_ms: u64,
    number: u64,
}

/// What is known of one connection.
#[derive(Debug)]
struct Place {
    number: u64,
    started: Instant,
    /// Whether its holder has presented a certificate of the cluster.
    known: AtomicBool,
    /// Requests under way, answers that are still being sent included.
    requests: AtomicUsize,
    /// Long answers that are being sent.
    answers: AtomicUsize,
    /// When the last request ended, or when it was accepted.
    used_ms: AtomicU64,
    /// When the last long answer was taken, or the first of those under way begun.
    taken_ms: AtomicU64,
    leave: Notify,
}

/// Why a connection is closed that could have gone on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    /// It had no request for too long.
    Idle,
    /// Another one wanted in.
    Room,
    /// It did not take its answers.
    Stalled,
}

impl Closing {
    fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Room => "room",
            Self::Stalled => "stalled",
        }
    }
}

impl Room {
    /// Room for so many.
    pub(super) fn new(most: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(most)),
            metrics,
            started: clock::now(),
            listed: Mutex::default(),
        })
    }

    /// A place for one more, as soon as there is one.
    pub(super) async fn seat(self: &Arc<Self>) -> Seat {
        loop {
            if let Ok(free) = self.free.clone().try_acquire_owned() {
                return self.place(free);
            }
            self.make_room();
            let free = timeout(LOOK_AGAIN, self.free.clone().acquire_owned()).await;
            if let Ok(Ok(free)) = free {
                return self.place(free);
            }
        }
    }

    fn place(self: &Arc<Self>, free: OwnedSemaphorePermit) -> Seat {
        let mut listed = self.lock();
        listed.last += 1;
        let place = Arc::new(Place::new(listed.last, self.started));
        listed.list(place.clone());
        drop(listed);
        self.metrics.connections.inc();
        Seat {
            room: self.clone(),
            place,
            _free: free,
        }
    }

    /// Tells the connection of least worth to go. Says whether there is one that can.
    fn make_room(&self) -> bool {
        let mut listed = self.lock();
        let mut busy = Vec::new();
        let mut told = false;
        // Twice each, so that one whose worth was out of date has its turn as well.
        for _ in 0..LOOKS_MAX.min(2 * listed.order.len()) {
            let Some((worth, place)) = listed.order.pop_first() else {
                break;
            };
            if !place.is_idle() {
                busy.push(place);
            } else if place.worth() == worth {
                listed.worths.remove(&place.number);
                place.leave.notify_one();
                told = true;
                break;
            } else {
                listed.list(place);
            }
        }
        for place in busy {
            listed.list(place);
        }
        told
    }

    /// Nothing leaves the list torn, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Listed> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listed {
    fn list(&mut self, place: Arc<Place>) {
        let worth = place.worth();
        self.worths.insert(place.number, worth);
        self.order.insert(worth, place);
    }

    fn remove(&mut self, place: &Place) {
        if let Some(worth) = self.worths.remove(&place.number) {
            self.order.remove(&worth);
        }
    }
}

impl Place {
    fn new(number: u64, started: Instant) -> Self {
        let place = Self {
            number,
            started,
            known: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            answers: AtomicUsize::new(0),
            used_ms: AtomicU64::new(0),
            taken_ms: AtomicU64::new(0),
            leave: Notify::new(),
        };
        place.note(&place.used_ms);
        place
    }

    fn now_ms(&self) -> u64 {
        clock::since(self.started).as_millis() as u64
    }

    fn note(&self, moment_ms: &AtomicU64) {
        moment_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    fn since(&self, moment_ms: &AtomicU64) -> Duration {
        let then_ms = moment_ms.load(Ordering::Relaxed);
        Duration::from_millis(self.now_ms().saturating_sub(then_ms))
    }

    fn is_idle(&self) -> bool {
        self.requests.load(Ordering::Acquire) == 0
    }

    fn worth(&self) -> Worth {
        let used_ms = match self.is_idle() {
            true => self.used_ms.load(Ordering::Relaxed),
            false => self.now_ms(),
        };
        Worth {
            known: self.known.load(Ordering::Relaxed),
            used_ms,
            number: self.number,
        }
    }
}

/// The place of one connection, given back when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    room: Arc<Room>,
    place: Arc<Place>,
    _free: OwnedSemaphorePermit,
}

impl Seat {
    /// Notes that its holder has presented a certificate of the cluster.
    pub(super) fn note_known(&self) {
        self.place.known.store(true, Ordering::Relaxed);
    }

    /// For the requests of the connection.
    pub(super) fn requests(&self) -> Requests {
        Requests(self.place.clone())
    }

    /// Waits until the connection must go, and says why: it had no request for `idle`, took none
    /// of its answers for `stalled`, or has to make room.
    pub(super) async fn closing(&self, idle: Duration, stalled: Duration) -> Closing {
        loop {
            tokio::select! {
                why = self.worn_out(idle, stalled) => return why,
                () = self.place.leave.notified() => {}
            }
            if self.place.is_idle() {
                return Closing::Room;
            }
            // A request came in between: somebody else has to go.
            self.room.lock().list(self.place.clone());
        }
    }

    async fn worn_out(&self, idle: Duration, stalled: Duration) -> Closing {
        loop {
            let place = &self.place;
            let (why, left) = if place.answers.load(Ordering::Acquire) > 0 {
                let left = stalled.saturating_sub(place.since(&place.taken_ms));
                (Closing::Stalled, left)
            } else if place.is_idle() {
                let left = idle.saturating_sub(place.since(&place.used_ms));
                (Closing::Idle, left)
            } else {
                // What is under way now ends after this moment, and then all of the time is left.
                (Closing::Idle, idle)
            };
            if left.is_zero() {
                return why;
            }
            // Nobody says when an answer begins, so that is looked for as often as it matters.
            sleep(left.min(stalled)).await;
        }
    }

    /// Counts that the connection is closed for this reason.
    pub(super) fn count(&self, why: Closing) {
        let labels = ClosedLabels { why: why.name() };
        self.room.metrics.closed.get_or_create(&labels).inc();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.room.lock().remove(&self.place);
        self.room.metrics.connections.dec();
    }
}

/// Begins requests of one connection.
#[derive(Clone, Debug)]
pub(super) struct Requests(Arc<Place>);

impl Requests {
    /// A request is under way until what this gives is dropped.
    pub(super) fn begin(&self) -> UnderWay {
        self.0.requests.fetch_add(1, Ordering::AcqRel);
        UnderWay {
            place: self.0.clone(),
            answers: false,
        }
    }
}

/// A request, and its answer if that takes long to send.
#[derive(Debug)]
pub(super) struct UnderWay {
    place: Arc<Place>,
    answers: bool,
}

impl UnderWay {
    /// The request is done, and its answer is being sent.
    pub(super) fn answer(&mut self) {
        self.answers = true;
        if self.place.answers.fetch_add(1, Ordering::AcqRel) == 0 {
            self.place.note(&self.place.taken_ms);
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let place = &self.place;
        if self.answers {
            place.note(&place.taken_ms);
            place.answers.fetch_sub(1, Ordering::AcqRel);
        }
        place.note(&place.used_ms);
        place.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests;
