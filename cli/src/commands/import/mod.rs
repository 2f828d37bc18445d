//! `annulet import`: the rows of a file as keys and values. Rows go in chunks, one after the other,
//! while the next chunk is being read: memory holds three of them, however long the file is.

mod progress;
mod rows;

use self::progress::Progress;
use self::rows::{Broken, Row, Rows, Shape};
use crate::args::{Common, Target};
use crate::connect::{self, Session};
use crate::failure::{Exit, Failure};
use crate::{clock, output, units};
use annulet::Ttl;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    /// The file
    file: PathBuf,
    /// Its format; else as its name ends
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Column, or field, that holds the key
    #[arg(long, value_name = "COLUMN")]
    key: String,
    /// Column, or field, that holds the value; else the value is the whole row as JSON
    #[arg(long, value_name = "COLUMN")]
    value: Option<String>,
    /// What is put in front of every key
    #[arg(long, default_value = "", value_name = "P")]
    prefix: String,
    /// Stop at the first row that cannot be stored
    #[arg(long)]
    strict: bool,
    /// How long the values live: 90s, 1h, or `never`; else the bucket's
    #[arg(long, value_name = "D", value_parser = units::ttl)]
    ttl: Option<Ttl>,
    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Comma-separated, the first line names the columns
    Csv,
    /// One JSON object a line
    Jsonl,
}

pub(crate) async fn run(args: ImportArgs, common: &Common) -> Result<Exit, Failure> {
    let shape = Shape {
        key: args.key.clone(),
        value: args.value.clone(),
        prefix: args.prefix.clone(),
    };
    let (rows, length) = Rows::open(&args.file, format_of(&args)?, shape)?;
    let progress = Progress::start(length, rows.bytes_read(), common.json);
    let session = connect::session(common, &args.target).await?;
    session.check_bucket()?;
    let (sender, chunks) = mpsc::channel(CHUNKS_READ_AHEAD);
    let reader = tokio::task::spawn_blocking(move || read_chunks(rows, &sender));
    let summary = store(chunks, &session, &args, progress).await;
    session.client.close().await;
    // It ends by itself: at the end of the file, or since nobody takes its chunks any more.
    reader
        .await
        .map_err(|error| Failure::failed(format!("reading the file was cut short: {error}")))?;
    summary.report(common.json)
}

fn format_of(args: &ImportArgs) -> Result<Format, Failure> {
    if let Some(format) = args.format {
        return Ok(format);
    }
    let extension = args
        .file
        .extension()
        .and_then(|extension| extension.to_str());
    match extension.unwrap_or_default().to_ascii_lowercase().as_str() {
        "csv" => Ok(Format::Csv),
        "jsonl" | "ndjson" => Ok(Format::Jsonl),
        _ => Err(Failure::usage(format!(
            "{} does not end in .csv or .jsonl",
            args.file.display()
        ))
        .advise("say what it is with --format csv or --format jsonl")),
    }
}

/// Rows that are stored together, and what was broken among them, in the order of the file.
#[derive(Default)]
struct Chunk {
    items: Vec<Result<Row, Broken>>,
    bytes: usize,
}

fn read_chunks(mut rows: Rows, sender: &mpsc::Sender<Chunk>) {
    loop {
        let mut chunk = Chunk::default();
        let mut ended = false;
        while chunk.items.len() < CHUNK_ROWS && chunk.bytes < CHUNK_BYTES {
            match rows.next() {
                Some(item) => {
                    chunk.bytes += item
                        .as_ref()
                        .map_or(0, |row| row.key.len() + row.value.len());
                    ended = item.as_ref().is_err_and(|broken| broken.is_last);
                    chunk.items.push(item);
                }
                None => ended = true,
            }
            if ended {
                break;
            }
        }
        // Nobody takes it where storing has stopped early.
        if (!chunk.items.is_empty() && sender.blocking_send(chunk).is_err()) || ended {
            return;
        }
    }
}

async fn store(
    mut chunks: mpsc::Receiver<Chunk>,
    session: &Session,
    args: &ImportArgs,
    progress: Progress,
) -> Summary {
    let mut summary = Summary::new(clock::now());
    while let Some(chunk) = chunks.recv().await {
        let mut rows = Vec::with_capacity(chunk.items.len());
        for item in chunk.items {
            summary.rows += 1;
            match item {
                Ok(row) => rows.push(row),
                Err(broken) => {
                    summary.stopped |= args.strict || broken.is_last;
                    summary.broken += 1;
                    summary.problem(broken.line, &broken.why, &progress);
                }
            }
            if summary.stopped && args.strict {
                break;
            }
        }
        store_rows(rows, session, args, &mut summary, &progress).await;
        progress.rows(summary.rows);
        if summary.stopped {
            break;
        }
    }
    progress.finish();
    summary.seconds = (clock::now() - summary.started).as_secs_f64();
    summary
}

