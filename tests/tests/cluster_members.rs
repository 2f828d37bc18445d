//! Members that leave and get other shares while real servers serve, and lose nothing.
#![cfg(feature = "cluster")]
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use annulet::{BucketOptions, Client, ErrorKind, Level, MemberChanges, Mode, NodeId, View};
use annulet_history::Outcome;
use annulet_tests::cluster::calls::{MOVES, read_at, write_at};
use annulet_tests::cluster::checks::Checks;
use annulet_tests::cluster::{Cluster, binary};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

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

/// Whether there is a bucket of one replica, which does not outlive the loss of its server.
fn has_single(client: &Client) -> bool {
    client.view().bucket_named("single").is_some()
}

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
        if has_single(client) {
            put("single").await;
        }
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
        if has_single(client) {
            let found = get("single").await.unwrap();
            let length = found.map(|entry| entry.value.len());
            let long = length.is_some_and(|length| length == 20_000);
            assert!(
                length.is_some() && long == (key % 50 == 0),
                "single, {name}: {length:?}"
            );
        }
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
    let (admin, client) = (cluster.admin().await, cluster.client().await);
    fill(&client).await;
    let stop = Arc::new(AtomicBool::new(false));
    let loading = tokio::spawn(load(cluster.client().await, Arc::clone(&stop)));
    let leaves = id_of(&client, &cluster.address(3));
    let member = admin.remove_member(leaves).await.unwrap();
    assert!(member.is_some(), "it is one until it owns nothing");
    let again = admin.remove_member(leaves).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Conflict);
    // The others may still share out among themselves what they took over.
    let is_over = |view: &View| view.member(leaves).is_none() && view.table.joint.is_empty();
    let view = until_view(&client, "it is gone, and nothing moves", is_over).await;
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
    let (admin, client) = (cluster.admin().await, cluster.client().await);
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

/// A cluster of one server that began it, with a strong bucket, and who may change it.
async fn bootstrapped() -> (Cluster, Client) {
    let cluster = Cluster::bootstrap().await;
    let admin = cluster.admin().await;
    let strong = BucketOptions::new(Mode::Strong);
    admin.create_bucket("strong", &strong).await.unwrap();
    (cluster, admin)
}

/// Waits until nothing moves, and everyone there owns something.
async fn until_balanced(client: &Client, members: usize) -> Arc<View> {
    let is = |view: &View| {
        let lists = owned(view);
        let all = view.members.len() == members && lists.len() == members;
        let length = members.min(3) * view.table.partitions as usize;
        all && view.table.joint.is_empty() && lists.values().sum::<usize>() == length
    };
    until_view(client, &format!("{members} servers have their share"), is).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_grows_to_three_and_one_that_lost_its_data_is_replaced() {
    let (mut cluster, client) = bootstrapped().await;
    fill(&client).await;
    cluster.join(0, 1).await;
    cluster.join(1, 1).await;
    let view = until_balanced(&client, 3).await;
    let place = |view: &View, address: &str| {
        let member = view.members.iter().find(|m| m.address == address);
        member.map(|member| (member.id, member.zone.clone()))
    };
    let (lost, zone) = place(&view, &cluster.address(2)).unwrap();
    assert_eq!(zone, "z2");
    check(&client).await;

    // An empty disk does not come back under the id that had data.
    cluster.kill(2);
    cluster.start_without_data(2).await;
    let status = cluster.ended(2).await;
    assert_eq!(status.code(), Some(2), "{}", cluster.log(2));
    let advice = format!("--replace {lost}");
    assert!(cluster.log(2).contains(&advice), "{}", cluster.log(2));

    cluster.lose_data(2, 0, lost);
    cluster.restart(2).await;
    let is_new = |view: &View| place(view, &cluster.address(2)).is_some_and(|(id, _)| id != lost);
    until_view(&client, "the lost one is replaced", |view| {
        is_new(view) && view.member(lost).is_none()
    })
    .await;
    let view = until_balanced(&client, 3).await;
    assert!(owned(&view).values().all(|count| *count == 256));
    // What was acknowledged is on two of the three again, whichever is lost.
    cluster.kill(1);
    check(&client).await;
    cluster.restart(1).await;

    // Who has left does not come back.
    let leaves = id_of(&client, &cluster.address(1));
    client.remove_member(leaves).await.unwrap();
    until_view(&client, "it is gone", |view| view.member(leaves).is_none()).await;
    cluster.kill(1);
    cluster.try_restart(1).await;
    let status = cluster.ended(1).await;
    assert_eq!(status.code(), Some(3), "{}", cluster.log(1));
    assert!(cluster.log(1).contains("has left the cluster"));
    check(&client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_three_to_nine_to_four_servers_under_load_nothing_is_lost() {
    let (mut cluster, client) = bootstrapped().await;
    cluster.join(0, 2).await;
    cluster.join(0, 1).await;
    until_balanced(&client, 3).await;
    fill(&client).await;
    let stop = Arc::new(AtomicBool::new(false));
    let loading = tokio::spawn(load(cluster.client().await, Arc::clone(&stop)));
    let commands = (0..2).map(|_| Command::new(binary())).collect();
    let checks = Checks::start(commands, cluster.folder(), 45);
    for capacity in [1, 3, 1, 2, 4, 1] {
        cluster.join(0, capacity).await;
    }
    until_view(&client, "something moves", |view| {
        !view.table.joint.is_empty()
    })
    .await;
    cluster.kill(4);
    until_view(&client, "it goes on without it", |view| {
        view.table.joint.len() > 1
    })
    .await;
    cluster.restart(4).await;
    let view = until_balanced(&client, 9).await;
    let largest = id_of(&client, &cluster.address(7));
    let most = owned(&view).into_iter().max_by_key(|(_, count)| *count);
    assert_eq!(most.map(|(id, _)| id), Some(largest), "{:?}", owned(&view));
    for node in [1, 2, 3, 5, 6] {
        let id = id_of(&client, &cluster.address(node));
        client.remove_member(id).await.unwrap();
    }
    until_view(&client, "some of it is moved", |view| {
        view.members.len() < 9
    })
    .await;
    cluster.kill(8);
    until_view(&client, "it goes on without it", |view| {
        !view.table.joint.is_empty()
    })
    .await;
    cluster.restart(8).await;
    until_balanced(&client, 4).await;
    for node in [1, 2, 3, 5, 6] {
        cluster.kill(node);
    }
    stop.store(true, Ordering::Relaxed);
    let written = loading.await.unwrap();
    assert!(written.iter().all(|count| *count > 3), "{written:?}");
    check(&cluster.client().await).await;
    let recorded = checks.ended().await;
    recorded.expect_linearizable();
    let ok = recorded.count(|outcome| matches!(outcome, Outcome::Ok(_)));
    assert!(ok > 500, "{ok} operations are not much of a history");
}
