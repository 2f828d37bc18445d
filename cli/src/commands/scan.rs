//! `annulet scan`: what is in a bucket, in no order that means anything to people.

use crate::args::{Common, Target};
use crate::connect::{self, Session};
use crate::failure::{Exit, Failure};
use crate::output;
use crate::pages::Pages;
use annulet::{ScanEntry, ScanOptions, ScanPage};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use serde_json::{Value, json};

#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub(crate) struct ScanArgs {
    /// Leave the values out, which is far cheaper where they are long
    #[arg(long)]
    keys: bool,
    /// End after so many entries, and say how to go on
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Go on from here: the cursor that an earlier scan gave
    #[arg(long, value_name = "C")]
    cursor: Option<String>,
    #[command(flatten)]
    target: Target,
}

const HELP: &str = "A scan is no snapshot: a key that is there throughout comes exactly once, one \
    that is written or deleted meanwhile may come or not. With --json each line is a page: its \
    entries, with values in base64 (a key that is not UTF-8 is in key_base64, and key is null), \
    and the cursor of the next page.";

pub(crate) async fn run(args: ScanArgs, common: &Common) -> Result<Exit, Failure> {
    let session = connect::session(common, &args.target).await?;
    let result = print(&args, &session, common.json).await;
    session.client.close().await;
    result.map(|()| Exit::Done)
}

async fn print(args: &ScanArgs, session: &Session, json: bool) -> Result<(), Failure> {
    let reading = session.reading();
    let options = ScanOptions {
        keys_only: args.keys,
        cursor: args.cursor.clone(),
        level: reading.level,
        timeout: reading.timeout,
        ..ScanOptions::default()
    };
    let mut pages = Pages::new(session, options, args.limit)?;
    let say = |text: &str| {
        if !json {
            output::note(text);
        }
    };
    loop {
        match pages.next(say).await {
            Ok(Some(page)) if json => output::json(&page_json(&page, args.keys))?,
            Ok(Some(page)) => output::bytes(page_text(&page).as_bytes())?,
            Ok(None) => break,
            Err(failure) => {
                return Err(match pages.cursor() {
                    Some(cursor) => failure.advise(format!("go on later with --cursor {cursor}")),
                    None => failure,
                });
            }
        }
    }
    if let Some(cursor) = pages.cursor() {
        say(&format!("more: go on with --cursor {cursor}"));
    }
    Ok(())
}

fn page_text(page: &ScanPage) -> String {
    let mut text = String::new();
    for entry in &page.entries {
        text.push_str(&output::readable(&entry.key));
        if let Some(value) = &entry.value {
            text.push('\t');
            text.push_str(&output::readable(value));
        }
        text.push('\n');
    }
    text
}

fn page_json(page: &ScanPage, keys_only: bool) -> Value {
    let entries: Vec<Value> = page
        .entries
        .iter()
        .map(|entry| entry_json(entry, keys_only))
        .collect();
    json!({ "entries": entries, "cursor": page.cursor })
}

fn entry_json(entry: &ScanEntry, keys_only: bool) -> Value {
    let (key, key_base64) = output::key_json(&entry.key);
    let mut object = json!({
        "key": key,
        "key_base64": key_base64,
        "value": entry.value.as_ref().map(|value| BASE64.encode(value)),
        "version": entry.version,
        "expires_at_ms": entry.expires_at_ms,
    });
    if keys_only && let Some(object) = object.as_object_mut() {
        object.shift_remove("value");
    }
    object
}
