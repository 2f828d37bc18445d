//! Which partition gets which slot: no node twice in a list, no zone too often.
//!
//! Nodes and positions are the two sides of a bipartite multigraph, with an edge for each slot; a
//! partition is a colour that has one edge at every position, at most one at a node and at most
//! `zone_limit` at a zone. By König's theorem and its balanced form (de Werra, *Equitable
//! colorations of graphs*, 1971) such a colouring exists. The number of colours is a power of two,
//! so halving finds it without any search (Gabow, *Using Euler partitions to edge color bipartite
//! multigraphs*, 1976): a block of slots is split in two such that each position gives exactly
//! half, and each node and each zone half, rounded up or down; and so on until a block is one
//! partition. A cap that is a multiple of the block's partitions stays one in both halves.
//!
//! A split pairs slots, two of the same position, and two of the same node (those left over, of the
//! same zone). Each slot then has at most one partner of either kind, so slots form paths and even
//! cycles, and going along them gives partners to opposite halves.
//!
//! Who is paired with whom is free. It is chosen at random, so that the nodes that share partitions
//! with a node are many (a wide copyset: a lost node is then rebuilt from and by many at once),
//! from a fixed seed, so that all servers choose the same.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::Region;

/// The seed of every build. Any value does; changing it changes every table that is built from
/// nothing.
const SEED: [u8; 32] = *b"annulet partition table, build 1";

/// No partner.
const NONE: u32 = u32::MAX;

/// Spreads the counted slots over the partitions: `lists[p * length + i]` is the node at position
/// `i` of partition `p`.
///
/// `counts[node * length + position]` as of [`super::positions::count`]; each position's counts sum
/// to the number of partitions, each node's to at most that, and each zone's to at most
/// `zone_limit` times that.
pub(super) fn spread(region: &Region, counts: &[u32]) -> Vec<u32> {
    let (partitions, length) = (region.partitions as usize, region.length);
    let mut splitter = Splitter::new(region);
    // One row per position, so that a block is a slice of each row.
    let mut rows: Vec<Vec<u32>> = (0..length)
        .map(|position| {
            let per_node = (0u32..).zip(counts.iter().skip(position).step_by(length));
            per_node
                .flat_map(|(node, &count)| std::iter::repeat_n(node, count as usize))
                .collect()
        })
        .collect();
    debug_assert!(rows.iter().all(|row| row.len() == partitions));
    let mut size = partitions;
    while size > 1 {
        for start in (0..partitions).step_by(size) {
            splitter.split(&mut rows, start, size);
        }
        size /= 2;
    }
    (0..partitions)
        .flat_map(|partition| rows.iter().map(move |row| row[partition]))
        .collect()
}

/// Splits blocks in two. Its vectors are kept from block to block, to be allocated once.
struct Splitter {
    zone_of: Vec<u32>,
    rng: ChaCha8Rng,
    /// The node in each slot of the block, position after position. Slots `2i` and `2i + 1` are of
    /// one position, and are the pair on that side.
    slots: Vec<u32>,
    /// The partner of each slot on the side of the nodes, or [`NONE`].
    partners: Vec<u32>,
    /// Whether each slot goes to the upper half, once that is known.
    upper: Vec<Option<bool>>,
    /// The slot of each node that waits for a partner, or [`NONE`]; all [`NONE`] between blocks.
    waiting_nodes: Vec<u32>,
    /// The same for each zone.
    waiting_zones: Vec<u32>,
}

impl Splitter {
    fn new(region: &Region) -> Self {
        Self {
            zone_of: region.zone_of_nodes(),
            rng: ChaCha8Rng::from_seed(SEED),
            slots: Vec::new(),
            partners: Vec::new(),
            upper: Vec::new(),
            waiting_nodes: vec![NONE; region.nodes.len()],
            waiting_zones: vec![NONE; region.zones.len()],
        }
    }

    /// Splits the block of `size` partitions, an even number, that begins at partition `start`.
    fn split(&mut self, rows: &mut [Vec<u32>], start: usize, size: usize) {
        self.slots.clear();
        for row in rows.iter() {
            let begin = self.slots.len();
            self.slots.extend_from_slice(&row[start..start + size]);
            shuffle(&mut self.slots[begin..], &mut self.rng);
        }
        self.pair();
        self.choose_halves();
        for (position, row) in rows.iter_mut().enumerate() {
            let (lower, upper) = row[start..start + size].split_at_mut(size / 2);
            for (i, (lower, upper)) in lower.iter_mut().zip(upper).enumerate() {
                let first = position * size + 2 * i;
                let (a, b) = (self.slots[first], self.slots[first + 1]);
                (*lower, *upper) = if self.upper[first] == Some(true) {
                    (b, a)
                } else {
                    (a, b)
                };
            }
        }
    }

    /// Pairs the slots of each node, then those left over, at most one a node, in each zone.
    fn pair(&mut self) {
        self.partners.clear();
        self.partners.resize(self.slots.len(), NONE);
        for (slot, &node) in (0u32..).zip(&self.slots) {
            meet(
                &mut self.waiting_nodes[node as usize],
                slot,
                &mut self.partners,
            );
        }
        for (slot, &node) in (0u32..).zip(&self.slots) {
            if self.waiting_nodes[node as usize] == slot {
                self.waiting_nodes[node as usize] = NONE;
                let zone = self.zone_of[node as usize];
                meet(
                    &mut self.waiting_zones[zone as usize],
                    slot,
                    &mut self.partners,
                );
            }
        }
        for &node in &self.slots {
            self.waiting_zones[self.zone_of[node as usize] as usize] = NONE;
        }
    }

    /// Gives partners, on either side, to opposite halves.
    fn choose_halves(&mut self) {
        self.upper.clear();
        self.upper.resize(self.slots.len(), None);
        for slot in 0..self.slots.len() {
            if self.upper[slot].is_some() {
                continue;
            }
            let upper = self.rng.next_u32() & 1 == 1;
            self.follow(slot, upper);
            // A path goes on at the other end of its first slot; a cycle has come round to it.
            let partner = self.partners[slot];
            if partner != NONE && self.upper[partner as usize].is_none() {
                self.follow(partner as usize, !upper);
            }
        }
    }

    /// Goes along a path, first over the position's pair and then over the node's, until its end or
    /// a slot already placed.
    fn follow(&mut self, mut slot: usize, upper: bool) {
        loop {
            self.upper[slot] = Some(upper);
            self.upper[slot ^ 1] = Some(!upper);
            let next = self.partners[slot ^ 1];
            if next == NONE || self.upper[next as usize].is_some() {
                return;
            }
            slot = next as usize;
        }
    }
}

/// Pairs a slot with the one that waits, or lets it wait.
fn meet(waiting: &mut u32, slot: u32, partners: &mut [u32]) {
    if *waiting == NONE {
        *waiting = slot;
    } else {
        partners[slot as usize] = *waiting;
        partners[*waiting as usize] = slot;
        *waiting = NONE;
    }
}

/// Fisher-Yates. Written out because a library's shuffle may draw differently in its next version,
/// and all servers must build the same table.
pub(super) fn shuffle(slots: &mut [u32], rng: &mut ChaCha8Rng) {
    for last in (1..slots.len()).rev() {
        // The high word of the product is below `last + 1`; its bias, under 2^-12, doesn't matter
        // here.
        let chosen = (u64::from(rng.next_u32()) * (last as u64 + 1)) >> 32;
        slots.swap(last, chosen as usize);
    }
}
