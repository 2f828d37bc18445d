//! How fast pages of copies may move beside what clients ask.

use crate::clock;
use annulet_replica::copy::throttle::{Kind, Throttle, Turn};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What all pages of this server go through.
#[derive(Debug)]
pub(crate) struct Gate {
    began: Instant,
    throttle: Mutex<Throttle>,
    /// Until when pages move, so that other times cost no request anything.
    active_until_us: AtomicU64,
    /// Requests of clients that are under way.
    under_way: AtomicUsize,
}

/// A request of a client, until it ends.
#[derive(Debug)]
pub(crate) struct Timed<'a> {
    gate: &'a Gate,
    kind: Option<Kind>,
    began: Instant,
}

/// Pages that were let through, until it is known what they had. Those that do not come to be had
/// nothing.
#[derive(Debug)]
pub(crate) struct Passed<'a> {
    gate: &'a Gate,
    most: usize,
    bytes: usize,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            began: clock::now(),
            throttle: Mutex::default(),
            active_until_us: AtomicU64::new(0),
            under_way: AtomicUsize::new(0),
        }
    }
}

impl Gate {
    /// A client's request begins.
    pub(crate) fn times(&self, kind: Kind) -> Timed<'_> {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        Timed {
            gate: self,
            kind: Some(kind),
            began: clock::now(),
        }
    }

    /// Waits until pages of at most so many bytes may move. Where there are none, it does not wait.
    /// `None`: that is not before `deadline`.
    pub(crate) async fn pass(&self, most: usize, deadline: Instant) -> Option<Passed<'_>> {
        while let Turn::Wait(us) = self.turn(most) {
            let wait = Duration::from_micros(us);
            if clock::now() + wait > deadline {
                return None;
            }
            tokio::time::sleep(wait).await;
        }
        Some(Passed {
            gate: self,
            most,
            bytes: 0,
        })
    }

    fn turn(&self, most: usize) -> Turn {
        if most == 0 {
            return Turn::Go;
        }
        let waiting = self.under_way.load(Ordering::Relaxed) > 0;
        let mut throttle = self.throttle();
        let turn = throttle.turn(most, waiting, self.now_us());
        let until_us = throttle.active_until_us();
        self.active_until_us.store(until_us, Ordering::Relaxed);
        turn
    }

    fn now_us(&self) -> u64 {
        clock::since(self.began).as_micros() as u64
    }

    /// It decides only how fast something is, so a poisoned lock is still good.
    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Timed<'_> {
    /// It was refused: how long that took says nothing.
    pub(crate) fn forget(mut self) {
        self.kind = None;
    }
}

impl Drop for Timed<'_> {
    /// One that its client gave up took at least so long.
    fn drop(&mut self) {
        self.gate.under_way.fetch_sub(1, Ordering::Relaxed);
        let now_us = self.gate.now_us();
        let Some(kind) = self.kind else { return };
        if now_us < self.gate.active_until_us.load(Ordering::Relaxed) {
            let took_us = clock::since(self.began).as_micros() as u64;
            self.gate.throttle().observe(kind, took_us, now_us);
        }
    }
}

impl Passed<'_> {
    /// They had so many bytes.
    pub(crate) fn had(mut self, bytes: usize) {
        self.bytes = bytes;
    }
}

impl Drop for Passed<'_> {
    fn drop(&mut self) {
        if self.most > 0 {
            let now_us = self.gate.now_us();
            let mut throttle = self.gate.throttle();
            throttle.moved(self.most, self.bytes, now_us);
        }
    }
}
