//! Members over HTTPS: who may change what of them, and who may copy what servers hold.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

mod support;

use annulet_protocol::codec;
use annulet_protocol::copy::CopyArc;
use annulet_protocol::hash::KeyHash;
use annulet_protocol::ids::{ChangeId, ClusterId, NodeId};
use annulet_protocol::members::{
    LeaveMember, MemberCommand, MemberReply, MemberRequest, SetMember,
};
use annulet_protocol::message::{Answer, FailureKind, Operation, RefusalKind};
use annulet_protocol::recovery::{RecoverOutcome, RecoverRequest};
use annulet_protocol::view::{Member, MemberState, View};
use support::many::Many;
use support::{CLUSTER, Caller, request};

async fn three() -> Many {
    let mut cluster = Many::prepare(3, |config| config);
    for at in 0..3 {
        cluster.start(at).await;
    }
    cluster
}

fn asked(cluster: ClusterId, change: u8, command: MemberCommand) -> Vec<u8> {
    codec::encode(&MemberRequest {
        cluster,
        change: ChangeId([change; 16]),
        command,
    })
}

fn grow(id: NodeId, capacity: u32) -> MemberCommand {
    MemberCommand::Set(SetMember {
        id,
        capacity: Some(capacity),
        ..SetMember::default()
    })
}

fn join(id: u64) -> MemberCommand {
    MemberCommand::Join(Member {
        id: NodeId(id),
        address: format!("host-{id}:7400"),
        capacity: 1,
        zone: String::new(),
        region: String::new(),
        state: MemberState::Active,
    })
}

async fn view(caller: &mut Caller) -> View {
    codec::decode_view(&caller.get("/v1/view").await.body).unwrap()
}

async fn made(caller: &mut Caller, body: Vec<u8>) -> MemberReply {
    let got = caller.post("/v1/members", body).await;
    assert_eq!(got.status, 200, "{:?}", got.failure());
    codec::decode_member_reply(&got.body).unwrap()
}

async fn refused(caller: &mut Caller, body: Vec<u8>) -> (u16, FailureKind) {
    let got = caller.post("/v1/members", body).await;
    (got.status, got.failure().kind)
}

#[tokio::test]
async fn members_change_for_whom_they_may_and_once() {
    let cluster = three().await;
    let mut admin = cluster.caller(0, "admin").await;
    let before = view(&mut admin).await;
    let id = before.members[1].id;
    let mut client = cluster.caller(0, "client").await;
    let mut peer = cluster.caller(0, "peer").await;
    let unauthorized = (403, FailureKind::Unauthorized);
    let set = || asked(CLUSTER, 1, grow(id, 5));
    assert_eq!(refused(&mut client, set()).await, unauthorized);
    assert_eq!(refused(&mut peer, set()).await, unauthorized);
    let first = made(&mut admin, set()).await;
    assert_eq!(first.member.as_ref().map(|member| member.capacity), Some(5));
    // The same change again is the same.
    assert_eq!(made(&mut admin, set()).await.epoch, first.epoch);
    let joined = made(&mut peer, asked(CLUSTER, 2, join(77))).await;
    let state = joined.member.map(|member| member.state);
    assert_eq!(state, Some(MemberState::Joining), "it owns nothing yet");
    let conflict = (409, FailureKind::Conflict);
    let again = asked(CLUSTER, 3, join(77));
    assert_eq!(refused(&mut peer, again).await, conflict);
    let stranger = MemberCommand::Leave(LeaveMember { id: NodeId(99) });
    let stranger = asked(CLUSTER, 4, stranger);
    assert_eq!(refused(&mut admin, stranger).await, conflict);
    let none = asked(CLUSTER, 5, grow(id, 0));
    let invalid = (400, FailureKind::InvalidInput);
    assert_eq!(refused(&mut admin, none).await, invalid);
    let foreign = asked(ClusterId([9; 16]), 6, grow(id, 2));
    let wrong = (421, FailureKind::WrongCluster);
    assert_eq!(refused(&mut admin, foreign).await, wrong);
    let nonsense = b"nonsense".to_vec();
    assert_eq!(refused(&mut admin, nonsense).await, invalid);
}

