//! Is there an order of the operations on a key that explains their answers?
//!
//! The search is Wing and Gong's ("Testing and verifying concurrent objects", 1993): of the
//! operations that were called before the first return among those not yet placed, place one that
//! can have its answer in the present state, and go back where that leads nowhere. As Lowe does
//! ("Testing for linearizability", 2016), calls and returns are a linked list from which placed
//! operations are taken out, and a configuration (which operations were placed, and the state) is
//! never gone on from twice. Operations of unknown outcome have no return, and need not be placed.
//!
//! Since a value tells its write ([`register`]), much needs no trying:
//! - What changes nothing is placed as soon as it can be. An order that places it later stays one
//!   if it is moved to the front: the others find the states that they found before.
//! - The value of a write does not come back. So a state is only left when all operations that were
//!   done in it and nowhere else are placed, and who leaves it may be the last of these itself.
//! - Of writes that can come next and have the same guard and the same effect, the one that returns
//!   first goes first. In an order in which another one does, the two can change places: what comes
//!   between them did not have to wait for the return of the first, so not for that of the other.
//! - A write of unknown outcome is only placed if one comes next that could not have come without
//!   it. In the shortest order it is always so: if the next one is a write, or there is none, the
//!   first could be left out, since the state after both is the same without it; and what changes
//!   nothing and could have come is already placed. Likewise for several such writes in a row, so
//!   before them an operation is blocked that was done. One that can explain no answer is never
//!   placed.
//! - A configuration is as good as seen if one with the same state and fewer writes of unknown
//!   outcome was: what leads on from here, leads on from there.
//!
//! Which write is tried first changes only how soon an order is found: it is the one whose value
//! must be there first, by the returns of those who found it.

mod list;
mod placed;

use crate::failure::{Evidence, Failure};
use crate::operation::Operation;
use crate::register::{self, Flaw, Guard, Move, State};
use bytes::Bytes;
use list::{Calls, Event};
use placed::{Placed, Seen};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Steps that are enough for a good history of many thousand operations on a key, by tens of
/// processes. Each takes some 100 bytes.
pub const STEPS_MAX: usize = 1_000_000;

/// Checks that the operations on each key are linearizable. A search tries at most `steps_max`
/// writes on a key.
///
/// # Errors
/// A violation on one of the keys, if there is any; else a key for which it could not be decided,
/// which is no better.
pub fn check(history: &[Operation], steps_max: usize) -> Result<(), Failure> {
    let mut undecided = None;
    for (key, operations) in by_key(history) {
        match check_key(key, &operations, steps_max) {
            Ok(()) => {}
            Err(failure @ Failure::Violation(_)) => return Err(failure),
            Err(failure @ Failure::Undecided(_)) => undecided = undecided.or(Some(failure)),
        }
    }
    undecided.map_or(Ok(()), Err)
}

/// The operations on each key, in the order of the keys.
pub(crate) fn by_key(history: &[Operation]) -> BTreeMap<&Bytes, Vec<&Operation>> {
    let mut keys: BTreeMap<&Bytes, Vec<&Operation>> = BTreeMap::new();
    for operation in history {
        keys.entry(&operation.key).or_default().push(operation);
    }
    keys
}

fn check_key(key: &Bytes, operations: &[&Operation], steps_max: usize) -> Result<(), Failure> {
    let moves = register::moves(operations).map_err(|flaw| failure(key, operations, flaw))?;
    let mut search = Search::new(&moves, steps_max);
    let clone = |a_move: usize| operations[moves[a_move].operation].clone();
    let (is_violation, why) = match search.run() {
        End::Found => return Ok(()),
        End::Nowhere => {
            let why = "no order of the operations explains their answers";
            (true, why.to_owned())
        }
        End::GivenUp => (false, format!("no order was found in {steps_max} steps")),
    };
    let evidence = Evidence {
        key: key.clone(),
        why,
        prefix: search.longest.order.into_iter().map(clone).collect(),
        unplaced: search.longest.stuck.into_iter().map(clone).collect(),
    };
    Err(match is_violation {
        true => Failure::Violation(evidence),
        false => Failure::Undecided(evidence),
    })
}

