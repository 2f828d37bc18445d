//! What server 3 has lost is handed over to those who own it now.

use super::super::handover::{Ended, Handover, Round};
use super::*;
use annulet_protocol::hash::storage_key;
use annulet_protocol::register::message::Learn;
use annulet_protocol::register::{Change as Turned, Condition, NewValue, Register, Turn};

const LOSER: NodeId = NodeId(3);
const LATER_MS: u64 = NOW_MS + 60_000;

/// The next epoch gives the partitions these lists. Gives what server 3 loses by that.
fn settle(cluster: &mut Cluster, lists: &[&[u32]]) -> Holdings {
    let before = cluster.view.clone();
    cluster.view.epoch += 1;
    let table = &mut cluster.view.table;
    for (partition, list) in (0..).zip(lists) {
        table.regions[0].set(partition, list);
    }
    table.epoch = cluster.view.epoch;
    Holdings::between(&before, &cluster.view, LOSER)
}

/// Begins a round at server 3.
fn begin(cluster: &Cluster, handover: &mut Handover, noted: &Holdings, now_ms: u64) -> Round {
    let store = &cluster.servers[2].1;
    let round = handover.round(store, &cluster.view, LOSER, noted, now_ms);
    round.unwrap().expect("there is something to do")
}

/// Asks the owners that are not silent, and goes on until the round is over.
fn carry_out(cluster: &Cluster, mut round: Round, silent: Option<NodeId>) -> Ended {
    let answer = |owner: NodeId, operation| match operation {
        Operation::Read(read) => {
            let (replica, store) = &cluster.servers[owner.0 as usize - 1];
            let asked = [(cluster.view.epoch, &read)];
            let mut read = replica.read(store, cluster.moment(), asked);
            read.answers.remove(0)
        }
        Operation::Write(write) => {
            let write = Mutation::Write(write);
            cluster.decide(owner.0 as usize, &[write]).remove(0)
        }
        other => panic!("{other:?}"),
    };
    loop {
        for (owner, operations) in round.questions().collect::<Vec<_>>() {
            if Some(owner) != silent {
                let operations = operations.into_iter();
                let answers: Vec<_> = operations.map(|asked| answer(owner, asked)).collect();
                round.take(owner, &answers);
            }
        }
        match round.end() {
            Ok(next) => round = next,
            Err(ended) => return ended,
        }
    }
}

/// Does at server 3 what a round came to.
fn conclude(cluster: &Cluster, handover: &mut Handover, ended: Ended, now_ms: u64) {
    let tasks = handover.handle_end(ended, now_ms);
    let mutations: Vec<_> = tasks.into_iter().map(Mutation::Task).collect();
    cluster.decide(3, &mutations);
}

#[test]
fn what_was_lost_is_brought_to_its_owners_before_it_goes() {
    let mut cluster = Cluster::new();
    (1..=3).for_each(|server| cluster.put(server, LWW, "a", Some("everywhere")));
    cluster.put(3, LWW, "b", Some("here alone"));
    let noted = settle(&mut cluster, &[&[0, 1, 3]]);
    let store = &cluster.servers[2].1;
    store.write(noted.notes()).unwrap();
    let mut handover = Handover::default();
    let round = begin(&cluster, &mut handover, &noted, NOW_MS);
    let ended = carry_out(&cluster, round, None);
    conclude(&cluster, &mut handover, ended, NOW_MS);
    for server in [1, 2, 4] {
        assert!(
            matches!(cluster.found(server, LWW, "b"), Answer::Found(_)),
            "{server}"
        );
    }
    assert!(store.entries(Family::Records).is_empty(), "it has gone");
    assert_eq!(Holdings::load(store).unwrap(), Holdings::default());
}

#[test]
fn what_nobody_takes_stays() {
    let mut cluster = Cluster::new();
    cluster.put(3, LWW, "b", Some("here alone"));
    let noted = settle(&mut cluster, &[&[0, 1, 3]]);
    let mut handover = Handover::default();
    let round = begin(&cluster, &mut handover, &noted, NOW_MS);
    let ended = round.end().unwrap_err();
    assert_eq!(handover.handle_end(ended, NOW_MS), []);
    let store = &cluster.servers[2].1;
    let pause = handover.round(store, &cluster.view, LOSER, &noted, NOW_MS + 1);
    assert!(pause.unwrap().is_none());
    begin(&cluster, &mut handover, &noted, LATER_MS);
}

