//! The command line.

use crate::commands::bench::BenchArgs;
use crate::commands::bucket::BucketCommand;
use crate::commands::cert::CertCommand;
use crate::commands::check::CheckArgs;
use crate::commands::cluster::ClusterCommand;
use crate::commands::data::{CasArgs, DeleteArgs, ExistsArgs, GetArgs, PutArgs, TouchArgs};
use crate::commands::dev::DevArgs;
use crate::commands::export::ExportArgs;
use crate::commands::import::ImportArgs;
use crate::commands::many::{MgetArgs, MputArgs};
use crate::commands::node::NodeCommand;
use crate::commands::scan::ScanArgs;
use crate::commands::serve::ServeArgs;
use crate::units;
use annulet::Level;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// A distributed key-value store: thin servers, smart clients
#[derive(Parser, Debug)]
#[command(name = "annulet", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct Common {
    /// The cluster and who you are there; else $ANNULET_PROFILE, else .annulet/profile.toml here
    /// or in a parent folder, else annulet/profile.toml in your configuration folder
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) profile: Option<PathBuf>,
    /// Print results, and errors, as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// What every command on data takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct Target {
    /// Bucket; else the profile's, else `default`
    #[arg(long, value_name = "NAME")]
    pub(crate) bucket: Option<String>,
    /// one, quorum, all, local_quorum, each_quorum, available, or as r=1,w=3; else the profile's,
    /// else the bucket's
    #[arg(long, value_name = "LEVEL")]
    pub(crate) level: Option<Level>,
    /// How long an operation may take: 500ms, 90s, a bare number is seconds
    #[arg(long, value_name = "D", value_parser = units::duration)]
    pub(crate) timeout: Option<Duration>,
}

/// What every command on a single key takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct Single {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Go on from the session in this file, and keep it there: nothing older is shown than what its
    /// earlier commands wrote or saw. The file is made if it is not there
    #[arg(long, value_name = "FILE")]
    pub(crate) session: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Start a local cluster, with certificates and a profile
    Dev(DevArgs),
    /// Run one server
    Serve(ServeArgs),
    /// Store a value
    Put(PutArgs),
    /// Print a value: its bytes and nothing else
    Get(GetArgs),
    /// Delete a value
    Delete(DeleteArgs),
    /// Store a value only if the key has none, or still the version that was read; strong buckets
    Cas(CasArgs),
    /// Say whether a key has a value
    Exists(ExistsArgs),
    /// Give a value a new time to live, without storing it again
    Touch(TouchArgs),
    /// Print the values of many keys
    Mget(MgetArgs),
    /// Store many values
    Mput(MputArgs),
    /// Print what is in a bucket
    Scan(ScanArgs),
    /// Store the rows of a file, or the files of a folder
    Import(ImportArgs),
    /// Write all that is in a bucket into a file or a folder
    Export(ExportArgs),
    /// Make certificates
    #[command(subcommand)]
    Cert(CertCommand),
    /// Look at the cluster
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Let servers leave, or own more or less
    #[command(subcommand)]
    Node(NodeCommand),
    /// Look at buckets, make, change and delete them
    #[command(subcommand)]
    Bucket(BucketCommand),
    /// Measure throughput and latency
    Bench(BenchArgs),
    /// Test a strong bucket: record a load, and check that one order explains all answers
    Check(CheckArgs),
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 not found or condition not met, 2 bad usage (a key \
    or value over a limit among it), 3 failed.";
