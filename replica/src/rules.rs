//! What a replica answers to each operation.
//!
//! | rule | where |
//! |---|---|
//! | only the owners of the view answer, at an epoch that knows their lists | `Replica::place` |
//! | a record is checked before it is merged or kept | `Replica::admit` |
//! | the fresher record stays, whatever the order of arrival | `merge` |
//! | what is damaged is refused, never taken for absent | `decode_stored` |
//! | records for owners that could not be reached are kept within bounds | `keep` |
//! | concurrent values are minted, merged and compared | `siblings` |
//! | an arc is read in pages | `page` |
//! | an arc is copied to those who are to own it | `copied` |
//! | what is owned no more, or not yet, goes | `vacate` |
//! | promises and what is accepted of a strong bucket's keys | `strong` |
//!
//! What they change is named in `mutation`.

mod copied;
mod draft;
mod faults;
mod keep;
mod merge;
mod mutation;
mod page;
mod siblings;
mod strong;
#[cfg(test)]
mod tests;
mod vacate;

use crate::gate::{Gate, SyncPoint};
use crate::hints::{self, KeptRecord};
use crate::holdings::Holding;
use crate::layout::{self, Stored, StoredValue};
use crate::spread;
use crate::store::{Batch, Family, Store, StoreError};
use annulet_protocol::bucket::{Bucket, Durability, Mode};
use annulet_protocol::clock::Stamp;
use annulet_protocol::copy::CopyArc;
use annulet_protocol::epoch::{generation_of, number_of};
use annulet_protocol::hash::{KeyHash, storage_key};
use annulet_protocol::ids::{Incarnation, NodeId};
use annulet_protocol::limits::KEY_BYTES_MAX;
use annulet_protocol::message::{
    Absent, Answer, Read, Refusal, RefusalKind, Source, Write, Written,
};
use annulet_protocol::record::{Damage, Head, Kind, Record};
use annulet_protocol::register::message::Prepare;
use annulet_protocol::scan::Scan;
use annulet_protocol::siblings::Siblings;
use annulet_protocol::siblings::message::Compare;
use annulet_protocol::view::View;
use annulet_ring::owners::Owners;
use bytes::Bytes;
use draft::Draft;
#[cfg(feature = "faults")]
pub use faults::Fault;
pub use mutation::{Demand, Mutation, Sent, Task};
use mutation::{family_of, is_of_siblings};
use std::cmp::Ordering;

/// Whether a rule is broken on purpose.
macro_rules! breaks {
    ($replica:expr, $fault:ident) => {{
        #[cfg(feature = "faults")]
        let broken = $replica.breaks(Fault::$fault);
        #[cfg(not(feature = "faults"))]
        let broken = {
            let _ = $replica;
            false
        };
        broken
    }};
}
use breaks;

/// One server's rules.
#[derive(Clone, Debug)]
pub struct Replica {
    /// The server's own id.
    pub node: NodeId,
    /// Drawn at random at this start of the server: dots of different starts differ.
    pub incarnation: Incarnation,
    /// Furthest that a first-hand stamp may lie ahead of the server's clock, in milliseconds.
    pub skew_ms_max: u64,
    /// Most bytes that all records kept for others may take.
    pub hint_bytes_max: u64,
    /// A rule that is broken on purpose, so that tests can show that they would notice.
    #[cfg(feature = "faults")]
    pub fault: Option<Fault>,
}

/// Furthest that a stamp or a ballot may lie ahead of the server's clock wherever it comes from, in
/// milliseconds (a year): numbers must not be used up.
const AHEAD_MS_MAX: u64 = 366 * 24 * 3_600_000;

/// Bytes that records kept for others may take, unless configured (1 GiB).
pub const HINT_BYTES_MAX: u64 = 1 << 30;

/// What an answer depends on besides the store.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// The server's clock, in milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// The first of as many stamps as there are mutations, above all that this start of the server
    /// was given before.
    pub stamp: Stamp,
    /// Whether that clock agrees with the peers' clocks.
    pub clock_trusted: bool,
    /// Whether the disk is so full that only deletes, repairs and what frees room are taken.
    pub disk_full: bool,
    /// The server's view.
    pub view: &'a View,
    /// What that gives the server to own and what it has still to empty.
    pub unready: &'a [Holding],
}

/// Answers to reads, and what they rest on.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadAnswers {
    /// One for each read, in order.
    pub answers: Vec<Answer>,
    /// The keys read in buckets whose writes are durable before they are acknowledged.
    pub touched: Vec<KeyHash>,
    /// Storage keys of records that were found damaged.
    pub damaged: Vec<Bytes>,
}

