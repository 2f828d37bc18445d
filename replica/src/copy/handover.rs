//! What was lost goes only when those who own it now miss nothing of it.
//!
//! A write that fewer than a majority took may be here alone. So each record is compared once more
//! with what a majority of its owners has, under the lists as they are, and brought to those who
//! lack it, as any repair is. Who answers under these lists has them durably.

use super::brought::Brought;
use super::is_lost;
use super::page::Between;
use crate::hints::Tally;
use crate::holdings::{Holding, Holdings};
use crate::layout::register::StoredRegister;
use crate::rules::Task;
use crate::store::{Family, Slice, Store, StoreError};
use annulet_protocol::copy::CopiedEntry;
use annulet_protocol::hash::parse_storage_key;
use annulet_protocol::ids::NodeId;
use annulet_protocol::level::Level;
use annulet_protocol::message::{Answer, Operation, Read, Source, Write};
use annulet_protocol::record::Record;
use annulet_protocol::register::message::{Learn, ReadRegister};
use annulet_protocol::siblings::message::{Compare, Merge};
use annulet_protocol::view::View;
use annulet_ring::owners::{Nodes, Owners};
use annulet_ring::quorum::{Quorum, Side};
use bytes::Bytes;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_64;

/// Most records that are compared at a time.
const ROUND_MAX: usize = 128;
/// Most bytes of records that are compared at a time, unless one alone has more.
const ROUND_BYTES: usize = 1 << 20;
/// How long to wait after a record could not be handed over.
const PAUSE_MS: u64 = 2_000;

/// Where the look at what was lost stands.
#[derive(Clone, Debug, Default)]
pub struct Handover {
    /// What is looked at under the lists of which epoch, and the storage key up to which that was
    /// done.
    at: Option<(Holding, u64, Bytes)>,
    /// What was looked at last.
    last: Option<Holding>,
    /// A record of it could not be handed over.
    stuck: bool,
    /// A round is on the way.
    busy: bool,
    due_ms: u64,
    /// Broken on purpose: what was lost goes at once.
    #[cfg(feature = "faults")]
    pub drops_early: bool,
}

/// Records that are compared, and brought to those that lack them.
#[derive(Clone, Debug, Default)]
pub struct Round {
    entries: Vec<Entry>,
    /// Bytes of all entries, with the values that lie apart.
    bytes: usize,
    /// What each owner is asked, by the places of the entries.
    asked: BTreeMap<NodeId, Vec<usize>>,
    /// Whether the records themselves are sent.
    sends: bool,
    /// What is to be done besides.
    tasks: Vec<Task>,
    /// Storage keys of damaged records, which stay here.
    damaged: Vec<Bytes>,
}

#[derive(Clone, Debug)]
struct Entry {
    key: Bytes,
    bucket: u32,
    name: Bytes,
    digest: u64,
    brought: Brought,
    quorum: Quorum,
    owners: Nodes,
    has: Nodes,
    lacks: Nodes,
}

/// Whether nothing is left that a server owned once and may be the only one to have, nor anything
/// that it keeps for others: a write may have been acknowledged because it does. Only then a server
/// that owns nothing can be gone.
///
/// # Errors
/// What the store says.
pub fn is_over(store: &impl Store) -> Result<bool, StoreError> {
    let owned = Holdings::load(store)?.lost;
    Ok(owned.is_empty() && Tally::of(store)?.waiting.is_empty())
}

impl Handover {
    fn drops_early(&self) -> bool {
        #[cfg(feature = "faults")]
        return self.drops_early;
        #[cfg(not(feature = "faults"))]
        false
    }

    /// The next records to compare; `None`: none now. [`Round::end`] and [`Handover::handle_end`]
    /// must follow. What is to be emptied anyway is not handed over.
    ///
    /// # Errors
    /// What the store says.
    pub fn round(
        &mut self,
        store: &impl Store,
        view: &View,
        own: NodeId,
        noted: &Holdings,
        now_ms: u64,
    ) -> Result<Option<Round>, StoreError> {
        if self.busy || now_ms < self.due_ms && self.due_ms <= now_ms + PAUSE_MS {
            return Ok(None);
        }
        let stays = |lost: &Holding| {
            let unready = noted.unready.iter();
            !unready
                .clone()
                .any(|gained| gained.meets(lost.from, lost.until))
        };
        let lost = noted.lost.iter().filter(|lost| stays(lost));
        // Under other lists all of it is looked at anew: it may have been gained meanwhile.
        let goes_on = |(at, since, _): &(Holding, u64, Bytes)| {
            at.lists_epoch(view) == *since && lost.clone().any(|lost| lost == at)
        };
        let (holding, since, after) = match self.at.take().filter(goes_on) {
            Some(at) => at,
            None => {
                // One that nobody takes now must not hold the others up.
                let after_last = |lost: &&Holding| self.last.is_none_or(|last| **lost > last);
                let next = lost.clone().filter(after_last).min();
                let Some(next) = next.or_else(|| lost.min()) else {
                    return Ok(None);
                };
                self.stuck = false;
                (*next, next.lists_epoch(view), Bytes::new())
            }
        };
        self.last = Some(holding);
        let span = holding.span(ROUND_MAX, ROUND_BYTES);
        let span = match after.is_empty() {
            true => span,
            false => span.after(&after),
        };
        let Slice { entries, mut cut } = store.range(Family::Records, &span)?;
        let mut round = Round::default();
        let mut reached = after;
        for (key, _) in entries {
            if !self.look(store, (view, own), holding, &key, &mut round)? {
                cut = true;
                break;
            }
            reached = key;
        }
        match cut {
            true => self.at = Some((holding, since, reached)),
            // Rounds that are on the way may still fail: then the note stays, and all is looked at
            // once more.
            false => round.tasks.push(Task::Handed {
                holding,
                note: holding.lost_note(),
                since,
            }),
        }
        self.busy = true;
        Ok(Some(round))
    }

