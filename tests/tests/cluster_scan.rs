//! Scans of a bucket on real servers, and times to live that are renewed.
#![cfg(feature = "cluster")]
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use annulet::{Bucket, Level, ReadOptions, Scan, ScanEntry, ScanOptions, Ttl, WriteOptions};
use annulet_tests::cluster::Cluster;
use annulet_tests::cluster::calls::{until, write_at};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;

/// Longer than what comes along with its key.
const LONG: usize = 100_000;

/// Puts so many keys, some with long values, some with times to live, and deletes a few.
async fn fill(bucket: &Bucket, keys: usize) -> BTreeMap<Bytes, Bytes> {
    let value = |number: usize| match number % 50 {
        7 => Bytes::from(vec![number as u8; LONG + number]),
        8 => Bytes::new(),
        _ => Bytes::from(format!("value {number}")),
    };
    let all: Vec<_> = (0..keys)
        .map(|number| (Bytes::from(format!("k{number}")), value(number)))
        .collect();
    for done in bucket.multi_put(all.clone()).await {
        done.unwrap();
    }
    let brief = WriteOptions {
        ttl: Ttl::After(Duration::from_millis(1)),
        ..WriteOptions::default()
    };
    for number in 0..20 {
        bucket
            .put_with(format!("brief{number}"), "v", &brief)
            .await
            .unwrap();
        let deleted = format!("deleted{number}");
        bucket.put(&deleted, "v").await.unwrap();
        bucket.delete(&deleted).await.unwrap();
    }
    all.into_iter().collect()
}

/// All entries to the end, however often a page has to be asked for.
async fn rest(scan: &mut Scan) -> Vec<ScanEntry> {
    let mut entries = Vec::new();
    loop {
        match scan.next_page().await {
            Ok(Some(page)) => entries.extend(page.entries),
            Ok(None) => return entries,
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

fn values(entries: Vec<ScanEntry>) -> BTreeMap<Bytes, Bytes> {
    let count = entries.len();
    let value = |entry: ScanEntry| (entry.key, entry.value.expect("a value"));
    let values: BTreeMap<_, _> = entries.into_iter().map(value).collect();
    assert_eq!(values.len(), count, "no key comes twice");
    values
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_gives_everything_once_and_goes_on_from_any_cursor() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client().await;
    let bucket = client.bucket("default");
    let mut empty = bucket.scan(ScanOptions::default()).unwrap();
    assert_eq!(empty.next_page().await.unwrap(), None);

    let expected = fill(&bucket, 700).await;
    let few = ScanOptions {
        page_entries: 37,
        ..ScanOptions::default()
    };
    let mut scan = bucket.scan(few.clone()).unwrap();
    let mut pages = Vec::new();
    while let Some(page) = scan.next_page().await.unwrap() {
        assert!(page.entries.len() <= 37);
        pages.push(page);
    }
    assert!(pages.len() >= 700 / 37, "{} pages", pages.len());
    assert_eq!(pages.last().unwrap().cursor, None);
    let all: Vec<_> = pages.iter().flat_map(|page| page.entries.clone()).collect();
    assert_eq!(values(all.clone()), expected);

    // Another client goes on where this one was, with other pages.
    let seen = &pages[..3];
    let other = cluster.client().await;
    let mut scan = other
        .bucket("default")
        .scan(ScanOptions {
            cursor: seen[2].cursor.clone(),
            page_entries: 1_000,
            ..ScanOptions::default()
        })
        .unwrap();
    let mut joined: Vec<_> = seen.iter().flat_map(|page| page.entries.clone()).collect();
    joined.extend(rest(&mut scan).await);
    assert_eq!(joined, all, "in the same order");

    let mut keys = bucket
        .scan(ScanOptions {
            keys_only: true,
            ..few
        })
        .unwrap();
    let keys = rest(&mut keys).await;
    assert!(keys.iter().all(|entry| entry.value.is_none()));
    let order = |entries: &[ScanEntry]| -> Vec<_> {
        entries
            .iter()
            .map(|e| (e.key.clone(), e.version.clone()))
            .collect()
    };
    assert_eq!(order(&keys), order(&all));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_misses_nothing_while_servers_die_and_come_back() {
    let mut cluster = Cluster::start(5).await;
    let client = cluster.client().await;
    let bucket = client.bucket("default");
    let expected = fill(&bucket, 1_500).await;
    let options = ScanOptions {
        page_entries: 64,
        timeout: Some(Duration::from_millis(500)),
        ..ScanOptions::default()
    };
    let scans = tokio::spawn(async move {
        for _ in 0..4 {
            let mut scan = bucket.scan(options.clone()).unwrap();
            assert_eq!(values(rest(&mut scan).await), expected);
        }
    });
    // One after the other, until the scans are done.
    for node in (0..5).cycle() {
        cluster.kill(node);
        tokio::time::sleep(Duration::from_millis(30)).await;
        cluster.restart(node).await;
        if scans.is_finished() {
            break;
        }
    }
    scans.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn giving_up_on_a_page_loses_nothing() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client().await;
    let bucket = client.bucket("default");
    let expected = fill(&bucket, 300).await;
    let mut scan = bucket.scan(ScanOptions::default()).unwrap();
    let mut entries = Vec::new();
    for wait_us in [0, 50, 200, 800, 2_000].into_iter().cycle() {
        let wait = Duration::from_micros(wait_us);
        match tokio::time::timeout(wait, scan.next_page()).await {
            Err(_) => {}
            Ok(Ok(Some(page))) => entries.extend(page.entries),
            Ok(Ok(None)) => break,
            Ok(Err(error)) => panic!("{error}"),
        }
    }
    assert_eq!(values(entries), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_touch_renews_a_session_without_sending_it() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client().await;
    let bucket = client.bucket("default");
    let after = |seconds| Ttl::After(Duration::from_secs(seconds));
    assert_eq!(bucket.touch("none", after(10)).await.unwrap(), None);

    let brief = WriteOptions {
        ttl: Ttl::After(Duration::from_millis(1_500)),
        ..write_at(Level::All)
    };
    let written = bucket.put_with("session", "who", &brief).await.unwrap();
    bucket.put_with("over", "who", &brief).await.unwrap();
    let touched = bucket
        .touch("session", after(3_600))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(touched, written, "the version stays");
    until("the other one is over", async || {
        bucket.get("over").await.unwrap().is_none()
    })
    .await;
    assert_eq!(
        bucket.touch("over", after(10)).await.unwrap(),
        None,
        "it stays over"
    );
    for level in [Level::One, Level::Quorum, Level::All] {
        let options = ReadOptions {
            level: Some(level),
            ..ReadOptions::default()
        };
        let entry = bucket.get_with("session", &options).await.unwrap().unwrap();
        assert_eq!(
            (entry.value, entry.version),
            ("who".into(), written.version.clone())
        );
        assert!(entry.expires_at_ms.unwrap() > now_ms() + 3_000_000);
    }
    bucket.touch("session", Ttl::Never).await.unwrap().unwrap();
    let entry = bucket.get("session").await.unwrap().unwrap();
    assert_eq!(entry.expires_at_ms, None);
    let newer = bucket.put("session", "new").await.unwrap();
    let touched = bucket.touch("session", after(10)).await.unwrap().unwrap();
    assert_eq!(touched.version, newer.version);
    assert_eq!(bucket.get("session").await.unwrap().unwrap().value, "new");
}

#[allow(clippy::disallowed_methods)] // A test's own clock.
fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_millis() as u64
}
