//! Operations on a key of a strong bucket: rounds of CASPaxos, driven by the client.
//!
//! A write runs a **round**: a quorum of the owners promises the client's ballot and shows what it
//! accepted; the change is made of the highest of that; a quorum accepts the result. A round whose
//! ballot a quorum has reserved with the last one needs its second half only. A failed condition
//! runs its round to the end as well, or an earlier attempt of anybody could still take effect.
//!
//! A read asks a quorum what it accepted. If that is **clean** (see [`Votes::are_clean`]), it is
//! the answer; else it looks again after a moment, since a round of its own would take the place of
//! one that is under way; after some looks a round settles what is there.
//!
//! | phase | what is outstanding |
//! |---|---|
//! | look | reads at a quorum, for a read |
//! | prepare | promises of all owners |
//! | fetch | a value over 4 KiB, from an owner that accepted it |
//! | accept | acceptances of all owners; goes on after the result |
//! | pause | nothing: somebody else's round came first, and gets time to end |

mod fetch;
mod look;
mod outcome;
pub mod proposer;
pub mod round;
#[cfg(test)]
mod tests;
pub mod update;
pub mod votes;

pub use outcome::{Resolved, StrongDone};

use super::attempts::{OwnerState, Owners};
use super::client::{Core, Now, Start};
use super::policy::retry::backoff_ms;
use super::policy::waiting::Class;
use super::read::SLOW_MS;
use super::{Attempt, Coordinator, Effect, Effects, Response, Send, SendFailure};
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::op_id;
use annulet_protocol::ballot::Ballot;
use annulet_protocol::bucket::Mode;
use annulet_protocol::ids::{NodeId, OpId};
use annulet_protocol::level::Level;
use annulet_protocol::message::{Answer, Operation};
use annulet_protocol::register::message::{Prepare, Promise, ReadRegister};
use annulet_protocol::register::{Change, Turn};
use annulet_protocol::view::View;
use annulet_ring::owners::Nodes;
use annulet_ring::quorum::{Quorum, Side};
use proposer::Slot;
use round::{Basis, Proposal, SHIPPED_BYTES_MAX, Tried};
use std::sync::Arc;
use votes::Votes;

/// How long an owner is waited for once another round came first.
const OUTBID_MS: u64 = 20;
/// An owner that has not answered a step of a round for so long may have stopped.
const STOPPED_MS: u64 = 500;

/// What is to be done with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Read it.
    Read {
        /// Whether there is a value, and not which.
        head_only: bool,
        /// What any one owner has, be it agreed on or not.
        stale: bool,
    },
    /// Change it.
    Write(Change),
    /// Find out what became of a write, and see to it that it is not applied any more.
    Resolve(op_id::OpId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Look,
    Prepare,
    Fetch,
    Accept,
    Pause { until_ms: u64 },
    Over,
}

/// One operation.
#[derive(Debug)]
pub struct StrongOperation {
    start: Start,
    task: Task,
    change: Change,
    phase: Phase,
    quorum: Quorum,
    /// In the order to ask them.
    order: Nodes,
    owners: Owners,
    votes: Votes,
    /// The round.
    ballot: Ballot,
    proposal: Option<Proposal>,
    /// Owners that accepted the proposal.
    accepted: Nodes,
    /// The highest ballot that anybody has promised.
    highest: Ballot,
    /// The rounds in which the change may have been accepted.
    tried: Option<Tried>,
    /// Whether a message that carried the change may have been accepted in an earlier round, or in
    /// this one.
    exposed: bool,
    /// Whether another round came before this one, which has so no quorum any more.
    outbid: bool,
    /// Rounds that were outbid.
    lost_rounds: u32,
    /// Looks of a read that showed others at work.
    open_looks: u32,
    completed: bool,
}

