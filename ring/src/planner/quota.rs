//! How many partition replicas each node of a region holds.
//!
//! The exact share is the weighted max-min fair one: everyone is filled to the same level (replicas
//! per unit of capacity), except nodes that reach `partitions` and zones that reach `zone_limit *
//! partitions`; what these can't take, the others share (water-filling; Bertsekas and Gallager,
//! *Data Networks*, section 6.5.2). Such caps are nested, so this is the best possible share in
//! every sense at once: the fullest node is least full and the emptiest least empty.
//!
//! The whole numbers are then largest remainders, first of the zones and then of the nodes in a
//! zone: since all caps are whole, a share rounded up still respects them.

use std::cmp::Reverse;
use std::ops::Range;

use super::{Node, Region, Unused};

/// The quotas of a region's nodes.
#[derive(Debug)]
pub(super) struct Shares {
    /// Partition replicas per node, in the order of the region's nodes; they sum to `partitions *
    /// length`.
    pub(super) quotas: Vec<u32>,
    /// The nodes that the caps limit, in member order.
    pub(super) unused: Vec<Unused>,
}

/// Partition replicas per unit of capacity, a fraction. The numerator is at most `partitions *
/// length` (below 2^23), so that its product with a capacity fits 64 bits.
#[derive(Debug, Clone, Copy)]
struct Level {
    numerator: u64,
    denominator: u64,
}

impl Level {
    /// The share of one node: whole replicas and a remainder over the denominator; never above
    /// `cap`.
    fn share(self, capacity: u32, cap: u64) -> (u64, u64) {
        let scaled = self.numerator * u64::from(capacity);
        let whole = scaled / self.denominator;
        if whole >= cap {
            (cap, 0)
        } else {
            (whole, scaled % self.denominator)
        }
    }

    /// The sum of the shares of some nodes, in the same form.
    fn sum(self, nodes: &[Node], cap: u64) -> (u64, u64) {
        let (mut whole, mut rest) = (0, 0u128);
        for node in nodes {
            let share = self.share(node.capacity, cap);
            whole += share.0;
            rest += u128::from(share.1);
        }
        let denominator = u128::from(self.denominator);
        // Both fit: a sum of shares is at most `partitions * nodes`, and a remainder is below its
        // denominator.
        (
            whole + (rest / denominator) as u64,
            (rest % denominator) as u64,
        )
    }
}

/// The exact shares before rounding.
struct Filling {
    /// The level of everything that no zone cap limits.
    level: Level,
    /// The level inside each zone that its cap limits.
    full_zones: Vec<Option<Level>>,
}

/// Shares the replicas of a region among its nodes. `held`: what each holds now; where a share may
/// be rounded up or down, who holds more keeps it.
pub(super) fn share(region: &Region, held: &[u32]) -> Shares {
    let filling = fill(region);
    let zone_totals = round_zones(region, &filling, held);
    let mut quotas = vec![0; region.nodes.len()];
    for (zone, range) in region.zones.iter().enumerate() {
        let level = filling.full_zones[zone].unwrap_or(filling.level);
        let shares: Vec<(u64, u64)> = region.nodes[range.clone()]
            .iter()
            .map(|node| level.share(node.capacity, cap(region)))
            .collect();
        let held: Vec<u64> = held[range.clone()]
            .iter()
            .map(|&held| held.into())
            .collect();
        for (quota, rounded) in
            quotas[range.clone()]
                .iter_mut()
                .zip(round(&shares, &held, zone_totals[zone]))
        {
            *quota = u32::try_from(rounded).expect("a quota is at most the number of partitions");
        }
    }
    let unused = unused(region, &filling, &quotas);
    Shares { quotas, unused }
}

/// The most replicas a node can hold: each partition once.
fn cap(region: &Region) -> u64 {
    u64::from(region.partitions)
}

/// The most replicas a zone can hold.
fn zone_cap(region: &Region, zone: &Range<usize>) -> u64 {
    cap(region) * zone.len().min(region.zone_limit) as u64
}

/// Finds the levels: fills everyone, sets aside the zones that overflow, and shares what is left
/// again. A zone that overflows at a level overflows at any higher one, so none is set aside in
/// vain; and each takes at least a whole position of the lists, so there are at most `length`
/// rounds.
fn fill(region: &Region) -> Filling {
    let mut full_zones = vec![None; region.zones.len()];
    let mut left = cap(region) * region.length as u64;
    loop {
        let open = region
            .zones
            .iter()
            .zip(&full_zones)
            .filter(|(_, full)| full.is_none());
        let nodes: Vec<Node> = open
            .flat_map(|(zone, _)| &region.nodes[zone.clone()])
            .copied()
            .collect();
        let level = water_level(&nodes, left, cap(region));
        let mut overflowed = false;
        for (zone, full) in region
            .zones
            .iter()
            .zip(&mut full_zones)
            .filter(|(_, full)| full.is_none())
        {
            let nodes = &region.nodes[zone.clone()];
            let limit = zone_cap(region, zone);
            let (whole, rest) = level.sum(nodes, cap(region));
            if (whole, rest) > (limit, 0) {
                *full = Some(water_level(nodes, limit, cap(region)));
                left -= limit;
                overflowed = true;
            }
        }
        if !overflowed {
            return Filling { level, full_zones };
        }
    }
}

