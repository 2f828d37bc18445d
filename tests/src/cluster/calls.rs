//! What the tests of clusters ask for again and again.

use super::PATIENCE;
use annulet::{Bucket, Level, ReadOptions, WriteOptions};
use annulet_protocol::ids::NodeId;
use annulet_protocol::view::View;
use annulet_ring::owners::Owners;
use std::time::Duration;
use tokio::time::timeout;

/// Reads at this level.
pub fn read_at(level: Level) -> ReadOptions {
    ReadOptions {
        level: Some(level),
        ..ReadOptions::default()
    }
}

/// Writes at this level.
pub fn write_at(level: Level) -> WriteOptions {
    WriteOptions {
        level: Some(level),
        ..WriteOptions::default()
    }
}

/// Waits until `done` says so.
pub async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("{what} in time"));
}

/// Numbers of the servers that own a key of the bucket, as [`super::Cluster`] counts them.
pub fn owners(view: &View, bucket: &Bucket, key: &str) -> Vec<usize> {
    let bucket = view.bucket_named(bucket.name()).expect("a bucket");
    let hash = view.hash(bucket.number, key.as_bytes());
    let index = |NodeId(id)| (id - 1) as usize;
    Owners::of(view, bucket, hash).all().map(index).collect()
}
