//! What operations show, and whether it is what a case expects.

use annulet::facade::BucketPolicy;
use annulet::{Entry, Error, Resolved, Statistics, Written};
use bytes::Bytes;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A part of what an operation shows.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// Nothing.
    None,
    /// A flag.
    Flag(bool),
    /// A number.
    Number(u64),
    /// A name, a version, a message.
    Text(String),
    /// A value, a context, a token.
    Bytes(Bytes),
    /// Values in any order.
    Set(Vec<Bytes>),
}

/// The parts by their names.
pub type Items = BTreeMap<&'static str, Item>;

/// What an operation shows.
#[derive(Clone, Debug, PartialEq)]
pub enum Shown {
    /// Nothing, or no value.
    None,
    /// Whether something is so.
    Flag(bool),
    /// Something with parts.
    Items(Items),
    /// An error, with parts.
    Failed(Items),
    /// The results of a multi-call.
    Each(Vec<Shown>),
}

impl From<Entry> for Shown {
    fn from(entry: Entry) -> Self {
        Self::Items(Items::from([
            ("value", Item::Bytes(entry.value)),
            ("siblings", Item::Set(entry.siblings)),
            ("is_merged", Item::Flag(entry.is_merged)),
            ("context", Item::Bytes(entry.context.to_bytes())),
            ("version", Item::Text(entry.version)),
            ("expires", Item::Flag(entry.expires_at_ms.is_some())),
            ("expires_at_ms", number(entry.expires_at_ms)),
        ]))
    }
}

impl From<Written> for Shown {
    fn from(written: Written) -> Self {
        let context = written.context.map(|context| context.to_bytes());
        Self::Items(Items::from([
            ("version", Item::Text(written.version)),
            ("superseded", Item::Flag(written.superseded)),
            ("context", context.map_or(Item::None, Item::Bytes)),
            ("siblings", Item::Number(written.siblings as u64)),
        ]))
    }
}

impl From<BucketPolicy> for Shown {
    fn from(bucket: BucketPolicy) -> Self {
        Self::Items(Items::from([
            ("name", Item::Text(bucket.name)),
            ("mode", Item::Text(bucket.mode)),
            ("replicas", Item::Number(bucket.replicas.into())),
            ("durability", Item::Text(bucket.durability)),
            ("read_level", Item::Text(bucket.read_level)),
            ("write_level", Item::Text(bucket.write_level)),
            ("ttl_ms", number(bucket.ttl_ms)),
            ("merge", bucket.merge.map_or(Item::None, Item::Text)),
        ]))
    }
}

impl From<Statistics> for Shown {
    fn from(statistics: Statistics) -> Self {
        Self::Items(Items::from([
            ("reads", Item::Number(statistics.reads)),
            ("writes", Item::Number(statistics.writes)),
            ("errors", Item::Number(statistics.errors)),
        ]))
    }
}

impl From<Error> for Shown {
    fn from(error: Error) -> Self {
        let text = |text: &str| Item::Text(text.to_owned());
        let outcome = error.outcome().map(|outcome| outcome.as_str());
        let op_id = error.op_id().map(ToString::to_string);
        Self::Failed(Items::from([
            ("kind", text(error.kind().as_str())),
            ("says", text(error.message())),
            ("outcome", outcome.map_or(Item::None, text)),
            ("retryable", Item::Flag(error.is_retryable())),
            ("op_id", op_id.map_or(Item::None, Item::Text)),
        ]))
    }
}

impl From<Resolved> for Shown {
    fn from(resolved: Resolved) -> Self {
        let name = match resolved {
            Resolved::Applied { .. } => "applied",
            Resolved::NotApplied => "not_applied",
            Resolved::Forgotten => "forgotten",
        };
        Self::Items(Items::from([("resolved", Item::Text(name.into()))]))
    }
}

impl<T: Into<Shown>> From<Option<T>> for Shown {
    fn from(shown: Option<T>) -> Self {
        shown.map_or(Self::None, Into::into)
    }
}

impl<T: Into<Shown>> From<Result<T, Error>> for Shown {
    fn from(result: Result<T, Error>) -> Self {
        match result {
            Ok(shown) => shown.into(),
            Err(error) => error.into(),
        }
    }
}

