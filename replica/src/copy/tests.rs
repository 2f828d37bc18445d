//! Four servers, of which 1, 2 and 3 own the one partition of a ring, which 4 is to own in place of
//! 3.

mod emptying;
mod handover;

use super::empty::Emptier;
use super::*;
use crate::holdings::Holdings;
use crate::memory::MemoryStore;
use crate::rules::{Moment, Mutation, Replica};
use crate::store::{Change, Family};
use crate::testing::{opened, three_of_four};
use annulet_protocol::ballot::Ballot;
use annulet_protocol::bucket::{Bucket, Mode};
use annulet_protocol::clock::Stamp;
use annulet_protocol::ids::{Incarnation, OpId};
use annulet_protocol::message::{Operation, Read, RefusalKind, Source, Write};
use annulet_protocol::record::{Origin, Record};
use annulet_protocol::register::message::Prepare;

const NOW_MS: u64 = 1_000_000;
const LWW: u32 = 1;
const STRONG: u32 = 2;
const NARROW: u32 = 3;

struct Cluster {
    view: View,
    servers: Vec<(Replica, MemoryStore)>,
    unready: Vec<Holding>,
}

fn view() -> View {
    let bucket = |number, name: &str, mode, replicas| Bucket {
        mode,
        replicas,
        ..Bucket::new(number, name)
    };
    three_of_four(vec![
        bucket(LWW, "lww", Mode::Lww, 3),
        bucket(STRONG, "strong", Mode::Strong, 3),
        bucket(NARROW, "narrow", Mode::Lww, 2),
    ])
}

impl Cluster {
    fn new() -> Self {
        let server = |id: u64| {
            let replica = Replica::new(NodeId(id), Incarnation([id as u8; 16]));
            (replica, MemoryStore::default())
        };
        Self {
            view: view(),
            servers: (1..=4).map(server).collect(),
            unready: Vec::new(),
        }
    }

    /// The next epoch gives the partition this next list.
    fn open(&mut self, next: &[u32]) {
        self.view = opened(&self.view, next);
    }

