use super::*;
use crate::ids::Incarnation;
use bytes::Bytes;
use proptest::prelude::*;

const AT: (u32, &[u8]) = (1, b"k");

fn ballot(number: u64) -> Ballot {
    Ballot {
        number,
        proposer: Incarnation([9; 16]),
    }
}

fn op(sequence: u64) -> OpId {
    OpId {
        client: Incarnation([9; 16]),
        sequence,
        first_sent_ms: 5,
    }
}

/// The first attempt of an operation.
fn first(number: u64) -> Turn {
    Turn {
        ballot: ballot(number),
        op: op(number),
        since: None,
        now_ms: 100,
    }
}

/// A later attempt of the operation that was first tried in round `since`.
fn again(number: u64, since: u64) -> Turn {
    Turn {
        op: op(since),
        since: Some(ballot(since)),
        ..first(number)
    }
}

fn set(value: &'static str, condition: Condition) -> Change {
    Change::Set {
        value: value.into(),
        expires_at_ms: None,
        condition,
    }
}

fn expiring(value: &'static str, at_ms: u64) -> Change {
    Change::Set {
        value: value.into(),
        expires_at_ms: Some(at_ms),
        condition: Condition::Always,
    }
}

fn delete(condition: Condition) -> Change {
    Change::Delete { condition }
}

/// A register and its value, changed as rounds change it.
#[derive(Clone, Debug)]
struct Key {
    register: Register,
    value: Bytes,
}

impl Key {
    fn new() -> Self {
        Self {
            register: Register::unwritten(AT.0, AT.1),
            value: Bytes::new(),
        }
    }

    fn turn(&mut self, turn: &Turn, change: &Change) -> Verdict {
        let changed = self.register.change(AT, turn, change);
        self.register = changed.register;
        if let NewValue::Is(value) = changed.value {
            self.value = value;
        }
        assert_eq!(self.register.verify(AT.0, AT.1), Ok(()));
        let sound = self.register.head.verify_value(AT.0, AT.1, &self.value);
        assert_eq!(sound, Ok(()), "{changed:?}", changed = self.register);
        changed.verdict
    }

    fn live(&self, now_ms: u64) -> Option<&Bytes> {
        self.register.head.is_live(now_ms).then_some(&self.value)
    }
}

#[test]
fn conditions_are_judged_by_value_and_version() {
    let mut key = Key::new();
    let of = |number| Condition::Version(ballot(number));
    assert_eq!(key.turn(&first(1), &set("a", of(0))), Verdict::Failed);
    assert_eq!(key.turn(&first(2), &delete(of(0))), Verdict::Failed);
    let put = key.turn(&first(3), &set("a", Condition::Absent));
    assert_eq!(put, Verdict::Applied(ballot(3)));
    let put = key.turn(&first(4), &set("b", Condition::Absent));
    assert_eq!((put, key.live(0)), (Verdict::Failed, Some(&"a".into())));
    assert_eq!(key.turn(&first(5), &set("b", of(2))), Verdict::Failed);
    let put = key.turn(&first(6), &set("b", of(3)));
    assert_eq!(put, Verdict::Applied(ballot(6)));
    assert_eq!(key.turn(&first(7), &delete(of(3))), Verdict::Failed);
    assert_eq!(key.turn(&first(8), &Change::Identity), Verdict::Settled);
    assert_eq!(key.register.head.version, ballot(6), "settling is no write");
    let gone = key.turn(&first(9), &delete(of(6)));
    assert_eq!((gone, key.live(0)), (Verdict::Applied(ballot(9)), None));
    // What is deleted has a version, and no value that it could be the version of.
    assert_eq!(key.turn(&first(10), &set("c", of(9))), Verdict::Failed);
    let put = key.turn(&first(11), &set("c", Condition::Absent));
    assert_eq!(put, Verdict::Applied(ballot(11)), "it rises all the same");
}

#[test]
fn an_operation_is_looked_for_before_its_condition() {
    let mut key = Key::new();
    let put = set("a", Condition::Absent);
    assert_eq!(key.turn(&first(3), &put), Verdict::Applied(ballot(3)));
    // Its condition holds no more, since it was applied itself.
    assert_eq!(key.turn(&again(5, 3), &put), Verdict::Applied(ballot(3)));
    let other = set("b", Condition::Always);
    assert_eq!(key.turn(&first(6), &other), Verdict::Applied(ballot(6)));
    // Its condition would hold again: it is not applied again.
    key.turn(&first(7), &delete(Condition::Always));
    assert_eq!(key.turn(&again(8, 3), &put), Verdict::Applied(ballot(3)));
    assert_eq!(key.live(0), None);
    // One that was never applied is applied by its second attempt.
    assert_eq!(key.turn(&again(10, 9), &put), Verdict::Applied(ballot(10)));
}

