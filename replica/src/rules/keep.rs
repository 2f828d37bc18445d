//! Records kept for owners that could not be reached.

use super::draft::Draft;
use super::{Admitted, Moment, Mutation, Place, Replica, Task, refusal};
use crate::hints::Kept;
use crate::store::{Store, StoreError};
use annulet_protocol::bucket::Durability;
use annulet_protocol::ids::NodeId;
use annulet_protocol::message::{Answer, Hint, Refusal, RefusalKind, Written};
use annulet_protocol::record::Head;
use annulet_ring::owners::Owners;
use bytes::Bytes;
use std::cmp::Ordering;

impl Replica {
    /// Checks a hint by itself: its record, and whether it is for owners of the key, others than
    /// this server.
    pub(super) fn admit_hint(
        &self,
        moment: Moment<'_>,
        place: Place<'_>,
        hint: &Hint,
    ) -> Result<(), Refusal> {
        let owners = Owners::of(moment.view, place.bucket, place.hash);
        let mut seen = Vec::with_capacity(hint.owners.len());
        for owner in &hint.owners {
            let once = !seen.contains(owner);
            if *owner == self.node || !owners.contains(*owner) || !once {
                let why = format!("a hint for {owner}, which is no other owner of this key");
                return Err(Refusal::new(RefusalKind::NotOwner, why));
            }
            seen.push(*owner);
        }
        if seen.is_empty() {
            return Err(Refusal::new(RefusalKind::NotOwner, "a hint for no owner"));
        }
        self.admit_record(moment, hint.bucket, &hint.key, &hint.record)
    }

    /// Decides what becomes of a kept record, of which the store has `found`.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub(super) fn decide_kept(
        &self,
        store: &impl Store,
        moment: Moment<'_>,
        admitted: &Admitted<'_>,
        found: Result<Option<Kept>, StoreError>,
        draft: &mut Draft,
    ) -> Result<Answer, StoreError> {
        let key = &admitted.storage_key;
        let current = match draft.kept(key) {
            Some(kept) => Ok(kept.cloned()),
            None => found,
        };
        let decided = current.and_then(|current| match (admitted.mutation, admitted.place) {
            (Mutation::Hint(hint), Some(place)) => {
                self.keep(store, moment, (key, place), hint, current, draft)
            }
            (Mutation::Task(task), _) => note(store, key, task, current, draft),
            // They are about records of this server's own.
            (_, _) => Ok(written()),
        });
        match decided {
            Err(failed @ StoreError::Failed(_)) => Err(failed),
            Err(error) => Ok(Answer::Refused(refusal(error))),
            Ok(answer) => Ok(answer),
        }
    }

    /// Keeps a record, or the fresher one that is kept already, for these owners too.
    fn keep(
        &self,
        store: &impl Store,
        moment: Moment<'_>,
        (key, place): (&Bytes, Place<'_>),
        hint: &Hint,
        current: Option<Kept>,
        draft: &mut Draft,
    ) -> Result<Answer, StoreError> {
        let known = current.as_ref().map(|kept| kept.record.head.version.stamp);
        if let Some(refusal) = self.refuse_first_hand(moment, hint.source, &hint.record, known) {
            return Ok(Answer::Refused(refusal));
        }
        let fresher =
            |kept: &Kept| hint.record.head.freshness(&kept.record.head) == Ordering::Greater;
        let mut kept = match &current {
            Some(kept) if !fresher(kept) => kept.clone(),
            _ => Kept {
                since_ms: moment.now_ms,
                epoch: moment.view.epoch,
                aside: false,
                owners: Vec::new(),
                record: hint.record.clone(),
            },
        };
        // Who waited for the older record needs the fresher one as well.
        let owners = current.iter().flat_map(|kept| &kept.owners);
        for owner in owners.chain(&hint.owners) {
            if !kept.owners.contains(owner) {
                kept.owners.push(*owner);
            }
        }
        let durable = place.bucket.durability == Durability::Group && !self.acks_before_sync();
        if durable {
            draft.touched.push(place.hash);
        }
        if current.as_ref() == Some(&kept) {
            return Ok(written());
        }
        let freed = current.as_ref().map_or(0, |kept| kept.bytes(key));
        let others = draft.tally(store)?.bytes.saturating_sub(freed);
        if others + kept.bytes(key) > self.hint_bytes_max {
            let why = "the room for records of other servers is used up: leave it with another";
            return Ok(Answer::Refused(Refusal::new(RefusalKind::Full, why)));
        }
        draft.needs_sync |= durable;
        if !self.forgets_hints() {
            draft.put_kept(store, key, current.as_ref(), Some(kept))?;
        }
        Ok(written())
    }
}

/// Takes note of what the server found out about a kept record.
fn note(
    store: &impl Store,
    key: &Bytes,
    task: &Task,
    current: Option<Kept>,
    draft: &mut Draft,
) -> Result<Answer, StoreError> {
    let Some(current) = current else {
        return Ok(written());
    };
    let after = match task {
        Task::Delivered { owner, head, .. } => delivered(&current, *owner, head),
        Task::SetAside { .. } => Some(Kept {
            aside: true,
            ..current.clone()
        }),
        Task::Reroute { from, to, .. } => rerouted(&current, *from, to),
        Task::Discard { .. } => None,
        // They are about records of this server's own.
        Task::Remove { .. } | Task::Expire { .. } | Task::Restore { .. } => return Ok(written()),
    };
    if after.as_ref() != Some(&current) {
        draft.put_kept(store, key, Some(&current), after)?;
    }
    Ok(written())
}

/// What is kept after an owner has got a record of this head. A fresher one that came in the
/// meantime still waits for it.
fn delivered(kept: &Kept, owner: NodeId, head: &Head) -> Option<Kept> {
    let mut kept = kept.clone();
    if kept.record.head.freshness(head) != Ordering::Greater {
        kept.owners.retain(|waiting| *waiting != owner);
    }
    (!kept.owners.is_empty()).then_some(kept)
}

/// What is kept after others have taken an owner's place.
fn rerouted(kept: &Kept, from: NodeId, to: &[NodeId]) -> Option<Kept> {
    let mut kept = kept.clone();
    kept.owners.retain(|waiting| *waiting != from);
    for owner in to {
        if !kept.owners.contains(owner) {
            kept.owners.push(*owner);
        }
    }
    (!kept.owners.is_empty()).then_some(kept)
}

fn written() -> Answer {
    Answer::Written(Written::default())
}
