//! Records of concurrent values: minted here, merged, compared, and kept for others.
//!
//! | rule | where |
//! |---|---|
//! | what a client brings is of this key, sound, not from far ahead | `admit_*`, `refuse_brought` |
//! | dots are minted by an owner, or by who keeps the record for owners | `mint` |
//! | nobody mints over a record that has lost something of the same actor | `Marks::tenure` |
//! | a merge drops nothing that its writer has not seen | `Siblings::merge` |

use super::draft::{Draft, Held};
use super::{AHEAD_MS_MAX, Admitted, Moment, Mutation, Place, Replica, Task, bad, refusal};
use crate::hints::{Kept, KeptRecord};
use crate::layout::siblings::{self as layout, Marks};
use crate::store::{Family, Store, StoreError};
use annulet_protocol::clock::Stamp;
use annulet_protocol::codec::merged_bytes_max;
use annulet_protocol::hash::parse_storage_key;
use annulet_protocol::limits::GRACE_MS;
use annulet_protocol::message::{Answer, Lacking, Read, Refusal, RefusalKind, Source, Written};
use annulet_protocol::record::Damage;
use annulet_protocol::siblings::message::{Compare, Found, Merge, Mint, Minted};
use annulet_protocol::siblings::{Actor, Put, PutError, Siblings};
use bytes::Bytes;

/// What a mutation brings along.
#[derive(Clone, Copy)]
struct Brought<'a> {
    record: &'a Siblings,
    source: Source,
    /// Whether it adds values, which take room.
    adds: bool,
}

impl Replica {
    /// Checks a put by itself. Gives the context that it comes with.
    pub(super) fn admit_mint(&self, moment: Moment<'_>, mint: &Mint) -> Result<Siblings, Refusal> {
        let Mint {
            bucket, key, write, ..
        } = mint;
        let most = moment.view.value_bytes_max as usize;
        if write.value.len() > most {
            let why = format!("the value has {} bytes, at most {most}", write.value.len());
            return Err(Refusal::new(RefusalKind::TooLarge, why));
        }
        let sound = match write.is_sound(*bucket, key) {
            true => Ok(()),
            false => self.forgive(Damage::Record),
        };
        sound.map_err(bad)?;
        if mint.context.is_empty() {
            return Ok(Siblings::default());
        }
        let context = unseal(*bucket, key, &mint.context)?;
        // Its siblings would be stored without their values.
        if context.iter().len() > 0 {
            let why = "a context with values: hand back what came with the read";
            return Err(Refusal::new(RefusalKind::BadChecksum, why));
        }
        Ok(context)
    }

    /// Checks a record by itself, and reads it.
    pub(super) fn admit_merge(
        &self,
        moment: Moment<'_>,
        merge: &Merge,
    ) -> Result<Siblings, Refusal> {
        let record = unseal(merge.bucket, &merge.key, &merge.record)?;
        let most = moment.view.value_bytes_max as usize;
        for sibling in record.iter() {
            let write = &sibling.write;
            if write.value.len() > most {
                let why = format!("a value has {} bytes, at most {most}", write.value.len());
                return Err(Refusal::new(RefusalKind::TooLarge, why));
            }
            let sound = match write.is_sound(merge.bucket, &merge.key) {
                true => Ok(()),
                false => self.forgive(Damage::Record),
            };
            sound.map_err(bad)?;
        }
        Ok(record)
    }

