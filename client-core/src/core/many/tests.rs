//! Operations that go together, beside the same ones by themselves.

use super::*;
use crate::core::SendFailure;
use crate::core::read::ReadOperation;
use crate::core::testing::*;
use crate::core::write::WriteOperation;
use annulet_protocol::clock::Stamp;
use annulet_protocol::level::Level;
use annulet_protocol::message::{Absent, Answer, RefusalKind};
use annulet_protocol::record::Origin;
use annulet_ring::quorum::Side;
use proptest::prelude::*;
use std::fmt::Debug;

/// What happens next.
#[derive(Clone, Debug)]
enum Event {
    /// The message of this place among those that are open is answered, or is not.
    Answer(usize, Response),
    Pass(u64),
    View(u64),
}

fn answers() -> impl Strategy<Value = Response> {
    let found = (0..3u64).prop_map(|stamp_ms| Ok(Answer::Found(record(stamp_ms, None))));
    let head = (0..3u64).prop_map(|stamp_ms| Ok(Answer::FoundHead(record(stamp_ms, None).head)));
    let absent = Just(Ok(Answer::Absent(Absent { floor: Stamp(0) })));
    let refused = prop::sample::select(vec![
        RefusalKind::StaleEpoch,
        RefusalKind::Overloaded,
        RefusalKind::NotOwner,
        RefusalKind::TooLate,
    ]);
    let refused = refused.prop_map(|kind| Ok(refusal(kind)));
    let silent = prop::sample::select(vec![unanswered(), not_sent()]);
    let silent = silent.prop_map(Err::<Answer, SendFailure>);
    prop_oneof![
        4 => found,
        1 => head,
        1 => absent,
        3 => Just(Ok(WRITTEN)),
        1 => refused,
        1 => silent,
    ]
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let answer = (any::<prop::sample::Index>(), answers())
        .prop_map(|(place, response)| Event::Answer(place.index(1_000), response));
    let pass = prop::sample::select(vec![1, 30, 150, 400]).prop_map(Event::Pass);
    let view = (1..=2u64).prop_map(Event::View);
    prop::collection::vec(prop_oneof![8 => answer, 1 => pass, 1 => view], 0..40)
}

/// Operations that go together, and the same ones by themselves.
struct Both<C: Coordinator> {
    now: Now,
    core: Core,
    many: Many<C>,
    told: Option<Vec<Result<C::Done>>>,
    other: Core,
    alone: Vec<C>,
    wanted: Vec<u64>,
    results: Vec<Option<Result<C::Done>>>,
    /// Messages of both.
    sent: Vec<(NodeId, Attempt)>,
}

