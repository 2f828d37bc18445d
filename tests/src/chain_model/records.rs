//! The records: what each follows, and how a server stands to one.

use super::state::{Course, Life, PROPOSALS_MAX, State};
use super::{Broken, Search, is_majority};
use annulet_protocol::epoch::Point;
use annulet_protocol::ids::EpochHash;
use annulet_ring::chain::{self, Relation};

/// The record of the first recovery; those before are the first epoch and what is proposed.
pub(super) const RECOVERED: u8 = PROPOSALS_MAX as u8 + 1;

pub(super) const LEFT_SILENTLY: &str = "a server left an epoch that it acted under";
pub(super) const UNDONE: &str = "a server that was alive holds what a recovery undid";

/// A record that was there from the start, or is proposed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) before: u8,
    pub(super) number: u8,
    pub(super) keepers: u8,
}

/// How a record stands to the newest one that a server holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// The server's chain holds it.
    Known,
    /// Its chain holds what the server has.
    GoesOn,
    Fork,
}

/// How a server comes to a record.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Taking {
    /// It is offered to a server that is up.
    Offered,
    /// It is what a server that returns is told.
    Returning,
}

impl Record {
    /// The first epoch.
    pub(super) fn first(keepers: u8) -> Self {
        Self {
            before: 0,
            number: 0,
            keepers,
        }
    }

    /// One that follows this one, which has this place.
    pub(super) fn followed_by(self, before: u8, keepers: u8) -> Self {
        Self {
            before,
            number: self.number + 1,
            keepers,
        }
    }
}

impl Search<'_> {
    /// All records: the first epoch, what is proposed, what recoveries have written.
    pub(super) fn records<'s>(&self, state: &'s State) -> impl Iterator<Item = u8> + use<'s> {
        let written = (RECOVERED..).zip(&state.recoveries);
        let written = written.filter(|(_, recovery)| recovery.course == Course::Written);
        (0..self.scenario.records.len() as u8).chain(written.map(|(record, _)| record))
    }

    /// The record that this one follows.
    pub(super) fn before(&self, state: &State, record: u8) -> u8 {
        match record.checked_sub(RECOVERED) {
            Some(recovery) => {
                let recovery = &state.recoveries[usize::from(recovery)];
                match recovery.value {
                    0 => recovery.newest,
                    accepted => accepted,
                }
            }
            None => self.scenario.records[usize::from(record)].before,
        }
    }

    pub(super) fn keepers(&self, state: &State, record: u8) -> u8 {
        match record.checked_sub(RECOVERED) {
            Some(recovery) => state.recoveries[usize::from(recovery)].keepers,
            None => self.scenario.records[usize::from(record)].keepers,
        }
    }

    pub(super) fn generation(&self, state: &State, record: u8) -> u8 {
        match record.checked_sub(RECOVERED) {
            Some(recovery) => state.recoveries[usize::from(recovery)].generation,
            None => 0,
        }
    }

    pub(super) fn number(&self, state: &State, record: u8) -> u8 {
        match record < RECOVERED {
            true => self.scenario.records[usize::from(record)].number,
            false => 1 + self.number(state, self.before(state, record)),
        }
    }

    fn point(&self, state: &State, record: u8) -> Point {
        Point {
            generation: self.generation(state, record).into(),
            number: self.number(state, record).into(),
            hash: hash(record),
        }
    }

    /// How a record stands to another one, which a server holds as its newest.
    pub(super) fn standing(&self, state: &State, newest: u8, record: u8) -> Standing {
        let relation = |ours, theirs| {
            let [here, there] = [ours, theirs].map(|record| self.point(state, record));
            chain::relation(here, 0, there, |number| {
                let mut at = ours;
                while u64::from(self.number(state, at)) > number {
                    at = self.before(state, at);
                }
                Some(hash(at))
            })
        };
        if let Relation::Same | Relation::Behind = relation(newest, record) {
            return Standing::Known;
        }
        match relation(record, newest) {
            Relation::Same | Relation::Behind => Standing::GoesOn,
            Relation::Ahead | Relation::Fork | Relation::Abandoned => Standing::Fork,
        }
    }

    /// Whether the chain that ends with one record holds another one.
    pub(super) fn holds(&self, state: &State, newest: u8, record: u8) -> bool {
        let number = self.number(state, record);
        let mut at = newest;
        while self.number(state, at) > number {
            at = self.before(state, at);
        }
        at == record
    }

    /// The servers that hold a record, or held it as long as they had a disk.
    pub(super) fn holders(&self, state: &State, record: u8) -> u8 {
        state.nodes_that(|node| self.holds(state, node.newest, record))
    }

    /// The servers that are up.
    pub(super) fn up(&self, state: &State) -> u8 {
        let all = (1 << self.nodes) - 1;
        all & state.nodes_that(|node| node.life == Life::Up)
    }

    /// Whether so many count as a majority of the keepers of a record.
    pub(super) fn decides(&self, state: &State, record: u8, set: u8) -> bool {
        let keepers = self.keepers(state, record);
        let one = self.breaks(Broken::OneDecides) && set & keepers != 0;
        one || is_majority(keepers, set)
    }

    /// A server is offered a record with all before it. Says whether it holds it then.
    pub(super) fn take(&self, state: &mut State, node: usize, record: u8, how: Taking) -> bool {
        let here = state.nodes[node];
        let generation = self.generation(state, record);
        let standing = self.standing(state, here.newest, record);
        if standing == Standing::Known {
            return true;
        }
        if here.sealed > generation && !self.breaks(Broken::VotesSealed) {
            return false;
        }
        let order = |record| (self.generation(state, record), self.number(state, record));
        let higher = order(record) > order(here.newest);
        let passes = self.breaks(Broken::NumbersCompared) && higher;
        if standing == Standing::Fork && !passes {
            if generation < self.generation(state, here.newest) {
                return false;
            }
            if how == Taking::Offered && self.all_asked(state) {
                state.broken = Some(UNDONE);
            }
            state.nodes[node].life = Life::Stopped;
            return false;
        }
        if !self.holds(state, record, here.acts) {
            state.broken = Some(LEFT_SILENTLY);
        }
        let before = self.before(state, record);
        let at = &mut state.nodes[node];
        at.newest = record;
        (at.promised, at.accepted, at.value) = (0, 0, 0);
        if record < RECOVERED {
            // It was proposed by somebody who acted under the one before.
            at.acts = before;
        }
        true
    }

    /// Whether every recovery has asked all that were alive.
    pub(super) fn all_asked(&self, state: &State) -> bool {
        let mut written = state.recoveries.iter();
        written.all(|recovery| recovery.course != Course::Written || recovery.full)
    }
}

fn hash(record: u8) -> EpochHash {
    EpochHash([record; 16])
}
