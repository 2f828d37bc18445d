use super::proposer::{Effect, Proposer, Question};
use super::*;
use crate::cluster::Plan;
use annulet_protocol::ballot::Ballot;
use annulet_protocol::bucket::{Durability, Mode};
use annulet_protocol::epoch::{BucketCommand, ChainAnswer, DeleteBucket, SetBucket};
use annulet_protocol::ids::{ChangeId, ClusterId, NodeId};
use annulet_protocol::level::Level;
use annulet_protocol::view::{Member, MemberState};
use proptest::prelude::*;
use std::collections::BTreeSet;

mod members;
mod wish;

fn first(servers: u64) -> View {
    first_of(&(1..=servers).collect::<Vec<_>>())
}

fn first_of(servers: &[u64]) -> View {
    let member = |id| Member {
        id: NodeId(id),
        address: format!("host-{id}:7400"),
        capacity: 1,
        zone: String::new(),
        region: String::new(),
        state: MemberState::Active,
    };
    let plan = Plan {
        cluster: ClusterId([7; 16]),
        name: "test".into(),
        seed: 1,
        epoch: 1,
        value_bytes_max: 1_000,
        partitions: 4,
        list_length: 3,
        members: servers.iter().copied().map(member).collect(),
        buckets: vec![Bucket::new(1, "default")],
    };
    plan.view().unwrap()
}

fn create(name: &str) -> BucketCommand {
    BucketCommand::Create(Bucket::new(0, name))
}

fn delete(name: &str) -> BucketCommand {
    BucketCommand::Delete(DeleteBucket {
        name: name.into(),
        number: None,
    })
}

fn set(name: &str, ttl_ms: Option<u64>) -> BucketCommand {
    BucketCommand::Set(SetBucket {
        name: name.into(),
        ttl_ms,
        ..SetBucket::default()
    })
}

fn step(view: &View, command: &BucketCommand) -> Result<View, Objection> {
    let record = propose(view, ChangeId([1; 16]), command)?;
    let next = apply(view, &record).unwrap();
    assert_eq!(next.point(), record.point());
    Ok(next)
}

#[test]
fn a_chain_begins_alike_wherever_its_servers_are_reached() {
    let view = first(3);
    assert_eq!(view.tip.keepers, [1, 2, 3].map(NodeId));
    assert_eq!(view.tip.next_bucket, 2);
    let mut moved = view.clone();
    moved.members[0].address = "elsewhere:1".into();
    assert_eq!(begin(moved).tip, view.tip);
    let mut other = view.clone();
    other.name = "other".into();
    assert_ne!(begin(other).tip.hash, view.tip.hash);
}

#[test]
fn buckets_come_change_and_go_and_numbers_never_return() {
    let one = step(&first(3), &create("carts")).unwrap();
    assert_eq!(one.bucket_named("carts").unwrap().number, 2);
    let two = step(&one, &set("carts", Some(60_000))).unwrap();
    assert_eq!(two.bucket_named("carts").unwrap().ttl_ms, Some(60_000));
    let three = step(&two, &set("carts", None)).unwrap();
    assert_eq!(three.bucket_named("carts").unwrap().ttl_ms, Some(60_000));
    let four = step(&three, &set("carts", Some(0))).unwrap();
    assert_eq!(four.bucket_named("carts").unwrap().ttl_ms, None);
    let five = step(&four, &delete("carts")).unwrap();
    assert!(five.bucket_named("carts").is_none());
    let six = step(&five, &create("carts")).unwrap();
    assert_eq!(six.bucket_named("carts").unwrap().number, 3);
    assert_eq!(
        (six.epoch, six.table.epoch),
        (7, 1),
        "no key changes owners"
    );
}

#[test]
fn what_cannot_be_is_refused_and_says_why() {
    let view = first(3);
    let conflict = |command| match step(&view, &command) {
        Err(Objection::Conflict(why)) => why,
        other => panic!("{other:?}"),
    };
    assert!(conflict(create("default")).contains("already"));
    assert!(conflict(delete("carts")).contains("no bucket `carts`"));
    assert!(conflict(set("carts", None)).contains("no bucket `carts`"));
    let other = SetBucket {
        name: "default".into(),
        number: Some(9),
        ..SetBucket::default()
    };
    assert!(conflict(BucketCommand::Set(other)).contains("any more"));
    let invalid = |bucket: Bucket| match step(&view, &BucketCommand::Create(bucket)) {
        Err(Objection::Invalid(why)) => why,
        other => panic!("{other:?}"),
    };
    let new = Bucket::new(0, "new");
    let many = Bucket {
        replicas: 4,
        ..new.clone()
    };
    assert!(invalid(many).contains("at most 3"));
    let lazy = Bucket {
        mode: Mode::Strong,
        durability: Durability::Async,
        ..new.clone()
    };
    assert!(invalid(lazy).contains("durability"));
    assert!(invalid(Bucket::new(0, &"n".repeat(65))).contains("65 bytes"));
    let unknown = step(&view, &BucketCommand::Unknown);
    assert!(matches!(unknown, Err(Objection::Invalid(_))));
}

