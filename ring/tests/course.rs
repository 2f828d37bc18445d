//! A cluster that grows, shrinks and is changed, by nothing but the records that follow its views.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use annulet_protocol::bucket::Bucket;
use annulet_protocol::epoch::{EpochRecord, MemberChange, MemberSettings};
use annulet_protocol::ids::{ChangeId, ClusterId, NodeId};
use annulet_protocol::view::{Member, MemberState, View};
use annulet_ring::chain::apply;
use annulet_ring::chain::course::{self, Missing};
use annulet_ring::cluster::Plan;
use annulet_ring::planner::{
    Candidate, Limits, PlanError, Present, Wish, partitions_for, rebalance,
};
use proptest::prelude::*;

const LIMITS: Limits = Limits {
    total: 40,
    arriving: 10,
    giving: 20,
};

fn member(id: u64, (capacity, zone, region): (u32, u8, u8)) -> Member {
    Member {
        id: NodeId(id),
        address: format!("host-{id}:7400"),
        capacity,
        zone: format!("z{zone}"),
        region: format!("r{region}"),
        state: MemberState::Joining,
    }
}

fn set(member: &Member, state: MemberState) -> MemberChange {
    MemberChange::Set(MemberSettings {
        id: member.id,
        address: member.address.clone(),
        capacity: member.capacity,
        zone: member.zone.clone(),
        state,
    })
}

struct Cluster {
    view: View,
    /// Of members that are to come.
    next_id: u64,
    /// Does not answer any more, and copies nothing.
    lost: Option<NodeId>,
    /// Does not answer, and may come back.
    away: Option<NodeId>,
    /// Has still to hand over what it owned.
    hands_over: Option<NodeId>,
}

impl Cluster {
    /// Of one server.
    fn bootstrapped() -> Self {
        let first = Member {
            state: MemberState::Active,
            ..member(1_000, (2, 0, 0))
        };
        let plan = Plan {
            cluster: ClusterId([7; 16]),
            name: "test".into(),
            seed: 1,
            epoch: 1,
            value_bytes_max: 1_000,
            partitions: 64,
            list_length: 3,
            members: vec![first],
            buckets: vec![Bucket {
                replicas: 1,
                ..Bucket::new(1, "default")
            }],
        };
        Self {
            view: plan.view().unwrap(),
            next_id: 1,
            lost: None,
            away: None,
            hands_over: None,
        }
    }

    fn active(&self) -> Vec<&Member> {
        let members = self.view.members.iter();
        members.filter(|m| m.state == MemberState::Active).collect()
    }

    fn go_on(&mut self, record: &EpochRecord) {
        let next = apply(&self.view, record).unwrap();
        assert!(next.table.joint.len() <= LIMITS.total.max(2 * self.view.table.joint.len()));
        if !record.doubles && record.list_length.is_none() {
            self.check_lengths(&next);
        }
        self.view = next;
    }

    /// No list loses an owner that it could keep.
    fn check_lengths(&self, next: &View) {
        for table in &next.table.regions {
            let members = next.members.iter().filter(|m| m.region == table.region);
            let active = members.filter(|m| m.state == MemberState::Active).count();
            let due = active.min(usize::from(next.table.list_length));
            let before = self.view.table.regions.iter();
            let Some(before) = before.clone().find(|t| t.region == table.region) else {
                continue;
            };
            for partition in 0..next.table.partitions {
                let old = before.list(partition).count();
                let new = table.list(partition).count();
                assert!(new >= old.min(due), "{old} to {new}, due {due}");
            }
        }
    }

    fn answers(&self, index: u32) -> bool {
        let member = self.view.members.get(index as usize);
        let id = member.map(|member| member.id);
        id.is_some() && id != self.lost && id != self.away
    }

