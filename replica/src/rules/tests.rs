//! One server, 1, of a cluster of two:
//!
//! ```text
//! bucket 1  lww, group     owners 1, 2
//! bucket 2  lww, async     owners 1, 2
//! bucket 3  siblings       owners 1, 2
//! bucket 4  lww, group     owner 1 of one half of the ring, 2 of the other
//! bucket 5  siblings       owner 1 of one half of the ring, 2 of the other
//! bucket 6  strong         owners 1, 2
//! view of epoch 7, whose table is of epoch 5
//! ```

use super::*;
use crate::memory::MemoryStore;
use crate::store::Change;
use annulet_protocol::clock::Stamp;
use annulet_protocol::ids::{ClusterId, Incarnation, OpId};
use annulet_protocol::message::{Hint, Source, Touch, Written};
use annulet_protocol::record::{Kind, Origin, Version};
use annulet_protocol::table::{Joint, RegionTable, Table};
use annulet_protocol::view::{Member, MemberState, Tip};

mod arcs;
mod hinted;
mod siblings;
mod spread;
mod strong;
mod times;

const NOW_MS: u64 = 1_000_000;
const EPOCH: u64 = 7;
const GROUP: u32 = 1;
const LAZY: u32 = 2;
const SIBLINGS: u32 = 3;
const NARROW: u32 = 4;
const NARROW_SIBLINGS: u32 = 5;
const STRONG: u32 = 6;

/// A server and its clock.
struct Rig {
    replica: Replica,
    store: MemoryStore,
    gate: Gate,
    view: View,
    now_ms: u64,
    stamp: Stamp,
    clock_trusted: bool,
    disk_full: bool,
}

impl Rig {
    fn new() -> Self {
        Self {
            replica: Replica::new(NodeId(1), Incarnation([1; 16])),
            store: MemoryStore::default(),
            gate: Gate::default(),
            view: view(),
            now_ms: NOW_MS,
            stamp: Stamp::at(NOW_MS),
            clock_trusted: true,
            disk_full: false,
        }
    }

    fn moment(&self) -> Moment<'_> {
        Moment {
            now_ms: self.now_ms,
            stamp: self.stamp,
            clock_trusted: self.clock_trusted,
            disk_full: self.disk_full,
            view: &self.view,
            unready: &[],
        }
    }

    /// Decides and stores a batch of writes, all of this epoch.
    fn write_all(&mut self, epoch: u64, writes: &[Write]) -> (Vec<Answer>, SyncPoint) {
        let writes: Vec<_> = writes.iter().cloned().map(Mutation::Write).collect();
        self.mutate_all(epoch, &writes)
    }

    /// Decides and stores a batch of mutations, all of this epoch.
    fn mutate_all(&mut self, epoch: u64, mutations: &[Mutation]) -> (Vec<Answer>, SyncPoint) {
        self.stamp = Stamp(self.stamp.0 + 1_000).max(Stamp::at(self.now_ms));
        let with_epoch = mutations.iter().map(|mutation| (epoch, mutation));
        let decided = self.replica.decide(&self.store, self.moment(), with_epoch);
        let decided = decided.expect("a store in memory does not fail");
        let point = decided.enter(&mut self.gate);
        self.store
            .write(decided.batch)
            .expect("a store in memory does not fail");
        (decided.answers, point)
    }

    fn write(&mut self, write: &Write) -> Answer {
        let (mut answers, _) = self.write_all(EPOCH, std::slice::from_ref(write));
        answers.pop().expect("one answer")
    }

    fn mutate(&mut self, mutation: Mutation) -> Answer {
        let (mut answers, _) = self.mutate_all(EPOCH, &[mutation]);
        answers.pop().expect("one answer")
    }

    fn read(&self, epoch: u64, bucket: u32, key: &str, head_only: bool) -> Answer {
        let read = Read {
            head_only,
            ..Read::new(bucket, Bytes::copy_from_slice(key.as_bytes()))
        };
        self.answer(epoch, &read)
    }

    fn answer(&self, epoch: u64, read: &Read) -> Answer {
        let mut answers = self
            .replica
            .read(&self.store, self.moment(), [(epoch, read)]);
        answers.answers.pop().expect("one answer")
    }

    fn found(&self, bucket: u32, key: &str) -> Option<Record> {
        match self.read(EPOCH, bucket, key, false) {
            Answer::Found(record) => Some(record),
            Answer::Absent(_) => None,
            other => panic!("a read gave {other:?}"),
        }
    }

    fn storage_key(&self, bucket: u32, key: &str) -> Bytes {
        let hash = self.view.hash(bucket, key.as_bytes());
        storage_key(hash, bucket, key.as_bytes())
    }
}

