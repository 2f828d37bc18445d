//! Writing results to standard output.

use crate::failure::Failure;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use serde_json::Value;
use std::io::Write;

/// One line of text.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    // Flushed at once: whoever waits for a line, like the parent of a server, must get it.
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .map_err(|error| Failure::output(&error))
}

/// Bytes as they are.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|error| Failure::output(&error))
}

/// One object as one line of JSON.
pub(crate) fn json(object: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(object)
        .map_err(|error| Failure::failed(format!("cannot write the result as JSON: {error}")))?;
    line(&text)
}

/// A remark for the person at the terminal, on standard error; if that is gone, nobody is there.
pub(crate) fn note(text: &str) {
    writeln!(std::io::stderr().lock(), "{text}").ok();
}

/// Rows as columns that stand below each other; the first row is the heading.
pub(crate) fn table(rows: &[Vec<String>]) -> Result<(), Failure> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|at| {
            let cells = rows.iter().filter_map(|row| row.get(at));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    for row in rows {
        let cells = row.iter().zip(&widths);
        let padded: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        line(padded.join("  ").trim_end())?;
    }
    Ok(())
}

/// A value or key for a person: text as it is, with line breaks and whatever else moves a
/// terminal's cursor or changes its colours escaped; else how long it is.
pub(crate) fn readable(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return format!("<{} bytes that are not text>", bytes.len());
    };
    let mut readable = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => readable.push_str("\\\\"),
            _ if character.is_control() => readable.extend(character.escape_default()),
            _ => readable.push(character),
        }
    }
    readable
}

/// A key in the middle of a sentence: the beginning of it if it is long.
pub(crate) fn brief(key: &[u8]) -> String {
    let readable = readable(key);
    match readable.char_indices().nth(BRIEF_CHARACTERS) {
        Some((end, _)) => format!("{}... ({} bytes)", &readable[..end], key.len()),
        None => readable,
    }
}

/// A key as JSON: the text, or where it is none its bytes as base64. One of the two is null.
pub(crate) fn key_json(key: &[u8]) -> (Value, Value) {
    match std::str::from_utf8(key) {
        Ok(text) => (text.into(), Value::Null),
        Err(_) => (Value::Null, BASE64.encode(key).into()),
    }
}

const BRIEF_CHARACTERS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_for_people_cannot_steer_their_terminal() {
        let check = |bytes: &[u8], expected: &str| assert_eq!(readable(bytes), expected);
        check("plain, ä and 😀".as_bytes(), "plain, ä and 😀");
        check(b"a\\b\n\tc\r", r"a\\b\n\tc\r");
        check(b"\x1b[31mred\x07", r"\u{1b}[31mred\u{7}");
        check("\u{9b}31m".as_bytes(), r"\u{9b}31m");
        check(b"\xff\xfe", "<2 bytes that are not text>");
    }

    #[test]
    fn a_long_key_does_not_fill_the_screen() {
        assert_eq!(brief(b"user:1"), "user:1");
        let long = "ä".repeat(2_000);
        let shown = format!("{}... (4000 bytes)", "ä".repeat(100));
        assert_eq!(brief(long.as_bytes()), shown);
    }
}