impl StrongOperation {
    /// An operation on the key.
    ///
    /// # Errors
    /// `InvalidInput` if the value is too long or the bucket is not strong; nothing was sent.
    pub fn new(start: Start, task: Task) -> Result<Self> {
        let refuse = |error: Error| match task {
            Task::Write(_) => error.with_outcome(Outcome::NotApplied),
            Task::Read { .. } | Task::Resolve(_) => error,
        };
        start
            .expect(Mode::Strong, "conditional write")
            .map_err(refuse)?;
        let most = start.view.value_bytes_max as usize;
        if let Task::Write(Change::Set { value, .. }) = &task
            && value.len() > most
        {
            let why = format!(
                "the value has {} bytes, at most {most} are taken",
                value.len()
            );
            return Err(refuse(Error::new(ErrorKind::InvalidInput, why)));
        }
        let owners = start.owners();
        let quorum = quorum(&start).map_err(refuse)?;
        let change = match &task {
            Task::Read { .. } => Change::Identity,
            Task::Write(change) => change.clone(),
            Task::Resolve(_) => Change::Resolve,
        };
        Ok(Self {
            order: owners.all().collect(),
            owners: Owners::new(owners.all()),
            tried: match &task {
                Task::Resolve(op) => {
                    let first = op.since();
                    Some(Tried { first, last: first })
                }
                Task::Read { .. } | Task::Write(_) => None,
            },
            start,
            task,
            change,
            phase: Phase::Pause { until_ms: 0 },
            quorum,
            votes: Votes::default(),
            ballot: Ballot::default(),
            proposal: None,
            accepted: Nodes::new(),
            highest: Ballot::default(),
            exposed: false,
            outbid: false,
            lost_rounds: 0,
            open_looks: 0,
            completed: false,
        })
    }

    fn slot(&self) -> Slot {
        (self.start.bucket().number, self.start.key.clone())
    }

    fn is_read(&self) -> bool {
        matches!(self.task, Task::Read { .. })
    }

    fn is_stale_read(&self) -> bool {
        matches!(self.task, Task::Read { stale: true, .. })
    }

    /// Whether what is looked for is in the log.
    fn wants_log(&self) -> bool {
        self.phase == Phase::Prepare || self.phase == Phase::Look && !self.is_read()
    }

    /// Whether the caller wants the value.
    fn wants_value(&self) -> bool {
        let head_only = |task: &Task| {
            matches!(
                task,
                Task::Read {
                    head_only: true,
                    ..
                }
            )
        };
        self.is_read() && !head_only(&self.task)
    }

    /// Begins anew: a read by a look, a write by a round. A write that may have been accepted looks
    /// first whether it was: that needs no turn, and too many others may come before its turn does.
    fn begin(&mut self, core: &mut Core, now: Now, effects: &mut Effects<StrongDone>) {
        match self.is_read() || self.exposed {
            true => self.begin_look(now, effects),
            false => self.begin_round(core, now, effects),
        }
    }

    /// A round of this operation, by a reserved ballot if there is one.
    fn begin_round(&mut self, core: &mut Core, now: Now, effects: &mut Effects<StrongDone>) {
        self.leave();
        self.cancel_looks(effects);
        self.proposal = None;
        self.accepted.clear();
        self.outbid = false;
        let epoch = self.start.lists_epoch();
        let first = self.tried.is_none() && self.lost_rounds == 0 && !self.is_read();
        let reserved = match first {
            true => core.proposer.take(&self.slot(), epoch),
            false => None,
        };
        if let Some(reserved) = reserved {
            self.ballot = reserved.next;
            return self.propose(core, now, &Basis::reserved(&reserved), effects);
        }
        let now_ms = core.clock.corrected_ms(now.wall_ms);
        self.highest = self.highest.max(self.votes.promised());
        self.ballot = core.proposer.mint(&self.slot(), self.highest, now_ms);
        self.phase = Phase::Prepare;
        self.votes.clear();
        self.owners.restart(self.order.iter().copied());
        for node in self.order.clone() {
            self.send(node, now, effects);
        }
    }

    /// A quorum has promised: what follows from what it accepted?
    fn judge_promises(&mut self, core: &mut Core, now: Now, effects: &mut Effects<StrongDone>) {
        if self.quorum.is_met(|node| self.votes.has(node)) {
            let at = (self.start.bucket().number, &self.start.key[..]);
            let basis = Basis::of(&self.votes, at);
            return self.propose(core, now, &basis, effects);
        }
        self.give_up_if_stuck(core, now, effects);
    }

    /// A turn of this operation, in the round of this ballot.
    fn turn(&self, core: &Core, now: Now, ballot: Ballot) -> Turn {
        let op = match &self.task {
            Task::Resolve(op) => op.op(),
            Task::Read { .. } | Task::Write(_) => self.start.op,
        };
        Turn {
            ballot,
            op,
            since: self.tried.map(|tried| tried.first),
            now_ms: core.clock.reached_ms(now.wall_ms),
        }
    }

