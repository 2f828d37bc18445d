//! Read, change, write, until nobody came between: the decisions of an update loop.

use crate::core::policy::retry::backoff_ms;
use crate::error::{Error, ErrorKind, Outcome, Result};
use annulet_protocol::ballot::Ballot;
use annulet_protocol::ids::OpId;
use annulet_protocol::register::Condition;

/// After so many failed conditions in a row it is tried again at once. A failed condition is found
/// by a round of one's own, which leaves the next ballot to who made it: whoever goes on at once
/// needs one round trip, and the others two.
const AT_ONCE: u32 = 3;

/// One update, over as many tries as it takes.
#[derive(Clone, Debug)]
pub struct Update {
    /// Tells the waits of different updates apart.
    op: OpId,
    deadline_ms: u64,
    tries: u32,
    seen: Option<Ballot>,
}

/// What to do after a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<T> {
    /// It is over.
    Done(T),
    /// Somebody came between: read again after so many milliseconds.
    Again {
        /// How long to wait.
        wait_ms: u64,
    },
}

impl Update {
    /// An update that ends at this time, in monotonic milliseconds.
    pub fn new(op: OpId, deadline_ms: u64) -> Self {
        Self {
            op,
            deadline_ms,
            tries: 0,
            seen: None,
        }
    }

    /// Milliseconds left for the next part.
    ///
    /// # Errors
    /// `Timeout` if none is; nothing of the update was applied.
    pub fn budget_ms(&self, now_ms: u64) -> Result<u64> {
        match self.deadline_ms.saturating_sub(now_ms) {
            0 => {
                let why = format!("others came between, {} times", self.tries);
                let error = Error::new(ErrorKind::Timeout, why);
                Err(error.with_outcome(Outcome::NotApplied))
            }
            left => Ok(left),
        }
    }

    /// Notes the version of the value that was read; `None`: there is none.
    pub fn saw(&mut self, version: Option<Ballot>) {
        self.seen = version;
    }

    /// When the new value may be written.
    pub fn condition(&self) -> Condition {
        match self.seen {
            Some(version) => Condition::Version(version),
            None => Condition::Absent,
        }
    }

    /// What to do after the new value was to be written.
    ///
    /// # Errors
    /// Any but a failed condition.
    pub fn after<T>(&mut self, result: Result<T>, now_ms: u64) -> Result<Step<T>> {
        match result {
            Ok(done) => Ok(Step::Done(done)),
            Err(error) if error.kind() == ErrorKind::Conflict => {
                self.tries = self.tries.saturating_add(1);
                let wait_ms = match self.tries.checked_sub(AT_ONCE) {
                    None | Some(0) => 0,
                    Some(tries) => backoff_ms(&self.op, tries, None),
                };
                let left_ms = self.deadline_ms.saturating_sub(now_ms);
                Ok(Step::Again {
                    wait_ms: wait_ms.min(left_ms),
                })
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_condition_is_tried_again_until_the_deadline() {
        let mut update = Update::new(OpId::default(), 1_000);
        assert_eq!(update.condition(), Condition::Absent);
        let version = Ballot::default();
        update.saw(Some(version));
        assert_eq!(update.condition(), Condition::Version(version));
        let conflict = || Err::<(), _>(Error::new(ErrorKind::Conflict, "another came"));
        let (mut now_ms, mut tries) = (0, 0);
        while let Ok(left_ms) = update.budget_ms(now_ms) {
            assert_eq!(left_ms, 1_000 - now_ms);
            match update.after(conflict(), now_ms) {
                Ok(Step::Again { wait_ms }) => {
                    tries += 1;
                    assert_eq!(wait_ms == 0, tries <= AT_ONCE, "{wait_ms}");
                    now_ms += wait_ms;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(now_ms, 1_000);
        let error = update.budget_ms(1_000).unwrap_err();
        assert_eq!(error.outcome(), Some(Outcome::NotApplied));
        assert_eq!(update.after(Ok(7), 0), Ok(Step::Done(7)));
        let lost = Error::new(ErrorKind::Timeout, "no answer").with_outcome(Outcome::Unknown);
        assert_eq!(update.after::<()>(Err(lost.clone()), 0), Err(lost));
    }
}
