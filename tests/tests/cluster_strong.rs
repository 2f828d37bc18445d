//! Strong buckets over real server processes.
#![cfg(feature = "cluster")]
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use annulet::{
    Bucket, Client, ErrorKind, Level, Outcome, ReadOptions, Resolved, Ttl, WriteOptions,
};
use annulet_tests::cluster::Cluster;
use annulet_tests::cluster::calls::{read_at, until, write_at};
use bytes::Bytes;
use std::time::Duration;
use tokio::task::JoinSet;

const STALE: ReadOptions = ReadOptions {
    level: None,
    timeout: None,
    stale: true,
};

async fn value(bucket: &Bucket, key: &str) -> Option<Bytes> {
    let entry = bucket.get(key).await.unwrap();
    entry.map(|entry| entry.value)
}

fn number(value: Option<&Bytes>) -> u64 {
    value.map_or(0, |value| {
        let text = std::str::from_utf8(value).unwrap();
        text.parse().unwrap()
    })
}

/// Adds one, so often. An update of unknown outcome is asked about, and done again if it was not.
/// Returns how often nobody can tell any more, since over 32 other writes came in between.
async fn increment(bucket: &Bucket, key: &str, times: usize) -> usize {
    let mut forgotten = 0;
    let patient = WriteOptions {
        timeout: Some(Duration::from_secs(60)),
        ..WriteOptions::default()
    };
    for _ in 0..times {
        loop {
            let add = |value: Option<&Bytes>| Some((number(value) + 1).to_string().into());
            let error = match bucket.update_with(key, add, &patient).await {
                Ok(_) => break,
                Err(error) => error,
            };
            let Some(op) = error.op_id().copied() else {
                assert_eq!(error.outcome(), Some(Outcome::NotApplied), "{error}");
                continue;
            };
            match bucket.resolve(key, &op).await.unwrap() {
                Resolved::Applied { .. } => break,
                Resolved::NotApplied => {}
                Resolved::Forgotten => {
                    forgotten += 1;
                    break;
                }
            }
        }
    }
    forgotten
}

/// Whether so many increments made this sum, some of which may not have been applied.
fn adds_up(sum: u64, increments: usize, forgotten: usize) -> bool {
    (increments - forgotten..=increments).contains(&(sum as usize))
}