/// Says what is wrong with a key's history.
pub(crate) fn failure(key: &Bytes, operations: &[&Operation], flaw: Flaw) -> Failure {
    let evidence = |why, unplaced: &[usize]| Evidence {
        key: key.clone(),
        why,
        prefix: Vec::new(),
        unplaced: unplaced.iter().map(|i| operations[*i].clone()).collect(),
    };
    match flaw {
        Flaw::Contradiction { why, operations } => Failure::Violation(evidence(why, &operations)),
        Flaw::RepeatedValue(one, other) => {
            let why = "two operations write the same value, so that reads do not tell which";
            Failure::Undecided(evidence(why.to_owned(), &[one, other]))
        }
    }
}

/// How a search ends.
enum End {
    Found,
    Nowhere,
    GivenUp,
}

/// A search under way. Moves go by their index.
struct Search<'a> {
    moves: &'a [Move],
    steps_left: usize,
    /// Those that are required and not placed.
    calls: Calls,
    /// Those that are not required, in the order of their calls.
    optional: Vec<Optional>,
    /// When the value that a move makes must be there.
    deadlines: Vec<u64>,
    state: State,
    order: Vec<usize>,
    placed: Placed,
    /// How many of the required moves not yet placed can come in this state only.
    waiting: HashMap<State, usize>,
    seen: Seen,
    longest: Longest,
}

/// A move that is not required.
struct Optional {
    index: usize,
    /// Whether it may let another one of its kind come next.
    leads_on: bool,
}

/// The longest order that was found, and the required moves that could have been next.
#[derive(Default)]
struct Longest {
    order: Vec<usize>,
    stuck: Vec<usize>,
}

/// A configuration that the search may come back to.
struct Branch {
    state: State,
    /// Moves placed.
    length: usize,
    /// Moves still to try, the best last.
    candidates: Vec<usize>,
}

impl<'a> Search<'a> {
    fn new(moves: &'a [Move], steps_max: usize) -> Self {
        let mut waiting = HashMap::new();
        let mut needed_by: HashMap<State, u64> = HashMap::new();
        for a_move in moves.iter().filter(|a_move| a_move.is_required) {
            if let Guard::Is(state @ State::Value { .. }) = a_move.guard {
                *waiting.entry(state).or_default() += 1;
                let by = needed_by.entry(state).or_insert(u64::MAX);
                *by = a_move.end_ns.min(*by);
            }
        }
        let deadline = |a_move: &Move| {
            let needed_by = a_move.makes.and_then(|made| needed_by.get(&made));
            needed_by.map_or(a_move.end_ns, |by| a_move.end_ns.min(*by))
        };
        Self {
            moves,
            steps_left: steps_max,
            calls: Calls::of(moves),
            optional: Optional::of(moves),
            deadlines: moves.iter().map(deadline).collect(),
            state: State::Absent,
            order: Vec::new(),
            placed: Placed::none_of(moves),
            waiting,
            seen: Seen::default(),
            longest: Longest::default(),
        }
    }

    fn run(&mut self) -> End {
        self.observe();
        let mut branches = vec![self.branch()];
        while !self.calls.is_empty() {
            let Some(branch) = branches.last_mut() else {
                self.note_longest();
                return End::Nowhere;
            };
            let Some(next) = branch.candidates.pop() else {
                branches.pop();
                continue;
            };
            let (state, length) = (branch.state, branch.length);
            if self.steps_left == 0 {
                self.note_longest();
                return End::GivenUp;
            }
            self.steps_left -= 1;
            self.go_back(state, length);
            self.place(next);
            self.observe();
            if self.seen.insert(self.state, &self.placed) {
                branches.push(self.branch());
            }
        }
        End::Found
    }

    /// Places all that can be placed and changes nothing.
    fn observe(&mut self) {
        let mut event = self.calls.first();
        while let Event::Call(next) = event {
            let a_move = &self.moves[next];
            if a_move.makes.is_none() && a_move.guard.holds(self.state) {
                self.place(next);
            }
            event = self.calls.after(next);
        }
    }

