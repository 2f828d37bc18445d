//! What there is at one moment.

use annulet_protocol::ballot::Ballot;
use annulet_replica::acceptor::{Accepted, Acceptor};
use xxhash_rust::xxh3::xxh3_128;

/// Most servers.
pub(super) const NODES_MAX: usize = 5;
/// Most proposals.
pub(super) const PROPOSALS_MAX: usize = 4;
/// Most recoveries.
pub(super) const RECOVERIES_MAX: usize = 2;

/// How a server is.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Life {
    #[default]
    Up,
    /// Its disk is still there.
    Dead,
    /// It left, and its disk is gone. What it held is kept here to know who held it.
    Left,
    /// It stopped, loudly: the others hold another chain.
    Stopped,
}

/// A server. All of it is durable.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Node {
    /// The newest record that it holds.
    pub(super) newest: u8,
    /// The one that it acts under.
    pub(super) acts: u8,
    /// Its votes on what follows the newest one.
    pub(super) promised: u8,
    pub(super) accepted: u8,
    pub(super) value: u8,
    /// The generation for which it was sealed.
    pub(super) sealed: u8,
    pub(super) life: Life,
}

/// How far a proposal is.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Phase {
    #[default]
    Waiting,
    Preparing,
    Accepting,
    /// It is over. What it sent may still come.
    Over,
}

/// A proposal.
#[derive(Clone, Copy, Default)]
pub(super) struct Proposal {
    pub(super) phase: Phase,
    /// The highest ballot at which a record was accepted, of what promises told.
    pub(super) ballot: u8,
    /// That record; then the one that is to be accepted.
    pub(super) value: u8,
    /// Servers whose answers came, in this phase.
    pub(super) answered: u8,
    /// Servers that accepted, until it is decided.
    pub(super) granted: u8,
}

/// How far a recovery is.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Course {
    #[default]
    Asking,
    /// Its record is written.
    Written,
    /// The answers were not on one chain, and were shown.
    Shown,
}

/// A recovery.
#[derive(Clone, Copy, Default)]
pub(super) struct Recovery {
    pub(super) course: Course,
    pub(super) generation: u8,
    /// Servers that answered.
    pub(super) asked: u8,
    /// The newest record that was answered, and what was accepted to follow it.
    pub(super) newest: u8,
    pub(super) ballot: u8,
    pub(super) value: u8,
    /// The keepers of its record.
    pub(super) keepers: u8,
    /// Everybody who was alive has answered.
    pub(super) full: bool,
}

/// See the module.
#[derive(Clone, Copy, Default)]
pub(super) struct State {
    pub(super) nodes: [Node; NODES_MAX],
    pub(super) proposals: [Proposal; PROPOSALS_MAX],
    pub(super) recoveries: [Recovery; RECOVERIES_MAX],
    /// Records that a majority accepted at one ballot.
    pub(super) decided: u8,
    pub(super) deaths: u8,
    pub(super) forgotten: bool,
    /// The rule that a step broke.
    pub(super) broken: Option<&'static str>,
}

impl Node {
    /// Its votes as the acceptor that they are.
    pub(super) fn acceptor(&self) -> Acceptor<u8> {
        let accepted = (self.accepted > 0).then(|| Accepted {
            ballot: ballot(self.accepted),
            value: self.value,
            next: None,
        });
        Acceptor::new(ballot(self.promised), accepted)
    }

    /// Takes over what an acceptor became.
    pub(super) fn become_acceptor(&mut self, acceptor: &Acceptor<u8>) {
        let accepted = acceptor.accepted();
        self.promised = number(acceptor.promised());
        self.accepted = accepted.map_or(0, |accepted| number(accepted.ballot));
        self.value = accepted.map_or(0, |accepted| accepted.value);
    }
}

/// The ballot of this number. No two proposals have one.
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
    /// The servers of which something is true.
    pub(super) fn nodes_that(&self, is: impl Fn(&Node) -> bool) -> u8 {
        let nodes = (0..).zip(&self.nodes).filter(|(_, node)| is(node));
        nodes.fold(0, |set, (at, _): (u8, _)| set | 1 << at)
    }

    /// What tells it from others.
    pub(super) fn key(&self) -> u128 {
        const NODE_BYTES: usize = 7;
        const PROPOSAL_BYTES: usize = 5;
        const RECOVERY_BYTES: usize = 8;
        const ALL_BYTES: usize = NODES_MAX * NODE_BYTES
            + PROPOSALS_MAX * PROPOSAL_BYTES
            + RECOVERIES_MAX * RECOVERY_BYTES
            + 4;
        let mut bytes = [0; ALL_BYTES];
        let mut at = 0;
        let mut push = |some: &[u8]| {
            bytes[at..at + some.len()].copy_from_slice(some);
            at += some.len();
        };
        for node in &self.nodes {
            push(&[node.newest, node.acts, node.promised, node.accepted]);
            push(&[node.value, node.sealed, node.life as u8]);
        }
        for proposal in &self.proposals {
            push(&[proposal.phase as u8, proposal.ballot, proposal.value]);
            push(&[proposal.answered, proposal.granted]);
        }
        for recovery in &self.recoveries {
            push(&[recovery.course as u8, recovery.generation, recovery.asked]);
            push(&[recovery.newest, recovery.ballot, recovery.value]);
            push(&[recovery.keepers, u8::from(recovery.full)]);
        }
        push(&[self.decided, self.deaths, u8::from(self.forgotten)]);
        push(&[u8::from(self.broken.is_some())]);
        xxh3_128(&bytes)
    }
}
