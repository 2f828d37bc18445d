//! From a table to the next one, moving as little as can be.
//!
//! The table is made of what is there, in three steps:
//!
//! 1. the quotas, as of a first build; where a share may be rounded up or down, it is rounded
//!    towards what a node holds;
//! 2. [`exchange`]: owners are replaced until each node holds its quota;
//! 3. [`order`]: owners change places within their lists until every prefix is balanced, one after
//!    the other; [`mend`] sees to what that leaves.
//!
//! A table that is balanced already stays as it is, so that planning again in the middle of the
//! moves towards a table leads to that very table.

use std::collections::BTreeMap;

use super::{Candidate, NONE, Node, PlanError, Region, RegionPlan, Wish};
use super::{build_region, check, quota, regions_of};

mod exchange;
mod marks;
mod mend;
mod order;

/// The owner lists of one region as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// Name of the region.
    pub region: String,
    /// Owners per list, 1 to [`MAX_LIST_LENGTH`](super::MAX_LIST_LENGTH).
    pub length: usize,
    /// One list per partition, of member indices; `owners[p * length + i]` is owner `i` of
    /// partition `p`, `u32::MAX` nobody: where a list is shorter than others, its last places are
    /// empty. The number of partitions is a power of two.
    pub owners: Vec<u32>,
}

/// Plans the table that should follow the present one: one plan per region, in the order of the
/// regions' names. It keeps what [`build`](super::build) promises of lists, quotas and zones; in
/// each prefix of `k` owners, each node stands within one of `quota * k / length` times.
///
/// `members`: those that the present lists name by their index, and others; `None` is to own
/// nothing any more. Where the wish has more partitions, each list is first given to as many halves
/// or quarters of its arc, which moves nothing. A region without members loses its lists; one
/// without lists is built.
///
/// Time: that of a scan of the table and some work for each replica that moves.
///
/// # Errors
/// See [`PlanError`]: of the members that stay; and for fewer partitions than there are.
pub fn rebalance(
    present: &[Present],
    members: &[Option<Candidate>],
    wish: &Wish,
) -> Result<Vec<RegionPlan>, PlanError> {
    let staying = (0u32..).zip(members);
    let staying: Vec<_> = staying
        .filter_map(|(member, candidate)| Some((member, candidate.as_ref()?)))
        .collect();
    check(staying.iter().map(|(_, candidate)| *candidate), wish)?;
    let present: BTreeMap<&str, &Present> = present
        .iter()
        .map(|lists| (lists.region.as_str(), lists))
        .collect();
    for lists in present.values() {
        let partitions = lists.owners.len() / lists.length.max(1);
        if !(1..=wish.partitions as usize).contains(&partitions) || !partitions.is_power_of_two() {
            return Err(PlanError::Partitions(wish.partitions));
        }
    }
    let plans = regions_of(staying)
        .into_iter()
        .map(|(name, zones)| match present.get(name) {
            None => build_region(name, zones.into_values(), wish),
            Some(lists) if lists.owners.iter().all(|owner| *owner == NONE) => {
                build_region(name, zones.into_values(), wish)
            }
            Some(lists) => {
                let region = Region::new(zones.into_values(), wish);
                rebalance_region(&region, lists, members.len())
            }
        });
    Ok(plans.collect())
}

fn rebalance_region(region: &Region, present: &Present, members: usize) -> RegionPlan {
    let mut node_of = vec![NONE; members];
    for (node, Node { member, .. }) in (0u32..).zip(&region.nodes) {
        node_of[*member as usize] = node;
    }
    let mut before = by_node(region, present, &node_of);
    if present.length > region.length {
        let held = held(region, &before);
        let quotas = quota::share(region, &held).quotas;
        before = shortened(region, &quotas, held, before.chunks(present.length));
    }
    if present.length < region.length {
        let lists = before.chunks(present.length);
        let missing = vec![NONE; region.length - present.length];
        before = lists.flat_map(|list| [list, &missing].concat()).collect();
    }
    let mut counts = counts(region, &before);
    let held: Vec<u32> = counts
        .chunks(region.length)
        .map(|counts| counts.iter().sum())
        .collect();
    let shares = quota::share(region, &held);
    let mut lists = before.clone();
    exchange::exchange(
        region,
        &shares.quotas,
        &before,
        &mut lists,
        (&mut counts, held),
    );
    order::order(region, &shares.quotas, &before, &mut lists, &mut counts);
    mend::mend(region.length, &shares.quotas, &mut lists, &mut counts);
    let members: Vec<u32> = region.nodes.iter().map(|node| node.member).collect();
    let member = |node| members[node as usize];
    RegionPlan {
        region: present.region.clone(),
        length: region.length,
        owners: lists.into_iter().map(member).collect(),
        unused: shares.unused,
    }
}

/// The present lists by the region's own numbers of nodes, in as many partitions as are wanted;
/// [`NONE`] stands for who goes.
fn by_node(region: &Region, present: &Present, node_of: &[u32]) -> Vec<u32> {
    let node = |&member: &u32| node_of.get(member as usize).copied().unwrap_or(NONE);
    let halves = region.partitions as usize * present.length / present.owners.len();
    if halves == 1 {
        return present.owners.iter().map(node).collect();
    }
    let lists = present.owners.chunks(present.length);
    let halved = lists.flat_map(|list| std::iter::repeat_n(list, halves));
    halved.flatten().map(node).collect()
}

/// How often each node stands at each position of lists: `counts[node * length + position]`.
fn counts(region: &Region, lists: &[u32]) -> Vec<u32> {
    let mut counts = vec![0; region.nodes.len() * region.length];
    for list in lists.chunks_exact(region.length) {
        for (position, &node) in list.iter().enumerate() {
            if node != NONE {
                counts[node as usize * region.length + position] += 1;
            }
        }
    }
    counts
}

/// How often each node stands in lists.
fn held(region: &Region, lists: &[u32]) -> Vec<u32> {
    let mut held = vec![0; region.nodes.len()];
    for &node in lists.iter().filter(|node| **node != NONE) {
        held[node as usize] += 1;
    }
    held
}

/// Lists that were longer, with fewer owners. Dropped is who goes anyway, else one of a zone that
/// would stand there too often, else who holds most above its quota; the last of those alike.
fn shortened<'a>(
    region: &Region,
    quotas: &[u32],
    mut held: Vec<u32>,
    lists: impl Iterator<Item = &'a [u32]>,
) -> Vec<u32> {
    let zone_of = region.zone_of_nodes();
    let mut shortened = Vec::with_capacity(region.partitions as usize * region.length);
    for list in lists {
        let mut list = list.to_vec();
        while list.len() > region.length {
            let zone = |node: u32| zone_of.get(node as usize);
            let rank = |at: &usize| {
                let node = list[*at];
                if node == NONE {
                    return (true, false, 0, *at);
                }
                let in_zone = list.iter().filter(|other| zone(**other) == zone(node));
                let over = i64::from(held[node as usize]) - i64::from(quotas[node as usize]);
                (false, in_zone.count() > region.zone_limit, over, *at)
            };
            let Some(at) = (0..list.len()).max_by_key(rank) else {
                break;
            };
            let goes = list.remove(at);
            if let Some(held) = held.get_mut(goes as usize) {
                *held -= 1;
            }
        }
        shortened.extend(list);
    }
    shortened
}
