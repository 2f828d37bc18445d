//! Clusters of real server processes, for tests: TLS, RocksDB, kill -9 and all.

pub mod relay;

use annulet::{Client, Config, Profile};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// How long anything here may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// One cluster. Dropping it ends its processes.
pub struct Cluster {
    folder: TempDir,
    nodes: Vec<Node>,
}

struct Node {
    port: u16,
    process: Option<Child>,
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
"#;

impl Cluster {
    /// Starts so many servers and waits until each answers.
    pub async fn start(nodes: usize) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let nodes = free_ports(nodes).into_iter().map(|port| Node {
            port,
            process: None,
        });
        let mut cluster = Self {
            folder,
            nodes: nodes.collect(),
        };
        cluster.prepare();
        for node in 0..cluster.nodes.len() {
            cluster.restart(node).await;
        }
        cluster
    }

    /// Certificates, the cluster file, and the profile of a client.
    fn prepare(&self) {
        let certs = self.folder.path().join("certs");
        let certs = certs.to_str().expect("a folder with a plain name");
        annulet(&["cert", "ca", "--dir", certs, "--cluster", CLUSTER]);
        annulet(&["cert", "client", "tester", "--dir", certs]);
        for index in 0..self.nodes.len() {
            let name = format!("node-{index}");
            annulet(&["cert", "peer", &name, "--dir", certs, "--host", "127.0.0.1"]);
        }
        self.write_cluster_file(1, "");
        self.profile()
            .save(&self.folder.path().join("profile.toml"))
            .expect("writes a file");
    }

    /// Writes the cluster file anew; servers read it when they start.
    pub fn write_cluster_file(&self, epoch: u64, more: &str) {
        let mut file =
            format!("cluster = \"{CLUSTER}\"\nname = \"test\"\nseed = 7\nepoch = {epoch}\n");
        for (index, node) in self.nodes.iter().enumerate() {
            file += &format!(
                "[[member]]\nid = \"{:016x}\"\naddress = \"127.0.0.1:{}\"\nzone = \"z{index}\"\n",
                index + 1,
                node.port
            );
        }
        file += BUCKETS;
        file += more;
        std::fs::write(self.folder.path().join("cluster.toml"), file).expect("writes a file");
    }

    /// The cluster's folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A client's profile, with every server as a seed.
    pub fn profile(&self) -> Profile {
        let certs = self.folder.path().join("certs");
        Profile {
            seeds: self
                .nodes
                .iter()
                .map(|node| format!("127.0.0.1:{}", node.port))
                .collect(),
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

    /// Starts a server again on the data it left, and waits until it answers.
    pub async fn restart(&mut self, node: usize) {
        let certs = self.folder.path().join("certs");
        let path = |name: &str| certs.join(name).to_str().expect("a plain name").to_owned();
        let data = self.folder.path().join(format!("data-{node}"));
        let address = format!("127.0.0.1:{}", self.nodes[node].port);
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join(format!("log-{node}")))
            .expect("opens a log");
        let mut process = Command::new(binary())
            .args(["serve", "--data", data.to_str().expect("a plain name")])
            .args(["--listen", &address])
            .args([
                "--cluster",
                self.folder
                    .path()
                    .join("cluster.toml")
                    .to_str()
                    .expect("plain"),
            ])
            .args([
                "--ca",
                &path("ca.pem"),
                "--cert",
                &path(&format!("node-{node}.pem")),
            ])
            .args([
                "--key",
                &path(&format!("node-{node}.key")),
                "--exit-with-stdin",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("starts a server");
        let stdout = process.stdout.take().expect("a pipe");
        let (said, first) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(stdout).read_line(&mut line);
            let _ = said.send(line);
        });
        self.nodes[node].process = Some(process);
        let line = tokio::time::timeout(PATIENCE, first)
            .await
            .expect("starts in time");
        let line = line.expect("a line");
        assert!(
            line.starts_with("listening"),
            "node {node} said `{line}`: {}",
            self.log(node)
        );
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

    /// Sends a server a signal by its name.
    pub fn signal(&self, node: usize, name: &str) {
        let id = self.process(node);
        let done = Command::new("kill")
            .args([&format!("-{name}"), &id.to_string()])
            .status();
        assert!(done.expect("runs kill").success());
    }

    /// A server's address.
    pub fn address(&self, node: usize) -> String {
        format!("127.0.0.1:{}", self.nodes[node].port)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut process) = node.process.take() {
                let _ = process.kill();
                let _ = process.wait();
            }
        }
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
