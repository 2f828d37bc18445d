//! When a read asks another replica although the first may still answer.
//!
//! After Dean and Barroso, "The Tail at Scale" (2013): once an answer takes longer than 95 of 100
//! did, another replica is asked, and whoever answers first is taken. That cuts the tail for a few
//! percent of load, so the load is bounded: one read in twenty may be hedged, and none while a
//! server says that it has too much to do.

/// Part of the answers that come sooner than a hedge, in percent.
const PERCENTILE: u64 = 95;
/// Answers that must be known before anything is hedged.
const SAMPLES_MIN: u32 = 64;
/// Answers after which older ones count half.
const SAMPLES_MAX: u32 = 4_096;
/// Hundredths of a hedge that one read earns.
const EARNED: u32 = 5;
/// Hundredths of a hedge that one hedge costs.
const COST: u32 = 100;
/// Hundredths of a hedge that are saved at most.
const SAVED_MAX: u32 = 1_000;
/// How long nothing is hedged after a server said that it has too much to do.
const QUIET_MS: u64 = 1_000;
/// Shortest wait: what is sooner than this is not worth a second message.
const DELAY_MS_MIN: u64 = 2;

/// Classes of peers: in the client's zone, in its region, elsewhere.
pub const CLASSES: usize = 3;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Hedging {
    classes: [Times; CLASSES],
    saved: u32,
    quiet_until_ms: u64,
}

impl Hedging {
    /// Notes how long an answer to a read took, from a peer of this class.
    pub fn note_answer(&mut self, class: u8, took_us: u64) {
        if let Some(times) = self.classes.get_mut(usize::from(class)) {
            times.note(took_us);
        }
    }

    /// Notes that a server has too much to do.
    pub fn note_overload(&mut self, now_ms: u64) {
        self.quiet_until_ms = now_ms + QUIET_MS;
    }

    /// Notes that a read begins.
    pub fn earn(&mut self) {
        self.saved = (self.saved + EARNED).min(SAVED_MAX);
    }

    /// How long to wait for a peer of this class, in milliseconds, at most `most`. `None`: too
    /// little is known yet.
    pub fn delay_ms(&self, class: u8, most: u64) -> Option<u64> {
        let us = self.classes.get(usize::from(class))?.percentile_us()?;
        // Rounded up, so that it is not sooner than the percentile.
        let ms = us / 1_000 + 1;
        (ms < most).then(|| ms.max(DELAY_MS_MIN))
    }

    /// Takes one hedge out of the budget, if there is one and it would not make an overload worse.
    pub fn spend(&mut self, now_ms: u64) -> bool {
        if now_ms < self.quiet_until_ms {
            return false;
        }
        match self.saved.checked_sub(COST) {
            Some(rest) => {
                self.saved = rest;
                true
            }
            None => false,
        }
    }
}

/// Buckets to an octave.
const STEPS: u32 = 4;
/// Octaves of microseconds: up to some minutes.
const OCTAVES: u32 = 28;
const BUCKETS: usize = (STEPS * OCTAVES) as usize;

/// How long answers took: counts in buckets that grow by a fifth each.
#[derive(Clone, Debug)]
struct Times {
    counts: [u32; BUCKETS],
    total: u32,
    /// The percentile as of some answers ago.
    percentile_us: u64,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            counts: [0; BUCKETS],
            total: 0,
            percentile_us: 0,
        }
    }
}

impl Times {
    fn note(&mut self, us: u64) {
        self.counts[bucket(us)] += 1;
        self.total += 1;
        if self.total >= SAMPLES_MAX {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().sum();
        }
        if self.total.is_multiple_of(SAMPLES_MIN / 2) {
            self.percentile_us = self.find();
        }
    }

    fn percentile_us(&self) -> Option<u64> {
        (self.total >= SAMPLES_MIN).then_some(self.percentile_us)
    }

    fn find(&self) -> u64 {
        let wanted = u64::from(self.total) * PERCENTILE / 100;
        let mut sum = 0;
        for (at, count) in self.counts.iter().enumerate() {
            sum += u64::from(*count);
            if sum > wanted {
                return upper_us(at);
            }
        }
        upper_us(BUCKETS - 1)
    }
}

/// Where a time counts: its octave, and which quarter of it.
fn bucket(us: u64) -> usize {
    let us = us.max(1);
    let octave = us.ilog2();
    let within = (us << 2 >> octave) as u32 - STEPS;
    ((octave * STEPS + within) as usize).min(BUCKETS - 1)
}

/// The longest time that counts there.
fn upper_us(bucket: usize) -> u64 {
    let (octave, within) = (bucket as u32 / STEPS, bucket as u32 % STEPS);
    (u64::from(STEPS + within + 1) << octave >> 2).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fed(times_us: impl IntoIterator<Item = u64>) -> Hedging {
        let mut hedging = Hedging::default();
        times_us
            .into_iter()
            .for_each(|us| hedging.note_answer(0, us));
        hedging
    }

    #[test]
    fn a_hedge_waits_for_the_slowest_twentieth() {
        let hedging = fed((0..1_000).map(|n| if n % 25 == 0 { 80_000 } else { 5_000 }));
        let delay_ms = hedging.delay_ms(0, 100);
        assert!(
            delay_ms.is_some_and(|ms| (5..8).contains(&ms)),
            "{delay_ms:?}"
        );
        assert_eq!(
            hedging.delay_ms(1, 100),
            None,
            "nothing is known of the others"
        );
        let quick = fed((0..1_000).map(|_| 200));
        assert_eq!(quick.delay_ms(0, 100), Some(DELAY_MS_MIN));
        let slow = fed((0..1_000).map(|_| 150_000));
        assert_eq!(slow.delay_ms(0, 100), None, "it would come too late");
        assert_eq!(fed([1; 20]).delay_ms(0, 100), None, "too few are known");
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let mut hedging = fed((0..50_000).map(|_| 60_000));
        (0..50_000).for_each(|_| hedging.note_answer(0, 1_000));
        assert_eq!(hedging.delay_ms(0, 100), Some(2));
    }

    #[test]
    fn one_read_in_twenty_is_hedged_and_none_under_overload() {
        let mut hedging = Hedging::default();
        let hedges = (0..10_000).filter(|_| {
            hedging.earn();
            hedging.spend(5)
        });
        assert_eq!(hedges.count(), 500);
        (0..1_000).for_each(|_| hedging.earn());
        hedging.note_overload(5);
        assert!(!hedging.spend(5 + QUIET_MS - 1));
        assert!(hedging.spend(5 + QUIET_MS));
    }

    proptest! {
        #[test]
        fn a_bucket_holds_its_times(us in 1u64..1 << 40) {
            let at = bucket(us);
            if at < BUCKETS - 1 {
                prop_assert!(us <= upper_us(at), "{us} in {at}");
                prop_assert!(at == 0 || us > upper_us(at - 1), "{us} in {at}");
            }
        }
    }
}
