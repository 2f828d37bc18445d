//! A model of a machine, and clients that ask at even times.

use super::*;
use std::collections::VecDeque;

const PAGE: usize = 256 << 10;
const STEP_US: u64 = 1_000;
/// The bytes of pages of so many steps make requests slow.
const LASTING: usize = 100;

/// Moves pages at `most` bytes a second, where requests take longer the more pages move.
struct Machine {
    throttle: Throttle,
    now_us: u64,
    most: f64,
    /// Time between two requests.
    every_us: u64,
    /// What a request takes, by the rate of pages.
    took_us: fn(f64) -> f64,
    /// When requests that are under way began, and when they will end.
    under_way: Vec<(u64, u64)>,
    /// Bytes of the pages of each of the last steps.
    moved: VecDeque<f64>,
    total: f64,
}

impl Machine {
    fn new(every_us: u64, took_us: fn(f64) -> f64) -> Self {
        Self {
            throttle: Throttle::default(),
            now_us: 1_000_000,
            most: 400e6,
            every_us,
            took_us,
            under_way: Vec::new(),
            moved: std::iter::repeat_n(0.0, LASTING).collect(),
            total: 0.0,
        }
    }

    /// What moved in a second, of late.
    fn rate(&self) -> f64 {
        self.moved.iter().sum::<f64>() * 1e6 / (LASTING as f64 * STEP_US as f64)
    }

    fn requests(&mut self) {
        let took_us = (self.took_us)(self.rate()) as u64;
        let mut at_us = self.now_us.next_multiple_of(self.every_us);
        while at_us < self.now_us + STEP_US {
            self.under_way.push((at_us, at_us + took_us));
            at_us += self.every_us;
        }
        let (throttle, now_us) = (&mut self.throttle, self.now_us);
        self.under_way.retain(|(began_us, ends_us)| {
            if *ends_us <= now_us {
                throttle.observe(Kind::Write, ends_us - began_us, now_us);
            }
            *ends_us > now_us
        });
    }

    /// Bytes a second over so many seconds.
    fn run(&mut self, seconds: u64) -> f64 {
        let before = self.total;
        for _ in 0..seconds * 1_000_000 / STEP_US {
            self.requests();
            let waiting = !self.under_way.is_empty();
            let mut moved = 0.0;
            while self.rate() + moved * 10.0 < self.most
                && self.throttle.turn(PAGE, waiting, self.now_us) == Turn::Go
            {
                self.throttle.moved(PAGE, PAGE, self.now_us);
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

/// Nobody asks for anything.
const NEVER: u64 = u64::MAX / 4;

#[test]
fn where_nobody_asks_for_anything_pages_soon_move_as_fast_as_they_can() {
    let mut machine = Machine::new(NEVER, |_| 0.0);
    machine.run(3);
    assert!(machine.run(5) > 0.95 * machine.most);
}

#[test]
fn clients_that_do_not_notice_slow_nothing_down() {
    for every_us in [500, 20_000] {
        let mut machine = Machine::new(every_us, |_| 4_000.0);
        machine.run(20);
        // Pauses remain.
        let rate = machine.run(20);
        assert!(rate > 0.85 * machine.most, "{every_us}: {rate}");
    }
}

#[test]
fn pages_move_as_fast_as_requests_hardly_take_longer() {
    // They take 1.5 times as long at 100 MB/s, and five times as long at twice that.
    let took = |rate: f64| 4_000.0 * (1.0 + 0.5 * (rate / 100e6).powi(3));
    for every_us in [500, 20_000] {
        let mut machine = Machine::new(every_us, took);
        machine.run(30);
        let rate = machine.run(30);
        assert!((60e6..130e6).contains(&rate), "{every_us}: {rate}");
    }
}

#[test]
fn where_requests_are_slow_because_of_pages_alone_some_still_move() {
    let mut machine = Machine::new(500, |rate| if rate > 0.0 { 90_000.0 } else { 1_000.0 });
    machine.run(10);
    let rate = machine.run(30);
    assert!((0.5 * RATE_MIN..3.0 * RATE_MIN).contains(&rate), "{rate}");
}

#[test]
fn requests_that_take_longer_than_a_pause_settles_are_not_taken_for_what_it_is_without_pages() {
    let took = |rate: f64| if rate > 20e6 { 250_000.0 } else { 5_000.0 };
    let mut machine = Machine::new(2_000, took);
    machine.run(10);
    let rate = machine.run(30);
    assert!(rate < 30e6, "{rate}");
}

#[test]
fn where_no_request_ends_any_more_pages_do_not_move_faster() {
    let took = |rate: f64| if rate > 20e6 { 20e6 } else { 5_000.0 };
    let mut machine = Machine::new(10_000, took);
    machine.run(3);
    machine.run(15);
    let rate = machine.throttle.rate();
    assert!(rate <= RATE_FIRST, "{rate}");
}

#[test]
fn what_makes_requests_slow_besides_pages_does_not_slow_pages_down_for_long() {
    let mut machine = Machine::new(500, |_| 4_000.0);
    machine.run(10);
    machine.took_us = |_| 40_000.0;
    machine.run(20);
    assert!(machine.run(20) > 0.75 * machine.most);
}

#[test]
fn a_few_requests_are_enough() {
    let took = |rate: f64| if rate > 50e6 { 90_000.0 } else { 1_000.0 };
    let mut machine = Machine::new(50_000, took);
    machine.run(60);
    assert!(machine.run(30) < 80e6);
}

#[test]
fn of_requests_of_which_nothing_is_known_yet_none_makes_pages_faster() {
    let mut machine = Machine::new(100_000, |_| 1_000.0);
    machine.run(15);
    assert!(machine.throttle.rate() <= RATE_FIRST);
}

#[test]
fn a_page_is_paid_for_by_what_it_had() {
    let mut throttle = Throttle::default();
    let first = throttle.turn(PAGE, false, 0);
    assert!(matches!(first, Turn::Wait(_)), "a pause comes first");
    let at_us = WINDOW_US + SETTLING_US;
    let count = |throttle: &mut Throttle, bytes, at_us| {
        let mut count = 0;
        while throttle.turn(PAGE, false, at_us) == Turn::Go {
            throttle.moved(PAGE, bytes, at_us);
            count += 1;
        }
        count
    };
    let whole = count(&mut throttle, PAGE, at_us);
    let empty = count(&mut throttle, 0, at_us + 10_000);
    assert!(
        whole < empty && empty < 2 * COMPARED * whole,
        "{empty}, {whole}"
    );
    let later_us = at_us + 100_000;
    assert_eq!(count(&mut throttle, 100 * PAGE, later_us), 1);
    let Turn::Wait(us) = throttle.turn(PAGE, false, later_us) else {
        panic!("a long page was not paid for");
    };
    assert!((500_000..=DEBT_MOST_US as u64).contains(&us), "{us}");
}

#[test]
fn what_was_measured_is_forgotten_once_no_page_moves() {
    let took = |rate: f64| if rate > 10e6 { 90_000.0 } else { 1_000.0 };
    let mut machine = Machine::new(500, took);
    machine.run(20);
    assert!(machine.throttle.rate() < RATE_FIRST);
    let later = machine.throttle.active_until_us();
    assert!(matches!(
        machine.throttle.turn(PAGE, false, later),
        Turn::Wait(_)
    ));
    assert_eq!(machine.throttle.rate(), RATE_FIRST);
}
