//! The `annulet` program: servers, local clusters, data, certificates and benchmarks, one command
//! each. Commands decide nothing about replicas; that is the client core's.
//!
//! # Layout
//! - `args`: the command line; `commands`: one module each
//! - `connect`: from flags and profile to a bucket in hand; `pages`: all that is in it
//! - `failure`: exit codes and error messages; `output`: results
//! - `pki`, `files`: certificates, and writing them safely
//! - `transfer`: what import and export share; `progress`: how far they are
//! - `units`: durations and sizes as users write them; `patience`: when to try again
//! - `clock`, `seeds`, `signals`: what is asked of the system
#![forbid(unsafe_code)]

mod args;
mod clock;
mod commands;
mod connect;
mod failure;
mod files;
mod output;
mod pages;
mod patience;
mod pki;
mod progress;
mod seeds;
mod signals;
mod transfer;
mod units;

use crate::args::{Cli, Command, Common};
use crate::failure::{Exit, Failure};
use clap::Parser;
use std::process::ExitCode;
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refused(&error),
    };
    let common = cli.common.clone();
    match run(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.report(common.json);
            failure.exit().into()
        }
    }
}

fn run(cli: Cli) -> Result<Exit, Failure> {
    let Cli { common, command } = cli;
    if let Command::Cert(command) = &command {
        return commands::cert::run(command, &common);
    }
    if !matches!(command, Command::Serve(_)) {
        log_if_asked();
    }
    let runtime = runtime(&command)?;
    let result = runtime.block_on(dispatch(command, common));
    // Whatever still runs has nobody to report to; a blocked read of standard input never ends.
    runtime.shutdown_background();
    result
}

async fn dispatch(command: Command, common: Common) -> Result<Exit, Failure> {
    use commands::{bench, bucket, cert, check, cluster, data, dev};
    use commands::{export, import, many, node, scan, serve};
    match command {
        Command::Dev(args) => dev::run(args, &common).await,
        Command::Serve(args) => serve::run(args).await,
        Command::Put(args) => data::put(args, &common).await,
        Command::Get(args) => data::get(args, &common).await,
        Command::Delete(args) => data::delete(args, &common).await,
        Command::Cas(args) => data::cas(args, &common).await,
        Command::Exists(args) => data::exists(args, &common).await,
        Command::Touch(args) => data::touch(args, &common).await,
        Command::Mget(args) => many::get(args, &common).await,
        Command::Mput(args) => many::put(args, &common).await,
        Command::Scan(args) => scan::run(args, &common).await,
        Command::Import(args) => import::run(args, &common).await,
        Command::Export(args) => export::run(args, &common).await,
        Command::Cert(command) => cert::run(&command, &common),
        Command::Cluster(command) => cluster::run(command, &common).await,
        Command::Node(command) => node::run(command, &common).await,
        Command::Bucket(command) => bucket::run(command, &common).await,
        Command::Bench(args) => bench::run(args, &common).await,
        Command::Check(args) => check::run(args, &common).await,
    }
}

/// A server, an import and an export get a thread for each core, the others one. `bench` too: one
/// caller's operation then never waits for another thread to wake, and `--processes` takes more
/// cores.
fn runtime(command: &Command) -> Result<Runtime, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = match command {
        Command::Serve(_) | Command::Import(_) | Command::Export(_) => cores,
        _ => 1,
    };
    let mut builder = match threads {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    builder
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start threads: {error}")))
}

/// Commands other than `serve` log only when `RUST_LOG` says so.
fn log_if_asked() {
    let filter = std::env::var("RUST_LOG").ok();
    if let Some(filter) = filter.filter(|filter| !filter.is_empty()) {
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .init();
    }
}

/// Help, the version, or a command line that cannot be.
fn refused(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && std::env::args_os().any(|arg| arg == "--json") {
        let text = error.render().to_string();
        let text = text.trim_start_matches("error: ").trim_end();
        let failure = Failure::usage(text);
        failure.report(true);
        return failure.exit().into();
    }
    // Nothing is left to do if standard output or standard error is gone.
    error.print().ok();
    let exit = if error.use_stderr() {
        Exit::Usage
    } else {
        Exit::Done
    };
    exit.into()
}
