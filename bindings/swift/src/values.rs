//! What Swift gets.

use annulet::facade;
use bytes::Bytes;
use std::fmt;

/// What is wrong, in parts.
#[derive(Clone, Debug, uniffi::Record)]
pub(crate) struct Problem {
    kind: String,
    message: String,
    outcome: Option<String>,
    is_retryable: bool,
    op_id: Option<String>,
}

/// An operation that failed.
#[derive(Clone, Debug, uniffi::Error)]
pub(crate) enum Failure {
    Failed { problem: Problem },
}

impl From<annulet::Error> for Problem {
    fn from(error: annulet::Error) -> Self {
        Self {
            kind: error.kind().as_str().into(),
            message: error.message().into(),
            outcome: error.outcome().map(|outcome| outcome.as_str().into()),
            is_retryable: error.is_retryable(),
            op_id: error.op_id().map(ToString::to_string),
        }
    }
}

impl From<annulet::Error> for Failure {
    fn from(error: annulet::Error) -> Self {
        Self::Failed {
            problem: error.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Failed { problem } = self;
        write!(f, "{}: {}", problem.kind, problem.message)
    }
}

impl std::error::Error for Failure {}

/// See [`annulet::Entry`].
#[derive(uniffi::Record)]
pub(crate) struct Entry {
    value: Vec<u8>,
    is_merged: bool,
    /// `None`: the value alone, which need not be sent twice.
    siblings: Option<Vec<Vec<u8>>>,
    context: Vec<u8>,
    version: String,
    expires_at_ms: Option<u64>,
}

/// See [`annulet::Written`].
#[derive(uniffi::Record)]
pub(crate) struct Written {
    version: String,
    superseded: bool,
    context: Option<Vec<u8>>,
    siblings: u64,
}

/// One of several reads.
#[derive(uniffi::Enum)]
pub(crate) enum Read {
    Done { entry: Option<Entry> },
    Failed { problem: Problem },
}

/// One of several writes.
#[derive(uniffi::Enum)]
pub(crate) enum Write {
    Done { written: Written },
    Failed { problem: Problem },
}

/// See [`annulet::ScanEntry`].
#[derive(uniffi::Record)]
pub(crate) struct ScanEntry {
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    version: String,
    expires_at_ms: Option<u64>,
}

/// See [`facade::NumberedPage`].
#[derive(uniffi::Record)]
pub(crate) struct Page {
    number: u64,
    /// `None`: the scan is over.
    entries: Option<Vec<ScanEntry>>,
    cursor: Option<String>,
}

/// See [`facade::BucketPolicy`].
#[derive(uniffi::Record)]
pub(crate) struct BucketPolicy {
    name: String,
    mode: String,
    replicas: u8,
    durability: String,
    read_level: String,
    write_level: String,
    ttl_ms: Option<u64>,
    merge: Option<String>,
}

/// See [`facade::Committed`].
#[derive(uniffi::Enum)]
pub(crate) enum Committed {
    Done { written: Option<Written> },
    Again,
}

/// See [`annulet::Resolved`].
#[derive(uniffi::Enum)]
pub(crate) enum Resolved {
    Applied { version: String },
    NotApplied,
    Forgotten,
}

fn vector(bytes: &Bytes) -> Vec<u8> {
    bytes.to_vec()
}

impl From<annulet::Entry> for Entry {
    fn from(entry: annulet::Entry) -> Self {
        // By name, here and below: what is new there is missed here.
        let annulet::Entry {
            value,
            is_merged,
            siblings,
            context,
            version,
            expires_at_ms,
        } = entry;
        let is_alone = siblings.len() == 1 && siblings.first() == Some(&value);
        Self {
            siblings: (!is_alone).then(|| siblings.iter().map(vector).collect()),
            value: value.into(),
            is_merged,
            context: context.to_bytes().into(),
            version,
            expires_at_ms,
        }
    }
}

impl From<annulet::Written> for Written {
    fn from(written: annulet::Written) -> Self {
        let annulet::Written {
            version,
            superseded,
            context,
            siblings,
        } = written;
        Self {
            version,
            superseded,
            context: context.map(|context| context.to_bytes().into()),
            siblings: siblings as u64,
        }
    }
}

impl From<annulet::Result<Option<annulet::Entry>>> for Read {
    fn from(result: annulet::Result<Option<annulet::Entry>>) -> Self {
        match result {
            Ok(entry) => Self::Done {
                entry: entry.map(Into::into),
            },
            Err(error) => Self::Failed {
                problem: error.into(),
            },
        }
    }
}

impl From<annulet::Result<annulet::Written>> for Write {
    fn from(result: annulet::Result<annulet::Written>) -> Self {
        match result {
            Ok(written) => Self::Done {
                written: written.into(),
            },
            Err(error) => Self::Failed {
                problem: error.into(),
            },
        }
    }
}

impl From<annulet::ScanEntry> for ScanEntry {
    fn from(entry: annulet::ScanEntry) -> Self {
        let annulet::ScanEntry {
            key,
            value,
            version,
            expires_at_ms,
        } = entry;
        Self {
            key: key.into(),
            value: value.map(Into::into),
            version,
            expires_at_ms,
        }
    }
}

impl From<facade::NumberedPage> for Page {
    fn from(numbered: facade::NumberedPage) -> Self {
        let number = numbered.number;
        let Some(page) = numbered.page else {
            return Self {
                number,
                entries: None,
                cursor: None,
            };
        };
        Self {
            number,
            entries: Some(page.entries.into_iter().map(Into::into).collect()),
            cursor: page.cursor,
        }
    }
}

impl From<facade::BucketPolicy> for BucketPolicy {
    fn from(policy: facade::BucketPolicy) -> Self {
        let facade::BucketPolicy {
            name,
            mode,
            replicas,
            durability,
            read_level,
            write_level,
            ttl_ms,
            merge,
        } = policy;
        Self {
            name,
            mode,
            replicas,
            durability,
            read_level,
            write_level,
            ttl_ms,
            merge,
        }
    }
}

impl From<facade::Committed> for Committed {
    fn from(committed: facade::Committed) -> Self {
        match committed {
            facade::Committed::Done(written) => Self::Done {
                written: written.map(Into::into),
            },
            facade::Committed::Again => Self::Again,
        }
    }
}

impl From<annulet::Resolved> for Resolved {
    fn from(resolved: annulet::Resolved) -> Self {
        match resolved {
            annulet::Resolved::Applied { version } => Self::Applied { version },
            annulet::Resolved::NotApplied => Self::NotApplied,
            annulet::Resolved::Forgotten => Self::Forgotten,
        }
    }
}
