//! Servers on small disks: what is refused, what still works, and that nothing is lost.
#![cfg(all(feature = "cluster", target_os = "linux"))]
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use annulet::{Bucket, Client, ErrorKind, Level};
use annulet_tests::cluster::calls::{read_at, until, write_at};
use annulet_tests::cluster::disk::Disk;
use annulet_tests::cluster::{Cluster, Options};
use bytes::Bytes;

const NODES: usize = 3;
const DISK_BYTES: u64 = 160 << 20;
const VALUE_BYTES: usize = 64 << 10;

/// Three servers, each on a small disk of its own. `None`: this machine lets nobody mount one.
async fn start() -> Option<(Vec<Disk>, Cluster)> {
    let options = Options {
        settings: format!("write_buffer_bytes = {}", 4 << 20),
        limits: format!(
            "disk_reserve_bytes = {}\ndisk_ballast_bytes = {}\n",
            48 << 20,
            8 << 20
        ),
        ..Options::servers(NODES)
    };
    let mut cluster = Cluster::prepared(options);
    let mount = |node| Disk::mount(&cluster.data(node), DISK_BYTES);
    match (0..NODES).map(mount).collect() {
        Ok(disks) => {
            cluster.start_all().await;
            Some((disks, cluster))
        }
        Err(why) => {
            eprintln!("skipped, since no filesystem can be mounted: {why}");
            None
        }
    }
}

fn value(number: usize) -> Bytes {
    // Not to be made smaller by compression.
    let mut state = number as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let random = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    });
    random.take(VALUE_BYTES).collect()
}

/// Puts values until they are refused, and gives how many were taken.
async fn fill(bucket: &Bucket) -> usize {
    for number in 0.. {
        let all = write_at(Level::All);
        let put = bucket.put_with(format!("k{number}"), value(number), &all);
        if let Err(error) = put.await {
            assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
            assert!(error.message().contains("disk"), "it says why: {error}");
            assert!(error.is_retryable(), "somebody may make room: {error}");
            return number;
        }
        let most = DISK_BYTES as usize / VALUE_BYTES;
        assert!(number < most, "more was taken than there is room for");
    }
    unreachable!("the numbers do not end");
}

async fn states(client: &Client) -> Vec<&'static str> {
    client
        .members()
        .await
        .into_iter()
        .map(|member| member.state)
        .collect()
}

/// Checks that all that was taken is there, on each server.
async fn all_there(bucket: &Bucket, deleted: usize, taken: usize) {
    for number in 0..taken {
        let key = format!("k{number}");
        let entry = bucket.get_with(&key, &read_at(Level::All)).await;
        let entry = entry.unwrap_or_else(|error| panic!("{key}: {error}"));
        let expected = (number >= deleted).then(|| value(number));
        assert!(entry.map(|entry| entry.value) == expected, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_disks_take_deletes_and_lose_nothing() {
    let Some((_disks, mut cluster)) = start().await else {
        return;
    };
    let client = cluster.client().await;
    let bucket = client.bucket("default");
    let taken = fill(&bucket).await;
    assert!(taken >= 300, "only {taken} values were taken");
    until("all say that they are full", async || {
        // Which of them was full first is chance.
        let _ = bucket.put("more", value(0)).await;
        states(&client)
            .await
            .iter()
            .filter(|state| **state == "full")
            .count()
            >= 2
    })
    .await;
    all_there(&bucket, 0, taken).await;

    // As a crash finds it.
    for node in 0..NODES {
        cluster.kill(node);
    }
    for node in 0..NODES {
        cluster.restart(node).await;
    }
    let client = cluster.client().await;
    let bucket = client.bucket("default");
    all_there(&bucket, 0, taken).await;
    let deleted = taken * 3 / 4;
    for number in 0..deleted {
        bucket
            .delete_with(format!("k{number}"), &write_at(Level::All))
            .await
            .unwrap();
    }
    all_there(&bucket, deleted, taken).await;
    until("deletes make room", async || {
        bucket.put("after", value(0)).await.is_ok()
    })
    .await;
    all_there(&bucket, deleted, taken).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_disk_others_filled_comes_up_and_serves() {
    let Some((disks, mut cluster)) = start().await else {
        return;
    };
    let client = cluster.client().await;
    let bucket = client.bucket("default");
    let taken = 100;
    for number in 0..taken {
        let all = write_at(Level::All);
        let put = bucket.put_with(format!("k{number}"), value(number), &all);
        put.await.unwrap();
    }
    let junk: Vec<_> = disks.iter().map(Disk::fill).collect();
    let error = bucket.put("k0", "v").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
    for node in 0..NODES {
        cluster.kill(node);
    }
    for node in 0..NODES {
        cluster.restart(node).await;
    }
    let client = cluster.client().await;
    let bucket = client.bucket("default");
    until("all say that they are full", async || {
        states(&client).await == ["full"; NODES]
    })
    .await;
    all_there(&bucket, 0, taken).await;
    bucket
        .delete_with("k0", &write_at(Level::All))
        .await
        .unwrap();
    all_there(&bucket, 1, taken).await;

    for path in junk {
        std::fs::remove_file(path).unwrap();
    }
    until("there is room again", async || {
        bucket.put("k0", "v").await.is_ok()
    })
    .await;
    assert_eq!(bucket.get("k0").await.unwrap().unwrap().value, "v");
}
