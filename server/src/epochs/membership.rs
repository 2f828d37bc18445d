//! A server that was not in a cluster file becomes a member by itself: it proposes the epoch that
//! admits it, later the one that says where it is now, and lets the member leave that it replaces.
//! It owns its share when the others have seen that it holds the view (`course`).

use super::propose::{self, NotMade};
use super::{Ended, State};
use crate::config::Config;
use crate::random;
use crate::store::identity::Identity;
use annulet_protocol::ids::{ChangeId, NodeId};
use annulet_protocol::members::{LeaveMember, MemberCommand, SetMember};
use annulet_protocol::view::{Member, MemberState, View};
use annulet_ring::chain::{self, Objection};
use std::sync::Arc;
use std::time::Duration;

/// Time between two looks at the view.
const LOOK: Duration = Duration::from_millis(200);
/// Time until a change is tried again that could not be decided.
const AGAIN: Duration = Duration::from_secs(1);

/// As what a server is to be a member.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
    /// It, as it joins.
    member: Member,
    /// Names the change that admits it, at every start the same.
    change: ChangeId,
    replaces: Option<NodeId>,
    /// Whether it was a member under the view that was stored when it started.
    was_member: bool,
}

impl Membership {
    /// `None`: the cluster file says it.
    pub(crate) fn of(config: &Config, identity: &Identity, stored: &View) -> Option<Self> {
        if config.cluster.is_some() {
            return None;
        }
        let member = Member {
            id: identity.node,
            address: config.advertised().to_owned(),
            capacity: config.capacity,
            zone: config.zone.clone(),
            region: config.region.clone(),
            state: MemberState::Joining,
        };
        Some(Self {
            member,
            change: ChangeId(identity.incarnation.0),
            replaces: config.replace,
            was_member: stored.member(identity.node).is_some(),
        })
    }
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Join,
    Move(SetMember),
    Replace(LeaveMember),
    /// Others have to go on first.
    Wait,
    Nothing,
}

/// What a view lacks of what a server is to be in it.
fn next(view: &View, wish: &Membership) -> Next {
    let Some(member) = view.member(wish.member.id) else {
        return Next::Join;
    };
    if member.address != wish.member.address {
        return Next::Move(SetMember {
            id: member.id,
            address: Some(wish.member.address.clone()),
            ..SetMember::default()
        });
    }
    let replaced = wish.replaces.and_then(|id| view.member(id));
    match (member.state, replaced) {
        (MemberState::Joining, _) => Next::Wait,
        (MemberState::Active, Some(old)) if !old.state.is_to_go() => {
            Next::Replace(LeaveMember { id: old.id })
        }
        (MemberState::Active | MemberState::Leaving | MemberState::Lost, _) => Next::Nothing,
    }
}

