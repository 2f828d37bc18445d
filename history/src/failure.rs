//! Why a history does not pass, for people.

use crate::operation::{Operation, Short};
use bytes::Bytes;
use std::fmt;

/// Why a history does not pass. Both fail whoever asked: what could not be decided is not good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No store that keeps its promise gives these answers.
    #[error("{0}")]
    Violation(Evidence),
    /// Nobody knows: the search was given up, or the history does not say enough.
    #[error("not decided, {0}")]
    Undecided(Evidence),
}

/// What was found on a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The key.
    pub key: Bytes,
    /// What is wrong.
    pub why: String,
    /// The longest order of operations that explains their answers and was found, if the whole
    /// history was searched for one.
    pub prefix: Vec<Operation>,
    /// The operations that could have been next but cannot, or that contradict each other.
    pub unplaced: Vec<Operation>,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {}: {}", Short(&self.key), self.why)?;
        if !self.prefix.is_empty() {
            let count = self.prefix.len();
            write!(f, "\n  {count} operations can be put in order, at last:")?;
            let skipped = count.saturating_sub(PRINTED_MAX);
            list(f, self.prefix.iter().skip(skipped))?;
            f.write_str("\n  and then not all of these:")?;
        }
        list(f, self.unplaced.iter().take(PRINTED_MAX))?;
        match self.unplaced.len().saturating_sub(PRINTED_MAX) {
            0 => Ok(()),
            more => write!(f, "\n    and {more} more"),
        }
    }
}

fn list<'a>(
    f: &mut fmt::Formatter<'_>,
    operations: impl Iterator<Item = &'a Operation>,
) -> fmt::Result {
    for operation in operations {
        write!(f, "\n    {operation}")?;
    }
    Ok(())
}

/// Most operations that are printed of a list.
const PRINTED_MAX: usize = 20;
