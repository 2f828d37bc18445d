//! How fast pages of copies may move beside what clients ask.

use crate::clock;
use annulet_replica::copy::throttle::{Kind, Throttle, Turn};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What all pages of this server go through.
#[derive(Debug)]
pub(crate) struct Gate {
    began: Instant,
    throttle: Mutex<Throttle>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            began: clock::now(),
            throttle: Mutex::default(),
        }
    }
}

impl Gate {
    /// A client's request was answered after so long.
    pub(crate) fn observe(&self, kind: Kind, took: Duration) {
        let now_us = self.now_us();
        let mut throttle = self.throttle();
        if throttle.is_active(now_us) {
            throttle.observe(kind, took.as_micros() as u64, now_us);
        }
    }

    /// Waits until pages of at most so many bytes may move; [`Gate::moved`] must follow. Where
    /// there are none, it does not wait.
    pub(crate) async fn pass(&self, bytes: usize) {
        let turn = || match bytes {
            0 => Turn::Go,
            _ => self.throttle().turn(bytes, self.now_us()),
        };
        while let Turn::Wait(us) = turn() {
            tokio::time::sleep(Duration::from_micros(us)).await;
        }
    }

    /// Pages that might have had `most` bytes have moved, and had so many.
    pub(crate) fn moved(&self, most: usize, bytes: usize) {
        if most > 0 {
            self.throttle().moved(most, bytes);
        }
    }

    fn now_us(&self) -> u64 {
        clock::since(self.began).as_micros() as u64
    }

    /// It decides only how fast something is, so a poisoned lock is still good.
    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
