//! Concurrent values at one server, and on their way to another.

use super::*;
use crate::courier::Courier;
use crate::hints::Tally;
use crate::restore::Restorer;
use crate::sweep::{EXPIRED_KEPT_MS, Sweep};
use annulet_protocol::limits::{GRACE_MS, SIBLINGS_MAX, SIBLINGS_WARNED};
use annulet_protocol::message::Operation;
use annulet_protocol::siblings::message::{Merge, Mint};
use annulet_protocol::siblings::{Actor, Write as Value};

const WRITTEN: Answer = Answer::Written(Written { superseded: None });

fn value(bucket: u32, key: &str, sequence: u64, bytes: Bytes) -> Value {
    let op = OpId {
        client: Incarnation([3; 16]),
        sequence,
        first_sent_ms: NOW_MS,
    };
    Value::seal(bucket, key.as_bytes(), op, bytes, None)
}

pub(super) fn mint_in(bucket: u32, key: &str, sequence: u64, context: &Siblings) -> Mint {
    let bytes = Bytes::from(format!("v{sequence}"));
    Mint {
        bucket,
        key: Bytes::copy_from_slice(key.as_bytes()),
        context: context.seal(bucket, key.as_bytes()),
        write: value(bucket, key, sequence, bytes),
        again: false,
        owners: Vec::new(),
    }
}

pub(super) fn mint(sequence: u64, context: &Siblings) -> Mint {
    mint_in(SIBLINGS, "k", sequence, context)
}

fn merge(source: Source, record: &Siblings) -> Merge {
    Merge {
        bucket: SIBLINGS,
        key: "k".into(),
        source,
        record: record.seal(SIBLINGS, b"k"),
        owners: Vec::new(),
    }
}

fn numbers(record: &Siblings) -> Vec<u64> {
    record.iter().map(|one| one.write.op.sequence).collect()
}

fn kind(answer: &Answer) -> Option<RefusalKind> {
    match answer {
        Answer::Refused(refusal) => Some(refusal.kind),
        _ => None,
    }
}

impl Rig {
    /// What is stored under the one key.
    pub(super) fn record(&self) -> Siblings {
        match self.read(EPOCH, SIBLINGS, "k", false) {
            Answer::Siblings(found) if !found.bare => {
                Siblings::unseal(SIBLINGS, b"k", &found.record).expect("a sound record")
            }
            Answer::Absent(_) => Siblings::default(),
            other => panic!("a read gave {other:?}"),
        }
    }

    /// A put that is done: the record that came back, with the value filled in.
    pub(super) fn minted(&mut self, mint: &Mint) -> Siblings {
        match self.mutate(Mutation::Mint(mint.clone())) {
            Answer::Minted(minted) => {
                let record = Siblings::unseal(mint.bucket, &mint.key, &minted.record);
                let record = record.expect("a sound record");
                record.with_value(&mint.write.op, mint.write.value.clone())
            }
            other => panic!("a put gave {other:?}"),
        }
    }
}

#[test]
fn a_put_replaces_what_its_writer_saw_and_nothing_else() {
    let mut rig = Rig::new();
    let nothing = Siblings::default();
    let first = rig.minted(&mint(1, &nothing));
    assert_eq!(first, rig.record(), "the whole record comes back");
    rig.minted(&mint(2, &nothing));
    assert_eq!(numbers(&rig.record()), [1, 2]);
    rig.minted(&mint(3, &first.context()));
    assert_eq!(numbers(&rig.record()), [2, 3]);
    let all = rig.record().context();
    assert_eq!(
        rig.mutate(Mutation::Merge(merge(Source::FirstHand, &all))),
        WRITTEN
    );
    assert_eq!(numbers(&rig.record()), [0; 0], "a delete is what was seen");
    rig.minted(&mint(3, &nothing));
    assert_eq!(numbers(&rig.record()), [0; 0], "an operation is done once");
}

#[test]
fn the_answer_waits_for_the_sync_of_all_that_it_rests_on() {
    let mut rig = Rig::new();
    let put = mint(1, &Siblings::default());
    let (_, point) = rig.mutate_all(EPOCH, &[Mutation::Mint(put.clone())]);
    assert!(!rig.gate.is_open(point));
    // The same again changes nothing, and shows what is not yet durable.
    let (_, again) = rig.mutate_all(EPOCH, &[Mutation::Mint(put)]);
    assert_eq!(again, point);
    let compare = Mutation::Compare(Compare {
        bucket: SIBLINGS,
        key: "k".into(),
        fingerprint: rig.record().fingerprint(),
    });
    assert_eq!(rig.mutate_all(EPOCH, &[compare]), (vec![WRITTEN], point));
    rig.gate.synced(point);
    let other = Mutation::Compare(Compare {
        bucket: SIBLINGS,
        key: "k".into(),
        fingerprint: 1,
    });
    assert_eq!(
        rig.mutate(other),
        Answer::Lacking(annulet_protocol::message::Lacking {})
    );
}

