//! Operations of one kind that go together: one for each key of a multi-call.
//!
//! Each decides for itself, exactly as it would alone. What they share is what an operation costs
//! besides deciding: one cell, one result, one timer. So a part is told only what concerns it, and
//! what all are asked (when to wake, whether any answer is outstanding) is kept up to date and not
//! asked of each again.

use super::client::{Core, Now};
use super::{Attempt, Coordinator, Effect, Effects, Response};
use crate::error::Result;
use annulet_protocol::ids::NodeId;
use annulet_protocol::view::View;
use std::sync::Arc;

/// Most operations that go together: a message names its own by a number of this many values.
pub const PARTS_MAX: usize = 1 << 16;

/// See the module.
#[derive(Debug)]
pub struct Many<C: Coordinator> {
    parts: Vec<Part<C>>,
    results: Vec<Option<Result<C::Done>>>,
    /// Parts whose results are not there yet; each gives one, once.
    open: usize,
    /// Parts that wait for an answer.
    busy: usize,
    /// Parts that have anything left to do.
    unfinished: usize,
    /// When the first part is to be woken, or a moment before that.
    wake_ms: Option<u64>,
    /// The results were handed over.
    is_told: bool,
}

#[derive(Debug)]
struct Part<C> {
    /// Gone once it has nothing left to do: what it holds is long, and others may take much longer.
    machine: Option<Box<C>>,
    /// It waits for an answer. One that has nothing left to do waits for none.
    is_busy: bool,
    is_finished: bool,
    /// The epoch of the view that it asked for and has not been shown yet; 0: none.
    wanted_epoch: u64,
}

impl<C: Coordinator> Part<C> {
    fn next_wake_ms(&self) -> Option<u64> {
        let machine = self.machine.as_ref().filter(|_| !self.is_finished);
        machine.and_then(|machine| machine.next_wake_ms())
    }
}

impl<C: Coordinator> Many<C> {
    /// These, at most [`PARTS_MAX`] and at least one: their results come in this order. They are
    /// boxed by whoever makes them, since they are large and handed on a few times.
    pub fn new(machines: impl IntoIterator<Item = Box<C>>) -> Self {
        let part = |machine| Part {
            machine: Some(machine),
            is_busy: false,
            is_finished: false,
            wanted_epoch: 0,
        };
        let parts: Vec<_> = machines.into_iter().map(part).collect();
        debug_assert!((1..=PARTS_MAX).contains(&parts.len()));
        Self {
            results: parts.iter().map(|_| None).collect(),
            open: parts.len(),
            busy: 0,
            unfinished: parts.len(),
            wake_ms: None,
            is_told: false,
            parts,
        }
    }

    /// Calls a part, and notes where it stands then.
    fn call(
        &mut self,
        number: usize,
        effects: &mut Effects<Vec<Result<C::Done>>>,
        call: impl FnOnce(&mut C) -> Effects<C::Done>,
    ) {
        let Some(part) = self.parts.get_mut(number) else {
            return;
        };
        let Some(machine) = &mut part.machine else {
            return;
        };
        for effect in call(machine) {
            match effect {
                Effect::Send(mut send) => {
                    send.attempt = of_part(send.attempt, number);
                    effects.push(Effect::Send(send));
                }
                Effect::Cancel(node, attempt) => {
                    effects.push(Effect::Cancel(node, of_part(attempt, number)));
                }
                Effect::NeedView(epoch) => {
                    part.wanted_epoch = part.wanted_epoch.max(epoch);
                    effects.push(Effect::NeedView(epoch));
                }
                Effect::Complete(result) => {
                    self.results[number] = Some(result);
                    self.open -= 1;
                }
            }
        }
        let (is_finished, is_idle) = (machine.is_finished(), machine.is_idle());
        let wake_ms = machine.next_wake_ms().filter(|_| !is_finished);
        if is_finished && is_idle {
            part.machine = None;
        }
        let is_busy = !is_finished && !is_idle;
        self.busy += usize::from(is_busy);
        self.busy -= usize::from(std::mem::replace(&mut part.is_busy, is_busy));
        self.unfinished += usize::from(std::mem::replace(&mut part.is_finished, is_finished));
        self.unfinished -= usize::from(is_finished);
        self.wake_ms = self.wake_ms.into_iter().chain(wake_ms).min();
        if self.unfinished == 0 {
            self.wake_ms = None;
        }
        if self.open == 0 && !std::mem::replace(&mut self.is_told, true) {
            let results = std::mem::take(&mut self.results).into_iter().flatten();
            effects.push(Effect::Complete(Ok(results.collect())));
        }
    }

