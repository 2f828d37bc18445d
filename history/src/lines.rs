//! Histories as JSON Lines: one operation a line, in any order, for checkers in any language.
//! `docs/histories.md` describes the fields.
//!
//! Keys and values are bytes: a string where they are UTF-8, else an object with the single field
//! `base64`, so that one cannot be taken for the other.

use crate::operation::{Answer, Condition, Op, Operation, Outcome};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Cow;

/// A line that is no operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct LineError {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

/// Appends an operation as a line.
pub fn write(operation: &Operation, into: &mut Vec<u8>) {
    serde_json::to_writer(&mut *into, &Line::of(operation))
        .expect("a vector takes all bytes, and all names are strings");
    into.push(b'\n');
}

/// Reads a history. Empty lines count and are passed over.
///
/// # Errors
/// At the first line that is no operation.
pub fn read(text: &[u8]) -> Result<Vec<Operation>, LineError> {
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let numbered = lines.enumerate().filter(|(_, line)| !line.is_empty());
    numbered
        .map(|(before, line)| {
            let line_error = |why| LineError {
                line: before + 1,
                why,
            };
            read_line(line).map_err(line_error)
        })
        .collect()
}

fn read_line(line: &[u8]) -> Result<Operation, String> {
    // A list of the fields would be taken for an object.
    if !line.starts_with(b"{") {
        return Err(String::from("not a JSON object"));
    }
    let line: Line<'_> = serde_json::from_slice(line).map_err(|error| {
        // The place that the error prints has a line, too, which is always the first.
        let text = error.to_string();
        let what = text.split(" at line ").next().unwrap_or_default();
        format!("column {}: {what}", error.column())
    })?;
    line.operation()
}

/// An operation as it stands in a line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    process: u64,
    op: OpName,
    key: Octets<'a>,
    arg: Option<Arg<'a>>,
    result: Option<ResultFields<'a>>,
    start_ns: u64,
    end_ns: Option<u64>,
    outcome: OutcomeName,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OpName {
    Get,
    Put,
    Delete,
    Cas,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OutcomeName {
    Ok,
    NotApplied,
    Unknown,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Arg<'a> {
    value: Option<Octets<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    if_version: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "is_false")]
    if_absent: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ResultFields<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<bool>,
    // Of a get alone, where null says that the key has none.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "null_or_value"
    )]
    value: Option<Option<Octets<'a>>>,
    version: Option<Cow<'a, str>>,
}

