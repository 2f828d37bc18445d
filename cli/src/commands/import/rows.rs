//! Rows out of a file: keys and values where they are sound, line numbers where they are not.

use bytes::Bytes;
use csv::ByteRecord;
use serde_json::{Map, Value};
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
        let source = Source::new(Box::new(file));
        Self::Jsonl(JsonRows {
            bytes_read: Arc::clone(&source.total),
            reader: BufReader::new(source),
            shape,
            line: 0,
        })
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

pub(super) struct CsvRows {
    reader: csv::Reader<Source>,
    columns: Vec<String>,
    key: usize,
    value: Option<usize>,
    shape: Shape,
    record: ByteRecord,
    bytes_read: Arc<AtomicU64>,
    /// Bytes read since the last row began.
    of_row: Arc<AtomicU64>,
}

impl CsvRows {
    fn new(file: Box<dyn Read + Send>, shape: Shape) -> Result<Self, String> {
        let source = Source::new(file);
        let (bytes_read, of_row) = (Arc::clone(&source.total), Arc::clone(&source.of_row));
        let mut reader = csv::ReaderBuilder::new().from_reader(source);
        let header = reader
            .headers()
            .map_err(|error| format!("the line of column names cannot be read: {error}"))?;
        let columns: Vec<String> = header.iter().map(str::to_owned).collect();
        if columns.is_empty() {
            return Err("it is empty; its first line must name the columns".to_owned());
        }
        let find = |name: &str| {
            let mut places = (0..columns.len()).filter(|at| columns[*at] == name);
            match (places.next(), places.next()) {
                (Some(at), None) => Ok(at),
                (Some(_), Some(_)) => Err(format!("two columns are named {name}")),
                (None, _) => Err(format!(
                    "no column is named {name}; there are: {}",
                    columns.join(", ")
                )),
            }
        };
        let key = find(&shape.key)?;
        let value = shape.value.as_deref().map(find).transpose()?;
        if value.is_none() {
            // As JSON, one of two fields of a name would be lost.
            columns.iter().try_for_each(|name| find(name).map(drop))?;
        }
        Ok(Self {
            reader,
            key,
            value,
            columns,
            shape,
            record: ByteRecord::new(),
            bytes_read,
            of_row,
        })
    }

    fn next(&mut self) -> Option<Result<Row, Broken>> {
        self.of_row.store(0, Ordering::Relaxed);
        let started = self.reader.position().line();
        match self.reader.read_byte_record(&mut self.record) {
            Ok(true) => {
                let line = self.record.position().map_or(started, csv::Position::line);
                Some(self.row(line))
            }
            Ok(false) => None,
            Err(error) => Some(Err(broken_csv(&error, started))),
        }
    }

    fn row(&self, line: u64) -> Result<Row, Broken> {
        let field = |at: usize| self.record.get(at).unwrap_or_default();
        if field(self.key).is_empty() {
            return Err(Broken::row(
                line,
                format!("column {} is empty", self.shape.key),
            ));
        }
        let value = match self.value {
            Some(at) => Bytes::copy_from_slice(field(at)),
            None => self.whole_row(line)?,
        };
        Ok(Row {
            line,
            key: prefixed(&self.shape.prefix, field(self.key)),
            value,
        })
    }

    fn whole_row(&self, line: u64) -> Result<Bytes, Broken> {
        let mut object = Map::new();
        for (column, field) in self.columns.iter().zip(&self.record) {
            let text = std::str::from_utf8(field).map_err(|_| {
                Broken::row(
                    line,
                    format!("column {column} is not UTF-8, which JSON needs"),
                )
            })?;
            object.insert(column.clone(), text.into());
        }
        Ok(Value::Object(object).to_string().into())
    }
}

fn broken_csv(error: &csv::Error, started: u64) -> Broken {
    let line = error.position().map_or(started, csv::Position::line);
    match error.kind() {
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => Broken::row(
            line,
            format!("{len} fields where there are {expected_len} columns"),
        ),
        csv::ErrorKind::Io(error) => Broken::rest(line, error.to_string()),
        _ => Broken::rest(line, error.to_string()),
    }
}

