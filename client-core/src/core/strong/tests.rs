//! Bucket `b` of the views in `testing`, made strong.

use super::*;
use crate::core::client::{Call, Home};
use crate::core::testing::{
    BUCKET, KEY, NOW, Rig, TIMEOUT_MS, grown_view, joint_view, not_sent, refusal, unanswered, view,
};
use annulet_protocol::bucket::Bucket;
use annulet_protocol::ids::Incarnation;
use annulet_protocol::message::{Lacking, RefusalKind};
use annulet_protocol::register::message::{Accept, Accepted, Outbid, Shown};
use annulet_protocol::register::{Condition, Register};
use bytes::Bytes;

type StrongRig = Rig<StrongOperation>;

const ACCEPTED: Answer = Answer::Accepted(Accepted {});

fn strong_view(epoch: u64) -> Arc<View> {
    strong(&view(epoch))
}

fn strong(view: &View) -> Arc<View> {
    let mut strong = view.clone();
    strong.value_bytes_max = 100_000;
    strong.buckets[0] = Bucket {
        mode: Mode::Strong,
        ..strong.buckets[0].clone()
    };
    Arc::new(strong)
}

fn core() -> Core {
    Core::new(Incarnation([7; 16]), strong_view(1), Home::default())
}

fn start_in(mut core: Core, task: Task) -> StrongRig {
    let call = Call {
        bucket: "b",
        key: Bytes::from_static(KEY),
        level: None,
        timeout_ms: TIMEOUT_MS,
    };
    let start = core.begin(NOW, Side::Write, call).expect("a sound call");
    Rig::new(
        core,
        StrongOperation::new(start, task).expect("a sound task"),
    )
}

fn start(task: Task) -> StrongRig {
    start_in(core(), task)
}

fn read() -> Task {
    Task::Read {
        head_only: false,
        stale: false,
    }
}

fn set(value: &'static str, condition: Condition) -> Task {
    Task::Write(Change::Set {
        value: value.into(),
        expires_at_ms: None,
        condition,
    })
}

/// A ballot of another client.
fn ballot(number: u64) -> Ballot {
    Ballot {
        number,
        proposer: Incarnation([8; 16]),
    }
}

/// What round `number` of another client made of a key that had nothing.
fn made(number: u64, value: &Bytes, expires_at_ms: Option<u64>) -> Register {
    let turn = Turn {
        ballot: ballot(number),
        op: OpId {
            client: Incarnation([8; 16]),
            sequence: number,
            first_sent_ms: 0,
        },
        since: None,
        now_ms: 0,
    };
    let change = Change::Set {
        value: value.clone(),
        expires_at_ms,
        condition: Condition::Always,
    };
    let at = (BUCKET, KEY);
    Register::unwritten(BUCKET, KEY)
        .change(at, &turn, &change)
        .register
}

/// An owner that accepted this value in round `number`, and promised that round or `promised`.
fn shows(number: u64, value: &Bytes, promised: Option<Ballot>) -> Promise {
    let Register { head, log } = made(number, value, None);
    Promise {
        promised: promised.unwrap_or(ballot(number)),
        accepted: Some(Shown {
            ballot: ballot(number),
            next: None,
            head,
            log: Some(log),
            value: (value.len() <= SHIPPED_BYTES_MAX).then(|| value.clone()),
        }),
    }
}

fn answer(promise: Promise) -> Answer {
    Answer::Promise(Box::new(promise))
}

fn outbid(number: u64) -> Answer {
    let promised = ballot(number);
    Answer::Outbid(Outbid { promised })
}

const SHORT: Bytes = Bytes::from_static(b"short");

fn long() -> Bytes {
    vec![7; SHIPPED_BYTES_MAX + 1].into()
}

impl StrongRig {
    /// The ballot of the last prepare or accept.
    fn ballot(&self) -> Ballot {
        let of = |send: &Send| match &send.operation {
            Operation::Prepare(prepare) => Some(prepare.ballot),
            Operation::Accept(accept) => Some(accept.ballot),
            _ => None,
        };
        self.sent.iter().rev().find_map(of).expect("a round")
    }

