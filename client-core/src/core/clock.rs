//! The client's clock: the machine's, set right by what the servers say, and made to rise.

use annulet_protocol::clock::{HybridClock, Stamp};
use annulet_protocol::hash::KeyHash;
use annulet_protocol::ids::NodeId;
use annulet_protocol::limits::SKEW_MS_MAX;
use std::collections::BTreeMap;

/// Servers whose clocks are remembered. The median of so many is as good as that of all, and is
/// found anew with nearly every reply.
const SERVERS_MAX: usize = 64;
/// Stamps of single keys that lie too far ahead for the clock itself.
const AHEAD_KEYS_MAX: usize = 1_024;
/// How far ahead a stamp may lie and still move the clock: half of what servers take, so that what
/// is minted next is taken by a server whose clock is behind by the other half.
const AHEAD_MS_MAX: u64 = SKEW_MS_MAX / 2;

/// Mints the stamps of one client.
#[derive(Clone, Debug, Default)]
pub struct ClientClock {
    hybrid: HybridClock,
    /// What to add to the machine's clock.
    correction_ms: i64,
    /// Latest difference to the clock of each of the servers heard of, at most [`SERVERS_MAX`].
    differences: BTreeMap<NodeId, i64>,
    /// Keys that hold a stamp from far ahead: what is written there must come after it, and what
    /// is written elsewhere must not.
    ahead: BTreeMap<KeyHash, Stamp>,
}

impl ClientClock {
    /// Notes a server's time, as of when its reply came in.
    pub fn note_server(&mut self, node: NodeId, server_ms: u64, wall_ms: u64) {
        // Times come over the network: any number may be one.
        let difference = (server_ms as i64).saturating_sub(wall_ms as i64);
        if self.differences.insert(node, difference) == Some(difference) {
            return;
        }
        if self.differences.len() > SERVERS_MAX {
            // Another one goes for it: ids are random, so its neighbour is anyone.
            let next = self.differences.range(node..).nth(1).map(|(next, _)| *next);
            match next {
                Some(next) => self.differences.remove(&next),
                None => self
                    .differences
                    .pop_first()
                    .map(|(_, difference)| difference),
            };
        }
        let mut all: Vec<_> = self.differences.values().copied().collect();
        all.sort_unstable();
        // The lower of the two in the middle: of one or two servers neither can be outvoted.
        self.correction_ms = all[(all.len() - 1) / 2];
        // Before the first servers answered, stamps came from a clock that nobody had set right.
        // They must not lead it for as long as it was off: servers would take nothing until then.
        self.hybrid.rewind(self.corrected_ms(wall_ms), AHEAD_MS_MAX);
    }

    /// Forgets servers that are no longer members.
    pub fn retain(&mut self, is_member: impl Fn(NodeId) -> bool) {
        self.differences.retain(|node, _| is_member(*node));
    }

    /// The corrected time, in milliseconds since the Unix epoch.
    pub fn corrected_ms(&self, wall_ms: u64) -> u64 {
        wall_ms.saturating_add_signed(self.correction_ms)
    }

    /// The time by which expiry is judged: never below a stamp that was seen or minted.
    pub fn reached_ms(&self, wall_ms: u64) -> u64 {
        self.hybrid.reached_ms(self.corrected_ms(wall_ms))
    }

    /// A stamp for a write of this key.
    pub fn mint(&mut self, key: KeyHash, wall_ms: u64) -> Stamp {
        let now_ms = self.corrected_ms(wall_ms);
        let stamp = self.hybrid.tick(now_ms);
        match self.ahead.get_mut(&key) {
            Some(ahead) if *ahead >= stamp => {
                *ahead = ahead.next();
                *ahead
            }
            Some(_) => {
                self.ahead.remove(&key);
                stamp
            }
            None => stamp,
        }
    }

    /// Moves past a stamp that was seen in another process, unless it lies far ahead: then it holds
    /// for its own key, which [`ClientClock::observe`] is told of when it is written.
    pub fn reach(&mut self, seen: Stamp, wall_ms: u64) {
        let now_ms = self.corrected_ms(wall_ms);
        self.hybrid.observe(seen, now_ms, AHEAD_MS_MAX);
    }

