//! Ballots: numbered attempts to agree on a value, each one proposer's own.

use crate::ids::Incarnation;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One attempt to agree. Compared by number, then by proposer, so that no two proposers ever have
/// the same one; a proposer uses a number once. The default is below all that anybody proposes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Ballot {
    /// Rises with each attempt.
    pub number: u64,
    /// Who attempts: one life of a client core, or of a server.
    pub proposer: Incarnation,
}

impl Ballot {
    /// The first ballot of this proposer that is above this one.
    #[must_use]
    pub fn next(self, proposer: Incarnation) -> Self {
        Self {
            number: self.number.saturating_add(1),
            proposer,
        }
    }
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.number, self.proposer)
    }
}

impl fmt::Debug for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.number, self.proposer)
    }
}