/// What to do about a batch of mutations, and what to answer once it is durable.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    /// One for each mutation, in order; tasks are answered as written.
    pub answers: Vec<Answer>,
    /// The changes to apply.
    pub batch: Batch,
    /// The keys answered about in buckets whose writes are durable before they are acknowledged.
    pub touched: Vec<KeyHash>,
    /// Whether the batch changes one of them, so that the answers wait for a sync.
    pub needs_sync: bool,
    /// Storage keys of records that were found damaged.
    pub damaged: Vec<Bytes>,
    /// Writes that left a key with more concurrent values than anybody should have.
    pub crowded: usize,
    /// What the server has emptied by this batch, and answers about once that is durable.
    pub ready: Vec<Holding>,
}

impl Decided {
    /// Notes the batch at the gate; call it before the batch is written. Returns what its answers
    /// wait for.
    pub fn enter(&self, gate: &mut Gate) -> SyncPoint {
        match self.needs_sync {
            true => gate.begin(self.touched.iter().copied()),
            false => gate.rests_on(self.touched.iter().copied()),
        }
    }
}

/// A key of a bucket, and where it lies.
#[derive(Clone, Copy, Debug)]
struct Place<'a> {
    bucket: &'a Bucket,
    hash: KeyHash,
}

/// A mutation that passed [`Replica::admit`], and the storage key it is about.
struct Admitted<'a> {
    storage_key: Bytes,
    /// Where it lies; a task has its key only.
    place: Option<Place<'a>>,
    mutation: &'a Mutation,
    /// The concurrent values, or the context, that it brings.
    brought: Option<Siblings>,
}

/// Modes of buckets whose records are read, merged and kept without agreement.
const MERGED: &[Mode] = &[Mode::Lww, Mode::Siblings];

impl Replica {
    /// The rules of the server of this id, with the usual bounds. `incarnation`: drawn at random
    /// for this start of it.
    pub fn new(node: NodeId, incarnation: Incarnation) -> Self {
        Self {
            node,
            incarnation,
            skew_ms_max: annulet_protocol::limits::SKEW_MS_MAX,
            hint_bytes_max: HINT_BYTES_MAX,
            #[cfg(feature = "faults")]
            fault: None,
        }
    }

    /// Answers reads, each with the epoch of its request.
    pub fn read<'a>(
        &self,
        store: &impl Store,
        moment: Moment<'a>,
        reads: impl IntoIterator<Item = (u64, &'a Read)>,
    ) -> ReadAnswers {
        let mut answers = Vec::new();
        let mut touched = Vec::new();
        let mut found = Vec::new();
        let mut keys = Vec::new();
        for (epoch, read) in reads {
            let asked = (epoch, MERGED);
            // What is left here of a key that this server does not own, or not yet, is no answer:
            // it may have been deleted since.
            let (placed, owned) = match self.place(moment, asked, read.bucket, &read.key) {
                Err(_) if read.hinted => {
                    (self.locate(moment, asked, read.bucket, &read.key), false)
                }
                placed => (placed, true),
            };
            match placed {
                Err(refusal) => answers.push(Answer::Refused(refusal)),
                Ok(Place { bucket, hash }) => {
                    if bucket.durability == Durability::Group && self.gates_reads() {
                        touched.push(hash);
                    }
                    keys.push(storage_key(hash, read.bucket, &read.key));
                    found.push((answers.len(), read, bucket.mode, owned));
                    answers.push(Answer::Absent(Absent::default()));
                }
            }
        }
        let entries = store.read(Family::Records, &keys);
        let mut damaged = Vec::new();
        for (((at, read, mode, owned), key), entry) in found.into_iter().zip(keys).zip(entries) {
            let entry = if owned { entry } else { Ok(None) };
            answers[at] = answer_read(store, (read, mode), key.clone(), entry);
            if is_damage(&answers[at]) {
                damaged.push(key);
            }
        }
        ReadAnswers {
            answers,
            touched,
            damaged,
        }
    }

    /// Answers scans, each with the epoch of its request.
    pub fn scan<'a>(
        &self,
        store: &impl Store,
        moment: Moment<'a>,
        scans: impl IntoIterator<Item = (u64, &'a Scan)>,
    ) -> ReadAnswers {
        let mut read = ReadAnswers {
            answers: Vec::new(),
            touched: Vec::new(),
            damaged: Vec::new(),
        };
        for (epoch, scan) in scans {
            let page = self.page(store, moment, epoch, scan, &mut read);
            let answer = page.map_or_else(Answer::Refused, Answer::Page);
            read.answers.push(answer);
        }
        read
    }

