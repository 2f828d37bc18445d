//! Get and exists in a last-write-wins bucket, with repair.
//!
//! A read asks as many of the best replicas as its level needs, and another one for each that
//! fails or is slow. The newest answer wins. If answers differ, the newest record is written back
//! to the owners that showed an older one, and the read returns once so many hold it that every
//! later read at the same level must see it: that is what makes quorum reads monotonic (hazard:
//! read repair is not an optimisation). A read at level `one` returns at once; a sample of them
//! looks at the other owners afterwards. So does one at level `available`, which may have asked
//! servers that are no owners.
//!
//! | phase | what is outstanding |
//! |---|---|
//! | ask | reads at the owners |
//! | fetch | a full read at an owner that showed the newest head |
//! | repair | the newest record, at owners that have not shown it; goes on after the result |

mod ask;
mod seen;

use super::attempts::{OwnerState, Owners};
use super::client::{Core, Now, Start};
use super::policy::waiting::Class;
use super::{Attempt, Coordinator, Effect, Effects, Response, Send};
use crate::error::{Error, ErrorKind, Result};
use annulet_protocol::bucket::Mode;
use annulet_protocol::ids::NodeId;
use annulet_protocol::level::Level;
use annulet_protocol::message::{Answer, Operation, Read, Source, Write};
use annulet_protocol::record::{Head, Record};
use annulet_protocol::view::View;
use annulet_ring::owners::Nodes;
use annulet_ring::quorum::{Quorum, Side};
use bytes::Bytes;
use seen::Seen;
use std::sync::Arc;

/// An owner that has not answered for so long is left to answer late, and another one asked,
/// whatever the budget for hedges says: it may have stopped.
pub const SLOW_MS: u64 = 100;

/// What a read that is done says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadDone {
    /// The newest head seen: a value's or a tombstone's, expired or not.
    pub head: Option<Head>,
    /// The value, if there is one that is not expired and it was asked for.
    pub value: Option<Bytes>,
    /// Whether the key has a value that is not expired.
    pub live: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Ask,
    Fetch,
    Repair,
    Over,
}

/// One get or exists.
#[derive(Debug)]
pub struct ReadOperation {
    start: Start,
    head_only: bool,
    phase: Phase,
    /// The owners of the key.
    owned: Nodes,
    /// Owners, and at level `available` fallbacks, in the order to ask them.
    order: Nodes,
    /// How many fallbacks were asked for; fewer than that: there are no more.
    fallbacks_wanted: usize,
    quorum: Quorum,
    /// The nodes in `order`, as they stand in the present phase.
    owners: Owners,
    seen: Seen,
    /// Nodes that were asked for the whole record.
    asked_whole: Nodes,
    /// Owners that hold the newest record.
    holders: Nodes,
    /// Owners that showed an older one: each is sent the newest, also when the read is over.
    stale: Nodes,
    /// Nodes whose answers were damaged: they count for nothing.
    barred: Nodes,
    /// How many must hold it before the read is over.
    hold: Quorum,
    /// How long to wait before another replica is asked; `None`: it is not hedged.
    hedge_after_ms: Option<u64>,
    /// A message whose answer nobody waits for.
    trial: Option<(NodeId, Attempt)>,
    completed: bool,
}

impl ReadOperation {
    /// A get, or an exists if `head_only`.
    ///
    /// # Errors
    /// `InvalidInput` if the level asks for more owners than there are, or the bucket is of another
    /// mode; nothing was sent.
    pub fn new(start: Start, head_only: bool) -> Result<Self> {
        start.expect_mode(Mode::Lww)?;
        let owners = start.owners();
        let quorum = start.quorum(Side::Read, &owners)?;
        let owned: Nodes = owners.all().collect();
        Ok(Self {
            hold: hold(&start, &quorum),
            order: owned.clone(),
            fallbacks_wanted: 0,
            owners: Owners::new(owners.all()),
            owned,
            quorum,
            start,
            head_only,
            phase: Phase::Ask,
            seen: Seen::default(),
            asked_whole: Nodes::new(),
            holders: Nodes::new(),
            stale: Nodes::new(),
            barred: Nodes::new(),
            hedge_after_ms: None,
            trial: None,
            completed: false,
        })
    }

