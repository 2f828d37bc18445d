//! Recoveries, and servers that return.

use super::records::{RECOVERED, Standing, Taking};
use super::state::{Course, Life, Recovery, State};
use super::steps::{Step, Steps};
use super::{Broken, Search, has};

/// Highest generation that is tried.
const GENERATION_MAX: u8 = 3;

impl Search<'_> {
    /// Whether a record is one that a recovery writes.
    pub(super) fn is_written(&self, record: u8) -> bool {
        record >= RECOVERED
    }

    pub(super) fn recover(&self, state: &State, recovery: usize, out: &mut Steps) {
        let running = &state.recoveries[recovery];
        // Those that are alike begin one after the other.
        let waits = recovery > 0 && state.recoveries[recovery - 1].generation == 0;
        if running.course != Course::Asking || state.deaths == 0 || waits {
            return;
        }
        let up = self.up(state);
        for node in (0..self.nodes).filter(|node| has(up & !running.asked, *node)) {
            if let Some(after) = self.ask(state, recovery, node) {
                out.push((Step::Ask(recovery as u8, node as u8), after));
            }
        }
        let full = up & !running.asked == 0;
        if running.asked != 0 && (full || self.scenario.partial) {
            let mut after = *state;
            let written = &mut after.recoveries[recovery];
            written.course = Course::Written;
            (written.full, written.keepers) = (full, keepers(running.asked));
            out.push((Step::Write(recovery as u8), after));
        }
    }

    /// A server is sealed and answers.
    fn ask(&self, state: &State, recovery: usize, node: usize) -> Option<State> {
        let mut after = *state;
        let (here, running) = (&mut after.nodes[node], &mut after.recoveries[recovery]);
        let of_record = self.generation(state, here.newest);
        let heard = match self.breaks(Broken::GenerationReused) {
            true => of_record,
            false => of_record.max(here.sealed),
        };
        if running.asked == 0 {
            running.generation = running.generation.max(1 + heard);
        }
        if heard >= running.generation {
            if !self.breaks(Broken::NotAskedAgain) {
                *running = Recovery {
                    generation: 1 + heard,
                    ..Recovery::default()
                };
                return (running.generation <= GENERATION_MAX).then_some(after);
            }
            running.generation = 1 + heard;
        }
        if running.generation > GENERATION_MAX {
            return None;
        }
        if !self.breaks(Broken::Unsealed) {
            here.sealed = here.sealed.max(running.generation);
        }
        let first = running.asked == 0;
        running.asked |= 1 << node;
        let standing = match first {
            true => Standing::GoesOn,
            false => self.standing(state, running.newest, here.newest),
        };
        match standing {
            Standing::Fork => {
                running.course = Course::Shown;
                return Some(after);
            }
            Standing::GoesOn => {
                running.newest = here.newest;
                (running.ballot, running.value) = (0, 0);
            }
            Standing::Known => {}
        }
        if here.newest == running.newest && here.accepted > running.ballot {
            (running.ballot, running.value) = (here.accepted, here.value);
        }
        Some(after)
    }

    /// A server that was dead is back, with its disk. If there was a recovery it asks somebody who
    /// holds the newest.
    pub(super) fn come_back(&self, state: &State, node: usize, out: &mut Steps) {
        if !self.scenario.returns {
            return;
        }
        let written = self.records(state).filter(|record| *record >= RECOVERED);
        let newest = written.max_by_key(|record| self.generation(state, *record));
        let Some(newest) = newest else {
            let mut after = *state;
            after.nodes[node].life = Life::Up;
            out.push((Step::Return(node as u8, None), after));
            return;
        };
        let told_by = self.up(state) & self.holders(state, newest);
        for by in (0..self.nodes).filter(|by| has(told_by, *by)) {
            let mut after = *state;
            let record = state.nodes[by].newest;
            if self.take(&mut after, node, record, Taking::Returning) {
                after.nodes[node].life = Life::Up;
            }
            if after.nodes[node].life != Life::Dead {
                out.push((Step::Return(node as u8, Some(by as u8)), after));
            }
        }
    }
}

/// The keepers of a recovered record: three of those that answered, or one.
fn keepers(asked: u8) -> u8 {
    let count = if asked.count_ones() < 3 { 1 } else { 3 };
    let nodes = (0..u8::BITS as usize).filter(|node| has(asked, *node));
    nodes.take(count).fold(0, |set, node| set | 1 << node)
}
