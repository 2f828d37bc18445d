//! What would move if members were changed, before anything does.
//!
//! It is what the servers would come to by themselves (see [`course`]): the table is planned anew
//! for the members as they would be, and compared with the lists as they are. The servers plan
//! again and again while they move, so the way there may take some copies more.
//!
//! # Layout
//! - this file: what is asked and what is told; `members`: who would be there
//! - `tally`: what differs between two tables

mod members;
mod tally;
#[cfg(test)]
mod tests;

use crate::chain::course;
use crate::planner::{self, PlanError, Wish};
use annulet_protocol::ids::NodeId;
use annulet_protocol::view::View;
use members::Candidates;
use std::collections::BTreeMap;
use tally::Tally;

/// A change of the members that somebody thinks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RingChange {
    /// The member is to own nothing any more.
    Leave(NodeId),
    /// The member is to have this capacity, at least 1.
    Capacity(NodeId, u32),
    /// The member is to be in this zone.
    Zone(NodeId, String),
    /// A server is to come.
    Join(Newcomer),
}

/// A server that is to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newcomer {
    /// Its share of the data, relative to the others', at least 1.
    pub capacity: u32,
    /// What fails together with it.
    pub zone: String,
    /// Its region.
    pub region: String,
}

/// Who holds copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// A member.
    Member(NodeId),
    /// A server to come: which one of those that were named, from 0.
    Newcomer(usize),
}

/// What would move.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Forecast {
    /// The epoch that it sets out from.
    pub epoch: u64,
    /// Partitions that the ring is cut into now.
    pub partitions_before: u32,
    /// The same when everything is done: more servers make it more.
    pub partitions: u32,
    /// Partitions that are on the move already.
    pub under_way: usize,
    /// Copies of partitions when everything is done: one for each place in each list.
    pub replicas: u64,
    /// Copies that somebody must fetch who does not hold them.
    pub moving: u64,
    /// About how many bytes that is; `None`: no server says how much it holds.
    pub moving_bytes: Option<u64>,
    /// Copies that go and that nobody gets: lists become shorter.
    pub dropped: u64,
    /// Lists in which only the order changes: who comes first is asked first, and owns what is in
    /// buckets of fewer replicas.
    pub reordered: u64,
    /// What moves, from where and to where.
    pub transfers: Vec<Transfer>,
    /// Every member, those that would come among them.
    pub members: Vec<MemberForecast>,
    /// Whose capacity would be idle in part, and why.
    pub idle: Vec<Idle>,
    /// How zones are kept apart, region by region.
    pub zones: Vec<RegionZones>,
}

/// Copies of partitions that go from one to another.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Transfer {
    /// Whose place in the lists is taken; `None`: the lists become longer. The copies come from all
    /// who hold them.
    pub from: Option<Holder>,
    /// Who gets them.
    pub to: Holder,
    /// How many.
    pub replicas: u64,
    /// About how many bytes that is, if the servers say how much they hold.
    pub bytes: Option<u64>,
}

/// A member before and after.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MemberForecast {
    /// Who.
    pub holder: Holder,
    /// Its capacity now; `None`: it is to come.
    pub capacity_before: Option<u32>,
    /// Its capacity then; `None`: it is to leave.
    pub capacity: Option<u32>,
    /// Its zone then, or now if it is to leave.
    pub zone: String,
    /// Its region.
    pub region: String,
    /// Copies that it holds now, of [`Forecast::partitions`].
    pub replicas_before: u64,
    /// Copies that it holds then.
    pub replicas: u64,
    /// The part of its region's data that it holds now, 0 to 1.
    pub share_before: f64,
    /// The part of its region's data that it holds then.
    pub share: f64,
}

/// Capacity that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Idle {
    /// Whose.
    pub holder: Holder,
    /// The part of its capacity that is idle when all others are full, in parts per million.
    pub ppm: u32,
    /// Why.
    pub cause: IdleCause,
}

/// Why capacity cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleCause {
    /// It stands in every list already, and a list names a server once.
    InEveryList,
    /// Its zone stands in every list as often as it may: copies are kept in different zones.
    ZoneInEveryList,
}

/// How the zones of a region are kept apart.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegionZones {
    /// The region.
    pub region: String,
    /// Its zones then.
    pub zones: usize,
    /// Owners in each list then.
    pub owners: usize,
    /// Lists that name a zone twice now.
    pub shared_before: u64,
    /// The same then; 0: every copy is in another zone.
    pub shared: u64,
}

/// Why nothing can be said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForecastError {
    /// There is no such member.
    #[error("there is no member {0}")]
    NoMember(NodeId),
    /// Two of the changes say different things of one member.
    #[error("two changes of member {0} contradict each other")]
    Contradiction(NodeId),
    /// A capacity is 0.
    #[error("a capacity is at least 1; a server that should own nothing leaves")]
    NoCapacity,
    /// Nobody would be left.
    #[error("nobody would be left to own anything")]
    NobodyLeft,
    /// There is no table for such members.
    #[error(transparent)]
    Plan(PlanError),
}

impl From<PlanError> for ForecastError {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::NoCandidates => Self::NobodyLeft,
            PlanError::NoCapacity(_) => Self::NoCapacity,
            error => Self::Plan(error),
        }
    }
}

impl Forecast {
    /// What would move after these changes; without any, what is still to move now. `stored`: the
    /// bytes that members say they hold.
    ///
    /// # Errors
    /// [`ForecastError`].
    pub fn of(
        view: &View,
        changes: &[RingChange],
        stored: &BTreeMap<NodeId, u64>,
    ) -> Result<Self, ForecastError> {
        let candidates = Candidates::after(view, changes)?;
        let length = course::list_length(view);
        let wish = Wish {
            partitions: planner::partitions_for(candidates.staying(), length)
                .max(view.table.partitions),
            list_length: length,
        };
        let present: Vec<_> = view.table.regions.iter().map(course::present).collect();
        let under_way: Vec<_> = view.table.joint.iter().map(course::under_way).collect();
        let then = present.iter().map(|lists| lists.after(&under_way));
        let then: Vec<_> = then.collect();
        let wanted = planner::rebalance(&then, &candidates.to_plan(), &wish)?;
        let tally = Tally::of(&candidates, stored, &present, &wanted, wish.partitions);
        Ok(Self {
            epoch: view.epoch,
            partitions_before: view.table.partitions,
            partitions: wish.partitions,
            under_way: under_way.len(),
            replicas: wanted.iter().map(|plan| plan.owners.len() as u64).sum(),
            moving: tally.moving,
            moving_bytes: tally.moving_bytes(),
            dropped: tally.dropped,
            reordered: tally.reordered,
            transfers: tally.transfers(&candidates),
            members: tally.members(&candidates),
            idle: tally.idle(&candidates, &wanted, wish.partitions),
            zones: tally.zones(&candidates, &wanted),
        })
    }

    /// Whether nothing moves, and nothing is to move.
    #[must_use]
    pub fn is_still(&self) -> bool {
        self.under_way == 0
            && self.partitions == self.partitions_before
            && self.moving + self.dropped + self.reordered == 0
    }
}
