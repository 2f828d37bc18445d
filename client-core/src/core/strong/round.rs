//! One round of CASPaxos: what it goes on from, what it proposes, and who has accepted that.
//!
//! Source: Rystsov, "CASPaxos", arXiv 1802.07000, with its one-round-trip optimisation. This is
//! the part that decides; messages, times and attempts are its coordinator's.

use super::proposer::Reservation;
use super::votes::Votes;
use crate::core::client::Core;
use annulet_protocol::ballot::Ballot;
use annulet_protocol::ids::{NodeId, OpId};
use annulet_protocol::record::Kind;
use annulet_protocol::register::message::Accept;
use annulet_protocol::register::{Change, Changed, NewValue, Register, Turn, Verdict};
use annulet_ring::owners::Nodes;
use annulet_ring::quorum::Quorum;
use bytes::Bytes;

/// Values longer than this are not sent to owners that hold them.
pub const SHIPPED_BYTES_MAX: usize = 4_096;

/// What a round goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Basis {
    /// The ballot under which it was accepted; zero: nothing was.
    pub ballot: Ballot,
    /// The register.
    pub register: Register,
    /// Who is known to hold it; `None`: whoever accepted it, a quorum.
    pub holders: Option<Nodes>,
    /// Its value, where that is known.
    pub value: Option<Bytes>,
}

impl Basis {
    /// What a quorum of promises shows: the register of the highest ballot.
    pub fn of(votes: &Votes, (bucket, key): (u32, &[u8])) -> Self {
        let register = votes.highest().and_then(|shown| shown.register());
        Self {
            ballot: votes.accepted(),
            register: register.unwrap_or_else(|| Register::unwritten(bucket, key)),
            holders: Some(votes.holders()),
            value: votes.value().cloned(),
        }
    }

    /// What a reserved ballot goes on from.
    pub fn reserved(reservation: &Reservation) -> Self {
        Self {
            ballot: reservation.ballot,
            register: reservation.register.clone(),
            holders: None,
            value: None,
        }
    }

    /// The value: there is none to know of a tombstone.
    fn known(&self) -> Option<Bytes> {
        match self.register.head.kind {
            Kind::Tombstone => Some(Bytes::new()),
            Kind::Value => self.value.clone(),
        }
    }
}

/// The rounds of one write that may have been accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tried {
    /// The first.
    pub first: Ballot,
    /// The last.
    pub last: Ballot,
}

impl Tried {
    /// Whether none of these rounds came to anything or ever will, by what was agreed on in a later
    /// one: it follows all that was agreed on before, and all that comes after follows it. What was
    /// merely proposed later proves nothing: a quorum that has not seen it may go on from what one
    /// owner accepted of these rounds.
    pub fn came_to_nothing(&self, op: &OpId, ballot: Ballot, register: &Register) -> bool {
        let absent = register.log.find(op).is_none();
        ballot > self.last && absent && register.log.is_complete_since(self.first)
    }
}

/// What a round proposes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The round.
    pub ballot: Ballot,
    /// The ballot that it reserves.
    pub next: Ballot,
    /// The register.
    pub register: Register,
    /// The value; `None`: the one that those hold who accepted the basis.
    pub value: Option<Bytes>,
    /// The ballot of the basis, where its value stays.
    kept: Option<(Ballot, Option<Nodes>)>,
    /// What it says of the operation, once it is accepted.
    pub verdict: Verdict,
    /// Whether it is by this proposal that the operation takes effect.
    pub carries: bool,
}

impl Proposal {
    /// What a round makes of its basis.
    pub fn new(
        core: &Core,
        at: (u32, &[u8]),
        basis: &Basis,
        (turn, change): (&Turn, &Change),
    ) -> Self {
        let Changed {
            register,
            value,
            verdict,
        } = match core.judges_conditions_first() {
            true => basis.register.first_time(at, turn, change),
            false => basis.register.change(at, turn, change),
        };
        let (value, kept) = match value {
            NewValue::Is(value) => (Some(value), None),
            NewValue::Kept => (basis.known(), Some((basis.ballot, basis.holders.clone()))),
        };
        let carries = register
            .log
            .find(&turn.op)
            .is_some_and(|e| e.at == turn.ballot);
        Self {
            ballot: turn.ballot,
            next: turn.ballot.next(turn.ballot.proposer),
            register,
            value,
            kept,
            verdict,
            carries: carries && change.is_write(),
        }
    }

    /// Whether enough owners can be asked to accept it without its value being known here.
    pub fn can_be_accepted(&self, quorum: &Quorum) -> bool {
        self.value.is_some() || quorum.is_met(|node| self.is_held_by(node))
    }

    /// Notes the value, once it was fetched.
    pub fn complete(&mut self, value: Bytes) {
        self.value.get_or_insert(value);
    }

    /// Notes that an owner does not hold the value after all.
    pub fn note_lacking(&mut self, node: NodeId, owners: impl Iterator<Item = NodeId>) {
        if let Some((_, holders)) = &mut self.kept {
            let held = holders.take().unwrap_or_else(|| owners.collect());
            *holders = Some(held.into_iter().filter(|holder| *holder != node).collect());
        }
    }

    fn is_held_by(&self, node: NodeId) -> bool {
        let holders = self.kept.as_ref().map(|(_, holders)| holders);
        holders.is_some_and(|holders| holders.as_ref().is_none_or(|h| h.contains(&node)))
    }

    /// What an owner is asked to accept. `None`: it would need the value, and that is not known.
    pub fn message(&self, (bucket, key): (u32, &Bytes), node: NodeId) -> Option<Accept> {
        let accept = |value, held| Accept {
            bucket,
            key: key.clone(),
            ballot: self.ballot,
            next: Some(self.next),
            head: self.register.head,
            log: self.register.log.clone(),
            value,
            held,
        };
        let long = self.register.head.length as usize > SHIPPED_BYTES_MAX;
        match (&self.value, &self.kept) {
            (Some(value), kept) if !long || kept.is_none() || !self.is_held_by(node) => {
                Some(accept(value.clone(), None))
            }
            (_, Some((ballot, _))) if self.is_held_by(node) => {
                Some(accept(Bytes::new(), Some(*ballot)))
            }
            (Some(_), _) | (None, _) => None,
        }
    }

    /// What the next change of this client may go on from, once a quorum has accepted this.
    pub fn reservation(&self, epoch: u64) -> Reservation {
        Reservation {
            epoch,
            ballot: self.ballot,
            next: self.next,
            register: self.register.clone(),
        }
    }
}
