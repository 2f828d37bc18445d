//! Linearizability by its definition: every order of every choice of operations is tried.

use annulet_history::{Answer, Condition, Op, Operation, Outcome};
use bytes::Bytes;

/// Whether some order of the operations that were done, and of any of those whose outcome is
/// unknown, explains all answers. Versions are part of it: every write makes one of its own. Where
/// an answer does not tell it, it can be any of those that the history names, or another.
pub(crate) fn is_linearizable(operations: &[Operation]) -> bool {
    let mut named: Vec<&str> = operations.iter().flat_map(versions).collect();
    named.sort_unstable();
    named.dedup();
    Orders { operations, named }.any_from(&mut Vec::new(), &mut Vec::new(), None, None)
}

/// Whether a write may have found a version that no answer tells of.
pub(crate) fn replaces_unseen_version(operations: &[Operation]) -> bool {
    let told: Vec<&str> = operations.iter().filter_map(answered_version).collect();
    operations.iter().any(|operation| {
        let is_applied = !matches!(
            operation.outcome,
            Outcome::NotApplied | Outcome::Ok(Answer::NotHeld)
        );
        is_applied && condition_version(operation).is_some_and(|version| !told.contains(&version))
    })
}

struct Orders<'a> {
    operations: &'a [Operation],
    named: Vec<&'a str>,
}

impl<'a> Orders<'a> {
    /// Whether an order that begins with `placed`, which made the versions `made` and left this
    /// value and version, explains all answers.
    fn any_from(
        &self,
        placed: &mut Vec<usize>,
        made: &mut Vec<&'a str>,
        value: Option<&'a Bytes>,
        version: Option<&'a str>,
    ) -> bool {
        let is_done = |index: &usize| matches!(self.operations[*index].outcome, Outcome::Ok(_));
        let left = (0..self.operations.len()).filter(|index| !placed.contains(index));
        let left: Vec<usize> = left.collect();
        if !left.iter().any(is_done) {
            return true;
        }
        for next in left.iter().copied() {
            let operation = &self.operations[next];
            let is_late = left.iter().any(|other| {
                let other = &self.operations[*other];
                let ended = matches!(other.outcome, Outcome::Ok(_)).then_some(other.end_ns);
                ended
                    .flatten()
                    .is_some_and(|end_ns| end_ns < operation.start_ns)
            });
            if is_late || operation.outcome == Outcome::NotApplied {
                continue;
            }
            placed.push(next);
            let found = match self.written(operation, value, version) {
                None => false,
                Some(None) => self.any_from(placed, made, value, version),
                Some(Some(value)) => {
                    let told = answered_version(operation);
                    self.versions_to_make(operation).into_iter().any(|version| {
                        if version.is_some_and(|version| made.contains(&version)) {
                            return false;
                        }
                        made.extend(version);
                        assert!(told.is_none() || told == version);
                        let found = self.any_from(placed, made, value, version);
                        made.truncate(made.len() - usize::from(version.is_some()));
                        found
                    })
                }
            };
            placed.pop();
            if found {
                return true;
            }
        }
        false
    }

    /// What the operation writes in this state, if it writes; `None` if its answer cannot be.
    fn written(
        &self,
        operation: &'a Operation,
        value: Option<&Bytes>,
        version: Option<&str>,
    ) -> Option<Option<Option<&'a Bytes>>> {
        let written = match &operation.op {
            Op::Get => None,
            Op::Put { value } => Some(Some(value)),
            Op::Delete => Some(None),
            Op::Cas {
                condition,
                value: put,
            } => {
                let holds = match condition {
                    Condition::Absent => value.is_none(),
                    Condition::Version(wanted) => value.is_some() && version == Some(wanted),
                };
                holds.then_some(put.as_ref())
            }
        };
        let can_be = match &operation.outcome {
            Outcome::Ok(Answer::Found {
                value: found,
                version: told,
            }) => value == Some(found) && (told.is_none() || told.as_deref() == version),
            Outcome::Ok(Answer::Absent) => value.is_none(),
            Outcome::Ok(Answer::Written { .. }) => written.is_some(),
            Outcome::Ok(Answer::NotHeld) => written.is_none(),
            Outcome::Unknown => true,
            Outcome::NotApplied => false,
        };
        can_be.then_some(written)
    }

    /// The versions that a write can make; `None`: one that nothing names.
    fn versions_to_make(&self, operation: &'a Operation) -> Vec<Option<&'a str>> {
        if let told @ Some(_) = answered_version(operation) {
            return vec![told];
        }
        let writes = self.operations.iter().filter(|o| o.op != Op::Get);
        let told: Vec<&str> = writes.filter_map(answered_version).collect();
        let others = self.named.iter().filter(|version| !told.contains(version));
        [None]
            .into_iter()
            .chain(others.copied().map(Some))
            .collect()
    }
}

fn versions(operation: &Operation) -> impl Iterator<Item = &str> {
    let both = [answered_version(operation), condition_version(operation)];
    both.into_iter().flatten()
}

fn answered_version(operation: &Operation) -> Option<&str> {
    match &operation.outcome {
        Outcome::Ok(Answer::Found { version, .. } | Answer::Written { version }) => {
            version.as_deref()
        }
        _ => None,
    }
}

fn condition_version(operation: &Operation) -> Option<&str> {
    match &operation.op {
        Op::Cas {
            condition: Condition::Version(version),
            ..
        } => Some(version),
        _ => None,
    }
}