    /// The last accept to an owner.
    fn accept(&self, node: u64) -> &Accept {
        let to = self.sent.iter().rev().filter(|send| send.node.0 == node);
        let mut accepts = to.filter_map(|send| match &send.operation {
            Operation::Accept(accept) => Some(&**accept),
            _ => None,
        });
        accepts.next().expect("an accept")
    }

    /// An owner gives the promise that it was asked for, and shows this.
    fn promise(&mut self, node: u64, shown: &Promise) {
        let promised = self.ballot();
        let promise = Promise {
            promised,
            ..shown.clone()
        };
        self.answer(node, answer(promise));
    }

    /// A round of an unwritten key up to the accepts.
    fn promise_nothing(&mut self) {
        for node in [1, 2] {
            self.promise(node, &Promise::default());
        }
    }

    fn result(&self) -> &Result<StrongDone> {
        self.done.as_ref().expect("it is over")
    }

    fn outcome(&self) -> (ErrorKind, Option<Outcome>, bool) {
        let error = self.result().as_ref().expect_err("it failed");
        (error.kind(), error.outcome(), error.op_id().is_some())
    }

    fn value(&self) -> Option<Bytes> {
        self.result().as_ref().expect("it is done").value.clone()
    }
}

/// Two owners of the three that were asked first, in order.
fn asked(rig: &StrongRig) -> [u64; 2] {
    [rig.sent[0].node.0, rig.sent[1].node.0]
}

#[test]
fn a_write_takes_two_round_trips_and_the_next_one_takes_one() {
    let mut rig = start(set("v", Condition::Absent));
    assert_eq!(
        rig.sent_since(0),
        [(1, "prepare"), (2, "prepare"), (3, "prepare")]
    );
    rig.promise(1, &Promise::default());
    assert_eq!(rig.sent.len(), 3, "no quorum yet");
    rig.promise(3, &Promise::default());
    assert_eq!(
        rig.sent_since(3),
        [(1, "accept"), (2, "accept"), (3, "accept")]
    );
    let ballot = rig.ballot();
    rig.answer(1, ACCEPTED);
    assert_eq!(rig.done, None);
    rig.answer(2, ACCEPTED);
    let done = rig.result().as_ref().expect("a quorum");
    assert_eq!(done.written, Some(ballot));
    // The third is still brought up to date.
    assert!(!rig.machine.is_finished());
    rig.answer(3, ACCEPTED);
    assert!(rig.machine.is_finished());
    let next = start_in(rig.core, set("w", Condition::Version(ballot)));
    assert_eq!(
        next.sent_since(0),
        [(1, "accept"), (2, "accept"), (3, "accept")]
    );
    assert!(next.ballot() > ballot);
    assert_eq!(next.accept(1).head.version, next.ballot());
}

/// A write of an unwritten key that so many owners have accepted.
fn accepted_by(nodes: &[u64]) -> Core {
    let mut rig = start(set("v", Condition::Always));
    rig.promise_nothing();
    for node in nodes {
        rig.answer(*node, ACCEPTED);
    }
    rig.core
}

#[test]
fn a_reserved_ballot_lapses_with_the_epoch_and_when_it_is_used() {
    let first_message = |core| {
        let rig = start_in(core, set("w", Condition::Always));
        (rig.sent_since(0)[0].1, rig.core)
    };
    let (sent, _) = first_message(accepted_by(&[1]));
    assert_eq!(sent, "prepare", "no quorum has reserved it");
    let mut newer = accepted_by(&[1, 2]);
    newer.install(strong_view(2));
    assert_eq!(first_message(newer).0, "prepare", "another epoch");
    let (sent, core) = first_message(accepted_by(&[1, 2]));
    assert_eq!(sent, "accept");
    assert_eq!(first_message(core).0, "prepare", "used once");
}

#[test]
fn a_clean_read_takes_one_round_trip() {
    let mut rig = start(read());
    let [first, second] = asked(&rig);
    assert_eq!(rig.sent.len(), 2);
    rig.answer(first, answer(shows(5, &SHORT, None)));
    rig.answer(second, answer(shows(5, &SHORT, None)));
    assert_eq!((rig.value(), rig.sent.len()), (Some(SHORT), 2));
    assert!(rig.machine.is_finished());
    // Nothing anywhere, and nothing promised, is clean as well.
    let mut rig = start(read());
    for node in asked(&rig) {
        rig.answer(node, answer(Promise::default()));
    }
    assert_eq!((rig.value(), rig.sent.len()), (None, 2));
}

