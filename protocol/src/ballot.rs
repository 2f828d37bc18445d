//! Ballots: numbered attempts to agree on a value, each one proposer's own.

use crate::ids::Incarnation;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

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

impl FromStr for Ballot {
    type Err = String;

    /// Reads what [`fmt::Display`] writes.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a version of a strong bucket");
        let (number, proposer) = text.split_once('-').ok_or_else(wrong)?;
        let digits = number.len() == 16 && number.bytes().all(|byte| byte.is_ascii_hexdigit());
        let parsed = u64::from_str_radix(number, 16).ok().filter(|_| digits);
        Ok(Self {
            number: parsed.ok_or_else(wrong)?,
            proposer: proposer.parse().map_err(|_| wrong())?,
        })
    }
}

impl fmt::Debug for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.number, self.proposer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ballot_is_its_text_and_nothing_else() {
        let ballot = Ballot {
            number: 0x0102_0304_0506_0708,
            proposer: Incarnation([0xab; 16]),
        };
        let text = ballot.to_string();
        assert_eq!(text.parse(), Ok(ballot));
        for bad in [
            &text[1..],
            "",
            "-",
            &text[..20],
            &format!("+{}", &text[1..]),
        ] {
            assert!(bad.parse::<Ballot>().is_err(), "{bad}");
        }
    }
}
