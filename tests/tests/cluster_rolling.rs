//! All servers are restarted, one after the other, while clients work: no operation fails, and
//! nothing that was acknowledged is lost.
#![cfg(feature = "cluster")]
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use annulet::{Bucket, Client, Config, Error, NodeId, Profile, WriteOptions};
use annulet_tests::cluster::calls::until;
use annulet_tests::cluster::{Cluster, Options};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::task::JoinSet;

/// Besides `default`, which keeps the last write, there is one of each other mode.
const BUCKETS: &str = r#"
[[bucket]]
number = 7
name = "carts"
mode = "siblings"

[[bucket]]
number = 8
name = "sums"
mode = "strong"
"#;
/// How often each server is restarted.
const ROUNDS: usize = 2;
/// Keys that each caller writes by turns.
const KEYS: u64 = 16;

/// What callers share.
#[derive(Clone, Debug, Default)]
struct Course {
    over: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    /// Servers that were asked to end so far.
    ended: Arc<AtomicU64>,
}

/// What one caller did.
#[derive(Debug, Default)]
struct Did {
    /// The last acknowledged value of each key.
    written: BTreeMap<String, Bytes>,
    failed: Vec<String>,
}

impl Did {
    /// What an operation gave, or nothing once it is noted that it failed.
    fn note<T>(&mut self, course: &Course, what: &str, done: Result<T, Error>) -> Option<T> {
        course.done.fetch_add(1, Ordering::Relaxed);
        let stops = course.ended.load(Ordering::Relaxed);
        let failed = |error| {
            self.failed
                .push(format!("{what}, after {stops} stops: {error}"))
        };
        done.map_err(failed).ok()
    }

    fn expect(&mut self, what: &str, found: bool) {
        if !found {
            self.failed
                .push(format!("{what}: it is not what was written last"));
        }
    }
}

/// What a caller writes in one round: the key, the value, and how reports name it.
fn turn(bucket: &Bucket, caller: usize, round: u64) -> (String, Bytes, String) {
    let key = format!("{caller}/{}", round % KEYS);
    let what = format!("{} {key}, round {round}", bucket.name());
    (key, Bytes::from(format!("round {round}")), what)
}

/// Puts a value and reads it back, one key after the other; nobody else writes these.
async fn put_and_get(bucket: Bucket, caller: usize, course: Course) -> Did {
    let mut did = Did::default();
    let mut round = 0;
    while !course.over.load(Ordering::Relaxed) {
        let (key, value, what) = turn(&bucket, caller, round);
        round += 1;
        let put = bucket.put(&key, value.clone()).await;
        if did.note(&course, &format!("put {what}"), put).is_none() {
            // Nobody knows whether it was written.
            did.written.remove(&key);
            continue;
        }
        did.written.insert(key.clone(), value.clone());
        let got = bucket.get(&key).await;
        if let Some(entry) = did.note(&course, &format!("get {what}"), got) {
            did.expect(
                &format!("get {what}"),
                entry.is_some_and(|e| e.value == value),
            );
        }
    }
    did
}

/// Puts a value in place of those that were seen, one key after the other.
async fn replace(bucket: Bucket, caller: usize, course: Course) -> Did {
    let mut did = Did::default();
    let mut round = 0;
    while !course.over.load(Ordering::Relaxed) {
        let (key, value, what) = turn(&bucket, caller, round);
        round += 1;
        let got = bucket.get(&key).await;
        let Some(seen) = did.note(&course, &format!("get {what}"), got) else {
            continue;
        };
        if let Some(last) = did.written.get(&key) {
            let is = seen.as_ref().is_some_and(|e| e.siblings == [last.clone()]);
            did.expect(&format!("get {what}: {seen:?}"), is);
        }
        let under = WriteOptions {
            context: seen.map(|entry| entry.context),
            ..WriteOptions::default()
        };
        let put = bucket.put_with(&key, value.clone(), &under).await;
        match did.note(&course, &format!("put {what}"), put) {
            Some(_) => did.written.insert(key, value),
            None => did.written.remove(&key),
        };
    }
    did
}

/// Adds one to a sum again and again. It is the caller's own: who updates what others update all
/// the time may run out of time although all servers are there.
async fn add(bucket: Bucket, caller: usize, course: Course) -> Did {
    let mut did = Did::default();
    let (key, mut sum) = (format!("sum {caller}"), 0);
    while !course.over.load(Ordering::Relaxed) {
        let add = |value: Option<&Bytes>| Some((number(value) + 1).to_string().into());
        let added = bucket.update(&key, add).await;
        let noted = did.note(&course, &format!("update {key} from {sum}"), added);
        sum += u64::from(noted.is_some());
    }
    did.written.insert(key, sum.to_string().into());
    did
}

