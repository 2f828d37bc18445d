//! Hands kept records over to the owners that they were kept for.
//!
//! For each owner there is one parcel on the way at a time, in order of storage keys, as repair
//! under the view of the moment. What an owner holds durably is forgotten here; an owner that
//! cannot be reached is tried again, less and less often, with smaller and smaller parcels: it may
//! be one record that it cannot take, which must not keep the others back.

use crate::hints::{self, Kept, KeptRecord, Tally, Waiting};
use crate::rules::{Demand, Mutation, Sent, Task};
use crate::store::{Store, StoreError};
use annulet_protocol::hash::parse_storage_key;
use annulet_protocol::ids::NodeId;
use annulet_protocol::message::{Answer, Operation, RefusalKind, Source, Write};
use annulet_protocol::siblings::message::Merge;
use annulet_protocol::view::View;
use annulet_ring::owners::Owners;
use bytes::Bytes;
use std::collections::BTreeMap;

/// Most records in a parcel.
const PARCEL_MAX: usize = 128;
/// Bytes of keys and values after which a parcel is full.
const PARCEL_BYTES: usize = 256 << 10;
/// Shortest wait after an owner did not take a parcel.
const PAUSE_MS_MIN: u64 = 500;
/// Longest wait after an owner did not take a parcel, again and again.
const PAUSE_MS_MAX: u64 = 30_000;

/// Where the delivery to each owner stands.
#[derive(Clone, Debug, Default)]
pub struct Courier {
    routes: BTreeMap<NodeId, Route>,
}

#[derive(Clone, Debug)]
struct Route {
    /// Storage key of the last record that was looked at in this pass.
    after: Bytes,
    /// The same before the parcel that is on the way.
    before: Bytes,
    /// Most records of the next parcel.
    most: usize,
    /// Whether a parcel is on the way.
    busy: bool,
    /// Parcels that were not taken, in a row.
    failures: u32,
    /// When to go on.
    due_ms: u64,
}

impl Default for Route {
    fn default() -> Self {
        Self {
            after: Bytes::new(),
            before: Bytes::new(),
            most: PARCEL_MAX,
            busy: false,
            failures: 0,
            due_ms: 0,
        }
    }
}

/// Records on their way to one owner.
#[derive(Clone, Debug, PartialEq)]
pub struct Parcel {
    /// Where they go.
    pub owner: NodeId,
    /// The records; empty: nothing is to be sent now.
    pub items: Vec<Item>,
    /// What was found out about others on the way, for [`Replica::decide`].
    ///
    /// [`Replica::decide`]: crate::rules::Replica::decide
    pub tasks: Vec<Task>,
    /// Records that this server itself has become an owner of, for the same.
    pub own: Vec<Mutation>,
    /// Kept records that cannot be read.
    pub damaged: usize,
}

/// One record of a parcel.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Storage key.
    pub key: Bytes,
    /// What the owner is sent.
    pub operation: Operation,
    /// What that is of the kept record.
    pub sent: Sent,
}

impl Courier {
    /// Owners that a parcel can go to now.
    pub fn due(&mut self, tally: &Tally, now_ms: u64) -> Vec<NodeId> {
        self.routes
            .retain(|owner, route| route.busy || tally.waiting.contains_key(owner));
        let idle = |owner: &&NodeId| {
            let route = self.routes.get(owner);
            route.is_none_or(|route| !route.busy && route.due_ms <= now_ms)
        };
        tally.waiting.keys().filter(idle).copied().collect()
    }

    /// The next parcel for an owner; [`Courier::handle_answers`] must follow, also if it is empty.
    /// `own`: the id of this server.
    ///
    /// # Errors
    /// What the store says; then no parcel is on the way.
    pub fn parcel(
        &mut self,
        store: &impl Store,
        view: &View,
        own: NodeId,
        owner: NodeId,
    ) -> Result<Parcel, StoreError> {
        let route = self.routes.entry(owner).or_default();
        let waiting = hints::waiting_for(store, owner, &route.after, route.most)?;
        route.before = route.after.clone();
        let mut parcel = Parcel {
            owner,
            items: Vec::new(),
            tasks: Vec::new(),
            own: Vec::new(),
            damaged: 0,
        };
        let ended = waiting.len() < route.most;
        let mut bytes = 0;
        let mut after = Bytes::new();
        for Waiting { key, .. } in waiting {
            if bytes >= PARCEL_BYTES {
                break;
            }
            after = key.clone();
            let kept = hints::read(store, std::slice::from_ref(&key)).pop();
            match kept.unwrap_or(Ok(None)) {
                Ok(Some(kept)) => bytes += parcel.pack(view, own, key, kept),
                Ok(None) => {}
                Err(StoreError::Damaged(_)) => parcel.damaged += 1,
                Err(error) => return Err(error),
            }
        }
        // A pass begins anew where nothing follows: what was refused is tried again.
        route.after = if ended && bytes < PARCEL_BYTES {
            Bytes::new()
        } else {
            after
        };
        route.busy = true;
        Ok(parcel)
    }

