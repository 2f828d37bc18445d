//! What may happen next, and what it comes to.

use super::records::{Id, Mint, NOTHING, OPS, floor, now_ms};
use super::state::{ATTEMPTS_MAX, CRASHER, FALLBACK, OWNERS, State};
use super::{Act, Broken, Durability, Kind, Search, Source};
use annulet_protocol::clock::Stamp;

const PAIRS: [(usize, usize); 6] = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)];

/// Something happens. Operations, attempts and servers by number.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// A client reads these servers, and is going to write under what they show.
    Read { op: u8, servers: u8 },
    /// A client writes under what came with an acknowledgement.
    FromAck { op: u8, attempt: u8 },
    /// A put comes to a server.
    Mint { attempt: u8, at: u8 },
    /// A client sends a delete.
    Delete { attempt: u8 },
    /// What goes to the other servers comes to one.
    Relay { attempt: u8, to: u8 },
    /// One server's record is merged by an owner.
    Push { from: u8, to: u8 },
    /// An owner's record is read, and goes somewhere.
    Hold { from: u8 },
    /// What was held comes.
    Late { to: u8 },
    /// The fallback has delivered what it keeps.
    Drop,
    /// What an owner has is synced.
    Sync,
    /// It loses what is not.
    Crash,
    /// It compares with both others.
    Compare,
    /// A week goes by.
    Wait,
    /// An owner takes nothing at or below the floor from outside any more.
    Close { at: u8 },
    /// It merges what the others have.
    Gather { at: u8 },
    /// It raises its floor.
    Raise { at: u8 },
}

