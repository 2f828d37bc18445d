//! Digests, hedges, trials, and what is given up.

use super::*;
use crate::core::client::{Heard, Home};
use annulet_protocol::ids::Incarnation;
use annulet_protocol::message::Load;

/// A client that has had so many answers, each after this time.
fn practised(took_us: u64) -> Core {
    let mut core = core();
    for n in 0..300 {
        let heard = Heard {
            round_trip_us: took_us,
            time_ms: WALL_MS,
            load: Load::default(),
            is_read: true,
        };
        core.note_reply(NodeId(1 + n % 3), NOW, heard);
        core.hedging.earn();
    }
    core
}

#[test]
fn one_owner_is_asked_for_the_value_and_the_others_for_what_is_short() {
    let mut rig = get(Level::All);
    let kinds: Vec<_> = rig
        .sent_since(0)
        .into_iter()
        .map(|(_, kind)| kind)
        .collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "read").count(), 1);
    assert_eq!(kinds.iter().filter(|kind| **kind == "digest").count(), 2);
    let whole = rig.sent[0].node.0;
    for node in 1..=3 {
        rig.answer(node, if node == whole { found(5) } else { head(5) });
    }
    assert_eq!(value(&rig), Some(text(5)));
    assert_eq!(rig.sent.len(), 3);
}

#[test]
fn a_value_that_only_a_digest_showed_is_fetched() {
    let mut rig = get(Level::Quorum);
    let nodes = asked(&rig);
    rig.answer(nodes[0].0, found(3));
    rig.answer(nodes[1].0, head(9));
    assert_eq!(rig.sent_since(2), [(nodes[1].0, "read")]);
    rig.answer(nodes[1].0, found(9));
    assert_eq!(rig.sent_since(3), [(nodes[0].0, "repair")]);
    rig.answer(nodes[0].0, WRITTEN);
    assert_eq!(value(&rig), Some(text(9)));
}

#[test]
fn whoever_is_asked_instead_of_the_one_with_the_value_is_asked_for_it() {
    let mut rig = get(Level::Quorum);
    let (nodes, third) = (asked(&rig), third(&rig));
    rig.answer(nodes[1].0, head(5));
    rig.respond(nodes[0].0, 1, Err(not_sent()));
    assert_eq!(rig.sent_since(2), [(third, "read")]);
    rig.answer(third, found(5));
    assert_eq!(value(&rig), Some(text(5)));
}

#[test]
fn an_owner_that_takes_longer_than_most_is_hedged_and_given_up() {
    let mut rig = read_by(practised(3_000), Level::Quorum, false);
    let (nodes, third) = (asked(&rig), third(&rig));
    rig.answer(nodes[0].0, found(5));
    rig.pass(3);
    assert_eq!(rig.sent.len(), 2);
    rig.pass(2);
    assert_eq!(rig.sent_since(2), [(third, "digest")]);
    assert_eq!(rig.core.counts.hedges, 1);
    assert!(!rig.core.peers.is_away(nodes[1]), "slow once is no failure");
    rig.answer(third, found(5));
    assert_eq!(value(&rig), Some(text(5)));
    assert_eq!(rig.cancelled, [(nodes[1], rig.sent[1].attempt)]);
    assert!(!rig.machine.awaits(nodes[1], rig.sent[1].attempt));
}

#[test]
fn nothing_is_hedged_without_budget_or_under_overload() {
    let spent = |core: &mut Core| while core.hedging.spend(NOW.mono_ms) {};
    let overload = |core: &mut Core| core.hedging.note_overload(NOW.mono_ms);
    let forbids: [fn(&mut Core); 2] = [spent, overload];
    for forbid in forbids {
        let mut core = practised(3_000);
        forbid(&mut core);
        let mut rig = read_by(core, Level::Quorum, false);
        rig.pass(SLOW_MS - 1);
        assert_eq!((rig.sent.len(), rig.core.counts.hedges), (2, 0));
        rig.pass(1);
        assert_eq!(rig.sent.len(), 3, "it may have stopped");
    }
}

