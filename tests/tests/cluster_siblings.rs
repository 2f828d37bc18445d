//! Buckets that keep concurrent writes, over real servers.
#![cfg(feature = "cluster")]
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use annulet::{Bucket, Client, Context, Counter, ErrorKind, Level, Outcome, ReadOptions};
use annulet::{Entry, WriteOptions};
use annulet_protocol::ids::Incarnation;
use annulet_tests::cluster::calls::{owners, read_at, until, write_at};
use annulet_tests::cluster::{Cluster, Options, binary, wire};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::process::Command;

const BUCKETS: &str = r#"
[[bucket]]
number = 7
name = "carts"
mode = "siblings"

[[bucket]]
number = 8
name = "likes"
mode = "siblings"
merge = "counter"
"#;

async fn start(limits: &str) -> Cluster {
    let options = Options {
        limits: limits.into(),
        ..Options::servers(3)
    };
    let mut cluster = Cluster::prepared(options);
    cluster.write_cluster_file(1, BUCKETS);
    cluster.start_all().await;
    cluster
}

fn under(context: Context) -> WriteOptions {
    WriteOptions {
        context: Some(context),
        ..WriteOptions::default()
    }
}

async fn found(bucket: &Bucket, key: &str, level: Level) -> Option<Entry> {
    let entry = bucket.get_with(key, &read_at(level)).await;
    entry.unwrap_or_else(|error| panic!("{key} at {level}: {error}"))
}

