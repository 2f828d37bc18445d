//! `annulet check`: a load whose history is recorded, and whether a linearizable store can have
//! given it.

mod load;

use crate::args::{Common, Target};
use crate::connect;
use crate::failure::{Exit, Failure};
use crate::output;
use crate::seeds;
use crate::units;
use annulet_history::{Failure as Finding, Operation, Outcome, STEPS_MAX, lines};
use annulet_protocol::bucket::Mode;
use clap::Args;
use load::Load;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub(crate) struct CheckArgs {
    /// How long the load lasts
    #[arg(long, value_name = "D", default_value = "10s", value_parser = units::duration)]
    seconds: Duration,
    /// Clients that work at the same time, each with connections of its own
    #[arg(long, value_name = "N", default_value_t = 4)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=64))]
    clients: u64,
    /// Keys that they share
    #[arg(long, value_name = "N", default_value_t = 4)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=10_000))]
    keys: u64,
    /// Most operations of all clients together
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    operations: u64,
    /// Write the history there, an operation a line
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Share the keys of this name with other programs on this machine, and check nothing yet: the
    /// histories together are checked with --of. Take a new name each time
    #[arg(long, value_name = "NAME", requires = "history")]
    name: Option<String>,
    /// Run nothing: check the operations in these files, as one history
    #[arg(long, value_name = "FILE", num_args = 1..)]
    #[arg(conflicts_with_all = ["history", "name", "seed"])]
    of: Vec<PathBuf>,
    /// The same choices of operations again
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    target: Target,
}

const HELP: &str = "The bucket must be strong. The keys are new ones, deleted at the end. A line \
    of a history has process, op (get, put, delete, cas), key, arg, result, start_ns, end_ns and \
    outcome (ok, not_applied, unknown), so that other checkers can read it. Ends with 1 if no \
    order of the operations explains all answers.";

pub(crate) async fn run(args: CheckArgs, common: &Common) -> Result<Exit, Failure> {
    if !args.of.is_empty() {
        return report(&read(&args.of)?, common);
    }
    let drawn = u64::from_be_bytes(seeds::draw()?);
    let name = match args.name.clone() {
        Some(name) if !name.is_empty() && name.len() <= NAME_BYTES_MAX => name,
        Some(_) => {
            let why = format!("a name has 1 to {NAME_BYTES_MAX} bytes");
            return Err(Failure::usage(why));
        }
        None => format!("annulet-check-{drawn:016x}"),
    };
    check_strong(&args.target, common).await?;
    let load = Load {
        name,
        lasts: args.seconds,
        clients: args.clients,
        keys: args.keys,
        operations: args.operations,
        seed: args.seed.unwrap_or(drawn),
    };
    let history = load.run(common, &args.target).await?;
    if let Some(path) = &args.history {
        keep(path, &history)?;
    }
    if args.name.is_some() {
        return report_kept(&history, common);
    }
    report(&history, common)
}

/// No other bucket promises an order that could be checked.
async fn check_strong(target: &Target, common: &Common) -> Result<(), Failure> {
    let session = connect::session(common, target).await?;
    session.check_bucket()?;
    let view = session.client.view();
    let mode = view
        .bucket_named(&session.bucket_name)
        .map(|bucket| bucket.mode);
    session.client.close().await;
    if mode != Some(Mode::Strong) {
        let why = format!(
            "bucket {} is not strong, and promises no such order",
            session.bucket_name
        );
        let advice = "make one with `annulet bucket create NAME --mode strong`";
        return Err(Failure::usage(why).advise(advice));
    }
    Ok(())
}

/// The operations of several files.
fn read(paths: &[PathBuf]) -> Result<Vec<Operation>, Failure> {
    let mut history = Vec::new();
    for path in paths {
        let text = std::fs::read(path).map_err(|error| Failure::unreadable(path, &error))?;
        let part = lines::read(&text).map_err(|error| {
            Failure::usage(format!("{} is no history: {error}", path.display()))
        })?;
        history.extend(part);
    }
    Ok(history)
}

/// Writes a history, an operation a line.
fn keep(path: &Path, history: &[Operation]) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    for operation in history {
        lines::write(operation, &mut bytes);
    }
    std::fs::write(path, bytes).map_err(|error| Failure::unwritable(path, &error))
}

/// Says what was recorded, and leaves the rest to `--of`.
fn report_kept(history: &[Operation], common: &Common) -> Result<Exit, Failure> {
    if common.json {
        output::json(&json!({ "operations": history.len() }))?;
    } else {
        output::line(&format!("{} operations recorded", history.len()))?;
    }
    Ok(Exit::Done)
}

fn report(history: &[Operation], common: &Common) -> Result<Exit, Failure> {
    let linearizable = annulet_history::check(history, STEPS_MAX);
    let versions = annulet_history::check_versions(history);
    let count = |is: fn(&Outcome) -> bool| history.iter().filter(|o| is(&o.outcome)).count();
    let ok = count(|outcome| matches!(outcome, Outcome::Ok(_)));
    let not_applied = count(|outcome| *outcome == Outcome::NotApplied);
    let unknown = count(|outcome| *outcome == Outcome::Unknown);
    let why = |checked: &Result<(), Finding>| checked.as_ref().err().map(ToString::to_string);
    if common.json {
        output::json(&json!({
            "operations": history.len(),
            "ok": ok,
            "not_applied": not_applied,
            "unknown": unknown,
            "linearizable": linearizable.is_ok(),
            "versions_rise": versions.is_ok(),
            "violation": why(&linearizable).or_else(|| why(&versions)),
        }))?;
    } else {
        output::line(&format!(
            "{} operations: {ok} ok, {not_applied} not applied, {unknown} of unknown outcome",
            history.len()
        ))?;
        for finding in [why(&linearizable), why(&versions)].into_iter().flatten() {
            output::line(&finding)?;
        }
        if linearizable.is_ok() && versions.is_ok() {
            output::line("linearizable; versions rise")?;
        }
    }
    Ok(match linearizable.and(versions) {
        Ok(()) => Exit::Done,
        Err(_) => Exit::NotFound,
    })
}

/// So that keys are not the longest there can be.
const NAME_BYTES_MAX: usize = 256;
