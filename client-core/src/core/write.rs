//! Put and delete in a last-write-wins bucket: the same stamped record goes to all owners at once,
//! and the operation is done when its level's quorum has taken it.
//!
//! The record has one stamp and one op id for life, so any attempt may be repeated at any owner:
//! merging it twice is merging it once. After it is done the coordinator goes on until every owner
//! has answered or the deadline has passed, so that a refusal by one of them does not leave a
//! stale replica behind.
//!
//! An owner that cannot be reached gets the record from a fallback that keeps it, once the write is
//! done without it. At level `available` a fallback's word counts as an owner's would, so there the
//! fallbacks are asked before.
//!
//! A touch goes the same way: it sets the expiry of the version that a read has shown. An owner
//! that lacks that version is brought the record with it. And so do concurrent values, once an
//! owner has minted one.

mod change;
mod holders;

use super::attempts::{Owner, OwnerState, Owners, failure_error, refusal_error};
use super::client::{Core, Now, Start};
use super::{Attempt, Coordinator, Effect, Effects, Response, Send, SendFailure};
use crate::error::{Error, ErrorKind, Outcome, Result};
use annulet_protocol::bucket::Mode;
use annulet_protocol::ids::NodeId;
use annulet_protocol::level::Level;
use annulet_protocol::message::{Answer, Operation, Source, Written};
use annulet_protocol::record::{Expiry, Head, Origin, Record, Version};
use annulet_protocol::siblings::Dot;
use annulet_protocol::siblings::message::Spread;
use annulet_protocol::view::View;
use annulet_ring::quorum::{Quorum, Side};
use bytes::Bytes;
use change::Change;
use holders::{Holders, Missing};
use smallvec::SmallVec;
use std::sync::Arc;

/// How long an owner has before a record is kept for it elsewhere, once the write is done.
const KEEP_AFTER_MS: u64 = 500;
/// How long the owners have at level `available` before fallbacks are asked.
const FALL_BACK_AFTER_MS: u64 = 50;

/// What a write that is done says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteDone {
    /// The version written; of concurrent values none.
    pub version: Version,
    /// A newer version that an owner held already: this write is not what readers see.
    pub superseded: Option<Version>,
    /// How many owners have it so far. None at level `available` where none could be reached: it is
    /// kept for them.
    pub owners: usize,
}

