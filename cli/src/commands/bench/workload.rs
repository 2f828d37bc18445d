//! What a benchmark does: the mix of operations, and which keys they fall on.

use clap::ValueEnum;
use rand::Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// Reads, all keys alike
    Get,
    /// Writes, all keys alike
    Put,
    /// Half reads, half writes, all keys alike
    Mixed,
    /// Half reads, half writes, a few keys much more often than the rest
    YcsbA,
    /// 95 % reads, 5 % writes, a few keys much more often
    YcsbB,
    /// Reads, a few keys much more often
    YcsbC,
    /// 95 % reads, mostly of what was written last, 5 % new keys
    YcsbD,
    /// Scans in the order of keys: Annulet has none
    YcsbE,
    /// Half reads, half read-then-write, a few keys much more often
    YcsbF,
}

/// One operation of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Read,
    Update,
    Insert,
    ReadThenUpdate,
}

/// Which of the keys an operation falls on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Uniform,
    /// A few keys, all over the range, much more often than the rest.
    Zipfian,
    /// The newest keys much more often than the rest.
    Latest,
}

impl Workload {
    /// The name, as in the results.
    pub(super) fn name(self) -> String {
        let value = self.to_possible_value();
        value
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    /// Whether the level in effect is that of writes.
    pub(super) fn mostly_writes(self) -> bool {
        self == Self::Put
    }

    pub(super) fn operation(self, random: &mut impl Rng) -> Operation {
        let (read, update, insert) = match self {
            Self::Get | Self::YcsbC | Self::YcsbE => (100, 0, 0),
            Self::Put => (0, 100, 0),
            Self::Mixed | Self::YcsbA => (50, 50, 0),
            Self::YcsbB => (95, 5, 0),
            Self::YcsbD => (95, 0, 5),
            Self::YcsbF => (50, 0, 0),
        };
        match random.random_range(0..100) {
            roll if roll < read => Operation::Read,
            roll if roll < read + update => Operation::Update,
            roll if roll < read + update + insert => Operation::Insert,
            _ => Operation::ReadThenUpdate,
        }
    }

    fn choice(self) -> Choice {
        match self {
            Self::Get | Self::Put | Self::Mixed => Choice::Uniform,
            Self::YcsbA | Self::YcsbB | Self::YcsbC | Self::YcsbE | Self::YcsbF => Choice::Zipfian,
            Self::YcsbD => Choice::Latest,
        }
    }
}

/// The keys of one process: those that were loaded, and those that it inserts. Each process
/// inserts keys of its own, so that they need not ask each other.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    loaded: u64,
    process: u64,
    processes: u64,
    choice: Choice,
    zipfian: Zipfian,
    inserted: Arc<AtomicU64>,
}

impl Keys {
    pub(super) fn new(workload: Workload, loaded: u64, process: u64, processes: u64) -> Self {
        Self {
            loaded,
            process,
            processes,
            choice: workload.choice(),
            zipfian: Zipfian::new(loaded),
            inserted: Arc::default(),
        }
    }

    /// The key that was loaded, or is to be, under a number.
    pub(super) fn name(number: u64) -> String {
        format!("bench-{number:012}")
    }

    /// A key that is there.
    pub(super) fn existing(&self, random: &mut impl Rng) -> String {
        let place = match self.choice {
            Choice::Uniform => random.random_range(0..self.loaded),
            Choice::Zipfian => scatter(self.zipfian.draw(random)) % self.loaded,
            Choice::Latest => {
                let newest = self.loaded + self.inserted.load(Ordering::Relaxed) - 1;
                newest.saturating_sub(self.zipfian.draw(random))
            }
        };
        Self::name(self.number(place))
    }

    /// A key that is not there yet. It counts as there once it is [`Keys::was_inserted`].
    pub(super) fn fresh(&self, taken: &AtomicU64) -> String {
        let place = self.loaded + taken.fetch_add(1, Ordering::Relaxed);
        Self::name(self.number(place))
    }

    pub(super) fn was_inserted(&self) {
        self.inserted.fetch_add(1, Ordering::Relaxed);
    }

    fn number(&self, place: u64) -> u64 {
        match place.checked_sub(self.loaded) {
            None => place,
            Some(own) => self.loaded + own * self.processes + self.process,
        }
    }
}

