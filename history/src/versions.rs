//! Do the versions of a key rise, as a store promises whose versions can be compared?
//!
//! Versions are compared as strings. What has to rise is the version of one write after another in
//! the order in which they took effect, which nobody knows exactly; so this looks at what times
//! alone prove. An operation shows that a version was there before it returned: it made it, read
//! it, or replaced it. A write that was called after that return makes a higher one, and a read
//! sees one at least as high. A write that replaced a version makes a higher one, too.
//!
//! What else is wrong with a history is not looked for, except where it keeps versions from being
//! told apart: that is for [`check`](fn@crate::check).

use crate::check::{by_key, failure};
use crate::failure::{Evidence, Failure};
use crate::operation::{Answer, Operation, Outcome};
use crate::register::Facts;
use bytes::Bytes;

/// Checks that the versions of each key rise.
///
/// # Errors
/// At the first key on which they do not, or on which answers contradict each other.
pub fn check_versions(history: &[Operation]) -> Result<(), Failure> {
    for (key, operations) in by_key(history) {
        check_key(key, &operations)?;
    }
    Ok(())
}

fn check_key(key: &Bytes, operations: &[&Operation]) -> Result<(), Failure> {
    let facts = Facts::of(operations).map_err(|flaw| failure(key, operations, flaw))?;
    let violation = |why: &str, unplaced: &[&Operation]| {
        Err(Failure::Violation(Evidence {
            key: key.clone(),
            why: why.to_owned(),
            prefix: Vec::new(),
            unplaced: unplaced.iter().map(|o| (*o).clone()).collect(),
        }))
    };
    let sights = operations.iter().zip(&facts.versions);
    let sights = sights.map(|(operation, made)| Sight::of(operation, *made));
    let mut by_start: Vec<Sight<'_>> = sights.collect();
    let mut by_end = by_start.clone();
    by_start.sort_by_key(|sight| sight.operation.start_ns);
    // What has no end is last and never comes before anything.
    by_end.sort_by_key(|sight| sight.end_ns());
    let mut ended = by_end.into_iter().peekable();
    let mut highest: Option<(&str, &Operation)> = None;
    for sight in by_start {
        let operation = sight.operation;
        while let Some(earlier) = ended.next_if(|other| other.end_ns() < operation.start_ns) {
            let shown = earlier.shown().map(|version| (version, earlier.operation));
            let is_higher = |new: &(&str, _)| highest.is_none_or(|(old, _)| old < new.0);
            highest = shown.filter(is_higher).or(highest);
        }
        if let (Some(replaced), Some(made)) = (sight.found, sight.made)
            && made <= replaced
        {
            return violation("a write replaced a version that is not lower", &[operation]);
        }
        let Some((highest, shower)) = highest else {
            continue;
        };
        if sight.made.is_some_and(|made| made <= highest) {
            return violation(
                "a write made a version that is not higher than an earlier one",
                &[shower, operation],
            );
        }
        if sight.found.is_some_and(|found| found < highest) {
            return violation(
                "a version was seen after a higher one",
                &[shower, operation],
            );
        }
    }
    Ok(())
}

/// What an operation shows of versions.
#[derive(Clone)]
struct Sight<'a> {
    operation: &'a Operation,
    made: Option<&'a str>,
    /// Read or replaced.
    found: Option<&'a str>,
}

impl<'a> Sight<'a> {
    fn of(operation: &'a Operation, made: Option<&'a str>) -> Self {
        let read = match &operation.outcome {
            Outcome::Ok(Answer::Found { version, .. }) => version.as_deref(),
            Outcome::Ok(_) | Outcome::NotApplied | Outcome::Unknown => None,
        };
        Self {
            operation,
            made,
            found: read.or(operation.replaced_version()),
        }
    }

    /// The highest version that was there when it returned.
    fn shown(&self) -> Option<&'a str> {
        self.made.max(self.found)
    }

    fn end_ns(&self) -> u64 {
        match self.operation.outcome {
            Outcome::Ok(_) => self.operation.end_ns.unwrap_or(u64::MAX),
            Outcome::NotApplied | Outcome::Unknown => u64::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{at, get, get_nothing, put, put_if};

    fn good(history: &[Operation]) {
        assert_eq!(check_versions(history), Ok(()));
    }

    fn bad(history: &[Operation]) {
        let checked = check_versions(history);
        assert!(matches!(checked, Err(Failure::Violation(_))), "{checked:?}");
    }

    #[test]
    fn a_later_write_makes_a_higher_version() {
        good(&[put("x", 0..1).told("1"), put("y", 2..3).told("2")]);
        bad(&[put("x", 0..1).told("2"), put("y", 2..3).told("1")]);
        bad(&[put("x", 0..1).told("1"), put("y", 2..3).told("1")]);
        let between = put("z", 2..3).told("9");
        bad(&[put("x", 0..1).told("1"), between, put("y", 4..5).told("2")]);
    }

    #[test]
    fn concurrent_writes_make_versions_in_any_order() {
        good(&[put("x", 0..5).told("2"), put("y", 5..6).told("1")]);
        bad(&[put("x", 0..5).told("1"), put("y", 0..5).told("1")]);
    }

    #[test]
    fn a_later_read_sees_no_lower_version() {
        let writes = [put("x", 0..9).told("1"), put("y", 0..9).told("2")];
        let see = |one, other| [&writes[..], &[one, other]].concat();
        good(&see(get("x", 1..2).told("1"), get("x", 3..4).told("1")));
        good(&see(get("x", 1..2).told("1"), get("y", 3..4).told("2")));
        bad(&see(get("y", 1..2).told("2"), get("x", 3..4).told("1")));
        good(&see(get("y", 1..2).told("2"), get_nothing(3..4)));
    }

    #[test]
    fn a_version_that_a_read_tells_is_as_old_as_its_write() {
        let lost = put("x", 4..5).unknown();
        good(&[
            put("y", 2..3).told("2"),
            lost.clone(),
            get("x", 9..10).told("3"),
        ]);
        bad(&[put("y", 2..3).told("2"), lost, get("x", 3..10).told("1")]);
    }

    #[test]
    fn a_write_on_a_version_makes_a_higher_one() {
        good(&[
            put("x", 0..9).told("1"),
            put_if(at("1"), "y", 0..9).told("2"),
        ]);
        bad(&[
            put("x", 0..9).told("2"),
            put_if(at("2"), "y", 0..9).told("1"),
        ]);
        bad(&[put_if(at("5"), "y", 0..1), put("x", 2..3).told("4")]);
    }

    #[test]
    fn keys_have_versions_of_their_own() {
        let mut other = put("y", 2..3).told("1");
        other.key = "other".into();
        good(&[put("x", 0..1).told("2"), other]);
    }
}
