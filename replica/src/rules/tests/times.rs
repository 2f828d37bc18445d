//! Expiry: touched, swept, and what is left of a record whose time is over. And what is damaged.

use super::*;
use crate::restore::Restorer;
use crate::sweep::Sweep;
use annulet_protocol::message::Lacking;
use annulet_protocol::record::Expiry;

/// A touch of what a write has written.
fn touch(write: &Write, stamp_ms: u64, at_ms: u64) -> Mutation {
    let version = version(write);
    let stamp = Stamp::at(stamp_ms);
    Mutation::Touch(Touch {
        bucket: write.bucket,
        key: write.key.clone(),
        version,
        expiry: Expiry::seal(write.bucket, &write.key, &version, at_ms, stamp),
    })
}

fn expiring(key: &str, value: Option<Bytes>, at_ms: u64) -> Write {
    let write = put(GROUP, key, NOW_MS, value.clone());
    let origin = Origin {
        stamp: Stamp::at(NOW_MS),
        op: write.record.head.op,
    };
    let record = Record::seal(GROUP, key.as_bytes(), origin, value, Some(at_ms));
    Write { record, ..write }
}

impl Rig {
    fn expiry_ms(&self, key: &str) -> Option<u64> {
        let record = self.found(GROUP, key).expect("it is there");
        assert_eq!(record.verify(GROUP, key.as_bytes()), Ok(()));
        record.head.expiry.map(|expiry| expiry.at_ms)
    }

    /// Looks at everything once, and does what was found.
    fn sweep(&mut self) -> usize {
        let mut sweep = Sweep::default();
        let mut tasks = Vec::new();
        loop {
            let found = sweep.step(&self.store, &self.view, self.now_ms).unwrap();
            tasks.extend(found.tasks.into_iter().map(Mutation::Task));
            if found.over {
                break;
            }
        }
        self.mutate_all(EPOCH, &tasks);
        tasks.len()
    }
}

#[test]
fn a_touch_sets_the_expiry_of_exactly_its_version() {
    let mut rig = Rig::new();
    for length in [1, 5_000] {
        let write = put(
            GROUP,
            "k",
            NOW_MS + length / 9,
            Some(vec![7; length as usize].into()),
        );
        rig.write(&write);
        assert_eq!(rig.mutate(touch(&write, NOW_MS + 1, NOW_MS + 50)), WRITTEN);
        assert_eq!(rig.expiry_ms("k"), Some(NOW_MS + 50));
        assert_eq!(rig.mutate(touch(&write, NOW_MS, NOW_MS + 90)), WRITTEN);
        assert_eq!(rig.expiry_ms("k"), Some(NOW_MS + 50), "it was set earlier");
        assert_eq!(rig.mutate(touch(&write, NOW_MS + 2, 0)), WRITTEN);
        assert_eq!(rig.expiry_ms("k"), Some(0), "never");
        assert_eq!(rig.found(GROUP, "k").unwrap().value, write.record.value);
    }
}

#[test]
fn a_touch_neither_overwrites_nor_undeletes() {
    let mut rig = Rig::new();
    let old = put(GROUP, "k", NOW_MS, text("old"));
    let answer = rig.mutate(touch(&old, NOW_MS, NOW_MS + 50));
    assert_eq!(answer, Answer::Lacking(Lacking {}), "nothing is there");
    for newer in [text("new"), None] {
        let newer = put(GROUP, "k", NOW_MS + 1, newer);
        rig.write(&newer);
        let answer = rig.mutate(touch(&old, NOW_MS + 5, NOW_MS + 50));
        let superseded = Some(version(&newer));
        assert_eq!(answer, Answer::Written(Written { superseded }));
        assert_eq!(rig.found(GROUP, "k"), Some(newer.record));
    }
    let to_come = put(GROUP, "k", NOW_MS + 9, text("to come"));
    let answer = rig.mutate(touch(&to_come, NOW_MS, NOW_MS + 50));
    assert_eq!(answer, Answer::Lacking(Lacking {}), "an older one is there");
}

#[test]
fn a_touch_is_checked_like_a_write() {
    let mut rig = Rig::new();
    let write = put(GROUP, "k", NOW_MS, text("v"));
    rig.write(&write);
    let ahead = rig.mutate(touch(&write, NOW_MS + 5_000, NOW_MS + 9_000));
    assert_eq!(refused(&ahead), Some(RefusalKind::SkewedClock));
    let Mutation::Touch(mut touch) = touch(&write, NOW_MS, NOW_MS + 50) else {
        unreachable!("it makes touches");
    };
    touch.expiry.at_ms += 1;
    let damaged = rig.mutate(Mutation::Touch(touch));
    assert_eq!(refused(&damaged), Some(RefusalKind::BadChecksum));
    assert_eq!(rig.expiry_ms("k"), None);
}

