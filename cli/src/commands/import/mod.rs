//! `annulet import`: the rows of a file, or the files of a folder, as keys and values. They go in
//! chunks, one after the other, while the next chunk is being read: memory holds three of them,
//! however much there is.

mod rows;
mod store;
mod summary;

use self::rows::{Broken, Fields, Row, Rows, Shape};
use self::store::Outcome;
use self::summary::{Done, Fate, Judged, Summary};
use crate::args::{Common, Target};
use crate::connect::{self, Session};
use crate::failure::{Exit, Failure};
use crate::progress::Progress;
use crate::signals::StopSignals;
use crate::transfer::Format;
use crate::transfer::state::{self, StateFile};
use crate::{clock, output, units};
use annulet::Ttl;
use clap::Args;
use serde_json::Value;
use std::fs::{File, Metadata};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;
use tokio::sync::mpsc;

#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub(crate) struct ImportArgs {
    /// The file or folder
    path: PathBuf,
    /// Its format; else as its name ends
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Column, or field, that holds the key; else the file is read as `annulet export` writes it
    #[arg(long, value_name = "COLUMN")]
    key: Option<String>,
    /// Column, or field, that holds the value; else the value is the whole row as JSON
    #[arg(long, value_name = "COLUMN", requires = "key")]
    value: Option<String>,
    /// What is put in front of every key
    #[arg(long, default_value = "", value_name = "P")]
    prefix: String,
    /// Stop at the first row that cannot be stored
    #[arg(long)]
    strict: bool,
    /// How long the values live: 90s, 1h, or `never`; else as the rows of an export say, else as
    /// the bucket says
    #[arg(long, value_name = "D", value_parser = units::ttl)]
    ttl: Option<Ttl>,
    /// Remember in this file how far it is, and go on from there if the file is there
    #[arg(long, value_name = "STATE")]
    resume: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
}

const HELP: &str = "\
A file that `annulet export` wrote needs no --key. Its records keep their expiry: those that have \
none never expire, those that have expired already are skipped and counted.
Of a folder, every file below it is a value, under its path in the folder. Links are not followed.
With --resume nothing is left out: rows that failed since servers could not be reached are stored \
by the next run, and so are all rows after the first of them.";

pub(crate) async fn run(args: ImportArgs, common: &Common) -> Result<Exit, Failure> {
    if let Some(state) = &args.resume {
        state::refuse_overlap(state, &args.path)?;
    }
    let mut source = Source::open(&args)?;
    let mut signals = StopSignals::catch()?;
    let session = connect::session(common, &args.target).await?;
    session.check_bucket()?;
    let (state, done) = open_state(&args, &source, &session)?;
    let done = done.unwrap_or_default();
    let (rows, last) = (done.rows(), done.last_path());
    let mut import = Import {
        session,
        state,
        summary: Summary::new(done, args.strict),
        progress: Progress::start("rows", source.bytes, common.json),
        bytes_read: source.rows.bytes_read(),
        args,
    };
    if let Some(state) = &import.state {
        state.begin(import.summary.done())?;
    }
    let (sender, chunks) = mpsc::channel(CHUNKS_READ_AHEAD);
    // It ends by itself, at the end or since nobody takes its chunks any more.
    let reader = tokio::task::spawn_blocking(move || {
        source.rows.skip(rows, last);
        read_chunks(source.rows, &sender);
    });
    let mut ended = import.all(chunks, &mut signals).await;
    if ended.is_ok() && !import.summary.stopped {
        // What was not read must not be taken for what is not there.
        let cut_short = |error| Failure::failed(format!("reading was cut short: {error}"));
        ended = reader.await.map_err(cut_short);
    }
    import.progress.finish();
    import.session.client.close().await;
    import.summary.end();
    import.end(ended, common.json)
}

/// What is imported.
struct Source {
    format: Format,
    rows: Rows,
    /// Length of the file; `None` for a folder, of which nobody knows.
    bytes: Option<u64>,
    /// When the file was changed last, in milliseconds since the Unix epoch.
    modified_ms: Option<u64>,
}

impl Source {
    fn open(args: &ImportArgs) -> Result<Self, Failure> {
        let path = args.path.as_path();
        let format = format_of(args)?;
        if format == Format::Folder {
            if args.key.is_some() {
                return Err(Failure::usage("--key is for the rows of a file").advise(
                    "a file of a folder is stored under its path; --prefix goes in front",
                ));
            }
            let rows = Rows::folder(path, &args.prefix)
                .map_err(|why| Failure::usage(format!("{}: {why}", path.display())))?;
            return Ok(Self {
                format,
                rows,
                bytes: None,
                modified_ms: None,
            });
        }
        let file = File::open(path).map_err(|error| Failure::unreadable(path, &error))?;
        let about = file
            .metadata()
            .map_err(|error| Failure::unreadable(path, &error))?;
        if about.is_dir() {
            return Err(Failure::usage(format!("{} is a folder", path.display()))
                .advise("name a file, or choose --format folder"));
        }
        let rows = match format {
            Format::Csv => Rows::csv(file, args.shape())
                .map_err(|why| Failure::usage(format!("{}: {why}", path.display())))?,
            Format::Jsonl | Format::Folder => Rows::jsonl(file, args.shape()),
        };
        Ok(Self {
            format,
            rows,
            bytes: Some(about.len()),
            modified_ms: modified_ms(&about),
        })
    }
}

