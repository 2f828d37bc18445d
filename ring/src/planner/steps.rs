//! From the lists as they are towards those that a plan wants, a few moves at a time.
//!
//! A move changes every prefix of a list by at most one owner, so that any one node may die during
//! it, in buckets of any number of replicas: it puts one owner in another's place, adds one, drops
//! one, or lets two change places. A list that differs in more takes several moves, one after the
//! other.
//!
//! Whoever plans anew takes the moves under way as done ([`Present::after`]), and a plan that is
//! carried out to a part leads on to a table as good (see [`rebalance()`](super::rebalance())): no
//! plan has to be kept.

use std::collections::{HashMap, HashSet};

use super::{NONE, Present, RegionPlan};

/// One list that is to become another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Name of the region.
    pub region: String,
    /// The partition.
    pub partition: u32,
    /// Member indices of the owners to be.
    pub next: Vec<u32>,
}

/// How much may move at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Moves in the whole cluster.
    pub total: usize,
    /// Moves that bring the same node something it does not have.
    pub arriving: usize,
    /// Moves of lists in which the same node stands, and so gives copies away.
    pub giving: usize,
}

/// Whether a member is to own anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is to own its share.
    Stays,
    /// It is to own nothing any more.
    Leaves,
    /// The same, and it does not answer: nobody may wait for it.
    Lost,
    /// It is to own its share, and does not answer: it may come back.
    Away,
}

impl Standing {
    fn answers(self) -> bool {
        match self {
            Self::Stays | Self::Leaves => true,
            Self::Lost | Self::Away => false,
        }
    }

    fn is_to_own(self) -> bool {
        match self {
            Self::Stays | Self::Away => true,
            Self::Leaves | Self::Lost => false,
        }
    }
}

impl Present {
    /// The list of a partition, without the empty places.
    pub(crate) fn list(&self, partition: u32) -> &[u32] {
        let start = partition as usize * self.length;
        let list = self.owners.get(start..start + self.length);
        let list = list.unwrap_or_default();
        let length = list.iter().position(|owner| *owner == NONE);
        &list[..length.unwrap_or(list.len())]
    }

    /// The lists as they are when these moves are over. Moves of other regions, or of partitions
    /// that there are not, change nothing.
    #[must_use]
    pub fn after(&self, moves: &[Move]) -> Self {
        let here = || moves.iter().filter(|one| one.region == self.region);
        let longest = here().map(|one| one.next.len()).max().unwrap_or(0);
        let length = self.length.max(longest);
        let mut owners = self.owners.clone();
        if length > self.length {
            let padded = self.owners.chunks(self.length).flat_map(|list| {
                let missing = std::iter::repeat_n(NONE, length - self.length);
                list.iter().copied().chain(missing)
            });
            owners = padded.collect();
        }
        for Move {
            partition, next, ..
        } in here()
        {
            let start = *partition as usize * length;
            if let Some(list) = owners.get_mut(start..start + length) {
                list.fill(NONE);
                list[..next.len()].copy_from_slice(next);
            }
        }
        Self {
            region: self.region.clone(),
            length,
            owners,
        }
    }
}

/// How urgent a move is, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    /// The list is too short.
    Lacks,
    /// An owner is to own nothing any more.
    Leaves,
    /// Load is to be spread.
    Balance,
    /// Only the order changes: nothing is copied in buckets that use the whole list.
    Order,
}

