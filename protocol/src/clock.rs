//! Hybrid logical time: the wall clock's milliseconds, made strictly rising.
//!
//! Source: Kulkarni et al., "Logical Physical Clocks", 2014, packed into one word as 48 bits of
//! milliseconds and 16 bits of counter; a full counter carries into the milliseconds.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A point in hybrid time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stamp(pub u64);

const COUNTER_BITS: u32 = 16;
/// Largest physical part that fits a stamp; the year 10889.
const MILLIS_MAX: u64 = u64::MAX >> COUNTER_BITS;

impl Stamp {
    /// The first stamp of a millisecond since the Unix epoch.
    pub fn at(ms: u64) -> Self {
        Self(ms.min(MILLIS_MAX) << COUNTER_BITS)
    }
    /// The physical part, in milliseconds since the Unix epoch.
    pub fn millis(self) -> u64 {
        self.0 >> COUNTER_BITS
    }
    /// The counter within the millisecond.
    pub fn counter(self) -> u16 {
        self.0 as u16
    }
    /// The next stamp.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.millis(), self.counter())
    }
}

/// Mints strictly rising stamps.
#[derive(Clone, Debug, Default)]
pub struct HybridClock {
    last: Stamp,
}

impl HybridClock {
    /// A stamp above all that this clock gave or observed, at or after `now_ms`.
    pub fn tick(&mut self, now_ms: u64) -> Stamp {
        self.last = Stamp::at(now_ms).max(self.last.next());
        self.last
    }

    /// The first of so many stamps, one after the other, all above those that this clock gave or
    /// observed.
    pub fn reserve(&mut self, now_ms: u64, count: u64) -> Stamp {
        let first = self.tick(now_ms);
        self.last = Stamp(first.0.saturating_add(count.saturating_sub(1)));
        first
    }

    /// Moves past a stamp that was seen, so that what is minted next comes after it. A stamp more
    /// than `ahead_ms_max` ahead of `now_ms` is left alone and `false` returned: one far-off
    /// record must not push every later stamp of this clock beyond what servers take.
    pub fn observe(&mut self, seen: Stamp, now_ms: u64, ahead_ms_max: u64) -> bool {
        if seen.millis() > now_ms.saturating_add(ahead_ms_max) {
            return false;
        }
        self.last = self.last.max(seen);
        true
    }

    /// Goes back to `now_ms` if it is more than `ahead_ms_max` ahead of that, as when the wall
    /// clock was far off and has been set right. What is minted next may then come before what was
    /// minted last.
    pub fn rewind(&mut self, now_ms: u64, ahead_ms_max: u64) {
        if self.last.millis() > now_ms.saturating_add(ahead_ms_max) {
            self.last = Stamp::at(now_ms);
        }
    }

    /// The time that this clock has certainly reached, in milliseconds.
    pub fn reached_ms(&self, now_ms: u64) -> u64 {
        now_ms.max(self.last.millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_stamp_from_far_ahead_does_not_move_the_clock() {
        let mut clock = HybridClock::default();
        assert!(!clock.observe(Stamp::at(5_000), 1_000, 500));
        assert_eq!(clock.tick(1_000).millis(), 1_000);
        assert!(clock.observe(Stamp::at(1_400), 1_000, 500));
        assert!(clock.tick(1_000) > Stamp::at(1_400));
    }

    #[test]
    fn a_clock_goes_back_only_from_far_ahead() {
        let mut clock = HybridClock::default();
        clock.tick(1_400);
        clock.rewind(1_000, 500);
        assert!(clock.tick(1_000) > Stamp::at(1_400), "not that far");
        clock.rewind(800, 500);
        assert_eq!(clock.tick(900), Stamp::at(900));
    }

    proptest! {
        #[test]
        fn stamps_rise_whatever_the_wall_clock_does(
            times in prop::collection::vec(0u64..1 << 47, 1..200)
        ) {
            let mut clock = HybridClock::default();
            let mut last = Stamp::default();
            for now in times {
                let stamp = clock.tick(now);
                prop_assert!(stamp > last && stamp >= Stamp::at(now));
                let first = clock.reserve(now, now % 5);
                prop_assert!(first > stamp);
                last = Stamp(first.0 + (now % 5).saturating_sub(1));
            }
        }
    }
}
