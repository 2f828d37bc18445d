use super::*;
use crate::chain::apply;
use crate::chain::course::Missing;
use crate::cluster::Plan;
use crate::planner::Limits;
use annulet_protocol::bucket::Bucket;
use annulet_protocol::ids::{ChangeId, ClusterId};
use annulet_protocol::view::{Member, MemberState};

/// Members with these capacities and zones, from id 1.
fn view(members: &[(u32, &str)]) -> View {
    let member = |(id, (capacity, zone)): (u64, &(u32, &str))| Member {
        id: NodeId(id),
        address: format!("host-{id}:7400"),
        capacity: *capacity,
        zone: (*zone).to_owned(),
        region: String::new(),
        state: MemberState::Active,
    };
    let plan = Plan {
        cluster: ClusterId([7; 16]),
        name: "test".into(),
        seed: 1,
        epoch: 1,
        value_bytes_max: 1_000,
        partitions: 256,
        list_length: 3,
        members: (1..).zip(members).map(member).collect(),
        buckets: vec![Bucket::new(1, "default")],
    };
    plan.view().unwrap()
}

fn zoned(count: usize) -> View {
    let zones: Vec<_> = (0..count).map(|at| format!("z{at}")).collect();
    let members: Vec<_> = zones.iter().map(|zone| (1, zone.as_str())).collect();
    view(&members)
}

fn of(view: &View, changes: &[RingChange]) -> Forecast {
    Forecast::of(view, changes, &BTreeMap::new()).unwrap()
}

fn join(zone: &str, capacity: u32) -> RingChange {
    RingChange::Join(Newcomer {
        capacity,
        zone: zone.into(),
        region: String::new(),
    })
}

/// The view when all has moved that servers move by themselves, and how many copies were fetched.
fn settled(mut view: View) -> (View, u64) {
    let limits = Limits {
        total: 64,
        arriving: 16,
        giving: 16,
    };
    let mut fetched = 0;
    for _ in 0..1_000 {
        let done: Vec<_> = view.table.joint.iter().map(|j| j.partition).collect();
        for joint in &view.table.joint {
            let have: Vec<_> = view.table.regions[0].list(joint.partition).collect();
            let comes = joint
                .next
                .iter()
                .filter(|o| !have.contains(&(**o as usize)));
            fetched += comes.count() as u64;
        }
        let handed = course::emptied(&view);
        let followed = course::follow(
            &view,
            ChangeId([1; 16]),
            (&done, &handed),
            Missing::default(),
            limits,
        )
        .unwrap();
        let Some(record) = followed else {
            return (view, fetched);
        };
        view = apply(&view, &record).unwrap();
    }
    panic!("it moves for ever");
}

fn after(view: &View, change: impl FnOnce(&mut View)) -> View {
    let mut view = view.clone();
    change(&mut view);
    view
}

#[test]
fn without_a_wish_nothing_moves_in_a_balanced_ring() {
    let forecast = of(&zoned(4), &[]);
    assert!(forecast.is_still(), "{forecast:?}");
    assert_eq!((forecast.replicas, forecast.moving), (768, 0));
    assert!(forecast.transfers.is_empty() && forecast.idle.is_empty());
    assert_eq!(forecast.zones[0].shared, 0);
    let held: Vec<_> = forecast.members.iter().map(|m| m.replicas).collect();
    assert_eq!(held, [192; 4]);
    assert_eq!(forecast.moving_bytes, None, "nobody says how much it holds");
}

#[test]
fn who_leaves_gives_all_that_it_has_to_the_others() {
    let view = zoned(4);
    let forecast = of(&view, &[RingChange::Leave(NodeId(4))]);
    assert_eq!((forecast.moving, forecast.dropped), (192, 0));
    let from = |one: &Transfer| one.from == Some(Holder::Member(NodeId(4)));
    assert!(forecast.transfers.iter().all(from), "{forecast:?}");
    let moved: u64 = forecast.transfers.iter().map(|one| one.replicas).sum();
    assert_eq!(moved, 192);
    let gone = &forecast.members[3];
    assert_eq!((gone.capacity_before, gone.capacity), (Some(1), None));
    assert_eq!((gone.replicas_before, gone.replicas), (192, 0));
    assert!((gone.share_before - 0.25).abs() < 1e-9);
    let leaving = after(&view, |view| view.members[3].state = MemberState::Leaving);
    let (then, fetched) = settled(leaving.clone());
    assert_eq!(fetched, forecast.moving, "the servers do what was told");
    assert!(of(&then, &[]).is_still());
    let now = of(&leaving, &[]);
    assert_eq!(now.moving, 192, "it is still to move");
    assert!(!now.is_still());
}

#[test]
fn of_who_is_to_come_it_is_told_what_it_gets_and_from_whom() {
    let view = zoned(3);
    let forecast = of(&view, &[join("z9", 1), join("z8", 3)]);
    let to = |number| {
        let to = |one: &&Transfer| one.to == Holder::Newcomer(number);
        let moved = forecast.transfers.iter().filter(to);
        moved.map(|one| one.replicas).sum::<u64>()
    };
    // Seven shares: the second stands in every list, and the rest is shared by four.
    assert_eq!((to(0), to(1)), (128, 256));
    assert_eq!(forecast.idle.len(), 1);
    assert_eq!(forecast.idle[0].holder, Holder::Newcomer(1));
    assert_eq!(forecast.idle[0].cause, IdleCause::InEveryList);
    assert_eq!(forecast.members[4].capacity_before, None);
    assert_eq!(forecast.zones[0].zones, 5);
}

