//! Which replicas a read asks first.
//!
//! What is near comes first, then what is quick: a peer's score is its recent round-trip time
//! times the work that it is known to have, after Prequal (Wydrowski et al., NSDI 2024) and C3
//! (Suresh et al., NSDI 2015). A peer that failed is asked last for a while.

use annulet_protocol::ids::NodeId;
use annulet_protocol::message::Load;
use std::collections::HashMap;

/// Weight of a new round-trip time in the mean, as a divisor.
const SMOOTHING: u64 = 8;
/// How long a reported load is believed.
const REPORT_MS: u64 = 1_000;
/// How long a peer that failed is asked last.
const PENALTY_MS: u64 = 1_000;
/// Round-trip times within this factor of each other, as a power of two, count as equal, so that
/// equal peers share the load.
const MICROS_MIN: u64 = 256;

/// What is known of each peer.
#[derive(Clone, Debug, Default)]
pub struct Peers {
    peers: HashMap<NodeId, Peer>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Peer {
    round_trip_us: u64,
    load: Load,
    reported_ms: u64,
    penalty_until_ms: u64,
}

impl Peers {
    /// Notes an answer: how long it took, and what load the peer reported.
    pub fn note_answer(&mut self, node: NodeId, now_ms: u64, round_trip_us: u64, load: Load) {
        let peer = self.peers.entry(node).or_default();
        peer.round_trip_us = match peer.round_trip_us {
            0 => round_trip_us.max(1),
            mean => (mean * (SMOOTHING - 1) + round_trip_us) / SMOOTHING,
        };
        peer.load = load;
        peer.reported_ms = now_ms;
        peer.penalty_until_ms = 0;
    }

    /// Notes that a peer could not be reached or did not answer.
    pub fn note_failure(&mut self, node: NodeId, now_ms: u64) {
        self.peers.entry(node).or_default().penalty_until_ms = now_ms + PENALTY_MS;
    }

    /// Forgets peers that are no longer members.
    pub fn retain(&mut self, is_member: impl Fn(NodeId) -> bool) {
        self.peers.retain(|node, _| is_member(*node));
    }

    /// Sorts candidates, the one to ask first at the front. `distance`: 0 in the client's zone, 1
    /// in its region, 2 elsewhere. `random` decides between equals.
    pub fn rank(
        &self,
        candidates: &mut [NodeId],
        now_ms: u64,
        random: u64,
        distance: impl Fn(NodeId) -> u8,
    ) {
        candidates.sort_by_cached_key(|node| {
            let peer = self.peers.get(node).copied().unwrap_or_default();
            let tie = (node.0 ^ random).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (
                peer.penalty_until_ms > now_ms,
                distance(*node),
                peer.score(now_ms),
                tie,
            )
        });
    }
}

impl Peer {
    /// Lower is better; the scale is coarse.
    fn score(&self, now_ms: u64) -> u32 {
        let fresh = now_ms.saturating_sub(self.reported_ms) < REPORT_MS;
        if !fresh {
            // Nothing recent is known: ask and see.
            return 0;
        }
        let work = self.round_trip_us.max(MICROS_MIN);
        (work.saturating_mul(4 + u64::from(self.load.in_flight / 64)) / 4).ilog2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(peers: &Peers, now_ms: u64, random: u64) -> Vec<u64> {
        let mut nodes = [NodeId(1), NodeId(2), NodeId(3)];
        peers.rank(
            &mut nodes,
            now_ms,
            random,
            |node| if node.0 == 3 { 1 } else { 0 },
        );
        nodes.iter().map(|node| node.0).collect()
    }

    #[test]
    fn near_and_quick_peers_come_first_and_failed_ones_last() {
        let mut peers = Peers::default();
        let idle = Load::default();
        peers.note_answer(NodeId(1), 10, 20_000, idle);
        peers.note_answer(NodeId(2), 10, 300, idle);
        assert_eq!(rank(&peers, 20, 0), [2, 1, 3]);
        peers.note_failure(NodeId(2), 20);
        assert_eq!(rank(&peers, 30, 0), [1, 3, 2]);
        assert_eq!(rank(&peers, 1_030, 0)[2], 3, "a penalty ends");
    }

    #[test]
    fn a_busy_peer_comes_after_an_idle_one() {
        let mut peers = Peers::default();
        peers.note_answer(
            NodeId(1),
            10,
            300,
            Load {
                in_flight: 5_000,
                service_us: 10,
            },
        );
        peers.note_answer(NodeId(2), 10, 300, Load::default());
        assert_eq!(rank(&peers, 20, 0), [2, 1, 3]);
    }

    #[test]
    fn equal_peers_share_the_load() {
        let firsts = (0..64u64).map(|n| rank(&Peers::default(), 0, n << 20 | n)[0]);
        let first = firsts.filter(|node| *node == 1).count();
        assert!((8..=56).contains(&first), "{first}");
    }
}