    /// Decides a mutation of a record of concurrent values, of which the store has `found`.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub(super) fn decide_siblings(
        &self,
        store: &impl Store,
        moment: Moment<'_>,
        admitted: &Admitted<'_>,
        found: Result<Option<Bytes>, StoreError>,
        draft: &mut Draft,
    ) -> Result<Answer, StoreError> {
        let key = &admitted.storage_key;
        let held = match draft.held(key) {
            Some(held) => Ok(held.clone()),
            None => found.and_then(|entry| load(store, key, entry)),
        };
        let held = match (held, admitted.mutation) {
            (Err(failed @ StoreError::Failed(_)), _) => return Err(failed),
            (Ok(held), _) => held,
            (Err(_), Mutation::Task(Task::RestoreSiblings { record, .. })) => {
                return Ok(self.restore_siblings(moment, admitted, record, draft));
            }
            (Err(error), _) => return Ok(Answer::Refused(refusal(error))),
        };
        Ok(self.change_siblings(moment, admitted, held, draft))
    }

    fn change_siblings(
        &self,
        moment: Moment<'_>,
        admitted: &Admitted<'_>,
        held: Held,
        draft: &mut Draft,
    ) -> Answer {
        let key = &admitted.storage_key;
        let nothing = Siblings::default();
        let brought = admitted.brought.as_ref().unwrap_or(&nothing);
        let mut after = held.clone();
        let answer = match admitted.mutation {
            Mutation::Mint(mint) => {
                let tenure = held.marks.tenure.map(|stamp| stamp.0);
                let tenure = tenure.unwrap_or_else(|| lists_epoch(moment, admitted));
                let put = self.mint(moment, mint, brought, tenure, &mut after.record);
                match put {
                    Err(refusal) => return Answer::Refused(refusal),
                    Ok(Put::Minted(dot)) => draft.note_minted(key, dot),
                    Ok(Put::Known) => {}
                }
                after.record.forget_past(moment.now_ms);
                minted(mint, &after.record)
            }
            Mutation::Merge(merge) => {
                let brought = Brought {
                    record: brought,
                    source: merge.source,
                    adds: brought.iter().len() > 0,
                };
                if let Some(refusal) = self.refuse_brought(moment, brought, &held.record) {
                    return Answer::Refused(refusal);
                }
                after.record.absorb(brought.record);
                after.record.forget_past(moment.now_ms);
                if let Some(refusal) = refuse_size(moment, brought, &after.record) {
                    return Answer::Refused(refusal);
                }
                Answer::Written(Written::default())
            }
            Mutation::Compare(Compare { fingerprint, .. }) => {
                match held.record.fingerprint() == *fingerprint {
                    true => Answer::Written(Written::default()),
                    false => Answer::Lacking(Lacking {}),
                }
            }
            Mutation::Task(task) => {
                take_note(task, &mut after);
                after.record.forget_past(moment.now_ms);
                Answer::Written(Written::default())
            }
            // They are about other modes and families.
            _ => return Answer::Written(Written::default()),
        };
        let changed = after.record != held.record;
        if changed || after.marks != held.marks {
            draft.put_siblings(key, after, &held);
        }
        self.note_touched(admitted, changed, draft);
        answer
    }

    /// Puts what is damaged here together anew, under another tenure: it may have lost what was
    /// minted here alone. That is written even if no other owner has anything.
    fn restore_siblings(
        &self,
        moment: Moment<'_>,
        admitted: &Admitted<'_>,
        record: &Siblings,
        draft: &mut Draft,
    ) -> Answer {
        let mut restored = Held {
            record: record.clone(),
            apart: None,
            marks: Marks {
                tenure: Some(moment.stamp),
            },
        };
        restored.record.forget_past(moment.now_ms);
        if !restored.record.fits() {
            let why = "the other owners have too many concurrent values of the key together";
            return Answer::Refused(Refusal::new(RefusalKind::Full, why));
        }
        // Whatever lies apart belongs to what was damaged.
        draft.remove_value(&admitted.storage_key);
        draft.put_siblings(&admitted.storage_key, restored, &Held::default());
        self.note_touched(admitted, true, draft);
        Answer::Written(Written::default())
    }

    /// An answer waits for the sync of all that it rests on.
    fn note_touched(&self, admitted: &Admitted<'_>, changed: bool, draft: &mut Draft) {
        let own = matches!(
            admitted.mutation,
            Mutation::Task(Task::RestoreSiblings { .. })
        );
        let hash = match admitted.place {
            Some(place) if self.is_durable(place) => Some(place.hash),
            None if own => parse_storage_key(&admitted.storage_key).map(|(hash, _, _)| hash),
            Some(_) | None => None,
        };
        draft.needs_sync |= changed && hash.is_some();
        draft.touched.extend(hash);
    }

    /// Stores a value under a dot of this server's.
    fn mint(
        &self,
        moment: Moment<'_>,
        mint: &Mint,
        context: &Siblings,
        tenure: u64,
        record: &mut Siblings,
    ) -> Result<Put, Refusal> {
        let brought = Brought {
            record: context,
            source: Source::FirstHand,
            adds: true,
        };
        if let Some(refusal) = self.refuse_brought(moment, brought, record) {
            return Err(refusal);
        }
        let first_sent = Stamp::at(mint.write.op.first_sent_ms);
        if let Some(refusal) = self.refuse_stamp(moment, first_sent, None) {
            return Err(refusal);
        }
        let actor = Actor {
            node: self.node,
            incarnation: self.incarnation,
            tenure,
        };
        let write = (mint.write.clone(), mint.again);
        let most = moment.view.value_bytes_max as usize;
        self.forget_done(record, &mint.write.op);
        // The stamps of a server whose clock was ahead stay there when it is set right: others
        // would refuse what they are under.
        let latest = Stamp::at(moment.now_ms.saturating_add(self.skew_ms_max));
        let put = record.put(context, write, (actor, moment.stamp.min(latest)), most);
        let put = put.map_err(put_refusal)?;
        // A context may bring actors, and put with those that are here they may be too many.
        match record.fits() {
            true => Ok(put),
            false => Err(put_refusal(PutError::TooManyActors)),
        }
    }

    /// Why what a client brings is not taken. Stamps of what was minted lately are near this
    /// server's clock, and a base is proved to be long past.
    fn refuse_brought(
        &self,
        moment: Moment<'_>,
        brought: Brought<'_>,
        held: &Siblings,
    ) -> Option<Refusal> {
        let Brought {
            record,
            source,
            adds,
        } = brought;
        let latest_ms = moment.now_ms.saturating_sub(GRACE_MS) + self.skew_ms_max;
        if record.base().millis() > latest_ms && !self.accepts_skew() {
            let why = "a base of concurrent values that cannot be proved yet";
            return Some(Refusal::new(RefusalKind::SkewedClock, why));
        }
        if source != Source::FirstHand {
            // No server has minted it, and nothing could be minted above it.
            let minted = record.newest().millis() <= moment.now_ms.saturating_add(AHEAD_MS_MAX);
            let why = "concurrent values from over a year ahead";
            return (!minted).then(|| Refusal::new(RefusalKind::BadChecksum, why));
        }
        let refused = self.refuse_stamp(moment, record.newest(), Some(held.newest()));
        refused.or_else(|| self.refuse_room(moment, adds))
    }

    /// Keeps a record for owners, or mints it for them.
    pub(super) fn keep_siblings(
        &self,
        moment: Moment<'_>,
        (admitted, place): (&Admitted<'_>, Place<'_>),
        current: Option<&Kept>,
    ) -> Result<(Kept, Answer), Refusal> {
        let brought = admitted.brought.clone().unwrap_or_default();
        let (mut record, tenure) = match current.map(|kept| &kept.record) {
            Some(KeptRecord::Siblings { record, tenure }) => (record.clone(), *tenure),
            Some(KeptRecord::Lww(_)) => {
                let why = format!("`{}` keeps another kind of record", place.bucket.name);
                return Err(Refusal::new(RefusalKind::Damaged, why));
            }
            None => (Siblings::default(), moment.stamp),
        };
        let (owners, answer) = match admitted.mutation {
            Mutation::Mint(mint) => {
                self.mint(moment, mint, &brought, tenure.0, &mut record)?;
                record.forget_past(moment.now_ms);
                (&mint.owners, minted(mint, &record))
            }
            Mutation::Merge(merge) => {
                let brought = Brought {
                    record: &brought,
                    source: merge.source,
                    adds: brought.iter().len() > 0,
                };
                if let Some(refusal) = self.refuse_brought(moment, brought, &record) {
                    return Err(refusal);
                }
                record.absorb(brought.record);
                record.forget_past(moment.now_ms);
                if let Some(refusal) = refuse_size(moment, brought, &record) {
                    return Err(refusal);
                }
                (&merge.owners, Answer::Written(Written::default()))
            }
            _ => return Err(Refusal::new(RefusalKind::Other, "nothing to keep")),
        };
        let record = KeptRecord::Siblings { record, tenure };
        let mut kept = Kept::join(current, record, owners, moment);
        let changed = current.is_some_and(|before| before.record != kept.record);
        if kept.aside || changed {
            // What was too old is handed over with what is new: a base tells what is over.
            (kept.aside, kept.since_ms) = (false, moment.now_ms);
        }
        Ok((kept, answer))
    }
}

