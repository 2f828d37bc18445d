//! `annulet serve`: one server, until it is asked to stop.

use crate::failure::{Exit, Failure};
use crate::signals::StopSignals;
use crate::{output, units};
use annulet::NodeId;
use annulet_server::{Config, Server, ServerError, TlsFiles};
use clap::{Args, ValueEnum};
use std::io::Read;
use std::path::PathBuf;
use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;

#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    /// Take the settings from a TOML file instead of flags
    #[arg(long, value_name = "FILE", conflicts_with_all = SETTINGS)]
    config: Option<PathBuf>,
    /// Folder of this server's data
    #[arg(long, value_name = "DIR", required_unless_present = "config")]
    data: Option<PathBuf>,
    /// Host and port to listen on
    #[arg(long, value_name = "ADDR", required_unless_present = "config")]
    listen: Option<String>,
    /// Host and port that clients and servers connect to, if it is another
    #[arg(long, value_name = "ADDR")]
    advertise: Option<String>,
    /// Be a member of a fixed list of members and buckets, the same on every server
    #[arg(long, value_name = "FILE", group = "membership")]
    cluster: Option<PathBuf>,
    /// Join the cluster of a server that runs at this address; several are asked in turn. With data
    /// of its own, the server is a member already and goes on
    #[arg(long, value_name = "ADDR", value_delimiter = ',', group = "membership")]
    join: Vec<String>,
    /// Begin a cluster, of which this is the first server, in the cluster that the certificate
    /// names. With data of its own, the server goes on. Only ever for one server of a cluster
    #[arg(long, group = "membership")]
    bootstrap: bool,
    /// Take the place of this member, which leaves: it is to be taken out of service, or its data
    /// is lost
    #[arg(long, value_name = "ID", requires = "join")]
    replace: Option<NodeId>,
    /// Share of the data, relative to the others', when it joins [default: 1]
    #[arg(long, value_name = "N", conflicts_with = "cluster",
        value_parser = clap::value_parser!(u32).range(1..))]
    capacity: Option<u32>,
    /// What fails together with it, as a rack, when it joins
    #[arg(long, value_name = "Z", conflicts_with = "cluster")]
    zone: Option<String>,
    /// Its datacentre, when it joins
    #[arg(long, value_name = "R", conflicts_with = "cluster")]
    region: Option<String>,
    /// Memory for blocks of stored data, as 512MiB
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    cache: Option<usize>,
    /// Certificate of the cluster's authority, PEM
    #[arg(long, value_name = "F", required_unless_present = "config")]
    ca: Option<PathBuf>,
    /// This server's certificate, PEM
    #[arg(long, value_name = "F", required_unless_present = "config")]
    cert: Option<PathBuf>,
    /// The certificate's private key, PEM
    #[arg(long, value_name = "F", required_unless_present = "config")]
    key: Option<PathBuf>,
    /// How the log on standard error is written
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// What is logged: a level, or a filter as `info,annulet_server=debug`
    #[arg(long, env = "RUST_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
    /// Stop when standard input ends: a parent that dies takes this server with it
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

pub(crate) async fn run(args: ServeArgs) -> Result<Exit, Failure> {
    start_log(&args)?;
    annulet_server::raise_open_files();
    let mut signals = StopSignals::catch()?;
    let orphaned = args.exit_with_stdin.then(end_of_input).transpose()?;
    let config = config(args)?;
    let advertised = config.advertised().to_owned();
    let server = Server::bind(config)
        .await
        .map_err(|error| refused(&error))?;
    let node = server.node();
    let shutdown = async move {
        let why = tokio::select! {
            signal = signals.next() => signal,
            () = at_end_of(orphaned) => "the end of standard input",
        };
        tracing::info!("stopping at {why}");
    };
    output::line(&format!("listening address={advertised} node={node}"))?;
    server
        .run(shutdown)
        .await
        .map_err(|error| refused(&error))?;
    Ok(Exit::Done)
}

fn config(args: ServeArgs) -> Result<Config, Failure> {
    if let Some(path) = &args.config {
        return Config::read(path).map_err(Failure::usage);
    }
    let (Some(data), Some(listen)) = (args.data, args.listen) else {
        return Err(Failure::usage("--data and --listen are needed"));
    };
    let (Some(ca), Some(cert), Some(key)) = (args.ca, args.cert, args.key) else {
        return Err(Failure::usage("--ca, --cert and --key are needed"));
    };
    if args.cluster.is_none() && args.join.is_empty() && !args.bootstrap {
        return Err(Failure::usage(
            "one of --join ADDR, --bootstrap and --cluster FILE is needed",
        ));
    }
    let mut config = Config::new(data, listen, TlsFiles { ca, cert, key });
    config.advertise = args.advertise;
    config.cluster = args.cluster;
    config.join = args.join;
    config.bootstrap = args.bootstrap;
    config.replace = args.replace;
    config.capacity = args.capacity.unwrap_or(config.capacity);
    config.zone = args.zone.unwrap_or_default();
    config.region = args.region.unwrap_or_default();
    if let Some(bytes) = args.cache {
        config.cache_bytes = bytes;
    }
    config.validate().map_err(Failure::usage)?;
    Ok(config)
}

fn start_log(args: &ServeArgs) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&args.log)
        .map_err(|error| Failure::usage(format!("--log {}: {error}", args.log)))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

/// Resolves when standard input ends. A thread of its own waits for that, since it blocks; the
/// process ends without it.
fn end_of_input() -> Result<oneshot::Receiver<()>, Failure> {
    let (ended, end) = oneshot::channel();
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            let mut ignored = [0; 64];
            let mut input = std::io::stdin().lock();
            while input.read(&mut ignored).is_ok_and(|read| read > 0) {}
            // Nobody waits any more if the server is stopping already.
            ended.send(()).ok();
        })
        .map_err(|error| Failure::failed(format!("cannot start a thread: {error}")))?;
    Ok(end)
}

async fn at_end_of(input: Option<oneshot::Receiver<()>>) {
    match input {
        Some(end) => {
            end.await.ok();
        }
        None => std::future::pending().await,
    }
}

/// What is wrong with the settings is bad usage, the rest is a failure.
fn refused(error: &ServerError) -> Failure {
    match error {
        ServerError::Config(_)
        | ServerError::ClusterFile(_)
        | ServerError::NotAMember { .. }
        | ServerError::Refused(_)
        | ServerError::Tls(_) => Failure::usage(error.to_string()),
        _ => Failure::failed(error.to_string()),
    }
}

const SETTINGS: [&str; 14] = [
    "data",
    "listen",
    "advertise",
    "cluster",
    "join",
    "bootstrap",
    "replace",
    "capacity",
    "zone",
    "region",
    "cache",
    "ca",
    "cert",
    "key",
];
