//! What became of the rows of an import.

use super::rows::{Broken, Place};
use super::store::Outcome;
use crate::failure::{Exit, Failure};
use crate::progress::Progress;
use crate::transfer::PROBLEMS_SHOWN;
use crate::{clock, output};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Instant;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Counts {
    pub(super) rows: u64,
    pub(super) stored: u64,
    pub(super) expired: u64,
    pub(super) broken: u64,
    pub(super) failed: u64,
    /// Of the values that were stored.
    pub(super) bytes: u64,
}

/// What a state remembers: the rows before the first one that is still to be stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Done {
    counts: Counts,
    /// The path of the last of them, in base64, where they are the files of a folder.
    last_path_base64: Option<String>,
}

/// A row and what became of it.
pub(super) struct Judged {
    pub(super) place: Place,
    pub(super) fate: Fate,
}

pub(super) enum Fate {
    /// It was tried to store so many bytes.
    Tried(Outcome, u64),
    Broken(Broken),
}

pub(super) struct Summary {
    counts: Counts,
    before: Counts,
    done: Done,
    /// Whether a row was left behind that is to be stored by a later run.
    behind: bool,
    /// Whether a row that cannot be stored ends it all.
    strict: bool,
    /// Whether rows were left unread.
    pub(super) stopped: bool,
    problems: Vec<Value>,
    started: Instant,
    seconds: f64,
}

impl Judged {
    pub(super) fn broken(broken: Broken) -> Self {
        Self {
            place: broken.place.clone(),
            fate: Fate::Broken(broken),
        }
    }
}

impl Done {
    pub(super) fn rows(&self) -> u64 {
        self.counts.rows
    }

    pub(super) fn last_path(&self) -> Option<Bytes> {
        let decoded = BASE64.decode(self.last_path_base64.as_ref()?);
        decoded.ok().map(Bytes::from)
    }
}

impl Counts {
    fn add(&mut self, fate: &Fate) {
        self.rows += 1;
        match fate {
            Fate::Tried(Outcome::Stored, bytes) => {
                self.stored += 1;
                self.bytes += bytes;
            }
            Fate::Tried(Outcome::Expired, _) => self.expired += 1,
            Fate::Tried(Outcome::Failed(_), _) => self.failed += 1,
            Fate::Broken(_) => self.broken += 1,
        }
    }

    fn problems(&self) -> u64 {
        self.broken + self.failed
    }
}

impl Summary {
    /// Goes on with what was done before.
    pub(super) fn new(before: Done, strict: bool) -> Self {
        Self {
            counts: before.counts,
            before: before.counts,
            done: before,
            behind: false,
            strict,
            stopped: false,
            problems: Vec::new(),
            started: clock::now(),
            seconds: 0.0,
        }
    }

    /// Counts the next row.
    pub(super) fn add(&mut self, row: Judged, progress: &Progress) {
        let Judged { place, fate } = row;
        self.counts.add(&fate);
        let (problem, passes) = match &fate {
            Fate::Tried(Outcome::Stored | Outcome::Expired, _) => (None, true),
            Fate::Tried(outcome @ Outcome::Failed(error), _) => {
                (Some(error.to_string()), !outcome.is_for_all())
            }
            Fate::Broken(broken) => (Some(broken.why.clone()), !broken.is_last),
        };
        self.behind |= !passes || (self.strict && problem.is_some());
        if !self.behind {
            self.done.counts.add(&fate);
            self.done.last_path_base64 = match &place {
                Place::Line(_) => None,
                Place::File(path) => Some(BASE64.encode(path)),
            };
        }
        let Some(why) = problem else {
            return;
        };
        self.stopped |= self.strict || !passes && matches!(fate, Fate::Broken(_));
        if self.problems.len() < PROBLEMS_SHOWN {
            progress.say(&format!("{place}: {why}"));
            self.problems.push(place.problem_json(&why));
        }
    }

    /// Rows of this run.
    pub(super) fn rows_now(&self) -> u64 {
        self.counts.rows - self.before.rows
    }

    /// What a later run need not do again.
    pub(super) fn done(&self) -> &Done {
        &self.done
    }

    /// Whether a later run has nothing left to do.
    pub(super) fn is_whole(&self) -> bool {
        !self.stopped && !self.behind
    }

    pub(super) fn end(&mut self) {
        self.seconds = (clock::now() - self.started).as_secs_f64();
    }

    pub(super) fn report(&self, json: bool) -> Result<Exit, Failure> {
        if json {
            output::json(&self.to_json())?;
        } else {
            let told = self.before.problems() + self.problems.len() as u64;
            let untold = self.counts.problems().saturating_sub(told);
            if untold > 0 {
                output::note(&format!("and {untold} more problems"));
            }
            output::line(&self.to_text())?;
        }
        Ok(match self.counts.problems() > 0 || self.stopped {
            true => Exit::Failed,
            false => Exit::Done,
        })
    }

    fn to_json(&self) -> Value {
        let Counts {
            rows,
            stored,
            expired,
            broken,
            failed,
            bytes,
        } = self.counts;
        json!({
            "rows": rows,
            "rows_before": self.before.rows,
            "stored": stored,
            "expired": expired,
            "broken": broken,
            "failed": failed,
            "stopped": self.stopped,
            "bytes": bytes,
            "seconds": self.seconds,
            "rows_per_second": self.rate(),
            "problems": self.problems,
        })
    }

    fn to_text(&self) -> String {
        let Counts {
            rows,
            stored,
            expired,
            broken,
            failed,
            ..
        } = self.counts;
        let mut text = format!(
            "stored {stored} of {rows} rows in {:.1} s ({:.0} a second), {broken} broken, {failed} \
             failed",
            self.seconds,
            self.rate()
        );
        if expired > 0 {
            text += &format!(", {expired} expired already");
        }
        if self.before.rows > 0 {
            text += &format!("; {} of the rows before", self.before.rows);
        }
        if self.stopped {
            text += "; stopped early";
        }
        text
    }

    fn rate(&self) -> f64 {
        match self.seconds > 0.0 {
            true => (self.counts.stored - self.before.stored) as f64 / self.seconds,
            false => 0.0,
        }
    }
}

#[cfg(test)]
mod tests;
