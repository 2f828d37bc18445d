//! What should follow a view without anybody asking for it: so every member comes to own its share,
//! and who leaves comes to own nothing.
//!
//! There is no plan that has to be kept. Each time the table is planned anew from the view as it
//! is, with the moves under way taken as done; so whoever proposes comes to the same, and a change
//! of mind in the middle costs hardly more than what was begun.

use super::keepers;
use crate::owners::{current_lists, next_lists};
use crate::planner::{self, Candidate, Limits, Move, PlanError, Present, Standing, Wish};
use annulet_protocol::epoch::{
    EpochRecord, ListChange, ListPlace, MemberChange, MemberGone, NextList, Step,
};
use annulet_protocol::ids::{ChangeId, NodeId};
use annulet_protocol::limits::{JOINT_MAX, LIST_CHANGES_MAX, MEMBER_CHANGES_MAX};
use annulet_protocol::table::{Joint, RegionTable};
use annulet_protocol::view::{Member, MemberState, View};
use std::collections::{BTreeMap, BTreeSet};

/// Members that do not answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Missing<'a> {
    /// They have not for long: nobody waits for those of them that are to leave, and nothing is
    /// aimed at the others any more.
    pub lost: &'a [NodeId],
    /// They did not when they were asked last: nothing is given to them that takes a quorum away
    /// from those who answer. The lost ones are among them.
    pub silent: &'a [NodeId],
    /// They were not heard of lately: none of them becomes a keeper.
    pub absent: &'a [NodeId],
}

/// The record that should follow a view; `None`: everything is as it should be, or has to wait for
/// moves that are under way. `done`: joint partitions whose copies are over. `handed`: those of
/// [`emptied`] that have handed over all that they had. `limits`: how much may move at a time.
///
/// # Errors
/// [`PlanError`]: there is no table for the members that are to own something, so nothing moves.
pub fn follow(
    view: &View,
    change: ChangeId,
    over: (&[u32], &[NodeId]),
    missing: Missing<'_>,
    limits: Limits,
) -> Result<Option<EpochRecord>, PlanError> {
    if is_to_double(view) {
        let keepers = keepers::follow(&view.members, &view.tip.keepers, missing.absent);
        let doubles = true;
        return Ok(Some(EpochRecord {
            doubles,
            ..begun(view, change, &keepers)
        }));
    }
    follow_uncut(view, change, over, missing, limits)
}

/// The same in as many partitions as there are, however few: for those who look at what becomes of
/// each of them.
///
/// # Errors
/// As [`follow`].
pub fn follow_uncut(
    view: &View,
    change: ChangeId,
    (done, handed): (&[u32], &[NodeId]),
    missing: Missing<'_>,
    limits: Limits,
) -> Result<Option<EpochRecord>, PlanError> {
    let keepers = keepers::follow(&view.members, &view.tip.keepers, missing.absent);
    let mut record = begun(view, change, &keepers);
    let mut after = view.clone();
    record.lists = settle(&mut after, done, missing, record.number);
    // They are applied before the lists change.
    record.members = gone(view, &keepers, |node| {
        handed.contains(&node) || missing.lost.contains(&node)
    });
    let opened = open(&after, missing, limits)?;
    let room = LIST_CHANGES_MAX - record.lists.len();
    record.lists.extend(opened.into_iter().take(room));
    let changes = !record.lists.is_empty() || !record.members.is_empty();
    Ok((changes || !record.keepers.is_empty()).then_some(record))
}

/// A record on top of a view that changes nothing yet but the keepers.
fn begun(view: &View, change: ChangeId, keepers: &[NodeId]) -> EpochRecord {
    EpochRecord {
        generation: view.tip.generation,
        number: view.epoch.saturating_add(1),
        before: view.tip.hash,
        keepers: keepers::if_others(keepers, view),
        change,
        ..EpochRecord::default()
    }
}

/// Whether there are fewer keepers than there could be: those that are absent would be keepers if
/// they were there.
pub fn lacks_keepers(view: &View) -> bool {
    let keepers = &view.tip.keepers;
    keepers::follow(&view.members, keepers, &[]).len() > keepers.len()
}