/// Why a record that was merged is not stored: it could not be read back, or sent to anybody. The
/// values in it are those of several servers, each of which took as many as it takes.
fn refuse_size(moment: Moment<'_>, brought: Brought<'_>, merged: &Siblings) -> Option<Refusal> {
    let most = merged_bytes_max(moment.view.value_bytes_max as usize);
    let too_long = brought.adds && merged.value_bytes() > most;
    (too_long || !merged.fits()).then(|| {
        let why = "the key has too many concurrent values: read it and write it with the context \
                   that came with them";
        Refusal::new(RefusalKind::Full, why)
    })
}

/// The epoch that set the lists of the key's partition. Whoever lost the partition and gained it
/// again is another actor by it, even in one life of the server.
fn lists_epoch(moment: Moment<'_>, admitted: &Admitted<'_>) -> u64 {
    let table = &moment.view.table;
    let hash = admitted.place.map(|place| place.hash);
    hash.map_or(table.epoch, |h| {
        table.lists_epoch(h.partition(table.partitions))
    })
}

/// What the server itself found out about a record.
fn take_note(task: &Task, held: &mut Held) {
    match task {
        Task::ExpireSiblings { until_ms, .. } => {
            held.record = held.record.without_expired(*until_ms);
        }
        Task::RestoreSiblings { record, .. } => held.record = held.record.merge(record),
        // They are about other modes and families.
        _ => {}
    }
}

