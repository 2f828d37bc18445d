//! Lists that change hands by way of joint partitions, while servers and clients go on.
//!
//! What has to be copied is copied at one moment, once every server has the epoch that made the
//! partition joint: each key from a majority of the owners that it has, to all that it is to have.

use super::damage::any_damaged;
use super::server::State;
use super::strong::stored;
use super::views::copied;
use super::world::{Event, World};
use annulet_protocol::bucket::Mode;
use annulet_protocol::hash::parse_storage_key;
use annulet_protocol::register::message::Prepare;
use annulet_protocol::table::{Joint, Table};
use annulet_protocol::view::View;
use annulet_replica::memory::MemoryStore;
use annulet_replica::rules::Mutation;
use annulet_replica::store::{Batch, Change, Family, Store};
use annulet_ring::owners::{Lists, Owners};
use annulet_ring::quorum::majority;
use bytes::Bytes;
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How long a partition stays joint at least, and at most if nothing is in the way.
const JOINT_US: std::ops::Range<u64> = 5_000..100_000;

impl World {
    /// Some partitions become joint, are aimed at others, or stay as they are after all.
    pub(crate) fn change_lists(&mut self) {
        let room = self.servers.len() > self.scenario.list_length && self.scenario.regions == 1;
        if !room || self.is_impaired() {
            return;
        }
        let mut aborted = false;
        self.change_view("joint", |view, rng| {
            let mut changed = false;
            for partition in 0..view.table.partitions {
                let members = view.members.len() as u32;
                let is_joint = view.table.joint(partition).is_some();
                if rng.random_bool(0.4) {
                    continue;
                }
                if is_joint && rng.random_bool(0.4) {
                    view.table.settle(partition, false, view.epoch);
                    (changed, aborted) = (true, true);
                } else if let Some(joint) = next_list(&view.table, partition, members, rng) {
                    view.table.open(joint, view.epoch);
                    changed = true;
                }
            }
            changed
        });
        if aborted {
            self.coverage.hit("view", "joint_aborted");
        }
        self.close_later();
    }

    fn close_later(&mut self) {
        let delay_us = self.operator.rng.random_range(JOINT_US);
        self.schedule(delay_us, Event::ListsClose);
    }

    /// Whether something is in the way of a copy.
    fn is_impaired(&self) -> bool {
        let mut servers = self.servers.iter();
        servers.any(|at| at.state == State::Perished || any_damaged(&at.store))
    }

    /// Some of the joint partitions get their next lists, if nothing is in the way.
    pub(crate) fn close_lists(&mut self) {
        let view = Arc::clone(&self.operator.view);
        if self.quiet || view.table.joint.is_empty() {
            return;
        }
        let fenced = self.servers.iter().all(|at| at.view.epoch == view.epoch);
        if fenced && !self.is_impaired() {
            let all = view.table.joint.iter().map(|joint| joint.partition);
            let rng = &mut self.operator.rng;
            let closing: Vec<_> = all.filter(|_| rng.random_bool(0.7)).collect();
            self.copy_lists(&view, &closing);
            self.change_view("closed", |view, _| {
                for partition in &closing {
                    view.table.settle(*partition, true, view.epoch);
                }
                !closing.is_empty()
            });
        }
        self.close_later();
    }

    /// Brings what is joint to its end at once.
    pub(crate) fn finish_lists(&mut self) {
        let view = Arc::clone(&self.operator.view);
        for server in 0..self.servers.len() {
            self.install(server, &view);
        }
        if view.table.joint.is_empty() {
            return;
        }
        let takes = !self.is_impaired();
        let all: Vec<_> = view.table.joint.iter().map(|j| j.partition).collect();
        if takes {
            self.copy_lists(&view, &all);
        }
        let mut after = View::clone(&view);
        after.epoch += 1;
        for partition in all {
            after.table.settle(partition, takes, after.epoch);
        }
        let after = Arc::new(after);
        self.operator.views.insert(after.epoch, Arc::clone(&after));
        self.operator.view = Arc::clone(&after);
        for server in 0..self.servers.len() {
            self.install(server, &after);
        }
    }