/// One put, delete or touch.
#[derive(Debug)]
pub struct WriteOperation {
    start: Start,
    change: Change,
    owners: Owners,
    holders: Holders,
    quorum: Quorum,
    /// Each owner that took it; with a duplicate only if a test's fault counts those.
    taken: SmallVec<[NodeId; 5]>,
    superseded: Option<Version>,
    /// Whether a message may have been applied although nothing says so.
    uncertain: bool,
    completed: bool,
    /// A server that minted it keeps it for the owners.
    kept: bool,
    /// An owner that minted it, and under which dot.
    minted: Option<Dot>,
    /// The message that tells it that every owner has the record.
    telling: Option<(NodeId, Attempt)>,
    /// Nobody will be there to try again later.
    hurried: bool,
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
        let most = start.view.value_bytes_max as usize;
        if let Some(value) = value.as_ref().filter(|value| value.len() > most) {
            let why = format!(
                "the value has {} bytes, at most {most} are taken",
                value.len()
            );
            let error = Error::new(ErrorKind::InvalidInput, why);
            return Err(error.with_outcome(Outcome::NotApplied));
        }
        let bucket = start.bucket().number;
        let record = Record::seal(bucket, &start.key, origin, value, expires_at_ms);
        Self::of(start, Change::Record(record), 0)
    }

    /// A touch of the record of this head, which a read has shown: it is to expire as `expiry`
    /// says. Its messages are named from `round` on.
    ///
    /// # Errors
    /// As those of [`WriteOperation::new`].
    pub(super) fn touch(start: Start, head: Head, expiry: Expiry, round: u16) -> Result<Self> {
        let head = Head {
            expiry: Some(expiry),
            ..head
        };
        Self::of(start, Change::touch(head), round)
    }

    /// A merge of this sealed record into that of every owner, with messages named from `round` on.
    ///
    /// # Errors
    /// As those of [`WriteOperation::new`].
    pub(super) fn merge(start: Start, record: Bytes, round: u16) -> Result<Self> {
        Self::of(start, Change::Merge(record), round)
    }

    /// Starts a merge of a record that `minter` has stored already: an owner, or a server that
    /// keeps it for the owners, and then nobody waits for the rest. `minted`: its dot, which it is
    /// told of once every owner has the record.
    pub(super) fn send_on(
        &mut self,
        core: &mut Core,
        now: Now,
        (minter, minted): (NodeId, Option<Dot>),
    ) -> Effects<WriteDone> {
        let mut effects = Effects::new();
        self.uncertain = true;
        match self.owners.has(minter) {
            true => {
                self.owners.set(minter, OwnerState::Done);
                self.taken.push(minter);
                self.minted = minted;
            }
            false => (self.kept, self.completed) = (true, true),
        }
        self.send_all(now, &mut effects);
        self.conclude(core, &mut effects);
        effects
    }

    /// The expiry that owners are to have.
    pub(super) fn expiry(&self) -> Option<Expiry> {
        self.change.head().and_then(|head| head.expiry)
    }

    fn of(start: Start, change: Change, round: u16) -> Result<Self> {
        let refuse = |error: Error| error.with_outcome(Outcome::NotApplied);
        let mode = match change {
            Change::Record(_) | Change::Touch(_) => Mode::Lww,
            Change::Merge(_) => Mode::Siblings,
        };
        start.expect(mode, "such write").map_err(refuse)?;
        let owners = start.owners();
        let quorum = start.quorum(Side::Write, &owners).map_err(refuse)?;
        Ok(Self {
            owners: Owners::new(owners.all()).from_round(round),
            holders: Holders::default(),
            quorum,
            start,
            change,
            taken: SmallVec::new(),
            superseded: None,
            uncertain: false,
            completed: false,
            kept: false,
            minted: None,
            telling: None,
            hurried: false,
        })
    }

    fn send_all(&mut self, now: Now, effects: &mut Effects<WriteDone>) {
        let idle = |owner: &&Owner| owner.state == OwnerState::Idle;
        let all = self.owners.iter().filter(idle).map(|owner| owner.node);
        for node in all.collect::<SmallVec<[NodeId; 5]>>() {
            self.send(node, now, effects);
        }
    }

    fn send(&mut self, node: NodeId, now: Now, effects: &mut Effects<WriteDone>) {
        let attempt = self.owners.sent(node, now.mono_ms);
        let operation = self.change.operation(&self.start, node);
        self.push(node, attempt, operation, now, effects);
    }

    fn push(
        &self,
        node: NodeId,
        attempt: Attempt,
        operation: Operation,
        now: Now,
        effects: &mut Effects<WriteDone>,
    ) {
        effects.push(Effect::Send(Send {
            node,
            attempt,
            epoch: self.start.view.ordinal(),
            budget_ms: self.start.budget_ms(now.mono_ms),
            operation,
        }));
    }

    /// Sees to it that owners which could not be reached get the record from somebody else.
    fn leave_hints(&mut self, core: &mut Core, now: Now, effects: &mut Effects<WriteDone>) {
        let failed = self.completed && !self.is_taken();
        let early = self.is_available() || core.counts_hints();
        let kept = !matches!(self.change, Change::Touch(_));
        if !kept || failed || !self.completed && !early {
            return;
        }
        let missing: Missing = self
            .owners
            .missing(!self.completed || self.hurried)
            .collect();
        for owner in missing {
            if self.holders.covers(owner) {
                continue;
            }
            let (start, owners) = (&self.start, &self.owners);
            let holder = self.holders.choose(core, start, owners, owner);
            if let Some(holder) = holder {
                core.counts.hints += 1;
                self.send_hint((holder, owner), now, effects);
            }
        }
    }

    fn send_hint(
        &mut self,
        (holder, owner): (NodeId, NodeId),
        now: Now,
        effects: &mut Effects<WriteDone>,
    ) {
        // The first holder at `available` may come to hold the only copy, and this client may be
        // gone then: it hands the record to everyone who has not got it.
        let first = self.is_available() && !self.is_taken() && !self.holders.any_asked();
        let others = self.owners.iter().map(|other| other.node);
        let others = others.filter(|other| first && *other != owner && *other != holder);
        let owners = std::iter::once(owner).chain(others).collect();
        // What an owner has taken needs no further check of its stamp.
        let source = match self.taken.is_empty() {
            true => Source::FirstHand,
            false => Source::Repair,
        };
        let attempt = self.owners.name();
        self.holders.asked(holder, attempt, owner);
        if let Some(hint) = self.change.hint(&self.start, owners, source) {
            self.push(holder, attempt, hint, now, effects);
        }
    }

    /// Takes what became of a message to a holder.
    fn take_from_holder(&mut self, holder: NodeId, response: Response) {
        match response {
            Ok(Answer::Written(_)) => self.holders.holds(holder),
            Ok(Answer::Refused(refusal)) => {
                self.holders.failed(holder);
                self.owners.note_error(refusal_error(holder, &refusal));
            }
            Ok(_) => {
                self.uncertain = true;
                self.holders.failed(holder);
            }
            Err(failure) => {
                self.uncertain |= may_have_arrived(&failure);
                self.holders.failed(holder);
                self.owners.note_error(failure_error(holder, &failure));
            }
        }
    }

    fn is_available(&self) -> bool {
        self.start.level == Level::Available
    }

    /// Whether anybody has taken the record, so that it will be everywhere in the end.
    fn is_taken(&self) -> bool {
        !self.taken.is_empty() || self.holders.any_holds() || self.kept
    }

    /// After how long an owner that has not answered is held to be away.
    fn patience_ms(&self) -> u64 {
        let most = match self.is_available() {
            true => FALL_BACK_AFTER_MS,
            false => KEEP_AFTER_MS,
        };
        most.min(self.start.timeout_ms / 2)
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

    /// Tells the minter that every owner has its record, so that it need not ask them. Nothing
    /// depends on it.
    fn confirm(&mut self, core: &Core, now: Now, effects: &mut Effects<WriteDone>) {
        let done = |owner: &Owner| owner.state == OwnerState::Done;
        let early = core.confirms_early() && self.completed;
        if !early && !self.owners.iter().all(done) {
            return;
        }
        let Some(dot) = self.minted.take() else {
            return;
        };
        let attempt = self.owners.name();
        self.telling = Some((dot.actor.node, attempt));
        let spread = Spread {
            bucket: self.start.bucket().number,
            key: self.start.key.clone(),
            incarnation: dot.actor.incarnation,
            stamp: dot.stamp,
        };
        let operation = Operation::Spread(spread);
        self.push(dot.actor.node, attempt, operation, now, effects);
    }

    /// Completes the operation once it is decided.
    fn conclude(&mut self, core: &Core, effects: &mut Effects<WriteDone>) {
        if self.completed {
            return;
        }
        let taken = &self.taken;
        let met = match core.counts_duplicates() {
            true => taken.len() >= self.quorum.missing(|_| false),
            false => self.quorum.is_met(|node| {
                taken.contains(&node) || core.counts_hints() && self.holders.holds_for(node)
            }),
        };
        if met || self.is_available() && self.holders.any_holds() {
            self.completed = true;
            let version = self
                .change
                .head()
                .map(|head| head.version)
                .unwrap_or_default();
            effects.push(Effect::Complete(Ok(WriteDone {
                version,
                superseded: self.superseded,
                owners: self.taken.len(),
            })));
            return;
        }
        let lost = |node| self.owners.is(node, |state| state == OwnerState::Lost);
        // An owner that still may answer may yet turn `unknown` into `not_applied`.
        let waits = self.owners.any_in_flight() || self.holders.any_asked();
        if !self.quorum.is_possible(lost) && !waits {
            let error = self.owners.failure(TOO_FEW);
            self.fail(error, effects);
        }
    }

    fn expire(&mut self, effects: &mut Effects<WriteDone>) {
        self.uncertain |= self.owners.any_in_flight() || self.holders.any_asked();
        let error = self.owners.timeout(TOO_FEW);
        self.fail(error, effects);
    }

    /// Ends the operation, in the background too: what was said of the outcome must stay true, so
    /// nothing more is sent.
    fn fail(&mut self, error: Error, effects: &mut Effects<WriteDone>) {
        let applied = self.uncertain || self.is_taken();
        self.owners.restart([]);
        self.holders = Holders::default();
        (self.minted, self.telling) = (None, None);
        if self.completed {
            return;
        }
        self.completed = true;
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
pub(super) fn may_have_arrived(failure: &SendFailure) -> bool {
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
        let slow = self.owners.next_slow_ms(self.patience_ms());
        let soonest = [slow, self.owners.next_wake_ms()]
            .into_iter()
            .flatten()
            .min();
        Some(soonest.unwrap_or(u64::MAX).min(self.start.deadline_ms))
    }

    fn is_finished(&self) -> bool {
        self.completed
            && !self.owners.any_in_flight()
            && !self.owners.any_waiting()
            && !self.holders.any_asked()
            && self.telling.is_none()
    }

    fn start(&mut self, core: &mut Core, now: Now) -> Effects<WriteDone> {
        let mut effects = Effects::new();
        let class = self.change.class();
        let needs = (&self.quorum, self.owners.iter().map(|owner| owner.node));
        if let Err(error) = core.admit(now, &self.start, class, needs) {
            self.cancel();
            let error = error.with_outcome(Outcome::NotApplied);
            effects.push(Effect::Complete(Err(error)));
            return effects;
        }
        self.send_all(now, &mut effects);
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
        if self.holders.expects(node, attempt) {
            self.take_from_holder(node, response);
            self.leave_hints(core, now, &mut effects);
            self.conclude(core, &mut effects);
            return effects;
        }
        if self.telling == Some((node, attempt)) {
            self.telling = None;
            return effects;
        }
        if !self.owners.expects(node, attempt) && !core.counts_duplicates() {
            return effects;
        }
        match response {
            response if self.is_asked(node) => self.take_record(node, response),
            Ok(Answer::Written(written)) => self.take(core, now, node, written),
            Ok(Answer::Lacking(_)) => self.note_lacking(node),
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
        self.bring(now, &mut effects);
        self.leave_hints(core, now, &mut effects);
        self.conclude(core, &mut effects);
        self.leave_hints(core, now, &mut effects);
        self.confirm(core, now, &mut effects);
        effects
    }

    fn handle_view(&mut self, core: &mut Core, now: Now, view: &Arc<View>) -> Effects<WriteDone> {
        let mut effects = Effects::new();
        let epoch = self.start.view.ordinal();
        if view.ordinal() <= epoch || self.is_finished() {
            return effects;
        }
        if !self.owners.want_view(epoch) && self.start.goes_on_under(view, core.home()) {
            return effects;
        }
        self.uncertain |= self.is_taken() || self.owners.any_in_flight();
        self.uncertain |= self.holders.any_asked();
        self.holders = Holders::default();
        // Of other owners the minter asks by itself.
        (self.minted, self.telling) = (None, None);
        self.change.restart();
        // The replies that make one quorum are of one epoch.
        if !core.mixes_epochs() {
            self.taken.clear();
        }
        if !self.start.move_to(view, core.home()) {
            self.fail(self.start.bucket_deleted(), &mut effects);
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
        self.send_all(now, &mut effects);
        effects
    }

    fn handle_timer(&mut self, core: &mut Core, now: Now) -> Effects<WriteDone> {
        let mut effects = Effects::new();
        if now.mono_ms >= self.start.deadline_ms {
            self.expire(&mut effects);
            return effects;
        }
        for node in self.owners.mark_slow(now.mono_ms, self.patience_ms()) {
            core.note_failure(node);
        }
        for node in self.owners.due(now.mono_ms) {
            self.send(node, now, &mut effects);
        }
        self.leave_hints(core, now, &mut effects);
        self.conclude(core, &mut effects);
        effects
    }

    fn is_idle(&self) -> bool {
        !self.owners.any_in_flight() && !self.holders.any_asked() && self.telling.is_none()
    }

    fn awaits(&self, node: NodeId, attempt: Attempt) -> bool {
        self.owners.expects(node, attempt)
            || self.holders.expects(node, attempt)
            || self.telling == Some((node, attempt))
    }

    fn hurry(&mut self, core: &mut Core, now: Now) -> Effects<WriteDone> {
        let mut effects = Effects::new();
        self.hurried = true;
        self.leave_hints(core, now, &mut effects);
        effects
    }

    fn cancel(&mut self) {
        self.completed = true;
        self.owners.restart([]);
        self.holders = Holders::default();
        (self.minted, self.telling) = (None, None);
    }
}

#[cfg(test)]
mod tests;
