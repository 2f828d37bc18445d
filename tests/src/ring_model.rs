//! One key whose partition changes hands, every course of few operations: the real counting
//! ([`Quorum`](annulet_ring::quorum::Quorum)) and the real acceptor
//! ([`Acceptor`](annulet_replica::acceptor::Acceptor)) under every order of what may happen,
//! breadth first, so that the course to a broken rule is a shortest one.
//!
//! | what may happen | |
//! |---|---|
//! | advance | the next epoch is decided; one that closes a move once the copies are done |
//! | learn | a server comes to hold the next epoch, however late |
//! | begin | of an operation, under any epoch that was ever decided |
//! | deliver | of a message to an owner: at any time, also when its operation is over, or never |
//! | conclude | of a phase, when enough have answered |
//! | copy | from a current owner that holds the same epoch to one of the next list |
//! | push | of what an owner has to another one: repair, and the last comparison |
//! | crash | a server forgets which epoch it held, if that is not durable |
//!
//! A server that is away is one to which nothing happens. Servers that stand in the same lists
//! cannot be told apart, so that of states that differ by their names one is looked at.
//!
//! The rules. A read shows no less than what had been completed before it began, and a write is
//! such a completion, too. Changes of a strong key append to a list: what one of them or a read
//! shows goes on from all that had been completed before it began, and any two that are completed
//! go on from one another.
//!
//! A bucket of fewer replicas has the first owners of each list, so it is the same model with
//! shorter lists, and a list in another order is another list. Not here: regions, siblings, and the
//! keepers who decide the epochs, which are in [`chain_model`](crate::chain_model).

mod state;
mod steps;

use crate::mixed::Mixed;
use crate::origins::Origins;
use annulet_protocol::ids::NodeId;
use annulet_protocol::level::Level;
use annulet_ring::owners::{Lists, Owners, RegionOwners};
use annulet_ring::quorum::{Quorum, Side};
use state::{ACTS_MAX, NODES_MAX, State};
use std::collections::HashSet;
use steps::Step;

/// Most states: a scenario that has more takes too long.
const STATES_MAX: usize = 3_000_000;

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A stamped write to all owners.
    Write,
    /// A read of a quorum, with repair.
    Read,
    /// A round that appends to what is there.
    Change,
    /// A read of what a quorum has accepted and nobody goes on from.
    FastRead,
}

/// An operation.
#[derive(Clone, Copy, Debug)]
pub struct Act {
    kind: Kind,
    /// The version of a write, the ballot of a change.
    ballot: u8,
    /// What a change appends.
    item: u8,
    /// The ballot that a change reserves; 0: none.
    reserves: u8,
    /// It goes under the ballot that this change has reserved.
    follows: Option<usize>,
    /// It is this operation once more, when that was given up.
    retries: Option<usize>,
    /// It begins under this epoch, by its place, and no other.
    under: Option<u8>,
}

impl Act {
    /// A write of a version, which is its stamp.
    pub fn write(version: u8) -> Self {
        Self {
            kind: Kind::Write,
            ballot: version,
            item: 0,
            reserves: 0,
            follows: None,
            retries: None,
            under: None,
        }
    }

    /// A read.
    pub fn read() -> Self {
        Self {
            kind: Kind::Read,
            ..Self::write(0)
        }
    }

    /// A round under a ballot that appends an item, of 1 to 3.
    pub fn change(item: u8, ballot: u8) -> Self {
        Self {
            kind: Kind::Change,
            item,
            ..Self::write(ballot)
        }
    }

    /// A read in one round trip.
    pub fn fast_read() -> Self {
        Self {
            kind: Kind::FastRead,
            ..Self::write(0)
        }
    }

    /// The same, with the next ballot reserved.
    #[must_use]
    pub fn reserving(self, reserves: u8) -> Self {
        Self { reserves, ..self }
    }

    /// The same, under the ballot that this change has reserved.
    #[must_use]
    pub fn following(self, change: usize) -> Self {
        Self {
            follows: Some(change),
            ..self
        }
    }

    /// The same, begun under the epoch of this place and no other: so less has to be tried.
    #[must_use]
    pub fn under(self, epoch: u8) -> Self {
        Self {
            under: Some(epoch),
            ..self
        }
    }