fn view() -> View {
    let member = |id| Member {
        id: NodeId(id),
        address: format!("server-{id}:1"),
        capacity: 1,
        zone: String::new(),
        region: String::new(),
        state: MemberState::Active,
    };
    let bucket = |number: u32, mode, durability, replicas| Bucket {
        mode,
        durability,
        replicas,
        ..Bucket::new(number, &format!("b{number}"))
    };
    // Two partitions; the first choice of each is another member.
    let owners = [0, 1, 1, 0];
    let view = View {
        cluster: ClusterId::default(),
        name: "test".into(),
        seed: 0,
        epoch: EPOCH,
        value_bytes_max: 10_000,
        members: vec![member(1), member(2)].into(),
        table: Table {
            partitions: 2,
            epoch: 5,
            list_length: 2,
            regions: vec![RegionTable::new("", 2, 2, owners)],
            ..Table::default()
        },
        buckets: vec![
            bucket(GROUP, Mode::Lww, Durability::Group, 2),
            bucket(LAZY, Mode::Lww, Durability::Async, 2),
            bucket(SIBLINGS, Mode::Siblings, Durability::Group, 2),
            bucket(NARROW, Mode::Lww, Durability::Group, 1),
            bucket(NARROW_SIBLINGS, Mode::Siblings, Durability::Group, 1),
            bucket(STRONG, Mode::Strong, Durability::Group, 2),
        ],
        tip: Tip::default(),
    };
    view.validate().expect("a sound view");
    view
}

/// A first-hand write of a value of this text, stamped so far from now.
fn put(bucket: u32, key: &str, stamp_ms: u64, value: Option<Bytes>) -> Write {
    let op = OpId {
        client: Incarnation([3; 16]),
        sequence: stamp_ms,
        first_sent_ms: stamp_ms,
    };
    let origin = Origin {
        stamp: Stamp::at(stamp_ms),
        op,
    };
    Write {
        bucket,
        key: Bytes::copy_from_slice(key.as_bytes()),
        source: Source::FirstHand,
        record: Record::seal(bucket, key.as_bytes(), origin, value, None),
        gone: false,
    }
}

fn text(text: &'static str) -> Option<Bytes> {
    Some(Bytes::from_static(text.as_bytes()))
}

fn repair(write: Write) -> Write {
    Write {
        source: Source::Repair,
        ..write
    }
}

fn refused(answer: &Answer) -> Option<RefusalKind> {
    match answer {
        Answer::Refused(refusal) => Some(refusal.kind),
        _ => None,
    }
}

fn version(write: &Write) -> Version {
    write.record.head.version
}

const WRITTEN: Answer = Answer::Written(Written { superseded: None });

