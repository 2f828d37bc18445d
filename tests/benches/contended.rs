//! Figures of contention: clients that all change one key of a strong bucket, each again as soon as
//! it is done. `make bench-contended` runs it.
//!
//! An update ends with `Timeout` if others came between for two seconds. The bar is none where two
//! clients contend, and less than one in a hundred where eight do.
#![allow(clippy::unwrap_used)] // A benchmark that cannot go on ends.

use annulet_tests::cluster::Cluster;
use annulet_tests::cluster::load;
use bytes::Bytes;
use std::time::Duration;

/// How many clients contend, by turns.
const CONTENDING: [usize; 4] = [1, 2, 8, 32];
const TIME: Duration = Duration::from_secs(10);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let cluster = Cluster::start(3).await;
        println!("Updates of one key of a strong bucket; three servers, a client to each caller");
        for count in CONTENDING {
            let mut buckets = Vec::new();
            for _ in 0..count {
                buckets.push(cluster.client().await.bucket("strong"));
            }
            let key = format!("key/{count}");
            let figures = load::closed(count as u64, TIME, move |number| {
                let (bucket, key) = (buckets[number as usize % count].clone(), key.clone());
                async move { bucket.update(key, added).await.map(drop) }
            });
            println!("  {count:2} callers {}", figures.await);
        }
    });
}

/// One more.
fn added(value: Option<&Bytes>) -> Option<Bytes> {
    let number = value.map_or(0, |value| {
        let text = std::str::from_utf8(value).unwrap();
        text.parse::<u64>().unwrap()
    });
    Some((number + 1).to_string().into())
}
