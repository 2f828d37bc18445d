//! What must be true at every moment.

use super::records::{Id, NOTHING};
use super::state::{CRASHER, OWNERS, State};
use super::{Kind, Search};

const PAIRS: [[usize; 2]; 3] = [[0, 1], [0, 2], [1, 2]];
const ORDERS: [[usize; OWNERS]; 6] = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
];

/// Operations, as bits.
type Ops = u8;

impl Search<'_> {
    /// # Errors
    /// The rule that is broken.
    pub(super) fn judge(&mut self, state: &State) -> Result<(), String> {
        let all = self.judge_records(state)?;
        let shown = self.records.shown(all);
        let [puts, done, reached, acked] = self.ops(state);
        let replaced = seen_by(state, done);
        // What is lost in a crash may have been the value, or what replaced it.
        let [needed, gone] = match state.crashed {
            true => [acked, seen_by(state, acked)],
            false => [reached, seen_by(state, reached)],
        };
        let back = self.may_come_back(state);
        nothing("lost", needed & puts & !replaced & !shown)?;
        nothing("alive although overwritten", shown & gone & !back)?;
        for [a, b] in PAIRS {
            if state.recovering && a == CRASHER {
                continue;
            }
            let both = self.records.merge(state.records[a], state.records[b]);
            let shown = self.records.shown(both);
            let missing = acked & puts & !replaced & !shown;
            nothing("acknowledged, and not shown by two owners", missing)?;
            let stale = shown & seen_by(state, acked) & !back;
            nothing("shown by two owners although overwritten", stale)?;
        }
        Ok(())
    }

    /// What depends on nothing but the owners' records. Gives all of them together.
    fn judge_records(&mut self, state: &State) -> Result<Id, String> {
        let [a, b, c] = [0, 1, 2].map(|at| u128::from(state.records[at]));
        let key = a << 96 | b << 64 | c << 32 | u128::from(state.later);
        if let Some(all) = self.judged.get(&key) {
            return Ok(*all);
        }
        let all = self.merge_all(state)?;
        self.judge_exchange(state)?;
        if let Some(law) = self.records.broken_law.take() {
            return Err(law);
        }
        self.judged.insert(key, all);
        Ok(all)
    }

    /// All owners' records together, whichever comes first.
    fn merge_all(&mut self, state: &State) -> Result<Id, String> {
        let mut merged = ORDERS.map(|order| {
            let [a, b, c] = order.map(|at| state.records[at]);
            let ab = self.records.merge(a, b);
            self.records.merge(ab, c)
        });
        merged.sort_unstable();
        match merged[0] == merged[5] {
            true => Ok(merged[0]),
            false => Err("what is merged depends on the order".into()),
        }
    }

    /// The puts; the operations that some server has had, and an owner; and the acknowledged ones.
    fn ops(&self, state: &State) -> [Ops; 4] {
        let [mut puts, mut done, mut reached, mut acked] = [0; 4];
        for (op, act) in self.scenario.acts.iter().enumerate() {
            let attempts = &state.attempts[self.attempts(op)];
            puts |= u8::from(act.kind == Kind::Put) << op;
            done |= u8::from(attempts.iter().any(|at| at.done)) << op;
            reached |= u8::from(attempts.iter().any(|at| at.reached)) << op;
            acked |= u8::from(state.ops[op].acked) << op;
        }
        [puts, done, reached, acked]
    }

    /// Operations that were minted twice, and may be forgotten by now.
    fn may_come_back(&self, state: &State) -> Ops {
        let twice = |op: &usize| {
            let minted = self
                .attempts(*op)
                .filter(|at| state.attempts[*at].dot.is_some());
            minted.count() > 1
        };
        let ops = 0..self.scenario.acts.len();
        match state.later {
            true => ops.filter(twice).map(|op| 1u8 << op).sum(),
            false => 0,
        }
    }

    /// Owners that push to each other until nothing changes have the same.
    fn judge_exchange(&mut self, state: &State) -> Result<(), String> {
        let mut rests = [NOTHING; 2];
        for (rest, order) in rests.iter_mut().zip([ORDERS[0], ORDERS[5]]) {
            let mut after = *state;
            loop {
                let before = after.records;
                for from in order {
                    for to in order.into_iter().filter(|to| *to != from) {
                        let record = after.records[from];
                        self.take(&mut after, to, record);
                    }
                }
                if after.records == before {
                    break;
                }
            }
            let [a, b, c] = order.map(|at| after.records[at]);
            if !(self.agree(a, b) && self.agree(a, c)) {
                return Err("owners do not come to the same".into());
            }
            *rest = after.records[order[0]];
        }
        let [one, other] = rests;
        match self.agree(one, other) {
            true => Ok(()),
            false => Err("what owners come to depends on the order".into()),
        }
    }

    /// Whether owners take these records for the same.
    fn agree(&self, one: Id, other: Id) -> bool {
        match self.broken {
            // Then floors differ for good, and only values are looked at.
            #[cfg(feature = "faults")]
            Some(super::Broken::BaseIgnored) => {
                self.records.shown(one) == self.records.shown(other)
            }
            _ => self.records.get(one).agrees(self.records.get(other)),
        }
    }
}

/// What these operations had seen.
fn seen_by(state: &State, ops: Ops) -> Ops {
    let some = (0..state.ops.len()).filter(|op| ops >> op & 1 == 1);
    some.map(|op| state.ops[op].seen).fold(0, |a, b| a | b)
}

fn nothing(what: &str, ops: Ops) -> Result<(), String> {
    match ops {
        0 => Ok(()),
        _ => Err(format!("operation {} is {what}", ops.trailing_zeros())),
    }
}
