//! What there is at one moment.

use super::records::{DotId, Id, NOTHING};
use xxhash_rust::xxh3::xxh3_128;

/// Owners of the key.
pub(super) const OWNERS: usize = 3;
/// Who keeps a record for owners that could not be reached.
pub(super) const FALLBACK: usize = OWNERS;
/// The owner that may crash.
pub(super) const CRASHER: usize = 0;
/// Most operations of a scenario.
pub(super) const OPS_MAX: usize = 4;
/// Most attempts of all operations together.
pub(super) const ATTEMPTS_MAX: usize = 6;

/// An operation.
#[derive(Clone, Copy, Default)]
pub(super) struct Op {
    /// Its client knows under what it writes.
    pub(super) begun: bool,
    /// What it writes under.
    pub(super) context: Id,
    /// The operations whose values it has seen, or that those had seen.
    pub(super) seen: u8,
    /// A quorum has acknowledged it.
    pub(super) acked: bool,
    /// When it was first sent: 1 for early, 2 for later.
    pub(super) sent: u8,
}

/// One sending of an operation.
#[derive(Clone, Copy, Default)]
pub(super) struct Attempt {
    /// A server has done it, or its context is on its way to all.
    pub(super) made: bool,
    /// The record that goes to the other owners.
    pub(super) record: Id,
    /// The servers that have acknowledged it, the fallback only as long as it keeps it, as bits.
    pub(super) holders: u8,
    /// Who minted it.
    pub(super) node: u8,
    /// The dot that was minted, if one was.
    pub(super) dot: Option<DotId>,
    /// A server has had it, be it the fallback.
    pub(super) done: bool,
    /// An owner has had it.
    pub(super) reached: bool,
    /// Its answer waits for the sync of what it rests on, for ever if that is lost.
    pub(super) waits: bool,
}

/// See the module.
#[derive(Clone, Copy, Default)]
pub(super) struct State {
    /// The owners', and what the fallback keeps.
    pub(super) records: [Id; OWNERS + 1],
    /// What of the crashing owner's is synced.
    pub(super) durable: Id,
    /// A record on its way for long.
    pub(super) held: Id,
    pub(super) ops: [Op; OPS_MAX],
    pub(super) attempts: [Attempt; ATTEMPTS_MAX],
    /// What tells the actor that the fallback is now from those that it was, when it minted what
    /// it has handed over since.
    pub(super) tenure: u8,
    pub(super) crashed: bool,
    /// The owner that crashed has not compared yet.
    pub(super) recovering: bool,
    /// It is so much later that the floor may be proved.
    pub(super) later: bool,
    /// Owners that take nothing at or below the floor from outside any more, as bits.
    pub(super) closed: u8,
    /// Owners that have all that the others have at or below the floor.
    pub(super) gathered: u8,
    /// Owners whose floor is raised.
    pub(super) raised: u8,
}

impl State {
    /// Nobody has written to this server, and it has taken part in nothing: it can't be told from
    /// another one of which that is true.
    pub(super) fn is_untouched(&self, node: usize) -> bool {
        let took = |attempt: &Attempt| attempt.holders >> node & 1 == 1;
        let marks = self.closed | self.gathered | self.raised;
        self.records[node] == NOTHING
            && marks >> node & 1 == 0
            && !self.attempts.iter().any(took)
            && !self.has_minted(node)
    }

    fn has_minted(&self, node: usize) -> bool {
        self.minted(node) > 0
    }

    /// How many dots this server has minted.
    pub(super) fn minted(&self, node: usize) -> u64 {
        let by = |attempt: &&Attempt| attempt.dot.is_some() && usize::from(attempt.node) == node;
        self.attempts.iter().filter(by).count() as u64
    }

    /// Whether this attempt is acknowledged by a majority of the owners.
    pub(super) fn is_acknowledged(&self, attempt: usize) -> bool {
        let Attempt { made, holders, .. } = self.attempts[attempt];
        made && (holders & 0b111).count_ones() >= 2
    }

    /// What tells it from others.
    pub(super) fn key(&self) -> u128 {
        let mut words = [0u32; 6 + 2 * OPS_MAX + 2 * ATTEMPTS_MAX + 2];
        let mut at = 0;
        let mut push = |word: u32| {
            words[at] = word;
            at += 1;
        };
        self.records.iter().for_each(|record| push(*record));
        push(self.durable);
        push(self.held);
        for op in &self.ops {
            push(op.context);
            push(bits(&[op.begun, op.acked]) | u32::from(op.sent) << 8 | u32::from(op.seen) << 16);
        }
        for attempt in &self.attempts {
            push(attempt.record);
            let flags = bits(&[attempt.made, attempt.done, attempt.reached, attempt.waits]);
            let dot = attempt.dot.map_or(0, |dot| u32::from(dot.get()));
            push(flags | u32::from(attempt.holders) << 8 | dot << 16);
        }
        push(bits(&[self.crashed, self.recovering, self.later]) | u32::from(self.tenure) << 8);
        let [closed, gathered, raised] = [self.closed, self.gathered, self.raised].map(u32::from);
        push(closed << 16 | gathered << 8 | raised);
        let mut bytes = [0; 4 * (6 + 2 * OPS_MAX + 2 * ATTEMPTS_MAX + 2)];
        for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        xxh3_128(&bytes)
    }
}

fn bits(flags: &[bool]) -> u32 {
    let bit = |(at, flag): (usize, &bool)| u32::from(*flag) << at;
    flags.iter().enumerate().map(bit).sum()
}