/// Until this server is what it is to be.
pub(super) async fn run(state: &Arc<State>) {
    let Some(wish) = state.membership.clone() else {
        // A member of the cluster file is one from the first epoch on, until it leaves.
        if state.view().member(state.node).is_none() {
            has_left(state);
        }
        return;
    };
    let mut was_member = wish.was_member;
    loop {
        let view = state.view();
        let is_member = view.member(state.node).is_some();
        if was_member && !is_member {
            return has_left(state);
        }
        was_member |= is_member;
        let next = next(&view, &wish);
        let made = match &next {
            Next::Wait => {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            Next::Nothing => {
                warn_of_differences(&view, &wish);
                return;
            }
            Next::Join => join(state, &wish).await,
            Next::Move(set) => change(state, MemberCommand::Set(set.clone())).await,
            Next::Replace(leave) => change(state, MemberCommand::Leave(*leave)).await,
        };
        match made {
            Ok(()) => tracing::info!(?next, "a change of its membership is made"),
            Err(NotMade::Failed) => return,
            Err(NotMade::Objection(objection)) if next == Next::Join => {
                return refused(state, &objection, &view, &wish);
            }
            Err(NotMade::Objection(objection)) => {
                tracing::warn!(%objection, ?next, "a change of its membership is refused");
                tokio::time::sleep(AGAIN).await;
            }
            Err(NotMade::Unavailable { why, .. }) => {
                tracing::warn!(why, ?next, "a change of its membership cannot be decided");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

async fn join(state: &Arc<State>, wish: &Membership) -> Result<(), NotMade> {
    let own = |view: &View| chain::propose_join(view, wish.change, &wish.member, wish.replaces);
    propose::make(state, wish.change, own).await.map(drop)
}

async fn change(state: &Arc<State>, command: MemberCommand) -> Result<(), NotMade> {
    let change = ChangeId(random::bytes().map_err(|_| NotMade::Failed)?);
    let absent = propose::absent(state, &state.view());
    let own = |view: &View| chain::propose_member(view, change, &command, &absent);
    propose::make(state, change, own).await.map(drop)
}

/// Ends this server: as it is set up it cannot be a member.
fn refused(state: &State, objection: &Objection, view: &View, wish: &Membership) {
    let mut others = view.members.iter();
    let there = others.find(|member| member.address == wish.member.address);
    let advice = match there {
        Some(Member { id, .. }) => format!(
            "; if that one's data is lost, or it is to be taken out of service, start this server \
             with `--replace {id}`"
        ),
        None => String::new(),
    };
    let why = format!("{objection}{advice}");
    tracing::error!(why, "this server cannot join");
    end(state, Ended::Refused(why.clone()), why);
}

fn has_left(state: &State) {
    tracing::error!("this server has left, and others have its place");
    end(state, Ended::Left, "it has left the cluster");
}

fn end(state: &State, ended: Ended, why: impl Into<String>) {
    let _ = state.epochs.ended.set(ended);
    state.pipeline.give_up(why.into());
}

/// What a member is was said when it joined; later it is changed by `annulet node`.
fn warn_of_differences(view: &View, wish: &Membership) {
    let Some(is) = view.member(wish.member.id) else {
        return;
    };
    let wanted = &wish.member;
    let place = |member: &Member| (member.capacity, member.zone.clone(), member.region.clone());
    if place(is) != place(wanted) {
        tracing::warn!(
            capacity = is.capacity,
            zone = is.zone,
            region = is.region,
            "this server has joined with other settings than it is started with; these count: \
             change them by `annulet node`"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster_file::{ClusterFile, MemberEntry};
    use annulet_protocol::ids::ClusterId;

    fn view() -> View {
        let members = (1..4).map(MemberEntry::plain).collect();
        let file = ClusterFile::new(ClusterId([1; 16]), "test", members);
        file.view().unwrap()
    }

    fn wish(view: &View, id: u64) -> Membership {
        Membership {
            member: Member {
                id: NodeId(id),
                state: MemberState::Joining,
                ..view.members[0].clone()
            },
            change: ChangeId::default(),
            replaces: None,
            was_member: false,
        }
    }

    #[test]
    fn a_server_joins_moves_and_replaces_until_it_is_what_it_is_to_be() {
        let mut view = view();
        assert_eq!(next(&view, &wish(&view, 9)), Next::Join);
        let mut wish = wish(&view, 1);
        assert_eq!(next(&view, &wish), Next::Nothing);
        wish.replaces = Some(NodeId(2));
        let leave = LeaveMember { id: NodeId(2) };
        assert_eq!(next(&view, &wish), Next::Replace(leave));
        view.members[0].state = MemberState::Joining;
        assert_eq!(next(&view, &wish), Next::Wait, "it can take no place yet");
        view.members[0].state = MemberState::Active;
        view.members[1].state = MemberState::Leaving;
        assert_eq!(next(&view, &wish), Next::Nothing);
        wish.member.address = "elsewhere:7400".into();
        let address = Some("elsewhere:7400".into());
        let moved = SetMember {
            id: NodeId(1),
            address,
            ..SetMember::default()
        };
        assert_eq!(next(&view, &wish), Next::Move(moved));
    }
}
