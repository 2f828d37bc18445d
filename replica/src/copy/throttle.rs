//! How fast pages may move: as fast as they can while clients hardly notice.
//!
//! What requests of clients take while pages move is compared with what they take while none do:
//! for that, pages pause for a moment before they begin, and every few seconds. So it does not
//! matter how fast a machine is, nor how busy clients keep it. The rate of pages rises while both
//! are alike and falls by a part once requests take much longer, as congestion control does (Chiu
//! and Jain 1989); to yield to what others send is as in LEDBAT (RFC 6817).
//!
//! One of these governs all pages of a server, those that it takes and those that it gives.

#[cfg(test)]
mod tests;

/// What pages move at to begin with, in bytes a second.
const RATE_FIRST: f64 = 32e6;
/// They move at least so fast, or a ring that is always busy would never be whole.
const RATE_MIN: f64 = 4e6;
/// More than any machine moves.
const RATE_MAX: f64 = 20e9;
/// Pages that wait are let go so much ahead of the rate, or its timers would slow it down.
const AHEAD_US: u64 = 5_000;
/// Longest time that a page which was longer than expected keeps the others waiting.
const DEBT_MOST_US: f64 = 2e6;
/// The part of a page that is paid for even if it told nothing: it was read and compared.
const COMPARED: usize = 8;
/// Shortest time over which requests are looked at.
const WINDOW_US: u64 = 200_000;
/// Longest time, where there are few of them.
const WINDOW_MOST_US: u64 = 2_000_000;
/// The same of a pause: what is lacking then comes from the next ones.
const PAUSE_MOST_US: u64 = 800_000;
/// How long a page waits once more if a pause is longer than it might be.
const PAUSED_AGAIN_US: u64 = 50_000;
/// So many requests say something about the slowest of them.
const ENOUGH: usize = 30;
/// Requests that are looked at in a window; more say nothing more.
const SAMPLES_MAX: usize = 8_192;
/// Time between two pauses.
const BETWEEN_PAUSES_US: u64 = 6_000_000;
/// Pages that were under way are over after so much of a pause.
const SETTLING_US: u64 = 100_000;
/// Without any page for so long, what was measured before is forgotten.
const FORGOTTEN_US: u64 = 10_000_000;
/// The part of requests that may be slower than what is compared: a 95th percentile.
const SLOWEST: f64 = 0.05;
/// Requests may take so much of what they take while no page moves.
const SLOWER: f64 = 1.5;
/// And so much more: less is nothing that anyone notices.
const SLOWER_US: f64 = 1_000.0;
/// What requests take while no page moves is believed to rise by so much from pause to pause: what
/// pages leave behind goes on in a pause, and must not be taken for what it is without them.
const BASE_RISE: f64 = 1.5;
/// What becomes of the rate at most where nobody asks for anything.
const GROWTH_IDLE: f64 = 2.0;
/// The same until requests were too slow for the first time.
const GROWTH_FIRST: f64 = 1.25;
/// And later.
const GROWTH: f64 = 1.1;
/// What becomes of it at least.
const FALL: f64 = 0.7;
/// How much of it is done at once: windows differ even where nothing changes, and one that is slow
/// by chance must weigh no more than one that is fast by chance.
const GAIN: f64 = 0.25;
/// After so many windows in a row in which they were, it is looked at once more what they take
/// while no page moves: it may be something else that makes them slow.
const SLOW_MAX: u32 = 4;

/// A kind of request: they differ in how long they take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It changes something, so it waits for the disk.
    Write,
    /// It does not.
    Read,
}

/// What requests took, in microseconds, by their kinds.
type Took = [Vec<u32>; 2];

