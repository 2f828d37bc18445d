//! Operations on a key of a siblings bucket with the owners 1, 2 and 3, whose servers are played by
//! records; see [`testing`](super::super::testing).

use super::delete::SiblingsDelete;
use super::put::{PutDone, SiblingsPut};
use super::read::{SiblingsDone, SiblingsRead};
use super::resolve::Resolution;
use crate::core::Coordinator;
use crate::core::client::Core;
use crate::core::testing::*;
use crate::error::{ErrorKind, Outcome};
use annulet_protocol::bucket::Mode;
use annulet_protocol::clock::Stamp;
use annulet_protocol::ids::{Incarnation, NodeId, OpId};
use annulet_protocol::level::Level;
use annulet_protocol::message::{Absent, Answer, Operation, RefusalKind};
use annulet_protocol::siblings::merges::Merge;
use annulet_protocol::siblings::message::{Found, Mint, Minted};
use annulet_protocol::siblings::{Actor, Siblings, Write};
use annulet_protocol::table::RegionTable;
use annulet_protocol::view::{Member, View};
use annulet_ring::quorum::Side;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;

const LONG: usize = 5_000;

fn siblings_core(wide: bool, merge: Option<Merge>) -> Core {
    let base = if wide { wide_view() } else { view(1) };
    let mut view = View::clone(&base);
    view.buckets[0].mode = Mode::Siblings;
    view.buckets[0].merge = merge;
    view.value_bytes_max = 10_000;
    core_of(Arc::new(view))
}

fn value(sequence: u64, value: impl Into<Bytes>, expires_at_ms: Option<u64>) -> Write {
    let op = OpId {
        client: Incarnation([9; 16]),
        sequence,
        first_sent_ms: WALL_MS,
    };
    Write::seal(BUCKET, KEY, op, value.into(), expires_at_ms)
}

/// Mints a value at a node, in this record.
fn mint(record: &mut Siblings, node: u64, context: &Siblings, write: Write, again: bool) {
    let actor = Actor {
        node: NodeId(node),
        incarnation: Incarnation([node as u8; 16]),
        tenure: 1,
    };
    let put = record.put(
        context,
        (write, again),
        (actor, Stamp::at(WALL_MS)),
        1 << 20,
    );
    put.expect("it is not too much");
}

