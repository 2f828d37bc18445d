//! Records kept for others, from the server's own point of view and the courier's. Of bucket 4 each
//! key has one owner, so the other server keeps hints for it.

use super::*;
use crate::copy::handover;
use crate::courier::Courier;
use crate::hints::{Kept, Tally, waiting_for};

/// A key of bucket 4 that server 2 owns.
fn foreign(rig: &Rig) -> String {
    key_of(rig, NodeId(2), 0)
}

/// The n-th key of bucket 4 that a server owns.
fn key_of(rig: &Rig, owner: NodeId, n: usize) -> String {
    let bucket = rig.view.bucket(NARROW).unwrap();
    let owned = |key: &String| {
        let hash = rig.view.hash(NARROW, key.as_bytes());
        Owners::of(&rig.view, bucket, hash).contains(owner)
    };
    (0..)
        .map(|n| format!("key {n}"))
        .filter(owned)
        .nth(n)
        .unwrap()
}

fn hint(key: &str, stamp_ms: u64, value: Option<Bytes>) -> Hint {
    let Write {
        bucket,
        key,
        source,
        record,
        ..
    } = put(NARROW, key, stamp_ms, value);
    Hint {
        bucket,
        key,
        owners: vec![NodeId(2)],
        source,
        record,
    }
}

#[test]
fn a_server_that_keeps_something_for_others_is_not_done() {
    let mut rig = Rig::new();
    assert_eq!(handover::is_over(&rig.store), Ok(true));
    let key = foreign(&rig);
    assert_eq!(rig.keep(&hint(&key, NOW_MS, text("v"))), WRITTEN);
    assert_eq!(handover::is_over(&rig.store), Ok(false));
    let key = rig.storage_key(NARROW, &key);
    rig.mutate(Mutation::Task(Task::Discard { key }));
    assert_eq!(handover::is_over(&rig.store), Ok(true));
}

#[test]
fn a_server_that_is_about_to_go_keeps_nothing_more() {
    let mut rig = Rig::new();
    let key = foreign(&rig);
    let leaves = rig.view.place(rig.replica.node).unwrap();
    rig.view.members[leaves].state = MemberState::Leaving;
    assert_eq!(
        rig.keep(&hint(&key, NOW_MS, text("v"))),
        WRITTEN,
        "it owns something"
    );
    for partition in 0..rig.view.table.partitions {
        rig.view.table.regions[0].set(partition, &[1 - leaves as u32]);
    }
    let refused = rig.keep(&hint(&key, NOW_MS + 1, text("w")));
    assert!(
        matches!(&refused, Answer::Refused(refusal) if refusal.kind == RefusalKind::NotOwner),
        "{refused:?}"
    );
}

impl Rig {
    fn keep(&mut self, hint: &Hint) -> Answer {
        self.mutate(Mutation::Hint(hint.clone()))
    }

    fn kept(&self, key: &str) -> Option<Kept> {
        let key = self.storage_key(NARROW, key);
        hints::read(&self.store, &[key]).pop().unwrap().unwrap()
    }

    fn tally(&self) -> Tally {
        Tally::of(&self.store).unwrap()
    }

    fn read_hinted(&self, key: &str) -> Answer {
        let read = Read::new(NARROW, Bytes::copy_from_slice(key.as_bytes()));
        self.answer(
            EPOCH,
            &Read {
                hinted: true,
                ..read
            },
        )
    }

    /// Lets the courier do what it can, with an owner that answers like this.
    fn deliver(&mut self, courier: &mut Courier, answer: &Answer) -> Vec<Write> {
        let mut sent = Vec::new();
        for owner in courier.due(&self.tally(), self.now_ms) {
            let parcel = courier.parcel(&self.store, &self.view, NodeId(1), owner);
            let parcel = parcel.unwrap();
            let answers = vec![answer.clone(); parcel.items.len()];
            let tasks = courier.handle_answers(&parcel, Some(&answers), self.now_ms, 0);
            sent.extend(
                parcel
                    .items
                    .into_iter()
                    .filter_map(|item| write_of(item.operation)),
            );
            let own = parcel.own.into_iter();
            let tasks = parcel.tasks.into_iter().chain(tasks).map(Mutation::Task);
            let mutations: Vec<_> = own.chain(tasks).collect();
            let (answers, _) = self.mutate_all(EPOCH, &mutations);
            assert!(
                answers.iter().all(|answer| *answer == WRITTEN),
                "{answers:?}"
            );
        }
        sent
    }
}

