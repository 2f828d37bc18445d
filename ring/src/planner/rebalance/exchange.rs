//! Replaces owners until each node holds its quota.
//!
//! A list may have any owners that are distinct and of which no zone has more than its limit: such
//! sets are the bases of a matroid (a truncated partition matroid), the lists of all partitions the
//! bases of their direct sum, and "each node as often as its quota" is a matroid of its own. Giving
//! a place of one node to another is an edge of the exchange graph, and a shortest path in it, from
//! a node that holds too much to one that holds too little, brings the table one replica nearer to
//! its quotas (weighted matroid intersection; Edmonds, *Submodular functions, matroids, and certain
//! polyhedra*, 1970; Lawler, *Matroid intersection algorithms*, 1975). An edge costs a replica that
//! moves, unless the place goes to another newcomer only. Nearly always the path is one edge; it is
//! longer where zones stand in the way.
//!
//! Which of several edges is taken is free. Taken is one whose position helps both nodes' prefixes;
//! where more than one does, chance decides, so that whom a node shares lists with is mixed.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::super::spread::shuffle;
use super::super::{MAX_LIST_LENGTH, NONE, Region};
use super::marks::Marks;

/// The seed of every plan. Any value does: whoever plans the same, plans the same moves.
const SEED: [u8; 32] = *b"annulet partition table, next, 1";
/// Lists of a node that are weighed against each other before one of them is given away.
const WEIGHED_MAX: usize = 64;
/// Steps of the search for one path. On tables so large that more would be needed, the nodes stay
/// one replica from their quota.
const STEPS_MAX: usize = 4_000_000;

/// Replaces owners in `lists`, which are those from `before`, until each node of the region holds
/// its quota, and no place is [`NONE`]. The quotas sum to the places. `counts`, `held`: how often
/// each node stands at each position, `counts[node * length + position]`, and in all of them.
pub(super) fn exchange(
    region: &Region,
    quotas: &[u32],
    before: &[u32],
    lists: &mut [u32],
    (counts, held): (&mut [u32], Vec<u32>),
) {
    let mut exchange = Exchange {
        region,
        quotas,
        before,
        zone_of: region.zone_of_nodes(),
        counts,
        held,
        takers: Vec::new(),
        places: Vec::new(),
        rng: ChaCha8Rng::from_seed(SEED),
        lists,
    };
    exchange.evict();
    exchange.find_takers();
    exchange.fill();
    exchange.level();
}

struct Exchange<'a> {
    region: &'a Region,
    quotas: &'a [u32],
    before: &'a [u32],
    lists: &'a mut [u32],
    zone_of: Vec<u32>,
    /// How often each node stands at each position: `counts[node * length + position]`.
    counts: &'a mut [u32],
    /// How often each node stands in lists.
    held: Vec<u32>,
    /// Nodes that hold less than their quota, and some that did.
    takers: Vec<u32>,
    /// The partitions of each node, once they were needed; and some that were.
    places: Vec<Vec<u32>>,
    rng: ChaCha8Rng,
}

/// An owner gives its place in a list to another node.
#[derive(Clone, Copy)]
struct Edge {
    partition: u32,
    from: u32,
}

