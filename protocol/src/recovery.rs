//! Beginning the chain of epochs anew after a majority of its keepers was lost for good: what
//! servers are asked, and what an operator is told.

use crate::ballot::Ballot;
use crate::bounded;
use crate::epoch::Point;
use crate::ids::{ChangeId, ClusterId, NodeId};
use crate::limits::{EPOCHS_MAX, KEEPERS_MAX, MEMBERS_MAX};
use crate::names::tagged;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Asks a server where it stands in the chain, after it has made durable that it votes on, proposes
/// and learns nothing any more in a generation below a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// The new generation; 0: only asks, and seals nothing.
    pub generation: u64,
    /// What follows this epoch is told, too.
    pub after: Point,
}

/// Where a server stands in the chain. It rests on what is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stands {
    /// The newest epoch that it holds, be it acted under or not.
    pub newest: Point,
    /// The generation that it is sealed for; 0: none.
    pub sealed: u64,
    /// Its chain holds the epoch that was asked about.
    pub known: bool,
    /// What follows that epoch here, as far as it fits into one message.
    #[serde(deserialize_with = "bounded::list::<EPOCHS_MAX, _, _>")]
    pub records: Vec<Bytes>,
    /// The round in which it accepted a successor of its newest epoch.
    pub ballot: Ballot,
    /// That successor; `None`: it has accepted none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Bytes>,
}

/// Asks a server to begin the chain anew, or what would come of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoverRequest {
    /// The cluster.
    pub cluster: ClusterId,
    /// Names the recovery: the record that begins the chain anew has it as its change.
    pub recovery: ChangeId,
    /// Do it; else only what was found is told, and nothing is changed.
    pub proceed: bool,
}

/// What was found, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecoverReply {
    /// The cluster.
    pub cluster: ClusterId,
    /// Who answers.
    pub node: NodeId,
    /// Every member, and what it said.
    #[serde(deserialize_with = "bounded::list::<MEMBERS_MAX, _, _>")]
    pub members: Vec<MemberFound>,
    /// The newest epoch that any of them holds.
    pub newest: Point,
    /// The keepers of that epoch.
    #[serde(deserialize_with = "bounded::list::<KEEPERS_MAX, _, _>")]
    pub keepers: Vec<NodeId>,
    /// What became of it.
    pub outcome: RecoverOutcome,
}

/// What one member said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberFound {
    /// The member.
    pub id: NodeId,
    /// The newest epoch that it holds; `None`: it did not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Point>,
    /// The generation that it is sealed for; 0: none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sealed: u64,
    /// Its newest epoch is not of the chain of the newest epoch of all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forks: bool,
    /// Why it did not answer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

tagged! {
    /// What became of a recovery.
    pub enum RecoverOutcome {
        /// It can be done like this.
        Possible(Anew) = "possible",
        /// It is done.
        Done(Anew) = "done",
        /// The chain is begun anew, but too few of its keepers hold that yet: they are told until
        /// they do.
        Unsettled(Anew) = "unsettled",
        /// It is not needed, or cannot be done, for this reason; nobody is sealed by it.
        Refused(String) = "refused",
        /// It was begun, some members are sealed, and it was not done for this reason: it has to
        /// be asked for again.
        Interrupted(String) = "interrupted",
    }
}

/// How the chain goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anew {
    /// The epoch that begins the new generation; while that is only possible, it may be another.
    pub epoch: Point,
    /// The servers among which epochs are decided from then on.
    #[serde(deserialize_with = "bounded::list::<KEEPERS_MAX, _, _>")]
    pub keepers: Vec<NodeId>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
