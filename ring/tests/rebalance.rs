//! From one partition table to the next.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use annulet_ring::planner::{
    Candidate, MAX_LIST_LENGTH, PlanError, RegionPlan, Wish, build, rebalance,
};
use proptest::prelude::*;
use support::cheapest::cheapest;
use support::{
    any_members, check_lists, check_shares, limit_of, loads, members, mixed, moved, node, present,
    some, wish, zones_of,
};

mod support;

/// The members that stay, with the indices that they had among all.
fn staying(members: &[Option<Candidate>]) -> (Vec<Candidate>, Vec<usize>) {
    let staying = members.iter().enumerate();
    staying
        .filter_map(|(index, candidate)| Some((candidate.clone()?, index)))
        .unzip()
}

/// The plan by the indices among those that stay.
fn among_staying(plan: &RegionPlan, indices: &[usize]) -> RegionPlan {
    let index = |member: &u32| indices.binary_search(&(*member as usize)).unwrap() as u32;
    let mut plan = plan.clone();
    plan.owners = plan.owners.iter().map(index).collect();
    for unused in &mut plan.unused {
        unused.member = index(&unused.member);
    }
    plan
}

/// Plans the next table and checks what holds for every one.
fn next(before: &[RegionPlan], members: &[Option<Candidate>], wish: &Wish) -> Vec<RegionPlan> {
    let plans = rebalance(&present(before), members, wish).expect("valid input has a table");
    let (candidates, indices) = staying(members);
    for plan in &plans {
        let zones = zones_of(&candidates, &plan.region);
        let size: usize = zones.iter().map(Vec::len).sum();
        assert_eq!(plan.length, size.min(wish.list_length));
        assert_eq!(plan.owners.len(), plan.length * wish.partitions as usize);
        let plan = among_staying(plan, &indices);
        check_lists(&candidates, &plan, &zones);
        check_shares(&candidates, wish, &plan, &zones);
        check_prefixes(&candidates, &plan);
    }
    plans
}

/// In each prefix of `k` owners, each node stands within one of `quota * k / length` times.
fn check_prefixes(candidates: &[Candidate], plan: &RegionPlan) {
    let quotas = loads(candidates, plan, plan.length);
    for k in 1..=plan.length {
        for (load, quota) in loads(candidates, plan, k).iter().zip(&quotas) {
            let due = *quota as f64 * k as f64 / plan.length as f64;
            let off = (*load as f64 - due).abs();
            assert!(off <= 1.0 + 1e-9, "{load} in prefix {k}, due {due}");
        }
    }
}

/// The fewest replicas that can move to what each holds now.
fn fewest(before: &RegionPlan, after: &RegionPlan, members: &[Option<Candidate>]) -> usize {
    let (candidates, _) = staying(members);
    let zones = zones_of(&candidates, &after.region);
    let limit = limit_of(&zones, after.length);
    let mut names: Vec<_> = candidates.iter().map(|c| c.zone.clone()).collect();
    names.sort_unstable();
    names.dedup();
    let zone = |member: &Option<Candidate>| {
        let name = member.as_ref().map_or(&names[0], |member| &member.zone);
        names.binary_search(name).unwrap()
    };
    let zone_of: Vec<_> = members.iter().map(zone).collect();
    let mut quotas = vec![0; members.len()];
    for owner in &after.owners {
        quotas[*owner as usize] += 1;
    }
    let lists: Vec<_> = before.owners.chunks(before.length).collect();
    let zones = (&zone_of[..], names.len(), limit);
    cheapest(&lists, after.length, &quotas, zones) as usize
}

