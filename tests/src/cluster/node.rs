//! One server of a cluster, and its process.

use super::relay::Relay;
use super::{Options, PATIENCE, Place, binary};
use std::fmt::Write;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// One server. Dropping it ends its process.
pub(super) struct Node {
    pub(super) place: Place,
    /// Where it listens.
    pub(super) listen: String,
    /// Where clients and servers find it.
    pub(super) address: String,
    /// What stands in between.
    pub(super) relay: Option<Relay>,
    /// How it finds its cluster, as a line of its configuration: by the cluster file, unless it is
    /// one of a cluster that grows.
    pub(super) membership: String,
    /// The command that starts it in another network.
    enter: Vec<String>,
    pub(super) process: Option<Child>,
}

impl Node {
    /// A server that is not started yet.
    pub(super) fn new(place: Place, listen: String, address: String) -> Self {
        Self {
            place,
            listen,
            address,
            relay: None,
            membership: "cluster = \"cluster.toml\"".to_owned(),
            enter: Vec::new(),
            process: None,
        }
    }

    /// The same server, in the network namespace of this name.
    #[cfg(target_os = "linux")]
    pub(super) fn inside(mut self, space: &str) -> Self {
        self.enter = ["ip", "netns", "exec", space].map(Into::into).into();
        self
    }

    /// A command that runs the program where this server is.
    pub(super) fn command(&self) -> Command {
        match self.enter.split_first() {
            None => Command::new(binary()),
            Some((program, args)) => {
                let mut command = Command::new(program);
                command.args(args).arg(binary());
                command
            }
        }
    }

    /// The host that its certificate must name.
    pub(super) fn host(&self) -> &str {
        let (host, _) = self.address.rsplit_once(':').expect("an address");
        host
    }

    /// Its entry in the cluster file.
    pub(super) fn member(&self, index: usize) -> String {
        let Place { zone, region } = &self.place;
        let (id, address) = (index + 1, &self.address);
        let mut entry = format!("[[member]]\nid = \"{id:016x}\"\naddress = \"{address}\"\n");
        for (name, value) in [("zone", zone), ("region", region)] {
            if !value.is_empty() {
                // Writing to memory cannot fail.
                let _ = writeln!(entry, "{name} = \"{value}\"");
            }
        }
        entry
    }

    /// Writes the configuration that it starts with.
    pub(super) fn write_config(&self, folder: &Path, index: usize, options: &Options) {
        let Self {
            listen,
            address,
            membership,
            ..
        } = self;
        let Options {
            limits, settings, ..
        } = options;
        let text = format!(
            "data = \"data-{index}\"\n\
             listen = \"{listen}\"\n\
             advertise = \"{address}\"\n\
             {membership}\n\
             ca = \"certs/ca.pem\"\n\
             cert = \"certs/node-{index}.pem\"\n\
             key = \"certs/node-{index}.key\"\n\
             {settings}\n[limits]\n{limits}\n"
        );
        std::fs::write(folder.join(config(index)), text).expect("writes a file");
    }

    /// Starts its process, and gives the first line that it says.
    pub(super) async fn start(&mut self, folder: &Path, index: usize) -> String {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(folder.join(format!("log-{index}")))
            .expect("opens a log");
        let mut process = self
            .command()
            .args(["serve", "--exit-with-stdin", "--config"])
            .arg(folder.join(config(index)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("starts a server");
        let stdout = process.stdout.take().expect("a pipe");
        self.process = Some(process);
        let (said, first) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(stdout).read_line(&mut line);
            let _ = said.send(line);
        });
        let line = tokio::time::timeout(PATIENCE, first)
            .await
            .expect("starts in time");
        line.expect("a line")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn config(index: usize) -> String {
    format!("server-{index}.toml")
}
