//! New views: how they spread, and how partitions get other owners.
//!
//! A move here is the simplest that the rules of epochs allow: every server has the new view
//! before anything is copied, none answers under it before everything is, and each key is copied
//! from a majority of the owners that it had.

use super::damage::{any_damaged, held, held_siblings};
use super::server::State;
use super::strong::{stored, value_apart};
use super::world::{Event, World};
use annulet_protocol::bucket::{Bucket, Durability, Mode};
use annulet_protocol::hash::parse_storage_key;
use annulet_protocol::register::message::Learn;
use annulet_protocol::view::View;
use annulet_replica::layout::StoredValue;
use annulet_replica::layout::register::{Stored, StoredRegister};
use annulet_replica::memory::MemoryStore;
use annulet_replica::rules::{Mutation, Task};
use annulet_replica::store::{Batch, Change, Family, Store};
use annulet_ring::owners::Owners;
use annulet_ring::quorum::majority;
use bytes::Bytes;
use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How long servers take at most to learn of a view.
const SPREADS_US: [u64; 3] = [5_000, 50_000, 200_000];

impl World {
    /// Makes another view, if the last one has reached everybody, and spreads it.
    pub(crate) fn change_view(
        &mut self,
        name: &'static str,
        change: impl FnOnce(&mut View, &mut ChaCha8Rng) -> bool,
    ) {
        let newest = &self.operator.view;
        let settled = self.servers.iter().all(|at| at.view.epoch == newest.epoch);
        if !settled || self.operator.moving.is_some() {
            return;
        }
        let mut view = View::clone(newest);
        view.epoch += 1;
        if !change(&mut view, &mut self.operator.rng) {
            return;
        }
        view.validate().expect("a sound change of a sound view");
        let epoch = view.epoch;
        let view = Arc::new(view);
        self.know_keys(&view);
        self.operator.views.insert(epoch, Arc::clone(&view));
        let before = std::mem::replace(&mut self.operator.view, view);
        self.coverage.hit("view", name);
        let spread = SPREADS_US.choose(&mut self.operator.rng).copied();
        let spread_us = spread.expect("not empty");
        for server in 0..self.servers.len() {
            let delay_us = self.operator.rng.random_range(0..spread_us);
            self.schedule(delay_us, Event::ViewInstalls { server, epoch });
        }
        if name == "move" {
            self.operator.moving = Some(before);
            self.schedule(spread_us, Event::MoveCopies);
        }
    }

    pub(crate) fn view_installs(&mut self, server: usize, epoch: u64) {
        let moving = self.operator.moving.is_some();
        let view = self.operator.views.get(&epoch).map(Arc::clone);
        let newest = self.servers[server].view.epoch;
        if let Some(view) = view.filter(|view| view.epoch > newest) {
            self.install(server, &view);
            self.servers[server].holding = moving;
            let now_us = self.now_us;
            self.trace
                .line(now_us, || format!("s{server} has epoch {epoch}"));
        }
    }

    pub(crate) fn add_bucket(&mut self) {
        self.operator.buckets_made += 1;
        let number = self.operator.buckets_made;
        self.change_view("bucket_added", |view, rng| {
            view.tip.next_bucket = number + 1;
            view.buckets.push(Bucket {
                replicas: rng.random_range(1..=3),
                durability: match rng.random_bool(0.5) {
                    true => Durability::Group,
                    false => Durability::Async,
                },
                ..Bucket::new(number, &format!("extra {number}"))
            });
            true
        });
    }

    pub(crate) fn delete_bucket(&mut self) {
        let mut gone = None;
        self.change_view("bucket_deleted", |view, _| {
            if view.buckets.last().is_none_or(|bucket| bucket.number <= 10) {
                return false;
            }
            gone = view.buckets.pop();
            true
        });
        if let Some(bucket) = gone {
            self.oracle.bucket_deleted(bucket.number);
        }
    }

    /// Some partitions get another owner each. Every server learns of it before anything is
    /// copied, and answers nothing under the new epoch until everything is.
    pub(crate) fn begin_move(&mut self) {
        let room = self.servers.len() > self.scenario.list_length && self.scenario.regions == 1;
        let room = room && self.operator.view.table.joint.is_empty();
        let perished = self.servers.iter().any(|at| at.state == State::Perished);
        let stores = self.servers.iter().map(|at| &at.store);
        if !room || perished || stores.into_iter().any(any_damaged) {
            return;
        }
        self.change_view("move", |view, rng| {
            view.table.epoch = view.epoch;
            let members = view.members.len() as u32;
            let table = &mut view.table.regions[0];
            let width = usize::from(table.length) * 4;
            for list in table.owners.chunks_exact_mut(width) {
                let owned: BTreeSet<_> = list.chunks_exact(4).map(<[u8]>::to_vec).collect();
                let newcomer = rng.random_range(0..members).to_le_bytes();
                let slot = rng.random_range(0..width / 4) * 4;
                if rng.random_bool(0.5) && !owned.contains(&newcomer[..]) {
                    list[slot..slot + 4].copy_from_slice(&newcomer);
                }
            }
            true
        });
    }

