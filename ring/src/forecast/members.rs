//! Who would be there.

use super::{ForecastError, Holder, Newcomer, RingChange};
use crate::planner::Candidate;
use annulet_protocol::ids::NodeId;
use annulet_protocol::view::{Member, View};
use std::collections::BTreeSet;

/// The members in the order of the view, then those that are to come: the planner names them by
/// their places.
#[derive(Debug)]
pub(super) struct Candidates(pub(super) Vec<Standing>);

/// One of them.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) holder: Holder,
    pub(super) capacity_before: Option<u32>,
    pub(super) zone_before: String,
    /// As it would be.
    pub(super) then: Candidate,
    pub(super) stays: bool,
}

impl Candidates {
    /// Those of a view after these changes.
    pub(super) fn after(view: &View, changes: &[RingChange]) -> Result<Self, ForecastError> {
        let mut standings: Vec<_> = view.members.iter().map(Standing::of).collect();
        let mut said = BTreeSet::new();
        let mut newcomers = 0;
        for change in changes {
            let (id, what) = match change {
                RingChange::Join(newcomer) => {
                    standings.push(Standing::to_come(newcomers, newcomer));
                    newcomers += 1;
                    continue;
                }
                RingChange::Leave(id) => (*id, Said::Leaves),
                RingChange::Capacity(id, _) => (*id, Said::Capacity),
                RingChange::Zone(id, _) => (*id, Said::Zone),
            };
            let leaves = what == Said::Leaves;
            let other = [Said::Capacity, Said::Zone].map(|what| said.contains(&(id, what)));
            let contradicts =
                leaves && other.contains(&true) || !leaves && said.contains(&(id, Said::Leaves));
            if !said.insert((id, what)) || contradicts {
                return Err(ForecastError::Contradiction(id));
            }
            let at = view.members.binary_search_by_key(&id, |member| member.id);
            let standing = at.ok().and_then(|at| standings.get_mut(at));
            standing.ok_or(ForecastError::NoMember(id))?.change(change);
        }
        let idle = |one: &Standing| one.stays && one.then.capacity == 0;
        match standings.iter().any(idle) {
            true => Err(ForecastError::NoCapacity),
            false => Ok(Self(standings)),
        }
    }

    /// How many are to own something.
    pub(super) fn staying(&self) -> usize {
        self.0.iter().filter(|one| one.stays).count()
    }

    /// As the planner wants them: who leaves is nobody.
    pub(super) fn to_plan(&self) -> Vec<Option<Candidate>> {
        let then = |one: &Standing| one.stays.then(|| one.then.clone());
        self.0.iter().map(then).collect()
    }
}

/// What a change says of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Said {
    Leaves,
    Capacity,
    Zone,
}

impl Standing {
    /// A member as it is. One that joins owns its share as soon as it holds the view.
    fn of(member: &Member) -> Self {
        Self {
            holder: Holder::Member(member.id),
            capacity_before: Some(member.capacity),
            zone_before: member.zone.clone(),
            then: Candidate {
                capacity: member.capacity,
                zone: member.zone.clone(),
                region: member.region.clone(),
            },
            stays: !member.state.is_to_go(),
        }
    }

    fn to_come(number: usize, newcomer: &Newcomer) -> Self {
        let Newcomer {
            capacity,
            zone,
            region,
        } = newcomer;
        Self {
            holder: Holder::Newcomer(number),
            capacity_before: None,
            zone_before: zone.clone(),
            then: Candidate {
                capacity: *capacity,
                zone: zone.clone(),
                region: region.clone(),
            },
            stays: true,
        }
    }

    fn change(&mut self, change: &RingChange) {
        match change {
            RingChange::Leave(_) => self.stays = false,
            RingChange::Capacity(_, capacity) => self.then.capacity = *capacity,
            RingChange::Zone(_, zone) => self.then.zone.clone_from(zone),
            RingChange::Join(_) => {}
        }
    }

    /// The id, if it is a member.
    pub(super) fn id(&self) -> Option<NodeId> {
        match self.holder {
            Holder::Member(id) => Some(id),
            Holder::Newcomer(_) => None,
        }
    }
}