#[test]
fn a_touch_in_a_batch_sees_the_write_before_it() {
    let mut rig = Rig::new();
    let write = put(GROUP, "k", NOW_MS, Some(vec![7; 5_000].into()));
    let batch = [
        Mutation::Write(write.clone()),
        touch(&write, NOW_MS, NOW_MS + 50),
    ];
    let (answers, point) = rig.mutate_all(EPOCH, &batch);
    assert_eq!(answers, [WRITTEN, WRITTEN]);
    assert!(!rig.gate.is_open(point));
    assert_eq!(rig.expiry_ms("k"), Some(NOW_MS + 50));
}

#[test]
fn the_value_of_what_expired_long_ago_goes_and_its_head_stays() {
    for length in [1, 5_000] {
        let mut rig = Rig::new();
        let write = expiring("k", Some(vec![7; length].into()), NOW_MS + 50);
        rig.write(&write);
        rig.write(&put(GROUP, "for ever", NOW_MS, text("v")));
        rig.write(&put(GROUP, "deleted", NOW_MS, None));
        rig.now_ms += 3_600_000;
        assert_eq!(rig.sweep(), 0, "a clock may be off");
        rig.now_ms += 51;
        assert_eq!(rig.sweep(), 1);
        assert_eq!(rig.store.entries(Family::Values), []);
        for head_only in [false, true] {
            let answer = rig.read(EPOCH, GROUP, "k", head_only);
            assert_eq!(answer, Answer::FoundHead(write.record.head));
        }
        assert_eq!(rig.sweep(), 0, "once");
        let bytes: usize = rig
            .store
            .entries(Family::Records)
            .iter()
            .map(|(_, e)| e.len())
            .sum();
        assert!(bytes < 300, "{bytes}");

        let late = rig.mutate(touch(&write, NOW_MS + 1, rig.now_ms + 50));
        assert_eq!(
            late,
            Answer::Lacking(Lacking {}),
            "the value must come first"
        );
        let mut renewed = repair(write);
        let version = version(&renewed);
        let stamp = Stamp::at(NOW_MS + 1);
        let expiry = Expiry::seal(GROUP, b"k", &version, rig.now_ms + 50, stamp);
        renewed.record.head.expiry = Some(expiry);
        assert_eq!(rig.write(&renewed), WRITTEN);
        assert_eq!(rig.found(GROUP, "k"), Some(renewed.record));
    }
}

#[test]
fn a_head_without_its_value_is_brought_only_when_it_has_expired() {
    let mut rig = Rig::new();
    let write = repair(expiring("k", text("v"), NOW_MS + 50));
    let mut gone = Write {
        gone: true,
        ..write.clone()
    };
    gone.record.value = Bytes::new();
    let first_hand = Write {
        source: Source::FirstHand,
        ..gone.clone()
    };
    assert_eq!(refused(&rig.write(&gone)), Some(RefusalKind::BadChecksum));
    rig.now_ms += 50;
    assert_eq!(
        refused(&rig.write(&first_hand)),
        Some(RefusalKind::BadChecksum)
    );
    let mut damaged = gone.clone();
    damaged.record.head.version.stamp = Stamp::at(1);
    assert_eq!(
        refused(&rig.write(&damaged)),
        Some(RefusalKind::BadChecksum)
    );
    rig.write(&put(GROUP, "k", NOW_MS - 1, Some(vec![7; 5_000].into())));
    assert_eq!(rig.write(&gone), WRITTEN);
    let answer = rig.read(EPOCH, GROUP, "k", false);
    assert_eq!(answer, Answer::FoundHead(write.record.head));
    assert_eq!(rig.store.entries(Family::Values), []);
    assert_eq!(
        rig.write(&write),
        WRITTEN,
        "the same record changes nothing"
    );
    assert_eq!(rig.read(EPOCH, GROUP, "k", false), answer);
}

#[test]
fn a_record_renewed_since_it_was_looked_at_keeps_its_value() {
    let mut rig = Rig::new();
    let write = expiring("k", text("v"), NOW_MS + 50);
    rig.write(&write);
    rig.now_ms += 3_700_000;
    let found = Sweep::default()
        .step(&rig.store, &rig.view, rig.now_ms)
        .unwrap();
    let [task] = &found.tasks[..] else {
        panic!("{found:?}");
    };
    rig.mutate(touch(&write, NOW_MS + 1, rig.now_ms + 50));
    rig.mutate(Mutation::Task(task.clone()));
    assert_eq!(rig.found(GROUP, "k").unwrap().value, write.record.value);
}

#[test]
fn records_of_buckets_that_are_gone_go_and_those_of_buckets_to_come_stay() {
    let mut rig = Rig::new();
    rig.write(&put(GROUP, "k", NOW_MS, Some(vec![7; 5_000].into())));
    rig.write(&put(LAZY, "k", NOW_MS, text("v")));
    rig.view.buckets.retain(|bucket| bucket.number != GROUP);
    assert_eq!(rig.sweep(), 1);
    assert_eq!(rig.store.entries(Family::Records).len(), 1);
    assert_eq!(rig.store.entries(Family::Values), []);
    rig.view.buckets.clear();
    assert_eq!(rig.sweep(), 0);
}

