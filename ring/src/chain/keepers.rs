//! The choice of keepers.

use annulet_protocol::ids::NodeId;
use annulet_protocol::view::{Member, MemberState};

/// One, three or five of the active members, as many as there are, so that regions and then zones
/// have as even a share as they can. The same for the same members; they are in order of id.
pub(super) fn choose(members: &[Member]) -> Vec<NodeId> {
    let active = members.iter().filter(|m| m.state == MemberState::Active);
    let mut left: Vec<_> = active.collect();
    let count = match left.len() {
        0 => 0,
        1 | 2 => 1,
        3 | 4 => 3,
        _ => 5,
    };
    let mut chosen: Vec<&Member> = Vec::with_capacity(count);
    while chosen.len() < count {
        let crowd = |member: &Member| {
            let region = chosen.iter().filter(|c| c.region == member.region);
            let zone = region.clone().filter(|c| c.zone == member.zone);
            (region.count(), zone.count())
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
    fn who_is_not_active_keeps_nothing() {
        let mut members = members(&[("", ""); 3]);
        members[0].state = MemberState::Joining;
        members[1].state = MemberState::Leaving;
        assert_eq!(choose(&members), [NodeId(3)]);
        members[2].state = MemberState::Joining;
        assert!(choose(&members).is_empty());
    }
}
