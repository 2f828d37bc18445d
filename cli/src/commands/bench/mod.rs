//! `annulet bench`: load and latency. A closed loop keeps a number of callers busy; an open loop
//! begins operations at a rate, and counts latency from when each was meant to begin.

mod contexts;
mod processes;
mod run;
mod tally;
mod workload;

use self::contexts::Contexts;
use self::processes::Place;
use self::run::{Share, Values};
use self::tally::Tally;
use self::workload::{Keys, Workload};
use crate::args::{Common, Target};
use crate::connect::{self, Session};
use crate::failure::{Exit, Failure};
use crate::{output, seeds, units};
use annulet::{Level, WriteOptions};
use annulet_protocol::bucket::Mode;
use annulet_protocol::limits::VALUE_BYTES_MAX;
use bytes::Bytes;
use clap::Args;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    /// What to do
    #[arg(long, value_enum)]
    workload: Workload,
    /// Callers, each with one operation at a time; shared out over the processes
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65536))]
    concurrency: u32,
    /// Processes that call, each with a client of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    processes: u32,
    /// Operations a second in total (open loop); as many as the callers manage if not given
    #[arg(long, value_parser = rate, value_name = "N")]
    rate: Option<f64>,
    /// How long to measure
    #[arg(long, default_value_t = 10.0, value_parser = seconds, value_name = "S")]
    seconds: f64,
    /// How long to run before measuring
    #[arg(long, default_value_t = 1.0, value_parser = seconds_or_none, value_name = "S")]
    warmup: f64,
    /// Length of the values, as 1024 or 4KiB
    #[arg(long, default_value = "1024", value_parser = units::size, value_name = "N")]
    value_size: usize,
    /// Keys that are loaded, and used
    #[arg(long, default_value_t = 10_000, value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    keys: u64,
    /// Do not load the keys first: they are there from an earlier run
    #[arg(long)]
    no_load: bool,
    /// Seed of keys and values, to do the same again
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// This process is one of several
    #[arg(long, hide = true, value_parser = Place::parse)]
    worker: Option<Place>,
    #[command(flatten)]
    target: Target,
}

impl BenchArgs {
    fn warmup_time(&self) -> Duration {
        Duration::from_secs_f64(self.warmup)
    }