/// Whether the members that own something hold too few partition replicas each.
fn is_to_double(view: &View) -> bool {
    let active = view
        .members
        .iter()
        .filter(|m| m.state == MemberState::Active);
    let wanted = planner::partitions_for(active.count(), list_length(view));
    view.table.partitions < wanted && view.table.joint.len() <= JOINT_MAX / 2
}

/// Owners that each list is to have, where there are so many members.
pub(crate) fn list_length(view: &View) -> usize {
    let longest = view.table.regions.iter().map(|table| table.length).max();
    match view.table.list_length {
        0 => usize::from(longest.unwrap_or(1)),
        length => usize::from(length),
    }
}

/// Makes partitions stable: those that are done, and as they were those that were to go to somebody
/// who is lost or is to own nothing any more, would have fewer owners than they are to have by
/// now, or wait for somebody who is lost and can go first.
fn settle(view: &mut View, done: &[u32], missing: Missing<'_>, epoch: u64) -> Vec<ListChange> {
    let lost = missing.lost;
    let stays = |index: &u32| {
        let member = view.members.get(*index as usize);
        member.is_some_and(|m| m.state == MemberState::Active && !lost.contains(&m.id))
    };
    let arrives = |joint: &Joint, index: &u32| {
        let table = view.table.regions.iter().find(|t| t.region == joint.region);
        let mut owners = table.into_iter().flat_map(|t| t.list(joint.partition));
        !owners.any(|owner| owner == *index as usize)
    };
    let mut active = BTreeMap::<&str, usize>::new();
    for member in view
        .members
        .iter()
        .filter(|m| m.state == MemberState::Active)
    {
        *active.entry(&member.region).or_default() += 1;
    }
    let length = list_length(view);
    let is_short = |joint: &Joint| {
        let table = view.table.regions.iter().find(|t| t.region == joint.region);
        let current = table.map_or(0, |table| table.list(joint.partition).count());
        let active = active.get(joint.region.as_str()).copied();
        let due = active.unwrap_or(0).min(length);
        joint.next.len() < due && joint.next.len() < current
    };
    let waits = |joint: &Joint| {
        let table = view.table.regions.iter().find(|t| t.region == joint.region);
        let current = table.into_iter().flat_map(|t| t.list(joint.partition));
        let is_lost = |index: usize| standing(view, missing, index) == Standing::Lost;
        // A list changes by one owner at a time: of two that are lost one stays in any case.
        let one = current.filter(|index| is_lost(*index)).count() == 1;
        one && joint.next.iter().any(|index| is_lost(*index as usize))
    };
    let changes = view.table.joint.iter().filter_map(|joint| {
        let place = ListPlace {
            partition: joint.partition,
            since: view.table.lists_epoch(joint.partition),
        };
        let in_vain = joint.next.iter().any(|i| arrives(joint, i) && !stays(i));
        match done.contains(&joint.partition) {
            _ if is_short(joint) => Some(ListChange::Aborted(place)),
            true => Some(ListChange::Closed(place)),
            false if in_vain || waits(joint) => Some(ListChange::Aborted(place)),
            false => None,
        }
    });
    let changes: Vec<_> = changes.take(LIST_CHANGES_MAX).collect();
    for change in &changes {
        let takes = matches!(change, ListChange::Closed(_));
        view.table.settle(change.partition(), takes, epoch);
    }
    changes
}

/// The owners to be that have to say that they have all they should. Not those that are given up
/// and stand in the list as it is: where two of a list are lost, one stays in the next.
pub fn awaited(view: &View, joint: &Joint) -> Vec<NodeId> {
    let current = current_lists(view, joint.partition).into_iter().flatten();
    let current: BTreeSet<_> = current.collect();
    let is_lost = |node: &NodeId| {
        let member = view.member(*node);
        member.is_some_and(|member| member.state == MemberState::Lost)
    };
    let next = next_lists(view, joint).into_iter().flatten();
    next.filter(|node| !(is_lost(node) && current.contains(node)))
        .collect()
}

