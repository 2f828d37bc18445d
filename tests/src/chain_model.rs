//! The chain of epochs and its keepers, every course of few proposals: who decides the next epoch
//! while keepers change, die and leave, and how the chain is begun anew when too few of them are
//! left. Breadth first, so that the course to a broken rule is a shortest one.
//!
//! | what may happen | |
//! |---|---|
//! | begin | of a proposal, by a server that acts under the epoch before, with its receipts |
//! | deliver | of a prepare or an accept, at any time, also once more, with or without an answer |
//! | conclude | of a phase, when enough have answered |
//! | take | a server holds a record that somebody held at any time, however late |
//! | settle | a server acts under what it holds, once enough keepers hold that |
//! | leave | a server that keeps nothing any more, and its disk with it |
//! | die | and perhaps return later, with its disk |
//! | ask, write | of a recovery: a server is sealed and answers; the new record is written |
//!
//! An answer that is late is no other than one that came at once, since nothing that it says
//! becomes wrong: so it comes at once or never. A proposer that gives up is one to which nothing
//! happens.
//!
//! The votes are those of the real [`Acceptor`](annulet_replica::acceptor::Acceptor), and how two
//! chains stand to each other is said by the real [`relation`](annulet_ring::chain::relation). The
//! rest of [`Chain`](annulet_replica::chain::Chain) and of the
//! [`Proposer`](annulet_ring::chain::proposer::Proposer) is modelled in small plain data: they hold
//! whole views and a store, and a search has millions of states. So this is a check of the rules,
//! not of that code, which the simulator drives. Nothing of recovery is built yet: the model says
//! what it will have to do.
//!
//! The rules.
//! - One record at most is decided to follow an epoch, and what anybody holds was decided.
//! - Nobody acts under an epoch before a majority of its keepers holds it.
//! - As long as a majority of the keepers is alive, of the newest epoch that anybody acts under and
//!   of those that are proposed to follow it, another one can be decided. Who may die is limited to
//!   that, unless there are recoveries.
//! - No server passes from an epoch that it acted under to one whose chain does not hold that.
//! - Where each recovery has asked every server that was alive, no two servers that go on hold
//!   different chains, and none that was alive has to stop. A server that returns asks one that
//!   holds the newest recovery before it goes on, and joins or stops.
//!
//! Where a recovery did not ask everybody, what the others hold may be undone, and they stop.
//!
//! Not here: what the records say beside their keepers, the lists, and proposals after a recovery.

mod checks;
mod records;
mod recovery;
mod state;
mod steps;

use crate::mixed::Mixed;
use crate::origins::Origins;
use records::Record;
use state::{NODES_MAX, PROPOSALS_MAX, RECOVERIES_MAX, State};
use std::collections::HashSet;
use steps::Step;

/// Most states: a scenario that has more takes too long.
const STATES_MAX: usize = 3_000_000;

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A keeper forgets in a crash what it voted.
    VotesForgotten,
    /// What one keeper promised or accepted counts as if a majority had.
    OneDecides,
    /// What was accepted before is not taken over.
    OwnRecordKept,
    /// A keeper leaves when it holds an epoch without it, whoever else holds that.
    LeftEarly,
    /// An epoch is proposed without asking whether its keepers hold the one before.
    NoReceipts,
    /// A server acts under an epoch as soon as it holds it.
    ActedEarly,
    /// Who answers a recovery goes on as before.
    Unsealed,
    /// Who answers a recovery votes no more, and still takes records.
    VotesSealed,
    /// A recovery looks for the highest generation of records, not of seals.
    GenerationReused,
    /// A recovery that finds a higher generation does not ask again.
    NotAskedAgain,
    /// A server passes to whatever epoch has the higher generation and number.
    NumbersCompared,
}

/// A proposal: one attempt to have a record follow an epoch. Later ones have higher ballots.
#[derive(Clone, Copy, Debug)]
struct Proposing {
    /// Who proposes.
    node: usize,
    /// The record that its own one follows.
    base: u8,
}

/// What is tried.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The first epoch, then what is proposed.
    records: Vec<Record>,
    proposals: Vec<Proposing>,
    deaths: u8,
    recoveries: usize,
    partial: bool,
    returns: bool,
}

/// How far a scenario was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Different states.
    pub states: usize,
    /// Steps of the longest course without a detour.
    pub depth: usize,
    /// States in which somebody acts under one of the last epochs; with recoveries, in which all
    /// that are alive act under one that was recovered.
    pub completed: usize,
}

