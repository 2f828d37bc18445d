//! Messages of strong buckets, pinned: servers and clients of different versions speak them.

use annulet_protocol::ballot::Ballot;
use annulet_protocol::codec::{decode_reply, decode_request, encode};
use annulet_protocol::ids::{ClusterId, Incarnation, NodeId, OpId};
use annulet_protocol::message::{Answer, Load, Operation, Reply, Request};
use annulet_protocol::register::message::{
    Accept, Accepted, Learn, Outbid, Prepare, Promise, ReadRegister, Shown,
};
use annulet_protocol::register::{Change, Condition, NewValue, Register, Turn};
use bytes::Bytes;

const KEY: Bytes = Bytes::from_static(b"key");

fn ballot(number: u64, proposer: u8) -> Ballot {
    Ballot {
        number,
        proposer: Incarnation([proposer; 16]),
    }
}

/// A value that one client wrote, which another client then asked about.
fn register() -> (Register, Bytes) {
    let turn = |number, client| Turn {
        ballot: ballot(number, client),
        op: OpId {
            client: Incarnation([0xaa; 16]),
            sequence: number,
            first_sent_ms: 1_700_000_000_000,
        },
        since: None,
        now_ms: 0,
    };
    let set = Change::Set {
        value: "v".into(),
        expires_at_ms: Some(1_700_000_060_000),
        condition: Condition::Always,
    };
    let first = Register::unwritten(1, &KEY).change((1, &KEY), &turn(5, 0xaa), &set);
    let second = first
        .register
        .change((1, &KEY), &turn(6, 0xbb), &Change::Resolve);
    match first.value {
        NewValue::Is(value) => (second.register, value),
        NewValue::Kept => panic!("a value was set"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check_request(operation: Operation, golden: &str) {
    let request = Request {
        cluster: ClusterId([0xc1; 16]),
        epoch: 7,
        budget_ms: 5_000,
        operations: vec![operation],
    };
    let bytes = encode(&request);
    let start = bytes.windows(11).position(|word| word == b"\xaaoperations");
    assert_eq!(hex(&bytes[start.expect("a field") + 11..]), golden);
    assert_eq!(decode_request(&bytes, 1_000), Ok(request));
}

fn check_reply(answer: Answer, golden: &str) {
    let reply = Reply {
        cluster: ClusterId([0xc1; 16]),
        node: NodeId(9),
        epoch: 7,
        time_ms: 1,
        load: Load::default(),
        results: vec![answer],
    };
    let bytes = encode(&reply);
    let start = bytes.windows(8).position(|word| word == b"\xa7results");
    assert_eq!(hex(&bytes[start.expect("a field") + 8..]), golden);
    assert_eq!(decode_reply(&bytes), Ok(reply));
}

#[test]
fn a_log_never_changes() {
    let (Register { head, log }, _) = register();
    assert_eq!(
        hex(&log.encode()),
        "00000000000000000000000000000000000000000000000000aaaaaaaaaaaaaaaaaaaaaaaaaa\
         aaaaaa00000000000000050000018bcfe56800000000000000000503aaaaaaaaaaaaaaaaaaaa\
         aaaaaaaaaaaa00000000000000060000018bcfe568000000000000000006bbbbbbbbbbbbbbbb\
         bbbbbbbbbbbbbbbb"
    );
    let sums = format!(
        "{:016x} {:016x} {:08x}",
        head.checksum, head.log_checksum, head.seal
    );
    assert_eq!(sums, "fca719437fae94ff 478f30a05373f8c4 e5dfc60a");
}

#[test]
fn reads_never_change() {
    let read = |value_bytes_max, with_log| {
        Operation::ReadRegister(ReadRegister {
            bucket: 1,
            key: KEY,
            value_bytes_max,
            with_log,
        })
    };
    check_request(
        read(None, false),
        "9181ad726561645f726567697374657282a66275636b657401a36b6579c4036b6579",
    );
    check_request(
        read(Some(4_096), true),
        "9181ad726561645f726567697374657284a66275636b657401a36b6579c4036b6579af76616c\
         75655f62797465735f6d6178cd1000a8776974685f6c6f67c3",
    );
}

#[test]
fn prepares_never_change() {
    check_request(
        Operation::Prepare(Prepare {
            bucket: 1,
            key: KEY,
            ballot: ballot(6, 0xbb),
            value_bytes_max: 0,
        }),
        "9181a77072657061726584a66275636b657401a36b6579c4036b6579a662616c6c6f7482a66e\
         756d62657206a870726f706f736572c410bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbaf76616c75\
         655f62797465735f6d617800",
    );
}

#[test]
fn accepts_never_change() {
    let (Register { head, log }, value) = register();
    let accept = |value, held, next| {
        Operation::Accept(Box::new(Accept {
            bucket: 1,
            key: KEY,
            ballot: ballot(6, 0xbb),
            next,
            head,
            log: log.clone(),
            value,
            held,
        }))
    };
    let next = Some(ballot(7, 0xbb));
    check_request(
        accept(value, None, next),
        "9181a661636365707487a66275636b657401a36b6579c4036b6579a662616c6c6f7482a66e75\
         6d62657206a870726f706f736572c410bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbba46e65787482\
         a66e756d62657207a870726f706f736572c410bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbba46865\
         616488a46b696e64a576616c7565a776657273696f6e82a66e756d62657205a870726f706f73\
         6572c410aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa26f7083a6636c69656e74c410aaaaaaaaaa\
         aaaaaaaaaaaaaaaaaaaaaaa873657175656e636505ad66697273745f73656e745f6d73cf0000\
         018bcfe56800ad657870697265735f61745f6d73cf0000018bcfe65260a66c656e67746801a8\
         636865636b73756dcffca719437fae94ffac6c6f675f636865636b73756dcf478f30a05373f8\
         c4a47365616ccee5dfc60aa36c6f67c47a000000000000000000000000000000000000000000\
         00000000aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa00000000000000050000018bcfe568000000\
         00000000000503aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa00000000000000060000018bcfe568\
         000000000000000006bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbba576616c7565c40176",
    );
    check_request(
        accept(Bytes::new(), Some(ballot(5, 0xaa)), None),
        "9181a661636365707487a66275636b657401a36b6579c4036b6579a662616c6c6f7482a66e75\
         6d62657206a870726f706f736572c410bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbba46865616488\
         a46b696e64a576616c7565a776657273696f6e82a66e756d62657205a870726f706f736572c4\
         10aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa26f7083a6636c69656e74c410aaaaaaaaaaaaaaaa\
         aaaaaaaaaaaaaaaaa873657175656e636505ad66697273745f73656e745f6d73cf0000018bcf\
         e56800ad657870697265735f61745f6d73cf0000018bcfe65260a66c656e67746801a8636865\
         636b73756dcffca719437fae94ffac6c6f675f636865636b73756dcf478f30a05373f8c4a473\
         65616ccee5dfc60aa36c6f67c47a000000000000000000000000000000000000000000000000\
         00aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa00000000000000050000018bcfe568000000000000\
         00000503aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa00000000000000060000018bcfe568000000\
         000000000006bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbba576616c7565c400a468656c6482a66e\
         756d62657205a870726f706f736572c410aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    );
}

#[test]
fn what_is_learned_never_changes() {
    let (Register { head, log }, value) = register();
    check_request(
        Operation::Learn(Box::new(Learn {
            bucket: 1,
            key: KEY,
            ballot: ballot(6, 0xbb),
            head,
            log,
            value,
        })),
        "9181a56c6561726e86a66275636b657401a36b6579c4036b6579a662616c6c6f7482a66e756d\
         62657206a870726f706f736572c410bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbba46865616488a4\
         6b696e64a576616c7565a776657273696f6e82a66e756d62657205a870726f706f736572c410\
         aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa26f7083a6636c69656e74c410aaaaaaaaaaaaaaaaaa\
         aaaaaaaaaaaaaaa873657175656e636505ad66697273745f73656e745f6d73cf0000018bcfe5\
         6800ad657870697265735f61745f6d73cf0000018bcfe65260a66c656e67746801a863686563\
         6b73756dcffca719437fae94ffac6c6f675f636865636b73756dcf478f30a05373f8c4a47365\
         616ccee5dfc60aa36c6f67c47a00000000000000000000000000000000000000000000000000\
         aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa00000000000000050000018bcfe56800000000000000\
         000503aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa00000000000000060000018bcfe56800000000\
         0000000006bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbba576616c7565c40176",
    );
}

#[test]
fn promises_never_change() {
    let (Register { head, log }, value) = register();
    let shown = Shown {
        ballot: ballot(6, 0xbb),
        next: Some(ballot(7, 0xbb)),
        head,
        log: Some(log),
        value: Some(value),
    };
    check_reply(
        Answer::Promise(Box::new(Promise {
            promised: ballot(7, 0xbb),
            accepted: Some(shown),
        })),
        "9181a770726f6d69736582a870726f6d6973656482a66e756d62657207a870726f706f736572\
         c410bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbba8616363657074656485a662616c6c6f7482a66e\
         756d62657206a870726f706f736572c410bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbba46e657874\
         82a66e756d62657207a870726f706f736572c410bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbba468\
         65616488a46b696e64a576616c7565a776657273696f6e82a66e756d62657205a870726f706f\
         736572c410aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa26f7083a6636c69656e74c410aaaaaaaa\
         aaaaaaaaaaaaaaaaaaaaaaaaa873657175656e636505ad66697273745f73656e745f6d73cf00\
         00018bcfe56800ad657870697265735f61745f6d73cf0000018bcfe65260a66c656e67746801\
         a8636865636b73756dcffca719437fae94ffac6c6f675f636865636b73756dcf478f30a05373\
         f8c4a47365616ccee5dfc60aa36c6f67c47a0000000000000000000000000000000000000000\
         0000000000aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa00000000000000050000018bcfe5680000\
         0000000000000503aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa00000000000000060000018bcfe5\
         68000000000000000006bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbba576616c7565c40176",
    );
    check_reply(
        Answer::Promise(Box::default()),
        "9181a770726f6d69736581a870726f6d6973656482a66e756d62657200a870726f706f736572\
         c41000000000000000000000000000000000",
    );
}

#[test]
fn answers_to_rounds_never_change() {
    check_reply(Answer::Accepted(Accepted {}), "9181a8616363657074656480");
    let promised = ballot(9, 0xcc);
    check_reply(
        Answer::Outbid(Outbid { promised }),
        "9181a66f757462696481a870726f6d6973656482a66e756d62657209a870726f706f736572c4\
         10cccccccccccccccccccccccccccccccc",
    );
}
