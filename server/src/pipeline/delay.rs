//! How long a lane takes, and whether what comes now would be done in time.
//!
//! A lane that is given more than it can do would in the end begin everything just too late. So
//! work is refused at the door while what was last done took more than half of the time that the
//! new work has, from the moment that it was queued; a lane with nothing to do takes anything.

use crate::clock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Delay {
    /// From queue to answer, the last time, in microseconds.
    last_us: AtomicU64,
}

impl Delay {
    /// Something that was queued then is done.
    pub(super) fn note(&self, queued: Instant) {
        let us = u64::try_from(clock::since(queued).as_micros()).unwrap_or(u64::MAX);
        self.last_us.store(us, Ordering::Relaxed);
    }

    /// How long it takes to be done.
    pub(super) fn last(&self) -> Duration {
        Duration::from_micros(self.last_us.load(Ordering::Relaxed))
    }

    /// Whether what has so much time left can be done in it.
    pub(super) fn fits(&self, left: Duration) -> bool {
        self.last() <= left / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_time_may_be_spent_in_the_lane() {
        let delay = Delay::default();
        assert!(delay.fits(Duration::ZERO), "nothing was done yet");
        delay.note(clock::now() - Duration::from_millis(400));
        assert!(delay.fits(Duration::from_millis(1_000)));
        assert!(!delay.fits(Duration::from_millis(700)));
        delay.note(clock::now());
        assert!(delay.fits(Duration::from_millis(700)));
    }
}
