//! Get and exists in a last-write-wins bucket, with repair.
//!
//! A read asks as many of the best replicas as its level needs, and another one for each that
//! fails or is slow. The newest answer wins. If answers differ, the newest record is written back
//! to the owners that showed an older one, and the read returns once so many hold it that every
//! later read at the same level must see it: that is what makes quorum reads monotonic (hazard:
//! read repair is not an optimisation). A read at level `one` returns at once; a sample of them
//! looks at the other owners afterwards.
//!
//! | phase | what is outstanding |
//! |---|---|
//! | ask | reads at the owners |
//! | fetch | a full read at an owner that showed the newest head |
//! | repair | the newest record, at owners that have not shown it; goes on after the result |

use super::attempts::{OwnerState, Owners};
use super::client::{Core, Now, Start};
use super::{Attempt, Coordinator, Effect, Effects, Response, Send};
use crate::error::{Error, ErrorKind, Result};
use annulet_protocol::ids::NodeId;
use annulet_protocol::level::Level;
use annulet_protocol::message::{Answer, Operation, Read, Source, Write};
use annulet_protocol::record::{Head, Record};
use annulet_protocol::view::View;
use annulet_ring::owners::Nodes;
use annulet_ring::quorum::{Quorum, Side};
use bytes::Bytes;
use std::cmp::Ordering;
use std::sync::Arc;

/// An owner that has not answered for so long is left to answer late, and another one asked.
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
    /// Owners in the order to ask them.
    order: Nodes,
    quorum: Quorum,
    /// The owners, as they stand in the present phase.
    owners: Owners,
    /// What each owner showed; `None`: nothing stored.
    seen: Vec<(NodeId, Option<Head>)>,
    /// The record of the newest head, once an owner sent it.
    newest: Option<Record>,
    /// Owners that hold the newest record.
    holders: Nodes,
    /// Owners that showed an older one: each is sent the newest, also when the read is over.
    stale: Nodes,
    /// Owners whose answers were damaged: they count for nothing.
    barred: Nodes,
    /// How many must hold it before the read is over.
    hold: Quorum,
    completed: bool,
}

impl ReadOperation {
    /// A get, or an exists if `head_only`.
    ///
    /// # Errors
    /// `InvalidInput` if the level asks for more owners than there are; nothing was sent.
    pub fn new(start: Start, head_only: bool) -> Result<Self> {
        let owners = start.owners();
        let quorum = start.quorum(Side::Read, &owners)?;
        Ok(Self {
            hold: hold(&start, &quorum),
            order: owners.all().collect(),
            owners: Owners::new(owners.all()),
            quorum,
            start,
            head_only,
            phase: Phase::Ask,
            seen: Vec::new(),
            newest: None,
            holders: Nodes::new(),
            stale: Nodes::new(),
            barred: Nodes::new(),
            completed: false,
        })
    }