impl ImportArgs {
    fn shape(&self) -> Shape {
        let value = self.value.clone();
        Shape {
            fields: match self.key.clone() {
                Some(key) => Fields::Named { key, value },
                None => Fields::Exported,
            },
            prefix: self.prefix.clone(),
        }
    }
}

fn format_of(args: &ImportArgs) -> Result<Format, Failure> {
    let path = args.path.as_path();
    match args.format {
        Some(format) => Ok(format),
        None if path.is_dir() => Ok(Format::Folder),
        None => Format::of_name(path).ok_or_else(|| {
            Failure::usage(format!("{} does not end in .csv or .jsonl", path.display()))
                .advise("say what it is with --format csv or --format jsonl")
        }),
    }
}

fn modified_ms(about: &Metadata) -> Option<u64> {
    let modified = about.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(modified.as_millis()).ok()
}

/// The state that the flags ask for, and what it remembers.
fn open_state(
    args: &ImportArgs,
    source: &Source,
    session: &Session,
) -> Result<(Option<StateFile>, Option<Done>), Failure> {
    let Some(path) = &args.resume else {
        return Ok((None, None));
    };
    let from = (args.path.as_path(), source.format.name());
    let mut of = state::of("import", session, from);
    let mut add = |name: &str, value: Value| of.insert(name.to_owned(), value);
    add("length", source.bytes.into());
    add("modified_ms", source.modified_ms.into());
    add("key", args.key.as_deref().into());
    add("value", args.value.as_deref().into());
    add("prefix", args.prefix.as_str().into());
    let (state, done) = StateFile::open_alone(path, of)?;
    Ok((Some(state), done))
}

/// Rows that are stored together, and what was broken among them, in their order.
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

/// An import on its way.
struct Import {
    args: ImportArgs,
    session: Session,
    state: Option<StateFile>,
    summary: Summary,
    progress: Progress,
    bytes_read: Arc<AtomicU64>,
}

impl Import {
    /// Stores all chunks, or as many as it can.
    async fn all(
        &mut self,
        mut chunks: mpsc::Receiver<Chunk>,
        signals: &mut StopSignals,
    ) -> Result<(), Failure> {
        while !self.summary.stopped {
            let next = async {
                let chunk = chunks.recv().await?;
                Some(self.store(chunk).await)
            };
            let next = tokio::select! {
                biased;
                signal = signals.next() => {
                    self.summary.stopped = true;
                    return Err(Failure::failed(format!("stopped by {signal}")));
                }
                next = next => next,
            };
            let Some((judged, hopeless)) = next else {
                return Ok(());
            };
            for row in judged {
                self.summary.add(row, &self.progress);
            }
            self.summary.stopped |= hopeless;
            let position = self.bytes_read.load(Ordering::Relaxed);
            self.progress.done(self.summary.rows_now(), position);
            if self.state.as_ref().is_some_and(StateFile::is_due) {
                self.remember()?;
            }
        }
        Ok(())
    }

    /// Stores a chunk. Where nothing of it got through for reasons that are not its own, the next
    /// will not either: it is hopeless.
    async fn store(&self, chunk: Chunk) -> (Vec<Judged>, bool) {
        let mut rows = Vec::with_capacity(chunk.items.len());
        let mut broken = Vec::new();
        for item in chunk.items {
            match item {
                Ok(row) => rows.push(row),
                Err(why) => {
                    broken.push((rows.len(), why));
                    if self.args.strict {
                        break;
                    }
                }
            }
        }
        let say = |text: &str| self.progress.say(text);
        let outcomes = store::store(&rows, &self.session, self.args.ttl, say).await;
        let hopeless = !rows.is_empty() && outcomes.iter().all(Outcome::is_for_all);
        let mut judged = Vec::with_capacity(rows.len() + broken.len());
        let mut broken = broken.into_iter().peekable();
        for (at, (row, outcome)) in rows.into_iter().zip(outcomes).enumerate() {
            while let Some((_, why)) = broken.next_if(|(before, _)| *before <= at) {
                judged.push(Judged::broken(why));
            }
            judged.push(Judged {
                place: row.place,
                fate: Fate::Tried(outcome, row.value.len() as u64),
            });
        }
        judged.extend(broken.map(|(_, why)| Judged::broken(why)));
        (judged, hopeless)
    }

    fn remember(&mut self) -> Result<(), Failure> {
        match &mut self.state {
            Some(state) => state.save(self.summary.done(), clock::now()),
            None => Ok(()),
        }
    }

    /// Tells what became of it, and what to do about what is left.
    fn end(mut self, ended: Result<(), Failure>, json: bool) -> Result<Exit, Failure> {
        let is_whole = ended.is_ok() && self.summary.is_whole();
        let state = match is_whole {
            true => self.state.take().map_or(Ok(()), StateFile::remove),
            false => self.remember(),
        };
        let exit = self.summary.report(json)?;
        match (ended, state, &self.state) {
            (Err(failure), Ok(()), Some(kept)) => Err(failure.advise(kept.how_to_go_on())),
            (Err(failure), _, _) | (Ok(()), Err(failure), _) => Err(failure),
            (Ok(()), Ok(()), Some(kept)) if !json => {
                output::note(&format!("  to do: {}", kept.how_to_go_on()));
                Ok(exit)
            }
            (Ok(()), Ok(()), _) => Ok(exit),
        }
    }
}

const CHUNK_ROWS: usize = 1024;
const CHUNK_BYTES: usize = 4 << 20;
const CHUNKS_READ_AHEAD: usize = 1;
