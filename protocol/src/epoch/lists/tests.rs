use super::*;
use crate::codec::{DecodeError, encode};
use crate::epoch::EpochRecord;
use proptest::prelude::*;

fn record(lists: Vec<ListChange>) -> EpochRecord {
    EpochRecord {
        number: 7,
        lists,
        ..EpochRecord::default()
    }
}

fn place(partition: u32, since: u64) -> ListPlace {
    ListPlace { partition, since }
}

fn opened(partition: u32, region: &str, step: Step) -> ListChange {
    ListChange::Opened(NextList {
        partition,
        region: region.into(),
        step,
    })
}

fn bytes(lists: &[ListChange]) -> Vec<u8> {
    let (mut bytes, mut last) = (Vec::new(), Last::default());
    let write = |change| write(&mut bytes, change, &mut last);
    lists.iter().for_each(write);
    bytes
}

/// A record with these bytes in place of its changes of lists.
fn with(bytes: &[u8]) -> Result<EpochRecord, DecodeError> {
    #[derive(serde::Serialize)]
    struct Raw<'a> {
        number: u64,
        before: crate::ids::EpochHash,
        change: crate::ids::ChangeId,
        #[serde(with = "serde_bytes")]
        lists: &'a [u8],
    }
    let raw = Raw {
        number: 7,
        before: crate::ids::EpochHash::default(),
        change: crate::ids::ChangeId::default(),
        lists: bytes,
    };
    EpochRecord::decode(&encode(&raw))
}

#[test]
fn a_change_takes_few_bytes() {
    let comes = |partition, owner| {
        let step = Step::Replaced { position: 2, owner };
        opened(partition, "", step)
    };
    let lists = [
        comes(1_000_000, 40_000),
        comes(5, 40_000),
        ListChange::Closed(place(1_000_000, 300)),
        ListChange::Aborted(place(5, 6)),
        opened(6, "n", Step::Removed { position: 0 }),
        opened(
            7,
            "n",
            Step::Swapped {
                position: 0,
                with: 1,
            },
        ),
        opened(
            8,
            "",
            Step::Inserted {
                position: 3,
                owner: 1,
            },
        ),
    ];
    let expected = [
        &[0x12, 0xc0, 0x84, 0x3d, 0xc0, 0xb8, 0x02][..],
        &[0x52, 0x05],
        &[0x00, 0xc0, 0x84, 0x3d, 0xac, 0x02],
        &[0x01, 0x05, 0x06],
        &[0x84, 0x06, 0x01, b'n'],
        &[0x05, 0x07, 0x01],
        &[0x9b, 0x08, 0x00, 0x01],
    ];
    assert_eq!(bytes(&lists), expected.concat());
    assert_eq!(with(&expected.concat()), Ok(record(lists.to_vec())));
}

#[test]
fn bytes_that_are_no_changes_are_refused() {
    for (bad, what) in [
        (&[0x06, 0x01][..], "an unknown kind"),
        (&[0x00], "no partition"),
        (&[0x00, 0x80], "half a partition"),
        (&[0x00, 0x01], "no epoch"),
        (
            &[0x00, 0x80, 0x80, 0x80, 0x80, 0x10, 0x01],
            "a partition of 33 bits",
        ),
        (
            &[0x00, 0x81, 0x00, 0x01],
            "a number in more bytes than it needs",
        ),
        (&[0x08, 0x01, 0x01], "a position of a list that is closed"),
        (&[0x40, 0x01, 0x01], "an owner of a list that is closed"),
        (&[0x42, 0x01], "the same owner, before any"),
        (&[0x02, 0x01], "no owner"),
        (
            &[0x02, 0x01, 0x05, 0x02, 0x01, 0x05],
            "an owner written again",
        ),
        (&[0x84, 0x01, 0x02, b'n'], "half a region"),
        (&[0x84, 0x01, 0x00], "a region written again"),
        (&[0x84, 0x01, 0x01, 0xff], "a region that is no text"),
        (&[0x05, 0x01], "no other position"),
    ] {
        let refused = with(bad);
        assert!(refused.is_err(), "{what}: {refused:?}");
    }
    let epoch = [&[0x00, 0x01][..], &[0xff; 9], &[0x02]].concat();
    assert!(with(&epoch).is_err(), "an epoch of 65 bits");
    let endless = [&[0x00, 0x01][..], &[0x80; 10], &[0x00]].concat();
    assert!(with(&endless).is_err(), "a number that does not end");
    let long = [&[0x84, 0x01, 0x80, 0x02][..], &[b'n'; 256]].concat();
    assert!(with(&long).is_err(), "a region with too long a name");
    assert!(with(&[]).is_err(), "no changes are not written");
}

#[test]
fn more_changes_than_may_be_are_not_kept() {
    let most = bytes(&vec![ListChange::Closed(place(1, 1)); LIST_CHANGES_MAX]);
    assert!(with(&most).is_ok());
    let over = with(&[&most[..], &[0, 1, 1]].concat());
    assert!(matches!(over, Err(DecodeError::Limit(_))), "{over:?}");
}

/// Whether every prefix changes by one owner at most.
fn is_step(have: &[u32], next: &[u32]) -> bool {
    let differ = |one: &[u32], other: &[u32]| one.iter().filter(|i| !other.contains(i)).count();
    (1..=have.len().max(next.len())).all(|length| {
        let have = &have[..length.min(have.len())];
        let next = &next[..length.min(next.len())];
        differ(have, next) <= 1 && differ(next, have) <= 1
    })
}

fn steps() -> impl Strategy<Value = Step> {
    let (position, owner) = (0u8..8, prop_oneof![0u32..12, any::<u32>()]);
    prop_oneof![
        (position.clone(), owner.clone())
            .prop_map(|(position, owner)| Step::Replaced { position, owner }),
        (position.clone(), owner).prop_map(|(position, owner)| Step::Inserted { position, owner }),
        position
            .clone()
            .prop_map(|position| Step::Removed { position }),
        (position, any::<u8>()).prop_map(|(position, with)| Step::Swapped { position, with }),
    ]
}

fn changes() -> impl Strategy<Value = ListChange> {
    prop_oneof![
        (any::<u32>(), any::<u64>()).prop_map(|(at, since)| ListChange::Closed(place(at, since))),
        (any::<u32>(), any::<u64>()).prop_map(|(at, since)| ListChange::Aborted(place(at, since))),
        (any::<u32>(), "[ab]{0,2}", steps())
            .prop_map(|(partition, region, step)| opened(partition, &region, step)),
    ]
}

proptest! {
    #[test]
    fn changes_are_read_as_they_were_written(lists in prop::collection::vec(changes(), 1..20)) {
        let record = record(lists);
        prop_assert_eq!(EpochRecord::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn any_bytes_are_refused_or_written_again(any in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(record) = with(&any) {
            prop_assert_eq!(bytes(&record.lists), any);
        }
    }

    #[test]
    fn a_step_is_found_again_and_changes_prefixes_by_one(length in 0usize..8, step in steps()) {
        let have: Vec<u32> = (0..length.min(REPLICAS_MAX) as u32).collect();
        if let Some(next) = step.apply(&have) {
            prop_assert!(next.len() <= REPLICAS_MAX);
            prop_assert!(is_step(&have, &next));
            let twice = |(at, owner): (usize, &u32)| next[..at].contains(owner);
            if next[..] != have[..] && !next.iter().enumerate().any(twice) {
                let found = Step::between(&have, &next).and_then(|step| step.apply(&have));
                prop_assert_eq!(found, Some(next));
            }
        }
        prop_assert_eq!(Step::between(&have, &have), None);
    }
}