    /// Takes an answer that is not a refusal.
    fn take(&mut self, core: &Core, node: NodeId, answer: Answer) {
        let bucket = self.start.bucket().number;
        let (head, record) = match (self.phase, answer) {
            (Phase::Repair, Answer::Written(_)) => {
                self.holders.push(node);
                self.owners.set(node, OwnerState::Done);
                return;
            }
            (Phase::Ask | Phase::Fetch, Answer::Found(record)) => {
                let sound = record.verify(bucket, &self.start.key);
                if let (Err(damage), true) = (sound, core.checks_records()) {
                    let why = format!("server {node} sent a damaged record: {damage}");
                    return self.lose(node, why);
                }
                (Some(record.head), Some(record))
            }
            (Phase::Ask, Answer::FoundHead(head)) => {
                if let Err(damage) = head.verify_expiry(bucket, &self.start.key) {
                    let why = format!("server {node} sent a damaged head: {damage}");
                    return self.lose(node, why);
                }
                (Some(head), None)
            }
            (Phase::Ask | Phase::Fetch, Answer::Absent(_)) => (None, None),
            (_, other) => {
                return self.lose(
                    node,
                    format!("server {node} answered a read with {other:?}"),
                );
            }
        };
        self.owners.set(node, OwnerState::Done);
        self.seen.retain(|(seen, _)| *seen != node);
        self.seen.push((node, head));
        if let Some(record) = record {
            let newer = self
                .newest
                .as_ref()
                .is_none_or(|newest| record.head.freshness(&newest.head) == Ordering::Greater);
            if newer {
                self.newest = Some(record);
            }
        }
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
        self.seen.retain(|(seen, _)| *seen != node);
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
            let state = match (self.has_shown(*node), self.barred.contains(node)) {
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
                Phase::Ask if self.quorum.is_met(|node| self.has_shown(node)) => {
                    self.judge(core, now, effects);
                }
                Phase::Repair if !self.completed && (self.is_held() || !core.awaits_repair()) => {
                    self.complete(core, now, effects);
                }
                Phase::Repair if self.completed && !self.is_repairing() => self.phase = Phase::Over,
                Phase::Ask | Phase::Fetch | Phase::Repair => {
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
        let newest = self.newest_head();
        let is_newest = |head: &Option<Head>| same(head.as_ref(), newest.as_ref());
        self.holders = self
            .seen
            .iter()
            .filter(|(_, head)| is_newest(head))
            .map(|(node, _)| *node)
            .collect();
        let agree = self.holders.len() == self.seen.len();
        match newest {
            Some(head) if !agree && core.repairs() => {
                if self.has_record(&head) {
                    self.begin_repair();
                } else {
                    // Later answers to the question itself are no longer needed.
                    self.phase = Phase::Fetch;
                    self.owners.restart(self.holders.iter().copied());
                }
            }
            Some(_) | None => {
                let sampled = !self.completed
                    && self.start.level == Level::One
                    && core.samples(&self.start.op)
                    && core.repairs();
                self.complete(core, now, effects);
                match sampled {
                    true => self.begin_check(),
                    false => self.phase = Phase::Over,
                }
            }
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
        let asked: Nodes = self.seen.iter().map(|(node, _)| *node).collect();
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
        self.stale = self
            .seen
            .iter()
            .map(|(node, _)| *node)
            .filter(|node| !self.holders.contains(node))
            .collect();
        let barred = |node: &NodeId| self.barred.contains(node);
        let unseen = self.order.iter().copied();
        let unseen = unseen.filter(|node| !self.has_shown(*node) && !barred(node));
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

    /// Sends as many messages as the phase still needs, each to an owner not asked before.
    fn send_more(&mut self, now: Now, effects: &mut Effects<ReadDone>) {
        let mut idle: Nodes = self.order.clone();
        if self.phase == Phase::Fetch {
            idle.retain(|node| self.holders.contains(node));
        }
        for node in idle {
            let counted = |node| {
                self.owners.is(node, |state| match state {
                    OwnerState::Done => true,
                    OwnerState::InFlight { slow, .. } => !slow,
                    OwnerState::Idle | OwnerState::Waiting { .. } | OwnerState::Lost => false,
                })
            };
            let wanted = match self.phase {
                Phase::Ask => self.quorum.wants(node, counted),
                Phase::Fetch => !self.holders.iter().any(|node| counted(*node)),
                Phase::Repair => {
                    let held = |node| self.holders.contains(&node) || counted(node);
                    self.stale.contains(&node) || !self.completed && self.hold.wants(node, held)
                }
                Phase::Over => false,
            };
            if wanted && self.owners.is(node, |state| state == OwnerState::Idle) {
                self.send(node, now, effects);
            }
        }
    }

    fn send(&mut self, node: NodeId, now: Now, effects: &mut Effects<ReadDone>) {
        let (bucket, key) = (self.start.bucket().number, self.start.key.clone());
        let operation = match (self.phase, &self.newest) {
            (Phase::Repair, Some(record)) => {
                let (source, record) = (Source::Repair, record.clone());
                Operation::Write(Write {
                    bucket,
                    key,
                    source,
                    record,
                })
            }
            (Phase::Fetch, _) => Operation::Read(Read::new(bucket, key)),
            _ => Operation::Read(Read {
                head_only: self.head_only,
                ..Read::new(bucket, key)
            }),
        };
        effects.push(Effect::Send(Send {
            node,
            attempt: self.owners.sent(node, now.mono_ms),
            epoch: self.start.view.epoch,
            budget_ms: self.start.budget_ms(now.mono_ms),
            operation,
        }));
    }

    fn complete(&mut self, core: &mut Core, now: Now, effects: &mut Effects<ReadDone>) {
        if self.completed {
            return;
        }
        self.completed = true;
        let head = self.newest_head();
        if let Some(head) = &head {
            core.clock
                .observe(self.start.hash, head.version.stamp, now.wall_ms);
        }
        let at_ms = if core.heeds_expiry() {
            core.clock.reached_ms(now.wall_ms)
        } else {
            0
        };
        let live = head.is_some_and(|head| head.is_live(at_ms));
        let record = self.newest.as_ref().filter(|_| live && !self.head_only);
        let value = record.map(|record| record.value.clone());
        effects.push(Effect::Complete(Ok(ReadDone { head, value, live })));
    }

    fn expire(&mut self, effects: &mut Effects<ReadDone>) {
        let error = self.owners.timeout(TOO_FEW);
        self.fail(error, effects);
    }

    fn fail(&mut self, error: Error, effects: &mut Effects<ReadDone>) {
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

    fn has_shown(&self, node: NodeId) -> bool {
        self.seen.iter().any(|(seen, _)| *seen == node)
    }

    fn has_record(&self, head: &Head) -> bool {
        self.newest
            .as_ref()
            .is_some_and(|record| same(Some(&record.head), Some(head)))
    }

    /// The freshest head that an owner showed.
    fn newest_head(&self) -> Option<Head> {
        let heads = self.seen.iter().filter_map(|(_, head)| *head);
        heads.max_by(Head::freshness)
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
        let slow = if idle {
            self.owners.next_slow_ms(SLOW_MS)
        } else {
            None
        };
        let soonest = [slow, self.owners.next_wake_ms()]
            .into_iter()
            .flatten()
            .min();
        Some(soonest.unwrap_or(u64::MAX).min(self.start.deadline_ms))
    }

    fn is_finished(&self) -> bool {
        self.phase == Phase::Over
    }

    fn start(&mut self, core: &mut Core, now: Now) -> Effects<ReadDone> {
        core.rank(&self.start.op, &mut self.order, now);
        let mut effects = Effects::new();
        self.send_more(now, &mut effects);
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
            Ok(answer) => self.take(core, node, answer),
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
            self.phase = Phase::Over;
            return effects;
        }
        if !self.start.move_to(view, core.home()) {
            let why = format!("bucket `{}` was deleted", self.start.bucket().name);
            self.fail(Error::new(ErrorKind::InvalidInput, why), &mut effects);
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
        self.phase = Phase::Ask;
        self.seen.clear();
        self.holders.clear();
        self.stale.clear();
        self.barred.clear();
        self.newest = None;
        self.order = owners.all().collect();
        self.owners.restart(owners.all());
        effects.extend(self.start(core, now));
        effects
    }

    fn handle_timer(&mut self, core: &mut Core, now: Now) -> Effects<ReadDone> {
        let mut effects = Effects::new();
        if now.mono_ms >= self.start.deadline_ms {
            self.expire(&mut effects);
            return effects;
        }
        for node in self.owners.mark_slow(now.mono_ms, SLOW_MS) {
            core.note_failure(node, now);
        }
        for node in self.owners.due(now.mono_ms) {
            // Idle again: it is asked if it is still wanted.
            self.owners.set(node, OwnerState::Idle);
        }
        self.advance(core, now, &mut effects);
        effects
    }

    fn cancel(&mut self) {
        self.completed = true;
        self.phase = Phase::Over;
    }
}

const TOO_FEW: &str = "too few owners answered the read";

/// How many must hold what a read returns: so many that every later read at its level meets one,
/// and at `quorum` a majority, which also lasts when the owners change.
fn hold(start: &Start, quorum: &Quorum) -> Quorum {
    match start.level {
        Level::Quorum => quorum.clone(),
        Level::One
        | Level::All
        | Level::LocalQuorum
        | Level::EachQuorum
        | Level::Available
        | Level::Explicit { .. } => quorum.blocking(),
    }
}

fn same(a: Option<&Head>, b: Option<&Head>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.freshness(b) == Ordering::Equal,
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

#[cfg(test)]
mod tests;
