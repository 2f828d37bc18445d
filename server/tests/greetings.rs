//! Servers greet each other beside their work.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

mod support;

use annulet_protocol::ids::NodeId;
use annulet_server::cluster_file::ClusterFile;
use annulet_server::{Config, Server};
use support::{Authority, CLUSTER, Caller, Running, eventually, member, write_files};

const HTTP1: &[u8] = b"http/1.1";

struct Three {
    folder: tempfile::TempDir,
    authority: Authority,
    servers: Vec<Running>,
}

/// Three servers; the last one's cluster file is changed.
async fn three(change_last: impl Fn(&mut ClusterFile)) -> Three {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let listeners: Vec<_> = (0..3).map(|_| support::listener()).collect();
    let address = |at: usize| format!("localhost:{}", listeners[at].local_addr().unwrap().port());
    let members: Vec<_> = (0..3)
        .map(|at| member(NodeId(at as u64), &address(at)))
        .collect();
    let addresses: Vec<_> = members
        .iter()
        .map(|member| member.address.clone())
        .collect();
    let mut servers = Vec::new();
    for (at, listener) in listeners.into_iter().enumerate() {
        let own = folder.path().join(at.to_string());
        std::fs::create_dir(&own).unwrap();
        let mut config = write_files(&own, &authority, members.clone());
        if at == 2 {
            let mut file = ClusterFile::read(&config.cluster).unwrap();
            change_last(&mut file);
            file.write(&config.cluster).unwrap();
        }
        config.limits.hello_ms = 20;
        let config = Config {
            advertise: Some(addresses[at].clone()),
            ..config
        };
        servers.push(Running::serve(
            Server::with_listener(config, listener).await.unwrap(),
        ));
    }
    Three {
        folder,
        authority,
        servers,
    }
}

async fn metric(caller: &mut Caller, name: &str) -> i64 {
    let text = caller.get("/metrics").await.body;
    let text = String::from_utf8(text.to_vec()).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value
        .expect("every metric is there from the start")
        .trim()
        .parse()
        .unwrap()
}

/// Waits until each server's metric is as expected.
async fn settles(cluster: &Three, name: &str, expected: [i64; 3]) {
    let identity = cluster.authority.issue(CLUSTER, "client");
    for (server, expected) in cluster.servers.iter().zip(expected) {
        let client = cluster.authority.client(Some(&identity), HTTP1);
        let caller = tokio::sync::Mutex::new(server.caller(client).await);
        eventually(async || metric(&mut *caller.lock().await, name).await == expected).await;
    }
}

#[tokio::test]
async fn servers_hear_of_each_other_and_agree() {
    let cluster = three(|_| {}).await;
    settles(&cluster, "annulet_peers_heard", [2, 2, 2]).await;
    settles(&cluster, "annulet_peers_disagreeing", [0, 0, 0]).await;
    settles(&cluster, "annulet_clock_trusted", [1, 1, 1]).await;
    for server in cluster.servers {
        server.stop().await.unwrap();
    }
    assert!(cluster.folder.path().exists());
}

#[tokio::test]
async fn another_cluster_file_of_the_same_epoch_is_noticed_by_all() {
    let cluster = three(|file| file.name = "other".into()).await;
    settles(&cluster, "annulet_peers_disagreeing", [1, 1, 2]).await;
}

#[tokio::test]
async fn another_epoch_is_no_disagreement() {
    let cluster = three(|file| file.epoch = 2).await;
    settles(&cluster, "annulet_peers_heard", [2, 2, 2]).await;
    settles(&cluster, "annulet_peers_disagreeing", [0, 0, 0]).await;
}
