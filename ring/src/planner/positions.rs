//! How often each node stands at each position of the lists.
//!
//! A bucket with `k` replicas uses the first `k` owners of each list, so each prefix has to be
//! balanced by itself. That is proportionate-fair scheduling: positions are time slots,
//! `partitions` processors are busy in each, and a node is a task that is due `quota / length` of
//! them in each slot; a Pfair schedule has given each task its due, rounded up or down, after every
//! slot (Baruah, Cohen, Plaxton, Varvel, *Proportionate progress*, Algorithmica 15, 1996). The
//! whole part of `quota / length` stands at each position; what is left, less than one per slot, is
//! scheduled by PD² (Srinivasan and Anderson, *Optimal rate-based scheduling on multiprocessors*,
//! STOC 2002), which meets every deadline whenever the slots suffice, as they do here exactly.

use std::cmp::Reverse;

/// What PD² compares two tasks by, smallest first: the deadline; whether the next window begins
/// before this one ends; the group deadline, the later the more urgent.
type Urgency = (usize, Reverse<bool>, Reverse<usize>);

/// Counts per node and position: `counts[node * length + position]`.
///
/// `quotas` sum to a multiple of `length`, one `length`-th of which is the sum at each position.
/// The first `k` counts of a node sum to `quota * k / length`, rounded up or down. `tie_order`
/// names every node once: who comes first where several would do.
pub(super) fn count(quotas: &[u32], tie_order: &[usize], length: usize) -> Vec<u32> {
    let extras = |node: usize| quotas[node] as usize % length;
    let mut counts: Vec<u32> = quotas
        .iter()
        .flat_map(|&quota| std::iter::repeat_n(quota / length as u32, length))
        .collect();
    let per_position = (0..quotas.len()).map(extras).sum::<usize>() / length;
    let mut given = vec![0; quotas.len()];
    for position in 0..length {
        let mut released: Vec<(Urgency, usize)> = Vec::new();
        for (rank, &node) in tie_order.iter().enumerate() {
            let (done, all) = (given[node], extras(node));
            if done < all && done * length / all <= position {
                released.push((urgency(done + 1, all, length), rank));
            }
        }
        debug_assert!(released.len() >= per_position, "PD2 leaves no slot empty");
        released.sort_unstable();
        for &(_, rank) in released.iter().take(per_position) {
            let node = tie_order[rank];
            given[node] += 1;
            counts[node * length + position] += 1;
        }
    }
    debug_assert!(
        (0..quotas.len()).all(|node| given[node] == extras(node)),
        "PD2 meets every deadline"
    );
    counts
}

/// The urgency of the `nth` (from 1) of `all` extras of a task that is scheduled `all` times in
/// `length` slots.
fn urgency(nth: usize, all: usize, length: usize) -> Urgency {
    let deadline = (nth * length).div_ceil(all);
    let overlaps = !(nth * length).is_multiple_of(all);
    // A task of half the slots or more has windows so short that being late in one cascades; the
    // group deadline says how far. A lighter task's cascade ends at once.
    let idle = length - all;
    let group_deadline = if 2 * all >= length {
        ((deadline * idle).div_ceil(length) * length).div_ceil(idle)
    } else {
        0
    };
    (deadline, Reverse(overlaps), Reverse(group_deadline))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_every_prefix_is_fair(quotas: &[u32], length: usize) {
        let order: Vec<usize> = (0..quotas.len()).collect();
        let counts = count(quotas, &order, length);
        let total: u32 = quotas.iter().sum();
        for position in 0..length {
            let sum: u32 = (0..quotas.len())
                .map(|node| counts[node * length + position])
                .sum();
            assert_eq!(
                sum,
                total / length as u32,
                "position {position} of {quotas:?}"
            );
        }
        for (node, &quota) in quotas.iter().enumerate() {
            let mut prefix = 0;
            for k in 1..=length as u32 {
                prefix += counts[node * length + k as usize - 1];
                let low = quota * k / length as u32;
                let high = (quota * k).div_ceil(length as u32);
                assert!(
                    (low..=high).contains(&prefix),
                    "node {node}, prefix {k} of {quotas:?}: {prefix}"
                );
            }
        }
    }

    /// Counts on; false when it has come round to all zeros.
    fn advance(digits: &mut [usize], highest: usize) -> bool {
        for digit in digits {
            if *digit < highest {
                *digit += 1;
                return true;
            }
            *digit = 0;
        }
        false
    }

    /// All multisets of remainders, up to a few nodes of each: whatever the mix, no deadline is
    /// missed.
    #[test]
    fn every_mix_of_remainders_has_fair_prefixes() {
        for (length, most) in [(1, 9), (2, 9), (3, 9), (4, 9), (5, 7), (6, 5), (7, 4)] {
            let mut mix = vec![0; length - 1];
            while advance(&mut mix, most) {
                let nodes = (1u32..).zip(&mix);
                let quotas: Vec<u32> = nodes
                    .flat_map(|(rest, &times)| std::iter::repeat_n(rest, times))
                    .collect();
                if quotas.iter().sum::<u32>().is_multiple_of(length as u32) {
                    assert_every_prefix_is_fair(&quotas, length);
                }
            }
        }
    }

    #[test]
    fn whole_parts_stand_at_every_position() {
        assert_eq!(count(&[6, 3], &[0, 1], 3), [2, 2, 2, 1, 1, 1]);
    }
}
