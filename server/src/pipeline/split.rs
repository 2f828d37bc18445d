//! A request's operations by lane.

use annulet_protocol::copy::CopyArc;
use annulet_protocol::message::{Answer, Operation, Read, Refusal, RefusalKind, Written};
use annulet_protocol::register::Log;
use annulet_protocol::register::message::ReadRegister;
use annulet_protocol::scan::Scan;
use annulet_protocol::siblings::message::Spread;
use annulet_replica::rules::{Demand, Mutation, Task};
use bytes::Bytes;

/// A request's operations by lane, and where their answers go.
#[derive(Default)]
pub(super) struct Split {
    answers: Vec<Answer>,
    pub(super) reads: Vec<Read>,
    read_at: Vec<usize>,
    pub(super) registers: Vec<ReadRegister>,
    register_at: Vec<usize>,
    pub(super) scans: Vec<Scan>,
    scan_at: Vec<usize>,
    pub(super) copies: Vec<CopyArc>,
    copy_at: Vec<usize>,
    pub(super) spreads: Vec<Spread>,
    pub(super) mutations: Vec<Mutation>,
    pub(super) mutation_at: Vec<usize>,
}

impl Split {
    pub(super) fn of(operations: Vec<Operation>) -> Self {
        let mut split = Self {
            answers: Vec::with_capacity(operations.len()),
            ..Self::default()
        };
        for (at, operation) in operations.into_iter().enumerate() {
            // Keeps the place; `join` puts the lane's answer there.
            split.answers.push(Answer::Unknown);
            match Demand::from(operation) {
                Demand::Change(mutation) => {
                    split.mutations.push(mutation);
                    split.mutation_at.push(at);
                }
                Demand::Read(read) => {
                    split.reads.push(read);
                    split.read_at.push(at);
                }
                Demand::ReadRegister(read) => {
                    split.registers.push(read);
                    split.register_at.push(at);
                }
                Demand::Scan(scan) => {
                    split.scans.push(scan);
                    split.scan_at.push(at);
                }
                Demand::CopyArc(asked) => {
                    split.copies.push(asked);
                    split.copy_at.push(at);
                }
                Demand::Spread(spread) => {
                    split.spreads.push(spread);
                    split.answers[at] = Answer::Written(Written::default());
                }
                Demand::Unknown => {
                    let why = "this server's version does not know the operation";
                    let refusal = Refusal::new(RefusalKind::Unsupported, why);
                    split.answers[at] = Answer::Refused(refusal);
                }
            }
        }
        split
    }

    /// Puts the answers of each lane in their places: reads, registers, scans, copies, writes.
    pub(super) fn join(mut self, answers: [Vec<Answer>; 5]) -> Vec<Answer> {
        let places = [
            self.read_at,
            self.register_at,
            self.scan_at,
            self.copy_at,
            self.mutation_at,
        ];
        for (places, answers) in places.into_iter().zip(answers) {
            for (at, answer) in places.into_iter().zip(answers) {
                self.answers[at] = answer;
            }
        }
        self.answers
    }
}

/// Bytes of keys and values that a mutation waits with.
pub(super) fn size(mutation: &Mutation) -> usize {
    match mutation {
        Mutation::Write(write) => write.key.len() + write.record.value.len(),
        Mutation::Hint(hint) => hint.key.len() + hint.record.value.len(),
        Mutation::Touch(touch) => touch.key.len(),
        Mutation::Mint(mint) => mint.key.len() + mint.context.len() + mint.write.value.len(),
        Mutation::Merge(merge) => merge.key.len() + merge.record.len(),
        Mutation::Compare(compare) => compare.key.len(),
        Mutation::Prepare(prepare) => prepare.key.len(),
        Mutation::Accept(accept) => register_size(&accept.key, &accept.log, &accept.value),
        Mutation::Learn(learn) => register_size(&learn.key, &learn.log, &learn.value),
        Mutation::Task(Task::Copied { entry, .. }) => entry.bytes(),
        Mutation::Task(_) => TASK_BYTES,
    }
}

/// What a task counts for: about a key.
const TASK_BYTES: usize = 64;
fn register_size(key: &Bytes, log: &Log, value: &Bytes) -> usize {
    key.len() + value.len() + LOG_ENTRY_BYTES * log.iter().len()
}

/// What an entry of a log takes.
const LOG_ENTRY_BYTES: usize = 64;
