//! The moves from one partition table towards the next.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use std::collections::{BTreeMap, BTreeSet};

use annulet_ring::planner::{
    Candidate, Limits, MAX_LIST_LENGTH, Move, Present, RegionPlan, Standing, Wish, build, moves,
    partitions_for, rebalance,
};
use proptest::prelude::*;
use support::{any_members, mixed, moved, node, present, some, wish};

mod support;

const LIMITS: Limits = Limits {
    total: 40,
    arriving: 4,
    giving: 6,
};

fn list(present: &[Present], one: &Move) -> Vec<u32> {
    let lists = present.iter().find(|lists| lists.region == one.region);
    let Some(lists) = lists else {
        return Vec::new();
    };
    let start = one.partition as usize * lists.length;
    let list = &lists.owners[start..start + lists.length];
    list.iter()
        .copied()
        .filter(|owner| *owner != u32::MAX)
        .collect()
}

/// A move changes no prefix by more than one owner, and no list loses owners before it gains some.
fn check_move(have: &[u32], next: &[u32]) {
    assert_ne!(have, next);
    assert!(next.len() + 1 >= have.len() && next.len() <= have.len() + 1);
    let distinct: BTreeSet<_> = next.iter().collect();
    assert_eq!(distinct.len(), next.len());
    for k in 1..=next.len() {
        let old: BTreeSet<_> = have.iter().take(k).collect();
        let new = next[..k]
            .iter()
            .filter(|owner| !old.contains(owner))
            .count();
        assert!(new <= 1, "{have:?} to {next:?} at {k}");
    }
}

/// No limit is passed by all that is under way.
fn check_limits(present: &[Present], under_way: &[Move]) {
    assert!(under_way.len() <= LIMITS.total);
    let (mut arriving, mut giving) = (BTreeMap::new(), BTreeMap::new());
    let mut partitions = BTreeSet::new();
    for one in under_way {
        assert!(partitions.insert(one.partition), "two moves of a partition");
        let have = list(present, one);
        let new: Vec<_> = one
            .next
            .iter()
            .filter(|owner| !have.contains(owner))
            .collect();
        new.iter()
            .for_each(|owner| *arriving.entry(**owner).or_insert(0) += 1);
        if !new.is_empty() {
            have.iter()
                .for_each(|owner| *giving.entry(*owner).or_insert(0) += 1);
        }
    }
    assert!(arriving.values().all(|count| *count <= LIMITS.arriving));
    assert!(giving.values().all(|count| *count <= LIMITS.giving));
}

/// The lists as they are in the end, region by region, without empty places.
fn lists(present: &[Present], partitions: u32) -> BTreeMap<String, Vec<Vec<u32>>> {
    let of = |lists: &Present| {
        let one = |partition| Move {
            region: lists.region.clone(),
            partition,
            next: Vec::new(),
        };
        let all = (0..partitions).map(|partition| list(present, &one(partition)));
        (lists.region.clone(), all.collect::<Vec<_>>())
    };
    let kept = |(_, lists): &(String, Vec<Vec<u32>>)| lists.iter().any(|list| !list.is_empty());
    present.iter().map(of).filter(kept).collect()
}

fn planned(plans: &[RegionPlan]) -> BTreeMap<String, Vec<Vec<u32>>> {
    let lists = |plan: &RegionPlan| {
        plan.owners
            .chunks(plan.length)
            .map(<[u32]>::to_vec)
            .collect()
    };
    plans
        .iter()
        .map(|plan| (plan.region.clone(), lists(plan)))
        .collect()
}

