//! What was measured: a latency histogram and counts, of one process or merged from several.

use crate::failure::Failure;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Measurements, in nanoseconds.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    latency: Histogram<u64>,
    errors: BTreeMap<String, u64>,
    /// Reads that found nothing.
    pub(super) not_found: u64,
    /// Operations of an open loop whose time came, and that no caller was free to begin.
    pub(super) unstarted: u64,
    /// From the begin of measuring to the end of the last operation.
    pub(super) elapsed: Duration,
}

/// A tally on its way between processes.
#[derive(Serialize, Deserialize)]
pub(super) struct Packed {
    /// Each latency with how often it was seen.
    latency: Vec<(u64, u64)>,
    errors: BTreeMap<String, u64>,
    not_found: u64,
    unstarted: u64,
    elapsed_ns: u64,
}

impl Tally {
    pub(super) fn new() -> Result<Self, Failure> {
        let latency = Histogram::new_with_bounds(1, LATENCY_NS_MAX, SIGNIFICANT_DIGITS)
            .map_err(|error| Failure::failed(format!("cannot make a histogram: {error}")))?;
        Ok(Self {
            latency,
            errors: BTreeMap::new(),
            not_found: 0,
            unstarted: 0,
            elapsed: Duration::ZERO,
        })
    }

    /// An operation was done.
    pub(super) fn record(&mut self, latency: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.latency.saturating_record(nanoseconds.max(1));
    }

    /// An operation failed. Its latency is no measure of the others.
    pub(super) fn record_error(&mut self, kind: &str) {
        *self.errors.entry(kind.to_owned()).or_default() += 1;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        let Self {
            latency,
            errors,
            not_found,
            unstarted,
            elapsed,
        } = other;
        for value in latency.iter_recorded() {
            self.latency
                .saturating_record_n(value.value_iterated_to(), value.count_at_value());
        }
        for (kind, count) in errors {
            *self.errors.entry(kind.clone()).or_default() += count;
        }
        self.not_found += not_found;
        self.unstarted += unstarted;
        self.elapsed = self.elapsed.max(*elapsed);
    }

    pub(super) fn operations(&self) -> u64 {
        self.latency.len()
    }

    pub(super) fn errors(&self) -> &BTreeMap<String, u64> {
        &self.errors
    }

    pub(super) fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }

    pub(super) fn per_second(&self) -> f64 {
        match self.elapsed.as_secs_f64() {
            0.0 => 0.0,
            seconds => self.operations() as f64 / seconds,
        }
    }

    /// The latency that this part of the operations did not exceed, in microseconds.
    pub(super) fn quantile_us(&self, quantile: f64) -> f64 {
        microseconds(self.latency.value_at_quantile(quantile) as f64)
    }

    pub(super) fn mean_us(&self) -> f64 {
        microseconds(self.latency.mean())
    }

    pub(super) fn max_us(&self) -> f64 {
        microseconds(self.latency.max() as f64)
    }

    pub(super) fn pack(&self) -> Packed {
        let values = self.latency.iter_recorded();
        Packed {
            latency: values
                .map(|value| (value.value_iterated_to(), value.count_at_value()))
                .collect(),
            errors: self.errors.clone(),
            not_found: self.not_found,
            unstarted: self.unstarted,
            elapsed_ns: u64::try_from(self.elapsed.as_nanos()).unwrap_or(u64::MAX),
        }
    }
}

impl Packed {
    pub(super) fn unpack(self) -> Result<Tally, Failure> {
        let mut tally = Tally::new()?;
        for (value, count) in self.latency {
            tally.latency.saturating_record_n(value, count);
        }
        tally.errors = self.errors;
        tally.not_found = self.not_found;
        tally.unstarted = self.unstarted;
        tally.elapsed = Duration::from_nanos(self.elapsed_ns);
        Ok(tally)
    }
}

/// Tenths of a microsecond are as much as is meant.
fn microseconds(nanoseconds: f64) -> f64 {
    (nanoseconds / 100.0).round() / 10.0
}

const SIGNIFICANT_DIGITS: u8 = 3;
/// An hour; no operation may take as long.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(latencies_us: impl IntoIterator<Item = u64>) -> Tally {
        let mut tally = Tally::new().unwrap();
        for us in latencies_us {
            tally.record(Duration::from_micros(us));
        }
        tally
    }

    #[test]
    fn quantiles_are_right_to_three_digits() {
        let tally = tally(1..=10_000);
        for (quantile, expected) in [(0.5, 5_000.0), (0.99, 9_900.0), (0.999, 9_990.0)] {
            let us = tally.quantile_us(quantile);
            assert!((us / expected - 1.0).abs() < 0.002, "{quantile}: {us}");
        }
    }

    #[test]
    fn merging_packed_tallies_is_counting_them_together() {
        let mut one = tally((1..=1000).step_by(2));
        one.record_error("Timeout");
        one.not_found = 3;
        one.elapsed = Duration::from_secs(2);
        let mut other = tally((2..=1000).step_by(2));
        other.record_error("Timeout");
        other.record_error("Overloaded");
        other.unstarted = 4;
        other.elapsed = Duration::from_secs(1);

        let mut merged = Tally::new().unwrap();
        for part in [one, other] {
            merged.merge(&part.pack().unpack().unwrap());
        }
        assert_eq!(merged.operations(), 1000);
        assert_eq!(merged.errors()["Timeout"], 2);
        assert_eq!(merged.error_count(), 3);
        assert_eq!((merged.not_found, merged.unstarted), (3, 4));
        assert_eq!(merged.per_second(), 500.0);
        let whole = tally(1..=1000);
        assert!((merged.quantile_us(0.99) / whole.quantile_us(0.99) - 1.0).abs() < 0.002);
    }
}
