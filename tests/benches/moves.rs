//! Figures of moves: what clients notice while the ring changes, and how fast records get to a
//! server that comes to own them. `make bench-moves` runs it.
//!
//! 1. A fourth server joins three. Puts and gets at quorum, so many a second, before and while
//!    lists move; the bar is a p99 within three times that of before.
//! 2. A second server joins one that has over two gigabytes, in records of 10 kB, and takes half of
//!    them over, once with nothing else to do and once while clients put and get. The bars are
//!    100 MB a second and a p99 within twice that of before. Each record has one replica, so that a
//!    put is as much work with two servers as with one, and what differs is what moves.
//!    `MOVES_RECORDS=n` takes fewer, for a slow machine, and with the argument `copies` only this
//!    is measured.
#![allow(clippy::unwrap_used)] // A benchmark that cannot go on ends.

use annulet::{Bucket, BucketOptions, Client, Mode, NodeId, View};
use annulet_tests::cluster::Cluster;
use annulet_tests::cluster::load::{self, Figures};
use bytes::Bytes;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

/// Keys that clients put and get meanwhile, and how long their values are.
const KEYS: u64 = 10_000;
const VALUE: &[u8] = &[7; 1_024];
/// Records that are only copied, unless the environment says how many.
const RECORDS: usize = 240_000;
const RECORD_BYTES: usize = 10_000;
/// Records stored by one call, and such calls under way.
const STORED_AT_ONCE: usize = 200;
const STORING: usize = 4;
/// Random bytes that values are cut from: a store cannot make them shorter.
const POOL_BYTES: usize = 16 << 20;
/// How long it is measured before anything moves.
const BEFORE: Duration = Duration::from_secs(15);
/// While something moves it is measured in pieces of this length.
const PIECE: Duration = Duration::from_secs(2);
/// How long a move may take: then it is told how far it came.
const MOVE_MAX: Duration = Duration::from_secs(120);
/// Of what the machine can do at most, so that queues are not what is measured. At most, many
/// operations share a request and a sync, and here hardly any do: two cores that all servers and
/// clients share are almost busy with a fifth, and half idle with a sixteenth.
const SHARE_JOINING: f64 = 0.2;
const SHARE_COPYING: f64 = 1.0 / 16.0;
/// Operations under way at most: far more than there should be.
const MOST: usize = 10_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        if !std::env::args().any(|argument| argument == "copies") {
            joins().await;
        }
        let records = std::env::var("MOVES_RECORDS").map_or(RECORDS, |text| text.parse().unwrap());
        println!(
            "A second server takes over half of {records} records of {RECORD_BYTES} bytes; \
             at least 100 MB/s"
        );
        let alone = copied(records, false).await;
        let beside = copied(records, true).await;
        println!("  with clients, of without: {:.2}", beside / alone);
    });
}

/// Puts and gets at quorum, half of each.
#[derive(Clone)]
struct Load {
    bucket: Bucket,
    rate: f64,
}

/// What became of them.
#[derive(Default)]
struct Both {
    puts: Figures,
    gets: Figures,
}

impl Load {
    /// Has all keys stored, and finds out how much is moderate.
    async fn prepare(bucket: Bucket, share: f64) -> Self {
        let entries = (0..KEYS).map(|number| (key(number).into(), Bytes::from_static(VALUE)));
        for stored in bucket.multi_put(entries).await {
            stored.unwrap();
        }
        let mut load = Self { bucket, rate: 0.0 };
        let closed = load.clone();
        let most = load::closed(32, Duration::from_secs(3), move |number| {
            closed.clone().operate(number, number / 32 % 2 == 0)
        });
        load.rate = most.await.rate() * share;
        println!(
            "  puts and gets at quorum, {:.0} a second: {:.0} % of what this machine can do",
            load.rate,
            100.0 * share
        );
        load
    }

    async fn operate(self, number: u64, puts: bool) -> annulet::Result<()> {
        let key = key(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % KEYS);
        let bucket = &self.bucket;
        let done = match puts {
            true => bucket.put(key, VALUE).await.map(drop),
            false => bucket.get(key).await.map(drop),
        };
        done.inspect_err(|error| eprintln!("  {error}"))
    }

    async fn run(&self, time: Duration) -> Both {
        let half = |puts| {
            load::open(self.rate / 2.0, time, MOST, move |number| {
                self.clone().operate(number, puts)
            })
        };
        let (puts, gets) = tokio::join!(half(true), half(false));
        Both { puts, gets }
    }

    /// Until something is over.
    async fn run_until(&self, over: &AtomicBool) -> Both {
        let mut both = Both::default();
        while !over.load(Ordering::Relaxed) {
            let piece = self.run(PIECE).await;
            both.puts.add(&piece.puts);
            both.gets.add(&piece.gets);
        }
        both
    }
}

impl Both {
    fn print(&self, when: &str) {
        println!("  {when:<8} puts {}", self.puts);
        println!("  {when:<8} gets {}", self.gets);
    }

    fn print_ratios(&self, when: &str, still: &Self, most: u32) {
        let p99 = |figures: &Figures| figures.percentile(99.0).as_secs_f64();
        println!(
            "  p99 while it moves, of {when}: puts {:.2}, gets {:.2}; at most {most}",
            p99(&self.puts) / p99(&still.puts),
            p99(&self.gets) / p99(&still.gets)
        );
    }
}

