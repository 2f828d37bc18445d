//! What an epoch changes of who owns what.

use annulet_protocol::epoch::{ListChange, ListPlace, NextList, Step};
use annulet_protocol::ids::NodeId;
use annulet_protocol::limits::REPLICAS_MAX;
use annulet_protocol::table::{Joint, List, RegionTable};
use annulet_protocol::view::{MemberState, View};

/// Cuts the ring into twice as many partitions.
///
/// # Errors
/// If there would be too many; the view is checked as a whole as well.
pub(super) fn double(view: &mut View) -> Result<(), String> {
    let doubled = view.table.partitions.checked_mul(2);
    if doubled.is_none_or(|doubled| doubled > annulet_protocol::limits::PARTITIONS_MAX) {
        return Err(format!(
            "{} partitions are not doubled",
            view.table.partitions
        ));
    }
    view.table.halve();
    Ok(())
}

/// Sets how many owners each list is to have.
///
/// # Errors
/// If no list can have so many, or a bucket has more replicas.
pub(super) fn set_length(view: &mut View, length: u8) -> Result<(), String> {
    if !(1..=REPLICAS_MAX).contains(&usize::from(length)) {
        return Err(format!("lists of {length} owners; 1 to {REPLICAS_MAX}"));
    }
    if let Some(bucket) = view.buckets.iter().find(|b| b.replicas > length) {
        return Err(format!(
            "lists of {length} owners; bucket `{}` has {} replicas",
            bucket.name, bucket.replicas
        ));
    }
    view.table.list_length = length;
    Ok(())
}

/// Changes lists in the epoch of this number. `before`: the members of the epoch before, by whose
/// order the changes name owners.
///
/// # Errors
/// Says which rule is broken.
pub(super) fn change(
    view: &mut View,
    changes: &[ListChange],
    before: &[NodeId],
    epoch: u64,
) -> Result<(), String> {
    let mut emptied = false;
    for change in changes {
        match change {
            ListChange::Opened(next) => open(view, next, before, epoch)?,
            ListChange::Closed(place) => emptied |= settle(view, *place, true, epoch)?,
            ListChange::Aborted(place) => emptied |= settle(view, *place, false, epoch)?,
        }
    }
    if emptied {
        drop_regions(view);
    }
    Ok(())
}

fn open(view: &mut View, next: &NextList, before: &[NodeId], epoch: u64) -> Result<(), String> {
    let NextList {
        partition,
        region,
        step,
    } = next;
    let refuse = |why: &str| Err(format!("partition {partition} of region `{region}` {why}"));
    if *partition >= view.table.partitions {
        return refuse("is none");
    }
    let other = view.table.joint(*partition);
    if other.is_some_and(|joint| joint.region != *region) {
        return refuse("is joint in another region");
    }
    let Some(step) = renamed(view, *step, before) else {
        return refuse("is given to somebody who is no member");
    };
    // A table is large: nobody has one made for a region that has no members.
    if !view.members.iter().any(|member| member.region == *region) {
        return refuse("is in a region without members");
    }
    let table = region_table(view, region);
    let current = current(table, *partition);
    let Some(list) = step.apply(&current) else {
        return refuse("has no such position");
    };
    if current[..] == list[..] {
        return refuse("is given to those who own it");
    }
    for index in list.iter().filter(|index| !current.contains(index)) {
        let member = view.members.get(*index as usize);
        if member.is_none_or(|member| member.state != MemberState::Active) {
            return refuse("is given to a member that is not active");
        }
    }
    let joint = Joint {
        partition: *partition,
        region: region.clone(),
        next: list.to_vec(),
    };
    view.table.open(joint, epoch);
    Ok(())
}

/// Makes a partition stable. Says whether its list is empty now.
fn settle(view: &mut View, place: ListPlace, takes: bool, epoch: u64) -> Result<bool, String> {
    let ListPlace { partition, since } = place;
    let set = view.table.lists_epoch(partition);
    if view.table.joint(partition).is_none() || set != since {
        return Err(format!(
            "partition {partition} is not what epoch {since} made of it any more"
        ));
    }
    let joint = view.table.settle(partition, takes, epoch);
    let region = joint.map(|joint| joint.region).unwrap_or_default();
    let table = view.table.region_mut(&region);
    Ok(table.is_some_and(|table| table.list(partition).next().is_none()))
}

/// The step by the indices that members have now. `None`: it brings somebody who is none.
fn renamed(view: &View, step: Step, before: &[NodeId]) -> Option<Step> {
    // There are at most `MEMBERS_MAX` of them.
    let index = |owner: u32| view.place(*before.get(owner as usize)?).map(|at| at as u32);
    Some(match step {
        Step::Replaced { position, owner } => Step::Replaced {
            position,
            owner: index(owner)?,
        },
        Step::Inserted { position, owner } => Step::Inserted {
            position,
            owner: index(owner)?,
        },
        Step::Removed { .. } | Step::Swapped { .. } => step,
    })
}

/// The table of a region; one without owners if it had none.
fn region_table<'a>(view: &'a mut View, region: &str) -> &'a RegionTable {
    let members = view.members.len();
    let table = &mut view.table;
    let length = table.list_length.max(1);
    let found = table
        .regions
        .binary_search_by(|t| t.region.as_str().cmp(region));
    let at = found.unwrap_or_else(|at| {
        let empty = RegionTable::empty(region, length, members, table.partitions);
        table.regions.insert(at, empty);
        at
    });
    &table.regions[at]
}

/// Drops the tables of regions in which nobody owns or is to own anything.
fn drop_regions(view: &mut View) {
    let joint = &view.table.joint;
    view.table.regions.retain(|table| {
        joint.iter().any(|joint| joint.region == table.region) || !table.is_empty()
    });
}

fn current(table: &RegionTable, partition: u32) -> List {
    // Indices are kept in four bytes.
    table.list(partition).map(|index| index as u32).collect()
}
