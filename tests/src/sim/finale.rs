//! The end of a run: everything heals, everything is read, and then the owners must agree.

use super::damage::{damaged, held, held_siblings};
use super::oracle::KeyId;
use super::scenario::Micros;
use super::server::{QUEUE_MAX, State};
use super::workload::{Action, Errand};
use super::world::{Event, World, key_bytes};
use annulet_protocol::bucket::{Bucket, Durability, Mode};
use annulet_protocol::hash::storage_key;
use annulet_protocol::level::Level;
use annulet_protocol::record::Head;
use annulet_replica::restore::Copy;
use annulet_ring::owners::Owners;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Longer than any timeout and any time to live.
const QUIET_US: Micros = 4_000_000;
/// How long a client waits for an answer then, at least.
const QUIET_PATIENCE_MS: u64 = 300;
/// How long everything may take to be read and repaired.
const READ_US: Micros = 2_500_000;
pub(crate) const READ_TIMEOUT_MS: u64 = 2_000;

impl World {
    /// From now on nothing goes wrong.
    pub(crate) fn become_quiet(&mut self) {
        self.quiet = true;
        let now_us = self.now_us;
        self.trace.line(now_us, || "quiet".into());
        self.network.calm();
        self.scenario.from_the_future = 0.0;
        // Who takes every answer for lost that took a sync gets nothing done.
        self.scenario.patience_ms = self.scenario.patience_ms.max(QUIET_PATIENCE_MS);
        if !self.scenario.decides_views {
            self.install_everywhere();
        }
        for at in &mut self.servers {
            at.queue_max = QUEUE_MAX;
            at.disk_full = false;
            at.slow_disk_until_us = 0;
            at.stalled_until_us = at.stalled_until_us.min(now_us + 1_000);
        }
        for server in 0..self.servers.len() {
            self.set_clock_right(server);
            let at = &self.servers[server];
            match at.state {
                State::Down => self.restart(server, at.life),
                State::Stopping => self.stopped(server, at.life),
                State::Up | State::Perished => {}
            }
        }
        self.greet_all();
        self.schedule(QUIET_US, Event::ReadEverything);
    }

    /// Every server hears of every other one, as it does all the time.
    fn greet_all(&mut self) {
        let nodes: Vec<_> = self.servers.iter().map(|at| at.replica.node).collect();
        for at in &mut self.servers {
            for node in &nodes {
                at.upkeep.courier.handle_sign_of_life(*node);
            }
        }
    }

    /// A new client reads every key from every owner that can answer.
    pub(crate) fn read_everything(&mut self) {
        if !self.members_are_done() {
            return;
        }
        self.greet_all();
        let view = Arc::clone(&self.operator.view);
        let client = self.clients.len();
        let born = self.new_client(client, 0, &view);
        self.clients.push(born);
        self.check_spread();
        for bucket in &view.buckets {
            for key in 0..self.scenario.keys {
                if bucket.mode == Mode::Strong {
                    self.call_at_the_end(client, bucket, key);
                    continue;
                }
                let healthy = self.healthy_owners(bucket.number, key).len();
                // An owner whose copy is damaged shows its head all the same, so that a read may
                // ask it in place of another, and they need not agree.
                if healthy < self.owners_there(bucket.number, key) {
                    self.coverage.hit("upkeep", "damaged_to_the_end");
                    self.damaged_to_the_end.insert((bucket.number, key));
                }
                if healthy == 0 {
                    continue;
                }
                let read = healthy as u8;
                let owners: u8 = self.oracle.owners((bucket.number, key)).iter().sum();
                let errand = Errand {
                    bucket: bucket.clone(),
                    key,
                    level: Some(Level::Explicit { read, write: 1 }),
                    timeout_ms: READ_TIMEOUT_MS,
                    action: Action::Get,
                    // What is found must be held by all but `read - 1` owners before it is shown.
                    must_succeed: owners < 2 * read,
                };
                self.call(client, errand);
            }
        }
        self.schedule(READ_US, Event::Compare);
    }

    /// Servers that own a key and can say what they hold.
    pub(crate) fn healthy_owners(&self, bucket: u32, key: usize) -> Vec<usize> {
        let view = &self.operator.view;
        let key = key_bytes(key);
        let hash = view.hash(bucket, &key);
        let bucket = view.bucket(bucket).expect("a bucket of this view");
        let storage_key = storage_key(hash, bucket.number, &key);
        let owners = Owners::of(view, bucket, hash);
        let servers = owners.all().map(|node| self.server_of(node));
        servers
            .filter(|server| {
                let at = &self.servers[*server];
                at.state != State::Perished
                    && !damaged(&at.store, bucket.number, &key, &storage_key)
            })
            .collect()
    }

    /// How many servers own a key that have not perished.
    fn owners_there(&self, bucket: u32, key: usize) -> usize {
        let view = &self.operator.view;
        let hash = view.hash(bucket, &key_bytes(key));
        let bucket = view.bucket(bucket).expect("a bucket of this view");
        let owners = Owners::of(view, bucket, hash);
        let servers = owners.all().map(|node| self.server_of(node));
        servers
            .filter(|server| self.servers[*server].state != State::Perished)
            .count()
    }

