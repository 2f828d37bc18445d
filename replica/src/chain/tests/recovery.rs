//! A chain that is begun anew: what is sealed, what goes on, and who must stop.

use super::*;
use annulet_protocol::recovery::{Seal, Stands};
use annulet_ring::chain::recovery::{Effect as Doing, Outcome as Ended, Recovery, Report};
use std::collections::VecDeque;

const ID: ChangeId = ChangeId([0xee; 16]);

fn servers(count: u64) -> Vec<Server> {
    let file = view(count, |_| {});
    (1..=count).map(|node| Server::new(node, &file)).collect()
}

fn seal(server: &mut Server, generation: u64) -> ChainAnswer {
    let after = server.chain.newest();
    server
        .ask(ChainQuestion::Seal(Seal { generation, after }))
        .answer
}

fn accept(server: &mut Server, number: u64, record: &Bytes) -> ChainAnswer {
    let of = server.chain.newest();
    let (ballot, record) = (ballot(number), record.clone());
    let accept = Accept { of, ballot, record };
    server.ask(ChainQuestion::Accept(accept)).answer
}

/// Servers take a record and act under it.
fn take(servers: &mut [Server], record: &Bytes) {
    let number = EpochRecord::decode(record).unwrap().number;
    for server in servers {
        server.offer(std::slice::from_ref(record), number);
    }
}

/// The server at `at` recovers with those that are there; nobody answers `silent` once sealed.
fn recover(
    servers: &mut [Server],
    at: usize,
    there: &[usize],
    silent: Option<usize>,
    proceed: bool,
) -> Report {
    let own = &servers[at].chain;
    let base = (View::clone(own.newest_view()), own.first());
    let mut recovery = Recovery::new(own.node, ID, base, proceed, true);
    let mut doing = VecDeque::from(recovery.start());
    while let Some(effect) = doing.pop_front() {
        match effect {
            Doing::Ask(question, asked) => {
                let to = question.node.0 as usize - 1;
                let sealing = matches!(&asked, ChainQuestion::Seal(seal) if seal.generation > 0);
                if !there.contains(&to) || sealing && silent == Some(to) {
                    doing.extend(recovery.handle_failure(question, "it is away".into()));
                    continue;
                }
                let answer = servers[to].ask(asked).answer;
                let relation = match &answer {
                    ChainAnswer::Stands(stands) => {
                        let own = &servers[at];
                        own.chain.relation(&own.store, stands.newest).unwrap()
                    }
                    _ => Relation::Same,
                };
                doing.extend(recovery.handle_answer(question, answer, relation));
            }
            Doing::Take(records) => {
                let settled = servers[at].chain.view().epoch;
                let step = servers[at].offer(&records, settled);
                assert!(matches!(step.answer, ChainAnswer::Holds(_)), "{step:?}");
                doing.extend(recovery.handle_taken());
            }
            Doing::Done(report) => return *report,
        }
    }
    panic!("it is never over");
}

/// What was begun goes to its keepers and is settled; all that are there hear of it.
fn spread(servers: &mut [Server], at: usize, there: &[usize]) {
    let Some(Unfinished::Held(record)) = servers[at].chain.unfinished() else {
        panic!("nothing is begun");
    };
    let mut proposer = Proposer::spreading(servers[at].chain.view(), record);
    let mut doing = VecDeque::from(proposer.start());
    while let Some(effect) = doing.pop_front() {
        let (question, asked) = match effect {
            Effect::Ask(question, asked) => (question, asked),
            Effect::Bring(question, after) => {
                let own = &servers[at];
                let offer = own.chain.offer_after(&own.store, after).unwrap().unwrap();
                (question, ChainQuestion::Offer(offer))
            }
            Effect::Done(Outcome::Settled(record)) => {
                let number = EpochRecord::decode(&record).unwrap().number;
                servers[at].offer(&[record], number);
                break;
            }
            other => panic!("{other:?}"),
        };
        let to = question.node.0 as usize - 1;
        assert!(there.contains(&to), "no keeper is away");
        let answer = servers[to].ask(asked).answer;
        doing.extend(proposer.handle_answer(question, answer));
    }
    for to in there {
        assert_eq!(follow(servers, *to, at), None);
        assert_eq!(
            servers[*to].chain.view().point(),
            servers[at].chain.newest()
        );
    }
}