#[test]
fn each_reason_to_refuse_is_told_apart() {
    let mut rig = Rig::new();
    let foreign = (0..99).map(|n| format!("key {n}")).find(|key| {
        let bucket = rig.view.bucket(NARROW).expect("it is there");
        !Owners::of(&rig.view, bucket, rig.view.hash(NARROW, key.as_bytes())).contains(NodeId(1))
    });
    let foreign = foreign.expect("half of all keys");
    let long = "k".repeat(KEY_BYTES_MAX + 1);
    for (epoch, bucket, key, kind) in [
        (4, GROUP, "k", RefusalKind::StaleEpoch),
        (8, GROUP, "k", RefusalKind::Behind),
        (7, GROUP, "", RefusalKind::TooLarge),
        (7, GROUP, &long, RefusalKind::TooLarge),
        (7, 99, "k", RefusalKind::UnknownBucket),
        (7, STRONG, "k", RefusalKind::WrongMode),
        (7, NARROW, &foreign, RefusalKind::NotOwner),
    ] {
        let answer = rig.read(epoch, bucket, key, false);
        assert_eq!(refused(&answer), Some(kind), "reading {key:.9}");
        let (answers, _) = rig.write_all(epoch, &[put(bucket, key, NOW_MS, text("v"))]);
        assert_eq!(refused(&answers[0]), Some(kind), "writing {key:.9}");
    }
    for epoch in 5..=7 {
        assert_eq!(
            refused(&rig.read(epoch, GROUP, "k", false)),
            None,
            "epoch {epoch}"
        );
    }
}

#[test]
fn only_requests_about_lists_that_changed_are_out_of_date() {
    let mut rig = Rig::new();
    let partition = |key: &str| rig.view.hash(GROUP, key.as_bytes()).partition(2);
    let in_partition = |wanted| {
        let keys = (0..99).map(|n| format!("key {n}"));
        let mut keys = keys.filter(|key| partition(key) == wanted);
        keys.next().expect("half of all keys")
    };
    let (changed, other) = (in_partition(0), in_partition(1));
    let next = Joint {
        partition: 0,
        region: String::new(),
        next: vec![1, 0],
    };
    rig.view.table.open(next, EPOCH);
    let stale = Some(RefusalKind::StaleEpoch);
    for (epoch, key, kind) in [
        (6, &changed, stale),
        (7, &changed, None),
        (6, &other, None),
        (4, &other, stale),
    ] {
        assert_eq!(
            refused(&rig.read(epoch, GROUP, key, false)),
            kind,
            "{epoch} {key}"
        );
        let (answers, _) = rig.write_all(epoch, &[put(GROUP, key, NOW_MS, text("v"))]);
        assert_eq!(refused(&answers[0]), kind, "{epoch} {key}");
    }
}

#[test]
fn who_is_to_own_a_key_answers_for_it() {
    let mut rig = Rig::new();
    let key = (0..99).map(|n| format!("key {n}")).find(|key| {
        let bucket = rig.view.bucket(NARROW).expect("it is there");
        !Owners::of(&rig.view, bucket, rig.view.hash(NARROW, key.as_bytes())).contains(NodeId(1))
    });
    let key = key.expect("half of all keys");
    let write = [put(NARROW, &key, NOW_MS, text("v"))];
    let (answers, _) = rig.write_all(EPOCH, &write);
    assert_eq!(refused(&answers[0]), Some(RefusalKind::NotOwner));
    let partition = rig.view.hash(NARROW, key.as_bytes()).partition(2);
    let next = Joint {
        partition,
        region: String::new(),
        next: vec![0, 1],
    };
    rig.view.table.open(next, EPOCH);
    let (answers, _) = rig.write_all(EPOCH, &write);
    assert_eq!(answers, [WRITTEN]);
    rig.view.table.settle(partition, false, EPOCH);
    let (answers, _) = rig.write_all(EPOCH, &write);
    assert_eq!(refused(&answers[0]), Some(RefusalKind::NotOwner));
}

#[test]
fn a_record_that_does_not_match_its_checksum_or_is_too_long_is_refused() {
    let mut rig = Rig::new();
    let mut damaged = put(GROUP, "k", NOW_MS, text("v"));
    damaged.record.value = Bytes::from_static(b"w");
    assert_eq!(
        refused(&rig.write(&damaged)),
        Some(RefusalKind::BadChecksum)
    );
    let long = put(GROUP, "k", NOW_MS, Some(vec![0; 10_001].into()));
    assert_eq!(refused(&rig.write(&long)), Some(RefusalKind::TooLarge));
    assert_eq!(rig.found(GROUP, "k"), None);
}

