//! `annulet cluster plan`: what would move, before anything does.

use crate::commands::node;
use crate::failure::{Exit, Failure};
use crate::output;
use annulet::{Client, Forecast, Holder, IdleCause, Newcomer, NodeId, RingChange, View};
use clap::Args;
use indicatif::BinaryBytes;
use serde_json::{Value, json};

/// Changes of members, any number of each.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct PlanArgs {
    /// A server that is to leave: its id or address
    #[arg(long, value_name = "NODE")]
    pub(super) leave: Vec<String>,
    /// A server's share of the data, relative to the others'
    #[arg(long, value_name = "NODE=N", value_parser = capacity)]
    pub(super) capacity: Vec<(String, u32)>,
    /// What fails together with a server
    #[arg(long, value_name = "NODE=ZONE", value_parser = zone)]
    pub(super) zone: Vec<(String, String)>,
    /// A server that is to come
    #[arg(long, value_name = "ZONE:CAPACITY[:REGION]", value_parser = join)]
    pub(super) join: Vec<Join>,
}

/// A server that is to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Join {
    zone: String,
    capacity: u32,
    region: Option<String>,
}

fn capacity(text: &str) -> Result<(String, u32), String> {
    let (node, number) = text.rsplit_once('=').ok_or("write NODE=N")?;
    match number.parse() {
        Ok(number) if number > 0 => Ok((node.to_owned(), number)),
        _ => Err("a capacity is a number from 1; a server that should own nothing leaves".into()),
    }
}

fn zone(text: &str) -> Result<(String, String), String> {
    let (node, zone) = text.split_once('=').ok_or("write NODE=ZONE")?;
    Ok((node.to_owned(), zone.to_owned()))
}

fn join(text: &str) -> Result<Join, String> {
    let parts: Vec<_> = text.split(':').collect();
    let (zone, number, region) = match parts[..] {
        [zone, number] => (zone, number, None),
        [zone, number, region] => (zone, number, Some(region.to_owned())),
        _ => return Err("write ZONE:CAPACITY or ZONE:CAPACITY:REGION".into()),
    };
    match number.parse() {
        Ok(capacity) if capacity > 0 => Ok(Join {
            zone: zone.to_owned(),
            capacity,
            region,
        }),
        _ => Err("a capacity is a number from 1".into()),
    }
}

impl PlanArgs {
    /// What they say, in a cluster with this view.
    pub(super) fn changes(&self, view: &View) -> Result<Vec<RingChange>, Failure> {
        let id = |node: &String| node::find(view, node).map(|member| member.id);
        let mut changes = Vec::new();
        for (node, capacity) in &self.capacity {
            changes.push(RingChange::Capacity(id(node)?, *capacity));
        }
        for (node, zone) in &self.zone {
            changes.push(RingChange::Zone(id(node)?, zone.clone()));
        }
        for node in &self.leave {
            changes.push(RingChange::Leave(id(node)?));
        }
        for join in &self.join {
            changes.push(RingChange::Join(newcomer(view, join)?));
        }
        Ok(changes)
    }
}

fn newcomer(view: &View, join: &Join) -> Result<Newcomer, Failure> {
    let regions: Vec<_> = view
        .table
        .regions
        .iter()
        .map(|t| t.region.as_str())
        .collect();
    let region = match (&join.region, &regions[..]) {
        (Some(region), _) => region.clone(),
        (None, [only]) => (*only).to_owned(),
        (None, _) => {
            let regions = regions.join(", ");
            return Err(Failure::usage(format!(
                "the cluster has several regions: {regions}; write --join ZONE:CAPACITY:REGION"
            )));
        }
    };
    Ok(Newcomer {
        capacity: join.capacity,
        zone: join.zone.clone(),
        region,
    })
}

pub(super) async fn run(client: &Client, args: &PlanArgs, json: bool) -> Result<Exit, Failure> {
    let view = client.newest_view().await?;
    let changes = args.changes(&view)?;
    let forecast = client.plan(&changes).await?;
    if json {
        output::json(&to_json(&view, &forecast))?;
    } else {
        text(&view, &forecast)?;
    }
    Ok(Exit::Done)
}