impl Scenario {
    /// A chain whose first epoch has these keepers, such as `ABC`. All servers hold it.
    pub fn new(keepers: &str) -> Self {
        Self {
            records: vec![Record::first(set(keepers))],
            proposals: Vec::new(),
            deaths: 0,
            recoveries: 0,
            partial: false,
            returns: false,
        }
    }

    /// The same, where a server proposes these keepers to follow a record: 0 is the first epoch, 1
    /// what the first proposal proposes, and so on.
    #[must_use]
    pub fn propose(mut self, by: char, base: u8, keepers: &str) -> Self {
        assert!(self.proposals.len() < PROPOSALS_MAX, "too many proposals");
        let before = self.records[usize::from(base)];
        self.records.push(before.followed_by(base, set(keepers)));
        let node = usize::from(by as u8 - b'A');
        self.proposals.push(Proposing { node, base });
        self
    }

    /// The same, where so many servers may die.
    #[must_use]
    pub fn deaths(self, deaths: u8) -> Self {
        Self { deaths, ..self }
    }

    /// The same, with so many recoveries, each begun after a death. All that are alive are asked.
    #[must_use]
    pub fn recoveries(self, recoveries: usize) -> Self {
        assert!(recoveries <= RECOVERIES_MAX, "too many recoveries");
        Self { recoveries, ..self }
    }

    /// The same, where recoveries may ask fewer than all that are alive.
    #[must_use]
    pub fn partial(self) -> Self {
        Self {
            partial: true,
            ..self
        }
    }

    /// The same, where who died may return.
    #[must_use]
    pub fn returning(self) -> Self {
        Self {
            returns: true,
            ..self
        }
    }

    /// Tries everything.
    ///
    /// # Errors
    /// The steps to a state that breaks a rule.
    pub fn check(&self, broken: Option<Broken>) -> Result<Tried, String> {
        let mut search = Search {
            scenario: self,
            broken,
            nodes: self.nodes(),
            last: self.records.iter().map(|r| r.number).max().unwrap_or(0),
            origins: Origins::new(),
        };
        search.run()
    }

    /// How many servers are named.
    fn nodes(&self) -> usize {
        let named = self.records.iter().map(|record| record.keepers);
        let named = named.chain(self.proposals.iter().map(|by| 1 << by.node));
        let all = named.fold(0, |all, set| all | set);
        let nodes = (u8::BITS - all.leading_zeros()) as usize;
        assert!(nodes <= NODES_MAX, "too many servers");
        nodes
    }
}

/// A search for a broken rule.
struct Search<'a> {
    scenario: &'a Scenario,
    broken: Option<Broken>,
    /// How many servers there are.
    nodes: usize,
    /// The highest number of what is proposed.
    last: u8,
    /// For each state which one it came from, and how.
    origins: Origins<Step>,
}

impl Search<'_> {
    fn breaks(&self, broken: Broken) -> bool {
        self.broken == Some(broken)
    }

    fn run(&mut self) -> Result<Tried, String> {
        let first = State::default();
        let mut known: HashSet<u128, Mixed> = HashSet::default();
        known.insert(first.key());
        let mut open = vec![(0, first)];
        let (mut depth, mut completed) = (0, 0);
        let mut steps = Vec::new();
        while !open.is_empty() {
            let mut next = Vec::new();
            for (index, state) in &open {
                steps.clear();
                self.steps(state, &mut steps);
                for (step, after) in &steps {
                    if !known.insert(after.key()) {
                        continue;
                    }
                    let number = self.origins.note(*index, *step);
                    if let Some(why) = self.broken_rule(after) {
                        let course = self.origins.course(number);
                        let states = known.len();
                        let course = course.join("\n  ");
                        return Err(format!("{why} ({states} states)\n  {course}"));
                    }
                    completed += usize::from(self.is_completed(after));
                    next.push((number, *after));
                }
            }
            if known.len() > STATES_MAX {
                return Err(format!("more than {STATES_MAX} states, depth {depth}"));
            }
            (open, depth) = (next, depth + 1);
        }
        Ok(Tried {
            states: known.len(),
            depth,
            completed,
        })
    }
}

/// The servers of these names.
fn set(names: &str) -> u8 {
    names.bytes().fold(0, |set, name| set | 1 << (name - b'A'))
}

fn has(set: u8, node: usize) -> bool {
    set >> node & 1 == 1
}

fn is_majority(of: u8, set: u8) -> bool {
    (set & of).count_ones() > of.count_ones() / 2
}
