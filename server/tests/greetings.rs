//! Servers greet each other beside their work.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

mod support;

use annulet_server::cluster_file::ClusterFile;
use support::many::Many;
use support::{Caller, eventually};

/// Three servers; the last one's cluster file is changed.
async fn three(change_last: impl Fn(&mut ClusterFile)) -> Many {
    let mut cluster = Many::prepare(3, |config| config);
    cluster.change_file(2, change_last);
    for at in 0..3 {
        cluster.start(at).await;
    }
    cluster
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
async fn settles(cluster: &Many, name: &str, expected: [i64; 3]) {
    for (at, expected) in expected.into_iter().enumerate() {
        let caller = tokio::sync::Mutex::new(cluster.caller(at, "client").await);
        eventually(async || metric(&mut *caller.lock().await, name).await == expected).await;
    }
}

#[tokio::test]
async fn servers_hear_of_each_other_and_agree() {
    let mut cluster = three(|_| {}).await;
    settles(&cluster, "annulet_peers_heard", [2, 2, 2]).await;
    settles(&cluster, "annulet_peers_disagreeing", [0, 0, 0]).await;
    settles(&cluster, "annulet_clock_trusted", [1, 1, 1]).await;
    for at in 0..3 {
        cluster.stop(at).await;
    }
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