    /// Answers those who copy arcs, each with the epoch of its request.
    pub fn copy<'a>(
        &self,
        store: &impl Store,
        moment: Moment<'a>,
        asked: impl IntoIterator<Item = (u64, &'a CopyArc)>,
    ) -> ReadAnswers {
        let page = |(epoch, asked)| {
            let page = self.copy_page(store, moment, epoch, asked);
            page.unwrap_or_else(Answer::Refused)
        };
        ReadAnswers {
            answers: asked.into_iter().map(page).collect(),
            touched: Vec::new(),
            damaged: Vec::new(),
        }
    }

    /// Decides a batch of mutations, each with the epoch of its request, as if one after the other.
    ///
    /// # Errors
    /// [`StoreError::Failed`]: nothing may be acknowledged any more.
    pub fn decide<'a>(
        &self,
        store: &impl Store,
        moment: Moment<'a>,
        mutations: impl IntoIterator<Item = (u64, &'a Mutation)>,
    ) -> Result<Decided, StoreError> {
        let admitted: Vec<_> = mutations
            .into_iter()
            .map(|(epoch, mutation)| self.admit(moment, epoch, mutation))
            .collect();
        let keys_in = |family| {
            let admitted = admitted.iter().flatten();
            let of_family = admitted.filter(|a| family_of(a.mutation) == family);
            of_family.map(|a| a.storage_key.clone()).collect::<Vec<_>>()
        };
        let (records, kept) = (keys_in(Family::Records), keys_in(Family::Hints));
        let mut records = store.read(Family::Records, &records).into_iter();
        let mut kept = hints::read(store, &kept).into_iter();
        let mut draft = Draft::new(admitted.len());
        for (number, admitted) in (0u64..).zip(admitted) {
            let moment = Moment {
                stamp: Stamp(moment.stamp.0.saturating_add(number)),
                ..moment
            };
            let answer = match admitted {
                Err(refusal) => Answer::Refused(refusal),
                Ok(admitted) if family_of(admitted.mutation) == Family::Hints => {
                    let found = kept.next().unwrap_or(Ok(None));
                    self.decide_kept(store, moment, &admitted, found, &mut draft)?
                }
                Ok(admitted) => {
                    let found = records.next().unwrap_or(Ok(None));
                    let answer = self.decide_own(store, moment, &admitted, found, &mut draft)?;
                    if is_damage(&answer) {
                        draft.damaged.push(admitted.storage_key);
                    }
                    answer
                }
            };
            draft.answers.push(answer);
        }
        Ok(draft.finish(spread::note(moment.stamp, self.incarnation)))
    }

    /// Decides a mutation of this server's own records, of which the store has `found`.
    fn decide_own(
        &self,
        store: &impl Store,
        moment: Moment<'_>,
        admitted: &Admitted<'_>,
        found: Result<Option<Bytes>, StoreError>,
        draft: &mut Draft,
    ) -> Result<Answer, StoreError> {
        match (admitted.mutation, admitted.place) {
            (Mutation::Task(Task::Copied { entry, .. }), Some(place)) => {
                self.decide_copied(store, (admitted, place), entry, found, draft)
            }
            // It is of no bucket any more, or another one's to own.
            (Mutation::Task(Task::Copied { .. }), None) => Ok(Answer::Written(Written::default())),
            (Mutation::Task(task), _) if vacate::is_about(task) => {
                Ok(self.vacate(moment, task, found, draft))
            }
            (Mutation::Prepare(_) | Mutation::Accept(_) | Mutation::Learn(_), _) => {
                self.decide_register(moment, admitted, found, draft)
            }
            (mutation, _) if is_of_siblings(mutation) => {
                self.decide_siblings(store, moment, admitted, found, draft)
            }
            _ => self.decide_record(moment, admitted, found, draft),
        }
    }

