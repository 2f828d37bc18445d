//! The only place of this program that reads the clock.
#![expect(
    clippy::disallowed_methods,
    reason = "measuring is all that this program does; everything else takes the time from here"
)]

use std::time::Instant;

/// The monotonic clock, for measuring.
pub(crate) fn now() -> Instant {
    Instant::now()
}