#[test]
fn dots_of_one_batch_and_of_two_starts_differ() {
    let mut rig = Rig::new();
    let nothing = Siblings::default();
    let both: Vec<_> = [1, 2].map(|n| Mutation::Mint(mint(n, &nothing))).into();
    rig.mutate_all(EPOCH, &both);
    let dots = |record: &Siblings| -> Vec<_> {
        record.iter().flat_map(|one| one.minted.clone()).collect()
    };
    let before = dots(&rig.record());
    assert_ne!(before[0].dot.stamp, before[1].dot.stamp);
    // The second start has lost everything, and its clock stands where the first began.
    let mut again = Rig::new();
    again.replica.incarnation = Incarnation([2; 16]);
    again.mutate_all(EPOCH, &both[..1]);
    assert!(
        dots(&again.record())
            .iter()
            .all(|minting| !before.contains(minting))
    );
    let merged = rig.record().merge(&again.record());
    assert_eq!(numbers(&merged), [1, 2]);
}

#[test]
fn what_is_too_much_or_from_far_ahead_is_refused_and_nothing_dropped() {
    let mut rig = Rig::new();
    let nothing = Siblings::default();
    for number in 1..=SIBLINGS_MAX as u64 {
        rig.minted(&mint(number, &nothing));
    }
    let full = rig.record();
    let more = rig.mutate(Mutation::Mint(mint(500, &nothing)));
    assert_eq!(kind(&more), Some(RefusalKind::Conflict));
    assert_eq!(rig.record(), full);
    let long = Mint {
        write: value(SIBLINGS, "k", 501, vec![0; 10_001].into()),
        ..mint(501, &nothing)
    };
    let refused = rig.mutate(Mutation::Mint(long));
    assert_eq!(kind(&refused), Some(RefusalKind::TooLarge));
    rig.minted(&mint(502, &full.context()));
    assert_eq!(numbers(&rig.record()), [502]);

    let mut ahead = Rig::new();
    ahead.now_ms = NOW_MS + rig.replica.skew_ms_max + 5_000;
    let early = ahead.minted(&mint(1, &nothing));
    for source in [Source::FirstHand, Source::Repair] {
        let answer = rig.mutate(Mutation::Merge(merge(source, &early)));
        let expected = (source == Source::FirstHand).then_some(RefusalKind::SkewedClock);
        assert_eq!(kind(&answer), expected, "{source:?}");
    }
    let answer = rig.mutate(Mutation::Merge(merge(Source::FirstHand, &early)));
    assert_eq!(answer, WRITTEN, "the key has one as far ahead by now");
    let mut based = Siblings::default();
    rig.now_ms = 2 * GRACE_MS;
    based.raise(Stamp::at(rig.now_ms - GRACE_MS + 2_000));
    for source in [Source::FirstHand, Source::Repair] {
        let answer = rig.mutate(Mutation::Merge(merge(source, &based)));
        assert_eq!(kind(&answer), Some(RefusalKind::SkewedClock), "{source:?}");
    }
}

#[test]
fn what_is_damaged_or_of_another_key_is_refused() {
    let mut rig = Rig::new();
    let nothing = Siblings::default();
    let good = mint(1, &nothing);
    let bad_value = Mint {
        write: Value {
            value: "other".into(),
            ..good.write.clone()
        },
        ..good.clone()
    };
    let bad_context = Mint {
        context: nothing.seal(SIBLINGS, b"another"),
        ..good.clone()
    };
    for bad in [bad_value, bad_context] {
        let answer = rig.mutate(Mutation::Mint(bad));
        assert_eq!(kind(&answer), Some(RefusalKind::BadChecksum));
    }
    let record = rig.minted(&good);
    let without = record.clone().without_value(&good.write.op);
    let answer = rig.mutate(Mutation::Merge(merge(Source::Repair, &without)));
    assert_eq!(kind(&answer), Some(RefusalKind::BadChecksum));
    let wrong = mint_in(GROUP, "k", 1, &nothing);
    assert_eq!(
        kind(&rig.mutate(Mutation::Mint(wrong))),
        Some(RefusalKind::WrongMode)
    );
}

