//! The chain of epochs over HTTPS: who may ask what, and what becomes of it.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

mod support;

use annulet_protocol::bucket::Bucket;
use annulet_protocol::codec;
use annulet_protocol::epoch::{
    BucketCommand, BucketReply, BucketRequest, ChainQuestion, ChainRequest, DeleteBucket, Deltas,
    EpochRecord, Offer, Point, SetBucket,
};
use annulet_protocol::ids::{ChangeId, ClusterId};
use annulet_protocol::message::{Answer, FailureKind, RefusalKind, Request};
use annulet_protocol::view::View;
use annulet_server::ServerError;
use support::many::Many;
use support::{CLUSTER, Caller, eventually, get, request};
use tokio::sync::Mutex;

async fn three() -> Many {
    let mut cluster = Many::prepare(3, |config| config);
    for at in 0..3 {
        cluster.start(at).await;
    }
    cluster
}

fn asked(change: u8, command: BucketCommand) -> Vec<u8> {
    codec::encode(&BucketRequest {
        cluster: CLUSTER,
        change: ChangeId([change; 16]),
        command,
    })
}

fn create(change: u8, name: &str) -> Vec<u8> {
    asked(change, BucketCommand::Create(Bucket::new(0, name)))
}

async fn made(admin: &mut Caller, body: Vec<u8>) -> BucketReply {
    let got = admin.post("/v1/buckets", body).await;
    assert_eq!(got.status, 200, "{:?}", got.failure());
    codec::decode_bucket_reply(&got.body).unwrap()
}

async fn refused(admin: &mut Caller, body: Vec<u8>) -> (u16, FailureKind) {
    let got = admin.post("/v1/buckets", body).await;
    (got.status, got.failure().kind)
}

async fn view(caller: &mut Caller) -> View {
    codec::decode_view(&caller.get("/v1/view").await.body).unwrap()
}

async fn deltas(caller: &mut Caller, after: Point) -> Deltas {
    let path = format!("/v1/chain?after={}&hash={}", after.number, after.hash);
    codec::decode_deltas(&caller.get(&path).await.body).unwrap()
}

#[tokio::test]
async fn a_change_is_made_once_and_told_to_all() {
    let cluster = three().await;
    let mut admin = cluster.caller(1, "admin").await;
    let before = view(&mut admin).await;
    let first = made(&mut admin, create(1, "carts")).await;
    assert_eq!((first.epoch, first.bucket.number), (2, 2));
    // The same change again is the same; another one of that name is refused.
    assert_eq!(made(&mut admin, create(1, "carts")).await, first);
    let conflict = (409, FailureKind::Conflict);
    assert_eq!(refused(&mut admin, create(2, "carts")).await, conflict);
    let invalid = Bucket {
        replicas: 9,
        ..Bucket::new(0, "wide")
    };
    let invalid = asked(3, BucketCommand::Create(invalid));
    let kind = (400, FailureKind::InvalidInput);
    assert_eq!(refused(&mut admin, invalid).await, kind);
    let set = SetBucket {
        name: "carts".into(),
        ttl_ms: Some(5_000),
        ..SetBucket::default()
    };
    let set = made(&mut admin, asked(4, BucketCommand::Set(set))).await;
    assert_eq!((set.epoch, set.bucket.ttl_ms), (3, Some(5_000)));
    let mut newest = view(&mut admin).await;
    for at in 0..3 {
        let caller = Mutex::new(cluster.caller(at, "client").await);
        eventually(async || view(&mut *caller.lock().await).await == newest).await;
        let mut caller = caller.into_inner();
        let found = deltas(&mut caller, before.point()).await;
        let numbers = found.records.iter().map(|bytes| EpochRecord::decode(bytes));
        let numbers: Vec<_> = numbers.map(|record| record.unwrap().number).collect();
        assert_eq!((numbers, found.fork, found.first), (vec![2, 3], false, 1));
    }
    newest.tip.hash.0[0] ^= 1;
    assert!(deltas(&mut admin, newest.point()).await.fork);
    let gone = DeleteBucket {
        name: "carts".into(),
        number: Some(2),
    };
    let gone = made(&mut admin, asked(5, BucketCommand::Delete(gone))).await;
    assert_eq!((gone.epoch, gone.bucket.name.as_str()), (4, "carts"));
    let again = made(&mut admin, create(6, "carts")).await;
    assert_eq!(again.bucket.number, 3, "a number never returns");
}

