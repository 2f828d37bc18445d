//! Histories of a register that is linearizable: many processes use it, and each operation takes
//! effect at one moment between its call and its return.

use annulet_history::{Answer, Condition, Op, Operation, Outcome};
use bytes::Bytes;
use rand::Rng;
use rand::seq::IndexedRandom;

/// What a run is like. Shares are in percent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) operations: usize,
    pub(crate) processes: usize,
    pub(crate) gets: u32,
    /// Of the writes.
    pub(crate) conditional: u32,
    /// Operations that fail.
    pub(crate) failures: u32,
    /// Answers that leave out the version.
    pub(crate) untold: u32,
}

/// A history, in the order of calls.
pub(crate) fn run(shape: Shape, random: &mut impl Rng) -> Vec<Operation> {
    let mut run = Run {
        shape,
        now_ns: 0,
        value: None,
        version: String::new(),
        writes: 0,
        versions: Vec::new(),
        late: Vec::new(),
        history: Vec::new(),
    };
    let mut phases = vec![Phase::Idle; shape.processes];
    while run.history.len() < shape.operations || phases.iter().any(|p| *p != Phase::Idle) {
        run.now_ns += u64::from(random.random_ratio(2, 3));
        let process = random.random_range(0..shape.processes);
        phases[process] = run.step(process, phases[process], random);
        if !run.late.is_empty() && random.random_ratio(1, 20) {
            let late = run.late.swap_remove(random.random_range(0..run.late.len()));
            run.apply(&late);
        }
    }
    run.history
}

/// Where a process is; operations go by their place in the history.
#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Idle,
    Called(usize),
    Applied(usize),
}

struct Run {
    shape: Shape,
    now_ns: u64,
    value: Option<Bytes>,
    version: String,
    writes: usize,
    /// All that were ever seen.
    versions: Vec<String>,
    /// Writes that failed and may still take effect.
    late: Vec<Op>,
    history: Vec<Operation>,
}

impl Run {
    fn step(&mut self, process: usize, phase: Phase, random: &mut impl Rng) -> Phase {
        let fails = random.random_ratio(self.shape.failures, 100);
        match phase {
            Phase::Idle if self.history.len() == self.shape.operations => Phase::Idle,
            Phase::Idle => {
                let op = self.next_op(random);
                self.history.push(Operation {
                    process: process as u64,
                    key: Bytes::from_static(b"key"),
                    op,
                    start_ns: self.now_ns,
                    end_ns: None,
                    outcome: Outcome::Unknown,
                });
                Phase::Called(self.history.len() - 1)
            }
            Phase::Called(index) if fails => {
                self.end(index);
                match random.random_range(0..3) {
                    0 => self.history[index].outcome = Outcome::NotApplied,
                    1 => self.late.push(self.history[index].op.clone()),
                    _ => {}
                }
                Phase::Idle
            }
            Phase::Called(index) => {
                let op = self.history[index].op.clone();
                let answer = self.apply(&op);
                self.history[index].outcome = Outcome::Ok(answer);
                Phase::Applied(index)
            }
            Phase::Applied(index) => {
                self.end(index);
                let is_untold = random.random_ratio(self.shape.untold, 100);
                match &mut self.history[index].outcome {
                    outcome if fails => *outcome = Outcome::Unknown,
                    Outcome::Ok(Answer::Found { version, .. } | Answer::Written { version }) => {
                        version.take_if(|_| is_untold);
                        self.versions.extend(version.clone());
                    }
                    _ => {}
                }
                Phase::Idle
            }
        }
    }

    fn end(&mut self, index: usize) {
        self.history[index].end_ns = Some(self.now_ns);
    }

    fn next_op(&mut self, random: &mut impl Rng) -> Op {
        if random.random_ratio(self.shape.gets, 100) {
            return Op::Get;
        }
        let is_delete = random.random_ratio(1, 6);
        let value = (!is_delete).then(|| Bytes::from(format!("value {}", self.history.len())));
        let is_conditional = random.random_ratio(self.shape.conditional, 100);
        let newest = self.versions.len().saturating_sub(3);
        let version = self.versions[newest..].choose(random).cloned();
        match (value, version) {
            (value, Some(version)) if is_conditional && random.random_ratio(2, 3) => {
                let condition = Condition::Version(version);
                Op::Cas { condition, value }
            }
            (value @ Some(_), _) if is_conditional => {
                let condition = Condition::Absent;
                Op::Cas { condition, value }
            }
            (Some(value), _) => Op::Put { value },
            (None, _) => Op::Delete,
        }
    }

    fn apply(&mut self, op: &Op) -> Answer {
        let new = match op {
            Op::Get => {
                let version = Some(self.version.clone());
                let found = |value| Answer::Found { value, version };
                return self.value.clone().map_or(Answer::Absent, found);
            }
            Op::Put { value } => Some(value.clone()),
            Op::Delete => None,
            Op::Cas { condition, value } => {
                let holds = match condition {
                    Condition::Absent => self.value.is_none(),
                    Condition::Version(version) => self.value.is_some() && *version == self.version,
                };
                if !holds {
                    return Answer::NotHeld;
                }
                value.clone()
            }
        };
        self.value = new;
        self.writes += 1;
        self.version = format!("{:08}", self.writes);
        let version = Some(self.version.clone());
        Answer::Written { version }
    }
}
