//! Clusters of real server processes, for tests: TLS, RocksDB, kill -9 and all.
//!
//! # Layout
//! - this file: a cluster as a test sees it; `node`: one server and its process
//! - `growth`: servers that join and take the place of others
//! - [`calls`]: what tests ask for again and again; [`disk`]: small disks; [`load`]: for figures
//! - [`checks`]: client processes whose history is checked
//! - [`relay`]: a network that delays, loses and refuses
//! - [`space`]: networks of their own; [`regions`]: two of them, with servers in both
//! - [`wire`]: raw bytes to a server; [`frames`]: of HTTP/2
//! - [`machine`]: memory and descriptors of processes; [`scene`]: a server under attack

pub mod calls;
pub mod checks;
#[cfg(target_os = "linux")]
pub mod disk;
pub mod frames;
mod growth;
pub mod load;
#[cfg(target_os = "linux")]
pub mod machine;
mod node;
#[cfg(target_os = "linux")]
pub mod regions;
pub mod relay;
#[cfg(target_os = "linux")]
pub mod scene;
#[cfg(target_os = "linux")]
pub mod space;
pub mod wire;

use annulet::{Client, Config, Profile};
use node::Node;
use relay::Relay;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// How long anything here may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How a cluster is set up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Where each server stands; there are as many servers.
    pub places: Vec<Place>,
    /// Whether a relay stands in front of each server: clients and servers know it by the relay's
    /// address, and reach it through the relay only.
    pub relays: bool,
    /// Lines of `[limits]` in the configuration of every server.
    pub limits: String,
    /// Lines of the configuration of every server besides.
    pub settings: String,
}

/// Where a server stands. Empty names are left out of the cluster file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Its zone.
    pub zone: String,
    /// Its region.
    pub region: String,
}

impl Options {
    /// So many servers, each in a zone of its own.
    pub fn servers(count: usize) -> Self {
        let place = |index| Place {
            zone: format!("z{index}"),
            region: String::new(),
        };
        Self {
            places: (0..count).map(place).collect(),
            ..Self::default()
        }
    }
}

/// One cluster. Dropping it ends its processes.
pub struct Cluster {
    // In this order: processes end before their folder goes.
    nodes: Vec<Node>,
    folder: TempDir,
}

/// The id of every test cluster.
pub const CLUSTER: &str = "000102030405060708090a0b0c0d0e0f";

/// Buckets besides `default`, as lines of the cluster file.
pub const BUCKETS: &str = r#"
[[bucket]]
number = 1
name = "default"

[[bucket]]
number = 2
name = "async"
durability = "async"

[[bucket]]
number = 3
name = "single"
replicas = 1

[[bucket]]
number = 4
name = "strong"
mode = "strong"
"#;

impl Cluster {
    /// Starts so many servers and waits until each answers.
    pub async fn start(nodes: usize) -> Self {
        Self::start_with(Options::servers(nodes)).await
    }

    /// Starts servers as set up, and waits until each answers.
    pub async fn start_with(options: Options) -> Self {
        let mut cluster = Self::prepared(options);
        cluster.start_all().await;
        cluster
    }

    /// Servers as set up, none of which has been started yet.
    pub fn prepared(options: Options) -> Self {
        let ports = free_ports(options.places.len());
        let node = |(place, port): (&Place, u16)| {
            let listen = format!("127.0.0.1:{port}");
            let relay = options.relays.then(|| Relay::to(listen.clone()));
            let address = relay.as_ref().map(|relay| relay.address().to_string());
            let address = address.unwrap_or_else(|| listen.clone());
            let mut node = Node::new(place.clone(), listen, address);
            node.relay = relay;
            node
        };
        let nodes = options.places.iter().zip(ports).map(node).collect();
        Self::prepare(nodes, &options)
    }

    /// Starts all servers, and waits until each answers.
    pub async fn start_all(&mut self) {
        for node in 0..self.nodes.len() {
            self.restart(node).await;
        }
    }

