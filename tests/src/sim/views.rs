//! New views that the operator makes, and how they spread.

use super::server::State;
use super::strong::{stored, value_apart};
use super::world::{Event, World};
use annulet_protocol::bucket::{Bucket, Durability};
use annulet_protocol::hash::parse_storage_key;
use annulet_protocol::register::message::Learn;
use annulet_protocol::view::View;
use annulet_replica::layout::StoredValue;
use annulet_replica::layout::register::{Stored, StoredRegister};
use annulet_replica::memory::MemoryStore;
use bytes::Bytes;
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
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
        if !self.is_spread() {
            return;
        }
        let mut view = View::clone(&self.operator.view);
        view.epoch += 1;
        if !change(&mut view, &mut self.operator.rng) {
            return;
        }
        view.validate().expect("a sound change of a sound view");
        self.spread_view(name, view);
    }

    /// Whether the last view has reached everybody.
    pub(crate) fn is_spread(&self) -> bool {
        let epoch = self.operator.view.epoch;
        self.servers.iter().all(|at| at.view.epoch == epoch)
    }

    /// Another view goes to everybody.
    pub(crate) fn spread_view(&mut self, name: &'static str, view: View) {
        let epoch = view.epoch;
        let view = Arc::new(view);
        self.know_keys(&view);
        self.operator.views.insert(epoch, Arc::clone(&view));
        self.operator.view = view;
        self.coverage.hit("view", name);
        let spread = SPREADS_US.choose(&mut self.operator.rng).copied();
        let spread_us = spread.expect("not empty");
        for server in 0..self.servers.len() {
            let delay_us = self.operator.rng.random_range(0..spread_us);
            self.schedule(delay_us, Event::ViewInstalls { server, epoch });
        }
    }

    pub(crate) fn view_installs(&mut self, server: usize, epoch: u64) {
        // One after the other: each may give it something, or take it away.
        while self.servers[server].view.epoch < epoch {
            let next = self.servers[server].view.epoch + 1;
            let view = self.operator.views.get(&next).map(Arc::clone);
            let view = view.expect("every epoch is known");
            if self.scenario.elastic && self.servers[server].state == State::Perished {
                // It is gone, with all that it had.
                self.servers[server].view = view;
                continue;
            }
            self.install(server, &view);
            let now_us = self.now_us;
            self.trace
                .line(now_us, || format!("s{server} has epoch {next}"));
            self.may_leave(server);
        }
        if self.servers[server].state == State::Up {
            self.copy(server);
        }
    }

    pub(crate) fn add_bucket(&mut self) {
        self.operator.buckets_made += 1;
        let number = self.operator.buckets_made;
        let least = if self.scenario.loses_disks { 3 } else { 1 };
        self.change_view("bucket_added", |view, rng| {
            view.tip.next_bucket = number + 1;
            view.buckets.push(Bucket {
                replicas: rng.random_range(1..=3).max(least),
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
