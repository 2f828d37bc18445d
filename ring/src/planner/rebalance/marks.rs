//! Some of the nodes of a region, as they are looked for in all of its lists.

use super::super::NONE;

/// Nodes that are marked, and their numbers among those. Most that are looked for are not, and that
/// takes one bit each to know: the bits of all nodes stay in the processor's nearest cache.
pub(super) struct Marks {
    bits: Vec<u64>,
    numbers: Vec<u32>,
}

impl Marks {
    /// Marks these of so many nodes.
    pub(super) fn new(nodes: &[u32], all: usize) -> Self {
        let mut marks = Self {
            bits: vec![0; all.div_ceil(64)],
            numbers: vec![NONE; all],
        };
        for (number, &node) in (0u32..).zip(nodes) {
            marks.bits[node as usize / 64] |= 1 << (node % 64);
            marks.numbers[node as usize] = number;
        }
        marks
    }

    /// The number of a node, if it is marked; [`NONE`] is not.
    #[inline]
    pub(super) fn find(&self, node: u32) -> Option<usize> {
        let bits = self.bits.get(node as usize / 64)?;
        if bits & 1 << (node % 64) == 0 {
            return None;
        }
        Some(self.numbers[node as usize] as usize)
    }
}