    /// Those that answer have a quorum of both lists of what moves, where they have one of the
    /// first.
    fn check_quorums(&self) {
        for joint in &self.view.table.joint {
            let list = self.view.table.regions[0].list(joint.partition);
            let list: Vec<_> = list.map(|index| index as u32).collect();
            for replicas in 1..=3 {
                let has = |list: &[u32]| {
                    let list = &list[..list.len().min(replicas)];
                    let there = list.iter().filter(|index| self.answers(**index));
                    there.count() > list.len() / 2
                };
                assert!(!has(&list) || has(&joint.next), "{list:?} to {joint:?}");
            }
        }
    }

    fn record(&self) -> EpochRecord {
        EpochRecord {
            number: self.view.epoch + 1,
            before: self.view.tip.hash,
            keepers: self.view.tip.keepers.clone(),
            ..EpochRecord::default()
        }
    }

    fn change(&mut self, members: Vec<MemberChange>) {
        let mut record = self.record();
        record.members = members;
        // Whoever leaves keeps nothing any more.
        let leaves = |keeper: &NodeId| {
            record.members.iter().any(|change| {
                matches!(change, MemberChange::Set(MemberSettings { id, state, .. })
                    if id == keeper && *state != MemberState::Active)
            })
        };
        if record.keepers.iter().any(leaves) {
            let active = self.active().into_iter().map(|member| member.id);
            let stays = active.filter(|id| !leaves(id)).collect::<Vec<_>>();
            record.keepers = stays[..1].to_vec();
        }
        self.go_on(&record);
    }

    /// What follows by itself, for so many epochs, or until nothing does.
    fn settle(&mut self, most: usize) -> Result<usize, PlanError> {
        for round in 0..most {
            let joint = self.view.table.joint.iter();
            let joint = joint.filter(|joint| joint.next.iter().all(|index| self.answers(*index)));
            let joint = joint.map(|joint| joint.partition);
            let done: Vec<_> = joint
                .filter(|p| !(*p as usize + round).is_multiple_of(3))
                .collect();
            let change = ChangeId([round as u8; 16]);
            let mut handed = course::emptied(&self.view);
            handed.retain(|node| ![self.lost, self.hands_over].contains(&Some(*node)));
            let lost = self.lost.as_slice();
            let silent: Vec<_> = self.lost.into_iter().chain(self.away).collect();
            let missing = Missing {
                lost,
                silent: &silent,
                absent: &silent,
            };
            let done = (&done[..], &handed[..]);
            let record = course::follow(&self.view, change, done, missing, LIMITS)?;
            match record {
                Some(record) => self.go_on(&record),
                None if self.view.table.joint.is_empty() => return Ok(round),
                None => {}
            }
        }
        Ok(most)
    }

    /// All is as it should be, and nothing would move any more.
    fn check_settled(&self) {
        let view = &self.view;
        assert!(view.table.joint.is_empty());
        assert_eq!(
            self.active().len(),
            view.members.len(),
            "nobody is to leave"
        );
        let length = usize::from(view.table.list_length);
        assert!(view.table.partitions >= partitions_for(view.members.len(), length));
        let candidate = |member: &Member| Candidate {
            capacity: member.capacity,
            zone: member.zone.clone(),
            region: member.region.clone(),
        };
        let members: Vec<_> = view.members.iter().map(|m| Some(candidate(m))).collect();
        let present = view.table.regions.iter().map(|table| Present {
            region: table.region.clone(),
            length: usize::from(table.length),
            owners: table.places().collect(),
        });
        let present: Vec<_> = present.collect();
        let wish = Wish {
            partitions: view.table.partitions,
            list_length: length,
        };
        let planned = rebalance(&present, &members, &wish).unwrap();
        assert_eq!(planned.len(), view.table.regions.len());
        for (plan, table) in planned.iter().zip(&view.table.regions) {
            for partition in 0..view.table.partitions {
                let list: Vec<_> = table.list(partition).map(|index| index as u32).collect();
                assert_eq!(plan.list(partition), list, "partition {partition}");
            }
        }
        let keepers = match view.members.len() {
            1 | 2 => 1,
            3 | 4 => 3,
            _ => 5,
        };
        assert_eq!(view.tip.keepers.len(), keepers);
    }
}

