//! The fewest replicas that can move, by a minimum-cost flow: an oracle that shares no thought with
//! the planner, and is far too slow for anything but tests.
//!
//! Each node sends as many units as its quota, through its zone's place in a partition, to that
//! partition; a unit costs one where the node does not stand in that partition's list yet.

use std::collections::VecDeque;

struct Arc {
    to: usize,
    room: i64,
    cost: i64,
}

/// A flow network; arc `i ^ 1` is the way back of arc `i`.
struct Network {
    arcs: Vec<Arc>,
    out: Vec<Vec<usize>>,
}

impl Network {
    fn new(size: usize) -> Self {
        let out = vec![Vec::new(); size];
        Self {
            arcs: Vec::new(),
            out,
        }
    }

    fn join(&mut self, from: usize, to: usize, room: usize, cost: i64) {
        for (from, to, room, cost) in [(from, to, room as i64, cost), (to, from, 0, -cost)] {
            self.out[from].push(self.arcs.len());
            self.arcs.push(Arc { to, room, cost });
        }
    }

    /// The cheapest way to the sink, by Bellman and Ford: its cost, and the arcs backwards.
    fn way(&self, source: usize, sink: usize) -> Option<(i64, Vec<usize>)> {
        let mut cost = vec![i64::MAX; self.out.len()];
        let mut came = vec![None; self.out.len()];
        let mut queue = VecDeque::from([source]);
        cost[source] = 0;
        while let Some(at) = queue.pop_front() {
            for &index in &self.out[at] {
                let arc = &self.arcs[index];
                if arc.room > 0 && cost[at] + arc.cost < cost[arc.to] {
                    cost[arc.to] = cost[at] + arc.cost;
                    came[arc.to] = Some(index);
                    queue.push_back(arc.to);
                }
            }
        }
        let back = std::iter::successors(came[sink], |index| came[self.arcs[*index ^ 1].to]);
        came[sink].map(|_| (cost[sink], back.collect()))
    }
}

/// The fewest replicas that move. `quotas` and `zone_of`: of each member; `lists`: as they are,
/// whose members may have a quota of zero.
pub(crate) fn cheapest(
    lists: &[&[u32]],
    length: usize,
    quotas: &[u64],
    (zone_of, zones, limit): (&[usize], usize, usize),
) -> i64 {
    let (members, partitions) = (quotas.len(), lists.len());
    let (source, sink) = (0, 1);
    let member = |index: usize| 2 + index;
    let partition = |index: usize| 2 + members + index;
    let place = |index: usize, zone: usize| 2 + members + partitions + index * zones + zone;
    let mut network = Network::new(2 + members + partitions * (1 + zones));
    for index in 0..members {
        network.join(source, member(index), quotas[index] as usize, 0);
        for (at, list) in lists.iter().enumerate() {
            let moves = i64::from(!list.contains(&(index as u32)));
            network.join(member(index), place(at, zone_of[index]), 1, moves);
        }
    }
    for at in 0..partitions {
        network.join(partition(at), sink, length, 0);
        for zone in 0..zones {
            network.join(place(at, zone), partition(at), limit, 0);
        }
    }
    let mut total = 0;
    for _ in 0..partitions * length {
        let (cost, way) = network
            .way(source, sink)
            .expect("there is a table of these quotas");
        total += cost;
        for index in way {
            network.arcs[index].room -= 1;
            network.arcs[index ^ 1].room += 1;
        }
    }
    total
}
