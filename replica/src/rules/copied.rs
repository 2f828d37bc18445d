//! What comes with a copy of an arc, merged into what is here: by whoever is to own it, from those
//! who own it, all under the epoch that set these lists.
//!
//! Stamps are not measured by this server's clock: they were taken once, and must not get lost now.

use super::draft::{Draft, Held};
use super::siblings::load;
use super::strong::decode_register;
use super::{Admitted, Moment, Place, Replica, decode_stored, merge, refusal};
use crate::copy::brought::Brought;
use crate::copy::page::Between;
use crate::layout::Stored;
use crate::layout::register::StoredRegister;
use crate::store::{Store, StoreError};
use annulet_protocol::ballot::Ballot;
use annulet_protocol::copy::{CopiedEntry, CopyArc};
use annulet_protocol::epoch::generation_of;
use annulet_protocol::hash::{KeyHash, parse_storage_key};
use annulet_protocol::limits::KEY_BYTES_MAX;
use annulet_protocol::message::{Answer, Refusal, RefusalKind, Written};
use annulet_protocol::record::{Head, Record};
use annulet_protocol::siblings::Siblings;
use annulet_ring::owners::{Lists, Owners};
use bytes::Bytes;
use std::cmp::Ordering;

impl Replica {
    /// One page of what this server owns, for one who is to own it. Both must act under the epoch
    /// that set these lists: what is written here from now on, the other is asked to take, too.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn copy_page(
        &self,
        store: &impl Store,
        moment: Moment<'_>,
        epoch: u64,
        asked: &CopyArc,
    ) -> Result<Answer, Refusal> {
        let view = moment.view;
        let partitions = view.table.partitions;
        let partition = asked.from.partition(partitions);
        let within = asked.from <= asked.until && partition == asked.until.partition(partitions);
        if !within {
            let why = "the arc is not within one partition";
            return Err(Refusal::new(RefusalKind::NotOwner, why));
        }
        if generation_of(epoch) < view.tip.generation && !self.copies_unfenced() {
            let why = format!("the chain was begun anew since, up to epoch {}", view.epoch);
            return Err(Refusal::new(RefusalKind::StaleEpoch, why));
        }
        if epoch > view.ordinal() && !self.copies_unfenced() {
            let why = format!("this server is at epoch {}", view.epoch);
            return Err(Refusal::new(RefusalKind::Behind, why));
        }
        self.refuse_since(moment, asked.from, asked.since)?;
        let between = Between {
            view,
            source: self.node,
            target: asked.node,
        };
        let page = between.page(store, asked).map_err(refusal)?;
        Ok(Answer::Copied(page))
    }

    /// Why nothing is copied from or to this server: its lists of the partition are others.
    fn refuse_since(&self, moment: Moment<'_>, at: KeyHash, since: u64) -> Result<(), Refusal> {
        let table = &moment.view.table;
        let partition = at.partition(table.partitions);
        let set = table.lists_epoch(partition);
        if self.copies_unfenced() || set == since && table.joint(partition).is_some() {
            return Ok(());
        }
        let (kind, why) = match set.cmp(&since) {
            Ordering::Less => (RefusalKind::Behind, "older"),
            Ordering::Equal => (RefusalKind::StaleEpoch, "not joint any more"),
            Ordering::Greater => (RefusalKind::StaleEpoch, "newer"),
        };
        let why = format!("the lists here are of epoch {set}, {why} than {since}");
        Err(Refusal::new(kind, why))
    }

    /// Checks by itself what was copied under the lists of epoch `since`. `None`: this server is
    /// not to own it.
    pub(super) fn admit_copied<'a>(
        &self,
        moment: Moment<'a>,
        since: u64,
        entry: &CopiedEntry,
    ) -> Result<Option<Place<'a>>, Refusal> {
        let Some((hash, number, name)) = parse_storage_key(&entry.key) else {
            return Err(Refusal::new(RefusalKind::BadChecksum, "no storage key"));
        };
        let belongs = moment.view.hash(number, name) == hash;
        if !belongs || name.is_empty() || name.len() > KEY_BYTES_MAX {
            let why = "a key that does not lie there";
            return Err(Refusal::new(RefusalKind::BadChecksum, why));
        }
        self.refuse_since(moment, hash, since)?;
        let Some(bucket) = moment.view.bucket(number) else {
            if moment.view.had_bucket(number) {
                return Ok(None);
            }
            let why = format!("epoch {} has no bucket {number} yet", moment.view.epoch);
            return Err(Refusal::new(RefusalKind::Behind, why));
        };
        let owners = Owners::of(moment.view, bucket, hash);
        let next: &Lists = owners.next.as_deref().unwrap_or(&owners.regions);
        let is_owner = next.iter().any(|list| list.nodes.contains(&self.node));
        if moment
            .unready
            .iter()
            .any(|holding| holding.covers(bucket, hash))
        {
            let why = "what was here of an earlier time has to go first";
            return Err(Refusal::new(RefusalKind::Behind, why));
        }
        Ok(is_owner.then_some(Place { bucket, hash }))
    }

    /// Merges what was copied into what the store has `found`.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub(super) fn decide_copied(
        &self,
        store: &impl Store,
        (admitted, place): (&Admitted<'_>, Place<'_>),
        entry: &CopiedEntry,
        found: Result<Option<Bytes>, StoreError>,
        draft: &mut Draft,
    ) -> Result<Answer, StoreError> {
        let brought = match Brought::read(place.bucket.mode, entry) {
            Ok(brought) => brought,
            Err(why) => {
                let refusal = Refusal::new(RefusalKind::BadChecksum, why);
                return Ok(Answer::Refused(refusal));
            }
        };
        let key = &admitted.storage_key;
        let changed = match brought {
            Brought::Record(head, value) => copy_record(key, head, value, found, draft),
            Brought::Siblings(record) => copy_siblings(store, key, &record, found, draft),
            Brought::Register(promised, accepted) => {
                self.copy_register(key, promised, accepted, found, draft)
            }
        };
        match changed {
            Err(failed @ StoreError::Failed(_)) => return Err(failed),
            Err(error) => return Ok(Answer::Refused(refusal(error))),
            Ok(changed) => {
                // Whoever reads it here waits until it is durable.
                if self.is_durable(place) {
                    draft.needs_sync |= changed;
                    draft.touched.push(place.hash);
                }
            }
        }
        Ok(Answer::Written(Written::default()))
    }

    /// Merges an acceptor. Not into one that is damaged: what that has promised and forgotten,
    /// nobody else can tell, so it stays refused, and with it the move in which this server stays
    /// an owner.
    fn copy_register(
        &self,
        key: &Bytes,
        promised: Ballot,
        accepted: Option<(Ballot, StoredRegister, Bytes)>,
        found: Result<Option<Bytes>, StoreError>,
        draft: &mut Draft,
    ) -> Result<bool, StoreError> {
        let current = match draft.register(key) {
            Some(stored) => stored.clone(),
            None => decode_register(found, key)?,
        };
        let mut acceptor = current.clone();
        let mut brought = None;
        if let Some((ballot, register, value)) = accepted
            && acceptor.learn(ballot, register)
        {
            brought = Some(value);
        }
        if !self.leaves_promises() {
            acceptor.promise_too(promised);
        }
        if acceptor == current {
            return Ok(false);
        }
        draft.put_register(key, &current, acceptor, brought.as_ref());
        Ok(true)
    }
}