/// One change of a cluster.
#[derive(Clone, Debug)]
enum Step {
    Join(Candidate),
    Leave(usize),
    Capacity(usize, u32),
    Double,
    Length(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let join = members(1, 9, 3).prop_map(|mut one| Step::Join(one.remove(0)));
    prop_oneof![
        4 => join,
        3 => (0..40usize).prop_map(Step::Leave),
        2 => (0..40usize, 1..=64u32).prop_map(|(index, capacity)| Step::Capacity(index, capacity)),
        1 => Just(Step::Double),
        1 => (1..=MAX_LIST_LENGTH).prop_map(Step::Length),
    ]
}

#[test]
fn a_node_of_few_replicas_stands_in_every_prefix_as_often_as_it_should() {
    // Balanced one prefix after the other, a node of two replicas was in none of the first four
    // places.
    let capacities = [
        18,
        603_016,
        18,
        479_127,
        59,
        1,
        u32::MAX,
        51,
        3,
        39,
        170_686,
        11,
        4_522,
        1,
        46,
        3,
        1,
        42,
        28,
        16,
    ];
    let candidate = |capacity| Candidate {
        capacity,
        zone: "z0".into(),
        region: "r0".into(),
    };
    let candidates = capacities.map(candidate);
    let mut members = some(&candidates);
    let mut wish = wish(16, 3);
    let mut plans = build(&candidates, &wish).unwrap();
    members[9] = None;
    plans = next(&plans, &members, &wish);
    members[10] = Some(candidate(63));
    plans = next(&plans, &members, &wish);
    wish.list_length = 7;
    next(&plans, &members, &wish);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_next_table_keeps_its_promises(
        candidates in any_members(),
        steps in prop::collection::vec(step(), 1..8),
        exponent in 3..=7u32,
        list_length in 1..=MAX_LIST_LENGTH,
    ) {
        let mut members = some(&candidates);
        let mut wish = wish(1 << exponent, list_length);
        let mut plans = build(&candidates, &wish).unwrap();
        for step in steps {
            let count = members.len();
            match step {
                Step::Join(candidate) => members.push(Some(candidate)),
                Step::Leave(index) => members[index % count] = None,
                Step::Capacity(index, capacity) => {
                    if let Some(candidate) = &mut members[index % count] {
                        candidate.capacity = capacity;
                    }
                }
                Step::Double => wish.partitions *= 2,
                Step::Length(length) => wish.list_length = length,
            }
            if members.iter().flatten().count() == 0 {
                break;
            }
            plans = next(&plans, &members, &wish);
            let again = rebalance(&present(&plans), &members, &wish).unwrap();
            prop_assert_eq!(&again, &plans, "a balanced table stays as it is");
        }
    }
}

/// Lists whose owners are the same in another order.
fn reordered(before: &RegionPlan, after: &RegionPlan) -> usize {
    let sorted = |list: &[u32]| {
        let mut list = list.to_vec();
        list.sort_unstable();
        list
    };
    let lists = before
        .owners
        .chunks(before.length)
        .zip(after.owners.chunks(after.length));
    let same = |(old, new): &(&[u32], &[u32])| old != new && sorted(old) == sorted(new);
    lists.filter(same).count()
}

/// Changes a cluster of one region, and says what moved: replicas, the fewest of them that can, and
/// lists that only change their order.
fn change(
    candidates: &[Candidate],
    wish: &Wish,
    change: impl FnOnce(&mut Vec<Option<Candidate>>),
) -> (usize, usize, usize) {
    let before = &build(candidates, wish).unwrap()[0];
    let mut members = some(candidates);
    change(&mut members);
    let after = &next(std::slice::from_ref(before), &members, wish)[0];
    let fewest = fewest(before, after, &members);
    (moved(before, after), fewest, reordered(before, after))
}

/// A cluster, and who joins and leaves.
#[derive(Clone, Debug)]
struct Case {
    count: u32,
    zones: u32,
    joins: Vec<(u32, u32)>,
    leaves: Vec<usize>,
}

fn case() -> impl Strategy<Value = Case> {
    let joins = prop::collection::vec((1..=4u32, 0..6u32), 0..4);
    let leaves = prop::collection::vec(0..30usize, 0..3);
    (4..30u32, 1..=6u32, joins, leaves).prop_map(|(count, zones, joins, leaves)| Case {
        count,
        zones,
        joins,
        leaves,
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 20,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// A single table may be some copies off, where zones are in the way of nearly everything.
    #[test]
    fn hardly_more_moves_than_must(cases in prop::collection::vec(case(), 20)) {
        let (mut all_moved, mut all_fewest) = (0, 0);
        for Case { count, zones, joins, leaves } in cases {
            let (moved, fewest, reordered) = change(&mixed(count, zones), &wish(128, 3), |members| {
                for leave in leaves {
                    members[leave % count as usize] = None;
                }
                let new = |(capacity, zone)| Some(node(capacity, &format!("z{}", zone % zones)));
                members.extend(joins.into_iter().map(new));
            });
            prop_assert!(moved as f64 <= 1.15 * fewest as f64 + 2.0, "{moved} of {fewest}");
            prop_assert!(reordered <= 5 + moved / 10, "{reordered} beside {moved}");
            all_moved += moved;
            all_fewest += fewest;
        }
        prop_assert!(all_moved as f64 <= 1.02 * all_fewest as f64, "{all_moved} of {all_fewest}");
    }
}

#[test]
fn a_join_moves_what_the_new_node_gets_and_no_more() {
    for count in [60, 6, 5, 4, 3, 2] {
        let (moved, fewest, _) = change(&mixed(count, 3), &wish(256, 3), |members| {
            members.push(Some(node(2, "z1")));
        });
        assert_eq!(moved, fewest, "{count} nodes");
    }
}

#[test]
fn wrong_input_is_refused_with_its_reason() {
    let candidates = mixed(4, 3);
    let plans = present(&build(&candidates, &wish(16, 3)).unwrap());
    let gone = vec![None; 4];
    let none = rebalance(&plans, &gone, &wish(16, 3));
    assert_eq!(none, Err(PlanError::NoCandidates));
    let fewer = rebalance(&plans, &some(&candidates), &wish(8, 3));
    assert_eq!(fewer, Err(PlanError::Partitions(8)));
}
