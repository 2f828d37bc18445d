//! Get and exists, with repair: of last-write-wins records, and of concurrent values.
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
pub mod shown;

use super::attempts::{OwnerState, Owners};
use super::client::{Core, Now, Start};
use super::policy::waiting::Class;
use super::{Attempt, Coordinator, Effect, Effects, Response, Send};
use crate::error::{Error, ErrorKind, Result};
use annulet_protocol::ids::NodeId;
use annulet_protocol::level::Level;
use annulet_protocol::message::{Answer, Operation, Read};
use annulet_protocol::record::Head;
use annulet_protocol::session::Known;
use annulet_protocol::view::View;
use annulet_ring::owners::Nodes;
use annulet_ring::quorum::{Quorum, Side};
use bytes::Bytes;
pub use seen::Seen;
use shown::{Asked, Shown};
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

/// One get or exists in a last-write-wins bucket.
pub type ReadOperation = Reading<Seen>;

/// One get or exists.
#[derive(Debug)]
pub struct Reading<S> {
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
    seen: S,
    /// Nodes that were asked for the whole record.
    asked_whole: Nodes,
    /// Owners that hold the newest record.
    holders: Nodes,
    /// Who can send what is lacking of it.
    sources: Nodes,
    /// Owners that showed an older one: each is sent the newest, also when the read is over.
    stale: Nodes,
    /// Nodes whose answers were damaged: they count for nothing.
    barred: Nodes,
    /// How many must hold it before the read is over.
    hold: Quorum,
    /// What a session has seen of the key.
    floor: Option<Known>,
    /// The level's owners have answered and shown less than the session has seen: all are asked.
    widened: bool,
    /// How long to wait before another replica is asked; `None`: it is not hedged.
    hedge_after_ms: Option<u64>,
    /// A message whose answer nobody waits for.
    trial: Option<(NodeId, Attempt)>,
    completed: bool,
}

