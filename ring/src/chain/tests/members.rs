//! Members that come, change and go, and lists that change hands.

use super::*;
use crate::owners::Owners;
use annulet_protocol::epoch::{
    ListChange, ListPlace, MemberChange, MemberGone, MemberSettings, NextList, Step,
};
use annulet_protocol::hash::KeyHash;
use annulet_protocol::limits::PARTITIONS_MAX;

fn newcomer(id: u64) -> Member {
    Member {
        id: NodeId(id),
        address: format!("host-{id}:7400"),
        capacity: 2,
        zone: "z".into(),
        region: String::new(),
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

fn left(id: u64) -> MemberChange {
    MemberChange::Left(MemberGone { id: NodeId(id) })
}

/// The index of a member; of who is none, one that none has.
fn index(view: &View, id: u64) -> u32 {
    view.place(NodeId(id)).unwrap_or(view.members.len()) as u32
}

/// The step from the list of a partition in a region to another.
fn between(view: &View, region: &str, partition: u32, owners: &[u64]) -> Option<Step> {
    let mut tables = view.table.regions.iter();
    let table = tables.find(|table| table.region == region);
    let have = table.into_iter().flat_map(|table| table.list(partition));
    let have: Vec<_> = have.map(|index| index as u32).collect();
    let next: Vec<_> = owners.iter().map(|id| index(view, *id)).collect();
    Step::between(&have, &next)
}

fn takes(partition: u32, region: &str, step: Step) -> ListChange {
    ListChange::Opened(NextList {
        partition,
        region: region.into(),
        step,
    })
}

fn opened(view: &View, partition: u32, owners: &[u64]) -> ListChange {
    takes(
        partition,
        "",
        between(view, "", partition, owners).expect("a step"),
    )
}

fn place(view: &View, partition: u32) -> ListPlace {
    ListPlace {
        partition,
        since: view.table.lists_epoch(partition),
    }
}

/// The record after a view, with these changes.
fn record(view: &View, change: impl FnOnce(&mut EpochRecord)) -> EpochRecord {
    let mut record = EpochRecord {
        number: view.epoch + 1,
        before: view.tip.hash,
        keepers: view.tip.keepers.clone(),
        ..EpochRecord::default()
    };
    change(&mut record);
    record
}

fn members(view: &View, changes: &[MemberChange]) -> Result<View, ApplyError> {
    apply(view, &record(view, |r| r.members = changes.to_vec()))
}

fn lists(view: &View, changes: &[ListChange]) -> Result<View, ApplyError> {
    apply(view, &record(view, |r| r.lists = changes.to_vec()))
}

fn why(result: Result<View, ApplyError>) -> String {
    match result {
        Err(ApplyError::Unsound { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

/// Four servers, of which the second owns nothing yet, and the first list.
fn grown() -> (View, Vec<u64>) {
    let view = first_of(&[10, 30, 40]);
    let view = members(&view, &[MemberChange::Joined(newcomer(20))]).unwrap();
    let view = members(&view, &[set(&newcomer(20), MemberState::Active)]).unwrap();
    let list = list(&view, 0);
    (view, list)
}

fn list(view: &View, partition: u32) -> Vec<u64> {
    let (from, _) = KeyHash::arc(partition, view.table.partitions);
    let owners = Owners::of(view, &view.buckets[0], from);
    let nodes = owners.regions.iter().flat_map(|list| &list.nodes);
    nodes.map(|node| node.0).collect()
}

#[test]
fn lists_name_the_same_servers_whoever_joins_or_leaves() {
    let (view, _) = grown();
    assert_eq!(view.members.len(), 4);
    let before = first_of(&[10, 30, 40]);
    for partition in 0..4 {
        assert_eq!(list(&view, partition), list(&before, partition));
    }
    assert!(why(members(&view, &[left(30)])).contains("owns something"));
    assert!(why(members(&view, &[left(50)])).contains("no member"));
    let view = members(&view, &[left(20)]).unwrap();
    assert_eq!(view.members, before.members);
    assert_eq!(view.table, before.table);
}

#[test]
fn members_go_through_their_states() {
    let view = first_of(&[10, 30, 40]);
    let active = Member {
        state: MemberState::Active,
        ..newcomer(20)
    };
    assert!(why(members(&view, &[MemberChange::Joined(active)])).contains("owns something"));
    let again = MemberChange::Joined(newcomer(30));
    assert!(why(members(&view, &[again])).contains("second time"));
    let swap = [left(20), MemberChange::Joined(newcomer(20))];
    let (grown, _) = grown();
    assert!(why(members(&grown, &swap)).contains("second time"));
    let back = set(&newcomer(20), MemberState::Joining);
    assert!(why(members(&grown, &[back])).contains("joined already"));
    let leaves = set(&grown.members[0], MemberState::Leaving);
    assert!(why(members(&grown, std::slice::from_ref(&leaves))).contains("keeper"));
    let without = record(&grown, |record| {
        record.members = vec![leaves];
        record.keepers = [20, 30, 40].map(NodeId).to_vec();
    });
    let leaving = apply(&grown, &without).unwrap();
    assert_eq!(leaving.members[0].state, MemberState::Leaving);
    let stays = set(&leaving.members[0], MemberState::Active);
    assert!(members(&leaving, &[stays]).is_ok());
    let nothing = MemberChange::Set(MemberSettings {
        capacity: 0,
        id: NodeId(20),
        address: "h:1".into(),
        zone: String::new(),
        state: MemberState::Active,
    });
    assert!(why(members(&grown, &[nothing])).contains("capacity"));
    assert!(why(members(&grown, &[MemberChange::Unknown])).contains("newer"));
}

#[test]
fn a_list_changes_hands_by_way_of_a_joint_partition() {
    let (view, before) = grown();
    let next = [before[0], before[1], 20];
    let joint = lists(&view, &[opened(&view, 0, &next)]).unwrap();
    assert_eq!(list(&joint, 0), before, "the list stays meanwhile");
    let (from, _) = KeyHash::arc(0, 4);
    let owners = Owners::of(&joint, &joint.buckets[0], from);
    let to_be = owners.next.as_ref().expect("it is joint");
    assert_eq!(to_be[0].nodes[..], next.map(NodeId));
    assert_eq!(owners.epoch, joint.epoch);
    assert!(owners.contains(NodeId(20)) && owners.contains(NodeId(before[2])));
    let narrow = Bucket {
        replicas: 2,
        ..joint.buckets[0].clone()
    };
    let narrow = Owners::of(&joint, &narrow, from);
    assert_eq!(narrow.next, None, "the first two stay");
    assert!(!narrow.contains(NodeId(20)));
    let (other, _) = KeyHash::arc(1, 4);
    let others = Owners::of(&joint, &joint.buckets[0], other);
    assert_eq!(
        (others.next, others.epoch),
        (None, 1),
        "others do not change"
    );
    let closed = lists(&joint, &[ListChange::Closed(place(&joint, 0))]).unwrap();
    assert_eq!(list(&closed, 0), next);
    assert!(closed.table.joint.is_empty());
    let aborted = lists(&joint, &[ListChange::Aborted(place(&joint, 0))]).unwrap();
    assert_eq!((list(&aborted, 0), aborted.table.joint.len()), (before, 0));
    assert!(aborted.table.lists_epoch(0) > joint.table.lists_epoch(0));
}

#[test]
fn what_was_ordered_of_an_earlier_move_is_not_done_to_a_later_one() {
    let (view, before) = grown();
    let joint = lists(&view, &[opened(&view, 0, &[before[0], before[1], 20])]).unwrap();
    let old = place(&joint, 0);
    let aimed = lists(&joint, &[opened(&joint, 0, &[before[0], 20, before[2]])]).unwrap();
    let late = lists(&aimed, &[ListChange::Closed(old)]);
    assert!(why(late).contains("any more"));
    assert!(lists(&aimed, &[ListChange::Closed(place(&aimed, 0))]).is_ok());
    assert!(why(lists(&view, &[ListChange::Closed(place(&view, 0))])).contains("any more"));
}

#[test]
fn a_move_that_breaks_a_rule_is_refused() {
    let (view, before) = grown();
    let open = |step| why(lists(&view, &[takes(0, "", step)]));
    let same = Step::Swapped {
        position: 1,
        with: 1,
    };
    assert!(open(same).contains("those who own it"));
    let two = between(&view, "", 0, &[20, before[2], before[0]]);
    assert_eq!(two, None, "two in a prefix are no step");
    let last = |id| Step::Replaced {
        position: 2,
        owner: index(&view, id),
    };
    assert!(open(last(50)).contains("no member"));
    assert!(open(last(before[1])).contains("bad next owners"));
    assert!(open(Step::Removed { position: 3 }).contains("no such position"));
    assert!(why(lists(&view, &[takes(4, "", last(20))])).contains("is none"));
    let joining = members(&view, &[MemberChange::Joined(newcomer(50))]).unwrap();
    let early = lists(
        &joining,
        &[opened(&joining, 0, &[before[0], before[1], 50])],
    );
    assert!(why(early).contains("not active"));
    for changes in [
        &[before[1], before[0], before[2]][..],
        &[before[0], before[1]],
        &[before[0], before[1], before[2], 20],
        &[20, before[1], before[2]],
    ] {
        assert!(
            lists(&view, &[opened(&view, 0, changes)]).is_ok(),
            "{changes:?}"
        );
    }
}

#[test]
fn owners_are_named_by_the_order_of_the_members_before() {
    let (view, before) = grown();
    // In the order of afterwards that is another one: the first of four is gone.
    let idle = members(&view, &[MemberChange::Joined(newcomer(5))]).unwrap();
    let both = record(&idle, |record| {
        record.members = vec![left(5)];
        record.lists = vec![opened(&idle, 0, &[before[0], before[1], 20])];
    });
    let joint = apply(&idle, &both).unwrap();
    let owners = joint.table.joint[0].next.iter();
    let ids: Vec<_> = owners.map(|at| joint.members[*at as usize].id.0).collect();
    assert_eq!(ids, [before[0], before[1], 20]);
    let gone = record(&idle, |record| {
        record.members = vec![left(5)];
        record.lists = vec![opened(&idle, 0, &[before[0], before[1], 5])];
    });
    assert!(why(apply(&idle, &gone)).contains("no member"));
}

#[test]
fn a_region_comes_and_goes_with_its_owners() {
    let (view, _) = grown();
    let far = Member {
        region: "far".into(),
        ..newcomer(50)
    };
    let view = members(&view, &[MemberChange::Joined(far.clone())]).unwrap();
    let view = members(&view, &[set(&far, MemberState::Active)]).unwrap();
    let first = |view: &View, owners: &[u64]| {
        takes(0, "far", between(view, "far", 0, owners).expect("a step"))
    };
    let joint = lists(&view, &[first(&view, &[50])]).unwrap();
    assert_eq!(joint.table.regions.len(), 2);
    let (from, _) = KeyHash::arc(0, 4);
    let owners = Owners::of(&joint, &joint.buckets[0], from);
    assert_eq!(
        (owners.regions.len(), owners.next.map(|next| next.len())),
        (1, Some(2))
    );
    let busy = lists(&joint, &[takes(0, "", Step::Removed { position: 0 })]);
    assert!(why(busy).contains("another region"));
    let aborted = lists(&joint, &[ListChange::Aborted(place(&joint, 0))]).unwrap();
    assert_eq!(aborted.table.regions.len(), 1, "nobody owned anything");
    let closed = lists(&joint, &[ListChange::Closed(place(&joint, 0))]).unwrap();
    assert_eq!(list(&closed, 0).len(), 4);
    let emptied = lists(&closed, &[first(&closed, &[])]).unwrap();
    let gone = lists(&emptied, &[ListChange::Closed(place(&emptied, 0))]).unwrap();
    assert_eq!(gone.table.regions.len(), 1);
    assert!(members(&gone, &[left(50)]).is_ok());
}

#[test]
fn partitions_double_and_lists_get_another_length() {
    let (view, before) = grown();
    let joint = lists(&view, &[opened(&view, 0, &[before[0], before[1], 20])]).unwrap();
    let doubled = apply(&joint, &record(&joint, |record| record.doubles = true)).unwrap();
    assert_eq!(doubled.table.partitions, 8);
    for partition in [0, 1] {
        assert_eq!(list(&doubled, partition), before);
        assert_eq!(doubled.table.lists_epoch(partition), joint.epoch);
        let closed = [ListChange::Closed(place(&doubled, partition))];
        assert!(lists(&doubled, &closed).is_ok(), "each half by itself");
    }
    let mut full = view.clone();
    full.table.partitions = PARTITIONS_MAX;
    assert!(why(apply(&full, &record(&full, |r| r.doubles = true))).contains("not doubled"));
    let length = |length| record(&view, |record| record.list_length = Some(length));
    assert_eq!(apply(&view, &length(5)).unwrap().table.list_length, 5);
    assert!(why(apply(&view, &length(2))).contains("3 replicas"));
    assert!(why(apply(&view, &length(8))).contains("1 to 7"));
}
