//! The acceptor of a key of bucket 6, which is strong and has owners 1 and 2, over a store.

use super::*;
use annulet_protocol::ballot::Ballot;
use annulet_protocol::register::message::{
    Accept, Accepted, Learn, Outbid, Prepare, Promise, ReadRegister, Shown,
};
use annulet_protocol::register::{Change as Turned, Condition, NewValue, Register, Turn};

const KEY: Bytes = Bytes::from_static(b"k");
const ACCEPTED: Answer = Answer::Accepted(Accepted {});
const LONG: usize = 5_000;

fn ballot(number: u64) -> Ballot {
    Ballot {
        number,
        proposer: Incarnation([3; 16]),
    }
}

fn outbid(number: u64) -> Answer {
    let promised = ballot(number);
    Answer::Outbid(Outbid { promised })
}

fn prepare(number: u64) -> Mutation {
    Mutation::Prepare(Prepare {
        bucket: STRONG,
        key: KEY,
        ballot: ballot(number),
        value_bytes_max: 10_000,
    })
}

/// What the round of this ballot makes of an unwritten key.
fn made(number: u64, value: Option<Bytes>) -> (Register, Bytes) {
    let turn = Turn {
        ballot: ballot(number),
        op: OpId {
            client: Incarnation([3; 16]),
            sequence: number,
            first_sent_ms: NOW_MS,
        },
        since: None,
        now_ms: NOW_MS,
    };
    let condition = Condition::Always;
    let change = match value {
        None => Turned::Delete { condition },
        Some(value) => Turned::Set {
            value,
            expires_at_ms: None,
            condition,
        },
    };
    let changed = Register::unwritten(STRONG, &KEY).change((STRONG, &KEY), &turn, &change);
    match changed.value {
        NewValue::Is(value) => (changed.register, value),
        NewValue::Kept => panic!("set or deleted"),
    }
}

fn accept_of(number: u64, value: Option<Bytes>, next: Option<u64>) -> Accept {
    let (Register { head, log }, value) = made(number, value);
    Accept {
        bucket: STRONG,
        key: KEY,
        ballot: ballot(number),
        next: next.map(ballot),
        head,
        log,
        value,
        held: None,
    }
}

fn accept(number: u64, value: Option<Bytes>) -> Mutation {
    Mutation::Accept(Box::new(accept_of(number, value, None)))
}

/// Settles in round `number` what round `held` made, without its value.
fn settle(number: u64, held: u64, value: Option<Bytes>) -> Mutation {
    Mutation::Accept(Box::new(Accept {
        ballot: ballot(number),
        value: Bytes::new(),
        held: Some(ballot(held)),
        ..accept_of(held, value, None)
    }))
}

fn learn(number: u64, value: Option<Bytes>) -> Mutation {
    learn_of(number, number, value)
}

/// Brings what round `made_in` made as accepted in round `number`.
fn learn_of(number: u64, made_in: u64, value: Option<Bytes>) -> Mutation {
    let (Register { head, log }, value) = made(made_in, value);
    Mutation::Learn(Box::new(Learn {
        bucket: STRONG,
        key: KEY,
        ballot: ballot(number),
        head,
        log,
        value,
    }))
}

fn long(byte: u8) -> Option<Bytes> {
    Some(vec![byte; LONG].into())
}

impl Rig {
    fn strong() -> Self {
        Self::new()
    }

    fn register(&self, value_bytes_max: Option<u32>) -> Answer {
        let read = ReadRegister {
            bucket: STRONG,
            key: KEY,
            value_bytes_max,
            with_log: false,
        };
        let reads = [(EPOCH, &read)];
        let mut read = self
            .replica
            .read_registers(&self.store, self.moment(), reads);
        assert_eq!(read.touched, [self.view.hash(STRONG, &KEY)]);
        read.answers.pop().expect("one answer")
    }

    /// Promise, accepted ballot and value, as a read shows them.
    fn state(&self) -> (u64, u64, Option<Bytes>) {
        match self.register(None) {
            Answer::Promise(promise) => {
                let Promise { promised, accepted } = *promise;
                let at = accepted.as_ref().map_or(0, |shown| shown.ballot.number);
                (promised.number, at, accepted.and_then(|shown| shown.value))
            }
            other => panic!("a read gave {other:?}"),
        }
    }
}