/// What an operator asks for.
#[derive(Clone, Debug)]
enum Wanted {
    Join(u32, u8, u8),
    Leave(usize),
    Capacity(usize, u32),
    Length(u8),
}

impl Cluster {
    fn ask(&mut self, wanted: &Wanted) {
        let chosen = |index: usize| {
            let active = self.active();
            active[index % active.len()].clone()
        };
        match *wanted {
            Wanted::Join(capacity, zone, region) => {
                // An id may lie before or behind those of others.
                self.next_id = self.next_id * 48_271 % 2_147_483_647;
                let member = member(self.next_id, (capacity, zone, region));
                self.change(vec![MemberChange::Joined(member.clone())]);
                self.change(vec![set(&member, MemberState::Active)]);
            }
            Wanted::Leave(_) if self.active().len() == 1 => {}
            Wanted::Leave(index) => {
                let leaves = set(&chosen(index), MemberState::Leaving);
                self.change(vec![leaves]);
            }
            Wanted::Capacity(index, capacity) => {
                let other = Member {
                    capacity,
                    ..chosen(index)
                };
                self.change(vec![set(&other, MemberState::Active)]);
            }
            Wanted::Length(length) => {
                let mut record = self.record();
                record.list_length = Some(length);
                self.go_on(&record);
            }
        }
    }
}

#[test]
fn a_server_grows_to_nine_and_shrinks_to_four() {
    let mut cluster = Cluster::bootstrapped();
    for joined in 0..8 {
        cluster.ask(&Wanted::Join(1 + joined % 3, joined as u8 % 3, 0));
    }
    cluster.settle(10_000).unwrap();
    cluster.check_settled();
    assert_eq!(cluster.view.members.len(), 9);
    assert_eq!(cluster.view.table.partitions, 256);
    for _ in 0..5 {
        cluster.ask(&Wanted::Leave(0));
    }
    cluster.settle(10_000).unwrap();
    cluster.check_settled();
    assert_eq!(cluster.view.members.len(), 4);
    assert_eq!(cluster.view.tip.keepers.len(), 3);
}

#[test]
fn who_leaves_is_a_member_until_it_has_handed_over_or_is_lost() {
    for is_lost in [false, true] {
        let mut cluster = Cluster::bootstrapped();
        for _ in 0..3 {
            cluster.ask(&Wanted::Join(1, 0, 0));
        }
        cluster.settle(10_000).unwrap();
        let leaves = cluster.active()[1].id;
        cluster.hands_over = Some(leaves);
        cluster.ask(&Wanted::Leave(1));
        cluster.settle(10_000).unwrap();
        assert!(cluster.view.table.joint.is_empty());
        assert_eq!(course::emptied(&cluster.view), [leaves]);
        assert_eq!(cluster.view.members.len(), 4, "it may have what nobody has");
        match is_lost {
            true => cluster.lost = Some(leaves),
            false => cluster.hands_over = None,
        }
        cluster.settle(10).unwrap();
        assert_eq!(cluster.view.members.len(), 3);
        cluster.check_settled();
    }
}

#[test]
fn a_region_comes_and_goes() {
    let mut cluster = Cluster::bootstrapped();
    cluster.ask(&Wanted::Join(1, 0, 1));
    cluster.ask(&Wanted::Join(1, 1, 1));
    cluster.settle(10_000).unwrap();
    cluster.check_settled();
    assert_eq!(cluster.view.table.regions.len(), 2);
    let there = |view: &View| view.members.iter().position(|m| m.region == "r1");
    while let Some(index) = there(&cluster.view) {
        cluster.ask(&Wanted::Leave(index));
        cluster.settle(10_000).unwrap();
    }
    cluster.check_settled();
    assert_eq!(cluster.view.table.regions.len(), 1);
}

