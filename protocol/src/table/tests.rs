use super::*;
use crate::ids::NodeId;
use crate::view::MemberState;
use proptest::prelude::*;

fn members(count: u64) -> Vec<Member> {
    let member = |id| Member {
        id: NodeId(id),
        address: "host:1".into(),
        capacity: 1,
        zone: String::new(),
        region: String::new(),
        state: MemberState::Active,
    };
    (0..count).map(member).collect()
}

/// A table of these lists, set by epoch 3.
fn table(lists: &[&[u32]]) -> Table {
    let mut region = RegionTable::empty("", 2, 3, lists.len() as u32);
    for (partition, list) in (0..).zip(lists) {
        region.set(partition, list);
    }
    Table {
        partitions: lists.len() as u32,
        epoch: 3,
        list_length: 2,
        regions: vec![region],
        ..Table::default()
    }
}

fn list(table: &Table, partition: u32) -> Vec<usize> {
    table.regions[0].list(partition).collect()
}

fn joint(partition: u32, next: &[u32]) -> Joint {
    Joint {
        partition,
        region: String::new(),
        next: next.to_vec(),
    }
}

#[test]
fn lists_are_as_long_as_they_are() {
    let mut table = table(&[&[0, 1], &[2]]);
    assert_eq!((list(&table, 0), list(&table, 1)), (vec![0, 1], vec![2]));
    table.regions[0].set(1, &[2, 0, 1]);
    assert_eq!(table.regions[0].length, 3);
    assert_eq!(
        (list(&table, 0), list(&table, 1)),
        (vec![0, 1], vec![2, 0, 1])
    );
    assert_eq!(list(&table, 2), Vec::<usize>::new(), "no partition");
    assert_eq!(table.validate(3, &members(3)), Ok(()));
    table.renumber(3, |index| 2 - index);
    assert_eq!(
        (list(&table, 0), list(&table, 1)),
        (vec![2, 1], vec![0, 2, 1])
    );
}

#[test]
fn places_are_as_long_as_the_number_of_members_asks() {
    let most = u32::from(u16::MAX);
    let places = [0, most - 1, NOBODY, 300];
    let mut small = RegionTable::new("", 2, most as usize, places);
    assert_eq!((small.size(), small.places().len()), (8, 4));
    assert_eq!(small.places().collect::<Vec<_>>(), places);
    assert_eq!(small.validate_size(2, most as usize), Ok(()));
    let one_more = small.validate_size(2, most as usize + 1);
    assert!(one_more.is_err_and(|why| why.contains("places of 2 bytes")));
    small.renumber(most as usize + 1, &|index| index + 1);
    let places = [1, most, NOBODY, 301];
    assert_eq!((small.size(), small.places().len()), (12, 4));
    assert_eq!(small.places().collect::<Vec<_>>(), places);
    assert_eq!(small.list(0).collect::<Vec<_>>(), [1, most as usize]);
    assert_eq!(small.list(1).count(), 0, "nobody comes first");
    assert_eq!(small.validate_size(2, most as usize + 1), Ok(()));
    small.set(1, &[most, 7]);
    assert_eq!(small.list(1).collect::<Vec<_>>(), [most as usize, 7]);
    small.renumber(most as usize, &|index| index - 1);
    assert_eq!(
        small.places().collect::<Vec<_>>(),
        [0, most - 1, most - 1, 6]
    );
    let short = RegionTable::new("", 2, 3, [0, 1, 2]);
    assert!(
        short
            .validate_size(2, 3)
            .is_err_and(|why| why.contains("6 bytes"))
    );
}

#[test]
fn only_the_lists_that_changed_have_to_be_checked() {
    let mut table = table(&[&[0, 1], &[1, 2]]);
    let check = |table: &Table, partitions: &[u32]| {
        table.validate_changes(9, &members(3), partitions.iter().copied())
    };
    table.regions[0].set(1, &[2, 2]);
    assert_eq!(
        check(&table, &[0]),
        Ok(()),
        "it is said that this one did not"
    );
    assert!(check(&table, &[0, 1]).is_err_and(|why| why.contains("partition 1")));
    table.regions[0].set(1, &[]);
    assert!(check(&table, &[1]).is_err_and(|why| why.contains("nobody owns")));
    table.regions[0].set(1, &[0]);
    table.epoch = 10;
    assert!(check(&table, &[]).is_err_and(|why| why.contains("epoch 10")));
}

#[test]
fn a_partition_is_joint_until_it_is_settled() {
    let mut table = table(&[&[0, 1], &[1, 2]]);
    table.open(joint(1, &[1, 0]), 5);
    assert_eq!(table.joint(1), Some(&joint(1, &[1, 0])));
    assert_eq!((table.lists_epoch(0), table.lists_epoch(1)), (3, 5));
    assert_eq!(table.validate(5, &members(3)), Ok(()));
    table.open(joint(1, &[0, 2]), 6);
    assert_eq!(table.joint.len(), 1, "it is aimed at others");
    let mut aborted = table.clone();
    assert_eq!(aborted.settle(1, false, 7), Some(joint(1, &[0, 2])));
    assert_eq!((list(&aborted, 1), aborted.lists_epoch(1)), (vec![1, 2], 7));
    assert_eq!(table.settle(1, true, 7), Some(joint(1, &[0, 2])));
    assert_eq!((list(&table, 1), table.joint(1)), (vec![0, 2], None));
    assert_eq!(table.settle(1, true, 8), None);
    assert_eq!((table.lists_epoch(0), table.lists_epoch(1)), (3, 7));
}

