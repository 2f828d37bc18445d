//! Rows of comma-separated values.

use super::source::Source;
use super::{Broken, Row, Shape, prefixed};
use bytes::Bytes;
use csv::ByteRecord;
use serde_json::{Map, Value};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(in crate::commands::import) struct CsvRows {
    reader: csv::Reader<Source>,
    columns: Vec<String>,
    key: usize,
    value: Option<usize>,
    shape: Shape,
    record: ByteRecord,
    pub(super) bytes_read: Arc<AtomicU64>,
    /// Bytes read since the last row began.
    of_row: Arc<AtomicU64>,
}

impl CsvRows {
    pub(super) fn new(file: Box<dyn Read + Send>, shape: Shape) -> Result<Self, String> {
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

    pub(super) fn next(&mut self) -> Option<Result<Row, Broken>> {
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
