//! Members that come and go, and servers that lose their disks and are replaced, with all that they
//! hold, while everything else goes on.
//!
//! The operator takes the place of the keepers, who decide what is asked for and what is to follow.

use super::scenario::Micros;
use super::server::{Server, State};
use super::world::{Event, World, member};
use annulet_protocol::epoch::EpochRecord;
use annulet_protocol::ids::{ChangeId, Incarnation, NodeId};
use annulet_protocol::members::{LeaveMember, MemberCommand, SetMember};
use annulet_protocol::table::Joint;
use annulet_protocol::view::{Member, MemberState, View};
use annulet_replica::memory::MemoryStore;
use annulet_ring::chain::{self, Objection};
use rand::Rng;
use rand::seq::IndexedRandom;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// Most servers of a run, with those that have left.
const SERVERS_MAX: usize = 9;
/// Time between two looks at what is to follow.
const TURN_US: Range<Micros> = 2_000..50_000;
/// How long it takes until somebody sees that a disk is lost.
const SEEN_US: Range<Micros> = 10_000..500_000;
/// What the operator knows of members.
#[derive(Debug, Default)]
pub(crate) struct Members {
    /// What people ask for.
    pub(crate) wishes: VecDeque<Wish>,
    /// Since when each of them does not answer.
    pub(crate) silent: BTreeMap<NodeId, Micros>,
    /// The member whose disk is lost, until it is one no more.
    lost: Option<NodeId>,
    /// How often partitions may still be cut in halves.
    pub(crate) cuts: u32,
    /// Most moves at a time.
    pub(crate) moves: usize,
    pub(crate) looks: u32,
    /// Those that were gone before they had handed over all that they had.
    pub(crate) forgiven: Vec<NodeId>,
}

/// What somebody asks for.
#[derive(Clone, Debug)]
pub(crate) enum Wish {
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

    pub(crate) fn log(&mut self, text: impl FnOnce() -> String) {
        let now_us = self.now_us;
        self.trace.line(now_us, text);
    }
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