#[test]
fn promises_and_accepts_are_kept_and_shown() {
    let mut rig = Rig::strong();
    assert_eq!(rig.register(None), Answer::Promise(Box::default()));
    let promise = |number, accepted| {
        let promised = ballot(number);
        Answer::Promise(Box::new(Promise { promised, accepted }))
    };
    assert_eq!(rig.mutate(prepare(5)), promise(5, None));
    assert_eq!(rig.mutate(prepare(5)), outbid(5));
    assert_eq!(rig.mutate(accept(4, text("v"))), outbid(5));
    let first = accept_of(5, text("v"), Some(6));
    assert_eq!(
        rig.mutate(Mutation::Accept(Box::new(first.clone()))),
        ACCEPTED
    );
    assert_eq!(
        rig.mutate(Mutation::Accept(Box::new(first.clone()))),
        ACCEPTED,
        "again"
    );
    let shown = |log, value: Option<Bytes>| Shown {
        ballot: ballot(5),
        next: Some(ballot(6)),
        head: first.head,
        log,
        value,
    };
    assert_eq!(rig.register(None), promise(6, Some(shown(None, text("v")))));
    assert_eq!(rig.register(Some(0)), promise(6, Some(shown(None, None))));
    let log = Some(first.log.clone());
    assert_eq!(
        rig.mutate(prepare(7)),
        promise(7, Some(shown(log, text("v"))))
    );
    assert_eq!(rig.mutate(accept(6, text("w"))), outbid(7));
    assert_eq!(rig.mutate(accept(8, text("w"))), ACCEPTED, "unprepared");
    assert_eq!(rig.state(), (8, 8, text("w")));
    let answer = rig.mutate(accept(8, text("x")));
    assert_eq!(refused(&answer), Some(RefusalKind::Contradiction));
}

#[test]
fn promises_wait_for_their_sync_and_reads_of_them_too() {
    for (mutation, syncs) in [
        (prepare(5), true),
        (prepare(5), false),
        (accept(6, text("v")), true),
        (accept(6, text("v")), false),
        (learn(7, text("w")), true),
        (learn(7, text("w")), false),
    ]
    .iter()
    .scan(Rig::strong(), |rig, (mutation, syncs)| {
        let moment = rig.moment();
        let decided = rig.replica.decide(&rig.store, moment, [(EPOCH, mutation)]);
        let decided = decided.expect("a store in memory does not fail");
        assert_eq!(decided.touched, [rig.view.hash(STRONG, &KEY)]);
        let needs = decided.needs_sync;
        rig.store.write(decided.batch).expect("it does not fail");
        Some((needs, *syncs))
    }) {
        assert_eq!(mutation, syncs);
    }
}

#[test]
fn later_mutations_of_a_batch_see_the_earlier_ones() {
    let mut rig = Rig::strong();
    let batch = [
        prepare(5),
        prepare(4),
        accept(5, long(1)),
        settle(6, 5, long(1)),
        prepare(6),
        prepare(7),
    ];
    let (answers, _) = rig.mutate_all(EPOCH, &batch);
    assert_eq!(answers[1], outbid(5));
    assert_eq!(answers[2..5], [ACCEPTED, ACCEPTED, outbid(6)]);
    assert_eq!(rig.state(), (7, 6, long(1)));
}

#[test]
fn a_long_value_lies_apart_and_is_neither_promised_nor_rewritten() {
    let mut rig = Rig::strong();
    let values = |rig: &Rig| {
        let keys = [rig.storage_key(STRONG, "k")];
        rig.store.read(Family::Values, &keys).remove(0)
    };
    assert_eq!(rig.mutate(accept(5, long(1))), ACCEPTED);
    let apart = values(&rig);
    assert!(matches!(&apart, Ok(Some(value)) if value.len() == LONG + 32));
    let Answer::Promise(promise) = rig.mutate(prepare(6)) else {
        panic!("it is above");
    };
    assert_eq!(promise.accepted.and_then(|shown| shown.value), None);
    assert_eq!(rig.state().2, long(1));
    let Answer::Promise(promise) = rig.register(Some(4_096)) else {
        panic!("a read gives it");
    };
    assert_eq!(promise.accepted.and_then(|shown| shown.value), None);
    let (answers, _) = rig.mutate_all(EPOCH, &[settle(6, 5, long(1))]);
    assert_eq!((answers, values(&rig)), (vec![ACCEPTED], apart));
    assert_eq!(rig.mutate(accept(7, text("short"))), ACCEPTED);
    assert_eq!(values(&rig), Ok(None));
    assert_eq!(rig.mutate(learn(8, long(2))), WRITTEN);
    assert_eq!(rig.state(), (8, 8, long(2)));
}