    /// The same, as another attempt of this operation.
    #[must_use]
    pub fn retrying(self, act: usize) -> Self {
        Self {
            retries: Some(act),
            ..self
        }
    }
}

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A server forgets in a crash which epoch it held.
    FenceForgotten,
    /// Servers answer requests of any epoch.
    Unfenced,
    /// A server that is behind answers without catching up.
    BehindAnswers,
    /// One current owner is enough to copy from.
    CopiedFromOne,
    /// A majority of the whole list is copied from, and not of those first in it that are owners.
    CopiedFromList,
    /// Copies come from owners that do not hold the epoch.
    CopiedUnfenced,
    /// Copies for a move that was aimed anew come from owners of the epoch before.
    OldFence,
    /// A move is closed when a majority of the next list is done.
    ClosedEarly,
    /// Owners that stay do not copy.
    StaysUncopied,
    /// Reads count the current list alone.
    CurrentRead,
    /// Reads count the next list alone.
    NextRead,
    /// Writes count the current list alone.
    CurrentWritten,
    /// Answers of two epochs make one quorum.
    EpochsMixed,
    /// Reads do not write back what they show.
    NotWrittenBack,
    /// Promises are not copied.
    PromisesNotCopied,
    /// What is copied below a promise is not taken.
    LowCopyIgnored,
    /// A fast read is answered whatever was promised since.
    PromisesIgnored,
    /// A promise up to the reserved ballot counts as the reservation.
    ReservationStretched,
    /// A reserved ballot is used before its quorum has reserved it.
    ReservedEarly,
}

/// An epoch: the lists as sets of nodes, and which sets are quorums of them.
#[derive(Clone, Debug)]
struct Epoch {
    current: u8,
    next: Option<u8>,
    /// Those that are copied from.
    sources: u8,
    /// By the set of nodes that answered.
    reads: Vec<bool>,
    writes: Vec<bool>,
}

/// What is tried.
#[derive(Clone, Debug)]
pub struct Scenario {
    lists: Vec<(u8, Option<u8>)>,
    /// The current lists with those that are no owners of the key, since its bucket has fewer.
    whole: Vec<u8>,
    acts: Vec<Act>,
    pushes: bool,
}

/// How far a scenario was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Different states, but for names.
    pub states: usize,
    /// Steps of the longest course without a detour.
    pub depth: usize,
    /// States in which all operations are completed under the last epoch.
    pub completed: usize,
}

impl Scenario {
    /// These operations, in any order, while epochs with these lists follow each other, such as
    /// `ABC`, `ABC/ABD` with a next list, `ABD`.
    pub fn new(epochs: &[&str], acts: &[Act]) -> Self {
        Self::of_first(usize::MAX, epochs, acts)
    }

    /// The same in a bucket that has so many replicas: the first of each list.
    pub fn of_first(replicas: usize, epochs: &[&str], acts: &[Act]) -> Self {
        let set = |names: &str, most: usize| {
            let names = names.bytes().take(most);
            names.fold(0, |set, name| set | 1 << (name - b'A'))
        };
        let split = |lists: &'_ &str| match lists.split_once('/') {
            Some((current, next)) => (current.to_owned(), Some(next.to_owned())),
            None => ((*lists).to_owned(), None),
        };
        let epochs: Vec<_> = epochs.iter().map(split).collect();
        let lists = epochs.iter().map(|(current, next)| {
            let next = next.as_ref().map(|next| set(next, replicas));
            (set(current, replicas), next)
        });
        let whole = epochs.iter().map(|(current, _)| set(current, usize::MAX));
        Self {
            lists: lists.collect(),
            whole: whole.collect(),
            acts: acts.to_vec(),
            pushes: false,
        }
    }

    /// The same, where owners push what they have to each other.
    #[must_use]
    pub fn pushing(self) -> Self {
        Self {
            pushes: true,
            ..self
        }
    }

    /// Tries everything.
    ///
    /// # Errors
    /// The steps to a state that breaks a rule.
    pub fn check(&self, broken: Option<Broken>) -> Result<Tried, String> {
        assert!(self.acts.len() <= ACTS_MAX, "too many operations");
        let listed = broken == Some(Broken::CopiedFromList);
        let epochs = self.lists.iter().zip(&self.whole);
        let epochs = epochs.map(|(lists, whole)| match listed {
            true => Epoch::new(*lists, *whole, broken),
            false => Epoch::new(*lists, lists.0, broken),
        });
        let epochs: Vec<_> = epochs.collect();
        let mut search = Search {
            acts: &self.acts,
            pushes: self.pushes,
            broken,
            nodes: nodes(&epochs),
            alike: alike(&epochs),
            epochs,
            origins: Origins::new(),
        };
        search.run()
    }
}

