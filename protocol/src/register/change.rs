//! The changes that a round can make of a register. They are few and fixed, so that servers need no
//! code of applications.

use super::{Entry, Fate, Register};
use crate::ballot::Ballot;
use crate::ids::OpId;
use crate::record::Kind;
use bytes::Bytes;

/// When a change is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Always.
    Always,
    /// If the key has a value of this version.
    Version(Ballot),
    /// If the key has no value.
    Absent,
}

/// What a round is to make of a register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Set a value.
    Set {
        /// The value.
        value: Bytes,
        /// When it stops being readable, in milliseconds since the Unix epoch.
        expires_at_ms: Option<u64>,
        /// When.
        condition: Condition,
    },
    /// Put a tombstone in place of the value.
    Delete {
        /// When.
        condition: Condition,
    },
    /// Set when the value stops being readable, if there is one. Its version stays.
    Touch {
        /// Milliseconds since the Unix epoch; `None`: never.
        expires_at_ms: Option<u64>,
    },
    /// Leave it as it is: settles what is there.
    Identity,
    /// Enter the operation as refused, unless its fate is known.
    Resolve,
}

/// One attempt at a change.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// The round.
    pub ballot: Ballot,
    /// The operation; of [`Change::Resolve`] the one that is asked about.
    pub op: OpId,
    /// The round in which its change may have been accepted first; `None`: in none so far.
    pub since: Option<Ballot>,
    /// The time by which expiry is judged, in milliseconds since the Unix epoch.
    pub now_ms: u64,
}

/// What the round found. It is true once the round has completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The change was made, by this round or an earlier one. The version: that of the value which a
    /// touch found, else the one made.
    Applied(Ballot),
    /// The condition does not hold, and the change was not made.
    Failed,
    /// The operation was refused for good.
    Refused,
    /// Whether the change was made is not known any more: too many others came after it. It was not
    /// made again.
    Forgotten,
    /// Nothing was to be changed.
    Settled,
}

/// Where the value of a changed register comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewValue {
    /// It is that of the register before.
    Kept,
    /// It is this one, be it of a value or, empty, of a tombstone.
    Is(Bytes),
}

/// A register after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The register to be accepted.
    pub register: Register,
    /// Its value.
    pub value: NewValue,
    /// What that says of the operation.
    pub verdict: Verdict,
}

impl Change {
    /// Whether it asks for something else than to settle what is there.
    pub fn is_write(&self) -> bool {
        *self != Self::Identity
    }
}

impl Register {
    /// What a round makes of this register. The operation is looked for **before** its condition
    /// is judged: an earlier attempt may have been accepted, and a condition that held then does
    /// not hold any more.
    pub fn change(&self, (bucket, key): (u32, &[u8]), turn: &Turn, change: &Change) -> Changed {
        let known = self.log.find(&turn.op).filter(|_| change.is_write());
        let verdict = match known.map(|entry| (entry.fate, entry.at)) {
            Some((Fate::Applied, _)) if matches!(change, Change::Touch { .. }) => {
                Some(Verdict::Applied(self.head.version))
            }
            Some((Fate::Applied, at)) => Some(Verdict::Applied(at)),
            Some((Fate::Refused, _)) => Some(Verdict::Refused),
            None => {
                let proved = |since| self.log.is_complete_since(since);
                let open = turn.since.is_some_and(|since| !proved(since));
                (open && change.is_write()).then_some(Verdict::Forgotten)
            }
        };
        match verdict {
            Some(verdict) => self.settled(verdict),
            None => self.first_time((bucket, key), turn, change),
        }
    }

    /// The same as [`Register::change`] for an operation that has not been applied.
    pub fn first_time(&self, at: (u32, &[u8]), turn: &Turn, change: &Change) -> Changed {
        let live = self.head.is_live(turn.now_ms);
        let holds = |condition: &Condition| match condition {
            Condition::Always => true,
            Condition::Version(version) => live && self.head.version == *version,
            Condition::Absent => !live,
        };
        match change {
            Change::Set {
                value,
                expires_at_ms,
                condition,
            } if holds(condition) => self.made(at, turn, Some((value, *expires_at_ms)), true),
            Change::Delete { condition } if holds(condition) => self.made(at, turn, None, true),
            Change::Touch { expires_at_ms } if live => {
                let mut register = self.clone();
                register.head.expires_at_ms = *expires_at_ms;
                register.note((at, turn), Fate::Applied);
                Changed {
                    register,
                    value: NewValue::Kept,
                    verdict: Verdict::Applied(self.head.version),
                }
            }
            Change::Resolve => {
                let mut register = self.clone();
                register.note((at, turn), Fate::Refused);
                Changed {
                    register,
                    value: NewValue::Kept,
                    verdict: Verdict::Refused,
                }
            }
            Change::Identity => self.unchanged(at, turn, Verdict::Settled),
            Change::Set { .. } | Change::Delete { .. } | Change::Touch { .. } => {
                self.unchanged(at, turn, Verdict::Failed)
            }
        }
    }

    /// What is there stays, unless its time is over: then a tombstone takes its place, and nobody
    /// ever sees the value again.
    fn unchanged(&self, at: (u32, &[u8]), turn: &Turn, verdict: Verdict) -> Changed {
        let changed = match self.head.is_expired(turn.now_ms) {
            true => self.made(at, turn, None, false),
            false => self.settled(verdict),
        };
        Changed { verdict, ..changed }
    }

    fn settled(&self, verdict: Verdict) -> Changed {
        Changed {
            register: self.clone(),
            value: NewValue::Kept,
            verdict,
        }
    }

    /// A new value, or a tombstone, in place of this one. `logged`: the operation asked for it.
    fn made(
        &self,
        (bucket, key): (u32, &[u8]),
        turn: &Turn,
        value: Option<(&Bytes, Option<u64>)>,
        logged: bool,
    ) -> Changed {
        let kind = match value {
            Some(_) => Kind::Value,
            None => Kind::Tombstone,
        };
        let mut register = Self {
            log: self.log.clone(),
            ..Self::bare(kind, turn.ballot, turn.op)
        };
        let (value, expires_at_ms) = value.map(|(v, at)| (v.clone(), at)).unwrap_or_default();
        register.head.expires_at_ms = expires_at_ms;
        // Values have at most 64 MiB.
        register.head.length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        register.head.checksum = register.head.checksum_over(bucket, key, &value);
        match logged {
            true => register.note(((bucket, key), turn), Fate::Applied),
            false => register.seal(bucket, key),
        }
        Changed {
            register,
            value: NewValue::Is(value),
            verdict: Verdict::Applied(turn.ballot),
        }
    }

    /// Enters the operation into the log, and seals the register anew.
    fn note(&mut self, ((bucket, key), turn): ((u32, &[u8]), &Turn), fate: Fate) {
        let (op, at) = (turn.op, turn.ballot);
        self.log.push(Entry { op, at, fate });
        self.seal(bucket, key);
    }
}
