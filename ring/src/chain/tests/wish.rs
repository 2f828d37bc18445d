//! What somebody asks of members.

use super::*;
use annulet_protocol::epoch::{MemberChange, MemberSettings};
use annulet_protocol::members::{LeaveMember, MemberCommand, SetMember};
use annulet_protocol::view::Member;

const CHANGE: ChangeId = ChangeId([7; 16]);

fn made(view: &View, command: &MemberCommand) -> View {
    let record = propose_member(view, CHANGE, command, &[]).unwrap();
    assert_eq!(record.change, CHANGE);
    apply(view, &record).unwrap()
}

fn leave(id: NodeId) -> MemberCommand {
    MemberCommand::Leave(LeaveMember { id })
}

fn newcomer(id: u64) -> Member {
    Member {
        id: NodeId(id),
        address: format!("new-{id}:7400"),
        capacity: 2,
        zone: "z".into(),
        region: String::new(),
        state: MemberState::Active,
    }
}

#[test]
fn who_leaves_is_no_keeper_and_owns_what_it_owned_for_now() {
    let view = first(4);
    let keeper = view.tip.keepers[0];
    let after = made(&view, &leave(keeper));
    assert_eq!(after.member(keeper).unwrap().state, MemberState::Leaving);
    assert!(!after.tip.keepers.contains(&keeper));
    assert_eq!(after.table.regions, view.table.regions);
    let again = propose_member(&after, CHANGE, &leave(keeper), &[]);
    assert!(matches!(again, Err(Objection::Conflict(_))), "{again:?}");
    let stranger = propose_member(&view, CHANGE, &leave(NodeId(99)), &[]);
    assert!(
        matches!(stranger, Err(Objection::Conflict(_))),
        "{stranger:?}"
    );
}

#[test]
fn somebody_stays_to_own_everything() {
    let mut view = first(4);
    let ids: Vec<_> = view.members.iter().map(|member| member.id).collect();
    let (last, others) = ids.split_last().unwrap();
    for id in others {
        view = made(&view, &leave(*id));
    }
    let refused = propose_member(&view, CHANGE, &leave(*last), &[]);
    assert!(matches!(refused, Err(Objection::Invalid(_))), "{refused:?}");
}

#[test]
fn what_is_left_out_of_a_change_stays() {
    let view = first(4);
    let before = view.members[1].clone();
    let set = SetMember {
        id: before.id,
        capacity: Some(7),
        ..SetMember::default()
    };
    let after = made(&view, &MemberCommand::Set(set.clone()));
    let expected = Member {
        capacity: 7,
        ..before.clone()
    };
    assert_eq!(after.members[1], expected);
    let none = SetMember {
        capacity: Some(0),
        ..set
    };
    let refused = propose_member(&view, CHANGE, &MemberCommand::Set(none), &[]);
    assert!(matches!(refused, Err(Objection::Invalid(_))), "{refused:?}");
}

#[test]
fn who_joins_owns_its_share_only_once_it_holds_the_view() {
    let view = first(4);
    let joined = made(&view, &MemberCommand::Join(newcomer(50)));
    assert_eq!(
        joined.member(NodeId(50)).unwrap().state,
        MemberState::Joining
    );
    assert_eq!(activate(&joined, CHANGE, &[]), None);
    let known = view.members[0].id;
    assert_eq!(activate(&joined, CHANGE, &[known]), None, "it is active");
    let record = activate(&joined, CHANGE, &[NodeId(50)]).unwrap();
    let set = MemberChange::Set(MemberSettings {
        id: NodeId(50),
        address: "new-50:7400".into(),
        capacity: 2,
        zone: "z".into(),
        state: MemberState::Active,
    });
    assert_eq!(record.members, [set]);
    let active = apply(&joined, &record).unwrap();
    assert_eq!(active.tip.keepers, joined.tip.keepers);
    for twice in [
        newcomer(50),
        Member {
            id: NodeId(51),
            ..newcomer(50)
        },
    ] {
        let refused = propose_member(&joined, CHANGE, &MemberCommand::Join(twice), &[]);
        assert!(
            matches!(refused, Err(Objection::Conflict(_))),
            "{refused:?}"
        );
    }
}

#[test]
fn who_is_given_up_stays_so_and_is_the_last_of_nobody() {
    let view = first(3);
    let id = view.members[0].id;
    let lost = MemberCommand::AcceptLoss(LeaveMember { id });
    let leaving = made(&view, &MemberCommand::Leave(LeaveMember { id }));
    for before in [&view, &leaving] {
        let after = made(before, &lost);
        assert_eq!(after.members[0].state, MemberState::Lost);
        assert!(!after.tip.keepers.contains(&id), "it keeps no epochs");
        for again in [&lost, &MemberCommand::Leave(LeaveMember { id })] {
            let refused = propose_member(&after, CHANGE, again, &[]);
            assert!(
                matches!(refused, Err(Objection::Conflict(_))),
                "{refused:?}"
            );
        }
        let set = SetMember {
            id,
            capacity: Some(7),
            ..SetMember::default()
        };
        let set = made(&after, &MemberCommand::Set(set));
        assert_eq!(set.members[0].state, MemberState::Lost);
        let back = EpochRecord {
            number: after.epoch + 1,
            before: after.tip.hash,
            members: vec![MemberChange::Set(MemberSettings {
                id,
                address: "host:1".into(),
                capacity: 1,
                zone: String::new(),
                state: MemberState::Active,
            })],
            ..EpochRecord::default()
        };
        assert!(apply(&after, &back).is_err(), "it comes back");
    }
    let alone = first(1);
    let id = alone.members[0].id;
    let lost = MemberCommand::AcceptLoss(LeaveMember { id });
    let refused = propose_member(&alone, CHANGE, &lost, &[]);
    assert!(matches!(refused, Err(Objection::Invalid(_))), "{refused:?}");
}

#[test]
fn a_server_takes_over_an_address_only_from_whom_it_replaces() {
    let view = first(3);
    let old = view.members[0].clone();
    let new = Member {
        id: NodeId(50),
        ..old.clone()
    };
    let other = view.members[1].id;
    for replaces in [None, Some(other), Some(NodeId(77))] {
        let refused = propose_join(&view, CHANGE, &new, replaces);
        assert!(
            matches!(refused, Err(Objection::Conflict(_))),
            "{replaces:?}: {refused:?}"
        );
    }
    let record = propose_join(&view, CHANGE, &new, Some(old.id)).unwrap();
    let joined = apply(&view, &record).unwrap();
    let state = |id| joined.member(id).map(|member| member.state);
    assert_eq!(state(new.id), Some(MemberState::Joining));
    assert_eq!(state(old.id), Some(MemberState::Active), "until it can go");
}