/// Members that are to leave and stand in no list any more. They may still have to hand over what
/// they owned.
pub fn emptied(view: &View) -> Vec<NodeId> {
    let leaves = |member: &Member| member.state.is_to_go();
    if !view.members.iter().any(leaves) {
        return Vec::new();
    }
    let mut owns = vec![false; view.members.len()];
    let lists = view.table.regions.iter().flat_map(RegionTable::places);
    let next = view
        .table
        .joint
        .iter()
        .flat_map(|joint| joint.next.iter().copied());
    for index in lists.chain(next) {
        if let Some(owns) = owns.get_mut(index as usize) {
            *owns = true;
        }
    }
    let members = view.members.iter().zip(owns);
    let emptied = members.filter(|(member, owns)| leaves(member) && !owns);
    emptied.map(|(member, _)| member.id).collect()
}

/// Members that were to leave, own nothing any more, keep no epochs, and have `done` all else.
fn gone(view: &View, keepers: &[NodeId], done: impl Fn(NodeId) -> bool) -> Vec<MemberChange> {
    let emptied = emptied(view).into_iter();
    let gone = emptied.filter(|node| !keepers.contains(node) && done(*node));
    let gone = gone.map(|id| MemberChange::Left(MemberGone { id }));
    gone.take(MEMBER_CHANGES_MAX).collect()
}

fn standing(view: &View, missing: Missing<'_>, index: usize) -> Standing {
    let Some(Member { id, state, .. }) = view.members.get(index) else {
        return Standing::Leaves;
    };
    match *state {
        MemberState::Active if missing.silent.contains(id) => Standing::Away,
        MemberState::Active => Standing::Stays,
        MemberState::Lost => Standing::Lost,
        _ if missing.lost.contains(id) => Standing::Lost,
        MemberState::Joining | MemberState::Leaving => Standing::Leaves,
    }
}

/// Further lists that may begin to change.
fn open(view: &View, missing: Missing<'_>, limits: Limits) -> Result<Vec<ListChange>, PlanError> {
    let candidate = |member: &Member| Candidate {
        capacity: member.capacity,
        zone: member.zone.clone(),
        region: member.region.clone(),
    };
    let stays = |member: &Member| member.state == MemberState::Active;
    let members = view.members.iter();
    let members: Vec<_> = members.map(|m| stays(m).then(|| candidate(m))).collect();
    let wish = Wish {
        partitions: view.table.partitions,
        list_length: list_length(view),
    };
    let present: Vec<_> = view.table.regions.iter().map(present).collect();
    let under_way: Vec<_> = view.table.joint.iter().map(under_way).collect();
    let then: Vec<_> = present
        .iter()
        .map(|lists| lists.after(&under_way))
        .collect();
    let wanted = planner::rebalance(&then, &members, &wish)?;
    let limits = Limits {
        total: limits.total.min(JOINT_MAX),
        ..limits
    };
    let standing = |index: u32| standing(view, missing, index as usize);
    let moves = planner::moves(&present, &wanted, &under_way, limits, standing);
    // The last owner of all waits for one in another region.
    let is_owned = |one: &Move| {
        let others = view
            .table
            .regions
            .iter()
            .filter(|table| table.region != one.region);
        let mut owners = others.flat_map(|table| table.list(one.partition));
        !one.next.is_empty() || owners.next().is_some()
    };
    let opened = moves.into_iter().filter(is_owned).filter_map(|one| {
        let lists = present.iter().find(|lists| lists.region == one.region);
        let have = lists.map_or(&[][..], |lists| lists.list(one.partition));
        let step = Step::between(have, &one.next);
        debug_assert!(
            step.is_some(),
            "a move is one step: {have:?}, {:?}",
            one.next
        );
        Some(ListChange::Opened(NextList {
            partition: one.partition,
            region: one.region,
            step: step?,
        }))
    });
    Ok(opened.collect())
}

pub(crate) fn present(table: &RegionTable) -> Present {
    Present {
        region: table.region.clone(),
        length: usize::from(table.length),
        owners: table.places().collect(),
    }
}

pub(crate) fn under_way(joint: &Joint) -> Move {
    Move {
        region: joint.region.clone(),
        partition: joint.partition,
        next: joint.next.clone(),
    }
}
