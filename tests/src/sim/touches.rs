//! What is told of touches: one that was said not to be applied sets no end anywhere.

use super::causal::Wrong;
use annulet_protocol::clock::Stamp;
use annulet_protocol::record::{Expiry, Version};
use std::collections::{BTreeMap, BTreeSet};

/// An end of a value, which one touch alone sets.
type End = (Version, Stamp, u64);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Touches {
    /// What each touch sends.
    sent: BTreeMap<u64, End>,
    stored: BTreeSet<End>,
    not_applied: BTreeSet<End>,
    /// Ends that the network doubled: they may be refused once and taken once.
    doubled: BTreeSet<End>,
}

fn end(version: Version, expiry: Expiry) -> End {
    (version, expiry.stamp, expiry.at_ms)
}

impl Touches {
    /// A touch sends this.
    pub(crate) fn sends(&mut self, op: u64, version: Version, expiry: Expiry) {
        self.sent.insert(op, end(version, expiry));
    }

    /// The network doubled a message with this end.
    pub(crate) fn doubled(&mut self, version: Version, expiry: Option<Expiry>) {
        self.doubled
            .extend(expiry.map(|expiry| end(version, expiry)));
    }

    /// A server took this end.
    pub(crate) fn stored(&mut self, version: Version, expiry: Option<Expiry>) -> Wrong {
        let Some(end) = expiry.map(|expiry| end(version, expiry)) else {
            return Ok(());
        };
        self.stored.insert(end);
        self.check(&end)
    }

    /// A touch failed, and was said not to be applied.
    pub(crate) fn not_applied(&mut self, op: u64) -> Wrong {
        let Some(end) = self.sent.get(&op).copied() else {
            return Ok(());
        };
        self.not_applied.insert(end);
        self.check(&end)
    }

    fn check(&self, end: &End) -> Wrong {
        let both = self.not_applied.contains(end) && self.stored.contains(end);
        match both && !self.doubled.contains(end) {
            true => {
                let why = format!("a touch was said not to be applied, and a server took {end:?}");
                Err(("not-applied", why))
            }
            false => Ok(()),
        }
    }
}
