//! One key as a register: the states that it can have, and what each operation asks of them.
//!
//! Since no two writes have the same value, or the same version, a value and its version each tell
//! the write that made them, wherever in the history they were shown. So all of that is looked up
//! before any order is searched for: the version of a write whose answer was lost is the one that a
//! get shows beside its value, and a condition on a version is one on the write that made it. A
//! state is then just the write that made it, and what cannot be looked up is wrong in any order.

use crate::operation::{Answer, Condition, Op, Operation, Outcome};
use bytes::Bytes;
use std::collections::{HashMap, HashSet};

/// What a key has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum State {
    /// No value.
    Absent,
    /// A value that no operation reads or names in a condition: which one makes no difference.
    Unnamed {
        /// Whether its version is known.
        is_told: bool,
    },
    /// The value of this write. It never comes back once it was replaced.
    Value {
        /// The write's index in the history.
        writer: usize,
        /// Whether its version is known.
        is_told: bool,
    },
}

/// In which states an operation can have had its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Guard {
    /// In all of them.
    Any,
    /// In this one.
    Is(State),
    /// In all but this one.
    IsNot(State),
    /// Where the key has a value whose version is not known: the condition names a version that
    /// nobody is known to have made. Which of several such values has it is not followed up.
    Untold,
}

/// What an operation asks of the register, and does to it.
#[derive(Clone, Debug)]
pub(crate) struct Move {
    /// The operation's index in the history.
    pub(crate) operation: usize,
    /// When it was called.
    pub(crate) start_ns: u64,
    /// When it returned; the largest number if it may take effect at any later time.
    pub(crate) end_ns: u64,
    /// Whether it took effect for certain.
    pub(crate) is_required: bool,
    /// In which states it can.
    pub(crate) guard: Guard,
    /// The state after it; `None` if it changes nothing.
    pub(crate) makes: Option<State>,
}

/// What is wrong with a history in whatever order it is put.
#[derive(Debug, PartialEq)]
pub(crate) enum Flaw {
    /// Answers that contradict each other.
    Contradiction { why: String, operations: Vec<usize> },
    /// Two writes have the same value, so that reads do not tell them apart.
    RepeatedValue(usize, usize),
}

/// What answers say about the writes of a key.
pub(crate) struct Facts<'a> {
    operations: &'a [&'a Operation],
    /// Who wrote a value, if anybody did.
    writers: HashMap<&'a Bytes, usize>,
    /// The version that each operation made, if it is known.
    pub(crate) versions: Vec<Option<&'a str>>,
    /// Who made a version.
    makers: HashMap<&'a str, usize>,
}

impl State {
    fn is_untold(self) -> bool {
        match self {
            Self::Absent => false,
            Self::Unnamed { is_told } | Self::Value { is_told, .. } => !is_told,
        }
    }
}

impl Guard {
    /// Whether an operation with this guard can come in this state.
    pub(crate) fn holds(self, state: State) -> bool {
        match self {
            Self::Any => true,
            Self::Is(wanted) => wanted == state,
            Self::IsNot(unwanted) => unwanted != state,
            Self::Untold => state.is_untold(),
        }
    }
}

/// The moves of the operations that matter, in the order of their calls.
///
/// # Errors
/// If no order can explain the answers, whatever the times.
pub(crate) fn moves(operations: &[&Operation]) -> Result<Vec<Move>, Flaw> {
    let facts = Facts::of(operations)?;
    let named = facts.named();
    // Where no condition asks for a version that nobody made, it makes no difference whether the
    // version of an unnamed value is known.
    let are_told = !facts.has_foreign_conditions();
    let state = |writer: usize| match operations[writer].effect().flatten() {
        None => State::Absent,
        Some(_) => {
            let is_told = facts.versions[writer].is_some();
            match named.contains(&writer) {
                true => State::Value { writer, is_told },
                false => State::Unnamed {
                    is_told: is_told || are_told,
                },
            }
        }
    };
    let mut moves = Vec::new();
    for (index, operation) in operations.iter().enumerate() {
        let Some(guard) = facts.guard(operation, state) else {
            continue;
        };
        let is_required = operation.outcome != Outcome::Unknown;
        moves.push(Move {
            operation: index,
            start_ns: operation.start_ns,
            end_ns: match operation.end_ns {
                Some(end_ns) if is_required => end_ns.max(operation.start_ns),
                Some(_) | None => u64::MAX,
            },
            is_required,
            guard,
            makes: operation.effect().map(|_| state(index)),
        });
    }
    moves.sort_by_key(|a_move| a_move.start_ns);
    Ok(moves)
}

