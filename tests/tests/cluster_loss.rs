//! A disk is lost for good, and with it what buckets of one and two replicas had there: moves wait
//! until somebody accepts the loss, then all goes on with what is left.
#![cfg(feature = "cluster")]
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use annulet::{BucketOptions, Client, Level, MemberState, Mode};
use annulet_tests::cluster::calls::{MOVES, owners, read_at, until, until_within};
use annulet_tests::cluster::{Cluster, binary};
use std::process::{Command, Stdio};

const KEYS: usize = 60;
/// Buckets by how many replicas they have.
const BUCKETS: [(&str, u8); 3] = [("one", 1), ("two", 2), ("three", 3)];

/// Runs `annulet cluster` with nobody at the terminal: its exit code, and all that it prints.
fn run(cluster: &Cluster, args: &[&str]) -> (i32, String) {
    let path = cluster.folder().join("boss.toml");
    cluster.admin_profile().save(&path).unwrap();
    let output = Command::new(binary())
        .arg("cluster")
        .args(args)
        .arg("--profile")
        .arg(&path)
        .stdin(Stdio::null())
        .output();
    let output = output.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8(text).unwrap(),
    )
}

async fn fill(client: &Client) {
    for (name, replicas) in BUCKETS {
        let options = BucketOptions {
            replicas: Some(replicas),
            ..BucketOptions::new(Mode::Lww)
        };
        client.create_bucket(name, &options).await.unwrap();
        let bucket = client.bucket(name);
        for key in 0..KEYS {
            bucket.put(format!("key {key}"), "kept").await.unwrap();
        }
    }
}

/// Keys of the bucket of one replica that a server owns.
fn owned(client: &Client, node: usize) -> Vec<String> {
    let (view, bucket) = (client.view(), client.bucket("one"));
    let keys = (0..KEYS).map(|key| format!("key {key}"));
    keys.filter(|key| owners(&view, &bucket, key) == [node])
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_a_list_are_given_up_and_who_comes_back_when_all_is_over_does_not_go_on() {
    let mut cluster = Cluster::start(5).await;
    let client = cluster.admin().await;
    fill(&client).await;
    let view = client.view();
    let id_of = |address: String| {
        let mut members = view.members.iter();
        members.find(|m| m.address == address).unwrap().id
    };
    let lost = [3, 4].map(|node| id_of(cluster.address(node)));
    (3..5).for_each(|node| cluster.kill(node));
    for id in lost {
        client.accept_loss(id).await.unwrap();
    }
    until_within(MOVES, "all goes on without them", async || {
        let view = client.newest_view().await.unwrap();
        let gone = lost.iter().all(|id| view.member(*id).is_none());
        gone && view.table.joint.is_empty()
    })
    .await;
    // A key of which two owners were lost is read at quorum again, from what the third one had.
    let bucket = client.bucket("three");
    for key in (0..KEYS).map(|key| format!("key {key}")) {
        let found = bucket.get_with(key.clone(), &read_at(Level::Quorum)).await;
        assert!(found.is_ok(), "{key}: {found:?}");
        bucket.put(key, "new").await.unwrap();
    }
    cluster.try_restart(3).await;
    let status = cluster.ended(3).await;
    assert_eq!(status.code(), Some(3), "{}", cluster.log(3));
    assert!(cluster.log(3).contains("has left the cluster"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_a_lost_disk_had_is_given_up_and_all_else_goes_on() {
    let mut cluster = Cluster::start(3).await;
    let client = cluster.admin().await;
    fill(&client).await;
    let id_of = |address: String| {
        let view = client.view();
        let member = view.members.iter().find(|m| m.address == address);
        member.unwrap().id
    };
    let lost = id_of(cluster.address(2));
    let only_there = owned(&client, 2);
    assert!(!only_there.is_empty() && only_there.len() < KEYS);

    cluster.kill(2);
    cluster.lose_data(2, 0, lost);
    cluster.restart(2).await;
    until("all that can go on without it has", async || {
        let view = client.newest_view().await.unwrap();
        let state = view.member(lost).map(|member| member.state);
        let (code, status) = run(&cluster, &["status"]);
        assert_eq!(code, 0, "{status}");
        state == Some(MemberState::Leaving) && status.contains("HELD UP")
    })
    .await;
    let (_, status) = run(&cluster, &["status"]);
    for bucket in ["bucket one (replicas 1)", "bucket two (replicas 2)"] {
        assert!(status.contains(bucket), "{status}");
    }
    assert!(!status.contains("bucket three"), "{status}");
    let node = lost.to_string();
    let advice = format!("--accept-loss {node}");
    assert!(status.contains(&advice), "{status}");

    let (code, said) = run(&cluster, &["recover", "--accept-loss", &node]);
    assert_eq!(code, 2, "nobody confirms it: {said}");
    assert!(said.contains("NOBODY is left"), "{said}");
    let there = cluster.address(1);
    let (code, said) = run(&cluster, &["recover", "--accept-loss", &there, "--yes"]);
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("answers, so what it has is not lost"),
        "{said}"
    );
    assert!(client.newest_view().await.unwrap().member(lost).is_some());

    let (code, said) = run(&cluster, &["recover", "--accept-loss", &node, "--yes"]);
    assert_eq!(code, 0, "{said}");
    until_within(MOVES, "all goes on without it", async || {
        let view = client.newest_view().await.unwrap();
        view.member(lost).is_none() && view.table.joint.is_empty()
    })
    .await;
    for (name, _) in BUCKETS {
        let bucket = client.bucket(name);
        for key in (0..KEYS).map(|key| format!("key {key}")) {
            let found = bucket.get_with(key.clone(), &read_at(Level::Quorum)).await;
            let is_lost = name == "one" && only_there.contains(&key);
            assert_eq!(found.unwrap().is_none(), is_lost, "{key} of {name}");
            bucket.put(key, "new").await.unwrap();
        }
    }
}
