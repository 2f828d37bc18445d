//! What those who may change members ask for.

use crate::ids::{ChangeId, ClusterId, NodeId};
use crate::names::tagged;
use crate::view::Member;
use serde::{Deserialize, Serialize};

/// What somebody asks to be changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberRequest {
    /// The cluster.
    pub cluster: ClusterId,
    /// Names the change, also when it is asked for again.
    pub change: ChangeId,
    /// What is to be done.
    pub command: MemberCommand,
}

tagged! {
    /// A change of a member.
    pub enum MemberCommand {
        /// It is to be one of the cluster. It owns its share once it has shown that it holds the
        /// view.
        Join(Member) = "join",
        /// Change what may change of it.
        Set(SetMember) = "set",
        /// It is to own nothing any more; when it does not, it is gone.
        Leave(LeaveMember) = "leave",
        /// It is lost for good, with all that only it had.
        AcceptLoss(LeaveMember) = "accept_loss",
    }
}

/// Changes a member; what is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetMember {
    /// The member.
    pub id: NodeId,
    /// Host and port that clients and peers connect to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Its share of the data, relative to the others', at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u32>,
    /// What fails together with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// A member that is to be none any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaveMember {
    /// The member.
    pub id: NodeId,
}

/// A change is done: every majority of the keepers knows of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberReply {
    /// The cluster.
    pub cluster: ClusterId,
    /// The ordinal of the epoch that made the change.
    pub epoch: u64,
    /// The member as it is now, if it is still one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<Member>,
}
