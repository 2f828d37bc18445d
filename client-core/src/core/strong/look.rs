//! Looks: what a quorum accepted, and whether that is agreed on.

use super::round::{Basis, Proposal, SHIPPED_BYTES_MAX, Tried};
use super::{Phase, StrongDone, StrongOperation, Task};
use crate::core::Effects;
use crate::core::attempts::{Owner, OwnerState};
use crate::core::client::{Core, Now};
use annulet_protocol::ballot::Ballot;
use annulet_protocol::ids::NodeId;
use annulet_protocol::register::Head;

/// Looks that find others at work before a round settles what is there.
const LOOKS: u32 = 3;

impl StrongOperation {
    pub(super) fn begin_look(&mut self, now: Now, effects: &mut Effects<StrongDone>) {
        self.phase = Phase::Look;
        // An earlier round is over: nobody is given up for it, and nothing of it is proposed again.
        (self.outbid, self.proposal) = (false, None);
        self.votes.clear();
        self.owners.restart(self.order.iter().copied());
        self.look_further(now, effects);
    }

    /// Asks as many owners as a quorum still needs.
    pub(super) fn look_further(&mut self, now: Now, effects: &mut Effects<StrongDone>) {
        for node in self.order.clone() {
            let idle = self.owners.is(node, |state| state == OwnerState::Idle);
            if idle && self.wants_look(node) {
                self.send(node, now, effects);
            }
        }
    }

    fn wants_look(&self, node: NodeId) -> bool {
        let counts = |node| {
            self.owners.is(node, |state| match state {
                OwnerState::Done => true,
                OwnerState::InFlight { slow, .. } => !slow,
                OwnerState::Idle | OwnerState::Waiting { .. } | OwnerState::Lost => false,
            })
        };
        if self.is_stale_read() {
            return !self.order.iter().any(|owner| counts(*owner));
        }
        // Once a quorum has answered and does not agree, another one may complete one that does.
        let answered = self.quorum.is_met(|node| self.votes.has(node));
        answered || self.quorum.wants(node, counts)
    }

    /// Whether enough owners may still show one register, with those that can be asked.
    fn may_become_clean(&self, core: &Core) -> bool {
        self.quorum.is_possible(|node| match self.votes.has(node) {
            true => !self.votes.is_clean(core, node),
            false => {
                let hopeless = self.owners.is(node, |state| match state {
                    OwnerState::Lost | OwnerState::Waiting { .. } => true,
                    OwnerState::InFlight { slow, .. } => slow,
                    OwnerState::Idle | OwnerState::Done => false,
                });
                hopeless || core.peers.is_away(node)
            }
        })
    }

    /// Enough owners have answered a look: what do they say?
    pub(super) fn judge_look(
        &mut self,
        core: &mut Core,
        now: Now,
        effects: &mut Effects<StrongDone>,
    ) {
        if self.is_stale_read() {
            if self.order.iter().any(|node| self.votes.has(*node)) {
                return self.show(core, now, effects);
            }
        } else if self.quorum.is_met(|node| self.votes.has(node)) {
            if !self.is_read() {
                return self.judge_fate(core, now, effects);
            }
            if self.votes.are_clean(core, &self.quorum) {
                return self.show(core, now, effects);
            }
            if !self.may_become_clean(core) {
                self.cancel_looks(effects);
                self.open_looks += 1;
                return match self.open_looks % LOOKS {
                    0 => self.begin_round(core, now, effects),
                    looks => self.pause(now, looks),
                };
            }
        }
        self.look_further(now, effects);
        self.give_up_if_stuck(core, now, effects);
    }

    /// What is agreed on says what became of a write that may have been accepted: it is in the log,
    /// or it came to nothing, and is as if it had not been tried. What is not clean says nothing.
    fn judge_fate(&mut self, core: &mut Core, now: Now, effects: &mut Effects<StrongDone>) {
        if self.votes.are_clean(core, &self.quorum) {
            let at = (self.start.bucket().number, &self.start.key[..]);
            let basis = Basis::of(&self.votes, at);
            // Nothing is proposed, so this is no round of anybody's.
            let turn = self.turn(core, now, Ballot::default());
            if basis.register.log.find(&turn.op).is_some() {
                let found = Proposal::new(core, at, &basis, (&turn, &self.change));
                let result = self.outcome(&found, turn.now_ms);
                self.exposed = false;
                self.cancel_looks(effects);
                self.complete(result, effects);
                self.phase = Phase::Over;
                return;
            }
            let (ballot, register) = (basis.ballot, &basis.register);
            let nothing = |tried: Tried| tried.came_to_nothing(&turn.op, ballot, register);
            if matches!(self.task, Task::Write(_)) && self.tried.is_some_and(nothing) {
                (self.tried, self.exposed) = (None, false);
            }
        }
        self.begin_round(core, now, effects);
    }

    /// Answers a read by what the owners showed, unless its time is over.
    pub(super) fn show(&mut self, core: &mut Core, now: Now, effects: &mut Effects<StrongDone>) {
        let head = self.votes.highest().map(|shown| shown.head);
        if !self.is_stale_read() && self.must_settle(core, now, head.as_ref()) {
            return self.begin_round(core, now, effects);
        }
        self.cancel_looks(effects);
        let live = head.is_some_and(|head| head.is_live(core.clock.reached_ms(now.wall_ms)));
        let value = self.votes.value().cloned().filter(|_| live);
        if live && self.wants_value() && value.is_none() {
            return self.begin_fetch(now, effects);
        }
        let (slot, votes) = (self.slot(), &self.votes);
        core.proposer
            .observe(&slot, votes.accepted(), votes.promised());
        self.complete(Ok(StrongDone::read(head, live, value)), effects);
        self.phase = Phase::Over;
    }

    /// Whether a read has found a value whose time is over, be it that it ended while the value was
    /// fetched or a round was under way: it is absent for good before anybody is told so.
    pub(super) fn must_settle(&self, core: &Core, now: Now, head: Option<&Head>) -> bool {
        let now_ms = core.clock.reached_ms(now.wall_ms);
        core.settles_expiry() && head.is_some_and(|head| head.is_expired(now_ms))
    }

    /// Of a long value one owner sends the whole, the others its head.
    pub(super) fn value_bytes_max(&self) -> Option<u32> {
        let asked = |owner: &Owner| match owner.state {
            OwnerState::Done | OwnerState::InFlight { .. } => true,
            OwnerState::Idle | OwnerState::Waiting { .. } | OwnerState::Lost => false,
        };
        match (self.phase, self.owners.iter().any(asked)) {
            (Phase::Look, _) if !self.wants_value() => Some(0),
            (Phase::Look, true) if !self.is_stale_read() => Some(SHIPPED_BYTES_MAX as u32),
            (_, _) => None,
        }
    }
}