impl<S: Shown> Reading<S> {
    /// A get, or an exists if `head_only`.
    ///
    /// # Errors
    /// `InvalidInput` if the level asks for more owners than there are, or the bucket is of another
    /// mode; nothing was sent.
    pub fn new(start: Start, head_only: bool) -> Result<Self> {
        start.expect(S::MODE, "such read")?;
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
            seen: S::default(),
            asked_whole: Nodes::new(),
            holders: Nodes::new(),
            sources: Nodes::new(),
            stale: Nodes::new(),
            barred: Nodes::new(),
            floor: None,
            widened: false,
            hedge_after_ms: None,
            trial: None,
            completed: false,
        })
    }

    /// The same, of a session that has seen this of the key: if fewer owners than all do not show
    /// as much, more are asked.
    #[must_use]
    pub fn at_least(mut self, floor: Known) -> Self {
        self.seen.must_show(&floor);
        self.floor = Some(floor);
        self
    }

    /// Whether more owners were asked than the level needs, for what a session has seen.
    pub fn is_widened(&self) -> bool {
        self.widened
    }

    /// Takes an answer that is not a refusal.
    fn take(&mut self, core: &Core, now: Now, node: NodeId, answer: Answer) {
        match (self.phase, answer) {
            (Phase::Repair, Answer::Written(_)) => {
                self.holders.push(node);
                self.owners.set(node, OwnerState::Done);
            }
            (Phase::Ask | Phase::Fetch, answer) => {
                let asked = Asked {
                    core,
                    now,
                    start: &self.start,
                    whole: self.asked_whole.contains(&node),
                    fetched: self.phase == Phase::Fetch,
                };
                if let Err(why) = self.seen.take(asked, node, answer) {
                    return self.lose(node, why);
                }
                self.owners.set(node, OwnerState::Done);
                if self.phase == Phase::Fetch {
                    self.ask_again();
                }
            }
            (Phase::Repair | Phase::Over, other) => {
                // What it showed before still stands: others are brought it.
                let why = format!("server {node} answered a repair with {other:?}");
                let error = Error::new(ErrorKind::Unavailable, why);
                self.owners.lose(node, error);
            }
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
    fn advance(&mut self, core: &mut Core, now: Now, effects: &mut Effects<S::Done>) {
        loop {
            match self.phase {
                Phase::Ask if self.is_answered() && self.widens() && core.heeds_sessions() => {
                    self.widened = true;
                    core.counts.widened += 1;
                }
                Phase::Ask if self.is_answered() && self.is_enough() => {
                    self.judge(core, now, effects);
                }
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
                Phase::Ask if self.widened => NOT_AS_MUCH,
                Phase::Ask => TOO_FEW,
                Phase::Fetch => "no owner sent the newest value",
                Phase::Repair | Phase::Over => "too few owners took the newest value",
            });
            self.fail(error, effects);
        }
    }

    /// Enough owners have answered: what do they say?
    fn judge(&mut self, core: &mut Core, now: Now, effects: &mut Effects<S::Done>) {
        self.holders = self.seen.holders();
        let agree = self.holders.len() == self.seen.nodes().len();
        let repairs = !agree && core.repairs();
        let record = self.seen.is_whole(core);
        let live = self.seen.is_live(core, now);
        let over = self.seen.is_gone() && !live;
        let shown = self.completed || self.head_only || !live;
        if !record && !over && (repairs || !shown) {
            // Later answers to the question itself are no longer needed.
            self.cancel_questions(effects);
            self.phase = Phase::Fetch;
            self.sources = self.seen.sources();
            self.owners.restart(self.sources.iter().copied());
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
            true => self.begin_repair(core),
            false => self.phase = Phase::Over,
        }
    }

    /// Messages whose answers are not needed any more need not be worked on.
    fn cancel_questions(&mut self, effects: &mut Effects<S::Done>) {
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
        self.owners.restart(owners.all());
        for node in self.seen.nodes() {
            self.owners.set(node, OwnerState::Done);
        }
        self.phase = Phase::Ask;
    }

    /// Writes the newest record to every owner that showed an older one, and to as many others as
    /// must hold it before the read is over.
    fn begin_repair(&mut self, core: &Core) {
        self.phase = Phase::Repair;
        if core.repairs_like_writes()
            && let Ok(written) = self.start.quorum(Side::Write, &self.start.owners())
        {
            self.hold = written;
        }
        let owned = |node: &NodeId| self.owned.contains(node);
        let behind = |node: &NodeId| owned(node) && !self.holders.contains(node);
        self.stale = self.seen.nodes().into_iter().filter(behind).collect();
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

    fn ask_first(&mut self, core: &mut Core, now: Now, effects: &mut Effects<S::Done>) {
        core.rank(&self.start.op, &mut self.order, now);
        self.send_more(now, effects);
        self.learn_delay(core);
        self.try_another(core, now, effects);
    }

    /// Sends as many messages as the phase still needs, each to a node not asked before.
    fn send_more(&mut self, now: Now, effects: &mut Effects<S::Done>) {
        for node in self.order.clone() {
            let idle = self.owners.is(node, |state| state == OwnerState::Idle);
            if idle && self.wants(node) {
                self.send(node, now, effects);
            }
        }
    }

    fn send(&mut self, node: NodeId, now: Now, effects: &mut Effects<S::Done>) {
        let operation = match self.phase {
            Phase::Repair => self.seen.repair(&self.start),
            Phase::Ask | Phase::Fetch | Phase::Over => Operation::Read(self.question(node)),
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
        effects: &mut Effects<S::Done>,
    ) {
        effects.push(Effect::Send(Send {
            node,
            attempt,
            epoch: self.start.view.ordinal(),
            budget_ms: self.start.budget_ms(now.mono_ms),
            operation,
        }));
    }

    /// Tries an owner that nobody asks otherwise, but not one that is farther than those that are
    /// asked: how quick that is changes nothing. This read does not wait for it.
    fn try_another(&mut self, core: &mut Core, now: Now, effects: &mut Effects<S::Done>) {
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

    fn complete(&mut self, core: &mut Core, now: Now, effects: &mut Effects<S::Done>) {
        if self.completed {
            return;
        }
        self.completed = true;
        let done = self.seen.done(core, now, &self.start, !self.head_only);
        effects.push(Effect::Complete(Ok(done)));
    }

    fn expire(&mut self, effects: &mut Effects<S::Done>) {
        let what = if self.widened { NOT_AS_MUCH } else { TOO_FEW };
        let error = self.owners.timeout(what);
        self.fail(error, effects);
    }

    fn fail(&mut self, error: Error, effects: &mut Effects<S::Done>) {
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

impl<S: Shown> Coordinator for Reading<S> {
    type Done = S::Done;

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

    fn start(&mut self, core: &mut Core, now: Now) -> Effects<S::Done> {
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
    ) -> Effects<S::Done> {
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

    fn handle_view(&mut self, core: &mut Core, now: Now, view: &Arc<View>) -> Effects<S::Done> {
        let mut effects = Effects::new();
        let epoch = self.start.view.ordinal();
        if view.ordinal() <= epoch || self.is_finished() {
            return effects;
        }
        if !self.owners.want_view(epoch) && self.start.goes_on_under(view, core.home()) {
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
        self.seen = S::default();
        if let Some(floor) = &self.floor {
            self.seen.must_show(floor);
        }
        self.widened = false;
        for nodes in [
            &mut self.asked_whole,
            &mut self.holders,
            &mut self.sources,
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

    fn handle_timer(&mut self, core: &mut Core, now: Now) -> Effects<S::Done> {
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
const NOT_AS_MUCH: &str = "no server that answers has what this session has seen or written";

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