/// See the module. All times are in microseconds, by a clock that only rises.
#[derive(Clone, Debug)]
pub struct Throttle {
    rate: f64,
    /// When the pages that were let go are paid for.
    free_us: u64,
    /// When a page was let go last.
    last_us: Option<u64>,
    phase: Phase,
    /// When the window began, and the bytes of pages that were let go in it.
    began_us: u64,
    bytes: f64,
    /// Of this window; of a kind of which there were not enough, of those before it, too.
    moving: Took,
    /// The same of this pause, and those before it.
    paused: Took,
    /// What requests take while no page moves, by their kinds.
    base: [Option<f64>; 2],
    /// Requests were too slow since it was last seen what they take otherwise.
    met: bool,
    /// Windows in a row in which they were.
    slow: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No page is let go.
    Paused,
    /// Pages move, until the next pause.
    Moving { until_us: u64 },
}

/// What a window says.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Seen {
    /// Nobody asked for anything.
    Nobody,
    /// There are requests under way, and none of them ended.
    Stuck,
    /// What the slowest took at least, where that is known.
    Some([Option<f64>; 2]),
}

/// What is to be done with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It may move: [`Throttle::moved`] must follow.
    Go,
    /// It is to ask again after so many microseconds.
    Wait(u64),
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            rate: RATE_FIRST,
            free_us: 0,
            last_us: None,
            phase: Phase::Paused,
            began_us: 0,
            bytes: 0.0,
            moving: Took::default(),
            paused: Took::default(),
            base: [None; 2],
            met: false,
            slow: 0,
        }
    }
}

impl Throttle {
    /// Until when it matters what requests take, if no page comes any more.
    pub fn active_until_us(&self) -> u64 {
        self.last_us.map_or(0, |last| last + FORGOTTEN_US)
    }

    /// What pages may move at, in bytes a second.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// A request of a client took so long, or was given up after so long.
    pub fn observe(&mut self, kind: Kind, took_us: u64, now_us: u64) {
        let took = match self.phase {
            // One that began while pages moved says nothing about a pause.
            Phase::Paused if now_us < took_us + self.began_us + SETTLING_US => return,
            Phase::Paused => &mut self.paused[kind as usize],
            Phase::Moving { .. } => &mut self.moving[kind as usize],
        };
        if took.len() < SAMPLES_MAX {
            took.push(u32::try_from(took_us).unwrap_or(u32::MAX));
        }
    }

    /// Whether a page of at most so many bytes may move. `waiting`: requests of clients are under
    /// way.
    pub fn turn(&mut self, bytes: usize, waiting: bool, now_us: u64) -> Turn {
        if now_us >= self.active_until_us() {
            *self = Self::default();
            self.began_us = now_us;
        }
        self.last_us = Some(now_us);
        self.look(waiting, now_us);
        if self.phase == Phase::Paused {
            let over_us = self.began_us + self.lasts_us().0;
            return Turn::Wait(over_us.saturating_sub(now_us).max(PAUSED_AGAIN_US));
        }
        if self.free_us > now_us + AHEAD_US {
            return Turn::Wait(self.free_us - now_us - AHEAD_US);
        }
        self.free_us = self.free_us.max(now_us) + (bytes as f64 / self.rate * 1e6) as u64;
        self.bytes += bytes as f64;
        Turn::Go
    }

    /// A page that was let go for `most` bytes had so many, which may be more: a record is told as
    /// a whole.
    pub fn moved(&mut self, most: usize, bytes: usize, now_us: u64) {
        let more = bytes.max(most / COMPARED) as f64 - most as f64;
        let free_us = self.free_us as f64 + more / self.rate * 1e6;
        self.free_us = free_us.clamp(0.0, now_us as f64 + DEBT_MOST_US) as u64;
        self.bytes += more;
    }

    /// How long a window lasts at least and at most.
    fn lasts_us(&self) -> (u64, u64) {
        match self.phase {
            Phase::Moving { .. } => (WINDOW_US, WINDOW_MOST_US),
            Phase::Paused => {
                // Most requests that begin in it are to end in it.
                let base = self.base.iter().flatten().fold(0.0, |a: f64, b| a.max(*b));
                let least_us = SETTLING_US + WINDOW_US.max(2 * base as u64);
                (least_us.min(PAUSE_MOST_US), PAUSE_MOST_US)
            }
        }
    }