#[test]
fn long_values_lie_apart_and_are_left_out_of_what_need_not_carry_them() {
    let mut rig = Rig::new();
    let nothing = Siblings::default();
    let long = Mint {
        write: value(SIBLINGS, "k", 1, vec![7; 6_000].into()),
        ..mint(1, &nothing)
    };
    rig.minted(&long);
    rig.minted(&mint(2, &nothing));
    let record = rig.record();
    assert_eq!(record.value_bytes(), 6_002);
    for read in [
        Read {
            head_only: true,
            ..Read::new(SIBLINGS, "k".into())
        },
        Read {
            value_bytes_max: Some(4_096),
            ..Read::new(SIBLINGS, "k".into())
        },
    ] {
        let Answer::Siblings(found) = rig.answer(EPOCH, &read) else {
            panic!("it is there");
        };
        let bare = Siblings::unseal(SIBLINGS, b"k", &found.record).expect("a sound record");
        assert!(found.bare && bare == record.bare());
        assert_eq!(bare.fingerprint(), record.fingerprint());
    }
    rig.minted(&mint(3, &record.context()));
    assert_eq!(numbers(&rig.record()), [3]);
    let values = rig
        .store
        .read(Family::Values, &[rig.storage_key(SIBLINGS, "k")]);
    assert_eq!(values, [Ok(None)], "no long value is left");
}

#[test]
fn many_concurrent_values_are_counted() {
    let rig = Rig::new();
    let nothing = Siblings::default();
    let all: Vec<_> = (1..=SIBLINGS_WARNED as u64 + 2)
        .map(|number| Mutation::Mint(mint(number, &nothing)))
        .collect();
    let with_epoch = all.iter().map(|mutation| (EPOCH, mutation));
    let decided = rig.replica.decide(&rig.store, rig.moment(), with_epoch);
    assert_eq!(decided.unwrap().crowded, 2);
    assert_eq!(rig.record(), nothing, "it was only decided");
}

impl Rig {
    /// Damages what is stored under the one key.
    fn damage_record(&mut self) {
        let key = self.storage_key(SIBLINGS, "k");
        let damage = Change::Put(Family::Records, key, "damaged".into());
        self.store.write(vec![damage]).unwrap();
    }

    /// Puts it together from what another owner says of it.
    fn restore_record(&mut self, said: Answer) {
        let key = self.storage_key(SIBLINGS, "k");
        let mut restorer = Restorer::new(0);
        restorer.note(key, NOW_MS);
        let inquiry = restorer
            .due(&self.view, NodeId(1), NOW_MS)
            .expect("it is known");
        let answers = vec![(NodeId(2), said)];
        let task = restorer.handle_answers(&self.view, NodeId(1), &inquiry, answers);
        let task = Mutation::Task(task.expect("a majority of the others has said it"));
        let (_, point) = self.mutate_all(EPOCH, &[task]);
        assert!(
            !self.gate.is_open(point),
            "it is durable before it is shown"
        );
    }
}

#[test]
fn a_record_that_was_lost_is_put_together_under_another_actor() {
    let mut rig = Rig::new();
    let nothing = Siblings::default();
    let elsewhere = rig.minted(&mint(1, &nothing));
    let lost = rig.minted(&mint(2, &nothing));
    rig.damage_record();
    let answer = rig.mutate(Mutation::Mint(mint(3, &nothing)));
    assert_eq!(kind(&answer), Some(RefusalKind::Damaged));

    rig.restore_record(Answer::Siblings(
        annulet_protocol::siblings::message::Found {
            record: elsewhere.seal(SIBLINGS, b"k"),
            bare: false,
        },
    ));
    assert_eq!(rig.record(), elsewhere);
    rig.minted(&mint(3, &nothing));
    // What was lost here is still on its way to others: it is not taken for overwritten.
    assert_eq!(numbers(&rig.record().merge(&lost)), [1, 2, 3]);
}

