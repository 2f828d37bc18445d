//! What servers do by themselves: hand over what they keep for others, drop what has expired, bring
//! back what is damaged.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

mod support;

use annulet_protocol::clock::Stamp;
use annulet_protocol::codec;
use annulet_protocol::hash::storage_key;
use annulet_protocol::hints::{HintsReport, HintsWaiting};
use annulet_protocol::ids::{Incarnation, NodeId, OpId};
use annulet_protocol::message::{Answer, Hint, Operation, RefusalKind, Source, Write};
use annulet_protocol::record::{Origin, Record};
use annulet_replica::hints::{Kept, KeptRecord, Tally};
use annulet_replica::store::{Change, Family, Store};
use annulet_server::store::Engine;
use annulet_server::store::rocks::{RocksStore, Sizes};
use bytes::Bytes;
use std::path::Path;
use support::many::Many;
use support::{BUCKET, Caller, eventually, get, now_ms, value};
use tokio::sync::Mutex;

const KEY: Bytes = Bytes::from_static(b"k");

fn record(value: &'static str, expires_at_ms: Option<u64>) -> Record {
    let now_ms = now_ms();
    let op = OpId {
        client: Incarnation([5; 16]),
        sequence: 1,
        first_sent_ms: now_ms,
    };
    let stamp = Stamp::at(now_ms);
    let origin = Origin { stamp, op };
    Record::seal(BUCKET, &KEY, origin, Some(value.into()), expires_at_ms)
}

fn write(record: &Record) -> Operation {
    Operation::Write(Write {
        bucket: BUCKET,
        key: KEY,
        source: Source::FirstHand,
        record: record.clone(),
        gone: false,
    })
}

async fn hints(caller: &mut Caller) -> HintsReport {
    codec::decode_hints(&caller.get("/v1/hints").await.body).unwrap()
}

fn open(path: &Path) -> RocksStore {
    let sizes = Sizes {
        cache: 8 << 20,
        write_buffer: 8 << 20,
        open_files: 64,
    };
    RocksStore::open(path, sizes, false).unwrap()
}

async fn found(caller: &Mutex<Caller>) -> Option<Bytes> {
    let answers = caller.lock().await.operations(vec![get("k")]).await;
    value(&answers[0])
}

#[tokio::test]
async fn what_is_kept_for_a_server_goes_to_it_once_it_is_there() {
    let mut cluster = Many::prepare(3, |mut config| {
        config.limits.deliver_ms = 20;
        config
    });
    cluster.start(0).await;
    let mut keeper = cluster.caller(0, "client").await;
    let hint = Operation::Hint(Hint {
        bucket: BUCKET,
        key: KEY,
        owners: vec![NodeId(1), NodeId(2)],
        source: Source::FirstHand,
        record: record("v", None),
    });
    let answers = keeper.operations(vec![hint]).await;
    assert!(matches!(answers[0], Answer::Written(_)), "{answers:?}");
    let waits = |owner| HintsWaiting {
        owner: NodeId(owner),
        count: 1,
    };
    assert_eq!(hints(&mut keeper).await.waiting, [waits(1), waits(2)]);
    assert_eq!(value(&keeper.operations(vec![get("k")]).await[0]), None);

    cluster.start(2).await;
    let late = Mutex::new(cluster.caller(2, "client").await);
    eventually(async || found(&late).await.is_some_and(|value| value == "v")).await;
    let keeper = Mutex::new(keeper);
    let waiting = async || hints(&mut *keeper.lock().await).await.waiting;
    eventually(async || waiting().await == [waits(1)]).await;

    cluster.start(1).await;
    let last = Mutex::new(cluster.caller(1, "client").await);
    eventually(async || found(&last).await.is_some_and(|value| value == "v")).await;
    eventually(async || hints(&mut *keeper.lock().await).await.bytes == 0).await;
    let metrics = keeper.lock().await.get("/metrics").await.body;
    let metrics = String::from_utf8(metrics.to_vec()).unwrap();
    assert!(
        metrics.contains("annulet_hints_delivered_total 2"),
        "{metrics}"
    );
}

