//! What a replica is told to change, by others and by itself.

use crate::holdings::Holding;
use crate::restore::Copy;
use crate::store::Family;
use annulet_protocol::clock::Stamp;
use annulet_protocol::copy::{CopiedEntry, CopyArc};
use annulet_protocol::ids::NodeId;
use annulet_protocol::message::{Hint, Operation, Read, Touch, Write};
use annulet_protocol::record::Head;
use annulet_protocol::register::message::{Accept, Learn, Prepare, ReadRegister};
use annulet_protocol::scan::Scan;
use annulet_protocol::siblings::Siblings;
use annulet_protocol::siblings::message::{Compare, Merge, Mint, Spread};
use bytes::Bytes;
use std::collections::BTreeMap;

/// Something that changes what is stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Mutation {
    /// Merge a record.
    Write(Write),
    /// Set when a record expires.
    Touch(Touch),
    /// Keep a record for others.
    Hint(Hint),
    /// Store one of possibly many concurrent values.
    Mint(Mint),
    /// Merge concurrent values.
    Merge(Merge),
    /// Whether concurrent values are the same; changes nothing.
    Compare(Compare),
    /// Promise a ballot.
    Prepare(Prepare),
    /// Accept a register.
    Accept(Box<Accept>),
    /// Take what another owner accepted.
    Learn(Box<Learn>),
    /// What the server itself found out.
    Task(Task),
}

/// What a server finds out by itself and has to note.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// An owner, which was sent the record kept under this key, holds it durably, or a fresher one.
    Delivered {
        /// Storage key.
        key: Bytes,
        /// The owner that it was kept for.
        owner: NodeId,
        /// What was sent.
        sent: Sent,
    },
    /// The record kept under this key is too old to be handed over, or damaged.
    SetAside {
        /// Storage key.
        key: Bytes,
    },
    /// The record kept under this key is for an owner whose place others have taken.
    Reroute {
        /// Storage key.
        key: Bytes,
        /// The owner that it was kept for.
        from: NodeId,
        /// The owners that are to get it instead.
        to: Vec<NodeId>,
    },
    /// The record kept under this key is of a bucket that is no more.
    Discard {
        /// Storage key.
        key: Bytes,
    },
    /// The record under this key is of a bucket that is no more.
    Remove {
        /// Storage key.
        key: Bytes,
    },
    /// The record under this key has expired by so much that its value is needed no more.
    Expire {
        /// Storage key.
        key: Bytes,
        /// Head of the record that had expired.
        head: Head,
    },
    /// What other owners hold in place of a record that is damaged here; `None`: they hold none.
    Restore {
        /// Storage key.
        key: Bytes,
        /// The freshest copy that a majority of the owners has.
        copy: Option<Copy>,
    },
    /// The same of concurrent values.
    RestoreSiblings {
        /// Storage key.
        key: Bytes,
        /// What a majority of the owners has together.
        record: Siblings,
    },
    /// Concurrent values under this key have expired by so much that nobody needs them any more.
    ExpireSiblings {
        /// Storage key.
        key: Bytes,
        /// Those that had expired by then, in milliseconds since the Unix epoch.
        until_ms: u64,
    },
    /// All owners have what a note of [`crate::spread`] was about, but for some.
    Spread {
        /// Key of the note.
        key: Bytes,
        /// Storage keys of records that they may not have, with the last stamp of each.
        left: BTreeMap<Bytes, Stamp>,
    },
    /// An owner of what this server is to own holds this.
    Copied {
        /// The epoch that set the lists.
        since: u64,
        /// What it holds.
        entry: CopiedEntry,
    },
    /// What is under this key is not owned any more, or was gained and is to begin with empty.
    Vacate {
        /// Storage key.
        key: Bytes,
        /// xxh3 of the entry that is meant; `None`: whatever is there.
        digest: Option<u64>,
    },
    /// What was gained has nothing left of an earlier time but what lies in an arc that is gained
    /// as a whole, which goes at once.
    Ready {
        /// What was gained.
        holding: Holding,
        /// Key of its note.
        note: Bytes,
    },
    /// Those who own what was lost miss nothing of what was here of it.
    Handed {
        /// What was lost.
        holding: Holding,
        /// Key of its note.
        note: Bytes,
        /// The epoch that set the lists under which it was looked at.
        since: u64,
    },
    /// Something that the server notes for itself.
    Note {
        /// Key of the note.
        key: Bytes,
        /// What is noted; `None`: nothing any more.
        value: Option<Bytes>,
        /// Whether it is durable before it is answered: others are told of it then.
        durable: bool,
        /// It takes effect only if each of so many mutations right before it was written, in the
        /// same batch.
        rests_on: usize,
    },
}