fn key(number: u64) -> String {
    format!("key/{number}")
}

/// Places in the lists that a member has.
fn owned(view: &View, id: NodeId) -> usize {
    let places = view.table.regions.iter().flat_map(|table| table.places());
    // A place that is empty names no member.
    let of_it = places.filter(|place| {
        let member = view.members.get(*place as usize);
        member.is_some_and(|member| member.id == id)
    });
    of_it.count()
}

/// Waits until a server that joined owns its share. Gives how long it took from the first list that
/// moved, and the part of its share that it owns then, which is less than all if it took too long.
#[expect(
    clippy::disallowed_methods,
    reason = "figures are measured: this is the clock that they are measured with"
)]
async fn arrival(client: Client, address: String) -> (Duration, f64) {
    let mut began = None;
    loop {
        let view = client.newest_view().await.unwrap();
        let member = view.members.iter().find(|m| m.address == address);
        if let Some(member) = member
            && (began.is_some() || !view.table.joint.is_empty())
        {
            let began = *began.get_or_insert_with(tokio::time::Instant::now);
            let members = view.members.len();
            let share = view.table.partitions as usize * members.min(3) / members;
            let owned = owned(&view, member.id);
            let is_there = view.table.joint.is_empty() && owned >= share;
            if is_there || began.elapsed() > MOVE_MAX {
                return (began.elapsed(), owned as f64 / share as f64);
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A server joins; gives what [`arrival`] does once it is there, and what clients met meanwhile.
async fn join(cluster: &mut Cluster, load: Option<&Load>) -> ((Duration, f64), Both) {
    let client = cluster.client().await;
    let node = cluster.join(0, 1).await;
    let over = Arc::new(AtomicBool::new(false));
    let arrives = tokio::spawn({
        let (over, address) = (Arc::clone(&over), cluster.address(node));
        async move {
            let arrived = arrival(client, address).await;
            over.store(true, Ordering::Relaxed);
            arrived
        }
    });
    let met = match load {
        Some(load) => load.run_until(&over).await,
        None => Both::default(),
    };
    (arrives.await.unwrap(), met)
}

async fn joins() {
    println!("A fourth server joins three");
    let mut cluster = Cluster::start(3).await;
    let load = Load::prepare(cluster.client().await.bucket("default"), SHARE_JOINING).await;
    let before = load.run(BEFORE).await;
    before.print("before");
    let ((took, part), while_moving) = join(&mut cluster, Some(&load)).await;
    while_moving.print("moving");
    println!(
        "  {:.0} % of its share was there after {:.1} s",
        100.0 * part,
        took.as_secs_f64()
    );
    while_moving.print_ratios("before", &before, 3);
}

/// Megabytes a second that arrive at a server that joins.
async fn copied(records: usize, is_loaded: bool) -> f64 {
    let mut cluster = Cluster::bootstrap().await;
    let client = cluster.admin().await;
    let options = BucketOptions {
        replicas: Some(1),
        ..BucketOptions::new(Mode::Lww)
    };
    client.create_bucket("single", &options).await.unwrap();
    let bucket = client.bucket("single");
    store(&bucket, records).await;
    println!(
        "{}",
        ["  without clients", "  with clients"][usize::from(is_loaded)]
    );
    let load = match is_loaded {
        true => Some(Load::prepare(bucket, SHARE_COPYING).await),
        false => None,
    };
    let before = match &load {
        Some(load) => load.run(BEFORE).await,
        None => Both::default(),
    };
    let ((took, part), while_moving) = join(&mut cluster, load.as_ref()).await;
    if let Some(load) = &load {
        before.print("before");
        while_moving.print("moving");
        let after = load.run(BEFORE).await;
        after.print("after");
        while_moving.print_ratios("before", &before, 2);
        while_moving.print_ratios("after", &after, 2);
    }
    let bytes = (records * RECORD_BYTES) as f64 / 2.0 * part;
    let rate = bytes / 1e6 / took.as_secs_f64();
    println!(
        "  {:.0} MB came in {:.1} s: {rate:.1} MB/s",
        bytes / 1e6,
        took.as_secs_f64()
    );
    rate
}

/// Stores what is to be copied.
async fn store(bucket: &Bucket, records: usize) {
    let mut pool = vec![0; POOL_BYTES];
    ChaCha8Rng::seed_from_u64(7).fill_bytes(&mut pool);
    let pool = Bytes::from(pool);
    let mut storing = JoinSet::new();
    for first in (0..records).step_by(STORED_AT_ONCE) {
        if storing.len() >= STORING {
            storing.join_next().await.unwrap().unwrap();
        }
        let (bucket, pool) = (bucket.clone(), pool.clone());
        storing.spawn(async move {
            let record = |number: usize| {
                let at = number * 7_919 % (POOL_BYTES - RECORD_BYTES);
                let value = pool.slice(at..at + RECORD_BYTES);
                (format!("record/{number}").into(), value)
            };
            let numbers = first..records.min(first + STORED_AT_ONCE);
            for stored in bucket.multi_put(numbers.map(record)).await {
                stored.unwrap();
            }
        });
    }
    storing.join_all().await;
}
