//! A majority of the keepers is lost for good: data is served as far as quorums allow, nothing can
//! be decided, and `annulet cluster recover` goes on.
#![cfg(feature = "cluster")]
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use annulet::{BucketOptions, Client, ErrorKind, Level, Mode, Profile};
use annulet_tests::cluster::calls::{lists, read_at, until};
use annulet_tests::cluster::{Cluster, binary};
use std::process::{Command, Stdio};

/// Runs `annulet cluster recover` with nobody at the terminal: its exit code, and what it prints.
fn recover(cluster: &Cluster, profile: &Profile, args: &[&str]) -> (i32, String, String) {
    let path = cluster.folder().join("boss.toml");
    profile.save(&path).unwrap();
    let output = Command::new(binary())
        .args(["cluster", "recover", "--profile"])
        .arg(&path)
        .args(args)
        .stdin(Stdio::null())
        .output();
    let output = output.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    (code, text(output.stdout), text(output.stderr))
}

/// A client that knows one server only, and so has its view.
async fn client_of(cluster: &Cluster, node: usize) -> Client {
    let profile = Profile {
        seeds: vec![cluster.address(node)],
        ..cluster.profile()
    };
    Client::connect(profile).await.unwrap()
}

const KEYS: usize = 60;

async fn fill(client: &Client) {
    let bucket = client.bucket("default");
    for key in 0..KEYS {
        bucket.put(format!("key {key}"), "kept").await.unwrap();
    }
}

/// What two of five servers still serve; says what they do not.
async fn check(client: &Client) -> Result<(), String> {
    let bucket = client.bucket("default");
    let mut quorums = 0;
    for key in (0..KEYS).map(|key| format!("key {key}")) {
        let lists = lists(&client.view(), &bucket, &key);
        let left = |list: &Vec<usize>| list.iter().filter(|owner| **owner >= 3).count();
        let has_quorum = lists.iter().all(|list| left(list) == 2);
        let level = match left(&lists[0]) {
            _ if has_quorum => Level::Quorum,
            0 => continue,
            _ => Level::One,
        };
        quorums += usize::from(has_quorum);
        let found = bucket.get_with(key.clone(), &read_at(level)).await;
        let found = found.map_err(|error| format!("{key} at {level}: {error}"))?;
        assert_eq!(found.unwrap().value, "kept", "{key}");
        if has_quorum {
            let put = bucket.put(key.clone(), "kept").await;
            put.map_err(|error| format!("{key} is not put: {error}"))?;
        }
    }
    assert!(quorums > 0, "some keys have both as owners");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rest_goes_on_and_a_keeper_that_comes_back_joins() {
    let mut cluster = Cluster::start(5).await;
    let profile = cluster.admin_profile();
    let client = Client::connect(profile.clone()).await.unwrap();
    assert_eq!(client.view().tip.keepers.len(), 5);
    fill(&client).await;
    let options = BucketOptions::new(Mode::Lww);
    client.create_bucket("before", &options).await.unwrap();
    let (code, found, why) = recover(&cluster, &profile, &["--yes"]);
    assert_eq!(code, 1, "{found}{why}");
    assert!(why.contains("nothing to recover"), "{why}");

    (0..3).for_each(|node| cluster.kill(node));
    check(&client).await.unwrap();
    let refused = client.create_bucket("during", &options).await.unwrap_err();
    assert!(
        matches!(refused.kind(), ErrorKind::Unavailable | ErrorKind::Timeout),
        "{refused}"
    );
    let (code, found, why) = recover(&cluster, &profile, &[]);
    assert_eq!(code, 2, "nobody confirms it: {found}{why}");
    assert!(
        found.contains("LOST FOR GOOD") && found.contains("NO ANSWER"),
        "{found}"
    );
    assert_eq!(client.view().tip.generation, 0);
    let (code, found, why) = recover(&cluster, &profile, &["--yes"]);
    assert_eq!(code, 0, "{found}{why}");
    assert!(found.contains("begins generation 1"), "{found}");

    let made = client.create_bucket("after", &options).await;
    made.unwrap_or_else(|error| panic!("buckets change again: {error}"));
    assert_eq!(client.view().tip.generation, 1);
    assert!(client.view().bucket_named("before").is_some());
    check(&client).await.unwrap();
    // One of the lost is let go, without those that are lost with it.
    let gone = client.view().members[1].id;
    client.remove_member(gone).await.unwrap();

    cluster.restart(0).await;
    until("the keeper that is back has the new chain", async || {
        let back = client_of(&cluster, 0).await;
        let view = back.view();
        view.tip.generation == 1 && view.bucket_named("after").is_some()
    })
    .await;
    // Lists move now, and no move takes a quorum from those that are there.
    check(&client_of(&cluster, 0).await).await.unwrap();
    assert!(!cluster.log(0).contains("FORKS"), "{}", cluster.log(0));
    assert!(cluster.log(3).contains("BEGUN ANEW") || cluster.log(4).contains("BEGUN ANEW"));
}
