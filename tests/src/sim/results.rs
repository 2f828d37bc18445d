//! What the application is told, and whether that may be.

use super::client::Machine;
use super::levels::PerRegion;
use super::workload::Errand;
use super::world::World;
use annulet::core::read::ReadDone;
use annulet::core::write::WriteDone;
use annulet::{Error, ErrorKind, Outcome};

impl World {
    pub(crate) fn read_ends(&mut self, client: usize, op: u64, result: Result<ReadDone, Error>) {
        let Some((exists, errand)) = self.note_end(client, op) else {
            return;
        };
        match result {
            Ok(done) => {
                self.oracle.counted(op, self.answered(client, op));
                self.follow(&errand);
                let name = match &done.head {
                    None => "absent",
                    Some(_) if done.live => "found",
                    Some(head) if head.kind == annulet_protocol::record::Kind::Value => "expired",
                    Some(_) => "deleted",
                };
                self.coverage.hit("outcome", name);
                let at_ms = self.true_ms();
                self.oracle.read(op, &done, exists, at_ms);
            }
            Err(error) => {
                self.coverage.hit("outcome", "read_failed");
                self.note_error(op, &error, errand.must_succeed);
                self.oracle.forget(op);
            }
        }
    }

    pub(crate) fn write_ends(&mut self, client: usize, op: u64, result: Result<WriteDone, Error>) {
        let Some((_, errand)) = self.note_end(client, op) else {
            return;
        };
        match result {
            Ok(done) => {
                self.oracle.counted(op, self.answered(client, op));
                self.follow(&errand);
                let superseded = done.superseded.is_some();
                let name = if superseded { "superseded" } else { "written" };
                self.coverage.hit("outcome", name);
                self.oracle.written(op, done.version);
            }
            Err(error) => {
                self.note_error(op, &error, errand.must_succeed);
                match error.outcome() {
                    Some(Outcome::NotApplied) => {
                        self.coverage.hit("outcome", "not_applied");
                        self.oracle.not_applied(op);
                    }
                    Some(Outcome::Unknown) => {
                        self.coverage.hit("outcome", "unknown");
                        self.oracle.forget(op);
                    }
                    None => self
                        .oracle
                        .fail("not-applied", format!("write {op} says nothing")),
                }
            }
        }
    }

    /// Notes that an operation completed, and says whether it is an exists, and what was asked.
    fn note_end(&mut self, client: usize, op: u64) -> Option<(bool, Errand)> {
        let running = self.clients[client].operations.get_mut(&op)?;
        running.completed = true;
        if self.now_us > running.deadline_us {
            let late_us = self.now_us - running.deadline_us;
            self.oracle.fail(
                "deadline",
                format!("operation {op} ended {late_us} us late"),
            );
        }
        Some((
            matches!(running.machine, Machine::Exists(_)),
            running.errand.clone(),
        ))
    }

    /// How many owners of each region have answered an operation since it last started.
    fn answered(&self, client: usize, op: u64) -> PerRegion {
        let mut counts = PerRegion::default();
        let running = self.clients[client].operations.get(&op);
        for node in running.into_iter().flat_map(|running| &running.answered) {
            counts[self.server_of(*node) % self.scenario.regions] += 1;
        }
        counts
    }

    fn note_error(&mut self, op: u64, error: &Error, must_succeed: bool) {
        if must_succeed {
            self.oracle.fail(
                "liveness",
                format!("operation {op} failed in quiet: {error}"),
            );
        }
        if error.message().contains("was deleted") {
            self.coverage.hit("path", "bucket_was_deleted");
        }
        let name = match error.kind() {
            ErrorKind::InvalidInput => "invalid_input",
            ErrorKind::Timeout => "timeout",
            ErrorKind::Overloaded => "overloaded",
            ErrorKind::Unavailable => "unavailable",
            _ => "other_error",
        };
        self.coverage.hit("outcome", name);
    }

    /// The time of an operation is over: has it ended?
    pub(crate) fn deadline_over(&mut self, client: usize, life: u32, op: u64) {
        let at = &self.clients[client];
        let running = at.operations.get(&op).filter(|_| at.life == life);
        if running.is_some_and(|r| !r.completed && !r.cancelled) {
            self.oracle.fail(
                "deadline",
                format!("operation {op} has not ended by its deadline"),
            );
        }
    }
}