#[test]
fn an_owner_that_may_have_stopped_is_asked_last_from_then_on() {
    let mut rig = get(Level::One);
    let first = asked(&rig)[0];
    rig.pass(SLOW_MS);
    assert!(rig.core.peers.is_away(first));
    let core = std::mem::replace(&mut rig.core, core());
    let again = read_by(core, Level::Quorum, false);
    assert!(!asked(&again).contains(&first));
}

#[test]
fn an_owner_that_is_not_asked_is_tried_and_not_waited_for() {
    let mut core = core();
    core.tries_others = true;
    let mut rig = read_by(core, Level::One, false);
    assert_eq!(rig.sent.len(), 2);
    let (first, tried) = (rig.sent[0].clone(), rig.sent[1].clone());
    assert_eq!(rig.sent_since(1), [(tried.node.0, "head")]);
    rig.answer(first.node.0, found(3));
    assert_eq!(value(&rig), Some(text(3)));
    assert!(
        rig.machine.awaits(tried.node, tried.attempt),
        "it is sent all the same"
    );
    rig.respond_to(tried.node.0, tried.attempt, 1, Ok(head(9)));
    assert!(rig.machine.is_finished());
    assert_eq!(rig.core.counts.trials, 1);
}

#[test]
fn an_owner_that_is_farther_than_those_asked_is_not_tried() {
    let mut zoned = View::clone(&view(1));
    for (place, member) in zoned.members.iter_mut().enumerate() {
        member.zone = format!("z{place}");
    }
    let home = Home {
        zone: "z0".into(),
        region: String::new(),
    };
    let mut core = Core::new(Incarnation([7; 16]), Arc::new(zoned), home);
    core.check_one_in = 0;
    let rig = read_by(core, Level::One, false);
    assert_eq!(rig.sent.len(), 1, "the other owners are in other zones");
}

#[test]
fn an_expired_record_without_its_value_is_an_answer_and_is_brought_to_others() {
    let expired = record(5, Some(WALL_MS - 1)).head;
    let mut rig = get(Level::Quorum);
    let nodes = asked(&rig);
    rig.answer(nodes[0].0, Answer::FoundHead(expired));
    rig.answer(nodes[1].0, found(3));
    assert_eq!(rig.sent_since(2), [(nodes[1].0, "gone")]);
    rig.answer(nodes[1].0, WRITTEN);
    assert_eq!(value(&rig), Some(None));

    let mut rig = get(Level::Quorum);
    for node in asked(&rig) {
        rig.answer(node.0, Answer::FoundHead(expired));
    }
    assert_eq!((value(&rig), rig.sent.len()), (Some(None), 2), "they agree");
}

#[test]
fn an_owner_without_the_value_of_a_record_that_lives_counts_for_nothing() {
    let alive = record(5, Some(WALL_MS + 500)).head;
    let mut rig = get(Level::One);
    let first = asked(&rig)[0];
    rig.answer(first.0, Answer::FoundHead(alive));
    rig.answer(first.0, Answer::FoundHead(alive));
    assert_eq!(rig.done, None);
    let next = rig.sent.last().unwrap().node;
    assert_ne!(next, first);
    rig.answer(next.0, Answer::Found(record(5, Some(WALL_MS + 500))));
    assert_eq!(value(&rig), Some(text(5)));
}

#[test]
fn what_would_be_too_late_is_not_begun() {
    for (class, begun) in [(Class::Read, false), (Class::Write, true)] {
        let mut core = core();
        for node in [1, 3] {
            core.peers
                .note_waiting(NodeId(node), class, TIMEOUT_MS, NOW.mono_ms);
        }
        let rig = read_by(core, Level::Quorum, false);
        assert_eq!(!rig.sent.is_empty(), begun, "{class:?}");
        if !begun {
            assert_eq!(error(&rig), Some(ErrorKind::Overloaded));
            assert!(rig.machine.is_finished());
        }
    }
}
