//! Who keeps a record for owners that could not be reached.
//!
//! The fallbacks of the key are asked one after the other, each for one owner while there are
//! others to ask, so that a record that no owner has lies on several machines. They are read off
//! the view a few at a time: mostly the first will do.

use crate::core::Attempt;
use crate::core::attempts::Owners;
use crate::core::client::{Core, Start};
use annulet_protocol::ids::NodeId;
use annulet_ring::owners::Nodes;
use smallvec::SmallVec;

/// Fallbacks that are read off the view at first; four times as many when they are used up.
const FIRST: usize = 8;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Holders {
    candidates: Vec<Candidate>,
    /// How many candidates were asked for; fewer than that: there are no more.
    wanted: usize,
    /// Owners for which a record is kept.
    covered: Nodes,
}

#[derive(Clone, Debug)]
struct Candidate {
    node: NodeId,
    state: CandidateState,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum CandidateState {
    /// Not asked yet.
    Fresh,
    /// Asked for this owner.
    Asked(Attempt, NodeId),
    /// Keeps the record.
    Holds,
    /// Does not.
    Failed,
}

impl Holders {
    /// Whether a record is kept for this owner, or somebody was asked to.
    pub(super) fn covers(&self, owner: NodeId) -> bool {
        let asked = |c: &Candidate| matches!(c.state, CandidateState::Asked(_, o) if o == owner);
        self.covered.contains(&owner) || self.candidates.iter().any(asked)
    }

    /// Whether a record is kept for this owner.
    pub(super) fn holds_for(&self, owner: NodeId) -> bool {
        self.covered.contains(&owner)
    }

    /// Whether anybody keeps the record.
    pub(super) fn any_holds(&self) -> bool {
        !self.covered.is_empty()
    }

    /// Whether an answer is outstanding.
    pub(super) fn any_asked(&self) -> bool {
        let asked = |c: &Candidate| matches!(c.state, CandidateState::Asked(..));
        self.candidates.iter().any(asked)
    }

    /// Whether this is the answer that somebody was asked for.
    pub(super) fn expects(&self, node: NodeId, attempt: Attempt) -> bool {
        let expects = |c: &Candidate| {
            c.node == node && matches!(c.state, CandidateState::Asked(a, _) if a == attempt)
        };
        self.candidates.iter().any(expects)
    }

    /// Whom to ask to keep the record for this owner. `None`: there is nobody left, or all who are
    /// left were asked for another owner and have not answered yet.
    pub(super) fn choose(
        &mut self,
        core: &Core,
        start: &Start,
        owners: &Owners,
        owner: NodeId,
    ) -> Option<NodeId> {
        loop {
            // One of the other owners will do if it has the record itself.
            let fit =
                |c: &&Candidate| c.node != owner && (!owners.has(c.node) || owners.is_done(c.node));
            let of = |state: CandidateState| {
                let mut usable = self.candidates.iter().filter(fit);
                usable.find(|c| c.state == state).map(|c| c.node)
            };
            if let Some(fresh) = of(CandidateState::Fresh) {
                return Some(fresh);
            }
            let holding = of(CandidateState::Holds);
            if !self.extend(core, start) {
                return holding;
            }
        }
    }

    /// Reads more candidates off the view. `false`: there are no more.
    fn extend(&mut self, core: &Core, start: &Start) -> bool {
        let known = self.candidates.len();
        if known < self.wanted {
            return false;
        }
        self.wanted = (self.wanted * 4).max(FIRST);
        let home = start.home.unwrap_or(0);
        let found = start
            .owners()
            .fallbacks(&start.view, start.hash, home, self.wanted);
        // Without those that did not answer lately, as long as there are others.
        let mut more: Vec<_> = found.into_iter().skip(known).collect();
        more.sort_by_key(|node| core.peers.is_away(*node));
        self.candidates
            .extend(more.into_iter().map(|node| Candidate {
                node,
                state: CandidateState::Fresh,
            }));
        self.candidates.len() > known
    }

    /// Notes that a holder was asked to keep the record for an owner.
    pub(super) fn asked(&mut self, holder: NodeId, attempt: Attempt, owner: NodeId) {
        self.set(holder, CandidateState::Asked(attempt, owner));
    }

    /// A holder keeps the record.
    pub(super) fn holds(&mut self, holder: NodeId) {
        let asked = self.candidates.iter().find(|c| c.node == holder);
        if let Some(CandidateState::Asked(_, owner)) = asked.map(|c| &c.state) {
            self.covered.push(*owner);
        }
        self.set(holder, CandidateState::Holds);
    }

    /// A holder does not keep the record.
    pub(super) fn failed(&mut self, holder: NodeId) {
        self.set(holder, CandidateState::Failed);
    }

    fn set(&mut self, node: NodeId, state: CandidateState) {
        if let Some(candidate) = self.candidates.iter_mut().find(|c| c.node == node) {
            candidate.state = state;
        }
    }
}

/// Owners that a record is to be kept for.
pub(super) type Missing = SmallVec<[NodeId; 3]>;