/// Further moves towards a plan that may begin beside those that are under way, the most urgent
/// first. The present lists are those before the moves under way, and in as many partitions as the
/// plan's. Who is lost goes before anybody else comes or goes: every owner of the next list has to
/// say that it has all it should. No move begins towards a node that does not answer, nor one that
/// would take a quorum away from those that do.
pub fn moves(
    present: &[Present],
    wanted: &[RegionPlan],
    under_way: &[Move],
    limits: Limits,
    standing: impl Fn(u32) -> Standing,
) -> Vec<Move> {
    let mut candidates = Vec::new();
    let mut budget = Budget::new(limits);
    let busy: HashSet<_> = under_way.iter().map(|one| one.partition).collect();
    for plan in wanted {
        let lists = present.iter().find(|lists| lists.region == plan.region);
        let partitions = plan.owners.chunks(plan.length.max(1));
        for (partition, want) in (0u32..).zip(partitions) {
            let have = lists.map_or(&[][..], |lists| lists.list(partition));
            if have == want {
                continue;
            }
            budget.differ(have, want);
            if busy.contains(&partition) {
                continue;
            }
            let one = Move {
                region: plan.region.clone(),
                partition,
                next: step(have, want, &standing),
            };
            let answers = |node: &u32| standing(*node).answers();
            if arrivals(have, &one.next).all(answers) && keeps_quorums(have, &one.next, &standing) {
                candidates.push((urgency(have, want, &standing), have, one));
            }
        }
    }
    let planned = |lists: &&Present| wanted.iter().any(|plan| plan.region == lists.region);
    for lists in present.iter().filter(|lists| !planned(lists)) {
        // Nobody is left in the region: its lists end.
        let partitions = lists.owners.len() / lists.length.max(1);
        for partition in 0..partitions as u32 {
            let have = lists.list(partition);
            budget.differ(have, &[]);
            if have.is_empty() || busy.contains(&partition) {
                continue;
            }
            let one = Move {
                region: lists.region.clone(),
                partition,
                next: step(have, &[], &standing),
            };
            candidates.push((Urgency::Leaves, have, one));
        }
    }
    candidates.sort_by_key(|(urgency, ..)| *urgency);
    for one in under_way {
        let lists = present.iter().find(|lists| lists.region == one.region);
        let have = lists.map_or(&[][..], |lists| lists.list(one.partition));
        budget.spend(have, &one.next);
    }
    let mut chosen = budget.choose(&candidates, true);
    if chosen.is_empty() && under_way.is_empty() {
        // Nodes that hold what they should are to change places.
        chosen = budget.choose(&candidates, false);
    }
    chosen
}

/// Whether those that answer have a quorum of the next list wherever they have one of the list as
/// it is, in buckets of any number of replicas: while a list is joint, both are needed. Of a list
/// that ends nobody needs one.
fn keeps_quorums(have: &[u32], next: &[u32], standing: &impl Fn(u32) -> Standing) -> bool {
    let has = |list: &[u32], replicas: usize| {
        let list = &list[..list.len().min(replicas)];
        let there = list.iter().filter(|owner| standing(**owner).answers());
        list.is_empty() || there.count() > list.len() / 2
    };
    let mut replicas = 1..=have.len().max(next.len());
    replicas.all(|replicas| !has(have, replicas) || has(next, replicas))
}

fn urgency(have: &[u32], want: &[u32], standing: &impl Fn(u32) -> Standing) -> Urgency {
    if have.len() < want.len() {
        Urgency::Lacks
    } else if have.iter().any(|owner| !standing(*owner).is_to_own()) {
        Urgency::Leaves
    } else if want.iter().any(|owner| !have.contains(owner)) || have.len() > want.len() {
        Urgency::Balance
    } else {
        Urgency::Order
    }
}

