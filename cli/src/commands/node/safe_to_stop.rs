//! `annulet node safe-to-stop`: whether a server can be stopped now.

use super::find;
use crate::args::Common;
use crate::failure::{Exit, Failure};
use crate::output;
use annulet::Client;
use serde_json::json;

pub(super) async fn run(client: &Client, node: &str, common: &Common) -> Result<Exit, Failure> {
    let view = client.newest_view().await?;
    let member = find(&view, node)?;
    let reply = client.safe_to_stop(member.id).await?;
    let safe = reply.reasons.is_empty();
    if common.json {
        let reasons = reply
            .reasons
            .iter()
            .map(|reason| json!({ "kind": reason.kind.as_str(), "message": reason.message }));
        output::json(&json!({
            "id": reply.node.to_string(),
            "address": member.address,
            "epoch": reply.epoch,
            "safe": safe,
            "reasons": reasons.collect::<Vec<_>>(),
        }))?;
    } else if safe {
        output::line(&format!("{} can be stopped now", member.address))?;
    } else {
        output::line(&format!("{} should not be stopped now:", member.address))?;
        for reason in &reply.reasons {
            output::line(&format!("- {}", reason.message))?;
        }
    }
    Ok(match safe {
        true => Exit::Done,
        false => Exit::NotFound,
    })
}