    fn propose(
        &mut self,
        core: &mut Core,
        now: Now,
        basis: &Basis,
        effects: &mut Effects<StrongDone>,
    ) {
        let turn = self.turn(core, now, self.ballot);
        let at = (self.start.bucket().number, &self.start.key[..]);
        let proposal = Proposal::new(core, at, basis, (&turn, &self.change));
        let short = !proposal.can_be_accepted(&self.quorum);
        let live = proposal.register.head.is_live(turn.now_ms);
        let shown = self.wants_value() && live && proposal.value.is_none();
        self.proposal = Some(proposal);
        match short || shown {
            true => self.begin_fetch(now, effects),
            false => self.begin_accept(core, now, effects),
        }
    }

    fn begin_accept(&mut self, core: &mut Core, now: Now, effects: &mut Effects<StrongDone>) {
        self.phase = Phase::Accept;
        self.outbid = false;
        self.owners.restart(self.order.iter().copied());
        let Some(proposal) = &self.proposal else {
            return;
        };
        if proposal.carries && matches!(self.task, Task::Write(_)) {
            let first = self.tried.map_or(self.ballot, |tried| tried.first);
            let last = self.ballot;
            self.tried = Some(Tried { first, last });
        }
        if core.reserves_early() {
            let reservation = proposal.reservation(self.start.lists_epoch());
            core.proposer.reserve(&self.slot(), reservation);
        }
        for node in self.order.clone() {
            self.send(node, now, effects);
        }
        let skipped = self.is_read() && !core.settles_reads();
        if skipped || core.counts_one_acceptance() && !self.accepted.is_empty() {
            self.settle(core, now, effects);
        }
    }

    /// Takes an acceptance; with a quorum of them the round is over, and what it found is true.
    fn take_acceptance(
        &mut self,
        core: &mut Core,
        now: Now,
        node: NodeId,
        effects: &mut Effects<StrongDone>,
    ) {
        self.owners.set(node, OwnerState::Done);
        self.accepted.push(node);
        self.exposed |= self.carries();
        let met = self.quorum.is_met(|node| self.accepted.contains(&node));
        if met || core.counts_one_acceptance() {
            self.settle(core, now, effects);
        }
    }

    fn settle(&mut self, core: &mut Core, now: Now, effects: &mut Effects<StrongDone>) {
        let (Some(proposal), false) = (&self.proposal, self.completed) else {
            return;
        };
        if self.is_read() && self.must_settle(core, now, Some(&proposal.register.head)) {
            return self.begin_round(core, now, effects);
        }
        let reservation = proposal.reservation(self.start.lists_epoch());
        core.proposer.reserve(&self.slot(), reservation);
        let now_ms = core.clock.reached_ms(now.wall_ms);
        let result = self.outcome(proposal, now_ms);
        self.exposed = false;
        core.proposer.note_round(&self.slot(), false);
        self.complete(result, effects);
    }

    /// Whether the round that is under way may make the change.
    fn carries(&self) -> bool {
        let carries = self.proposal.as_ref().is_some_and(|p| p.carries);
        self.phase == Phase::Accept && carries
    }

    fn send(&mut self, node: NodeId, now: Now, effects: &mut Effects<StrongDone>) {
        let Some(operation) = self.operation(node) else {
            let why = format!("server {node} lacks the value, and nobody sends it");
            return self
                .owners
                .lose(node, Error::new(ErrorKind::Unavailable, why));
        };
        let attempt = self.owners.sent(node, now.mono_ms);
        effects.push(Effect::Send(Send {
            node,
            attempt,
            epoch: self.start.view.ordinal(),
            budget_ms: self.start.budget_ms(now.mono_ms),
            operation,
        }));
    }

