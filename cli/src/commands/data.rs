//! `annulet put`, `get`, `delete`, `exists`, `touch`, `cas`: one key each.

use crate::args::{Common, Single};
use crate::connect;
use crate::failure::{Exit, Failure};
use crate::{output, units};
use annulet::{Context, Entry, ReadOptions, Ttl, WriteOptions, Written};
use annulet_protocol::limits::VALUE_BYTES_MAX;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
pub(crate) struct PutArgs {
    /// The key, 1 to 4096 bytes
    key: OsString,
    /// The value; `-` takes it from standard input
    #[arg(allow_negative_numbers = true, required_unless_present = "file")]
    value: Option<OsString>,
    /// Take the value from a file
    #[arg(long, value_name = "F", conflicts_with = "value")]
    file: Option<PathBuf>,
    /// How long the value lives: 90s, 1h, or `never`; else the bucket's
    #[arg(long, value_name = "D", value_parser = units::ttl)]
    ttl: Option<Ttl>,
    /// What a read of the key gave, in a bucket of mode siblings: the write replaces what was seen
    #[arg(long, value_name = "C")]
    context: Option<Context>,
    #[command(flatten)]
    target: Single,
}

#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    /// The key
    key: OsString,
    /// In a strong bucket: what any one owner has, quick but perhaps old
    #[arg(long)]
    stale: bool,
    #[command(flatten)]
    target: Single,
}

#[derive(Args, Debug)]
pub(crate) struct DeleteArgs {
    /// The key
    key: OsString,
    /// What a read of the key gave, in a bucket of mode siblings: the write replaces what was seen
    #[arg(long, value_name = "C")]
    context: Option<Context>,
    #[command(flatten)]
    target: Single,
}

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("condition").required(true))]
pub(crate) struct CasArgs {
    /// The key, 1 to 4096 bytes
    key: OsString,
    /// The value; `-` takes it from standard input
    #[arg(allow_negative_numbers = true, required_unless_present = "file")]
    value: Option<OsString>,
    /// Take the value from a file
    #[arg(long, value_name = "F", conflicts_with = "value")]
    file: Option<PathBuf>,
    /// Store it if the key has no value
    #[arg(long, group = "condition")]
    if_absent: bool,
    /// Store it in place of this version, which `get --json` shows
    #[arg(long, value_name = "V", group = "condition")]
    if_version: Option<String>,
    /// How long the value lives: 90s, 1h, or `never`; else the bucket's
    #[arg(long, value_name = "D", value_parser = units::ttl)]
    ttl: Option<Ttl>,
    #[command(flatten)]
    target: Single,
}

#[derive(Args, Debug)]
pub(crate) struct ExistsArgs {
    /// The key
    key: OsString,
    #[command(flatten)]
    target: Single,
}

#[derive(Args, Debug)]
pub(crate) struct TouchArgs {
    /// The key
    key: OsString,
    /// How long the value lives from now on: 90s, 1h, or `never`; else the bucket's
    #[arg(long, value_name = "D", value_parser = units::ttl)]
    ttl: Option<Ttl>,
    #[command(flatten)]
    target: Single,
}

pub(crate) async fn put(args: PutArgs, common: &Common) -> Result<Exit, Failure> {
    let value = value_given(args.file.as_deref(), args.value)?;
    let session = connect::session_in(common, &args.target).await?;
    let options = WriteOptions {
        context: args.context,
        ..session.writing(args.ttl)
    };
    let written = session
        .bucket
        .put_with(bytes_of(args.key), value, &options)
        .await;
    session.close().await?;
    report_written(&written?, common)
}

pub(crate) async fn get(args: GetArgs, common: &Common) -> Result<Exit, Failure> {
    let session = connect::session_in(common, &args.target).await?;
    let key = bytes_of(args.key);
    let options = ReadOptions {
        stale: args.stale,
        ..session.reading()
    };
    let found = session.bucket.get_with(key.clone(), &options).await;
    session.close().await?;
    let found = found?;
    if common.json {
        output::json(&entry_json(found.as_ref()))?;
    } else {
        match &found {
            Some(entry) if entry.is_merged => output::bytes(&entry.value)?,
            Some(entry) => output::note(&format!(
                "{} concurrent values: --json shows them; write one with the context that comes \
                 with them",
                entry.siblings.len()
            )),
            None => note_not_found(&key),
        }
    }
    Ok(found_or_not(found.is_some_and(|entry| entry.is_merged)))
}

pub(crate) async fn delete(args: DeleteArgs, common: &Common) -> Result<Exit, Failure> {
    let session = connect::session_in(common, &args.target).await?;
    let options = WriteOptions {
        context: args.context,
        ..session.writing(None)
    };
    let written = session
        .bucket
        .delete_with(bytes_of(args.key), &options)
        .await;
    session.close().await?;
    report_written(&written?, common)
}