#[tokio::test]
async fn what_was_kept_for_too_long_is_set_aside_and_told() {
    let mut cluster = Many::prepare(2, |mut config| {
        config.limits.deliver_ms = 20;
        config.limits.sweep_ms = 10;
        config
    });
    cluster.start(0).await;
    cluster.stop(0).await;
    let kept = Kept {
        since_ms: now_ms() - annulet_protocol::limits::HINT_AGE_MS_MAX - 60_000,
        epoch: 1,
        aside: false,
        owners: vec![NodeId(1)],
        record: KeptRecord::Lww(record("old", None)),
    };
    let key = storage_key(cluster.view().hash(BUCKET, &KEY), BUCKET, &KEY);
    let mut tally = Tally::default();
    tally.add(&key, &kept);
    let put = |(note, since)| Change::Put(Family::Notes, note, since);
    let mut batch: Vec<_> = kept.notes(&key).map(put).collect();
    batch.push(Change::Put(Family::Hints, key.clone(), kept.encode()));
    batch.push(Change::Put(Family::Notes, Tally::key(), tally.encode()));
    let store = open(&cluster.store(0));
    store.write(batch).unwrap();
    store.sync().unwrap();
    drop(store);

    cluster.start(0).await;
    let keeper = Mutex::new(cluster.caller(0, "client").await);
    let report = async || hints(&mut *keeper.lock().await).await;
    eventually(async || report().await.aside == 1).await;
    let report = report().await;
    assert_eq!((report.waiting, report.aside_listed.len()), (vec![], 1));
    let listed = &report.aside_listed[0];
    assert_eq!((&listed.key, listed.bucket), (&KEY, BUCKET));
    assert_eq!(listed.owners, [NodeId(1)]);
    assert_eq!(listed.version, kept.record.version());
    assert_eq!(listed.since_ms, kept.since_ms);
}

#[tokio::test]
async fn the_value_of_what_expired_long_ago_is_removed_and_its_head_stays() {
    let mut cluster = Many::prepare(1, |mut config| {
        config.limits.sweep_ms = 1;
        config.limits.expired_kept_ms = 0;
        config
    });
    cluster.start(0).await;
    let mut caller = cluster.caller(0, "client").await;
    let expired = record("v", Some(now_ms()));
    let answers = caller.operations(vec![write(&expired)]).await;
    assert!(matches!(answers[0], Answer::Written(_)), "{answers:?}");
    // A look at everything begins with the start.
    cluster.stop(0).await;
    cluster.start(0).await;
    let caller = Mutex::new(cluster.caller(0, "client").await);
    eventually(async || {
        let answers = caller.lock().await.operations(vec![get("k")]).await;
        answers == [Answer::FoundHead(expired.head)]
    })
    .await;
}

#[tokio::test]
async fn a_damaged_record_is_brought_back_from_its_other_owners() {
    let mut cluster = Many::prepare(3, |mut config| {
        config.limits.damage_wait_ms = 1;
        config
    });
    let record = record("v", None);
    for at in 0..3 {
        cluster.start(at).await;
        let mut caller = cluster.caller(at, "client").await;
        caller.operations(vec![write(&record)]).await;
    }
    cluster.stop(2).await;
    open(&cluster.store(2)).settle().unwrap();
    for file in std::fs::read_dir(cluster.store(2)).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|kind| kind == "sst") {
            let mut bytes = std::fs::read(&path).unwrap();
            // Without the first view of its chain, which is the first of its notes, the server
            // would not start.
            if bytes[..16].windows(2).any(|key| key == b"Eg") {
                continue;
            }
            // Into the block of the data, which is the first.
            bytes[10] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
    }
    cluster.start(2).await;
    let mut caller = cluster.caller(2, "client").await;
    let answers = caller.operations(vec![get("k")]).await;
    let [Answer::Refused(refusal)] = &answers[..] else {
        panic!("what is damaged was answered: {answers:?}");
    };
    assert_eq!(refusal.kind, RefusalKind::Damaged);
    let caller = Mutex::new(caller);
    eventually(async || {
        let answers = caller.lock().await.operations(vec![get("k")]).await;
        answers == [Answer::Found(record.clone())]
    })
    .await;
}
