//! Rules to break, so that tests can show that they would notice. Without the feature each is
//! a constant that the compiler removes.

use super::{Damage, Replica, breaks};
use annulet_protocol::ids::OpId;
use annulet_protocol::siblings::Siblings;

/// A rule to break. Only test builds have these.
#[cfg(feature = "faults")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Answers do not wait for the sync they rest on.
    AckBeforeSync,
    /// Answers to reads do not wait for the sync of what they show.
    ReadsPassTheGate,
    /// First-hand stamps are not checked against the clock.
    SkewAccepted,
    /// A delete removes the record instead of leaving a tombstone.
    TombstoneDropped,
    /// What comes last stays, not what is fresher.
    StaleOverwrites,
    /// Requests of before the owners changed are served.
    Unfenced,
    /// Records are not checked before they are merged.
    ChecksumIgnored,
    /// Records for owners that could not be reached are acknowledged and not kept.
    HintsForgotten,
    /// A touch sets its expiry although a later one was set already.
    TouchRewinds,
    /// First-hand writes are taken although the disk is full.
    FullDiskIgnored,
    /// An operation that was overwritten is minted once more when it comes late.
    LateMinted,
    /// What is proposed under a ballot below the promised one is accepted.
    AcceptUnpromised,
    /// Promises are given before they are durable.
    PromisesForgotten,
    /// An arc is copied from whoever has it, be it under the lists as they are or not.
    CopiedUnfenced,
    /// Promises are not copied.
    PromisesLeft,
    /// A server answers under the view that it has, whatever the request's epoch, and says that it
    /// is as far.
    BehindServes,
}

impl Replica {
    #[cfg(feature = "faults")]
    fn breaks(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    pub(super) fn acks_before_sync(&self) -> bool {
        breaks!(self, AckBeforeSync)
    }
    pub(super) fn gates_reads(&self) -> bool {
        if self.acks_before_sync() {
            return false;
        }
        !breaks!(self, ReadsPassTheGate)
    }
    pub(super) fn accepts_skew(&self) -> bool {
        breaks!(self, SkewAccepted)
    }
    pub(super) fn drops_tombstones(&self) -> bool {
        breaks!(self, TombstoneDropped)
    }
    pub(super) fn overwrites_blindly(&self) -> bool {
        breaks!(self, StaleOverwrites)
    }
    pub(super) fn is_fenced(&self) -> bool {
        !breaks!(self, Unfenced)
    }
    pub(super) fn forgets_hints(&self) -> bool {
        breaks!(self, HintsForgotten)
    }
    pub(super) fn rewinds_touches(&self) -> bool {
        breaks!(self, TouchRewinds)
    }
    pub(super) fn fills_the_disk(&self) -> bool {
        breaks!(self, FullDiskIgnored)
    }
    /// Forgets that an operation was overwritten, if that is broken.
    pub(super) fn forget_done(&self, record: &mut Siblings, op: &OpId) {
        #[cfg(feature = "faults")]
        if breaks!(self, LateMinted) {
            *record = record.forgetting(op);
        }
        let _ = (record, op);
    }
    pub(super) fn accepts_unpromised(&self) -> bool {
        breaks!(self, AcceptUnpromised)
    }
    pub(super) fn forgets_promises(&self) -> bool {
        breaks!(self, PromisesForgotten)
    }
    pub(super) fn serves_behind(&self) -> bool {
        breaks!(self, BehindServes)
    }
    pub(super) fn copies_unfenced(&self) -> bool {
        breaks!(self, CopiedUnfenced) || self.serves_behind()
    }
    pub(super) fn leaves_promises(&self) -> bool {
        breaks!(self, PromisesLeft)
    }
    pub(super) fn forgive(&self, damage: Damage) -> Result<(), Damage> {
        if breaks!(self, ChecksumIgnored) {
            return Ok(());
        }
        Err(damage)
    }
}
