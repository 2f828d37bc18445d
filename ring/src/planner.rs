//! The planner: from the members and a wish to a balanced partition table.
//!
//! Everything here is a pure function: the same input gives the same table on every server and
//! every platform (integers only, ordered maps, fixed seeds). [`build`] makes the **first** table,
//! from nothing; [`rebalance()`] the one that follows another, moving as little as can be; and
//! [`moves`] says which lists change first on the way there.
//!
//! A region is built in four steps. The first three keep their promises by construction, not by
//! search; the last improves what is left free.
//!
//! 1. `quota`: how many partition replicas each node holds. Water-filling by capacity under two
//!    caps, a node at most once per list and a zone at most [`zone_limit`] times; then largest
//!    remainders.
//! 2. `positions`: how often each node stands at each position of the lists, so that every prefix
//!    of the lists is balanced. This is a proportionate-fair schedule.
//! 3. `spread`: which partition gets which of these slots, so that no list holds a node twice or a
//!    zone too often. This is an edge colouring of a bipartite graph, found by Euler splits, with
//!    seeded choices that make copysets wide.
//! 4. `prefix_zones`: only where a list is longer than there are zones: swaps that also spread
//!    short prefixes over zones.

use std::collections::BTreeMap;
use std::ops::Range;

use thiserror::Error;

mod positions;
mod prefix_zones;
mod quota;
mod rebalance;
mod spread;
mod steps;

pub use rebalance::{Present, rebalance};
pub use steps::{Limits, Move, Standing, moves};

/// The most partitions a table may have.
pub const MAX_PARTITIONS: u32 = 1 << 20;
/// The most owners a list may have, per region.
pub const MAX_LIST_LENGTH: usize = 7;
/// The most candidates of one build; it also keeps every sum of capacities within 64 bits.
pub const MAX_CANDIDATES: usize = 1 << 20;

/// Partitions of the smallest cluster.
const LEAST_PARTITIONS: u32 = 256;
/// Partition replicas that a node should hold on average, or more: with so many, rounding costs two
/// or three in a hundred.
const REPLICAS_PER_NODE: usize = 32;
/// No node: a place in a list that is empty, or to be filled.
const NONE: u32 = u32::MAX;

/// Into how many partitions a cluster of so many members should be cut: a power of two. They are
/// never joined again, so that a smaller cluster keeps what it has.
#[must_use]
pub fn partitions_for(members: usize, list_length: usize) -> u32 {
    let least = members
        .saturating_mul(REPLICAS_PER_NODE)
        .div_ceil(list_length.max(1));
    let least = u32::try_from(least)
        .unwrap_or(MAX_PARTITIONS)
        .min(MAX_PARTITIONS);
    least.next_power_of_two().max(LEAST_PARTITIONS)
}

/// What the planner knows of a member. Its index in the slice given to [`build`] is its member
/// index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Relative capacity, at least 1; twice the capacity is given twice the partition replicas.
    pub capacity: u32,
    /// The failure domain inside the region. Equal names in two regions are two zones.
    pub zone: String,
    /// The region; each region has its own list for every partition.
    pub region: String,
}

/// The table asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Number of partitions: a power of two, 1 to [`MAX_PARTITIONS`].
    pub partitions: u32,
    /// Owners per partition and region, 1 to [`MAX_LIST_LENGTH`]. A region with fewer nodes has
    /// shorter lists.
    pub list_length: usize,
}

/// The owner lists of one region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionPlan {
    /// Name of the region.
    pub region: String,
    /// Owners per list: the wished length, or the number of nodes in the region if that is less.
    pub length: usize,
    /// One list per partition: `owners[p * length + i]` is the member index of owner `i` of
    /// partition `p`.
    pub owners: Vec<u32>,
    /// The members whose capacity the constraints leave partly idle, in member order.
    pub unused: Vec<Unused>,
}

impl RegionPlan {
    /// The owners of one partition, in order.
    ///
    /// # Panics
    /// If `partition` is not below the number of partitions that the plan was built for.
    #[must_use]
    pub fn list(&self, partition: u32) -> &[u32] {
        let start = partition as usize * self.length;
        &self.owners[start..start + self.length]
    }
}

/// Capacity that can't be used, because a list holds a node only once and a zone only so often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unused {
    /// Member index.
    pub member: u32,
    /// Partition replicas that the member would hold if the whole region were shared by capacity
    /// alone, less those it holds. Zero if it holds at least that share, which it may although some
    /// of its capacity stays idle.
    pub replicas: u32,
    /// The part of its capacity, in parts per million, that is idle when the unconstrained members
    /// are full.
    pub idle_ppm: u32,
}

/// Why no table can be built. Nothing was changed: the planner keeps no state.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    /// There is nobody to own a partition.
    #[error("no candidates to build a table from")]
    NoCandidates,
    /// More candidates than [`MAX_CANDIDATES`].
    #[error("{0} candidates are more than {MAX_CANDIDATES}")]
    TooManyCandidates(usize),
    /// A member has no capacity; one that should hold nothing is not a candidate.
    #[error("member {0} has capacity 0")]
    NoCapacity(usize),
    /// The number of partitions is no power of two, or is beyond [`MAX_PARTITIONS`].
    #[error("{0} partitions are not a power of two from 1 to {MAX_PARTITIONS}")]
    Partitions(u32),
    /// The list length is 0 or beyond [`MAX_LIST_LENGTH`].
    #[error("list length {0} is not from 1 to {MAX_LIST_LENGTH}")]
    ListLength(usize),
}