/// The next list on the way from one that is not the other yet.
fn step(have: &[u32], want: &[u32], standing: &impl Fn(u32) -> Standing) -> Vec<u32> {
    let mut next = have.to_vec();
    let comes = want.iter().position(|owner| !have.contains(owner));
    let lost = have
        .iter()
        .position(|owner| standing(*owner) == Standing::Lost);
    let goes = lost.or_else(|| have.iter().position(|owner| !want.contains(owner)));
    match (comes, goes) {
        (Some(comes), _) if have.len() < want.len() && lost.is_none() => {
            next.insert(comes.min(have.len()), want[comes]);
        }
        (Some(_), Some(goes)) => {
            // Best the one that stands there in the end.
            let there = want.get(goes).filter(|owner| !have.contains(owner));
            let comes = there.or_else(|| want.iter().find(|owner| !have.contains(owner)));
            if let Some(comes) = comes {
                next[goes] = *comes;
            }
        }
        (_, Some(goes)) => {
            next.remove(goes);
        }
        (_, None) => {
            let wrong = have.iter().zip(want).position(|(a, b)| a != b).unwrap_or(0);
            if let Some(from) = have.iter().position(|owner| *owner == want[wrong]) {
                next.swap(wrong, from);
            }
        }
    }
    next
}

/// A move that could begin, and the list that there is.
type Possible<'a> = (Urgency, &'a [u32], Move);

/// What may still begin.
struct Budget {
    limits: Limits,
    total: usize,
    arriving: HashMap<u32, usize>,
    giving: HashMap<u32, usize>,
    /// How much more each member is to hold than it does; of those not named, nothing.
    lacking: HashMap<u32, i64>,
}

impl Budget {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            total: 0,
            arriving: HashMap::new(),
            giving: HashMap::new(),
            lacking: HashMap::new(),
        }
    }

    /// Notes a list that is to be another in the end. What does not differ, which is nearly all of
    /// a table, changes nothing of who lacks how much.
    fn differ(&mut self, have: &[u32], want: &[u32]) {
        want.iter().for_each(|owner| self.lack(*owner, 1));
        have.iter().for_each(|owner| self.lack(*owner, -1));
    }

    /// The first of these that may begin, at most one of a partition. `in_order`: only such as give
    /// to who holds too little, since who does not must first give something away: else a plan that
    /// is made anew each time would have the same nodes give and take for long.
    fn choose(&mut self, possible: &[Possible], in_order: bool) -> Vec<Move> {
        let mut taken = HashSet::new();
        let mut chosen = Vec::new();
        for (urgency, have, one) in possible {
            let lacks = |node: &u32| self.lacking.get(node).is_some_and(|lacking| *lacking > 0);
            let waits = in_order && *urgency != Urgency::Lacks;
            let waits = waits && !arrivals(have, &one.next).all(lacks);
            if waits || taken.contains(&one.partition) || !self.allows(have, &one.next) {
                continue;
            }
            taken.insert(one.partition);
            self.spend(have, &one.next);
            chosen.push(one.clone());
        }
        chosen
    }

    /// Whether so much may move beside what moves already.
    fn allows(&self, have: &[u32], next: &[u32]) -> bool {
        let below = |counts: &HashMap<u32, usize>, node: &u32, most: usize| {
            counts.get(node).copied().unwrap_or(0) < most
        };
        let Limits {
            total,
            arriving,
            giving,
        } = self.limits;
        let mut come = arrivals(have, next).peekable();
        let copies = come.peek().is_some();
        self.total < total
            && come.all(|node| below(&self.arriving, node, arriving))
            && (!copies || have.iter().all(|node| below(&self.giving, node, giving)))
    }

    fn spend(&mut self, have: &[u32], next: &[u32]) {
        self.total += 1;
        let mut copies = false;
        for node in arrivals(have, next) {
            *self.arriving.entry(*node).or_default() += 1;
            self.lack(*node, -1);
            copies = true;
        }
        for node in arrivals(next, have) {
            self.lack(*node, 1);
        }
        for node in have.iter().filter(|_| copies) {
            *self.giving.entry(*node).or_default() += 1;
        }
    }

    fn lack(&mut self, node: u32, change: i64) {
        *self.lacking.entry(node).or_default() += change;
    }
}

/// Who is to own what it does not yet.
fn arrivals<'a>(have: &'a [u32], next: &'a [u32]) -> impl Iterator<Item = &'a u32> {
    next.iter().filter(|owner| !have.contains(owner))
}