/// One server takes what another has more. Gives why it must stop.
fn follow(servers: &mut [Server], to: usize, from: usize) -> Option<String> {
    let after = servers[to].chain.newest();
    let from = &servers[from];
    let deltas = from.chain.deltas(&from.store, after).unwrap();
    if deltas.fork {
        return Some("its chain does not hold what is here".into());
    }
    let offer = Offer::new(deltas.records, deltas.newest, deltas.newest);
    servers[to].ask(ChainQuestion::Offer(offer)).fork
}

#[test]
fn who_is_sealed_votes_on_and_learns_nothing_and_says_where_it_stands() {
    let mut servers = servers(3);
    let file = View::clone(servers[0].chain.view());
    let record = create(&file, "a");
    let server = &mut servers[0];
    accept(server, 4, &record);
    let stands = Stands {
        newest: file.point(),
        sealed: 2,
        known: true,
        records: Vec::new(),
        ballot: ballot(4),
        accepted: Some(record.clone()),
    };
    let stands = ChainAnswer::Stands(Box::new(stands));
    assert_eq!(seal(server, 2), stands);
    server.reopen();
    assert_eq!(server.chain.unfinished(), None, "nothing is finished here");
    for _ in 0..2 {
        let refused = |answer| matches!(answer, ChainAnswer::Refused(why) if why.contains("2"));
        let (of, ballot) = (file.point(), ballot(9));
        let prepare = ChainQuestion::Prepare(Prepare { of, ballot });
        assert!(refused(server.ask(prepare).answer));
        assert!(refused(accept(server, 9, &record)));
        let step = server.offer(std::slice::from_ref(&record), 2);
        assert!(refused(step.answer) && step.batch.is_empty() && step.fork.is_none());
        let held = ChainAnswer::Holds(file.point());
        assert_eq!(server.offer(&[], 1).answer, held, "what is held is told");
        assert_eq!(seal(server, 1), ChainAnswer::SealedAbove(2));
        assert_eq!(seal(server, 2), ChainAnswer::SealedAbove(2));
        assert_eq!(seal(server, 0), stands, "who only asks seals nothing");
        server.reopen();
    }
    assert!(matches!(seal(server, u64::MAX), ChainAnswer::Refused(_)));
    assert!(matches!(seal(server, 3), ChainAnswer::Stands(_)));
}

#[test]
fn what_is_held_is_not_settled_by_who_is_sealed() {
    let mut servers = servers(3);
    let record = create(servers[0].chain.view(), "a");
    let server = &mut servers[0];
    server.offer(std::slice::from_ref(&record), 1);
    seal(server, 1);
    server.offer(&[], 2);
    server.offer(&[record], 2);
    assert_eq!(server.chain.view().epoch, 1);
}

#[test]
fn those_that_are_left_go_on_and_a_keeper_that_comes_back_joins_them() {
    let mut servers = servers(5);
    let record = create(servers[0].chain.view(), "a");
    // The last one lags behind.
    take(&mut servers[..4], &record);
    let before = servers[0].chain.newest();
    let report = recover(&mut servers, 3, &[3, 4], None, false);
    assert!(matches!(report.outcome, Ended::Possible(_)), "{report:?}");
    assert!(servers.iter().all(|server| server.chain.sealed == 0));
    let report = recover(&mut servers, 3, &[3, 4], None, true);
    let Ended::Begun(_, anew) = &report.outcome else {
        panic!("{report:?}");
    };
    assert_eq!(anew.keepers, [NodeId(4)]);
    let newest: Vec<_> = report.members.iter().map(|m| m.newest.is_some()).collect();
    assert_eq!(newest, [false, false, false, true, true]);
    assert_eq!(
        servers[3].chain.view().point(),
        before,
        "not acted under yet"
    );
    servers[3].reopen();
    assert_eq!(servers[3].chain.newest(), anew.epoch);
    spread(&mut servers, 3, &[3, 4]);
    let view = Arc::clone(servers[3].chain.view());
    assert_eq!((view.tip.generation, view.epoch), (1, 3));
    let made = servers[3].chain.made(&servers[3].store, ID).unwrap();
    assert_eq!(made.map(|record| record.number), Some(3));
    // One of the lost is back, hears of it, and joins; the chain goes on among the new keepers.
    let own = &servers[0];
    let ahead = own.chain.relation(&own.store, anew.epoch).unwrap();
    assert_eq!(ahead, Relation::Ahead);
    assert_eq!(follow(&mut servers, 0, 3), None);
    assert_eq!(servers[0].chain.view().point(), anew.epoch);
    let record = create(&view, "b");
    let answer = accept(&mut servers[3], 1, &record);
    assert_eq!(answer, ChainAnswer::Accepted(Granted {}));
    let higher = EpochRecord {
        generation: 2,
        ..EpochRecord::decode(&record).unwrap()
    };
    let answer = accept(&mut servers[3], 2, &higher.encode());
    assert!(matches!(answer, ChainAnswer::Refused(_)), "by no vote");
}