impl Exchange<'_> {
    fn list(&self, partition: usize) -> &[u32] {
        let length = self.region.length;
        &self.lists[partition * length..(partition + 1) * length]
    }

    fn position_of(&self, partition: usize, node: u32) -> Option<usize> {
        self.list(partition).iter().position(|owner| *owner == node)
    }

    /// Whether a node may stand in a list in place of the owner at this position.
    fn fits(&self, partition: usize, position: usize, node: u32) -> bool {
        let zone = self.zone_of[node as usize];
        let mut in_zone = 0;
        for (at, &owner) in self.list(partition).iter().enumerate() {
            if at == position || owner == NONE {
                continue;
            }
            if owner == node {
                return false;
            }
            in_zone += usize::from(self.zone_of[owner as usize] == zone);
        }
        in_zone < self.region.zone_limit
    }

    /// How many more places a node wants at a position; times the length, to be whole.
    fn want(&self, node: u32, position: usize) -> i64 {
        let length = self.region.length;
        let there = self.counts[node as usize * length + position];
        i64::from(self.quotas[node as usize]) - length as i64 * i64::from(there)
    }

    fn lacks(&self, node: u32) -> bool {
        self.held[node as usize] < self.quotas[node as usize]
    }

    fn put(&mut self, partition: usize, position: usize, node: u32) {
        let length = self.region.length;
        let place = &mut self.lists[partition * length + position];
        let before = std::mem::replace(place, node);
        if before != NONE {
            self.held[before as usize] -= 1;
            self.counts[before as usize * length + position] -= 1;
        }
        self.held[node as usize] += 1;
        self.counts[node as usize * length + position] += 1;
        if let Some(places) = self.places.get_mut(node as usize) {
            places.push(partition as u32);
        }
    }

    /// A number below `limit`, by chance.
    fn draw(&mut self, limit: usize) -> usize {
        ((u64::from(self.rng.next_u32()) * limit as u64) >> 32) as usize
    }

    /// Empties places of zones that stand in a list too often, as when a further zone has lowered
    /// the limit; those behind go.
    fn evict(&mut self) {
        let (length, limit) = (self.region.length, self.region.zone_limit);
        if limit >= length {
            return;
        }
        for list in self.lists.chunks_exact_mut(length) {
            // Whoever is not there stands alone.
            let mut zones = [NONE; MAX_LIST_LENGTH];
            for (zone, node) in zones.iter_mut().zip(&*list) {
                *zone = self.zone_of.get(*node as usize).copied().unwrap_or(NONE);
            }
            for position in limit..length {
                let of = zones[position];
                let ahead = zones[..position].iter().filter(|zone| **zone == of);
                if of != NONE && ahead.count() >= limit {
                    let node = std::mem::replace(&mut list[position], NONE) as usize;
                    zones[position] = NONE;
                    self.held[node] -= 1;
                    self.counts[node * length + position] -= 1;
                }
            }
        }
    }

    fn find_takers(&mut self) {
        let nodes = 0..self.quotas.len() as u32;
        self.takers = nodes.filter(|&node| self.lacks(node)).collect();
        shuffle(&mut self.takers, &mut self.rng);
    }

    /// Fills the empty places.
    fn fill(&mut self) {
        let length = self.region.length;
        let held: usize = self.held.iter().map(|held| *held as usize).sum();
        if held == self.lists.len() {
            return;
        }
        let empty: Vec<_> = (0..self.lists.len())
            .filter(|&place| self.lists[place] == NONE)
            .map(|place| (place / length, place % length))
            .collect();
        for (partition, position) in empty {
            if let Some(node) = self.taker(partition, position) {
                self.put(partition, position, node);
            } else if let Some((edges, node)) = self.path(Start::Place(partition, position)) {
                let first = edges.first().map_or(node, |edge| edge.from);
                self.follow(&edges, node);
                self.put(partition, position, first);
            } else if let Some(node) = self.least_over(partition, position) {
                self.put(partition, position, node);
            }
        }
    }

    /// The node that wants a place most, of those that hold too little and fit.
    fn taker(&mut self, partition: usize, position: usize) -> Option<u32> {
        let mut best = None;
        let (mut at, mut weighed) = (0, 0);
        while weighed < WEIGHED_MAX
            && let Some(node) = self.taker_at(at)
        {
            if self.fits(partition, position, node) {
                best = best.max(Some((self.want(node, position), node)));
                weighed += 1;
            }
            at += 1;
        }
        best.map(|(_, node)| node)
    }

    /// A node that holds too little; there are fewer than `at` plus one if there is none.
    fn taker_at(&mut self, at: usize) -> Option<u32> {
        while let Some(&node) = self.takers.get(at) {
            if self.lacks(node) {
                return Some(node);
            }
            self.takers.swap_remove(at);
        }
        None
    }

    /// Of those that fit into a place, the node that is least above its quota.
    fn least_over(&self, partition: usize, position: usize) -> Option<u32> {
        let nodes = 0..self.quotas.len() as u32;
        let fitting = nodes.filter(|&node| self.fits(partition, position, node));
        let over = |node: &u32| {
            let node = *node as usize;
            i64::from(self.held[node]) - i64::from(self.quotas[node])
        };
        fitting.min_by_key(over)
    }

    /// Takes from nodes that hold more than their quota.
    fn level(&mut self) {
        let over = |exchange: &Self, node: u32| {
            exchange.held[node as usize] > exchange.quotas[node as usize]
        };
        let nodes = 0..self.quotas.len() as u32;
        let givers: Vec<u32> = nodes.filter(|&node| over(self, node)).collect();
        let mut places = self.places_of(&givers);
        let mut stuck = Vec::new();
        for (&giver, places) in givers.iter().zip(&mut places) {
            shuffle(places, &mut self.rng);
            while over(self, giver) && self.give(giver, places) {}
            stuck.extend(over(self, giver).then_some(giver));
        }
        for giver in stuck {
            while over(self, giver)
                && let Some((edges, node)) = self.path(Start::Node(giver))
            {
                self.follow(&edges, node);
            }
        }
    }

    /// The partitions in whose lists each of these nodes stands.
    fn places_of(&self, nodes: &[u32]) -> Vec<Vec<u32>> {
        let marks = Marks::new(nodes, self.quotas.len());
        let mut places: Vec<_> = nodes
            .iter()
            .map(|node| Vec::with_capacity(self.held[*node as usize] as usize))
            .collect();
        for (partition, list) in (0u32..).zip(self.lists.chunks_exact(self.region.length)) {
            for &owner in list {
                if let Some(at) = marks.find(owner) {
                    places[at].push(partition);
                }
            }
        }
        places
    }

    /// Gives one of a node's places to a node that holds too little. Says whether any fits.
    fn give(&mut self, giver: u32, places: &mut Vec<u32>) -> bool {
        let first = self.draw(self.takers.len());
        // From a random one to the end, then from the beginning.
        for at in (first..self.takers.len()).chain(0..first) {
            let Some(taker) = self.taker_at(at) else {
                continue;
            };
            if let Some((index, position)) = self.place_for(giver, places, taker) {
                let partition = places.swap_remove(index);
                self.put(partition as usize, position, taker);
                return true;
            }
        }
        false
    }

    /// The place that does both nodes' prefixes most good: its index, and the position.
    fn place_for(&self, giver: u32, places: &[u32], taker: u32) -> Option<(usize, usize)> {
        let fitting = places.iter().enumerate().filter_map(|(index, &partition)| {
            let position = self.position_of(partition as usize, giver)?;
            let fits = self.fits(partition as usize, position, taker);
            let gain = self.want(taker, position) - self.want(giver, position);
            fits.then_some((gain, index, position))
        });
        let best = fitting.take(WEIGHED_MAX).max();
        best.map(|(_, index, position)| (index, position))
    }
}