    /// Gives a server a view. What it is to own and did not it begins with empty: it may hold of an
    /// earlier time what was deleted since.
    pub(crate) fn install(&mut self, server: usize, view: &Arc<View>) {
        let at = &mut self.servers[server];
        let before = std::mem::replace(&mut at.view, Arc::clone(view));
        let node = at.replica.node;
        let gains = |key: &Bytes| {
            let (hash, number, _) = parse_storage_key(key)?;
            let now = Owners::of(view, view.bucket(number)?, hash);
            let was = before.bucket(number).map(|b| Owners::of(&before, b, hash));
            let owned = was.is_some_and(|was| was.contains(node));
            Some(now.next.is_some() && now.contains(node) && !owned)
        };
        let entries = at.store.entries(Family::Records);
        let gained = entries.into_iter().map(|(key, _)| key);
        let gained = gained.filter(|key| gains(key) == Some(true));
        let gone: Batch = gained
            .flat_map(|key| {
                [Family::Records, Family::Values].map(|f| Change::Delete(f, key.clone()))
            })
            .collect();
        if !gone.is_empty() {
            let store = &self.servers[server].store;
            store.write(gone).expect("a store in memory does not fail");
            store.sync().expect("a store in memory does not fail");
            self.coverage.hit("view", "arc_emptied");
        }
    }

    /// Copies all keys of these partitions to those who are to own them.
    fn copy_lists(&mut self, view: &View, partitions: &[u32]) {
        let stores = self.servers.iter().map(|at| &at.store);
        let entries = stores.flat_map(|store| store.entries(Family::Records));
        let keys: BTreeSet<_> = entries.map(|(key, _)| key).collect();
        for storage_key in keys {
            let Some((hash, number, _)) = parse_storage_key(&storage_key) else {
                continue;
            };
            let moves = partitions.contains(&hash.partition(view.table.partitions));
            if let Some(bucket) = view.bucket(number).filter(|_| moves) {
                let owners = Owners::of(view, bucket, hash);
                self.copy_key(&owners, bucket.mode, &storage_key);
            }
        }
        for at in &mut self.servers {
            at.store.sync().expect("a store in memory does not fail");
        }
        if !partitions.is_empty() {
            self.oracle.moved();
        }
    }

    fn copy_key(&mut self, owners: &Owners, mode: Mode, storage_key: &Bytes) {
        let nodes = |lists: &Lists| -> Vec<usize> {
            let nodes = lists.iter().flat_map(|list| &list.nodes);
            nodes.map(|node| self.server_of(*node)).collect()
        };
        let mut sources = nodes(&owners.regions);
        let targets = owners.next.as_ref().map(nodes).unwrap_or_default();
        sources.shuffle(&mut self.operator.rng);
        sources.truncate(majority(sources.len()));
        let stores: Vec<_> = sources.iter().map(|s| &self.servers[*s].store).collect();
        let promise = match mode {
            Mode::Strong => promised(&stores, storage_key).map(Mutation::Prepare),
            Mode::Lww | Mode::Siblings => None,
        };
        let copy = copied(&stores, mode, storage_key);
        let mutations: Vec<_> = copy.into_iter().chain(promise).collect();
        for target in targets {
            self.note(target, &mutations);
        }
    }
}

/// The highest of what these acceptors promised.
fn promised(stores: &[&MemoryStore], storage_key: &Bytes) -> Option<Prepare> {
    let (_, bucket, key) = parse_storage_key(storage_key)?;
    let held = stores
        .iter()
        .filter_map(|store| stored(store, storage_key).ok()?);
    let ballot = held.map(|acceptor| acceptor.promised()).max()?;
    Some(Prepare {
        bucket,
        key: Bytes::copy_from_slice(key),
        ballot,
        value_bytes_max: 0,
    })
}

/// Another list for a partition: with one other owner, or in another order.
fn next_list(table: &Table, partition: u32, members: u32, rng: &mut ChaCha8Rng) -> Option<Joint> {
    let list: Vec<_> = table.regions[0].list(partition).collect();
    let mut next: Vec<_> = list.iter().map(|index| *index as u32).collect();
    let slot = rng.random_range(0..next.len());
    let newcomer = rng.random_range(0..members);
    match next.contains(&newcomer) {
        true => next.swap(slot, rng.random_range(0..list.len())),
        false => next[slot] = newcomer,
    }
    let changed = next.iter().zip(&list).any(|(a, b)| *a as usize != *b);
    changed.then(|| Joint {
        partition,
        region: table.regions[0].region.clone(),
        next,
    })
}