    fn moment(&self) -> Moment<'_> {
        Moment {
            now_ms: NOW_MS,
            stamp: Stamp::at(NOW_MS),
            clock_trusted: true,
            disk_full: false,
            view: &self.view,
            unready: &self.unready,
        }
    }

    fn decide(&self, server: usize, mutations: &[Mutation]) -> Vec<Answer> {
        let (replica, store) = &self.servers[server - 1];
        let with_epoch = mutations.iter().map(|m| (self.view.epoch, m));
        let decided = replica.decide(store, self.moment(), with_epoch).unwrap();
        store.write(decided.batch).unwrap();
        decided.answers
    }

    fn put(&self, server: usize, bucket: u32, key: &str, value: Option<&str>) {
        let op = OpId {
            client: Incarnation([9; 16]),
            sequence: 1,
            first_sent_ms: NOW_MS,
        };
        let stamp = Stamp::at(NOW_MS);
        let origin = Origin { stamp, op };
        let value = value.map(|value| Bytes::copy_from_slice(value.as_bytes()));
        let write = Write {
            bucket,
            key: Bytes::copy_from_slice(key.as_bytes()),
            source: Source::Repair,
            record: Record::seal(bucket, key.as_bytes(), origin, value, None),
            gone: false,
        };
        let answers = self.decide(server, &[Mutation::Write(write)]);
        assert!(matches!(answers[..], [Answer::Written(_)]), "{answers:?}");
    }

    fn prepare(&self, server: usize, key: &str, number: u64) -> Answer {
        let prepare = Prepare {
            bucket: STRONG,
            key: Bytes::copy_from_slice(key.as_bytes()),
            ballot: Ballot {
                number,
                proposer: Incarnation([8; 16]),
            },
            value_bytes_max: 0,
        };
        let answers = self.decide(server, &[Mutation::Prepare(prepare)]);
        answers.into_iter().next().unwrap()
    }

    fn found(&self, server: usize, bucket: u32, key: &str) -> Answer {
        let (replica, store) = &self.servers[server - 1];
        let read = Read::new(bucket, Bytes::copy_from_slice(key.as_bytes()));
        let read = replica.read(store, self.moment(), [(self.view.epoch, &read)]);
        read.answers.into_iter().next().unwrap()
    }

    fn ask(&self, errand: &Errand) -> Answer {
        let (replica, store) = &self.servers[errand.owner.0 as usize - 1];
        let asked = [(self.view.epoch, &errand.asked)];
        let answers = replica.copy(store, self.moment(), asked).answers;
        answers.into_iter().next().unwrap()
    }

    fn next(&self, copier: &mut Copier, server: usize, now_ms: u64) -> Option<Errand> {
        let store = &self.servers[server - 1].1;
        let own = NodeId(server as u64);
        let mut next = copier.next(own, &self.unready, now_ms)?;
        next.compare(store, &self.view).unwrap();
        Some(next)
    }

    /// Takes a page. Gives how many entries came.
    fn take(&self, copier: &mut Copier, server: usize, errand: &Errand) -> usize {
        let Answer::Copied(page) = self.ask(errand) else {
            copier.handle_failure(errand);
            return 0;
        };
        let count = page.entries.len();
        let tasks = copier.handle_answer(errand, page);
        let mutations: Vec<_> = tasks.iter().cloned().map(Mutation::Task).collect();
        let answers = self.decide(server, &mutations);
        copier.handle_done(errand, &tasks, &answers);
        count
    }

    /// Copies all that a server is to own from those that answer. Gives how many entries came.
    fn copy(&self, copier: &mut Copier, server: usize) -> usize {
        copier.follow(&self.view, NodeId(server as u64));
        let mut count = 0;
        while let Some(errand) = self.next(copier, server, NOW_MS) {
            count += self.take(copier, server, &errand);
        }
        count
    }

    fn done(&self, copier: &Copier, server: usize) -> bool {
        !copier.done(&self.view, NodeId(server as u64)).is_empty()
    }
}

fn damaged(entry: &Bytes) -> Bytes {
    let mut entry = entry.to_vec();
    entry[9] ^= 1;
    entry.into()
}

#[test]
fn a_newcomer_has_all_that_a_majority_has_and_keeps_its_promises() {
    let mut cluster = Cluster::new();
    cluster.put(1, LWW, "a", Some("of one"));
    cluster.put(3, LWW, "b", None);
    let long = "x".repeat(10_000);
    cluster.put(2, LWW, "c", Some(&long));
    cluster.put(2, NARROW, "d", Some("not its own"));
    let promised = Stamp::at(NOW_MS).0 + 5;
    assert!(matches!(
        cluster.prepare(2, "s", promised),
        Answer::Promise(_)
    ));
    cluster.open(&[0, 1, 3]);
    let mut copier = Copier::default();
    assert!(!cluster.done(&copier, 4));
    assert!(cluster.copy(&mut copier, 4) >= 4);
    assert!(cluster.done(&copier, 4));
    for (key, value) in [("a", Some("of one")), ("b", None), ("c", Some(&long[..]))] {
        let Answer::Found(record) = cluster.found(4, LWW, key) else {
            panic!("`{key}` was not copied");
        };
        assert_eq!(record.value, value.unwrap_or_default(), "{key}");
    }
    let keys = cluster.servers[3].1.entries(Family::Records);
    assert!(
        keys.iter().all(|(key, _)| !key.ends_with(b"d")),
        "it has two owners"
    );
    let lower = cluster.prepare(4, "s", promised - 1);
    assert!(matches!(lower, Answer::Outbid(_)), "{lower:?}");
}