#[test]
fn a_move_to_somebody_who_leaves_is_aborted() {
    let mut cluster = Cluster::bootstrapped();
    cluster.ask(&Wanted::Join(2, 1, 0));
    cluster.settle(4).unwrap();
    assert!(!cluster.view.table.joint.is_empty());
    let newcomer = cluster
        .view
        .members
        .iter()
        .position(|m| m.id != NodeId(1_000));
    cluster.ask(&Wanted::Leave(newcomer.unwrap()));
    let nothing: (&[u32], &[NodeId]) = (&[], &[]);
    let record = course::follow(
        &cluster.view,
        ChangeId::default(),
        nothing,
        Missing::default(),
        LIMITS,
    );
    cluster.go_on(&record.unwrap().unwrap());
    let arrives = |list: &Vec<u32>| list.len() > 1;
    let next = cluster.view.table.joint.iter().map(|joint| &joint.next);
    assert_eq!(next.filter(|list| arrives(list)).count(), 0);
    cluster.settle(10_000).unwrap();
    cluster.check_settled();
}

#[test]
fn who_is_lost_while_lists_change_keeps_nobody_waiting() {
    let mut cluster = Cluster::bootstrapped();
    for _ in 0..4 {
        cluster.ask(&Wanted::Join(2, 0, 0));
        cluster.settle(10_000).unwrap();
    }
    let [leaves, lost] = [1, 3].map(|at| cluster.active()[at].id);
    let leave = |cluster: &mut Cluster, id| {
        let at = cluster.active().iter().position(|m| m.id == id);
        cluster.ask(&Wanted::Leave(at.unwrap()));
    };
    leave(&mut cluster, leaves);
    cluster.settle(3).unwrap();
    // Its disk is gone in the middle, and it stands in lists that are to be.
    cluster.lost = Some(lost);
    let rounds = cluster.settle(200).unwrap();
    assert_eq!(rounds, 200, "it may come back, so all wait for it");
    leave(&mut cluster, lost);
    let rounds = cluster.settle(500).unwrap();
    assert!(rounds < 500, "nobody waits for who is lost");
    cluster.check_settled();
    assert_eq!(cluster.view.members.len(), 3);
}

#[test]
fn no_move_takes_a_quorum_from_those_that_answer() {
    for (at, is_lost) in (0..5).flat_map(|at| [(at, false), (at, true)]) {
        let mut cluster = Cluster::bootstrapped();
        for _ in 0..4 {
            cluster.ask(&Wanted::Join(2, 0, 0));
            cluster.settle(10_000).unwrap();
        }
        let [leaves, away] = [at, (at + 2) % 5].map(|at| cluster.active()[at].id);
        cluster.ask(&Wanted::Leave(at));
        (cluster.lost, cluster.away) = (is_lost.then_some(leaves), Some(away));
        for _ in 0..200 {
            cluster.settle(1).unwrap();
            cluster.check_quorums();
        }
        assert!(cluster.view.member(away).is_some(), "it may come back");
        cluster.away = None;
        let rounds = cluster.settle(500).unwrap();
        assert!(rounds < 500, "it is back, and all goes on");
        cluster.check_settled();
        assert_eq!(cluster.view.members.len(), 4);
    }
}

fn wanted() -> impl Strategy<Value = Wanted> {
    prop_oneof![
        4 => (1u32..=8, 0u8..4, 0u8..2).prop_map(|(c, z, r)| Wanted::Join(c, z, r)),
        3 => (0usize..40).prop_map(Wanted::Leave),
        2 => (0usize..40, 1u32..=16).prop_map(|(index, c)| Wanted::Capacity(index, c)),
        1 => (1u8..=5).prop_map(Wanted::Length),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_is_asked_for_in_the_middle_of_moves_it_comes_to_rest(
        steps in prop::collection::vec((wanted(), 0usize..12), 1..9)
    ) {
        let mut cluster = Cluster::bootstrapped();
        for (wanted, rounds) in &steps {
            cluster.ask(wanted);
            cluster.settle(*rounds).unwrap();
        }
        let rounds = cluster.settle(10_000).unwrap();
        prop_assert!(rounds < 10_000, "it comes to rest");
        cluster.check_settled();
    }
}
