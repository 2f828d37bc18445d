//! The first build of a partition table: what holds for all members, and the cases that are hard by
//! name.

use std::collections::BTreeSet;

use annulet_ring::planner::{
    Candidate, MAX_LIST_LENGTH, MAX_PARTITIONS, PlanError, RegionPlan, Wish, build, zone_limit,
};
use proptest::prelude::*;
use support::{any_members, check_lists, check_shares, loads, members, node, wish, zones_of};

mod support;

/// Builds, checks everything that holds for every table, and returns the plans.
fn built(candidates: &[Candidate], wish: &Wish) -> Vec<RegionPlan> {
    let plans = build(candidates, wish).expect("valid input has a table");
    let names: BTreeSet<&str> = candidates
        .iter()
        .map(|candidate| candidate.region.as_str())
        .collect();
    assert_eq!(
        plans
            .iter()
            .map(|plan| plan.region.as_str())
            .collect::<Vec<_>>(),
        Vec::from_iter(names)
    );
    for plan in &plans {
        check_region(candidates, wish, plan);
    }
    plans
}

/// Builds a table of a single region.
fn built_one(candidates: &[Candidate], wish: &Wish) -> RegionPlan {
    let mut plans = built(candidates, wish);
    assert_eq!(plans.len(), 1);
    plans.remove(0)
}

fn check_region(candidates: &[Candidate], wish: &Wish, plan: &RegionPlan) {
    let zones = zones_of(candidates, &plan.region);
    let size: usize = zones.iter().map(Vec::len).sum();
    assert_eq!(plan.length, size.min(wish.list_length));
    assert_eq!(plan.owners.len(), plan.length * wish.partitions as usize);
    check_lists(candidates, plan, &zones);
    check_prefixes(candidates, plan);
    check_shares(candidates, wish, plan, &zones);
    if zones.len() >= plan.length {
        check_ranges(candidates, plan);
    }
}

fn check_prefixes(candidates: &[Candidate], plan: &RegionPlan) {
    let quotas = loads(candidates, plan, plan.length);
    let length = plan.length as u64;
    for k in 1..=length {
        for (member, (&load, &quota)) in loads(candidates, plan, k as usize)
            .iter()
            .zip(&quotas)
            .enumerate()
        {
            let fair = (quota * k / length)..=(quota * k).div_ceil(length);
            assert!(
                fair.contains(&load),
                "member {member} has {load} in prefix {k}, quota {quota} of {length}"
            );
        }
    }
}

/// Each half, quarter and so on of the table holds its part of each node's quota.
fn check_ranges(candidates: &[Candidate], plan: &RegionPlan) {
    let partitions = plan.owners.len() / plan.length;
    let quotas = loads(candidates, plan, plan.length);
    for size in [partitions / 2, partitions / 4]
        .into_iter()
        .filter(|&size| size > 0)
    {
        let parts = (partitions / size) as u64;
        for range in plan.owners.chunks(size * plan.length) {
            let mut held = vec![0; candidates.len()];
            range.iter().for_each(|&owner| held[owner as usize] += 1);
            for (member, &held) in held.iter().enumerate() {
                let fair = (quotas[member] / parts)..=quotas[member].div_ceil(parts);
                assert!(
                    fair.contains(&held),
                    "member {member} has {held} in {size} partitions"
                );
            }
        }
    }
}

/// How many other nodes each node shares a partition with.
fn peers(candidates: &[Candidate], plan: &RegionPlan) -> Vec<usize> {
    let mut peers = vec![BTreeSet::<u32>::new(); candidates.len()];
    for list in plan.owners.chunks(plan.length) {
        for &a in list {
            peers[a as usize].extend(list.iter().filter(|&&b| b != a));
        }
    }
    peers.iter().map(BTreeSet::len).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_table_keeps_its_promises(
        candidates in any_members(),
        exponent in 0..=9u32,
        list_length in 1..=MAX_LIST_LENGTH,
    ) {
        built(&candidates, &wish(1 << exponent, list_length));
    }

    #[test]
    fn the_same_input_gives_the_same_table(
        candidates in any_members(),
        list_length in 1..=MAX_LIST_LENGTH,
    ) {
        let wish = wish(64, list_length);
        prop_assert_eq!(build(&candidates, &wish), build(&candidates, &wish));
    }

    #[test]
    fn a_region_is_built_as_if_it_were_alone(
        candidates in members(30, 4, 1),
        others in members(30, 4, 1),
    ) {
        let alone = built_one(&candidates, &wish(64, 3));
        let region = || "s".to_owned();
        let elsewhere = others.into_iter().map(|other| Candidate { region: region(), ..other });
        let both: Vec<Candidate> = candidates.into_iter().chain(elsewhere).collect();
        prop_assert_eq!(&built(&both, &wish(64, 3))[0], &alone);
    }
}