/// Three servers that hold the first epoch, the third also those that made a fourth an active
/// member; and that one, whose chain begins with the last of these.
fn with_one_that_joined() -> Vec<Server> {
    let mut servers = servers(3);
    let file = View::clone(servers[0].chain.view());
    let joins = Member {
        id: NodeId(4),
        address: "host-4:7400".into(),
        state: MemberState::Joining,
        ..file.members[0].clone()
    };
    let joined = chain::propose_join(&file, ChangeId([4; 16]), &joins, None).unwrap();
    let second = chain::apply(&file, &joined).unwrap();
    let active = chain::activate(&second, ChangeId([5; 16]), &[joins.id]).unwrap();
    let third = chain::apply(&second, &active).unwrap();
    servers[2].offer(&[joined.encode(), active.encode()], 3);
    servers.push(Server::new(4, &third));
    servers
}

#[test]
fn who_joined_later_recovers_with_those_that_it_can_bring_along() {
    let mut servers = with_one_that_joined();
    // The first holds less than the chain of the fourth begins with.
    let report = recover(&mut servers, 3, &[0, 3], None, true);
    let Ended::Begun(_, anew) = &report.outcome else {
        panic!("{report:?}");
    };
    assert_eq!(anew.keepers, [NodeId(4)]);
    spread(&mut servers, 3, &[3]);
}

#[test]
fn a_recovery_knows_all_that_are_to_be_asked() {
    let refused = |servers: &mut [Server], at: usize, there: &[usize]| {
        let report = recover(servers, at, there, None, true);
        assert!(servers.iter().all(|server| server.chain.sealed == 0));
        match report.outcome {
            Ended::Refused(why) => why,
            other => panic!("{other:?}"),
        }
    };
    // The third tells the first of the fourth, which nobody asked.
    let mut servers = with_one_that_joined();
    let why = refused(&mut servers, 0, &[0, 2, 3]);
    assert!(why.contains("has joined since epoch 1"), "{why}");
    // Nobody that answers tells the first how the fourth came to its epoch.
    let mut servers = with_one_that_joined();
    let records = servers[2].chain.records(&servers[2].store, 1, 3).unwrap();
    servers[0].offer(&records[..1], 2);
    let why = refused(&mut servers, 0, &[0, 3]);
    assert!(why.contains("ask that server itself"), "{why}");
}

#[test]
fn who_holds_what_was_given_up_stops_and_nobody_else_does() {
    let mut servers = servers(5);
    let record = create(servers[0].chain.view(), "a");
    take(&mut servers[..1], &record);
    let more = create(servers[0].chain.view(), "b");
    take(&mut servers[..1], &more);
    // Nobody that answers knows of either.
    recover(&mut servers, 3, &[3, 4], None, true);
    spread(&mut servers, 3, &[3, 4]);
    let (old, new) = (servers[0].chain.newest(), servers[3].chain.newest());
    assert!(old.number > new.number && old.generation < new.generation);
    let relation = |servers: &[Server], at: usize, theirs| {
        let own = &servers[at];
        own.chain.relation(&own.store, theirs).unwrap()
    };
    assert_eq!(relation(&servers, 3, old), Relation::Abandoned);
    assert_eq!(relation(&servers, 0, new), Relation::Ahead, "it asks");
    assert!(follow(&mut servers, 0, 3).is_some(), "and stops");
    assert_eq!(follow(&mut servers, 3, 0), None, "the other goes on");
    // What leads on from elsewhere stops it, too; what was given up stops nobody.
    let anew = servers[3]
        .chain
        .record(&servers[3].store, 2)
        .unwrap()
        .unwrap();
    assert!(servers[0].offer(&[anew], 2).fork.is_some());
    let step = servers[3].offer(&[record], 2);
    assert_eq!(step.fork, None);
    assert!(matches!(step.answer, ChainAnswer::Refused(_)), "{step:?}");
    assert_eq!(servers[3].offer(&[more], 3).fork, None);
    let report = recover(&mut servers, 3, &[0, 3, 4], None, true);
    let Ended::Refused(why) = &report.outcome else {
        panic!("{report:?}");
    };
    assert!(why.contains("not all members are on one chain"), "{why}");
    assert!(report.members[0].forks && !report.members[3].forks);
}