fn texts(entry: Option<&Entry>) -> BTreeSet<Bytes> {
    let values = entry.into_iter().flat_map(|entry| &entry.siblings);
    values.cloned().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_values_stand_until_somebody_who_saw_them_writes() {
    let cluster = start("").await;
    let (one, two) = (cluster.client().await, cluster.client().await);
    let (left, right) = (one.bucket("carts"), two.bucket("carts"));
    let first = left.put("k", "apple").await.unwrap();
    assert_eq!(first.siblings, 1);
    let beside = right.put("k", "pear").await.unwrap();
    assert_eq!((beside.siblings, beside.context), (2, None));
    let entry = found(&right, "k", Level::All).await.unwrap();
    assert_eq!(texts(Some(&entry)), ["apple".into(), "pear".into()].into());
    assert!(!entry.is_merged);
    assert!(right.exists("k").await.unwrap());

    // A sequential writer makes no sibling: each write takes what the one before gave.
    let mut context = entry.context;
    for number in 0..20 {
        let value = format!("cart {number}");
        let written = left.put_with("k", value, &under(context)).await.unwrap();
        assert_eq!(written.siblings, 1);
        context = written.context.expect("it stands alone");
    }
    let entry = found(&right, "k", Level::Quorum).await.unwrap();
    assert_eq!((entry.value, entry.is_merged), ("cart 19".into(), true));

    // The context goes through text, and another client uses it.
    let text = context.to_string();
    let context: Context = text.parse().unwrap();
    right.delete_with("k", &under(context)).await.unwrap();
    assert_eq!(found(&left, "k", Level::All).await, None);
    left.put("k", "again").await.unwrap();
    left.delete("k").await.unwrap();
    assert_eq!(found(&right, "k", Level::All).await, None);

    let of_another = left.put("other", "v").await.unwrap().context.unwrap();
    let refused = left.put_with("k", "v", &under(of_another)).await;
    let error = refused.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(error.outcome(), Some(Outcome::NotApplied));
    for refused in [
        left.touch("k", annulet::Ttl::Never).await.map(|_| ()),
        one.bucket("default")
            .put_with(
                "k",
                "v",
                &under(found(&left, "other", Level::One).await.unwrap().context),
            )
            .await
            .map(|_| ()),
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_value_is_lost_while_servers_are_killed() {
    let mut cluster = start("").await;
    let clients: Vec<Client> = vec![cluster.client().await, cluster.client().await];
    let mut tasks = Vec::new();
    for (number, client) in clients.iter().enumerate() {
        let bucket = client.bucket("carts");
        tasks.push(tokio::spawn(async move {
            let mut put = BTreeSet::new();
            for round in 0..40 {
                let value = Bytes::from(format!("{number}/{round}"));
                // Those who failed may be there or not.
                if bucket.put("k", value.clone()).await.is_ok() {
                    put.insert(value);
                }
            }
            put
        }));
    }
    for node in 0..3 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        cluster.kill(node);
        cluster.restart(node).await;
    }
    let mut put = BTreeSet::new();
    for task in tasks {
        put.extend(task.await.unwrap());
    }
    assert!(!put.is_empty());
    let bucket = clients[0].bucket("carts");
    let mut seen = BTreeSet::new();
    until("all values are there", async || {
        let entry = bucket.get_with("k", &ReadOptions::default()).await;
        seen = entry.map_or_else(|_| BTreeSet::new(), |entry| texts(entry.as_ref()));
        put.is_subset(&seen)
    })
    .await;
    // One who has seen all of them leaves one.
    let entry = found(&bucket, "k", Level::Quorum).await.unwrap();
    let written = bucket.put_with("k", "one", &under(entry.context)).await;
    assert_eq!(written.unwrap().siblings, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_with_a_merge_gives_one_value() {
    let cluster = start("").await;
    let mut expected = 0;
    for writer in 0..3u8 {
        let client = cluster.client().await;
        let likes = client.bucket("likes");
        let mut mine = Counter::default();
        for _ in 0..=writer {
            expected += 1;
            mine.add(Incarnation([writer; 16]), 1).unwrap();
            likes.put("page", mine.encode().unwrap()).await.unwrap();
        }
    }
    let client = cluster.client().await;
    let entry = found(&client.bucket("likes"), "page", Level::Quorum)
        .await
        .unwrap();
    assert!(entry.is_merged && entry.siblings.len() > 1);
    assert_eq!(Counter::decode(&entry.value).unwrap().total(), expected);

    let carts = client.bucket("carts");
    carts.put("k", "a").await.unwrap();
    carts.put("k", "b").await.unwrap();
    let join = |values: &[Bytes]| values.join(&b'+').into();
    let merged = carts.get_merged("k", &ReadOptions::default(), join).await;
    let merged = merged.unwrap().unwrap();
    assert!(merged.is_merged);
    assert_eq!(merged.value.len(), 3);
    let written = carts
        .put_with("k", merged.value, &under(merged.context))
        .await;
    assert_eq!(written.unwrap().siblings, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_owner_alone_has_it_sends_on_by_itself() {
    let mut cluster = start("spread_after_ms = 500\n").await;
    let client = cluster.client().await;
    let own = owners(&client.view(), &client.bucket("carts"), "k");
    // Two owners hang while one takes the value. Then the client is gone at once, and with it what
    // it would have sent on.
    for node in &own[1..] {
        cluster.signal(*node, "STOP");
    }
    let profile = cluster.profile();
    let put = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let written = runtime.block_on(async {
            let client = Client::connect(profile).await.unwrap();
            let bucket = client.bucket("carts");
            bucket.put_with("k", "alone", &write_at(Level::One)).await
        });
        runtime.shutdown_background();
        written.unwrap()
    });
    assert_eq!(put.join().unwrap().siblings, 1);
    for node in &own[1..] {
        cluster.kill(*node);
        cluster.restart(*node).await;
    }
    // It knows so after a restart of its own, too.
    cluster.kill(own[0]);
    cluster.restart(own[0]).await;
    let (address, tls) = (cluster.address(own[0]), wire::tls(&cluster, Some("tester")));
    until("the value is sent on", async || {
        wire::metric(&address, &tls, "annulet_spread_total").await >= 2.0
    })
    .await;
    cluster.kill(own[0]);
    let entry = found(&client.bucket("carts"), "k", Level::Quorum).await;
    assert_eq!(entry.unwrap().value, "alone");
}

#[test]
fn the_program_shows_siblings_and_takes_contexts() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cluster = runtime.block_on(start(""));
    let profile = cluster.folder().join("profile.toml");
    let run = |arguments: &[&str]| {
        let output = Command::new(binary())
            .args(arguments)
            .args(["--bucket", "carts", "--json", "--profile"])
            .arg(&profile)
            .output()
            .unwrap();
        let json = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), json.replace([' ', '\n'], ""))
    };
    let context = |json: &str| {
        let (_, rest) = json.split_once("\"context\":\"").expect("a context");
        rest.split('"').next().unwrap().to_owned()
    };
    assert_eq!(run(&["put", "k", "a"]).0, 0);
    assert_eq!(run(&["put", "k", "b"]).0, 0);
    let (code, shown) = run(&["get", "k"]);
    assert_eq!(code, 1, "two values stand unmerged");
    assert!(shown.contains("\"value\":null"), "{shown}");
    for value in ["YQ==", "Yg=="] {
        assert!(shown.contains(value), "{shown}");
    }
    let (code, written) = run(&["put", "k", "c", "--context", &context(&shown)]);
    assert_eq!(code, 0);
    let (code, shown) = run(&["get", "k"]);
    assert_eq!(code, 0);
    assert!(
        shown.contains("\"value\":\"Yw==\",\"siblings\":[\"Yw==\"]"),
        "{shown}"
    );
    let seen = context(&written);
    assert_eq!(run(&["delete", "k", "--context", &seen]).0, 0);
    assert_eq!(run(&["get", "k"]).0, 1);
    assert_eq!(run(&["put", "k", "d", "--context", "nonsense"]).0, 2);
}