    /// Takes what became of a parcel: the answers to its writes, in order, or `None` if there were
    /// none. Gives what is to be noted. `random` spreads the servers that try again.
    pub fn handle_answers(
        &mut self,
        parcel: &Parcel,
        answers: Option<&[Answer]>,
        now_ms: u64,
        random: u64,
    ) -> Vec<Task> {
        let taken = |answer: &Answer| matches!(answer, Answer::Written(_));
        let answered = answers.unwrap_or_default();
        let stuck = !parcel.items.is_empty() && !answered.iter().any(taken);
        let route = self.routes.entry(parcel.owner).or_default();
        route.busy = false;
        route.failures = if stuck { route.failures + 1 } else { 0 };
        let over = route.after.is_empty();
        let pause_ms = match (stuck, over) {
            (true, _) => (PAUSE_MS_MIN << route.failures.min(10)).min(PAUSE_MS_MAX),
            // Whatever is left was refused.
            (false, true) => PAUSE_MS_MIN,
            (false, false) => 0,
        };
        route.due_ms = now_ms + pause_ms / 2 + random % (pause_ms / 2 + 1);
        match (answers, parcel.items.len()) {
            (Some(_), _) => route.most = (2 * route.most).min(PARCEL_MAX),
            // The same records again, fewer at a time; one that is not taken alone is passed over.
            (None, count) if count > 1 => {
                route.most = count / 2;
                route.after = route.before.clone();
            }
            (None, _) => {}
        }
        let delivered = |(item, answer): (&Item, &Answer)| match answer {
            Answer::Written(_) => Some(Task::Delivered {
                key: item.key.clone(),
                owner: parcel.owner,
                sent: item.sent,
            }),
            // This server's view is the older one, or the newer: the owner or this server learns of
            // it, and the record is looked at again. A record that the owner finds damaged will not
            // become well; people must look at it.
            Answer::Refused(refusal) if refusal.kind == RefusalKind::BadChecksum => {
                let key = item.key.clone();
                Some(Task::SetAside { key })
            }
            _ => None,
        };
        let items = parcel.items.iter().zip(answered);
        items.filter_map(delivered).collect()
    }

    /// An owner was heard of: what waits for it can go at once.
    pub fn handle_sign_of_life(&mut self, owner: NodeId) {
        if let Some(route) = self.routes.get_mut(&owner) {
            route.failures = 0;
            route.due_ms = 0;
        }
    }
}

impl Parcel {
    /// Adds a kept record, or finds out what else is to be done with it. Gives the bytes added.
    fn pack(&mut self, view: &View, own: NodeId, key: Bytes, kept: Kept) -> usize {
        let Some((hash, number, name)) = parse_storage_key(&key) else {
            self.damaged += 1;
            return 0;
        };
        let Some(bucket) = view.bucket(number) else {
            if view.had_bucket(number) {
                self.tasks.push(Task::Discard { key });
            }
            return 0;
        };
        let name = key.slice(key.len() - name.len()..);
        let (operation, sent) = brought(number, name, kept.record);
        let owners = Owners::of(view, bucket, hash);
        if owners.contains(self.owner) {
            let bytes = key.len() + value_bytes(&operation);
            self.items.push(Item {
                key,
                operation,
                sent,
            });
            return bytes;
        }
        // It is an owner no more: those that are get the record in its place.
        if let (true, Demand::Change(mutation)) = (owners.contains(own), operation.into()) {
            self.own.push(mutation);
        }
        let (from, to) = (
            self.owner,
            owners.all().filter(|node| *node != own).collect(),
        );
        self.tasks.push(Task::Reroute { key, from, to });
        0
    }
}

/// What brings a kept record to an owner.
fn brought(bucket: u32, key: Bytes, record: KeptRecord) -> (Operation, Sent) {
    let source = Source::Repair;
    match record {
        KeptRecord::Lww(record) => {
            let sent = Sent::Head(record.head);
            let write = Write {
                bucket,
                key,
                source,
                record,
                gone: false,
            };
            (Operation::Write(write), sent)
        }
        KeptRecord::Siblings { record, .. } => {
            let merge = Merge {
                bucket,
                record: record.seal(bucket, &key),
                key,
                source,
                owners: Vec::new(),
            };
            let sent = Sent::Siblings(record.fingerprint());
            (Operation::Merge(merge), sent)
        }
    }
}

fn value_bytes(operation: &Operation) -> usize {
    match operation {
        Operation::Write(write) => write.record.value.len(),
        Operation::Merge(merge) => merge.record.len(),
        _ => 0,
    }
}
