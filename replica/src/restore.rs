//! Records that are damaged here, and their way back from the other owners.
//!
//! A damaged record may be the only trace of a write whose other copies are still under way, so it
//! is left as it is until every operation of that time has ended. Then a majority of the owners,
//! this one not counted, say what they hold, and the freshest of it takes its place.
//!
//! Not so in a strong bucket: the promises that were lost with the record are nobody else's to
//! tell. There it stays as it is and is refused, until the whole server is replaced by a new one.

use crate::rules::Task;
use annulet_protocol::bucket::Mode;
use annulet_protocol::hash::parse_storage_key;
use annulet_protocol::ids::NodeId;
use annulet_protocol::limits::BUDGET_MS_MAX;
use annulet_protocol::message::{Answer, Read};
use annulet_protocol::record::Head;
use annulet_protocol::siblings::message::Found;
use annulet_protocol::siblings::{Sibling, Siblings};
use annulet_protocol::view::View;
use annulet_ring::owners::{Nodes, Owners};
use annulet_ring::quorum::Quorum;
use bytes::Bytes;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Most damaged records that are remembered at a time. More are found again by the next look.
const REMEMBERED_MAX: usize = 10_000;
/// How long to wait after owners did not answer.
const AGAIN_MS: u64 = 10_000;
/// How long a damaged record is left alone, in milliseconds: as long as any operation may take.
pub const DAMAGE_WAIT_MS: u64 = BUDGET_MS_MAX as u64;

/// The damaged records that are known.
#[derive(Clone, Debug)]
pub struct Restorer {
    /// How long a damaged record is left alone, in milliseconds.
    pub wait_ms: u64,
    known: BTreeMap<Bytes, u64>,
}

impl Default for Restorer {
    fn default() -> Self {
        Self::new(DAMAGE_WAIT_MS)
    }
}

/// What is to be asked, and of whom.
#[derive(Clone, Debug, PartialEq)]
pub struct Inquiry {
    /// Storage key of the damaged record.
    pub key: Bytes,
    /// What to ask.
    pub read: Read,
    /// Whom to ask: the other owners.
    pub owners: Nodes,
}

impl Restorer {
    /// One that knows of none yet.
    pub fn new(wait_ms: u64) -> Self {
        Self {
            wait_ms,
            known: BTreeMap::new(),
        }
    }

    /// Notes a damaged record. Says whether it was not known before.
    pub fn note(&mut self, key: Bytes, now_ms: u64) -> bool {
        if self.known.contains_key(&key) || self.known.len() >= REMEMBERED_MAX {
            return false;
        }
        self.known.insert(key, now_ms + self.wait_ms);
        true
    }

    /// How many are known.
    pub fn count(&self) -> usize {
        self.known.len()
    }

    /// The next record to ask for, whose time has come. It is due again later, unless it is
    /// settled.
    pub fn due(&mut self, view: &View, own: NodeId, now_ms: u64) -> Option<Inquiry> {
        loop {
            let due = self.known.iter().find(|(_, due_ms)| **due_ms <= now_ms);
            let key = due.map(|(key, _)| key.clone())?;
            let bucket = parse_storage_key(&key).and_then(|(_, number, _)| view.bucket(number));
            if bucket.is_some_and(|bucket| bucket.mode == Mode::Strong) {
                self.known.insert(key, u64::MAX);
                continue;
            }
            let asked = inquiry(view, own, &key);
            match asked {
                Some(_) => self.known.insert(key, now_ms + AGAIN_MS),
                // Nobody can tell: it is of no bucket, or this server is its only owner.
                None => self.known.remove(&key),
            };
            return asked;
        }
    }

    /// Takes what owners said. Gives the task that settles it, or `None` if too few did.
    pub fn handle_answers(
        &mut self,
        view: &View,
        own: NodeId,
        inquiry: &Inquiry,
        answers: Vec<(NodeId, Answer)>,
    ) -> Option<Task> {
        let (hash, number, name) = parse_storage_key(&inquiry.key)?;
        let bucket = view.bucket(number)?;
        let witnesses = Quorum::witnesses(&Owners::of(view, bucket, hash), own)?;
        let mut told = Nodes::new();
        let mut newest: Option<Copy> = None;
        let mut together = Siblings::default();
        for (node, answer) in answers {
            let copy = match answer {
                Answer::Absent(_) => None,
                Answer::Siblings(Found {
                    record,
                    bare: false,
                }) => {
                    let Some(record) = sound(number, name, &record) else {
                        continue;
                    };
                    together = together.merge(&record);
                    None
                }
                Answer::Found(record) if record.verify(number, name).is_ok() => Some(Copy {
                    head: record.head,
                    value: Some(record.value),
                }),
                // Expired long ago: nobody has the value any more.
                Answer::FoundHead(head) if head.verify_expiry(number, name).is_ok() => {
                    Some(Copy { head, value: None })
                }
                _ => continue,
            };
            told.push(node);
            newest = newest.into_iter().chain(copy).max_by(Copy::order);
        }
        if !witnesses.is_met(|node| told.contains(&node)) {
            return None;
        }
        self.known.remove(&inquiry.key);
        let key = inquiry.key.clone();
        Some(match bucket.mode {
            Mode::Siblings => Task::RestoreSiblings {
                key,
                record: together,
            },
            Mode::Lww | Mode::Strong => Task::Restore { key, copy: newest },
        })
    }
}

/// The record of concurrent values that these bytes are, if all of it is well.
fn sound(bucket: u32, key: &[u8], bytes: &[u8]) -> Option<Siblings> {
    let record = Siblings::unseal(bucket, key, bytes).ok()?;
    let is_sound = |sibling: &Sibling| sibling.write.is_sound(bucket, key);
    let sound = record.iter().all(is_sound);
    sound.then_some(record)
}

/// What another owner holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Copy {
    /// The head.
    pub head: Head,
    /// The value; `None`: it expired long ago, or there never was one.
    pub value: Option<Bytes>,
}

impl Copy {
    /// The fresher one is greater; of two equal ones the one that still has the value.
    fn order(&self, other: &Self) -> Ordering {
        let has_value = |copy: &Self| copy.value.is_some();
        let freshness = self.head.freshness(&other.head);
        freshness.then_with(|| has_value(self).cmp(&has_value(other)))
    }
}

fn inquiry(view: &View, own: NodeId, key: &Bytes) -> Option<Inquiry> {
    let (hash, number, name) = parse_storage_key(key)?;
    let owners = Owners::of(view, view.bucket(number)?, hash);
    let others: Nodes = owners.all().filter(|node| *node != own).collect();
    let asked = owners.contains(own) && !others.is_empty();
    asked.then(|| Inquiry {
        key: key.clone(),
        read: Read::new(number, Bytes::copy_from_slice(name)),
        owners: others,
    })
}
