//! The one place that asks the machine for the time and for randomness.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the client's clock and randomness module"
)]

use crate::core::client::Now;
use crate::error::{Error, ErrorKind, Result};
use annulet_protocol::ids::{ChangeId, Incarnation};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// The client's clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    /// The present moment, by both clocks.
    pub(crate) fn now(&self) -> Now {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Now {
            mono_ms: self.mono_us() / 1_000,
            wall_ms: wall.as_millis() as u64,
        }
    }

    /// Microseconds since the clock was started.
    pub(crate) fn mono_us(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    /// The runtime's instant of a moment in monotonic milliseconds.
    pub(crate) fn instant(&self, mono_ms: u64) -> Instant {
        self.started + Duration::from_millis(mono_ms)
    }
}

/// A fresh incarnation.
pub(crate) fn incarnation() -> Result<Incarnation> {
    let mut bytes = [0; 16];
    fill(&mut bytes)?;
    Ok(Incarnation(bytes))
}

/// A name for a change that is asked for.
pub(crate) fn change() -> Result<ChangeId> {
    let mut bytes = [0; 16];
    fill(&mut bytes)?;
    Ok(ChangeId(bytes))
}

/// A seed for what need not be unique: the order of seeds, jitter.
pub(crate) fn seed() -> Result<u64> {
    let mut bytes = [0; 8];
    fill(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn fill(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes)
        .map_err(|e| Error::new(ErrorKind::Internal, format!("no randomness to be had: {e}")))
}
