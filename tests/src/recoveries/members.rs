//! Members that come and go while their chain goes on: what servers propose besides buckets, and
//! servers that were not there at first.

use super::{Server, State, World, member};
use annulet_protocol::bucket::Bucket;
use annulet_protocol::epoch::{BucketCommand, EpochRecord};
use annulet_protocol::ids::{ChangeId, NodeId};
use annulet_protocol::members::{LeaveMember, MemberCommand};
use annulet_protocol::view::{Member, MemberState, View};
use annulet_replica::memory::MemoryStore;
use annulet_ring::chain::course::{self, Missing};
use annulet_ring::chain::{self, Relation};
use annulet_ring::planner::Limits;
use rand::Rng;

/// Most servers of a run, with those that have left.
const SERVERS_MAX: usize = 9;
const LIMITS: Limits = Limits {
    total: 4,
    arriving: 2,
    giving: 2,
};

impl World {
    /// The record that a server would have follow its view. None: nothing can follow that it knows
    /// of.
    pub(super) fn wanted(&mut self, at: usize, view: &View, number: u64) -> Option<EpochRecord> {
        let change = ChangeId(u128::from(number).to_be_bytes());
        let node = self.servers[at].node;
        if view.member(node).is_none() {
            let joins = Member {
                state: MemberState::Joining,
                ..member(node.0)
            };
            return chain::propose_join(view, change, &joins, None).ok();
        }
        match self.rng.random_range(0..6) {
            1 if self.members && view.members.len() > 2 => self.leaves(view, change),
            2.. if self.members => self.follows(view, change),
            _ => {
                let command = BucketCommand::Create(Bucket::new(0, &format!("b{number}")));
                chain::propose(view, change, &command).ok()
            }
        }
    }

    /// Somebody is to leave.
    fn leaves(&mut self, view: &View, change: ChangeId) -> Option<EpochRecord> {
        let at = self.rng.random_range(0..view.members.len());
        let leave = LeaveMember {
            id: view.members[at].id,
        };
        let absent = self.absent(view);
        let command = MemberCommand::Leave(leave);
        chain::propose_member(view, change, &command, &absent).ok()
    }

    /// What follows by itself. Copies are over at once here: nobody holds any data.
    fn follows(&mut self, view: &View, change: ChangeId) -> Option<EpochRecord> {
        let holds = |member: &&Member| {
            let server = &self.servers[Self::place(member.id)];
            let known = matches!(
                server.relation(view.point()),
                Relation::Same | Relation::Behind
            );
            server.state == State::Up && known
        };
        let ready: Vec<_> = view.members.iter().filter(holds).map(|m| m.id).collect();
        if let Some(record) = chain::activate(view, change, &ready) {
            return Some(record);
        }
        let done: Vec<_> = view.table.joint.iter().map(|j| j.partition).collect();
        let handed = course::emptied(view);
        let absent = self.absent(view);
        let missing = Missing {
            lost: &absent,
            silent: &absent,
            absent: &absent,
        };
        course::follow(view, change, (&done, &handed), missing, LIMITS).unwrap_or(None)
    }

    /// Those that were not heard of: who does not answer, and now and then somebody who does.
    fn absent(&mut self, view: &View) -> Vec<NodeId> {
        let mut absent: Vec<_> = view.members.iter().map(|member| member.id).collect();
        let rng = &mut self.rng;
        absent.retain(|node| {
            self.servers[Self::place(*node)].state != State::Up || rng.random_ratio(1, 8)
        });
        absent
    }

    /// A server that was not there comes, with the view of another one.
    pub(super) fn comes(&mut self, by: usize) {
        let full = self.servers.len() >= SERVERS_MAX;
        if full || !self.members || self.servers[by].state != State::Up {
            return;
        }
        let view = View::clone(self.servers[by].chain.view());
        let node = NodeId(self.servers.len() as u64 + 1);
        let store = MemoryStore::default();
        let chain = self.open(&store, node, Some(view));
        self.seen.came += 1;
        self.servers.push(Server {
            node,
            store,
            chain,
            state: State::Up,
            was_member: false,
            keepers: self.servers[by].chain.view().tip.keepers.clone(),
            acted: Vec::new(),
        });
    }

    /// A server acts under a view: if it is not in it any more, it is done.
    pub(super) fn may_leave(&mut self, at: usize, view: &View) {
        let server = &mut self.servers[at];
        let is_member = view.member(server.node).is_some();
        if server.was_member && !is_member {
            server.state = State::Left;
            self.seen.left += 1;
            self.drop_courses(at);
        } else {
            server.was_member |= is_member;
        }
    }

    /// Where nothing is lost, and everybody is there again, something can be decided.
    pub(super) fn goes_on(&mut self) {
        if self.recovers || self.broken.is_some() {
            return;
        }
        let settled = self.seen.settled;
        for _ in 0..20 {
            for at in 0..self.servers.len() {
                self.propose(at);
                while !self.messages.is_empty() && self.broken.is_none() {
                    self.deliver(0, false);
                }
                if self.seen.settled > settled || self.broken.is_some() {
                    return;
                }
                for from in 0..self.servers.len() {
                    self.hear(at, from);
                }
            }
        }
        let keepers = |server: &Server| server.chain.newest_view().tip.keepers.clone();
        let states = self.servers.iter().map(|server| {
            let newest = server.chain.newest().number;
            format!(
                "{} {:?} {newest} {:?}",
                server.node,
                server.state,
                keepers(server)
            )
        });
        let states: Vec<_> = states.collect();
        self.fail(format!("stuck: nothing can be decided: {states:?}"));
    }
}