    /// Where a key lies, if this server answers for it at all. The mode is the one that the
    /// operation is for.
    fn place<'a>(
        &self,
        moment: Moment<'a>,
        asked: (u64, &[Mode]),
        bucket: u32,
        key: &[u8],
    ) -> Result<Place<'a>, Refusal> {
        let place = self.locate(moment, asked, bucket, key)?;
        if !Owners::of(moment.view, place.bucket, place.hash).contains(self.node) {
            let why = format!("server {} does not own this key", self.node);
            return Err(Refusal::new(RefusalKind::NotOwner, why));
        }
        let unready = |holding: &Holding| holding.covers(place.bucket, place.hash);
        if moment.unready.iter().any(unready) {
            let why = "this server is to own the key, and is not ready yet";
            return Err(Refusal::new(RefusalKind::Behind, why));
        }
        Ok(place)
    }

    /// Where a key lies, be it owned here or not.
    fn locate<'a>(
        &self,
        moment: Moment<'a>,
        asked: (u64, &[Mode]),
        bucket: u32,
        key: &[u8],
    ) -> Result<Place<'a>, Refusal> {
        let hash = moment.view.hash(bucket, key);
        let bucket = self.bucket(moment, asked, bucket, hash)?;
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            let why = format!(
                "the key has {} bytes; it must have 1 to {KEY_BYTES_MAX}",
                key.len()
            );
            return Err(Refusal::new(RefusalKind::TooLarge, why));
        }
        Ok(Place { bucket, hash })
    }

    /// The bucket, for a request of an epoch that this server can answer, about buckets of these
    /// modes, and about what lies there. Only a request about what has other owners by now is out
    /// of date.
    fn bucket<'a>(
        &self,
        moment: Moment<'a>,
        (epoch, modes): (u64, &[Mode]),
        bucket: u32,
        hash: KeyHash,
    ) -> Result<&'a Bucket, Refusal> {
        let view = moment.view;
        if epoch > view.ordinal() && !self.serves_behind() {
            let why = format!(
                "this server is at epoch {}, the request at {}",
                view.epoch,
                number_of(epoch)
            );
            return Err(Refusal::new(RefusalKind::Behind, why));
        }
        let lists_epoch = view
            .table
            .lists_epoch(hash.partition(view.table.partitions));
        // Numbers compare within one generation only: epochs of an earlier one may have been lost,
        // and others have their numbers now.
        let given_up = generation_of(epoch) < view.tip.generation;
        if (given_up || number_of(epoch) < lists_epoch) && self.is_fenced() {
            let why = format!(
                "the owners changed in epoch {lists_epoch} of generation {}, the request is of \
                 epoch {} of generation {}: fetch the view",
                view.tip.generation,
                number_of(epoch),
                generation_of(epoch)
            );
            return Err(Refusal::new(RefusalKind::StaleEpoch, why));
        }
        let Some(bucket) = view.bucket(bucket) else {
            let why = format!("epoch {} has no bucket number {bucket}", view.epoch);
            return Err(Refusal::new(RefusalKind::UnknownBucket, why));
        };
        if !modes.contains(&bucket.mode) {
            let why = format!(
                "bucket `{}` has mode {}, which takes no such operation",
                bucket.name, bucket.mode
            );
            return Err(Refusal::new(RefusalKind::WrongMode, why));
        }
        Ok(bucket)
    }

    /// Checks a mutation by itself. What depends on what is stored, as the stamp of a first-hand
    /// write does, is checked where that is known.
    fn admit<'a>(
        &self,
        moment: Moment<'a>,
        epoch: u64,
        mutation: &'a Mutation,
    ) -> Result<Admitted<'a>, Refusal> {
        let lww = (epoch, &[Mode::Lww][..]);
        let siblings = (epoch, &[Mode::Siblings][..]);
        let strong = (epoch, &[Mode::Strong][..]);
        let mut brought = None;
        let (place, bucket, key) = match mutation {
            Mutation::Write(write) => {
                let place = self.place(moment, lww, write.bucket, &write.key)?;
                match write.gone {
                    true => self.admit_gone(moment, write)?,
                    false => {
                        self.admit_record(moment, write.bucket, &write.key, &write.record)?;
                    }
                }
                (place, write.bucket, &write.key)
            }
            Mutation::Touch(touch) => {
                let place = self.place(moment, lww, touch.bucket, &touch.key)?;
                let sound = touch
                    .expiry
                    .verify(touch.bucket, &touch.key, &touch.version);
                sound.or_else(|damage| self.forgive(damage)).map_err(bad)?;
                (place, touch.bucket, &touch.key)
            }
            Mutation::Hint(hint) => {
                let place = self.locate(moment, lww, hint.bucket, &hint.key)?;
                self.admit_owners(moment, place, &hint.owners)?;
                self.admit_record(moment, hint.bucket, &hint.key, &hint.record)?;
                (place, hint.bucket, &hint.key)
            }
            Mutation::Mint(mint) => {
                let place =
                    self.place_for(moment, siblings, (mint.bucket, &mint.key), &mint.owners)?;
                brought = Some(self.admit_mint(moment, mint)?);
                (place, mint.bucket, &mint.key)
            }
            Mutation::Merge(merge) => {
                let place =
                    self.place_for(moment, siblings, (merge.bucket, &merge.key), &merge.owners)?;
                brought = Some(self.admit_merge(moment, merge)?);
                (place, merge.bucket, &merge.key)
            }
            Mutation::Compare(Compare { bucket, key, .. }) => {
                (self.place(moment, siblings, *bucket, key)?, *bucket, key)
            }
            Mutation::Prepare(Prepare { bucket, key, .. }) => {
                (self.place(moment, strong, *bucket, key)?, *bucket, key)
            }
            Mutation::Accept(accept) => {
                let place = self.admit_accept(moment, strong, accept)?;
                (place, accept.bucket, &accept.key)
            }
            Mutation::Learn(learn) => {
                let place = self.admit_learn(moment, strong, learn)?;
                (place, learn.bucket, &learn.key)
            }
            Mutation::Task(task) => return self.admit_task(moment, mutation, task),
        };
        Ok(Admitted {
            storage_key: storage_key(place.hash, bucket, key),
            place: Some(place),
            mutation,
            brought,
        })
    }

    /// Checks what the server itself found out.
    fn admit_task<'a>(
        &self,
        moment: Moment<'a>,
        mutation: &'a Mutation,
        task: &Task,
    ) -> Result<Admitted<'a>, Refusal> {
        let place = match task {
            Task::Copied { since, entry } => self.admit_copied(moment, *since, entry)?,
            _ => None,
        };
        Ok(Admitted {
            storage_key: task.key().clone(),
            place,
            mutation,
            brought: None,
        })
    }

    /// Where a key lies that is either this server's own, or kept for these owners.
    fn place_for<'a>(
        &self,
        moment: Moment<'a>,
        asked: (u64, &[Mode]),
        (bucket, key): (u32, &[u8]),
        owners: &[NodeId],
    ) -> Result<Place<'a>, Refusal> {
        if owners.is_empty() {
            return self.place(moment, asked, bucket, key);
        }
        let place = self.locate(moment, asked, bucket, key)?;
        self.admit_owners(moment, place, owners)?;
        Ok(place)
    }

    /// Whether writes of a key are durable before they are acknowledged.
    fn is_durable(&self, place: Place<'_>) -> bool {
        place.bucket.durability == Durability::Group && !self.acks_before_sync()
    }

    /// Checks the head of a record whose value is gone: it must have expired, by its own word and
    /// by this server's clock.
    fn admit_gone(&self, moment: Moment<'_>, write: &Write) -> Result<(), Refusal> {
        let Write {
            bucket,
            key,
            source,
            record: Record { head, value },
            ..
        } = write;
        head.verify_expiry(*bucket, key).map_err(bad)?;
        let over = head.kind == Kind::Value && head.is_expired(moment.now_ms);
        if over && value.is_empty() && *source == Source::Repair {
            return Ok(());
        }
        let why = "a record without its value that has not expired";
        Err(Refusal::new(RefusalKind::BadChecksum, why))
    }

    /// Checks a record by itself.
    fn admit_record(
        &self,
        moment: Moment<'_>,
        bucket: u32,
        key: &[u8],
        record: &Record,
    ) -> Result<(), Refusal> {
        let most = moment.view.value_bytes_max as usize;
        if record.value.len() > most {
            let why = format!("the value has {} bytes, at most {most}", record.value.len());
            return Err(Refusal::new(RefusalKind::TooLarge, why));
        }
        let sound = record.verify(bucket, key);
        sound.or_else(|damage| self.forgive(damage)).map_err(bad)
    }
}