async fn store_rows(
    rows: Vec<Row>,
    session: &Session,
    args: &ImportArgs,
    summary: &mut Summary,
    progress: &Progress,
) {
    let entries = rows.iter().map(|row| (row.key.clone(), row.value.clone()));
    let results = session
        .bucket
        .multi_put_with(entries, &session.writing(args.ttl))
        .await;
    let mut hopeless = !rows.is_empty();
    for (row, result) in rows.iter().zip(results) {
        match result {
            Ok(_) => {
                summary.stored += 1;
                summary.bytes += row.value.len();
                hopeless = false;
            }
            Err(error) => {
                // A row of its own fault says nothing about the next.
                hopeless &= error.kind() != annulet::ErrorKind::InvalidInput;
                summary.failed += 1;
                summary.problem(row.line, &error.to_string(), progress);
                summary.stopped |= args.strict;
            }
        }
    }
    // Where nothing of a whole chunk got through, the next will not either.
    summary.stopped |= hopeless;
}

/// What became of the rows.
struct Summary {
    rows: u64,
    stored: u64,
    broken: u64,
    failed: u64,
    bytes: usize,
    /// Whether rows were left unread.
    stopped: bool,
    problems: Vec<Value>,
    started: std::time::Instant,
    seconds: f64,
}

impl Summary {
    fn new(started: std::time::Instant) -> Self {
        Self {
            rows: 0,
            stored: 0,
            broken: 0,
            failed: 0,
            bytes: 0,
            stopped: false,
            problems: Vec::new(),
            started,
            seconds: 0.0,
        }
    }

    fn problem(&mut self, line: u64, why: &str, progress: &Progress) {
        if self.problems.len() < PROBLEMS_SHOWN {
            progress.say(&format!("line {line}: {why}"));
            self.problems.push(json!({ "line": line, "message": why }));
        }
    }

    fn report(&self, json: bool) -> Result<Exit, Failure> {
        let Self {
            rows,
            stored,
            broken,
            failed,
            seconds,
            ..
        } = self;
        let rate = if *seconds > 0.0 {
            *stored as f64 / seconds
        } else {
            0.0
        };
        if json {
            output::json(&json!({
                "rows": rows,
                "stored": stored,
                "broken": broken,
                "failed": failed,
                "stopped": self.stopped,
                "bytes": self.bytes,
                "seconds": seconds,
                "rows_per_second": rate,
                "problems": self.problems,
            }))?;
        } else {
            let unseen = (broken + failed).saturating_sub(self.problems.len() as u64);
            if unseen > 0 {
                output::note(&format!("and {unseen} more problems"));
            }
            output::line(&format!(
                "stored {stored} of {rows} rows in {seconds:.1} s ({rate:.0} a second), {broken} \
                 broken, {failed} failed{}",
                if self.stopped { "; stopped early" } else { "" }
            ))?;
        }
        Ok(if broken + failed == 0 {
            Exit::Done
        } else {
            Exit::Failed
        })
    }
}

impl Rows {
    fn open(path: &Path, format: Format, shape: Shape) -> Result<(Self, u64), Failure> {
        let file = std::fs::File::open(path).map_err(|error| Failure::unreadable(path, &error))?;
        let about = file
            .metadata()
            .map_err(|error| Failure::unreadable(path, &error))?;
        if about.is_dir() {
            return Err(Failure::usage(format!("{} is a folder", path.display()))
                .advise("name a .csv or .jsonl file"));
        }
        let rows = match format {
            Format::Csv => Self::csv(file, shape)
                .map_err(|why| Failure::usage(format!("{}: {why}", path.display())))?,
            Format::Jsonl => Self::jsonl(file, shape),
        };
        Ok((rows, about.len()))
    }
}

const CHUNK_ROWS: usize = 1024;
const CHUNK_BYTES: usize = 4 << 20;
const CHUNKS_READ_AHEAD: usize = 1;
/// A file that is broken all over need not say so a million times.
const PROBLEMS_SHOWN: usize = 100;
