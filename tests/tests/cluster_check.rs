//! Conditional writes and reads from several client processes while servers are killed and
//! stopped, and networks are cut in halves: the history of them all is linearizable.
#![cfg(feature = "cluster")]
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use annulet::{Bucket, WriteOptions};
use annulet_history::Outcome;
use annulet_tests::cluster::calls::until;
use annulet_tests::cluster::checks::Checks;
use annulet_tests::cluster::{Cluster, binary};
use std::process::Command;
use std::time::Duration;

/// Waits until so many more writes were acknowledged, of a key that is not in the history.
async fn progress(bucket: &Bucket, writes: usize) {
    let quick = WriteOptions {
        timeout: Some(Duration::from_secs(1)),
        ..WriteOptions::default()
    };
    let mut done = 0;
    until("writes succeed", async || {
        let put = bucket.put_with("progress", "v", &quick).await;
        done += usize::from(put.is_ok());
        done >= writes
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_saw_while_servers_were_killed_and_stopped_is_linearizable() {
    let mut cluster = Cluster::start(3).await;
    let client = cluster.client().await;
    let bucket = client.bucket("strong");
    progress(&bucket, 1).await;
    let commands = (0..3).map(|_| Command::new(binary())).collect();
    let checks = Checks::start(commands, cluster.folder(), 12);
    for node in [0, 1, 2, 0] {
        progress(&bucket, 20).await;
        cluster.kill(node);
        progress(&bucket, 20).await;
        cluster.restart(node).await;
        let stopped = (node + 1) % 3;
        progress(&bucket, 20).await;
        cluster.signal(stopped, "STOP");
        progress(&bucket, 20).await;
        cluster.signal(stopped, "CONT");
    }
    let recorded = checks.ended().await;
    recorded.expect_linearizable();
    let ok = recorded.count(|outcome| matches!(outcome, Outcome::Ok(_)));
    assert!(ok > 500, "{ok} operations are not much of a history");
    client.close().await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_on_both_sides_of_a_cut_saw_is_linearizable() {
    use annulet_tests::cluster::regions::{Outage, Regions};
    // The owners of a key stand on both sides, two of them on one: there is a majority somewhere.
    let Some(regions) = Regions::start_as_one(2, Duration::from_millis(5)).await else {
        return;
    };
    let client = regions.client(0, |_, _| {}).await;
    let bucket = client.bucket("strong");
    let other = regions.client(1, |_, _| {}).await;
    let theirs = other.bucket("strong");
    progress(&bucket, 1).await;
    let commands = [0, 1, 0, 1].map(|region| regions.command(region));
    let checks = Checks::start(commands.into(), regions.cluster.folder(), 14);
    let majority = async || {
        tokio::select! {
            () = progress(&bucket, 20) => {}
            () = progress(&theirs, 20) => {}
        }
    };
    for outage in [Outage::Down, Outage::Silent, Outage::Lossy] {
        majority().await;
        regions.cut(outage);
        majority().await;
        regions.heal(outage);
    }
    let recorded = checks.ended().await;
    recorded.expect_linearizable();
    let ok = recorded.count(|outcome| matches!(outcome, Outcome::Ok(_)));
    let failed = recorded.operations.len() - ok;
    assert!(ok > 200, "{ok} operations are not much of a history");
    assert!(failed > 0, "nobody noticed a cut");
    client.close().await;
    other.close().await;
}
