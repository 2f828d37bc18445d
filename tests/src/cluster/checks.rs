//! Client processes that record a load together, and the check of what they recorded.

use super::{PATIENCE, binary};
use annulet_history::{Operation, Outcome, lines};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// Processes of `annulet check` on the same keys. Dropping it ends them.
pub struct Checks {
    running: Vec<Child>,
    histories: Vec<PathBuf>,
}

/// What all of them did.
pub struct Recorded {
    /// All operations.
    pub operations: Vec<Operation>,
    /// What `annulet check` says of them.
    pub verdict: Output,
}

impl Checks {
    /// Starts one process by each command, which `annulet` is not part of, for so many seconds.
    pub fn start(commands: Vec<Command>, folder: &Path, seconds: u64) -> Self {
        let mut checks = Self {
            running: Vec::new(),
            histories: Vec::new(),
        };
        for (index, mut command) in commands.into_iter().enumerate() {
            let history = folder.join(format!("history-{index}.jsonl"));
            let child = command
                .args(["check", "--bucket", "strong", "--name", "checked"])
                .args(["--clients", "3", "--keys", "3", "--timeout", "1s"])
                .args(["--operations", "15000", "--seconds", &seconds.to_string()])
                .arg("--profile")
                .arg(folder.join("profile.toml"))
                .arg("--history")
                .arg(&history)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn();
            checks.running.push(child.expect("starts a client"));
            checks.histories.push(history);
        }
        checks
    }

    /// Waits for all to end, and checks their histories as one.
    pub async fn ended(mut self) -> Recorded {
        for mut child in self.running.drain(..) {
            let ends = tokio::task::spawn_blocking(move || child.wait());
            let ended = tokio::time::timeout(2 * PATIENCE, ends).await;
            let status = ended.expect("ends in time").expect("no panic");
            assert!(status.expect("ends").success());
        }
        let read = |path: &PathBuf| {
            let text = std::fs::read(path).expect("a history");
            lines::read(&text).expect("a history that can be read")
        };
        let verdict = Command::new(binary())
            .args(["check", "--of"])
            .args(&self.histories)
            .output();
        Recorded {
            operations: self.histories.iter().flat_map(read).collect(),
            verdict: verdict.expect("runs the program"),
        }
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Recorded {
    /// How many of the operations came out so.
    pub fn count(&self, is: impl Fn(&Outcome) -> bool) -> usize {
        let outcomes = self.operations.iter().map(|operation| &operation.outcome);
        outcomes.filter(|outcome| is(outcome)).count()
    }

    /// Fails unless one order explains all answers.
    pub fn expect_linearizable(&self) {
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, errors) = (said(&self.verdict.stdout), said(&self.verdict.stderr));
        assert!(self.verdict.status.success(), "{out}\n{errors}");
        assert!(out.contains("linearizable"), "{out}");
    }
}