/// What was sent of a kept record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// A record of this head.
    Head(Head),
    /// Concurrent values of this fingerprint.
    Siblings(u64),
}

/// What an operation asks of a replica.
#[derive(Clone, Debug, PartialEq)]
pub enum Demand {
    /// What is stored under a key.
    Read(Read),
    /// What is stored in an arc.
    Scan(Scan),
    /// All that is held in an arc, to be owned by another.
    CopyArc(CopyArc),
    /// What was promised and accepted.
    ReadRegister(ReadRegister),
    /// To change what is stored.
    Change(Mutation),
    /// To note that something is everywhere: no change, and no question.
    Spread(Spread),
    /// Something that this version does not know.
    Unknown,
}

impl From<Operation> for Demand {
    fn from(operation: Operation) -> Self {
        Self::Change(match operation {
            Operation::Read(read) => return Self::Read(read),
            Operation::Scan(scan) => return Self::Scan(scan),
            Operation::CopyArc(asked) => return Self::CopyArc(asked),
            Operation::ReadRegister(read) => return Self::ReadRegister(read),
            Operation::Unknown => return Self::Unknown,
            Operation::Spread(spread) => return Self::Spread(spread),
            Operation::Write(write) => Mutation::Write(write),
            Operation::Touch(touch) => Mutation::Touch(touch),
            Operation::Hint(hint) => Mutation::Hint(hint),
            Operation::Mint(mint) => Mutation::Mint(mint),
            Operation::Merge(merge) => Mutation::Merge(merge),
            Operation::Compare(compare) => Mutation::Compare(compare),
            Operation::Prepare(prepare) => Mutation::Prepare(prepare),
            Operation::Accept(accept) => Mutation::Accept(accept),
            Operation::Learn(learn) => Mutation::Learn(learn),
        })
    }
}

impl Task {
    /// The storage key, or the key of the note, that it is about.
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Delivered { key, .. }
            | Self::SetAside { key }
            | Self::Reroute { key, .. }
            | Self::Discard { key }
            | Self::Remove { key }
            | Self::Expire { key, .. }
            | Self::Restore { key, .. }
            | Self::RestoreSiblings { key, .. }
            | Self::ExpireSiblings { key, .. }
            | Self::Spread { key, .. }
            | Self::Vacate { key, .. }
            | Self::Note { key, .. } => key,
            Self::Copied { entry, .. } => &entry.key,
            Self::Ready { note, .. } | Self::Handed { note, .. } => note,
        }
    }
}

/// Where what a mutation changes lies.
pub(super) fn family_of(mutation: &Mutation) -> Family {
    let kept_if = |kept: bool| if kept { Family::Hints } else { Family::Records };
    match mutation {
        Mutation::Write(_)
        | Mutation::Touch(_)
        | Mutation::Compare(_)
        | Mutation::Prepare(_)
        | Mutation::Accept(_)
        | Mutation::Learn(_) => Family::Records,
        Mutation::Hint(_) => Family::Hints,
        Mutation::Mint(mint) => kept_if(!mint.owners.is_empty()),
        Mutation::Merge(merge) => kept_if(!merge.owners.is_empty()),
        Mutation::Task(task) => kept_if(matches!(
            task,
            Task::Delivered { .. }
                | Task::SetAside { .. }
                | Task::Reroute { .. }
                | Task::Discard { .. }
        )),
    }
}

/// Whether a mutation of this server's own records is about concurrent values.
pub(super) fn is_of_siblings(mutation: &Mutation) -> bool {
    match mutation {
        Mutation::Mint(_) | Mutation::Merge(_) | Mutation::Compare(_) => true,
        Mutation::Write(_)
        | Mutation::Touch(_)
        | Mutation::Hint(_)
        | Mutation::Prepare(_)
        | Mutation::Accept(_)
        | Mutation::Learn(_) => false,
        Mutation::Task(task) => matches!(
            task,
            Task::RestoreSiblings { .. } | Task::ExpireSiblings { .. }
        ),
    }
}