#[test]
fn an_owner_that_stays_is_sent_only_what_is_different() {
    let mut cluster = Cluster::new();
    for key in ["a", "b", "c"] {
        (1..=3).for_each(|server| cluster.put(server, LWW, key, Some("v")));
    }
    cluster.open(&[0, 1, 3]);
    let mut copier = Copier::default();
    assert_eq!(cluster.copy(&mut copier, 1), 0, "all have the same");
    assert!(cluster.done(&copier, 1));
    cluster.put(3, LWW, "d", Some("v"));
    let mut again = Copier::default();
    assert!(cluster.copy(&mut again, 1) > 0);
    assert!(matches!(cluster.found(1, LWW, "d"), Answer::Found(_)));
}

#[test]
fn a_majority_of_every_prefix_is_asked_and_who_is_away_is_waited_for() {
    let mut cluster = Cluster::new();
    cluster.put(1, LWW, "a", Some("v"));
    cluster.open(&[0, 3, 2]);
    let mut copier = Copier {
        failures_max: 2,
        ..Copier::default()
    };
    copier.follow(&cluster.view, NodeId(4));
    let mut failures = 0;
    for now_ms in (NOW_MS..).step_by(1_000).take(10) {
        let Some(errand) = cluster.next(&mut copier, 4, now_ms) else {
            break;
        };
        assert_eq!(cluster.next(&mut copier, 4, now_ms), None, "one at a time");
        assert!(
            !cluster.done(&copier, 4) || failures >= 2,
            "2 may still answer"
        );
        match errand.owner == NodeId(2) {
            true => copier.handle_failure(&errand),
            false => _ = cluster.take(&mut copier, 4, &errand),
        }
        failures += u32::from(errand.owner == NodeId(2));
    }
    assert!(failures > 2, "it is asked on and on");
    // Of the two owners of `narrow`, 1 and 2, both are a majority.
    assert!(!cluster.done(&copier, 4), "2 owns what has two owners");
    cluster
        .view
        .buckets
        .retain(|bucket| bucket.number != NARROW);
    assert!(cluster.done(&copier, 4));
}

#[test]
fn of_whom_the_loss_is_accepted_nobody_waits_and_a_majority_of_the_others_is_asked_still() {
    for (lost, others_do) in [(&[2][..], &[1, 3][..]), (&[1, 2], &[3])] {
        let mut cluster = Cluster::new();
        cluster.put(1, LWW, "a", Some("v"));
        cluster.open(&[0, 3, 2]);
        let mut copier = Copier {
            failures_max: 1,
            ..Copier::default()
        };
        copier.follow(&cluster.view, NodeId(4));
        let mut asked = BTreeSet::new();
        for now_ms in (NOW_MS..).step_by(1_000).take(12) {
            let Some(errand) = cluster.next(&mut copier, 4, now_ms) else {
                break;
            };
            match lost.contains(&errand.owner.0) {
                true => copier.handle_failure(&errand),
                false => _ = cluster.take(&mut copier, 4, &errand),
            }
            asked.insert(errand.owner.0);
        }
        assert_eq!(asked.len(), 3, "everybody is asked");
        assert!(!cluster.done(&copier, 4), "they may come back");
        for id in lost {
            cluster.view.members[*id as usize - 1].state = MemberState::Lost;
        }
        assert!(cluster.done(&copier, 4));
        // Those that are left are asked all the same.
        let set = |copier: &mut Copier, owner: u64, over: bool| {
            let mut jobs = copier.jobs.iter_mut();
            let known = jobs.find(|(job, _)| job.source == NodeId(owner));
            known.unwrap().1.over = over;
        };
        for other in others_do {
            set(&mut copier, *other, false);
            assert!(!cluster.done(&copier, 4), "{other} was not asked");
            set(&mut copier, *other, true);
        }
        // One that is back does not stand for one that is left.
        if let [other] = others_do {
            set(&mut copier, lost[0], true);
            set(&mut copier, *other, false);
            assert!(!cluster.done(&copier, 4), "{other} was not asked");
        }
    }
}