#[test]
fn what_was_lost_once_more_meanwhile_is_looked_at_once_more() {
    let mut cluster = Cluster::new();
    let noted = settle(&mut cluster, &[&[0, 1, 3]]);
    let store = &cluster.servers[2].1;
    store.write(noted.notes()).unwrap();
    let mut handover = Handover::default();
    let mut pass = |cluster: &Cluster| {
        let round = begin(cluster, &mut handover, &noted, NOW_MS);
        let tasks = handover.handle_end(round.end().unwrap_err(), NOW_MS);
        tasks.into_iter().map(Mutation::Task).collect::<Vec<_>>()
    };
    let tasks = pass(&cluster);
    // It was gained and lost again before the tasks were done.
    let mut later = Cluster::new();
    later.view = cluster.view.clone();
    later.view.epoch += 2;
    later.view.table.epoch = later.view.epoch;
    let decide = |view: &Cluster, tasks: &[Mutation]| {
        let with_epoch = tasks.iter().map(|task| (view.view.epoch, task));
        let decided = cluster.servers[2]
            .0
            .decide(store, view.moment(), with_epoch);
        store.write(decided.unwrap().batch).unwrap();
    };
    decide(&later, &tasks);
    assert_eq!(Holdings::load(store).unwrap(), noted);
    let tasks = pass(&later);
    decide(&later, &tasks);
    assert_eq!(Holdings::load(store).unwrap(), Holdings::default());
}

#[test]
fn a_round_is_bounded_by_what_lies_apart_too() {
    let mut cluster = Cluster::new();
    let long = "x".repeat(1 << 20);
    let keys: Vec<_> = (0..10).map(|number| format!("key {number}")).collect();
    for key in &keys {
        cluster.put(3, LWW, key, Some(&long));
    }
    cluster.put(3, LWW, "short", Some("v"));
    let noted = settle(&mut cluster, &[&[0, 1, 3]]);
    let store = &cluster.servers[2].1;
    store.write(noted.notes()).unwrap();
    let mut handover = Handover::default();
    let mut rounds = 0;
    while Holdings::load(store).unwrap() == noted {
        let round = begin(&cluster, &mut handover, &noted, NOW_MS);
        for (owner, operations) in round.questions() {
            assert!(operations.len() <= 2, "{owner} is asked {operations:?}");
        }
        rounds += 1;
        let ended = carry_out(&cluster, round, None);
        conclude(&cluster, &mut handover, ended, NOW_MS);
    }
    assert!((10..=12).contains(&rounds), "{rounds} rounds");
    for key in keys.iter().map(String::as_str).chain(["short"]) {
        assert!(matches!(cluster.found(4, LWW, key), Answer::Found(_)));
    }
    assert!(store.entries(Family::Records).is_empty());
}

#[test]
fn what_is_damaged_holds_nothing_else_up() {
    let long = "x".repeat(10_000);
    let probe = Cluster::new();
    probe.put(3, LWW, "b", Some("v"));
    let length = probe.servers[2].1.entries(Family::Records)[0].1.len();
    // A byte of a record, or of a value that lies apart.
    let bytes = (0..length).map(|at| (Family::Records, at, "v"));
    for (family, at, value) in bytes.chain([(Family::Values, 9, &long[..])]) {
        let mut cluster = Cluster::new();
        cluster.put(3, LWW, "b", Some(value));
        let store = &cluster.servers[2].1;
        let (key, entry) = store.entries(family).remove(0);
        let mut entry = entry.to_vec();
        entry[at] ^= 1;
        let damage = Change::Put(family, key.clone(), entry.into());
        store.write(vec![damage]).unwrap();
        for healthy in ["a", "c"] {
            cluster.put(3, LWW, healthy, Some("v"));
        }
        let noted = settle(&mut cluster, &[&[0, 1, 3]]);
        let store = &cluster.servers[2].1;
        store.write(noted.notes()).unwrap();
        let mut handover = Handover::default();
        let round = begin(&cluster, &mut handover, &noted, NOW_MS);
        assert_eq!(round.damaged(), std::slice::from_ref(&key), "byte {at}");
        let ended = carry_out(&cluster, round, None);
        conclude(&cluster, &mut handover, ended, NOW_MS);
        for healthy in ["a", "c"] {
            assert!(matches!(cluster.found(4, LWW, healthy), Answer::Found(_)));
        }
        let left = store.entries(Family::Records).into_iter();
        assert_eq!(left.map(|(key, _)| key).collect::<Vec<_>>(), [key]);
        assert_eq!(Holdings::load(store).unwrap(), Holdings::default());
    }
}