/// A record with these values, each minted at the node of its number.
fn record(values: &[(u64, &'static str)]) -> Siblings {
    let mut record = Siblings::default();
    let nothing = Siblings::default();
    for (node, text) in values {
        mint(
            &mut record,
            *node,
            &nothing,
            value(*node, *text, None),
            false,
        );
    }
    record
}

fn whole(record: &Siblings) -> Answer {
    Answer::Siblings(Found {
        record: record.seal(BUCKET, KEY),
        bare: false,
    })
}

fn bare(record: &Siblings) -> Answer {
    Answer::Siblings(Found {
        record: record.bare().seal(BUCKET, KEY),
        bare: true,
    })
}

const ABSENT: Answer = Answer::Absent(Absent { floor: Stamp(0) });

fn reading(level: Level, merge: Option<Merge>, head_only: bool) -> Rig<SiblingsRead> {
    let mut core = siblings_core(false, merge);
    let start = begin(&mut core, Side::Read, level);
    let machine = SiblingsRead::new(start, head_only).expect("a sound read");
    Rig::new(core, machine)
}

fn putting(level: Level, wide: bool, context: Bytes) -> Rig<SiblingsPut> {
    let mut core = siblings_core(wide, None);
    let start = begin(&mut core, Side::Write, level);
    let write = Write::seal(BUCKET, KEY, start.op, "mine".into(), None);
    let machine = SiblingsPut::put(start, write, context).expect("a sound put");
    Rig::new(core, machine)
}

fn deleting(level: Level) -> Rig<SiblingsDelete> {
    let mut core = siblings_core(false, None);
    let start = begin(&mut core, Side::Write, level);
    let machine = SiblingsDelete::delete(start, None).expect("a sound delete");
    Rig::new(core, machine)
}

fn shown(rig: &Rig<SiblingsRead>) -> Option<SiblingsDone> {
    let done = rig.done.clone()?;
    Some(done.expect("a success"))
}

fn texts(done: &SiblingsDone) -> Vec<Bytes> {
    let values = done.values.iter();
    values.map(|one| one.write.value.clone()).collect()
}

fn error<C: Coordinator>(rig: &Rig<C>) -> Option<(ErrorKind, Option<Outcome>)> {
    let error = rig.done.as_ref()?.as_ref().err()?;
    Some((error.kind(), error.outcome()))
}

/// What the message of this index asks to be minted.
fn minting<C: Coordinator>(rig: &Rig<C>, index: usize) -> Mint {
    match &rig.sent[index].operation {
        Operation::Mint(mint) => mint.clone(),
        other => panic!("message {index} is {other:?}"),
    }
}

/// A node mints what it was asked for last, and answers.
fn minted_by(rig: &mut Rig<SiblingsPut>, node: u64, record: &mut Siblings) {
    let asked = rig.sent.iter().rposition(|send| send.node == NodeId(node));
    let asked = minting(rig, asked.expect("it was asked"));
    let context = match asked.context.is_empty() {
        true => Siblings::default(),
        false => Siblings::unseal(BUCKET, KEY, &asked.context).expect("a sound context"),
    };
    let op = asked.write.op;
    mint(record, node, &context, asked.write, asked.again);
    let answer = Answer::Minted(Minted {
        record: record.seal_without(BUCKET, KEY, &op),
    });
    rig.answer(node, answer);
}

/// The record that a message of this index brings.
fn brought<C: Coordinator>(rig: &Rig<C>, index: usize) -> Siblings {
    match &rig.sent[index].operation {
        Operation::Merge(merge) => {
            Siblings::unseal(BUCKET, KEY, &merge.record).expect("a sound record")
        }
        other => panic!("message {index} is {other:?}"),
    }
}

#[test]
fn a_read_gives_all_concurrent_values_and_writes_them_back() {
    let mut rig = reading(Level::Quorum, None, false);
    let nodes = [rig.sent[0].node.0, rig.sent[1].node.0];
    let (left, right) = (record(&[(1, "a")]), record(&[(2, "b")]));
    rig.answer(nodes[0], whole(&left));
    rig.answer(nodes[1], whole(&right));
    assert_eq!(rig.done, None, "one of them may be gone with its one owner");
    assert_eq!(brought(&rig, 2), left.merge(&right));
    for node in nodes {
        rig.answer(node, WRITTEN);
    }
    let done = shown(&rig).expect("it is done");
    assert_eq!(texts(&done), ["a", "b"]);
    assert_eq!((done.merged.clone(), done.live), (None, true));
    let context = Siblings::unseal(BUCKET, KEY, &done.context).expect("a sound context");
    assert_eq!(context, left.merge(&right).context());
    let mut resolution = Resolution::new(done);
    assert_eq!(resolution.unmerged(), Some(vec!["a".into(), "b".into()]));
    resolution.merge("a and b".into());
    assert_eq!(resolution.unmerged(), None);
    assert_eq!(resolution.finish().merged, Some("a and b".into()));
}

#[test]
fn an_owner_that_does_not_take_what_others_have_has_still_shown_its_own() {
    let mut rig = reading(Level::Quorum, None, false);
    let nodes = [rig.sent[0].node.0, rig.sent[1].node.0];
    let (left, right) = (record(&[(1, "a")]), record(&[(2, "b")]));
    rig.answer(nodes[0], whole(&left));
    rig.answer(nodes[1], whole(&right));
    // Each is brought what the other has, and one does not say what became of it.
    rig.answer(nodes[1], Answer::Unknown);
    assert_eq!(
        brought(&rig, 4),
        left.merge(&right),
        "as the third owner is"
    );
    rig.answer(nodes[0], WRITTEN);
    rig.answer(rig.sent[4].node.0, WRITTEN);
    let done = shown(&rig).expect("two hold it");
    assert_eq!(texts(&done), ["a", "b"]);
}

#[test]
fn owners_that_agree_are_believed_at_once() {
    let mut rig = reading(Level::Quorum, None, false);
    let both = record(&[(1, "a"), (2, "b")]);
    for at in 0..2 {
        rig.answer(rig.sent[at].node.0, whole(&both));
    }
    assert_eq!(texts(&shown(&rig).expect("it is done")), ["a", "b"]);
    assert_eq!(rig.sent.len(), 2);
    let mut rig = reading(Level::All, None, false);
    for node in 1..=3 {
        rig.answer(node, ABSENT);
    }
    let done = shown(&rig).expect("it is done");
    assert_eq!((done.live, texts(&done).len()), (false, 0));
}

#[test]
fn long_values_come_from_one_owner_and_what_is_lacking_is_fetched() {
    let mut rig = reading(Level::Quorum, None, false);
    let nodes = [rig.sent[0].node.0, rig.sent[1].node.0];
    let nothing = Siblings::default();
    let long = |node: u64| {
        let mut record = Siblings::default();
        let bytes = vec![node as u8; LONG];
        mint(&mut record, node, &nothing, value(node, bytes, None), false);
        record
    };
    let (here, there) = (long(1), long(2));
    rig.answer(nodes[0], whole(&here));
    rig.answer(nodes[1], bare(&there));
    assert_eq!(rig.sent_since(2), [(nodes[1], "read")]);
    rig.answer(nodes[1], whole(&there));
    for node in nodes {
        rig.answer(node, WRITTEN);
    }
    assert_eq!(
        texts(&shown(&rig).expect("it is done")),
        [vec![1; LONG], vec![2; LONG]]
    );
    // Whoever has the same values need not send them.
    let mut rig = reading(Level::Quorum, None, false);
    rig.answer(nodes[0], whole(&here));
    rig.answer(nodes[1], bare(&here));
    assert_eq!(rig.sent.len(), 2);
    assert_eq!(texts(&shown(&rig).expect("it is done")), [vec![1; LONG]]);
}

#[test]
fn exists_reads_no_values_and_what_has_expired_is_not_there() {
    for (expires_at_ms, live) in [(Some(WALL_MS - 1), false), (Some(WALL_MS + 99), true)] {
        let mut over = Siblings::default();
        let nothing = Siblings::default();
        mint(&mut over, 1, &nothing, value(1, "v", expires_at_ms), false);
        let mut rig = reading(Level::Quorum, None, true);
        for at in 0..2 {
            rig.answer(rig.sent[at].node.0, bare(&over));
        }
        assert_eq!(shown(&rig).map(|done| done.live), Some(live));
        let mut rig = reading(Level::Quorum, None, false);
        for at in 0..2 {
            rig.answer(rig.sent[at].node.0, whole(&over));
        }
        let done = shown(&rig).expect("it is done");
        assert_eq!(texts(&done).len(), usize::from(live));
        let context = Siblings::unseal(BUCKET, KEY, &done.context);
        assert_eq!(
            context,
            Ok(over.context()),
            "it is overwritten all the same"
        );
    }
}

#[test]
fn a_merge_of_the_bucket_makes_one_value() {
    let mut rig = reading(Level::Quorum, Some(Merge::Max), false);
    for at in 0..2 {
        rig.answer(rig.sent[at].node.0, whole(&record(&[(1, "a"), (2, "b")])));
    }
    let done = shown(&rig).expect("it is done");
    assert_eq!(
        (texts(&done).len(), done.merged.clone()),
        (2, Some("b".into()))
    );
    assert_eq!(Resolution::new(done).unmerged(), None);
}

#[test]
fn a_damaged_record_counts_for_nothing() {
    let mut rig = reading(Level::Quorum, None, false);
    let nodes = [rig.sent[0].node.0, rig.sent[1].node.0];
    let good = record(&[(1, "a")]);
    let op = good.iter().next().expect("there is one").write.op;
    rig.answer(
        nodes[0],
        whole(&good.clone().with_value(&op, "other".into())),
    );
    assert_eq!(rig.sent.len(), 3, "another owner is asked");
    rig.answer(nodes[1], whole(&good));
    assert_eq!(rig.done, None);
    rig.answer(rig.sent[2].node.0, whole(&good));
    assert_eq!(texts(&shown(&rig).expect("it is done")), ["a"]);
}

#[test]
fn one_owner_mints_and_its_whole_record_goes_to_the_rest() {
    let mut rig = putting(Level::Quorum, false, Bytes::new());
    assert_eq!(rig.sent.len(), 1);
    assert!(!minting(&rig, 0).again);
    let minter = rig.sent[0].node.0;
    let mut stored = record(&[(5, "other")]);
    minted_by(&mut rig, minter, &mut stored);
    assert_eq!(rig.done, None, "it is durable at one owner");
    let others: Vec<_> = (1..=3).filter(|node| *node != minter).collect();
    let sent = [(others[0], "merge"), (others[1], "merge")];
    assert_eq!(rig.sent_since(1), sent);
    assert_eq!(brought(&rig, 1), stored);
    rig.answer(others[1], WRITTEN);
    let Some(Ok(PutDone {
        context, siblings, ..
    })) = rig.done.clone()
    else {
        panic!("it is done")
    };
    assert_eq!((context, siblings), (None, 2), "it hides no sibling");
    assert_eq!(rig.sent.len(), 3, "one owner may not have it");
    rig.answer(others[0], WRITTEN);
    assert_eq!(rig.sent_since(3), [(minter, "spread")]);
    let Operation::Spread(told) = &rig.sent[3].operation else {
        panic!("the minter is told")
    };
    let put = stored.sibling(&minting(&rig, 0).write.op);
    let dot = put.expect("it was put").minted[0].dot;
    assert_eq!(
        (told.incarnation, told.stamp),
        (dot.actor.incarnation, dot.stamp)
    );
    assert!(!rig.machine.is_finished());
    rig.answer(minter, WRITTEN);
    assert!(rig.machine.is_finished());
}

#[test]
fn a_minter_is_not_told_where_an_owner_is_away() {
    let mut rig = putting(Level::Quorum, false, Bytes::new());
    let minter = rig.sent[0].node.0;
    let mut stored = record(&[]);
    minted_by(&mut rig, minter, &mut stored);
    let others: Vec<_> = (1..=3).filter(|node| *node != minter).collect();
    rig.answer(others[1], WRITTEN);
    let sent = rig.sent.len();
    rig.pass(TIMEOUT_MS);
    let since = rig.sent_since(sent);
    assert!(since.iter().all(|(_, what)| *what != "spread"), "{since:?}");
    assert!(rig.machine.is_finished());
}

#[test]
fn a_value_that_stands_alone_comes_with_its_context() {
    let seen = record(&[(1, "a"), (2, "b")]);
    let mut rig = putting(Level::One, false, seen.context().seal(BUCKET, KEY));
    let minter = rig.sent[0].node.0;
    let mut stored = seen;
    minted_by(&mut rig, minter, &mut stored);
    let Some(Ok(done)) = rig.done.clone() else {
        panic!("one owner is enough")
    };
    assert_eq!(done.siblings, 1);
    let context = Siblings::unseal(BUCKET, KEY, &done.context.expect("it stands alone"));
    assert_eq!(context, Ok(stored.context()));
}

#[test]
fn another_owner_mints_the_same_operation_and_says_that_it_may_be_again() {
    let mut rig = putting(Level::Quorum, false, Bytes::new());
    let first = rig.sent[0].node.0;
    rig.respond(first, 1, Err(unanswered()));
    assert_eq!(rig.sent.len(), 2);
    let (before, second) = (minting(&rig, 0), minting(&rig, 1));
    assert_ne!(rig.sent[1].node.0, first);
    assert_eq!((second.write, second.again), (before.write, true));
    // A slow one is waited for no longer, and its late answer counts.
    let mut rig = putting(Level::Quorum, false, Bytes::new());
    rig.pass(TIMEOUT_MS / 3);
    assert_eq!(rig.sent.len(), 2);
    assert!(minting(&rig, 1).again);
    let late = rig.sent[0].node.0;
    minted_by(&mut rig, late, &mut Siblings::default());
    assert_eq!(rig.sent_since(2).len(), 2, "its record goes to the others");
}

#[test]
fn an_outcome_is_known_only_if_no_minter_can_have_taken_it() {
    for (failure, outcome) in [
        (Ok(refusal(RefusalKind::Conflict)), Outcome::NotApplied),
        (Ok(refusal(RefusalKind::TooLarge)), Outcome::NotApplied),
    ] {
        let mut rig = putting(Level::Quorum, false, Bytes::new());
        while rig.done.is_none() {
            let node = rig.sent.last().expect("one is asked").node.0;
            rig.respond(node, 1, failure.clone());
        }
        assert_eq!(error(&rig).map(|(_, outcome)| outcome), Some(Some(outcome)));
    }
    let mut rig = putting(Level::Quorum, false, Bytes::new());
    let first = rig.sent[0].node.0;
    rig.respond(first, 1, Err(unanswered()));
    let second = rig.sent[1].node.0;
    rig.respond(second, 1, Ok(refusal(RefusalKind::Conflict)));
    let unknown = (ErrorKind::Conflict, Some(Outcome::Unknown));
    assert_eq!(error(&rig), Some(unknown), "the first may have minted");
    // Minted, and then too few have taken it.
    let mut rig = putting(Level::All, false, Bytes::new());
    let minter = rig.sent[0].node.0;
    minted_by(&mut rig, minter, &mut Siblings::default());
    rig.pass(TIMEOUT_MS);
    assert_eq!(
        error(&rig),
        Some((ErrorKind::Timeout, Some(Outcome::Unknown)))
    );
}

#[test]
fn a_fallback_mints_where_no_owner_can_at_level_available_alone() {
    for (level, falls_back) in [(Level::Available, true), (Level::Quorum, false)] {
        let mut rig = putting(level, true, Bytes::new());
        for at in 0..3 {
            let node = rig.sent[at].node.0;
            rig.respond(node, 1, Err(not_sent()));
        }
        let fallback = rig.sent.get(3).map(|send| send.node.0);
        assert_eq!(fallback.is_some(), falls_back, "{level}");
        let Some(fallback) = fallback else { continue };
        let asked = minting(&rig, 3);
        assert_eq!((asked.owners.len(), asked.again), (3, true));
        minted_by(&mut rig, fallback, &mut Siblings::default());
        let Some(Ok(done)) = &rig.done else {
            panic!("it will be handed over")
        };
        assert_eq!(done.owners, 0);
        assert_eq!(rig.sent.len(), 7, "the owners are tried once more");
    }
}

/// A client of 24 servers in 8 partitions, of which the key's has owners 1, 2 and 3.
fn large_core() -> Core {
    let mut view = View::clone(siblings_core(true, None).view());
    let member = |id| Member {
        id: NodeId(id),
        ..view.members[0].clone()
    };
    view.members = (1..=24).map(member).collect();
    view.table.partitions = 8;
    let own = view.hash(BUCKET, KEY).partition(8);
    let first = |partition: u32| (partition + 8 - own) % 8 * 3;
    let owners = (0..8).flat_map(|partition| first(partition)..first(partition) + 3);
    view.table.regions[0] = RegionTable::new("", 3, 24, owners);
    view.validate().expect("a sound view");
    core_of(Arc::new(view))
}

#[test]
fn a_put_at_level_available_is_taken_by_whichever_server_can_be_reached() {
    let mut core = large_core();
    let start = begin(&mut core, Side::Write, Level::Available);
    let write = Write::seal(BUCKET, KEY, start.op, "mine".into(), None);
    let put = SiblingsPut::put(start, write, Bytes::new()).expect("a sound put");
    let mut rig = Rig::new(core, put);
    let mut tried = BTreeSet::new();
    while tried.len() < 23 {
        assert!(
            rig.done.is_none(),
            "{} were tried: {:?}",
            tried.len(),
            rig.done
        );
        let node = rig.sent.last().expect("somebody is asked").node.0;
        tried.insert(node);
        rig.respond(node, 1, Err(not_sent()));
    }
    let last = rig.sent.last().expect("somebody is asked").node.0;
    assert!(!tried.contains(&last), "each once");
    minted_by(&mut rig, last, &mut Siblings::default());
    assert!(matches!(rig.done, Some(Ok(_))));
}

#[test]
fn a_new_view_starts_a_put_over_with_the_same_operation() {
    let mut rig = putting(Level::Quorum, false, Bytes::new());
    let node = rig.sent[0].node.0;
    rig.respond(node, 2, Ok(refusal(RefusalKind::StaleEpoch)));
    assert_eq!(rig.wanted, Some(2));
    let mut newer = View::clone(&view(2));
    newer.buckets[0].mode = Mode::Siblings;
    rig.view(&Arc::new(newer));
    let again = rig.sent.last().expect("it starts over").clone();
    assert_eq!(again.epoch, 2);
    let asked = minting(&rig, rig.sent.len() - 1);
    assert_eq!(asked.write, minting(&rig, 0).write);
}

#[test]
fn a_delete_without_a_context_reads_first_and_writes_what_it_saw() {
    let mut rig = deleting(Level::One);
    assert_eq!(rig.sent.len(), 2, "at a quorum");
    let stored = record(&[(1, "a"), (2, "b")]);
    for at in 0..2 {
        rig.answer(rig.sent[at].node.0, bare(&stored));
    }
    let sent = [(1, "merge"), (2, "merge"), (3, "merge")];
    assert_eq!(rig.sent_since(2), sent);
    assert_eq!(brought(&rig, 2), stored.context());
    rig.answer(1, WRITTEN);
    assert!(matches!(rig.done, Some(Ok(_))));

    let mut rig = deleting(Level::Quorum);
    for at in 0..2 {
        rig.answer(rig.sent[at].node.0, ABSENT);
    }
    assert!(matches!(rig.done, Some(Ok(_))));
    assert_eq!(rig.sent.len(), 2, "nothing seen, nothing written");
}

#[test]
fn a_context_of_another_key_is_refused_before_anything_is_sent() {
    let mut core = siblings_core(false, None);
    let other = record(&[(1, "a")]).context().seal(BUCKET, b"another");
    for context in [other, Bytes::from("nonsense")] {
        let start = begin(&mut core, Side::Write, Level::Quorum);
        let write = Write::seal(BUCKET, KEY, start.op, "mine".into(), None);
        let refused = SiblingsPut::put(start.clone(), write, context.clone());
        let error = refused.expect_err("it is no context of the key");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.outcome(), Some(Outcome::NotApplied));
        assert!(super::delete::under(start, context).is_err());
    }
}

#[test]
fn a_new_view_with_the_same_owners_changes_nothing() {
    let mut rig = putting(Level::Quorum, false, Bytes::new());
    let node = rig.sent[0].node.0;
    let mut newer = View::clone(&grown_view());
    newer.buckets[0].mode = Mode::Siblings;
    rig.view(&Arc::new(newer));
    assert_eq!(rig.sent.len(), 1);
    minted_by(&mut rig, node, &mut Siblings::default());
    assert_eq!(rig.sent.len(), 3, "it is sent on");
}