#[test]
fn the_reserved_ballot_and_no_other_promise_is_clean() {
    let next = Ballot {
        number: 9,
        ..ballot(9)
    };
    for (promised, clean) in [(ballot(5), true), (next, true), (ballot(8), false)] {
        let mut rig = start(read());
        for node in asked(&rig) {
            let mut shown = shows(5, &SHORT, Some(promised));
            shown.accepted.as_mut().expect("something").next = Some(next);
            rig.answer(node, answer(shown));
        }
        assert_eq!(rig.done.is_some(), clean, "{promised:?}");
    }
}

#[test]
fn an_owner_that_is_behind_is_made_up_for_by_another_one() {
    let mut rig = start(read());
    let [first, second] = asked(&rig);
    rig.answer(first, answer(shows(5, &SHORT, None)));
    rig.answer(second, answer(shows(4, &SHORT, None)));
    assert_eq!(rig.sent.len(), 3);
    let third = 6 - first - second;
    rig.answer(third, answer(shows(5, &SHORT, None)));
    assert_eq!((rig.value(), rig.sent.len()), (Some(SHORT), 3));
}

/// Owners show others at work, until a read begins a round of its own.
fn look_three_times(rig: &mut StrongRig, open: &Promise) {
    for _ in 0..3 {
        for node in asked(rig) {
            rig.answer(node, answer(open.clone()));
        }
        rig.pass(10);
    }
}

#[test]
fn what_is_not_clean_is_looked_at_again_and_then_settled_by_a_round() {
    let mut rig = start(read());
    let open = shows(5, &SHORT, Some(ballot(8)));
    look_three_times(&mut rig, &open);
    let prepares = rig.sent.len();
    assert_eq!(rig.sent_since(prepares - 3)[0].1, "prepare");
    assert!(rig.ballot() > ballot(8));
    rig.promise(1, &open);
    rig.promise(2, &Promise::default());
    let accept = rig.accept(2);
    let (held, value) = (accept.head, accept.value.clone());
    assert_eq!(
        (held, value),
        (made(5, &SHORT, None).head, SHORT),
        "unchanged"
    );
    rig.answer(1, ACCEPTED);
    assert_eq!(rig.done, None, "not before it is settled");
    rig.answer(3, ACCEPTED);
    assert_eq!(rig.value(), Some(SHORT));
}

#[test]
fn a_failed_condition_is_told_once_its_round_is_over() {
    let mut rig = start(set("v", Condition::Absent));
    rig.promise(1, &shows(5, &SHORT, None));
    rig.promise(2, &shows(5, &SHORT, None));
    assert_eq!(rig.accept(1).head, made(5, &SHORT, None).head);
    rig.answer(1, ACCEPTED);
    assert_eq!(rig.done, None);
    rig.answer(2, ACCEPTED);
    let conflict = (ErrorKind::Conflict, Some(Outcome::NotApplied), false);
    assert_eq!(rig.outcome(), conflict);
}

#[test]
fn who_is_outbid_waits_goes_above_and_finds_what_it_did() {
    let mut rig = start(set("v", Condition::Absent));
    rig.promise_nothing();
    rig.answer(1, ACCEPTED);
    let far = u64::MAX / 2;
    rig.answer(2, outbid(far));
    let sent = rig.sent.len();
    rig.answer(3, outbid(far));
    assert_eq!(rig.sent.len(), sent, "the other round gets time to end");
    let ours = rig.accept(1).clone();
    rig.pass(10);
    for node in [1, 2] {
        rig.answer(node, answer(Promise::default()));
    }
    assert_eq!(rig.sent_since(rig.sent.len() - 3)[0].1, "prepare");
    assert!(rig.ballot() > ballot(far));
    // The other one went on from what owner 1 had accepted.
    let shown = Promise {
        promised: Ballot::default(),
        accepted: Some(Shown {
            ballot: ballot(far),
            next: None,
            head: ours.head,
            log: Some(ours.log.clone()),
            value: Some("v".into()),
        }),
    };
    rig.promise(1, &shown);
    rig.promise(2, &shown);
    rig.answer(1, ACCEPTED);
    rig.answer(2, ACCEPTED);
    let done = rig.result().as_ref().expect("applied, and found to be");
    assert_eq!(done.written, Some(ours.head.version));
}

