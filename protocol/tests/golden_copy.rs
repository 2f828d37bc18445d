//! Bytes of what servers say to each other to copy an arc, pinned: servers of different versions
//! must understand each other.

use annulet_protocol::codec::{decode_reply, decode_request, encode};
use annulet_protocol::copy::{Copied, CopiedEntry, CopyArc};
use annulet_protocol::hash::KeyHash;
use annulet_protocol::ids::{ClusterId, NodeId};
use annulet_protocol::message::{Answer, Load, Operation, Reply, Request};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn request(asked: CopyArc) -> Request {
    Request {
        cluster: ClusterId([0xc1; 16]),
        epoch: 7,
        budget_ms: 5_000,
        operations: vec![Operation::CopyArc(asked)],
    }
}

fn reply(page: Copied) -> Reply {
    Reply {
        cluster: ClusterId([0xc1; 16]),
        node: NodeId(2),
        epoch: 8,
        time_ms: 9,
        load: Load::default(),
        results: vec![Answer::Copied(page)],
    }
}

#[test]
fn questions_about_an_arc_never_change() {
    let first = CopyArc {
        node: NodeId(4),
        since: 7,
        from: KeyHash(5),
        until: KeyHash(9),
        after: "".into(),
        last: "".into(),
        digest: None,
        bytes_max: 1 << 20,
    };
    let next = CopyArc {
        after: "after".into(),
        last: "last".into(),
        digest: Some(77),
        ..first.clone()
    };
    for (asked, golden) in [
        (
            first,
            "84a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a565706f636807a9\
             6275646765745f6d73cd1388aa6f7065726174696f6e739181a8636f70795f61726385\
             a46e6f646504a573696e636507a466726f6d05a5756e74696c09a962797465735f6d61\
             78ce00100000",
        ),
        (
            next,
            "84a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a565706f636807a9\
             6275646765745f6d73cd1388aa6f7065726174696f6e739181a8636f70795f61726388\
             a46e6f646504a573696e636507a466726f6d05a5756e74696c09a56166746572c40561\
             66746572a46c617374c4046c617374a66469676573744da962797465735f6d6178ce00\
             100000",
        ),
    ] {
        let request = request(asked);
        let bytes = encode(&request);
        assert_eq!(decode_request(&bytes, 1 << 20), Ok(request));
        assert_eq!(hex(&bytes), golden);
    }
}

#[test]
fn pages_of_an_arc_never_change() {
    let entry = |value: Option<&'static str>| CopiedEntry {
        key: "key".into(),
        entry: "entry".into(),
        value: value.map(Into::into),
    };
    let cut = Copied {
        entries: vec![entry(None), entry(Some("value"))],
        reached: Some("reached".into()),
    };
    for (page, golden) in [
        (
            cut,
            "86a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e6f646502a565\
             706f636808a774696d655f6d7309a46c6f616482a9696e5f666c6967687400aa736572\
             766963655f757300a7726573756c74739181a6636f7069656482a7656e747269657392\
             82a36b6579c4036b6579a5656e747279c405656e74727983a36b6579c4036b6579a565\
             6e747279c405656e747279a576616c7565c40576616c7565a772656163686564c40772\
             656163686564",
        ),
        (
            Copied::default(),
            "86a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1a46e6f646502a565\
             706f636808a774696d655f6d7309a46c6f616482a9696e5f666c6967687400aa736572\
             766963655f757300a7726573756c74739181a6636f7069656481a7656e747269657390",
        ),
    ] {
        let reply = reply(page);
        let bytes = encode(&reply);
        assert_eq!(decode_reply(&bytes), Ok(reply));
        assert_eq!(hex(&bytes), golden);
    }
}