/// Ordinary clusters, where rounding is all that separates the table from perfect balance.
#[test]
fn mixed_capacities_are_balanced_within_two_percent() {
    let candidates: Vec<Candidate> = (0..60u32)
        .map(|i| node([1, 1, 2, 4][i as usize % 4], &format!("z{}", i / 4 % 5)))
        .collect();
    let plan = built_one(&candidates, &wish(4096, 3));
    let fair = 3.0 * 4096.0
        / candidates
            .iter()
            .map(|c| f64::from(c.capacity))
            .sum::<f64>();
    for (load, candidate) in loads(&candidates, &plan, 3).iter().zip(&candidates) {
        let ratio = *load as f64 / (fair * f64::from(candidate.capacity));
        assert!((0.98..=1.02).contains(&ratio), "{ratio}");
    }
    assert!(plan.unused.is_empty());
}

#[test]
fn one_huge_node_takes_each_partition_once_and_the_rest_is_reported() {
    let candidates: Vec<Candidate> = [1000, 1, 1, 1, 1]
        .iter()
        .enumerate()
        .map(|(i, &capacity)| node(capacity, &format!("z{i}")))
        .collect();
    let plan = built_one(&candidates, &wish(256, 3));
    assert_eq!(loads(&candidates, &plan, 3), [256, 128, 128, 128, 128]);
    let [huge] = plan.unused[..] else {
        panic!("only the huge node is limited: {:?}", plan.unused)
    };
    assert_eq!(huge.member, 0);
    // By capacity alone it would hold 768 * 1000 / 1004 replicas; at the level of the others, 128 a
    // unit, 2 units suffice.
    assert_eq!(huge.replicas, 764 - 256);
    assert_eq!(huge.idle_ppm, 998_000);
}

#[test]
fn two_zones_with_three_replicas_never_put_all_in_one_zone() {
    let candidates: Vec<Candidate> = (0..8)
        .map(|i| node(1, if i < 4 { "a" } else { "b" }))
        .collect();
    let plan = built_one(&candidates, &wish(256, 3));
    assert_eq!(loads(&candidates, &plan, 3), [96; 8]);
    assert!(plan.unused.is_empty());
}

#[test]
fn with_fewer_zones_than_owners_nearly_all_short_prefixes_still_span_the_zones() {
    for (zones, length) in [(2, 3), (2, 4), (2, 5), (3, 4), (3, 5)] {
        let candidates: Vec<Candidate> = (0..12)
            .map(|i| node(1, ["a", "b", "c"][i % zones]))
            .collect();
        let plan = built_one(&candidates, &wish(512, length));
        let crowded = plan.owners.chunks(length).filter(|list| {
            let prefix = list[..zones]
                .iter()
                .map(|&owner| &candidates[owner as usize].zone);
            prefix.collect::<BTreeSet<_>>().len() < zones
        });
        // Random lists would be crowded in a quarter of the cases or more.
        let crowded = crowded.count();
        assert!(
            crowded <= 512 / 50,
            "{crowded} of 512 with {zones} zones and {length} owners"
        );
    }
}

#[test]
fn a_zone_with_most_of_the_capacity_is_held_to_its_share() {
    let mut candidates = vec![node(8, "big"); 4];
    candidates.extend((0..4).map(|i| node(1, ["b", "c", "d", "e"][i])));
    let plan = built_one(&candidates, &wish(256, 3));
    assert_eq!(
        loads(&candidates, &plan, 3),
        [64, 64, 64, 64, 128, 128, 128, 128]
    );
    assert_eq!(
        plan.unused
            .iter()
            .map(|entry| entry.member)
            .collect::<Vec<_>>(),
        [0, 1, 2, 3]
    );
    // 64 replicas at 128 a unit are half a unit of 8.
    assert!(plan.unused.iter().all(|entry| entry.idle_ppm == 937_500));
}

#[test]
fn capacity_one_beside_sixty_four_gets_one_sixty_fourth() {
    let mut candidates = vec![node(1, "a"), node(1, "b"), node(1, "c")];
    candidates.extend((0..9).map(|i| node(64, ["a", "b", "c"][i % 3])));
    let plan = built_one(&candidates, &wish(4096, 3));
    let loads = loads(&candidates, &plan, 3);
    // 12,288 replicas over 579 units are 21.2 a unit.
    assert!(
        loads[..3].iter().all(|load| (21..=22).contains(load)),
        "{loads:?}"
    );
    assert!(
        loads[3..].iter().all(|load| (1358..=1359).contains(load)),
        "{loads:?}"
    );
}

#[test]
fn one_node_alone_owns_everything_in_lists_of_one() {
    let plan = built_one(&[node(5, "a")], &wish(256, 3));
    assert_eq!(plan.length, 1);
    assert_eq!(plan.owners, vec![0; 256]);
    assert!(plan.unused.is_empty());
}

