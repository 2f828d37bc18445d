//! `annulet cluster hints`: what servers keep for others that are away.

use crate::failure::{Exit, Failure};
use crate::output;
use annulet::{Client, HintsReport, View};
use annulet_protocol::hints::HintAside;
use annulet_protocol::ids::NodeId;
use indicatif::BinaryBytes;
use serde_json::{Value, json};
use std::time::{Duration, UNIX_EPOCH};

/// A server, and what it keeps or why it does not say.
struct Member {
    id: NodeId,
    address: String,
    report: Result<HintsReport, String>,
}

pub(super) async fn run(client: &Client, json: bool) -> Result<Exit, Failure> {
    let members = client.hints().await.into_iter().map(|member| Member {
        id: member.id,
        address: member.address,
        report: member.report,
    });
    let members: Vec<Member> = members.collect();
    let view = client.view();
    if json {
        output::json(&to_json(&view, &members))?;
    } else {
        output::table(&rows(&view, &members))?;
        for line in remarks(&view, &members) {
            output::line(&line)?;
        }
    }
    Ok(match members.iter().any(|member| member.report.is_ok()) {
        true => Exit::Done,
        false => Exit::Failed,
    })
}

fn to_json(view: &View, members: &[Member]) -> Value {
    let members: Vec<Value> = members
        .iter()
        .map(|member| {
            let report = member.report.as_ref().ok();
            let waiting = report.map(|report| {
                let waiting = report.waiting.iter().map(|waiting| {
                    json!({
                        "owner": waiting.owner.to_string(),
                        "address": view.member(waiting.owner).map(|owner| &owner.address),
                        "count": waiting.count,
                    })
                });
                waiting.collect::<Vec<_>>()
            });
            let aside_listed = report.map(|report| {
                let listed = report.aside_listed.iter();
                listed
                    .map(|aside| aside_json(view, aside))
                    .collect::<Vec<_>>()
            });
            json!({
                "id": member.id.to_string(),
                "address": member.address,
                "bytes": report.map(|report| report.bytes),
                "bytes_max": report.map(|report| report.bytes_max),
                "waiting": waiting,
                "aside": report.map(|report| report.aside),
                "aside_listed": aside_listed,
                "error": member.report.as_ref().err(),
            })
        })
        .collect();
    json!({ "members": members })
}

fn aside_json(view: &View, aside: &HintAside) -> Value {
    let (key, key_base64) = output::key_json(&aside.key);
    let owners: Vec<String> = aside.owners.iter().map(NodeId::to_string).collect();
    json!({
        "bucket": aside.bucket,
        "bucket_name": view.bucket(aside.bucket).map(|bucket| &bucket.name),
        "key": key,
        "key_base64": key_base64,
        "version": aside.version.to_string(),
        "owners": owners,
        "since_ms": aside.since_ms,
    })
}

fn rows(view: &View, members: &[Member]) -> Vec<Vec<String>> {
    let heading = ["SERVER", "KEEPS", "AT MOST", "SET ASIDE", "WAITING"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(members.iter().map(|member| match &member.report {
        Ok(report) => {
            let waiting = report.waiting.iter().map(|waiting| {
                let owner = place(view, waiting.owner);
                format!("{} for {owner}", waiting.count)
            });
            let waiting: Vec<String> = waiting.collect();
            vec![
                member.address.clone(),
                BinaryBytes(report.bytes).to_string(),
                BinaryBytes(report.bytes_max).to_string(),
                report.aside.to_string(),
                match waiting.is_empty() {
                    true => String::from("none"),
                    false => waiting.join(", "),
                },
            ]
        }
        Err(_) => vec![member.address.clone(), String::from("does not say")],
    }));
    rows
}

/// What the table has no room for.
fn remarks(view: &View, members: &[Member]) -> Vec<String> {
    let mut remarks = Vec::new();
    let mut aside = 0;
    for member in members {
        let address = &member.address;
        let report = match &member.report {
            Ok(report) => report,
            Err(why) => {
                remarks.push(format!("{address}: {why}"));
                continue;
            }
        };
        aside += report.aside;
        for record in &report.aside_listed {
            remarks.push(format!(
                "set aside on {address}: {}",
                described(view, record)
            ));
        }
        match report
            .aside
            .saturating_sub(report.aside_listed.len() as u64)
        {
            0 => {}
            more => remarks.push(format!("set aside on {address}: {more} more")),
        }
    }
    if aside > 0 {
        remarks.push(ASIDE_TO_DO.to_owned());
    }
    remarks
}

fn described(view: &View, record: &HintAside) -> String {
    let bucket = match view.bucket(record.bucket) {
        Some(bucket) => bucket.name.clone(),
        None => format!("number {} (no longer there)", record.bucket),
    };
    let owners = record.owners.iter().map(|owner| place(view, *owner));
    let owners: Vec<String> = owners.collect();
    format!(
        "bucket {bucket}, key {}, since {}, for {}",
        output::brief(&record.key),
        date(record.since_ms),
        owners.join(", ")
    )
}

/// The address of a server, or its id if it is no member any more.
fn place(view: &View, id: NodeId) -> String {
    match view.member(id) {
        Some(member) => member.address.clone(),
        None => format!("server {id}"),
    }
}

fn date(since_epoch_ms: u64) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_millis(since_epoch_ms));
    match time.filter(|_| since_epoch_ms < YEAR_10_000_MS) {
        Some(time) => humantime::format_rfc3339_seconds(time).to_string(),
        None => format!("{since_epoch_ms} ms"),
    }
}

/// Years of five digits cannot be written as a date.
const YEAR_10_000_MS: u64 = 253_402_300_800_000;

const ASIDE_TO_DO: &str = "to do: what is set aside was kept for too long to be handed over by \
    itself, since a delete of it may be forgotten by now. Its owners have it if another replica \
    has repaired them; `annulet get KEY --level all` repairs the key from what its owners have.";

#[cfg(test)]
mod tests;
