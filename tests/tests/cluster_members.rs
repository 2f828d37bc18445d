//! Members that leave and get other shares while real servers serve, and lose nothing.
#![cfg(feature = "cluster")]
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use annulet::{Client, ErrorKind, Level, MemberChanges, NodeId, Profile, View};
use annulet_tests::cluster::calls::{read_at, write_at};
use annulet_tests::cluster::{Cluster, annulet};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long all that follows of a change may take: hundreds of partitions move, some at a time.
const MOVES: Duration = Duration::from_secs(240);

/// A client that may change members.
async fn admin(cluster: &Cluster) -> Client {
    let certs = cluster.folder().join("certs");
    let dir = certs.to_str().unwrap();
    annulet(&["cert", "admin", "boss", "--dir", dir]);
    let profile = Profile {
        cert: certs.join("boss.pem"),
        key: certs.join("boss.key"),
        ..cluster.profile()
    };
    Client::connect(profile).await.unwrap()
}

/// Waits until the newest view is so.
async fn until_view(client: &Client, what: &str, is: impl Fn(&View) -> bool) -> Arc<View> {
    let look = async {
        loop {
            client.buckets().await.unwrap();
            let view = client.view();
            if is(&view) {
                return view;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let seen = tokio::time::timeout(MOVES, look).await;
    seen.unwrap_or_else(|_| {
        let view = client.view();
        let (epoch, joint) = (view.epoch, view.table.joint.len());
        panic!("waited too long until {what}: epoch {epoch}, {joint} partitions are joint")
    })
}

/// Places in the lists by member.
fn owned(view: &View) -> BTreeMap<NodeId, usize> {
    let mut owned = BTreeMap::new();
    for place in view.table.regions.iter().flat_map(|table| table.places()) {
        if let Some(member) = view.members.get(place as usize) {
            *owned.entry(member.id).or_default() += 1;
        }
    }
    owned
}

fn id_of(client: &Client, address: &str) -> NodeId {
    let view = client.view();
    let member = view.members.iter().find(|m| m.address == address);
    member.unwrap().id
}

const KEYS: usize = 300;

/// Values of each kind of bucket, and long ones.
async fn fill(client: &Client) {
    for key in 0..KEYS {
        let name = format!("key {key}");
        let value = match key % 50 {
            0 => vec![b'x'; 20_000],
            _ => name.clone().into_bytes(),
        };
        let put = async |bucket: &str| {
            let bucket = client.bucket(bucket);
            bucket.put(name.clone(), value.clone()).await.unwrap()
        };
        put("default").await;
        put("single").await;
        if key % 10 == 0 {
            put("strong").await;
        }
        if key % 7 == 0 {
            client.bucket("default").delete(name.clone()).await.unwrap();
        }
    }
}

async fn check(client: &Client) {
    for key in 0..KEYS {
        let name = format!("key {key}");
        let get = async |bucket: &str| client.bucket(bucket).get(name.clone()).await;
        let found = get("default").await.unwrap();
        assert_eq!(found.is_none(), key % 7 == 0, "default, {name}");
        let found = get("single").await.unwrap();
        let length = found.map(|entry| entry.value.len());
        let long = length.is_some_and(|length| length == 20_000);
        assert!(
            length.is_some() && long == (key % 50 == 0),
            "single, {name}: {length:?}"
        );
        if key % 10 == 0 {
            assert!(get("strong").await.unwrap().is_some(), "strong, {name}");
        }
    }
}

/// Writes and reads on and on until it is told to stop; gives how often each key was written.
async fn load(client: Client, stop: Arc<AtomicBool>) -> Vec<u64> {
    let (plain, strong) = (client.bucket("default"), client.bucket("strong"));
    let mut written = vec![0; 8];
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        let key = round % written.len();
        round += 1;
        let name = format!("count {key}");
        let value = Bytes::from((written[key] + 1).to_string());
        let (put, get) = (write_at(Level::Quorum), read_at(Level::Quorum));
        let done = plain.put_with(name.clone(), value.clone(), &put).await;
        done.unwrap_or_else(|error| panic!("a put in round {round}: {error}"));
        let done = strong.put(name.clone(), value.clone()).await;
        done.unwrap_or_else(|error| panic!("a strong put in round {round}: {error}"));
        written[key] += 1;
        let read = plain.get_with(name.clone(), &get).await;
        let read = read.unwrap_or_else(|error| panic!("a get in round {round}: {error}"));
        assert_eq!(read.unwrap().value, value, "{name}");
        let read = strong.get(name.clone()).await;
        let read = read.unwrap_or_else(|error| panic!("a strong get in round {round}: {error}"));
        assert_eq!(read.unwrap().value, value, "{name}, strong");
    }
    written
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_leaves_under_load_and_nothing_is_lost() {
    let mut cluster = Cluster::start(4).await;
    let (admin, client) = (admin(&cluster).await, cluster.client().await);
    fill(&client).await;
    let stop = Arc::new(AtomicBool::new(false));
    let loading = tokio::spawn(load(cluster.client().await, Arc::clone(&stop)));
    let leaves = id_of(&client, &cluster.address(3));
    let member = admin.remove_member(leaves).await.unwrap();
    assert!(member.is_some(), "it is one until it owns nothing");
    let again = admin.remove_member(leaves).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Conflict);
    let view = until_view(&client, "it is gone", |view| view.member(leaves).is_none()).await;
    assert!(view.table.joint.is_empty());
    assert!(
        owned(&view).values().all(|count| *count == 256),
        "{:?}",
        owned(&view)
    );
    cluster.kill(3);
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::Relaxed);
    let written = loading.await.unwrap();
    assert!(written.iter().all(|count| *count > 3), "{written:?}");
    check(&cluster.client().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_gets_another_share_while_others_are_killed() {
    let mut cluster = Cluster::start(5).await;
    let (admin, client) = (admin(&cluster).await, cluster.client().await);
    fill(&client).await;
    let before = owned(&client.view());
    let larger = id_of(&client, &cluster.address(0));
    let changes = MemberChanges {
        capacity: Some(3),
        ..MemberChanges::default()
    };
    admin.set_member(larger, &changes).await.unwrap();
    until_view(&client, "something moves", |view| {
        !view.table.joint.is_empty()
    })
    .await;
    cluster.kill(4);
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.restart(4).await;
    let balanced = |view: &View| {
        // Seven shares, and nobody has more than a whole list.
        view.table.joint.is_empty() && owned(view).get(&larger) > before.get(&larger)
    };
    let view = until_view(&client, "all is moved", balanced).await;
    assert_eq!(owned(&view).values().sum::<usize>(), 3 * 256);
    check(&client).await;
}
