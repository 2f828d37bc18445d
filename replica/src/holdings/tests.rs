use super::*;
use crate::memory::MemoryStore;
use crate::testing::{opened, three_of_four};

fn view() -> View {
    three_of_four(vec![Bucket::new(1, "default")])
}

fn settled(view: &View, takes: bool) -> View {
    let mut view = view.clone();
    view.epoch += 1;
    view.table.settle(0, takes, view.epoch);
    view
}

fn whole(least: u8, most: u8) -> Holding {
    Holding {
        from: KeyHash(0),
        until: KeyHash(u64::MAX),
        least,
        most,
    }
}

/// What a server gains and loses.
fn check(before: &View, after: &View, node: u64, gained: &[Holding], lost: &[Holding]) {
    let changed = Holdings::between(before, after, NodeId(node));
    assert_eq!(changed.unready, gained, "gained by {node}");
    assert_eq!(changed.lost, lost, "lost by {node}");
}

#[test]
fn who_takes_a_place_gains_the_arc_and_who_gave_it_up_loses_it_at_the_end() {
    let before = view();
    let joint = opened(&before, &[0, 1, 3]);
    check(&before, &joint, 4, &[whole(3, u8::MAX)], &[]);
    for stays in 1..=3 {
        check(&before, &joint, stays, &[], &[]);
    }
    let after = settled(&joint, true);
    check(&joint, &after, 3, &[], &[whole(3, u8::MAX)]);
    check(&joint, &after, 4, &[], &[]);
    let aborted = settled(&joint, false);
    check(&joint, &aborted, 4, &[], &[whole(3, u8::MAX)]);
    check(&joint, &aborted, 3, &[], &[]);
}

#[test]
fn another_place_in_the_list_counts_in_buckets_of_few_replicas() {
    let before = view();
    let joint = opened(&before, &[2, 1, 0]);
    check(&before, &joint, 3, &[whole(1, 2)], &[]);
    check(&before, &joint, 1, &[], &[]);
    let after = settled(&joint, true);
    check(&joint, &after, 1, &[], &[whole(1, 2)]);
    check(&joint, &after, 3, &[], &[]);
    let narrow = Bucket {
        replicas: 2,
        ..Bucket::new(2, "narrow")
    };
    assert!(whole(1, 2).covers(&narrow, KeyHash(9)));
    assert!(!whole(1, 2).covers(&Bucket::new(1, "default"), KeyHash(9)));
    assert!(!whole(1, 2).is_whole());
}

#[test]
fn aiming_at_others_changes_only_who_is_new_or_is_not_any_more() {
    let first = opened(&view(), &[0, 1, 3]);
    let second = opened(&first, &[3, 1, 2]);
    check(&first, &second, 4, &[whole(1, 2)], &[]);
    check(&first, &second, 3, &[], &[]);
    let third = opened(&first, &[1, 0, 2]);
    check(&first, &third, 4, &[], &[whole(3, u8::MAX)]);
}

#[test]
fn doubling_alone_changes_nothing_and_halves_are_told_apart() {
    let before = opened(&view(), &[0, 1, 3]);
    let mut doubled = before.clone();
    doubled.epoch += 1;
    doubled.table.halve();
    for node in 1..=4 {
        check(&before, &doubled, node, &[], &[]);
    }
    let mut closed = doubled.clone();
    closed.table.settle(1, true, closed.epoch);
    let (from, until) = KeyHash::arc(1, 2);
    let half = Holding {
        from,
        until,
        ..whole(3, u8::MAX)
    };
    check(&before, &closed, 3, &[], &[half]);
}

#[test]
fn what_is_noted_is_read_again() {
    let store = MemoryStore::default();
    assert_eq!(Holdings::load(&store).unwrap(), Holdings::default());
    let noted = Holdings {
        unready: vec![whole(1, 2)],
        lost: vec![whole(3, u8::MAX)],
    };
    store.write(noted.notes()).unwrap();
    assert_eq!(Holdings::load(&store).unwrap(), noted);
    let mut twice = noted.clone();
    twice.join(noted.clone());
    assert_eq!(twice, noted);
    let gone = vec![Change::Delete(Family::Notes, noted.lost[0].lost_note())];
    store.write(gone).unwrap();
    assert!(Holdings::load(&store).unwrap().lost.is_empty());
}