#[test]
fn who_is_outbid_does_not_wait_for_an_owner_that_is_away() {
    let mut rig = start(set("v", Condition::Always));
    rig.promise_nothing();
    rig.respond(3, 1, Err(not_sent()));
    rig.answer(1, ACCEPTED);
    let sent = rig.sent.len();
    rig.answer(2, outbid(u64::MAX / 2));
    rig.pass(6);
    let looks = rig.sent_since(sent);
    assert!(looks.contains(&(1, "look")), "{looks:?}");
}

#[test]
fn outcomes_are_certain_or_unknown() {
    // Nothing was accepted: nothing is applied.
    let mut rig = start(set("v", Condition::Always));
    rig.pass(TIMEOUT_MS);
    let timeout = (ErrorKind::Timeout, Some(Outcome::NotApplied), false);
    assert_eq!(rig.outcome(), timeout, "only promises were asked for");
    // Every accept was refused.
    let mut rig = start(set("v", Condition::Always));
    rig.promise_nothing();
    for node in [1, 2, 3] {
        rig.answer(node, refusal(RefusalKind::Full));
    }
    let full = (ErrorKind::Overloaded, Some(Outcome::NotApplied), false);
    assert_eq!(rig.outcome(), full);
    // One may have arrived.
    let mut rig = start(set("v", Condition::Always));
    rig.promise_nothing();
    rig.answer(1, refusal(RefusalKind::Full));
    rig.respond(2, 1, Err(unanswered()));
    rig.respond(3, 1, Err(not_sent()));
    rig.pass(TIMEOUT_MS);
    let (_, outcome, named) = rig.outcome();
    assert_eq!((outcome, named), (Some(Outcome::Unknown), true));
    // They never left.
    let mut rig = start(set("v", Condition::Always));
    rig.promise_nothing();
    for _ in 0..20 {
        for node in [1, 2, 3] {
            rig.respond(node, 1, Err(not_sent()));
        }
        rig.pass(TIMEOUT_MS / 25);
    }
    rig.pass(TIMEOUT_MS);
    assert_eq!(rig.outcome().1, Some(Outcome::NotApplied));
}

#[test]
fn a_long_value_comes_from_one_owner_and_goes_to_those_who_lack_it() {
    let mut rig = start(read());
    let [first, second] = asked(&rig);
    for node in [first, second] {
        rig.answer(node, answer(shows(5, &long(), None)));
    }
    assert_eq!(rig.done, None, "nobody sent it");
    let sent = rig.sent.len();
    let mut whole = shows(5, &long(), None);
    whole.accepted.as_mut().expect("it is there").value = Some(long());
    let fetched_from = rig.sent[sent - 1].node.0;
    rig.answer(fetched_from, answer(whole.clone()));
    assert_eq!(rig.value(), Some(long()));
    // A failed condition leaves it where it is.
    let mut rig = start(set("v", Condition::Absent));
    rig.promise(1, &shows(5, &long(), None));
    rig.promise(2, &shows(5, &long(), None));
    let held = |rig: &StrongRig, node| (rig.accept(node).held, rig.accept(node).value.len());
    assert_eq!(held(&rig, 1), (Some(ballot(5)), 0));
    assert_eq!(held(&rig, 2), (Some(ballot(5)), 0));
    assert_eq!(
        rig.sent.len(),
        5,
        "the third may lack it, and is not needed"
    );
    // Of a quorum one lacks it: it is fetched for that one.
    let mut rig = start(set("v", Condition::Absent));
    rig.promise(1, &shows(5, &long(), None));
    rig.promise(2, &Promise::default());
    assert_eq!(rig.sent_since(3), [(1, "look")]);
    rig.answer(1, answer(whole));
    assert_eq!(held(&rig, 1), (Some(ballot(5)), 0));
    assert_eq!(held(&rig, 2), (None, long().len()));
    rig.answer(1, Answer::Lacking(Lacking {}));
    assert_eq!(
        held(&rig, 1),
        (None, long().len()),
        "it has learned another"
    );
}

