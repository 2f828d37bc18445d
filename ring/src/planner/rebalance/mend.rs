//! Mends what balancing one prefix after the other has left.
//!
//! A node of few replicas may stand in none of the first places of lists, since that is near enough
//! to its due there, and so in too few of the next ones, where nobody can make room any more. Then
//! it changes places within a list with somebody who is within one of its due in every prefix
//! before and after.

/// Changes the order in `lists` where a node is more than one off its due in a prefix; `quotas` and
/// `counts` are those of [`order`](super::order::order).
pub(super) fn mend(length: usize, quotas: &[u32], lists: &mut [u32], counts: &mut [u32]) {
    let nodes = 0..quotas.len() as u32;
    let places = Places {
        length,
        quotas,
        counts,
    };
    let off: Vec<u32> = nodes.filter(|node| places.is_off(*node)).collect();
    if off.is_empty() {
        return;
    }
    for list in lists.chunks_mut(length) {
        for from in 0..length {
            if off.contains(&list[from]) {
                let mut places = Places {
                    length,
                    quotas,
                    counts,
                };
                places.mend(list, from);
            }
        }
    }
}

/// How often each node stands at each position.
struct Places<'a> {
    length: usize,
    quotas: &'a [u32],
    counts: &'a mut [u32],
}

impl Places<'_> {
    /// How far a node is off its due in the prefix that ends with a position, times the length; 0:
    /// within one.
    fn off(&self, node: u32, position: usize, change: i64) -> i64 {
        let length = self.length as i64;
        let start = node as usize * self.length;
        let held: u32 = self.counts[start..=start + position].iter().sum();
        let due = i64::from(self.quotas[node as usize]) * (position as i64 + 1);
        let excess = (i64::from(held) + change) * length - due;
        excess.signum() * (excess.abs() - length).max(0)
    }

    fn is_off(&self, node: u32) -> bool {
        (0..self.length).any(|position| self.off(node, position, 0) != 0)
    }

    /// Lets the owner at a position change places, if that brings it nearer to its due and puts
    /// nobody off.
    fn mend(&mut self, list: &mut [u32], from: usize) {
        let node = list[from];
        for to in (0..self.length).filter(|to| *to != from) {
            let (first, last) = (from.min(to), from.max(to));
            let change = if to < from { 1 } else { -1 };
            let other = list[to];
            let gains = (first..last).any(|at| {
                let before = self.off(node, at, 0);
                before != 0 && self.off(node, at, change).abs() < before.abs()
            });
            let harms = (first..last).any(|at| {
                let worse =
                    |node, change| self.off(node, at, change).abs() > self.off(node, at, 0).abs();
                worse(node, change) || worse(other, -change)
            });
            if gains && !harms {
                list.swap(from, to);
                for (node, from, to) in [(node, from, to), (other, to, from)] {
                    self.counts[node as usize * self.length + from] -= 1;
                    self.counts[node as usize * self.length + to] += 1;
                }
                return;
            }
        }
    }
}
