//! The choice of keepers.

use annulet_protocol::ids::NodeId;
use annulet_protocol::view::{Member, MemberState, View};

/// One, three or five of the active members, as many as there are, so that regions and then zones
/// have as even a share as they can. The same for the same members; they are in order of id.
pub(super) fn choose(members: &[Member]) -> Vec<NodeId> {
    choose_from(members, &[])
}

/// The keepers after these: the same as long as all are active and there should be as many; else
/// others, of which as many as can be were keepers before. `lost`: members that do not answer. Who
/// is a keeper stays one all the same, since a pause must not change the ring, and no other of them
/// becomes one: too many that are gone, and nothing could be decided any more.
pub(super) fn follow(members: &[Member], before: &[NodeId], lost: &[NodeId]) -> Vec<NodeId> {
    let may = |member: &Member| before.contains(&member.id) || !lost.contains(&member.id);
    let may: Vec<_> = members.iter().filter(|m| may(m)).cloned().collect();
    let active = || may.iter().filter(|m| m.state == MemberState::Active);
    let is_active = |keeper: &NodeId| active().any(|member| member.id == *keeper);
    match before.len() == count(active().count()) && before.iter().all(is_active) {
        true => before.to_vec(),
        false => choose_from(&may, before),
    }
}

/// The keepers of a chain that is begun anew, of the members that answer. None: none of them is
/// active.
pub(super) fn anew(members: &[Member], before: &[NodeId], answer: &[NodeId]) -> Vec<NodeId> {
    let answer = |member: &&Member| answer.contains(&member.id);
    let members: Vec<_> = members.iter().filter(answer).cloned().collect();
    choose_from(&members, before)
}

/// These keepers as a record names them: not at all, if they are those of the view before.
pub(super) fn if_others(keepers: &[NodeId], before: &View) -> Vec<NodeId> {
    match *keepers == before.tip.keepers {
        true => Vec::new(),
        false => keepers.to_vec(),
    }
}

/// How many keepers so many active members have.
fn count(active: usize) -> usize {
    match active {
        0 => 0,
        1 | 2 => 1,
        3 | 4 => 3,
        _ => 5,
    }
}

fn choose_from(members: &[Member], before: &[NodeId]) -> Vec<NodeId> {
    let active = members.iter().filter(|m| m.state == MemberState::Active);
    let mut left: Vec<_> = active.collect();
    let count = count(left.len());
    let mut chosen: Vec<&Member> = Vec::with_capacity(count);
    while chosen.len() < count {
        let crowd = |member: &Member| {
            let region = chosen.iter().filter(|c| c.region == member.region);
            let zone = region.clone().filter(|c| c.zone == member.zone);
            (region.count(), zone.count(), !before.contains(&member.id))
        };
        let least = (0..left.len()).min_by_key(|at| crowd(left[*at]));
        let Some(least) = least else { break };
        chosen.push(left.remove(least));
    }
    let mut keepers: Vec<_> = chosen.into_iter().map(|member| member.id).collect();
    keepers.sort_unstable();
    keepers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(places: &[(&str, &str)]) -> Vec<Member> {
        let member = |(id, (region, zone)): (u64, &(&str, &str))| Member {
            id: NodeId(id),
            address: format!("h{id}:1"),
            capacity: 1,
            zone: (*zone).into(),
            region: (*region).into(),
            state: MemberState::Active,
        };
        (1..).zip(places).map(member).collect()
    }

    fn check(places: &[(&str, &str)], expected: &[u64]) {
        let keepers = choose(&members(places));
        let keepers: Vec<_> = keepers.into_iter().map(|keeper| keeper.0).collect();
        assert_eq!(keepers, expected, "{places:?}");
    }

    #[test]
    fn keepers_are_an_odd_number_spread_over_places() {
        check(&[("", "")], &[1]);
        check(&[("", ""); 2], &[1]);
        check(&[("", ""); 4], &[1, 2, 3]);
        check(&[("", ""); 9], &[1, 2, 3, 4, 5]);
        check(
            &[("", "a"), ("", "a"), ("", "a"), ("", "b"), ("", "c")],
            &[1, 2, 3, 4, 5],
        );
        check(&[("", "a"), ("", "a"), ("", "b"), ("", "c")], &[1, 3, 4]);
        let two = [("n", "a"), ("n", "b"), ("n", "c"), ("s", "a")];
        check(&two, &[1, 2, 4]);
        let six = [two[0], two[1], two[2], ("s", "a"), ("s", "b"), ("s", "c")];
        check(&six, &[1, 2, 3, 4, 5]);
    }

    #[test]
    fn keepers_stay_as_long_as_they_can() {
        let ids = |ids: &[u64]| ids.iter().copied().map(NodeId).collect::<Vec<_>>();
        let mut members = members(&[("", ""); 6]);
        let before = ids(&[2, 3, 4, 5, 6]);
        let follow = |members: &[Member], before: &[NodeId]| follow(members, before, &[]);
        assert_eq!(follow(&members, &before), before);
        members[3].state = MemberState::Leaving;
        assert_eq!(follow(&members, &before), ids(&[1, 2, 3, 5, 6]));
        members[4].state = MemberState::Leaving;
        assert_eq!(follow(&members, &before), ids(&[2, 3, 6]));
        assert_eq!(follow(&members[..1], &ids(&[1])), ids(&[1]), "one goes on");
        assert_eq!(follow(&members, &ids(&[1])), ids(&[1, 2, 3]), "one grows");
    }

    #[test]
    fn who_does_not_answer_becomes_no_keeper_and_stays_one() {
        let ids = |ids: &[u64]| ids.iter().copied().map(NodeId).collect::<Vec<_>>();
        let mut members = members(&[("", ""); 5]);
        let lost = ids(&[1, 2, 3]);
        let all = ids(&[1, 2, 3, 4, 5]);
        assert_eq!(
            follow(&members, &all, &lost),
            all,
            "a pause changes nothing"
        );
        assert_eq!(anew(&members, &all, &ids(&[4, 5])), ids(&[4]));
        assert_eq!(follow(&members, &ids(&[4]), &lost), ids(&[4]));
        members[0].state = MemberState::Leaving;
        assert_eq!(follow(&members, &ids(&[4]), &lost), ids(&[4]));
        assert_eq!(follow(&members, &ids(&[4]), &lost[..1]), ids(&[2, 3, 4]));
        assert!(
            anew(&members, &all, &lost[..1]).is_empty(),
            "none is active"
        );
    }

    #[test]
    fn who_is_not_active_keeps_nothing() {
        let mut members = members(&[("", ""); 3]);
        members[0].state = MemberState::Joining;
        members[1].state = MemberState::Leaving;
        assert_eq!(choose(&members), [NodeId(3)]);
        members[2].state = MemberState::Joining;
        assert!(choose(&members).is_empty());
    }
}