impl<C: Coordinator> Both<C>
where
    C::Done: Clone + PartialEq + Debug,
{
    fn start(machines: impl Fn(&mut Core) -> Vec<C>) -> Self {
        let (mut core, mut other) = (core(), core());
        let many = Many::new(machines(&mut core).into_iter().map(Box::new));
        let alone = machines(&mut other);
        let mut both = Self {
            now: NOW,
            core,
            many,
            told: None,
            other,
            wanted: vec![0; alone.len()],
            results: alone.iter().map(|_| None).collect(),
            alone,
            sent: Vec::new(),
        };
        let together = both.many.start(&mut both.core, both.now);
        let each = both.each(|_, _| true, |part, core, now| part.start(core, now));
        both.agree(together, each);
        both
    }

    /// Calls one of those by themselves; what it wants done, as it is named together.
    fn one(
        &mut self,
        number: usize,
        call: impl FnOnce(&mut C, &mut Core, Now) -> Effects<C::Done>,
    ) -> Vec<Effect<()>> {
        let mut all = Vec::new();
        for effect in call(&mut self.alone[number], &mut self.other, self.now) {
            all.push(match effect {
                Effect::Send(mut send) => {
                    send.attempt.part = number as u16;
                    Effect::Send(send)
                }
                Effect::Cancel(node, attempt) => Effect::Cancel(node, of_part(attempt, number)),
                Effect::NeedView(epoch) => {
                    self.wanted[number] = self.wanted[number].max(epoch);
                    Effect::NeedView(epoch)
                }
                Effect::Complete(result) => {
                    assert!(self.results[number].replace(result).is_none(), "twice");
                    continue;
                }
            });
        }
        all
    }

    /// Calls each of those by themselves of which this holds.
    fn each(
        &mut self,
        concerns: impl Fn(&Self, usize) -> bool,
        call: impl Fn(&mut C, &mut Core, Now) -> Effects<C::Done>,
    ) -> Vec<Effect<()>> {
        let mut all = Vec::new();
        for number in 0..self.alone.len() {
            if concerns(self, number) {
                all.extend(self.one(number, &call));
            }
        }
        all
    }

    /// Whether both want the same done, and stand alike.
    fn agree(&mut self, together: Effects<Vec<Result<C::Done>>>, each: Vec<Effect<()>>) {
        let mut all = Vec::new();
        for effect in together {
            all.push(match effect {
                Effect::Send(send) => {
                    self.sent.push((send.node, send.attempt));
                    Effect::Send(send)
                }
                Effect::Cancel(node, attempt) => Effect::Cancel(node, attempt),
                Effect::NeedView(epoch) => Effect::NeedView(epoch),
                Effect::Complete(results) => {
                    let results = results.expect("together they do not fail");
                    assert!(self.told.replace(results).is_none(), "twice");
                    continue;
                }
            });
        }
        assert_eq!(all, each);
        let (many, alone) = (&self.many, &self.alone);
        assert_eq!(many.is_finished(), alone.iter().all(C::is_finished));
        let rests = |part: &C| part.is_finished() || part.is_idle();
        assert_eq!(many.is_idle(), alone.iter().all(rests));
        let open = alone.iter().filter(|part| !part.is_finished());
        let wake_ms = open.filter_map(C::next_wake_ms).min();
        let in_time = many.next_wake_ms().is_some_and(|ms| wake_ms >= Some(ms));
        assert!(in_time || wake_ms.is_none() || many.is_finished());
        for (node, attempt) in &self.sent {
            let (number, own) = own(*attempt);
            let awaited = alone[number].awaits(*node, own);
            assert_eq!(many.awaits(*node, *attempt), awaited);
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Answer(place, response) => {
                let (node, attempt) = self.sent[place % self.sent.len()];
                let (epoch, of) = (response.is_ok().then_some(2), (node, attempt));
                let (core, now, answer) = (&mut self.core, self.now, response.clone());
                let together = self.many.handle_response(core, now, of, epoch, answer);
                let (number, own) = own(attempt);
                let each = self.one(number, |part, core, now| {
                    part.handle_response(core, now, (node, own), epoch, response)
                });
                self.agree(together, each);
            }
            Event::Pass(ms) => {
                self.now.mono_ms += ms;
                self.now.wall_ms += ms;
                let now_ms = self.now.mono_ms;
                let due = move |wake_ms: Option<u64>| wake_ms.is_some_and(|ms| ms <= now_ms);
                let together = match due(self.many.next_wake_ms()) {
                    true => self.many.handle_timer(&mut self.core, self.now),
                    false => Effects::new(),
                };
                let each = self.each(
                    |both, number| due(both.alone[number].next_wake_ms()),
                    |part, core, now| part.handle_timer(core, now),
                );
                self.agree(together, each);
            }
            Event::View(epoch) => {
                let view = view(epoch);
                let together = self.many.handle_view(&mut self.core, self.now, &view);
                let mut each = Vec::new();
                for number in 0..self.alone.len() {
                    let wanted = self.wanted[number];
                    if wanted > 0 {
                        self.wanted[number] *= u64::from(wanted > view.ordinal());
                        let show =
                            |part: &mut C, core: &mut Core, now| part.handle_view(core, now, &view);
                        each.extend(self.one(number, show));
                    }
                }
                self.agree(together, each);
            }
        }
    }
}

/// Operations that go together do what each does alone, whatever happens.
fn check<C>(machines: impl Fn(&mut Core) -> Vec<C>, events: Vec<Event>)
where
    C: Coordinator,
    C::Done: Clone + PartialEq + Debug,
{
    let mut both = Both::start(machines);
    for event in events {
        both.happens(event);
    }
    let results: Option<Vec<_>> = both.results.into_iter().collect();
    assert_eq!(both.told, results);
}

const LEVELS: [Level; 4] = [Level::One, Level::Quorum, Level::All, Level::Available];

proptest! {
    #[test]
    fn reads_that_go_together_do_what_each_does_alone(
        levels in prop::collection::vec(prop::sample::select(LEVELS.to_vec()), 1..5),
        events in events(),
    ) {
        let reads = |core: &mut Core| {
            let read = |level: &Level| {
                let start = begin(core, Side::Read, *level);
                ReadOperation::new(start, false).expect("a sound read")
            };
            levels.iter().map(read).collect()
        };
        check(reads, events);
    }

    #[test]
    fn writes_that_go_together_do_what_each_does_alone(
        levels in prop::collection::vec(prop::sample::select(LEVELS.to_vec()), 1..5),
        events in events(),
    ) {
        let writes = |core: &mut Core| {
            let write = |level: &Level| {
                let start = begin(core, Side::Write, *level);
                let stamp = core.mint_after(start.hash, None, NOW);
                let origin = Origin { stamp, op: start.op };
                let value = Some(bytes::Bytes::from_static(b"v"));
                WriteOperation::new(start, origin, value, None).expect("a sound write")
            };
            levels.iter().map(write).collect()
        };
        check(writes, events);
    }
}

#[test]
fn a_message_of_no_part_concerns_nobody() {
    let mut core = core();
    let start = begin(&mut core, Side::Read, Level::One);
    let read = ReadOperation::new(start, false).expect("a sound read");
    let mut many = Many::new([Box::new(read)]);
    many.start(&mut core, NOW);
    let stray = Attempt {
        part: 7,
        ..Attempt::default()
    };
    assert!(!many.awaits(annulet_protocol::ids::NodeId(1), stray));
    let from = (annulet_protocol::ids::NodeId(1), stray);
    let effects = many.handle_response(&mut core, NOW, from, None, Err(not_sent()));
    assert!(effects.is_empty());
    many.cancel();
    assert!(many.is_finished());
}
