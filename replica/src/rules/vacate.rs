//! What goes since it is not owned any more, or since it is owned anew and begins with empty.

use super::draft::Draft;
use super::{Moment, Replica, Task};
use crate::store::StoreError;
use annulet_protocol::hash::parse_storage_key;
use annulet_protocol::message::{Answer, Written};
use annulet_ring::owners::Owners;
use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

/// Whether a task is decided here.
pub(super) fn is_about(task: &Task) -> bool {
    matches!(
        task,
        Task::Vacate { .. } | Task::Ready { .. } | Task::Handed { .. } | Task::Note { .. }
    )
}

impl Replica {
    /// Decides a task about which [`is_about`] is true, of whose key the store has `found`.
    pub(super) fn vacate(
        &self,
        moment: Moment<'_>,
        task: &Task,
        found: Result<Option<Bytes>, StoreError>,
        draft: &mut Draft,
    ) -> Answer {
        match task {
            Task::Vacate { key, digest } => {
                let same = |bytes: Bytes| digest.is_none_or(|digest| xxh3_64(&bytes) == digest);
                let found = found.ok().flatten();
                if found.is_some_and(same) && self.may_go(moment, key) {
                    draft.remove(key);
                }
            }
            // Whatever it was noted for may be otherwise by now.
            Task::Ready { holding, .. } if moment.unready.contains(holding) => {
                let mut unready = moment.unready.iter();
                if !unready.any(|other| holding.waits_for(other)) {
                    draft.make_ready(holding, moment.unready);
                }
            }
            // It may have been gained and lost again meanwhile: then all of it is looked at once
            // more.
            Task::Handed {
                holding,
                note,
                since,
            } if holding.lists_epoch(moment.view) == *since => draft.put_note(note, None, false),
            Task::Note {
                key,
                value,
                durable,
                rests_on,
            } if draft.wrote_last(*rests_on) => draft.put_note(key, value.as_ref(), *durable),
            _ => {}
        }
        Answer::Written(Written::default())
    }

    /// Whether a record is nobody's to ask for here.
    fn may_go(&self, moment: Moment<'_>, key: &[u8]) -> bool {
        let Some((hash, number, _)) = parse_storage_key(key) else {
            return false;
        };
        let Some(bucket) = moment.view.bucket(number) else {
            return moment.view.had_bucket(number);
        };
        let unready = |holding: &crate::holdings::Holding| holding.covers(bucket, hash);
        moment.unready.iter().any(unready)
            || !Owners::of(moment.view, bucket, hash).contains(self.node)
    }
}
