//! What moves wait for: members that do not answer while one of them is to go, where the others are
//! no majority of the owners of what they owned.

use super::super::recover::loss;
use crate::failure::Failure;
use crate::output;
use annulet::{BucketLoss, Client, MemberState, MemberStatus, NodeId, View};
use serde_json::{Value, json};

/// See the module.
pub(super) struct HeldUp {
    /// Those that are waited for: another server may have the address by now.
    waits_for: Vec<NodeId>,
    /// What is waited for.
    buckets: Vec<BucketLoss>,
}

impl HeldUp {
    /// Finds out. None: nothing waits.
    pub(super) async fn of(
        client: &Client,
        view: &View,
        members: &[MemberStatus],
    ) -> Result<Option<Self>, Failure> {
        let state = |one: &MemberStatus| view.member(one.id).map(|member| member.state);
        let silent = members.iter().filter(|one| one.state == "down");
        let goes = |one: &MemberStatus| state(one).is_some_and(MemberState::is_to_go);
        // Nobody waits for those that are given up already.
        let waits_for = silent
            .clone()
            .filter(|one| state(one) != Some(MemberState::Lost));
        let waits_for: Vec<_> = waits_for.map(|one| one.id).collect();
        if waits_for.is_empty() || !silent.clone().any(goes) {
            return Ok(None);
        }
        let buckets = client.plan_loss(&waits_for).await?;
        let held_up = Self { waits_for, buckets };
        Ok((!held_up.buckets.is_empty()).then_some(held_up))
    }

    fn ids(&self) -> Vec<String> {
        self.waits_for.iter().map(ToString::to_string).collect()
    }

    pub(super) fn show(&self, view: &View) -> Result<(), Failure> {
        let waits_for = self.ids().join(",");
        output::line(&format!(
            "HELD UP: a server is to leave, and of some of what it owned too little is left while \
             {waits_for} does not answer:"
        ))?;
        for one in &self.buckets {
            let described = loss::described(one, view.table.partitions);
            output::line(&format!("  {described}"))?;
        }
        output::line(&format!(
            "  It goes on when that is back. If it is lost for good: `annulet cluster \
             recover --accept-loss {waits_for}`"
        ))
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "waits_for": self.ids(),
            "buckets": self.buckets.iter().map(loss::to_json).collect::<Vec<_>>(),
        })
    }
}
