//! Loads a store that the benchmark compares Annulet with, by that store's usual Rust client, and
//! measures it as `annulet bench` measures Annulet: the same keys and values, the same closed
//! loop, the same report.
//!
//! # Layout
//! - `args`: the command line
//! - `connection`: what a store must offer; `etcd`, `redis`: the stores
//! - `load`: callers, keys and values, and what was measured
//! - `clock`: the only reader of the system's clock
#![forbid(unsafe_code)]

mod args;
mod clock;
mod connection;
mod etcd;
mod load;
mod redis;

use crate::args::{Args, Peer};
use crate::connection::{ClientCredentials, Connection, Credentials};
use crate::load::{Outcome, Plan};
use clap::Parser;
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args).await {
        Ok(outcome) => {
            let report = report(&args, &outcome);
            if args.json {
                println!("{report}");
            } else {
                println!("{report:#}");
            }
            if let Some(error) = outcome.first_error {
                eprintln!("the first of {} errors: {error}", outcome.errors);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<Outcome, String> {
    // The peers' clients take the provider that the process has chosen: the one of Annulet's own
    // client, so that all pay the same for TLS.
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| "a provider of cryptography is installed already")?;
    let credentials = credentials(args)?;
    let endpoints = args.endpoints.iter().cycle().take(args.connections.into());
    match args.peer {
        Peer::Etcd => {
            let mut connections = Vec::new();
            for endpoint in endpoints {
                connections.push(etcd::Etcd::connect(endpoint, &credentials).await?);
            }
            load_and_measure(args, &connections).await
        }
        Peer::Redis => {
            let mut connections = Vec::new();
            for endpoint in endpoints {
                connections.push(redis::Redis::connect(endpoint, &credentials).await?);
            }
            load_and_measure(args, &connections).await
        }
    }
}

async fn load_and_measure<C: Connection>(
    args: &Args,
    connections: &[C],
) -> Result<Outcome, String> {
    let plan = Plan {
        workload: args.workload,
        callers: args.concurrency.into(),
        measured: Duration::from_secs(args.seconds.into()),
        value_size: args.value_size as usize,
        keys: args.keys,
    };
    if !args.no_load {
        load::store_keys(connections, &plan).await?;
    }
    load::measure(connections, &plan).await
}

fn credentials(args: &Args) -> Result<Credentials, String> {
    let client = match (&args.cert, &args.key) {
        (Some(certificate), Some(key)) => Some(ClientCredentials {
            certificate: read(certificate)?,
            key: read(key)?,
        }),
        _ => None,
    };
    Ok(Credentials {
        authority: read(&args.ca)?,
        client,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn report(args: &Args, outcome: &Outcome) -> Value {
    let latencies = &outcome.latencies;
    let micros = |quantile: f64| {
        let nanos = latencies.value_at_quantile(quantile);
        (nanos as f64 / 100.0).round() / 10.0
    };
    let operations = latencies.len();
    let seconds = outcome.elapsed.as_secs_f64();
    json!({
        "peer": args.peer.name(),
        "workload": args.workload.name(),
        "level": args.peer.level(),
        "concurrency": args.concurrency,
        "connections": args.connections,
        "value_size": args.value_size,
        "keys": args.keys,
        "seconds": seconds,
        "operations": operations,
        "errors": outcome.errors,
        "ops_per_second": (operations as f64 / seconds * 10.0).round() / 10.0,
        "p50_us": micros(0.5),
        "p99_us": micros(0.99),
        "p999_us": micros(0.999),
    })
}