/// The answer to a put: the whole record, without the value that the client has.
fn minted(mint: &Mint, record: &Siblings) -> Answer {
    Answer::Minted(Minted {
        record: record.seal_without(mint.bucket, &mint.key, &mint.write.op),
    })
}

fn unseal(bucket: u32, key: &[u8], bytes: &[u8]) -> Result<Siblings, Refusal> {
    let read = Siblings::unseal(bucket, key, bytes);
    read.map_err(|error| Refusal::new(RefusalKind::BadChecksum, error.to_string()))
}

fn put_refusal(error: PutError) -> Refusal {
    let kind = match error {
        PutError::TooMany | PutError::TooLong => RefusalKind::Conflict,
        PutError::TooManyActors => RefusalKind::Full,
        PutError::TooOld => RefusalKind::SkewedClock,
    };
    Refusal::new(kind, error.to_string())
}

/// Reads a record with its values, wherever they lie.
pub(super) fn load(
    store: &impl Store,
    key: &Bytes,
    entry: Option<Bytes>,
) -> Result<Held, StoreError> {
    let Some(entry) = entry else {
        return Ok(Held::default());
    };
    let stored = layout::decode(entry).map_err(StoreError::Damaged)?;
    let Some(apart) = stored.apart else {
        return Ok(Held {
            record: stored.record,
            apart: None,
            marks: stored.marks,
        });
    };
    let values = store.read(Family::Values, std::slice::from_ref(key)).pop();
    let missing = || StoreError::Damaged("the values of a stored record are missing".into());
    let values = values.unwrap_or(Ok(None))?.ok_or_else(missing)?;
    let record = layout::decode_values(values, apart).map_err(StoreError::Damaged)?;
    Ok(Held {
        record,
        apart: Some(apart),
        marks: stored.marks,
    })
}

/// Answers a read from the entry, and from what is kept for others.
pub(super) fn answer_read(
    store: &impl Store,
    read: &Read,
    storage_key: &Bytes,
    (entry, kept): (Result<Option<Bytes>, StoreError>, Option<Kept>),
) -> Answer {
    let answered = entry.and_then(|entry| {
        let bare_will_do = read.head_only && kept.is_none();
        if let (Some(entry), true) = (&entry, bare_will_do) {
            let stored = layout::decode(entry.clone()).map_err(StoreError::Damaged)?;
            return Ok((stored.record.bare(), true));
        }
        let mut record = load_again(store, storage_key, entry)?;
        if let Some(KeptRecord::Siblings { record: kept, .. }) = kept.map(|kept| kept.record) {
            record = record.merge(&kept);
        }
        let most = read.value_bytes_max.map(|most| most as usize);
        let bare = read.head_only || most.is_some_and(|most| record.value_bytes() > most);
        Ok((if bare { record.bare() } else { record }, bare))
    });
    match answered {
        Err(error) => Answer::Refused(refusal(error)),
        Ok((record, _)) if record == Siblings::default() => Answer::Absent(Default::default()),
        Ok((record, bare)) => Answer::Siblings(Found {
            record: record.seal(read.bucket, &read.key),
            bare,
        }),
    }
}

/// Values that lie apart may be replaced between two reads: then both are read again.
fn load_again(
    store: &impl Store,
    key: &Bytes,
    entry: Option<Bytes>,
) -> Result<Siblings, StoreError> {
    /// One replacement after each read would need a writer faster than this loop, each time.
    const ATTEMPTS: usize = 8;
    let mut entry = entry;
    let mut last = StoreError::Damaged(String::new());
    for _ in 0..ATTEMPTS {
        match load(store, key, entry) {
            Ok(held) => return Ok(held.record),
            Err(StoreError::Damaged(why)) => last = StoreError::Damaged(why),
            Err(error) => return Err(error),
        }
        let again = store.read(Family::Records, std::slice::from_ref(key)).pop();
        entry = again.unwrap_or(Ok(None))?;
    }
    Err(last)
}