    /// What the phase asks of an owner.
    fn operation(&self, node: NodeId) -> Option<Operation> {
        let (bucket, key) = self.slot();
        match self.phase {
            Phase::Look | Phase::Fetch => Some(Operation::ReadRegister(ReadRegister {
                bucket,
                key,
                value_bytes_max: self.value_bytes_max(),
                with_log: self.wants_log(),
            })),
            Phase::Prepare => Some(Operation::Prepare(Prepare {
                bucket,
                key,
                ballot: self.ballot,
                value_bytes_max: match self.wants_value() {
                    true => SHIPPED_BYTES_MAX as u32,
                    false => 0,
                },
            })),
            Phase::Accept => {
                let proposal = self.proposal.as_ref()?;
                let accept = proposal.message((bucket, &key), node)?;
                Some(Operation::Accept(Box::new(accept)))
            }
            Phase::Pause { .. } | Phase::Over => None,
        }
    }

    /// Takes what an owner shows: the answer to a look, or a promise.
    fn take_promise(&mut self, node: NodeId, promise: Promise) {
        let (bucket, key) = (self.start.bucket().number, &self.start.key[..]);
        let is_promise = self.phase == Phase::Prepare;
        let sound = promise.accepted.as_ref().is_none_or(|shown| {
            let value = shown.value.as_ref();
            let register = match shown.register() {
                Some(register) => register.verify(bucket, key).is_ok(),
                None => !self.wants_log() && shown.head.verify(bucket, key).is_ok(),
            };
            let value = value.is_none_or(|v| shown.head.verify_value(bucket, key, v).is_ok());
            register && value && shown.ballot <= promise.promised
        });
        if !sound || is_promise && promise.promised != self.ballot {
            let why = format!("server {node} sent a damaged register");
            let error = Error::new(ErrorKind::Unavailable, why);
            return self.owners.lose(node, error);
        }
        self.owners.set(node, OwnerState::Done);
        self.votes.note(node, promise);
    }

    /// Nothing is outstanding and nobody is left: somebody else's round gets time to end, or the
    /// operation fails.
    fn give_up_if_stuck(&mut self, core: &mut Core, now: Now, effects: &mut Effects<StrongDone>) {
        if self.completed || self.phase == Phase::Over {
            return;
        }
        // Once somebody else's round came first, this one does not wait for who may be away.
        let prompt = |node| {
            let answers = |state| matches!(state, OwnerState::InFlight { slow: false, .. });
            self.owners.is(node, answers) && !core.peers.is_away(node)
        };
        let lost = |node| {
            self.owners.is(node, |state| match state {
                OwnerState::Lost => true,
                OwnerState::Done | OwnerState::Idle => false,
                OwnerState::InFlight { .. } | OwnerState::Waiting { .. } => {
                    self.outbid && !prompt(node)
                }
            })
        };
        let possible = match self.phase {
            Phase::Look if self.is_stale_read() => !self.order.iter().all(|node| lost(*node)),
            Phase::Look | Phase::Prepare | Phase::Accept => self.quorum.is_possible(lost),
            Phase::Fetch => self.owners.iter().any(|o| o.state != OwnerState::Lost),
            Phase::Pause { .. } | Phase::Over => true,
        };
        if possible {
            return;
        }
        // If all refuse what was proposed, nothing of it can have been accepted.
        let refusing = self.carries() && self.accepted.is_empty();
        if refusing && self.order.iter().any(|node| prompt(*node)) {
            return;
        }
        // Who does not send the value may not be needed by the next round.
        if self.outbid || self.phase == Phase::Fetch {
            self.leave();
            self.lost_rounds = self.lost_rounds.saturating_add(1);
            let slot = self.slot();
            core.proposer.note_round(&slot, true);
            let crowd = core.proposer.crowd(&slot);
            // A write that may have been accepted must know before too many others come after it,
            // so it goes before those that may simply wait.
            let tries = match self.exposed {
                true => 1,
                false => self.lost_rounds.max(crowd) + 1,
            };
            return self.pause(now, tries);
        }
        // An owner that still may answer may yet turn `unknown` into `not_applied`.
        if !self.owners.any_in_flight() {
            let error = self.owners.failure(TOO_FEW);
            self.fail(error, effects);
        }
    }

    /// Lets somebody else's round end: for longer, the more `tries` there were.
    fn pause(&mut self, now: Now, tries: u32) {
        // Another number than that of the owners' waits, and another in each round.
        let op = OpId {
            sequence: self.start.op.sequence ^ u64::from(self.lost_rounds) << 32,
            ..self.start.op
        };
        let until_ms = now.mono_ms + backoff_ms(&op, tries, None);
        self.phase = Phase::Pause { until_ms };
        self.owners.restart([]);
    }