pub(super) struct JsonRows {
    reader: BufReader<Source>,
    shape: Shape,
    line: u64,
    bytes_read: Arc<AtomicU64>,
}

impl JsonRows {
    fn next(&mut self) -> Option<Result<Row, Broken>> {
        loop {
            let mut text = Vec::new();
            self.reader.get_ref().of_row.store(0, Ordering::Relaxed);
            self.line += 1;
            match (&mut self.reader)
                .take(ROW_BYTES_MAX)
                .read_until(b'\n', &mut text)
            {
                Ok(0) => return None,
                Ok(_) if text.len() as u64 == ROW_BYTES_MAX && !text.ends_with(b"\n") => {
                    let line = self.line;
                    let skipped = self.reader.skip_line();
                    return Some(Err(match skipped {
                        Ok(()) => Broken::row(line, TOO_LONG),
                        Err(error) => Broken::rest(line, error.to_string()),
                    }));
                }
                Ok(_) if text.trim_ascii().is_empty() => {}
                Ok(_) => return Some(self.row(text.trim_ascii())),
                Err(error) => return Some(Err(Broken::rest(self.line, error.to_string()))),
            }
        }
    }

    fn row(&self, text: &[u8]) -> Result<Row, Broken> {
        let broken = |why: String| Broken::row(self.line, why);
        let mut object: Map<String, Value> = serde_json::from_slice(text)
            .map_err(|error| broken(format!("not a JSON object: {error}")))?;
        let key = match object.get(&self.shape.key) {
            Some(Value::String(text)) if text.is_empty() => {
                return Err(broken(format!("field {} is empty", self.shape.key)));
            }
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            Some(_) => {
                return Err(broken(format!(
                    "field {} is no text or number",
                    self.shape.key
                )));
            }
            None => return Err(broken(format!("there is no field {}", self.shape.key))),
        };
        let value = match &self.shape.value {
            None => Bytes::copy_from_slice(text),
            Some(name) => match object.remove(name) {
                Some(Value::String(text)) => text.into(),
                Some(value) => value.to_string().into(),
                None => return Err(broken(format!("there is no field {name}"))),
            },
        };
        Ok(Row {
            line: self.line,
            key: prefixed(&self.shape.prefix, key.as_bytes()),
            value,
        })
    }
}

fn prefixed(prefix: &str, key: &[u8]) -> Bytes {
    [prefix.as_bytes(), key].concat().into()
}

/// A file that counts what is read of it, and does not let one row fill the memory: a quote that
/// is never closed would take all the rest of the file into one row.
struct Source {
    file: Box<dyn Read + Send>,
    total: Arc<AtomicU64>,
    of_row: Arc<AtomicU64>,
}

impl Source {
    fn new(file: Box<dyn Read + Send>) -> Self {
        Self {
            file,
            total: Arc::default(),
            of_row: Arc::default(),
        }
    }
}

impl Read for Source {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.of_row.load(Ordering::Relaxed) > ROW_BYTES_MAX {
            return Err(io::Error::other(format!(
                "{TOO_LONG}; is a quote not closed?"
            )));
        }
        let read = self.file.read(into)?;
        self.total.fetch_add(read as u64, Ordering::Relaxed);
        self.of_row.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

trait SkipLine {
    /// Reads to the end of the line and keeps nothing of it.
    fn skip_line(&mut self) -> io::Result<()>;
}

impl SkipLine for BufReader<Source> {
    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            self.get_ref().of_row.store(0, Ordering::Relaxed);
            let (used, ended) = match self.fill_buf()? {
                [] => return Ok(()),
                bytes => match bytes.iter().position(|byte| *byte == b'\n') {
                    Some(at) => (at + 1, true),
                    None => (bytes.len(), false),
                },
            };
            self.consume(used);
            if ended {
                return Ok(());
            }
        }
    }
}

/// Twice the longest value: escaping may double its length.
const ROW_BYTES_MAX: u64 = 2 * annulet_protocol::limits::VALUE_BYTES_MAX as u64;
const TOO_LONG: &str = "the row is longer than 128 MiB";

#[cfg(test)]
mod tests;