#[tokio::test]
async fn what_servers_hold_is_copied_by_servers_only_and_while_it_moves() {
    let cluster = three().await;
    let asked = CopyArc {
        node: NodeId(1),
        since: 1,
        from: KeyHash(0),
        until: KeyHash(0),
        after: "".into(),
        last: "".into(),
        digest: None,
        bytes_max: 1_000,
    };
    let asked = codec::encode(&request(vec![Operation::CopyArc(asked)]));
    for role in ["client", "admin"] {
        let mut caller = cluster.caller(0, role).await;
        let got = caller.post("/v1/ops", asked.clone()).await;
        let told = (got.status, got.failure().kind);
        assert_eq!(told, (403, FailureKind::Unauthorized), "{role}");
    }
    let mut peer = cluster.caller(0, "peer").await;
    let got = peer.post("/v1/ops", asked).await;
    let reply = codec::decode_reply(&got.body).unwrap();
    let Answer::Refused(refusal) = &reply.results[0] else {
        panic!("nothing moves: {reply:?}");
    };
    assert_eq!(refusal.kind, RefusalKind::StaleEpoch);
}

fn recovery(cluster: ClusterId, proceed: bool) -> Vec<u8> {
    codec::encode(&RecoverRequest {
        cluster,
        recovery: ChangeId([8; 16]),
        proceed,
    })
}

#[tokio::test]
async fn a_chain_is_begun_anew_for_whom_it_may_and_only_if_it_must() {
    let mut cluster = three().await;
    let unauthorized = (403, FailureKind::Unauthorized);
    for role in ["client", "peer"] {
        let mut caller = cluster.caller(0, role).await;
        let got = caller.post("/v1/recover", recovery(CLUSTER, true)).await;
        assert_eq!((got.status, got.failure().kind), unauthorized, "{role}");
    }
    let mut admin = cluster.caller(0, "admin").await;
    let foreign = recovery(ClusterId([9; 16]), true);
    let got = admin.post("/v1/recover", foreign).await;
    assert_eq!(
        (got.status, got.failure().kind),
        (421, FailureKind::WrongCluster)
    );
    let got = admin.post("/v1/recover", b"nonsense".to_vec()).await;
    assert_eq!(
        (got.status, got.failure().kind),
        (400, FailureKind::InvalidInput)
    );
    let asked = async |admin: &mut Caller, proceed| {
        let got = admin.post("/v1/recover", recovery(CLUSTER, proceed)).await;
        codec::decode_recover_reply(&got.body).unwrap()
    };
    for proceed in [false, true] {
        let reply = asked(&mut admin, proceed).await;
        assert!(reply.members.iter().all(|found| found.newest.is_some()));
        let refused = matches!(&reply.outcome, RecoverOutcome::Refused(why) if why.contains("3"));
        assert!(refused, "all keepers answer: {:?}", reply.outcome);
    }
    cluster.stop(1).await;
    cluster.stop(2).await;
    let reply = asked(&mut admin, false).await;
    let answers: Vec<_> = reply.members.iter().map(|f| f.newest.is_some()).collect();
    assert_eq!(answers, [true, false, false]);
    assert!(matches!(reply.outcome, RecoverOutcome::Possible(_)));
    assert_eq!(
        view(&mut admin).await.tip.generation,
        0,
        "it was only asked"
    );
    let first = asked(&mut admin, true).await.outcome;
    let RecoverOutcome::Done(anew) = &first else {
        panic!("{first:?}");
    };
    let after = view(&mut admin).await;
    assert_eq!(after.point(), anew.epoch);
    assert_eq!(after.tip.keepers, [after.members[0].id]);
    assert_eq!(after.members.len(), 3, "the lost stay members");
    // The same recovery again is the same.
    assert_eq!(asked(&mut admin, true).await.outcome, first);
    // Those that come back go on with it.
    cluster.start(1).await;
    let mut back = cluster.caller(1, "admin").await;
    let joins = async {
        while view(&mut back).await.point() != anew.epoch {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let joins = tokio::time::timeout(std::time::Duration::from_secs(20), joins);
    joins.await.expect("it hears of the new chain");
}