    /// Moves past a stamp that a record of this key carries.
    pub fn observe(&mut self, key: KeyHash, seen: Stamp, wall_ms: u64) {
        if self
            .hybrid
            .observe(seen, self.corrected_ms(wall_ms), AHEAD_MS_MAX)
        {
            return;
        }
        if self.ahead.len() >= AHEAD_KEYS_MAX && !self.ahead.contains_key(&key) {
            // What is evicted is found again by the reply that says `superseded`.
            self.ahead.pop_first();
        }
        let ahead = self.ahead.entry(key).or_default();
        *ahead = seen.max(*ahead);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: KeyHash = KeyHash(1);

    #[test]
    fn the_clock_follows_the_median_of_the_servers() {
        let mut clock = ClientClock::default();
        for (node, server_ms) in [(1, 5_000), (2, 5_010), (3, 999_999)] {
            clock.note_server(NodeId(node), server_ms, 1_000);
        }
        assert_eq!(clock.corrected_ms(2_000), 6_010);
        clock.retain(|node| node.0 == 1);
        clock.note_server(NodeId(1), 5_001, 1_000);
        assert_eq!(clock.corrected_ms(2_000), 6_001);
    }

    #[test]
    fn the_clocks_of_many_servers_take_bounded_memory() {
        let mut clock = ClientClock::default();
        for node in 0..10 * SERVERS_MAX as u64 {
            // Every third is an hour ahead.
            let ahead_ms = if node % 3 == 0 { 3_600_000 } else { 250 };
            clock.note_server(NodeId(node * 7_919 % 10_007), 1_000 + ahead_ms, 1_000);
        }
        assert_eq!(clock.differences.len(), SERVERS_MAX);
        assert_eq!(clock.corrected_ms(1_000), 1_250);
    }

    #[test]
    fn a_far_stamp_moves_its_own_key_only() {
        let mut clock = ClientClock::default();
        let far = Stamp::at(90_000);
        clock.observe(KEY, far, 1_000);
        assert!(clock.mint(KEY, 1_000) > far);
        assert!(clock.mint(KEY, 1_000) > far.next());
        assert_eq!(clock.mint(KeyHash(2), 1_000).millis(), 1_000);
        assert_eq!(clock.mint(KEY, 95_000), Stamp::at(95_000));
    }

    #[test]
    fn a_clock_that_was_far_off_does_not_lead_its_stamps_once_it_is_set_right() {
        let mut clock = ClientClock::default();
        assert_eq!(clock.mint(KEY, 9_000_000).millis(), 9_000_000);
        clock.note_server(NodeId(1), 5_000, 9_000_000);
        assert_eq!(clock.mint(KEY, 9_000_000).millis(), 5_000);
        assert_eq!(
            clock.reached_ms(9_000_000),
            5_000,
            "nothing expires too early either"
        );
    }

    #[test]
    fn no_time_that_a_server_sends_breaks_the_clock() {
        for server_ms in [0, 1 << 63, u64::MAX] {
            let mut clock = ClientClock::default();
            clock.note_server(NodeId(1), server_ms, 1_000);
            clock.mint(KEY, 2_000);
            clock.observe(KEY, Stamp(u64::MAX), 2_000);
            clock.mint(KEY, u64::MAX);
        }
    }

    #[test]
    fn a_near_stamp_moves_the_clock() {
        let mut clock = ClientClock::default();
        clock.observe(KEY, Stamp::at(1_400), 1_000);
        assert!(clock.mint(KeyHash(2), 1_000) > Stamp::at(1_400));
        assert_eq!(clock.reached_ms(1_000), 1_400);
    }

    #[test]
    fn what_another_process_saw_moves_the_clock_unless_it_is_far_ahead() {
        let mut clock = ClientClock::default();
        clock.reach(Stamp::at(90_000), 1_000);
        assert_eq!(clock.reached_ms(1_000), 1_000);
        clock.reach(Stamp::at(1_400), 1_000);
        assert_eq!(clock.reached_ms(1_000), 1_400);
        assert!(clock.mint(KEY, 1_000) > Stamp::at(1_400));
        assert!(
            clock.ahead.is_empty(),
            "what other keys need is not evicted"
        );
    }
}
