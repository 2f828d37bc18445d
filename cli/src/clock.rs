//! The only place of this program that reads clocks or puts a thread to sleep.
#![expect(
    clippy::disallowed_methods,
    reason = "measuring, pacing and dating are the business of a command; everything else takes \
              the time from here"
)]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The monotonic clock, for measuring.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Time since the Unix epoch, for the dates in certificates.
pub(crate) fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// Blocks this thread. Tokio's timers tick in milliseconds, which is longer than an operation
/// takes; the thread that paces a benchmark needs to be on time.
pub(crate) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
