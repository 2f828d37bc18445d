//! Rows out of a file or a folder: keys and values where they are sound, where it is and why where
//! they are not.

mod folder;
mod lines;
mod source;
mod table;

use self::folder::FolderRows;
use self::lines::JsonRows;
use self::table::CsvRows;
use crate::output;
use crate::transfer::record::Record;
use bytes::Bytes;
use serde_json::{Value, json};
use std::fmt;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What the rows of a file are.
#[derive(Clone)]
pub(super) struct Shape {
    pub(super) fields: Fields,
    /// What is put in front of every key.
    pub(super) prefix: String,
}

/// Which parts of a row are its key and its value.
#[derive(Clone)]
pub(super) enum Fields {
    /// Those that `export` writes.
    Exported,
    /// Those of the user's own file.
    Named {
        key: String,
        /// The whole row as JSON, if it is not given.
        value: Option<String>,
    },
}

#[derive(Debug, PartialEq)]
pub(super) struct Row {
    pub(super) place: Place,
    pub(super) key: Bytes,
    pub(super) value: Bytes,
    pub(super) lifetime: Lifetime,
}

/// What a row says of its time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// Nothing.
    Unsaid,
    /// It never expires.
    Never,
    /// It expires then, in milliseconds since the Unix epoch.
    Until(u64),
}

/// Where a row is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Place {
    Line(u64),
    /// Its path in the folder.
    File(Bytes),
}

/// A row that cannot be stored.
#[derive(Debug, PartialEq)]
pub(super) struct Broken {
    pub(super) place: Place,
    pub(super) why: String,
    /// Whether nothing after it can be read.
    pub(super) is_last: bool,
}

impl Broken {
    fn row(line: u64, why: impl Into<String>) -> Self {
        Self::at(Place::Line(line), why)
    }

    fn rest(line: u64, why: impl Into<String>) -> Self {
        Self {
            is_last: true,
            ..Self::row(line, why)
        }
    }

    fn at(place: Place, why: impl Into<String>) -> Self {
        Self {
            place,
            why: why.into(),
            is_last: false,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::File(path) => f.write_str(&output::brief(path)),
        }
    }
}

impl Place {
    /// A problem here.
    pub(super) fn problem_json(&self, why: &str) -> Value {
        match self {
            Self::Line(line) => json!({ "line": line, "message": why }),
            Self::File(path) => {
                let (path, path_base64) = output::key_json(path);
                json!({ "path": path, "path_base64": path_base64, "message": why })
            }
        }
    }
}

/// The rows of one file or folder.
pub(super) enum Rows {
    Csv(CsvRows),
    Jsonl(JsonRows),
    Folder(FolderRows),
}

impl Rows {
    /// Rows of comma-separated values, after a line of column names.
    pub(super) fn csv(file: impl Read + Send + 'static, shape: Shape) -> Result<Self, String> {
        CsvRows::new(Box::new(file), shape).map(Self::Csv)
    }

    /// Rows of one JSON object a line.
    pub(super) fn jsonl(file: impl Read + Send + 'static, shape: Shape) -> Self {
        Self::Jsonl(JsonRows::new(Box::new(file), shape))
    }

    /// The files below a folder, in order of their paths.
    pub(super) fn folder(path: &Path, prefix: &str) -> Result<Self, String> {
        FolderRows::new(path, prefix).map(Self::Folder)
    }

    /// How many bytes were read so far.
    pub(super) fn bytes_read(&self) -> Arc<AtomicU64> {
        match self {
            Self::Csv(rows) => Arc::clone(&rows.bytes_read),
            Self::Jsonl(rows) => Arc::clone(&rows.bytes_read),
            Self::Folder(rows) => Arc::clone(&rows.bytes_read),
        }
    }

    /// The next row, `None` at the end.
    pub(super) fn next(&mut self) -> Option<Result<Row, Broken>> {
        match self {
            Self::Csv(rows) => rows.next(),
            Self::Jsonl(rows) => rows.next(),
            Self::Folder(rows) => rows.next(),
        }
    }

    /// Leaves out what an earlier run has done: so many rows, of which this was the last.
    pub(super) fn skip(&mut self, rows: u64, last: Option<Bytes>) {
        match self {
            Self::Folder(folder) => folder.skip_to(last),
            Self::Csv(_) | Self::Jsonl(_) => {
                for _ in 0..rows {
                    match self.next() {
                        None => return,
                        Some(row) if row.as_ref().is_err_and(|broken| broken.is_last) => return,
                        Some(_) => {}
                    }
                }
            }
        }
    }
}

impl Record {
    fn into_row(self, line: u64, prefix: &str) -> Row {
        Row {
            place: Place::Line(line),
            key: prefixed(prefix, &self.key),
            value: self.value,
            lifetime: self.expires_at_ms.map_or(Lifetime::Never, Lifetime::Until),
        }
    }
}

fn prefixed(prefix: &str, key: &[u8]) -> Bytes {
    [prefix.as_bytes(), key].concat().into()
}

const TOO_LONG: &str = "the row is longer than 128 MiB";
/// What is said where a file is not as `export` writes it.
const NAME_THE_KEY: &str = "name the one that holds the key with --key";

#[cfg(test)]
mod tests;
