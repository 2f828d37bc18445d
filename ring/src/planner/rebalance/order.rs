//! Lets owners change places within their lists until every prefix is balanced.
//!
//! The owners of a list stay the same, so nothing moves but in buckets that use a prefix only. For
//! each prefix in turn, a list's owner at its last position may change places with one further
//! behind: an edge from the one to the other in a graph of nodes. A path from a node that stands in
//! the prefix too often to one that does too rarely brings both nearer to their due, and leaves
//! shorter prefixes alone. Were each list's place shared evenly by its owners, every node would
//! have its due exactly; so there is an integral flow that rounds it (Ford and Fulkerson), and
//! paths lead to it.
//!
//! Lists that change anyway are preferred, and what is within one of its due stays.

use std::collections::{HashMap, VecDeque};

use super::super::Region;
use super::marks::Marks;

/// Changes the order in `lists` until each node stands in each prefix of `k` owners within one of
/// `quota * k / length` times. `before`: the lists as they are; those that differ already are
/// preferred. `counts`: how often each node stands at each position.
pub(super) fn order(
    region: &Region,
    quotas: &[u32],
    before: &[u32],
    lists: &mut [u32],
    counts: &mut [u32],
) {
    let length = region.length;
    for position in 0..length.saturating_sub(1) {
        let held = counts
            .chunks(length)
            .map(|counts| counts[..=position].iter().sum());
        let mut prefix = Prefix {
            length,
            position,
            quotas,
            before,
            held: held.collect(),
            lists,
            counts,
            places: None,
        };
        prefix.balance();
    }
}

/// The lists' prefixes up to one position.
struct Prefix<'a> {
    length: usize,
    position: usize,
    quotas: &'a [u32],
    before: &'a [u32],
    lists: &'a mut [u32],
    counts: &'a mut [u32],
    /// How often each node stands in the prefix.
    held: Vec<u32>,
    /// The partitions by the owner at the position, once they were needed.
    places: Option<Places>,
}

/// On which side of its due a node is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Above,
    Below,
}

/// A list, and who comes to the position in it.
type Change = (u32, u32);