#[tokio::test]
async fn the_chain_is_for_its_roles_and_its_cluster_only() {
    let cluster = three().await;
    let mut client = cluster.caller(0, "client").await;
    let unauthorized = (403, FailureKind::Unauthorized);
    assert_eq!(refused(&mut client, create(1, "b")).await, unauthorized);
    let question = |cluster| {
        let offer = Offer {
            settled: 1,
            ..Offer::question()
        };
        codec::encode(&ChainRequest {
            cluster,
            question: ChainQuestion::Offer(offer),
        })
    };
    let mut admin = cluster.caller(0, "admin").await;
    let got = admin.post("/v1/peer/chain", question(CLUSTER)).await;
    assert_eq!(got.status, 403);
    let mut peer = cluster.caller(0, "peer").await;
    let got = peer.post("/v1/peer/chain", question(CLUSTER)).await;
    assert_eq!(got.status, 200);
    let foreign = ClusterId([9; 16]);
    let got = peer.post("/v1/peer/chain", question(foreign)).await;
    assert_eq!(
        (got.status, got.failure().kind),
        (421, FailureKind::WrongCluster)
    );
    for bad in ["/v1/chain?after=x", "/v1/chain?hash=1"] {
        assert_eq!(client.get(bad).await.status, 400, "{bad}");
    }
    for path in ["/v1/buckets", "/v1/peer/chain"] {
        let mut caller = cluster
            .caller(
                0,
                if path == "/v1/buckets" {
                    "admin"
                } else {
                    "peer"
                },
            )
            .await;
        assert_eq!(
            caller.post(path, b"nonsense".to_vec()).await.status,
            400,
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_majority_of_the_keepers_is_needed_and_what_was_missed_is_fetched() {
    let mut cluster = three().await;
    cluster.stop(2).await;
    let mut admin = cluster.caller(0, "admin").await;
    made(&mut admin, create(1, "carts")).await;
    cluster.stop(1).await;
    let unavailable = (503, FailureKind::Unavailable);
    assert_eq!(refused(&mut admin, create(2, "more")).await, unavailable);
    // It asks the others before it answers as an owner.
    cluster.start(2).await;
    let mut late = cluster.caller(2, "client").await;
    let mut ahead = request(vec![get("k")]);
    ahead.epoch = 2;
    let answers = results(&mut late, &ahead).await;
    assert!(matches!(answers[0], Answer::Absent(_)), "{answers:?}");
    made(&mut admin, create(2, "more")).await;
    cluster.stop(0).await;
    cluster.start(1).await;
    let caller = Mutex::new(cluster.caller(1, "client").await);
    let buckets = async || view(&mut *caller.lock().await).await.buckets.len();
    eventually(async || buckets().await == 3).await;
}

async fn results(caller: &mut Caller, request: &Request) -> Vec<Answer> {
    let got = caller.post("/v1/ops", codec::encode(request)).await;
    codec::decode_reply(&got.body).unwrap().results
}

#[tokio::test]
async fn an_epoch_that_nobody_knows_is_refused_and_looked_up_seldom() {
    let cluster = three().await;
    let mut caller = cluster.caller(0, "client").await;
    let mut ahead = request(vec![get("k")]);
    for epoch in 100..150 {
        ahead.epoch = epoch;
        let answers = results(&mut caller, &ahead).await;
        let [Answer::Refused(refusal)] = &answers[..] else {
            panic!("{answers:?}");
        };
        assert_eq!(refusal.kind, RefusalKind::Behind);
    }
    let text = caller.get("/metrics").await.body;
    let text = String::from_utf8(text.to_vec()).unwrap();
    let metric = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().parse().unwrap()
    };
    let looked = metric("annulet_epoch_lookups_total");
    assert!((1..25).contains(&looked), "{looked} look-ups");
    assert_eq!(metric("annulet_epoch "), 1);
}

#[tokio::test]
async fn servers_go_on_with_their_chain_whatever_the_file_says_of_buckets() {
    let mut cluster = three().await;
    let mut admin = cluster.caller(0, "admin").await;
    made(&mut admin, create(1, "carts")).await;
    let newest = view(&mut admin).await;
    for at in 0..3 {
        let caller = Mutex::new(cluster.caller(at, "client").await);
        eventually(async || view(&mut *caller.lock().await).await == newest).await;
    }
    for at in 0..3 {
        cluster.stop(at).await;
        cluster.change_file(at, |file| file.epoch = 9);
    }
    for at in 0..3 {
        cluster.start(at).await;
        let mut caller = cluster.caller(at, "client").await;
        assert_eq!(view(&mut caller).await, newest);
    }
    cluster.stop(1).await;
    cluster.change_file(1, |file| file.members[0].capacity = 7);
    let error = cluster.try_start(1).await.unwrap_err();
    assert!(matches!(error, ServerError::Chain(_)), "{error}");
    assert!(error.to_string().contains("other members"), "{error}");
}

#[tokio::test]
async fn a_server_of_another_chain_stops() {
    let mut cluster = Many::prepare(3, |config| config);
    cluster.change_file(2, |file| file.name = "other".into());
    for at in 0..3 {
        cluster.start(at).await;
    }
    // With the first views alone nobody knows who is right.
    let mut admin = cluster.caller(0, "admin").await;
    made(&mut admin, create(1, "carts")).await;
    let error = cluster.ended(2).await.unwrap_err();
    assert!(matches!(error, ServerError::Forked(_)), "{error}");
    let mut admin = cluster.caller(1, "admin").await;
    made(&mut admin, create(2, "more")).await;
}
