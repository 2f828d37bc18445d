//! Rows of comma-separated values.

use super::source::Source;
use super::{Broken, Fields, Lifetime, NAME_THE_KEY, Place, Row, Shape, prefixed};
use crate::transfer::record::{self, FIELDS};
use bytes::Bytes;
use csv::ByteRecord;
use serde_json::{Map, Value};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(in crate::commands::import) struct CsvRows {
    reader: csv::Reader<Source>,
    names: Vec<String>,
    columns: Columns,
    prefix: String,
    record: ByteRecord,
    pub(super) bytes_read: Arc<AtomicU64>,
    /// Bytes read since the last row began.
    of_row: Arc<AtomicU64>,
}

/// Which columns the parts of a row are in.
enum Columns {
    /// Those that `export` writes, in its order; some may not be there.
    Exported([Option<usize>; FIELDS.len()]),
    Named {
        key: usize,
        /// The whole row as JSON, if it is not given.
        value: Option<usize>,
    },
}

impl Columns {
    fn find(names: &[String], fields: &Fields) -> Result<Self, String> {
        let find = |name: &str| {
            let mut places = (0..names.len()).filter(|at| names[*at] == name);
            match (places.next(), places.next()) {
                (Some(at), None) => Ok(at),
                (Some(_), Some(_)) => Err(format!("two columns are named {name}")),
                (None, _) => Err(format!(
                    "no column is named {name}; there are: {}",
                    names.join(", ")
                )),
            }
        };
        let (key, value) = match fields {
            Fields::Exported => return Self::exported(names),
            Fields::Named { key, value } => (find(key)?, value.as_deref().map(find).transpose()?),
        };
        if value.is_none() {
            // As JSON, one of two fields of a name would be lost.
            names.iter().try_for_each(|name| find(name).map(drop))?;
        }
        Ok(Self::Named { key, value })
    }

    fn exported(names: &[String]) -> Result<Self, String> {
        let mut places = [None; FIELDS.len()];
        for (at, name) in names.iter().enumerate() {
            let field = FIELDS.iter().position(|field| field == name);
            match field.map(|field| places[field].replace(at)) {
                Some(None) => {}
                Some(Some(_)) => return Err(format!("two columns are named {name}")),
                None => {
                    return Err(format!(
                        "column {name} is none that export writes; of another file, {NAME_THE_KEY}"
                    ));
                }
            }
        }
        let [key, value, key_base64, value_base64, _] = places;
        if key.or(key_base64).is_none() || value.or(value_base64).is_none() {
            return Err(format!(
                "there must be columns of keys and of values as export writes them: {}; of another \
                 file, {NAME_THE_KEY}",
                FIELDS.join(", ")
            ));
        }
        Ok(Self::Exported(places))
    }
}

impl CsvRows {
    pub(super) fn new(file: Box<dyn Read + Send>, shape: Shape) -> Result<Self, String> {
        let source = Source::new(file);
        let (bytes_read, of_row) = (Arc::clone(&source.total), Arc::clone(&source.of_row));
        let mut reader = csv::ReaderBuilder::new().from_reader(source);
        let header = reader
            .headers()
            .map_err(|error| format!("the line of column names cannot be read: {error}"))?;
        let names: Vec<String> = header.iter().map(str::to_owned).collect();
        if names.is_empty() {
            return Err("it is empty; its first line must name the columns".to_owned());
        }
        Ok(Self {
            reader,
            columns: Columns::find(&names, &shape.fields)?,
            names,
            prefix: shape.prefix,
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
        let (key, value) = match self.columns {
            Columns::Exported(places) => {
                let fields = places.map(|place| place.map(field).unwrap_or_default());
                let record = record::read_csv(fields).map_err(|why| Broken::row(line, why))?;
                return Ok(record.into_row(line, &self.prefix));
            }
            Columns::Named { key, value } => (key, value),
        };
        if field(key).is_empty() {
            let why = format!("column {} is empty", self.names[key]);
            return Err(Broken::row(line, why));
        }
        let value = match value {
            Some(at) => Bytes::copy_from_slice(field(at)),
            None => self.whole_row(line)?,
        };
        Ok(Row {
            place: Place::Line(line),
            key: prefixed(&self.prefix, field(key)),
            value,
            lifetime: Lifetime::Unsaid,
        })
    }

    fn whole_row(&self, line: u64) -> Result<Bytes, Broken> {
        let mut object = Map::new();
        for (column, field) in self.names.iter().zip(&self.record) {
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
