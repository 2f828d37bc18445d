//! What somebody asks for becomes a record on top of a view, if it still can be.

use super::{ApplyError, apply, keepers};
use annulet_protocol::bucket::Bucket;
use annulet_protocol::epoch::{
    BucketChange, BucketCommand, BucketGone, BucketSettings, DeleteBucket, EpochRecord,
    MemberChange, MemberSettings, SetBucket,
};
use annulet_protocol::ids::{ChangeId, NodeId};
use annulet_protocol::members::{LeaveMember, MemberCommand, SetMember};
use annulet_protocol::view::{Member, MemberState, View};

/// Why what somebody asks for cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Objection {
    /// It is so already, or is not as the asker thinks.
    #[error("{0}")]
    Conflict(String),
    /// It breaks a rule.
    #[error("{0}")]
    Invalid(String),
}

/// The record that makes a change of a bucket on top of a view. The keepers stay.
///
/// # Errors
/// [`Objection`].
pub fn propose(
    view: &View,
    change: ChangeId,
    command: &BucketCommand,
) -> Result<EpochRecord, Objection> {
    check(
        view,
        EpochRecord {
            buckets: vec![bucket_change(view, command)?],
            ..after(view, change)
        },
    )
}

/// The record that makes a change of a member on top of a view. Who leaves is no keeper any more.
/// `lost`: members that do not answer, of which none becomes a keeper.
///
/// # Errors
/// [`Objection`].
pub fn propose_member(
    view: &View,
    change: ChangeId,
    command: &MemberCommand,
    lost: &[NodeId],
) -> Result<EpochRecord, Objection> {
    let change_of_member = member_change(view, command)?;
    let mut members = view.members.clone();
    if let MemberChange::Set(MemberSettings { id, state, .. }) = &change_of_member {
        members
            .iter_mut()
            .filter(|member| member.id == *id)
            .for_each(|member| member.state = *state);
    }
    // Who is not concerned stays: more of them are made in their own time.
    let is_active = |keeper: &NodeId| {
        let active = |member: &Member| member.id == *keeper && member.state == MemberState::Active;
        members.iter().any(active)
    };
    let keepers = match view.tip.keepers.iter().all(is_active) {
        true => view.tip.keepers.clone(),
        false => keepers::follow(&members, &view.tip.keepers, lost),
    };
    check(
        view,
        EpochRecord {
            keepers: keepers::if_others(&keepers, view),
            members: vec![change_of_member],
            ..after(view, change)
        },
    )
}

/// The record that admits a server. It may have the address of the member that it replaces, which
/// nobody reaches any more.
///
/// # Errors
/// [`Objection`].
pub fn propose_join(
    view: &View,
    change: ChangeId,
    member: &Member,
    replaces: Option<NodeId>,
) -> Result<EpochRecord, Objection> {
    if let Some(id) = replaces.filter(|id| view.member(*id).is_none()) {
        return Err(Objection::Conflict(format!("there is no member {id}")));
    }
    check(
        view,
        EpochRecord {
            members: vec![joined(view, member, replaces)?],
            ..after(view, change)
        },
    )
}

/// The record that lets members that have shown that they hold the view own their share.
/// `None`: none of them is still joining.
#[must_use]
pub fn activate(view: &View, change: ChangeId, ready: &[NodeId]) -> Option<EpochRecord> {
    let joining = |member: &&Member| member.state == MemberState::Joining;
    let joining = view.members.iter().filter(joining);
    let ready = joining.filter(|member| ready.contains(&member.id));
    let active = |member: &Member| {
        let state = MemberState::Active;
        MemberChange::Set(settings(member, state))
    };
    let members: Vec<_> = ready
        .map(active)
        .take(annulet_protocol::limits::MEMBER_CHANGES_MAX)
        .collect();
    // They become keepers by a later record: these must exist to be asked.
    (!members.is_empty()).then(|| EpochRecord {
        members,
        ..after(view, change)
    })
}

fn after(view: &View, change: ChangeId) -> EpochRecord {
    EpochRecord {
        generation: view.tip.generation,
        number: view.epoch.saturating_add(1),
        before: view.tip.hash,
        change,
        ..EpochRecord::default()
    }
}

fn check(view: &View, record: EpochRecord) -> Result<EpochRecord, Objection> {
    match apply(view, &record) {
        Ok(_) => Ok(record),
        Err(ApplyError::Unsound { why, .. }) => Err(Objection::Invalid(why)),
        Err(error) => Err(Objection::Invalid(error.to_string())),
    }
}