#[test]
fn a_record_follows_one_epoch_only() {
    let view = first(3);
    let sound = propose(&view, ChangeId::default(), &create("a")).unwrap();
    let fork = EpochRecord {
        before: EpochHash([9; 16]),
        ..sound.clone()
    };
    assert_eq!(apply(&view, &fork), Err(ApplyError::Fork(2)));
    let gap = EpochRecord {
        number: 3,
        ..sound.clone()
    };
    assert_eq!(
        apply(&view, &gap),
        Err(ApplyError::Gap { found: 3, here: 1 })
    );
    let unsound = |record: EpochRecord| match apply(&view, &record) {
        Err(ApplyError::Unsound { why, .. }) => why,
        other => panic!("{other:?}"),
    };
    let same = EpochRecord {
        keepers: Vec::new(),
        ..sound.clone()
    };
    assert_eq!(apply(&view, &same).unwrap().tip.keepers, view.tip.keepers);
    for keepers in [vec![1, 2], vec![1, 1, 2], vec![9]] {
        let keepers = keepers.into_iter().map(NodeId).collect();
        let record = EpochRecord {
            keepers,
            ..sound.clone()
        };
        assert!(unsound(record).contains("keeper"));
    }
    for change in [
        BucketChange::Created(Bucket::new(1, "again")),
        BucketChange::Created(Bucket::new(3, "skips")),
        BucketChange::Created(Bucket::new(2, "default")),
        BucketChange::Deleted(BucketGone { number: 2 }),
        BucketChange::Unknown,
    ] {
        let record = EpochRecord {
            buckets: vec![change],
            ..sound.clone()
        };
        unsound(record);
    }
}

#[test]
fn chains_are_compared_by_what_they_hold() {
    let of = |generation, number, hash| Point {
        generation,
        number,
        hash: EpochHash([hash; 16]),
    };
    let point = |number, hash| of(1, number, hash);
    let here = |number| Some(EpochHash([number as u8; 16]));
    let newest = point(5, 5);
    let check = |theirs, expected| {
        assert_eq!(relation(newest, 3, theirs, here), expected, "{theirs:?}");
    };
    check(point(5, 5), Relation::Same);
    check(point(5, 9), Relation::Fork);
    check(point(6, 9), Relation::Ahead);
    check(point(4, 4), Relation::Behind);
    check(point(4, 9), Relation::Fork);
    check(point(2, 2), Relation::Behind);
    check(of(0, 4, 4), Relation::Behind);
    check(of(0, 4, 9), Relation::Abandoned);
    check(of(0, 9, 9), Relation::Abandoned);
    check(of(2, 4, 9), Relation::Ahead);
}

/// A command out of a few numbers.
fn command((kind, name, ttl): (u8, u8, u8)) -> BucketCommand {
    let name = format!("b{name}");
    match kind {
        0 | 1 => BucketCommand::Create(Bucket {
            replicas: 1 + ttl % 3,
            mode: if ttl % 2 == 0 {
                Mode::Lww
            } else {
                Mode::Siblings
            },
            ..Bucket::new(u32::from(ttl), &name)
        }),
        2 => BucketCommand::Set(SetBucket {
            name,
            number: None,
            read_level: (ttl % 2 == 0).then_some(Level::One),
            write_level: (ttl % 3 == 0).then_some(Level::All),
            ttl_ms: (ttl % 5 > 0).then_some(u64::from(ttl)),
        }),
        _ => delete(&name),
    }
}

proptest! {
    #[test]
    fn whatever_is_asked_for_the_rules_hold(
        commands in prop::collection::vec((0u8..4, 0u8..4, any::<u8>()), 1..40)
    ) {
        let mut view = first(3);
        let mut numbers = BTreeSet::from([1]);
        for command in commands.into_iter().map(command) {
            let Ok(next) = step(&view, &command) else { continue };
            prop_assert_eq!(next.validate(), Ok(()));
            for bucket in &next.buckets {
                match view.bucket(bucket.number) {
                    // What never changes has not changed.
                    Some(before) => {
                        let as_before = Bucket {
                            read_level: before.read_level,
                            write_level: before.write_level,
                            ttl_ms: before.ttl_ms,
                            ..bucket.clone()
                        };
                        prop_assert_eq!(&as_before, before);
                    }
                    None => prop_assert!(numbers.insert(bucket.number), "{} again", bucket.number),
                }
            }
            prop_assert_eq!(&next.table, &view.table);
            prop_assert_eq!(&next.members, &view.members);
            view = next;
        }
    }
}

#[test]
fn receipts_are_asked_of_the_new_keepers_before_the_old_ones_vote() {
    let view = first(5);
    let heir = NodeId(5);
    let proposer = |keepers| {
        let own = EpochRecord {
            number: view.epoch + 1,
            before: view.tip.hash,
            keepers,
            ..EpochRecord::default()
        };
        Proposer::new(&view, own.encode(), Ballot::default())
    };
    let asked = |effects: Vec<Effect>| -> Vec<Question> {
        let question = |effect| match effect {
            Effect::Ask(question, _) => Some(question),
            _ => None,
        };
        effects.into_iter().filter_map(question).collect()
    };
    let nodes = |asked: &[Question]| asked.iter().map(|q| q.node).collect::<Vec<_>>();
    let receipts = asked(proposer(Vec::new()).start());
    assert_eq!(
        nodes(&receipts),
        view.tip.keepers,
        "none are named: they stay"
    );
    let mut proposer = proposer(vec![heir]);
    let receipts = asked(proposer.start());
    assert_eq!(nodes(&receipts), [heir]);
    let votes = asked(proposer.handle_answer(receipts[0], ChainAnswer::Holds(view.point())));
    assert_eq!(nodes(&votes), view.tip.keepers);
}
