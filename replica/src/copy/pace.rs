//! How fast a server gets what it is to own: told to people, who want to know how long it takes.

use super::{current_owners, is_next_owner};
use annulet_protocol::ids::NodeId;
use annulet_protocol::status::CopyState;
use annulet_protocol::view::View;
use std::collections::{BTreeSet, VecDeque};

/// Over how long it is measured.
const WINDOW_MS: u64 = 60_000;
/// Shortest time between two samples, and shortest time that says anything.
const SAMPLE_MS: u64 = 1_000;
/// After so long without any progress what was before says nothing about what comes.
const IDLE_MS: u64 = 20_000;
/// A whole copy of a partition.
const WHOLE_PPM: u64 = 1_000_000;

/// Samples of the progress of the last minute.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    samples: VecDeque<Sample>,
    /// When there was progress last.
    moved_ms: u64,
    /// Partitions that are on their way here, by the view that was followed last.
    coming: BTreeSet<u32>,
    partitions: u32,
    /// Copies that are here since the start, in parts per million.
    here_ppm: u64,
}

/// What was there at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sample {
    at_ms: u64,
    copied_ppm: u64,
    bytes: u64,
}

/// What is got in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Copies of partitions, in parts per million of one.
    pub copied_ppm: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Pace {
    /// Takes notice of a view: what was on its way may be here.
    pub fn follow(&mut self, view: &View, own: NodeId) {
        let joint = view.table.joint.iter();
        let comes = joint.filter(|joint| {
            is_next_owner(view, own, joint) && !current_owners(view, joint.partition).contains(&own)
        });
        let coming = comes.map(|joint| joint.partition).collect();
        let before = std::mem::replace(&mut self.coming, coming);
        if std::mem::replace(&mut self.partitions, view.table.partitions) != self.partitions {
            // Copies of halves are other ones than copies of wholes.
            self.samples.clear();
            return;
        }
        let is_here = |partition: &&u32| current_owners(view, **partition).contains(&own);
        self.here_ppm += before.iter().filter(is_here).count() as u64 * WHOLE_PPM;
    }

    /// Takes a sample, if it is time for one. `states`: how far copies are; `bytes`: how much was
    /// copied since the start. `now_ms`: by a clock that only rises.
    pub fn sample(&mut self, now_ms: u64, states: impl FnOnce() -> Vec<CopyState>, bytes: u64) {
        let last = self.samples.back().copied();
        if last.is_some_and(|last| now_ms < last.at_ms + SAMPLE_MS) {
            return;
        }
        let states = states();
        let coming = states.iter().filter(|s| self.coming.contains(&s.partition));
        let coming: u64 = coming.map(|state| u64::from(state.copied_ppm)).sum();
        let sample = Sample {
            at_ms: now_ms,
            copied_ppm: self.here_ppm + coming,
            bytes,
        };
        match last {
            // A move was given up.
            Some(last) if sample.copied_ppm < last.copied_ppm => self.samples.clear(),
            Some(last) if (sample.copied_ppm, bytes) == (last.copied_ppm, last.bytes) => {
                if now_ms > self.moved_ms + IDLE_MS {
                    self.samples.clear();
                }
            }
            Some(_) | None => self.moved_ms = now_ms,
        }
        self.samples.push_back(sample);
        let is_old = |sample: &Sample| sample.at_ms + WINDOW_MS < now_ms;
        while self.samples.front().is_some_and(is_old) {
            self.samples.pop_front();
        }
    }

    /// What is got in a second, of late; nothing while nothing comes.
    pub fn rate(&self) -> Rate {
        // What was before anything began to move slows nothing down.
        let began = self.samples.iter().zip(self.samples.iter().skip(1));
        let mut began = began
            .filter(|(one, next)| (one.copied_ppm, one.bytes) != (next.copied_ppm, next.bytes));
        let (Some((first, _)), Some(last)) = (began.next(), self.samples.back()) else {
            return Rate::default();
        };
        let ms = last.at_ms - first.at_ms;
        if ms < SAMPLE_MS {
            return Rate::default();
        }
        let per_second = |before: u64, after: u64| after.saturating_sub(before) * 1_000 / ms;
        Rate {
            copied_ppm: per_second(first.copied_ppm, last.copied_ppm),
            bytes: per_second(first.bytes, last.bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{opened, three_of_four};

    const OWN: NodeId = NodeId(4);

    fn state(copied_ppm: u32) -> Vec<CopyState> {
        vec![CopyState {
            partition: 0,
            since: 4,
            copied_ppm,
            over: copied_ppm == 1_000_000,
        }]
    }

    #[test]
    fn what_comes_counts_by_the_part_that_is_there_and_what_is_there_goes_on_counting() {
        let view = three_of_four(Vec::new());
        let mut pace = Pace::default();
        pace.follow(&view, OWN);
        for time in 0..10 {
            pace.sample(500 + time * 1_000, Vec::new, 0);
        }
        assert_eq!(pace.rate(), Rate::default());
        let moves = opened(&view, &[0, 1, 3]);
        pace.follow(&moves, OWN);
        pace.sample(9_900, || panic!("it is not time yet"), 0);
        pace.sample(10_500, || state(100_000), 2_000);
        let first = Rate {
            copied_ppm: 100_000,
            bytes: 2_000,
        };
        assert_eq!(pace.rate(), first);
        pace.sample(12_500, || state(1_000_000), 9_000);
        let mut there = moves.clone();
        there.epoch += 1;
        there.table.settle(0, true, there.epoch);
        pace.follow(&there, OWN);
        pace.sample(13_500, Vec::new, 10_000);
        let second = Rate {
            copied_ppm: 250_000,
            bytes: 2_500,
        };
        assert_eq!(pace.rate(), second);
        // Nothing is left to come.
        for second in 14..50 {
            pace.sample(second * 1_000 + 500, Vec::new, 10_000);
        }
        assert_eq!(pace.rate(), Rate::default());
    }

    #[test]
    fn what_others_get_and_what_is_only_compared_is_no_progress_here() {
        let view = opened(&three_of_four(Vec::new()), &[0, 1, 3]);
        let mut pace = Pace::default();
        pace.follow(&view, NodeId(1));
        pace.sample(1_000, || state(0), 0);
        pace.sample(2_000, || state(900_000), 0);
        assert_eq!(pace.rate(), Rate::default());
    }

    #[test]
    fn a_move_that_was_given_up_and_a_minute_ago_count_no_more() {
        let view = opened(&three_of_four(Vec::new()), &[0, 1, 3]);
        let mut pace = Pace::default();
        pace.follow(&view, OWN);
        pace.sample(1_000, || state(0), 0);
        pace.sample(2_000, || state(500_000), 0);
        pace.sample(3_000, || state(10_000), 0);
        assert_eq!(pace.rate(), Rate::default());
        for second in 4..200 {
            pace.sample(second * 1_000, || state(second as u32 * 5_000), 0);
            assert!(pace.samples.len() <= 62, "{}", pace.samples.len());
        }
        assert_eq!(pace.rate().copied_ppm, 5_000);
    }
}
