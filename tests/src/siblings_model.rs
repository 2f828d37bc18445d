//! Concurrent values of one key, every course of few operations: the real record
//! ([`Siblings`](annulet_protocol::siblings::Siblings)) at three owners and a fallback, under every
//! order of what may happen, breadth first, so that the course to a broken rule is a shortest one.
//!
//! | what may happen | |
//! |---|---|
//! | read | of any one owner, or of any two together; with hints, of the fallback too |
//! | attempt | of an operation, at any owner, at any time: early, late, after it was overwritten |
//! | relay | of the record that an attempt left, to any server: late, never, many times |
//! | push | of what an owner has, to any other one; one old record may be held back and come late |
//! | hint | the fallback mints, keeps what it is sent, hands it over, and begins anew |
//! | crash | an owner loses what it has not synced, and is another actor from then on |
//! | floor | a week goes by; owners close, gather from each other, and raise their floors |
//!
//! The rules, at every state. A value that an owner has had, and that no operation at any server
//! had seen, is at some owner. A value that an operation at an owner had seen is not, once the
//! records of all owners are merged. Any two owners show every acknowledged value, and none that an
//! acknowledged operation had seen. Owners that exchange what they have, in any order, come to the
//! same record. What was seen is judged by what reads showed, never by what is in a record.
//!
//! Two things are weaker, as they are meant to be. After a crash only what was acknowledged must be
//! there. And long after an operation was sent, when servers have forgotten it, an overwritten
//! value that was minted twice may be a sibling once more.
//!
//! Not here: limits, sizes, expiry, moves of the key, and contexts that nobody gave out.

mod judge;
mod records;
mod state;
mod steps;

use crate::mixed::Mixed;
use crate::origins::Origins;
use records::{Id, Records};
use state::{ATTEMPTS_MAX, OPS_MAX, State};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use steps::Step;

/// Most states: a scenario that has more takes too long.
const STATES_MAX: usize = 5_000_000;

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Adds a value.
    Put,
    /// Leaves nothing of what it has seen.
    Delete,
}

/// What an operation has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nothing.
    Blind,
    /// What a read showed.
    Read,
    /// What the acknowledgement of this operation showed.
    Ack(usize),
}

/// An operation.
#[derive(Clone, Copy, Debug)]
pub struct Act {
    kind: Kind,
    source: Source,
    attempts: usize,
    at_fallback: bool,
}

impl Act {
    /// Adds a value.
    pub fn put(source: Source) -> Self {
        Self {
            kind: Kind::Put,
            source,
            attempts: 1,
            at_fallback: false,
        }
    }

    /// Deletes what a read showed.
    pub fn delete() -> Self {
        Self {
            kind: Kind::Delete,
            ..Self::put(Source::Read)
        }
    }

    /// Sent so often.
    #[must_use]
    pub fn times(self, attempts: usize) -> Self {
        Self { attempts, ..self }
    }

    /// The last attempt of it goes to the fallback.
    #[must_use]
    pub fn at_fallback(self) -> Self {
        Self {
            at_fallback: true,
            ..self
        }
    }
}

/// When an answer is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Once all it rests on is synced. Reads may show what is not.
    Group,
    /// At once. After a crash an owner counts in reads once it has compared with both others.
    Async,
}

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A server that lost what it minted is the same actor.
    IncarnationKept,
    /// A fallback that has handed its record over is the same actor.
    TenureKept,
    /// Not the whole record goes to the others: the new value, with what its writer had seen.
    DottedAlone,
    /// Another attempt is another operation.
    RetriedAsAnother,
    /// What was overwritten is forgotten while attempts are still on their way.
    PastForgotten,
    /// The context of an acknowledgement has values that its writer was not shown.
    SiblingsHidden,
    /// An operation that is there already is acknowledged before it is synced.
    KnownUnsynced,
    /// After a crash under [`Durability::Async`] an owner counts at once.
    NotCompared,
    /// A value is minted under a stamp that may be at or below the base.
    MintedBelowFloor,
    /// Floors are raised without proof.
    Unproved,
    /// An owner that has closed takes old values from outside.
    LateTaken,
    /// An owner merges from others that have not closed yet.
    GatheredEarly,
    /// An owner says that it has everything before that is synced.
    GatheredUnsynced,
    /// A fallback keeps values of long ago that are sent to it first hand.
    LateKept,
    /// What was kept for too long is merged with what is kept later.
    AsideMerged,
    /// The base of a record does not travel with it.
    #[cfg(feature = "faults")]
    BaseIgnored,
    /// What is absent is shown without the floor as its base.
    AbsentUnfloored,
}