impl Search<'_> {
    /// Calls with all that may happen next, and perhaps changes nothing.
    pub(super) fn steps(&self, state: &State, next: &mut Vec<Step>) {
        next.clear();
        for (op, act) in (0..).zip(&self.scenario.acts) {
            match state.ops[usize::from(op)].begun {
                false => self.begin_steps(state, (op, act), next),
                true => self.attempt_steps(state, (op, act), next),
            }
        }
        self.transfer_steps(state, next);
        self.crash_steps(state, next);
        self.floor_steps(state, next);
    }

    fn begin_steps(&self, state: &State, (op, act): (u8, &Act), next: &mut Vec<Step>) {
        match act.source {
            Source::Blind => {}
            Source::Read => {
                let servers = OWNERS + usize::from(self.scenario.hints);
                let sets = 1u8..1 << servers;
                let few = sets.filter(|set| set.count_ones() <= 2);
                let few = few.filter(|set| !(state.recovering && set >> CRASHER & 1 == 1));
                next.extend(few.map(|servers| Step::Read { op, servers }));
            }
            Source::Ack(of) => {
                let attempts = self.attempts(of).filter(|at| state.is_acknowledged(*at));
                next.extend(attempts.map(|at| Step::FromAck {
                    op,
                    attempt: at as u8,
                }));
            }
        }
    }

    fn attempt_steps(&self, state: &State, (op, act): (u8, &Act), next: &mut Vec<Step>) {
        let all = self.attempts(usize::from(op));
        let last = all.end;
        for index in all {
            let at = &state.attempts[index];
            let attempt = index as u8;
            match (at.made, act.kind) {
                (false, Kind::Delete) => next.push(Step::Delete { attempt }),
                (false, Kind::Put) if act.at_fallback && index + 1 == last => {
                    next.push(Step::Mint {
                        attempt,
                        at: FALLBACK as u8,
                    });
                }
                (false, Kind::Put) => {
                    let to = self.targets(state);
                    next.extend(to.map(|at| Step::Mint {
                        attempt,
                        at: at as u8,
                    }));
                }
                (true, _) if !at.waits => {
                    let to = self.targets(state);
                    next.extend(to.map(|to| Step::Relay {
                        attempt,
                        to: to as u8,
                    }));
                    if self.scenario.hints {
                        next.push(Step::Relay {
                            attempt,
                            to: FALLBACK as u8,
                        });
                    }
                }
                (true, _) => {}
            }
        }
    }

    /// Owners that something may come to; of those that can't be told apart only one.
    fn targets<'a>(&self, state: &'a State) -> impl Iterator<Item = usize> + use<'a> {
        // The one that may crash is not like the others.
        let first = usize::from(self.scenario.crash.is_some());
        let untouched = (first..OWNERS).filter(|at| state.is_untouched(*at));
        let spare = untouched.skip(1).map(|at| 1u8 << at).sum::<u8>();
        (0..OWNERS).filter(move |at| spare >> at & 1 == 0)
    }

    fn transfer_steps(&self, state: &State, next: &mut Vec<Step>) {
        if self.scenario.pushes {
            let pushes = PAIRS.map(|(from, to)| Step::Push {
                from: from as u8,
                to: to as u8,
            });
            next.extend(pushes);
        }
        if self.scenario.holds {
            match state.held {
                NOTHING => next.extend((0..OWNERS as u8).map(|from| Step::Hold { from })),
                _ => next.extend((0..OWNERS as u8).map(|to| Step::Late { to })),
            }
        }
        if self.scenario.hints && state.records[FALLBACK] != NOTHING {
            let from = FALLBACK as u8;
            next.extend(
                self.targets(state)
                    .map(|to| Step::Push { from, to: to as u8 }),
            );
            next.push(Step::Drop);
        }
    }

    fn crash_steps(&self, state: &State, next: &mut Vec<Step>) {
        if self.scenario.crash.is_none() {
            return;
        }
        if !state.crashed {
            next.extend([Step::Sync, Step::Crash]);
        }
        if state.recovering {
            next.push(Step::Compare);
        }
    }

    fn floor_steps(&self, state: &State, next: &mut Vec<Step>) {
        if self.scenario.later && !state.later {
            next.push(Step::Wait);
        }
        if !(self.scenario.floors && state.later) {
            return;
        }
        for at in 0..OWNERS as u8 {
            let all = (1 << OWNERS) - 1;
            let has = |set: u8| set >> at & 1 == 1;
            let ready = match self.broken {
                Some(Broken::GatheredEarly) => has(state.closed),
                _ => state.closed == all,
            };
            if !has(state.closed) {
                next.push(Step::Close { at });
            } else if ready && !has(state.gathered) && !state.recovering {
                next.push(Step::Gather { at });
            }
            let proved = state.gathered == all || self.broken == Some(Broken::Unproved);
            if proved && !has(state.raised) {
                next.push(Step::Raise { at });
            }
        }
    }

    /// What a step comes to; `None` if it can't be taken.
    pub(super) fn apply(&mut self, before: &State, step: Step) -> Option<State> {
        let mut state = *before;
        match step {
            Step::Read { op, servers } => self.read(&mut state, usize::from(op), servers)?,
            Step::FromAck { op, attempt } => {
                self.chain(&mut state, usize::from(op), usize::from(attempt))?;
            }
            Step::Mint { attempt, at } => {
                self.mint(&mut state, usize::from(attempt), usize::from(at))?;
            }
            Step::Delete { attempt } => {
                let context = state.ops[self.op_of(usize::from(attempt))].context;
                let at = &mut state.attempts[usize::from(attempt)];
                (at.made, at.record) = (true, context);
            }
            Step::Relay { attempt, to } => {
                self.relay(&mut state, usize::from(attempt), usize::from(to))?;
            }
            Step::Push { from, to } => {
                self.push(&mut state, usize::from(from), usize::from(to))?;
            }
            Step::Hold { from } => state.held = state.records[usize::from(from)],
            Step::Late { to } => self.take(&mut state, usize::from(to), before.held),
            Step::Drop => self.drop_kept(&mut state)?,
            Step::Sync => sync(&mut state),
            Step::Crash => self.crash(&mut state),
            Step::Compare => {
                state.recovering = false;
                for from in 1..OWNERS {
                    self.take(&mut state, CRASHER, before.records[from]);
                }
            }
            Step::Wait => {
                state.later = true;
                // What is kept for half of the grace is set aside, for people to look at.
                if self.broken != Some(Broken::AsideMerged) {
                    self.begin_anew(&mut state);
                }
            }
            Step::Close { at } => state.closed |= 1 << at,
            Step::Gather { at } => self.gather(&mut state, usize::from(at)),
            Step::Raise { at } => self.raise(&mut state, usize::from(at)),
        }
        for attempt in 0..ATTEMPTS_MAX {
            if state.is_acknowledged(attempt) {
                state.ops[self.op_of(attempt)].acked = true;
            }
        }
        Some(state)
    }

    fn read(&mut self, state: &mut State, op: usize, servers: u8) -> Option<()> {
        let mut record = NOTHING;
        for at in (0..=FALLBACK).filter(|at| servers >> at & 1 == 1) {
            record = self.records.merge(record, state.records[at]);
        }
        let shown = self.records.shown(record);
        // Nothing seen, nothing to delete.
        if self.scenario.acts[op].kind == Kind::Delete && shown == 0 {
            return None;
        }
        let context = self.records.context(record);
        begin(state, op, context, shown);
        Some(())
    }

    /// A put's answer is a context only if its value stands alone.
    fn chain(&mut self, state: &mut State, op: usize, attempt: usize) -> Option<()> {
        let of = self.op_of(attempt);
        let record = state.attempts[attempt].record;
        let hidden = self.broken == Some(Broken::SiblingsHidden);
        if self.records.shown(record) != 1 << of && !hidden {
            return None;
        }
        let context = self.records.context(record);
        begin(state, op, context, 1 << of);
        Some(())
    }

    fn mint(&mut self, state: &mut State, attempt: usize, at: usize) -> Option<()> {
        let op = self.op_of(attempt);
        let first = self.attempts(op).start;
        if state.ops[op].sent == 0 {
            state.ops[op].sent = 1 + u8::from(state.later);
        }
        let tenure = match at {
            FALLBACK if self.broken == Some(Broken::TenureKept) => 0,
            FALLBACK => state.tenure,
            CRASHER if self.broken == Some(Broken::IncarnationKept) => 0,
            CRASHER => u8::from(state.crashed),
            _ => 0,
        };
        let held = state.records[at];
        let raised = state.raised >> at & 1 == 1;
        let early = raised && self.broken == Some(Broken::MintedBelowFloor);
        let from = Stamp::at(now_ms(state.later && !early)).0;
        let apart = self.broken == Some(Broken::RetriedAsAnother);
        let mut mint = Mint {
            record: held,
            context: state.ops[op].context,
            op: op as u64 + if apart { OPS * attempt as u64 } else { 0 },
            sent_later: state.ops[op].sent == 2,
            again: attempt > first || at == FALLBACK,
            node: at as u8,
            tenure,
            stamp: Stamp(from + 1 + state.minted(at)),
        };
        if early {
            // By a clock that is behind, in a record that does not have the floor as its base.
            (mint.record, mint.tenure, mint.sent_later) = (NOTHING, u8::MAX, false);
        }
        let (mut record, dot) = self.records.put(mint)?;
        if early {
            record = self.records.merge(held, record);
        }
        let made = &mut state.attempts[attempt];
        (made.made, made.node, made.dot) = (true, at as u8, dot);
        (made.holders, made.done, made.reached) = (1 << at, true, at != FALLBACK);
        made.record = record;
        if dot.is_some() && self.broken == Some(Broken::DottedAlone) {
            let alone = Mint {
                record: NOTHING,
                ..mint
            };
            made.record = self.records.put(alone)?.0;
        }
        self.keep(state, at, record);
        let group = self.scenario.crash == Some(Durability::Group);
        let synced = state.durable == state.records[CRASHER];
        let waits = group && at == CRASHER && !state.crashed && !synced;
        let early_known = self.broken == Some(Broken::KnownUnsynced) && dot.is_none();
        state.attempts[attempt].waits = waits && !early_known;
        Some(())
    }

    /// A server's record is this now.
    fn keep(&mut self, state: &mut State, at: usize, record: Id) {
        let record = match self.broken {
            Some(Broken::PastForgotten) => self.records.forget(record, u64::MAX),
            _ if state.later => self.records.forget(record, now_ms(true)),
            _ => record,
        };
        state.records[at] = record;
    }

    /// A server merges a record.
    pub(super) fn take(&mut self, state: &mut State, at: usize, record: Id) {
        #[cfg(feature = "faults")]
        let record = match self.broken {
            Some(Broken::BaseIgnored) => {
                let without = self.records.get(record).without_base();
                self.records.id(without)
            }
            _ => record,
        };
        let merged = self.records.merge(state.records[at], record);
        if merged != state.records[at] {
            self.keep(state, at, merged);
        }
    }

    fn relay(&mut self, state: &mut State, attempt: usize, to: usize) -> Option<()> {
        let Attempted { record, own } = self.attempted(state, attempt);
        let refuses = match to {
            FALLBACK => state.later && self.broken != Some(Broken::LateKept),
            _ => state.closed >> to & 1 == 1 && self.broken != Some(Broken::LateTaken),
        };
        if own && refuses {
            return None;
        }
        self.take(state, to, record);
        let at = &mut state.attempts[attempt];
        at.holders |= 1 << to;
        at.done = true;
        at.reached |= to != FALLBACK;
        // It is acknowledged once it is synced, and all before it.
        if to == CRASHER && self.scenario.crash == Some(Durability::Group) {
            sync(state);
        }
        Some(())
    }

    /// What an attempt brings first hand, and whether its own value is at or below the floor.
    fn attempted(&self, state: &State, attempt: usize) -> Attempted {
        let record = state.attempts[attempt].record;
        let op = self.op_of(attempt) as u64;
        let mut one = self.records.get(record).iter();
        let own = one.find(|one| one.write.op.sequence % OPS == op);
        let own = own.is_some_and(|one| one.minted.iter().any(|m| m.dot.stamp <= floor()));
        Attempted { record, own }
    }

    fn push(&mut self, state: &mut State, from: usize, to: usize) -> Option<()> {
        let record = state.records[from];
        if from == FALLBACK {
            let old = |minted: &annulet_protocol::siblings::Minting| minted.dot.stamp <= floor();
            let kept = self.records.get(record);
            let old = kept.iter().any(|one| one.minted.iter().any(old));
            if old && state.closed >> to & 1 == 1 && self.broken != Some(Broken::LateTaken) {
                return None;
            }
            for attempt in &mut state.attempts {
                attempt.reached |= attempt.holders >> FALLBACK & 1 == 1;
            }
        }
        self.take(state, to, record);
        Some(())
    }

    /// What one owner has taken need not be kept for the others: owners exchange what they have.
    fn drop_kept(&mut self, state: &mut State) -> Option<()> {
        let kept = state.records[FALLBACK];
        let has = (0..OWNERS).any(|at| {
            let record = state.records[at];
            self.records.merge(record, kept) == record
        });
        self.begin_anew(state);
        has.then_some(())
    }

    /// The fallback keeps nothing any more, and is another actor.
    fn begin_anew(&self, state: &mut State) {
        state.records[FALLBACK] = NOTHING;
        state.tenure = state.minted(FALLBACK) as u8;
        for attempt in &mut state.attempts {
            attempt.holders &= !(1 << FALLBACK);
        }
    }

    fn crash(&mut self, state: &mut State) {
        state.crashed = true;
        let asynchronous = self.scenario.crash == Some(Durability::Async);
        state.recovering = asynchronous && self.broken != Some(Broken::NotCompared);
        let durable = state.durable;
        for attempt in &mut state.attempts {
            if attempt.waits {
                // Nobody has heard of it, and nobody will.
                (attempt.record, attempt.holders) = (NOTHING, 0);
            }
            let has = self.records.merge(durable, attempt.record) == durable;
            if !has {
                // Its acknowledgement may not be completed by others any more.
                attempt.holders &= !(1 << CRASHER);
            }
        }
        (state.records[CRASHER], state.durable) = (durable, NOTHING);
    }

    fn gather(&mut self, state: &mut State, at: usize) {
        for from in (0..OWNERS).filter(|from| *from != at) {
            let record = state.records[from];
            self.take(state, at, record);
        }
        state.gathered |= 1 << at;
        if at == CRASHER && self.broken != Some(Broken::GatheredUnsynced) {
            sync(state);
        }
    }

    fn raise(&mut self, state: &mut State, at: usize) {
        state.raised |= 1 << at;
        let raised = self.records.raise(state.records[at]);
        self.keep(state, at, raised);
        // What says nothing is not stored, and shown as the floor.
        let nothing = self.records.get(state.records[at]).is_nothing();
        if nothing && self.broken == Some(Broken::AbsentUnfloored) {
            state.records[at] = NOTHING;
        }
        if at == CRASHER && self.scenario.crash.is_some() && !state.crashed {
            // The floor is durable, and every record's base.
            state.durable = self.records.raise(state.durable);
        }
    }
}

struct Attempted {
    record: Id,
    own: bool,
}

/// An operation is going to be done under this, by somebody who has seen these values, and all that
/// those had seen.
fn begin(state: &mut State, op: usize, context: Id, shown: u8) {
    let before = (0..state.ops.len()).filter(|of| shown >> of & 1 == 1);
    let seen = before
        .map(|of| state.ops[of].seen)
        .fold(shown, |a, b| a | b);
    let begun = &mut state.ops[op];
    (begun.begun, begun.context, begun.seen) = (true, context, seen);
}

fn sync(state: &mut State) {
    if !state.crashed {
        state.durable = state.records[CRASHER];
        state
            .attempts
            .iter_mut()
            .for_each(|attempt| attempt.waits = false);
    }
}