    /// What is outstanding of this phase may still have effects that nobody will hear of.
    fn leave(&mut self) {
        let open = self.carries() && self.owners.any_in_flight();
        self.exposed |= open && !self.completed;
        if !self.exposed && matches!(self.task, Task::Write(_)) {
            // Every message that carried the change was refused.
            self.tried = None;
        }
    }

    fn cancel_looks(&self, effects: &mut Effects<StrongDone>) {
        if matches!(self.phase, Phase::Look | Phase::Fetch) {
            let outstanding = self.owners.outstanding();
            effects.extend(outstanding.map(|(node, attempt)| Effect::Cancel(node, attempt)));
        }
    }

    fn fail(&mut self, error: Error, effects: &mut Effects<StrongDone>) {
        self.leave();
        self.cancel_looks(effects);
        let error = self.failed(error);
        self.complete(Err(error), effects);
        self.phase = Phase::Over;
    }

    fn complete(&mut self, result: Result<StrongDone>, effects: &mut Effects<StrongDone>) {
        if !std::mem::replace(&mut self.completed, true) {
            effects.push(Effect::Complete(result));
        }
    }

    /// Goes on as far as what is known allows.
    fn advance(&mut self, core: &mut Core, now: Now, effects: &mut Effects<StrongDone>) {
        match self.phase {
            Phase::Look => self.judge_look(core, now, effects),
            Phase::Prepare => self.judge_promises(core, now, effects),
            Phase::Fetch => self.fetch_further(core, now, effects),
            Phase::Accept => self.give_up_if_stuck(core, now, effects),
            Phase::Pause { .. } | Phase::Over => {}
        }
    }

    fn take(
        &mut self,
        core: &mut Core,
        now: Now,
        node: NodeId,
        answer: Answer,
        effects: &mut Effects<StrongDone>,
    ) {
        match (answer, self.phase) {
            (Answer::Promise(promise), Phase::Look | Phase::Prepare) => {
                self.take_promise(node, *promise);
            }
            (Answer::Promise(promise), Phase::Fetch) => self.take_value(node, *promise),
            (Answer::Accepted(_), Phase::Accept) => {
                self.take_acceptance(core, now, node, effects);
            }
            (Answer::Outbid(outbid), Phase::Prepare | Phase::Accept) => {
                self.outbid = true;
                self.highest = self.highest.max(outbid.promised);
                self.owners.set(node, OwnerState::Lost);
            }
            (Answer::Lacking(_), Phase::Accept) => {
                let owners = self.order.iter().copied();
                if let Some(proposal) = &mut self.proposal {
                    proposal.note_lacking(node, owners);
                }
                // It has accepted something else meanwhile, so there is another round to be heard.
                self.outbid = true;
                self.send(node, now, effects);
            }
            (other, _) => {
                self.exposed |= self.carries();
                let why = format!("server {node} answered a round with {other:?}");
                self.owners.lose(node, Error::new(ErrorKind::Internal, why));
            }
        }
    }
}

/// A majority of all owners.
fn quorum(start: &Start) -> Result<Quorum> {
    start.quorum_at(Level::Quorum, Side::Write, &start.owners())
}

const TOO_FEW: &str = "too few owners took part in the round";

impl Coordinator for StrongOperation {
    type Done = StrongDone;

    fn start(&mut self, core: &mut Core, now: Now) -> Effects<StrongDone> {
        let mut effects = Effects::new();
        let class = match &self.change {
            Change::Set { value, .. } => Class::of_value(value.len()),
            Change::Delete { .. } | Change::Touch { .. } | Change::Resolve => Class::Write,
            Change::Identity => Class::Read,
        };
        let needs = (&self.quorum, self.order.iter().copied());
        if let Err(error) = core.admit(now, &self.start, class, needs) {
            self.fail(error, &mut effects);
            return effects;
        }
        core.rank(&self.start.op, &mut self.order, now);
        self.begin(core, now, &mut effects);
        effects
    }

