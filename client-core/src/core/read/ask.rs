//! Whom a read asks, for what, and when that is enough.
//!
//! One owner is asked for the whole record, the others only for what is short: of a long value they
//! show the head. At level `available` a fallback is asked for each owner that does not answer: it
//! may keep what was written for that owner.

use super::shown::Shown;
use super::{Phase, Reading, SLOW_MS};
use crate::core::attempts::OwnerState;
use crate::core::client::{Core, Now};
use annulet_protocol::ids::NodeId;
use annulet_protocol::level::Level;
use annulet_protocol::message::Read;

/// Longest value that every owner sends; of a longer one a single owner does.
const DIGEST_BYTES: u32 = 4_096;
/// Fallbacks that are read off the view at first; four times as many when they are used up.
const FALLBACKS: usize = 8;

impl<S: Shown> Reading<S> {
    pub(super) fn is_available(&self) -> bool {
        self.start.level == Level::Available
    }

    /// Whether enough have answered for the level.
    pub(super) fn is_answered(&self) -> bool {
        if !self.is_available() || self.completed {
            return self.quorum.is_met(|node| self.seen.has(node));
        }
        let owners = self.owned.iter();
        let owner_answered = owners.clone().any(|node| self.seen.has(*node));
        let missing = self.missing();
        if missing == 0 {
            return owner_answered;
        }
        let fallbacks = self.fallbacks();
        let answered = fallbacks
            .clone()
            .filter(|node| self.seen.has(*node))
            .count();
        let open = fallbacks.filter(|node| self.counts(*node)).count();
        let all_missing = missing == self.owned.len();
        (owner_answered || all_missing && answered > 0) && answered >= missing.min(open)
    }

    /// Whether the level's owners have answered, and none has shown what the session has seen.
    pub(super) fn widens(&self) -> bool {
        !self.widened && !self.completed && !self.seen.meets_floor()
    }

    /// Whether what was shown is at least what the session has seen.
    pub(super) fn is_enough(&self) -> bool {
        !self.widened || self.completed || self.seen.meets_floor()
    }

    /// Whether this node's answer is wanted now.
    pub(super) fn wants(&self, node: NodeId) -> bool {
        let counts = |node| self.counts(node);
        match self.phase {
            Phase::Ask if self.widened && !self.completed => true,
            Phase::Ask if !self.is_available() || self.completed => self.quorum.wants(node, counts),
            Phase::Ask if self.owned.contains(&node) => {
                !self.owned.iter().any(|owner| self.counts(*owner))
            }
            Phase::Ask => self.fallbacks().filter(|node| counts(*node)).count() < self.missing(),
            Phase::Fetch => {
                let sources = &self.sources;
                sources.contains(&node) && !sources.iter().any(|source| counts(*source))
            }
            Phase::Repair => {
                let held = |node| self.holders.contains(&node) || counts(node);
                self.stale.contains(&node) || !self.completed && self.hold.wants(node, held)
            }
            Phase::Over => false,
        }
    }

    /// The question to this node.
    pub(super) fn question(&mut self, node: NodeId) -> Read {
        let bucket = self.start.bucket().number;
        let read = Read {
            hinted: !self.owned.contains(&node),
            ..Read::new(bucket, self.start.key.clone())
        };
        if self.phase == Phase::Ask && self.head_only {
            return Read {
                head_only: true,
                ..read
            };
        }
        let whole =
            self.phase == Phase::Fetch || !self.asked_whole.iter().any(|asked| self.counts(*asked));
        if whole {
            self.asked_whole.push(node);
            return read;
        }
        Read {
            value_bytes_max: Some(DIGEST_BYTES),
            ..read
        }
    }