#[test]
fn a_damaged_register_counts_for_nothing() {
    let mut rig = start(read());
    let [first, second] = asked(&rig);
    let mut damaged = shows(9, &SHORT, None);
    damaged.accepted.as_mut().expect("it is there").head.seal += 1;
    rig.answer(first, answer(damaged));
    rig.answer(second, answer(shows(5, &SHORT, None)));
    rig.answer(6 - first - second, answer(shows(5, &SHORT, None)));
    assert_eq!(rig.value(), Some(SHORT));
}

/// [`shows`] of a value that is over at this time.
fn shows_until(end_ms: u64, value: &Bytes, promised: Option<Ballot>) -> Promise {
    let Register { head, log } = made(5, value, Some(end_ms));
    let mut shown = shows(5, value, promised);
    let accepted = shown.accepted.as_mut().expect("it is there");
    (accepted.head, accepted.log) = (head, Some(log));
    shown
}

/// A round that follows puts a tombstone there, and only then the read is told that nothing is.
fn is_settled(mut rig: StrongRig, shown: &Promise) {
    assert_eq!(rig.done, None);
    rig.promise(1, shown);
    rig.promise(2, shown);
    let accept = rig.accept(1);
    assert_eq!((accept.head.version, accept.value.len()), (rig.ballot(), 0));
    rig.answer(1, ACCEPTED);
    rig.answer(2, ACCEPTED);
    assert_eq!(rig.value(), None);
}

#[test]
fn a_value_whose_time_ends_while_it_is_fetched_is_settled_first() {
    let mut rig = start(read());
    let shown = shows_until(NOW.wall_ms + 20, &long(), None);
    for node in asked(&rig) {
        rig.answer(node, answer(shown.clone()));
    }
    let fetched_from = rig.sent[rig.sent.len() - 1].node.0;
    rig.pass(30);
    let mut whole = shown.clone();
    whole.accepted.as_mut().expect("it is there").value = Some(long());
    rig.answer(fetched_from, answer(whole));
    is_settled(rig, &shown);
}

#[test]
fn a_value_whose_time_ends_during_the_round_of_a_read_is_settled_by_another_one() {
    let mut rig = start(read());
    let open = shows_until(NOW.wall_ms + 100, &SHORT, Some(ballot(8)));
    look_three_times(&mut rig, &open);
    for node in [1, 2] {
        rig.promise(node, &open);
    }
    assert_eq!(rig.accept(1).value, SHORT, "it is not over yet");
    rig.pass(100);
    for node in [1, 2] {
        rig.answer(node, ACCEPTED);
    }
    is_settled(rig, &open);
}

#[test]
fn an_expired_value_is_absent_after_a_round_has_said_so() {
    let mut rig = start(read());
    let shown = shows_until(1, &SHORT, None);
    for node in asked(&rig) {
        rig.answer(node, answer(shown.clone()));
    }
    is_settled(rig, &shown);
}

#[test]
fn a_newer_view_starts_the_round_again_at_a_new_ballot() {
    let mut rig = start(set("v", Condition::Always));
    rig.promise_nothing();
    rig.answer(1, ACCEPTED);
    let before = rig.ballot();
    rig.respond(2, 2, Ok(refusal(RefusalKind::StaleEpoch)));
    assert_eq!(rig.wanted, Some(2));
    let sent = rig.sent.len();
    rig.view(&strong_view(2));
    // It may have been accepted, so it is looked for first.
    let asked: Vec<_> = rig.sent[sent..].iter().map(|send| send.node.0).collect();
    for node in asked {
        rig.answer(node, answer(Promise::default()));
    }
    assert_eq!(
        rig.sent_since(sent + 2),
        [(1, "prepare"), (2, "prepare"), (4, "prepare")]
    );
    assert!(rig.ballot() > before);
    // It was accepted by one of before, so it is not applied again but looked for.
    rig.pass(TIMEOUT_MS);
    assert_eq!(rig.outcome().1, Some(Outcome::Unknown));
}

#[test]
fn a_stale_read_takes_what_any_owner_has() {
    let mut rig = start(Task::Read {
        head_only: false,
        stale: true,
    });
    assert_eq!(rig.sent.len(), 1);
    let node = rig.sent[0].node.0;
    rig.answer(node, answer(shows(5, &SHORT, Some(ballot(99)))));
    assert_eq!((rig.value(), rig.sent.len()), (Some(SHORT), 1));
}