fn settings(member: &Member, state: MemberState) -> MemberSettings {
    MemberSettings {
        id: member.id,
        address: member.address.clone(),
        capacity: member.capacity,
        zone: member.zone.clone(),
        state,
    }
}

fn member_change(view: &View, command: &MemberCommand) -> Result<MemberChange, Objection> {
    let known = |id: NodeId| {
        let member = view.member(id);
        member.ok_or_else(|| Objection::Conflict(format!("there is no member {id}")))
    };
    Ok(match command {
        MemberCommand::Join(member) => joined(view, member, None)?,
        MemberCommand::Set(SetMember {
            id,
            address,
            capacity,
            zone,
        }) => {
            let member = known(*id)?;
            let settings = settings(member, member.state);
            MemberChange::Set(MemberSettings {
                address: address.clone().unwrap_or(settings.address),
                capacity: capacity.unwrap_or(settings.capacity),
                zone: zone.clone().unwrap_or(settings.zone),
                ..settings
            })
        }
        MemberCommand::Leave(LeaveMember { id }) => {
            let member = known(*id)?;
            if member.state.is_to_go() {
                return Err(Objection::Conflict(format!("member {id} leaves already")));
            }
            check_left(view, *id)?;
            MemberChange::Set(settings(member, MemberState::Leaving))
        }
        MemberCommand::AcceptLoss(LeaveMember { id }) => {
            let member = known(*id)?;
            if member.state == MemberState::Lost {
                return Err(Objection::Conflict(format!(
                    "member {id} is given up already"
                )));
            }
            check_left(view, *id)?;
            MemberChange::Set(settings(member, MemberState::Lost))
        }
        MemberCommand::Unknown => return Err(unknown()),
    })
}

/// Somebody is left to own something without this member.
fn check_left(view: &View, id: NodeId) -> Result<(), Objection> {
    let stays = |other: &Member| other.id != id && other.state == MemberState::Active;
    match view.members.iter().any(stays) {
        true => Ok(()),
        false => {
            let why = format!("nobody would be left to own anything without member {id}");
            Err(Objection::Invalid(why))
        }
    }
}

fn joined(
    view: &View,
    member: &Member,
    replaces: Option<NodeId>,
) -> Result<MemberChange, Objection> {
    let conflict = |why: String| Err(Objection::Conflict(why));
    if view.member(member.id).is_some() {
        return conflict(format!("there is a member {} already", member.id));
    }
    let taken = |other: &&Member| other.address == member.address && Some(other.id) != replaces;
    if let Some(other) = view.members.iter().find(taken) {
        let Member { id, address, .. } = other;
        return conflict(format!("member {id} has the address {address}"));
    }
    Ok(MemberChange::Joined(Member {
        state: MemberState::Joining,
        ..member.clone()
    }))
}

fn unknown() -> Objection {
    Objection::Invalid("this version does not know such a change".into())
}

fn bucket_change(view: &View, command: &BucketCommand) -> Result<BucketChange, Objection> {
    let named = |name: &str, number: Option<u32>| {
        let found = view.bucket_named(name);
        let found = found.filter(|bucket| number.is_none_or(|number| bucket.number == number));
        found.ok_or_else(|| Objection::Conflict(format!("there is no bucket `{name}` any more")))
    };
    Ok(match command {
        BucketCommand::Create(bucket) if view.bucket_named(&bucket.name).is_some() => {
            let why = format!("there is a bucket `{}` already", bucket.name);
            return Err(Objection::Conflict(why));
        }
        BucketCommand::Create(bucket) => BucketChange::Created(Bucket {
            number: view.tip.next_bucket,
            ..bucket.clone()
        }),
        BucketCommand::Set(SetBucket {
            name,
            number,
            read_level,
            write_level,
            ttl_ms,
        }) => {
            let bucket = named(name, *number)?;
            let ttl_ms = ttl_ms.map_or(bucket.ttl_ms, |ms| (ms > 0).then_some(ms));
            BucketChange::Set(BucketSettings {
                number: bucket.number,
                read_level: read_level.unwrap_or(bucket.read_level),
                write_level: write_level.unwrap_or(bucket.write_level),
                ttl_ms,
            })
        }
        BucketCommand::Delete(DeleteBucket { name, number }) => {
            let number = named(name, *number)?.number;
            BucketChange::Deleted(BucketGone { number })
        }
        BucketCommand::Unknown => return Err(unknown()),
    })
}