/// Where a path begins.
#[derive(Clone, Copy)]
enum Start {
    /// At a node that gives one of its places away.
    Node(u32),
    /// At an empty place.
    Place(usize, usize),
}

impl Exchange<'_> {
    /// The cheapest path to a node that holds too little: who gives its place to the next one, and
    /// the node at the end. No list is changed twice by a path, so that each change fits whatever
    /// the others are.
    fn path(&mut self, start: Start) -> Option<(Vec<Edge>, u32)> {
        let nodes = 0..self.quotas.len() as u32;
        if self.places.is_empty() {
            self.places = self.places_of(&nodes.clone().collect::<Vec<_>>());
        }
        let mut search = Search {
            came: vec![None; self.quotas.len()],
            unseen: nodes.collect(),
            steps: 0,
            start,
        };
        let mut level = Vec::new();
        match start {
            Start::Node(node) => {
                search.unseen.retain(|other| *other != node);
                level.push(node);
            }
            Start::Place(partition, position) => {
                let fits = |node: &mut u32| self.fits(partition, position, *node);
                level.extend(search.unseen.extract_if(.., fits));
            }
        }
        // A level is all that costs as much.
        while !level.is_empty() && search.steps < STEPS_MAX {
            let mut next = 0;
            while let Some(&from) = level.get(next) {
                next += 1;
                if let Some(end) = self.explore(&mut search, from, true, &mut level) {
                    return Some((search.way(end), end));
                }
            }
            let mut dearer = Vec::new();
            for from in level {
                if let Some(end) = self.explore(&mut search, from, false, &mut dearer) {
                    return Some((search.way(end), end));
                }
            }
            level = dearer;
        }
        None
    }

    /// Finds who could take places from a node: for `free` where that brings no further replica
    /// somewhere, since the node has the place since this plan only, or the other one had one in
    /// that list before it. Returns the first one who holds too little.
    fn explore(
        &self,
        search: &mut Search,
        from: u32,
        free: bool,
        found: &mut Vec<u32>,
    ) -> Option<u32> {
        let length = self.region.length;
        for &partition in &self.places[from as usize] {
            let Some(position) = self.position_of(partition as usize, from) else {
                continue;
            };
            let before = &self.before[partition as usize * length..][..length];
            let had = before.contains(&from);
            if had && free && self.list(partition as usize) == before
                || !had && !free
                || search.is_changed(from, partition)
            {
                continue;
            }
            search.steps += search.unseen.len();
            let fits = |node: &mut u32| {
                let returns = !(had && free) || before.contains(node);
                returns && self.fits(partition as usize, position, *node)
            };
            for node in search.unseen.extract_if(.., fits) {
                search.came[node as usize] = Some(Edge { partition, from });
                if self.lacks(node) {
                    return Some(node);
                }
                found.push(node);
            }
        }
        None
    }

    /// Does what a path says.
    fn follow(&mut self, edges: &[Edge], end: u32) {
        let takers = edges.iter().skip(1).map(|edge| edge.from).chain([end]);
        for (edge, taker) in edges.iter().zip(takers) {
            let partition = edge.partition as usize;
            if let Some(position) = self.position_of(partition, edge.from) {
                self.put(partition, position, taker);
            }
        }
    }
}

/// How far the search for a path is.
struct Search {
    start: Start,
    /// The edge that led to each node.
    came: Vec<Option<Edge>>,
    unseen: Vec<u32>,
    steps: usize,
}

impl Search {
    /// The edges to a node, the last one first.
    fn back(&self, node: u32) -> impl Iterator<Item = Edge> + '_ {
        std::iter::successors(self.came[node as usize], |edge| {
            self.came[edge.from as usize]
        })
    }

    /// Whether the way to a node changes this list already.
    fn is_changed(&self, node: u32, partition: u32) -> bool {
        let at_start = matches!(self.start, Start::Place(at, _) if at == partition as usize);
        at_start || self.back(node).any(|edge| edge.partition == partition)
    }

    /// The edges to a node, from the first on.
    fn way(&self, end: u32) -> Vec<Edge> {
        let mut edges: Vec<_> = self.back(end).collect();
        edges.reverse();
        edges
    }
}