#[test]
fn two_nodes_with_length_three_have_lists_of_two_in_either_order() {
    let candidates = [node(64, "a"), node(1, "b")];
    let plan = built_one(&candidates, &wish(256, 3));
    assert_eq!(plan.length, 2);
    assert_eq!(loads(&candidates, &plan, 1), [128, 128]);
    assert_eq!(
        plan.unused
            .iter()
            .map(|entry| (entry.member, entry.idle_ppm))
            .collect::<Vec<_>>(),
        [(0, 984_375)]
    );
}

#[test]
fn two_regions_have_a_list_each_in_the_order_of_their_names() {
    let member = |region: &str, zone: &str| Candidate {
        capacity: 1,
        zone: zone.into(),
        region: region.into(),
    };
    let candidates = [
        member("west", "a"),
        member("east", "a"),
        member("west", "b"),
        member("west", "c"),
    ];
    let plans = built(&candidates, &wish(16, 3));
    assert_eq!(
        plans
            .iter()
            .map(|plan| (plan.region.as_str(), plan.length))
            .collect::<Vec<_>>(),
        [("east", 1), ("west", 3)]
    );
    assert_eq!(plans[0].owners, vec![1; 16]);
}

#[test]
fn three_equal_nodes_share_every_prefix_evenly_to_within_one() {
    let candidates = [node(1, "a"), node(1, "b"), node(1, "c")];
    let plan = built_one(&candidates, &wish(256, 3));
    for k in 1..=3 {
        let loads = loads(&candidates, &plan, k);
        let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
        assert!(most - least <= 1, "prefix {k}: {loads:?}");
    }
}

#[test]
fn twelve_equal_nodes_share_partitions_with_many_others() {
    let candidates: Vec<Candidate> = (0..12).map(|i| node(1, ["a", "b", "c"][i % 3])).collect();
    let plan = built_one(&candidates, &wish(256, 3));
    // The least is 2, the other owners of one list; the most is 8, all nodes of other zones.
    assert_eq!(peers(&candidates, &plan), [8; 12]);
}

#[test]
fn zones_with_too_few_nodes_raise_the_limit_of_the_others() {
    // Lists of 5 take one node of the small zone, so four of the large one, although ceil(5 / 2) is
    // 3.
    let candidates = [
        node(1, "a"),
        node(1, "b"),
        node(1, "b"),
        node(1, "b"),
        node(1, "b"),
    ];
    assert_eq!(zone_limit(&[1, 4], 5), 4);
    let plan = built_one(&candidates, &wish(64, 5));
    assert_eq!(loads(&candidates, &plan, 5), [64; 5]);
}

#[test]
fn more_nodes_than_replicas_leave_some_with_nothing() {
    let candidates = vec![node(1, "a"); 40];
    let plan = built_one(&candidates, &wish(4, 3));
    assert_eq!(loads(&candidates, &plan, 3).iter().sum::<u64>(), 12);
}

#[test]
fn a_thousand_nodes_with_many_partitions_keep_every_promise_too() {
    let candidates: Vec<Candidate> = (0..1000u32)
        .map(|i| node([1, 1, 2, 4][i as usize % 4], &format!("z{}", i % 7)))
        .collect();
    built_one(&candidates, &wish(1 << 16, 3));
}

#[test]
fn the_table_of_a_known_cluster_never_changes() {
    let candidates: Vec<Candidate> = (0..5)
        .map(|i| node(i + 1, ["a", "b", "c"][i as usize % 3]))
        .collect();
    let plan = built_one(&candidates, &wish(8, 3));
    assert_eq!(
        plan.owners, GOLDEN,
        "all servers of all versions build the same first table"
    );
}

const GOLDEN: [u32; 24] = [
    2, 0, 4, 3, 4, 2, 4, 3, 2, 1, 2, 3, 0, 4, 2, 2, 3, 1, 4, 2, 3, 3, 2, 4,
];

#[test]
fn wrong_input_is_refused_with_its_reason() {
    let one = [node(1, "a")];
    assert_eq!(build(&[], &wish(1, 1)), Err(PlanError::NoCandidates));
    assert_eq!(
        build(&[node(1, "a"), node(0, "a")], &wish(1, 1)),
        Err(PlanError::NoCapacity(1))
    );
    for partitions in [0, 3, MAX_PARTITIONS + 1, MAX_PARTITIONS * 2] {
        assert_eq!(
            build(&one, &wish(partitions, 1)),
            Err(PlanError::Partitions(partitions))
        );
    }
    for length in [0, MAX_LIST_LENGTH + 1] {
        assert_eq!(
            build(&one, &wish(1, length)),
            Err(PlanError::ListLength(length))
        );
    }
}
