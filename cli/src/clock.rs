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

/// The same as a number, in nanoseconds: one clock for all programs of a machine since it started.
pub(crate) fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let rest = u64::try_from(now.tv_nsec).unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
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