#[test]
fn the_higher_version_stays_in_any_order_of_arrival() {
    let (old, new) = (
        put(GROUP, "k", NOW_MS, text("old")),
        put(GROUP, "k", NOW_MS + 1, text("new")),
    );
    for (first, second, superseded) in [
        (&old, &new, None),
        (&new, &old, Some(version(&new))),
        (&new, &new, None),
    ] {
        let mut rig = Rig::new();
        assert_eq!(rig.write(first), WRITTEN);
        assert_eq!(rig.write(second), Answer::Written(Written { superseded }));
        assert_eq!(rig.found(GROUP, "k"), Some(new.record.clone()));
    }
}

#[test]
fn of_one_version_the_later_set_expiry_stays() {
    let mut rig = Rig::new();
    let plain = put(GROUP, "k", NOW_MS, text("v"));
    let mut touched = plain.clone();
    let op = touched.record.head.op;
    let origin = Origin {
        stamp: Stamp::at(NOW_MS),
        op,
    };
    touched.record = Record::seal(GROUP, b"k", origin, text("v"), Some(NOW_MS + 50));
    assert_eq!(
        version(&plain),
        version(&touched),
        "expiry is no part of the version"
    );
    rig.write(&touched);
    assert_eq!(rig.write(&plain), WRITTEN);
    assert_eq!(rig.found(GROUP, "k"), Some(touched.record));
}

#[test]
fn a_delete_leaves_a_tombstone_that_older_writes_do_not_undo() {
    let mut rig = Rig::new();
    let delete = put(GROUP, "k", NOW_MS + 5, None);
    assert_eq!(rig.write(&delete), WRITTEN);
    let late = repair(put(GROUP, "k", NOW_MS + 4, text("late")));
    let superseded = Some(version(&delete));
    assert_eq!(rig.write(&late), Answer::Written(Written { superseded }));
    assert_eq!(
        rig.found(GROUP, "k").map(|r| r.head.kind),
        Some(Kind::Tombstone)
    );
}

#[test]
fn a_first_hand_stamp_from_too_far_ahead_is_refused_unless_the_key_has_one() {
    let mut rig = Rig::new();
    let limit_ms = NOW_MS + rig.replica.skew_ms_max;
    assert_eq!(
        rig.write(&put(GROUP, "at the limit", limit_ms, text("v"))),
        WRITTEN
    );
    let ahead = put(GROUP, "k", limit_ms + 2, text("v"));
    assert_eq!(refused(&rig.write(&ahead)), Some(RefusalKind::SkewedClock));
    let brought = repair(put(GROUP, "k", limit_ms + 3, text("brought")));
    assert_eq!(rig.write(&brought), WRITTEN, "a repair is not checked");
    let superseded = Some(version(&brought));
    assert_eq!(rig.write(&ahead), Answer::Written(Written { superseded }));
    let further = put(GROUP, "k", limit_ms + 4, text("v"));
    assert_eq!(
        refused(&rig.write(&further)),
        Some(RefusalKind::SkewedClock)
    );
}

#[test]
fn a_server_whose_clock_is_off_takes_repairs_only() {
    let mut rig = Rig::new();
    rig.clock_trusted = false;
    let write = put(GROUP, "k", NOW_MS, text("v"));
    assert_eq!(refused(&rig.write(&write)), Some(RefusalKind::SkewedClock));
    assert_eq!(rig.write(&repair(write)), WRITTEN);
}

