//! Two regions with three servers each, 40 ms apart: what each level waits for, where reads go,
//! and what is left of it while the link between them is down.
#![cfg(all(feature = "cluster", target_os = "linux"))]
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use annulet::{Bucket, Client, Config, ErrorKind, Level, Outcome, ReadOptions, WriteOptions};
use annulet_tests::cluster::calls::{read_at, until};
use annulet_tests::cluster::regions::{NAMES, Outage, Regions, zone};
use bytes::Bytes;
use std::time::Duration;
use tokio::time::Instant;

const EAST: usize = 0;
const WEST: usize = 1;
const SERVERS: usize = 3;
const ONE_WAY: Duration = Duration::from_millis(40);
const ROUND_TRIP: Duration = Duration::from_millis(80);
/// Of operations while the link is down.
const LIMIT: Duration = Duration::from_secs(1);
/// What two loaded cores may add to a deadline.
const SLACK: Duration = Duration::from_millis(250);

/// Puts a value at a level, within the client's usual time or less.
async fn put(
    bucket: &Bucket,
    key: &str,
    value: &str,
    level: Level,
    limit: impl Into<Option<Duration>>,
) -> annulet::Result<()> {
    let options = WriteOptions {
        level: Some(level),
        timeout: limit.into(),
        ..WriteOptions::default()
    };
    let value = value.to_owned();
    bucket.put_with(key, value, &options).await.map(drop)
}

/// The moment, to measure how long an operation takes.
#[allow(clippy::disallowed_methods)] // Levels differ in what they wait for.
fn now() -> Instant {
    Instant::now()
}

/// How long so many operations take, each by itself, the shortest first.
async fn times(count: usize, mut operation: impl AsyncFnMut(usize)) -> Vec<Duration> {
    let mut times = Vec::new();
    for number in 0..count {
        let begun = now();
        operation(number).await;
        times.push(now() - begun);
    }
    times.sort();
    times
}

async fn text(bucket: &Bucket, key: &str, level: Level) -> Option<Bytes> {
    let entry = bucket.get_with(key, &read_at(level)).await;
    let entry = entry.unwrap_or_else(|error| panic!("{key} at {level}: {error}"));
    entry.map(|entry| entry.value)
}