    /// Takes an answer that is not a refusal.
    fn take(&mut self, core: &Core, now: Now, node: NodeId, answer: Answer) {
        let (bucket, key) = (self.start.bucket().number, &self.start.key);
        let asks = matches!(self.phase, Phase::Ask | Phase::Fetch);
        let head = match answer {
            Answer::Written(_) if self.phase == Phase::Repair => {
                self.holders.push(node);
                self.owners.set(node, OwnerState::Done);
                return;
            }
            Answer::Found(record) if asks => {
                let sound = record.verify(bucket, key);
                if let (Err(damage), true) = (sound, core.checks_records()) {
                    let why = format!("server {node} sent a damaged record: {damage}");
                    return self.lose(node, why);
                }
                let head = record.head;
                self.seen.note_record(record);
                Some(head)
            }
            Answer::FoundHead(head) if asks => {
                if let Err(damage) = head.verify_expiry(bucket, key) {
                    let why = format!("server {node} sent a damaged head: {damage}");
                    return self.lose(node, why);
                }
                if self.phase == Phase::Fetch && self.lives(core, now, &head) {
                    let why = format!("server {node} has the value no more that it showed");
                    return self.lose(node, why);
                }
                if self.phase == Phase::Fetch || self.asked_whole.contains(&node) {
                    self.seen.note_gone(head);
                }
                Some(head)
            }
            Answer::Absent(_) if asks => None,
            other => {
                let why = format!("server {node} answered a read with {other:?}");
                return self.lose(node, why);
            }
        };
        self.owners.set(node, OwnerState::Done);
        self.seen.note(node, head);
        if self.phase == Phase::Fetch {
            self.ask_again();
        }
    }

    /// Counts an owner for nothing: what it sent is damaged, or is no answer.
    fn lose(&mut self, node: NodeId, why: String) {
        let error = Error::new(ErrorKind::Unavailable, why);
        self.owners.lose(node, error);
        self.bar(node);
    }

    /// An owner did not do what was asked. One that was to send the newest record and will not may
    /// as well not have shown it.
    fn failed(&mut self, node: NodeId) {
        if self.phase == Phase::Fetch && self.owners.is(node, |state| state == OwnerState::Lost) {
            self.bar(node);
        }
    }

    /// What an owner showed is forgotten, and the owner not asked again.
    fn bar(&mut self, node: NodeId) {
        self.barred.push(node);
        self.seen.forget(node);
        if self.phase == Phase::Fetch {
            self.ask_again();
        }
    }

    /// An owner that was to send the newest record sent another one, or none: what is known now
    /// is judged anew, with more owners if need be.
    fn ask_again(&mut self) {
        self.phase = Phase::Ask;
        self.owners.restart(self.order.iter().copied());
        for node in &self.order {
            let state = match (self.seen.has(*node), self.barred.contains(node)) {
                (true, _) => OwnerState::Done,
                (false, true) => OwnerState::Lost,
                // What is done in the background asks everyone once.
                (false, false) if self.completed => OwnerState::Lost,
                (false, false) => OwnerState::Idle,
            };
            self.owners.set(*node, state);
        }
    }

    /// Moves through the phases as far as the answers allow, and sends what the phase needs.
    fn advance(&mut self, core: &mut Core, now: Now, effects: &mut Effects<ReadDone>) {
        loop {
            match self.phase {
                Phase::Ask if self.is_answered() => self.judge(core, now, effects),
                Phase::Repair if !self.completed && (self.is_held() || !core.awaits_repair()) => {
                    self.complete(core, now, effects);
                }
                Phase::Repair if self.completed && !self.is_repairing() => self.phase = Phase::Over,
                Phase::Ask | Phase::Fetch | Phase::Repair => {
                    self.extend_fallbacks(core);
                    self.send_more(now, effects);
                    // A look at all owners goes on with those that answered.
                    let checked = self.completed && self.phase == Phase::Ask;
                    if !(checked && self.is_stuck()) {
                        break;
                    }
                    self.judge(core, now, effects);
                }
                Phase::Over => return,
            }
        }
        if self.is_stuck() {
            let error = self.owners.failure(match self.phase {
                Phase::Ask => TOO_FEW,
                Phase::Fetch => "no owner sent the newest value",
                Phase::Repair | Phase::Over => "too few owners took the newest value",
            });
            self.fail(error, effects);
        }
    }

