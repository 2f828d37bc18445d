//! When to try again, and when not to.
//!
//! The budget is a token bucket after Finagle's `RetryBudget`: first attempts earn a tenth of a
//! retry each, so that retries never add more than a tenth to the load of servers in trouble, and
//! a small reserve lets a quiet client retry at all.

use annulet_protocol::ids::OpId;

/// Tenths of a retry that one first attempt earns.
const EARNED: u32 = 1;
/// Tenths of a retry that one retry costs.
const COST: u32 = 10;
/// Tenths of a retry that are there at the start, and that the bucket holds at most.
const RESERVE: u32 = 1_000;
/// Shortest wait before the second attempt.
const BACKOFF_MS_MIN: u64 = 5;
/// Longest wait between two attempts.
const BACKOFF_MS_MAX: u64 = 500;
/// Longest time for which no connection is opened to a server that could not be reached.
pub const AWAY_MS_MAX: u64 = 1_000;
/// Messages that one owner gets at most for one operation under one view. With the waits between
/// them they span one to two seconds, longer than [`AWAY_MS_MAX`], so that a server is tried at
/// least once for every operation that needs it. An owner that cannot be reached for so long is
/// given up, and the caller told, rather than held until the deadline.
pub const TRIES_MAX: u32 = 11;

/// How many retries a client may still make.
#[derive(Clone, Debug)]
pub struct RetryBudget {
    tenths: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { tenths: RESERVE }
    }
}

impl RetryBudget {
    /// Notes a first attempt.
    pub fn earn(&mut self) {
        self.tenths = (self.tenths + EARNED).min(RESERVE);
    }

    /// Takes one retry out, if there is one.
    pub fn spend(&mut self) -> bool {
        match self.tenths.checked_sub(COST) {
            Some(rest) => {
                self.tenths = rest;
                true
            }
            None => false,
        }
    }
}

/// How long to wait before attempt `tries + 1`: doubling, between half and the whole of it by the
/// operation's own number, so that clients refused together do not come back together.
pub fn backoff_ms(op: &OpId, tries: u32, asked_ms: Option<u32>) -> u64 {
    let doubled = BACKOFF_MS_MIN.saturating_mul(1 << tries.saturating_sub(1).min(16));
    let whole = doubled.min(BACKOFF_MS_MAX);
    let spread = mix(op, tries) % (whole / 2 + 1);
    u64::from(asked_ms.unwrap_or(0)).max(whole - spread)
}

/// A number that looks random and is the same for the same operation and attempt.
pub fn mix(op: &OpId, salt: u32) -> u64 {
    let client = u128::from_be_bytes(op.client.0);
    let mut x = (client as u64) ^ ((client >> 64) as u64);
    x ^= op.sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (u64::from(salt) << 32);
    // The finaliser of splitmix64.
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_stay_a_tenth_of_the_first_attempts_once_the_reserve_is_gone() {
        let mut budget = RetryBudget::default();
        while budget.spend() {}
        let retries = (0..10_000).filter(|_| {
            budget.earn();
            budget.spend()
        });
        let retries = retries.count();
        assert!((990..=1_000).contains(&retries), "{retries}");
    }

    #[test]
    fn an_operation_lasts_longer_than_a_server_is_left_alone() {
        for sequence in 0..1_000 {
            let op = OpId {
                sequence,
                ..OpId::default()
            };
            let waits = (1..TRIES_MAX).map(|tries| backoff_ms(&op, tries, None));
            let all: u64 = waits.sum();
            assert!((AWAY_MS_MAX..=2_200).contains(&all), "{all}");
        }
    }

    #[test]
    fn waits_grow_are_spread_and_heed_the_server() {
        let op = |sequence| OpId {
            sequence,
            ..OpId::default()
        };
        let waits: Vec<_> = (1..12)
            .map(|tries| backoff_ms(&op(1), tries, None))
            .collect();
        assert!(
            waits.iter().all(|wait| (2..=BACKOFF_MS_MAX).contains(wait)),
            "{waits:?}"
        );
        assert!(waits[10] >= 250);
        let spread: std::collections::BTreeSet<_> =
            (0..100).map(|n| backoff_ms(&op(n), 9, None)).collect();
        assert!(spread.len() > 50);
        assert_eq!(backoff_ms(&op(1), 1, Some(900)), 900);
    }
}
