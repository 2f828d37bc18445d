//! What clients do in buckets that keep concurrent writes, and what they are told.

use super::causal::{Shown, Wrong};
use super::client::Machine;
use super::damage::held_siblings;
use super::sessions::{Floor, News};
use super::workload::{Action, Errand};
use super::world::World;
use annulet::core::client::Start;
use annulet::core::siblings::delete::{self, SiblingsDelete};
use annulet::core::siblings::put::{PutDone, SiblingsPut};
use annulet::core::siblings::read::{SiblingsDone, SiblingsRead};
use annulet::{Error, Outcome};
use annulet_protocol::hash::storage_key;
use annulet_protocol::level::Level;
use annulet_protocol::siblings::{Siblings, Write};
use annulet_protocol::view::View;
use annulet_replica::memory::MemoryStore;
use annulet_replica::rules::Mutation;
use bytes::Bytes;
use rand::Rng;
use rand::seq::IndexedRandom;
use std::collections::{BTreeMap, BTreeSet};

/// Contexts of a key that somebody remembers.
const REMEMBERED_MAX: usize = 6;

/// What an application remembers of a key: the context, and what it has seen by it.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    context: Bytes,
    seen: BTreeSet<u64>,
}

impl World {
    pub(crate) fn make_of_siblings(
        &mut self,
        (client, floor): (usize, &Floor),
        errand: &Errand,
        start: Start,
        op: u64,
    ) -> Result<Machine, Error> {
        let key = (errand.bucket.number, errand.key);
        let memory = self.recall(key);
        let now = self.client_now(client);
        let read = |start, head_only| {
            let read = SiblingsRead::new(start, head_only)?;
            Ok(match &floor.known {
                Some(known) => read.at_least(known.clone()),
                None => read,
            })
        };
        match errand.action {
            Action::Get => read(start, false).map(Machine::GetSiblings),
            Action::Exists => read(start, true).map(Machine::ExistsSiblings),
            Action::Put { bytes, ttl_ms } => {
                let text = format!("{op} ");
                let value: Bytes = text.bytes().cycle().take(bytes.max(text.len())).collect();
                let core = &self.clients[client].core;
                let now_ms = core.clock.corrected_ms(now.wall_ms);
                let ends_ms = ttl_ms
                    .or(errand.bucket.ttl_ms)
                    .map(|ttl_ms| now_ms + ttl_ms);
                let Memory { context, seen } = memory.unwrap_or_default();
                let write = Write::seal(key.0, &start.key, start.op, value, ends_ms);
                let machine = SiblingsPut::put(start, write.clone(), context)?;
                self.oracle.causal.put(op, &write, seen);
                Ok(Machine::PutSiblings(machine))
            }
            _ => match memory {
                Some(Memory { context, seen }) => {
                    let machine = delete::under(start, context)?;
                    self.oracle.causal.writes(op, seen);
                    self.coverage.hit("call", "delete_under");
                    Ok(Machine::DeleteUnder(machine))
                }
                None => {
                    SiblingsDelete::delete(start, floor.known.clone()).map(Machine::DeleteSiblings)
                }
            },
        }
    }

    /// A context that somebody remembers, mostly the last one.
    fn recall(&mut self, key: (u32, usize)) -> Option<Memory> {
        let kept = self.remembered.get(&key)?;
        match self.rng.random_range(0..10) {
            0..=5 => kept.last().cloned(),
            6..=7 => kept.choose(&mut self.rng).cloned(),
            _ => None,
        }
    }

    fn remember(&mut self, key: (u32, usize), memory: Memory) {
        let kept = self.remembered.entry(key).or_default();
        kept.push(memory);
        if kept.len() > REMEMBERED_MAX {
            kept.remove(0);
        }
    }

    pub(crate) fn siblings_read(
        &mut self,
        client: usize,
        op: u64,
        result: Result<SiblingsDone, Error>,
    ) {
        let Some((exists, errand)) = self.note_end(client, op) else {
            return;
        };
        let done = match result {
            Ok(done) => done,
            Err(error) => {
                self.coverage.hit("outcome", "read_failed");
                self.note_error(op, &error, errand.must_succeed);
                return self.oracle.causal.forget(op);
            }
        };
        self.oracle.counted(op, self.answered(client, op));
        self.follow(&errand);
        if exists {
            // What it says of values is what a get says; it shows none.
            self.coverage.hit("outcome", "siblings_exist");
            return self.oracle.causal.forget(op);
        }
        let name = match done.values.len() {
            0 => "no_sibling",
            1 => "one_sibling",
            _ => "concurrent_values",
        };
        self.coverage.hit("outcome", name);
        let record = done.record.iter();
        let causal = &self.oracle.causal;
        // Where nothing lives, values may be left out of what is there.
        let all: Vec<_> = record.map(|one| causal.value(&one.write)).collect();
        let key = (errand.bucket.number, errand.key);
        let shown = Shown {
            live: done.values.iter().map(|one| &one.write.value).collect(),
            at_ms: self.true_ms(),
            margin_ms: self.oracle.expiry_margin_ms(),
            all: all.clone(),
        };
        let owners = self.oracle.owners(key);
        let (floor, level) = self.floor_of(client, op);
        let standing = self.oracle.causal.numbers(&all);
        let causal = &self.oracle.causal;
        let over = |put| causal.may_be_gone(put, shown.at_ms + shown.margin_ms);
        let checked = floor.check_siblings(op, &standing, over);
        self.check(checked);
        let news = News::Read { floor, standing };
        self.session_saw_siblings(client, key, (&done.record, level), news);
        let checked = self.oracle.causal.read(op, &shown, owners);
        self.check(checked);
        let memory = Memory {
            context: done.context,
            seen: self.oracle.causal.seen_by(&all),
        };
        self.remember(key, memory);
    }

