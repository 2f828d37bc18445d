//! `annulet mget` and `mput`: many keys, a result for each. What comes from standard input is
//! worked off in chunks, so that its length does not matter.

use crate::args::{Common, Target};
use crate::commands::data::{bytes_of, entry_json, written_json};
use crate::connect::{self, Session};
use crate::failure::{Exit, Failure};
use crate::{output, units};
use annulet::{Entry, Ttl, Written};
use annulet_protocol::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::{BufRead, Read};

#[derive(Args, Debug)]
pub(crate) struct MgetArgs {
    /// The keys; `-` takes them from standard input, one a line
    #[arg(required = true)]
    keys: Vec<OsString>,
    #[command(flatten)]
    target: Target,
}

#[derive(Args, Debug)]
#[command(after_help = MPUT_HELP)]
pub(crate) struct MputArgs {
    /// Pairs as KEY=VALUE, the key ends at the first `=`; `-` takes JSON lines from standard input
    #[arg(required = true)]
    pairs: Vec<OsString>,
    /// How long the values live: 90s, 1h, or `never`; else the bucket's
    #[arg(long, value_name = "D", value_parser = units::ttl)]
    ttl: Option<Ttl>,
    #[command(flatten)]
    target: Target,
}

const MPUT_HELP: &str = "A JSON line is {\"key\": \"k\", \"value\": \"text\"}; instead of value, \
    value_base64 holds any bytes. A value that is not a string is stored as its JSON text.";

pub(crate) async fn get(args: MgetArgs, common: &Common) -> Result<Exit, Failure> {
    let session = connect::session(common, &args.target).await?;
    let result = get_all(args.keys, &session, common.json).await;
    session.client.close().await;
    result
}

pub(crate) async fn put(args: MputArgs, common: &Common) -> Result<Exit, Failure> {
    let session = connect::session(common, &args.target).await?;
    let result = put_all(args, &session, common.json).await;
    session.client.close().await;
    result
}

async fn get_all(keys: Vec<OsString>, session: &Session, json: bool) -> Result<Exit, Failure> {
    let mut worst = Exit::Done;
    if !is_dash(&keys) {
        for chunk in keys.chunks(GET_CHUNK) {
            let chunk = chunk.iter().cloned().map(bytes_of).collect();
            worst = worst.max(get_chunk(chunk, session, json).await?);
        }
        return Ok(worst);
    }
    let mut lines = Lines::of_standard_input(KEY_BYTES_MAX);
    loop {
        let mut chunk = Vec::new();
        while chunk.len() < GET_CHUNK
            && let Some(line) = lines.next()?
        {
            chunk.push(line.into());
        }
        if chunk.is_empty() {
            return Ok(worst);
        }
        worst = worst.max(get_chunk(chunk, session, json).await?);
    }
}

async fn get_chunk(keys: Vec<Bytes>, session: &Session, json: bool) -> Result<Exit, Failure> {
    let results = session
        .bucket
        .multi_get_with(keys.clone(), &session.reading())
        .await;
    let mut worst = Exit::Done;
    for (key, result) in keys.iter().zip(results) {
        let result = result.map_err(Failure::from);
        worst = worst.max(match &result {
            Ok(Some(_)) => Exit::Done,
            Ok(None) => Exit::NotFound,
            Err(failure) => failure.exit(),
        });
        print_got(key, result, json)?;
    }
    Ok(worst)
}

fn print_got(
    key: &[u8],
    result: Result<Option<Entry>, Failure>,
    json: bool,
) -> Result<(), Failure> {
    if json {
        let object = match result {
            Ok(found) => entry_json(found.as_ref()),
            Err(failure) => json!({ "error": failure.to_json() }),
        };
        return output::json(&keyed(key, object));
    }
    let key = output::readable(key);
    match result {
        Ok(Some(entry)) => output::line(&format!("{key}\t{}", output::readable(&entry.value)))?,
        Ok(None) => output::note(&format!("not found: {key}")),
        Err(failure) => output::note(&format!("error: {key}: {failure}")),
    }
    Ok(())
}

/// A pair to store, or why a line is none.
type Pair = Result<(Bytes, Bytes), Failure>;

async fn put_all(args: MputArgs, session: &Session, json: bool) -> Result<Exit, Failure> {
    let mut worst = Exit::Done;
    let ttl = args.ttl;
    if !is_dash(&args.pairs) {
        // A pair that is none is a wrong argument: nothing is stored.
        let pairs: Vec<_> = args
            .pairs
            .into_iter()
            .map(split)
            .collect::<Result<_, Failure>>()?;
        for chunk in pairs.chunks(PUT_CHUNK) {
            let chunk = chunk.iter().cloned().map(Ok).collect();
            worst = worst.max(put_chunk(chunk, ttl, session, json).await?);
        }
        return Ok(worst);
    }
    let mut lines = Lines::of_standard_input(LINE_BYTES_MAX);
    loop {
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        while chunk.len() < PUT_CHUNK
            && bytes < PUT_CHUNK_BYTES
            && let Some(line) = lines.next()?
        {
            bytes += line.len();
            chunk.push(parse_line(&line, lines.number));
        }
        if chunk.is_empty() {
            return Ok(worst);
        }
        worst = worst.max(put_chunk(chunk, ttl, session, json).await?);
    }
}

