//! What becomes of a message between a client and a server, or between servers while no client
//! waits.

use super::scenario::{Micros, Rates};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;

/// A direction between two of them, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Link {
    Request(usize, usize),
    Reply(usize, usize),
    /// From one server to another, requests and replies alike.
    Peer(usize, usize),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Network {
    rng: ChaCha8Rng,
    rates: Rates,
    /// Links that are cut, with the number of the partition that did it.
    cut: BTreeSet<(Link, u64)>,
}

/// When each copy of a message arrives, from now; none: it is lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) copies: Vec<Micros>,
    pub(crate) spike: bool,
}

impl Network {
    pub(crate) fn new(rng: ChaCha8Rng, rates: Rates) -> Self {
        let cut = BTreeSet::new();
        Self { rng, rates, cut }
    }

    /// What becomes of one message.
    pub(crate) fn fate(&mut self, link: Link) -> Fate {
        if self.is_cut(link) || self.rng.random_bool(self.rates.lost) {
            return Fate::default();
        }
        let twice = self.rng.random_bool(self.rates.duplicated);
        let mut fate = Fate::default();
        for _ in 0..=u8::from(twice) {
            let spike = self.rng.random_bool(self.rates.spike);
            let most = match spike {
                true => self.rates.spike_us_max,
                false => self.rates.delay_us_max,
            };
            fate.spike |= spike;
            fate.copies.push(self.rng.random_range(50..=most));
        }
        fate
    }

    pub(crate) fn is_cut(&self, link: Link) -> bool {
        self.cut
            .range((link, 0)..=(link, u64::MAX))
            .next()
            .is_some()
    }

    pub(crate) fn cut(&mut self, link: Link, partition: u64) {
        self.cut.insert((link, partition));
    }

    pub(crate) fn heal(&mut self, partition: u64) {
        self.cut.retain(|(_, by)| *by != partition);
    }

    /// From now on nothing is lost, doubled or late.
    pub(crate) fn calm(&mut self) {
        self.cut.clear();
        self.rates.lost = 0.0;
        self.rates.duplicated = 0.0;
        self.rates.spike = 0.0;
    }
}
