//! What follows by itself where members come and go: it is planned by the planner itself, from what
//! servers say of themselves, and in the end nothing is left to follow.

use super::damage::held;
use super::scenario::Micros;
use super::server::State;
use super::world::{Event, World};
use annulet_protocol::epoch::{EpochRecord, ListChange, ListPlace, MemberChange};
use annulet_protocol::ids::{ChangeId, NodeId};
use annulet_protocol::record::Head;
use annulet_protocol::table::Joint;
use annulet_protocol::view::{Member, MemberState, View};
use annulet_replica::copy::handover;
use annulet_replica::hints::{self, Tally};
use annulet_replica::holdings::Holdings;
use annulet_replica::memory::MemoryStore;
use annulet_ring::chain::course::{self, Missing};
use annulet_ring::owners::next_lists;
use annulet_ring::planner::Limits;
use bytes::Bytes;
use rand::Rng;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Nobody waits for who is silent for so long.
const SILENT_US: Micros = 250_000;
/// Time between two looks whether everything is as it should be in the end, and how many there are.
const LOOK_US: Micros = 1_000_000;
const LOOKS_MAX: u32 = 30;
/// Most partitions that they are cut into here: each should have keys.
const PARTITIONS_MAX: u32 = 16;

impl World {
    /// What follows by itself.
    pub(crate) fn planned(&mut self, view: &View, change: ChangeId) -> Option<EpochRecord> {
        let (done, handed) = self.done(view);
        let (lost, silent) = (self.lost(), self.silent());
        let missing = Missing {
            lost: &lost,
            silent: &silent,
            absent: &silent,
        };
        let moves = self.operator.members.moves;
        let limits = Limits {
            total: 2 * moves,
            arriving: moves,
            giving: moves,
        };
        let over = (&done[..], &handed[..]);
        let cuts = self.operator.members.cuts > 0 && view.table.partitions < PARTITIONS_MAX;
        let record = match cuts && !self.quiet && self.operator.rng.random_bool(0.1) {
            true => course::follow(view, change, over, missing, limits),
            false => course::follow_uncut(view, change, over, missing, limits),
        };
        let record = record.expect("there is a table for three members and more")?;
        if record.doubles {
            self.operator.members.cuts -= 1;
            self.coverage.hit("members", "cut");
        }
        Some(record)
    }

    /// Joint partitions whose copies are over, and members that have handed over all that they had.
    fn done(&self, view: &View) -> (Vec<u32>, Vec<NodeId>) {
        let is_over = |joint: &&Joint| {
            let place = ListPlace {
                partition: joint.partition,
                since: view.table.lists_epoch(joint.partition),
            };
            let mut owners = next_lists(view, joint).into_iter().flatten();
            match self.options.fault.closes_early() {
                true => owners.any(|node| self.has_copied(node, place)),
                false => owners.all(|node| self.has_copied(node, place)),
            }
        };
        let over = view.table.joint.iter().filter(is_over);
        let mut handed = course::emptied(view);
        handed.retain(|id| {
            let up = self.servers[self.server_of(*id)].state == State::Up;
            up && (self.options.fault.forgets_leavers() || self.has_nothing(*id))
        });
        (over.map(|joint| joint.partition).collect(), handed)
    }

    /// Whether a server has handed over all that it owned, and all that it kept for others.
    fn has_nothing(&self, id: NodeId) -> bool {
        let store = &self.servers[self.server_of(id)].store;
        handover::is_over(store).expect("notes are never damaged here")
    }

    /// Counts what becomes of members. What one that nobody waits for still has is not handed over.
    pub(crate) fn note_members(&mut self, view: &View, record: &EpochRecord) {
        for change in &record.members {
            let name = match change {
                MemberChange::Joined(_) => "joined",
                MemberChange::Set(set) => match (view.member(set.id).map(|m| m.state), set.state) {
                    (Some(MemberState::Joining), MemberState::Active) => "activated",
                    (Some(MemberState::Active), MemberState::Leaving) => "told_to_leave",
                    _ => "set",
                },
                MemberChange::Left(gone) if self.lost().contains(&gone.id) => {
                    let server = self.server_of(gone.id);
                    self.carried.forgive(Some(server));
                    self.operator.members.forgiven.push(gone.id);
                    match self.servers[server].state {
                        State::Perished => "lost_one_gone",
                        _ => "silent_one_gone",
                    }
                }
                MemberChange::Left(_) => "left",
                MemberChange::Unknown => "unknown",
            };
            self.coverage.hit("members", name);
        }
    }

    pub(crate) fn note_lists(&mut self, view: &View, record: &EpochRecord) {
        let mut closing = Vec::new();
        for change in &record.lists {
            let name = match change {
                ListChange::Opened(_) => "opened",
                ListChange::Closed(place) => {
                    closing.push(place.partition);
                    "closed"
                }
                ListChange::Aborted(place) => {
                    let joint = view.table.joint(place.partition);
                    let next = joint.into_iter().flat_map(|joint| next_lists(view, joint));
                    let gone =
                        |id: NodeId| self.servers[self.server_of(id)].state == State::Perished;
                    match next.flatten().any(gone) {
                        true => "aborted_for_a_lost_one",
                        false => "aborted",
                    }
                }
            };
            self.coverage.hit("members", name);
        }
        self.check_promises(view, &closing);
        if record.lists.len() > closing.len() || !closing.is_empty() {
            self.oracle.moved();
        }
    }

