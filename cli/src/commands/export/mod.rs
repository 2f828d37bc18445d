//! `annulet export`: everything in a bucket, into a file or a folder, a page at a time.

mod folder;
mod sink;
mod summary;

use self::sink::{Destination, Sink};
use self::summary::Summary;
use crate::args::{Common, Target};
use crate::clock;
use crate::connect::{self, Session};
use crate::failure::{Exit, Failure};
use crate::pages::Pages;
use crate::progress::Progress;
use crate::signals::StopSignals;
use crate::transfer::Format;
use crate::transfer::state::{self, StateFile};
use annulet::{ScanOptions, ScanPage};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub(crate) struct ExportArgs {
    /// A file that ends in .jsonl or .csv, a folder (it is there, or ends in a slash), or `-` for
    /// standard output
    path: PathBuf,
    /// The format; else as the path ends, and JSON Lines on standard output
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Remember in this file how far it is, and go on from there if the file is there
    #[arg(long, value_name = "STATE")]
    resume: Option<PathBuf>,
    /// Replace a file, or write into a folder, that is there already
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    target: Target,
}

const HELP: &str = "\
An export is no snapshot: a key that is there throughout comes exactly once, one that is written \
or deleted meanwhile may come or not. `annulet import` reads what this writes.

JSON Lines: an object a record, with key, value and, where it expires, expires_at_ms; what is not \
UTF-8 is in key_base64 and value_base64 instead.
CSV: the columns key,value,key_base64,value_base64,expires_at_ms; only what is not UTF-8 is in the \
columns of base64.
Folder: a file for each key, with subfolders where a key has slashes. Times to live are not kept, \
and a key that cannot be a path is left out, which ends in exit code 3; JSON Lines takes every \
key.";

/// What a state remembers.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Done {
    /// Where the next page begins; `None`: nothing was written yet.
    cursor: Option<String>,
    /// Bytes of the file up to there.
    file_bytes: u64,
    entries: u64,
    bytes: u64,
    left_out: u64,
}

pub(crate) async fn run(args: ExportArgs, common: &Common) -> Result<Exit, Failure> {
    let destination = destination(&args)?;
    let mut signals = StopSignals::catch()?;
    let session = connect::session(common, &args.target).await?;
    let exported = export(&args, &destination, &session, &mut signals, common.json).await;
    session.client.close().await;
    match exported? {
        // Whoever read standard output has seen enough.
        (_, Some(failure)) if failure.exit() == Exit::Done => Err(failure),
        (summary, failure) => {
            let exit = summary.report(common.json, destination.is_standard_output())?;
            failure.map_or(Ok(exit), Err)
        }
    }
}

fn destination(args: &ExportArgs) -> Result<Destination, Failure> {
    let destination = Destination {
        path: args.path.clone(),
        format: format_of(args)?,
        force: args.force,
        resumable: args.resume.is_some(),
    };
    if destination.is_standard_output() {
        if args.resume.is_some() {
            return Err(Failure::usage("standard output cannot be gone on with")
                .advise("export to a file, or leave out --resume"));
        }
        if destination.format == Format::Folder {
            return Err(Failure::usage("standard output is no folder")
                .advise("name a folder, or choose --format jsonl"));
        }
    }
    if let Some(state) = &args.resume {
        state::refuse_overlap(state, &args.path)?;
    }
    match &args.resume {
        Some(state) if state.exists() => {}
        Some(_) | None => destination.check()?,
    }
    Ok(destination)
}

fn format_of(args: &ExportArgs) -> Result<Format, Failure> {
    let path = args.path.as_path();
    let ends_in_slash = path.as_os_str().as_encoded_bytes().ends_with(b"/");
    match args.format {
        Some(format) => Ok(format),
        None if path.as_os_str() == "-" => Ok(Format::Jsonl),
        None if ends_in_slash || path.is_dir() => Ok(Format::Folder),
        None => Format::of_name(path).ok_or_else(|| {
            Failure::usage(format!(
                "{} does not end in .jsonl, .csv or a slash",
                path.display()
            ))
            .advise("say what it is to be with --format jsonl, --format csv or --format folder")
        }),
    }
}

/// The state that the flags ask for, and what it remembers.
fn open_state(
    args: &ExportArgs,
    destination: &Destination,
    session: &Session,
) -> Result<(Option<StateFile>, Option<Done>), Failure> {
    let Some(path) = &args.resume else {
        return Ok((None, None));
    };
    let to = (destination.path.as_path(), destination.format.name());
    let of = state::of("export", session, to);
    let (state, done) = StateFile::open_alone(path, of)?;
    Ok((Some(state), done))
}

/// An export on its way.
struct Export {
    sink: Sink,
    state: Option<StateFile>,
    summary: Summary,
    progress: Progress,
}