#[test]
fn an_accept_without_its_value_is_taken_only_where_that_very_ballot_is_held() {
    let lacking = Answer::Lacking(annulet_protocol::message::Lacking {});
    let mut rig = Rig::strong();
    assert_eq!(rig.mutate(settle(6, 5, long(1))), lacking, "nothing there");
    rig.mutate(accept(3, long(3)));
    assert_eq!(rig.mutate(settle(6, 5, long(1))), lacking, "an older one");
    rig.mutate(accept(5, long(1)));
    // Another value under that ballot is a fault of the proposer.
    assert_eq!(rig.mutate(settle(6, 5, long(2))), lacking);
    assert_eq!(rig.mutate(settle(6, 5, long(1))), ACCEPTED);
    assert_eq!(rig.mutate(settle(6, 5, long(1))), ACCEPTED, "again");
    assert_eq!(rig.mutate(settle(7, 5, long(1))), lacking, "a newer one");
    assert_eq!(rig.state(), (6, 6, long(1)));
}

#[test]
fn what_is_learned_leaves_a_higher_promise_alone() {
    let mut rig = Rig::strong();
    rig.mutate(prepare(9));
    assert_eq!(rig.mutate(learn(5, text("v"))), WRITTEN);
    assert_eq!(rig.state(), (9, 5, text("v")));
    assert_eq!(rig.mutate(learn(4, text("u"))), WRITTEN, "older");
    assert_eq!(rig.state(), (9, 5, text("v")));
    // Its proposer does not count this owner: the promise came first.
    assert_eq!(rig.mutate(accept(5, text("v"))), outbid(9));
    assert_eq!(rig.mutate(learn(12, text("w"))), WRITTEN);
    assert_eq!(rig.state(), (12, 12, text("w")));
}

#[test]
fn operations_of_another_mode_are_refused_both_ways() {
    let mut rig = Rig::strong();
    let wrong = Some(RefusalKind::WrongMode);
    let answer = rig.write(&put(STRONG, "k", NOW_MS, text("v")));
    assert_eq!(refused(&answer), wrong);
    assert_eq!(refused(&rig.read(EPOCH, STRONG, "k", false)), wrong);
    let Mutation::Prepare(prepare) = prepare(5) else {
        panic!("it is one");
    };
    for bucket in [GROUP, SIBLINGS] {
        let prepare = Prepare {
            bucket,
            ..prepare.clone()
        };
        let answer = rig.mutate(Mutation::Prepare(prepare));
        assert_eq!(refused(&answer), wrong);
    }
    for (epoch, kind) in [(4, RefusalKind::StaleEpoch), (8, RefusalKind::Behind)] {
        let (answers, _) = rig.mutate_all(epoch, &[Mutation::Prepare(prepare.clone())]);
        assert_eq!(refused(&answers[0]), Some(kind));
    }
}

#[test]
fn what_no_round_makes_is_refused() {
    let mut rig = Rig::strong();
    let good = accept_of(5, text("v"), Some(6));
    let changed = |change: fn(&mut Accept)| {
        let mut accept = good.clone();
        change(&mut accept);
        accept
    };
    for (index, accept) in [
        changed(|a| a.value = "w".into()),
        changed(|a| a.key = "K".into()),
        changed(|a| a.head.seal += 1),
        changed(|a| a.log = Default::default()),
        changed(|a| a.ballot = ballot(4)),
        changed(|a| a.next = Some(ballot(5))),
        changed(|a| a.held = Some(ballot(3))),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = rig.mutate(Mutation::Accept(Box::new(accept)));
        assert_eq!(refused(&answer), Some(RefusalKind::BadChecksum), "{index}");
    }
    let answer = rig.mutate(accept(5, Some(vec![0; 10_001].into())));
    assert_eq!(refused(&answer), Some(RefusalKind::TooLarge));
    let far = Stamp::at(NOW_MS + 367 * 24 * 3_600_000).0;
    let skewed = Some(RefusalKind::SkewedClock);
    assert_eq!(refused(&rig.mutate(prepare(far))), skewed);
    assert_eq!(refused(&rig.mutate(accept(far, text("v")))), skewed);
    assert_eq!(rig.state(), (0, 0, None));
}

#[test]
fn a_full_disk_takes_deletes_and_repairs_only() {
    let mut rig = Rig::strong();
    rig.mutate(accept(5, text("v")));
    rig.disk_full = true;
    let answer = rig.mutate(accept(6, text("w")));
    assert_eq!(refused(&answer), Some(RefusalKind::Full));
    let settled = Accept {
        ballot: ballot(7),
        ..accept_of(5, text("v"), None)
    };
    assert_eq!(rig.mutate(Mutation::Accept(Box::new(settled))), ACCEPTED);
    let without_value = Accept {
        ballot: ballot(8),
        value: Bytes::new(),
        held: Some(ballot(7)),
        ..accept_of(5, text("v"), None)
    };
    assert_eq!(
        rig.mutate(Mutation::Accept(Box::new(without_value))),
        ACCEPTED
    );
    assert_eq!(rig.mutate(accept(9, None)), ACCEPTED);
    assert_eq!(rig.mutate(learn(10, text("x"))), WRITTEN);
}

