//! Members that come and go, and servers that lose their disks and are replaced, with all that they
//! hold, while everything else goes on.
//!
//! What is to follow a view is planned by the planner itself, from what servers say of themselves;
//! the operator takes the place of the keepers only, who decide it.

use super::damage::held;
use super::scenario::Micros;
use super::server::{Server, State};
use super::world::{Event, World, member};
use annulet_protocol::epoch::{EpochRecord, ListChange, ListPlace, MemberChange};
use annulet_protocol::ids::{ChangeId, Incarnation, NodeId};
use annulet_protocol::members::{LeaveMember, MemberCommand, SetMember};
use annulet_protocol::record::Head;
use annulet_protocol::table::Joint;
use annulet_protocol::view::{Member, MemberState, View};
use annulet_replica::copy::handover;
use annulet_replica::hints::{self, Tally};
use annulet_replica::holdings::Holdings;
use annulet_replica::memory::MemoryStore;
use annulet_ring::chain::course::{self, Missing};
use annulet_ring::chain::{self, Objection};
use annulet_ring::owners::next_lists;
use annulet_ring::planner::Limits;
use bytes::Bytes;
use rand::Rng;
use rand::seq::IndexedRandom;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// Most servers of a run, with those that have left.
const SERVERS_MAX: usize = 9;
/// Time between two looks at what is to follow.
const TURN_US: Range<Micros> = 2_000..50_000;
/// Nobody waits for who is silent for so long.
const SILENT_US: Micros = 250_000;
/// How long it takes until somebody sees that a disk is lost.
const SEEN_US: Range<Micros> = 10_000..500_000;
/// Time between two looks whether everything is as it should be in the end, and how many there are.
const LOOK_US: Micros = 1_000_000;
const LOOKS_MAX: u32 = 30;
/// Most partitions that they are cut into here: each should have keys.
const PARTITIONS_MAX: u32 = 16;

/// What the operator knows of members.
#[derive(Debug, Default)]
pub(crate) struct Members {
    /// What people ask for.
    wishes: VecDeque<Wish>,
    /// Since when each of them does not answer.
    silent: BTreeMap<NodeId, Micros>,
    /// The member whose disk is lost, until it is one no more.
    lost: Option<NodeId>,
    /// How often partitions may still be cut in halves.
    cuts: u32,
    /// Most moves at a time.
    moves: usize,
    looks: u32,
    /// Those that were gone before they had handed over all that they had.
    forgiven: Vec<NodeId>,
}

#[derive(Clone, Debug)]
enum Wish {
    Join {
        server: usize,
        replaces: Option<NodeId>,
    },
    Leave(NodeId),
    Set(NodeId, u32),
}

impl World {
    pub(crate) fn begin_members(&mut self) {
        if self.scenario.elastic {
            let rng = &mut self.operator.rng;
            self.operator.members.cuts = *[0, 0, 1, 2].choose(rng).expect("not empty");
            self.operator.members.moves = *[1, 3, 16].choose(rng).expect("not empty");
            self.schedule(1_000, Event::MembersTurn);
        }
    }

    /// Members of the newest view that own something and are to go on with it.
    fn staying(&self) -> Vec<NodeId> {
        let view = &self.operator.view;
        let wishes = &self.operator.members.wishes;
        let leaves = |id: NodeId| {
            let leave = |wish: &Wish| matches!(wish, Wish::Leave(other) if *other == id);
            wishes.iter().any(leave)
        };
        let stays = |member: &&Member| {
            let there = self.servers[self.server_of(member.id)].state != State::Perished;
            member.state == MemberState::Active && there && !leaves(member.id)
        };
        view.members.iter().filter(stays).map(|m| m.id).collect()
    }

    /// Whether one of those that stay can be spared.
    fn has_one_too_many(&self) -> bool {
        self.staying().len() > self.scenario.list_length
    }

    /// Somebody starts another server.
    pub(crate) fn arrive(&mut self) {
        self.start_server(None);
    }