    /// Calls each part of which this holds.
    fn call_each(
        &mut self,
        concerns: impl Fn(&Part<C>) -> bool,
        mut call: impl FnMut(&mut C) -> Effects<C::Done>,
    ) -> Effects<Vec<Result<C::Done>>> {
        let mut effects = Effects::new();
        for number in 0..self.parts.len() {
            if concerns(&self.parts[number]) {
                self.call(number, &mut effects, &mut call);
            }
        }
        effects
    }
}

fn of_part(attempt: Attempt, number: usize) -> Attempt {
    Attempt {
        // There are no more than it can name.
        part: number as u16,
        ..attempt
    }
}

/// A message of a part, as the part itself names it.
fn own(attempt: Attempt) -> (usize, Attempt) {
    let number = usize::from(attempt.part);
    (number, Attempt { part: 0, ..attempt })
}

impl<C: Coordinator> Coordinator for Many<C> {
    type Done = Vec<Result<C::Done>>;

    fn start(&mut self, core: &mut Core, now: Now) -> Effects<Self::Done> {
        self.call_each(|_| true, |part| part.start(core, now))
    }

    fn handle_response(
        &mut self,
        core: &mut Core,
        now: Now,
        (node, attempt): (NodeId, Attempt),
        epoch: Option<u64>,
        response: Response,
    ) -> Effects<Self::Done> {
        let mut effects = Effects::new();
        let (number, attempt) = own(attempt);
        self.call(number, &mut effects, |part| {
            part.handle_response(core, now, (node, attempt), epoch, response)
        });
        effects
    }

    /// Only for those that asked for one: the others go on as they are.
    fn handle_view(&mut self, core: &mut Core, now: Now, view: &Arc<View>) -> Effects<Self::Done> {
        let mut effects = Effects::new();
        for number in 0..self.parts.len() {
            let wanted_epoch = self.parts[number].wanted_epoch;
            if wanted_epoch == 0 {
                continue;
            }
            if wanted_epoch <= view.ordinal() {
                self.parts[number].wanted_epoch = 0;
            }
            self.call(number, &mut effects, |part| {
                part.handle_view(core, now, view)
            });
        }
        effects
    }

    fn handle_timer(&mut self, core: &mut Core, now: Now) -> Effects<Self::Done> {
        let due = |part: &Part<C>| part.next_wake_ms().is_some_and(|ms| ms <= now.mono_ms);
        let effects = self.call_each(due, |part| part.handle_timer(core, now));
        // What was noted before may be too early.
        self.wake_ms = self.parts.iter().filter_map(Part::next_wake_ms).min();
        effects
    }

    fn next_wake_ms(&self) -> Option<u64> {
        self.wake_ms
    }

    fn is_finished(&self) -> bool {
        self.unfinished == 0
    }

    fn is_idle(&self) -> bool {
        self.busy == 0
    }

    fn awaits(&self, node: NodeId, attempt: Attempt) -> bool {
        let (number, attempt) = own(attempt);
        let part = self.parts.get(number);
        let machine = part.and_then(|part| part.machine.as_ref());
        machine.is_some_and(|machine| machine.awaits(node, attempt))
    }

    fn hurry(&mut self, core: &mut Core, now: Now) -> Effects<Self::Done> {
        self.call_each(|part| !part.is_finished, |part| part.hurry(core, now))
    }

    fn cancel(&mut self) {
        let mut none = Effects::new();
        for number in 0..self.parts.len() {
            self.call(number, &mut none, |part| {
                part.cancel();
                Effects::new()
            });
        }
        self.wake_ms = None;
    }
}

#[cfg(test)]
mod tests;
