//! What real servers say before, while and after members change: what would move, how far it is,
//! and who can be stopped.
#![cfg(feature = "cluster")]
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use annulet::{Client, ErrorKind, Holder, NodeId, RingChange, StopReasonKind};
use annulet_tests::cluster::calls::{MOVES, until_within};
use annulet_tests::cluster::{Cluster, annulet, wire};
use std::collections::BTreeSet;

fn id_of(client: &Client, address: &str) -> NodeId {
    let view = client.view();
    let member = view.members.iter().find(|m| m.address == address);
    member.unwrap().id
}

/// What servers say of an epoch is counted in a view that is not of one before it.
async fn check_told_of_known_epochs(client: &Client) {
    let reports = client.members().await.into_iter().flat_map(|m| m.report);
    let told_of = reports.map(|report| report.epoch).max();
    assert!(told_of <= Some(client.view().ordinal()));
}

/// Kinds of reasons why a server should not be stopped.
async fn reasons(client: &Client, id: NodeId) -> BTreeSet<StopReasonKind> {
    let reply = client.safe_to_stop(id).await.unwrap();
    assert_eq!(reply.node, id);
    reply.reasons.iter().map(|reason| reason.kind).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_planned_is_what_moves_and_its_progress_is_told() {
    let cluster = Cluster::start(5).await;
    let admin = cluster.admin().await;
    let bucket = admin.bucket("default");
    for key in 0..200 {
        let put = bucket.put(format!("key {key}"), vec![b'x'; 2_000]);
        put.await.unwrap();
    }
    let larger = id_of(&admin, &cluster.address(0));
    let change = RingChange::Capacity(larger, 2);
    let plan = admin.plan(std::slice::from_ref(&change)).await.unwrap();
    assert!(plan.moving > 50 && plan.moving_bytes.is_some(), "{plan:?}");
    let to_it = plan
        .transfers
        .iter()
        .filter(|one| one.to == Holder::Member(larger));
    assert_eq!(to_it.map(|one| one.replicas).sum::<u64>(), plan.moving);
    assert_eq!(plan.zones[0].shared, 0, "each server has a zone of its own");
    assert!(
        admin.progress().await.unwrap().is_still(),
        "a plan moves nothing"
    );

    let at = cluster.address(0);
    let wanted = plan
        .members
        .iter()
        .find(|m| m.holder == Holder::Member(larger));
    let wanted = wanted.unwrap().replicas;
    annulet(&[
        "cluster",
        "apply",
        "--capacity",
        &format!("{at}=2"),
        "--profile",
        profile_of(&cluster).to_str().unwrap(),
    ]);
    let mut left = f64::INFINITY;
    let mut told = false;
    until_within(MOVES, "all is moved", async || {
        check_told_of_known_epochs(&admin).await;
        let progress = admin.progress().await.unwrap();
        let copies = progress.moves.iter().flat_map(|one| &one.owners);
        told |= copies
            .filter(|owner| owner.is_new)
            .any(|owner| owner.copied.is_some())
            && progress.seconds_left.is_some_and(|seconds| seconds > 0);
        // A copy that is given up begins anew, which takes back a few at the most.
        assert!(
            progress.replicas_left <= left + 5.0,
            "{} after {left}",
            progress.replicas_left
        );
        left = left.min(progress.replicas_left);
        progress.is_still() && admin.view().member(larger).unwrap().capacity == 2
    })
    .await;
    assert!(told, "nobody said how far it was");
    let view = admin.view();
    let table = &view.table.regions[0];
    let owned = table
        .places()
        .filter(|at| view.members[*at as usize].id == larger);
    assert_eq!(owned.count() as u64, wanted, "as it was planned");
    assert!(admin.plan(&[]).await.unwrap().is_still());
    assert_eq!(
        admin.plan(&[change]).await.unwrap().moving,
        0,
        "it is so already"
    );
}

/// The profile of somebody who may change members.
fn profile_of(cluster: &Cluster) -> std::path::PathBuf {
    let path = cluster.folder().join("boss.toml");
    cluster.admin_profile().save(&path).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_safe_to_stop_only_while_its_quorums_do_without_it() {
    let mut cluster = Cluster::start(3).await;
    let admin = cluster.admin().await;
    let ids: Vec<_> = (0..3)
        .map(|node| id_of(&admin, &cluster.address(node)))
        .collect();
    // A bucket of one replica can do without none of its owners.
    assert_eq!(
        reasons(&admin, ids[0]).await,
        [StopReasonKind::Quorum].into()
    );
    admin.delete_bucket("single").await.unwrap();
    until_within(
        MOVES,
        "all know of it and nothing is left over",
        async || {
            reasons(&admin, ids[0]).await.is_empty() && reasons(&admin, ids[1]).await.is_empty()
        },
    )
    .await;
    let request = wire::http("GET", "/v1/safe-to-stop", "text/plain", 0, b"");
    for (name, status) in [(Some("tester"), "HTTP/1.1 200 "), (None, "HTTP/1.1 401 ")] {
        let answer = wire::ask(&cluster, 0, name, &request).await;
        assert!(
            answer.starts_with(status.as_bytes()),
            "{name:?}: {answer:?}"
        );
    }

    cluster.kill(2);
    let away = [StopReasonKind::Quorum, StopReasonKind::Keepers].into();
    until_within(MOVES, "it is noticed", async || {
        reasons(&admin, ids[0]).await == away
    })
    .await;
    let answer = wire::ask(&cluster, 0, Some("tester"), &request).await;
    assert!(answer.starts_with(b"HTTP/1.1 409 "), "{answer:?}");
    let asked = admin.safe_to_stop(ids[2]).await.unwrap_err();
    assert_eq!(asked.kind(), ErrorKind::Unavailable);
    // What the dead one misses is kept for it by others.
    let bucket = admin.bucket("default");
    for key in 0..50 {
        let put = bucket.put(format!("key {key}"), "value");
        put.await.unwrap();
    }
    until_within(MOVES, "somebody keeps something", async || {
        let kept = [reasons(&admin, ids[0]).await, reasons(&admin, ids[1]).await];
        kept.iter()
            .any(|kinds| kinds.contains(&StopReasonKind::Hints))
    })
    .await;
    cluster.restart(2).await;
    until_within(MOVES, "it is back and has what it missed", async || {
        let mut safe = true;
        for id in &ids {
            safe &= reasons(&admin, *id).await.is_empty();
        }
        safe
    })
    .await;
}
