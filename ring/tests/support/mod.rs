//! What holds for every table, and members at random.
#![allow(dead_code)] // Each test program uses a part of it.

use std::collections::{BTreeMap, BTreeSet};

use annulet_ring::planner::{Candidate, Present, RegionPlan, Wish, zone_limit};
use proptest::prelude::*;

pub(crate) mod cheapest;

pub(crate) fn node(capacity: u32, zone: &str) -> Candidate {
    Candidate {
        capacity,
        zone: zone.to_owned(),
        region: "here".to_owned(),
    }
}

pub(crate) fn wish(partitions: u32, list_length: usize) -> Wish {
    Wish {
        partitions,
        list_length,
    }
}

/// The member indices of a region, by zone.
pub(crate) fn zones_of(candidates: &[Candidate], region: &str) -> Vec<Vec<usize>> {
    let mut zones: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (member, candidate) in candidates
        .iter()
        .enumerate()
        .filter(|(_, c)| c.region == region)
    {
        zones.entry(&candidate.zone).or_default().push(member);
    }
    zones.into_values().collect()
}

pub(crate) fn limit_of(zones: &[Vec<usize>], length: usize) -> usize {
    zone_limit(&zones.iter().map(Vec::len).collect::<Vec<_>>(), length)
}

/// How often each member stands among the first `k` owners.
pub(crate) fn loads(candidates: &[Candidate], plan: &RegionPlan, k: usize) -> Vec<u64> {
    let mut loads = vec![0; candidates.len()];
    for list in plan.owners.chunks(plan.length) {
        for &owner in &list[..k] {
            loads[owner as usize] += 1;
        }
    }
    loads
}

pub(crate) fn check_lists(candidates: &[Candidate], plan: &RegionPlan, zones: &[Vec<usize>]) {
    let limit = limit_of(zones, plan.length);
    let even = plan.length.div_ceil(zones.len());
    assert!(limit >= even);
    if zones.iter().all(|zone| zone.len() >= even) || zones.len() >= plan.length {
        assert_eq!(limit, even);
    }
    for (partition, list) in (0u32..).zip(plan.owners.chunks(plan.length)) {
        assert_eq!(plan.list(partition), list);
        let nodes: BTreeSet<u32> = list.iter().copied().collect();
        assert_eq!(nodes.len(), list.len(), "a node twice in {list:?}");
        for &owner in list {
            let owner = &candidates[owner as usize];
            assert_eq!(owner.region, plan.region);
            let in_zone = list
                .iter()
                .filter(|&&other| candidates[other as usize].zone == owner.zone)
                .count();
            assert!(
                in_zone <= limit,
                "zone {} is {in_zone} times in {list:?}, limit {limit}",
                owner.zone
            );
        }
    }
}

/// Whole lists against an independent water-filling in floating point, and the report of what is
/// unused against both.
pub(crate) fn check_shares(
    candidates: &[Candidate],
    wish: &Wish,
    plan: &RegionPlan,
    zones: &[Vec<usize>],
) {
    let capacity = |member: usize| f64::from(candidates[member].capacity);
    let partitions = f64::from(wish.partitions);
    let all: f64 = zones.iter().flatten().map(|&member| capacity(member)).sum();
    let loads = loads(candidates, plan, plan.length);
    let (level, shares) = water_filled(candidates, partitions, plan.length, zones);
    let mut unused = plan.unused.iter().peekable();
    assert!(plan.unused.is_sorted_by(|a, b| a.member < b.member));
    for (&member, &share) in &shares {
        let load = loads[member] as f64;
        assert!(
            (load - share).abs() < 1.0 + 1e-6 * share,
            "member {member} holds {load}, fair is {share}"
        );
        let idle = (1.0 - share / (level * capacity(member))) * 1e6;
        let reported = unused.next_if(|entry| entry.member as usize == member);
        let (idle_ppm, replicas) =
            reported.map_or((0, 0), |entry| (entry.idle_ppm, entry.replicas));
        assert!(
            (f64::from(idle_ppm) - idle).abs() <= 2.0,
            "member {member} idles {idle} ppm, reported {idle_ppm}"
        );
        let lost = partitions * plan.length as f64 * capacity(member) / all - load;
        if reported.is_some() {
            assert!(
                (f64::from(replicas) - lost.max(0.0)).abs() <= 1.0,
                "member {member} lost {lost}, not {replicas}"
            );
        }
    }
    assert!(unused.next().is_none());
}