#[test]
fn a_majority_that_answers_has_nothing_to_recover() {
    let mut servers = servers(5);
    let report = recover(&mut servers, 0, &[0, 1, 2], None, true);
    let refused = |report: &Report| match &report.outcome {
        Ended::Refused(why) => why.contains("nothing to recover"),
        _ => false,
    };
    assert!(refused(&report), "{report:?}");
    assert!(servers.iter().all(|server| server.chain.sealed == 0));
    // Unless somebody has begun: what is sealed must be brought to an end.
    seal(&mut servers[1], 1);
    let report = recover(&mut servers, 0, &[0, 1, 2], None, true);
    assert!(matches!(report.outcome, Ended::Begun(..)), "{report:?}");
    spread(&mut servers, 0, &[0, 1, 2]);
    assert_eq!(servers[0].chain.view().tip.generation, 2);
    let report = recover(&mut servers, 0, &[0, 1, 2], None, true);
    assert!(refused(&report), "it is over: {report:?}");
}

#[test]
fn what_was_accepted_at_the_highest_ballot_is_taken_over_and_acted_under_late() {
    let mut servers = servers(5);
    let file = View::clone(servers[0].chain.view());
    let (low, high) = (create(&file, "low"), create(&file, "high"));
    accept(&mut servers[2], 3, &low);
    accept(&mut servers[3], 7, &high);
    let report = recover(&mut servers, 4, &[2, 3, 4], None, true);
    // Three of five keepers answer: nothing is lost.
    assert!(matches!(report.outcome, Ended::Refused(_)), "{report:?}");
    let report = recover(&mut servers, 4, &[3, 4], None, true);
    assert!(matches!(report.outcome, Ended::Begun(..)), "{report:?}");
    let server = &mut servers[4];
    let taken = server.chain.record(&server.store, 2).unwrap();
    assert_eq!(taken, Some(high));
    for _ in 0..2 {
        // Its own keepers hold neither it nor what follows.
        assert_eq!(server.chain.view().epoch, 1);
        assert_eq!(server.chain.newest().number, 3);
        server.reopen();
    }
    spread(&mut servers, 4, &[3, 4]);
    assert_eq!(servers[4].chain.view().epoch, 3);
    assert!(servers[3].chain.view().bucket_named("high").is_some());
}

#[test]
fn a_higher_generation_is_asked_for_where_one_is_sealed() {
    let mut servers = servers(5);
    seal(&mut servers[4], 6);
    let report = recover(&mut servers, 3, &[3, 4], None, true);
    let Ended::Begun(_, anew) = &report.outcome else {
        panic!("{report:?}");
    };
    assert_eq!(anew.epoch.generation, 7);
    // Whoever was sealed for less before takes it.
    seal(&mut servers[2], 1);
    spread(&mut servers, 3, &[3, 4]);
    assert_eq!(follow(&mut servers, 2, 3), None);
    assert_eq!(servers[2].chain.view().point(), anew.epoch);
}

#[test]
fn a_member_that_falls_silent_ends_it() {
    let mut servers = servers(5);
    let report = recover(&mut servers, 3, &[3, 4], Some(4), true);
    assert!(
        matches!(report.outcome, Ended::Interrupted(_)),
        "{report:?}"
    );
    let sealed: Vec<_> = servers.iter().map(|server| server.chain.sealed).collect();
    assert_eq!(sealed, [0, 0, 0, 1, 0]);
    // Asked for again, it comes to its end, whoever is there by now.
    let report = recover(&mut servers, 4, &[0, 1, 2, 3, 4], None, true);
    assert!(matches!(report.outcome, Ended::Begun(..)), "{report:?}");
    spread(&mut servers, 4, &[0, 1, 2, 3, 4]);
}

#[test]
fn what_one_holds_beyond_the_others_goes_on() {
    let mut servers = servers(5);
    let record = create(servers[0].chain.view(), "a");
    // Decided, held by one that is left, and acted under by nobody.
    servers[4].offer(std::slice::from_ref(&record), 1);
    recover(&mut servers, 3, &[3, 4], None, true);
    assert_eq!(servers[3].chain.view().epoch, 1, "its keepers are lost");
    spread(&mut servers, 3, &[3, 4]);
    assert_eq!(servers[3].chain.view().epoch, 3);
    assert!(servers[3].chain.view().bucket_named("a").is_some());
}
