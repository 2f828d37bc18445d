//! `annulet cluster status`: how servers are, and how far it is with what moves.

mod held_up;

use crate::failure::{Exit, Failure};
use crate::signals::StopSignals;
use crate::{output, units};
use annulet::{Client, MemberStatus, MoveProgress, NodeId, Progress, View};
use clap::Args;
use held_up::HeldUp;
use indicatif::BinaryBytes;
use serde_json::{Value, json};
use std::time::Duration;

#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// Show it again and again, with so many seconds in between (2 unless said), until interrupted
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_missing_value = "2",
        value_parser = units::duration
    )]
    watch: Option<Duration>,
}

/// Most moves that are listed for people.
const MOVES_LISTED: usize = 20;

pub(super) async fn run(client: &Client, args: &StatusArgs, json: bool) -> Result<Exit, Failure> {
    let Some(pause) = args.watch else {
        show(client, json).await?;
        return Ok(Exit::Done);
    };
    let mut signals = StopSignals::catch()?;
    loop {
        let round = async {
            client.newest_view().await?;
            show(client, json).await?;
            tokio::time::sleep(pause).await;
            Ok::<(), Failure>(())
        };
        tokio::select! {
            _ = signals.next() => return Ok(Exit::Done),
            shown = round => shown?,
        }
        if !json {
            output::line("")?;
        }
    }
}

async fn show(client: &Client, json: bool) -> Result<(), Failure> {
    let members = client.members().await;
    let view = client.view();
    let progress = Progress::of(&view, &members);
    let lacking = under_replicated(&view);
    let held_up = HeldUp::of(client, &view, &members).await?;
    if json {
        let mut json = to_json(&view, &members, &progress, &lacking);
        json["held_up"] = json!(held_up.as_ref().map(HeldUp::to_json));
        return output::json(&json);
    }
    text(&view, &members, &progress, &lacking)?;
    held_up.iter().try_for_each(|held_up| held_up.show(&view))
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

fn to_json(
    view: &View,
    members: &[MemberStatus],
    progress: &Progress,
    lacking: &[(&str, u8, usize)],
) -> Value {
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
                "stored_bytes": member.report.as_ref().map(|report| report.stored_bytes),
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
        "moves": progress.moves.iter().map(a_move).collect::<Vec<_>>(),
        "progress": {
            "replicas_left": progress.replicas_left,
            "reordered_left": progress.reordered_left,
            "bytes_left": progress.bytes_left,
            "bytes_per_second": progress.bytes_per_second,
            "seconds_left": progress.seconds_left,
        },
        "members": members,
        "under_replicated": lacking.iter().map(|(name, ..)| name).collect::<Vec<_>>(),
    })
}

/// One list that is becoming another.
fn a_move(one: &MoveProgress) -> Value {
    let ids = |ids: &[NodeId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    let owners = one.owners.iter().map(|owner| {
        json!({
            "id": owner.id.to_string(),
            "is_new": owner.is_new,
            "copied": owner.copied,
            "over": owner.over,
        })
    });
    json!({
        "partition": one.partition,
        "region": one.region,
        "from": ids(&one.from),
        "to": ids(&one.to),
        "copied": one.copied(),
        "owners": owners.collect::<Vec<_>>(),
    })
}

/// Where a member stands: `active`, `joining`, `leaving` or `lost`.
fn membership(view: &View, member: &MemberStatus) -> &'static str {
    view.member(member.id)
        .map_or("", |member| member.state.as_str())
}

fn text(
    view: &View,
    members: &[MemberStatus],
    progress: &Progress,
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
    output::table(&rows(view, members))?;
    for member in members {
        if let Some(error) = &member.error {
            output::line(&format!("{}: {error}", member.address))?;
        }
    }
    moving(view, progress)
}

fn rows(view: &View, members: &[MemberStatus]) -> Vec<Vec<String>> {
    let heading = [
        "ID", "ADDRESS", "STATE", "SHARE", "HOLDS", "CAPACITY", "ZONE", "REGION",
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
            match &member.report {
                Some(report) => BinaryBytes(report.stored_bytes).to_string(),
                None => "unknown".to_owned(),
            },
            member.capacity.to_string(),
            or_dash(&member.zone),
            or_dash(&member.region),
        ]
    }));
    rows
}

/// What moves, and how far it is.
fn moving(view: &View, progress: &Progress) -> Result<(), Failure> {
    if progress.is_still() {
        return Ok(());
    }
    output::line(&still_to_do(progress))?;
    if progress.moves.is_empty() {
        return Ok(());
    }
    let place = |id: &NodeId| match view.member(*id) {
        Some(member) => member.address.clone(),
        None => id.to_string(),
    };
    let differ = |some: &[NodeId], others: &[NodeId]| {
        let some = some.iter().filter(|id| !others.contains(id));
        match some.map(place).collect::<Vec<_>>() {
            none if none.is_empty() => String::from("-"),
            some => some.join(", "),
        }
    };
    let heading = ["PARTITION", "FROM", "TO", "OWNERS DONE", "COPIED"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(progress.moves.iter().take(MOVES_LISTED).map(|one| {
        vec![
            one.partition.to_string(),
            differ(&one.from, &one.to),
            differ(&one.to, &one.from),
            format!("{} of {}", one.over(), one.owners.len()),
            match one.copied() {
                Some(copied) => format!("{:.0} %", copied * 100.0),
                None => String::from("unknown"),
            },
        ]
    }));
    output::table(&rows)?;
    match progress.moves.len().saturating_sub(MOVES_LISTED) {
        0 => Ok(()),
        more => output::line(&format!("and {more} more; --json lists all")),
    }
}

/// How much is left of all that moves, and how long it takes.
pub(super) fn still_to_do(progress: &Progress) -> String {
    let mut parts = Vec::new();
    if progress.replicas_left > 0.0 {
        parts.push(format!("{:.1} partition copies", progress.replicas_left));
        if let Some(bytes) = progress.bytes_left {
            parts.push(format!("about {}", BinaryBytes(bytes)));
        }
        if let Some(bytes) = progress.bytes_per_second {
            parts.push(format!("{}/s", BinaryBytes(bytes)));
        }
        parts.push(match progress.seconds_left {
            Some(seconds) => {
                let left = humantime::format_duration(Duration::from_secs(seconds));
                format!("about {left} left")
            }
            None => String::from("time left unknown"),
        });
    }
    if progress.reordered_left > 0 {
        let lists = progress.reordered_left;
        parts.push(format!("the order of owners in {lists} partitions"));
    }
    if parts.is_empty() {
        parts.push(String::from(
            "nothing more, when what is compared now agrees",
        ));
    }
    format!("to move: {}", parts.join(", "))
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
