//! Operations for the tests beside the code.

use crate::operation::{Answer, Condition, Op, Operation, Outcome};
use std::ops::Range;

pub(crate) fn put(value: &'static str, times: Range<u64>) -> Operation {
    let value = value.into();
    done(Op::Put { value }, Answer::Written { version: None }, times)
}

pub(crate) fn delete(times: Range<u64>) -> Operation {
    done(Op::Delete, Answer::Written { version: None }, times)
}

pub(crate) fn get(value: &'static str, times: Range<u64>) -> Operation {
    let (value, version) = (value.into(), None);
    done(Op::Get, Answer::Found { value, version }, times)
}

pub(crate) fn get_nothing(times: Range<u64>) -> Operation {
    done(Op::Get, Answer::Absent, times)
}

/// A conditional put whose condition held.
pub(crate) fn put_if(condition: Condition, value: &'static str, times: Range<u64>) -> Operation {
    let value = Some(value.into());
    let answer = Answer::Written { version: None };
    done(Op::Cas { condition, value }, answer, times)
}

pub(crate) fn delete_if(version: &str, times: Range<u64>) -> Operation {
    let condition = at(version);
    let answer = Answer::Written { version: None };
    let value = None;
    done(Op::Cas { condition, value }, answer, times)
}

pub(crate) fn at(version: &str) -> Condition {
    Condition::Version(version.to_owned())
}

impl Operation {
    /// The same, told this version.
    pub(crate) fn told(mut self, told: &str) -> Self {
        if let Outcome::Ok(Answer::Found { version, .. } | Answer::Written { version }) =
            &mut self.outcome
        {
            *version = Some(told.to_owned());
        }
        self
    }

    pub(crate) fn not_held(self) -> Self {
        self.with(Outcome::Ok(Answer::NotHeld))
    }

    pub(crate) fn not_applied(self) -> Self {
        self.with(Outcome::NotApplied)
    }

    pub(crate) fn unknown(self) -> Self {
        self.with(Outcome::Unknown)
    }

    fn with(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }
}

fn done(op: Op, answer: Answer, times: Range<u64>) -> Operation {
    Operation {
        process: 1,
        key: "key".into(),
        op,
        start_ns: times.start,
        end_ns: Some(times.end),
        outcome: Outcome::Ok(answer),
    }
}
