//! Storing a chunk of rows. What may succeed later is tried again a few times.

use super::rows::{Lifetime, Row};
use crate::clock;
use crate::connect::Session;
use crate::patience::{self, PAUSES};
use annulet::{Error, ErrorKind, Ttl};
use futures_util::stream::{self, StreamExt};
use std::collections::HashSet;
use std::time::Duration;

/// What became of a row.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    Stored,
    /// It is over, so there is nothing to store.
    Expired,
    Failed(Error),
}

impl Outcome {
    /// Whether another try may end otherwise.
    fn may_succeed_later(&self) -> bool {
        match self {
            Self::Failed(error) => error.is_retryable(),
            Self::Stored | Self::Expired => false,
        }
    }

    /// Whether it failed for a reason that says something about other rows too.
    pub(super) fn is_for_all(&self) -> bool {
        match self {
            Self::Failed(error) => error.kind() != ErrorKind::InvalidInput,
            Self::Stored | Self::Expired => false,
        }
    }
}

/// Stores rows, and says what became of each. `ttl` goes before what the rows say; `say` is told
/// why it takes longer.
pub(super) async fn store(
    rows: &[Row],
    session: &Session,
    ttl: Option<Ttl>,
    say: impl Fn(&str),
) -> Vec<Outcome> {
    let all: Vec<usize> = (0..rows.len()).collect();
    let mut outcomes = put(rows, &all, session, ttl).await;
    for pause in PAUSES {
        let again = to_repeat(rows, &outcomes);
        let failed = again.iter().find_map(|at| match &outcomes[*at] {
            Outcome::Failed(error) => Some(error),
            Outcome::Stored | Outcome::Expired => None,
        });
        let Some(why) = failed else {
            break;
        };
        let what = format!("trying {} rows", again.len());
        say(&patience::again(&what, why, pause));
        tokio::time::sleep(pause).await;
        let repeated = put(rows, &again, session, ttl).await;
        for (at, outcome) in again.into_iter().zip(repeated) {
            outcomes[at] = outcome;
        }
    }
    outcomes
}

/// Stores some of the rows at a time, in their order: of two rows with one key the later stays.
async fn put(rows: &[Row], which: &[usize], session: &Session, ttl: Option<Ttl>) -> Vec<Outcome> {
    let each = which.iter().map(|at| put_one(&rows[*at], session, ttl));
    stream::iter(each)
        .buffered(which.len().max(1))
        .collect()
        .await
}

async fn put_one(row: &Row, session: &Session, ttl: Option<Ttl>) -> Outcome {
    let ttl = match (ttl, row.lifetime) {
        (Some(ttl), _) => ttl,
        (None, Lifetime::Unsaid) => Ttl::Bucket,
        (None, Lifetime::Never) => Ttl::Never,
        (None, Lifetime::Until(at_ms)) => {
            if Duration::from_millis(at_ms) <= clock::since_epoch() {
                return Outcome::Expired;
            }
            Ttl::Until(at_ms)
        }
    };
    let options = session.writing(Some(ttl));
    let (key, value) = (&row.key, row.value.clone());
    match session.bucket.put_with(key, value, &options).await {
        Ok(_) => Outcome::Stored,
        Err(error) => Outcome::Failed(error),
    }
}

/// The rows to try again: those that may succeed later, and those after them that were stored under
/// the same key, which they would overwrite.
fn to_repeat(rows: &[Row], outcomes: &[Outcome]) -> Vec<usize> {
    let mut keys = HashSet::new();
    let mut again = Vec::new();
    for (at, (row, outcome)) in rows.iter().zip(outcomes).enumerate() {
        if outcome.may_succeed_later() {
            keys.insert(&row.key);
            again.push(at);
        } else if *outcome == Outcome::Stored && keys.contains(&row.key) {
            again.push(at);
        }
    }
    again
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::import::rows::Place;

    #[test]
    fn a_row_that_is_tried_again_does_not_overwrite_a_later_one() {
        let row = |line: u64, key: &'static str| Row {
            place: Place::Line(line),
            key: key.into(),
            value: "v".into(),
            lifetime: Lifetime::Unsaid,
        };
        let keys = ["a", "b", "a", "c", "a", "b", "c"];
        let rows: Vec<Row> = keys.into_iter().zip(1..).map(|(k, n)| row(n, k)).collect();
        let failed = |kind| Outcome::Failed(Error::new(kind, ""));
        let outcomes = [
            Outcome::Stored,
            failed(ErrorKind::Timeout),
            failed(ErrorKind::Unavailable),
            failed(ErrorKind::InvalidInput),
            Outcome::Stored,
            Outcome::Expired,
            Outcome::Stored,
        ];
        assert_eq!(to_repeat(&rows, &outcomes), [1, 2, 4]);
    }
}