    /// Enough owners have answered: what do they say?
    fn judge(&mut self, core: &mut Core, now: Now, effects: &mut Effects<ReadDone>) {
        let newest = self.seen.newest();
        self.holders = self.seen.holders();
        let agree = self.holders.len() == self.seen.nodes().count();
        let repairs = !agree && core.repairs();
        let record = newest.is_none_or(|head| self.seen.record(&head).is_some())
            || core.trusts_digests() && self.seen.any_record().is_some();
        let over = newest.is_some_and(|head| self.seen.is_gone(&head) && !self.is_live(core, now));
        let shown = self.completed || self.head_only || !self.is_live(core, now);
        if !record && !over && (repairs || !shown) {
            // Later answers to the question itself are no longer needed.
            self.cancel_questions(effects);
            self.phase = Phase::Fetch;
            self.owners.restart(self.holders.iter().copied());
            return;
        }
        self.cancel_questions(effects);
        if self.is_available() || !repairs {
            let sampled = !self.completed
                && self.start.level == Level::One
                && core.samples(&self.start.op)
                && core.repairs();
            self.complete(core, now, effects);
            if sampled {
                return self.begin_check();
            }
        }
        match repairs {
            true => self.begin_repair(),
            false => self.phase = Phase::Over,
        }
    }

    /// Messages whose answers are not needed any more need not be worked on.
    fn cancel_questions(&mut self, effects: &mut Effects<ReadDone>) {
        if matches!(self.phase, Phase::Ask | Phase::Fetch) {
            let outstanding = self.owners.outstanding();
            effects.extend(outstanding.map(|(node, attempt)| Effect::Cancel(node, attempt)));
        }
    }

    /// A read at level `one` has returned; now look whether the other owners agree.
    fn begin_check(&mut self) {
        let owners = self.start.owners();
        let all = Quorum::of(Level::All, Side::Read, &owners, None);
        let (Ok(all), true) = (all, owners.count() > 1) else {
            self.phase = Phase::Over;
            return;
        };
        self.quorum = all;
        self.head_only = true;
        let asked: Nodes = self.seen.nodes().collect();
        self.owners.restart(owners.all());
        for node in asked {
            self.owners.set(node, OwnerState::Done);
        }
        self.phase = Phase::Ask;
    }

    /// Writes the newest record to every owner that showed an older one, and to as many others as
    /// must hold it before the read is over.
    fn begin_repair(&mut self) {
        self.phase = Phase::Repair;
        let owned = |node: &NodeId| self.owned.contains(node);
        let behind = |node: &NodeId| owned(node) && !self.holders.contains(node);
        self.stale = self.seen.nodes().filter(behind).collect();
        let unseen = self.order.iter().copied();
        let unseen = unseen
            .filter(|node| owned(node) && !self.seen.has(*node) && !self.barred.contains(node));
        self.order = self.stale.iter().copied().chain(unseen).collect();
        self.owners.restart(self.order.iter().copied());
    }

    /// Whether so many owners hold the newest record that later reads must see it.
    fn is_held(&self) -> bool {
        self.hold.is_met(|node| self.holders.contains(&node))
    }

    /// Whether an owner that showed an older record has not settled yet.
    fn is_repairing(&self) -> bool {
        let open = |state| !matches!(state, OwnerState::Done | OwnerState::Lost);
        self.stale.iter().any(|node| self.owners.is(*node, open))
    }

    fn ask_first(&mut self, core: &mut Core, now: Now, effects: &mut Effects<ReadDone>) {
        core.rank(&self.start.op, &mut self.order, now);
        self.send_more(now, effects);
        self.learn_delay(core);
        self.try_another(core, now, effects);
    }

    /// Sends as many messages as the phase still needs, each to a node not asked before.
    fn send_more(&mut self, now: Now, effects: &mut Effects<ReadDone>) {
        for node in self.order.clone() {
            let idle = self.owners.is(node, |state| state == OwnerState::Idle);
            if idle && self.wants(node) {
                self.send(node, now, effects);
            }
        }
    }

    fn send(&mut self, node: NodeId, now: Now, effects: &mut Effects<ReadDone>) {
        let operation = match (self.phase, self.seen.newest()) {
            (Phase::Repair, Some(head)) => self.repair(head),
            _ => Operation::Read(self.question(node)),
        };
        let attempt = self.owners.sent(node, now.mono_ms);
        self.push(node, attempt, operation, now, effects);
    }

    fn push(
        &self,
        node: NodeId,
        attempt: Attempt,
        operation: Operation,
        now: Now,
        effects: &mut Effects<ReadDone>,
    ) {
        effects.push(Effect::Send(Send {
            node,
            attempt,
            epoch: self.start.view.epoch,
            budget_ms: self.start.budget_ms(now.mono_ms),
            operation,
        }));
    }

