//! What is written while owners are away reaches them afterwards, by the servers' own doing.
#![cfg(feature = "cluster")]
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use annulet::{Bucket, Client, ErrorKind, Level};
use annulet_tests::cluster::calls::{owners, read_at, until, write_at};
use annulet_tests::cluster::relay::Passage;
use annulet_tests::cluster::{Cluster, Options};
use bytes::Bytes;

/// Records that wait for others, at all servers that answer.
async fn waiting(client: &Client) -> u64 {
    let reports = client.hints().await.into_iter();
    let reports = reports.filter_map(|hints| hints.report.ok());
    let waiting =
        |report: annulet::HintsReport| report.waiting.iter().map(|w| w.count).sum::<u64>();
    reports.map(waiting).sum()
}

async fn value(bucket: &Bucket, key: &str, level: Level) -> Option<Bytes> {
    let entry = bucket.get_with(key, &read_at(level)).await;
    let entry = entry.unwrap_or_else(|error| panic!("{key} at {level}: {error}"));
    entry.map(|entry| entry.value)
}

/// Opens connections, so that what a test measures is not their making.
async fn warm_up(bucket: &Bucket) {
    until("all servers can be reached", async || {
        bucket
            .put_with("warm", "v", &write_at(Level::All))
            .await
            .is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_closes_at_once_leaves_its_hints_first() {
    let mut cluster = Cluster::start(3).await;
    let other = cluster.client().await;
    cluster.kill(1);
    for round in 1..=10 {
        let client = cluster.client().await;
        let put = client.bucket("default").put(format!("k{round}"), "v").await;
        put.unwrap();
        client.close().await;
        assert_eq!(waiting(&other).await, round);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_away_is_given_what_it_missed() {
    let mut cluster = Cluster::start(3).await;
    let client = cluster.client().await;
    let bucket = client.bucket("default");
    let key = |number: usize| format!("k{number}");
    for number in 0..60 {
        let options = write_at(Level::All);
        bucket.put_with(key(number), "old", &options).await.unwrap();
    }
    cluster.kill(2);
    for number in 0..40 {
        bucket
            .put(key(number), format!("new {number}"))
            .await
            .unwrap();
    }
    for number in 40..50 {
        bucket.delete(key(number)).await.unwrap();
    }
    until("hints are kept", async || waiting(&client).await >= 50).await;
    client.close().await;

    // No client reads or writes from here on.
    cluster.restart(2).await;
    let looker = cluster.client().await;
    until("hints are handed over", async || {
        waiting(&looker).await == 0
    })
    .await;
    looker.close().await;
    cluster.kill(0);
    cluster.kill(1);
    let alone = cluster.client().await;
    let bucket = alone.bucket("default");
    for number in 0..60 {
        let expected = match number {
            0..40 => Some(Bytes::from(format!("new {number}"))),
            40..50 => None,
            _ => Some(Bytes::from("old")),
        };
        assert_eq!(
            value(&bucket, &key(number), Level::One).await,
            expected,
            "{number}"
        );
    }
}

/// Six servers behind relays, and a key: its owners, and the others.
async fn six(key: &str) -> (Cluster, [Vec<usize>; 2]) {
    let options = Options {
        relays: true,
        ..Options::servers(6)
    };
    let cluster = Cluster::start_with(options).await;
    let client = cluster.client().await;
    let bucket = client.bucket("default");
    warm_up(&bucket).await;
    let owners = owners(&client.view(), &bucket, key);
    let others = (0..6).filter(|node| !owners.contains(node)).collect();
    (cluster, [owners, others])
}

fn cut(cluster: &Cluster, nodes: &[usize], passage: Passage) {
    nodes
        .iter()
        .for_each(|node| cluster.relay(*node).set(passage));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_every_owner_cut_off_a_write_is_taken_and_reaches_them_after() {
    let (mut cluster, [owners, others]) = six("k").await;
    let client = cluster.client().await;
    let bucket = client.bucket("default");
    bucket
        .put_with("k", "old", &write_at(Level::All))
        .await
        .unwrap();
    cut(&cluster, &owners, Passage::Refused);

    bucket
        .put_with("k", "new", &write_at(Level::Available))
        .await
        .unwrap();
    assert_eq!(value(&bucket, "k", Level::Available).await.unwrap(), "new");
    let other = cluster.client().await;
    let theirs = value(&other.bucket("default"), "k", Level::Available).await;
    assert_eq!(
        theirs.unwrap(),
        "new",
        "another client finds it at the same servers"
    );
    // What others keep counts at no other level.
    for level in [Level::One, Level::Quorum] {
        let error = bucket
            .put_with("k", "never", &write_at(level))
            .await
            .unwrap_err();
        assert!(error.is_retryable(), "{error}");
        let error = bucket.get_with("k", &read_at(level)).await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
    }
    let last = "the last of all";
    bucket
        .put_with("k", last, &write_at(Level::Available))
        .await
        .unwrap();

    // It is durable where it is kept.
    for node in &others {
        cluster.kill(*node);
    }
    for node in &others {
        cluster.restart(*node).await;
    }
    assert_eq!(value(&bucket, "k", Level::Available).await.unwrap(), last);
    client.close().await;
    cut(&cluster, &owners, Passage::Open);
    let looker = cluster.client().await;
    until("hints are handed over", async || {
        waiting(&looker).await == 0
    })
    .await;
    for node in &others {
        cluster.kill(*node);
    }
    assert_eq!(
        value(&looker.bucket("default"), "k", Level::All)
            .await
            .unwrap(),
        last
    );
    assert_eq!(
        looker.statistics().repairs,
        0,
        "every owner had it by itself"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_at_available_reaches_the_owners_after() {
    let (cluster, [owners, others]) = six("k").await;
    let client = cluster.client().await;
    let bucket = client.bucket("default");
    bucket
        .put_with("k", "old", &write_at(Level::All))
        .await
        .unwrap();
    cut(&cluster, &owners, Passage::Cut);
    let mut options = write_at(Level::Available);
    options.timeout = Some(std::time::Duration::from_secs(10));
    bucket.delete_with("k", &options).await.unwrap();
    assert_eq!(value(&bucket, "k", Level::Available).await, None);
    client.close().await;
    cut(&cluster, &owners, Passage::Open);
    let looker = cluster.client().await;
    until("hints are handed over", async || {
        waiting(&looker).await == 0
    })
    .await;
    cut(&cluster, &others, Passage::Refused);
    assert_eq!(
        value(&looker.bucket("default"), "k", Level::All).await,
        None
    );
    assert_eq!(
        looker.statistics().repairs,
        0,
        "every owner had it by itself"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reaches_nobody_says_that_nothing_was_applied() {
    let (cluster, _) = six("k").await;
    let client = cluster.client().await;
    let bucket = client.bucket("default");
    warm_up(&bucket).await;
    cut(&cluster, &[0, 1, 2, 3, 4, 5], Passage::Refused);
    let mut options = write_at(Level::Available);
    options.timeout = Some(std::time::Duration::from_millis(500));
    // Connections that stood are noticed to be gone by the first that tries them.
    until("nothing is sent any more", async || {
        let error = bucket.put_with("k", "v", &options).await.unwrap_err();
        assert!(
            [ErrorKind::Unavailable, ErrorKind::Timeout].contains(&error.kind()),
            "{error}"
        );
        error.outcome() == Some(annulet::Outcome::NotApplied)
    })
    .await;
}
