//! Arcs, read in pages. Server 1 owns both partitions of bucket 1 and half of bucket 4.

use super::*;
use annulet_protocol::limits::PAGE_ENTRIES_MAX;
use annulet_protocol::scan::Page;
use proptest::prelude::*;

fn whole(partition: u32) -> Scan {
    let (from, until) = KeyHash::arc(partition, 2);
    Scan {
        bucket: GROUP,
        from,
        until,
        after: Bytes::new(),
        entries_max: PAGE_ENTRIES_MAX,
        bytes_max: u32::MAX,
        value_bytes_max: u32::MAX,
    }
}

impl Rig {
    fn page(&self, scan: &Scan) -> Result<Page, RefusalKind> {
        let mut answers = self
            .replica
            .scan(&self.store, self.moment(), [(EPOCH, scan)]);
        match answers.answers.pop().expect("one answer") {
            Answer::Page(page) => Ok(page),
            Answer::Refused(refusal) => Err(refusal.kind),
            other => panic!("a scan gave {other:?}"),
        }
    }

    /// Every page of an arc: its keys, and how many pages there were.
    fn pages(&self, mut scan: Scan) -> (Vec<Bytes>, usize) {
        let mut keys = Vec::new();
        for pages in 1.. {
            let page = self.page(&scan).unwrap();
            keys.extend(page.entries.into_iter().map(|entry| entry.key));
            match page.reached {
                Some(reached) => scan.after = reached,
                None => return (keys, pages),
            }
        }
        unreachable!("it ends")
    }
}

fn filled(keys: usize) -> Rig {
    let mut rig = Rig::new();
    let writes: Vec<_> = (0..keys)
        .flat_map(|n| [GROUP, LAZY].map(|b| put(b, &format!("key {n}"), NOW_MS, text("value"))))
        .collect();
    rig.write_all(EPOCH, &writes);
    rig
}

#[test]
fn a_page_holds_an_arc_of_one_bucket_in_order() {
    let rig = filled(100);
    let mut found = Vec::new();
    for partition in 0..2 {
        let page = rig.page(&whole(partition)).unwrap();
        assert_eq!(page.reached, None);
        let hashes: Vec<_> = page
            .entries
            .iter()
            .map(|e| rig.view.hash(GROUP, &e.key))
            .collect();
        assert!(hashes.is_sorted());
        assert!(hashes.iter().all(|hash| hash.partition(2) == partition));
        assert!(
            page.entries
                .iter()
                .all(|e| e.value.as_deref() == Some(b"value"))
        );
        found.extend(page.entries.into_iter().map(|entry| entry.key));
    }
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 100);
}

#[test]
fn heads_come_without_values_and_long_values_not_at_all() {
    let mut rig = Rig::new();
    rig.write(&put(GROUP, "long", NOW_MS, Some(vec![7; 5_000].into())));
    rig.write(&put(GROUP, "deleted", NOW_MS, None));
    let long = rig.view.hash(GROUP, b"long").partition(2);
    for (value_bytes_max, there) in [(0, false), (4_999, false), (5_000, true)] {
        let scan = Scan {
            value_bytes_max,
            ..whole(long)
        };
        let page = rig.page(&scan).unwrap();
        let entry = page
            .entries
            .iter()
            .find(|entry| *entry.key == *b"long")
            .unwrap();
        assert_eq!(entry.value.is_some(), there, "{value_bytes_max}");
    }
    let deleted = rig.view.hash(GROUP, b"deleted").partition(2);
    let page = rig.page(&whole(deleted)).unwrap();
    let entry = page
        .entries
        .iter()
        .find(|entry| *entry.key == *b"deleted")
        .unwrap();
    assert_eq!(entry.head.kind, Kind::Tombstone);
}

#[test]
fn arcs_that_cannot_be_are_refused() {
    let rig = filled(1);
    let owned = |partition| {
        let hash = KeyHash::arc(partition, 2).0;
        let bucket = rig.view.bucket(NARROW).unwrap();
        Owners::of(&rig.view, bucket, hash).contains(NodeId(1))
    };
    let foreign = if owned(0) { 1 } else { 0 };
    let (from, until) = (KeyHash(0), KeyHash(u64::MAX));
    let both = Scan {
        from,
        until,
        ..whole(0)
    };
    let backwards = Scan {
        from: until,
        until: from,
        ..whole(0)
    };
    let bucket = |bucket, partition| Scan {
        bucket,
        ..whole(partition)
    };
    for (scan, kind) in [
        (both, RefusalKind::NotOwner),
        (backwards, RefusalKind::NotOwner),
        (bucket(NARROW, foreign), RefusalKind::NotOwner),
        (bucket(99, 0), RefusalKind::UnknownBucket),
        (bucket(SIBLINGS, 0), RefusalKind::WrongMode),
    ] {
        assert_eq!(rig.page(&scan), Err(kind));
    }
    assert!(rig.page(&bucket(NARROW, 1 - foreign)).is_ok());
}

#[test]
fn a_page_over_a_damaged_record_is_refused() {
    let rig = filled(10);
    let key = rig.storage_key(GROUP, "key 3");
    rig.store
        .damage(Family::Records, &key, |bytes| bytes[5] ^= 1);
    let partition = rig.view.hash(GROUP, b"key 3").partition(2);
    assert_eq!(rig.page(&whole(partition)), Err(RefusalKind::Damaged));
    assert!(rig.page(&whole(1 - partition)).is_ok());
}

#[test]
fn a_page_waits_for_the_sync_of_what_it_shows() {
    let mut rig = Rig::new();
    let write = put(GROUP, "k", NOW_MS, text("v"));
    let (_, point) = rig.write_all(EPOCH, std::slice::from_ref(&write));
    let scan = whole(rig.view.hash(GROUP, b"k").partition(2));
    let seen = rig.replica.scan(&rig.store, rig.moment(), [(EPOCH, &scan)]);
    assert_eq!(rig.gate.rests_on(seen.touched), point);
}

proptest! {
    #[test]
    fn pages_of_any_size_hold_each_key_once(
        keys in 0usize..400, entries_max in 0u32..50, bytes_max in 0u32..300
    ) {
        let rig = filled(keys);
        let mut found = Vec::new();
        for partition in 0..2 {
            let scan = Scan { entries_max, bytes_max, ..whole(partition) };
            let (keys, pages) = rig.pages(scan);
            let least = keys.len() / entries_max.max(1) as usize;
            prop_assert!(pages >= least.max(1) && pages <= keys.len() + 1, "{} pages", pages);
            found.extend(keys);
        }
        prop_assert_eq!(found.len(), keys);
        found.sort();
        found.dedup();
        prop_assert_eq!(found.len(), keys);
    }
}
