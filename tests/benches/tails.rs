//! Figures of tails: what one slow or stopped server does to everyone else. `make bench-tails`
//! runs it.
//!
//! 1. Three servers, each behind a relay. By turns all are well and the answers of one come 50 ms
//!    late. Reads at quorum, so many a second; the bar is a p99 within twice the healthy one's,
//!    from the first moment on, and hedges for at most one read in twenty.
//! 2. Four servers, three owners to a key. One server is stopped. Callers use all keys; the bar is
//!    that the throughput of keys that it does not own falls by less than a tenth after the first
//!    second.
#![allow(clippy::unwrap_used)] // A benchmark that cannot go on ends.

use annulet::{Bucket, Client, Level};
use annulet_tests::cluster::calls::{owners, read_at};
use annulet_tests::cluster::load::{self, Figures};
use annulet_tests::cluster::{Cluster, Options};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const KEYS: u64 = 1_000;
const LATE: Duration = Duration::from_millis(50);
const ROUND: Duration = Duration::from_secs(10);
const ROUNDS: usize = 3;
/// Operations under way at most: far more than there should be.
const MOST: usize = 10_000;
/// Of what the machine can do, so that queues are not what is measured.
const SHARE: f64 = 0.25;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        slow().await;
        stopped().await;
    });
}

fn key(number: u64) -> String {
    format!("key/{}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % KEYS)
}

async fn store(bucket: &Bucket) {
    let entries = (0..KEYS).map(|number| (format!("key/{number}").into(), vec![7u8; 1_024].into()));
    for stored in bucket.multi_put(entries).await {
        stored.unwrap();
    }
}

/// Reads at quorum, for a while.
async fn reads(client: &Client, rate: f64, time: Duration) -> Figures {
    let bucket = client.bucket("default");
    let options = Arc::new(read_at(Level::Quorum));
    load::open(rate, time, MOST, move |number| {
        let (bucket, options) = (bucket.clone(), Arc::clone(&options));
        async move { bucket.get_with(key(number), &options).await.map(drop) }
    })
    .await
}

async fn slow() {
    let cluster = Cluster::start_with(Options {
        relays: true,
        ..Options::servers(3)
    })
    .await;
    let client = cluster.client().await;
    store(&client.bucket("default")).await;
    let bucket = client.bucket("default");
    let most = load::closed(32, Duration::from_secs(3), move |number| {
        let bucket = bucket.clone();
        async move { bucket.get(key(number)).await.map(drop) }
    });
    let rate = most.await.rate() * SHARE;
    println!("One server of three answers {} ms late", LATE.as_millis());
    println!("  reads at quorum, {rate:.0} a second: a quarter of what this machine can do");
    let (mut ratios, mut healthy, mut late) = (Vec::new(), Figures::default(), Figures::default());
    let before = client.statistics();
    for round in 0..ROUNDS {
        let well = reads(&client, rate, ROUND).await;
        let relay = cluster.relay(round);
        relay.change(|conditions| conditions.delay_back = LATE);
        let slow = reads(&client, rate, ROUND).await;
        relay.change(|conditions| conditions.delay_back = Duration::ZERO);
        println!("  healthy   {well}");
        println!("  one late  {slow}");
        ratios.push(slow.percentile(99.0).as_secs_f64() / well.percentile(99.0).as_secs_f64());
        healthy.add(&well);
        late.add(&slow);
    }
    let after = client.statistics();
    ratios.sort_by(f64::total_cmp);
    let part = |hedges: u64| 100.0 * hedges as f64 / (after.reads - before.reads) as f64;
    println!("  all together: healthy   {healthy}");
    println!("                one late  {late}");
    println!(
        "  p99 with one late, of the healthy one: {:.2} (median; {:.2} to {:.2}); at most 2",
        ratios[ROUNDS / 2],
        ratios[0],
        ratios[ROUNDS - 1]
    );
    println!(
        "  hedged: {:.2} % of the reads; at most 5; tried besides: {:.2} %",
        part(after.hedges - before.hedges),
        part(after.trials - before.trials)
    );
}

/// Operations done so far, of keys that the stopped server does not own and of the others.
#[derive(Debug, Default)]
struct Done {
    other: AtomicU64,
    owned: AtomicU64,
    failed: AtomicU64,
}

impl Done {
    fn read(&self) -> [u64; 3] {
        [&self.other, &self.owned, &self.failed].map(|count| count.load(Ordering::Relaxed))
    }
}

async fn stopped() {
    const STOPPED: usize = 3;
    let cluster = Cluster::start(4).await;
    let client = cluster.client().await;
    let bucket = client.bucket("default");
    store(&bucket).await;
    let view = client.view();
    let is_other = |number| !owners(&view, &bucket, &format!("key/{number}")).contains(&STOPPED);
    let other: Arc<[bool]> = (0..KEYS).map(is_other).collect();
    let share = other.iter().filter(|other| **other).count() as u64 * 100 / KEYS;
    println!("One server of four is stopped; {share} % of the keys are not its own");
    println!("  32 callers, gets and puts at quorum of keys at random");
    let done = Arc::new(Done::default());
    let load = tokio::spawn(load::closed(32, Duration::from_secs(25), {
        let done = Arc::clone(&done);
        move |number| {
            let (bucket, done, other) = (bucket.clone(), Arc::clone(&done), Arc::clone(&other));
            async move {
                let at = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % KEYS;
                let key = format!("key/{at}");
                let result = match number / 32 % 2 {
                    0 => bucket.get(&key).await.map(drop),
                    _ => bucket.put(&key, vec![7u8; 1_024]).await.map(drop),
                };
                let count = match (&result, other[at as usize]) {
                    (Err(_), _) => &done.failed,
                    (Ok(()), true) => &done.other,
                    (Ok(()), false) => &done.owned,
                };
                count.fetch_add(1, Ordering::Relaxed);
                result
            }
        }
    }));
    let mut each_second = Vec::new();
    let mut beat = tokio::time::interval(Duration::from_secs(1));
    beat.tick().await;
    for second in 0..24 {
        if second == 12 {
            cluster.signal(STOPPED, "STOP");
        }
        let before = done.read();
        beat.tick().await;
        let after = done.read();
        each_second.push([0, 1, 2].map(|at| after[at] - before[at]));
    }
    cluster.signal(STOPPED, "CONT");
    load.await.unwrap();
    // The first two seconds warm up.
    let mean = |seconds: &[[u64; 3]], at: usize| {
        seconds.iter().map(|counts| counts[at]).sum::<u64>() / seconds.len() as u64
    };
    let (before, first, after) = (
        &each_second[2..12],
        &each_second[12..13],
        &each_second[13..],
    );
    println!("  operations a second           not its own    its own    failed");
    for (name, seconds) in [
        ("before", before),
        ("first second", first),
        ("after it", after),
    ] {
        let [other, owned, failed] = [0, 1, 2].map(|at| mean(seconds, at));
        println!("  {name:<28} {other:>12} {owned:>10} {failed:>9}");
    }
    let change = 100.0 * (mean(after, 0) as f64 / mean(before, 0) as f64 - 1.0);
    println!("  not its own, after the first second: {change:+.1} %; at least -10");
}