    /// A server with an empty disk comes, with the view of another one.
    fn start_server(&mut self, replaces: Option<NodeId>) {
        let up: Vec<_> = self.servers.iter().collect();
        let up: Vec<_> = up.into_iter().filter(|at| at.state == State::Up).collect();
        let view = up.choose(&mut self.operator.rng);
        let view = view.map(|at| Arc::clone(&at.view));
        let (Some(view), true) = (view, self.servers.len() < SERVERS_MAX) else {
            return;
        };
        let server = self.servers.len();
        let id = member(server, 1).id;
        let skew = self.scenario.server_skew_ms_max;
        let skew_ms = self.operator.rng.random_range(-skew..=skew);
        let named = (id, Incarnation(self.rng.random()));
        let born = Server::new(named, view, skew_ms, self.options.fault);
        self.servers.push(born);
        self.begin_upkeep(server);
        let epoch = self.operator.view.epoch;
        self.schedule(1_000, Event::ViewInstalls { server, epoch });
        let wish = Wish::Join { server, replaces };
        self.operator.members.wishes.push_back(wish);
        self.log(|| format!("s{server} arrives, in the place of {replaces:?}"));
    }

    /// A member is told to leave.
    pub(crate) fn depart(&mut self) {
        let staying = self.staying();
        if staying.len() > self.scenario.list_length {
            let one = staying.choose(&mut self.operator.rng);
            let wishes = &mut self.operator.members.wishes;
            wishes.extend(one.map(|id| Wish::Leave(*id)));
        }
    }

    /// A member is to own more, or less, of all.
    pub(crate) fn set_capacity(&mut self) {
        let staying = self.staying();
        let rng = &mut self.operator.rng;
        let capacity = rng.random_range(1..=3);
        let one = staying.choose(rng);
        let wishes = &mut self.operator.members.wishes;
        wishes.extend(one.map(|id| Wish::Set(*id, capacity)));
    }

    /// A server is gone for good, with its disk: one at a time, and while there is somebody to take
    /// its place.
    pub(crate) fn lose_disk(&mut self) {
        let view = Arc::clone(&self.operator.view);
        let lost = self.operator.members.lost;
        if self.quiet || lost.is_some_and(|id| view.member(id).is_some()) {
            return;
        }
        let there = self.servers.iter().filter(|at| at.state != State::Perished);
        let there: Vec<_> = there.map(|at| at.replica.node).collect();
        let copying: Vec<_> = there.iter().filter(|id| copies(&view, **id)).collect();
        let rng = &mut self.operator.rng;
        let id = match copying.choose(rng).filter(|_| rng.random_bool(0.4)) {
            Some(id) => Some(**id),
            None => there.choose(rng).copied(),
        };
        let Some(id) = id.filter(|id| self.has_one_too_many() || !self.staying().contains(id))
        else {
            return;
        };
        let server = self.server_of(id);
        if copies(&view, id) {
            self.coverage.hit("members", "disk_lost_while_copying");
        }
        self.log(|| format!("s{server} loses its disk"));
        self.coverage.hit("members", "disk_lost");
        self.crash(server);
        if self.options.fault.returns_empty() {
            self.servers[server].store = MemoryStore::default();
            return;
        }
        self.operator.members.lost = Some(id);
        self.servers[server].go_down(State::Perished);
        // Where writes are not durable before they are acknowledged, it counts as a crash.
        self.oracle.lost_unsynced();
        self.oracle.promises_end();
        self.carried.forgive(Some(server));
        let seen_us = self.operator.rng.random_range(SEEN_US);
        self.schedule(seen_us, Event::Replace { server });
    }

    /// Somebody sees that a disk is lost: another server comes, as a rule, and the lost one is to
    /// leave.
    pub(crate) fn replace(&mut self, server: usize) {
        let lost = self.servers[server].replica.node;
        if self.operator.rng.random_bool(0.8) {
            self.start_server(Some(lost));
        }
        self.operator.members.wishes.push_back(Wish::Leave(lost));
    }

    /// What is to follow the newest view follows.
    pub(crate) fn members_turn(&mut self) {
        let delay_us = self.operator.rng.random_range(TURN_US);
        self.schedule(delay_us, Event::MembersTurn);
        self.note_silent();
        if !self.is_spread() {
            return;
        }
        let view = Arc::clone(&self.operator.view);
        let change = ChangeId(u128::from(self.next_number()).to_be_bytes());
        let Some(record) = self.record_after(&view, change) else {
            return;
        };
        let next = chain::apply(&view, &record);
        let next = next.expect("a record that was made for this view");
        self.log(|| {
            format!(
                "epoch {}: {:?} {:?}",
                next.epoch, record.members, record.lists
            )
        });
        self.note_members(&view, &record);
        self.note_lists(&view, &record);
        self.spread_view("planned", next);
    }