#[test]
fn a_hint_is_kept_until_its_owner_has_it() {
    let mut rig = Rig::new();
    let mut courier = Courier::default();
    let key = foreign(&rig);
    let hint = hint(&key, NOW_MS, text("v"));
    assert_eq!(rig.keep(&hint), WRITTEN);
    assert_eq!(
        rig.read(EPOCH, NARROW, &key, false),
        rig.read(EPOCH, NARROW, &key, true)
    );
    assert_eq!(
        refused(&rig.read(EPOCH, NARROW, &key, false)),
        Some(RefusalKind::NotOwner),
        "a hint makes nobody an owner"
    );
    assert_eq!(rig.read_hinted(&key), Answer::Found(hint.record.clone()));
    assert_eq!(rig.tally().waiting, [(NodeId(2), 1)].into());

    let busy = Answer::Refused(Refusal::new(RefusalKind::Overloaded, "busy"));
    assert_eq!(rig.deliver(&mut courier, &busy).len(), 1);
    assert_eq!(rig.deliver(&mut courier, &WRITTEN), [], "it pauses");
    rig.now_ms += 60_000;
    let sent = rig.deliver(&mut courier, &WRITTEN);
    assert_eq!(sent.len(), 1);
    assert_eq!(
        (&sent[0].record, sent[0].source),
        (&hint.record, Source::Repair)
    );
    assert_eq!(rig.kept(&key), None);
    assert_eq!(rig.tally(), Tally::default());
    for family in [Family::Hints, Family::Records] {
        assert_eq!(rig.store.entries(family), []);
    }
    assert_eq!(rig.read_hinted(&key), Answer::Absent(Absent::default()));
}

#[test]
fn of_two_hints_the_fresher_is_kept_for_all_who_wait() {
    let mut rig = Rig::new();
    let key = foreign(&rig);
    let (old, new) = (
        hint(&key, NOW_MS, text("old")),
        hint(&key, NOW_MS + 1, None),
    );
    for order in [[&old, &new], [&new, &old], [&new, &new]] {
        let mut rig = Rig::new();
        for hint in order {
            assert_eq!(rig.keep(hint), WRITTEN);
        }
        assert_eq!(
            rig.kept(&key).unwrap().record,
            KeptRecord::Lww(new.record.clone())
        );
        assert_eq!(rig.tally().waiting, [(NodeId(2), 1)].into());
        assert_eq!(
            rig.store.entries(Family::Notes).len(),
            2,
            "a note and the tally"
        );
    }
    // Both in one batch.
    let both = [old.clone(), new.clone()].map(Mutation::Hint);
    rig.mutate_all(EPOCH, &both);
    assert_eq!(
        rig.kept(&key).unwrap().record,
        KeptRecord::Lww(new.record.clone())
    );
    assert_eq!(rig.tally().waiting, [(NodeId(2), 1)].into());
}

#[test]
fn a_fresher_hint_that_comes_during_a_delivery_stays() {
    let mut rig = Rig::new();
    let mut courier = Courier::default();
    let key = foreign(&rig);
    rig.keep(&hint(&key, NOW_MS, text("old")));
    let parcel = courier
        .parcel(&rig.store, &rig.view, NodeId(1), NodeId(2))
        .unwrap();
    let newer = hint(&key, NOW_MS + 1, text("new"));
    rig.keep(&newer);
    for task in courier.handle_answers(&parcel, Some(&[WRITTEN]), rig.now_ms, 0) {
        rig.mutate(Mutation::Task(task));
    }
    assert_eq!(
        rig.kept(&key).map(|kept| kept.record),
        Some(KeptRecord::Lww(newer.record.clone()))
    );
}

#[test]
fn hints_that_cannot_be_are_refused() {
    let mut rig = Rig::new();
    let key = foreign(&rig);
    let own = key_of(&rig, NodeId(1), 0);
    let good = hint(&key, NOW_MS, text("v"));
    let for_owners = |owners: &[u64]| Hint {
        owners: owners.iter().copied().map(NodeId).collect(),
        ..good.clone()
    };
    let mut damaged = good.clone();
    damaged.record.value = Bytes::from_static(b"w");
    for (hint, kind) in [
        (for_owners(&[]), RefusalKind::NotOwner),
        (for_owners(&[1]), RefusalKind::NotOwner),
        (for_owners(&[2, 2]), RefusalKind::NotOwner),
        (for_owners(&[9]), RefusalKind::NotOwner),
        (hint(&own, NOW_MS, text("v")), RefusalKind::NotOwner),
        (
            hint(&key, NOW_MS + 5_000, text("v")),
            RefusalKind::SkewedClock,
        ),
        (damaged, RefusalKind::BadChecksum),
    ] {
        assert_eq!(refused(&rig.keep(&hint)), Some(kind), "{hint:?}");
    }
    assert_eq!(rig.store.entries(Family::Hints), []);
    let ahead = hint(&key, NOW_MS + 5_000, text("v"));
    let seen_elsewhere = Hint {
        source: Source::Repair,
        ..ahead
    };
    assert_eq!(
        rig.keep(&seen_elsewhere),
        WRITTEN,
        "an owner has checked it"
    );
}

