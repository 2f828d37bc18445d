//! Rows out of a file: keys and values where they are sound, line numbers where they are not.

mod lines;
mod source;
mod table;

use self::lines::JsonRows;
use self::table::CsvRows;
use bytes::Bytes;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Which parts of a row are its key and its value.
pub(super) struct Shape {
    pub(super) key: String,
    /// The whole row as JSON, if it is not given.
    pub(super) value: Option<String>,
    pub(super) prefix: String,
}

#[derive(Debug, PartialEq)]
pub(super) struct Row {
    pub(super) line: u64,
    pub(super) key: Bytes,
    pub(super) value: Bytes,
}

/// A row that cannot be stored.
#[derive(Debug, PartialEq)]
pub(super) struct Broken {
    pub(super) line: u64,
    pub(super) why: String,
    /// Whether nothing after it can be read.
    pub(super) is_last: bool,
}

impl Broken {
    fn row(line: u64, why: impl Into<String>) -> Self {
        let why = why.into();
        Self {
            line,
            why,
            is_last: false,
        }
    }

    fn rest(line: u64, why: impl Into<String>) -> Self {
        Self {
            is_last: true,
            ..Self::row(line, why)
        }
    }
}

/// The rows of one file.
pub(super) enum Rows {
    Csv(CsvRows),
    Jsonl(JsonRows),
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

    /// How many bytes of the file were read so far.
    pub(super) fn bytes_read(&self) -> Arc<AtomicU64> {
        match self {
            Self::Csv(rows) => Arc::clone(&rows.bytes_read),
            Self::Jsonl(rows) => Arc::clone(&rows.bytes_read),
        }
    }

    /// The next row, `None` at the end.
    pub(super) fn next(&mut self) -> Option<Result<Row, Broken>> {
        match self {
            Self::Csv(rows) => rows.next(),
            Self::Jsonl(rows) => rows.next(),
        }
    }
}

fn prefixed(prefix: &str, key: &[u8]) -> Bytes {
    [prefix.as_bytes(), key].concat().into()
}

/// Twice the longest value: escaping may double its length.
const ROW_BYTES_MAX: u64 = 2 * annulet_protocol::limits::VALUE_BYTES_MAX as u64;
const TOO_LONG: &str = "the row is longer than 128 MiB";

#[cfg(test)]
mod tests;