    /// Adds what lies under a key to a round, if it is to be handed over. Says whether there was
    /// room for it.
    fn look(
        &self,
        store: &impl Store,
        (view, own): (&View, NodeId),
        holding: Holding,
        key: &Bytes,
        round: &mut Round,
    ) -> Result<bool, StoreError> {
        let Some((hash, number, name)) = parse_storage_key(key) else {
            return Ok(true);
        };
        let name = key.slice(key.len() - name.len()..);
        let Some(bucket) = view.bucket(number) else {
            // The sweep removes what is of no bucket.
            return Ok(true);
        };
        let owners = Owners::of(view, bucket, hash);
        if !holding.covers(bucket, hash) || owners.contains(own) {
            return Ok(true);
        }
        let key = key.clone();
        if self.drops_early() {
            round.tasks.push(Task::Vacate { key, digest: None });
            return Ok(true);
        }
        let between = Between {
            view,
            source: own,
            target: own,
        };
        let entry = match between.entry(store, &key) {
            Ok(Some(entry)) => entry,
            Ok(None) => return Ok(true),
            Err(StoreError::Damaged(_)) => {
                round.damaged.push(key);
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        let Ok(brought) = Brought::read(bucket.mode, &entry) else {
            round.damaged.push(key);
            return Ok(true);
        };
        if matches!(brought, Brought::Register(..)) && is_lost(view, own) {
            // The others went on without what this server had promised and accepted: a ballot of
            // its own may be above theirs, and its value older.
            let digest = Some(xxh3_64(&entry.entry));
            round.tasks.push(Task::Vacate { key, digest });
            return Ok(true);
        }
        if !round.has_room(&entry) {
            return Ok(false);
        }
        let CopiedEntry { entry, .. } = entry;
        let quorum = Quorum::of(Level::EachQuorum, Side::Write, &owners, None);
        round.add(Entry {
            key,
            bucket: number,
            name,
            digest: xxh3_64(&entry),
            brought,
            quorum: quorum.unwrap_or_else(|_| Quorum::none()),
            owners: owners.all().collect(),
            has: Nodes::new(),
            lacks: Nodes::new(),
        });
        Ok(true)
    }

    /// A round is over. `tasks`: what it came to; `stuck`: something of it could not be handed
    /// over. Gives what is to be done.
    pub fn handle_end(&mut self, ended: Ended, now_ms: u64) -> Vec<Task> {
        let Ended { mut tasks, stuck } = ended;
        self.busy = false;
        self.stuck |= stuck;
        if stuck {
            self.due_ms = now_ms + PAUSE_MS;
        }
        if self.stuck {
            // All of the arc is looked at again before it is forgotten.
            tasks.retain(|task| !matches!(task, Task::Handed { .. }));
        }
        tasks
    }
}

/// What a round came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ended {
    tasks: Vec<Task>,
    stuck: bool,
}

impl Round {
    /// Counts another entry, unless the round would be too long with it: all of it may go to one
    /// owner in one request. One that is too long by itself goes alone.
    fn has_room(&mut self, entry: &CopiedEntry) -> bool {
        let bytes = self.bytes + entry.bytes();
        let fits = self.entries.is_empty() || bytes <= ROUND_BYTES;
        if fits {
            self.bytes = bytes;
        }
        fits
    }

    fn add(&mut self, entry: Entry) {
        let place = self.entries.len();
        for owner in &entry.owners {
            self.asked.entry(*owner).or_default().push(place);
        }
        self.entries.push(entry);
    }

