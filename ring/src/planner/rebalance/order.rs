//! Lets owners change places within their lists until every prefix is balanced.
//!
//! The owners of a list stay the same, so nothing moves but in buckets that use a prefix only. For
//! each prefix in turn, a list's owner at its last position may change places with one further
//! behind: an edge from the one to the other in a graph of nodes. A path from a node that stands in
//! the prefix too often to one that does too rarely brings both nearer to their due, and leaves
//! shorter prefixes alone. Were each list's place shared evenly by its owners, every node would have
//! its due exactly; so there is an integral flow that rounds it (Ford and Fulkerson), and paths
//! lead to it.
//!
//! Lists that change anyway are preferred, and what is within one of its due stays.

use std::collections::VecDeque;

use super::super::Region;

/// Changes the order in `lists` until each node stands in each prefix of `k` owners within one of
/// `quota * k / length` times. `before`: the lists as they are; those that differ already come
/// first.
pub(super) fn order(region: &Region, quotas: &[u32], before: &[u32], lists: &mut [u32]) {
    for position in 0..region.length.saturating_sub(1) {
        Prefix::new(region.length, position, quotas, lists).balance(before);
    }
}

/// The lists' prefixes up to one position.
struct Prefix<'a> {
    length: usize,
    position: usize,
    quotas: &'a [u32],
    lists: &'a mut [u32],
    /// How often each node stands in the prefix.
    held: Vec<u32>,
    /// The partitions by the owner at the position, those to be taken first at the end.
    places: Vec<Vec<u32>>,
}

/// How far a node may be from its due, in parts of one over the length.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Above,
    Below,
}

impl<'a> Prefix<'a> {
    fn new(length: usize, position: usize, quotas: &'a [u32], lists: &'a mut [u32]) -> Self {
        let mut held = vec![0; quotas.len()];
        for list in lists.chunks(length) {
            for &owner in &list[..=position] {
                held[owner as usize] += 1;
            }
        }
        Self {
            length,
            position,
            quotas,
            lists,
            held,
            places: Vec::new(),
        }
    }

    /// How much more than its due a node stands in the prefix, times the length.
    fn excess(&self, node: usize) -> i64 {
        let due = u64::from(self.quotas[node]) * (self.position as u64 + 1);
        i64::from(self.held[node]) * self.length as i64 - due as i64
    }

    /// Whether a node is more than one off.
    fn is_off(&self, node: usize, side: Side) -> bool {
        match side {
            Side::Above => self.excess(node) > self.length as i64,
            Side::Below => self.excess(node) < -(self.length as i64),
        }
    }

    /// Whether a node can give or take one and is not the worse for it.
    fn can_spare(&self, node: usize, side: Side) -> bool {
        match side {
            Side::Above => self.excess(node) > 0,
            Side::Below => self.excess(node) < 0,
        }
    }

    fn balance(&mut self, before: &[u32]) {
        for node in 0..self.quotas.len() {
            for side in [Side::Above, Side::Below] {
                while self.is_off(node, side) && self.improve(node, side, before) {}
            }
        }
    }

    /// Brings a node nearer to its due by one. Says whether there is a way.
    fn improve(&mut self, node: usize, side: Side, before: &[u32]) -> bool {
        if self.places.is_empty() {
            self.index(before);
        }
        let path = match side {
            Side::Above => self.path([node], |prefix, other| prefix.can_spare(other, Side::Below)),
            Side::Below => {
                let givers: Vec<_> = (0..self.quotas.len())
                    .filter(|other| self.can_spare(*other, Side::Above))
                    .collect();
                self.path(givers, |_, other| other == node)
            }
        };
        path.map(|path| self.follow(&path)).is_some()
    }

    fn index(&mut self, before: &[u32]) {
        self.places = vec![Vec::new(); self.quotas.len()];
        let changes = |partition: usize, lists: &[u32]| {
            let list = partition * self.length..(partition + 1) * self.length;
            lists[list.clone()] != before[list]
        };
        for changed in [false, true] {
            for partition in 0..self.lists.len() / self.length {
                if changes(partition, self.lists) == changed {
                    let owner = self.lists[partition * self.length + self.position];
                    self.places[owner as usize].push(partition as u32);
                }
            }
        }
    }

    /// The shortest path from one of these nodes to one that will do: the lists to change, and the
    /// node that comes to the position in each.
    fn path(
        &self,
        from: impl IntoIterator<Item = usize>,
        will_do: impl Fn(&Self, usize) -> bool,
    ) -> Option<Vec<(u32, u32)>> {
        let mut came: Vec<Option<(u32, u32)>> = vec![None; self.quotas.len()];
        let mut seen = vec![false; self.quotas.len()];
        let mut queue = VecDeque::new();
        for node in from {
            seen[node] = true;
            queue.push_back(node);
        }
        while let Some(node) = queue.pop_front() {
            for &partition in self.places[node].iter().rev() {
                let list = partition as usize * self.length;
                for &other in &self.lists[list + self.position + 1..list + self.length] {
                    if std::mem::replace(&mut seen[other as usize], true) {
                        continue;
                    }
                    came[other as usize] = Some((partition, node as u32));
                    if will_do(self, other as usize) {
                        return Some(way(&came, other));
                    }
                    queue.push_back(other as usize);
                }
            }
        }
        None
    }

    /// Changes places along a path. Each list is changed once: it has one owner at the position.
    fn follow(&mut self, path: &[(u32, u32)]) {
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
            self.places[goes as usize].retain(|other| *other != partition);
            self.places[comes as usize].push(partition);
        }
    }
}

/// The lists to change on the way to a node, and who comes to the position in each.
fn way(came: &[Option<(u32, u32)>], end: u32) -> Vec<(u32, u32)> {
    let mut path = Vec::new();
    let mut at = end;
    while let Some((partition, before)) = came[at as usize] {
        path.push((partition, at));
        at = before;
    }
    path
}
