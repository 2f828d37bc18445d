//! What became of the entries of an export.

use super::Done;
use crate::failure::{Exit, Failure};
use crate::progress::Progress;
use crate::transfer::PROBLEMS_SHOWN;
use crate::{clock, output};
use annulet::ScanEntry;
use serde_json::{Value, json};
use std::time::Instant;

pub(super) struct Summary {
    entries: u64,
    bytes: u64,
    left_out: u64,
    /// How many of the entries an earlier run wrote.
    entries_before: u64,
    left_out_before: u64,
    /// Whether there is more that was not written.
    stopped: bool,
    problems: Vec<Value>,
    started: Instant,
    seconds: f64,
}

impl Summary {
    /// Goes on with what was done before.
    pub(super) fn new(before: Option<Done>) -> Self {
        let (entries, bytes, left_out) = match before {
            Some(done) => (done.entries, done.bytes, done.left_out),
            None => (0, 0, 0),
        };
        Self {
            entries,
            bytes,
            left_out,
            entries_before: entries,
            left_out_before: left_out,
            stopped: false,
            problems: Vec::new(),
            started: clock::now(),
            seconds: 0.0,
        }
    }

    pub(super) fn written(&mut self, entry: &ScanEntry) {
        self.entries += 1;
        self.bytes += entry.value.as_ref().map_or(0, |value| value.len() as u64);
    }

    pub(super) fn left_out(&mut self, key: &[u8], why: &str, progress: &Progress) {
        self.left_out += 1;
        if self.problems.len() < PROBLEMS_SHOWN {
            progress.say(&format!("left out: {}: {why}", output::brief(key)));
            let (key, key_base64) = output::key_json(key);
            self.problems
                .push(json!({ "key": key, "key_base64": key_base64, "message": why }));
        }
    }

    /// Entries that this run wrote.
    pub(super) fn entries_now(&self) -> u64 {
        self.entries - self.entries_before
    }

    pub(super) fn done(&self, cursor: Option<&str>, file_bytes: u64) -> Done {
        Done {
            cursor: cursor.map(str::to_owned),
            file_bytes,
            entries: self.entries,
            bytes: self.bytes,
            left_out: self.left_out,
        }
    }

    pub(super) fn end(&mut self, stopped: bool) {
        self.stopped = stopped;
        self.seconds = (clock::now() - self.started).as_secs_f64();
    }

    /// Tells what became of it: on standard error if standard output has the entries.
    pub(super) fn report(&self, json: bool, aside: bool) -> Result<Exit, Failure> {
        let say = |text: &str| match aside {
            true => {
                output::note(text);
                Ok(())
            }
            false => output::line(text),
        };
        if json {
            say(&self.to_json().to_string())?;
        } else {
            let told = self.left_out_before + self.problems.len() as u64;
            let untold = self.left_out.saturating_sub(told);
            if untold > 0 {
                output::note(&format!("and {untold} more left out"));
            }
            say(&self.to_text())?;
            if self.left_out > 0 {
                output::note(LEFT_OUT_TO_DO);
            }
        }
        Ok(match self.left_out > 0 || self.stopped {
            true => Exit::Failed,
            false => Exit::Done,
        })
    }

    fn to_json(&self) -> Value {
        json!({
            "entries": self.entries,
            "entries_before": self.entries_before,
            "left_out": self.left_out,
            "stopped": self.stopped,
            "bytes": self.bytes,
            "seconds": self.seconds,
            "entries_per_second": self.rate(),
            "problems": self.problems,
        })
    }

    fn to_text(&self) -> String {
        let Self {
            entries,
            bytes,
            left_out,
            seconds,
            ..
        } = self;
        let before = match self.entries_before {
            0 => String::new(),
            before => format!("; {before} of them before"),
        };
        let stopped = match self.stopped {
            true => "; stopped early, so it is not whole",
            false => "",
        };
        format!(
            "exported {entries} entries, {bytes} bytes of values, in {seconds:.1} s ({:.0} a \
             second), {left_out} left out{before}{stopped}",
            self.rate()
        )
    }

    fn rate(&self) -> f64 {
        match self.seconds > 0.0 {
            true => self.entries_now() as f64 / self.seconds,
            false => 0.0,
        }
    }
}

const LEFT_OUT_TO_DO: &str =
    "  to do: JSON Lines takes every key: export to a path that ends in .jsonl";
