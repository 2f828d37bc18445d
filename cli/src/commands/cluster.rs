//! `annulet cluster`: the servers, and how the ring is shared out among them.

use crate::args::Common;
use crate::failure::{Exit, Failure};
use crate::{connect, output};
use annulet::{MemberStatus, View};
use clap::Subcommand;
use serde_json::{Value, json};

#[derive(Subcommand, Debug)]
pub(crate) enum ClusterCommand {
    /// Show the servers, whether they are up, and their share of the data
    Status,
}

pub(crate) async fn run(command: ClusterCommand, common: &Common) -> Result<Exit, Failure> {
    let ClusterCommand::Status = command;
    let client = connect::client(common).await?;
    let members = client.members().await;
    let view = client.view();
    client.close().await;
    let lacking = under_replicated(&view);
    if common.json {
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
        "partitions": view.table.partitions,
        // No move is under way as long as the members are a fixed list.
        "moves": [],
        "members": members,
        "under_replicated": lacking.iter().map(|(name, ..)| name).collect::<Vec<_>>(),
    })
}

fn text(
    view: &View,
    members: &[MemberStatus],
    lacking: &[(&str, u8, usize)],
) -> Result<(), Failure> {
    let up = members.iter().filter(|member| member.state == UP).count();
    output::line(&format!(
        "cluster {} ({}), epoch {}, {} partitions, {up} of {} servers up",
        view.name,
        view.cluster,
        view.epoch,
        view.table.partitions,
        members.len()
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
            member.state.to_owned(),
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

const UP: &str = "up";
