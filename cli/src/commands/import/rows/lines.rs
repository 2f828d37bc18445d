//! Rows of one JSON object a line.

use super::source::Source;
use super::{Broken, Fields, Lifetime, NAME_THE_KEY, Place, Row, Shape, TOO_LONG, prefixed};
use crate::transfer::record::{self, ROW_BYTES_MAX};
use bytes::Bytes;
use serde_json::{Map, Value};
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(in crate::commands::import) struct JsonRows {
    reader: BufReader<Source>,
    shape: Shape,
    line: u64,
    pub(super) bytes_read: Arc<AtomicU64>,
}

impl JsonRows {
    pub(super) fn new(file: Box<dyn Read + Send>, shape: Shape) -> Self {
        let source = Source::new(file);
        Self {
            bytes_read: Arc::clone(&source.total),
            reader: BufReader::new(source),
            shape,
            line: 0,
        }
    }

    pub(super) fn next(&mut self) -> Option<Result<Row, Broken>> {
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
        let prefix = &self.shape.prefix;
        let (key, value) = match &self.shape.fields {
            Fields::Exported => {
                let record = record::read_json(text)
                    .map_err(|why| broken(format!("{why}; of another file, {NAME_THE_KEY}")))?;
                return Ok(record.into_row(self.line, prefix));
            }
            Fields::Named { key, value } => named(text, key, value.as_deref()).map_err(broken)?,
        };
        Ok(Row {
            place: Place::Line(self.line),
            key: prefixed(prefix, key.as_bytes()),
            value,
            lifetime: Lifetime::Unsaid,
        })
    }
}

/// The key and the value of a line, by the names of their fields.
fn named(text: &[u8], key: &str, value: Option<&str>) -> Result<(String, Bytes), String> {
    let mut object: Map<String, Value> =
        serde_json::from_slice(text).map_err(|error| format!("not a JSON object: {error}"))?;
    let found = match object.get(key) {
        Some(Value::String(text)) if text.is_empty() => {
            return Err(format!("field {key} is empty"));
        }
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(_) => return Err(format!("field {key} is no text or number")),
        None => return Err(format!("there is no field {key}")),
    };
    let value = match value {
        None => Bytes::copy_from_slice(text),
        Some(name) => match object.remove(name) {
            Some(Value::String(text)) => text.into(),
            Some(value) => value.to_string().into(),
            None => return Err(format!("there is no field {name}")),
        },
    };
    Ok((found, value))
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