#[test]
fn a_record_of_which_nobody_else_has_anything_is_put_together_all_the_same() {
    let mut rig = Rig::new();
    let nothing = Siblings::default();
    let lost = rig.minted(&mint(1, &nothing));
    rig.damage_record();
    rig.restore_record(Answer::Absent(Default::default()));
    assert_eq!(rig.record(), nothing, "it is damaged no longer");
    // A delete of what was nothing leaves nothing, and not the actor of before.
    rig.mutate(Mutation::Merge(merge(Source::FirstHand, &nothing)));
    rig.minted(&mint(2, &nothing));
    // What was lost here alone is kept by a fallback.
    assert_eq!(numbers(&rig.record().merge(&lost)), [1, 2]);
}

#[test]
fn expired_values_go_by_themselves() {
    let mut rig = Rig::new();
    let nothing = Siblings::default();
    let op = mint(1, &nothing).write.op;
    let write = Value::seal(SIBLINGS, b"k", op, "v".into(), Some(NOW_MS + 10));
    rig.minted(&Mint {
        write,
        ..mint(1, &nothing)
    });
    rig.minted(&mint(2, &nothing));
    let tasks = |rig: &Rig, now_ms| {
        let found = Sweep::default().step(&rig.store, &rig.view, now_ms);
        found.unwrap().tasks
    };
    assert_eq!(tasks(&rig, NOW_MS + EXPIRED_KEPT_MS), []);
    let found = tasks(&rig, NOW_MS + EXPIRED_KEPT_MS + 10);
    assert_eq!(found.len(), 1);
    let before = rig.record();
    rig.mutate(Mutation::Task(found[0].clone()));
    assert_eq!(numbers(&rig.record()), [2]);
    assert_eq!(numbers(&before.merge(&rig.record())), [2], "here and there");
}

#[test]
fn a_record_is_kept_for_owners_with_values_minted_in_their_place() {
    let mut rig = Rig::new();
    let nothing = Siblings::default();
    let mut keys = (0..).map(|n| format!("key {n}"));
    let key = keys.find(|key| {
        let answer = rig.read(EPOCH, NARROW_SIBLINGS, key, false);
        kind(&answer) == Some(RefusalKind::NotOwner)
    });
    let key = key.expect("half of them are");
    let kept = |number| Mint {
        owners: vec![NodeId(2)],
        ..mint_in(NARROW_SIBLINGS, &key, number, &nothing)
    };
    let not_ours = mint_in(NARROW_SIBLINGS, &key, 1, &nothing);
    let answer = rig.mutate(Mutation::Mint(not_ours));
    assert_eq!(kind(&answer), Some(RefusalKind::NotOwner));
    let first = rig.minted(&kept(1));
    let both = rig.minted(&kept(2));
    assert_eq!((numbers(&first), numbers(&both)), (vec![1], vec![1, 2]));
    let hinted = Read {
        hinted: true,
        ..Read::new(NARROW_SIBLINGS, Bytes::copy_from_slice(key.as_bytes()))
    };
    let Answer::Siblings(found) = rig.answer(EPOCH, &hinted) else {
        panic!("it is kept");
    };
    let shown = Siblings::unseal(NARROW_SIBLINGS, key.as_bytes(), &found.record);
    assert_eq!(shown.unwrap(), both);

    // It is handed over, and what came in the meantime waits for the next time.
    let mut courier = Courier::default();
    let parcel = courier
        .parcel(&rig.store, &rig.view, NodeId(1), NodeId(2))
        .unwrap();
    let [item] = &parcel.items[..] else {
        panic!("one record")
    };
    let Operation::Merge(sent) = &item.operation else {
        panic!("it is merged")
    };
    let sent = Siblings::unseal(NARROW_SIBLINGS, key.as_bytes(), &sent.record);
    assert_eq!(sent.unwrap(), both);
    rig.minted(&kept(3));
    let tasks = courier.handle_answers(&parcel, Some(&[WRITTEN]), NOW_MS, 0);
    for task in tasks.clone() {
        rig.mutate(Mutation::Task(task));
    }
    assert_eq!(
        Tally::of(&rig.store).unwrap().waiting,
        [(NodeId(2), 1)].into()
    );
    let parcel = courier
        .parcel(&rig.store, &rig.view, NodeId(1), NodeId(2))
        .unwrap();
    for task in courier.handle_answers(&parcel, Some(&[WRITTEN]), NOW_MS, 0) {
        rig.mutate(Mutation::Task(task));
    }
    assert_eq!(Tally::of(&rig.store).unwrap(), Tally::default());
    // Another record of the key begins, under another actor: it knows nothing of the first.
    let anew = rig.minted(&kept(4));
    assert_eq!(numbers(&anew.merge(&both)), [1, 2, 4]);
}