    pub(crate) fn siblings_put(&mut self, client: usize, op: u64, result: Result<PutDone, Error>) {
        let Some((_, errand)) = self.note_end(client, op) else {
            return;
        };
        let done = match result {
            Ok(done) => done,
            Err(error) => return self.siblings_failed(op, &error, &errand),
        };
        self.oracle.counted(op, self.answered(client, op));
        self.follow(&errand);
        self.coverage.hit("outcome", "minted");
        self.oracle.causal.written(op);
        let (_, level) = self.floor_of(client, op);
        let key = (errand.bucket.number, errand.key);
        let record = done.record.iter();
        let all: Vec<_> = record.map(|one| one.write.value.clone()).collect();
        let news = News::Written {
            // It may have been overwritten before its answer came.
            stands: Some(op).filter(|op| self.oracle.causal.numbers(&all).contains(op)),
            seen: self.oracle.causal.seen_before(op),
        };
        self.session_saw_siblings(client, key, (&done.record, level), news);
        match done.context {
            Some(context) => {
                let seen = self.oracle.causal.seen_after(op);
                self.coverage.hit("outcome", "context_from_put");
                self.remember(key, Memory { context, seen });
            }
            None => self.coverage.hit("outcome", "minted_beside_others"),
        }
    }

    pub(crate) fn siblings_deleted(
        &mut self,
        client: usize,
        op: u64,
        result: Result<Bytes, Error>,
    ) {
        let Some((_, errand)) = self.note_end(client, op) else {
            return;
        };
        match result {
            Ok(_) if !self.oracle.causal.is_sent(op) => {
                self.coverage.hit("outcome", "nothing_to_delete");
                self.oracle.causal.forget(op);
            }
            Ok(context) => {
                self.oracle.counted(op, self.answered(client, op));
                self.follow(&errand);
                self.coverage.hit("outcome", "siblings_deleted");
                self.oracle.causal.written(op);
                self.session_deleted((client, op), &errand, &context);
            }
            Err(error) => self.siblings_failed(op, &error, &errand),
        }
    }

    /// A session has deleted what this context has seen.
    fn session_deleted(&mut self, (client, op): (usize, u64), errand: &Errand, context: &Bytes) {
        let key = (errand.bucket.number, errand.key);
        let bytes = super::world::key_bytes(errand.key);
        if let Ok(seen) = Siblings::unseal(key.0, &bytes, context) {
            let (_, level) = self.floor_of(client, op);
            let news = News::Written {
                stands: None,
                seen: self.oracle.causal.seen_before(op),
            };
            self.session_saw_siblings(client, key, (&seen, level), news);
        }
    }

    /// What an operation's session had seen when it began, and the level that it is made at.
    pub(crate) fn floor_of(&self, client: usize, op: u64) -> (Floor, Level) {
        let running = self.clients[client].operations.get(&op);
        let floor = running.map(|running| running.floor.clone());
        let level = running.and_then(|running| running.level);
        (floor.unwrap_or_default(), level.unwrap_or(Level::One))
    }

    fn siblings_failed(&mut self, op: u64, error: &Error, errand: &Errand) {
        self.note_error(op, error, errand.must_succeed);
        match error.outcome() {
            Some(Outcome::NotApplied) => {
                self.coverage.hit("outcome", "not_applied");
                let checked = self.oracle.causal.not_applied(op);
                self.check(checked);
            }
            Some(Outcome::Unknown) => {
                self.coverage.hit("outcome", "unknown");
                self.oracle.causal.forget(op);
            }
            None => {
                let why = format!("write {op} says nothing");
                self.oracle.fail("not-applied", why);
            }
        }
    }

    pub(crate) fn check(&mut self, checked: Wrong) {
        if let Err((oracle, why)) = checked {
            self.oracle.fail(oracle, why);
        }
    }
}

impl Default for Memory {
    /// Nothing was seen.
    fn default() -> Self {
        Self {
            context: Bytes::new(),
            seen: BTreeSet::new(),
        }
    }
}

/// The concurrent values that a server has or is brought, before it merges them.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    keys: BTreeMap<Bytes, BTreeSet<Bytes>>,
}

impl Kept {
    pub(crate) fn before(store: &MemoryStore, view: &View, writes: &[(u64, Mutation)]) -> Self {
        let mut kept = Self::default();
        for (_, mutation) in writes {
            let Mutation::Merge(merge) = mutation else {
                continue;
            };
            let at = storage_key(
                view.hash(merge.bucket, &merge.key),
                merge.bucket,
                &merge.key,
            );
            // What is damaged, or refused as a whole, changes nothing.
            let Some(stored) = held_siblings(store, &at).filter(|_| merge.owners.is_empty()) else {
                continue;
            };
            kept.keys.insert(at, values(&stored.record));
        }
        kept
    }

    /// Which of them are not there any more.
    pub(crate) fn dropped(&self, store: &MemoryStore) -> BTreeSet<Bytes> {
        let gone = self.keys.iter().flat_map(|(at, before)| {
            let after = held_siblings(store, at).map(|stored| values(&stored.record));
            let after = after.unwrap_or_default();
            before.difference(&after).cloned().collect::<Vec<_>>()
        });
        gone.collect()
    }
}

fn values(record: &Siblings) -> BTreeSet<Bytes> {
    let values = record.iter().map(|one| one.write.value.clone());
    values.collect()
}