    /// The newest record, or its head alone where nobody has its value any more.
    fn repair(&self, head: Head) -> Operation {
        let record = self.seen.record(&head).cloned();
        Operation::Write(Write {
            bucket: self.start.bucket().number,
            key: self.start.key.clone(),
            source: Source::Repair,
            gone: record.is_none(),
            record: record.unwrap_or_else(|| Record {
                head,
                value: Bytes::new(),
            }),
        })
    }

    /// Tries an owner that nobody asks otherwise, but not one that is farther than those that are
    /// asked: how quick that is changes nothing. This read does not wait for it.
    fn try_another(&mut self, core: &mut Core, now: Now, effects: &mut Effects<ReadDone>) {
        let idle = |node: &NodeId| self.owners.is(*node, |state| state == OwnerState::Idle);
        let owned = || self.owned.iter().copied();
        let asked = owned().filter(|node| !idle(node));
        let farthest = asked.map(|node| core.distance(node)).max().unwrap_or(0);
        let others = owned().filter(|node| idle(node) && core.distance(*node) <= farthest);
        let mut others = others.collect::<Nodes>().into_iter();
        let found = others.find(|node| core.peers.take_try(*node, now.mono_ms));
        let Some(node) = found.filter(|_| core.tries_others) else {
            return;
        };
        let attempt = self.owners.name();
        self.trial = Some((node, attempt));
        let read = Read::new(self.start.bucket().number, self.start.key.clone());
        let operation = Operation::Read(Read {
            head_only: true,
            ..read
        });
        core.counts.trials += 1;
        self.push(node, attempt, operation, now, effects);
    }

    /// Whether what was found is a value that has not expired.
    fn is_live(&self, core: &Core, now: Now) -> bool {
        let newest = self.seen.newest();
        newest.is_some_and(|head| self.lives(core, now, &head))
    }

    /// Whether a head is of a value that has not expired, by this client's clock.
    fn lives(&self, core: &Core, now: Now, head: &Head) -> bool {
        head.is_live(match core.heeds_expiry() {
            true => core.clock.reached_ms(now.wall_ms),
            false => 0,
        })
    }

    fn complete(&mut self, core: &mut Core, now: Now, effects: &mut Effects<ReadDone>) {
        if self.completed {
            return;
        }
        self.completed = true;
        let head = self.seen.newest();
        if let Some(head) = &head {
            core.clock
                .observe(self.start.hash, head.version.stamp, now.wall_ms);
        }
        let live = self.is_live(core, now);
        let record = match core.trusts_digests() {
            true => self.seen.any_record(),
            false => head.and_then(|head| self.seen.record(&head)),
        };
        let value = record.filter(|_| live && !self.head_only);
        let value = value.map(|record| record.value.clone());
        effects.push(Effect::Complete(Ok(ReadDone { head, value, live })));
    }

    fn expire(&mut self, effects: &mut Effects<ReadDone>) {
        let error = self.owners.timeout(TOO_FEW);
        self.fail(error, effects);
    }

    fn fail(&mut self, error: Error, effects: &mut Effects<ReadDone>) {
        self.cancel_questions(effects);
        self.phase = Phase::Over;
        if !self.completed {
            self.completed = true;
            effects.push(Effect::Complete(Err(error)));
        }
    }

    /// Whether the phase can no longer reach its end: nothing is outstanding and nobody is left.
    fn is_stuck(&self) -> bool {
        self.phase != Phase::Over && !self.owners.any_in_flight() && !self.owners.any_waiting()
    }
}

impl Coordinator for ReadOperation {
    type Done = ReadDone;

    fn next_wake_ms(&self) -> Option<u64> {
        if self.is_finished() {
            return None;
        }
        // Once nobody is left to be asked instead, slowness changes nothing.
        let idle = self
            .owners
            .iter()
            .any(|owner| owner.state == OwnerState::Idle);
        let idle = idle || self.is_available();
        let slow = self.owners.next_slow_ms(SLOW_MS).filter(|_| idle);
        let hedge = self.next_hedge_ms().filter(|_| idle);
        let soonest = [slow, hedge, self.owners.next_wake_ms()]
            .into_iter()
            .flatten()
            .min();
        Some(soonest.unwrap_or(u64::MAX).min(self.start.deadline_ms))
    }