/// Builds a table from nothing: one plan per region, in the order of the regions' names.
///
/// In every region, with `length` owners per list:
/// - no list names a node twice, and none names a zone more often than [`zone_limit`] says: once,
///   where there are at least `length` zones;
/// - each node holds its quota: the water-filled share by capacity, rounded up or down;
/// - in each prefix of `k` owners, each node stands `quota * k / length` times, rounded up or down;
/// - with at least as many zones as owners, each aligned range of `partitions / 2^j` holds `quota /
///   2^j` replicas of each node, rounded up or down: load that is hot in one part of the ring meets
///   all nodes.
///
/// Cost: O(partitions * length * log(partitions)) time and a few words of memory per owner.
///
/// # Errors
/// See [`PlanError`]; every combination of valid candidates and a valid wish has a table.
pub fn build(candidates: &[Candidate], wish: &Wish) -> Result<Vec<RegionPlan>, PlanError> {
    check(candidates.iter(), wish)?;
    let plans = regions_of((0u32..).zip(candidates))
        .into_iter()
        .map(|(name, zones)| build_region(name, zones.into_values(), wish));
    Ok(plans.collect())
}

/// Nodes by region and zone, by their names.
type Regions<'a> = BTreeMap<&'a str, BTreeMap<&'a str, Vec<Node>>>;

fn regions_of<'a>(candidates: impl IntoIterator<Item = (u32, &'a Candidate)>) -> Regions<'a> {
    let mut regions = Regions::new();
    for (member, candidate) in candidates {
        let zones = regions.entry(candidate.region.as_str()).or_default();
        let zone = zones.entry(candidate.zone.as_str()).or_default();
        zone.push(Node {
            member,
            capacity: candidate.capacity,
        });
    }
    regions
}

/// The most owners that one list may take from one zone: the smallest number with which lists of
/// `length` owners exist.
///
/// `zone_sizes` are the numbers of nodes in each zone of the region. This is `ceil(length /
/// zones)`, which is 1 where there are at least `length` zones; more only where some zones have too
/// few nodes to give their part. `length` is at most the number of nodes.
#[must_use]
pub fn zone_limit(zone_sizes: &[usize], length: usize) -> usize {
    let room = |limit: usize| {
        zone_sizes
            .iter()
            .map(|&size| size.min(limit))
            .sum::<usize>()
    };
    (1..length)
        .find(|&limit| room(limit) >= length)
        .unwrap_or(length)
}

/// A node of the region that is being built; its place in the region's node list is what the steps
/// number it by.
#[derive(Debug, Clone, Copy)]
struct Node {
    member: u32,
    capacity: u32,
}

/// The nodes of a region, zone by zone in the order of the zones' names, and what is asked of them.
#[derive(Debug)]
struct Region {
    nodes: Vec<Node>,
    /// The range of `nodes` in each zone.
    zones: Vec<Range<usize>>,
    partitions: u32,
    /// Owners per list, at most the number of nodes.
    length: usize,
    /// See [`zone_limit`].
    zone_limit: usize,
}

impl Region {
    /// The nodes of these zones, and what the wish asks of them.
    fn new(zones_by_name: impl Iterator<Item = Vec<Node>>, wish: &Wish) -> Self {
        let mut nodes = Vec::new();
        let mut zones = Vec::new();
        for zone in zones_by_name {
            let start = nodes.len();
            nodes.extend(zone);
            zones.push(start..nodes.len());
        }
        let length = wish.list_length.min(nodes.len());
        let sizes: Vec<usize> = zones.iter().map(ExactSizeIterator::len).collect();
        let zone_limit = zone_limit(&sizes, length);
        Self {
            nodes,
            zones,
            partitions: wish.partitions,
            length,
            zone_limit,
        }
    }

    /// The zone of each node.
    fn zone_of_nodes(&self) -> Vec<u32> {
        (0u32..)
            .zip(&self.zones)
            .flat_map(|(zone, nodes)| nodes.clone().map(move |_| zone))
            .collect()
    }

    /// All nodes, the first of each zone before the second of any: ties decided in this order
    /// favour no zone.
    fn zones_in_turn(&self) -> Vec<usize> {
        let mut order: Vec<(usize, usize)> = self
            .zones
            .iter()
            .flat_map(|nodes| nodes.clone().map(|node| (node - nodes.start, node)))
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(_, node)| node).collect()
    }
}

fn check<'a>(
    candidates: impl ExactSizeIterator<Item = &'a Candidate>,
    wish: &Wish,
) -> Result<(), PlanError> {
    if !wish.partitions.is_power_of_two() || wish.partitions > MAX_PARTITIONS {
        return Err(PlanError::Partitions(wish.partitions));
    }
    if wish.list_length == 0 || wish.list_length > MAX_LIST_LENGTH {
        return Err(PlanError::ListLength(wish.list_length));
    }
    let count = candidates.len();
    if count == 0 {
        return Err(PlanError::NoCandidates);
    }
    if count > MAX_CANDIDATES {
        return Err(PlanError::TooManyCandidates(count));
    }
    let mut capacities = candidates.map(|candidate| candidate.capacity);
    match capacities.position(|capacity| capacity == 0) {
        Some(member) => Err(PlanError::NoCapacity(member)),
        None => Ok(()),
    }
}

fn build_region(
    name: &str,
    zones_by_name: impl Iterator<Item = Vec<Node>>,
    wish: &Wish,
) -> RegionPlan {
    let region = Region::new(zones_by_name, wish);
    let shares = quota::share(&region, &vec![0; region.nodes.len()]);
    let counts = positions::count(&shares.quotas, &region.zones_in_turn(), region.length);
    let mut lists = spread::spread(&region, &counts);
    prefix_zones::improve(&region, &mut lists);
    let owners = lists
        .into_iter()
        .map(|node| region.nodes[node as usize].member)
        .collect();
    RegionPlan {
        region: name.to_owned(),
        length: region.length,
        owners,
        unused: shares.unused,
    }
}
