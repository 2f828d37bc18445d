//! Changes to the replica's own records: the fresher of two stays.

use super::draft::Draft;
use super::{Admitted, Moment, Mutation, Replica, Task, decode_stored, refusal};
use crate::layout::{Stored, StoredValue};
use crate::restore::Copy;
use crate::store::StoreError;
use annulet_protocol::clock::Stamp;
use annulet_protocol::hash::parse_storage_key;
use annulet_protocol::message::{
    Answer, Lacking, Refusal, RefusalKind, Source, Touch, Write, Written,
};
use annulet_protocol::record::{Head, Kind, Record};
use bytes::Bytes;
use std::cmp::Ordering;

impl Replica {
    /// Decides a mutation of a record, of which the store has `found`.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub(super) fn decide_record(
        &self,
        moment: Moment<'_>,
        admitted: &Admitted<'_>,
        found: Result<Option<Bytes>, StoreError>,
        draft: &mut Draft,
    ) -> Result<Answer, StoreError> {
        let key = &admitted.storage_key;
        match admitted.mutation {
            // Whatever it is, of whichever mode, and damaged or not.
            Mutation::Task(Task::Remove { .. }) => {
                draft.remove(key);
                return Ok(Answer::Written(Written::default()));
            }
            Mutation::Task(Task::Spread { key, left }) => {
                draft.note_left(key, left);
                return Ok(Answer::Written(Written::default()));
            }
            _ => {}
        }
        let current = match (draft.record(key), parse_storage_key(key)) {
            (Some(stored), _) => Ok(Some(stored.clone())),
            (None, Some((_, bucket, key))) => decode_stored(found, bucket, key),
            (None, None) => Err(StoreError::Damaged("a storage key that is none".into())),
        };
        if let Err(failed @ StoreError::Failed(_)) = current {
            return Err(failed);
        }
        Ok(match admitted.mutation {
            Mutation::Task(Task::Restore { copy, .. }) => {
                restore(key, copy.as_ref(), current, draft);
                Answer::Written(Written::default())
            }
            mutation => match current {
                Err(error) => Answer::Refused(refusal(error)),
                Ok(current) => self.change(moment, admitted, mutation, current, draft),
            },
        })
    }

    fn change(
        &self,
        moment: Moment<'_>,
        admitted: &Admitted<'_>,
        mutation: &Mutation,
        current: Option<Stored>,
        draft: &mut Draft,
    ) -> Answer {
        let key = &admitted.storage_key;
        let durable = admitted.place.is_some_and(|place| self.is_durable(place));
        let hash = admitted.place.filter(|_| durable).map(|place| place.hash);
        let changed = match mutation {
            Mutation::Write(write) => {
                if let Some(refusal) = self.refuse_write(moment, write, current.as_ref()) {
                    return Answer::Refused(refusal);
                }
                self.merge(key, write, current.as_ref(), draft)
            }
            Mutation::Touch(touch) => {
                let stamp = touch.expiry.stamp.max(touch.version.stamp);
                let known = current.as_ref().map(|stored| stored.head.version.stamp);
                if let Some(refusal) = self.refuse_stamp(moment, stamp, known) {
                    return Answer::Refused(refusal);
                }
                match self.touched(touch, current.as_ref()) {
                    Touched::Lacking => return Answer::Lacking(Lacking {}),
                    Touched::Unchanged => false,
                    Touched::Changed(stored) => {
                        draft.put_head(key, stored);
                        true
                    }
                }
            }
            Mutation::Task(Task::Expire { head, .. }) => {
                expire(key, head, current.as_ref(), draft);
                false
            }
            // They change other families, are of other modes, or are dealt with before.
            _ => false,
        };
        draft.touched.extend(hash);
        draft.needs_sync |= changed && durable;
        let newer = current.map(|stored| stored.head.version);
        let superseded = match mutation {
            Mutation::Write(write) => newer.filter(|v| *v > write.record.head.version),
            Mutation::Touch(touch) => newer.filter(|v| *v > touch.version),
            _ => None,
        };
        Answer::Written(Written { superseded })
    }

    /// Merges a record into what is stored. Says whether that changed it.
    fn merge(
        &self,
        key: &Bytes,
        Write { record, gone, .. }: &Write,
        current: Option<&Stored>,
        draft: &mut Draft,
    ) -> bool {
        let fresher = self.overwrites_blindly()
            || current
                .is_none_or(|stored| record.head.freshness(&stored.head) == Ordering::Greater);
        if fresher && *gone {
            put_gone(key, record.head, draft);
        } else if fresher {
            match self.drops_tombstones() && record.head.kind == Kind::Tombstone {
                true => draft.remove(key),
                false => draft.put(key, record, current),
            }
        }
        fresher
    }

    /// Why a write is not taken that is sound by itself.
    fn refuse_write(
        &self,
        moment: Moment<'_>,
        write: &Write,
        current: Option<&Stored>,
    ) -> Option<Refusal> {
        let Write { source, record, .. } = write;
        let known = current.map(|stored| stored.head.version.stamp);
        self.refuse_first_hand(moment, *source, record, known)
    }

    /// Why a record is not taken from its writer. `known`: the newest stamp that the key has here.
    pub(super) fn refuse_first_hand(
        &self,
        moment: Moment<'_>,
        source: Source,
        record: &Record,
        known: Option<Stamp>,
    ) -> Option<Refusal> {
        if source != Source::FirstHand {
            return None;
        }
        let Head {
            version, expiry, ..
        } = record.head;
        let stamp = expiry.map_or(version.stamp, |e| e.stamp.max(version.stamp));
        if let Some(refusal) = self.refuse_stamp(moment, stamp, known) {
            return Some(refusal);
        }
        self.refuse_room(moment, record.head.kind == Kind::Value)
    }

    /// Why what a client sends is not taken if it takes room.
    pub(super) fn refuse_room(&self, moment: Moment<'_>, adds: bool) -> Option<Refusal> {
        let full = moment.disk_full && adds && !self.fills_the_disk();
        full.then(|| {
            let why = "this server's disk is full: it takes deletes only, until there is room";
            Refusal::new(RefusalKind::Full, why)
        })
    }

    /// First-hand stamps must be near this server's clock, unless the key has one as far ahead.
    pub(super) fn refuse_stamp(
        &self,
        moment: Moment<'_>,
        stamp: Stamp,
        known: Option<Stamp>,
    ) -> Option<Refusal> {
        if self.accepts_skew() {
            return None;
        }
        if !moment.clock_trusted {
            let why =
                "this server's clock is off its peers'; it takes no new writes until it is set";
            return Some(Refusal::new(RefusalKind::SkewedClock, why));
        }
        let limit_ms = moment.now_ms.saturating_add(self.skew_ms_max);
        let ahead = stamp.millis() > limit_ms;
        if !ahead || known.is_some_and(|known| known.millis() >= stamp.millis()) {
            return None;
        }
        let why = format!(
            "the write is stamped {} ms ahead of this server's clock, at most {} are taken: set \
             the client's clock",
            stamp.millis().saturating_sub(moment.now_ms),
            self.skew_ms_max
        );
        Some(Refusal::new(RefusalKind::SkewedClock, why))
    }
}