/// Bytes, as text if they are.
#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a string, or an object with the field `base64`"
)]
enum Octets<'a> {
    Text(Cow<'a, str>),
    Binary(Binary),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Binary {
    base64: String,
}

impl<'a> Line<'a> {
    fn of(operation: &'a Operation) -> Self {
        let (op, arg) = match &operation.op {
            Op::Get => (OpName::Get, None),
            Op::Put { value } => (OpName::Put, Some(Arg::of(Some(value), None))),
            Op::Delete => (OpName::Delete, None),
            Op::Cas { condition, value } => {
                let arg = Arg::of(value.as_ref(), Some(condition));
                (OpName::Cas, Some(arg))
            }
        };
        let (outcome, result) = match &operation.outcome {
            Outcome::Ok(answer) => {
                let result = ResultFields::of(answer, op);
                (OutcomeName::Ok, Some(result))
            }
            Outcome::NotApplied => (OutcomeName::NotApplied, None),
            Outcome::Unknown => (OutcomeName::Unknown, None),
        };
        Self {
            process: operation.process,
            op,
            key: Octets::of(&operation.key),
            arg,
            result,
            start_ns: operation.start_ns,
            end_ns: operation.end_ns,
            outcome,
        }
    }

    fn operation(self) -> Result<Operation, String> {
        if self.end_ns.is_some_and(|end_ns| end_ns < self.start_ns) {
            return Err(String::from("end_ns is before start_ns"));
        }
        let op = self.arg.unwrap_or_default().op(self.op)?;
        let outcome = match (self.outcome, self.result) {
            (OutcomeName::Ok, Some(_)) if self.end_ns.is_none() => {
                return Err(String::from("outcome `ok` needs end_ns"));
            }
            (OutcomeName::Ok, Some(result)) => Outcome::Ok(result.answer(self.op)?),
            (OutcomeName::Ok, None) => return Err(String::from("outcome `ok` needs a result")),
            (OutcomeName::NotApplied, None) => Outcome::NotApplied,
            (OutcomeName::Unknown, None) => Outcome::Unknown,
            (OutcomeName::NotApplied | OutcomeName::Unknown, Some(_)) => {
                return Err(String::from("only outcome `ok` has a result"));
            }
        };
        Ok(Operation {
            process: self.process,
            key: self.key.bytes("key")?,
            op,
            start_ns: self.start_ns,
            end_ns: self.end_ns,
            outcome,
        })
    }
}

impl<'a> Arg<'a> {
    fn of(value: Option<&'a Bytes>, condition: Option<&'a Condition>) -> Self {
        let (if_version, if_absent) = match condition {
            Some(Condition::Version(version)) => (Some(version.into()), false),
            Some(Condition::Absent) => (None, true),
            None => (None, false),
        };
        Self {
            value: value.map(|value| Octets::of(value)),
            if_version,
            if_absent,
        }
    }

    fn op(self, name: OpName) -> Result<Op, String> {
        let value = self.value.map(|value| value.bytes("arg.value"));
        let value = value.transpose()?;
        let condition = match (self.if_version, self.if_absent) {
            (Some(version), false) => Some(Condition::Version(version.into_owned())),
            (None, true) => Some(Condition::Absent),
            (None, false) => None,
            (Some(_), true) => return Err(String::from("arg has both if_version and if_absent")),
        };
        match (name, value, condition) {
            (OpName::Get, None, None) => Ok(Op::Get),
            (OpName::Put, Some(value), None) => Ok(Op::Put { value }),
            (OpName::Delete, None, None) => Ok(Op::Delete),
            (OpName::Cas, value, Some(condition)) => Ok(Op::Cas { condition, value }),
            (OpName::Get | OpName::Delete, ..) => Err(String::from("this op has no arg")),
            (OpName::Put, None, _) => Err(String::from("op `put` needs arg.value")),
            (OpName::Put, Some(_), Some(_)) => {
                Err(String::from("op `put` has no condition: it is `cas` then"))
            }
            (OpName::Cas, _, None) => Err(String::from(
                "op `cas` needs arg.if_version or arg.if_absent",
            )),
        }
    }
}

impl<'a> ResultFields<'a> {
    fn of(answer: &'a Answer, op: OpName) -> Self {
        let is_cas = op == OpName::Cas;
        let (held, value, version) = match answer {
            Answer::Found { value, version } => (None, Some(Some(Octets::of(value))), version),
            Answer::Absent => (None, Some(None), &None),
            Answer::Written { version } => (is_cas.then_some(true), None, version),
            Answer::NotHeld => (Some(false), None, &None),
        };
        Self {
            held,
            value,
            version: version.as_deref().map(Cow::from),
        }
    }

    fn answer(self, op: OpName) -> Result<Answer, String> {
        let version = self.version.map(Cow::into_owned);
        match (op, self.value, self.held) {
            (OpName::Get, Some(Some(value)), None) => {
                let value = value.bytes("result.value")?;
                Ok(Answer::Found { value, version })
            }
            (OpName::Get, Some(None), None) if version.is_none() => Ok(Answer::Absent),
            (OpName::Get, Some(None), None) => Err(String::from("a version without a value")),
            (OpName::Get, None, None) => Err(String::from("op `get` needs result.value")),
            (OpName::Put | OpName::Delete, None, None) | (OpName::Cas, None, Some(true)) => {
                Ok(Answer::Written { version })
            }
            (OpName::Cas, None, Some(false)) if version.is_none() => Ok(Answer::NotHeld),
            (OpName::Cas, None, Some(false)) => {
                Err(String::from("a version, but the condition did not hold"))
            }
            (OpName::Cas, None, None) => Err(String::from("op `cas` needs result.held")),
            (OpName::Get | OpName::Put | OpName::Delete, _, Some(_)) => {
                Err(String::from("only op `cas` has result.held"))
            }
            (OpName::Put | OpName::Delete | OpName::Cas, Some(_), _) => {
                Err(String::from("only op `get` has result.value"))
            }
        }
    }
}

impl<'a> Octets<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.into()),
            Err(_) => Self::Binary(Binary {
                base64: BASE64.encode(bytes),
            }),
        }
    }

    fn bytes(self, field: &str) -> Result<Bytes, String> {
        match self {
            Self::Text(text) => Ok(text.into_owned().into()),
            Self::Binary(Binary { base64 }) => BASE64
                .decode(base64)
                .map(Bytes::from)
                .map_err(|error| format!("{field}: {error}")),
        }
    }
}

/// Tells a value that is null from one that is left out.
fn null_or_value<'de, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<Octets<'a>>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests;