#[test]
fn halves_have_all_that_the_whole_had() {
    let mut table = table(&[&[0, 1], &[1, 2]]);
    table.open(joint(1, &[1, 0]), 5);
    table.halve();
    assert_eq!(table.partitions, 4);
    let lists: Vec<_> = (0..4).map(|partition| list(&table, partition)).collect();
    assert_eq!(lists, [vec![0, 1], vec![0, 1], vec![1, 2], vec![1, 2]]);
    let epochs = [0, 1, 2, 3].map(|partition| table.lists_epoch(partition));
    assert_eq!(epochs, [3, 3, 5, 5]);
    assert_eq!(table.joint, [joint(2, &[1, 0]), joint(3, &[1, 0])]);
    assert_eq!(table.validate(5, &members(3)), Ok(()));
}

#[test]
fn a_table_that_breaks_a_rule_is_refused() {
    let sound = table(&[&[0, 1], &[1, 2]]);
    let check = |change: &dyn Fn(&mut Table), why: &str| {
        let mut table = sound.clone();
        change(&mut table);
        let refused = table.validate(9, &members(3)).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    };
    check(&|t| t.regions[0].set(1, &[]), "nobody owns partition 1");
    check(
        &|t| t.regions[0].set(1, &[0, 0]),
        "bad owners of partition 1",
    );
    check(&|t| t.regions[0].set(0, &[3]), "bad owners of partition 0");
    check(&|t| t.regions[0].set(0, &[NOBODY, 1]), "bad owners");
    check(&|t| t.open(joint(1, &[0, 0]), 5), "bad next owners");
    check(&|t| t.open(joint(1, &[]), 5), "bad next owners");
    check(&|t| t.open(joint(1, &[3]), 5), "bad next owners");
    check(&|t| t.open(joint(1, &[0]), 10), "bad epochs");
    check(&|t| t.open(joint(2, &[0]), 5), "bad epochs");
    let foreign = Joint {
        region: "north".into(),
        ..joint(1, &[0])
    };
    check(&|t| t.open(foreign.clone(), 5), "region `north`");
    check(&|t| t.joint.push(joint(1, &[0])), "bad next owners");
    let twice = |t: &mut Table| {
        t.open(joint(1, &[0]), 5);
        t.joint.push(joint(1, &[2]));
    };
    check(&twice, "not in order");
    check(&|t| t.partitions = 3, "power of two");
    check(&|t| t.epoch = 10, "epoch 10");
}

#[test]
fn only_the_last_changes_have_epochs_of_their_own() {
    let lists = vec![&[0, 1][..]; 1 << 15];
    let mut table = table(&lists);
    table.open(joint(0, &[1, 2]), 4);
    for epoch in 5..=CHANGED_MAX as u64 + 50 {
        let partition = (epoch * 7) as u32 % (1 << 15);
        table.open(joint(partition, &[1, 2]), epoch);
        table.settle(partition, true, epoch);
        assert_eq!(table.lists_epoch(partition), epoch);
    }
    assert!(table.changed.len() <= CHANGED_MAX);
    assert!(table.epoch > 3, "it rose over the oldest");
    assert_eq!(table.lists_epoch(0), 4, "it is joint still");
    let last = CHANGED_MAX as u64 + 50;
    assert_eq!(table.validate(last, &members(3)), Ok(()));
    let known = table.changed.iter().filter(|changed| changed.partition > 0);
    assert!(known.clone().all(|changed| changed.epoch > table.epoch));
    assert!(known.count() > CHANGED_MAX / 4);
    table.halve();
    assert_eq!([0, 1].map(|half| table.lists_epoch(half)), [4, 4]);
    assert_eq!(table.validate(last, &members(3)), Ok(()));
}

proptest! {
    #[test]
    fn epochs_of_lists_never_sink(
        steps in prop::collection::vec((0u32..8, 0u8..4, any::<bool>()), 1..60)
    ) {
        let mut table = table(&[&[0, 1][..]; 4]);
        for (epoch, (partition, kind, takes)) in (4..).zip(steps) {
            let before = table.clone();
            let partition = partition % table.partitions;
            let halves = kind == 3 && table.partitions < 16;
            match kind {
                0 | 1 => table.open(joint(partition, &[1, 2]), epoch),
                _ if halves => table.halve(),
                _ => drop(table.settle(partition, takes, epoch)),
            }
            prop_assert_eq!(table.validate(epoch, &members(3)), Ok(()));
            for other in 0..table.partitions {
                let whole = if halves { other / 2 } else { other };
                let (old, new) = (before.lists_epoch(whole), table.lists_epoch(other));
                prop_assert!(new >= old);
                let same = list(&before, whole) == list(&table, other)
                    && before.joint(whole).map(|j| &j.next) == table.joint(other).map(|j| &j.next);
                prop_assert!(same || new == epoch, "what changes has this epoch");
            }
        }
    }
}
