//! Put and delete in a last-write-wins bucket: the same stamped record goes to all owners at once,
//! and the operation is done when its level's quorum has taken it.
//!
//! The record has one stamp and one op id for life, so any attempt may be repeated at any owner:
//! merging it twice is merging it once. After it is done the coordinator goes on until every owner
//! has answered or the deadline has passed, so that a refusal by one of them does not leave a
//! stale replica behind.

use super::attempts::{OwnerState, Owners};
use super::client::{Core, Now, Start};
use super::{Attempt, Coordinator, Effect, Effects, Response, Send, SendFailure};
use crate::error::{Error, ErrorKind, Outcome, Result};
use annulet_protocol::ids::NodeId;
use annulet_protocol::message::{Answer, Operation, Source, Write, Written};
use annulet_protocol::record::{Origin, Record, Version};
use annulet_protocol::view::View;
use annulet_ring::quorum::{Quorum, Side};
use bytes::Bytes;
use smallvec::SmallVec;
use std::sync::Arc;

/// What a write that is done says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteDone {
    /// The version written.
    pub version: Version,
    /// A newer version that an owner held already: this write is not what readers see.
    pub superseded: Option<Version>,
}

/// One put or delete.
#[derive(Debug)]
pub struct WriteOperation {
    start: Start,
    record: Record,
    owners: Owners,
    quorum: Quorum,
    /// Each owner that took it; with a duplicate only if a test's fault counts those.
    taken: SmallVec<[NodeId; 5]>,
    superseded: Option<Version>,
    /// Whether a message may have been applied although nothing says so.
    uncertain: bool,
    completed: bool,
}

impl WriteOperation {
    /// A put of `value`, or a delete if that is `None`. `expires_at_ms`: the time from which it is
    /// no longer readable.
    ///
    /// # Errors
    /// `InvalidInput` if the value is too long or the level asks for more owners than there are;
    /// nothing was sent.
    pub fn new(
        start: Start,
        origin: Origin,
        value: Option<Bytes>,
        expires_at_ms: Option<u64>,
    ) -> Result<Self> {
        let refuse = |error: Error| error.with_outcome(Outcome::NotApplied);
        let most = start.view.value_bytes_max as usize;
        if let Some(value) = value.as_ref().filter(|value| value.len() > most) {
            let why = format!(
                "the value has {} bytes, at most {most} are taken",
                value.len()
            );
            return Err(refuse(Error::new(ErrorKind::InvalidInput, why)));
        }
        let owners = start.owners();
        let quorum = start.quorum(Side::Write, &owners).map_err(refuse)?;
        let record = Record::seal(
            start.bucket().number,
            &start.key,
            origin,
            value,
            expires_at_ms,
        );
        Ok(Self {
            owners: Owners::new(owners.all()),
            quorum,
            start,
            record,
            taken: SmallVec::new(),
            superseded: None,
            uncertain: false,
            completed: false,
        })
    }

    fn send(&mut self, node: NodeId, now: Now, effects: &mut Effects<WriteDone>) {
        let attempt = self.owners.sent(node, now.mono_ms);
        effects.push(Effect::Send(Send {
            node,
            attempt,
            epoch: self.start.view.epoch,
            budget_ms: self.start.budget_ms(now.mono_ms),
            operation: Operation::Write(Write {
                bucket: self.start.bucket().number,
                key: self.start.key.clone(),
                source: Source::FirstHand,
                record: self.record.clone(),
            }),
        }));
    }

    fn take(&mut self, core: &mut Core, now: Now, node: NodeId, written: Written) {
        self.owners.set(node, OwnerState::Done);
        self.taken.push(node);
        if let Some(version) = written.superseded {
            core.clock
                .observe(self.start.hash, version.stamp, now.wall_ms);
            self.superseded = self.superseded.max(Some(version));
        }
    }

    /// Completes the operation once it is decided.
    fn conclude(&mut self, core: &Core, effects: &mut Effects<WriteDone>) {
        if self.completed {
            return;
        }
        let taken = &self.taken;
        let met = match core.counts_duplicates() {
            true => taken.len() >= self.quorum.missing(|_| false),
            false => self.quorum.is_met(|node| taken.contains(&node)),
        };
        if met {
            self.completed = true;
            let version = self.record.head.version;
            effects.push(Effect::Complete(Ok(WriteDone {
                version,
                superseded: self.superseded,
            })));
            return;
        }
        let lost = |node| self.owners.is(node, |state| state == OwnerState::Lost);
        // An owner that still may answer may yet turn `unknown` into `not_applied`.
        if !self.quorum.is_possible(lost) && !self.owners.any_in_flight() {
            let error = self.owners.failure(TOO_FEW);
            self.fail(error, effects);
        }
    }