    fn measured_time(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    fn check(&self) -> Result<(), Failure> {
        if self.workload == Workload::YcsbE {
            return Err(Failure::usage(
                "ycsb-e needs scans in the order of keys, which Annulet has not",
            )
            .advise("use one of ycsb-a, ycsb-b, ycsb-c, ycsb-d, ycsb-f"));
        }
        if self.processes > self.concurrency {
            return Err(Failure::usage(format!(
                "{} processes have less than one caller each; raise --concurrency",
                self.processes
            )));
        }
        if self.value_size > VALUE_BYTES_MAX {
            return Err(Failure::usage(format!(
                "no cluster takes values longer than {VALUE_BYTES_MAX} bytes"
            )));
        }
        Ok(())
    }
}

pub(crate) async fn run(mut args: BenchArgs, common: &Common) -> Result<Exit, Failure> {
    args.check()?;
    let seed = match args.seed {
        Some(seed) => seed,
        None => u64::from_le_bytes(seeds::draw()?),
    };
    args.seed = Some(seed);
    let session = Arc::new(connect::session(common, &args.target).await?);
    session.check_bucket()?;
    let values = Values::new(args.value_size, seed);
    if !args.no_load {
        load(&args, &values, &session, common).await?;
    }
    let contexts = match args.processes {
        1 => Contexts::read(&session, args.keys).await?,
        // The workers see to it.
        _ => Contexts::default(),
    };
    let share = |place| Share {
        contexts,
        ..share(&args, values, place, seed)
    };
    if let Some(place) = args.worker {
        processes::wait_for_start()?;
        let tally = run::run(share(place), session).await?;
        output::json(&tally.pack())?;
        return Ok(Exit::Done);
    }
    let level = session.level_in_effect(args.workload.mostly_writes());
    let bucket = session.bucket_name.clone();
    let tally = if args.processes == 1 {
        run::run(share(Place::ALONE), session).await?
    } else {
        session.client.close().await;
        processes::run(&args, common).await?
    };
    report(&args, &tally, &bucket, level, common)
}

fn share(args: &BenchArgs, values: Values, place: Place, seed: u64) -> Share {
    Share {
        workload: args.workload,
        keys: Keys::new(args.workload, args.keys, place.index, place.of),
        values,
        contexts: Contexts::default(),
        callers: place.part_of(args.concurrency as usize),
        rate: args.rate.map(|rate| rate / place.of as f64),
        warmup: args.warmup_time(),
        measured: args.measured_time(),
        // Callers add their own number: no two of them draw the same.
        seed: seed.wrapping_add(place.index << 32),
    }
}

/// Stores every key once, at the bucket's own level, whatever level is to be measured.
async fn load(
    args: &BenchArgs,
    values: &Values,
    session: &Session,
    common: &Common,
) -> Result<(), Failure> {
    if !common.json {
        output::note(&format!("loading {} keys", args.keys));
    }
    let view = session.client.view();
    let bucket = view.bucket_named(&session.bucket_name);
    let leveled = bucket.filter(|bucket| bucket.mode != Mode::Strong);
    let options = WriteOptions {
        level: leveled.map(|bucket| bucket.write_level),
        timeout: Some(LOAD_TIMEOUT),
        ..WriteOptions::default()
    };
    let mut random = ChaCha8Rng::seed_from_u64(args.seed.unwrap_or(0));
    let at_once = (LOAD_BYTES / (args.value_size + 1)).clamp(1, LOAD_KEYS) as u64;
    let mut next = 0;
    while next < args.keys {
        let end = args.keys.min(next + at_once);
        let entries = (next..end).map(|number| {
            let value = values.next(&mut random);
            (Bytes::from(Keys::name(number)), value)
        });
        let entries: Vec<_> = entries.collect();
        for result in session.bucket.multi_put_with(entries, &options).await {
            result.map_err(|error| {
                Failure::from(error).advise("the keys could not be loaded; nothing was measured")
            })?;
        }
        next = end;
    }
    Ok(())
}

fn report(
    args: &BenchArgs,
    tally: &Tally,
    bucket: &str,
    level: Option<Level>,
    common: &Common,
) -> Result<Exit, Failure> {
    let level = level.map(|level| level.to_string()).unwrap_or_default();
    if common.json {
        output::json(&to_json(args, tally, bucket, &level))?;
    } else {
        text(args, tally, bucket, &level)?;
    }
    // Nothing that was done is nothing that was measured.
    Ok(if tally.operations() == 0 {
        Exit::Failed
    } else {
        Exit::Done
    })
}

fn to_json(args: &BenchArgs, tally: &Tally, bucket: &str, level: &str) -> Value {
    json!({
        "workload": args.workload.name(),
        "bucket": bucket,
        "level": level,
        "concurrency": args.concurrency,
        "processes": args.processes,
        "rate": args.rate,
        "value_size": args.value_size,
        "keys": args.keys,
        "seed": args.seed,
        "warmup_seconds": args.warmup,
        "seconds": tally.elapsed.as_secs_f64(),
        "operations": tally.operations(),
        "errors": tally.error_count(),
        "errors_by_kind": tally.errors(),
        "not_found": tally.not_found,
        "unstarted": tally.unstarted,
        "ops_per_second": tally.per_second(),
        "mean_us": tally.mean_us(),
        "p50_us": tally.quantile_us(0.5),
        "p90_us": tally.quantile_us(0.9),
        "p99_us": tally.quantile_us(0.99),
        "p999_us": tally.quantile_us(0.999),
        "max_us": tally.max_us(),
    })
}

fn text(args: &BenchArgs, tally: &Tally, bucket: &str, level: &str) -> Result<(), Failure> {
    output::line(&format!(
        "{} on bucket {bucket} at {level}, values of {} bytes, {} keys, {} callers in {} \
         processes{}",
        args.workload.name(),
        args.value_size,
        args.keys,
        args.concurrency,
        args.processes,
        args.rate
            .map(|rate| format!(", {rate} operations a second"))
            .unwrap_or_default()
    ))?;
    output::line(&format!(
        "{:.0} operations a second: {} in {:.1} s",
        tally.per_second(),
        tally.operations(),
        tally.elapsed.as_secs_f64()
    ))?;
    let latency = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];
    let latency = latency.map(|(name, at)| format!("{name} {:.0}", tally.quantile_us(at)));
    output::line(&format!(
        "latency in microseconds: {}, most {:.0}",
        latency.join(", "),
        tally.max_us()
    ))?;
    for (kind, count) in tally.errors() {
        output::line(&format!("{count} errors: {kind}"))?;
    }
    if tally.not_found > 0 {
        let count = tally.not_found;
        output::line(&format!(
            "{count} reads found nothing: were the keys loaded?"
        ))?;
    }
    if tally.unstarted > 0 {
        output::line(&format!(
            "{} operations never began: the rate is too high for the cluster, or for {} callers",
            tally.unstarted, args.concurrency
        ))?;
    }
    Ok(())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok();
    rate.filter(|rate| (0.01..=10_000_000.0).contains(rate))
        .ok_or_else(|| "write operations a second as a number above zero".to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    let time = units::duration(text)?.as_secs_f64();
    if time > SECONDS_MAX {
        return Err("a day is the longest".to_owned());
    }
    Ok(time)
}

fn seconds_or_none(text: &str) -> Result<f64, String> {
    if text == "0" { Ok(0.0) } else { seconds(text) }
}

const SECONDS_MAX: f64 = 24.0 * 60.0 * 60.0;
const LOAD_KEYS: usize = 1024;
const LOAD_BYTES: usize = 4 << 20;
/// Loading is not measured; it may wait for a busy cluster.
const LOAD_TIMEOUT: Duration = Duration::from_secs(30);