/// A server's address, or which of those to come it is.
fn place(view: &View, holder: Holder) -> String {
    match holder {
        Holder::Newcomer(number) => format!("new server {}", number + 1),
        Holder::Member(id) => match view.member(id) {
            Some(member) => member.address.clone(),
            None => id.to_string(),
        },
    }
}

/// The id of a member; a server to come has none yet.
fn id(holder: Holder) -> Option<String> {
    match holder {
        Holder::Member(id) => Some(NodeId::to_string(&id)),
        Holder::Newcomer(_) => None,
    }
}

pub(super) fn to_json(view: &View, forecast: &Forecast) -> Value {
    let transfers = forecast.transfers.iter().map(|one| {
        json!({
            "from": one.from.map(|from| place(view, from)),
            "from_id": one.from.and_then(id),
            "to": place(view, one.to),
            "to_id": id(one.to),
            "partitions": one.replicas,
            "bytes": one.bytes,
        })
    });
    let members = forecast.members.iter().map(|member| {
        json!({
            "id": id(member.holder),
            "server": place(view, member.holder),
            "capacity_before": member.capacity_before,
            "capacity": member.capacity,
            "zone": member.zone,
            "region": member.region,
            "partitions_before": member.replicas_before,
            "partitions": member.replicas,
            "share_before": member.share_before,
            "share": member.share,
        })
    });
    let idle = forecast.idle.iter().map(|idle| {
        json!({
            "server": place(view, idle.holder),
            "part": f64::from(idle.ppm) / 1e6,
            "why": why_idle(idle.cause),
        })
    });
    let zones = forecast.zones.iter().map(|zones| {
        json!({
            "region": zones.region,
            "zones": zones.zones,
            "owners": zones.owners,
            "distinct": zones.shared == 0,
            "sharing_before": zones.shared_before,
            "sharing": zones.shared,
        })
    });
    json!({
        "epoch": forecast.epoch,
        "partitions_before": forecast.partitions_before,
        "partitions": forecast.partitions,
        "copies": forecast.replicas,
        "moving": forecast.moving,
        "moving_bytes": forecast.moving_bytes,
        "dropped": forecast.dropped,
        "reordered": forecast.reordered,
        "under_way": forecast.under_way,
        "transfers": transfers.collect::<Vec<_>>(),
        "members": members.collect::<Vec<_>>(),
        "unused": idle.collect::<Vec<_>>(),
        "zones": zones.collect::<Vec<_>>(),
    })
}

fn why_idle(cause: IdleCause) -> &'static str {
    match cause {
        IdleCause::InEveryList => "it is an owner of every partition already",
        IdleCause::ZoneInEveryList => {
            "its zone has a copy of every partition already, and copies are kept in different zones"
        }
    }
}

pub(super) fn text(view: &View, forecast: &Forecast) -> Result<(), Failure> {
    for line in summary(forecast) {
        output::line(&line)?;
    }
    if !forecast.transfers.is_empty() {
        output::table(&transfers(view, forecast))?;
    }
    output::table(&members(view, forecast))?;
    for line in remarks(view, forecast) {
        output::line(&line)?;
    }
    Ok(())
}

/// How much moves.
fn summary(forecast: &Forecast) -> Vec<String> {
    if forecast.is_still() {
        return vec!["nothing moves".into()];
    }
    let part = forecast.moving as f64 * 100.0 / forecast.replicas.max(1) as f64;
    let bytes = match forecast.moving_bytes {
        Some(bytes) => format!(", about {}", BinaryBytes(bytes)),
        None => String::new(),
    };
    let mut lines = vec![format!(
        "{} of {} partition copies move ({part:.1} %){bytes}",
        forecast.moving, forecast.replicas
    )];
    if forecast.under_way > 0 {
        lines.push(format!(
            "{} partitions are on the move already",
            forecast.under_way
        ));
    }
    if forecast.dropped > 0 {
        let dropped = forecast.dropped;
        lines.push(format!(
            "{dropped} copies go, and nobody gets them: fewer servers are left"
        ));
    }
    if forecast.reordered > 0 {
        let reordered = forecast.reordered;
        lines.push(format!(
            "{reordered} partitions change only the order of their owners"
        ));
    }
    if forecast.partitions != forecast.partitions_before {
        lines.push(format!(
            "the ring is cut into {} partitions instead of {}, which moves nothing",
            forecast.partitions, forecast.partitions_before
        ));
    }
    lines
}

