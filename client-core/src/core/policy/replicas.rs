//! Which replicas a read asks first.
//!
//! What is near comes first, then what is quick: a peer's score is its recent time to answer times
//! the work that it is known to have, its own report's and what this client has under way there,
//! after Prequal (Wydrowski et al., NSDI 2024) and C3 (Suresh et al., NSDI 2015). A peer that
//! failed is asked last until it answers.
//!
//! Nobody waits to find out about a peer that is not asked: now and then a read asks it as well,
//! and does not wait for the answer.

use super::throttle::Throttle;
use super::waiting::{Class, Waiting};
use annulet_protocol::ids::NodeId;
use annulet_protocol::message::Load;
use std::collections::HashMap;

/// Weight of a new time in the mean, as a divisor.
const SMOOTHING: u64 = 8;
/// How long a reported load is believed.
const REPORT_MS: u64 = 1_000;
/// How long the times of a peer that no longer answers anything are remembered.
const MEMORY_MS: u64 = 30_000;
/// How often a peer that is not asked otherwise is tried.
const TRY_MS: u64 = 1_000;
/// Shorter times count as this.
const MICROS_MIN: u64 = 256;
/// Operations under way at a peer, by its own report, that double its score.
const REPORTED_FULL: u64 = 256;
/// The same, by this client's count.
const OWN_FULL: u64 = 64;

/// What is known of each peer.
#[derive(Clone, Debug, Default)]
pub struct Peers {
    peers: HashMap<NodeId, Peer>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Peer {
    /// Recent mean time of a read; 0: not known.
    read_us: u64,
    /// When it last answered a read.
    read_ms: u64,
    load: Load,
    reported_ms: u64,
    /// Reads of this client under way.
    under_way: u64,
    /// What waits to be sent to it.
    waiting: Waiting,
    /// How much of each class it takes.
    throttles: [Throttle; Class::ALL.len()],
    /// It failed, and has not answered since.
    failed: bool,
    /// When it was last tried.
    tried_ms: Option<u64>,
}

/// How a peer comes into the order. Less is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Score {
    /// By its times and its work, on a coarse scale, so that equal peers share the load.
    Known(u32),
    /// Nothing is known of it.
    Unknown,
}

impl Peers {
    /// Notes that so many reads were sent to a peer.
    pub fn note_sent(&mut self, node: NodeId, reads: u64) {
        self.peers.entry(node).or_default().under_way += reads;
    }

    /// Notes that so many reads are no longer under way, answered or not.
    pub fn note_over(&mut self, node: NodeId, reads: u64) {
        let peer = self.peers.entry(node).or_default();
        peer.under_way = peer.under_way.saturating_sub(reads);
    }

    /// Notes how long an answer to reads took.
    pub fn note_read(&mut self, node: NodeId, now_ms: u64, took_us: u64) {
        let peer = self.peers.entry(node).or_default();
        let took_us = took_us.max(1);
        peer.read_us = match peer.is_known(now_ms) {
            true => (peer.read_us * (SMOOTHING - 1) + took_us) / SMOOTHING,
            false => took_us,
        };
        peer.read_ms = now_ms;
    }

    /// Notes an answer of any kind, and the load that the peer reports.
    pub fn note_answer(&mut self, node: NodeId, now_ms: u64, load: Load) {
        let peer = self.peers.entry(node).or_default();
        peer.load = load;
        peer.reported_ms = now_ms;
        peer.failed = false;
    }

    /// Notes how long the oldest message of this class has been waiting for a peer.
    pub fn note_waiting(&mut self, node: NodeId, class: Class, waits_ms: u64, now_ms: u64) {
        let peer = self.peers.entry(node).or_default();
        peer.waiting.note(class, waits_ms, now_ms);
    }

    /// Notes how many messages of a class a peer took, and how many it refused since it has too
    /// much to do.
    pub fn note_taken(
        &mut self,
        (node, class): (NodeId, Class),
        (taken, refused): (u64, u64),
        now_ms: u64,
    ) {
        let peer = self.peers.entry(node).or_default();
        peer.throttles[class as usize].note(taken, refused, now_ms);
    }

    /// Whether what is sent to a peer now may be too late: so much waits for it, or it refuses so
    /// much that an operation that drew this number is held back.
    pub fn is_busy(
        &mut self,
        node: NodeId,
        class: Class,
        (timeout_ms, draw): (u64, u64),
        now_ms: u64,
    ) -> bool {
        self.peers.get_mut(&node).is_some_and(|peer| {
            peer.waiting.is_too_long(class, timeout_ms, now_ms)
                || peer.throttles[class as usize].holds(draw, now_ms)
        })
    }

    /// Notes that a peer could not be reached or did not answer.
    pub fn note_failure(&mut self, node: NodeId) {
        self.peers.entry(node).or_default().failed = true;
    }