    fn is_finished(&self) -> bool {
        self.phase == Phase::Over
    }

    fn start(&mut self, core: &mut Core, now: Now) -> Effects<ReadDone> {
        let mut effects = Effects::new();
        let needs = (&self.quorum, self.owned.iter().copied());
        if let Err(error) = core.admit(now, &self.start, Class::Read, needs) {
            self.fail(error, &mut effects);
            return effects;
        }
        self.ask_first(core, now, &mut effects);
        effects
    }

    fn handle_response(
        &mut self,
        core: &mut Core,
        now: Now,
        (node, attempt): (NodeId, Attempt),
        epoch: Option<u64>,
        response: Response,
    ) -> Effects<ReadDone> {
        let mut effects = Effects::new();
        if self.trial == Some((node, attempt)) {
            self.trial = None;
            return effects;
        }
        if !self.owners.expects(node, attempt) {
            return effects;
        }
        match response {
            Ok(Answer::Refused(refusal)) => {
                let refused = (&refusal, epoch.unwrap_or(0));
                let newer = self.owners.refused(core, (now, &self.start), node, refused);
                effects.extend(newer.map(Effect::NeedView));
                self.failed(node);
            }
            Ok(answer) => self.take(core, now, node, answer),
            Err(failure) => {
                let at = (now, &self.start);
                self.owners.unanswered(core, at, node, &failure);
                self.failed(node);
            }
        }
        self.advance(core, now, &mut effects);
        effects
    }

    fn handle_view(&mut self, core: &mut Core, now: Now, view: &Arc<View>) -> Effects<ReadDone> {
        let mut effects = Effects::new();
        if view.epoch <= self.start.view.epoch || self.is_finished() {
            return effects;
        }
        if self.completed {
            // Checking in the background is not worth a second start.
            self.cancel_questions(&mut effects);
            self.phase = Phase::Over;
            return effects;
        }
        if !self.start.move_to(view, core.home()) {
            self.fail(self.start.bucket_deleted(), &mut effects);
            return effects;
        }
        let owners = self.start.owners();
        match self.start.quorum(Side::Read, &owners) {
            Ok(quorum) => self.quorum = quorum,
            Err(error) => {
                self.fail(error, &mut effects);
                return effects;
            }
        }
        self.hold = hold(&self.start, &self.quorum);
        self.cancel_questions(&mut effects);
        self.phase = Phase::Ask;
        self.seen = Seen::default();
        for nodes in [
            &mut self.asked_whole,
            &mut self.holders,
            &mut self.stale,
            &mut self.barred,
        ] {
            nodes.clear();
        }
        self.fallbacks_wanted = 0;
        self.owned = owners.all().collect();
        self.order = self.owned.clone();
        self.owners.restart(owners.all());
        self.ask_first(core, now, &mut effects);
        effects
    }

    fn handle_timer(&mut self, core: &mut Core, now: Now) -> Effects<ReadDone> {
        let mut effects = Effects::new();
        if now.mono_ms >= self.start.deadline_ms {
            self.expire(&mut effects);
            return effects;
        }
        self.hedge(core, now);
        for node in self.owners.mark_slow(now.mono_ms, SLOW_MS) {
            core.note_failure(node);
        }
        for node in self.owners.due(now.mono_ms) {
            // Idle again: it is asked if it is still wanted.
            self.owners.set(node, OwnerState::Idle);
        }
        self.advance(core, now, &mut effects);
        effects
    }

    fn is_idle(&self) -> bool {
        !self.owners.any_in_flight()
    }

    fn awaits(&self, node: NodeId, attempt: Attempt) -> bool {
        let expects = self.phase != Phase::Over && self.owners.expects(node, attempt);
        expects || self.trial == Some((node, attempt))
    }

    fn cancel(&mut self) {
        self.completed = true;
        self.phase = Phase::Over;
    }
}

const TOO_FEW: &str = "too few owners answered the read";

/// How many must hold what a read returns: so many that every later read at its level meets one,
/// and at `quorum` a majority, which also lasts when the owners change. `one` and `available`
/// promise nothing to later reads.
fn hold(start: &Start, quorum: &Quorum) -> Quorum {
    match start.level {
        Level::Quorum => quorum.clone(),
        Level::One | Level::Available => Quorum::none(),
        Level::All | Level::LocalQuorum | Level::EachQuorum | Level::Explicit { .. } => {
            quorum.blocking()
        }
    }
}

#[cfg(test)]
mod tests;