/// The common level, and each member's exact share in member order; by bisection, to share no
/// thought with the planner.
fn water_filled(
    candidates: &[Candidate],
    partitions: f64,
    length: usize,
    zones: &[Vec<usize>],
) -> (f64, BTreeMap<usize, f64>) {
    let limit = limit_of(zones, length);
    let at = |zone: &[usize], level: f64| -> Vec<f64> {
        zone.iter()
            .map(|&member| (level * f64::from(candidates[member].capacity)).min(partitions))
            .collect()
    };
    let bisect = |wanted: f64, held: &dyn Fn(f64) -> f64| {
        let (mut low, mut high) = (0.0, 2.0 * partitions);
        for _ in 0..200 {
            let middle = (low + high) / 2.0;
            if held(middle) < wanted * (1.0 - 1e-13) {
                low = middle
            } else {
                high = middle
            }
        }
        high
    };
    let cap = |zone: &[usize]| partitions * zone.len().min(limit) as f64;
    let zone_at = |zone: &[usize], level: f64| at(zone, level).iter().sum::<f64>().min(cap(zone));
    let held = |level: f64| zones.iter().map(|zone| zone_at(zone, level)).sum::<f64>();
    let level = bisect(partitions * length as f64, &held);
    let mut shares = BTreeMap::new();
    for zone in zones {
        let total = zone_at(zone, level);
        let own = bisect(total, &|level| at(zone, level).iter().sum());
        shares.extend(zone.iter().copied().zip(at(zone, own.min(level))));
    }
    (level, shares)
}

fn capacities() -> impl Strategy<Value = u32> {
    prop_oneof![
        Just(1),
        1..=4u32,
        1..=64u32,
        1..=1_000_000u32,
        Just(u32::MAX)
    ]
}

pub(crate) fn members(
    most: usize,
    zones: u32,
    regions: u32,
) -> impl Strategy<Value = Vec<Candidate>> {
    let member =
        (capacities(), 0..zones, 0..regions).prop_map(|(capacity, zone, region)| Candidate {
            capacity,
            zone: format!("z{zone}"),
            region: format!("r{region}"),
        });
    prop::collection::vec(member, 1..=most)
}

pub(crate) fn any_members() -> impl Strategy<Value = Vec<Candidate>> {
    (1..=9u32, 1..=3u32).prop_flat_map(|(zones, regions)| members(40, zones, regions))
}

/// The lists of plans that were carried out.
pub(crate) fn present(plans: &[RegionPlan]) -> Vec<Present> {
    plans
        .iter()
        .map(|plan| Present {
            region: plan.region.clone(),
            length: plan.length,
            owners: plan.owners.clone(),
        })
        .collect()
}

/// Replicas that are somewhere else than before.
pub(crate) fn moved(before: &RegionPlan, after: &RegionPlan) -> usize {
    let halves = (after.owners.len() / after.length) / (before.owners.len() / before.length);
    let lists = after.owners.chunks(after.length).enumerate();
    let new = |(partition, list): (usize, &[u32])| {
        let old = before.list((partition / halves) as u32);
        list.iter().filter(|owner| !old.contains(owner)).count()
    };
    lists.map(new).sum()
}

pub(crate) fn some(candidates: &[Candidate]) -> Vec<Option<Candidate>> {
    candidates.iter().cloned().map(Some).collect()
}

/// A cluster of mixed capacities whose zones are about as large.
pub(crate) fn mixed(count: u32, zones: u32) -> Vec<Candidate> {
    let capacity = |i: u32| [1, 1, 2, 4][(i / zones) as usize % 4];
    (0..count)
        .map(|i| node(capacity(i), &format!("z{}", i % zones)))
        .collect()
}