#[test]
fn a_batch_is_decided_as_if_one_write_came_after_the_other() {
    let writes = [
        put(GROUP, "k", NOW_MS + 1, text("first")),
        put(GROUP, "k", NOW_MS + 3, Some(vec![1; 5_000].into())),
        put(GROUP, "k", NOW_MS + 2, text("late")),
        put(GROUP, "other", NOW_MS, text("v")),
        put(SIBLINGS, "k", NOW_MS, text("v")),
        put(GROUP, "k", NOW_MS + 4, text("last")),
    ];
    let (mut together, mut apart) = (Rig::new(), Rig::new());
    let (answers, _) = together.write_all(EPOCH, &writes);
    let one_by_one: Vec<_> = writes.iter().map(|write| apart.write(write)).collect();
    assert_eq!(answers, one_by_one);
    for family in [Family::Records, Family::Values] {
        assert_eq!(together.store.entries(family), apart.store.entries(family));
    }
    assert_eq!(
        together.store.entries(Family::Values),
        [],
        "a long value went with its record"
    );
}

#[test]
fn a_long_value_lies_apart_and_its_head_is_read_alone() {
    let mut rig = Rig::new();
    let write = put(GROUP, "k", NOW_MS, Some(vec![7; 5_000].into()));
    assert_eq!(rig.write(&write), WRITTEN);
    assert_eq!(rig.store.entries(Family::Values).len(), 1);
    assert_eq!(rig.found(GROUP, "k"), Some(write.record.clone()));
    let head = rig.read(EPOCH, GROUP, "k", true);
    assert_eq!(head, Answer::FoundHead(write.record.head));
}

#[test]
fn what_is_damaged_is_refused_and_never_absent_nor_overwritten() {
    let mut rig = Rig::new();
    rig.write(&put(GROUP, "k", NOW_MS, text("v")));
    let key = rig.storage_key(GROUP, "k");
    // The stamp, which decides what stays.
    rig.store
        .damage(Family::Records, &key, |bytes| bytes[2] ^= 0x40);
    for head_only in [false, true] {
        let answer = rig.read(EPOCH, GROUP, "k", head_only);
        assert_eq!(refused(&answer), Some(RefusalKind::Damaged));
    }
    let newer = put(GROUP, "k", NOW_MS + 1, text("newer"));
    assert_eq!(refused(&rig.write(&newer)), Some(RefusalKind::Damaged));
}

#[test]
fn a_missing_or_foreign_long_value_is_damage() {
    let mut rig = Rig::new();
    let write = put(GROUP, "k", NOW_MS, Some(vec![7; 5_000].into()));
    rig.write(&write);
    let key = rig.storage_key(GROUP, "k");
    rig.store
        .damage(Family::Values, &key, |bytes| bytes[0] ^= 1);
    let answer = rig.read(EPOCH, GROUP, "k", false);
    assert_eq!(refused(&answer), Some(RefusalKind::Damaged));
    let gone = vec![Change::Delete(Family::Values, key)];
    rig.store
        .write(gone)
        .expect("a store in memory does not fail");
    let answer = rig.read(EPOCH, GROUP, "k", false);
    assert_eq!(refused(&answer), Some(RefusalKind::Damaged));
    let head = rig.read(EPOCH, GROUP, "k", true);
    assert_eq!(
        head,
        Answer::FoundHead(write.record.head),
        "the head is well"
    );
}

#[test]
fn answers_wait_for_the_sync_of_what_they_rest_on() {
    let mut rig = Rig::new();
    let write = put(GROUP, "k", NOW_MS, text("v"));
    let (_, first) = rig.write_all(EPOCH, std::slice::from_ref(&write));
    assert!(!rig.gate.is_open(first), "the write itself");
    let (_, again) = rig.write_all(EPOCH, std::slice::from_ref(&write));
    assert_eq!(again, first, "the same write again rests on the first");
    let read = Read::new(GROUP, write.key.clone());
    let seen = rig.replica.read(&rig.store, rig.moment(), [(EPOCH, &read)]);
    assert_eq!(
        rig.gate.rests_on(seen.touched),
        first,
        "a read that shows it"
    );
    rig.gate.synced(first);
    assert!(rig.gate.is_open(again));
    let (_, point) = rig.write_all(EPOCH, &[put(LAZY, "k", NOW_MS, text("v"))]);
    assert_eq!(point, SyncPoint::NONE, "an async bucket waits for nothing");
}