fn bad(damage: Damage) -> Refusal {
    Refusal::new(RefusalKind::BadChecksum, damage.to_string())
}

fn is_damage(answer: &Answer) -> bool {
    matches!(answer, Answer::Refused(refusal) if refusal.kind == RefusalKind::Damaged)
}

/// Reads an entry of the store. What cannot be read is damaged, not absent.
fn decode_stored(
    entry: Result<Option<Bytes>, StoreError>,
    bucket: u32,
    key: &[u8],
) -> Result<Option<Stored>, StoreError> {
    let Some(bytes) = entry? else { return Ok(None) };
    let stored = layout::decode(bytes).map_err(StoreError::Damaged)?;
    stored
        .head
        .verify_expiry(bucket, key)
        .map_err(|e| StoreError::Damaged(e.to_string()))?;
    Ok(Some(stored))
}

/// Answers one read from its entry, and from what is kept for others if that is asked for.
fn answer_read(
    store: &impl Store,
    (read, mode): (&Read, Mode),
    storage_key: Bytes,
    entry: Result<Option<Bytes>, StoreError>,
) -> Answer {
    let kept = match read.hinted {
        true => {
            let kept = hints::read(store, std::slice::from_ref(&storage_key)).pop();
            match kept.unwrap_or(Ok(None)) {
                Ok(kept) => kept,
                Err(error) => return Answer::Refused(refusal(error)),
            }
        }
        false => None,
    };
    if mode == Mode::Siblings {
        return siblings::answer_read(store, read, &storage_key, (entry, kept));
    }
    let kept = kept.and_then(|kept| match kept.record {
        KeptRecord::Lww(record) => Some(record),
        KeptRecord::Siblings { .. } => None,
    });
    let stored = match decode_stored(entry, read.bucket, &read.key) {
        Ok(stored) => stored,
        Err(error) => return Answer::Refused(refusal(error)),
    };
    let fresher = |kept: &Record| {
        let head = stored.as_ref().map(|stored| &stored.head);
        head.is_none_or(|head| kept.head.freshness(head) == Ordering::Greater)
    };
    let heads_only = |bytes: u64| {
        let most = read.value_bytes_max.map(u64::from);
        read.head_only || most.is_some_and(|most| bytes > most)
    };
    match (kept.filter(fresher), stored) {
        (Some(record), _) if heads_only(record.value.len() as u64) => {
            Answer::FoundHead(record.head)
        }
        (Some(record), _) => Answer::Found(record),
        (None, None) => Answer::Absent(Absent::default()),
        (None, Some(stored))
            if stored.value == StoredValue::Gone || heads_only(stored.value_bytes()) =>
        {
            Answer::FoundHead(stored.head)
        }
        (None, Some(stored)) => {
            let record = fetch_value(store, (read.bucket, &read.key), storage_key, stored);
            record.map_or_else(|error| Answer::Refused(refusal(error)), found)
        }
    }
}