#[test]
fn hints_that_are_too_old_are_set_aside() {
    let mut rig = Rig::new();
    let write = put(GROUP, "k", NOW_MS, text("v"));
    let hint = Hint {
        bucket: GROUP,
        key: write.key.clone(),
        owners: vec![NodeId(2)],
        source: Source::FirstHand,
        record: write.record,
    };
    assert_eq!(rig.mutate(Mutation::Hint(hint)), WRITTEN);
    rig.now_ms += annulet_protocol::limits::HINT_AGE_MS_MAX;
    assert_eq!(rig.sweep(), 0);
    rig.now_ms += 1;
    assert_eq!(rig.sweep(), 1);
    let tally = hints::Tally::of(&rig.store).unwrap();
    assert_eq!((tally.aside, tally.waiting.len()), (1, 0));
    assert_eq!(rig.sweep(), 0, "once");
}

#[test]
fn a_full_disk_takes_deletes_repairs_and_touches_only() {
    let mut rig = Rig::new();
    let write = put(GROUP, "k", NOW_MS, text("v"));
    rig.write(&write);
    rig.disk_full = true;
    let more = put(GROUP, "k", NOW_MS + 1, text("more"));
    assert_eq!(refused(&rig.write(&more)), Some(RefusalKind::Full));
    assert_eq!(rig.write(&repair(more)), WRITTEN);
    assert_eq!(rig.mutate(touch(&write, NOW_MS, NOW_MS + 9)), {
        let superseded = rig.found(GROUP, "k").map(|record| record.head.version);
        Answer::Written(Written { superseded })
    });
    assert_eq!(rig.write(&put(GROUP, "k", NOW_MS + 2, None)), WRITTEN);
}

/// What the other owner says of a damaged record, and what is stored then.
fn restored(rig: &mut Rig, restorer: &mut Restorer, answer: Answer) -> Option<Answer> {
    let key = rig.storage_key(GROUP, "k");
    assert!(restorer.note(key.clone(), rig.now_ms));
    assert!(!restorer.note(key, rig.now_ms), "once");
    let due = restorer.due(&rig.view, NodeId(1), rig.now_ms);
    assert_eq!(due, None, "operations may be under way");
    rig.now_ms += restorer.wait_ms;
    let inquiry = restorer.due(&rig.view, NodeId(1), rig.now_ms).unwrap();
    assert_eq!(inquiry.owners[..], [NodeId(2)]);
    assert_eq!(
        restorer.due(&rig.view, NodeId(1), rig.now_ms),
        None,
        "one at a time"
    );
    let answers = vec![(NodeId(2), answer)];
    let task = restorer.handle_answers(&rig.view, NodeId(1), &inquiry, answers)?;
    assert_eq!(restorer.count(), 0);
    assert_eq!(rig.mutate(Mutation::Task(task)), WRITTEN);
    Some(rig.read(EPOCH, GROUP, "k", false))
}

#[test]
fn what_is_damaged_comes_back_from_the_other_owners() {
    let value = Some(Bytes::from(vec![7; 5_000]));
    for family in [Family::Records, Family::Values] {
        let held = put(GROUP, "k", NOW_MS, value.clone()).record;
        let expired = expiring("k", value.clone(), NOW_MS + 5).record.head;
        for (answer, expected) in [
            (Answer::Found(held.clone()), Some(Answer::Found(held))),
            (Answer::FoundHead(expired), Some(Answer::FoundHead(expired))),
            (
                Answer::Refused(Refusal::new(RefusalKind::Overloaded, "busy")),
                None,
            ),
        ] {
            let mut rig = Rig::new();
            rig.write(&put(GROUP, "k", NOW_MS, value.clone()));
            let key = rig.storage_key(GROUP, "k");
            rig.store.damage(family, &key, |bytes| bytes[5] ^= 1);
            let answer = restored(&mut rig, &mut Restorer::default(), answer);
            assert_eq!(answer, expected, "{family:?}");
        }
    }
}

#[test]
fn a_damaged_record_that_nobody_else_has_is_gone() {
    let mut rig = Rig::new();
    rig.write(&put(GROUP, "k", NOW_MS, text("v")));
    let key = rig.storage_key(GROUP, "k");
    rig.store
        .damage(Family::Records, &key, |bytes| bytes[5] ^= 1);
    let absent = Answer::Absent(Absent::default());
    let answer = restored(&mut rig, &mut Restorer::default(), absent.clone());
    assert_eq!(answer, Some(absent));
}

#[test]
fn an_owner_that_is_alone_cannot_be_told_what_it_has_lost() {
    let mut rig = Rig::new();
    let mut restorer = Restorer::default();
    let hash = |key: &str| rig.view.hash(NARROW, key.as_bytes());
    let bucket = rig.view.bucket(NARROW).unwrap();
    let key = (0..)
        .map(|n| format!("key {n}"))
        .find(|key| Owners::of(&rig.view, bucket, hash(key)).contains(NodeId(1)));
    restorer.note(rig.storage_key(NARROW, &key.unwrap()), 0);
    rig.now_ms += restorer.wait_ms;
    assert_eq!(restorer.due(&rig.view, NodeId(1), rig.now_ms), None);
    assert_eq!(restorer.count(), 0);
}