/// Carries a change out, planning anew whenever some moves are over. Returns how many replicas
/// moved on the way.
fn carry_out(
    mut present: Vec<Present>,
    members: &[Option<Candidate>],
    wish: &Wish,
    mut over: impl FnMut(usize) -> usize,
) -> (Vec<Present>, usize) {
    let standing = |member: u32| match members[member as usize] {
        Some(_) => Standing::Stays,
        None => Standing::Leaves,
    };
    let mut under_way: Vec<Move> = Vec::new();
    let mut copied = 0;
    loop {
        let done: Vec<_> = present
            .iter()
            .map(|lists| lists.after(&under_way))
            .collect();
        let plan = rebalance(&done, members, wish).unwrap();
        let new = moves(&present, &plan, &under_way, LIMITS, standing);
        for one in &new {
            let have = list(&present, one);
            check_move(&have, &one.next);
            copied += one
                .next
                .iter()
                .filter(|owner| !have.contains(owner))
                .count();
        }
        under_way.extend(new);
        check_limits(&present, &under_way);
        if under_way.is_empty() {
            assert_eq!(
                lists(&present, wish.partitions),
                planned(&plan),
                "it is carried out"
            );
            return (present, copied);
        }
        let count = over(under_way.len()).clamp(1, under_way.len());
        let over: Vec<_> = under_way.drain(..count).collect();
        present = present.iter().map(|lists| lists.after(&over)).collect();
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn moves_lead_to_a_planned_table_whenever_it_is_planned_anew(
        candidates in any_members(),
        joins in any_members(),
        leaves in prop::collection::vec(0..40usize, 0..4),
        lengths in (1..=MAX_LIST_LENGTH, 1..=MAX_LIST_LENGTH),
        some_over in prop::collection::vec(1..40usize, 8),
    ) {
        let before = build(&candidates, &wish(64, lengths.0)).unwrap();
        let mut members = some(&candidates);
        members.extend(some(&joins));
        for leave in leaves {
            members[leave % candidates.len()] = None;
        }
        // Regions that come have no lists yet, and those that go keep theirs for another day.
        let mut regions: Vec<_> = members.iter().flatten().map(|c| c.region.clone()).collect();
        regions.sort_unstable();
        regions.dedup();
        let mut lists = present(&before);
        lists.retain(|lists| regions.contains(&lists.region));
        for region in regions {
            if !lists.iter().any(|lists| lists.region == region) {
                lists.push(Present { region, length: 1, owners: vec![u32::MAX; 64] });
            }
        }
        lists.sort_by(|a, b| a.region.cmp(&b.region));
        let mut over = some_over.into_iter().cycle();
        carry_out(lists, &members, &wish(64, lengths.1), |_| over.next().unwrap());
    }

    #[test]
    fn planning_anew_on_the_way_costs_hardly_a_copy(
        count in 9..30u32,
        zones in 3..=6u32,
        joins in prop::collection::vec((1..=4u32, 0..6u32), 0..4),
        leave in prop::option::of(0..30usize),
    ) {
        let candidates = mixed(count, zones);
        let before = build(&candidates, &wish(256, 3)).unwrap();
        let mut members = some(&candidates);
        let new = |(capacity, zone)| Some(node(capacity, &format!("z{}", zone % zones)));
        members.extend(joins.into_iter().map(new));
        if let Some(leave) = leave {
            members[leave % count as usize] = None;
        }
        let at_once = rebalance(&present(&before), &members, &wish(256, 3)).unwrap();
        let least = moved(&before[0], &at_once[0]);
        let (_, copied) = carry_out(present(&before), &members, &wish(256, 3), |count| count / 3);
        prop_assert!(copied as f64 <= 1.05 * least as f64 + 2.0, "{copied} of {least}");
    }
}

#[test]
fn lists_that_are_too_short_come_first_then_those_of_who_leaves() {
    // Member 3 leaves, 4 joins; one list has lost an owner.
    let lists = Present {
        region: "here".into(),
        length: 3,
        owners: [[0, 1, 2], [0, 1, 3], [0, 1, u32::MAX], [2, 1, 0]].concat(),
    };
    let wanted = RegionPlan {
        region: "here".into(),
        length: 3,
        owners: [[0, 1, 4], [0, 1, 4], [0, 1, 2], [0, 1, 2]].concat(),
        unused: Vec::new(),
    };
    let limits = |total| Limits { total, ..LIMITS };
    let present = [lists];
    let planned = |total| {
        let moves = moves(
            &present,
            std::slice::from_ref(&wanted),
            &[],
            limits(total),
            |m| match m {
                3 => Standing::Leaves,
                _ => Standing::Stays,
            },
        );
        moves
            .into_iter()
            .map(|one| one.partition)
            .collect::<Vec<_>>()
    };
    assert_eq!(planned(9), [2, 1, 0, 3], "a mere change of order is last");
    assert_eq!(planned(2), [2, 1]);
}

#[test]
fn partitions_grow_with_the_cluster() {
    for (members, length, partitions) in [
        (1, 3, 256),
        (24, 3, 256),
        (25, 3, 512),
        (1_000, 3, 16_384),
        (10_000, 3, 131_072),
        (50_000, 3, 1 << 20),
        (1_000_000, 3, 1 << 20),
    ] {
        assert_eq!(partitions_for(members, length), partitions, "{members}");
    }
}