impl Epoch {
    fn new((current, next): (u8, Option<u8>), sources: u8, broken: Option<Broken>) -> Self {
        let lists = |set: u8| -> Lists {
            let nodes = (0..NODES_MAX as u64).filter(|node| set >> node & 1 == 1);
            let nodes = nodes.map(NodeId).collect();
            std::iter::once(RegionOwners { region: 0, nodes }).collect()
        };
        let stable = |set| Owners::stable(lists(set), 1);
        let joint = Owners {
            next: next.map(|next| Box::new(lists(next))),
            ..stable(current)
        };
        let met = |side, owners: &Owners| -> Vec<bool> {
            let quorum = Quorum::of(Level::Quorum, side, owners, None).expect("owners");
            let sets = 0..1u64 << NODES_MAX;
            sets.map(|set| quorum.is_met(|node| set >> node.0 & 1 == 1))
                .collect()
        };
        let read = match (broken, next) {
            (Some(Broken::CurrentRead), _) => stable(current),
            (Some(Broken::NextRead), Some(next)) => stable(next),
            _ => joint.clone(),
        };
        let written = match broken {
            Some(Broken::CurrentWritten) => stable(current),
            _ => joint,
        };
        Self {
            current,
            next,
            sources,
            reads: met(Side::Read, &read),
            writes: met(Side::Write, &written),
        }
    }

    fn owners(&self) -> u8 {
        self.current | self.next.unwrap_or(0)
    }
}

/// How many servers stand in lists.
fn nodes(epochs: &[Epoch]) -> usize {
    let all = epochs.iter().map(|epoch| epoch.owners() | epoch.sources);
    (u8::BITS - all.fold(0, |all, set| all | set).leading_zeros()) as usize
}

/// For each node those that stand in the same lists of all epochs.
fn alike(epochs: &[Epoch]) -> Vec<Vec<usize>> {
    let stands = |node: usize| -> Vec<[bool; 3]> {
        let stands = |set: u8| set >> node & 1 == 1;
        let of = |epoch: &Epoch| {
            let Epoch { current, next, .. } = *epoch;
            [current, next.unwrap_or(0), epoch.sources].map(stands)
        };
        epochs.iter().map(of).collect()
    };
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for node in 0..NODES_MAX {
        let group = groups.iter_mut().find(|g| stands(g[0]) == stands(node));
        match group {
            Some(group) => group.push(node),
            None => groups.push(vec![node]),
        }
    }
    groups
}

/// A search for a broken rule.
struct Search<'a> {
    acts: &'a [Act],
    pushes: bool,
    broken: Option<Broken>,
    /// Servers that stand in lists.
    nodes: usize,
    /// Nodes that cannot be told apart.
    alike: Vec<Vec<usize>>,
    epochs: Vec<Epoch>,
    /// For each state which one it came from, and how.
    origins: Origins<Step>,
}

impl Search<'_> {
    fn breaks(&self, broken: Broken) -> bool {
        self.broken == Some(broken)
    }

    fn run(&mut self) -> Result<Tried, String> {
        let first = State::default().named(&self.alike);
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
                    let after = after.named(&self.alike);
                    if !known.insert(after.key()) {
                        continue;
                    }
                    let number = self.origins.note(*index, *step);
                    if let Some(why) = after.broken {
                        let course = self.origins.course(number);
                        return Err(format!("{why}\n  {}", course.join("\n  ")));
                    }
                    let last = usize::from(after.decided) + 1 == self.epochs.len();
                    completed += usize::from(last && after.is_over(self.acts.len()));
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
            completed,
        })
    }
}