    /// What an owner has minted in its present life has come to the others by now, and without any
    /// client, unless one of them is damaged or gone.
    fn check_spread(&mut self) {
        let view = Arc::clone(&self.operator.view);
        // Where writes are acknowledged before they are durable, a crash takes away what was told.
        let lasting = |b: &&Bucket| b.durability == Durability::Group;
        let siblings = view.buckets.iter().filter(|b| b.mode == Mode::Siblings);
        let siblings = siblings.filter(lasting);
        for (bucket, key) in siblings.flat_map(|b| (0..self.scenario.keys).map(move |k| (b, k))) {
            let bytes = key_bytes(key);
            let hash = view.hash(bucket.number, &bytes);
            let storage_key = storage_key(hash, bucket.number, &bytes);
            let healthy = self.healthy_owners(bucket.number, key);
            if healthy.len() < self.owners_there(bucket.number, key) {
                continue;
            }
            let record = |server: &usize| {
                let stored = held_siblings(&self.servers[*server].store, &storage_key);
                stored.map(|stored| stored.record).unwrap_or_default()
            };
            let all: Vec<_> = healthy.iter().map(record).collect();
            for (server, record) in healthy.iter().zip(&all) {
                let own = &self.servers[*server].replica;
                let minted = record.iter().flat_map(|one| &one.minted).map(|m| m.dot);
                let mut own = minted.filter(|dot| {
                    dot.actor.node == own.node && dot.actor.incarnation == own.incarnation
                });
                if let Some(dot) = own.find(|dot| !all.iter().all(|other| other.knows(dot))) {
                    let why = format!("{dot:?} of key {key} of `{}`: {all:?}", bucket.name);
                    return self.oracle.fail("spread", why);
                }
            }
        }
    }

    /// Owners that can answer hold the same concurrent values of a key.
    fn compare_siblings(&mut self, key: KeyId, healthy: &[usize], storage_key: &Bytes) {
        let record = |server: &usize| {
            let stored = held_siblings(&self.servers[*server].store, storage_key);
            stored.map(|stored| stored.record).unwrap_or_default()
        };
        // What has expired goes here sooner and there later.
        let until_ms = self.true_ms();
        let all: Vec<_> = healthy.iter().map(record).collect();
        let rest: Vec<_> = all
            .iter()
            .map(|one| one.without_expired(until_ms))
            .collect();
        if rest.windows(2).any(|pair| !pair[0].agrees(&pair[1])) {
            let why = format!("key {key:?} at {healthy:?}: {all:?}");
            self.oracle.fail("convergence", why);
        }
    }

    /// Owners that can answer hold the same bytes of every key.
    pub(crate) fn compare(&mut self) {
        let view = Arc::clone(&self.operator.view);
        // The owners of a strong key need not all hold the same.
        for bucket in view.buckets.iter().filter(|b| b.mode != Mode::Strong) {
            for key in 0..self.scenario.keys {
                let bytes = key_bytes(key);
                let hash = view.hash(bucket.number, &bytes);
                let storage_key = storage_key(hash, bucket.number, &bytes);
                let healthy = self.healthy_owners(bucket.number, key);
                if self.damaged_to_the_end.contains(&(bucket.number, key)) {
                    continue;
                }
                if bucket.mode == Mode::Siblings {
                    let key = (bucket.number, key);
                    self.compare_siblings(key, &healthy, &storage_key);
                    continue;
                }
                let held = |server: &usize| held(&self.servers[*server].store, &storage_key);
                let all: Vec<_> = healthy.iter().map(held).collect();
                let head = |copy: &Option<Copy>| copy.as_ref().map(|copy| copy.head);
                // A value that expired long ago is gone here sooner and there later.
                let values = all.iter().flatten().filter_map(|copy| copy.value.as_ref());
                let values: BTreeSet<_> = values.collect();
                let newest = all
                    .iter()
                    .filter_map(|copy| copy.as_ref())
                    .map(|copy| copy.head);
                let newest = newest.max_by(Head::freshness);
                if !all.is_empty() {
                    self.oracle.held((bucket.number, key), newest.as_ref());
                    self.check_owed((bucket.number, key), newest.as_ref());
                }
                let heads = all.windows(2).any(|pair| head(&pair[0]) != head(&pair[1]));
                if heads || values.len() > 1 {
                    let why = format!("key {key} of `{}` at {healthy:?}: {all:?}", bucket.name);
                    self.oracle.fail("convergence", why);
                }
            }
        }
        self.check_registers();
        self.check_hints();
        self.check_lists();
        self.check_chain();
        if let Some((op, _)) = self.clients.iter().flat_map(|c| &c.operations).next() {
            let why = format!("operation {op} goes on for ever");
            self.oracle.fail("deadline", why);
        }
    }
}