impl<'a> Facts<'a> {
    /// Looks up who wrote what.
    ///
    /// # Errors
    /// As [`moves`].
    pub(crate) fn of(operations: &'a [&'a Operation]) -> Result<Self, Flaw> {
        let mut facts = Self {
            operations,
            writers: HashMap::new(),
            versions: operations.iter().map(|o| o.told_version()).collect(),
            makers: HashMap::new(),
        };
        for (index, operation) in operations.iter().enumerate() {
            if !operation.is_answered_in_kind() {
                return Err(contradiction(
                    "an answer is none to what was asked",
                    [index],
                ));
            }
            if let Some(Some(value)) = operation.effect()
                && let Some(other) = facts.writers.insert(value, index)
            {
                return Err(Flaw::RepeatedValue(other, index));
            }
        }
        facts.take_versions_from_gets()?;
        facts.find_makers()?;
        facts.find_lost_updates()?;
        Ok(facts)
    }

    fn take_versions_from_gets(&mut self) -> Result<(), Flaw> {
        let mut shown_by: HashMap<usize, usize> = HashMap::new();
        for (index, operation) in self.operations.iter().enumerate() {
            let Outcome::Ok(Answer::Found { value, version }) = &operation.outcome else {
                continue;
            };
            let Some(&writer) = self.writers.get(value) else {
                return Err(self.unwritten(index, value));
            };
            let Some(version) = version.as_deref() else {
                continue;
            };
            match self.versions[writer].replace(version) {
                Some(other) if other != version => {
                    let witness = shown_by.get(&writer).copied().unwrap_or(writer);
                    return Err(contradiction(
                        "one value was shown at two versions",
                        [witness, index],
                    ));
                }
                Some(_) | None => shown_by.insert(writer, index),
            };
        }
        Ok(())
    }

    fn find_makers(&mut self) -> Result<(), Flaw> {
        for (index, version) in self.versions.iter().enumerate() {
            if let Some(version) = version
                && let Some(other) = self.makers.insert(version, index)
            {
                return Err(contradiction("two writes have one version", [other, index]));
            }
        }
        Ok(())
    }

    /// A write on a version replaces it, so only one can have found it, and none that of a delete.
    fn find_lost_updates(&self) -> Result<(), Flaw> {
        let mut replaced_by = HashMap::new();
        for (index, operation) in self.operations.iter().enumerate() {
            let Some(version) = operation.replaced_version() else {
                continue;
            };
            if let Some(other) = replaced_by.insert(version, index) {
                return Err(contradiction(
                    "two writes replaced one version: an update was lost",
                    [other, index],
                ));
            }
            if let Some(&maker) = self.makers.get(version)
                && self.operations[maker].effect() == Some(None)
            {
                return Err(contradiction(
                    "a condition held on the version of a delete",
                    [maker, index],
                ));
            }
        }
        Ok(())
    }

    fn unwritten(&self, index: usize, value: &Bytes) -> Flaw {
        let writes_it = |operation: &&&Operation| operation.op.effect() == Some(Some(value));
        let refused = self.operations.iter().position(|o| writes_it(&o));
        match refused {
            Some(refused) => contradiction(
                "a value was read whose write never took effect",
                [refused, index],
            ),
            None => contradiction("a value was read that nobody wrote", [index]),
        }
    }

    /// Writes whose value is read, or whose version is named in a condition.
    fn named(&self) -> HashSet<usize> {
        let named = self.operations.iter().filter_map(|operation| {
            if let Outcome::Ok(Answer::Found { value, .. }) = &operation.outcome {
                return self.writers.get(value).copied();
            }
            self.makers.get(condition_version(operation)?).copied()
        });
        named.collect()
    }

    fn has_foreign_conditions(&self) -> bool {
        let mut versions = self.operations.iter().filter_map(|o| condition_version(o));
        versions.any(|version| !self.makers.contains_key(version))
    }

    /// In which states an operation can come; `None` if in none, or if it says nothing.
    fn guard(&self, operation: &Operation, state: impl Fn(usize) -> State) -> Option<Guard> {
        let (condition, holds) = match (&operation.op, &operation.outcome) {
            (_, Outcome::NotApplied) | (Op::Get, Outcome::Unknown) => return None,
            (Op::Get, Outcome::Ok(Answer::Found { value, .. })) => {
                // There is one: a value that nobody wrote is a contradiction by itself.
                return Some(Guard::Is(state(self.writers[value])));
            }
            (Op::Get, Outcome::Ok(_)) => return Some(Guard::Is(State::Absent)),
            (Op::Put { .. } | Op::Delete, _) => return Some(Guard::Any),
            (Op::Cas { condition, .. }, outcome) => {
                (condition, *outcome != Outcome::Ok(Answer::NotHeld))
            }
        };
        let wanted = match condition {
            Condition::Absent => Some(State::Absent),
            Condition::Version(version) => match self.makers.get(version.as_str()) {
                Some(&maker) => match state(maker) {
                    // The version of a delete names no value.
                    State::Absent => return (!holds).then_some(Guard::Any),
                    named => Some(named),
                },
                None => None,
            },
        };
        Some(match (wanted, holds) {
            (Some(state), true) => Guard::Is(state),
            (Some(state), false) => Guard::IsNot(state),
            (None, true) => Guard::Untold,
            (None, false) => Guard::Any,
        })
    }
}

fn condition_version(operation: &Operation) -> Option<&str> {
    match (&operation.op, &operation.outcome) {
        (_, Outcome::NotApplied) => None,
        (
            Op::Cas {
                condition: Condition::Version(version),
                ..
            },
            _,
        ) => Some(version),
        _ => None,
    }
}

fn contradiction<const N: usize>(why: &str, operations: [usize; N]) -> Flaw {
    Flaw::Contradiction {
        why: why.to_owned(),
        operations: operations.to_vec(),
    }
}
