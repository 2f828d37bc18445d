//! Several servers of one cluster in one process.

use super::{Authority, CLUSTER, Caller, Running, listener, member, write_files};
use annulet_protocol::ids::NodeId;
use annulet_protocol::view::View;
use annulet_server::cluster_file::ClusterFile;
use annulet_server::{Config, Server, ServerError};
use std::path::PathBuf;
use tempfile::TempDir;
use tokio::net::TcpListener;

/// Servers with the ids 0, 1 and so on. Those that are not started yet have their ports already:
/// who connects waits.
pub(crate) struct Many {
    pub(crate) authority: Authority,
    pub(crate) servers: Vec<Option<Running>>,
    configs: Vec<Config>,
    ports: Vec<Option<TcpListener>>,
    _folder: TempDir,
}

impl Many {
    /// Writes the files of so many servers; `change` changes the configuration of each.
    pub(crate) fn prepare(count: usize, change: impl Fn(Config) -> Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let ports: Vec<_> = (0..count).map(|_| Some(listener())).collect();
        let address = |at: usize| {
            let port = ports[at].as_ref().unwrap().local_addr().unwrap().port();
            format!("localhost:{port}")
        };
        let members: Vec<_> = (0..count)
            .map(|at| member(NodeId(at as u64), &address(at)))
            .collect();
        let config = |at: usize| {
            let own = folder.path().join(at.to_string());
            std::fs::create_dir(&own).unwrap();
            let mut config = write_files(&own, &authority, members.clone());
            config.limits.hello_ms = 20;
            config.advertise = Some(members[at].address.clone());
            // Where it is found again when it is started again.
            config.listen.clone_from(&members[at].address);
            change(config)
        };
        let configs = (0..count).map(config).collect();
        Self {
            authority,
            servers: (0..count).map(|_| None).collect(),
            configs,
            ports,
            _folder: folder,
        }
    }

    /// Starts a server, for the first time or again.
    pub(crate) async fn start(&mut self, at: usize) {
        let config = self.configs[at].clone();
        let server = match self.ports[at].take() {
            Some(port) => Server::with_listener(config, port).await.unwrap(),
            None => Server::bind(config).await.unwrap(),
        };
        self.servers[at] = Some(Running::serve(server));
    }

    /// Starts a server again that may not start.
    pub(crate) async fn try_start(&mut self, at: usize) -> Result<(), ServerError> {
        let server = Server::bind(self.configs[at].clone()).await?;
        self.servers[at] = Some(Running::serve(server));
        Ok(())
    }

    /// Waits until a server ends by itself.
    pub(crate) async fn ended(&mut self, at: usize) -> Result<(), ServerError> {
        self.servers[at].take().unwrap().ended().await
    }

    /// Changes a server's cluster file before it is started.
    pub(crate) fn change_file(&self, at: usize, change: impl FnOnce(&mut ClusterFile)) {
        let path = self.configs[at].cluster.as_deref().unwrap();
        let mut file = ClusterFile::read(path).unwrap();
        change(&mut file);
        file.write(path).unwrap();
    }

    /// Stops a server.
    pub(crate) async fn stop(&mut self, at: usize) {
        let server = self.servers[at].take().unwrap();
        server.stop().await.unwrap();
    }

    /// A connection to a server with this role.
    pub(crate) async fn caller(&self, at: usize, role: &str) -> Caller {
        let identity = self.authority.issue(CLUSTER, role);
        let client = self.authority.client(Some(&identity), b"http/1.1");
        self.servers[at].as_ref().unwrap().caller(client).await
    }

    /// The view that all have.
    pub(crate) fn view(&self) -> View {
        let file = ClusterFile::read(self.configs[0].cluster.as_deref().unwrap()).unwrap();
        file.view().unwrap()
    }

    /// Where a server keeps its records.
    pub(crate) fn store(&self, at: usize) -> PathBuf {
        self.configs[at].data.join("store")
    }
}
