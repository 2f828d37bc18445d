//! The folder of a local cluster: certificates, cluster file, a folder a server, the profile. The
//! profile is written last, so a folder that has one is whole.

use super::ports;
use crate::commands::cert::write_pair;
use crate::failure::Failure;
use crate::files::{self, Access};
use crate::pki::{Authority, Request, Role};
use crate::seeds;
use annulet::Profile;
use annulet_protocol::ids::{ClusterId, NodeId};
use annulet_server::cluster_file::{ClusterFile, MemberEntry};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Where everything of a local cluster is.
pub(super) struct Layout {
    folder: PathBuf,
    cluster: ClusterFile,
    /// Held as long as this program runs, so that no second one takes the same folder.
    _lock: File,
}

/// One server of it.
pub(super) struct Node {
    /// From 1.
    pub(super) number: usize,
    pub(super) address: String,
    pub(super) config: PathBuf,
    pub(super) log: PathBuf,
}

impl Layout {
    /// The cluster of a folder: the one that is there, or a new one.
    pub(super) fn prepare(
        folder: &Path,
        nodes: Option<usize>,
        port: Option<u16>,
    ) -> Result<Self, Failure> {
        files::ensure_folder(folder)?;
        let folder =
            std::path::absolute(folder).map_err(|error| Failure::unwritable(folder, &error))?;
        let lock = lock(&folder)?;
        let profile = folder.join(PROFILE);
        let cluster = if profile.exists() {
            existing(&folder, nodes)?
        } else {
            create(&folder, nodes.unwrap_or(DEFAULT_NODES))?
        };
        let mut layout = Self {
            folder,
            cluster,
            _lock: lock,
        };
        layout.take_ports(port)?;
        Ok(layout)
    }

    pub(super) fn profile(&self) -> PathBuf {
        self.folder.join(PROFILE)
    }

    pub(super) fn nodes(&self) -> Vec<Node> {
        let nodes = self.cluster.members.iter().zip(1..);
        nodes
            .map(|(member, number)| {
                let folder = self.folder.join(format!("node-{number}"));
                Node {
                    number,
                    address: member.address.clone(),
                    config: folder.join("server.toml"),
                    log: folder.join("server.log"),
                }
            })
            .collect()
    }

    /// Gives the servers addresses that are free now: those they had if they may keep them.
    /// Another program can still be faster; then take them again.
    pub(super) fn take_ports(&mut self, port: Option<u16>) -> Result<(), Failure> {
        let had: Vec<u16> = self.cluster.members.iter().map(port_of).collect();
        let chosen = ports::choose(port, &had)?;
        if chosen == had {
            return Ok(());
        }
        for (member, port) in self.cluster.members.iter_mut().zip(&chosen) {
            member.address = format!("{HOST}:{port}");
        }
        // The first epoch is 1; later ones are the servers' own, which take addresses from this
        // file whatever they are.
        self.cluster.epoch = self.cluster.epoch.max(1);
        self.write_addresses()
    }

    fn write_addresses(&self) -> Result<(), Failure> {
        self.cluster
            .write(&self.folder.join(CLUSTER))
            .map_err(Failure::failed)?;
        for node in self.nodes() {
            if let Some(folder) = node.config.parent() {
                files::ensure_folder(folder)?;
            }
            let text = server_config(&node);
            files::write_new(&node.config, &text, Access::Public, true)?;
        }
        let profile = Profile {
            seeds: self
                .cluster
                .members
                .iter()
                .map(|member| member.address.clone())
                .collect(),
            ca: "certs/ca.pem".into(),
            cert: format!("certs/{ADMIN}.pem").into(),
            key: format!("certs/{ADMIN}.key").into(),
            zone: None,
            region: None,
            bucket: None,
            level: None,
            timeout_ms: None,
            view_cache: None,
        };
        Ok(profile.save(&self.profile())?)
    }
}

fn lock(folder: &Path) -> Result<File, Failure> {
    let path = folder.join("lock");
    let file = File::create(&path).map_err(|error| Failure::unwritable(&path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Failure::failed(format!(
            "another `annulet dev` uses {}",
            folder.display()
        ))
        .advise("use that one, stop it, or choose another --dir, with --port 0")),
        Err(std::fs::TryLockError::Error(error)) => Err(Failure::unwritable(&path, &error)),
    }
}

/// The cluster file of a folder that is whole.
fn existing(folder: &Path, nodes: Option<usize>) -> Result<ClusterFile, Failure> {
    let path = folder.join(CLUSTER);
    if !path.exists() {
        return Err(Failure::usage(format!(
            "{} has a profile, but no cluster that `annulet dev` made",
            folder.display()
        ))
        .advise("choose another --dir"));
    }
    let cluster = ClusterFile::read(&path).map_err(Failure::usage)?;
    match nodes {
        Some(nodes) if nodes != cluster.members.len() => Err(Failure::usage(format!(
            "{} holds a cluster of {} servers, not {nodes}",
            folder.display(),
            cluster.members.len()
        ))
        .advise("leave out --nodes, or choose another --dir")),
        _ => Ok(cluster),
    }
}

/// A new cluster whose servers have no addresses yet.
fn create(folder: &Path, nodes: usize) -> Result<ClusterFile, Failure> {
    let id = ClusterId(seeds::draw()?);
    let certs = folder.join("certs");
    let (authority, issued) = Authority::create(id, DAYS)?;
    // What an earlier start left unfinished is of no use to anyone.
    write_pair(&certs, "ca", &issued, true)?;
    let hosts = [HOST, "localhost", "::1"].map(str::to_owned);
    let names = (1..=nodes).map(|number| (format!("node-{number}"), Role::Peer, &hosts[..]));
    for (name, role, hosts) in names.chain([(ADMIN.to_owned(), Role::Admin, &[][..])]) {
        let issued = authority.issue(&Request {
            role,
            name: &name,
            hosts,
            days: DAYS,
        })?;
        write_pair(&certs, &name, &issued, true)?;
    }
    // Keys are in here: no repository should take them in by mistake.
    files::write_new(&folder.join(".gitignore"), "*\n", Access::Public, true)?;
    let members = (0..nodes).map(|_| {
        Ok(MemberEntry {
            id: NodeId(u64::from_le_bytes(seeds::draw()?)),
            address: format!("{HOST}:0"),
            capacity: 1,
            zone: String::new(),
            region: String::new(),
        })
    });
    let members = members.collect::<Result<_, Failure>>()?;
    let mut cluster = ClusterFile::new(id, "dev", members);
    cluster.seed = u64::from_le_bytes(seeds::draw()?) >> 1;
    cluster.epoch = 0;
    Ok(cluster)
}

fn server_config(node: &Node) -> String {
    let Node {
        number, address, ..
    } = node;
    format!(
        "# Made by `annulet dev`, and made anew when the address changes.\n\
         data = \"data\"\n\
         listen = \"{address}\"\n\
         cluster = \"../{CLUSTER}\"\n\
         ca = \"../certs/ca.pem\"\n\
         cert = \"../certs/node-{number}.pem\"\n\
         key = \"../certs/node-{number}.key\"\n"
    )
}

fn port_of(member: &MemberEntry) -> u16 {
    let port = member
        .address
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok());
    port.unwrap_or(0)
}

const HOST: &str = "127.0.0.1";
const ADMIN: &str = "admin";
const CLUSTER: &str = "cluster.toml";
const PROFILE: &str = "profile.toml";
const DEFAULT_NODES: usize = 3;
/// Ten years: a local cluster should not end by a certificate.
const DAYS: u32 = 3650;