async fn export(
    args: &ExportArgs,
    destination: &Destination,
    session: &Session,
    signals: &mut StopSignals,
    json: bool,
) -> Result<(Summary, Option<Failure>), Failure> {
    session.check_bucket()?;
    let (state, done) = open_state(args, destination, session)?;
    let reading = session.reading();
    let options = ScanOptions {
        page_entries: PAGE_ENTRIES,
        cursor: done.as_ref().and_then(|done| done.cursor.clone()),
        level: reading.level,
        timeout: reading.timeout,
        ..ScanOptions::default()
    };
    let mut pages = Pages::new(session, options, None)?;
    let mut export = Export {
        sink: Sink::open(destination, done.as_ref().map(|done| done.file_bytes))?,
        state,
        summary: Summary::new(done),
        progress: Progress::start("entries", Some(RING), json),
    };
    if let Some(state) = &export.state {
        export.sink.sync()?;
        let done = export.summary.done(pages.cursor(), export.sink.length());
        state.begin(&done)?;
    }
    let failure = export.all(&mut pages, signals).await.err();
    export.progress.finish();
    let Export { mut summary, .. } = export;
    summary.end(failure.is_some());
    Ok((summary, failure))
}

impl Export {
    async fn all(&mut self, pages: &mut Pages, signals: &mut StopSignals) -> Result<(), Failure> {
        loop {
            let progress = &self.progress;
            let next = tokio::select! {
                biased;
                signal = signals.next() => Err(Failure::failed(format!("stopped by {signal}"))),
                page = pages.next(|text| progress.say(text)) => page,
            };
            match next {
                Ok(Some(page)) => self.write(&page)?,
                Ok(None) => return self.finish(),
                Err(failure) => {
                    let remembered = self.remember(pages.cursor());
                    return Err(match (&self.state, remembered) {
                        (Some(state), Ok(())) => failure.advise(state.how_to_go_on()),
                        // It still has what was remembered before.
                        (Some(state), Err(error)) => {
                            failure.advise(format!("{} ({error})", state.how_to_go_on()))
                        }
                        (None, _) => failure,
                    });
                }
            }
        }
    }

    fn write(&mut self, page: &ScanPage) -> Result<(), Failure> {
        let written = self
            .sink
            .write(&page.entries, &mut self.summary, &self.progress);
        written.map_err(|failure| match &self.state {
            // What was written last is not remembered: it is written again.
            Some(state) => failure.advise(format!(
                "check the free space and the permissions; then {}",
                state.how_to_go_on()
            )),
            None => failure,
        })?;
        let cursor = page.cursor.as_deref();
        let position = cursor.map_or(RING, place_on_ring);
        self.progress.done(self.summary.entries_now(), position);
        let is_due = self.state.as_ref().is_some_and(StateFile::is_due);
        match cursor {
            Some(_) if is_due => self.remember(cursor),
            Some(_) | None => Ok(()),
        }
    }

    /// Remembers that everything before this cursor was written.
    fn remember(&mut self, cursor: Option<&str>) -> Result<(), Failure> {
        let Some(state) = &mut self.state else {
            return Ok(());
        };
        let began = clock::now();
        self.sink.sync()?;
        let done = self.summary.done(cursor, self.sink.length());
        state.save(&done, began)
    }

    /// Everything was written.
    fn finish(&mut self) -> Result<(), Failure> {
        self.sink.sync()?;
        self.state.take().map_or(Ok(()), StateFile::remove)
    }
}

/// How far round the ring a cursor is: it begins with the hash of a key.
fn place_on_ring(cursor: &str) -> u64 {
    let hash = cursor
        .get(..16)
        .map(|digits| u64::from_str_radix(digits, 16));
    match hash {
        Some(Ok(hash)) => hash >> (u64::BITS - RING.trailing_zeros()),
        Some(Err(_)) | None => 0,
    }
}

/// Steps of the bar.
const RING: u64 = 1 << 32;
/// As many as a page can have: fewer requests for the same.
const PAGE_ENTRIES: u32 = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_follows_the_hash_at_the_beginning_of_a_cursor() {
        assert_eq!(place_on_ring("0000000000000000"), 0);
        assert_eq!(place_on_ring("8000000000000000000000016b"), RING / 2);
        assert_eq!(place_on_ring("ffffffffffffffff"), RING - 1);
        assert_eq!(place_on_ring("short"), 0);
    }

    #[test]
    fn a_path_says_its_format_unless_the_flag_does() {
        let check = |path: &str, format: Option<Format>, expected: Option<Format>| {
            let args = ExportArgs {
                path: path.into(),
                format,
                resume: None,
                force: false,
                target: Target {
                    bucket: None,
                    level: None,
                    timeout: None,
                },
            };
            assert_eq!(format_of(&args).ok(), expected, "{path}");
        };
        check("a.jsonl", None, Some(Format::Jsonl));
        check("a.NDJSON", None, Some(Format::Jsonl));
        check("a.csv", None, Some(Format::Csv));
        check("a/", None, Some(Format::Folder));
        check("/", None, Some(Format::Folder));
        check("-", None, Some(Format::Jsonl));
        check("a.csv", Some(Format::Jsonl), Some(Format::Jsonl));
        check("a.txt", None, None);
        check("a.txt", Some(Format::Folder), Some(Format::Folder));
    }
}