/// The level at which nodes that hold at most `cap` each hold `total` together; `total` is at most
/// `nodes * cap`.
fn water_level(nodes: &[Node], total: u64, cap: u64) -> Level {
    let mut capacities: Vec<u64> = nodes.iter().map(|node| u64::from(node.capacity)).collect();
    capacities.sort_unstable_by_key(|&capacity| Reverse(capacity));
    let mut level = Level {
        numerator: total,
        denominator: capacities.iter().sum(),
    };
    // The largest nodes reach their cap first.
    for (largest, next) in capacities.iter().zip(&capacities[1..]) {
        debug_assert!(next <= largest);
        if u128::from(level.numerator) * u128::from(*largest)
            <= u128::from(cap) * u128::from(level.denominator)
        {
            break;
        }
        level = Level {
            numerator: level.numerator - cap,
            denominator: level.denominator - largest,
        };
    }
    level
}

/// Whole totals of the zones.
fn round_zones(region: &Region, filling: &Filling, held: &[u32]) -> Vec<u64> {
    let shares: Vec<(u64, u64)> = region
        .zones
        .iter()
        .zip(&filling.full_zones)
        .map(|(zone, full)| match full {
            Some(_) => (zone_cap(region, zone), 0),
            None => filling.level.sum(&region.nodes[zone.clone()], cap(region)),
        })
        .collect();
    let held_in =
        |zone: &Range<usize>| held[zone.clone()].iter().map(|&held| u64::from(held)).sum();
    let held: Vec<u64> = region.zones.iter().map(held_in).collect();
    round(&shares, &held, cap(region) * region.length as u64)
}

/// Largest remainders: rounds shares, whole numbers with remainders over one denominator, so that
/// they sum to `total`, which is within the sums of all shares rounded down and up. Those who hold
/// more than the whole number come first, then larger remainders, then the first.
fn round(shares: &[(u64, u64)], held: &[u64], total: u64) -> Vec<u64> {
    let mut rounded: Vec<u64> = shares.iter().map(|share| share.0).collect();
    let mut by_remainder: Vec<usize> = (0..shares.len()).filter(|&i| shares[i].1 > 0).collect();
    by_remainder.sort_by_key(|&i| Reverse((held[i] > shares[i].0, shares[i].1)));
    let missing = total - rounded.iter().sum::<u64>();
    debug_assert!(missing <= by_remainder.len() as u64);
    for &i in by_remainder.iter().take(missing as usize) {
        rounded[i] += 1;
    }
    rounded
}

/// The nodes that hold less than the common level would give them.
fn unused(region: &Region, filling: &Filling, quotas: &[u32]) -> Vec<Unused> {
    let replicas = u128::from(cap(region)) * region.length as u128;
    let capacity: u128 = region
        .nodes
        .iter()
        .map(|node| u128::from(node.capacity))
        .sum();
    let mut unused = Vec::new();
    for (zone, range) in region.zones.iter().enumerate() {
        let full = filling.full_zones[zone];
        for node in range.clone() {
            let idle_ppm = idle_ppm(
                region.nodes[node].capacity,
                filling.level,
                full,
                cap(region),
            );
            if idle_ppm > 0 {
                let by_capacity = replicas * u128::from(region.nodes[node].capacity) / capacity;
                let missing = by_capacity.saturating_sub(u128::from(quotas[node]));
                let replicas =
                    u32::try_from(missing).expect("at most partitions * length, below 2^23");
                unused.push(Unused {
                    member: region.nodes[node].member,
                    replicas,
                    idle_ppm,
                });
            }
        }
    }
    unused.sort_unstable_by_key(|entry| entry.member);
    unused
}

/// One minus the exact share over what the common level would give, in parts per million, rounded
/// up.
fn idle_ppm(capacity: u32, common: Level, full_zone: Option<Level>, cap: u64) -> u32 {
    const MILLION: u128 = 1_000_000;
    let capacity = u128::from(capacity);
    let own = full_zone.unwrap_or(common);
    let (numerator, denominator) = (u128::from(own.numerator), u128::from(own.denominator));
    // The node's own level: that of its zone, unless the node reaches its cap below it.
    let (numerator, denominator) = if numerator * capacity > u128::from(cap) * denominator {
        (u128::from(cap), capacity)
    } else {
        (numerator, denominator)
    };
    let used = numerator * u128::from(common.denominator) * MILLION
        / (denominator * u128::from(common.numerator));
    u32::try_from(MILLION.saturating_sub(used)).expect("at most a million")
}
