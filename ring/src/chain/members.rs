//! What an epoch changes of the members.

use annulet_protocol::epoch::{MemberChange, MemberGone, MemberSettings};
use annulet_protocol::ids::NodeId;
use annulet_protocol::table::NOBODY;
use annulet_protocol::view::{Member, MemberState, View};
use std::cell::Cell;

/// Changes the members of a view. The lists go on naming those that they named.
///
/// # Errors
/// Says which rule is broken.
pub(super) fn change(view: &mut View, changes: &[MemberChange]) -> Result<(), String> {
    let before = view.members.ids().to_vec();
    for change in changes {
        match change {
            MemberChange::Joined(member) => join(view, &before, member)?,
            MemberChange::Set(settings) => set(view, settings)?,
            MemberChange::Left(MemberGone { id }) => {
                let at = place(view, *id)?;
                view.members.remove(at);
            }
            MemberChange::Unknown => {
                return Err("a change of a member that only a newer version knows".into());
            }
        }
    }
    renumber(view, &before)
}

fn place(view: &View, id: NodeId) -> Result<usize, String> {
    let at = view.place(id);
    at.ok_or_else(|| format!("there is no member {id}"))
}

fn join(view: &mut View, before: &[NodeId], member: &Member) -> Result<(), String> {
    let id = member.id;
    if member.state != MemberState::Joining {
        return Err(format!("member {id} joins as one that owns something"));
    }
    let at = view.members.ids().binary_search(&id);
    match (at, before.binary_search(&id)) {
        (Err(at), Err(_)) => view.members.insert(at, member.clone()),
        (Ok(_), _) | (_, Ok(_)) => return Err(format!("member {id} joins a second time")),
    }
    Ok(())
}

fn set(view: &mut View, settings: &MemberSettings) -> Result<(), String> {
    let MemberSettings {
        id,
        address,
        capacity,
        zone,
        state,
    } = settings;
    let at = place(view, *id)?;
    let member = &mut view.members[at];
    if *state == MemberState::Joining && member.state != MemberState::Joining {
        return Err(format!("member {id} has joined already"));
    }
    if member.state == MemberState::Lost && *state != MemberState::Lost {
        return Err(format!("member {id} was given up"));
    }
    member.address.clone_from(address);
    member.capacity = *capacity;
    member.zone.clone_from(zone);
    member.state = *state;
    Ok(())
}

/// Lets the lists name the members by the places that they have now.
fn renumber(view: &mut View, before: &[NodeId]) -> Result<(), String> {
    let members = view.members.ids();
    if members == before {
        return Ok(());
    }
    // Both are in order of id.
    let mut later = (0u32..).zip(members).peekable();
    let places: Vec<_> = before
        .iter()
        .map(|id| {
            while later.next_if(|(_, other)| *other < id).is_some() {}
            later
                .next_if(|(_, other)| *other == id)
                .map_or(NOBODY, |(at, _)| at)
        })
        .collect();
    let gone = Cell::new(None);
    view.table.renumber(view.members.len(), |index| {
        let place = places.get(index as usize).copied().unwrap_or(NOBODY);
        if place == NOBODY {
            gone.set(before.get(index as usize).copied());
        }
        place
    });
    match gone.get() {
        Some(id) => Err(format!("member {id} leaves and still owns something")),
        None => Ok(()),
    }
}