#[test]
fn only_those_who_act_under_the_very_lists_tell_and_take() {
    let mut cluster = Cluster::new();
    (1..=3).for_each(|server| cluster.put(server, LWW, "a", Some("v")));
    cluster.open(&[0, 1, 3]);
    let mut copier = Copier::default();
    copier.follow(&cluster.view, NodeId(4));
    let errand = cluster.next(&mut copier, 4, NOW_MS).unwrap();
    let Answer::Copied(page) = cluster.ask(&errand) else {
        panic!("it tells");
    };
    cluster.open(&[0, 3, 2]);
    let refused = |answer: &Answer| match answer {
        Answer::Refused(refusal) => refusal.kind,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&cluster.ask(&errand)), RefusalKind::StaleEpoch);
    let tasks = copier.handle_answer(&errand, page);
    let mutations: Vec<_> = tasks.iter().cloned().map(Mutation::Task).collect();
    let answers = cluster.decide(4, &mutations);
    assert_eq!(refused(&answers[0]), RefusalKind::StaleEpoch);
    let early = Errand {
        asked: CopyArc {
            since: cluster.view.epoch + 1,
            ..errand.asked.clone()
        },
        ..errand
    };
    assert_eq!(refused(&cluster.ask(&early)), RefusalKind::Behind);
}

#[test]
fn a_copy_goes_on_after_a_restart_and_over_a_doubling() {
    let mut cluster = Cluster::new();
    for number in 0..40 {
        cluster.put(1, LWW, &format!("key {number}"), Some(&"x".repeat(60_000)));
    }
    cluster.open(&[0, 1, 3]);
    let mut copier = Copier::default();
    copier.follow(&cluster.view, NodeId(4));
    let (errand, first) = loop {
        let errand = cluster.next(&mut copier, 4, NOW_MS).unwrap();
        let count = cluster.take(&mut copier, 4, &errand);
        if count > 0 {
            break (errand, count);
        }
    };
    assert_eq!(errand.owner, NodeId(1), "the others have nothing");
    assert!((2..40).contains(&first), "a page has an end: {first}");
    let states = copier.states(&cluster.view, NodeId(4));
    let [state] = states[..] else {
        panic!("{states:?}")
    };
    assert!((1..1_000_000).contains(&state.copied_ppm), "{state:?}");
    assert!(
        !state.over && state.since == cluster.view.epoch,
        "{state:?}"
    );
    assert_eq!(copier.states(&cluster.view, NodeId(3)), [], "it leaves");
    cluster.view.epoch += 1;
    cluster.view.table.halve();
    let mut copier = Copier::load(&cluster.servers[3].1).unwrap();
    let rest = cluster.copy(&mut copier, 4);
    assert_eq!(first + rest, 40);
    let states = copier.states(&cluster.view, NodeId(4));
    let whole = |state: &annulet_protocol::status::CopyState| state.copied_ppm == 1_000_000;
    assert!(states.len() == 2 && states.iter().all(whole), "{states:?}");
    assert!(states.iter().all(|state| state.over));
    assert_eq!(
        copier.done(&cluster.view, NodeId(4)).len(),
        2,
        "both halves"
    );
    cluster.view.epoch += 1;
    let epoch = cluster.view.epoch;
    for partition in 0..2 {
        cluster.view.table.settle(partition, true, epoch);
    }
    let stale = copier.follow(&cluster.view, NodeId(4));
    assert_eq!(
        stale.len(),
        6,
        "nothing is left of three owners of two halves"
    );
}

#[test]
fn what_was_gained_is_emptied_before_anything_is_answered_or_taken() {
    let mut cluster = Cluster::new();
    let before = cluster.view.clone();
    cluster.put(1, LWW, "a", Some("v"));
    cluster.open(&[0, 1, 3]);
    cluster.put(4, LWW, "of old", Some("v"));
    let gained = Holdings::between(&before, &cluster.view, NodeId(4));
    cluster.unready = gained.unready;
    let found = cluster.found(4, LWW, "of old");
    assert!(matches!(found, Answer::Refused(refusal) if refusal.kind == RefusalKind::Behind));
    let mut copier = Copier::default();
    assert_eq!(cluster.copy(&mut copier, 4), 0, "it waits");
    let store = &cluster.servers[3].1;
    let tasks = Emptier::default().step(store, &cluster.view, &cluster.unready);
    let mutations: Vec<_> = tasks.unwrap().into_iter().map(Mutation::Task).collect();
    cluster.decide(4, &mutations);
    cluster.unready.clear();
    assert!(matches!(cluster.found(4, LWW, "of old"), Answer::Absent(_)));
    assert_eq!(cluster.copy(&mut copier, 4), 1);
}