    /// What can be tried from here.
    fn branch(&self) -> Branch {
        let mut candidates = Vec::new();
        let mut blocked = Vec::new();
        let mut event = self.calls.first();
        while let Event::Call(next) = event {
            let a_move = &self.moves[next];
            if !a_move.guard.holds(self.state) {
                blocked.push(a_move.guard);
            } else if self.can_change(a_move) {
                candidates.push(next);
            }
            event = self.calls.after(next);
        }
        if let Event::Return(first) = event
            && !blocked.is_empty()
        {
            self.add_optional(self.moves[first].end_ns, &blocked, &mut candidates);
        }
        self.keep_first_of_twins(&mut candidates);
        candidates.sort_by_key(|next| Reverse(self.deadlines[*next]));
        Branch {
            state: self.state,
            length: self.order.len(),
            candidates,
        }
    }

    /// Adds the writes of unknown outcome that can come next, before the first return, and help one
    /// of those that are blocked.
    fn add_optional(&self, first_return_ns: u64, blocked: &[Guard], candidates: &mut Vec<usize>) {
        for optional in &self.optional {
            let a_move = &self.moves[optional.index];
            if a_move.start_ns > first_return_ns {
                break;
            }
            let Some(made) = a_move.makes.filter(|made| *made != self.state) else {
                continue;
            };
            if !self.placed.has(optional.index)
                && (optional.leads_on || blocked.iter().any(|guard| guard.holds(made)))
                && self.can_change(a_move)
            {
                candidates.push(optional.index);
            }
        }
    }

    /// Keeps, of candidates with the same guard and effect, the one that returns first.
    fn keep_first_of_twins(&self, candidates: &mut Vec<usize>) {
        let kind = |index: &usize| (self.moves[*index].guard, self.moves[*index].makes);
        candidates.sort_by_key(|index| (kind(index), self.moves[*index].end_ns, *index));
        candidates.dedup_by_key(|index| kind(index));
    }

    /// Whether a move can leave this state: its guard holds, and no other one waits for the state.
    fn can_change(&self, a_move: &Move) -> bool {
        let waits_itself = a_move.is_required && a_move.guard == Guard::Is(self.state);
        let waiting = self.waiting.get(&self.state).copied().unwrap_or(0);
        a_move.guard.holds(self.state) && waiting <= usize::from(waits_itself)
    }

    fn place(&mut self, next: usize) {
        let a_move = &self.moves[next];
        if a_move.is_required {
            self.calls.take_out(next);
            if let Guard::Is(state) = a_move.guard
                && let Some(waiting) = self.waiting.get_mut(&state)
            {
                *waiting -= 1;
            }
        }
        self.placed.insert(next);
        self.order.push(next);
        self.state = a_move.makes.unwrap_or(self.state);
    }

    fn go_back(&mut self, state: State, length: usize) {
        if self.order.len() > length {
            self.note_longest();
        }
        for last in self.order.drain(length..).rev() {
            let a_move = &self.moves[last];
            self.placed.remove(last);
            if a_move.is_required {
                self.calls.put_back(last);
                if let Guard::Is(state) = a_move.guard
                    && let Some(waiting) = self.waiting.get_mut(&state)
                {
                    *waiting += 1;
                }
            }
        }
        self.state = state;
    }

    fn note_longest(&mut self) {
        // Where the search is stuck, something is left to come next.
        let is_noted = !self.longest.stuck.is_empty();
        if is_noted && self.order.len() <= self.longest.order.len() {
            return;
        }
        let mut stuck = Vec::new();
        let mut event = self.calls.first();
        while let Event::Call(next) = event {
            stuck.push(next);
            event = self.calls.after(next);
        }
        let order = self.order.clone();
        self.longest = Longest { order, stuck };
    }
}

impl Optional {
    fn of(moves: &[Move]) -> Vec<Self> {
        let optional = || moves.iter().enumerate().filter(|(_, m)| !m.is_required);
        let guards: HashSet<Guard> = optional().map(|(_, m)| m.guard).collect();
        let leads_on = |made: State| {
            let mut guards = guards.iter().filter(|guard| **guard != Guard::Any);
            guards.any(|guard| guard.holds(made))
        };
        let optional = optional().map(|(index, a_move)| Self {
            index,
            leads_on: a_move.makes.is_some_and(leads_on),
        });
        optional.collect()
    }
}

#[cfg(test)]
mod tests;
