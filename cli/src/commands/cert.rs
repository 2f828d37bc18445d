//! `annulet cert`: the cluster's authority and the certificates it issues, as files.

use crate::args::Common;
use crate::failure::{Exit, Failure};
use crate::files::{self, Access};
use crate::output;
use crate::pki::{Authority, Issued, Request, Role};
use crate::seeds;
use annulet_protocol::ids::ClusterId;
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Certificates of a cluster
#[derive(Subcommand, Debug)]
pub(crate) enum CertCommand {
    /// Make the cluster's authority: ca.pem, and ca.key, which stays with whoever issues
    Ca(CaArgs),
    /// Make a server's certificate
    Peer(PeerArgs),
    /// Make a certificate that may change the ring and the buckets
    Admin(LeafArgs),
    /// Make a certificate that may read and write data
    Client(LeafArgs),
}

/// Where the files go.
#[derive(Args, Debug)]
struct Files {
    /// Folder of the authority and of the certificates it issues
    #[arg(long, default_value = "certs", value_name = "DIR")]
    dir: PathBuf,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct CaArgs {
    #[command(flatten)]
    files: Files,
    /// Id of the cluster, 32 hexadecimal digits; a new one is drawn if it is not given
    #[arg(long, value_name = "ID")]
    cluster: Option<ClusterId>,
    /// Days until it ends
    #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
}

#[derive(Args, Debug)]
pub(crate) struct PeerArgs {
    #[command(flatten)]
    leaf: LeafArgs,
    /// Host name or IP address that the server is reached by; repeat it for more
    #[arg(long = "host", required = true, value_name = "HOST")]
    hosts: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct LeafArgs {
    /// Name of the holder, and of the files: NAME.pem and NAME.key
    name: String,
    #[command(flatten)]
    files: Files,
    /// Days until it ends
    #[arg(long, default_value_t = 825, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
}

pub(crate) fn run(command: &CertCommand, common: &Common) -> Result<Exit, Failure> {
    match command {
        CertCommand::Ca(args) => authority(args, common),
        CertCommand::Peer(args) => leaf(&args.leaf, Role::Peer, &args.hosts, common),
        CertCommand::Admin(args) => leaf(args, Role::Admin, &[], common),
        CertCommand::Client(args) => leaf(args, Role::Client, &[], common),
    }
}

fn authority(args: &CaArgs, common: &Common) -> Result<Exit, Failure> {
    let cluster = match args.cluster {
        Some(cluster) => cluster,
        None => ClusterId(seeds::draw()?),
    };
    let (_, issued) = Authority::create(cluster, args.days)?;
    let written = write_pair(&args.files.dir, "ca", &issued, args.files.force)?;
    report(&cluster.to_string(), "ca", "ca", &written, common)
}

fn leaf(args: &LeafArgs, role: Role, hosts: &[String], common: &Common) -> Result<Exit, Failure> {
    let Files { dir, force } = &args.files;
    if args.name == "ca" {
        return Err(Failure::usage(
            "`ca` is the authority's own name; choose another",
        ));
    }
    let authority = load_authority(dir)?;
    let issued = authority.issue(&Request {
        role,
        name: &args.name,
        hosts,
        days: args.days,
    })?;
    let written = write_pair(dir, &args.name, &issued, *force)?;
    let cluster = authority.cluster().to_string();
    report(&cluster, &role.to_string(), &args.name, &written, common)
}

/// The authority whose files are in this folder.
pub(crate) fn load_authority(dir: &Path) -> Result<Authority, Failure> {
    let read = |name: &str| {
        files::read_text(&dir.join(name)).map_err(|failure| {
            failure.advise("make the authority first with `annulet cert ca`, or name its --dir")
        })
    };
    Authority::load(&read("ca.pem")?, &read("ca.key")?)
}

/// Where a certificate and its key were written.
pub(crate) struct Pair {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// Writes NAME.pem and NAME.key, the key for its owner only.
pub(crate) fn write_pair(
    dir: &Path,
    name: &str,
    issued: &Issued,
    force: bool,
) -> Result<Pair, Failure> {
    let pair = Pair {
        certificate: dir.join(format!("{name}.pem")),
        key: dir.join(format!("{name}.key")),
    };
    files::ensure_folder(dir)?;
    if !force {
        files::refuse_existing(&[&pair.certificate, &pair.key])?;
    }
    files::write_new(&pair.key, &issued.key, Access::Private, force)?;
    files::write_new(
        &pair.certificate,
        &issued.certificate,
        Access::Public,
        force,
    )?;
    Ok(pair)
}

fn report(
    cluster: &str,
    role: &str,
    name: &str,
    written: &Pair,
    common: &Common,
) -> Result<Exit, Failure> {
    if common.json {
        output::json(&json!({
            "cluster": cluster,
            "role": role,
            "name": name,
            "certificate": written.certificate,
            "key": written.key,
        }))?;
    } else {
        output::line(&format!(
            "{role} of cluster {cluster}: {} and {}",
            written.certificate.display(),
            written.key.display()
        ))?;
    }
    Ok(Exit::Done)
}