    /// Whether a peer could not be reached or did not answer, the last time.
    pub fn is_away(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.failed)
    }

    /// Whether to try a peer that is not asked otherwise. If so, it is tried: not again for a
    /// while.
    pub fn take_try(&mut self, node: NodeId, now_ms: u64) -> bool {
        let peer = self.peers.entry(node).or_default();
        let heard = peer.read_us > 0 && peer.read_ms + TRY_MS > now_ms && !peer.failed;
        let tried = peer.tried_ms.is_some_and(|at_ms| at_ms + TRY_MS > now_ms);
        if heard || tried {
            return false;
        }
        peer.tried_ms = Some(now_ms);
        true
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
            (peer.failed, distance(*node), peer.score(now_ms), tie)
        });
    }
}

impl Peer {
    fn is_known(&self, now_ms: u64) -> bool {
        self.read_us > 0 && self.read_ms + MEMORY_MS > now_ms
    }

    fn score(&self, now_ms: u64) -> Score {
        if !self.is_known(now_ms) {
            return Score::Unknown;
        }
        let reported = match self.reported_ms + REPORT_MS > now_ms {
            true => u64::from(self.load.in_flight),
            false => 0,
        };
        // In 16ths of the work of an idle peer.
        let work = 16 + 16 * reported / REPORTED_FULL + 16 * self.under_way / OWN_FULL;
        Score::Known((self.read_us.max(MICROS_MIN).saturating_mul(work) / 16).ilog2())
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

    fn answered(peers: &mut Peers, node: u64, now_ms: u64, took_us: u64) {
        peers.note_answer(NodeId(node), now_ms, Load::default());
        peers.note_read(NodeId(node), now_ms, took_us);
    }

    #[test]
    fn near_and_quick_peers_come_first_and_failed_ones_last_until_they_answer() {
        let mut peers = Peers::default();
        answered(&mut peers, 1, 10, 20_000);
        answered(&mut peers, 2, 10, 300);
        assert_eq!(rank(&peers, 20, 0), [2, 1, 3]);
        peers.note_failure(NodeId(2));
        assert!(peers.is_away(NodeId(2)));
        assert_eq!(rank(&peers, 20_000, 0), [1, 3, 2]);
        answered(&mut peers, 2, 20_001, 300);
        assert_eq!(rank(&peers, 20_002, 0), [2, 1, 3]);
    }

    #[test]
    fn a_slow_peer_is_not_forgotten_because_nobody_asks_it() {
        let mut peers = Peers::default();
        answered(&mut peers, 1, 10, 50_000);
        for now_ms in (10..20_000).step_by(500) {
            answered(&mut peers, 2, now_ms, 300);
            assert_eq!(rank(&peers, now_ms, 0)[0], 2, "at {now_ms}");
        }
        assert_eq!(rank(&peers, 40_000, 0)[0], 2, "what is unknown comes after");
    }

    #[test]
    fn a_busy_peer_comes_after_an_idle_one() {
        let mut peers = Peers::default();
        let busy = Load {
            in_flight: 5_000,
            service_us: 10,
        };
        for node in [1, 2] {
            answered(&mut peers, node, 10, 300);
        }
        peers.note_answer(NodeId(1), 10, busy);
        assert_eq!(rank(&peers, 20, 0), [2, 1, 3]);
        assert_eq!(
            rank(&peers, 2_000, 0),
            rank(&Peers::default(), 0, 0),
            "stale"
        );
        peers.note_sent(NodeId(2), 500);
        assert_eq!(
            rank(&peers, 2_000, 0),
            [1, 2, 3],
            "what it has of this client"
        );
        peers.note_over(NodeId(2), 500);
        assert_eq!(rank(&peers, 2_000, 0), rank(&Peers::default(), 0, 0));
    }

    #[test]
    fn a_peer_that_is_not_asked_is_tried_once_a_second() {
        let mut peers = Peers::default();
        let tries = |peers: &mut Peers, from_ms: u64, until_ms: u64| {
            (from_ms..until_ms)
                .filter(|ms| peers.take_try(NodeId(1), *ms))
                .count()
        };
        assert_eq!(tries(&mut peers, 0, 5_000), 5);
        answered(&mut peers, 1, 5_000, 300);
        assert_eq!(tries(&mut peers, 5_001, 6_000), 0, "it has just answered");
        peers.note_failure(NodeId(1));
        assert_eq!(tries(&mut peers, 6_001, 7_000), 1);
    }

    #[test]
    fn equal_peers_share_the_load() {
        let firsts = (0..64u64).map(|n| rank(&Peers::default(), 0, n << 20 | n)[0]);
        let first = firsts.filter(|node| *node == 1).count();
        assert!((8..=56).contains(&first), "{first}");
    }
}