impl Prefix<'_> {
    /// How much more than its due a node stands in the prefix, times the length.
    fn excess(&self, node: u32) -> i64 {
        let due = u64::from(self.quotas[node as usize]) * (self.position as u64 + 1);
        i64::from(self.held[node as usize]) * self.length as i64 - due as i64
    }

    /// Whether a node is more than one off.
    fn is_off(&self, node: u32, side: Side) -> bool {
        match side {
            Side::Above => self.excess(node) > self.length as i64,
            Side::Below => self.excess(node) < -(self.length as i64),
        }
    }

    /// Whether a node is on that side at all, and so not the worse for what brings it to the other.
    fn is_on(&self, node: u32, side: Side) -> bool {
        match side {
            Side::Above => self.excess(node) > 0,
            Side::Below => self.excess(node) < 0,
        }
    }

    fn balance(&mut self) {
        let is_off =
            |node: &u32| [Side::Above, Side::Below].map(|s| self.is_off(*node, s)) != [false; 2];
        let off: Vec<u32> = (0..self.quotas.len() as u32).filter(is_off).collect();
        if off.is_empty() {
            return;
        }
        let lists = self.lists_of(&off);
        for (&node, lists) in off.iter().zip(&lists) {
            for side in [Side::Above, Side::Below] {
                while self.is_off(node, side)
                    && let Some(change) = self.exchange(node, side, lists)
                {
                    self.follow(&[change]);
                }
                while self.is_off(node, side)
                    && let Some(path) = self.path_of(node, side)
                {
                    self.follow(&path);
                }
            }
        }
    }

    fn list(&self, partition: u32) -> &[u32] {
        let start = partition as usize * self.length;
        &self.lists[start..start + self.length]
    }

    fn is_changed(&self, partition: u32) -> bool {
        let start = partition as usize * self.length;
        self.list(partition) != &self.before[start..start + self.length]
    }

    /// The lists in which each of these nodes stands at the position or behind it; those that
    /// change anyway first.
    fn lists_of(&self, nodes: &[u32]) -> Vec<Vec<u32>> {
        let marks = Marks::new(nodes, self.quotas.len());
        let held = |node: &u32| {
            let counts = &self.counts[*node as usize * self.length..][..self.length];
            counts[self.position..].iter().sum::<u32>() as usize
        };
        let mut lists: Vec<_> = nodes
            .iter()
            .map(|node| Vec::with_capacity(held(node)))
            .collect();
        for (partition, list) in (0u32..).zip(self.lists.chunks_exact(self.length)) {
            for &owner in &list[self.position..] {
                if let Some(at) = marks.find(owner) {
                    lists[at].push(partition);
                }
            }
        }
        for lists in &mut lists {
            lists.sort_by_key(|partition| !self.is_changed(*partition));
        }
        lists
    }

    /// A change of one list that brings a node and another one nearer to their due.
    fn exchange(&self, node: u32, side: Side, lists: &[u32]) -> Option<Change> {
        lists.iter().find_map(|&partition| {
            let (at, behind) = self.list(partition)[self.position..].split_first()?;
            let comes = match side {
                Side::Above if *at == node => {
                    behind.iter().find(|other| self.is_on(**other, Side::Below))
                }
                Side::Below if self.is_on(*at, Side::Above) => {
                    behind.iter().find(|other| **other == node)
                }
                _ => None,
            };
            comes.map(|comes| (partition, *comes))
        })
    }

    /// The shortest path that brings a node nearer to its due.
    fn path_of(&mut self, node: u32, side: Side) -> Option<Vec<Change>> {
        let places = self.places.take().unwrap_or_else(|| {
            let owners = self.lists.chunks_exact(self.length);
            Places::new(self.quotas.len(), owners.map(|list| list[self.position]))
        });
        let path = self.path_in(&places, node, side);
        self.places = Some(places);
        path
    }

    fn path_in(&self, places: &Places, node: u32, side: Side) -> Option<Vec<Change>> {
        match side {
            Side::Above => self.path(places, vec![node], |other| self.is_on(other, Side::Below)),
            Side::Below => {
                let nodes = 0..self.quotas.len() as u32;
                let givers = nodes.filter(|other| self.is_on(*other, Side::Above));
                self.path(places, givers.collect(), |other| other == node)
            }
        }
    }

    /// The shortest path from one of these nodes to one that will do.
    fn path(
        &self,
        places: &Places,
        from: Vec<u32>,
        will_do: impl Fn(u32) -> bool,
    ) -> Option<Vec<Change>> {
        let mut came: Vec<Option<Change>> = vec![None; self.quotas.len()];
        let mut seen = vec![false; self.quotas.len()];
        for &node in &from {
            seen[node as usize] = true;
        }
        let mut queue = VecDeque::from(from);
        while let Some(node) = queue.pop_front() {
            for partition in places.of(node) {
                let list = &self.list(partition)[self.position..];
                // It may have been that of another one when the places were counted.
                if list[0] != node {
                    continue;
                }
                for &other in &list[1..] {
                    if std::mem::replace(&mut seen[other as usize], true) {
                        continue;
                    }
                    came[other as usize] = Some((partition, node));
                    if will_do(other) {
                        return Some(way(&came, other));
                    }
                    queue.push_back(other);
                }
            }
        }
        None
    }

    /// Makes the changes of a path. Each list is changed once: it has one owner at the position.
    fn follow(&mut self, path: &[Change]) {
        for &(partition, comes) in path {
            let start = partition as usize * self.length;
            let list = &mut self.lists[start..start + self.length];
            let Some(at) = list.iter().position(|owner| *owner == comes) else {
                continue;
            };
            let goes = list[self.position];
            list.swap(self.position, at);
            self.held[goes as usize] -= 1;
            self.held[comes as usize] += 1;
            for (node, from, to) in [(goes, self.position, at), (comes, at, self.position)] {
                self.counts[node as usize * self.length + from] -= 1;
                self.counts[node as usize * self.length + to] += 1;
            }
            if let Some(places) = &mut self.places {
                places.added.entry(comes).or_default().push(partition);
            }
        }
    }
}

/// The partitions by the owner at one position. A list that has another owner there since is still
/// among those of the one before.
struct Places {
    /// Where the partitions of each node begin, and behind them where those of the last one end.
    starts: Vec<u32>,
    partitions: Vec<u32>,
    /// Those that came to a node since.
    added: HashMap<u32, Vec<u32>>,
}

impl Places {
    /// The owners of all partitions, one after the other, of so many nodes.
    fn new(nodes: usize, owners: impl Iterator<Item = u32> + Clone) -> Self {
        let mut starts = vec![0; nodes + 1];
        owners
            .clone()
            .for_each(|node| starts[node as usize + 1] += 1);
        for node in 0..nodes {
            starts[node + 1] += starts[node];
        }
        let mut ends = starts.clone();
        let mut partitions = vec![0; starts[nodes] as usize];
        for (partition, node) in (0u32..).zip(owners) {
            let end = &mut ends[node as usize];
            partitions[*end as usize] = partition;
            *end += 1;
        }
        Self {
            starts,
            partitions,
            added: HashMap::new(),
        }
    }

    /// The partitions of a node, and some that were.
    fn of(&self, node: u32) -> impl Iterator<Item = u32> + '_ {
        let [start, end] = [node, node + 1].map(|at| self.starts[at as usize] as usize);
        let added = self.added.get(&node);
        let added = added.into_iter().flatten();
        self.partitions[start..end].iter().chain(added).copied()
    }
}

/// The changes on the way to a node.
fn way(came: &[Option<Change>], end: u32) -> Vec<Change> {
    let mut path = Vec::new();
    let mut at = end;
    while let Some((partition, before)) = came[at as usize] {
        path.push((partition, at));
        at = before;
    }
    path
}
