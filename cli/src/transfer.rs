//! What import and export share: the formats, how a record stands in a file, and how far they are.

pub(crate) mod record;
pub(crate) mod state;

use clap::ValueEnum;
use std::path::Path;

/// How keys and values are kept outside of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Comma-separated, the first line names the columns
    Csv,
    /// One JSON object a line
    Jsonl,
    /// A file for each key, and a folder wherever a key has a slash
    Folder,
}

impl Format {
    /// The format of a file whose name ends so.
    pub(crate) fn of_name(path: &Path) -> Option<Self> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        match extension.unwrap_or_default().to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "jsonl" | "ndjson" => Some(Self::Jsonl),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
            Self::Folder => "folder",
        }
    }
}

/// Most problems that are told one by one: what is broken all over need not say so a million times.
pub(crate) const PROBLEMS_SHOWN: usize = 100;
