//! Figures of overload: what is still done when more is asked than can be done. `make
//! bench-overload` runs it.
//!
//! Three servers share one core with neighbours that keep it busy, and clients have the others, so
//! that what is too much for the servers is not too much for those who ask. Puts of 1 KiB at
//! quorum, which must be done within a second: first as many as callers manage, which is the peak,
//! then parts and multiples of that as an open loop, from few clients and from many. The bars are
//! a goodput of four fifths of the peak at four times as much, and memory that stops growing.
#![allow(clippy::unwrap_used)] // A benchmark that cannot go on ends.

use annulet::{Client, WriteOptions};
use annulet_tests::cluster::Cluster;
use annulet_tests::cluster::load::{self, Figures};
use annulet_tests::cluster::machine::{resident_bytes, run_on};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

const KEYS: u64 = 10_000;
/// Few clients have long queues of their own, many fill those of the servers.
const CLIENTS: [usize; 2] = [4, 64];
/// Goes before each round: clients learn from refusals how much to hold back.
const LEARNING: Duration = Duration::from_secs(2);
const ROUND: Duration = Duration::from_secs(10);
/// Callers of a closed loop: the best of these is the peak.
const CALLERS: [u64; 3] = [64, 256, 1_024];
/// Operations a second of the open loops, as parts of the peak.
const OFFERED: [f64; 5] = [0.5, 1.0, 2.0, 4.0, 0.5];
/// Threads that keep the servers' core busy.
const NEIGHBOURS: usize = 8;
const MIB: u64 = 1 << 20;

fn main() {
    let cores = std::thread::available_parallelism().unwrap().get();
    run_on(1.min(cores - 1)..cores);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        // Processes get the cores of the thread that starts them, and that is this one.
        run_on([0]);
        for _ in 0..NEIGHBOURS {
            std::thread::spawn(|| {
                loop {
                    std::hint::spin_loop();
                }
            });
        }
        let cluster = Cluster::start(3).await;
        run_on(1.min(cores - 1)..cores);
        println!("Servers on one core, clients on {}", (cores - 1).max(1));
        if cores == 1 {
            println!("  the same one: do not trust this run");
        }
        for clients in CLIENTS {
            run(&cluster, clients).await;
        }
    });
}

async fn run(cluster: &Cluster, count: usize) {
    println!("{count} clients");
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(cluster.client().await);
    }
    let puts = Puts {
        clients: clients.into(),
        value: Bytes::from_static(&[7; 1_024]),
        options: Arc::new(WriteOptions {
            timeout: Some(Duration::from_secs(1)),
            ..WriteOptions::default()
        }),
    };
    puts.clone().closed(32).await;
    let mut peak = 0.0f64;
    for callers in CALLERS {
        let figures = puts.clone().closed(callers).await;
        println!("  {callers:>5} callers                   {figures}");
        peak = peak.max(figures.rate());
    }
    for part in OFFERED {
        puts.open(peak * part, LEARNING).await;
        let (figures, memory) = watched(cluster, puts.open(peak * part, ROUND)).await;
        let good = figures.times.len() as f64 / ROUND.as_secs_f64();
        let [servers, own] = memory.map(|bytes| bytes / MIB);
        println!(
            "  {part:>3} of the peak  goodput {:>3.0} %  {figures}; \
             a server had at most {servers} MiB, the clients {own} MiB",
            100.0 * good / peak
        );
    }
}

/// Does something, and says how much memory the largest server and this process had meanwhile.
async fn watched(cluster: &Cluster, load: impl Future<Output = Figures>) -> (Figures, [u64; 2]) {
    let mut load = std::pin::pin!(load);
    let mut most = [0, 0];
    let mut beat = tokio::time::interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            figures = &mut load => return (figures, most),
            _ = beat.tick() => {
                let servers = (0..3).map(|node| resident_bytes(cluster.process(node)));
                let own = resident_bytes(std::process::id());
                most = [most[0].max(servers.max().unwrap_or(0)), most[1].max(own)];
            }
        }
    }
}

/// What is asked.
#[derive(Clone)]
struct Puts {
    clients: Arc<[Client]>,
    value: Bytes,
    options: Arc<WriteOptions>,
}

impl Puts {
    async fn put(self, number: u64) -> annulet::Result<()> {
        let key = format!("key/{}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % KEYS);
        let bucket = self.clients[number as usize % self.clients.len()].bucket("default");
        let put = bucket.put_with(key, self.value.clone(), &self.options);
        put.await.map(drop)
    }

    async fn closed(self, callers: u64) -> Figures {
        let put = move |number| self.clone().put(number);
        load::closed(callers, ROUND / 2, put).await
    }

    async fn open(&self, rate: f64, time: Duration) -> Figures {
        let most = 100_000;
        load::open(rate, time, most, |number| self.clone().put(number)).await
    }
}