#[test]
fn what_does_not_lie_where_it_is_said_to_is_not_taken() {
    let mut cluster = Cluster::new();
    (1..=3).for_each(|server| cluster.put(server, LWW, "a", Some("v")));
    cluster.open(&[0, 1, 3]);
    let mut copier = Copier::default();
    copier.follow(&cluster.view, NodeId(4));
    let errand = cluster.next(&mut copier, 4, NOW_MS).unwrap();
    let Answer::Copied(mut page) = cluster.ask(&errand) else {
        panic!("it tells");
    };
    let mut key = page.entries[0].key.to_vec();
    key[7] ^= 1;
    page.entries[0].key = key.into();
    let tasks = copier.handle_answer(&errand, page);
    let mutations: Vec<_> = tasks.into_iter().map(Mutation::Task).collect();
    let answers = cluster.decide(4, &mutations);
    let Answer::Refused(refusal) = &answers[0] else {
        panic!("it was taken: {answers:?}");
    };
    assert_eq!(refusal.kind, RefusalKind::BadChecksum);
}

#[test]
fn a_page_of_which_something_was_refused_is_not_noted_as_copied() {
    let mut cluster = Cluster::new();
    for key in ["a", "b"] {
        (1..=3).for_each(|server| cluster.put(server, LWW, key, Some("v")));
    }
    cluster.open(&[0, 1, 3]);
    let mut copier = Copier::default();
    copier.follow(&cluster.view, NodeId(4));
    while let Some(errand) = cluster.next(&mut copier, 4, NOW_MS) {
        let Answer::Copied(mut page) = cluster.ask(&errand) else {
            panic!("it tells");
        };
        assert_eq!(page.reached, None, "it is the last page");
        assert_eq!(page.entries.len(), 2);
        page.entries[0].entry = damaged(&page.entries[0].entry);
        let tasks = copier.handle_answer(&errand, page);
        // What another page brings in the same batch, before and after, changes nothing.
        let sound = Mutation::Task(Task::Note {
            key: Bytes::from_static(b"another"),
            value: None,
            durable: false,
            rests_on: 0,
        });
        let own = tasks.iter().cloned().map(Mutation::Task);
        let mutations: Vec<_> = [sound.clone()]
            .into_iter()
            .chain(own)
            .chain([sound])
            .collect();
        let answers = cluster.decide(4, &mutations);
        copier.handle_done(&errand, &tasks, &answers[1..=tasks.len()]);
        assert!(!cluster.done(&copier, 4));
    }
    let mut copier = Copier::load(&cluster.servers[3].1).unwrap();
    copier.follow(&cluster.view, NodeId(4));
    assert!(!cluster.done(&copier, 4), "one of them was never taken");
    let taken = cluster.servers[3].1.entries(Family::Records);
    assert_eq!(taken.len(), 1, "the other one was");
    // Told once more, and well this time, it is taken.
    assert!(cluster.copy(&mut copier, 4) > 0);
    assert!(cluster.done(&copier, 4));
}

#[test]
fn what_is_left_of_an_earlier_time_is_no_answer_for_whoever_asks_every_server() {
    let mut cluster = Cluster::new();
    cluster.put(3, LWW, "a", Some("of old"));
    cluster.view.table.regions[0].set(0, &[0, 1, 3]);
    let (replica, store) = &cluster.servers[2];
    let read = Read {
        hinted: true,
        ..Read::new(LWW, "a".into())
    };
    let read = replica.read(store, cluster.moment(), [(cluster.view.epoch, &read)]);
    assert!(matches!(read.answers[..], [Answer::Absent(_)]), "{read:?}");
}
