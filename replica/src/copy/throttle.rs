//! How fast pages may move: as fast as they can while clients hardly notice.
//!
//! What requests of clients take while pages move is compared with what they take while none do:
//! for that, pages pause for a moment before they begin, and every few seconds. So it does not
//! matter how fast a machine is, nor how busy clients keep it. The rate of pages rises while both
//! are alike and falls by a part once requests take much longer, as congestion control does (Chiu
//! and Jain 1989); to yield to what others send is as in LEDBAT (RFC 6817).
//!
//! One of these governs all pages of a server, those that it takes and those that it gives.

/// What pages move at to begin with, in bytes a second.
const RATE_FIRST: f64 = 32e6;
/// They move at least so fast, or a ring that is always busy would never be whole.
const RATE_MIN: f64 = 2e6;
/// More than any machine moves.
const RATE_MAX: f64 = 20e9;
/// Pages that wait are let go so much ahead of the rate, or its timers would slow it down.
const AHEAD_US: u64 = 5_000;
/// Shortest time over which requests are looked at.
const WINDOW_US: u64 = 200_000;
/// Longest time, where there are few of them.
const WINDOW_MOST_US: u64 = 2_000_000;
/// The same of a pause: where there are fewer, it says nothing.
const PAUSE_MOST_US: u64 = 600_000;
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

/// See the module. All times are in microseconds, by a clock that only rises.
#[derive(Clone, Debug)]
pub struct Throttle {
    rate: f64,
    /// When the pages that were let go are paid for.
    free_us: u64,
    /// When a page was let go last.
    last_us: Option<u64>,
    phase: Phase,
    window: Window,
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

#[derive(Clone, Debug, Default)]
struct Window {
    began_us: u64,
    /// What requests took, by their kinds.
    took: [Vec<u32>; 2],
    /// Bytes of pages that were let go.
    bytes: f64,
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
            window: Window::default(),
            base: [None; 2],
            met: false,
            slow: 0,
        }
    }
}

impl Throttle {
    /// Whether pages move, so that it matters what requests take.
    pub fn is_active(&self, now_us: u64) -> bool {
        self.last_us
            .is_some_and(|last| now_us < last + FORGOTTEN_US)
    }

    /// What pages may move at, in bytes a second.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// A request of a client took so long.
    pub fn observe(&mut self, kind: Kind, took_us: u64, now_us: u64) {
        let is_settled = match self.phase {
            Phase::Paused => now_us >= self.window.began_us + SETTLING_US,
            Phase::Moving { .. } => true,
        };
        let took = &mut self.window.took[kind as usize];
        if is_settled && took.len() < SAMPLES_MAX {
            took.push(u32::try_from(took_us).unwrap_or(u32::MAX));
        }
    }

    /// Whether a page of at most so many bytes may move.
    pub fn turn(&mut self, bytes: usize, now_us: u64) -> Turn {
        if !self.is_active(now_us) {
            *self = Self::default();
            self.window.began_us = now_us;
        }
        self.last_us = Some(now_us);
        self.look(now_us);
        if self.phase == Phase::Paused {
            let over_us = self.window.began_us + WINDOW_US + SETTLING_US;
            return Turn::Wait(over_us.saturating_sub(now_us).max(PAUSED_AGAIN_US));
        }
        if self.free_us > now_us + AHEAD_US {
            return Turn::Wait(self.free_us - now_us - AHEAD_US);
        }
        self.free_us = self.free_us.max(now_us) + self.time_of(bytes as f64);
        self.window.bytes += bytes as f64;
        Turn::Go
    }

    /// A page that was let go for `most` bytes had so many.
    pub fn moved(&mut self, most: usize, bytes: usize) {
        let less = most.saturating_sub(bytes) as f64;
        self.free_us = self.free_us.saturating_sub(self.time_of(less));
        self.window.bytes -= less;
    }

    fn time_of(&self, bytes: f64) -> u64 {
        (bytes / self.rate * 1e6) as u64
    }