#[test]
fn absence_proves_nothing_once_operations_were_forgotten() {
    let put = set("a", Condition::Always);
    for (others, verdict) in [
        (LOG_MAX as u64, Verdict::Applied(ballot(2))),
        (LOG_MAX as u64 + 1, Verdict::Forgotten),
    ] {
        // Applied in round 2, and then so many others.
        let mut key = Key::new();
        key.turn(&first(2), &put);
        for number in 3..2 + others {
            key.turn(&first(number), &put);
        }
        let before = key.register.clone();
        assert_eq!(key.turn(&again(90, 2), &put), verdict, "{others}");
        let asked = key.turn(&again(91, 2), &Change::Resolve);
        assert_eq!(asked, verdict, "{others}");
        assert_eq!(key.register, before, "nothing is applied twice");
    }
    // Not applied in round 2, but too many others were since: nobody knows.
    let mut key = Key::new();
    for number in 3..4 + LOG_MAX as u64 {
        key.turn(&first(number), &put);
    }
    assert_eq!(key.turn(&again(90, 2), &put), Verdict::Forgotten);
    let other = Turn {
        op: op(91),
        ..again(91, 4)
    };
    assert_eq!(
        key.turn(&other, &put),
        Verdict::Applied(ballot(91)),
        "all since round 4 are there"
    );
}

#[test]
fn what_was_resolved_is_never_applied() {
    let mut key = Key::new();
    let put = set("a", Condition::Always);
    assert_eq!(key.turn(&again(5, 2), &Change::Resolve), Verdict::Refused);
    assert_eq!(key.turn(&again(6, 2), &put), Verdict::Refused);
    assert_eq!(key.turn(&again(7, 2), &Change::Resolve), Verdict::Refused);
    assert_eq!(key.live(0), None);
    // The refusal is forgotten in the end, and nothing is applied then either.
    for number in 10..11 + LOG_MAX as u64 {
        key.turn(&first(number), &put);
    }
    assert_eq!(key.turn(&again(90, 2), &put), Verdict::Forgotten);
}

#[test]
fn a_value_whose_time_is_over_is_replaced_before_it_is_absent() {
    let mut key = Key::new();
    key.turn(&first(1), &expiring("a", 200));
    assert_eq!(key.turn(&first(2), &Change::Identity), Verdict::Settled);
    assert_eq!(key.register.head.version, ballot(1));
    let late = |number| Turn {
        now_ms: 200,
        ..first(number)
    };
    assert_eq!(key.turn(&late(3), &Change::Identity), Verdict::Settled);
    let Head { kind, version, .. } = key.register.head;
    assert_eq!((kind, version), (Kind::Tombstone, ballot(3)));
    assert_eq!(key.register.log.iter().len(), 1, "nobody asked for it");
    // A condition takes it as absent in its own round.
    key.turn(&first(4), &expiring("b", 200));
    let put = key.turn(&late(5), &set("c", Condition::Version(ballot(4))));
    assert_eq!((put, key.live(0)), (Verdict::Failed, None));
    key.turn(&first(6), &expiring("d", 200));
    let put = key.turn(&late(7), &set("e", Condition::Absent));
    assert_eq!(put, Verdict::Applied(ballot(7)));
    assert_eq!(key.live(u64::MAX), Some(&"e".into()));
}

#[test]
fn a_touch_leaves_version_and_value_alone() {
    let mut key = Key::new();
    let touch = |expires_at_ms| Change::Touch { expires_at_ms };
    assert_eq!(key.turn(&first(1), &touch(Some(500))), Verdict::Failed);
    key.turn(&first(2), &expiring("a", 200));
    let touched = key.turn(&first(3), &touch(Some(500)));
    assert_eq!(touched, Verdict::Applied(ballot(2)));
    assert_eq!(key.register.head.expires_at_ms, Some(500));
    key.turn(&first(4), &touch(None));
    // A later attempt of the first touch does not set it back.
    assert_eq!(
        key.turn(&again(5, 3), &touch(Some(500))),
        Verdict::Applied(ballot(2))
    );
    assert_eq!(key.live(u64::MAX), Some(&"a".into()));
}

