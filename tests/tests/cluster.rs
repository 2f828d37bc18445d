//! Real server processes under a real client: what is acknowledged survives, deadlines hold.
#![cfg(feature = "cluster")]
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use annulet::{Client, ErrorKind, Level, Outcome, ReadOptions, WriteOptions};
use annulet_tests::cluster::calls::{read_at, until, write_at};
use annulet_tests::cluster::{Cluster, Options, binary};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// What two loaded cores may add to a deadline.
const SLACK: Duration = Duration::from_millis(250);

/// Writers that put one key after the other at quorum and remember what was acknowledged.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    writers: JoinSet<Vec<(String, Bytes)>>,
}

impl Load {
    fn start(client: &Client, writers: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let mut set = JoinSet::new();
        for writer in 0..writers {
            let bucket = client.bucket("default");
            let (stop, count) = (Arc::clone(&stop), Arc::clone(&acknowledged));
            set.spawn(async move {
                let mut kept = Vec::new();
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let key = format!("load/{writer}/{number}");
                    let value = Bytes::from(format!("value {number} of {writer}"));
                    if bucket.put(&key, value.clone()).await.is_ok() {
                        kept.push((key, value));
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
                kept
            });
        }
        Self {
            stop,
            acknowledged,
            writers: set,
        }
    }

    /// Waits for so many more acknowledgements.
    async fn goes_on(&self, more: usize) {
        let target = self.acknowledged.load(Ordering::Relaxed) + more;
        until("the load goes on", async || {
            self.acknowledged.load(Ordering::Relaxed) >= target
        })
        .await;
    }

    async fn stop(self) -> Vec<(String, Bytes)> {
        self.stop.store(true, Ordering::Relaxed);
        self.writers
            .join_all()
            .await
            .into_iter()
            .flatten()
            .collect()
    }
}

async fn all_there(client: &Client, kept: &[(String, Bytes)], options: &ReadOptions) {
    let keys = kept.iter().map(|(key, _)| Bytes::from(key.clone()));
    let found = client.bucket("default").multi_get_with(keys, options).await;
    for ((key, value), entry) in kept.iter().zip(found) {
        let entry = entry.unwrap_or_else(|error| panic!("{key}: {error}"));
        assert_eq!(
            entry.map(|entry| entry.value).as_ref(),
            Some(value),
            "{key}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_write_is_lost_when_a_server_is_killed_and_comes_back() {
    let mut cluster = Cluster::start(3).await;
    let client = cluster.client().await;
    let load = Load::start(&client, 16);
    load.goes_on(500).await;
    cluster.kill(1);
    load.goes_on(500).await;
    cluster.restart(1).await;
    load.goes_on(500).await;
    let kept = load.stop().await;
    all_there(&client, &kept, &read_at(Level::Quorum)).await;
    // Reads at `all` bring the server that was away up to date ...
    all_there(&client, &kept, &read_at(Level::All)).await;
    // ... so that any one of the others may go now.
    for node in [0, 2] {
        cluster.kill(node);
        all_there(&client, &kept, &read_at(Level::Quorum)).await;
        cluster.restart(node).await;
    }
    // All at once: what was acknowledged was on disk.
    for node in 0..3 {
        cluster.kill(node);
    }
    for node in 0..3 {
        cluster.restart(node).await;
    }
    all_there(&client, &kept, &read_at(Level::Quorum)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlines_hold_while_servers_are_stopped() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client().await;
    let bucket = client.bucket("default");
    bucket.put("k", "v").await.unwrap();
    cluster.signal(0, "STOP");
    let limit = Duration::from_millis(500);
    let writes = WriteOptions {
        timeout: Some(limit),
        ..WriteOptions::default()
    };
    let reads = ReadOptions {
        timeout: Some(limit),
        ..ReadOptions::default()
    };
    for round in 0..20 {
        let key = format!("k{round}");
        let put = timeout(limit + SLACK, bucket.put_with(key, "v", &writes)).await;
        put.expect("in time").expect("two of three are enough");
        let entry = timeout(limit + SLACK, bucket.get_with("k", &reads)).await;
        let entry = entry.expect("in time").expect("two of three are enough");
        assert_eq!(entry.unwrap().value, "v");
    }
    let all = WriteOptions {
        timeout: Some(limit),
        ..write_at(Level::All)
    };
    let error = timeout(limit + SLACK, bucket.put_with("k", "w", &all))
        .await
        .expect("in time");
    let error = error.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (ErrorKind::Timeout, Some(Outcome::Unknown))
    );
    cluster.signal(1, "STOP");
    for _ in 0..3 {
        let get = timeout(limit + SLACK, bucket.get_with("k", &reads)).await;
        let error = get.expect("in time").unwrap_err();
        assert!(error.is_retryable(), "{error}");
    }
    cluster.signal(0, "CONT");
    cluster.signal(1, "CONT");
    until("the cluster answers again", async || {
        bucket.get("k").await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_is_not_applied_when_no_server_can_be_reached() {
    let mut cluster = Cluster::start(3).await;
    let client = cluster.client().await;
    let bucket = client.bucket("default");
    for node in 0..3 {
        cluster.kill(node);
    }
    let error = bucket.put("k", "v").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(error.outcome(), Some(Outcome::NotApplied), "{error}");
    for node in 0..3 {
        cluster.restart(node).await;
    }
    until("the cluster answers again", async || {
        bucket.get("k").await.is_ok()
    })
    .await;
    assert_eq!(bucket.get("k").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_away_is_repaired_by_reads() {
    // Nobody keeps for it what it misses, so that reads alone can bring it.
    let mut cluster = Cluster::start_with(Options {
        limits: "hint_bytes = 0".into(),
        ..Options::servers(3)
    })
    .await;
    let client = cluster.client().await;
    let bucket = client.bucket("default");
    bucket
        .put_with("k", "old", &write_at(Level::All))
        .await
        .unwrap();
    assert!(
        cluster.stop(2),
        "a graceful stop ends well: {}",
        cluster.log(2)
    );
    // The write itself goes on looking for the third owner until its deadline; let that pass.
    let limit = Duration::from_millis(100);
    let write = WriteOptions {
        timeout: Some(limit),
        ..WriteOptions::default()
    };
    bucket.put_with("k", "new", &write).await.unwrap();
    tokio::time::sleep(limit).await;
    cluster.restart(2).await;
    let entry = bucket
        .get_with("k", &read_at(Level::All))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(entry.value, "new");
    until("a repair is sent", async || client.statistics().repairs > 0).await;
    cluster.kill(0);
    cluster.kill(1);
    // The read had enough owners to return; the repair of the last one was on its way.
    until("the last server has it", async || {
        let entry = bucket.get_with("k", &read_at(Level::One)).await;
        entry.is_ok_and(|entry| entry.is_some_and(|entry| entry.value == "new"))
    })
    .await;
    let error = bucket.get("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_of_every_size_come_back_as_they_were() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client().await;
    let bucket = client.bucket("default");
    for length in [0, 1, 4_096, 4_097, 65_536, 65_537, 1 << 20, 16 << 20] {
        let value: Bytes = (0..length)
            .map(|i| (i * 31 % 251) as u8)
            .collect::<Vec<_>>()
            .into();
        let key = format!("size/{length}");
        bucket
            .put(&key, value.clone())
            .await
            .unwrap_or_else(|e| panic!("{length}: {e}"));
        let entry = bucket
            .get(&key)
            .await
            .unwrap_or_else(|e| panic!("{length}: {e}"));
        assert!(entry.is_some_and(|entry| entry.value == value), "{length}");
        assert!(bucket.exists(&key).await.unwrap());
    }
    let error = bucket.put("k", vec![0; (16 << 20) + 1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(error.outcome(), Some(Outcome::NotApplied));
    assert_eq!(
        bucket.put("", "v").await.unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    let long = vec![b'k'; 4_097];
    assert_eq!(
        bucket.get(&long).await.unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    bucket.put(&long[..4_096], "v").await.unwrap();
    let many = (0..64).map(|n| Bytes::from(format!("size/{}", [4_097, 1 << 20][n % 2])));
    let found = bucket.multi_get(many).await;
    assert!(
        found
            .iter()
            .all(|entry| entry.as_ref().is_ok_and(Option::is_some))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_share_requests_and_connections() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client().await;
    let bucket = client.bucket("default");
    let entries = (0..5_000).map(|n| (Bytes::from(format!("m{n}")), Bytes::from("v")));
    assert!(bucket.multi_put(entries).await.iter().all(Result::is_ok));
    let keys = || (0..5_000).map(|n| Bytes::from(format!("m{n}")));
    assert!(
        bucket
            .multi_get(keys())
            .await
            .iter()
            .all(|e| matches!(e, Ok(Some(_))))
    );
    assert!(
        bucket
            .multi_delete(keys().step_by(2))
            .await
            .iter()
            .all(Result::is_ok)
    );
    let found = bucket.multi_get(keys()).await;
    let live = found.iter().map(|entry| entry.as_ref().unwrap().is_some());
    assert!(live.enumerate().all(|(n, live)| live == (n % 2 == 1)));
    let statistics = client.statistics();
    assert!(
        statistics.requests * 8 < statistics.messages,
        "{statistics:?}"
    );
    assert!(statistics.connections <= 9, "{statistics:?}");
    assert_eq!(statistics.errors, 0, "{statistics:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_are_closed_and_resumed() {
    let cluster = Cluster::start(1).await;
    let client = cluster
        .client_with(|config| config.idle_after = Duration::from_secs(1))
        .await;
    let bucket = client.bucket("default");
    bucket.put("k", "v").await.unwrap();
    until("the connection is closed", async || {
        client.statistics().connections_closed > 0
    })
    .await;
    assert_eq!(bucket.get("k").await.unwrap().unwrap().value, "v");
    bucket.put("k", "w").await.unwrap();
    let statistics = client.statistics();
    assert!(statistics.connections_resumed > 0, "{statistics:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cached_view_finds_the_cluster_when_the_seeds_are_gone() {
    let cluster = Cluster::start(2).await;
    let cache = cluster.folder().join("view.cache");
    let mut profile = cluster.profile();
    profile.view_cache = Some(cache.clone());
    drop(Client::connect(profile.clone()).await.unwrap());
    until("the view is cached", async || cache.is_file()).await;
    profile.seeds = vec!["127.0.0.1:1".into()];
    let client = Client::connect(profile.clone()).await.unwrap();
    client.bucket("default").put("k", "v").await.unwrap();
    profile.view_cache = None;
    let error = Client::connect(profile).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_another_authority_is_told_so() {
    let cluster = Cluster::start(1).await;
    let other = Cluster::start(1).await;
    let mut profile = cluster.profile();
    (profile.cert, profile.key) = (other.profile().cert, other.profile().key);
    let error = Client::connect(profile).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    let mut profile = cluster.profile();
    profile.ca = other.profile().ca;
    let error = Client::connect(profile).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    cluster
        .client()
        .await
        .bucket("default")
        .put("k", "v")
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buckets_and_levels_that_cannot_be_are_refused() {
    let cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    let error = client.bucket("nowhere").get("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    let three = Level::Explicit { read: 1, write: 3 };
    let error = client
        .bucket("default")
        .put_with("k", "v", &write_at(three))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    for name in ["async", "single"] {
        let bucket = client.bucket(name);
        bucket
            .put_with("k", name, &write_at(Level::All))
            .await
            .unwrap();
        assert_eq!(bucket.get("k").await.unwrap().unwrap().value, name);
    }
    client.close().await;
    let error = client.bucket("default").get("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_of_sessions_runs() {
    let cluster = Cluster::start(3).await;
    let profile = cluster.folder().join("profile.toml");
    let program = binary().with_file_name("annulet-example-sessions");
    let output = std::process::Command::new(program)
        .env("ANNULET_PROFILE", profile)
        .output();
    let output = output.expect("`make test-cluster` builds the examples");
    let said = String::from_utf8_lossy(&output.stdout);
    let expected = "signed in as {\"user\":\"ada\"}\n\
                    known to the nearest replica: true\n\
                    after logout: None\n";
    assert_eq!(
        said,
        expected,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_follows_a_newer_cluster_file() {
    let mut cluster = Cluster::start(3).await;
    let client = cluster.client().await;
    let bucket = client.bucket("default");
    bucket.put("k", "old").await.unwrap();
    let fresh = client.bucket("fresh");
    assert_eq!(
        fresh.get("k").await.unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    cluster.write_cluster_file(2, "[[bucket]]\nnumber = 9\nname = \"fresh\"\n");
    // One after the other: in between, servers of two epochs answer, and no quorum mixes them.
    for node in 0..3 {
        assert!(cluster.stop(node), "{}", cluster.log(node));
        cluster.restart(node).await;
    }
    assert_eq!(bucket.get("k").await.unwrap().unwrap().value, "old");
    bucket.put("k", "new").await.unwrap();
    assert_eq!(client.view().epoch, 2);
    until("the new bucket is found", async || {
        fresh.put("k", "v").await.is_ok()
    })
    .await;
    assert_eq!(bucket.get("k").await.unwrap().unwrap().value, "new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_a_client_waits_for_the_last_owner() {
    let cluster = Cluster::start(3).await;
    for number in 0..30 {
        let client = cluster.client().await;
        let bucket = client.bucket("default");
        bucket
            .put_with(format!("c{number}"), "v", &write_at(Level::One))
            .await
            .unwrap();
        client.close().await;
    }
    // Every single owner has every key.
    let client = cluster.client_with(|config| config.check_one_in = 0).await;
    for node in 0..3 {
        for other in (0..3).filter(|other| *other != node) {
            cluster.signal(other, "STOP");
        }
        let keys = (0..30).map(|number| Bytes::from(format!("c{number}")));
        let found = client
            .bucket("default")
            .multi_get_with(keys, &read_at(Level::One))
            .await;
        assert!(
            found.iter().all(|entry| matches!(entry, Ok(Some(_)))),
            "node {node}: {found:?}"
        );
        for other in (0..3).filter(|other| *other != node) {
            cluster.signal(other, "CONT");
        }
    }
}

/// Collects the names of the spans that begin.
#[derive(Clone, Default)]
struct Spans(Arc<std::sync::Mutex<Vec<&'static str>>>);

impl tracing::Subscriber for Spans {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_span()
    }
    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        let mut names = self.0.lock().unwrap();
        names.push(span.metadata().name());
        tracing::span::Id::from_u64(names.len() as u64)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test(flavor = "current_thread")]
async fn operations_are_counted_and_traced() {
    let spans = Spans::default();
    let _guard = tracing::subscriber::set_default(spans.clone());
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    let bucket = client.bucket("default");
    bucket.put("k", "v").await.unwrap();
    bucket.get("k").await.unwrap();
    bucket.exists("k").await.unwrap();
    bucket.put("", "v").await.unwrap_err();
    let names = spans.0.lock().unwrap().clone();
    let of = |name| names.iter().filter(|is| **is == name).count();
    assert_eq!(
        (of("annulet.write"), of("annulet.read")),
        (1, 2),
        "{names:?}"
    );
    let statistics = client.statistics();
    assert_eq!(
        (statistics.writes, statistics.reads, statistics.errors),
        (2, 2, 1),
        "{statistics:?}"
    );
}