    /// Ends a window if it is time, and goes on from what was seen in it.
    fn look(&mut self, now_us: u64) {
        let lasted_us = now_us.saturating_sub(self.window.began_us);
        let seen = self.window.took.iter().map(Vec::len);
        let (most, none) = (seen.clone().max().unwrap_or(0), seen.sum::<usize>() == 0);
        let (least_us, most_us) = match self.phase {
            Phase::Paused => (WINDOW_US + SETTLING_US, PAUSE_MOST_US),
            Phase::Moving { .. } => (WINDOW_US, WINDOW_MOST_US),
        };
        let is_enough = lasted_us >= least_us && (most >= ENOUGH || none);
        if !is_enough && lasted_us < most_us {
            return;
        }
        let window = std::mem::take(&mut self.window);
        self.window.began_us = now_us;
        let slowest = window.took.map(slowest);
        match self.phase {
            Phase::Paused => {
                let is_slower = |(now, before): (&Option<f64>, &Option<f64>)| match (now, before) {
                    (Some(now), Some(before)) => *now > before * SLOWER,
                    _ => false,
                };
                // How far the rate fell, it fell for something else.
                self.met &= !slowest.iter().zip(&self.base).any(is_slower);
                self.base = slowest;
                self.slow = 0;
                let until_us = now_us + BETWEEN_PAUSES_US;
                self.phase = Phase::Moving { until_us };
            }
            Phase::Moving { until_us } => {
                let used = window.bytes / (lasted_us as f64 / 1e6);
                self.adapt(slowest, used, none);
                if now_us >= until_us && !none || self.slow >= SLOW_MAX {
                    self.phase = Phase::Paused;
                }
            }
        }
    }

    fn adapt(&mut self, slowest: [Option<f64>; 2], used: f64, none: bool) {
        let ratio = |(now, base): (&Option<f64>, &Option<f64>)| {
            let (now, base) = ((*now)?, (*base)?);
            Some(now / (base * SLOWER + SLOWER_US))
        };
        let worst = slowest.iter().zip(&self.base).filter_map(ratio);
        let worst = worst.fold(0.0, f64::max);
        let most = match (none, self.met) {
            (true, _) => GROWTH_IDLE,
            (false, false) => GROWTH_FIRST,
            (false, true) => GROWTH,
        };
        let factor = worst.max(f64::MIN_POSITIVE).powf(-GAIN).clamp(FALL, most);
        let is_slow = worst > 1.0;
        self.met |= is_slow;
        self.slow = if is_slow { self.slow + 1 } else { 0 };
        // What is not used up says nothing about more.
        if is_slow || used > self.rate / 2.0 {
            self.rate = (self.rate * factor).clamp(RATE_MIN, RATE_MAX);
        }
    }
}