/// Merges a record. Says whether that changed anything.
fn copy_record(
    key: &Bytes,
    head: Head,
    value: Option<Bytes>,
    found: Result<Option<Bytes>, StoreError>,
    draft: &mut Draft,
) -> Result<bool, StoreError> {
    let current = match (draft.record(key), parse_storage_key(key)) {
        (Some(stored), _) => Some(stored.clone()),
        (None, Some((_, bucket, name))) => decode_stored(found, bucket, name)?,
        (None, None) => None,
    };
    let is_fresher = |stored: &Stored| head.freshness(&stored.head) == Ordering::Greater;
    if !current.as_ref().is_none_or(is_fresher) {
        return Ok(false);
    }
    match value {
        Some(value) => draft.put(key, &Record { head, value }, current.as_ref()),
        None => merge::put_gone(key, head, draft),
    }
    Ok(true)
}

fn copy_siblings(
    store: &impl Store,
    key: &Bytes,
    record: &Siblings,
    found: Result<Option<Bytes>, StoreError>,
    draft: &mut Draft,
) -> Result<bool, StoreError> {
    let held = match draft.held(key) {
        Some(held) => held.clone(),
        None => found.and_then(|entry| load(store, key, entry))?,
    };
    let after = Held {
        record: held.record.merge(record),
        ..held.clone()
    };
    if after.record == held.record {
        return Ok(false);
    }
    if !after.record.fits() {
        let why = "the owners have too many concurrent values of a key together";
        return Err(StoreError::Busy(why.into()));
    }
    draft.put_siblings(key, after, &held);
    Ok(true)
}