    /// Reads more fallbacks off the view, where more owners are missing than there are fallbacks.
    pub(super) fn extend_fallbacks(&mut self, core: &Core) {
        let beyond = self.is_available() || self.widened;
        if !beyond || self.phase != Phase::Ask || self.completed {
            return;
        }
        let lost = |state| state == OwnerState::Lost;
        let settled = |state| matches!(state, OwnerState::Done | OwnerState::Lost);
        // What a session has written may be kept by servers that are no owners.
        let beyond = self.widened && self.owned.iter().all(|node| self.owners.is(*node, settled));
        let needed = if beyond { FALLBACKS } else { self.missing() };
        let usable = self.fallbacks().filter(|node| !self.owners.is(*node, lost));
        let known = self.fallbacks().count();
        // The list ends where there are fewer than were asked for.
        let exhausted = known < self.fallbacks_wanted.min(self.start.view.members.len());
        if usable.count() >= needed || exhausted {
            return;
        }
        self.fallbacks_wanted = (self.fallbacks_wanted * 4).max(FALLBACKS);
        let (view, hash) = (&self.start.view, self.start.hash);
        let (home, most) = (self.start.home.unwrap_or(0), self.fallbacks_wanted);
        let found = self.start.owners().fallbacks(view, hash, home, most);
        let found = found.into_iter().filter(|node| !self.owned.contains(node));
        let mut more: Vec<_> = found.skip(known).collect();
        more.sort_by_key(|node| core.peers.is_away(*node));
        self.owners.add(more.iter().copied());
        self.order.extend(more);
    }

    /// Another replica is asked for each that takes longer than most do.
    pub(super) fn hedge(&mut self, core: &mut Core, now: Now) {
        if self.next_hedge_ms().is_none_or(|at_ms| at_ms > now.mono_ms) {
            return;
        }
        let idle = |node: &NodeId| self.owners.is(*node, |state| state == OwnerState::Idle);
        let another = self.order.iter().any(idle);
        if another && core.hedging.spend(now.mono_ms) {
            core.counts.hedges += 1;
            let late = |since_ms: u64, delay_ms: u64| since_ms + delay_ms <= now.mono_ms;
            if let Some(delay_ms) = self.hedge_after_ms {
                self.owners.set_aside(|since_ms| late(since_ms, delay_ms));
            }
        }
        // Once is enough: what takes longer still is another matter.
        self.hedge_after_ms = None;
    }

    /// When to hedge.
    pub(super) fn next_hedge_ms(&self) -> Option<u64> {
        let delay_ms = self.hedge_after_ms?;
        let asks = matches!(self.phase, Phase::Ask | Phase::Fetch) && !self.completed;
        let first_ms = self.owners.first_sent_ms().filter(|_| asks)?;
        Some(first_ms + delay_ms)
    }

    /// How long those asked first usually take.
    pub(super) fn learn_delay(&mut self, core: &Core) {
        let asked = self.owners.iter();
        let asked = asked.filter(|owner| matches!(owner.state, OwnerState::InFlight { .. }));
        let classes = asked.map(|owner| core.distance(owner.node));
        let farthest = classes.max().unwrap_or(0);
        self.hedge_after_ms = core.hedging.delay_ms(farthest, SLOW_MS);
    }

    /// Whether a node has answered, or still may in good time.
    pub(super) fn counts(&self, node: NodeId) -> bool {
        self.owners.is(node, |state| match state {
            OwnerState::Done => true,
            OwnerState::InFlight { slow, .. } => !slow,
            OwnerState::Idle | OwnerState::Waiting { .. } | OwnerState::Lost => false,
        })
    }

    /// Owners that do not answer.
    fn missing(&self) -> usize {
        let missing = |node: &&NodeId| {
            self.owners.is(**node, |state| match state {
                OwnerState::Lost | OwnerState::Waiting { .. } => true,
                OwnerState::InFlight { slow, .. } => slow,
                OwnerState::Idle | OwnerState::Done => false,
            })
        };
        self.owned.iter().filter(missing).count()
    }

    fn fallbacks(&self) -> impl Iterator<Item = NodeId> + Clone + '_ {
        let others = self.order.iter().copied();
        others.filter(|node| !self.owned.contains(node))
    }
}
