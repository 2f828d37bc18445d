//! Records kept for owners that could not be reached.

use super::draft::Draft;
use super::{Admitted, Moment, Mutation, Place, Replica, Sent, Task, refusal};
use crate::hints::{Kept, KeptRecord};
use crate::store::{Store, StoreError};
use annulet_protocol::ids::NodeId;
use annulet_protocol::message::{Answer, Hint, Refusal, RefusalKind, Written};
use annulet_protocol::record::Record;
use annulet_protocol::view::View;
use annulet_ring::chain::course;
use annulet_ring::owners::Owners;
use bytes::Bytes;
use std::cmp::Ordering;

impl Replica {
    /// Checks for whom a record is to be kept: owners of the key, others than this server.
    pub(super) fn admit_owners(
        &self,
        moment: Moment<'_>,
        place: Place<'_>,
        wanted: &[NodeId],
    ) -> Result<(), Refusal> {
        if self.is_about_to_go(moment.view) {
            let why = "this server owns nothing any more and goes, so it keeps nothing for others";
            return Err(Refusal::new(RefusalKind::NotOwner, why));
        }
        let owners = Owners::of(moment.view, place.bucket, place.hash);
        let mut seen = Vec::with_capacity(wanted.len());
        for owner in wanted {
            let once = !seen.contains(owner);
            if *owner == self.node || !owners.contains(*owner) || !once {
                let why = format!("a hint for {owner}, which is no other owner of this key");
                return Err(Refusal::new(RefusalKind::NotOwner, why));
            }
            seen.push(*owner);
        }
        match seen.is_empty() {
            true => Err(Refusal::new(RefusalKind::NotOwner, "a hint for no owner")),
            false => Ok(()),
        }
    }

    /// Whether this server may be gone as soon as it has said that it has handed over everything:
    /// what it took after that would be lost with it. Clients of an older view may still ask.
    fn is_about_to_go(&self, view: &View) -> bool {
        view.member(self.node).is_none_or(|member| {
            member.state.is_to_go() && course::emptied(view).contains(&self.node)
        })
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
            (Mutation::Task(task), _) => note(store, key, task, current, draft),
            (_, Some(place)) => self.keep(store, moment, (admitted, place), current, draft),
            // Only tasks have no place.
            (_, None) => Ok(written()),
        });
        match decided {
            Err(failed @ StoreError::Failed(_)) => Err(failed),
            Err(error) => Ok(Answer::Refused(refusal(error))),
            Ok(answer) => Ok(answer),
        }
    }

    /// Keeps a record with what is kept already, for these owners too.
    fn keep(
        &self,
        store: &impl Store,
        moment: Moment<'_>,
        (admitted, place): (&Admitted<'_>, Place<'_>),
        current: Option<Kept>,
        draft: &mut Draft,
    ) -> Result<Answer, StoreError> {
        let key = &admitted.storage_key;
        let decided = match admitted.mutation {
            Mutation::Hint(hint) => self.keep_record(moment, hint, current.as_ref()),
            _ => self.keep_siblings(moment, (admitted, place), current.as_ref()),
        };
        let (kept, answer) = match decided {
            Ok(decided) => decided,
            Err(refusal) => return Ok(Answer::Refused(refusal)),
        };
        let durable = self.is_durable(place);
        if durable {
            draft.touched.push(place.hash);
        }
        if current.as_ref() == Some(&kept) {
            return Ok(answer);
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
        Ok(answer)
    }

    /// The fresher of a record and the one that is kept already, for the owners of both.
    fn keep_record(
        &self,
        moment: Moment<'_>,
        hint: &Hint,
        current: Option<&Kept>,
    ) -> Result<(Kept, Answer), Refusal> {
        let known = current.and_then(|kept| kept.record.lww());
        let stamp = known.map(|record| record.head.version.stamp);
        if let Some(refusal) = self.refuse_first_hand(moment, hint.source, &hint.record, stamp) {
            return Err(refusal);
        }
        let fresher = |known: &Record| hint.record.head.freshness(&known.head) == Ordering::Greater;
        let kept = match current {
            Some(kept) if known.is_some_and(|known| !fresher(known)) => {
                Kept::join(current, kept.record.clone(), &hint.owners, moment)
            }
            _ => {
                let record = KeptRecord::Lww(hint.record.clone());
                Kept {
                    since_ms: moment.now_ms,
                    epoch: moment.view.epoch,
                    aside: false,
                    ..Kept::join(current, record, &hint.owners, moment)
                }
            }
        };
        Ok((kept, written()))
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
        Task::Delivered { owner, sent, .. } => delivered(&current, *owner, sent),
        Task::SetAside { .. } => Some(Kept {
            aside: true,
            ..current.clone()
        }),
        Task::Reroute { from, to, .. } => rerouted(&current, *from, to),
        Task::Discard { .. } => None,
        // They are about records of this server's own.
        Task::Remove { .. }
        | Task::Expire { .. }
        | Task::Restore { .. }
        | Task::RestoreSiblings { .. }
        | Task::ExpireSiblings { .. }
        | Task::Spread { .. }
        | Task::Copied { .. }
        | Task::Vacate { .. }
        | Task::Ready { .. }
        | Task::Handed { .. }
        | Task::Note { .. } => return Ok(written()),
    };
    if after.as_ref() != Some(&current) {
        draft.put_kept(store, key, Some(&current), after)?;
    }
    Ok(written())
}

/// What is kept after an owner has got what was sent. What came in the meantime still waits for it.
fn delivered(kept: &Kept, owner: NodeId, sent: &Sent) -> Option<Kept> {
    let mut kept = kept.clone();
    let all = match (&kept.record, sent) {
        (KeptRecord::Lww(record), Sent::Head(head)) => {
            record.head.freshness(head) != Ordering::Greater
        }
        (KeptRecord::Siblings { record, .. }, Sent::Siblings(fingerprint)) => {
            record.fingerprint() == *fingerprint
        }
        (KeptRecord::Lww(_) | KeptRecord::Siblings { .. }, _) => false,
    };
    if all {
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