pub(crate) async fn cas(args: CasArgs, common: &Common) -> Result<Exit, Failure> {
    let value = value_given(args.file.as_deref(), args.value)?;
    let session = connect::session_in(common, &args.target).await?;
    let (bucket, key) = (&session.bucket, bytes_of(args.key));
    let options = session.writing(args.ttl);
    let written = match &args.if_version {
        Some(version) => {
            bucket
                .put_if_version_with(key, value, version, &options)
                .await
        }
        None => bucket.put_if_absent_with(key, value, &options).await,
    };
    session.close().await?;
    report_written(&written?, common)
}

pub(crate) async fn exists(args: ExistsArgs, common: &Common) -> Result<Exit, Failure> {
    let session = connect::session_in(common, &args.target).await?;
    let exists = session
        .bucket
        .exists_with(bytes_of(args.key), &session.reading())
        .await;
    session.close().await?;
    let exists = exists?;
    if common.json {
        output::json(&json!({ "exists": exists }))?;
    } else {
        output::line(if exists { "yes" } else { "no" })?;
    }
    Ok(found_or_not(exists))
}

pub(crate) async fn touch(args: TouchArgs, common: &Common) -> Result<Exit, Failure> {
    let session = connect::session_in(common, &args.target).await?;
    let key = bytes_of(args.key);
    let touched = session
        .bucket
        .touch_with(key.clone(), &session.writing(args.ttl))
        .await;
    session.close().await?;
    let touched = touched?;
    if common.json {
        output::json(&json!({
            "found": touched.is_some(),
            "version": touched.as_ref().map(|touched| &touched.version),
            "superseded": touched.as_ref().is_some_and(|touched| touched.superseded),
        }))?;
    } else {
        match &touched {
            Some(touched) if touched.superseded => {
                output::note("note: a newer value was there already; its expiry was left alone");
            }
            Some(_) => {}
            None => note_not_found(&key),
        }
    }
    Ok(found_or_not(touched.is_some()))
}

/// What an argument or a line stands for: its bytes, whatever they are.
pub(crate) fn bytes_of(text: OsString) -> Bytes {
    text.into_encoded_bytes().into()
}

/// The fields of a value that was asked for.
pub(crate) fn entry_json(found: Option<&Entry>) -> Value {
    let merged = found.filter(|entry| entry.is_merged);
    let siblings = found.map(|entry| entry.siblings.iter().map(|value| BASE64.encode(value)));
    let context = found.map(|entry| entry.context.to_string());
    json!({
        "found": found.is_some(),
        "value": merged.map(|entry| BASE64.encode(&entry.value)),
        "siblings": siblings.into_iter().flatten().collect::<Vec<_>>(),
        "context": context.filter(|context| !context.is_empty()),
        "version": found.map(|entry| &entry.version),
        "expires_at_ms": found.and_then(|entry| entry.expires_at_ms),
    })
}

pub(crate) fn written_json(written: &Written) -> Value {
    json!({
        "version": written.version,
        "superseded": written.superseded,
        "context": written.context.as_ref().map(Context::to_string),
    })
}

fn report_written(written: &Written, common: &Common) -> Result<Exit, Failure> {
    if common.json {
        output::json(&written_json(written))?;
    } else if written.superseded {
        // Done, and yet not what a reader will see: nobody would expect that.
        output::note("note: a newer version of this key was there already, and stays");
    }
    Ok(Exit::Done)
}

fn note_not_found(key: &[u8]) {
    output::note(&format!("not found: {}", output::readable(key)));
}

fn found_or_not(found: bool) -> Exit {
    if found { Exit::Done } else { Exit::NotFound }
}

/// The value of the command line. Read before connecting, so that a wrong path fails at once.
fn value_given(file: Option<&Path>, value: Option<OsString>) -> Result<Bytes, Failure> {
    match (file, value) {
        (Some(path), _) => value_of_file(path),
        (None, Some(value)) if value == "-" => value_of(std::io::stdin().lock(), "standard input"),
        (None, value) => Ok(bytes_of(value.unwrap_or_default())),
    }
}

fn value_of_file(path: &Path) -> Result<Bytes, Failure> {
    let file = std::fs::File::open(path).map_err(|error| Failure::unreadable(path, &error))?;
    value_of(file, &path.display().to_string())
}

/// Everything that a reader has, and not a byte more than a value can be.
fn value_of(reader: impl Read, name: &str) -> Result<Bytes, Failure> {
    let mut value = Vec::new();
    reader
        .take(VALUE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut value)
        .map_err(|error| Failure::usage(format!("cannot read {name}: {error}")))?;
    if value.len() > VALUE_BYTES_MAX {
        return Err(Failure::usage(format!(
            "{name} is longer than {VALUE_BYTES_MAX} bytes, the most that any cluster takes as one \
             value"
        ))
        .advise("split it over several keys"));
    }
    Ok(value.into())
}