    /// Certificates, the cluster file, the servers' configurations, and the profile of a client.
    fn prepare(nodes: Vec<Node>, options: &Options) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cluster = Self { nodes, folder };
        let certs = cluster.folder().join("certs");
        let certs = certs.to_str().expect("a folder with a plain name");
        annulet(&["cert", "ca", "--dir", certs, "--cluster", CLUSTER]);
        annulet(&["cert", "client", "tester", "--dir", certs]);
        for (index, node) in cluster.nodes.iter().enumerate() {
            let name = format!("node-{index}");
            annulet(&["cert", "peer", &name, "--dir", certs, "--host", node.host()]);
            node.write_config(cluster.folder(), index, options);
        }
        cluster.write_cluster_file(1, "");
        let profile = cluster.profile();
        profile
            .save(&cluster.folder().join("profile.toml"))
            .expect("writes a file");
        cluster
    }

    /// Writes the cluster file anew; servers read it when they start.
    pub fn write_cluster_file(&self, epoch: u64, more: &str) {
        let mut file =
            format!("cluster = \"{CLUSTER}\"\nname = \"test\"\nseed = 7\nepoch = {epoch}\n");
        for (index, node) in self.nodes.iter().enumerate() {
            file += &node.member(index);
        }
        file += BUCKETS;
        file += more;
        std::fs::write(self.folder.path().join("cluster.toml"), file).expect("writes a file");
    }

    /// Where a server keeps its data.
    pub fn data(&self, node: usize) -> PathBuf {
        self.folder().join(format!("data-{node}"))
    }

    /// The cluster's folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A client's profile, with every server as a seed.
    pub fn profile(&self) -> Profile {
        let certs = self.folder.path().join("certs");
        Profile {
            seeds: self.nodes.iter().map(|node| node.address.clone()).collect(),
            ca: certs.join("ca.pem"),
            cert: certs.join("tester.pem"),
            key: certs.join("tester.key"),
            zone: None,
            region: None,
            bucket: None,
            level: None,
            timeout_ms: Some(5_000),
            view_cache: None,
        }
    }

    /// A client with the usual settings.
    pub async fn client(&self) -> Client {
        Client::connect(self.profile())
            .await
            .expect("a cluster that answers")
    }

    /// A client with settings of its own.
    pub async fn client_with(&self, change: impl FnOnce(&mut Config)) -> Client {
        let profile = self.profile();
        let mut config = Config::of(&profile);
        change(&mut config);
        Client::connect_with(profile, config)
            .await
            .expect("a cluster that answers")
    }

    /// The profile of somebody who may change buckets and members.
    pub fn admin_profile(&self) -> Profile {
        let certs = self.folder().join("certs");
        if !certs.join("boss.pem").exists() {
            let dir = certs.to_str().expect("a folder with a plain name");
            annulet(&["cert", "admin", "boss", "--dir", dir]);
        }
        Profile {
            cert: certs.join("boss.pem"),
            key: certs.join("boss.key"),
            ..self.profile()
        }
    }

    /// A client that may change buckets and members.
    pub async fn admin(&self) -> Client {
        Client::connect(self.admin_profile())
            .await
            .expect("a cluster that answers")
    }

    /// Starts a server again on the data it left, and waits until it answers.
    pub async fn restart(&mut self, node: usize) {
        let line = self.try_restart(node).await;
        assert!(
            line.starts_with("listening"),
            "node {node} said `{line}`: {}",
            self.log(node)
        );
    }

    /// Starts a server again, and gives the first line that it says: none if it does not start.
    pub async fn try_restart(&mut self, node: usize) -> String {
        let folder = self.folder.path().to_owned();
        self.nodes[node].start(&folder, node).await
    }

    /// The id of a server's process, while it runs.
    pub fn process(&self, node: usize) -> u32 {
        let process = self.nodes[node].process.as_ref();
        process.expect("a running server").id()
    }

    /// What a server has logged.
    pub fn log(&self, node: usize) -> String {
        let path = self.folder.path().join(format!("log-{node}"));
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// Ends a server at once, without a word.
    pub fn kill(&mut self, node: usize) {
        let mut process = self.nodes[node].process.take().expect("a running server");
        process.kill().expect("kills");
        process.wait().expect("ends");
    }

    /// Asks a server to end, waits until it did, and says whether it ended well.
    pub fn stop(&mut self, node: usize) -> bool {
        self.signal(node, "TERM");
        let mut process = self.nodes[node].process.take().expect("a running server");
        process.wait().expect("ends").success()
    }

    /// Waits until a server that does not go on has ended, and gives how.
    pub async fn ended(&mut self, node: usize) -> ExitStatus {
        let mut process = self.nodes[node].process.take().expect("a started server");
        // To wait for a process closes its input, at the end of which it stops.
        let input = process.stdin.take();
        let ends = tokio::task::spawn_blocking(move || process.wait());
        let ended = tokio::time::timeout(PATIENCE, ends).await;
        drop(input);
        let status = ended.expect("ends in time").expect("no panic");
        status.expect("ends")
    }

    /// Sends a server a signal by its name.
    pub fn signal(&self, node: usize, name: &str) {
        let id = self.process(node);
        let done = Command::new("kill")
            .args([&format!("-{name}"), &id.to_string()])
            .status();
        assert!(done.expect("runs kill").success());
    }

    /// The address that clients and servers know a server by.
    pub fn address(&self, node: usize) -> String {
        self.nodes[node].address.clone()
    }

    /// The relay in front of a server.
    pub fn relay(&self, node: usize) -> &Relay {
        let relay = self.nodes[node].relay.as_ref();
        relay.expect("a cluster with relays")
    }
}

/// Runs a command of the program to its end.
pub fn annulet(args: &[&str]) {
    let output = Command::new(binary())
        .args(args)
        .stdin(Stdio::null())
        .output();
    let output = output.expect("runs the program");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "annulet {args:?}: {said}");
}

/// The program, built with the same profile as this test.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("this program has a path");
    let folder = test
        .ancestors()
        .find(|folder| folder.join("annulet").is_file());
    folder
        .expect("annulet is built beside the tests: use `make test-cluster`")
        .join("annulet")
}

/// Ports that nobody listens on: taken all at once, then given back for the servers to take.
#[expect(
    clippy::disallowed_methods,
    reason = "asks the system for ports that are free"
)]
fn free_ports(count: usize) -> Vec<u16> {
    let taken: Vec<_> = (0..count)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("a free port"))
        .collect();
    taken
        .iter()
        .map(|port| port.local_addr().expect("bound").port())
        .collect()
}

/// A plain connection to a server.
#[expect(
    clippy::disallowed_methods,
    reason = "raw bytes need a socket of the test's own"
)]
pub async fn connect_tcp(address: &str) -> tokio::net::TcpStream {
    let connecting = tokio::net::TcpStream::connect(address);
    connecting.await.expect("a server that listens")
}
