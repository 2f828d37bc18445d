//! What a server minted, on its way to the other owners without a client.

use super::siblings::{mint, mint_in};
use super::*;
use crate::spread::confirmed::Confirmed;
use crate::spread::{Round, Spreader};
use crate::store::Span;
use annulet_protocol::message::Operation;
use annulet_protocol::siblings::message::Spread;

const WRITTEN: Answer = Answer::Written(Written { superseded: None });

fn round(rig: &Rig, spreader: &mut Spreader) -> (Round, Vec<Task>) {
    let round = spreader.round(&rig.store, &rig.view, NodeId(1), rig.now_ms, |_| false);
    round.expect("a store in memory does not fail")
}

/// How many notes there are.
fn notes(rig: &Rig) -> usize {
    let span = Span::prefix(&[], 9_999, usize::MAX);
    rig.store.range(Family::Notes, &span).unwrap().entries.len()
}

/// The keys that the other owner is asked about.
fn keys(round: &Round) -> Vec<String> {
    let asked = round.questions().flat_map(|(_, operations)| operations);
    let key = |operation| match operation {
        Operation::Compare(compare) => String::from_utf8(compare.key.to_vec()).unwrap(),
        other => panic!("it asks {other:?}"),
    };
    asked.map(key).collect()
}

impl Rig {
    fn note(&mut self, tasks: Vec<Task>) {
        for task in tasks {
            self.mutate(Mutation::Task(task));
        }
    }

    /// Mints at keys, in one batch.
    fn mint_all(&mut self, keys: &[&str]) {
        let nothing = Siblings::default();
        let mint = |(key, n): (&&str, u64)| Mutation::Mint(mint_in(SIBLINGS, key, n, &nothing));
        let mints: Vec<_> = keys.iter().zip(1..).map(mint).collect();
        self.mutate_all(EPOCH, &mints);
    }
}

#[test]
fn what_only_the_minter_has_is_sent_on_by_it() {
    let mut rig = Rig::new();
    let nothing = Siblings::default();
    let mut other = Rig::new();
    other.replica = Replica::new(NodeId(2), Incarnation([9; 16]));
    let mut spreader = Spreader::default();
    let client_has_ms = spreader.client_has_ms;
    rig.minted(&mint(1, &nothing));
    assert!(
        round(&rig, &mut spreader).0.is_empty(),
        "its client may be at it"
    );
    rig.now_ms += client_has_ms;
    // Written again and again, it is due all the same.
    rig.minted(&mint(2, &nothing));
    for (step, sends) in [(1, false), (2, true)] {
        let (mut asked, tasks) = match step {
            1 => round(&rig, &mut spreader),
            _ => {
                spreader = Spreader::default();
                let (mut first, _) = round(&rig, &mut spreader);
                first.take(NodeId(2), &[Answer::Lacking(Default::default())]);
                let (tasks, next) = first.end();
                (next, tasks)
            }
        };
        assert_eq!(tasks, []);
        let questions: Vec<_> = asked.questions().collect();
        let [(NodeId(2), operations)] = &questions[..] else {
            panic!("the other owner is asked: {questions:?}")
        };
        let mutation = match &operations[..] {
            [Operation::Compare(compare)] if !sends => Mutation::Compare(compare.clone()),
            [Operation::Merge(merge)] if sends => Mutation::Merge(merge.clone()),
            other => panic!("it sends {other:?}"),
        };
        let answer = other.mutate(mutation);
        asked.take(NodeId(2), &[answer]);
        let (tasks, _) = asked.end();
        assert_eq!(tasks.len(), usize::from(sends));
        rig.note(tasks);
    }
    assert_eq!(other.record(), rig.record());
    assert_eq!(notes(&rig), 1, "of the second");
    spreader = Spreader::default();
    rig.now_ms += client_has_ms;
    let (mut asked, _) = round(&rig, &mut spreader);
    asked.take(NodeId(2), &[WRITTEN]);
    rig.note(asked.end().0);
    assert_eq!(notes(&rig), 0, "all have both");
}

#[test]
fn a_note_is_about_a_batch_and_keeps_what_is_left_of_it() {
    let mut rig = Rig::new();
    let mut spreader = Spreader::default();
    rig.mint_all(&["b", "a", "c", "a"]);
    rig.mint_all(&["c"]);
    assert_eq!(notes(&rig), 2);
    rig.now_ms += 2 * spreader.client_has_ms;
    let (mut asked, _) = round(&rig, &mut spreader);
    let mut names = keys(&asked);
    names.sort_unstable();
    assert_eq!(names, ["a", "b", "c"], "each once");
    let answer = |name: &String| match name.as_str() {
        "b" => Answer::Refused(Refusal::new(RefusalKind::Overloaded, "later")),
        _ => WRITTEN,
    };
    let answers: Vec<_> = keys(&asked).iter().map(answer).collect();
    asked.take(NodeId(2), &answers);
    let (tasks, next) = asked.end();
    assert!(next.is_empty(), "nobody lacks anything");
    rig.note(tasks);
    assert_eq!(notes(&rig), 1);
    assert!(round(&rig, &mut spreader).0.is_empty(), "it pauses");
    rig.now_ms += spreader.client_has_ms;
    let (asked, _) = round(&rig, &mut spreader);
    assert_eq!(keys(&asked), ["b"]);
}