#[test]
fn a_context_brings_no_values() {
    let mut rig = Rig::new();
    let mut other = Rig::new();
    let seen = other.minted(&mint(1, &Siblings::default()));
    let put = Mint {
        context: seen.bare().seal(SIBLINGS, b"k"),
        ..mint(2, &Siblings::default())
    };
    let answer = rig.mutate(Mutation::Mint(put));
    assert_eq!(kind(&answer), Some(RefusalKind::BadChecksum));
    assert_eq!(rig.record(), Siblings::default());
}

#[test]
fn a_context_does_not_bring_more_actors_than_can_be_read_back() {
    let mut rig = Rig::new();
    let actors = |nodes: std::ops::Range<u64>| {
        let mut all = Siblings::default();
        for node in nodes {
            let actor = Actor {
                node: NodeId(node),
                incarnation: Incarnation([9; 16]),
                tenure: 0,
            };
            let mut one = Siblings::default();
            let write = (value(SIBLINGS, "k", node, Bytes::new()), false);
            let put = one.put(&Siblings::default(), write, (actor, Stamp::at(NOW_MS)), 1);
            put.expect("it is alone");
            let mut context = one.context();
            context.forget_past(u64::MAX);
            all.absorb(&context);
        }
        all
    };
    let known = merge(Source::Repair, &actors(0..9_000));
    assert_eq!(rig.mutate(Mutation::Merge(known)), WRITTEN);
    let held = rig.record();
    let put = mint(1, &actors(9_000..18_000));
    let answer = rig.mutate(Mutation::Mint(put));
    assert_eq!(kind(&answer), Some(RefusalKind::Full));
    assert_eq!(rig.record(), held, "and it can be read");
}

#[test]
fn dots_are_near_the_clock_although_it_was_ahead() {
    let mut rig = Rig::new();
    // Stamps rise, also after a clock that was minutes ahead is set right.
    rig.stamp = Stamp::at(NOW_MS + 20 * 60_000);
    for number in 1..=2 {
        let record = rig.minted(&mint(number, &Siblings::default()));
        assert!(record.newest().millis() <= NOW_MS + rig.replica.skew_ms_max);
        assert_eq!(
            record.iter().len(),
            number as usize,
            "under a dot of its own"
        );
    }
}

#[test]
fn what_could_not_be_sent_any_more_is_not_merged() {
    let mut rig = Rig::new();
    rig.view.value_bytes_max = 1_000;
    let long = |number: u64| {
        let write = value(SIBLINGS, "k", number, vec![1; 1_000].into());
        let actor = Actor {
            node: NodeId(number),
            incarnation: Incarnation([9; 16]),
            tenure: 0,
        };
        let mut record = Siblings::default();
        let nothing = Siblings::default();
        let minted = record.put(&nothing, (write, false), (actor, Stamp::at(NOW_MS)), 1_000);
        minted.expect("it is alone");
        record
    };
    for number in 1..=4 {
        let merge = merge(Source::Repair, &long(number));
        assert_eq!(rig.mutate(Mutation::Merge(merge)), WRITTEN);
    }
    let held = rig.record();
    let fifth = Mutation::Merge(merge(Source::Repair, &long(5)));
    assert_eq!(kind(&rig.mutate(fifth.clone())), Some(RefusalKind::Full));
    assert_eq!(rig.record(), held);
    let seen = Mutation::Merge(merge(Source::FirstHand, &held.context()));
    assert_eq!(rig.mutate(seen), WRITTEN);
    assert_eq!(rig.mutate(fifth), WRITTEN, "there is room again");
    let ahead = Stamp::at(NOW_MS + 400 * 24 * 3_600_000);
    let actor = Actor {
        node: NodeId(1),
        incarnation: Incarnation([1; 16]),
        tenure: 5,
    };
    let mut record = Siblings::default();
    let write = value(SIBLINGS, "k", 6, "v".into());
    let write = Value::seal(
        SIBLINGS,
        b"k",
        OpId {
            first_sent_ms: ahead.millis(),
            ..write.op
        },
        write.value,
        None,
    );
    let put = record.put(&Siblings::default(), (write, false), (actor, ahead), 1_000);
    put.expect("it is alone");
    let merge = merge(Source::Repair, &record);
    let answer = rig.mutate(Mutation::Merge(merge));
    assert_eq!(kind(&answer), Some(RefusalKind::BadChecksum));
}