    /// Ends a window if it is time, and goes on from what was seen in it.
    fn look(&mut self, waiting: bool, now_us: u64) {
        let lasted_us = now_us.saturating_sub(self.began_us);
        let took = match self.phase {
            Phase::Paused => &self.paused,
            Phase::Moving { .. } => &self.moving,
        };
        let none = took.iter().all(Vec::is_empty);
        let few = took.iter().any(|t| (1..ENOUGH).contains(&t.len())) || none && waiting;
        let (least_us, most_us) = self.lasts_us();
        if lasted_us < least_us || few && lasted_us < most_us {
            return;
        }
        let took = match self.phase {
            Phase::Paused => &mut self.paused,
            Phase::Moving { .. } => &mut self.moving,
        };
        let seen = match (none, waiting) {
            (true, false) => Seen::Nobody,
            (true, true) => Seen::Stuck,
            (false, _) => Seen::Some([0, 1].map(|kind| slowest(&took[kind]))),
        };
        // Where there were not enough, they count for the next window.
        took.iter_mut()
            .filter(|t| t.len() >= ENOUGH)
            .for_each(Vec::clear);
        let used = self.bytes / (lasted_us as f64 / 1e6);
        (self.began_us, self.bytes) = (now_us, 0.0);
        match self.phase {
            Phase::Paused => {
                if let Seen::Some(slowest) = seen {
                    self.rebase(slowest);
                }
                self.slow = 0;
                let until_us = now_us + BETWEEN_PAUSES_US;
                self.phase = Phase::Moving { until_us };
            }
            Phase::Moving { until_us } => {
                self.adapt(seen, used);
                let due = now_us >= until_us && seen != Seen::Nobody;
                if due || self.slow >= SLOW_MAX {
                    self.phase = Phase::Paused;
                }
            }
        }
    }

    /// Takes what requests took in a pause.
    fn rebase(&mut self, slowest: [Option<f64>; 2]) {
        for (base, now) in self.base.iter_mut().zip(slowest) {
            let Some(now) = now else { continue };
            let before = base.unwrap_or(now);
            // How far the rate fell, it fell for something else.
            self.met &= now <= before * SLOWER;
            *base = Some(now.min(before * BASE_RISE));
        }
    }

    fn adapt(&mut self, seen: Seen, used: f64) {
        let ratio = |(now, base): (&Option<f64>, &Option<f64>)| {
            let (now, base) = ((*now)?, (*base)?);
            Some(now / (base * SLOWER + SLOWER_US))
        };
        let worst = match seen {
            Seen::Nobody => None,
            Seen::Stuck => Some(f64::INFINITY),
            Seen::Some(slowest) => {
                let ratios = slowest.iter().zip(&self.base).filter_map(ratio);
                ratios.reduce(f64::max)
            }
        };
        let is_slow = worst.is_some_and(|worst| worst > 1.0);
        self.met |= is_slow;
        self.slow = if is_slow { self.slow + 1 } else { 0 };
        let factor = match (seen, worst) {
            (Seen::Nobody, _) => GROWTH_IDLE,
            // What is not known yet is no reason to go faster.
            (_, None) => 1.0,
            (_, Some(worst)) => {
                let most = if self.met { GROWTH } else { GROWTH_FIRST };
                worst.max(f64::MIN_POSITIVE).powf(-GAIN).clamp(FALL, most)
            }
        };
        // What is not used up says nothing about more.
        if is_slow || used > self.rate / 2.0 {
            self.rate = (self.rate * factor).clamp(RATE_MIN, RATE_MAX);
        }
    }
}

/// What the slowest of enough requests took at least.
fn slowest(took: &[u32]) -> Option<f64> {
    if took.len() < ENOUGH {
        return None;
    }
    let mut took = took.to_vec();
    let at = (took.len() as f64 * (1.0 - SLOWEST)) as usize;
    let at = at.min(took.len() - 1);
    let (_, took, _) = took.select_nth_unstable(at);
    Some(f64::from(*took))
}