/// What a touch does to a record.
enum Touched {
    /// The record must come first.
    Lacking,
    /// Something newer is there.
    Unchanged,
    /// The record with the new expiry.
    Changed(Stored),
}

impl Replica {
    fn touched(&self, touch: &Touch, current: Option<&Stored>) -> Touched {
        let Some(stored) = current else {
            return Touched::Lacking;
        };
        let mut head = stored.head;
        head.expiry = Some(touch.expiry);
        let later = head.freshness(&stored.head) == Ordering::Greater || self.rewinds_touches();
        match stored.head.version.cmp(&touch.version) {
            Ordering::Less => Touched::Lacking,
            Ordering::Greater => Touched::Unchanged,
            Ordering::Equal if !later => Touched::Unchanged,
            // Its value was removed when it expired: a touch cannot bring that back.
            Ordering::Equal if stored.value == StoredValue::Gone => Touched::Lacking,
            Ordering::Equal => Touched::Changed(Stored {
                head,
                value: stored.value.clone(),
            }),
        }
    }
}

/// Puts what other owners hold in place of what is damaged. If what is stored has become well in
/// the meantime, the two are merged; its value may still be what is damaged.
fn restore(
    key: &Bytes,
    copy: Option<&Copy>,
    current: Result<Option<Stored>, StoreError>,
    draft: &mut Draft,
) {
    let fresher =
        |stored: &Stored, copy: &Copy| stored.head.freshness(&copy.head) == Ordering::Greater;
    match (copy, current) {
        (Some(copy), Ok(Some(stored))) if fresher(&stored, copy) => {}
        (Some(Copy { head, value }), _) if head.kind == Kind::Tombstone || value.is_some() => {
            let (head, value) = (*head, value.clone().unwrap_or_default());
            // What lies apart may be of whatever was stored before.
            draft.remove_value(key);
            draft.put(key, &Record { head, value }, None);
        }
        (Some(Copy { head, .. }), _) => put_gone(key, *head, draft),
        (None, Err(_)) => draft.remove(key),
        (None, Ok(_)) => {}
    }
    draft.needs_sync = true;
    let hash = parse_storage_key(key).map(|(hash, _, _)| hash);
    draft.touched.extend(hash);
}

/// Writes a head whose value is gone.
pub(super) fn put_gone(key: &Bytes, head: Head, draft: &mut Draft) {
    let value = StoredValue::Gone;
    draft.remove_value(key);
    draft.put_head(key, Stored { head, value });
}

/// Removes the value of a record, if it still is the one that had expired.
fn expire(key: &Bytes, head: &Head, current: Option<&Stored>, draft: &mut Draft) {
    let Some(stored) = current.filter(|stored| stored.head == *head) else {
        return;
    };
    match stored.value {
        StoredValue::Gone => return,
        StoredValue::Apart(_) => draft.remove_value(key),
        StoredValue::Inline(_) => {}
    }
    let (head, value) = (stored.head, StoredValue::Gone);
    draft.put_head(key, Stored { head, value });
}
