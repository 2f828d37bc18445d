//! The bytes of a chain that is begun anew, pinned.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use annulet_protocol::ballot::Ballot;
use annulet_protocol::codec::{
    DecodeError, decode_chain_reply, decode_chain_request, decode_recover_reply,
    decode_recover_request, encode,
};
use annulet_protocol::epoch::{ChainAnswer, ChainQuestion, ChainReply, ChainRequest, Offer, Point};
use annulet_protocol::ids::{ChangeId, ClusterId, EpochHash, Incarnation, NodeId};
use annulet_protocol::limits::{EPOCHS_MAX, KEEPERS_MAX};
use annulet_protocol::recovery::{
    Anew, MemberFound, RecoverOutcome, RecoverReply, RecoverRequest, Seal, Stands,
};
use bytes::Bytes;
use serde::Serialize;
use std::fmt::Debug;

const CLUSTER: ClusterId = ClusterId([0xc1; 16]);

fn point(generation: u64) -> Point {
    let hash = "5ef2c981213182ad76bd50c2e6028604".parse().unwrap();
    Point {
        generation,
        number: 7,
        hash,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A message writes these bytes, and they are read as it.
#[track_caller]
fn pin<M: Serialize + PartialEq + Debug>(
    message: &M,
    decode: impl Fn(&[u8]) -> Result<M, DecodeError>,
    expected: &str,
) {
    let bytes = encode(message);
    assert_eq!(hex(&bytes), expected.replace(char::is_whitespace, ""));
    assert_eq!(decode(&bytes).as_ref(), Ok(message));
}

fn stands() -> Stands {
    Stands {
        newest: point(2),
        sealed: 3,
        known: true,
        records: vec![Bytes::from_static(b"record")],
        ballot: Ballot {
            number: 5,
            proposer: Incarnation([0xba; 16]),
        },
        accepted: Some(Bytes::from_static(b"record")),
    }
}

#[test]
fn questions() {
    let request = |question| ChainRequest {
        cluster: CLUSTER,
        question,
    };
    let seal = Seal {
        generation: 2,
        after: point(0),
    };
    let offer = Offer {
        records: vec![Bytes::from_static(b"record")],
        settled: 6,
        hash: EpochHash([0xe6; 16]),
        generation: 2,
    };
    for (question, expected) in [
        (
            ChainQuestion::Seal(seal),
            "82a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a87175657374696f6e \
             81a47365616c82aa67656e65726174696f6e02a5616674657282a66e756d62657207a468 \
             617368c4105ef2c981213182ad76bd50c2e6028604",
        ),
        (
            ChainQuestion::Offer(offer),
            "82a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a87175657374696f6e \
             81a56f6666657284a77265636f72647391c4067265636f7264a7736574746c656406a468 \
             617368c410e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6aa67656e65726174696f6e02",
        ),
    ] {
        pin(&request(question), decode_chain_request, expected);
    }
}

fn answer(answer: ChainAnswer) -> ChainReply {
    ChainReply {
        cluster: CLUSTER,
        node: NodeId(9),
        answer,
    }
}

#[test]
fn answers() {
    for (told, expected) in [
        (
            ChainAnswer::Stands(Box::new(stands())),
            "83a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e6f646509a6616e \
             7377657281a67374616e647386a66e657765737483aa67656e65726174696f6e02a66e75 \
             6d62657207a468617368c4105ef2c981213182ad76bd50c2e6028604a67365616c656403 \
             a56b6e6f776ec3a77265636f72647391c4067265636f7264a662616c6c6f7482a66e756d \
             62657205a870726f706f736572c410babababababababababababababababaa861636365 \
             70746564c4067265636f7264",
        ),
        (
            ChainAnswer::SealedAbove(3),
            "83a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e6f646509a6616e \
             7377657281ac7365616c65645f61626f766503",
        ),
    ] {
        pin(&answer(told), decode_chain_reply, expected);
    }
}

fn reply(outcome: RecoverOutcome) -> RecoverReply {
    let found = |id, newest, why: &str| MemberFound {
        id: NodeId(id),
        newest,
        sealed: 0,
        forks: false,
        why: why.into(),
    };
    RecoverReply {
        cluster: CLUSTER,
        node: NodeId(9),
        members: vec![
            MemberFound {
                sealed: 2,
                forks: true,
                ..found(1, Some(point(0)), "")
            },
            found(2, None, "why"),
        ],
        newest: point(0),
        keepers: vec![NodeId(1), NodeId(2), NodeId(3)],
        outcome,
    }
}

#[test]
fn what_an_operator_asks_and_is_told() {
    let request = RecoverRequest {
        cluster: CLUSTER,
        recovery: ChangeId([0xab; 16]),
        proceed: true,
    };
    pin(
        &request,
        decode_recover_request,
        "83a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a87265636f76657279 \
             c410ababababababababababababababababa770726f63656564c3",
    );
    let anew = || Anew {
        epoch: point(2),
        keepers: vec![NodeId(1), NodeId(2)],
    };
    for (outcome, expected) in [
        (
            RecoverOutcome::Possible(anew()),
            "86a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e6f646509a76d65 \
             6d626572739284a2696401a66e657765737482a66e756d62657207a468617368c4105ef2 \
             c981213182ad76bd50c2e6028604a67365616c656402a5666f726b73c382a2696402a377 \
             6879a3776879a66e657765737482a66e756d62657207a468617368c4105ef2c981213182 \
             ad76bd50c2e6028604a76b65657065727393010203a76f7574636f6d6581a8706f737369 \
             626c6582a565706f636883aa67656e65726174696f6e02a66e756d62657207a468617368 \
             c4105ef2c981213182ad76bd50c2e6028604a76b656570657273920102",
        ),
        (
            RecoverOutcome::Done(anew()),
            "86a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e6f646509a76d65 \
             6d626572739284a2696401a66e657765737482a66e756d62657207a468617368c4105ef2 \
             c981213182ad76bd50c2e6028604a67365616c656402a5666f726b73c382a2696402a377 \
             6879a3776879a66e657765737482a66e756d62657207a468617368c4105ef2c981213182 \
             ad76bd50c2e6028604a76b65657065727393010203a76f7574636f6d6581a4646f6e6582 \
             a565706f636883aa67656e65726174696f6e02a66e756d62657207a468617368c4105ef2 \
             c981213182ad76bd50c2e6028604a76b656570657273920102",
        ),
        (
            RecoverOutcome::Unsettled(anew()),
            "86a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e6f646509a76d65 \
             6d626572739284a2696401a66e657765737482a66e756d62657207a468617368c4105ef2 \
             c981213182ad76bd50c2e6028604a67365616c656402a5666f726b73c382a2696402a377 \
             6879a3776879a66e657765737482a66e756d62657207a468617368c4105ef2c981213182 \
             ad76bd50c2e6028604a76b65657065727393010203a76f7574636f6d6581a9756e736574 \
             746c656482a565706f636883aa67656e65726174696f6e02a66e756d62657207a4686173 \
             68c4105ef2c981213182ad76bd50c2e6028604a76b656570657273920102",
        ),
        (
            RecoverOutcome::Refused("why".into()),
            "86a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e6f646509a76d65 \
             6d626572739284a2696401a66e657765737482a66e756d62657207a468617368c4105ef2 \
             c981213182ad76bd50c2e6028604a67365616c656402a5666f726b73c382a2696402a377 \
             6879a3776879a66e657765737482a66e756d62657207a468617368c4105ef2c981213182 \
             ad76bd50c2e6028604a76b65657065727393010203a76f7574636f6d6581a77265667573 \
             6564a3776879",
        ),
        (
            RecoverOutcome::Interrupted("why".into()),
            "86a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e6f646509a76d65 \
             6d626572739284a2696401a66e657765737482a66e756d62657207a468617368c4105ef2 \
             c981213182ad76bd50c2e6028604a67365616c656402a5666f726b73c382a2696402a377 \
             6879a3776879a66e657765737482a66e756d62657207a468617368c4105ef2c981213182 \
             ad76bd50c2e6028604a76b65657065727393010203a76f7574636f6d6581ab696e746572 \
             727570746564a3776879",
        ),
    ] {
        pin(&reply(outcome), decode_recover_reply, expected);
    }
}

#[test]
fn what_is_over_a_limit_is_refused() {
    let many = Stands {
        records: vec![Bytes::new(); EPOCHS_MAX + 1],
        ..stands()
    };
    let many = answer(ChainAnswer::Stands(Box::new(many)));
    let over = decode_chain_reply(&encode(&many));
    assert!(matches!(over, Err(DecodeError::Limit(_))), "{over:?}");
    let keepers = vec![NodeId(1); KEEPERS_MAX + 1];
    let anew = Anew {
        epoch: point(1),
        keepers: keepers.clone(),
    };
    let crowded = RecoverReply {
        keepers,
        ..reply(RecoverOutcome::Refused("why".into()))
    };
    for reply in [crowded, reply(RecoverOutcome::Done(anew))] {
        let over = decode_recover_reply(&encode(&reply));
        assert!(matches!(over, Err(DecodeError::Limit(_))), "{over:?}");
    }
}