#[test]
fn what_moves_already_counts_until_it_is_there() {
    let view = after(&zoned(4), |view| view.members[0].capacity = 2);
    let (first, other) = (of(&view, &[]), zoned(4));
    assert!(first.moving > 30, "{}", first.moving);
    let limits = Limits {
        total: 8,
        arriving: 8,
        giving: 8,
    };
    let record = course::follow(
        &view,
        ChangeId([1; 16]),
        (&[], &[]),
        Missing::default(),
        limits,
    )
    .unwrap();
    let view = apply(&view, &record.unwrap()).unwrap();
    let second = of(&view, &[]);
    assert_eq!((second.moving, second.under_way), (first.moving, 8));
    let back = of(&view, &[RingChange::Capacity(NodeId(1), 1)]);
    assert!(
        back.moving <= 16,
        "hardly more than is begun: {}",
        back.moving
    );
    assert_eq!(
        of(&other, &[RingChange::Capacity(NodeId(1), 2)]).moving,
        first.moving
    );
}

#[test]
fn zones_are_kept_apart_where_there_are_enough_of_them() {
    let view = view(&[(1, "a"), (1, "b"), (1, "c"), (1, "c")]);
    let forecast = of(&view, &[]);
    assert_eq!((forecast.zones[0].zones, forecast.zones[0].shared), (3, 0));
    // The only server of its zone is in every list; the two others have half of it each.
    let moved = of(&view, &[RingChange::Zone(NodeId(2), "a".into())]);
    let zones = &moved.zones[0];
    assert_eq!((zones.zones, zones.shared_before), (2, 0));
    assert_eq!(zones.shared, 256, "three copies in two zones");
    let larger = of(&view, &[RingChange::Capacity(NodeId(4), 9)]);
    let idle: Vec<_> = larger
        .idle
        .iter()
        .map(|one| (one.holder, one.cause))
        .collect();
    let zone = |id| (Holder::Member(NodeId(id)), IdleCause::ZoneInEveryList);
    assert!(idle.contains(&zone(4)), "{idle:?}");
}

#[test]
fn bytes_are_those_that_the_owners_say_they_hold() {
    let view = zoned(4);
    let leave = [RingChange::Leave(NodeId(4))];
    let told = |stored: &[(u64, u64)]| {
        let stored = stored.iter().map(|(id, bytes)| (NodeId(*id), *bytes));
        Forecast::of(&view, &leave, &stored.collect()).unwrap()
    };
    let all = told(&[(1, 19_200), (2, 19_200), (3, 19_200), (4, 19_200)]);
    assert_eq!(all.moving_bytes, Some(19_200));
    let sum: u64 = all.transfers.iter().filter_map(|one| one.bytes).sum();
    assert_eq!(sum, 19_200);
    assert_eq!(
        told(&[(1, 19_200)]).moving_bytes,
        Some(19_200),
        "as one says"
    );
    assert_eq!(told(&[]).moving_bytes, None);
}

#[test]
fn more_servers_cut_the_ring_into_more_partitions() {
    let joins: Vec<_> = (0..40).map(|at| join(&format!("n{at}"), 1)).collect();
    let forecast = of(&zoned(3), &joins);
    assert_eq!(
        (forecast.partitions_before, forecast.partitions),
        (256, 512)
    );
    assert_eq!(forecast.replicas, 3 * 512);
    let before: u64 = forecast.members.iter().map(|m| m.replicas_before).sum();
    assert_eq!(before, 3 * 512, "counted alike");
    let shares: f64 = forecast.members.iter().map(|m| m.share_before).sum();
    assert!((shares - 1.0).abs() < 1e-9);
}

#[test]
fn lists_become_longer_and_shorter_with_the_number_of_servers() {
    let forecast = of(&zoned(2), &[join("z9", 1)]);
    assert_eq!((forecast.moving, forecast.dropped), (256, 0));
    assert!(forecast.transfers.iter().all(|one| one.from.is_none()));
    let forecast = of(&zoned(3), &[RingChange::Leave(NodeId(2))]);
    assert_eq!((forecast.moving, forecast.dropped), (0, 256));
}

#[test]
fn a_wish_that_cannot_be_says_why() {
    let view = zoned(3);
    let error = |changes: &[RingChange]| Forecast::of(&view, changes, &BTreeMap::new()).err();
    let (one, none) = (NodeId(1), NodeId(9));
    let leave = RingChange::Leave;
    assert_eq!(error(&[leave(none)]), Some(ForecastError::NoMember(none)));
    let twice = Some(ForecastError::Contradiction(one));
    let set = RingChange::Capacity(one, 2);
    let zone = RingChange::Zone(one, "z".into());
    for both in [
        [leave(one), leave(one)],
        [leave(one), set.clone()],
        [zone.clone(), leave(one)],
        [set.clone(), RingChange::Capacity(one, 3)],
    ] {
        assert_eq!(error(&both), twice, "{both:?}");
    }
    assert_eq!(error(&[set, zone]), None);
    let idle = RingChange::Capacity(one, 0);
    assert_eq!(error(&[idle]), Some(ForecastError::NoCapacity));
    assert_eq!(error(&[join("z", 0)]), Some(ForecastError::NoCapacity));
    let all = [1, 2, 3].map(|id| leave(NodeId(id)));
    assert_eq!(error(&all), Some(ForecastError::NobodyLeft));
}
