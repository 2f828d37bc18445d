//! What an epoch changes of who owns what.

use annulet_protocol::epoch::{ListChange, ListPlace, NextList};
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

/// Changes lists in the epoch of this number.
///
/// # Errors
/// Says which rule is broken.
pub(super) fn change(view: &mut View, changes: &[ListChange], epoch: u64) -> Result<(), String> {
    let mut emptied = false;
    for change in changes {
        match change {
            ListChange::Opened(next) => open(view, next, epoch)?,
            ListChange::Closed(place) => emptied |= settle(view, *place, true, epoch)?,
            ListChange::Aborted(place) => emptied |= settle(view, *place, false, epoch)?,
            ListChange::Unknown => {
                return Err("a change of lists that only a newer version knows".into());
            }
        }
    }
    if emptied {
        drop_regions(view);
    }
    Ok(())
}

fn open(view: &mut View, next: &NextList, epoch: u64) -> Result<(), String> {
    let NextList {
        partition,
        region,
        owners,
    } = next;
    let refuse = |why: &str| Err(format!("partition {partition} of region `{region}` {why}"));
    if *partition >= view.table.partitions {
        return refuse("is none");
    }
    let other = view.table.joint(*partition);
    if other.is_some_and(|joint| joint.region != *region) {
        return refuse("is joint in another region");
    }
    let Some(list) = indices(view, owners) else {
        return refuse("is given to somebody who is no member");
    };
    let table = region_table(view, region);
    let current = current(table, *partition);
    if current[..] == list[..] {
        return refuse("is given to those who own it");
    }
    if !is_step(&current, &list) {
        return refuse("would change by more than one owner");
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

/// The members of these ids. `None`: one of them is none.
fn indices(view: &View, owners: &[NodeId]) -> Option<List> {
    let index = |id: &NodeId| view.members.binary_search_by_key(id, |member| member.id);
    // There are at most `MEMBERS_MAX` of them.
    let index = |id| index(id).ok().map(|at| at as u32);
    owners.iter().map(index).collect()
}

/// The table of a region; one without owners if it had none.
fn region_table<'a>(view: &'a mut View, region: &str) -> &'a RegionTable {
    let table = &mut view.table;
    let length = table.list_length.max(1);
    let found = table
        .regions
        .binary_search_by(|t| t.region.as_str().cmp(region));
    let at = found.unwrap_or_else(|at| {
        let empty = RegionTable::empty(region, length, table.partitions);
        table.regions.insert(at, empty);
        at
    });
    &table.regions[at]
}

/// Drops the tables of regions in which nobody owns or is to own anything.
fn drop_regions(view: &mut View) {
    let joint = &view.table.joint;
    let partitions = view.table.partitions;
    view.table.regions.retain(|table| {
        joint.iter().any(|joint| joint.region == table.region)
            || (0..partitions).any(|partition| table.list(partition).next().is_some())
    });
}

fn current(table: &RegionTable, partition: u32) -> List {
    // Indices are kept in four bytes.
    table.list(partition).map(|index| index as u32).collect()
}

/// Whether every prefix changes by one owner at most, so that any one node may die while the
/// partition is joint, in buckets of any number of replicas.
fn is_step(have: &[u32], next: &[u32]) -> bool {
    let differ = |one: &[u32], other: &[u32]| one.iter().filter(|i| !other.contains(i)).count();
    (1..=have.len().max(next.len())).all(|length| {
        let have = &have[..length.min(have.len())];
        let next = &next[..length.min(next.len())];
        differ(have, next) <= 1 && differ(next, have) <= 1
    })
}