    fn handle_response(
        &mut self,
        core: &mut Core,
        now: Now,
        (node, attempt): (NodeId, Attempt),
        epoch: Option<u64>,
        response: Response,
    ) -> Effects<StrongDone> {
        let mut effects = Effects::new();
        if !self.owners.expects(node, attempt) {
            return effects;
        }
        match response {
            Ok(Answer::Refused(refusal)) => {
                let refused = (&refusal, epoch.unwrap_or(0));
                let newer = self.owners.refused(core, (now, &self.start), node, refused);
                effects.extend(newer.map(Effect::NeedView));
            }
            Ok(answer) => self.take(core, now, node, answer, &mut effects),
            Err(failure) => {
                let arrived = !matches!(failure, SendFailure::NotSent(_));
                let arrived = arrived && !core.forgets_proposals();
                self.exposed |= self.carries() && arrived && !self.completed;
                let at = (now, &self.start);
                self.owners.unanswered(core, at, node, &failure);
            }
        }
        self.advance(core, now, &mut effects);
        effects
    }

    fn handle_view(&mut self, core: &mut Core, now: Now, view: &Arc<View>) -> Effects<StrongDone> {
        let mut effects = Effects::new();
        let epoch = self.start.view.ordinal();
        if view.ordinal() <= epoch || self.phase == Phase::Over {
            return effects;
        }
        if !self.owners.want_view(epoch) && self.start.goes_on_under(view, core.home()) {
            return effects;
        }
        self.leave();
        self.cancel_looks(&mut effects);
        if self.completed {
            // The others learn of it by a later round.
            self.phase = Phase::Over;
            return effects;
        }
        if !self.start.move_to(view, core.home()) {
            self.fail(self.start.bucket_deleted(), &mut effects);
            return effects;
        }
        self.order = self.start.owners().all().collect();
        core.rank(&self.start.op, &mut self.order, now);
        match quorum(&self.start) {
            Ok(quorum) => self.quorum = quorum,
            Err(error) => {
                self.fail(error, &mut effects);
                return effects;
            }
        }
        self.proposal = None;
        self.begin(core, now, &mut effects);
        effects
    }

    fn handle_timer(&mut self, core: &mut Core, now: Now) -> Effects<StrongDone> {
        let mut effects = Effects::new();
        if now.mono_ms >= self.start.deadline_ms {
            let error = self.owners.timeout(TOO_FEW);
            self.fail(error, &mut effects);
            return effects;
        }
        if let Phase::Pause { until_ms } = self.phase {
            if until_ms <= now.mono_ms {
                self.begin(core, now, &mut effects);
            }
            return effects;
        }
        for node in self.owners.mark_slow(now.mono_ms, self.patience_ms()) {
            core.note_failure(node);
        }
        for node in self.owners.due(now.mono_ms) {
            match self.phase {
                // Idle again: it is asked if it is still wanted.
                Phase::Look | Phase::Fetch => self.owners.set(node, OwnerState::Idle),
                _ => self.send(node, now, &mut effects),
            }
        }
        self.advance(core, now, &mut effects);
        effects
    }

    fn next_wake_ms(&self) -> Option<u64> {
        if self.is_finished() {
            return None;
        }
        let pause = match self.phase {
            Phase::Pause { until_ms } => Some(until_ms),
            _ => None,
        };
        let slow = self.owners.next_slow_ms(self.patience_ms());
        let soonest = [pause, slow, self.owners.next_wake_ms()];
        let soonest = soonest.into_iter().flatten().min();
        Some(soonest.unwrap_or(u64::MAX).min(self.start.deadline_ms))
    }

    fn is_finished(&self) -> bool {
        let open = self.owners.any_in_flight() || self.owners.any_waiting();
        self.phase == Phase::Over || self.completed && !open
    }

    fn is_idle(&self) -> bool {
        !self.owners.any_in_flight()
    }

    fn awaits(&self, node: NodeId, attempt: Attempt) -> bool {
        self.phase != Phase::Over && self.owners.expects(node, attempt)
    }

    fn cancel(&mut self) {
        self.completed = true;
        self.phase = Phase::Over;
    }
}

impl StrongOperation {
    fn patience_ms(&self) -> u64 {
        match self.phase {
            Phase::Look | Phase::Fetch => SLOW_MS,
            // It is waited for to see whether it refuses as well.
            Phase::Prepare | Phase::Accept if self.outbid => OUTBID_MS,
            _ => STOPPED_MS,
        }
    }
}