    pub(crate) fn note_silent(&mut self) {
        let (now_us, view) = (self.now_us, Arc::clone(&self.operator.view));
        for id in view.members.iter().map(|member| member.id) {
            let up = self.servers[self.server_of(id)].state == State::Up;
            let silent = &mut self.operator.members.silent;
            match up {
                true => drop(silent.remove(&id)),
                false => drop(silent.entry(id).or_insert(now_us)),
            }
        }
    }

    pub(crate) fn silent(&self) -> Vec<NodeId> {
        self.operator.members.silent.keys().copied().collect()
    }

    /// Nobody waits for these any more.
    fn lost(&self) -> Vec<NodeId> {
        let silent = self.operator.members.silent.iter();
        let long = silent.filter(|(_, since)| self.now_us - **since >= SILENT_US);
        long.map(|(id, _)| *id).collect()
    }

    /// A server that finds itself a member no more ends.
    pub(crate) fn may_leave(&mut self, server: usize) {
        let at = &self.servers[server];
        let id = at.replica.node;
        let was = at.view_before.member(id).is_some();
        if !self.scenario.elastic || !was || at.view.member(id).is_some() {
            return;
        }
        let returns = at.waiting();
        self.servers[server].go_down(State::Perished);
        if self.operator.members.forgiven.contains(&id) {
            // What it kept for others goes with it.
            self.oracle.promises_end();
        } else {
            self.check_kept(server);
        }
        self.log(|| format!("s{server} has left"));
        for from in returns {
            self.connection_breaks(from);
        }
    }

    /// A server has left: what was acknowledged because it kept it is elsewhere by now.
    fn check_kept(&mut self, server: usize) {
        let store = &self.servers[server].store;
        let tally = Tally::of(store).expect("notes are never damaged here");
        let waiting = tally.waiting.keys().map(|owner| {
            let waiting = hints::waiting_for(store, *owner, b"", usize::MAX);
            waiting.expect("notes are never damaged here")
        });
        let keys: BTreeSet<_> = waiting.flatten().map(|waiting| waiting.key).collect();
        let there = self.servers.iter().filter(|at| at.state != State::Perished);
        let there: Vec<_> = there.collect();
        let only = keys.iter().find_map(|key| {
            let head = kept(store, key)?;
            let known = |other: Head| other.freshness(&head) != Ordering::Less;
            let elsewhere = there.iter().any(|at| {
                let held = held(&at.store, key).map(|copy| copy.head);
                held.is_some_and(known) || kept(&at.store, key).is_some_and(known)
            });
            (!elsewhere && self.oracle.is_kept(head.version)).then_some(head)
        });
        if !keys.is_empty() {
            self.coverage.hit("members", "left_with_hints");
        }
        if let Some(head) = only {
            let why = format!("s{server} has left with the only copy of {head:?}");
            self.oracle.fail("handed-over", why);
        }
    }

    /// In the end all that has to follow has followed. Says whether it has; else it is looked again
    /// later.
    pub(crate) fn members_are_done(&mut self) -> bool {
        if !self.scenario.elastic {
            return true;
        }
        let view = Arc::clone(&self.operator.view);
        let (done, emptied) = self.done(&view);
        let limits = Limits {
            total: 1,
            arriving: 1,
            giving: 1,
        };
        let (over, change) = ((&done[..], &emptied[..]), ChangeId::default());
        let more = course::follow_uncut(&view, change, over, Missing::default(), limits);
        let more = more.expect("there is a table for three members and more");
        let active = |member: &Member| member.state == MemberState::Active;
        let members = view.members.iter().all(active) && !self.is_impaired();
        let there = self.servers.iter().filter(|at| at.state != State::Perished);
        let mut noted = there.map(|at| Holdings::load(&at.store));
        // What was lost last may still have to be handed over.
        let handed = noted.all(|noted| noted == Ok(Holdings::default()));
        let wishes = self.operator.members.wishes.is_empty();
        let still = view.table.joint.is_empty() && members && wishes && handed;
        if still && more.is_none() && self.is_spread() {
            return true;
        }
        let looks = &mut self.operator.members.looks;
        *looks += 1;
        if *looks > LOOKS_MAX {
            let why = format!("{more:?} is still to follow: {view:?}");
            self.oracle.fail("lists", why);
        }
        self.schedule(LOOK_US, Event::ReadEverything);
        false
    }
}

/// What a store keeps of a key for others, where the last write wins.
fn kept(store: &MemoryStore, key: &Bytes) -> Option<Head> {
    let kept = hints::read(store, std::slice::from_ref(key))
        .pop()?
        .ok()??;
    kept.record.lww().map(|record| record.head)
}