#[test]
fn any_changed_field_is_found() {
    let mut key = Key::new();
    key.turn(&first(1), &expiring("value", 900));
    let head = key.register.head;
    assert_eq!(head.verify(2, b"k"), Err(Damage::Seal));
    assert_eq!(head.verify(1, b"K"), Err(Damage::Seal));
    let changes: [fn(&mut Head); 8] = [
        |head| head.kind = Kind::Tombstone,
        |head| head.version.number += 1,
        |head| head.op.sequence += 1,
        |head| head.expires_at_ms = None,
        |head| head.length += 1,
        |head| head.checksum += 1,
        |head| head.log_checksum += 1,
        |head| head.seal += 1,
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut changed = head;
        change(&mut changed);
        assert_eq!(changed.verify(1, b"k"), Err(Damage::Seal), "{index}");
    }
    assert_eq!(head.verify_value(1, b"k", b"value"), Ok(()));
    assert_eq!(head.verify_value(1, b"k", b"valve"), Err(Damage::Value));
    assert_eq!(head.verify_value(1, b"K", b"value"), Err(Damage::Value));
    let mut other = key.register.clone();
    other.log = Log::default();
    assert_eq!(other.verify(1, b"k"), Err(Damage::Log));
    let mut tombstone = Register::unwritten(1, b"k");
    tombstone.head.expires_at_ms = Some(1);
    tombstone.seal(1, b"k");
    assert_eq!(tombstone.verify(1, b"k"), Err(Damage::Tombstone));
}

fn changes() -> impl Strategy<Value = Change> {
    let condition = || {
        prop_oneof![
            Just(Condition::Always),
            Just(Condition::Absent),
            (1u64..40).prop_map(|number| Condition::Version(ballot(number))),
        ]
    };
    prop_oneof![
        (condition(), prop::option::of(90u64..110)).prop_map(|(condition, expires_at_ms)| {
            Change::Set {
                value: "v".into(),
                expires_at_ms,
                condition,
            }
        }),
        condition().prop_map(|condition| Change::Delete { condition }),
        prop::option::of(90u64..110).prop_map(|expires_at_ms| Change::Touch { expires_at_ms }),
        Just(Change::Identity),
        Just(Change::Resolve),
    ]
}

proptest! {
    /// Each operation is tried over and over, as after lost answers, by rounds of which each sees
    /// what the one before it left.
    #[test]
    fn versions_rise_and_no_operation_is_applied_twice(
        steps in prop::collection::vec((0u64..50, changes(), 80u64..120), 1..120)
    ) {
        let mut key = Key::new();
        let mut since = std::collections::BTreeMap::new();
        let mut applied = std::collections::BTreeMap::new();
        let mut refused = std::collections::BTreeSet::new();
        for (round, (sequence, change, now_ms)) in steps.into_iter().enumerate() {
            let number = round as u64 + 1;
            let turn = Turn {
                ballot: ballot(number),
                op: op(sequence),
                since: since.get(&sequence).copied(),
                now_ms,
            };
            let before = key.clone();
            let verdict = key.turn(&turn, &change);
            let (old, new) = (before.register.head.version, key.register.head.version);
            prop_assert!(new >= old);
            if change == Change::Identity {
                continue;
            }
            since.entry(sequence).or_insert(turn.ballot);
            let logged = key.register.log.find(&turn.op).filter(|e| e.at == turn.ballot);
            match (verdict, logged) {
                (Verdict::Applied(_), Some(_)) => {
                    prop_assert_eq!(applied.insert(sequence, number), None, "twice");
                    prop_assert!(!refused.contains(&sequence), "after it was refused");
                }
                (Verdict::Refused, Some(_)) => {
                    prop_assert!(!applied.contains_key(&sequence), "it was applied");
                    refused.insert(sequence);
                }
                (Verdict::Applied(_), None) => prop_assert!(applied.contains_key(&sequence)),
                (Verdict::Refused, None) => prop_assert!(refused.contains(&sequence)),
                (_, logged) => prop_assert_eq!(logged, None),
            }
            if verdict == Verdict::Failed {
                prop_assert!(!applied.contains_key(&sequence));
            }
        }
    }
}