#[test]
fn an_arc_that_nobody_takes_holds_no_other_one_up() {
    let mut cluster = Cluster::new();
    cluster.view.table.halve();
    for partition in 0..2 {
        cluster.view.table.regions[0].set(partition, &[2, 0, 1]);
    }
    let key_in = |partition| {
        let names = (0..).map(|number: u32| format!("key {number}"));
        let lies = |name: &String| {
            let hash = cluster.view.hash(NARROW, name.as_bytes());
            hash.partition(2) == partition
        };
        names.into_iter().find(lies).unwrap()
    };
    let keys = [key_in(0), key_in(1)];
    keys.iter()
        .for_each(|key| cluster.put(3, NARROW, key, Some("v")));
    // What has two owners is now of 4 and 1 in the first half, and of 2 and 1 in the second.
    let noted = settle(&mut cluster, &[&[3, 0, 1], &[1, 0, 3]]);
    assert_eq!(noted.lost.len(), 2, "{noted:?}");
    let store = &cluster.servers[2].1;
    store.write(noted.notes()).unwrap();
    let mut handover = Handover::default();
    for now_ms in [NOW_MS, NOW_MS + 10_000] {
        let noted = Holdings::load(store).unwrap();
        let round = begin(&cluster, &mut handover, &noted, now_ms);
        let ended = carry_out(&cluster, round, Some(NodeId(4)));
        conclude(&cluster, &mut handover, ended, now_ms);
    }
    let found = cluster.found(2, NARROW, &keys[1]);
    assert!(matches!(found, Answer::Found(_)), "{found:?}");
    let hash = cluster.view.hash(NARROW, keys[0].as_bytes());
    let stuck = storage_key(hash, NARROW, keys[0].as_bytes());
    let left = store.entries(Family::Records).into_iter();
    assert_eq!(left.map(|(key, _)| key).collect::<Vec<_>>(), [stuck]);
    // It is tried again, and goes as soon as it can.
    let noted = Holdings::load(store).unwrap();
    assert_eq!(noted.lost.len(), 1);
    let round = begin(&cluster, &mut handover, &noted, LATER_MS);
    let ended = carry_out(&cluster, round, None);
    conclude(&cluster, &mut handover, ended, LATER_MS);
    assert!(matches!(
        cluster.found(4, NARROW, &keys[0]),
        Answer::Found(_)
    ));
    assert_eq!(Holdings::load(store).unwrap(), Holdings::default());
}

#[test]
fn who_was_given_up_brings_its_records_but_nothing_that_was_decided_by_ballots() {
    let mut cluster = Cluster::new();
    cluster.put(3, LWW, "b", Some("here alone"));
    let ballot = Ballot {
        number: 9,
        proposer: Incarnation([8; 16]),
    };
    let turn = Turn {
        ballot,
        op: OpId {
            client: Incarnation([9; 16]),
            sequence: 1,
            first_sent_ms: NOW_MS,
        },
        since: None,
        now_ms: NOW_MS,
    };
    let change = Turned::Set {
        value: Bytes::from_static(b"older"),
        expires_at_ms: None,
        condition: Condition::Always,
    };
    let changed = Register::unwritten(STRONG, b"s").change((STRONG, b"s"), &turn, &change);
    let NewValue::Is(value) = changed.value else {
        panic!("it was set");
    };
    let learn = Mutation::Learn(Box::new(Learn {
        bucket: STRONG,
        key: Bytes::from_static(b"s"),
        ballot,
        head: changed.register.head,
        log: changed.register.log,
        value,
    }));
    let answers = cluster.decide(3, &[learn]);
    assert!(matches!(answers[..], [Answer::Written(_)]), "{answers:?}");
    cluster.view.members[2].state = MemberState::Lost;
    let noted = settle(&mut cluster, &[&[0, 1, 3]]);
    let store = &cluster.servers[2].1;
    store.write(noted.notes()).unwrap();
    let mut handover = Handover::default();
    let round = begin(&cluster, &mut handover, &noted, NOW_MS);
    // No owner is asked about a register, nor sent one: that would not be answered here.
    let ended = carry_out(&cluster, round, None);
    conclude(&cluster, &mut handover, ended, NOW_MS);
    for server in [1, 2, 4] {
        let found = cluster.found(server, LWW, "b");
        assert!(matches!(found, Answer::Found(_)), "{server}: {found:?}");
    }
    assert!(store.entries(Family::Records).is_empty(), "it has gone");
    assert_eq!(Holdings::load(store).unwrap(), Holdings::default());
}