#[test]
fn a_damaged_register_answers_nothing_any_more() {
    let mut rig = Rig::strong();
    rig.mutate(accept(5, text("v")));
    let key = rig.storage_key(STRONG, "k");
    let damaged = Bytes::from_static(b"\x03damage");
    let batch = vec![Change::Put(Family::Records, key.clone(), damaged)];
    rig.store.write(batch).expect("it does not fail");
    let kind = Some(RefusalKind::Damaged);
    assert_eq!(refused(&rig.register(None)), kind);
    for mutation in [prepare(9), accept(9, None), learn(9, text("w"))] {
        assert_eq!(refused(&rig.mutate(mutation)), kind);
    }
    // Nobody else can say what was promised here: it is never asked for.
    let mut restorer = crate::restore::Restorer::new(0);
    restorer.note(key, 0);
    assert_eq!(restorer.due(&rig.view, NodeId(1), NOW_MS), None);
    assert_eq!(restorer.count(), 1, "and stays known");
}

#[test]
fn a_look_at_everything_leaves_registers_alone() {
    let mut rig = Rig::strong();
    rig.mutate(accept(5, None));
    let look = |rig: &Rig| {
        let mut sweep = crate::sweep::Sweep::new(0);
        sweep.step(&rig.store, &rig.view, u64::MAX).expect("reads")
    };
    let found = look(&rig);
    assert_eq!((found.tasks, found.damaged), (vec![], vec![]));
    // Its bucket is gone, and a later one has a higher number.
    rig.view.buckets.last_mut().expect("the strong one").number = STRONG + 1;
    let found = look(&rig);
    assert_eq!(found.tasks.len(), 1);
    rig.mutate(Mutation::Task(found.tasks[0].clone()));
    assert_eq!(look(&rig).tasks, []);
}

#[cfg(feature = "faults")]
#[test]
fn broken_rules_are_seen() {
    let broken = |fault| {
        let mut rig = Rig::strong();
        rig.replica.fault = Some(fault);
        rig
    };
    let mut rig = broken(Fault::AcceptUnpromised);
    rig.mutate(prepare(9));
    assert_eq!(rig.mutate(accept(5, text("v"))), ACCEPTED, "once promised");
    let rig = broken(Fault::PromisesForgotten);
    let prepare = prepare(9);
    let decided = rig
        .replica
        .decide(&rig.store, rig.moment(), [(EPOCH, &prepare)]);
    assert!(!decided.expect("it does not fail").needs_sync);
}

#[test]
fn numbers_that_no_round_has_come_to_are_refused() {
    let mut rig = Rig::new();
    let is_refused = |rig: &mut Rig, mutation| matches!(rig.mutate(mutation), Answer::Refused(_));
    let learn = |number, made_in| learn_of(number, made_in, text("v"));
    assert!(
        is_refused(&mut rig, learn(u64::MAX, 5)),
        "numbers are not used up"
    );
    assert!(is_refused(&mut rig, learn(4, 5)), "of a later round");
    // Round 9 has refused an operation, and left the version of round 5.
    let turn = Turn {
        ballot: ballot(9),
        op: OpId {
            client: Incarnation([4; 16]),
            sequence: 1,
            first_sent_ms: NOW_MS,
        },
        since: Some(ballot(1)),
        now_ms: NOW_MS,
    };
    let (register, value) = made(5, text("v"));
    let changed = register.change((STRONG, &KEY), &turn, &Turned::Resolve);
    let Register { head, log } = changed.register;
    assert_eq!((head.version, log.iter().len()), (ballot(5), 2));
    let later = |number| {
        Mutation::Accept(Box::new(Accept {
            ballot: ballot(number),
            head,
            log: log.clone(),
            value: value.clone(),
            ..accept_of(5, text("v"), None)
        }))
    };
    assert!(
        is_refused(&mut rig, later(7)),
        "its log is of a later round"
    );
    assert!(!is_refused(&mut rig, learn(5, 5)));
    assert!(!is_refused(&mut rig, prepare(6)), "it goes on");
    assert!(!is_refused(&mut rig, later(9)));
}