fn transfers(view: &View, forecast: &Forecast) -> Vec<Vec<String>> {
    let heading = ["FROM", "TO", "PARTITIONS", "ABOUT"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(forecast.transfers.iter().map(|one| {
        vec![
            one.from.map_or("-".into(), |from| place(view, from)),
            place(view, one.to),
            one.replicas.to_string(),
            match one.bytes {
                Some(bytes) => BinaryBytes(bytes).to_string(),
                None => "unknown".into(),
            },
        ]
    }));
    rows
}

fn members(view: &View, forecast: &Forecast) -> Vec<Vec<String>> {
    let heading = ["SERVER", "CAPACITY", "ZONE", "SHARE NOW", "THEN"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(forecast.members.iter().map(|member| {
        let capacity = match (member.capacity_before, member.capacity) {
            (Some(before), Some(then)) if before != then => format!("{before}, then {then}"),
            (_, Some(then)) => then.to_string(),
            (_, None) => "leaves".into(),
        };
        let zone = match member.zone.as_str() {
            "" => "-".into(),
            zone => zone.to_owned(),
        };
        vec![
            place(view, member.holder),
            capacity,
            zone,
            share(member.share_before, member.capacity_before.is_some()),
            share(member.share, member.capacity.is_some()),
        ]
    }));
    rows
}

fn share(share: f64, is_there: bool) -> String {
    match is_there || share > 0.0 {
        true => format!("{:.1} %", share * 100.0),
        false => "-".into(),
    }
}

/// What the tables have no room for.
fn remarks(view: &View, forecast: &Forecast) -> Vec<String> {
    let names_zones = forecast
        .members
        .iter()
        .any(|member| !member.zone.is_empty());
    let idle = forecast.idle.iter().map(|idle| {
        format!(
            "unused: {:.1} % of the capacity of {}: {}",
            f64::from(idle.ppm) / 1e4,
            place(view, idle.holder),
            why_idle(idle.cause)
        )
    });
    let zones = forecast.zones.iter().map(move |zones| {
        let region = match zones.region.as_str() {
            "" => String::new(),
            region => format!(" of region {region}"),
        };
        match zones.shared {
            0 => format!("zones{region}: all copies of a partition are in different zones"),
            _ if zones.zones == 1 && !names_zones => format!(
                "zones{region}: no server names its zone, so nobody knows what fails together"
            ),
            shared => format!(
                "zones{region}: {shared} partitions have two copies or more in one zone ({} now); \
                 zones: {}, copies of each partition: {}",
                zones.shared_before, zones.zones, zones.owners
            ),
        }
    });
    idle.chain(zones).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_to_come_are_read_as_they_are_written() {
        let read = |text: &str| join(text).map(|j| (j.zone, j.capacity, j.region));
        assert_eq!(read("rack-4:2"), Ok(("rack-4".into(), 2, None)));
        let region = Some("eu".to_owned());
        assert_eq!(read(":1:eu"), Ok((String::new(), 1, region)));
        for bad in ["", "rack-4", "rack-4:", "rack-4:0", "rack-4:x", "a:1:b:2"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn changes_name_a_server_and_what_it_is_to_have() {
        let node = || "host:7400".to_owned();
        assert_eq!(capacity("host:7400=3"), Ok((node(), 3)));
        assert_eq!(zone("host:7400=a=b"), Ok((node(), "a=b".into())));
        assert_eq!(zone("host:7400="), Ok((node(), String::new())));
        for bad in ["host:7400", "host:7400=0", "host:7400=", "host:7400=-1"] {
            assert!(capacity(bad).is_err(), "{bad}");
        }
        assert!(zone("host:7400").is_err());
    }
}
