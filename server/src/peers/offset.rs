//! How far this server's clock is off its peers'.

use std::time::Duration;

/// Fewer answers say nothing: of two clocks that differ, neither can tell which one is wrong.
const SAMPLES_MIN: usize = 2;

/// A peer's clock minus this one, in milliseconds: somewhere from `low` to `high`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    low: i64,
    high: i64,
}

impl Sample {
    /// A question was sent at `sent_ms`; the answer gave `their_ms` and came after `round_trip`.
    /// The peer looked at its clock at some time in between.
    pub(super) fn of(sent_ms: u64, round_trip: Duration, their_ms: u64) -> Self {
        let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        let high = signed(their_ms).saturating_sub(signed(sent_ms));
        let waited = i64::try_from(round_trip.as_millis()).unwrap_or(i64::MAX);
        Self {
            low: high.saturating_sub(waited),
            high,
        }
    }

    /// The least offset that explains the answer: a slow answer proves little.
    fn least(self) -> i64 {
        0.clamp(self.low, self.high)
    }
}

/// The median of what peers say, or `None` if too few do. Between the two in the middle of an even
/// number it is the point nearest to zero: a clock is distrusted only where more than half of its
/// peers are off it on one side.
pub(super) fn median_ms(samples: &[Sample]) -> Option<i64> {
    if samples.len() < SAMPLES_MIN {
        return None;
    }
    let mut offsets: Vec<_> = samples.iter().map(|sample| sample.least()).collect();
    offsets.sort_unstable();
    let upper = offsets[offsets.len() / 2];
    let lower = offsets[(offsets.len() - 1) / 2];
    Some(0.clamp(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn median(offsets: &[i64]) -> Option<i64> {
        let sample = |offset: &i64| Sample {
            low: *offset,
            high: *offset,
        };
        median_ms(&offsets.iter().map(sample).collect::<Vec<_>>())
    }

    #[test]
    fn one_peer_that_is_off_does_not_make_this_clock_wrong() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[9_000]), None);
        assert_eq!(median(&[9_000, 3]), Some(3));
        assert_eq!(median(&[-9_000, 3]), Some(0));
        assert_eq!(median(&[-9_000, -3]), Some(-3));
        assert_eq!(median(&[9_000, 9_001]), Some(9_000));
        assert_eq!(median(&[-9_000, -9_001]), Some(-9_000));
        assert_eq!(median(&[9_000, -4, 3]), Some(3));
        assert_eq!(median(&[9_000, 9_001, 3]), Some(9_000));
        assert_eq!(median(&[9_000, -9_000]), Some(0));
    }

    #[test]
    fn a_slow_answer_explains_a_difference_up_to_its_time() {
        let least = |round_trip_ms, their_ms| {
            Sample::of(1_000, Duration::from_millis(round_trip_ms), their_ms).least()
        };
        assert_eq!(least(0, 1_000), 0);
        assert_eq!(least(300, 1_200), 0);
        assert_eq!(least(300, 1_400), 100);
        assert_eq!(least(300, 900), -100);
        assert_eq!(least(300, 5_000), 3_700);
    }
}
