//! `annulet bucket`: the namespaces and their policy.

use crate::args::Common;
use crate::failure::{Exit, Failure};
use crate::{connect, output};
use annulet_protocol::bucket::Bucket;
use clap::Subcommand;
use serde_json::{Value, json};

#[derive(Subcommand, Debug)]
pub(crate) enum BucketCommand {
    /// List the buckets
    List,
    /// Show one bucket
    Show {
        /// Its name
        name: String,
    },
}

pub(crate) async fn run(command: BucketCommand, common: &Common) -> Result<Exit, Failure> {
    let client = connect::client(common).await?;
    let view = client.view();
    client.close().await;
    match command {
        BucketCommand::List => list(&view.buckets, common),
        BucketCommand::Show { name } => match view.bucket_named(&name) {
            Some(bucket) => show(bucket, common),
            None if common.json => {
                output::json(&json!({ "found": false, "name": name }))?;
                Ok(Exit::NotFound)
            }
            None => {
                output::note(&format!(
                    "not found: no bucket is named {name}; `annulet bucket list` lists them"
                ));
                Ok(Exit::NotFound)
            }
        },
    }
}

fn list(buckets: &[Bucket], common: &Common) -> Result<Exit, Failure> {
    if common.json {
        let buckets: Vec<Value> = buckets.iter().map(to_json).collect();
        output::json(&json!({ "buckets": buckets }))?;
        return Ok(Exit::Done);
    }
    let heading = [
        "NAME",
        "MODE",
        "REPLICAS",
        "READ",
        "WRITE",
        "DURABILITY",
        "TTL",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(buckets.iter().map(|bucket| {
        vec![
            bucket.name.clone(),
            bucket.mode.to_string(),
            bucket.replicas.to_string(),
            bucket.read_level.to_string(),
            bucket.write_level.to_string(),
            bucket.durability.to_string(),
            ttl(bucket),
        ]
    }));
    output::table(&rows)?;
    Ok(Exit::Done)
}

fn show(bucket: &Bucket, common: &Common) -> Result<Exit, Failure> {
    if common.json {
        let mut object = to_json(bucket);
        object["found"] = true.into();
        output::json(&object)?;
        return Ok(Exit::Done);
    }
    let lines = [
        ("name", bucket.name.clone()),
        ("number", bucket.number.to_string()),
        ("mode", bucket.mode.to_string()),
        ("replicas", bucket.replicas.to_string()),
        ("read level", bucket.read_level.to_string()),
        ("write level", bucket.write_level.to_string()),
        ("durability", bucket.durability.to_string()),
        ("time to live", ttl(bucket)),
    ];
    let rows: Vec<Vec<String>> = lines
        .map(|(name, value)| vec![name.to_owned(), value])
        .to_vec();
    output::table(&rows)?;
    Ok(Exit::Done)
}

fn to_json(bucket: &Bucket) -> Value {
    json!({
        "name": bucket.name,
        "number": bucket.number,
        "mode": bucket.mode.to_string(),
        "replicas": bucket.replicas,
        "read_level": bucket.read_level.to_string(),
        "write_level": bucket.write_level.to_string(),
        "durability": bucket.durability.to_string(),
        "ttl_ms": bucket.ttl_ms,
    })
}

fn ttl(bucket: &Bucket) -> String {
    match bucket.ttl_ms {
        Some(ms) => humantime::format_duration(std::time::Duration::from_millis(ms)).to_string(),
        None => "never ends".to_owned(),
    }
}
