//! Lists that change hands by way of joint partitions, while servers and clients go on.
//!
//! The operator says which, and closes what those who are to own it say they have copied.

use super::damage::any_damaged;
use super::server::{Server, State};
use super::world::{Event, World};
use annulet_protocol::epoch::ListPlace;
use annulet_protocol::ids::NodeId;
use annulet_protocol::table::Joint;
use annulet_protocol::view::{MemberState, View};
use annulet_replica::holdings::Holdings;
use annulet_replica::store::Store;
use annulet_ring::owners::next_lists;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

/// How long a partition stays joint at least before it is looked whether it can be closed, and
/// between two such looks.
const JOINT_US: std::ops::Range<u64> = 5_000..100_000;

impl World {
    /// Some partitions become joint, are aimed at others, or stay as they are after all.
    pub(crate) fn change_lists(&mut self) {
        let room = self.servers.len() > self.scenario.list_length && self.scenario.regions == 1;
        if !room {
            return;
        }
        let mut aborted = false;
        self.change_view("joint", |view, rng| {
            let mut changed = false;
            for partition in 0..view.table.partitions {
                let is_joint = view.table.joint(partition).is_some();
                if rng.random_bool(if is_joint { 0.8 } else { 0.4 }) {
                    continue;
                }
                if is_joint && rng.random_bool(0.4) {
                    view.table.settle(partition, false, view.epoch);
                    (changed, aborted) = (true, true);
                } else if let Some(joint) = next_list(view, partition, rng) {
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

    /// Joint partitions get their next lists, if all that are to own them have copied them.
    pub(crate) fn close_lists(&mut self) {
        let view = Arc::clone(&self.operator.view);
        if view.table.joint.is_empty() {
            return;
        }
        let (quiet, early) = (self.quiet, self.options.fault.closes_early());
        let over = |joint: &&Joint| {
            let place = ListPlace {
                partition: joint.partition,
                since: view.table.lists_epoch(joint.partition),
            };
            let owners = next_lists(&view, joint).into_iter().flatten();
            let mut done = owners.map(|node| self.has_copied(node, place));
            if early {
                done.any(|done| done)
            } else {
                done.all(|done| done)
            }
        };
        let over = view.table.joint.iter().filter(over);
        let over: Vec<_> = over.map(|joint| joint.partition).collect();
        let rng = &mut self.operator.rng;
        let closing: Vec<_> = over
            .into_iter()
            .filter(|_| quiet || rng.random_bool(0.7))
            .collect();
        // Who is gone for good, or damaged, would keep partitions joint to the end.
        let aborts = quiet && self.is_impaired() && !self.scenario.elastic;
        let mut closed = false;
        self.change_view("closed", |view, _| {
            let all: Vec<_> = view.table.joint.iter().map(|j| j.partition).collect();
            let settled = if aborts { &all } else { &closing };
            for partition in settled {
                view.table.settle(*partition, !aborts, view.epoch);
            }
            closed = !settled.is_empty();
            closed
        });
        if closed && !aborts {
            self.check_promises(&view, &closing);
        }
        if closed {
            self.oracle.moved();
        }
        self.close_later();
    }

    pub(crate) fn is_impaired(&self) -> bool {
        let view = &self.operator.view;
        // Of those that are members still, where they come and go.
        let counts =
            |at: &&Server| !self.scenario.elastic || view.member(at.replica.node).is_some();
        let mut servers = self.servers.iter().filter(counts);
        servers.any(|at| at.state == State::Perished || any_damaged(&at.store))
    }

    /// Whether a server says that it has copied a partition; what it says is durable.
    pub(crate) fn has_copied(&self, node: NodeId, place: ListPlace) -> bool {
        let at = &self.servers[self.server_of(node)];
        let epoch = at.view.table.lists_epoch(place.partition);
        at.state == State::Up
            && epoch == place.since
            && at.upkeep.copier.done(&at.view, node).contains(&place)
    }

    /// Every server gets the newest view.
    pub(crate) fn install_everywhere(&mut self) {
        let epoch = self.operator.view.epoch;
        for server in 0..self.servers.len() {
            self.view_installs(server, epoch);
        }
    }

    /// Gives a server the view that follows its own, durably.
    pub(crate) fn install(&mut self, server: usize, view: &Arc<View>) {
        let keeps = self.options.fault.keeps_arcs();
        let at = &self.servers[server];
        let mut changed = Holdings::between(&at.view, view, at.replica.node);
        self.make_ghosts(server, view, &changed.unready);
        let at = &mut self.servers[server];
        if keeps {
            changed.unready.clear();
        }
        at.view_before = std::mem::replace(&mut at.view, Arc::clone(view));
        at.store
            .write(changed.notes())
            .expect("a store in memory does not fail");
        at.store.sync().expect("a store in memory does not fail");
        let gained = changed.unready.len();
        at.unready.extend(changed.unready);
        self.note_promises(server, view);
        self.note_owed(server, view, &changed.lost);
        if gained > 0 {
            self.coverage.hit("view", "arc_gained");
        }
        if !changed.lost.is_empty() {
            self.coverage.hit("view", "arc_lost");
            // What too few others have is not read until it has been handed over.
            self.oracle.moved();
        }
    }

    /// In the end no partition is joint, and nobody has what others own, if all are there.
    pub(crate) fn check_lists(&mut self) {
        if self.is_impaired() || self.scenario.decides_views {
            return;
        }
        if let Some(joint) = self.operator.view.table.joint.first() {
            let why = format!("{joint:?} is not closed");
            return self.oracle.fail("lists", why);
        }
        let gone = |at: &Server| self.scenario.elastic && at.state == State::Perished;
        let servers = self.servers.iter().enumerate();
        for (server, at) in servers.filter(|(_, at)| !gone(at)) {
            let noted = Holdings::load(&at.store).expect("notes are never damaged here");
            if noted != Holdings::default() {
                let why = format!("s{server} has not done with {noted:?}");
                return self.oracle.fail("lists", why);
            }
        }
        self.check_ghosts();
    }
}

/// Another list for a partition: with one other owner, or in another order.
fn next_list(view: &View, partition: u32, rng: &mut ChaCha8Rng) -> Option<Joint> {
    let View { table, members, .. } = view;
    let list: Vec<_> = table.regions[0].list(partition).collect();
    let mut next: Vec<_> = list.iter().map(|index| *index as u32).collect();
    let slot = rng.random_range(0..next.len());
    let newcomer = rng.random_range(0..members.len() as u32);
    if members[newcomer as usize].state != MemberState::Active {
        return None;
    }
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
