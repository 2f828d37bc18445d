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

/// How long all that follows of a change of members may take: hundreds of partitions move, some at
/// a time.
pub const MOVES: Duration = Duration::from_secs(240);

/// Waits until `done` says so.
pub async fn until(what: &str, done: impl AsyncFnMut() -> bool) {
    until_within(PATIENCE, what, done).await;
}

/// Waits until `done` says so, for so long.
pub async fn until_within(limit: Duration, what: &str, mut done: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(limit, wait)
        .await
        .unwrap_or_else(|_| panic!("{what} in time"));
}

/// Numbers of the servers that own a key of the bucket, as [`super::Cluster`] counts them.
pub fn owners(view: &View, bucket: &Bucket, key: &str) -> Vec<usize> {
    owners_of(view, bucket, key).all().map(index).collect()
}

/// The same list by list: a quorum is one of each of them. The first is that of those who own the
/// key now; a second one, of those who are to own it, is there while they copy it.
pub fn lists(view: &View, bucket: &Bucket, key: &str) -> Vec<Vec<usize>> {
    let owners = owners_of(view, bucket, key);
    let next = owners.next.iter().flat_map(|next| next.iter());
    let lists = owners.regions.iter().chain(next);
    lists
        .map(|list| list.nodes.iter().copied().map(index).collect())
        .collect()
}

fn owners_of(view: &View, bucket: &Bucket, key: &str) -> Owners {
    let bucket = view.bucket_named(bucket.name()).expect("a bucket");
    let hash = view.hash(bucket.number, key.as_bytes());
    Owners::of(view, bucket, hash)
}

fn index(NodeId(id): NodeId) -> usize {
    (id - 1) as usize
}
