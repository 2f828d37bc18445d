//! Sessions over real server processes: what somebody has written or seen does not go away.
#![cfg(feature = "cluster")]
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use annulet::{Bucket, ErrorKind, Level, WriteOptions};
use annulet_tests::cluster::calls::{read_at, until};
use annulet_tests::cluster::relay::Passage;
use annulet_tests::cluster::{Cluster, Options};
use std::time::Duration;

const KEYS: usize = 20;

fn relayed() -> Options {
    Options {
        relays: true,
        ..Options::servers(3)
    }
}

fn keys() -> impl Iterator<Item = String> {
    (0..KEYS).map(|number| format!("key {number}"))
}

/// Puts a value under every key at level `one`; no retry goes on for longer than a second.
async fn put_all(bucket: &Bucket, value: &'static str) {
    let options = WriteOptions {
        level: Some(Level::One),
        timeout: Some(Duration::from_secs(1)),
        ..WriteOptions::default()
    };
    for key in keys() {
        until("one owner takes it", async || {
            bucket.put_with(&key, value, &options).await.is_ok()
        })
        .await;
    }
}

/// How many keys show this value at level `one`.
async fn showing(bucket: &Bucket, value: &str) -> usize {
    let mut showing = 0;
    for key in keys() {
        let entry = bucket.get_with(&key, &read_at(Level::One)).await.unwrap();
        showing += usize::from(entry.is_some_and(|entry| entry.value == value));
    }
    showing
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_session_wrote_is_seen_at_one_after_failover_and_in_another_process() {
    let mut cluster = Cluster::start_with(relayed()).await;
    let client = cluster.client().await;
    let first = client.session();
    let bucket = first.bucket("default");
    bucket.put("warm", "v").await.unwrap();
    // One owner alone takes the values.
    for node in [1, 2] {
        cluster.relay(node).set(Passage::Refused);
    }
    put_all(&bucket, "mine").await;
    let token = first.to_bytes().await.unwrap();
    assert!(token.len() <= 64 << 10);
    client.close().await;
    for node in [1, 2] {
        cluster.relay(node).set(Passage::Open);
    }

    // The writer's process is gone, and the other owners know nothing, whoever is asked first.
    let other = cluster.client().await;
    let again = other.session_from(&token).unwrap();
    assert_eq!(showing(&again.bucket("default"), "mine").await, KEYS);

    // While the only owner that has them is away, nothing older is shown instead.
    let third = cluster.client().await;
    let session = third.session();
    let bucket = session.bucket("default");
    for node in [1, 2] {
        cluster.relay(node).set(Passage::Refused);
    }
    put_all(&bucket, "newer").await;
    for node in [1, 2] {
        cluster.relay(node).set(Passage::Open);
    }
    let token = session.to_bytes().await.unwrap();
    cluster.kill(0);
    let fourth = cluster.client().await;
    let again = fourth.session_from(&token).unwrap();
    let bucket = again.bucket("default");
    let mut unavailable = 0;
    for key in keys() {
        match bucket.get_with(&key, &read_at(Level::One)).await {
            // Some were brought to the others before their first owner was killed.
            Ok(entry) => assert_eq!(entry.unwrap().value, "newer"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                unavailable += 1;
            }
        }
    }
    cluster.restart(0).await;
    until("all are seen again", async || {
        let mut seen = 0;
        for key in keys() {
            let entry = bucket.get_with(&key, &read_at(Level::One)).await;
            seen += usize::from(entry.is_ok_and(|entry| entry.unwrap().value == "newer"));
        }
        seen == KEYS
    })
    .await;
    let widened = fourth.statistics().widened;
    assert!(widened >= unavailable, "{widened} of {unavailable}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_reads_the_owner_that_has_what_it_wrote() {
    let cluster = Cluster::start_with(relayed()).await;
    let client = cluster.client().await;
    let session = client.session();
    let bucket = session.bucket("default");
    bucket.put("warm", "v").await.unwrap();
    for node in [0, 1] {
        cluster.relay(node).set(Passage::Refused);
    }
    put_all(&bucket, "mine").await;
    for node in [0, 1] {
        cluster.relay(node).set(Passage::Open);
    }
    // A client that has only just come asks owners that know nothing of it, and is told so.
    let other = cluster.client().await;
    let session = other.session_from(&session.to_bytes().await.unwrap());
    let session = session.unwrap();
    assert_eq!(showing(&session.bucket("default"), "mine").await, KEYS);
    assert!(other.statistics().widened > 0, "no owner had to be asked");
}