async fn put_chunk(
    pairs: Vec<Pair>,
    ttl: Option<Ttl>,
    session: &Session,
    json: bool,
) -> Result<Exit, Failure> {
    let mut worst = Exit::Done;
    let mut entries = Vec::with_capacity(pairs.len());
    for pair in pairs {
        match pair {
            Ok(entry) => entries.push(entry),
            Err(failure) => {
                worst = worst.max(failure.exit());
                failure.report(json);
            }
        }
    }
    let keys: Vec<Bytes> = entries.iter().map(|(key, _)| key.clone()).collect();
    let results = session
        .bucket
        .multi_put_with(entries, &session.writing(ttl))
        .await;
    for (key, result) in keys.iter().zip(results) {
        let result = result.map_err(Failure::from);
        worst = worst.max(result.as_ref().map_or_else(Failure::exit, |_| Exit::Done));
        print_put(key, &result, json)?;
    }
    Ok(worst)
}

fn print_put(key: &[u8], result: &Result<Written, Failure>, json: bool) -> Result<(), Failure> {
    if json {
        let object = match result {
            Ok(written) => written_json(written),
            Err(failure) => json!({ "error": failure.to_json() }),
        };
        return output::json(&keyed(key, object));
    }
    let key = output::readable(key);
    match result {
        Ok(written) => output::line(&format!("{key}\t{}", written.version)),
        Err(failure) => {
            output::note(&format!("error: {key}: {failure}"));
            Ok(())
        }
    }
}

/// The key in front of the fields of its result.
fn keyed(key: &[u8], fields: Value) -> Value {
    let mut object = serde_json::Map::new();
    object.insert("key".to_owned(), String::from_utf8_lossy(key).into());
    if let Value::Object(fields) = fields {
        object.extend(fields);
    }
    Value::Object(object)
}

fn is_dash(arguments: &[OsString]) -> bool {
    matches!(arguments, [only] if only == "-")
}

/// Reads KEY=VALUE.
fn split(pair: OsString) -> Pair {
    let pair = bytes_of(pair);
    match pair.iter().position(|byte| *byte == b'=') {
        Some(at) => Ok((pair.slice(..at), pair.slice(at + 1..))),
        None => Err(Failure::usage(format!(
            "`{}` is not KEY=VALUE",
            output::readable(&pair)
        ))),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PutLine {
    key: String,
    value: Option<Value>,
    value_base64: Option<String>,
}

fn parse_line(line: &[u8], number: u64) -> Pair {
    let broken = |why: String| Failure::usage(format!("line {number}: {why}"));
    let line: PutLine = serde_json::from_slice(line).map_err(|error| broken(error.to_string()))?;
    let value = match (line.value, line.value_base64) {
        (Some(Value::String(text)), None) => text.into(),
        (Some(value), None) => value.to_string().into(),
        (None, Some(encoded)) => BASE64
            .decode(encoded)
            .map_err(|error| broken(format!("value_base64: {error}")))?
            .into(),
        _ => return Err(broken("one of value and value_base64 is needed".to_owned())),
    };
    Ok((line.key.into(), value))
}

/// The lines of standard input, none longer than a limit.
struct Lines {
    reader: std::io::StdinLock<'static>,
    bytes_max: usize,
    number: u64,
}

impl Lines {
    fn of_standard_input(bytes_max: usize) -> Self {
        Self {
            reader: std::io::stdin().lock(),
            bytes_max,
            number: 0,
        }
    }

    /// The next line that is not empty, without its line break.
    fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        loop {
            let mut line = Vec::new();
            // One byte for the line break and one to notice that it is too long.
            let limit = self.bytes_max as u64 + 2;
            let read = (&mut self.reader)
                .take(limit)
                .read_until(b'\n', &mut line)
                .map_err(|error| Failure::usage(format!("cannot read standard input: {error}")))?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            while line
                .last()
                .is_some_and(|byte| matches!(byte, b'\n' | b'\r'))
            {
                line.pop();
            }
            if line.len() > self.bytes_max {
                let Self {
                    number, bytes_max, ..
                } = self;
                return Err(Failure::usage(format!(
                    "line {number} of standard input is longer than {bytes_max} bytes"
                )));
            }
            if !line.is_empty() {
                return Ok(Some(line));
            }
        }
    }
}

/// Few keys at a time, since their values may be long.
const GET_CHUNK: usize = 32;
const PUT_CHUNK: usize = 256;
const PUT_CHUNK_BYTES: usize = 1 << 20;
/// The longest value, as base64 or with every character escaped, and its key.
const LINE_BYTES_MAX: usize = 2 * VALUE_BYTES_MAX + 16 * KEY_BYTES_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_ends_its_key_at_the_first_equals_sign() {
        let pair = split("a=b=c".into()).unwrap();
        assert_eq!(pair, (Bytes::from("a"), Bytes::from("b=c")));
        assert_eq!(split("a=".into()).unwrap().1, Bytes::new());
        assert_eq!(split("no pair".into()).unwrap_err().exit(), Exit::Usage);
    }

    #[test]
    fn a_line_holds_text_json_or_bytes() {
        let value = |line: &str| parse_line(line.as_bytes(), 1).map(|(_, value)| value).ok();
        assert_eq!(value(r#"{"key":"k","value":"text"}"#), Some("text".into()));
        assert_eq!(
            value(r#"{"key":"k","value":{"a":1}}"#),
            Some(r#"{"a":1}"#.into())
        );
        assert_eq!(
            value(r#"{"key":"k","value_base64":"AP8="}"#),
            Some(vec![0, 255].into())
        );
        for bad in [
            "",
            "[]",
            r#"{"value":"no key"}"#,
            r#"{"key":"k"}"#,
            r#"{"key":"k","value":"a","value_base64":"AA=="}"#,
            r#"{"key":"k","value_base64":"?"}"#,
            r#"{"key":"k","valeu":"typo"}"#,
        ] {
            assert_eq!(value(bad), None, "{bad}");
        }
        let failure = parse_line(b"{", 7).unwrap_err();
        assert!(failure.to_string().contains("line 7"), "{failure}");
    }
}