/// What is tried.
#[derive(Clone, Debug, Default)]
pub struct Scenario {
    /// What is done, in any order.
    pub acts: Vec<Act>,
    /// Owners push what they have to each other.
    pub pushes: bool,
    /// One old record comes late.
    pub holds: bool,
    /// The fallback keeps records for owners.
    pub hints: bool,
    /// One owner may crash.
    pub crash: Option<Durability>,
    /// A week may go by.
    pub later: bool,
    /// Then floors are raised.
    pub floors: bool,
}

/// How far a scenario was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Different states.
    pub states: usize,
    /// Steps of the longest course without a detour.
    pub depth: usize,
    /// States in which everything was acknowledged.
    pub acknowledged: usize,
}

impl Scenario {
    /// Tries everything.
    ///
    /// # Errors
    /// The steps to a state that breaks a rule.
    pub fn check(&self, broken: Option<Broken>) -> Result<Tried, String> {
        let attempts = self.acts.iter().map(|act| act.attempts).sum::<usize>();
        assert!(
            self.acts.len() <= OPS_MAX && attempts <= ATTEMPTS_MAX,
            "too many operations"
        );
        let mut starts = vec![0];
        for act in &self.acts {
            starts.push(starts[starts.len() - 1] + act.attempts);
        }
        let mut search = Search {
            scenario: self,
            broken,
            records: Records::new(),
            starts,
            judged: HashMap::default(),
            origins: Origins::new(),
        };
        search.run()
    }
}

/// A search for a broken rule.
struct Search<'a> {
    scenario: &'a Scenario,
    broken: Option<Broken>,
    records: Records,
    /// The first attempt of each operation, and the end of the last one's.
    starts: Vec<usize>,
    /// Records of all owners that break no rule, and what they are together.
    judged: HashMap<u128, Id, Mixed>,
    /// For each state which one it came from, and how.
    origins: Origins<Step>,
}

impl Search<'_> {
    fn attempts(&self, op: usize) -> Range<usize> {
        self.starts[op]..self.starts[op + 1]
    }

    /// Which operation this is an attempt of.
    fn op_of(&self, attempt: usize) -> usize {
        self.starts.partition_point(|start| *start <= attempt) - 1
    }

    fn run(&mut self) -> Result<Tried, String> {
        let first = self.first();
        let mut known: HashSet<u128, Mixed> = HashSet::default();
        known.insert(first.key());
        let mut open = vec![(0, first)];
        let (mut depth, mut acknowledged) = (0, 0);
        let mut steps = Vec::new();
        while !open.is_empty() {
            let mut next = Vec::new();
            for (index, state) in &open {
                self.steps(state, &mut steps);
                for step in &steps {
                    let Some(after) = self.apply(state, *step) else {
                        continue;
                    };
                    if !known.insert(after.key()) {
                        continue;
                    }
                    let number = self.origins.note(*index, *step);
                    if let Err(why) = self.judge(&after) {
                        let course = self.origins.course(number);
                        return Err(format!("{why}\n  {}", course.join("\n  ")));
                    }
                    let ops = &after.ops[..self.scenario.acts.len()];
                    acknowledged += usize::from(ops.iter().all(|op| op.acked));
                    next.push((number, after));
                }
            }
            if known.len() > STATES_MAX {
                return Err(format!("more than {STATES_MAX} states"));
            }
            (open, depth) = (next, depth + 1);
        }
        Ok(Tried {
            states: known.len(),
            depth,
            acknowledged,
        })
    }

    fn first(&self) -> State {
        let mut first = State::default();
        for (op, act) in first.ops.iter_mut().zip(&self.scenario.acts) {
            op.begun = act.source == Source::Blind;
        }
        first
    }
}
