//! How a command ends: its exit code, and what is said when it did not succeed.

use crate::output;
use annulet::{ErrorKind, OpId, Outcome};
use serde_json::{Value, json};
use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// The exit codes that scripts rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    /// It was done.
    Done = 0,
    /// The key is not there, or a condition was not met.
    NotFound = 1,
    /// The command itself cannot be: a wrong argument, a key or value over a limit.
    Usage = 2,
    /// It was tried and failed.
    Failed = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    /// The name of a client's error kind, or `Failed` for what happened on this machine.
    kind: &'static str,
    message: String,
    advice: Option<String>,
    outcome: Option<Outcome>,
    /// Names the write, if it is one of a strong bucket that can be asked about.
    op_id: Option<OpId>,
    retryable: bool,
}

impl Failure {
    /// The command cannot be as it was given.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Usage,
            kind: ErrorKind::InvalidInput.as_str(),
            message: message.into(),
            advice: None,
            outcome: None,
            op_id: None,
            retryable: false,
        }
    }

    /// Something on this machine failed.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Failed,
            kind: "Failed",
            ..Self::usage(message)
        }
    }

    /// A file named by the user cannot be read.
    pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Self {
        Self::usage(format!("cannot read {}: {error}", path.display()))
            .advise("check the path and its permissions")
    }

    /// A file or folder cannot be written.
    pub(crate) fn unwritable(path: &Path, error: &io::Error) -> Self {
        Self::failed(format!("cannot write {}: {error}", path.display()))
            .advise("check the path, its permissions and the free space")
    }

    /// Writing to standard output failed. A reader that has seen enough, like `head`, is no
    /// failure, and gets no message.
    pub(crate) fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self {
                exit: Exit::Done,
                ..Self::failed("")
            };
        }
        Self::failed(format!("cannot write to standard output: {error}"))
    }

    /// The same failure, saying what to do about it.
    #[must_use]
    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Tells the user, on standard error.
    pub(crate) fn report(&self, json: bool) {
        if self.message.is_empty() {
            return;
        }
        if json {
            output::note(&json!({ "error": self.to_json() }).to_string());
            return;
        }
        output::note(&format!("error: {self}"));
        if let Some(advice) = &self.advice {
            output::note(&format!("  to do: {advice}"));
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "kind": self.kind,
            "message": self.message,
            "advice": self.advice,
            "outcome": self.outcome.map(Outcome::as_str),
            "op_id": self.op_id.as_ref().map(OpId::to_string),
            "retryable": self.retryable,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)?;
        match self.outcome {
            Some(outcome) => write!(f, " (outcome {})", outcome.as_str()),
            None => Ok(()),
        }
    }
}

impl From<annulet::Error> for Failure {
    fn from(error: annulet::Error) -> Self {
        Self {
            exit: exit_of(error.kind()),
            kind: error.kind().as_str(),
            message: error.message().to_owned(),
            advice: advice_for(&error).map(str::to_owned),
            outcome: error.outcome(),
            op_id: error.op_id().copied(),
            retryable: error.is_retryable(),
        }
    }
}

fn exit_of(kind: ErrorKind) -> Exit {
    match kind {
        ErrorKind::InvalidInput => Exit::Usage,
        ErrorKind::Conflict => Exit::NotFound,
        _ => Exit::Failed,
    }
}

/// What a person at a terminal can do. An invalid input's message says it already.
fn advice_for(error: &annulet::Error) -> Option<&'static str> {
    Some(match error.kind() {
        ErrorKind::Conflict => "read the key again, then decide anew",
        ErrorKind::Unavailable => {
            "`annulet cluster status` shows which servers are up; try again later, or at a lower \
             --level"
        }
        ErrorKind::Timeout if error.outcome() == Some(Outcome::Unknown) => {
            "the write may have been applied: repeat it, or read the key; --timeout gives it more \
             time"
        }
        ErrorKind::Timeout => "try again, or give it more time with --timeout",
        ErrorKind::Overloaded if error.message().contains(DISK_FULL) => {
            "`annulet cluster status` shows which servers are full: give them room on disk, or \
             delete keys, which they still take"
        }
        ErrorKind::Overloaded => "try again later, with fewer callers",
        ErrorKind::Unauthorized => {
            "use a profile whose certificate has the role for this; `annulet cert` makes them"
        }
        ErrorKind::Internal => "this is a fault of Annulet's own; please report it",
        _ => return None,
    })
}

/// How a server says that it takes no new values. It has no error kind of its own: to a program it
/// is one more server that cannot do it now.
const DISK_FULL: &str = "disk is full";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_error_keeps_its_kind_and_gets_its_exit_code() {
        let exit = |kind| Failure::from(annulet::Error::new(kind, "why")).exit();
        assert_eq!(exit(ErrorKind::InvalidInput), Exit::Usage);
        assert_eq!(exit(ErrorKind::Conflict), Exit::NotFound);
        assert_eq!(exit(ErrorKind::Unavailable), Exit::Failed);

        let error = annulet::Error::new(ErrorKind::Timeout, "too late");
        let failure = Failure::from(error.with_outcome(Outcome::Unknown));
        assert_eq!(
            failure.to_string(),
            "Timeout: too late (outcome unknown)",
            "the text names kind, reason and outcome"
        );
        assert_eq!(failure.to_json()["retryable"], true);
    }

    #[test]
    fn what_can_be_done_about_full_disks_is_not_what_helps_busy_servers() {
        let advice = |message: &str| {
            let error = annulet::Error::new(ErrorKind::Overloaded, message);
            Failure::from(error).advice.unwrap()
        };
        let refused = "server 1: this server's disk is full: it takes deletes only";
        assert!(advice(refused).contains("give them room on disk"));
        assert!(advice("server 1: its queues are full").contains("fewer callers"));
    }
}