#[test]
fn what_became_of_a_write_is_told_and_fixed() {
    let unknown = |rig: &StrongRig| {
        *rig.result()
            .as_ref()
            .expect_err("lost")
            .op_id()
            .expect("it")
    };
    let mut rig = start(set("v", Condition::Always));
    rig.promise_nothing();
    rig.pass(TIMEOUT_MS);
    let op = unknown(&rig);
    let accept = rig.accept(1).clone();
    // Nobody has it.
    let mut asks = start(Task::Resolve(op));
    asks.promise_nothing();
    let entry = *asks.accept(1).log.find(&op.op()).expect("it is entered");
    assert_eq!(entry.fate, annulet_protocol::register::Fate::Refused);
    asks.answer(1, ACCEPTED);
    assert_eq!(asks.done, None, "not before it is fixed");
    asks.answer(2, ACCEPTED);
    let resolved = asks.result().as_ref().expect("done").resolved.clone();
    assert_eq!(resolved, Some(Resolved::NotApplied));
    // One owner has it.
    let mut asks = start(Task::Resolve(op));
    asks.promise(1, &Promise::default());
    asks.promise(
        2,
        &Promise {
            promised: Ballot::default(),
            accepted: Some(Shown {
                ballot: accept.ballot,
                next: None,
                head: accept.head,
                log: Some(accept.log),
                value: Some(accept.value),
            }),
        },
    );
    asks.answer(1, ACCEPTED);
    asks.answer(2, ACCEPTED);
    let resolved = asks.result().as_ref().expect("done").resolved.clone();
    let version = accept.ballot;
    assert_eq!(resolved, Some(Resolved::Applied { version }));
}

#[test]
fn operations_are_for_strong_buckets_and_values_have_a_limit() {
    let mut lww = Core::new(Incarnation([7; 16]), view(1), Home::default());
    let call = || Call {
        bucket: "b",
        key: Bytes::from_static(KEY),
        level: None,
        timeout_ms: TIMEOUT_MS,
    };
    let start = lww.begin(NOW, Side::Write, call()).expect("a sound call");
    let error = StrongOperation::new(start, set("v", Condition::Absent)).expect_err("lww");
    let invalid = (ErrorKind::InvalidInput, Some(Outcome::NotApplied));
    assert_eq!((error.kind(), error.outcome()), invalid);
    let mut strong = core();
    let start = strong.begin(NOW, Side::Write, call()).expect("sound");
    let value = vec![0; 100_001].into();
    let task = Task::Write(Change::Set {
        value,
        expires_at_ms: None,
        condition: Condition::Always,
    });
    let error = StrongOperation::new(start, task).expect_err("too long");
    assert_eq!((error.kind(), error.outcome()), invalid);
}

#[test]
fn a_write_that_may_be_accepted_is_looked_for_before_it_takes_a_turn() {
    let begin = || {
        let mut rig = start(set("v", Condition::Always));
        rig.promise_nothing();
        rig.answer(1, ACCEPTED);
        rig.answer(2, outbid(u64::MAX / 2));
        rig.answer(3, outbid(u64::MAX / 2));
        let sent = rig.sent.len();
        rig.pass(6);
        assert_eq!(rig.sent_since(sent), [(1, "look"), (2, "look")]);
        rig
    };
    let ours = begin().accept(1).clone();
    let shows_ours = Promise {
        promised: ours.ballot,
        accepted: Some(Shown {
            ballot: ours.ballot,
            next: None,
            head: ours.head,
            log: Some(ours.log.clone()),
            value: None,
        }),
    };
    // A quorum has accepted it after all.
    let mut rig = begin();
    rig.answer(1, answer(shows_ours.clone()));
    rig.answer(2, answer(shows_ours.clone()));
    let done = rig.result().as_ref().expect("applied");
    assert_eq!(done.written, Some(ours.head.version));
    // One alone proves nothing: a round settles it, and what it finds is unknown until then.
    let mut rig = begin();
    rig.answer(1, answer(shows_ours));
    rig.answer(2, answer(Promise::default()));
    rig.pass(TIMEOUT_MS);
    assert_eq!(rig.outcome().1, Some(Outcome::Unknown));
    // Something later without it proves that it came to nothing, where that is agreed on.
    let later = u64::MAX / 2;
    let mut rig = begin();
    rig.answer(1, answer(shows(later, &SHORT, None)));
    rig.answer(2, answer(Promise::default()));
    rig.pass(TIMEOUT_MS);
    assert_eq!(rig.outcome().1, Some(Outcome::Unknown));
    let mut rig = begin();
    rig.answer(1, answer(shows(later, &SHORT, None)));
    rig.answer(2, answer(shows(later, &SHORT, None)));
    rig.pass(TIMEOUT_MS);
    let timeout = (ErrorKind::Timeout, Some(Outcome::NotApplied), false);
    assert_eq!(rig.outcome(), timeout);
}