    fn record_after(&mut self, view: &View, change: ChangeId) -> Option<EpochRecord> {
        let wishes = !self.operator.members.wishes.is_empty();
        if wishes && self.operator.rng.random_bool(0.5) {
            let wished = self.wished(view, change);
            if wished.is_some() {
                return wished;
            }
        }
        let is_ready = |member: &&Member| {
            let at = &self.servers[self.server_of(member.id)];
            at.state == State::Up && at.view.epoch >= view.epoch
        };
        let ready: Vec<_> = view.members.iter().filter(is_ready).map(|m| m.id).collect();
        chain::activate(view, change, &ready).or_else(|| self.planned(view, change))
    }

    /// What somebody has asked for, if it can be.
    fn wished(&mut self, view: &View, change: ChangeId) -> Option<EpochRecord> {
        let wish = self.operator.members.wishes.pop_front()?;
        let silent = self.silent();
        let made = match wish.clone() {
            Wish::Join { server, .. } if self.servers[server].state == State::Perished => {
                return None;
            }
            Wish::Join { server, replaces } => {
                let replaces = replaces.filter(|id| view.member(*id).is_some());
                let mut joins = member(server, 1);
                if let Some(before) = replaces.and_then(|id| view.member(id)) {
                    joins.address.clone_from(&before.address);
                    self.coverage.hit("members", "replaced");
                }
                chain::propose_join(view, change, &joins, replaces)
            }
            Wish::Leave(id) => {
                let leave = MemberCommand::Leave(LeaveMember { id });
                chain::propose_member(view, change, &leave, &silent)
            }
            Wish::Set(id, capacity) => {
                let set = MemberCommand::Set(SetMember {
                    id,
                    address: None,
                    capacity: Some(capacity),
                    zone: None,
                });
                chain::propose_member(view, change, &set, &silent)
            }
        };
        match made {
            Ok(record) => Some(record),
            // It is so already, or whom it is about is gone.
            Err(Objection::Conflict(_)) => None,
            // Nobody answers who could be a keeper in its place: it is asked for again.
            Err(Objection::Invalid(_)) => {
                self.coverage.hit("members", "asked_again");
                self.operator.members.wishes.push_back(wish);
                None
            }
        }
    }

    /// What follows by itself.
    fn planned(&mut self, view: &View, change: ChangeId) -> Option<EpochRecord> {
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
    fn note_members(&mut self, view: &View, record: &EpochRecord) {
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

    fn note_lists(&mut self, view: &View, record: &EpochRecord) {
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

    fn note_silent(&mut self) {
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

    fn silent(&self) -> Vec<NodeId> {
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

    /// Something is copied to a server.
    pub(crate) fn note_copied(&mut self, server: usize) {
        if server >= self.scenario.nodes && self.scenario.elastic {
            self.coverage.hit("members", "newcomer_copied");
        }
    }

    /// A server crashes.
    pub(crate) fn note_crash(&mut self) {
        if self.scenario.elastic && !self.operator.view.table.joint.is_empty() {
            self.coverage.hit("members", "crash_while_moving");
        }
    }

    /// A client begins with this view.
    pub(crate) fn note_old_client(&mut self, view: &View) {
        let newest = self.operator.view.members.iter();
        if newest
            .clone()
            .any(|member| view.member(member.id).is_none())
        {
            self.coverage.hit("members", "client_from_before_a_join");
        }
    }

    /// A client asks a server that is not there.
    pub(crate) fn note_unreachable(&mut self, server: usize) {
        let id = self.servers[server].replica.node;
        if self.operator.view.member(id).is_none() {
            self.coverage.hit("members", "asked_one_that_left");
        }
    }

    fn log(&mut self, text: impl FnOnce() -> String) {
        let now_us = self.now_us;
        self.trace.line(now_us, text);
    }
}

/// What a store keeps of a key for others, where the last write wins.
fn kept(store: &MemoryStore, key: &Bytes) -> Option<Head> {
    let kept = hints::read(store, std::slice::from_ref(key))
        .pop()?
        .ok()??;
    kept.record.lww().map(|record| record.head)
}

/// Whether a member is to own something that it does not yet.
fn copies(view: &View, id: NodeId) -> bool {
    let Some(place) = view.place(id) else {
        return false;
    };
    let comes = |joint: &Joint| {
        let table = view.table.regions.iter().find(|t| t.region == joint.region);
        let mut owners = table.into_iter().flat_map(|t| t.list(joint.partition));
        let to_own = joint.next.iter().any(|owner| *owner as usize == place);
        to_own && !owners.any(|owner| owner == place)
    };
    view.table.joint.iter().any(comes)
}