fn number(value: Option<&Bytes>) -> u64 {
    value.map_or(0, |value| {
        let text = std::str::from_utf8(value).unwrap();
        text.parse().unwrap()
    })
}

/// Connects anew again and again, as a program does that is run for one command each time.
async fn connect(profile: Profile, course: Course) -> Did {
    let mut did = Did::default();
    let mut round = 0;
    while !course.over.load(Ordering::Relaxed) {
        let connected = Client::connect_with(profile.clone(), Config::default()).await;
        let connected = did.note(&course, &format!("connect, round {round}"), connected);
        if let Some(client) = connected {
            let got = client.bucket("default").get("fixed").await;
            if let Some(entry) = did.note(&course, &format!("get fixed, round {round}"), got) {
                did.expect("get fixed", entry.is_some());
            }
        }
        round += 1;
    }
    did
}

/// A client with the settings that a program has that sets none.
async fn client(cluster: &Cluster) -> Client {
    let usual = |config: &mut Config| *config = Config::default();
    cluster.client_with(usual).await
}

/// Waits until a server has nothing against its stop.
async fn until_safe(client: &Client, id: NodeId) {
    let mut last = None;
    let safe = async || {
        last = Some(client.safe_to_stop(id).await);
        matches!(&last, Some(Ok(reply)) if reply.reasons.is_empty())
    };
    until(&format!("{id} can be stopped"), safe).await;
}

/// Reads back what was acknowledged last.
async fn check(client: &Client, bucket: &str, did: &Did) {
    for (key, value) in &did.written {
        let entry = client.bucket(bucket).get(key).await.unwrap();
        let found = entry.map(|entry| entry.siblings);
        assert_eq!(found, Some(vec![value.clone()]), "{bucket}, {key}");
    }
}

/// Stops each server in turn, the way operators are told to, and starts it again.
async fn restart_all(cluster: &mut Cluster, servers: usize, course: &Course) {
    let asking = client(cluster).await;
    let view = asking.view();
    for node in 0..servers {
        let id = view.members[node].id;
        until_safe(&asking, id).await;
        course.ended.fetch_add(1, Ordering::Relaxed);
        cluster.signal(node, "TERM");
        let ended = cluster.ended(node).await;
        assert!(ended.success(), "{ended}: {}", cluster.log(node));
        cluster.restart(node).await;
    }
    for member in &view.members {
        until_safe(&asking, member.id).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_servers_are_restarted_under_load_and_no_operation_fails() {
    let servers = 4;
    let mut cluster = Cluster::prepared(Options::servers(servers));
    cluster.write_cluster_file(1, BUCKETS);
    cluster.start_all().await;
    let admin = cluster.admin().await;
    // A bucket of one replica can do without none of its owners.
    admin.delete_bucket("single").await.unwrap();
    let fixed = admin.bucket("default").put("fixed", "value").await;
    fixed.unwrap();
    let course = Course::default();
    let mut callers = JoinSet::new();
    for caller in 0..2 {
        let client = client(&cluster).await;
        let course = || course.clone();
        let last = put_and_get(client.bucket("default"), caller, course());
        callers.spawn(async move { ("default", last.await) });
        let strong = put_and_get(client.bucket("sums"), caller, course());
        callers.spawn(async move { ("sums", strong.await) });
        let siblings = replace(client.bucket("carts"), caller, course());
        callers.spawn(async move { ("carts", siblings.await) });
        let adds = add(client.bucket("sums"), caller, course());
        callers.spawn(async move { ("sums", adds.await) });
    }
    let new = connect(cluster.profile(), course.clone());
    callers.spawn(async move { ("new clients", new.await) });

    for _ in 0..ROUNDS {
        restart_all(&mut cluster, servers, &course).await;
    }
    course.over.store(true, Ordering::Relaxed);
    let did = callers.join_all().await;
    let done = course.done.load(Ordering::Relaxed);
    let failed: Vec<_> = did.iter().flat_map(|(_, did)| &did.failed).collect();
    assert!(
        failed.is_empty(),
        "{} of {done} failed:\n{failed:#?}",
        failed.len()
    );
    assert!(done > 500, "{done} operations are not much of a load");
    let reader = client(&cluster).await;
    for (bucket, did) in &did {
        check(&reader, bucket, did).await;
    }
}
