//! Seeds of strong buckets: their messages, and what their owners store.

use super::Seeds;
use super::examples::{BUCKET, KEY, reply, request};
use annulet_protocol::ballot::Ballot;
use annulet_protocol::codec::encode;
use annulet_protocol::ids::{Incarnation, OpId};
use annulet_protocol::message::{Answer, Operation};
use annulet_protocol::register::message::{
    Accept, Accepted, Learn, Outbid, Prepare, Promise, ReadRegister, Shown,
};
use annulet_protocol::register::{Change, Condition, LOG_MAX, NewValue, Register, Turn};
use annulet_replica::acceptor::{self, Acceptor};
use annulet_replica::layout::register::{self, StoredRegister};
use bytes::Bytes;

fn ballot(number: u64) -> Ballot {
    Ballot {
        number,
        proposer: Incarnation([5; 16]),
    }
}

fn turn(number: u64) -> Turn {
    Turn {
        ballot: ballot(number),
        op: OpId {
            client: Incarnation([5; 16]),
            sequence: number,
            first_sent_ms: 9,
        },
        since: None,
        now_ms: 0,
    }
}

/// What so many rounds make, each of a longer value.
fn made(rounds: u64, length: usize) -> (Register, Bytes) {
    let mut register = Register::unwritten(BUCKET, &KEY);
    let mut value = Bytes::new();
    for number in 1..=rounds {
        let change = Change::Set {
            value: vec![7; length].into(),
            expires_at_ms: Some(number),
            condition: Condition::Always,
        };
        let changed = register.change((BUCKET, &KEY), &turn(number), &change);
        register = changed.register;
        if let NewValue::Is(set) = changed.value {
            value = set;
        }
    }
    (register, value)
}

pub(super) fn add(seeds: &mut Seeds) {
    add_requests(seeds);
    add_replies(seeds);
    add_logs(seeds);
    let accepted = |(register, value): (Register, Bytes), next: Option<u64>| {
        let accepted = acceptor::Accepted {
            ballot: ballot(40),
            value: StoredRegister::of(register, &value),
            next: next.map(ballot),
        };
        register::encode(&Acceptor::new(ballot(50), Some(accepted)))
    };
    let value = accepted(made(2, 5), Some(41));
    for (name, entry) in [
        ("promise", register::encode(&Acceptor::new(ballot(9), None))),
        ("value", value.clone()),
        ("unwritten", accepted(made(0, 0), None)),
        ("apart", accepted(made(1, 5_000), None)),
        ("full_log", accepted(made(LOG_MAX as u64 + 1, 1), None)),
        ("damaged", [&value[..value.len() - 1], b"?"].concat().into()),
        ("other_format", [&[1], &value[1..]].concat().into()),
        ("unknown_flag", [&[3, 0xff], &value[2..]].concat().into()),
        ("flags_of_nothing", [&[3, 8], &value[2..]].concat().into()),
        ("cut_short", value.slice(..90)),
        ("empty", Bytes::new()),
    ] {
        seeds.add("stored_register", name, entry);
    }
}

fn add_logs(seeds: &mut Seeds) {
    let (Register { log, .. }, _) = made(3, 1);
    let log = log.encode();
    let resolved = Turn {
        op: OpId::default(),
        ..turn(9)
    };
    let (register, _) = made(1, 1);
    let resolved = register.change((BUCKET, &KEY), &resolved, &Change::Resolve);
    for (name, bytes) in [
        ("nothing", Bytes::new()),
        ("three", log.clone()),
        ("resolved", resolved.register.log.encode()),
        ("full", made(LOG_MAX as u64 + 1, 1).0.log.encode()),
        ("out_of_order", [&log[..], &log[24..]].concat().into()),
        ("of_nothing", log.slice(..24)),
        ("cut_short", log.slice(..60)),
    ] {
        seeds.add("log", name, bytes);
    }
}

fn add_requests(seeds: &mut Seeds) {
    let (Register { head, log }, value) = made(2, 5);
    let read = ReadRegister {
        bucket: BUCKET,
        key: KEY,
        value_bytes_max: Some(4_096),
        with_log: true,
    };
    let prepare = Prepare {
        bucket: BUCKET,
        key: KEY,
        ballot: ballot(3),
        value_bytes_max: 4_096,
    };
    let accept = Accept {
        bucket: BUCKET,
        key: KEY,
        ballot: ballot(3),
        next: Some(ballot(4)),
        head,
        log: log.clone(),
        value: value.clone(),
        held: None,
    };
    let held = Accept {
        value: Bytes::new(),
        held: Some(ballot(2)),
        ..accept.clone()
    };
    let learn = Learn {
        bucket: BUCKET,
        key: KEY,
        ballot: ballot(3),
        head,
        log,
        value,
    };
    for (name, operation) in [
        ("read_register", Operation::ReadRegister(read)),
        ("prepare", Operation::Prepare(prepare)),
        ("accept", Operation::Accept(Box::new(accept))),
        ("accept_held", Operation::Accept(Box::new(held))),
        ("learn", Operation::Learn(Box::new(learn))),
    ] {
        seeds.add("request", name, encode(&request(vec![operation])));
    }
}

fn add_replies(seeds: &mut Seeds) {
    let (Register { head, log }, value) = made(2, 5);
    let shown = Shown {
        ballot: ballot(3),
        next: Some(ballot(4)),
        head,
        log: Some(log),
        value: Some(value),
    };
    let promise = Promise {
        promised: ballot(4),
        accepted: Some(shown),
    };
    let promised = ballot(9);
    for (name, answer) in [
        ("promise", Answer::Promise(Box::new(promise))),
        ("promise_of_nothing", Answer::Promise(Box::default())),
        ("accepted", Answer::Accepted(Accepted {})),
        ("outbid", Answer::Outbid(Outbid { promised })),
    ] {
        seeds.add("reply", name, encode(&reply(vec![answer])));
    }
}