/// Opens the connections that a test is not about.
async fn warm_up(client: &Client) {
    let bucket = client.bucket("default");
    until("everyone can be reached", async || {
        put(&bucket, "warm", "v", Level::All, None).await.is_ok()
            && bucket
                .get_with("warm", &read_at(Level::All))
                .await
                .is_ok_and(|entry| entry.is_some())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_level_waits_for_the_regions_that_it_names() {
    let Some(regions) = Regions::start(SERVERS, ONE_WAY).await else {
        return;
    };
    let client = regions.client(EAST, |_, _| {}).await;
    warm_up(&client).await;
    let bucket = client.bucket("default");
    for (level, count) in [
        (Level::LocalQuorum, 50),
        (Level::One, 50),
        (Level::Quorum, 12),
        (Level::EachQuorum, 12),
    ] {
        let puts = times(count, async |number| {
            let key = format!("{level}/{number}");
            put(&bucket, &key, "v", level, None).await.unwrap();
        });
        let puts = puts.await;
        let gets = times(count, async |number| {
            let key = format!("{level}/{number}");
            assert_eq!(text(&bucket, &key, level).await.unwrap(), "v");
        });
        let gets = gets.await;
        let (put, get) = (puts[count / 2], gets[count / 2]);
        eprintln!("{level}: median of puts {put:?}, of gets {get:?}");
        match level {
            Level::LocalQuorum | Level::One => {
                assert!(put < ROUND_TRIP / 2 && get < ROUND_TRIP / 2, "{level}");
            }
            _ => assert!(
                puts[0] >= ROUND_TRIP && gets[0] >= ROUND_TRIP,
                "{level}: not even the quickest can have been in both regions"
            ),
        }
    }
}

/// Reads that each server has answered.
async fn reads(regions: &Regions, servers: &[usize]) -> Vec<u64> {
    let mut reads = Vec::new();
    for node in servers {
        reads.push(regions.metric(*node, "annulet_reads_total").await as u64);
    }
    reads
}

/// Reads often at a level until a round of these was answered as it must be. A read that the
/// machine held up for 100 ms goes to another server as well, and the slow one is asked last for a
/// second: such a round tells nothing.
async fn are_answered(
    regions: &Regions,
    (client, level): (&Client, Level),
    servers: &[usize],
    is_right: impl Fn(&[u64]) -> bool,
) {
    let bucket = client.bucket("default");
    until("reads are answered where they must be", async || {
        let before = reads(regions, servers).await;
        for _ in 0..READS {
            assert_eq!(text(&bucket, "warm", level).await.unwrap(), "v");
        }
        let after = reads(regions, servers).await;
        let answered = after.iter().zip(&before);
        let answered: Vec<_> = answered.map(|(after, before)| after - before).collect();
        eprintln!("{level}: {answered:?}");
        is_right(&answered)
    })
    .await;
}

const READS: u64 = 40;

/// One read in ten at `one` looks whether all owners agree, wherever they are. Not these.
fn quiet(config: &mut Config) {
    config.check_one_in = 0;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_ask_the_own_zone_first_then_the_own_region_and_nobody_else() {
    let Some(mut regions) = Regions::start(SERVERS, ONE_WAY / 2).await else {
        return;
    };
    let client = regions.client(EAST, |profile, config| {
        profile.zone = Some(zone(EAST, 1));
        quiet(config);
    });
    let client = client.await;
    warm_up(&client).await;
    let mut servers: Vec<_> = (0..2 * SERVERS).collect();
    are_answered(&regions, (&client, Level::One), &servers, |answered| {
        *answered == [0, READS, 0, 0, 0, 0]
    })
    .await;
    let local = (&client, Level::LocalQuorum);
    are_answered(&regions, local, &servers, |answered| {
        let near = answered[0] + answered[2] == READS && answered[1] == READS;
        near && answered[3..] == [0; SERVERS]
    })
    .await;
    // Without the zone, the region is next.
    regions.cluster.kill(1);
    servers.remove(1);
    are_answered(&regions, (&client, Level::One), &servers, |answered| {
        answered[0] + answered[1] == READS && answered[2..] == [0; SERVERS]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_says_of_its_place_counts_more_than_what_is_quick() {
    let Some(regions) = Regions::start(SERVERS, ONE_WAY / 2).await else {
        return;
    };
    let servers: Vec<_> = (0..2 * SERVERS).collect();
    let in_zone = regions.client(EAST, |profile, config| {
        profile.region = None;
        profile.zone = Some(zone(WEST, 1));
        quiet(config);
    });
    let in_zone = in_zone.await;
    warm_up(&in_zone).await;
    are_answered(&regions, (&in_zone, Level::One), &servers, |answered| {
        *answered == [0, 0, 0, 0, READS, 0]
    })
    .await;
    let in_region = regions.client(WEST, |profile, config| {
        profile.region = Some(NAMES[EAST].into());
        quiet(config);
    });
    let in_region = in_region.await;
    warm_up(&in_region).await;
    for (level, each) in [(Level::One, 1), (Level::LocalQuorum, 2)] {
        are_answered(&regions, (&in_region, level), &servers, |answered| {
            answered[..3].iter().sum::<u64>() == each * READS && answered[3..] == [0; SERVERS]
        })
        .await;
    }
}

/// One client in each region, and its bucket.
async fn clients(regions: &Regions) -> [(Client, Bucket); 2] {
    let mut clients = Vec::new();
    for region in [EAST, WEST] {
        let client = regions.client(region, |_, _| {}).await;
        warm_up(&client).await;
        let bucket = client.bucket("default");
        clients.push((client, bucket));
    }
    clients.try_into().expect("two of them")
}

/// While nothing comes through: each region goes on by itself, and what needs both fails in time.
async fn goes_on_alone(bucket: &Bucket, region: usize) {
    for number in 0..50 {
        let key = format!("alone/{region}/{number}");
        let put = put(bucket, &key, "v", Level::LocalQuorum, LIMIT).await;
        put.expect("the own region is enough");
        assert_eq!(
            text(bucket, &key, Level::LocalQuorum).await.unwrap(),
            "v",
            "{key}"
        );
    }
    for level in [Level::Quorum, Level::EachQuorum] {
        let key = format!("both/{region}/{level}");
        let begun = now();
        let error = put(bucket, &key, "v", level, LIMIT).await.unwrap_err();
        let took = now() - begun;
        assert!(took <= LIMIT + SLACK, "{level}: {took:?}");
        assert!(
            matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout),
            "{level}: {error}"
        );
        // The own region has it, the other may yet get it.
        assert_eq!(error.outcome(), Some(Outcome::Unknown), "{level}: {error}");
        let reads = ReadOptions {
            timeout: Some(LIMIT),
            ..read_at(level)
        };
        let begun = now();
        let error = bucket.get_with(&key, &reads).await.unwrap_err();
        let took = now() - begun;
        assert!(took <= LIMIT + SLACK, "{level}: {took:?}");
        assert!(
            matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout),
            "{level}: {error}"
        );
    }
}

/// Once something comes through again: what is written in both regions is read in both.
async fn are_one_again(buckets: [&Bucket; 2]) {
    for (writer, reader) in [(EAST, WEST), (WEST, EAST)] {
        until("both regions can be written", async || {
            let put = put(buckets[writer], "ready", "v", Level::EachQuorum, None);
            put.await.is_ok()
        })
        .await;
        for number in 0..10 {
            let key = format!("again/{writer}/{number}");
            let put = put(buckets[writer], &key, "v", Level::EachQuorum, None);
            put.await.unwrap();
            assert_eq!(
                text(buckets[reader], &key, Level::LocalQuorum)
                    .await
                    .unwrap(),
                "v",
                "{key}"
            );
        }
    }
}

async fn survives(outage: Outage) {
    let Some(regions) = Regions::start(SERVERS, ONE_WAY).await else {
        return;
    };
    let [(_east, east), (_west, west)] = &clients(&regions).await;
    regions.cut(outage);
    let ((), ()) = tokio::join!(goes_on_alone(east, EAST), goes_on_alone(west, WEST));
    regions.heal(outage);
    are_one_again([east, west]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_regions_go_on_alone_while_their_link_is_down() {
    survives(Outage::Down).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_regions_go_on_alone_while_their_link_loses_everything_in_silence() {
    survives(Outage::Silent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_during_an_outage_comes_to_both_regions_by_itself() {
    /// For what each region writes alone: until then, the writer goes on trying the other region.
    const SHORT: Duration = Duration::from_millis(300);
    const KEYS: usize = 8;
    let Some(regions) = Regions::start(SERVERS, ONE_WAY).await else {
        return;
    };
    let clients = clients(&regions).await;
    let buckets = clients.each_ref().map(|(_, bucket)| bucket);
    // Of each region, and of both at once.
    let key = |of: usize, number: usize| format!("{of}/{number}");
    for (of, number) in (0..3).flat_map(|of| (0..KEYS).map(move |number| (of, number))) {
        let key = key(of, number);
        let put = put(buckets[EAST], &key, "old", Level::All, None);
        put.await.unwrap();
    }
    regions.cut(Outage::Lossy);
    for (region, bucket) in buckets.into_iter().enumerate() {
        for (of, number) in [region, 2]
            .into_iter()
            .flat_map(|of| (0..KEYS).map(move |number| (of, number)))
        {
            let (key, value) = (key(of, number), format!("new of {region}"));
            let put = put(bucket, &key, &value, Level::LocalQuorum, SHORT);
            put.await.unwrap();
        }
    }
    tokio::time::sleep(SHORT).await;
    regions.heal(Outage::Lossy);
    // What a region missed is kept by the other one's servers. Each region is asked for itself
    // only, so that no read brings anything over.
    for (of, number) in (0..3).flat_map(|of| (0..KEYS).map(move |number| (of, number))) {
        let key = key(of, number);
        until("both regions agree", async || {
            let here = text(buckets[EAST], &key, Level::LocalQuorum).await.unwrap();
            let there = text(buckets[WEST], &key, Level::LocalQuorum).await.unwrap();
            let news: &[&str] = match of {
                0 => &["new of 0"],
                1 => &["new of 1"],
                _ => &["new of 0", "new of 1"],
            };
            here == there && news.iter().any(|new| here == *new)
        })
        .await;
    }
}

/// Reads at `all`, or a few at `quorum`, from either side, repair what nobody kept for others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_one_region_has_is_repaired_by_reads_of_both() {
    const KEYS: usize = 8;
    let Some(regions) = Regions::start(SERVERS, ONE_WAY).await else {
        return;
    };
    let clients = clients(&regions).await;
    let buckets = clients.each_ref().map(|(_, bucket)| bucket);
    regions.cut(Outage::Lossy);
    for number in 0..KEYS {
        // Too short to leave anything with others for who is away.
        let (short, key) = (Duration::from_millis(20), number.to_string());
        until("the own region takes it", async || {
            let put = put(buckets[EAST], &key, "new", Level::LocalQuorum, short);
            put.await.is_ok()
        })
        .await;
    }
    regions.heal(Outage::Lossy);
    for number in 0..KEYS {
        let key = number.to_string();
        let level = if number < KEYS / 2 {
            Level::All
        } else {
            Level::Quorum
        };
        until("both regions agree", async || {
            let read = text(buckets[number % 2], &key, level).await;
            assert_eq!(read.unwrap(), "new", "{key}");
            text(buckets[WEST], &key, Level::LocalQuorum)
                .await
                .is_some_and(|value| value == "new")
        })
        .await;
    }
}
