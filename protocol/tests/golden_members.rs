//! Bytes of what changes members, and of what servers say of their copies, pinned.

use annulet_protocol::codec::{
    decode_chain_reply, decode_chain_request, decode_member_reply, decode_member_request, encode,
};
use annulet_protocol::epoch::{
    ChainAnswer, ChainQuestion, ChainReply, ChainRequest, Copies, CopiesOver, ListPlace,
};
use annulet_protocol::ids::{ChangeId, ClusterId, NodeId};
use annulet_protocol::members::{
    LeaveMember, MemberCommand, MemberReply, MemberRequest, SetMember,
};
use annulet_protocol::view::{Member, MemberState};

const CLUSTER: ClusterId = ClusterId([0xc1; 16]);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn member() -> Member {
    Member {
        id: NodeId(4),
        address: "host:7400".into(),
        capacity: 2,
        zone: "z".into(),
        region: String::new(),
        state: MemberState::Joining,
    }
}

#[test]
fn changes_of_members_never_change() {
    let set = SetMember {
        id: NodeId(4),
        capacity: Some(3),
        ..SetMember::default()
    };
    let leave = LeaveMember { id: NodeId(4) };
    for (command, golden) in [
        (
            MemberCommand::Join(member()),
            "83a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a66368616e6765c4\
         10ababababababababababababababababa7636f6d6d616e6481a46a6f696e86a26964\
         04a761646472657373a9686f73743a37343030a8636170616369747902a47a6f6e65a1\
         7aa6726567696f6ea0a57374617465a76a6f696e696e67",
        ),
        (
            MemberCommand::Set(set),
            "83a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a66368616e6765c4\
         10ababababababababababababababababa7636f6d6d616e6481a373657482a2696404\
         a8636170616369747903",
        ),
        (
            MemberCommand::Leave(leave),
            "83a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a66368616e6765c4\
         10ababababababababababababababababa7636f6d6d616e6481a56c6561766581a269\
         6404",
        ),
        (
            MemberCommand::AcceptLoss(leave),
            "83a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a66368616e6765c4\
         10ababababababababababababababababa7636f6d6d616e6481ab6163636570745f6c\
         6f737381a2696404",
        ),
    ] {
        let request = MemberRequest {
            cluster: CLUSTER,
            change: ChangeId([0xab; 16]),
            command,
        };
        let bytes = encode(&request);
        assert_eq!(decode_member_request(&bytes), Ok(request));
        assert_eq!(hex(&bytes), golden);
    }
    for (member, golden) in [
        (
            Some(member()),
            "83a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a565706f636807a6\
         6d656d62657286a2696404a761646472657373a9686f73743a37343030a86361706163\
         69747902a47a6f6e65a17aa6726567696f6ea0a57374617465a76a6f696e696e67",
        ),
        (
            None,
            "82a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a565706f636807",
        ),
    ] {
        let reply = MemberReply {
            cluster: CLUSTER,
            epoch: 7,
            member,
        };
        let bytes = encode(&reply);
        assert_eq!(decode_member_reply(&bytes), Ok(reply));
        assert_eq!(hex(&bytes), golden);
    }
}

#[test]
fn what_is_said_of_copies_never_changes() {
    let request = ChainRequest {
        cluster: CLUSTER,
        question: ChainQuestion::Copies(Copies {}),
    };
    let bytes = encode(&request);
    assert_eq!(decode_chain_request(&bytes), Ok(request));
    assert_eq!(
        hex(&bytes),
        "82a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a87175657374696f\
         6e81a6636f7069657380"
    );
    let place = ListPlace {
        partition: 5,
        since: 6,
    };
    let over = |epoch, hands_over| CopiesOver {
        over: vec![place],
        epoch,
        partitions: 9 * u32::from(hands_over),
        hands_over,
    };
    // A server of an earlier version says less.
    for (copied, expected) in [
        (
            over(0, false),
            "83a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e6f646502a661\
             6e7377657281a6636f7069656481a46f7665729182a9706172746974696f6e05a57369\
             6e636506",
        ),
        (
            over(7, true),
            "83a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e6f646502a661\
             6e7377657281a6636f7069656484a46f7665729182a9706172746974696f6e05a57369\
             6e636506a565706f636807aa706172746974696f6e7309aa68616e64735f6f766572c3",
        ),
    ] {
        let reply = ChainReply {
            cluster: CLUSTER,
            node: NodeId(2),
            answer: ChainAnswer::Copied(copied),
        };
        let bytes = encode(&reply);
        assert_eq!(decode_chain_reply(&bytes), Ok(reply));
        assert_eq!(hex(&bytes), expected);
    }
}

#[test]
fn what_a_server_says_under_an_older_epoch_does_not_let_it_go() {
    let says = |epoch, hands_over| CopiesOver {
        epoch,
        hands_over,
        ..CopiesOver::default()
    };
    assert!(says(7, false).has_handed_over(7));
    assert!(says(8, false).has_handed_over(7));
    assert!(!says(6, false).has_handed_over(7));
    assert!(!says(7, true).has_handed_over(7));
    let of_earlier_version = says(0, false);
    assert!(of_earlier_version.has_handed_over(7));
}
