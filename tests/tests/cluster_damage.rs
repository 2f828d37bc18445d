//! Servers whose files were damaged: nothing that is damaged is served, and what the others have
//! comes back.
#![cfg(feature = "cluster")]
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use annulet::{Bucket, Client, Level};
use annulet_server::store::Engine;
use annulet_server::store::rocks::{RocksStore, Sizes};
use annulet_tests::cluster::calls::{read_at, until, write_at};
use annulet_tests::cluster::{Cluster, Options, wire};
use bytes::Bytes;
use std::path::{Path, PathBuf};

const KEYS: usize = 400;
/// The server whose files are damaged.
const HURT: usize = 2;

fn key(number: usize) -> String {
    format!("k{number}")
}

/// Short values and, for every eighth key, one that lies in a file of its own.
fn value(number: usize) -> Bytes {
    let length = if number.is_multiple_of(8) {
        20_000
    } else {
        100
    };
    Bytes::from(vec![number as u8; length])
}

/// Three servers with the same keys; the last one was killed, and has all in its log.
async fn hurt_one() -> Cluster {
    let options = Options {
        limits: "damage_wait_ms = 1\nsweep_ms = 10\n".into(),
        ..Options::servers(3)
    };
    let mut cluster = Cluster::start_with(options).await;
    let client = cluster.client().await;
    let bucket = client.bucket("default");
    for number in 0..KEYS {
        let put = write_at(Level::All);
        bucket
            .put_with(key(number), value(number), &put)
            .await
            .unwrap();
    }
    client.close().await;
    cluster.kill(HURT);
    cluster
}

fn store(cluster: &Cluster) -> PathBuf {
    cluster.data(HURT).join("store")
}

/// The store's files of this kind, the shortest name first. Without that of its notes: a server
/// whose chain of epochs is damaged does not start.
fn files(store: &Path, kind: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir(store).unwrap();
    let paths = all.map(|file| file.unwrap().path());
    // The first of all notes is the first view of the chain.
    let has_notes = |path: &PathBuf| {
        let bytes = std::fs::read(path).unwrap();
        bytes[..bytes.len().min(16)]
            .windows(2)
            .any(|key| key == b"Eg")
    };
    let mut files: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|end| end == kind))
        .filter(|path| !has_notes(path))
        .collect();
    files.sort();
    files
}

/// Writes everything out into sorted files.
fn settle(store: &Path) {
    let sizes = Sizes {
        cache: 8 << 20,
        write_buffer: 8 << 20,
        open_files: 64,
    };
    RocksStore::open(store, sizes, false)
        .unwrap()
        .settle()
        .unwrap();
}

