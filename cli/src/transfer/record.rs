//! A record as `export` writes it and `import` reads it, in JSON and in CSV.
//!
//! Keys and values are bytes. Those that are text stand as they are, the others as base64 in a
//! field of another name, so that every record comes back as it was.

use annulet::ScanEntry;
use annulet_protocol::limits::VALUE_BYTES_MAX;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// The fields of a record; in CSV these are the columns, empty where a record has no such field.
pub(crate) const FIELDS: [&str; 5] = [
    "key",
    "value",
    "key_base64",
    "value_base64",
    "expires_at_ms",
];

/// Longest line or row: the longest value, whose length escaping may double, and its key.
pub(crate) const ROW_BYTES_MAX: u64 = (ESCAPED_BYTES_MAX + (64 << 10)) as u64;
const ESCAPED_BYTES_MAX: usize = 2 * VALUE_BYTES_MAX;

/// A record that was read.
#[derive(Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
    /// When it expires, in milliseconds since the Unix epoch; `None`: never.
    pub(crate) expires_at_ms: Option<u64>,
}

/// A record as it stands in a file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<'a> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_base64: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value_base64: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at_ms: Option<u64>,
}

impl<'a> Written<'a> {
    fn of(entry: &'a ScanEntry, is_text: impl Fn(&str) -> bool) -> Self {
        let (key, key_base64) = text_or_base64(&entry.key, |_| true);
        let value = entry.value.as_deref().unwrap_or_default();
        let (value, value_base64) = text_or_base64(value, is_text);
        Self {
            key,
            key_base64,
            value,
            value_base64,
            expires_at_ms: entry.expires_at_ms,
        }
    }

    /// The record that stands here, or why it is none.
    fn read(self) -> Result<Record, String> {
        let plain = |text: Option<Cow<'_, str>>| text.map(|text| Bytes::from(text.into_owned()));
        let (key_base64, value_base64) = (self.key_base64.as_deref(), self.value_base64.as_deref());
        let key = bytes("key", plain(self.key), key_base64.map(str::as_bytes))?;
        if key.is_empty() {
            return Err(String::from("the key is empty"));
        }
        Ok(Record {
            key,
            value: bytes("value", plain(self.value), value_base64.map(str::as_bytes))?,
            expires_at_ms: self.expires_at_ms,
        })
    }
}

/// Appends a record as a line of JSON.
pub(crate) fn write_json(entry: &ScanEntry, into: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    serde_json::to_writer(&mut *into, &Written::of(entry, is_short_in_json))?;
    into.push(b'\n');
    Ok(())
}

/// Reads a line of JSON.
pub(crate) fn read_json(line: &[u8]) -> Result<Record, String> {
    let none = |why: &dyn fmt::Display| format!("not a record as export writes it: {why}");
    // A list of the fields would be taken for an object.
    if !line.starts_with(b"{") {
        return Err(none(&"not a JSON object"));
    }
    let written: Written<'_> = serde_json::from_slice(line).map_err(|error| none(&error))?;
    written.read()
}

/// Appends a record as a row.
pub(crate) fn write_csv(
    entry: &ScanEntry,
    into: &mut csv::Writer<Vec<u8>>,
) -> Result<(), csv::Error> {
    let written = Written::of(entry, |_| true);
    let expires_at_ms = written.expires_at_ms.map(|at_ms| at_ms.to_string());
    let field = |field: Option<&'_ str>| field.unwrap_or_default().to_owned();
    into.write_record([
        field(written.key.as_deref()),
        field(written.value.as_deref()),
        field(written.key_base64.as_deref()),
        field(written.value_base64.as_deref()),
        field(expires_at_ms.as_deref()),
    ])
}

/// Reads a row: the fields in the order of [`FIELDS`], empty where there is none.
pub(crate) fn read_csv(fields: [&[u8]; 5]) -> Result<Record, String> {
    let [key, value, key_base64, value_base64, expires_at_ms] = fields;
    let some = |field: &'_ [u8]| Some(field.to_owned()).filter(|field| !field.is_empty());
    let (key_base64, value_base64) = (some(key_base64), some(value_base64));
    // A key is never empty; a value is where there are no bytes of it in either column.
    let key = some(key).map(Bytes::from);
    let value = match value_base64 {
        None => Some(Bytes::copy_from_slice(value)),
        Some(_) => some(value).map(Bytes::from),
    };
    let expires_at_ms = match expires_at_ms {
        b"" => None,
        digits => {
            let number = std::str::from_utf8(digits).ok();
            let number = number.and_then(|digits| digits.parse().ok());
            Some(number.ok_or("expires_at_ms is no whole number of milliseconds")?)
        }
    };
    Ok(Record {
        key: bytes("key", key, key_base64.as_deref())?,
        value: bytes("value", value, value_base64.as_deref())?,
        expires_at_ms,
    })
}

fn text_or_base64(
    bytes: &[u8],
    is_text: impl Fn(&str) -> bool,
) -> (Option<Cow<'_, str>>, Option<Cow<'_, str>>) {
    match std::str::from_utf8(bytes) {
        Ok(text) if is_text(text) => (Some(text.into()), None),
        Ok(_) | Err(_) => (None, Some(BASE64.encode(bytes).into())),
    }
}

/// Whether a value as JSON fits into a line that can be read again. A control character takes six
/// bytes there, so that a long value full of them does not.
fn is_short_in_json(text: &str) -> bool {
    if text.len() <= ESCAPED_BYTES_MAX / 6 {
        return true;
    }
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(escaped).sum::<usize>() <= ESCAPED_BYTES_MAX
}

fn bytes(name: &str, plain: Option<Bytes>, base64: Option<&[u8]>) -> Result<Bytes, String> {
    match (plain, base64) {
        (Some(plain), None) => Ok(plain),
        (None, Some(encoded)) => BASE64
            .decode(encoded)
            .map(Bytes::from)
            .map_err(|error| format!("{name}_base64: {error}")),
        (Some(_), Some(_)) => Err(format!("there are both {name} and {name}_base64")),
        (None, None) => Err(format!("there is neither {name} nor {name}_base64")),
    }
}

#[cfg(test)]
mod tests;
