//! What there is at one moment.

use annulet_protocol::ballot::Ballot;
use annulet_replica::acceptor::{Accepted, Acceptor};
use xxhash_rust::xxh3::xxh3_128;

/// Most servers.
pub(super) const NODES_MAX: usize = 6;
/// Most operations.
pub(super) const ACTS_MAX: usize = 5;
/// A server's mark that it took what an operation sent; below it what it showed.
pub(super) const TOOK: u8 = 128;

/// A server.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Node {
    /// The epoch that it holds, by its place.
    pub(super) known: u8,
    /// The highest ballot that it promised.
    pub(super) promised: u8,
    /// The ballot, or the version, of what it has.
    pub(super) accepted: u8,
    /// The ballot reserved with that.
    pub(super) reserved: u8,
    /// The list that it has.
    pub(super) value: u8,
    /// What it said to each operation: one more than what it showed, and [`TOOK`].
    pub(super) answers: [u8; ACTS_MAX],
    /// Servers that it has copied from for the move of its epoch.
    pub(super) copied: u8,
}

/// How far an operation is.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Phase {
    #[default]
    Waiting,
    /// It asks what there is, or for promises.
    Asking,
    /// It sends what is to be taken.
    Sending,
    /// It is completed. What it sent may still come.
    Over,
    /// It was given up. What it sent may still come.
    Left,
    /// It was given up before it sent anything.
    Gone,
}

/// An operation.
#[derive(Clone, Copy, Default)]
pub(super) struct Op {
    pub(super) phase: Phase,
    /// The epoch that it goes by.
    pub(super) epoch: u8,
    /// The highest that was shown, or what is sent.
    pub(super) ballot: u8,
    pub(super) value: u8,
    /// What was completed before it began.
    pub(super) bound: u8,
}

/// See the module.
#[derive(Clone, Copy, Default)]
pub(super) struct State {
    pub(super) nodes: [Node; NODES_MAX],
    pub(super) ops: [Op; ACTS_MAX],
    /// The last epoch that was decided.
    pub(super) decided: u8,
    /// The newest of what was completed.
    pub(super) completed: u8,
    pub(super) crashed: bool,
    /// The rule that is broken.
    pub(super) broken: Option<&'static str>,
}

impl Node {
    /// It as the acceptor that it is.
    pub(super) fn acceptor(&self) -> Acceptor<u8> {
        let accepted = (self.accepted > 0).then(|| Accepted {
            ballot: ballot(self.accepted),
            value: self.value,
            next: (self.reserved > 0).then(|| ballot(self.reserved)),
        });
        Acceptor::new(ballot(self.promised), accepted)
    }

    /// Takes over what an acceptor became.
    pub(super) fn become_acceptor(&mut self, acceptor: &Acceptor<u8>) {
        self.promised = number(acceptor.promised());
        if let Some(accepted) = acceptor.accepted() {
            self.accepted = number(accepted.ballot);
            self.value = accepted.value;
            self.reserved = accepted.next.map_or(0, number);
        }
    }

    /// Everything of the key is gone.
    pub(super) fn empty(&mut self) {
        (self.promised, self.accepted) = (0, 0);
        (self.reserved, self.value) = (0, 0);
    }
}

/// The ballot of this number. No two operations have one.
pub(super) fn ballot(number: u8) -> Ballot {
    Ballot {
        number: u64::from(number),
        ..Ballot::default()
    }
}

fn number(ballot: Ballot) -> u8 {
    u8::try_from(ballot.number).expect("small ballots")
}

impl State {
    /// Whether all of so many operations are completed or given up.
    pub(super) fn is_over(&self, acts: usize) -> bool {
        let open = |op: &Op| matches!(op.phase, Phase::Waiting | Phase::Asking | Phase::Sending);
        !self.ops[..acts].iter().any(open)
    }

    /// The one that stands for all that differ from it by the names of servers that cannot be told
    /// apart.
    pub(super) fn named(&self, alike: &[Vec<usize>]) -> Self {
        // Which node comes to each place.
        let mut places = [0, 1, 2, 3, 4, 5];
        for group in alike {
            let mut nodes = group.clone();
            nodes.sort_by_key(|node| {
                let mut node = self.nodes[*node];
                node.copied = node.copied.count_ones() as u8;
                node
            });
            for (place, node) in group.iter().zip(nodes) {
                places[*place] = node;
            }
        }
        let mut named = *self;
        for (place, node) in places.iter().enumerate() {
            let mut moved = self.nodes[*node];
            let copied = |(at, node): (usize, &usize)| (moved.copied >> node & 1) << at;
            moved.copied = places.iter().enumerate().map(copied).sum();
            named.nodes[place] = moved;
        }
        named
    }

    /// What tells it from others.
    pub(super) fn key(&self) -> u128 {
        const NODE_BYTES: usize = 6 + ACTS_MAX;
        const OP_BYTES: usize = 5;
        let mut bytes = [0; NODES_MAX * NODE_BYTES + ACTS_MAX * OP_BYTES + 3];
        let mut at = 0;
        let mut push = |some: &[u8]| {
            bytes[at..at + some.len()].copy_from_slice(some);
            at += some.len();
        };
        for node in &self.nodes {
            push(&[node.known, node.promised, node.accepted, node.reserved]);
            push(&[node.value, node.copied]);
            push(&node.answers);
        }
        for op in &self.ops {
            push(&[op.phase as u8, op.epoch, op.ballot, op.value, op.bound]);
        }
        push(&[self.decided, self.completed, u8::from(self.crashed)]);
        xxh3_128(&bytes)
    }
}
