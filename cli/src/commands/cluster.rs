//! `annulet cluster`: the servers, and how the ring is shared out among them.

mod hints;
mod recover;

use crate::args::Common;
use crate::failure::{Exit, Failure};
use crate::{connect, output};
use annulet::{Client, Joint, MemberStatus, View};
use clap::Subcommand;
use serde_json::{Value, json};

#[derive(Subcommand, Debug)]
pub(crate) enum ClusterCommand {
    /// Show the servers, whether they are up, and their share of the data
    Status,
    /// Show what servers keep for others that could not be reached, and what was set aside
    Hints,
    /// Go on without a majority of the keepers, which is lost FOR GOOD; needs a certificate of role
    /// admin
    Recover(recover::RecoverArgs),
}

pub(crate) async fn run(command: ClusterCommand, common: &Common) -> Result<Exit, Failure> {
    let client = connect::client(common).await?;
    let result = match command {
        ClusterCommand::Status => status(&client, common.json).await,
        ClusterCommand::Hints => hints::run(&client, common.json).await,
        ClusterCommand::Recover(args) => recover::run(&client, &args, common).await,
    };
    client.close().await;
    result
}

async fn status(client: &Client, json: bool) -> Result<Exit, Failure> {
    let members = client.members().await;
    let view = client.view();
    let lacking = under_replicated(&view);
    if json {
        output::json(&to_json(&view, &members, &lacking))?;
    } else {
        text(&view, &members, &lacking)?;
    }
    Ok(Exit::Done)
}

/// The buckets that ask for more replicas than there are servers, in any region.
fn under_replicated(view: &View) -> Vec<(&str, u8, usize)> {
    let servers = |region: &str| view.members.iter().filter(|m| m.region == region).count();
    let regions = view.table.regions.iter();
    let fewest = regions
        .map(|table| servers(&table.region))
        .min()
        .unwrap_or(0);
    let buckets = view.buckets.iter();
    buckets
        .filter(|bucket| usize::from(bucket.replicas) > fewest)
        .map(|bucket| (bucket.name.as_str(), bucket.replicas, fewest))
        .collect()
}

fn to_json(view: &View, members: &[MemberStatus], lacking: &[(&str, u8, usize)]) -> Value {
    let members: Vec<Value> = members
        .iter()
        .map(|member| {
            json!({
                "id": member.id.to_string(),
                "address": member.address,
                "state": member.state,
                "membership": membership(view, member),
                "capacity": member.capacity,
                "zone": member.zone,
                "region": member.region,
                "share": member.share,
                "error": member.error,
            })
        })
        .collect();
    json!({
        "cluster": view.cluster,
        "name": view.name,
        "epoch": view.epoch,
        "keepers": view.tip.keepers.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "partitions": view.table.partitions,
        "moves": view.table.joint.iter().map(|joint| a_move(view, joint)).collect::<Vec<_>>(),
        "members": members,
        "under_replicated": lacking.iter().map(|(name, ..)| name).collect::<Vec<_>>(),
    })
}

/// One list that is becoming another.
fn a_move(view: &View, joint: &Joint) -> Value {
    let id = |at: usize| view.members.get(at).map(|member| member.id.to_string());
    let table = view.table.regions.iter().find(|t| t.region == joint.region);
    let from = table.into_iter().flat_map(|t| t.list(joint.partition));
    let from: Vec<_> = from.filter_map(id).collect();
    let to = joint.next.iter().map(|owner| *owner as usize);
    let to: Vec<_> = to.filter_map(id).collect();
    json!({
        "partition": joint.partition,
        "region": joint.region,
        "from": from,
        "to": to,
    })
}

/// Where a member stands: `active`, `joining` or `leaving`.
fn membership(view: &View, member: &MemberStatus) -> &'static str {
    view.member(member.id)
        .map_or("", |member| member.state.as_str())
}

fn text(
    view: &View,
    members: &[MemberStatus],
    lacking: &[(&str, u8, usize)],
) -> Result<(), Failure> {
    output::line(&format!(
        "cluster {} ({}), epoch {}, {} partitions{}, {}",
        view.name,
        view.cluster,
        view.epoch,
        view.table.partitions,
        match view.table.joint.len() {
            0 => String::new(),
            moving => format!(" ({moving} of them moving)"),
        },
        how_many_are_up(members.iter().map(|member| member.state))
    ))?;
    for (name, replicas, servers) in lacking {
        output::line(&format!(
            "under-replicated: bucket {name} asks for {replicas} replicas, there are {servers} \
             servers"
        ))?;
    }
    let heading = [
        "ID", "ADDRESS", "STATE", "SHARE", "CAPACITY", "ZONE", "REGION",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(members.iter().map(|member| {
        let or_dash = |text: &str| if text.is_empty() { "-" } else { text }.to_owned();
        vec![
            member.id.to_string(),
            member.address.clone(),
            match membership(view, member) {
                "" | "active" => member.state.to_owned(),
                other => format!("{}, {other}", member.state),
            },
            format!("{:.1} %", member.share * 100.0),
            member.capacity.to_string(),
            or_dash(&member.zone),
            or_dash(&member.region),
        ]
    }));
    output::table(&rows)?;
    for member in members {
        if let Some(error) = &member.error {
            output::line(&format!("{}: {error}", member.address))?;
        }
    }
    Ok(())
}

/// How many servers do all their work, and how many take no new values.
fn how_many_are_up<'a>(states: impl Iterator<Item = &'a str> + Clone) -> String {
    let all = states.clone().count();
    let count = |state: &str| states.clone().filter(|each| *each == state).count();
    let up = format!("{} of {all} servers up", count(UP));
    match count(FULL) {
        0 => up,
        full => format!("{up}, {full} with a full disk"),
    }
}

const UP: &str = "up";
const FULL: &str = "full";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_whose_disk_is_full_is_counted_apart() {
        let check = |states: &[&str], expected: &str| {
            assert_eq!(how_many_are_up(states.iter().copied()), expected);
        };
        check(&["up", "up", "up"], "3 of 3 servers up");
        check(
            &["up", "full", "down"],
            "1 of 3 servers up, 1 with a full disk",
        );
        check(&["stopping"], "0 of 1 servers up");
    }
}
