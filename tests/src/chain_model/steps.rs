//! What may happen next: proposals, and what becomes of servers. Recoveries are in `recovery`.

use super::records::Taking;
use super::state::{Life, Phase, State, ballot};
use super::{Broken, Search, has};
use annulet_replica::acceptor::Accepted;

/// What happened; servers by their places, proposals and recoveries by theirs, records by numbers.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "a course is shown by `Debug`")]
pub(super) enum Step {
    /// A proposal.
    Begin(u8),
    /// A proposal's prepare, to a keeper, with or without an answer.
    Prepare(u8, u8, Answer),
    /// A proposal's accept, to a keeper.
    Accept(u8, u8, Answer),
    /// A keeper answers a proposal that another record was decided.
    Decided(u8, u8),
    Conclude(u8),
    /// A server, a record.
    Take(u8, u8),
    Settle(u8),
    Leave(u8),
    Die(u8),
    /// A server, and who tells it of the newest recovery.
    Return(u8, Option<u8>),
    Forget(u8),
    /// A recovery, a server.
    Ask(u8, u8),
    Write(u8),
}

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Came,
    Lost,
}

pub(super) type Steps = Vec<(Step, State)>;

impl Search<'_> {
    /// All that may happen next, with what there is then.
    pub(super) fn steps(&self, state: &State, out: &mut Steps) {
        for proposal in 0..self.scenario.proposals.len() {
            match state.proposals[proposal].phase {
                Phase::Waiting => self.begin(state, proposal, out),
                Phase::Preparing | Phase::Accepting | Phase::Over => {
                    self.deliver(state, proposal, out);
                    self.conclude(state, proposal, out);
                }
            }
        }
        for node in 0..self.nodes {
            match state.nodes[node].life {
                Life::Up => {
                    self.learn(state, node, out);
                    self.leave(state, node, out);
                    self.die(state, node, out);
                }
                Life::Dead => self.come_back(state, node, out),
                Life::Left | Life::Stopped => {}
            }
        }
        for recovery in 0..self.scenario.recoveries {
            self.recover(state, recovery, out);
        }
    }

    /// Whether a server was sealed against all that goes on from a record.
    fn is_sealed(&self, state: &State, node: usize, base: u8) -> bool {
        state.nodes[node].sealed > self.generation(state, base)
    }

    /// Whether whoever made a proposal is still at it.
    fn is_driven(&self, state: &State, proposal: usize) -> bool {
        let by = self.scenario.proposals[proposal];
        let over = state.proposals[proposal].phase == Phase::Over;
        let up = state.nodes[by.node].life == Life::Up;
        !over && up && !self.is_sealed(state, by.node, by.base)
    }

    fn begin(&self, state: &State, proposal: usize, out: &mut Steps) {
        let by = self.scenario.proposals[proposal];
        let node = &state.nodes[by.node];
        let own = own_record(proposal);
        let hold = self.up(state) & self.holders(state, by.base);
        let receipts = self.decides(state, own, hold) || self.breaks(Broken::NoReceipts);
        if node.acts == by.base && node.newest == by.base && receipts {
            let mut after = *state;
            after.proposals[proposal].phase = Phase::Preparing;
            if self.is_driven(&after, proposal) {
                out.push((Step::Begin(proposal as u8), after));
            }
        }
    }

    /// The messages of a proposal, to the keepers that hold its base; who lacks that is brought it
    /// before.
    fn deliver(&self, state: &State, proposal: usize, out: &mut Steps) {
        let by = self.scenario.proposals[proposal];
        let keepers = self.keepers(state, by.base) & self.up(state);
        let driven = self.is_driven(state, proposal);
        for node in (0..self.nodes).filter(|node| has(keepers, *node)) {
            let newest = state.nodes[node].newest;
            if newest != by.base {
                if driven && self.holds(state, newest, by.base) {
                    self.tell(state, (proposal, node), out);
                }
                continue;
            }
            if self.is_sealed(state, node, by.base) {
                continue;
            }
            self.prepare(state, (proposal, node), out);
            let sent = state.proposals[proposal].phase != Phase::Preparing;
            if sent && state.proposals[proposal].value > 0 {
                self.accept(state, (proposal, node), out);
            }
        }
    }

    /// A keeper that knows what was decided says so, and the proposer holds that.
    fn tell(&self, state: &State, (proposal, node): (usize, usize), out: &mut Steps) {
        let by = self.scenario.proposals[proposal];
        let mut next = state.nodes[node].newest;
        while self.before(state, next) != by.base {
            next = self.before(state, next);
        }
        let mut after = *state;
        self.take(&mut after, by.node, next, Taking::Offered);
        end(&mut after, proposal);
        out.push((Step::Decided(proposal as u8, node as u8), after));
    }

    fn prepare(&self, state: &State, (proposal, node): (usize, usize), out: &mut Steps) {
        let mut after = *state;
        let at = &mut after.nodes[node];
        let mut acceptor = at.acceptor();
        if acceptor.prepare(ballot(number(proposal))).is_err() {
            return;
        }
        at.become_acceptor(&acceptor);
        let (accepted, value) = (at.accepted, at.value);
        let step = |answer| Step::Prepare(proposal as u8, node as u8, answer);
        out.push((step(Answer::Lost), after));
        let asking = state.proposals[proposal].phase == Phase::Preparing;
        if !asking || !self.is_driven(state, proposal) {
            return;
        }
        let running = &mut after.proposals[proposal];
        running.answered |= 1 << node;
        if accepted > running.ballot {
            (running.ballot, running.value) = (accepted, value);
        }
        out.push((step(Answer::Came), after));
    }

    fn accept(&self, state: &State, (proposal, node): (usize, usize), out: &mut Steps) {
        let by = self.scenario.proposals[proposal];
        let mut after = *state;
        let value = state.proposals[proposal].value;
        let mut acceptor = after.nodes[node].acceptor();
        let accept = Accepted {
            ballot: ballot(number(proposal)),
            value,
            next: None,
        };
        if acceptor.accept(accept).is_err() {
            return;
        }
        after.nodes[node].become_acceptor(&acceptor);
        let running = &mut after.proposals[proposal];
        if !has(after.decided, value.into()) {
            running.granted |= 1 << node;
            if self.decides(state, by.base, running.granted) {
                after.decided |= 1 << value;
                // What votes for it after this changes nothing.
                after.proposals.iter_mut().for_each(|other| {
                    if other.value == value && other.phase != Phase::Preparing {
                        other.granted = 0;
                    }
                });
            }
        }
        let step = |answer| Step::Accept(proposal as u8, node as u8, answer);
        out.push((step(Answer::Lost), after));
        if self.is_driven(state, proposal) {
            after.proposals[proposal].answered |= 1 << node;
            out.push((step(Answer::Came), after));
        }
    }

    fn conclude(&self, state: &State, proposal: usize, out: &mut Steps) {
        let by = self.scenario.proposals[proposal];
        let running = &state.proposals[proposal];
        let enough = self.decides(state, by.base, running.answered);
        if !enough || !self.is_driven(state, proposal) {
            return;
        }
        let mut after = *state;
        match running.phase {
            Phase::Preparing => {
                let after = &mut after.proposals[proposal];
                after.phase = Phase::Accepting;
                (after.ballot, after.answered) = (0, 0);
                if running.value == 0 || self.breaks(Broken::OwnRecordKept) {
                    after.value = own_record(proposal);
                }
            }
            Phase::Accepting => {
                self.take(&mut after, by.node, running.value, Taking::Offered);
                end(&mut after, proposal);
            }
            Phase::Waiting | Phase::Over => return,
        }
        out.push((Step::Conclude(proposal as u8), after));
    }

    /// A server comes to hold a record, or to act under the one that it holds.
    fn learn(&self, state: &State, node: usize, out: &mut Steps) {
        let here = state.nodes[node];
        for record in self.records(state) {
            let told = self.is_written(record) || self.holders(state, record) != 0;
            let mut after = *state;
            if !told || self.holds(state, here.newest, record) {
                continue;
            }
            let taken = self.take(&mut after, node, record, Taking::Offered);
            if taken || after.nodes[node].life == Life::Stopped {
                out.push((Step::Take(node as u8, record), after));
            }
        }
        let held = self.decides(state, here.newest, self.holders(state, here.newest));
        let sealed = self.is_sealed(state, node, here.newest);
        if here.acts != here.newest && !sealed && (held || self.breaks(Broken::ActedEarly)) {
            let mut after = *state;
            after.nodes[node].acts = here.newest;
            out.push((Step::Settle(node as u8), after));
        }
    }

    /// A server that was a keeper, and is not under what it acts under, leaves. It is not made a
    /// keeper again: who leaves is no active member.
    fn leave(&self, state: &State, node: usize, out: &mut Steps) {
        if self.scenario.recoveries > 0 {
            return;
        }
        let here = state.nodes[node];
        let last = match self.breaks(Broken::LeftEarly) {
            true => here.newest,
            false => here.acts,
        };
        let keeps = |record: u8| has(self.keepers(state, record), node);
        let records = || self.records(state).filter(|record| keeps(*record));
        let was = records().any(|record| self.holds(state, last, record));
        let stays = records().any(|record| self.holds(state, record, last));
        if was && !stays {
            let mut after = *state;
            after.nodes[node].life = Life::Left;
            out.push((Step::Leave(node as u8), after));
        }
    }

    fn die(&self, state: &State, node: usize, out: &mut Steps) {
        let mut after = *state;
        after.nodes[node].life = Life::Dead;
        after.deaths += 1;
        let bounded = self.scenario.recoveries > 0 || self.enough_live(&after);
        if state.deaths < self.scenario.deaths && bounded {
            out.push((Step::Die(node as u8), after));
        }
        let here = &mut after.nodes[node];
        let voted = here.promised > 0;
        if self.breaks(Broken::VotesForgotten) && !state.forgotten && voted {
            (here.promised, here.accepted, here.value) = (0, 0, 0);
            here.life = Life::Up;
            (after.forgotten, after.deaths) = (true, state.deaths);
            out.push((Step::Forget(node as u8), after));
        }
    }
}

/// The record of a proposal.
pub(super) fn own_record(proposal: usize) -> u8 {
    proposal as u8 + 1
}

/// The number of its ballot.
fn number(proposal: usize) -> u8 {
    proposal as u8 + 1
}

/// A proposal is over; what it wanted to have accepted, if it came to that, may still come.
fn end(state: &mut State, proposal: usize) {
    let running = &mut state.proposals[proposal];
    if running.phase == Phase::Preparing {
        running.value = 0;
    }
    running.phase = Phase::Over;
    (running.ballot, running.answered) = (0, 0);
}