/// What the slowest of enough requests took at least.
fn slowest(mut took: Vec<u32>) -> Option<f64> {
    if took.len() < ENOUGH {
        return None;
    }
    let at = (took.len() as f64 * (1.0 - SLOWEST)) as usize;
    let at = at.min(took.len() - 1);
    let (_, took, _) = took.select_nth_unstable(at);
    Some(f64::from(*took))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 256 << 10;
    const STEP_US: u64 = 1_000;

    /// A machine that moves pages at `most` bytes a second, where requests take longer the more
    /// pages move.
    struct Machine {
        throttle: Throttle,
        now_us: u64,
        most: f64,
        requests_in_ms: u32,
        /// What a request takes, by the rate of pages.
        took_us: fn(f64) -> f64,
        /// Bytes of the pages of each of the last milliseconds.
        moved: std::collections::VecDeque<f64>,
        total: f64,
    }

    impl Machine {
        fn new(requests_in_ms: u32, took_us: fn(f64) -> f64) -> Self {
            Self {
                throttle: Throttle::default(),
                now_us: 1_000_000,
                most: 400e6,
                requests_in_ms,
                took_us,
                moved: std::iter::repeat_n(0.0, 100).collect(),
                total: 0.0,
            }
        }

        /// What moved in a second, of late.
        fn rate(&self) -> f64 {
            self.moved.iter().sum::<f64>() * 10.0
        }

        /// Bytes a second over so many seconds.
        fn run(&mut self, seconds: u64) -> f64 {
            let before = self.total;
            for _ in 0..seconds * 1_000 {
                let took_us = (self.took_us)(self.rate()) as u64;
                for _ in 0..self.requests_in_ms {
                    self.throttle.observe(Kind::Write, took_us, self.now_us);
                }
                let mut moved = 0.0;
                while self.rate() + moved * 10.0 < self.most
                    && self.throttle.turn(PAGE, self.now_us) == Turn::Go
                {
                    moved += PAGE as f64;
                }
                self.total += moved;
                self.moved.pop_front();
                self.moved.push_back(moved);
                self.now_us += STEP_US;
            }
            (self.total - before) / seconds as f64
        }
    }

    #[test]
    fn where_nobody_asks_for_anything_pages_soon_move_as_fast_as_they_can() {
        let mut machine = Machine::new(0, |_| 0.0);
        machine.run(3);
        assert!(machine.run(5) > 0.95 * machine.most);
    }

    #[test]
    fn clients_that_do_not_notice_slow_nothing_down() {
        let mut machine = Machine::new(2, |_| 4_000.0);
        machine.run(5);
        // Pauses remain.
        assert!(machine.run(20) > 0.9 * machine.most);
    }

    #[test]
    fn pages_move_as_fast_as_requests_hardly_take_longer() {
        // They take 1.5 times as long at 100 MB/s, and five times as long at twice that.
        let took = |rate: f64| 4_000.0 * (1.0 + 0.5 * (rate / 100e6).powi(3));
        let mut machine = Machine::new(2, took);
        machine.run(10);
        let rate = machine.run(30);
        assert!((65e6..115e6).contains(&rate), "{rate}");
    }

    #[test]
    fn where_requests_are_slow_because_of_pages_alone_some_still_move() {
        let mut machine = Machine::new(2, |rate| if rate > 0.0 { 90_000.0 } else { 1_000.0 });
        machine.run(10);
        let rate = machine.run(30);
        assert!((0.8 * RATE_MIN..4.0 * RATE_MIN).contains(&rate), "{rate}");
    }

    #[test]
    fn what_makes_requests_slow_besides_pages_does_not_slow_pages_down_for_long() {
        let mut machine = Machine::new(2, |_| 4_000.0);
        machine.run(10);
        machine.took_us = |_| 40_000.0;
        machine.run(10);
        assert!(machine.run(20) > 0.8 * machine.most);
    }

    #[test]
    fn a_few_requests_are_enough_and_too_few_say_nothing() {
        let took = |rate: f64| if rate > 50e6 { 90_000.0 } else { 1_000.0 };
        let mut machine = Machine::new(1, took);
        machine.run(10);
        assert!(machine.run(20) < 80e6);
        let mut throttle = Throttle::default();
        let mut at_us = 0;
        for _ in 0..100 {
            at_us += 300_000;
            throttle.observe(Kind::Read, 1_000_000, at_us);
            throttle.turn(PAGE, at_us);
        }
        assert!(throttle.rate() >= RATE_FIRST);
    }

    #[test]
    fn what_pages_had_less_than_they_might_have_is_not_paid_for() {
        let mut throttle = Throttle::default();
        assert!(
            matches!(throttle.turn(PAGE, 0), Turn::Wait(_)),
            "a pause comes first"
        );
        let at_us = WINDOW_US + SETTLING_US;
        let mut count = 0;
        while throttle.turn(PAGE, at_us) == Turn::Go {
            throttle.moved(PAGE, 0);
            count += 1;
            if count == 1_000 {
                return;
            }
        }
        panic!("{count} pages that were empty");
    }

    #[test]
    fn what_was_measured_is_forgotten_once_no_page_moves() {
        let mut machine = Machine::new(2, |rate| if rate > 10e6 { 90_000.0 } else { 1_000.0 });
        machine.run(20);
        assert!(machine.throttle.rate() < RATE_FIRST);
        let later = machine.now_us + FORGOTTEN_US + 1;
        assert!(!machine.throttle.is_active(later));
        assert!(matches!(machine.throttle.turn(PAGE, later), Turn::Wait(_)));
        assert_eq!(machine.throttle.rate(), RATE_FIRST);
    }
}