#[test]
fn a_pass_takes_as_many_rounds_as_it_needs_and_passes_over_who_does_not_answer() {
    // A round ends within a note, and where one ends.
    for batch in [700, 512, 1] {
        check_pass(batch);
    }
}

fn check_pass(batch: usize) {
    let mut rig = Rig::new();
    let mut spreader = Spreader::default();
    let names: Vec<_> = (0..2_500).map(|number| format!("{number:04}")).collect();
    for some in names.chunks(batch) {
        rig.mint_all(&some.iter().map(String::as_str).collect::<Vec<_>>());
    }
    rig.now_ms += 2 * spreader.client_has_ms;
    let mut all = Vec::new();
    for _ in 0..3 {
        let (asked, tasks) = round(&rig, &mut spreader);
        assert_eq!(tasks, []);
        assert!(keys(&asked).len() <= 1_024);
        all.extend(keys(&asked));
    }
    assert!(round(&rig, &mut spreader).0.is_empty(), "the pass is over");
    all.sort_unstable();
    assert_eq!(all, names);
}

#[test]
fn what_clients_vouched_for_does_not_fill_a_round() {
    let mut rig = Rig::new();
    for number in 0..3_000 {
        rig.mint_all(&[&number.to_string()]);
    }
    assert_eq!(notes(&rig), 3_000, "each put was a batch of its own");
    let mut spreader = Spreader::default();
    rig.now_ms += 2 * spreader.client_has_ms;
    let (store, view, now_ms) = (&rig.store, &rig.view, rig.now_ms);
    let round = spreader.round(store, view, NodeId(1), now_ms, |note| {
        note.clear();
        true
    });
    let (asked, tasks) = round.expect("a store in memory does not fail");
    assert!(asked.is_empty());
    rig.note(tasks);
    assert_eq!(notes(&rig), 0, "a second has more puts than one look takes");
}

#[test]
fn what_was_minted_by_a_clock_that_was_ahead_is_sent_on_all_the_same() {
    let mut rig = Rig::new();
    let mut spreader = Spreader::default();
    let now_ms = rig.now_ms;
    rig.now_ms += 60_000;
    rig.mint_all(&["ahead"]);
    rig.now_ms = now_ms;
    rig.stamp = Stamp::at(now_ms);
    rig.mint_all(&["now"]);
    let (asked, _) = round(&rig, &mut spreader);
    assert_eq!(keys(&asked), ["ahead"]);
}

#[test]
fn what_is_gone_leaves_its_note() {
    let mut rig = Rig::new();
    let mut spreader = Spreader::default();
    rig.mint_all(&["gone", "k"]);
    let hash = rig.view.hash(SIBLINGS, b"gone");
    let key = storage_key(hash, SIBLINGS, b"gone");
    rig.note(vec![Task::Remove { key }]);
    rig.now_ms += 2 * spreader.client_has_ms;
    let (asked, tasks) = round(&rig, &mut spreader);
    assert_eq!(keys(&asked), ["k"]);
    assert_eq!(tasks.len(), 1, "the other one is not waited for");
    rig.note(tasks);
    let mut later = Spreader::default();
    assert_eq!(keys(&round(&rig, &mut later).0), ["k"]);
}

#[test]
fn what_a_client_says_that_all_have_is_not_asked_for() {
    let own = Incarnation([1; 16]);
    let cases = [
        (EPOCH, own, 0, true),
        (EPOCH - 1, own, 0, false),
        (EPOCH + 1, own, 0, false),
        (EPOCH, Incarnation([2; 16]), 0, false),
        // Of what was minted before: another client may have died since.
        (EPOCH, own, 1, false),
    ];
    for (epoch, incarnation, less, settled) in cases {
        let mut rig = Rig::new();
        let mut spreader = Spreader::default();
        rig.mint_all(&["a", "k"]);
        let stamp = rig.record().newest();
        let stamp = Stamp(stamp.0 - less);
        let (bucket, key) = (SIBLINGS, "k".into());
        let spread = Spread {
            bucket,
            key,
            incarnation,
            stamp,
        };
        let mut confirmed = Confirmed::default();
        confirmed.note(&rig.view, own, epoch, &spread);
        rig.now_ms += spreader.client_has_ms;
        let (store, view, now_ms) = (&rig.store, &rig.view, rig.now_ms);
        let round = spreader.round(store, view, NodeId(1), now_ms, |note| {
            confirmed.take_from(note)
        });
        let (asked, tasks) = round.expect("a store in memory does not fail");
        assert_eq!(keys(&asked).contains(&"k".into()), !settled);
        assert_eq!(tasks.len(), usize::from(settled), "the note is shorter");
        rig.note(tasks);
        assert_eq!(notes(&rig), 1, "of the other key");
    }
}

#[test]
fn what_no_put_can_be_about_takes_no_memory() {
    let rig = Rig::new();
    let own = Incarnation([1; 16]);
    let mut confirmed = Confirmed::default();
    let long: Bytes = vec![b'k'; 4_097].into();
    for (bucket, key) in [(SIBLINGS, long), (GROUP, "k".into()), (99, "k".into())] {
        let spread = Spread {
            bucket,
            key,
            incarnation: own,
            stamp: Stamp::at(NOW_MS),
        };
        confirmed.note(&rig.view, own, EPOCH, &spread);
        assert_eq!(confirmed.count(), 0);
    }
}
