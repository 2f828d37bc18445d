//! How much of what is asked is sent to a server that says that it has too much to do.
//!
//! Each server refuses by itself what it cannot do in time. An operation that needs two of three
//! owners is then mostly refused by one of the two and done by another for nothing: where each
//! takes a third, only a quarter of the work is of use. So clients hold back before they send, as
//! in the adaptive throttling of "Site Reliability Engineering", chapter 21 (Beyer et al., 2016).
//! What passes is cut by the part that was refused, and grows slowly while little is. Whether an
//! operation is held back is drawn once for all its owners: those that are as busy as each other
//! are all sent it, or none is.

use annulet_protocol::message::{Answer, RefusalKind};

/// How often it is judged what passes.
const STEP_MS: u64 = 100;
/// What a draw, and what passes, is out of.
pub const WHOLE: u64 = 1_000;
/// So much passes at least, so that it is found out when a server can take more.
const PASSES_MIN: u64 = 20;
/// Refused parts up to this are no reason to hold back: a server that can take no more refuses
/// some.
const REFUSED_FINE: u64 = WHOLE / 16;
/// Steps without an answer after which a server is taken to be well.
const SILENT_STEPS: u64 = 10;
/// Steps in which little was refused after which what passes grows faster.
const WELL_STEPS: u32 = 10;
/// As many steps let everything pass.
const GROWTH_STEPS_MAX: u64 = 64;

/// What one server does with the messages of one class.
#[derive(Clone, Copy, Debug)]
pub struct Throttle {
    /// Part of what is asked that passes.
    passes: u64,
    /// Messages since it was last judged.
    taken: u64,
    refused: u64,
    judged_ms: u64,
    /// Steps since much was refused.
    well: u32,
}

/// How many of these say that the server has too much to do.
pub fn refused(answers: &[Answer]) -> u64 {
    let too_much = |answer: &&Answer| {
        let Answer::Refused(refusal) = answer else {
            return false;
        };
        matches!(refusal.kind, RefusalKind::Overloaded | RefusalKind::TooLate)
    };
    answers.iter().filter(too_much).count() as u64
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            passes: WHOLE,
            taken: 0,
            refused: 0,
            judged_ms: 0,
            well: 0,
        }
    }
}

impl Throttle {
    /// Notes messages that were taken, and others that were refused as too much.
    pub fn note(&mut self, taken: u64, refused: u64, now_ms: u64) {
        self.taken += taken;
        self.refused += refused;
        self.judge(now_ms);
    }

    /// Whether to hold back an operation that drew this number below [`WHOLE`].
    pub fn holds(&mut self, draw: u64, now_ms: u64) -> bool {
        self.judge(now_ms);
        draw >= self.passes
    }

    fn judge(&mut self, now_ms: u64) {
        let since_ms = now_ms.saturating_sub(self.judged_ms);
        let all = self.taken + self.refused;
        // No answer says nothing, unless there has been none for long.
        let steps = match since_ms / STEP_MS {
            steps if steps > SILENT_STEPS => steps,
            steps if all > 0 => steps.min(1),
            _ => 0,
        };
        if steps == 0 {
            return;
        }
        let refused = self.refused * WHOLE / all.max(1);
        if refused > REFUSED_FINE {
            // Answers come in clumps: what a few of them say is believed in part.
            let cut = self.passes * refused / WHOLE / 4;
            self.passes = (self.passes - cut).max(PASSES_MIN);
            self.well = 0;
        } else {
            for _ in 0..steps.min(GROWTH_STEPS_MAX) {
                self.grow();
            }
        }
        (self.taken, self.refused, self.judged_ms) = (0, 0, now_ms);
    }

    /// Slowly at first, as what is refused tells where the end is, then faster.
    fn grow(&mut self) {
        self.well = self.well.saturating_add(1);
        let part = if self.well > WELL_STEPS { 8 } else { 40 };
        let more = self.passes / part + WHOLE / 400;
        self.passes = (self.passes + more).min(WHOLE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks a server that takes `room` each 10 ms for `asked` each 10 ms, for so many seconds, and
    /// gives how many it was sent and took in the last one.
    fn ask(
        throttle: &mut Throttle,
        seconds: std::ops::Range<u64>,
        (asked, room): (u64, u64),
    ) -> (u64, u64) {
        let (mut sent, mut taken) = (0, 0);
        let last_ms = seconds.end * 1_000 - 1_000;
        for now_ms in (seconds.start * 1_000..seconds.end * 1_000).step_by(10) {
            if now_ms == last_ms {
                (sent, taken) = (0, 0);
            }
            let passes = (0..asked).filter(|n| {
                let draw = (n * 617 + now_ms * 389) % WHOLE;
                !throttle.holds(draw, now_ms)
            });
            let passed = passes.count() as u64;
            throttle.note(passed.min(room), passed.saturating_sub(room), now_ms);
            (sent, taken) = (sent + passed, taken + passed.min(room));
        }
        (sent, taken)
    }

    #[test]
    fn a_server_is_sent_a_little_more_than_it_takes_and_everything_when_it_can_again() {
        let mut throttle = Throttle::default();
        assert_eq!(ask(&mut throttle, 0..2, (10, 20)), (1_000, 1_000));
        let (sent, taken) = ask(&mut throttle, 2..5, (80, 20));
        assert!((1_800..2_600).contains(&sent), "{sent}");
        assert!(taken > 1_700, "{taken}");
        let all = ask(&mut throttle, 5..8, (80, 100));
        assert_eq!(all, (8_000, 8_000));
    }

    #[test]
    fn one_that_takes_nothing_is_still_tried() {
        let mut throttle = Throttle::default();
        let (sent, _) = ask(&mut throttle, 0..5, (100, 0));
        assert!((100..500).contains(&sent), "{sent}");
        let (_, taken) = ask(&mut throttle, 5..10, (100, 100));
        assert_eq!(taken, 10_000, "and taken for well when it is");
    }

    #[test]
    fn refusals_of_long_ago_and_few_of_them_hold_nothing_back() {
        let mut throttle = Throttle::default();
        throttle.note(0, 100, STEP_MS);
        assert!(throttle.holds(WHOLE * 4 / 5, STEP_MS));
        assert!(!throttle.holds(WHOLE - 1, 100 * STEP_MS));
        throttle.note(97, 3, 101 * STEP_MS);
        assert!(!throttle.holds(WHOLE - 1, 102 * STEP_MS));
    }
}
