//! Buckets made, changed and deleted while a cluster of real servers serves, and while servers are
//! killed.
#![cfg(feature = "cluster")]
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use annulet::{
    BucketChanges, BucketOptions, Client, Error, ErrorKind, Level, Mode, Outcome, Profile, Ttl,
};
use annulet_tests::cluster::calls::{read_at, until, write_at};
use annulet_tests::cluster::relay::Passage;
use annulet_tests::cluster::{Cluster, Options};
use std::time::Duration;

/// Buckets of the cluster file, numbered from 1.
const OF_FILE: u32 = 4;

fn lww() -> BucketOptions {
    BucketOptions::new(Mode::Lww)
}

async fn names(client: &Client) -> Vec<String> {
    let buckets = client.buckets().await.unwrap();
    buckets.into_iter().map(|bucket| bucket.name).collect()
}

/// The epoch of the server that a client of its own is told of.
async fn epoch_at(cluster: &Cluster, node: usize) -> u64 {
    let profile = Profile {
        seeds: vec![cluster.address(node)],
        ..cluster.profile()
    };
    match Client::connect(profile).await {
        Ok(client) => client.view().epoch,
        Err(_) => 0,
    }
}

async fn all_at(cluster: &Cluster, epoch: u64) {
    for node in 0..3 {
        let what = format!("server {node} is at epoch {epoch}");
        until(&what, async || epoch_at(cluster, node).await == epoch).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buckets_are_made_used_changed_and_deleted_for_everybody() {
    let cluster = Cluster::start(3).await;
    let (admin, other) = (cluster.admin().await, cluster.client().await);
    let made = admin.create_bucket("carts", &lww()).await.unwrap();
    assert_eq!((made.number, made.replicas), (OF_FILE + 1, 3));
    // A client that knows nothing of it finds it; every owner takes it.
    let carts = other.bucket("carts");
    let put = carts.put_with("k", "v", &write_at(Level::All)).await;
    put.unwrap();
    let changes = BucketChanges {
        ttl: Ttl::After(Duration::from_secs(3_600)),
        read_level: Some(Level::All),
        write_level: None,
    };
    let changed = admin.set_bucket("carts", &changes).await.unwrap();
    assert_eq!(
        (changed.ttl_ms, changed.read_level),
        (Some(3_600_000), Level::All)
    );
    // The writer hears of the change with some answer, and goes by it from then on.
    until("values are given the new time to live", async || {
        carts.put("k", "v2").await.unwrap();
        carts
            .get("k")
            .await
            .unwrap()
            .unwrap()
            .expires_at_ms
            .is_some()
    })
    .await;
    admin.delete_bucket("carts").await.unwrap();
    let gone = admin.bucket("carts").get("k").await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::InvalidInput);
    until("nobody answers for it any more", async || {
        matches!(carts.get("k").await, Err(error) if error.kind() == ErrorKind::InvalidInput)
    })
    .await;
    let again = admin.create_bucket("carts", &lww()).await.unwrap();
    assert_eq!(again.number, OF_FILE + 2);
    let found = admin
        .bucket("carts")
        .get_with("k", &read_at(Level::All))
        .await;
    assert_eq!(
        found.unwrap(),
        None,
        "nothing of the old one is in the new one"
    );
    assert_eq!(
        names(&other).await,
        ["default", "async", "single", "strong", "carts"]
    );
    all_at(&cluster, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_or_comes_second_is_told_so() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client().await;
    let error = client.create_bucket("carts", &lww()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    let admins = [cluster.admin().await, cluster.admin().await];
    for round in 0..5 {
        let name = format!("b{round}");
        let options = lww();
        let (one, other) = tokio::join!(
            admins[0].create_bucket(&name, &options),
            admins[1].create_bucket(&name, &options)
        );
        let made: Vec<_> = [&one, &other]
            .into_iter()
            .filter_map(|r| r.as_ref().ok())
            .collect();
        let refused = [&one, &other].into_iter().filter_map(|r| r.as_ref().err());
        let refused: Vec<_> = refused.map(Error::kind).collect();
        assert_eq!(
            (made.len(), refused),
            (1, vec![ErrorKind::Conflict]),
            "{name}"
        );
    }
    // Names that differ do not disturb each other.
    let options = lww();
    let both = tokio::join!(
        admins[0].create_bucket("left", &options),
        admins[1].create_bucket("right", &options)
    );
    let numbers = [both.0.unwrap().number, both.1.unwrap().number];
    assert_ne!(numbers[0], numbers[1]);
    let unknown = admins[0].delete_bucket("nowhere").await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::InvalidInput);
    let wide = BucketOptions {
        replicas: Some(5),
        ..lww()
    };
    let wide = admins[0].create_bucket("wide", &wide).await.unwrap_err();
    assert_eq!(wide.kind(), ErrorKind::InvalidInput);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_away_catches_up_and_two_of_three_are_needed() {
    let mut cluster = Cluster::start(3).await;
    let admin = cluster.admin().await;
    cluster.kill(2);
    for number in 0..20 {
        let made = admin.create_bucket(format!("b{number}"), &lww()).await;
        made.unwrap();
    }
    cluster.restart(2).await;
    // It asks the others before it answers as an owner: it takes what it has just learned of.
    let bucket = admin.bucket("b19");
    until("every owner takes a write", async || {
        bucket
            .put_with("k", "v", &write_at(Level::All))
            .await
            .is_ok()
    })
    .await;
    all_at(&cluster, 21).await;
    cluster.kill(0);
    cluster.kill(1);
    let error = admin.create_bucket("more", &lww()).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    cluster.restart(0).await;
    cluster.restart(1).await;
    until("a majority decides again", async || {
        admin.create_bucket("even more", &lww()).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_keep_the_chain_and_the_file_does_not_bring_buckets_back() {
    let mut cluster = Cluster::start(3).await;
    let admin = cluster.admin().await;
    admin.delete_bucket("single").await.unwrap();
    admin.create_bucket("carts", &lww()).await.unwrap();
    admin.bucket("carts").put("k", "v").await.unwrap();
    for node in 0..3 {
        cluster.kill(node);
    }
    cluster.write_cluster_file(7, "[[bucket]]\nnumber = 9\nname = \"fresh\"\n");
    for node in 0..3 {
        cluster.restart(node).await;
        assert!(
            cluster.log(node).contains("IGNORED"),
            "{}",
            cluster.log(node)
        );
    }
    let client = cluster.client().await;
    assert_eq!(client.view().epoch, 3);
    assert_eq!(
        names(&client).await,
        ["default", "async", "strong", "carts"]
    );
    let entry = client.bucket("carts").get("k").await.unwrap();
    assert_eq!(entry.unwrap().value, "v");
}

/// A server is killed at some moment of a change that it proposes: the change is made or not, never
/// by half, and the others go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_server_is_killed_in_the_middle_is_made_or_not() {
    let mut cluster = Cluster::start(3).await;
    let admin = cluster.admin().await;
    let warm = admin.create_bucket("warm", &lww()).await;
    warm.unwrap();
    let mut made = 0;
    for round in 0..12u64 {
        let victim = round as usize % 3;
        let name = format!("b{round}");
        let changing = {
            let (name, admin) = (name.clone(), admin.clone());
            tokio::spawn(async move { admin.create_bucket(name, &lww()).await })
        };
        tokio::time::sleep(Duration::from_millis(round)).await;
        cluster.kill(victim);
        let result = changing.await.unwrap();
        match &result {
            Ok(_) => made += 1,
            // The name was taken by the very change whose answer was lost: never, since it is
            // asked for again under its own name.
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                assert_eq!(error.outcome(), Some(Outcome::Unknown), "{error}");
            }
        }
        cluster.restart(victim).await;
        // The same change anew: it is made now, or was made then.
        until("the bucket is there", async || {
            match admin.create_bucket(&name, &lww()).await {
                Ok(_) => true,
                Err(error) => error.kind() == ErrorKind::Conflict,
            }
        })
        .await;
    }
    assert!(made > 0);
    let view = admin.view();
    let epoch = cluster.client().await.view().epoch.max(view.epoch);
    all_at(&cluster, epoch).await;
    let client = cluster.client().await;
    let mut numbers: Vec<_> = client.view().buckets.iter().map(|b| b.number).collect();
    let count = numbers.len();
    numbers.dedup();
    assert_eq!(numbers.len(), count);
    assert_eq!(count, OF_FILE as usize + 1 + 12, "each once");
    assert_eq!(epoch, 1 + 1 + 12, "each epoch made one of them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_reaches_no_other_makes_no_change_until_it_does() {
    let options = Options {
        relays: true,
        ..Options::servers(3)
    };
    let cluster = Cluster::start_with(options).await;
    let admin = cluster.admin().await;
    admin.create_bucket("one", &lww()).await.unwrap();
    // Whoever is asked reaches nobody else, or is not reached.
    cluster.relay(1).set(Passage::Cut);
    cluster.relay(2).set(Passage::Cut);
    let error = admin.create_bucket("two", &lww()).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    cluster.relay(1).set(Passage::Open);
    cluster.relay(2).set(Passage::Open);
    until("a change is made again", async || {
        match admin.create_bucket("two", &lww()).await {
            Ok(_) => true,
            Err(error) => error.kind() == ErrorKind::Conflict,
        }
    })
    .await;
    let names = names(&admin).await;
    assert_eq!(names.iter().filter(|name| *name == "two").count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_asks_for_what_it_missed_says_that_it_starts() {
    let mut cluster = Cluster::start(3).await;
    let client = cluster.client().await;
    let state = async || client.members().await[2].state;
    until("the third is up", async || state().await == "up").await;
    for other in [0, 1] {
        cluster.signal(other, "STOP");
    }
    // It waits only so long for the others, so one that is asked late is up already.
    until("the third says that it starts", async || {
        cluster.kill(2);
        cluster.restart(2).await;
        state().await == "starting"
    })
    .await;
    for other in [0, 1] {
        cluster.signal(other, "CONT");
    }
    until("the third is up again", async || state().await == "up").await;
}