fn flip(path: &Path, at: impl Fn(usize) -> usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

/// How many keys are served as they were written; one that is not must not be answered at all.
async fn served(bucket: &Bucket, level: Level) -> usize {
    let keys = (0..KEYS).map(|number| Bytes::from(key(number)));
    let entries = bucket.multi_get_with(keys, &read_at(level)).await;
    let right = |(number, entry): (usize, annulet::Result<Option<annulet::Entry>>)| match entry {
        Ok(Some(entry)) => {
            assert!(entry.value == value(number), "k{number} is served damaged");
            true
        }
        Ok(None) => panic!("k{number} is served as absent"),
        Err(error) => {
            assert!(error.is_retryable(), "k{number}: {error}");
            false
        }
    };
    entries
        .into_iter()
        .enumerate()
        .filter(|entry| right((entry.0, entry.1.clone())))
        .count()
}

async fn metric(cluster: &Cluster, name: &str) -> f64 {
    let tls = wire::tls(cluster, Some("tester"));
    wire::metric(&cluster.address(HURT), &tls, name).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flipped_bits_in_files_are_found_and_brought_back_from_the_replicas() {
    let mut cluster = hurt_one().await;
    let path = store(&cluster);
    settle(&path);
    let (sorted, values) = (files(&path, "sst"), files(&path, "blob"));
    assert!(!sorted.is_empty() && !values.is_empty());
    for file in &sorted {
        // Into the first block of data.
        flip(file, |_| 100);
    }
    for file in &values {
        flip(file, |length| length / 2);
    }
    cluster.restart(HURT).await;
    let client = cluster.client().await;
    let bucket = client.bucket("default");
    assert_eq!(served(&bucket, Level::Quorum).await, KEYS, "two are well");
    // A client beside the damaged server asks it first, so that it looks at all that it has.
    let mut profile = cluster.profile();
    profile.zone = Some(format!("z{HURT}"));
    let near = Client::connect(profile).await.unwrap();
    until("what is damaged is brought back", async || {
        let refused = metric(&cluster, "annulet_refusals_total").await;
        served(&near.bucket("default"), Level::One).await == KEYS
            && refused == metric(&cluster, "annulet_refusals_total").await
    })
    .await;
    assert!(metric(&cluster, "annulet_damaged_total").await > 0.0);
    assert!(metric(&cluster, "annulet_restored_total").await > 0.0);
    near.close().await;
    assert!(
        cluster.log(HURT).contains("damaged"),
        "{}",
        cluster.log(HURT)
    );
    client.close().await;
    cluster.kill(0);
    cluster.kill(1);
    let alone = cluster.client().await;
    assert_eq!(served(&alone.bucket("default"), Level::One).await, KEYS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alone_a_damaged_server_serves_what_is_well_and_nothing_else() {
    let mut cluster = hurt_one().await;
    let path = store(&cluster);
    settle(&path);
    files(&path, "sst")
        .iter()
        .for_each(|file| flip(file, |_| 100));
    files(&path, "blob")
        .iter()
        .for_each(|file| flip(file, |length| length / 3));
    cluster.kill(0);
    cluster.kill(1);
    cluster.restart(HURT).await;
    let client = cluster.client_with(|config| {
        config.timeout = std::time::Duration::from_millis(500);
    });
    let bucket = client.await.bucket("default");
    let right = served(&bucket, Level::One).await;
    assert!((1..KEYS).contains(&right), "{right} of {KEYS} are served");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_torn_is_read_up_to_there_and_the_rest_comes_from_the_replicas() {
    let mut cluster = hurt_one().await;
    let log = files(&store(&cluster), "log").pop().unwrap();
    let length = std::fs::metadata(&log).unwrap().len();
    assert!(length > 10_000, "all is in the log");
    let file = std::fs::File::options().write(true).open(&log).unwrap();
    file.set_len(length - 5_000).unwrap();
    cluster.restart(HURT).await;
    let client = cluster.client().await;
    let bucket = client.bucket("default");
    assert_eq!(served(&bucket, Level::Quorum).await, KEYS);
    assert_eq!(served(&bucket, Level::All).await, KEYS);
    client.close().await;
    cluster.kill(0);
    cluster.kill(1);
    let alone = cluster.client().await;
    assert_eq!(served(&alone.bucket("default"), Level::One).await, KEYS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_log_or_a_missing_file_keeps_the_server_down_and_says_what_to_do() {
    let mut cluster = hurt_one().await;
    let path = store(&cluster);
    let log = files(&path, "log").pop().unwrap();
    let sound = std::fs::read(&log).unwrap();
    flip(&log, |length| length / 2);
    refuses_to_start(&mut cluster).await;
    std::fs::write(&log, sound).unwrap();

    settle(&path);
    let lost = files(&path, "sst").pop().unwrap();
    std::fs::remove_file(&lost).unwrap();
    refuses_to_start(&mut cluster).await;
    // The others serve all of it.
    let client = cluster.client().await;
    assert_eq!(served(&client.bucket("default"), Level::Quorum).await, KEYS);
}

async fn refuses_to_start(cluster: &mut Cluster) {
    let before = cluster.log(HURT).len();
    assert_eq!(cluster.try_restart(HURT).await, "", "it must not serve");
    let said = cluster.log(HURT).split_off(before);
    assert!(said.contains("does not open"), "{said}");
    assert!(
        said.contains("give it an empty folder"),
        "what to do: {said}"
    );
}