/// Numbers below `items`, 0 the most often, as in YCSB: after Gray et al., "Quickly Generating
/// Billion-Record Synthetic Databases", 1994.
#[derive(Clone, Debug)]
struct Zipfian {
    items: f64,
    zeta: f64,
    eta: f64,
}

impl Zipfian {
    fn new(items: u64) -> Self {
        let zeta = |n: u64| (1..=n).map(|i| (i as f64).powf(-THETA)).sum::<f64>();
        let (all, two) = (zeta(items), zeta(items.min(2)));
        let items = items as f64;
        let eta = (1.0 - (2.0 / items).powf(1.0 - THETA)) / (1.0 - two / all);
        Self {
            items,
            zeta: all,
            eta,
        }
    }

    fn draw(&self, random: &mut impl Rng) -> u64 {
        let even: f64 = random.random();
        let scaled = even * self.zeta;
        if scaled < 1.0 || self.items < 2.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5f64.powf(THETA) {
            return 1;
        }
        let exponent = 1.0 / (1.0 - THETA);
        let drawn = self.items * (self.eta * even - self.eta + 1.0).powf(exponent);
        (drawn as u64).min(self.items as u64 - 1)
    }
}

/// Spreads neighbours all over, always in the same way (the mixing steps of SplitMix64).
fn scatter(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// YCSB's constant.
const THETA: f64 = 0.99;

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use std::collections::BTreeSet;

    const DRAWS: u32 = 100_000;

    fn random() -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(7)
    }

    fn share(workload: Workload, operation: Operation) -> f64 {
        let mut random = random();
        let drawn = (0..DRAWS).filter(|_| workload.operation(&mut random) == operation);
        drawn.count() as f64 / f64::from(DRAWS)
    }

    #[test]
    fn each_workload_has_its_mix() {
        let check = |workload, operation, expected: f64| {
            let share = share(workload, operation);
            assert!(
                (share - expected).abs() < 0.01,
                "{workload:?} {operation:?}: {share}"
            );
        };
        check(Workload::Get, Operation::Read, 1.0);
        check(Workload::Put, Operation::Update, 1.0);
        check(Workload::Mixed, Operation::Read, 0.5);
        check(Workload::YcsbA, Operation::Update, 0.5);
        check(Workload::YcsbB, Operation::Update, 0.05);
        check(Workload::YcsbC, Operation::Read, 1.0);
        check(Workload::YcsbD, Operation::Insert, 0.05);
        check(Workload::YcsbF, Operation::ReadThenUpdate, 0.5);
        check(Workload::YcsbF, Operation::Read, 0.5);
    }

    #[test]
    fn zipfian_draws_follow_the_law_and_stay_in_range() {
        let items = 1000;
        let zipfian = Zipfian::new(items);
        let mut random = random();
        let mut counts = vec![0u32; items as usize];
        for _ in 0..DRAWS {
            counts[zipfian.draw(&mut random) as usize] += 1;
        }
        for rank in [1u64, 2, 10] {
            let expected = f64::from(DRAWS) * (rank as f64).powf(-THETA) / zipfian.zeta;
            let drawn = f64::from(counts[rank as usize - 1]);
            // The generator is exact for the first two, and approximate from there.
            let near = if rank < 3 { 0.05 } else { 0.25 };
            assert!(
                (drawn / expected - 1.0).abs() < near,
                "{rank}: {drawn} of {expected}"
            );
        }
        for items in [1, 2, 3] {
            let zipfian = Zipfian::new(items);
            assert!((0..1000).all(|_| zipfian.draw(&mut random) < items));
        }
    }

    #[test]
    fn processes_insert_different_keys_and_read_only_their_own() {
        let taken = AtomicU64::new(0);
        let mut names = BTreeSet::new();
        for process in 0..3 {
            let keys = Keys::new(Workload::YcsbD, 10, process, 3);
            taken.store(0, Ordering::Relaxed);
            let fresh: BTreeSet<_> = (0..5).map(|_| keys.fresh(&taken)).collect();
            (0..5).for_each(|_| keys.was_inserted());
            let loaded: BTreeSet<_> = (0..10).map(Keys::name).collect();
            let mut random = random();
            for _ in 0..1000 {
                let key = keys.existing(&mut random);
                assert!(fresh.contains(&key) || loaded.contains(&key), "{key}");
            }
            names.extend(fresh);
        }
        assert_eq!(names.len(), 15);
    }
}