async fn clients(cluster: &Cluster, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(cluster.client().await);
    }
    clients
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditional_writes_hold_to_their_conditions() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client().await;
    let bucket = client.bucket("strong");
    assert_eq!(value(&bucket, "k").await, None);
    let first = bucket.put_if_absent("k", "1").await.unwrap();
    let error = bucket.put_if_absent("k", "2").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome(), error.is_retryable()),
        (ErrorKind::Conflict, Some(Outcome::NotApplied), false)
    );
    let entry = bucket.get("k").await.unwrap().unwrap();
    assert_eq!((entry.value, &entry.version), ("1".into(), &first.version));
    let second = bucket
        .put_if_version("k", "2", &first.version)
        .await
        .unwrap();
    // Another client sees it at once, and knows better than the first version.
    let other = cluster.client().await;
    let theirs = other.bucket("strong");
    assert_eq!(value(&theirs, "k").await, Some("2".into()));
    assert!(theirs.exists("k").await.unwrap());
    let stale = theirs.put_if_version("k", "3", &first.version).await;
    assert_eq!(stale.unwrap_err().kind(), ErrorKind::Conflict);
    let stale = theirs.delete_if_version("k", &first.version).await;
    assert_eq!(stale.unwrap_err().kind(), ErrorKind::Conflict);
    let deleted = theirs.delete_if_version("k", &second.version).await;
    let deleted = deleted.unwrap();
    assert_eq!(value(&bucket, "k").await, None);
    assert!(!bucket.exists("k").await.unwrap());
    let again = bucket.put_if_absent("k", "4").await.unwrap();
    // Versions of one key are compared as text, since they rise from the first digit.
    let versions = [&first, &second, &deleted, &again].map(|written| &written.version);
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
    // Any one owner may still be behind.
    until("a stale read sees it", async || {
        let read = bucket.get_with("k", &STALE).await.unwrap();
        read.is_some_and(|entry| entry.value == "4")
    })
    .await;
    let garbage = bucket.put_if_version("k", "5", "not a version").await;
    assert_eq!(garbage.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_values_and_many_keys() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client().await;
    let bucket = client.bucket("strong");
    let long = Bytes::from(vec![7; 300_000]);
    let put = bucket.put("long", long.clone()).await.unwrap();
    let other = cluster.client().await;
    let theirs = other.bucket("strong");
    assert_eq!(value(&theirs, "long").await, Some(long.clone()));
    assert!(theirs.exists("long").await.unwrap());
    let failed = theirs.put_if_absent("long", "short").await;
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(value(&bucket, "long").await, Some(long));
    bucket
        .put_if_version("long", "short", &put.version)
        .await
        .unwrap();
    assert_eq!(value(&theirs, "long").await, Some("short".into()));
    let keys: Vec<_> = (0..200).map(|n| Bytes::from(format!("key {n}"))).collect();
    let entries = keys.iter().map(|key| (key.clone(), key.clone()));
    for put in bucket.multi_put(entries).await {
        put.unwrap();
    }
    for (key, got) in keys.iter().zip(theirs.multi_get(keys.clone()).await) {
        assert_eq!(got.unwrap().map(|entry| entry.value).as_ref(), Some(key));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_increment_of_32_clients_is_lost() {
    const CLIENTS: usize = 32;
    const EACH: usize = 5;
    let cluster = Cluster::start(3).await;
    let clients = clients(&cluster, CLIENTS).await;
    let mut tasks = JoinSet::new();
    for client in &clients {
        let bucket = client.bucket("strong");
        tasks.spawn(async move { increment(&bucket, "n", EACH).await });
    }
    let forgotten = tasks.join_all().await.into_iter().sum();
    let bucket = clients[0].bucket("strong");
    let sum = number(value(&bucket, "n").await.as_ref());
    assert!(
        adds_up(sum, CLIENTS * EACH, forgotten),
        "{sum}, {forgotten} forgotten"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_increment_is_lost_while_servers_are_killed() {
    const CLIENTS: usize = 8;
    const EACH: usize = 25;
    let mut cluster = Cluster::start(3).await;
    let clients = clients(&cluster, CLIENTS).await;
    let mut tasks = JoinSet::new();
    for (index, client) in clients.iter().enumerate() {
        let bucket = client.bucket("strong");
        let key = format!("n{}", index % 2);
        tasks.spawn(async move { (key.clone(), increment(&bucket, &key, EACH).await) });
    }
    let watcher = clients[0].bucket("strong");
    let reaches = async |least: u64| {
        until("the sums grow", async || {
            let sum = number(value(&watcher, "n0").await.as_ref());
            sum >= least
        })
        .await;
    };
    reaches(10).await;
    cluster.kill(1);
    reaches(30).await;
    cluster.restart(1).await;
    reaches(50).await;
    cluster.kill(2);
    reaches(70).await;
    cluster.restart(2).await;
    let done = tasks.join_all().await;
    let mut sums = Vec::new();
    for key in ["n0", "n1"] {
        let sum = number(value(&watcher, key).await.as_ref());
        let of_key = done.iter().filter(|(at, _)| at == key);
        let forgotten = of_key.map(|(_, forgotten)| forgotten).sum();
        let sound = adds_up(sum, CLIENTS / 2 * EACH, forgotten);
        assert!(sound, "{key}: {sum}, {forgotten} forgotten");
        sums.push(sum);
    }
    // Everything was on disk.
    for node in 0..3 {
        cluster.kill(node);
    }
    for node in 0..3 {
        cluster.restart(node).await;
    }
    assert_eq!(number(value(&watcher, "n0").await.as_ref()), sums[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_strong_bucket_does_not_do_is_refused_clearly() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client().await;
    let (strong, lww) = (client.bucket("strong"), client.bucket("default"));
    let invalid = |error: annulet::Error, what: &str| {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{what}: {error}");
        error.outcome()
    };
    let not_applied = Some(Outcome::NotApplied);
    let put = strong.put_with("k", "v", &write_at(Level::One)).await;
    assert_eq!(invalid(put.unwrap_err(), "a level"), not_applied);
    let delete = strong.delete_with("k", &write_at(Level::All)).await;
    assert_eq!(invalid(delete.unwrap_err(), "a level"), not_applied);
    let get = strong.get_with("k", &read_at(Level::One)).await;
    invalid(get.unwrap_err(), "a level");
    let get = lww.get_with("k", &STALE).await;
    invalid(get.unwrap_err(), "stale");
    let put = lww.put_if_absent("k", "v").await;
    assert_eq!(invalid(put.unwrap_err(), "absent"), not_applied);
    let version = strong.put("k", "v").await.unwrap().version;
    let put = lww.put_if_version("k", "v", &version).await;
    assert_eq!(invalid(put.unwrap_err(), "a version"), not_applied);
    let delete = lww.delete_if_version("k", &version).await;
    assert_eq!(invalid(delete.unwrap_err(), "a version"), not_applied);
    let update = lww.update("k", |_| None).await;
    invalid(update.unwrap_err(), "an update");
    let mut scan = strong.scan(Default::default()).unwrap();
    invalid(scan.next_page().await.unwrap_err(), "a scan");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_expire_and_are_touched() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client().await;
    let bucket = client.bucket("strong");
    let ttl = |ms| WriteOptions {
        ttl: Ttl::After(Duration::from_millis(ms)),
        ..WriteOptions::default()
    };
    let put = bucket.put_with("k", "v", &ttl(600_000)).await.unwrap();
    let touched = bucket.touch_with("k", &ttl(1_000)).await.unwrap();
    assert_eq!(touched.map(|touched| touched.version), Some(put.version));
    let entry = bucket.get("k").await.unwrap().unwrap();
    assert!(entry.expires_at_ms.is_some());
    until("it expires", async || value(&bucket, "k").await.is_none()).await;
    assert_eq!(bucket.touch_with("k", &ttl(1_000)).await.unwrap(), None);
    let other = cluster.client().await;
    let again = other
        .bucket("strong")
        .put_if_absent("k", "w")
        .await
        .unwrap();
    assert!(again.version > entry.version, "it rises all the same");
    assert_eq!(value(&bucket, "k").await, Some("w".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_of_unknown_outcome_is_resolved() {
    let mut cluster = Cluster::start(3).await;
    let client = cluster.client().await;
    let bucket = client.bucket("strong");
    bucket.put("k", "old").await.unwrap();
    for node in [1, 2] {
        cluster.signal(node, "STOP");
    }
    let quick = WriteOptions {
        timeout: Some(Duration::from_millis(500)),
        ..WriteOptions::default()
    };
    // The ballot that the first write reserved makes this one an accept at once.
    let error = bucket.put_with("k", "new", &quick).await.unwrap_err();
    assert_eq!(error.outcome(), Some(Outcome::Unknown), "{error}");
    let op = *error.op_id().unwrap();
    for node in [1, 2] {
        cluster.kill(node);
        cluster.restart(node).await;
    }
    let kept: annulet::OpId = op.to_string().parse().unwrap();
    let other = cluster.client().await;
    let theirs = other.bucket("strong");
    let resolved = theirs.resolve("k", &kept).await.unwrap();
    let now = value(&theirs, "k").await;
    match &resolved {
        Resolved::Applied { .. } => assert_eq!(now, Some("new".into())),
        Resolved::NotApplied => assert_eq!(now, Some("old".into())),
        Resolved::Forgotten => panic!("nothing came after it"),
    }
    assert_eq!(
        bucket.resolve("k", &op).await.unwrap(),
        resolved,
        "for good"
    );
}
