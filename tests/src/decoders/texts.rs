//! Checks of what reads text: command lines, names in messages, files that people write.

use annulet::Profile;
use annulet_history::{check, check_versions, lines};
use annulet_protocol::codec::{decode_view, encode};
use annulet_protocol::ids::{ClusterId, NodeId};
use annulet_protocol::level::Level;
use annulet_server::Config;
use annulet_server::cluster_file::ClusterFile;
use serde::Serialize;
use std::fmt::{Debug, Display};
use std::str::{self, FromStr};

/// Largest cluster whose view is made. More take long, and all that is special is in few.
const PARTITIONS_MAX: u32 = 64;
const MEMBERS_MAX: usize = 16;
/// Most that a history is searched; each step takes memory.
const STEPS_MAX: usize = 100;

pub(super) fn level(bytes: &[u8]) -> bool {
    match named::<Level>(bytes) {
        Some((_, Level::Explicit { read, write })) => {
            assert!(read > 0 && write > 0);
            true
        }
        other => other.is_some(),
    }
}

pub(super) fn cluster_id(bytes: &[u8]) -> bool {
    is_digits(named::<ClusterId>(bytes))
}

pub(super) fn node_id(bytes: &[u8]) -> bool {
    is_digits(named::<NodeId>(bytes))
}

/// An id is its digits and nothing else.
fn is_digits(read: Option<(&str, impl Display)>) -> bool {
    read.is_some_and(|(text, id)| {
        assert_eq!(id.to_string(), text.to_ascii_lowercase());
        true
    })
}

/// Reads a word. If it is one, it is printed and read as the same.
fn named<T>(bytes: &[u8]) -> Option<(&str, T)>
where
    T: FromStr + Display + PartialEq + Debug,
    T::Err: Display,
{
    let text = str::from_utf8(bytes).ok()?;
    match text.parse::<T>() {
        Ok(value) => {
            let again = value.to_string().parse::<T>().ok();
            assert_eq!(again.as_ref(), Some(&value), "printed and read again");
            Some((text, value))
        }
        Err(why) => {
            assert!(!why.to_string().is_empty());
            None
        }
    }
}

pub(super) fn cluster_file(bytes: &[u8]) -> bool {
    let Some(file) = file(bytes, ClusterFile::parse, ClusterFile::to_text) else {
        return false;
    };
    assert!(!file.members.is_empty());
    for member in &file.members {
        assert_eq!(file.member_at(&member.address), Some(member));
    }
    if file.partitions > PARTITIONS_MAX || file.members.len() > MEMBERS_MAX {
        return true;
    }
    if let Ok(view) = file.view() {
        assert_eq!(view.validate(), Ok(()));
        assert_eq!(decode_view(&encode(&view)), Ok(view));
    }
    true
}

pub(super) fn server_config(bytes: &[u8]) -> bool {
    file(bytes, Config::parse, to_toml).is_some_and(|config| {
        assert_eq!(config.validate(), Ok(()));
        true
    })
}

pub(super) fn profile(bytes: &[u8]) -> bool {
    let parse = |text: &str| Profile::parse(text).map_err(|error| error.to_string());
    file(bytes, parse, to_toml).is_some_and(|profile| {
        assert!(!profile.seeds.is_empty());
        true
    })
}

pub(super) fn history(bytes: &[u8]) -> bool {
    match lines::read(bytes) {
        Ok(operations) => {
            let mut written = Vec::new();
            for operation in &operations {
                assert!(operation.is_answered_in_kind());
                lines::write(operation, &mut written);
            }
            assert_eq!(lines::read(&written).as_ref(), Ok(&operations));
            for checked in [check(&operations, STEPS_MAX), check_versions(&operations)] {
                assert!(checked.map_or_else(|why| !why.to_string().is_empty(), |()| true));
            }
            !operations.is_empty()
        }
        Err(error) => {
            let count = bytes.split(|byte| *byte == b'\n').count();
            assert!((1..=count).contains(&error.line) && !error.why.is_empty());
            false
        }
    }
}

fn to_toml<T: Serialize>(value: &T) -> Result<String, String> {
    toml::to_string(value).map_err(|error| error.to_string())
}

/// Reads a file's text. If it is one, it is written and read as the same.
fn file<T: PartialEq + Debug>(
    bytes: &[u8],
    parse: impl Fn(&str) -> Result<T, String>,
    to_text: impl Fn(&T) -> Result<String, String>,
) -> Option<T> {
    let text = str::from_utf8(bytes).ok()?;
    let value = parse(text).ok()?;
    let written = to_text(&value).expect("what was read can be written");
    assert_eq!(
        parse(&written).as_ref(),
        Ok(&value),
        "written and read again"
    );
    Some(value)
}
