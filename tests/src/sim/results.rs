//! What the application is told, and whether that may be.

use super::client::Machine;
use super::levels::PerRegion;
use super::workload::Errand;
use super::world::{World, key_bytes};
use annulet::core::read::ReadDone;
use annulet::core::scan::ScanDone;
use annulet::core::touch::TouchDone;
use annulet::core::write::WriteDone;
use annulet::{Error, ErrorKind, Outcome};
use annulet_protocol::hash::storage_key;
use annulet_protocol::level::Level;

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
                let (floor, level) = self.floor_of(client, op);
                let shown = done.head.map(|head| head.version);
                let checked = floor.check(op, shown);
                self.check(checked);
                if let Some(version) = shown {
                    let key = (errand.bucket.number, errand.key);
                    self.session_saw(client, key, (version, level));
                }
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
                if errand.level == Some(Level::Available) && done.owners == 0 {
                    self.coverage.hit("outcome", "written_by_hints_alone");
                    self.oracle.promised(op, done.version);
                }
                let (_, level) = self.floor_of(client, op);
                let newest = done.superseded.unwrap_or(done.version).max(done.version);
                let key = (errand.bucket.number, errand.key);
                self.session_saw(client, key, (newest, level));
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

    pub(crate) fn touch_ends(&mut self, client: usize, op: u64, result: Result<TouchDone, Error>) {
        let Some((_, errand)) = self.note_end(client, op) else {
            return;
        };
        let expiry = match &self.clients[client].operations[&op].machine {
            Machine::Touch(touch) => touch.expiry(),
            _ => None,
        };
        match result {
            Ok(TouchDone {
                touched: Some(version),
                superseded,
                ..
            }) => {
                self.oracle.counted(op, self.answered(client, op));
                self.follow(&errand);
                let name = match superseded {
                    Some(_) => "touch_superseded",
                    None => "touched",
                };
                self.coverage.hit("outcome", name);
                self.oracle.touched(op, version, expiry);
            }
            Ok(TouchDone { touched: None, .. }) => {
                self.coverage.hit("outcome", "not_touched");
                self.oracle.forget(op);
            }
            Err(error) => {
                self.coverage.hit("outcome", "touch_failed");
                self.note_error(op, &error, errand.must_succeed);
                match error.outcome() {
                    Some(Outcome::NotApplied) => {
                        let checked = self.oracle.touches.not_applied(op);
                        self.check(checked);
                    }
                    Some(Outcome::Unknown) => self.coverage.hit("outcome", "touch_unknown"),
                    None => {
                        let why = format!("touch {op} says nothing");
                        self.oracle.fail("not-applied", why);
                    }
                }
                self.oracle.forget(op);
            }
        }
    }

    pub(crate) fn scan_ends(&mut self, client: usize, op: u64, result: Result<ScanDone, Error>) {
        let Some((_, errand)) = self.note_end(client, op) else {
            return;
        };
        let scanned = self.clients[client].operations[&op].scanned.clone();
        let done = match result {
            Ok(done) => done,
            Err(error) => {
                self.coverage.hit("outcome", "scan_failed");
                self.note_error(op, &error, errand.must_succeed);
                let numbers = scanned.iter().map(|(number, _)| *number).chain([op]);
                return numbers.for_each(|number| self.oracle.forget(number));
            }
        };
        self.oracle.counted(op, self.answered(client, op));
        self.oracle.forget(op);
        self.coverage.hit("outcome", "scanned");
        let (bucket, at_ms) = (errand.bucket.number, self.true_ms());
        let view = std::sync::Arc::clone(self.clients[client].core.view());
        for (number, key) in scanned {
            let bytes = key_bytes(key);
            let at = storage_key(view.hash(bucket, &bytes), bucket, &bytes);
            // An arc that is read to its end may be less than was asked for: cut in halves since.
            let covered = done.cursor.as_ref().is_none_or(|cursor| at <= *cursor);
            if !covered || done.unsettled.contains(&bytes) {
                let name = if covered {
                    "scan_unsettled"
                } else {
                    "scan_cut"
                };
                self.coverage.hit("path", name);
                self.oracle.forget(number);
                continue;
            }
            let shown = done.entries.iter().find(|entry| entry.key == bytes);
            let head = shown.map(|entry| entry.head);
            let client_ms = self.client_now(client).wall_ms;
            let reached_ms = self.clients[client].core.clock.reached_ms(client_ms);
            let live = head.is_some_and(|head| head.is_live(reached_ms));
            let value = shown.and_then(|entry| entry.value.clone());
            let without = value.is_none();
            let value = value.filter(|_| live);
            let read = ReadDone { head, value, live };
            self.oracle.read(number, &read, without, at_ms);
        }
    }

    /// Notes that an operation completed, and says whether it is an exists, and what was asked.
    pub(crate) fn note_end(&mut self, client: usize, op: u64) -> Option<(bool, Errand)> {
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
            matches!(
                running.machine,
                Machine::Exists(_) | Machine::ExistsSiblings(_)
            ),
            running.errand.clone(),
        ))
    }

    /// How many owners of each region have answered an operation since it last started.
    pub(crate) fn answered(&self, client: usize, op: u64) -> PerRegion {
        let mut counts = PerRegion::default();
        let running = self.clients[client].operations.get(&op);
        for node in running.into_iter().flat_map(|running| &running.answered) {
            counts[self.server_of(*node) % self.scenario.regions] += 1;
        }
        counts
    }

    pub(crate) fn note_error(&mut self, op: u64, error: &Error, must_succeed: bool) {
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