#[test]
fn hints_take_no_more_room_than_they_may() {
    let mut rig = Rig::new();
    rig.replica.hint_bytes_max = 3_000;
    let keys: Vec<_> = (0..9).map(|n| key_of(&rig, NodeId(2), n)).collect();
    let value = || Some(Bytes::from(vec![7; 1_000]));
    let taken = keys
        .iter()
        .take_while(|key| rig.keep(&hint(key, NOW_MS, value())) == WRITTEN)
        .count();
    assert_eq!(taken, 2);
    let more = hint(&keys[taken], NOW_MS, value());
    assert_eq!(refused(&rig.keep(&more)), Some(RefusalKind::Full));
    let newer = hint(&keys[0], NOW_MS + 1, value());
    assert_eq!(rig.keep(&newer), WRITTEN, "it takes the place of another");
    assert!(rig.tally().bytes <= 3_000);
    let both = keys[..2].iter().map(|key| {
        Mutation::Task(Task::Discard {
            key: rig.storage_key(NARROW, key),
        })
    });
    let both: Vec<_> = both.collect();
    rig.mutate_all(EPOCH, &both);
    assert_eq!(rig.tally(), Tally::default());
    assert_eq!(rig.keep(&more), WRITTEN);
}

#[test]
fn what_is_set_aside_is_listed_and_not_handed_over() {
    let mut rig = Rig::new();
    let mut courier = Courier::default();
    let key = foreign(&rig);
    let old = hint(&key, NOW_MS, text("v"));
    rig.keep(&old);
    let storage_key = rig.storage_key(NARROW, &key);
    let aside = Task::SetAside {
        key: storage_key.clone(),
    };
    rig.mutate(Mutation::Task(aside));
    assert_eq!(rig.deliver(&mut courier, &WRITTEN), []);
    assert_eq!(hints::set_aside(&rig.store, 9).unwrap(), [storage_key]);
    let tally = rig.tally();
    assert_eq!((tally.aside, tally.waiting.len()), (1, 0));
    assert_eq!(
        rig.read_hinted(&key),
        Answer::Found(old.record),
        "and can be read"
    );
    let newer = hint(&key, NOW_MS + 1, text("newer"));
    assert_eq!(rig.keep(&newer), WRITTEN);
    assert_eq!(
        rig.deliver(&mut courier, &WRITTEN).len(),
        1,
        "a fresher one goes"
    );
    assert_eq!(rig.tally(), Tally::default());
}

#[test]
fn hints_go_to_those_who_took_the_owners_place() {
    let mut rig = Rig::new();
    let mut courier = Courier::default();
    let key = foreign(&rig);
    let hint = hint(&key, NOW_MS, text("v"));
    rig.keep(&hint);
    // Now this server owns all of it.
    (0..2).for_each(|partition| rig.view.table.regions[0].set(partition, &[0, 1]));
    assert_eq!(rig.deliver(&mut courier, &WRITTEN), []);
    assert_eq!(rig.found(NARROW, &key), Some(hint.record));
    assert_eq!(rig.tally(), Tally::default());
}

#[test]
fn hints_of_a_bucket_that_is_gone_are_discarded_and_those_of_one_to_come_are_not() {
    let mut rig = Rig::new();
    let mut courier = Courier::default();
    let key = foreign(&rig);
    rig.keep(&hint(&key, NOW_MS, text("v")));
    let bucket = rig.view.bucket(NARROW).unwrap().clone();
    rig.view.buckets.retain(|bucket| bucket.number < NARROW);
    assert_eq!(rig.deliver(&mut courier, &WRITTEN), []);
    assert_eq!(
        rig.tally().waiting.len(),
        1,
        "its number may be one to come"
    );
    rig.view.buckets.push(Bucket {
        number: bucket.number + 1,
        ..bucket
    });
    rig.now_ms += 60_000;
    rig.deliver(&mut courier, &WRITTEN);
    assert_eq!(rig.tally(), Tally::default());
}

