//! `annulet bucket`: the namespaces and their policy.

use crate::args::Common;
use crate::failure::{Exit, Failure};
use crate::{connect, output, units};
use annulet::{
    BucketChanges, BucketOptions, BucketPolicy as Bucket, Client, Durability, ErrorKind, Level,
    Merge, Mode, Ttl,
};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

#[derive(Subcommand, Debug)]
pub(crate) enum BucketCommand {
    /// Make a bucket; needs a certificate of role admin
    Create(CreateArgs),
    /// Change what may change of a bucket; needs a certificate of role admin
    Set(SetArgs),
    /// Delete a bucket and all that is in it, for good; needs a certificate of role admin
    Delete {
        /// Its name
        name: String,
    },
    /// List the buckets
    List,
    /// Show one bucket
    Show {
        /// Its name
        name: String,
    },
}

#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// Its name, 1 to 64 bytes
    name: String,
    /// What happens when two clients write one key at the same time: lww (the newest stays),
    /// siblings (both stay) or strong (writes of a key have one order); never changes
    #[arg(long)]
    mode: Mode,
    /// Owners of each key in each region, 1 to 7 [default: 3]; never changes
    #[arg(long, value_name = "N")]
    replicas: Option<u8>,
    /// How long values live whose writer does not say [default: for good]
    #[arg(long, value_name = "DURATION", value_parser = units::ttl)]
    ttl: Option<Ttl>,
    /// When writes are acknowledged: group (on disk) or async (up to 10 ms before that); never
    /// changes
    #[arg(long, default_value = "group")]
    durability: Durability,
    /// What readers make of concurrent values by themselves, in a bucket of mode siblings: union,
    /// max, counter or lww; never changes
    #[arg(long)]
    merge: Option<Merge>,
    /// Level of reads that name none [default: quorum]
    #[arg(long, value_name = "LEVEL")]
    read: Option<Level>,
    /// Level of writes that name none [default: quorum]
    #[arg(long, value_name = "LEVEL")]
    write: Option<Level>,
}

#[derive(Args, Debug)]
pub(crate) struct SetArgs {
    /// Its name
    name: String,
    /// How long values live whose writer does not say, from now on; `never`: for good
    #[arg(long, value_name = "DURATION", value_parser = units::ttl)]
    ttl: Option<Ttl>,
    /// Level of reads that name none
    #[arg(long, value_name = "LEVEL")]
    read: Option<Level>,
    /// Level of writes that name none
    #[arg(long, value_name = "LEVEL")]
    write: Option<Level>,
}

pub(crate) async fn run(command: BucketCommand, common: &Common) -> Result<Exit, Failure> {
    let client = connect::client(common).await?;
    let result = match command {
        BucketCommand::Create(args) => create(&client, args, common).await,
        BucketCommand::Set(args) => set(&client, args, common).await,
        BucketCommand::Delete { name } => delete(&client, &name, common).await,
        BucketCommand::List => list(&client.buckets().await?, common),
        BucketCommand::Show { name } => match find(&client, &name).await? {
            Some(bucket) => show(&bucket, "found", common),
            None => missing(&name, common),
        },
    };
    client.close().await;
    result
}

async fn create(client: &Client, args: CreateArgs, common: &Common) -> Result<Exit, Failure> {
    let options = BucketOptions {
        replicas: args.replicas,
        durability: args.durability,
        merge: args.merge,
        read_level: args.read.unwrap_or(Level::Quorum),
        write_level: args.write.unwrap_or(Level::Quorum),
        ttl: match args.ttl {
            Some(Ttl::After(ttl)) => Some(ttl),
            Some(Ttl::Bucket | Ttl::Never | Ttl::Until(_)) | None => None,
        },
        ..BucketOptions::new(args.mode)
    };
    let made = client.create_bucket(&args.name, &options).await;
    show(&made.map_err(refused)?, "created", common)
}

async fn set(client: &Client, args: SetArgs, common: &Common) -> Result<Exit, Failure> {
    if args.ttl.is_none() && args.read.is_none() && args.write.is_none() {
        let why = "nothing to change: name --ttl, --read or --write";
        return Err(Failure::usage(why));
    }
    if find(client, &args.name).await?.is_none() {
        return missing(&args.name, common);
    }
    let changes = BucketChanges {
        ttl: args.ttl.unwrap_or_default(),
        read_level: args.read,
        write_level: args.write,
    };
    let changed = client.set_bucket(&args.name, &changes).await;
    show(&changed.map_err(refused)?, "changed", common)
}

async fn delete(client: &Client, name: &str, common: &Common) -> Result<Exit, Failure> {
    if find(client, name).await?.is_none() {
        return missing(name, common);
    }
    client.delete_bucket(name).await.map_err(refused)?;
    if common.json {
        output::json(&json!({ "deleted": true, "name": name }))?;
    }
    Ok(Exit::Done)
}

/// The bucket of this name, by the newest view.
async fn find(client: &Client, name: &str) -> Result<Option<Bucket>, Failure> {
    let buckets = client.buckets().await?;
    Ok(buckets.into_iter().find(|bucket| bucket.name == name))
}

fn missing(name: &str, common: &Common) -> Result<Exit, Failure> {
    if common.json {
        output::json(&json!({ "found": false, "name": name }))?;
    } else {
        output::note(&format!(
            "not found: no bucket is named {name}; `annulet bucket list` lists them"
        ));
    }
    Ok(Exit::NotFound)
}

/// Why a change was not made, with what helps for buckets.
fn refused(error: annulet::Error) -> Failure {
    let advice = match error.kind() {
        ErrorKind::Conflict => "`annulet bucket list` lists the buckets there are",
        ErrorKind::Unavailable | ErrorKind::Timeout => {
            "buckets are changed with a majority of the keepers: `annulet cluster status` shows \
             which servers are up; then look with `annulet bucket list` what became of it"
        }
        ErrorKind::Unauthorized => "use a profile whose certificate has the role admin",
        _ => return error.into(),
    };
    Failure::from(error).advise(advice)
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

/// Prints a bucket; `what` became of it is what JSON says.
fn show(bucket: &Bucket, what: &str, common: &Common) -> Result<Exit, Failure> {
    if common.json {
        let mut object = to_json(bucket);
        object[what] = true.into();
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
        ("merge", merge(bucket).unwrap_or("-").to_owned()),
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
        "merge": merge(bucket),
    })
}

fn merge(bucket: &Bucket) -> Option<&'static str> {
    bucket.merge.map(Merge::as_str)
}

fn ttl(bucket: &Bucket) -> String {
    match bucket.ttl_ms {
        Some(ms) => humantime::format_duration(std::time::Duration::from_millis(ms)).to_string(),
        None => "never ends".to_owned(),
    }
}
