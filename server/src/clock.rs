//! The only place of this crate that asks the machine for the time.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the module that clippy.toml sends callers to"
)]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The wall clock, in milliseconds since the Unix epoch; 0 before it.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// The steady clock.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Time since an instant of the steady clock.
pub(crate) fn since(start: Instant) -> Duration {
    now().saturating_duration_since(start)
}
