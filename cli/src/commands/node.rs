//! `annulet node`: servers join, leave, take each other's place, or get another share of the data.

mod safe_to_stop;

use crate::args::Common;
use crate::failure::{Exit, Failure};
use crate::{connect, output};
use annulet::{Client, Error, ErrorKind, Member, MemberChanges, MemberState, NodeId, View};
use clap::{Args, Subcommand};
use serde_json::json;
use std::time::Duration;

#[derive(Subcommand, Debug)]
pub(crate) enum NodeCommand {
    /// Wait until a server that was started with `annulet serve --join` has joined and owns its
    /// share
    Join {
        /// Its id or address
        node: String,
    },
    /// Let a server leave whose place another one takes, which has joined; needs a certificate of
    /// role admin. (`annulet serve --join ADDR --replace ID` does both)
    Replace(ReplaceArgs),
    /// Let a server leave: the others copy what it owns, then it is no member any more; needs a
    /// certificate of role admin
    Leave(LeaveArgs),
    /// Set a server's share of the data, relative to the others'; needs a certificate of role admin
    Capacity {
        /// Its id or address, as `annulet cluster status` shows them
        node: String,
        /// Its capacity, from 1
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        capacity: u32,
    },
    /// Say whether a server can be stopped now without anybody missing it; exit code 1 and the
    /// reasons if not
    SafeToStop {
        /// Its id or address, as `annulet cluster status` shows them
        node: String,
    },
}

#[derive(Args, Debug)]
pub(crate) struct LeaveArgs {
    /// Its id or address, as `annulet cluster status` shows them
    node: String,
    /// Wait until it owns nothing any more and may be stopped
    #[arg(long)]
    wait: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ReplaceArgs {
    /// The id or address of the server that leaves
    old: String,
    /// The id or address of the one that takes its place
    new: String,
    /// Wait until the old one owns nothing any more and may be stopped
    #[arg(long)]
    wait: bool,
}

/// Time between two looks whether a server is gone.
const LOOK: Duration = Duration::from_millis(500);

pub(crate) async fn run(command: NodeCommand, common: &Common) -> Result<Exit, Failure> {
    let client = connect::client(common).await?;
    let result = match command {
        NodeCommand::Join { node } => join(&client, &node, common).await,
        NodeCommand::Replace(args) => replace(&client, &args, common).await,
        NodeCommand::Leave(args) => leave(&client, &args, common).await,
        NodeCommand::Capacity { node, capacity } => {
            set_capacity(&client, &node, capacity, common).await
        }
        NodeCommand::SafeToStop { node } => safe_to_stop::run(&client, &node, common).await,
    };
    client.close().await;
    result
}

async fn join(client: &Client, node: &str, common: &Common) -> Result<Exit, Failure> {
    loop {
        let view = newest(client).await?;
        let found = find(&view, node).ok();
        let active = found.filter(|member| member.state == MemberState::Active);
        if let Some(member) = active.filter(|_| view.table.joint.is_empty()) {
            show(Some(member), member.id, "has joined", common)?;
            return Ok(Exit::Done);
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn replace(client: &Client, args: &ReplaceArgs, common: &Common) -> Result<Exit, Failure> {
    let view = newest(client).await?;
    let (old, new) = (find(&view, &args.old)?, find(&view, &args.new)?);
    if old.id == new.id || new.state.is_to_go() {
        let why = format!("server {} cannot take the place of {}", new.id, old.id);
        return Err(Failure::usage(why));
    }
    let leave = LeaveArgs {
        node: args.old.clone(),
        wait: args.wait,
    };
    self::leave(client, &leave, common).await
}

async fn leave(client: &Client, args: &LeaveArgs, common: &Common) -> Result<Exit, Failure> {
    let id = find(&client.view(), &args.node)?.id;
    let member = client.remove_member(id).await.map_err(refused)?;
    if !args.wait {
        show(member.as_ref(), id, "leaves", common)?;
        return Ok(Exit::Done);
    }
    while newest(client).await?.member(id).is_some() {
        tokio::time::sleep(LOOK).await;
    }
    show(None, id, "has left", common)?;
    Ok(Exit::Done)
}

async fn set_capacity(
    client: &Client,
    node: &str,
    capacity: u32,
    common: &Common,
) -> Result<Exit, Failure> {
    let id = find(&client.view(), node)?.id;
    let changes = MemberChanges {
        capacity: Some(capacity),
        ..MemberChanges::default()
    };
    let member = client.set_member(id, &changes).await.map_err(refused)?;
    show(member.as_ref(), id, "changed", common)?;
    Ok(Exit::Done)
}

/// The view, looked for anew.
async fn newest(client: &Client) -> Result<std::sync::Arc<View>, Failure> {
    // It looks for the newest view first.
    client.buckets().await?;
    Ok(client.view())
}

/// The member of this id or address.
pub(super) fn find<'a>(view: &'a View, node: &str) -> Result<&'a Member, Failure> {
    let id = node.parse::<NodeId>().ok();
    let mut members = view.members.iter();
    let found = members.find(|member| Some(member.id) == id || member.address == node);
    found.ok_or_else(|| {
        let known: Vec<_> = view.members.iter().map(|m| m.address.as_str()).collect();
        let known = known.join(", ");
        Failure::usage(format!(
            "the cluster has no server `{node}`; it has {known}"
        ))
    })
}

fn show(member: Option<&Member>, id: NodeId, what: &str, common: &Common) -> Result<(), Failure> {
    if common.json {
        return output::json(&json!({
            "id": id.to_string(),
            "address": member.map(|member| &member.address),
            "capacity": member.map(|member| member.capacity),
            "result": what,
        }));
    }
    let address = member.map(|member| format!(" at {}", member.address));
    output::line(&format!(
        "server {id}{} {what}",
        address.unwrap_or_default()
    ))
}

/// What cannot be is bad usage.
fn refused(error: Error) -> Failure {
    match error.kind() {
        ErrorKind::InvalidInput | ErrorKind::Conflict => Failure::usage(error.to_string()),
        _ => error.into(),
    }
}