    fn expire(&mut self, effects: &mut Effects<WriteDone>) {
        self.uncertain |= self.owners.any_in_flight();
        let error = self.owners.timeout(TOO_FEW);
        self.fail(error, effects);
    }

    /// Ends the operation, in the background too: what was said of the outcome must stay true, so
    /// nothing more is sent.
    fn fail(&mut self, error: Error, effects: &mut Effects<WriteDone>) {
        self.owners.restart([]);
        if self.completed {
            return;
        }
        self.completed = true;
        let applied = self.uncertain || !self.taken.is_empty();
        let outcome = if applied {
            Outcome::Unknown
        } else {
            Outcome::NotApplied
        };
        effects.push(Effect::Complete(Err(error.with_outcome(outcome))));
    }
}

const TOO_FEW: &str = "too few owners took the write";

/// Whether a message without an answer may have been acted upon.
fn may_have_arrived(failure: &SendFailure) -> bool {
    match failure {
        SendFailure::NotSent(_) => false,
        SendFailure::Unanswered(_) => true,
        // A fault of the server's own may have come after the work.
        SendFailure::Rejected(error, _) => error.kind() == ErrorKind::Internal,
    }
}

impl Coordinator for WriteOperation {
    type Done = WriteDone;

    fn next_wake_ms(&self) -> Option<u64> {
        if self.is_finished() {
            return None;
        }
        let retry = self.owners.next_wake_ms();
        Some(retry.unwrap_or(u64::MAX).min(self.start.deadline_ms))
    }

    fn is_finished(&self) -> bool {
        self.completed && !self.owners.any_in_flight() && !self.owners.any_waiting()
    }

    fn start(&mut self, _core: &mut Core, now: Now) -> Effects<WriteDone> {
        let mut effects = Effects::new();
        let all: SmallVec<[NodeId; 5]> = self.owners.iter().map(|owner| owner.node).collect();
        for node in all {
            self.send(node, now, &mut effects);
        }
        effects
    }

    fn handle_response(
        &mut self,
        core: &mut Core,
        now: Now,
        (node, attempt): (NodeId, Attempt),
        epoch: Option<u64>,
        response: Response,
    ) -> Effects<WriteDone> {
        let mut effects = Effects::new();
        if !self.owners.expects(node, attempt) && !core.counts_duplicates() {
            return effects;
        }
        match response {
            Ok(Answer::Written(written)) => self.take(core, now, node, written),
            Ok(Answer::Refused(refusal)) => {
                let refused = (&refusal, epoch.unwrap_or(0));
                let newer = self.owners.refused(core, (now, &self.start), node, refused);
                effects.extend(newer.map(Effect::NeedView));
            }
            Ok(other) => {
                self.uncertain = true;
                let why = format!("server {node} answered a write with {other:?}");
                self.owners.lose(node, Error::new(ErrorKind::Internal, why));
            }
            Err(failure) => {
                self.uncertain |= may_have_arrived(&failure) && !core.guesses_outcomes();
                let at = (now, &self.start);
                self.owners.unanswered(core, at, node, &failure);
            }
        }
        self.conclude(core, &mut effects);
        effects
    }

    fn handle_view(&mut self, core: &mut Core, now: Now, view: &Arc<View>) -> Effects<WriteDone> {
        let mut effects = Effects::new();
        if view.epoch <= self.start.view.epoch || self.is_finished() {
            return effects;
        }
        self.uncertain |= !self.taken.is_empty() || self.owners.any_in_flight();
        // The replies that make one quorum are of one epoch.
        if !core.mixes_epochs() {
            self.taken.clear();
        }
        if !self.start.move_to(view, core.home()) {
            let why = format!("bucket `{}` was deleted", self.start.bucket().name);
            self.fail(Error::new(ErrorKind::InvalidInput, why), &mut effects);
            return effects;
        }
        let owners = self.start.owners();
        self.owners.restart(owners.all());
        match self.start.quorum(Side::Write, &owners) {
            Ok(quorum) => self.quorum = quorum,
            Err(error) => {
                self.fail(error, &mut effects);
                return effects;
            }
        }
        effects.extend(self.start(core, now));
        effects
    }

    fn handle_timer(&mut self, core: &mut Core, now: Now) -> Effects<WriteDone> {
        let mut effects = Effects::new();
        if now.mono_ms >= self.start.deadline_ms {
            self.expire(&mut effects);
            return effects;
        }
        for node in self.owners.due(now.mono_ms) {
            self.send(node, now, &mut effects);
        }
        self.conclude(core, &mut effects);
        effects
    }

    fn cancel(&mut self) {
        self.completed = true;
        self.owners.restart([]);
    }
}

#[cfg(test)]
mod tests;
