//! What a write brings to the owners: a record, or the expiry of one that they have.

use super::{WriteDone, WriteOperation};
use crate::core::attempts::OwnerState;
use crate::core::client::{Now, Start};
use crate::core::policy::waiting::Class;
use crate::core::{Effects, Response};
use crate::error::{Error, ErrorKind};
use annulet_protocol::ids::NodeId;
use annulet_protocol::message::{Answer, Hint, Operation, Read, Source, Touch, Write};
use annulet_protocol::record::{Head, Record};
use annulet_protocol::siblings::message::Merge;
use annulet_ring::owners::Nodes;
use bytes::Bytes;

/// See the module.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one to an operation, and it is not moved"
)]
pub(super) enum Change {
    /// A record of this client's own.
    Record(Record),
    /// An expiry.
    Touch(TouchState),
    /// Concurrent values that an owner has minted, or what was seen of them, to be deleted; sealed.
    Merge(Bytes),
}

/// How far a touch has come.
#[derive(Debug)]
pub(super) struct TouchState {
    /// The head that owners are to have.
    head: Head,
    /// The record with that head, once an owner sent it.
    record: Option<Record>,
    /// Owners that lack the version.
    lacking: Nodes,
    /// Who was asked for the record.
    asked: Option<NodeId>,
    /// Who was asked and did not send it.
    silent: Nodes,
}

impl Change {
    /// A touch that gives owners this head, whose version they should have.
    pub(super) fn touch(head: Head) -> Self {
        Self::Touch(TouchState {
            head,
            record: None,
            lacking: Nodes::new(),
            asked: None,
            silent: Nodes::new(),
        })
    }

    /// The head that owners are to have; concurrent values have none.
    pub(super) fn head(&self) -> Option<Head> {
        match self {
            Self::Record(record) => Some(record.head),
            Self::Touch(touch) => Some(touch.head),
            Self::Merge(_) => None,
        }
    }

    /// What makes another server keep it for these owners; `None`: it is not kept.
    pub(super) fn hint(
        &self,
        start: &Start,
        owners: Vec<NodeId>,
        source: Source,
    ) -> Option<Operation> {
        let (bucket, key) = (start.bucket().number, start.key.clone());
        match self {
            Self::Record(record) => Some(Operation::Hint(Hint {
                bucket,
                key,
                owners,
                source,
                record: record.clone(),
            })),
            Self::Merge(record) => Some(Operation::Merge(Merge {
                bucket,
                key,
                source,
                record: record.clone(),
                owners,
            })),
            Self::Touch(_) => None,
        }
    }

    /// What its messages wait with.
    pub(super) fn class(&self) -> Class {
        match self {
            Self::Record(record) => Class::of_value(record.value.len()),
            Self::Touch(_) => Class::Write,
            Self::Merge(record) => Class::of_value(record.len()),
        }
    }

    /// What to send to an owner.
    pub(super) fn operation(&self, start: &Start, node: NodeId) -> Operation {
        let (bucket, key) = (start.bucket().number, start.key.clone());
        let write = |source, record: &Record| {
            Operation::Write(Write {
                bucket,
                key: key.clone(),
                source,
                record: record.clone(),
                gone: false,
            })
        };
        match self {
            Self::Record(record) => write(Source::FirstHand, record),
            Self::Merge(record) => Operation::Merge(Merge {
                bucket,
                key: key.clone(),
                source: Source::FirstHand,
                record: record.clone(),
                owners: Vec::new(),
            }),
            Self::Touch(touch) => match (&touch.record, touch.head.expiry) {
                _ if touch.asked == Some(node) => Operation::Read(Read::new(bucket, key)),
                // The stamp of the version was checked when it was written, that of the expiry by
                // the owners that have the version.
                (Some(record), _) if touch.lacking.contains(&node) => write(Source::Repair, record),
                (_, Some(expiry)) => Operation::Touch(Touch {
                    bucket,
                    key: key.clone(),
                    version: touch.head.version,
                    expiry,
                }),
                // A touch always sets one; without it there is nothing to tell.
                (_, None) => Operation::Unknown,
            },
        }
    }

    /// The owners changed: what was found out about them is forgotten.
    pub(super) fn restart(&mut self) {
        if let Self::Touch(touch) = self {
            touch.lacking.clear();
            touch.silent.clear();
            touch.asked = None;
        }
    }
}

impl WriteOperation {
    /// Whether this owner was asked for the record that is touched.
    pub(super) fn is_asked(&self, node: NodeId) -> bool {
        matches!(&self.change, Change::Touch(touch) if touch.asked == Some(node))
    }

    /// Takes what an owner sent that was asked for the record.
    pub(super) fn take_record(&mut self, node: NodeId, response: Response) {
        let (bucket, key) = (self.start.bucket().number, &self.start.key);
        let Change::Touch(touch) = &mut self.change else {
            return;
        };
        touch.asked = None;
        // It has taken the touch before it was asked.
        self.owners.set(node, OwnerState::Done);
        match response {
            Ok(Answer::Found(record))
                if record.head.version == touch.head.version
                    && record.verify(bucket, key).is_ok() =>
            {
                touch.record = Some(Record {
                    head: touch.head,
                    value: record.value,
                });
            }
            Ok(_) | Err(_) => touch.silent.push(node),
        }
    }

    /// Notes that an owner lacks the version that is touched. It is asked again with the record.
    pub(super) fn note_lacking(&mut self, node: NodeId) {
        if let Change::Touch(touch) = &mut self.change
            && !touch.lacking.contains(&node)
        {
            touch.lacking.push(node);
        }
        self.owners.set(node, OwnerState::Idle);
    }

    /// Brings the record to those that lack it, or asks somebody who has it.
    pub(super) fn bring(&mut self, now: Now, effects: &mut Effects<WriteDone>) {
        let Change::Touch(touch) = &mut self.change else {
            return;
        };
        let idle = |node: &&NodeId| self.owners.is(**node, |state| state == OwnerState::Idle);
        let lacking: Nodes = touch.lacking.iter().filter(idle).copied().collect();
        if lacking.is_empty() || touch.asked.is_some() {
            return;
        }
        if touch.record.is_some() {
            for node in lacking {
                self.send(node, now, effects);
            }
            return;
        }
        let useless = |node: &NodeId| touch.lacking.contains(node) || touch.silent.contains(node);
        let mut taken = self.taken.iter().copied();
        if let Some(node) = taken.find(|node| !useless(node)) {
            touch.asked = Some(node);
            self.send(node, now, effects);
        } else if !self.owners.any_in_flight() && !self.owners.any_waiting() {
            for node in lacking {
                let why = format!("server {node} lacks the version, and nobody sends it");
                self.owners
                    .lose(node, Error::new(ErrorKind::Unavailable, why));
            }
        }
    }
}