#[test]
fn many_hints_go_in_parcels_and_in_order() {
    let mut rig = Rig::new();
    let mut courier = Courier::default();
    let keys: Vec<_> = (0..300).map(|n| key_of(&rig, NodeId(2), n)).collect();
    let all: Vec<_> = keys
        .iter()
        .map(|key| Mutation::Hint(hint(key, NOW_MS, text("v"))))
        .collect();
    rig.mutate_all(EPOCH, &all);
    let mut sent = Vec::new();
    for expected in [128, 128, 44] {
        let parcel = rig.deliver(&mut courier, &WRITTEN);
        assert_eq!(parcel.len(), expected);
        sent.extend(
            parcel
                .into_iter()
                .map(|write| rig.view.hash(NARROW, &write.key)),
        );
    }
    assert!(sent.is_sorted());
    assert_eq!(rig.tally(), Tally::default());
    assert_eq!(waiting_for(&rig.store, NodeId(2), b"", 9).unwrap(), []);
}

#[test]
fn an_owner_that_cannot_be_reached_is_tried_less_and_less_often() {
    let mut rig = Rig::new();
    let mut courier = Courier::default();
    rig.keep(&hint(&foreign(&rig), NOW_MS, text("v")));
    let mut tries = Vec::new();
    for _ in 0..300_000 / 100 {
        rig.now_ms += 100;
        for owner in courier.due(&rig.tally(), rig.now_ms) {
            let parcel = courier
                .parcel(&rig.store, &rig.view, NodeId(1), owner)
                .unwrap();
            assert_eq!(courier.due(&rig.tally(), rig.now_ms), [], "one at a time");
            courier.handle_answers(&parcel, None, rig.now_ms, rig.now_ms);
            tries.push(rig.now_ms);
        }
    }
    assert!((10..40).contains(&tries.len()), "{tries:?}");
    courier.handle_sign_of_life(NodeId(2));
    assert_eq!(courier.due(&rig.tally(), rig.now_ms), [NodeId(2)]);
}

#[test]
fn a_record_that_an_owner_cannot_take_does_not_keep_others_back() {
    let mut rig = Rig::new();
    let mut courier = Courier::default();
    let names: Vec<String> = (0..2_000).map(|number| number.to_string()).collect();
    let is_foreign = |name: &&String| {
        let hash = rig.view.hash(NARROW, name.as_bytes());
        !Owners::of(&rig.view, rig.view.bucket(NARROW).unwrap(), hash).contains(NodeId(1))
    };
    let foreign: Vec<_> = names.iter().filter(is_foreign).take(40).cloned().collect();
    for name in &foreign {
        rig.keep(&hint(name, NOW_MS, text("v")));
    }
    // A request that has this record in it is answered by nothing.
    let poison = rig.storage_key(NARROW, &foreign[17]);
    let mut taken = 0;
    for _ in 0..200 {
        rig.now_ms += 60_000;
        let parcel = courier.parcel(&rig.store, &rig.view, NodeId(1), NodeId(2));
        let parcel = parcel.unwrap();
        let refused = parcel.items.iter().any(|item| item.key == poison);
        let answers = vec![WRITTEN; parcel.items.len()];
        let answers = (!refused).then_some(&answers[..]);
        let tasks = courier.handle_answers(&parcel, answers, rig.now_ms, 0);
        taken += tasks.len();
        for task in tasks {
            rig.mutate(Mutation::Task(task));
        }
    }
    assert_eq!(taken, 39);
    assert_eq!(rig.tally().waiting, [(NodeId(2), 1)].into());
}

#[test]
fn hints_wait_for_their_sync() {
    let mut rig = Rig::new();
    let hint = hint(&foreign(&rig), NOW_MS, text("v"));
    let (_, point) = rig.mutate_all(EPOCH, &[Mutation::Hint(hint.clone())]);
    assert!(!rig.gate.is_open(point));
    let read = Read {
        hinted: true,
        ..Read::new(NARROW, hint.key)
    };
    let seen = rig.replica.read(&rig.store, rig.moment(), [(EPOCH, &read)]);
    assert_eq!(rig.gate.rests_on(seen.touched), point);
}

fn write_of(operation: annulet_protocol::message::Operation) -> Option<Write> {
    match operation {
        annulet_protocol::message::Operation::Write(write) => Some(write),
        _ => None,
    }
}
