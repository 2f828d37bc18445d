//! What was asked of a key, and what came of it.

use bytes::Bytes;
use std::fmt;

/// An operation that a process called, on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who called it; only for people, since the times alone tell what came before what.
    pub process: u64,
    /// The key. Before the first operation of a history it has no value.
    pub key: Bytes,
    /// What was asked. **No two operations on one key write the same value**, so that a value tells
    /// which of them wrote it.
    pub op: Op,
    /// When it was called, in nanoseconds of a clock that all processes of the history share.
    pub start_ns: u64,
    /// When the process had its outcome, by the same clock. An operation comes before another if
    /// it ended before the other was called; at one and the same moment, neither is first.
    pub end_ns: Option<u64>,
    /// What the process was told.
    pub outcome: Outcome,
}

/// What is asked of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// What is its value?
    Get,
    /// It has this value from now on.
    Put {
        /// The value.
        value: Bytes,
    },
    /// It has no value from now on.
    Delete,
    /// A put or a delete, if the condition holds.
    Cas {
        /// The condition.
        condition: Condition,
        /// What is put; `None`: it is deleted.
        value: Option<Bytes>,
    },
}

/// When a conditional write takes effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The key has no value.
    Absent,
    /// The key has a value, and this is its version. The version of a delete names no value.
    Version(String),
}

/// What became of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done. A condition that did not hold is an answer, too.
    Ok(Answer),
    /// It failed, and never takes effect.
    NotApplied,
    /// It failed or was never heard of again: it took effect, or will at any later time, or never.
    Unknown,
}

/// The answer to an operation that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To a get: the key has a value.
    Found {
        /// The value.
        value: Bytes,
        /// Its version, an opaque string that no other write of the key has; `None`: not told.
        version: Option<String>,
    },
    /// To a get: the key has no value.
    Absent,
    /// To everything that writes: it took effect.
    Written {
        /// The version that it made, as [`Answer::Found`] has it.
        version: Option<String>,
    },
    /// To a conditional write: the condition did not hold, and nothing changed.
    NotHeld,
}

impl Operation {
    /// Whether the answer is one to what was asked.
    pub fn is_answered_in_kind(&self) -> bool {
        let Outcome::Ok(answer) = &self.outcome else {
            return true;
        };
        match (&self.op, answer) {
            (Op::Get, Answer::Found { .. } | Answer::Absent)
            | (Op::Put { .. } | Op::Delete, Answer::Written { .. })
            | (Op::Cas { .. }, Answer::Written { .. } | Answer::NotHeld) => true,
            (Op::Get, Answer::Written { .. } | Answer::NotHeld)
            | (Op::Put { .. } | Op::Delete, Answer::NotHeld)
            | (
                Op::Put { .. } | Op::Delete | Op::Cas { .. },
                Answer::Found { .. } | Answer::Absent,
            ) => false,
        }
    }

    /// What it leaves in the key where it takes effect: a value, or none. `None` if it changes
    /// nothing.
    pub(crate) fn effect(&self) -> Option<Option<&Bytes>> {
        match &self.outcome {
            Outcome::NotApplied | Outcome::Ok(Answer::NotHeld) => None,
            Outcome::Ok(_) | Outcome::Unknown => self.op.effect(),
        }
    }

    /// The version that it is known by its own answer to have made.
    pub(crate) fn told_version(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Ok(Answer::Written { version }) => version.as_deref(),
            Outcome::Ok(_) | Outcome::NotApplied | Outcome::Unknown => None,
        }
    }

    /// The version on which a conditional write took effect.
    pub(crate) fn replaced_version(&self) -> Option<&str> {
        match (&self.op, &self.outcome) {
            (
                Op::Cas {
                    condition: Condition::Version(version),
                    ..
                },
                Outcome::Ok(Answer::Written { .. }),
            ) => Some(version),
            _ => None,
        }
    }
}

impl Op {
    /// What it writes, as [`Operation::effect`].
    pub(crate) fn effect(&self) -> Option<Option<&Bytes>> {
        match self {
            Self::Get => None,
            Self::Put { value } => Some(Some(value)),
            Self::Delete => Some(None),
            Self::Cas { value, .. } => Some(value.as_ref()),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}, {}..", self.process, self.start_ns)?;
        match self.end_ns {
            Some(end_ns) => write!(f, "{end_ns} ns: {}", self.op)?,
            None => write!(f, " ns: {}", self.op)?,
        }
        match &self.outcome {
            Outcome::Ok(answer) => write!(f, " -> {answer}"),
            Outcome::NotApplied => f.write_str(" -> not applied"),
            Outcome::Unknown => f.write_str(" -> unknown"),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get => f.write_str("get"),
            Self::Put { value } => write!(f, "put {}", Short(value)),
            Self::Delete => f.write_str("delete"),
            Self::Cas { condition, value } => {
                match value {
                    Some(value) => write!(f, "put {} if ", Short(value))?,
                    None => f.write_str("delete if ")?,
                }
                match condition {
                    Condition::Absent => f.write_str("absent"),
                    Condition::Version(version) => write!(f, "version {version:?}"),
                }
            }
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = match self {
            Self::Found { value, version } => {
                write!(f, "{}", Short(value))?;
                version
            }
            Self::Written { version } => {
                f.write_str("written")?;
                version
            }
            Self::Absent => return f.write_str("absent"),
            Self::NotHeld => return f.write_str("the condition did not hold"),
        };
        match version {
            Some(version) => write!(f, " at version {version:?}"),
            None => Ok(()),
        }
    }
}

/// Bytes as people read them, the beginning of long ones.
pub(crate) struct Short<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.get(..SHORT_BYTES_MAX) {
            Some(beginning) => {
                let beginning = beginning.escape_ascii();
                write!(f, "\"{beginning}...\" ({} bytes)", self.0.len())
            }
            None => write!(f, "\"{}\"", self.0.escape_ascii()),
        }
    }
}

/// Shortest value of which only the beginning is printed.
const SHORT_BYTES_MAX: usize = 64;
