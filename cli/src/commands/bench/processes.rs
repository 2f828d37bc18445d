//! A benchmark by several processes: this one starts them, lets them begin together and merges
//! what they measured. A worker says `ready` on its standard output, begins when a line comes on
//! its standard input, and prints its tally as one line of JSON.

use super::BenchArgs;
use super::tally::{Packed, Tally};
use crate::args::Common;
use crate::failure::Failure;
use crate::output;
use std::ffi::OsString;
use std::io::BufRead;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Take};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// Which of how many workers this process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) index: u64,
    pub(super) of: u64,
}

impl Place {
    pub(super) const ALONE: Self = Self { index: 0, of: 1 };

    /// Reads `INDEX/COUNT`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (index, of) = text.split_once('/').ok_or("write it as INDEX/COUNT")?;
        match (index.parse(), of.parse()) {
            (Ok(index), Ok(of)) if index < of => Ok(Self { index, of }),
            _ => Err("write it as INDEX/COUNT".to_owned()),
        }
    }

    /// This worker's part of so many callers.
    pub(super) fn part_of(self, whole: usize) -> usize {
        let (whole, index, of) = (whole as u64, self.index, self.of);
        (whole / of + u64::from(index < whole % of)) as usize
    }
}

/// Runs the whole benchmark in workers.
pub(super) async fn run(args: &BenchArgs, common: &Common) -> Result<Tally, Failure> {
    let of = u64::from(args.processes);
    let mut workers = Vec::new();
    for index in 0..of {
        workers.push(Worker::start(args, common, Place { index, of })?);
    }
    for worker in &mut workers {
        let line = worker.line(START_MAX).await?;
        if line.trim() != READY {
            return Err(worker.lost(&format!("said `{}`", line.trim())));
        }
    }
    for worker in &mut workers {
        worker.go().await?;
    }
    let mut whole = Tally::new()?;
    let longest = args.warmup_time() + args.measured_time() + END_MAX;
    for worker in &mut workers {
        let line = worker.line(longest).await?;
        let packed: Packed = serde_json::from_str(&line)
            .map_err(|error| worker.lost(&format!("gave no result: {error}")))?;
        whole.merge(&packed.unpack()?);
    }
    Ok(whole)
}

/// In a worker: says that it is ready and waits for the word to begin.
pub(super) fn wait_for_start() -> Result<(), Failure> {
    output::line(READY)?;
    let mut line = String::new();
    match std::io::stdin().lock().read_line(&mut line) {
        Ok(read) if read > 0 => Ok(()),
        _ => Err(Failure::failed(
            "the process that started this worker is gone",
        )),
    }
}

struct Worker {
    index: u64,
    /// Killed when this is dropped.
    _child: Child,
    input: ChildStdin,
    lines: BufReader<Take<ChildStdout>>,
}

impl Worker {
    fn start(args: &BenchArgs, common: &Common, place: Place) -> Result<Self, Failure> {
        let failed = |why: String| Failure::failed(format!("cannot start a worker: {why}"));
        let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
        let mut child = Command::new(program)
            .args(worker_arguments(args, common, place))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let (Some(input), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed("its pipes are missing".to_owned()));
        };
        Ok(Self {
            index: place.index,
            _child: child,
            input,
            lines: BufReader::new(stdout.take(OUTPUT_BYTES_MAX)),
        })
    }

    async fn line(&mut self, within: Duration) -> Result<String, Failure> {
        let mut line = String::new();
        match timeout(within, self.lines.read_line(&mut line)).await {
            Ok(Ok(read)) if read > 0 => Ok(line),
            Ok(_) => Err(self.lost("ended early; what it said stands above")),
            Err(_) => Err(self.lost("does not answer")),
        }
    }

    async fn go(&mut self) -> Result<(), Failure> {
        let told = self.input.write_all(b"go\n").await;
        told.map_err(|error| self.lost(&error.to_string()))
    }

    fn lost(&self, why: &str) -> Failure {
        Failure::failed(format!("worker {}: {why}", self.index))
    }
}

fn worker_arguments(args: &BenchArgs, common: &Common, place: Place) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["bench".into(), "--no-load".into()];
    let mut add = |name: &str, value: OsString| {
        arguments.push(name.into());
        arguments.push(value);
    };
    add("--worker", format!("{}/{}", place.index, place.of).into());
    add("--workload", args.workload.name().into());
    add("--concurrency", args.concurrency.to_string().into());
    add("--seconds", args.seconds.to_string().into());
    add("--warmup", args.warmup.to_string().into());
    add("--value-size", args.value_size.to_string().into());
    add("--keys", args.keys.to_string().into());
    if let Some(rate) = args.rate {
        add("--rate", rate.to_string().into());
    }
    if let Some(seed) = args.seed {
        add("--seed", seed.to_string().into());
    }
    if let Some(bucket) = &args.target.bucket {
        add("--bucket", bucket.into());
    }
    if let Some(level) = args.target.level {
        add("--level", level.to_string().into());
    }
    if let Some(within) = args.target.timeout {
        add("--timeout", within.as_secs_f64().to_string().into());
    }
    if let Some(profile) = &common.profile {
        add("--profile", profile.into());
    }
    arguments
}

const READY: &str = "ready";
/// Connecting takes some seconds at most.
const START_MAX: Duration = Duration::from_secs(30);
/// What operations under way at the end may still take.
const END_MAX: Duration = Duration::from_secs(60);
/// A histogram has some thousand different values.
const OUTPUT_BYTES_MAX: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_out_all_callers() {
        for (whole, of) in [(1, 1), (7, 3), (64, 5), (3, 3)] {
            let parts: Vec<_> = (0..of)
                .map(|index| Place { index, of }.part_of(whole))
                .collect();
            assert_eq!(parts.iter().sum::<usize>(), whole, "{parts:?}");
            assert!(parts.iter().max().unwrap() - parts.iter().min().unwrap() <= 1);
        }
        assert_eq!(Place::parse("1/3"), Ok(Place { index: 1, of: 3 }));
        for bad in ["", "3/3", "1", "a/b", "-1/2"] {
            assert!(Place::parse(bad).is_err(), "{bad}");
        }
    }
}
