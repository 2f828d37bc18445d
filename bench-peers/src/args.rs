//! The command line.

use clap::{Parser, ValueEnum};
use std::path::PathBuf;

/// Loads another store the way `annulet bench` loads Annulet, and prints the same report
#[derive(Parser, Debug)]
#[command(name = "annulet-bench-peers", version)]
pub(crate) struct Args {
    /// The store
    #[arg(long, value_enum)]
    pub(crate) peer: Peer,
    /// Host and port of its servers, with commas between them; connections take turns
    #[arg(long, required = true, value_delimiter = ',', value_name = "ADDR")]
    pub(crate) endpoints: Vec<String>,
    /// Certificate of the authority that vouches for the servers, PEM
    #[arg(long, value_name = "F")]
    pub(crate) ca: PathBuf,
    /// Certificate of this client, PEM
    #[arg(long, value_name = "F", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// The certificate's private key, PEM
    #[arg(long, value_name = "F", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// What callers do
    #[arg(long, value_enum)]
    pub(crate) workload: Workload,
    /// Callers, each with one operation under way
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) concurrency: u16,
    /// Seconds to measure, after the warm-up
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) seconds: u16,
    /// Bytes of each value
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub(crate) value_size: u32,
    /// Keys to choose from
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keys: u32,
    /// The keys are there already
    #[arg(long)]
    pub(crate) no_load: bool,
    /// Connections that the callers share
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) connections: u16,
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// Puts and linearizable gets
    Etcd,
    /// SET and GET at one primary
    Redis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    Get,
    Put,
}

impl Peer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Redis => "redis",
        }
    }

    /// What an operation promises, in the words of the store.
    pub(crate) fn level(self) -> &'static str {
        match self {
            Self::Etcd => "linearizable",
            Self::Redis => "primary",
        }
    }
}

impl Workload {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
        }
    }
}