#[test]
fn a_look_after_a_lost_round_waits_for_owners_that_take_their_time() {
    let mut rig = start(set("v", Condition::Always));
    rig.promise_nothing();
    let ours = rig.accept(1).clone();
    rig.answer(1, ACCEPTED);
    rig.answer(2, outbid(u64::MAX / 2));
    rig.answer(3, outbid(u64::MAX / 2));
    let sent = rig.sent.len();
    rig.pass(6);
    let looks: Vec<_> = rig.sent[sent..]
        .iter()
        .map(|s| (s.node.0, s.attempt))
        .collect();
    rig.pass(150);
    let shows_ours = Promise {
        promised: ours.ballot,
        accepted: Some(Shown {
            ballot: ours.ballot,
            next: None,
            head: ours.head,
            log: Some(ours.log.clone()),
            value: None,
        }),
    };
    for (node, attempt) in looks {
        rig.respond_to(node, attempt, 1, Ok(answer(shows_ours.clone())));
    }
    let done = rig.result().as_ref().expect("applied");
    assert_eq!(done.written, Some(ours.head.version));
}

#[test]
fn a_read_whose_round_was_lost_answers_what_it_finds_then() {
    let mut rig = start(read());
    let open = shows(5, &SHORT, Some(ballot(8)));
    look_three_times(&mut rig, &open);
    rig.promise(1, &open);
    rig.promise(2, &open);
    let far = u64::MAX / 2;
    for node in [1, 2] {
        rig.answer(node, outbid(far));
    }
    let sent = rig.sent.len();
    rig.pass(100);
    assert_eq!(rig.sent_since(sent)[0].1, "look");
    let found = shows(far, &long(), None);
    for node in asked(&rig) {
        rig.answer(node, answer(found.clone()));
    }
    let fetched_from = rig.sent[rig.sent.len() - 1].node.0;
    let mut whole = found;
    whole.accepted.as_mut().expect("it is there").value = Some(long());
    rig.answer(fetched_from, answer(whole));
    assert_eq!(
        rig.value(),
        Some(long()),
        "and proposes nothing of long ago"
    );
}

#[test]
fn a_round_of_a_joint_partition_needs_both_lists_in_both_halves() {
    let joint = Core::new(Incarnation([7; 16]), strong(&joint_view()), Home::default());
    let mut rig = start_in(joint, set("v", Condition::Always));
    assert_eq!(
        rig.sent_since(0),
        [1, 2, 3, 4].map(|node| (node, "prepare"))
    );
    for node in [3, 1] {
        rig.promise(node, &Promise::default());
    }
    assert_eq!(rig.sent.len(), 4, "one of the list to be");
    rig.promise(4, &Promise::default());
    assert_eq!(rig.sent_since(4), [1, 2, 3, 4].map(|node| (node, "accept")));
    for node in [4, 2] {
        rig.answer(node, ACCEPTED);
        assert!(rig.done.is_none(), "after {node}");
    }
    rig.answer(3, ACCEPTED);
    assert!(rig.result().is_ok());
}

#[test]
fn a_round_goes_on_under_a_new_view_with_the_same_owners() {
    let mut rig = start(set("v", Condition::Always));
    rig.promise(1, &Promise::default());
    rig.view(&strong(&grown_view()));
    rig.promise(2, &Promise::default());
    assert_eq!(rig.sent_since(3)[0].1, "accept", "no promise is lost");
    let mut core = accepted_by(&[1, 2]);
    core.install(strong(&grown_view()));
    let rig = start_in(core, set("w", Condition::Always));
    assert_eq!(rig.sent_since(0)[0].1, "accept", "nor is what was reserved");
}