/// What is said of an entry that was read: its value may have gone in the meantime.
fn found((head, value): (Head, Option<Bytes>)) -> Answer {
    match value {
        Some(value) => Answer::Found(Record { head, value }),
        None => Answer::FoundHead(head),
    }
}

/// What is said of a key that the store could not give.
fn refusal(error: StoreError) -> Refusal {
    match error {
        StoreError::Damaged(why) => Refusal::new(RefusalKind::Damaged, why),
        StoreError::Busy(why) => Refusal {
            retry_after_ms: Some(BUSY_RETRY_MS),
            ..Refusal::new(RefusalKind::Overloaded, why)
        },
        failed @ StoreError::Failed(_) => Refusal::new(RefusalKind::Damaged, failed.to_string()),
    }
}

/// When to come back to a store that had no room for the answer: some replies later.
const BUSY_RETRY_MS: u32 = 50;

/// Completes an entry by its value, if it has one. A value that lies apart may be replaced between
/// the two reads: then both are read again.
fn fetch_value(
    store: &impl Store,
    (bucket, key): (u32, &[u8]),
    storage_key: Bytes,
    mut stored: Stored,
) -> Result<(Head, Option<Bytes>), StoreError> {
    /// One replacement after each read would need a writer faster than this loop, each time.
    const ATTEMPTS: usize = 8;
    let keys = [storage_key];
    let mut why = String::new();
    for _ in 0..ATTEMPTS {
        let length = match stored.value {
            StoredValue::Inline(value) => return Ok((stored.head, Some(value))),
            StoredValue::Gone => return Ok((stored.head, None)),
            StoredValue::Apart(length) => length,
        };
        let value = store
            .read(Family::Values, &keys)
            .pop()
            .unwrap_or(Ok(None))?;
        why = match value.map(|v| layout::decode_value(v, &stored.head.version, length)) {
            Some(Ok(value)) => return Ok((stored.head, Some(value))),
            Some(Err(why)) => why,
            None => "the value of a stored record is missing".into(),
        };
        let entry = store.read(Family::Records, &keys).pop().unwrap_or(Ok(None));
        match decode_stored(entry, bucket, key)? {
            Some(again) => stored = again,
            None => break,
        }
    }
    Err(StoreError::Damaged(why))
}
