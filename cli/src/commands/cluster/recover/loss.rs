//! `annulet cluster recover --accept-loss NODE`: members are lost with all that only they had, and
//! the others go on with what they have.

use crate::commands::node;
use crate::failure::{Exit, Failure};
use crate::output;
use annulet::{BucketLoss, Client, ErrorKind, Member, MemberState, View};
use serde_json::{Value, json};

/// Partitions of a bucket that are named; `--json` names all.
const NAMED: usize = 8;

/// Members that are to be given up, and what is lost with them.
pub(super) struct Loss {
    members: Vec<Member>,
    buckets: Vec<BucketLoss>,
}

impl Loss {
    /// Finds out.
    pub(super) async fn of(client: &Client, nodes: &[String]) -> Result<Self, Failure> {
        let view = client.newest_view().await?;
        let mut members: Vec<_> = nodes
            .iter()
            .map(|node| node::find(&view, node).cloned())
            .collect::<Result<_, _>>()?;
        members.sort_by_key(|member| member.id);
        members.dedup_by_key(|member| member.id);
        let ids: Vec<_> = members.iter().map(|member| member.id).collect();
        let buckets = client.plan_loss(&ids).await?;
        Ok(Self { members, buckets })
    }

    /// Says what is to be done, and what it means.
    pub(super) fn show(&self, view: &View) -> Result<(), Failure> {
        let addresses: Vec<_> = self.members.iter().map(|m| m.address.as_str()).collect();
        output::line(&format!(
            "To be given up FOR GOOD, with all that nobody else has: {}.",
            addresses.join(", ")
        ))?;
        if self.buckets.is_empty() {
            output::line(
                "A majority of the owners of everything is left: nothing is lost that was \
                 acknowledged at a quorum.",
            )?;
        }
        for loss in &self.buckets {
            output::line(&described(loss, view.table.partitions))?;
        }
        Ok(())
    }

    /// Gives them up, one after the other. Who is given up already stays so.
    pub(super) async fn accept(&self, client: &Client, json: bool) -> Result<Exit, Failure> {
        for member in &self.members {
            let known = || {
                let view = client.view();
                let member = view.member(member.id);
                member.is_none_or(|member| member.state == MemberState::Lost)
            };
            match client.accept_loss(member.id).await {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Conflict && known() => {}
                Err(error) if self.members.len() == 1 => return Err(error.into()),
                Err(error) => return Err(Failure::from(error).advise(AGAIN)),
            }
            if !json {
                output::line(&format!(
                    "{}: given up; the others go on without what only it had",
                    member.address
                ))?;
            }
        }
        Ok(Exit::Done)
    }

    /// `result`: what became of it.
    pub(super) fn to_json(&self, result: &str) -> Value {
        let member =
            |member: &Member| json!({ "id": member.id.to_string(), "address": member.address });
        json!({
            "result": result,
            "members": self.members.iter().map(member).collect::<Vec<_>>(),
            "buckets": self.buckets.iter().map(to_json).collect::<Vec<_>>(),
        })
    }
}

const AGAIN: &str = "what was given up before stays so; the same command goes on with the rest";

pub(in crate::commands::cluster) fn to_json(loss: &BucketLoss) -> Value {
    json!({
        "bucket": loss.bucket,
        "replicas": loss.replicas,
        "partitions": loss.partitions,
        "without_owner": loss.without_owner,
    })
}

/// What is lost of a bucket.
pub(in crate::commands::cluster) fn described(loss: &BucketLoss, partitions: u32) -> String {
    let BucketLoss {
        bucket,
        replicas,
        partitions: lost,
        without_owner,
        ..
    } = loss;
    let all_gone = match without_owner.len() {
        0 => String::new(),
        count => format!("; in {count} of them NOBODY is left"),
    };
    let mut named: Vec<_> = lost.iter().take(NAMED).map(u32::to_string).collect();
    if lost.len() > NAMED {
        named.push("...".into());
    }
    format!(
        "bucket {bucket} (replicas {replicas}): in {} of {partitions} partitions ({}) no majority \
         of the owners is left{all_gone}",
        lost.len(),
        named.join(", ")
    )
}