    /// Storage keys of records that are damaged: they cannot be handed over and tell nobody
    /// anything, so they stay where they are, and hold nothing else up.
    pub fn damaged(&self) -> &[Bytes] {
        &self.damaged
    }

    /// Whether nobody is asked anything.
    pub fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// What to ask each owner.
    pub fn questions(&self) -> impl Iterator<Item = (NodeId, Vec<Operation>)> {
        self.asked.iter().map(|(owner, places)| {
            let entries = places.iter().map(|place| &self.entries[*place]);
            let operations = entries.map(|entry| match self.sends {
                true => entry.brings(),
                false => entry.compares(),
            });
            (*owner, operations.collect())
        })
    }

    /// Takes the answers of an owner, in order.
    pub fn take(&mut self, owner: NodeId, answers: &[Answer]) {
        let places = self.asked.get(&owner).cloned().unwrap_or_default();
        for (place, answer) in places.into_iter().zip(answers) {
            let entry = &mut self.entries[place];
            let list = match entry.is_held(answer) {
                Some(true) => &mut entry.has,
                Some(false) if !self.sends => &mut entry.lacks,
                Some(false) | None => continue,
            };
            if !list.contains(&owner) {
                list.push(owner);
            }
        }
    }

    /// No more answers come: the next round if something is to be brought, else what it came to.
    ///
    /// # Errors
    /// What it came to.
    pub fn end(mut self) -> Result<Self, Ended> {
        let lacking = self.entries.iter().any(|entry| !entry.lacks.is_empty());
        if !self.sends && lacking {
            self.sends = true;
            self.asked = BTreeMap::new();
            for (place, entry) in self.entries.iter_mut().enumerate() {
                for owner in std::mem::take(&mut entry.lacks) {
                    self.asked.entry(owner).or_default().push(place);
                }
            }
            return Ok(self);
        }
        let mut tasks = Vec::new();
        let mut stuck = false;
        for entry in self.entries {
            let Entry { key, digest, .. } = entry;
            match entry.quorum.is_met(|node| entry.has.contains(&node)) {
                true => tasks.push(Task::Vacate {
                    key,
                    digest: Some(digest),
                }),
                false => stuck = true,
            }
        }
        tasks.extend(self.tasks);
        Err(Ended { tasks, stuck })
    }
}

impl Entry {
    /// Whether an answer says that the owner has all of it. `None`: it says nothing.
    fn is_held(&self, answer: &Answer) -> Option<bool> {
        let at_least = |ordering: Ordering| Some(ordering != Ordering::Less);
        match (answer, &self.brought) {
            (Answer::Written(_), _) => Some(true),
            (Answer::Lacking(_), _) => Some(false),
            (Answer::Absent(_), Brought::Record(..)) => Some(false),
            (Answer::FoundHead(head), Brought::Record(own, _)) => at_least(head.freshness(own)),
            (Answer::Found(record), Brought::Record(own, _)) => {
                at_least(record.head.freshness(own))
            }
            (Answer::Promise(promise), Brought::Register(_, accepted)) => {
                let theirs = promise.accepted.as_ref().map(|shown| shown.ballot);
                let own = accepted.as_ref().map(|(ballot, ..)| *ballot);
                at_least(theirs.cmp(&own))
            }
            _ => None,
        }
    }

    fn compares(&self) -> Operation {
        let (bucket, key) = (self.bucket, self.name.clone());
        match &self.brought {
            Brought::Record(..) => Operation::Read(Read {
                head_only: true,
                ..Read::new(bucket, key)
            }),
            Brought::Siblings(record) => Operation::Compare(Compare {
                bucket,
                key,
                fingerprint: record.fingerprint(),
            }),
            Brought::Register(..) => Operation::ReadRegister(ReadRegister {
                bucket,
                key,
                value_bytes_max: Some(0),
                with_log: false,
            }),
        }
    }

    fn brings(&self) -> Operation {
        let (bucket, key) = (self.bucket, self.name.clone());
        let source = Source::Repair;
        match &self.brought {
            Brought::Record(head, value) => Operation::Write(Write {
                bucket,
                key,
                source,
                record: Record {
                    head: *head,
                    value: value.clone().unwrap_or_default(),
                },
                gone: value.is_none(),
            }),
            Brought::Siblings(record) => Operation::Merge(Merge {
                bucket,
                record: record.seal(bucket, &key),
                key,
                source,
                owners: Vec::new(),
            }),
            Brought::Register(_, Some((ballot, register, value))) => {
                let StoredRegister { register, .. } = register;
                Operation::Learn(Box::new(Learn {
                    bucket,
                    key,
                    ballot: *ballot,
                    head: register.head,
                    log: register.log.clone(),
                    value: value.clone(),
                }))
            }
            // Whoever owns it now need not keep a promise of what nobody accepted.
            Brought::Register(_, None) => self.compares(),
        }
    }
}