impl<T: Into<Shown>> From<Vec<T>> for Shown {
    fn from(all: Vec<T>) -> Self {
        Self::Each(all.into_iter().map(Into::into).collect())
    }
}

impl From<bool> for Shown {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<()> for Shown {
    fn from((): ()) -> Self {
        Self::None
    }
}

fn number(number: Option<u64>) -> Item {
    number.map_or(Item::None, Item::Number)
}

/// Bytes as a case writes them: text, `{"hex": digits}`, or `{"repeat": text, "times": n}`.
pub fn bytes(written: &Value) -> Option<Bytes> {
    match written {
        Value::String(text) => Some(text.clone().into()),
        Value::Object(map) => match (map.get("hex"), map.get("repeat")) {
            (Some(digits), _) => {
                let digits = digits.as_str()?.as_bytes();
                let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
                digits.chunks(2).map(byte).collect()
            }
            (None, Some(text)) => {
                let times = usize::try_from(map.get("times")?.as_u64()?).ok()?;
                Some(text.as_str()?.repeat(times).into())
            }
            (None, None) => None,
        },
        _ => None,
    }
}

/// What is shown but not expected; `saved` are the items that earlier steps have saved.
///
/// # Errors
/// Says what differs.
pub fn expect(
    expected: &Value,
    shown: &Shown,
    saved: &BTreeMap<String, Item>,
) -> Result<(), String> {
    let differs = || Err(format!("expected {expected}, got {}", short(shown)));
    match (expected, shown) {
        (Value::Null, Shown::None) => Ok(()),
        (Value::Bool(flag), Shown::Flag(shown)) if flag == shown => Ok(()),
        (Value::Object(map), Shown::Failed(items)) => match map.get("fails") {
            Some(Value::Object(fails)) => expect_items(fails, items, saved),
            _ => differs(),
        },
        (Value::Object(map), Shown::Items(_)) if map.contains_key("fails") => differs(),
        (Value::Object(map), Shown::Items(items)) => expect_items(map, items, saved),
        (Value::Array(each), Shown::Each(shown)) if each.len() == shown.len() => {
            let mut pairs = each.iter().zip(shown);
            pairs.try_for_each(|(expected, shown)| expect(expected, shown, saved))
        }
        _ => differs(),
    }
}

fn expect_items(
    expected: &Map<String, Value>,
    items: &Items,
    saved: &BTreeMap<String, Item>,
) -> Result<(), String> {
    for (name, expected) in expected {
        let Some(item) = items.get(name.as_str()) else {
            return Err(format!("there is no `{name}` in {items:?}"));
        };
        if !is_expected(name, expected, item, saved) {
            return Err(format!("expected {name} {expected}, got {}", short(items)));
        }
    }
    Ok(())
}

fn is_expected(name: &str, expected: &Value, item: &Item, saved: &BTreeMap<String, Item>) -> bool {
    if let Value::String(text) = expected
        && let Some(saved_as) = text.strip_prefix('$')
    {
        return saved.get(saved_as) == Some(item);
    }
    match (expected, item) {
        (Value::Null, Item::None) => true,
        (Value::Bool(flag), Item::Flag(shown)) => flag == shown,
        // Whether there is one.
        (Value::Bool(flag), item) => *flag == (*item != Item::None),
        (Value::Number(number), Item::Number(shown)) => number.as_u64() == Some(*shown),
        (Value::String(text), Item::Text(shown)) if name == "says" => shown.contains(text.as_str()),
        (Value::String(text), Item::Text(shown)) => text == shown,
        (Value::Array(values), Item::Set(shown)) => {
            let mut values: Vec<_> = values.iter().filter_map(bytes).collect();
            let mut shown = shown.clone();
            values.sort();
            shown.sort();
            values == shown
        }
        // Any of them.
        (Value::Array(values), item) => {
            let mut values = values.iter();
            values.any(|value| is_expected(name, value, item, saved))
        }
        (value, Item::Bytes(shown)) => bytes(value).as_ref() == Some(shown),
        _ => false,
    }
}

/// Megabytes help nobody who reads why a case failed.
pub fn short(shown: &impl std::fmt::Debug) -> String {
    format!("{shown:?}").chars().take(600).collect()
}