    /// Copies what has to move, each key from a majority of its owners before.
    pub(crate) fn move_copies(&mut self) {
        let Some(before) = self.operator.moving.take() else {
            return;
        };
        let after = Arc::clone(&self.operator.view);
        let stores = self
            .servers
            .iter()
            .map(|at| at.store.entries(Family::Records));
        let keys: BTreeSet<_> = stores.flatten().map(|(key, _)| key).collect();
        for storage_key in keys {
            self.move_key(&before, &after, &storage_key);
        }
        for at in &mut self.servers {
            at.store.sync().expect("a store in memory does not fail");
            at.holding = false;
        }
        self.oracle.moved();
        let now_us = self.now_us;
        self.trace.line(now_us, || "the move is over".into());
    }

    fn move_key(&mut self, before: &View, after: &View, storage_key: &Bytes) {
        let Some((hash, number, _)) = parse_storage_key(storage_key) else {
            return;
        };
        let Some(bucket) = before.bucket(number) else {
            return;
        };
        let server_of = |node| self.server_of(node);
        let old: Vec<_> = Owners::of(before, bucket, hash)
            .all()
            .map(server_of)
            .collect();
        let new: Vec<_> = Owners::of(after, bucket, hash)
            .all()
            .map(server_of)
            .collect();
        let mut sources = old.clone();
        sources.shuffle(&mut self.operator.rng);
        sources.truncate(majority(old.len()));
        let stores: Vec<_> = sources.iter().map(|s| &self.servers[*s].store).collect();
        if bucket.mode == Mode::Strong {
            self.coverage.hit("strong", "copied");
        }
        let Some(mutation) = copied(&stores, bucket.mode, storage_key) else {
            return;
        };
        for server in &new {
            self.note(*server, std::slice::from_ref(&mutation));
        }
        for server in old.iter().filter(|server| !new.contains(server)) {
            let gone: Batch = [Family::Records, Family::Values]
                .map(|family| Change::Delete(family, storage_key.clone()))
                .into();
            let store = &self.servers[*server].store;
            store.write(gone).expect("a store in memory does not fail");
        }
    }

    /// Brings a move under way to its end at once.
    pub(crate) fn finish_move(&mut self) {
        let view = Arc::clone(&self.operator.view);
        for at in &mut self.servers {
            at.view = Arc::clone(&view);
        }
        self.move_copies();
    }
}

/// What brings a key to its new owners, out of what these stores hold; `None`: they hold none.
pub(crate) fn copied(stores: &[&MemoryStore], mode: Mode, storage_key: &Bytes) -> Option<Mutation> {
    let key = storage_key.clone();
    let stores = stores.iter();
    if mode == Mode::Siblings {
        let held = stores.filter_map(|store| held_siblings(store, storage_key));
        let all = held.map(|stored| stored.record);
        let record = all.reduce(|merged, record| merged.merge(&record))?;
        return Some(Mutation::Task(Task::RestoreSiblings { key, record }));
    }
    if mode == Mode::Strong {
        return learned(stores, storage_key).map(|learn| Mutation::Learn(Box::new(learn)));
    }
    let held = stores.filter_map(|store| held(store, storage_key));
    let copy = Some(held.max_by(|a, b| a.head.freshness(&b.head))?);
    Some(Mutation::Task(Task::Restore { key, copy }))
}

/// What these acceptors have accepted, whole. What they promised counts under the old epoch only.
pub(crate) fn learned<'a>(
    stores: impl Iterator<Item = &'a &'a MemoryStore>,
    storage_key: &Bytes,
) -> Option<Learn> {
    let (_, bucket, key) = parse_storage_key(storage_key)?;
    let held = stores.filter_map(|store| Some((*store, stored(store, storage_key).ok()??)));
    let of = |acceptor: &Stored| acceptor.accepted().map(|accepted| accepted.ballot);
    let (store, newest) = held.max_by_key(|(_, acceptor)| of(acceptor))?;
    let accepted = newest.accepted()?;
    let StoredRegister { register, value } = &accepted.value;
    Some(Learn {
        bucket,
        key: Bytes::copy_from_slice(key),
        ballot: accepted.ballot,
        head: register.head,
        log: register.log.clone(),
        value: match value {
            StoredValue::Inline(value) => value.clone(),
            _ => value_apart(store, storage_key, &newest).ok()??,
        },
    })
}
