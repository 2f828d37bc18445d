//! What clients of one key of a strong bucket did and saw, and whether one order explains it.
//!
//! Versions rise in the order in which writes took effect, so no order has to be searched for: each
//! operation saw or made a version, and must not have seen an older one than was seen or made
//! before it began. A conditional write must follow the very version it names.

use annulet_protocol::ballot::Ballot;
use std::collections::{BTreeMap, BTreeSet};

/// What an operation was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A read.
    Read,
    /// A write of a value that no other writes.
    Write {
        /// The value, or the number of a delete.
        unique: u64,
        /// The version that must be there before it, if it names one.
        follows: Option<Ballot>,
        /// It removes the value.
        deletes: bool,
    },
    /// A question about a write.
    Resolve {
        /// The value of that write.
        write: u64,
    },
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// This version, and its value if there is one.
    Value(Ballot, Option<u64>),
    /// The write was applied, and made this version.
    Applied(Ballot),
    /// The condition did not hold, or the write was found not to be applied: it never will be.
    Failed,
    /// The write was said not to be applied.
    NotApplied,
    /// Nobody knows.
    Lost,
}

#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "who it was is for people")]
struct Entry {
    client: usize,
    kind: Kind,
    began_ms: u64,
    ended_ms: u64,
    seen: Seen,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct History {
    entries: Vec<Entry>,
    writes: u64,
}

impl History {
    /// A value that was not written yet.
    pub fn next_write(&mut self) -> u64 {
        self.writes += 1;
        self.writes
    }

    /// Notes an operation that is over.
    pub fn note(&mut self, client: usize, kind: Kind, (began, ended): (u64, u64), seen: Seen) {
        self.entries.push(Entry {
            client,
            kind,
            began_ms: began,
            ended_ms: ended,
            seen,
        });
    }

    /// How many operations saw or did something.
    pub fn successes(&self) -> usize {
        let sure = |entry: &&Entry| !matches!(entry.seen, Seen::Lost | Seen::NotApplied);
        self.entries.iter().filter(sure).count()
    }

    /// From the first beginning to the last end, in milliseconds.
    pub fn took_ms(&self) -> u64 {
        let ends = self.entries.iter().map(|entry| entry.ended_ms);
        let begins = self.entries.iter().map(|entry| entry.began_ms);
        ends.max().unwrap_or(0) - begins.min().unwrap_or(0)
    }

    /// How many ended so.
    pub fn count(&self, is: impl Fn(Seen) -> bool) -> usize {
        self.entries.iter().filter(|entry| is(entry.seen)).count()
    }

    /// # Errors
    /// Says what no order explains.
    pub fn check(&self) -> Result<(), String> {
        self.check_real_time()?;
        self.check_absence()?;
        self.check_values()?;
        self.check_conditions()
    }

    /// Whoever began after another had ended must not have seen less.
    fn check_real_time(&self) -> Result<(), String> {
        let version = |entry: &Entry| match entry.seen {
            Seen::Value(version, _) => Some((version, false)),
            Seen::Applied(version) => match entry.kind {
                // What is told of an older write is no look at the key.
                Kind::Resolve { .. } => None,
                Kind::Read | Kind::Write { .. } => Some((version, true)),
            },
            Seen::Failed | Seen::NotApplied | Seen::Lost => None,
        };
        for earlier in &self.entries {
            let Some((before, _)) = version(earlier) else {
                continue;
            };
            let later = self.entries.iter();
            for later in later.filter(|later| later.began_ms > earlier.ended_ms) {
                if let Some((after, made)) = version(later)
                    && (after < before || made && after == before)
                {
                    return Err(format!("{later:?} came after {earlier:?}"));
                }
            }
        }
        Ok(())
    }

    /// What was absent once is not seen again, be it that a clock says so.
    fn check_absence(&self) -> Result<(), String> {
        let reads = |value: bool| {
            let entries = self.entries.iter();
            entries.filter_map(move |entry| match entry.seen {
                Seen::Value(version, found) if found.is_some() == value => Some((version, entry)),
                _ => None,
            })
        };
        for (version, earlier) in reads(false) {
            let again = |(same, later): &(Ballot, &Entry)| {
                *same == version && later.began_ms > earlier.ended_ms
            };
            if let Some((_, later)) = reads(true).find(again) {
                return Err(format!("{later:?} came after {earlier:?}"));
            }
        }
        Ok(())
    }

    /// The applied writes by version, as far as they are known.
    fn applied(&self) -> BTreeMap<u64, Ballot> {
        let mut applied = BTreeMap::new();
        for entry in &self.entries {
            match (entry.kind, entry.seen) {
                (Kind::Write { unique, .. }, Seen::Applied(version))
                | (Kind::Resolve { write: unique }, Seen::Applied(version)) => {
                    applied.insert(unique, version);
                }
                (Kind::Read, Seen::Value(version, Some(value))) => {
                    applied.insert(value, version);
                }
                _ => {}
            }
        }
        applied
    }

    /// A value has one version for ever, and what was not applied is never seen.
    fn check_values(&self) -> Result<(), String> {
        let applied = self.applied();
        let mut versions = BTreeMap::new();
        for (value, version) in &applied {
            if let Some(other) = versions.insert(version, value) {
                return Err(format!("values {value} and {other} have one version"));
            }
        }
        for entry in &self.entries {
            match (entry.kind, entry.seen) {
                (Kind::Read, Seen::Value(version, Some(value)))
                    if applied.get(&value) != Some(&version) =>
                {
                    return Err(format!("{value} was applied twice: {entry:?}"));
                }
                (Kind::Write { unique, .. }, Seen::Applied(version))
                    if applied.get(&unique) != Some(&version) =>
                {
                    return Err(format!("{unique} was applied twice: {entry:?}"));
                }
                (
                    Kind::Write { unique, .. } | Kind::Resolve { write: unique },
                    Seen::Failed | Seen::NotApplied,
                ) if applied.contains_key(&unique) => {
                    return Err(format!("{unique} was applied after all: {entry:?}"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Between a conditional write and the version it names nothing was applied.
    fn check_conditions(&self) -> Result<(), String> {
        let applied: BTreeSet<_> = self.applied().into_values().collect();
        for entry in &self.entries {
            let (Kind::Write { follows, .. }, Seen::Applied(version)) = (entry.kind, entry.seen)
            else {
                continue;
            };
            let Some(follows) = follows else { continue };
            let between = applied.iter().find(|v| **v > follows && **v < version);
            if let Some(between) = between {
                return Err(format!("{between:?} came between: {entry:?}"));
            }
        }
        Ok(())
    }
}
