//! The rules that hold in every state.

use super::records::{RECOVERED, Standing};
use super::state::{Life, Phase, State};
use super::steps::own_record;
use super::{Broken, Search, has, is_majority};

const TWO_DECIDED: &str = "two records were decided to follow one epoch";
const UNDECIDED: &str = "a server holds a record that was not decided";
const TOO_FEW: &str = "a server acts under an epoch that too few of its keepers hold";
const STUCK: &str = "a majority of the keepers is alive, and nothing can be decided";
const APART: &str = "two servers go on with different chains";

impl Search<'_> {
    /// The rule that does not hold.
    pub(super) fn broken_rule(&self, state: &State) -> Option<&'static str> {
        let recovers = self.scenario.recoveries > 0;
        // What follows from acting early is to be seen, and not only that it is done.
        let early = self.breaks(Broken::ActedEarly) && self.scenario.deaths > 0;
        if state.broken.is_some() {
            return state.broken;
        }
        if self.has_two_decided(state) {
            return Some(TWO_DECIDED);
        }
        if !recovers && !self.is_all_decided(state) {
            return Some(UNDECIDED);
        }
        if !early && self.acts_early(state) {
            return Some(TOO_FEW);
        }
        if !recovers && !self.may_go_on(state, self.newest(state)?) {
            return Some(STUCK);
        }
        if recovers && self.all_asked(state) && self.is_apart(state) {
            return Some(APART);
        }
        None
    }

    /// Whether a state shows that the scenario can be brought to its end.
    pub(super) fn is_completed(&self, state: &State) -> bool {
        let mut nodes = state.nodes[..self.nodes].iter();
        if self.scenario.recoveries == 0 {
            return nodes.any(|node| self.number(state, node.acts) == self.last);
        }
        let mut up = nodes.filter(|node| node.life == Life::Up).peekable();
        up.peek().is_some() && up.all(|node| node.acts >= RECOVERED)
    }

    fn has_two_decided(&self, state: &State) -> bool {
        let decided = (1..RECOVERED).filter(|record| has(state.decided, (*record).into()));
        let mut bases = decided.map(|record| self.before(state, record));
        let mut seen = 0u16;
        bases.any(|base| {
            let before = seen;
            seen |= 1 << base;
            seen == before
        })
    }

    fn is_all_decided(&self, state: &State) -> bool {
        let held = state.nodes[..self.nodes].iter().map(|node| node.newest);
        let mut held = held.filter(|record| *record > 0);
        held.all(|record| has(state.decided, record.into()))
    }

    fn acts_early(&self, state: &State) -> bool {
        let mut nodes = state.nodes[..self.nodes].iter();
        nodes.any(|node| !self.decides(state, node.acts, self.holders(state, node.acts)))
    }

    fn is_apart(&self, state: &State) -> bool {
        let up = self.up(state);
        let nodes = (0..self.nodes).filter(|node| has(up, *node));
        let mut newest: Vec<_> = nodes.map(|node| state.nodes[node].newest).collect();
        newest.sort_unstable();
        newest.dedup();
        let apart = |one: u8, other: u8| self.standing(state, one, other) == Standing::Fork;
        (1..newest.len()).any(|at| newest[..at].iter().any(|one| apart(*one, newest[at])))
    }

    /// The newest record that a server which is up holds.
    fn newest(&self, state: &State) -> Option<u8> {
        let up = self.up(state);
        let nodes = (0..self.nodes).filter(|node| has(up, *node));
        let newest = nodes.map(|node| state.nodes[node].newest);
        newest.max_by_key(|record| self.number(state, *record))
    }

    /// Whether another record can be decided after the newest that is held, whatever has to be
    /// finished before: some majority of its keepers is up, and what is the newest among its votes
    /// can be gone on from, too.
    fn may_go_on(&self, state: &State, newest: u8) -> bool {
        let keepers = self.keepers(state, newest);
        let live = keepers & self.up(state);
        // Every set of servers that are up.
        let mut sets = (0..=live).filter(|set| set & !live == 0);
        sets.any(|set| {
            if !is_majority(keepers, set) {
                return false;
            }
            let votes = state.nodes.iter().enumerate();
            let votes = votes.filter(|(at, node)| has(set, *at) && node.newest == newest);
            let votes = votes.map(|(_, node)| (node.accepted, node.value));
            match votes.max() {
                None | Some((0, _)) => true,
                Some((_, accepted)) => self.may_go_on(state, accepted),
            }
        })
    }

    /// Whether those are up that have to be, so that another epoch can be decided: a majority of
    /// the keepers of the newest that anybody acts under, and of each that is proposed beyond it.
    pub(super) fn enough_live(&self, state: &State) -> bool {
        let up = self.up(state);
        let enough = |record| is_majority(self.keepers(state, record), up);
        let acts = state.nodes.iter().map(|node| node.acts);
        let acts = acts.max_by_key(|record| self.number(state, *record));
        let acts = acts.unwrap_or(0);
        let proposed = (0..self.scenario.proposals.len())
            .filter(|proposal| state.proposals[*proposal].phase != Phase::Waiting)
            .map(own_record);
        let beyond = |record: &u8| self.number(state, *record) > self.number(state, acts);
        enough(acts) && proposed.filter(beyond).all(enough)
    }
}
