//! A value that is too long to be sent by everyone: it comes from one owner that accepted it, under
//! the very ballot that the others showed.

use super::{Phase, StrongDone, StrongOperation};
use crate::core::Effects;
use crate::core::attempts::{Owner, OwnerState};
use crate::core::client::{Core, Now};
use crate::error::{Error, ErrorKind};
use annulet_protocol::ids::NodeId;
use annulet_protocol::register::message::Promise;
use annulet_ring::owners::Nodes;

impl StrongOperation {
    /// Asks those who showed that they accepted it, one at a time.
    pub(super) fn begin_fetch(&mut self, now: Now, effects: &mut Effects<StrongDone>) {
        self.phase = Phase::Fetch;
        let holders = self.votes.holders();
        let ranked = self.order.iter().filter(|node| holders.contains(node));
        let ranked: Nodes = ranked.copied().collect();
        self.owners.restart(ranked);
        self.fetch_next(now, effects);
    }

    fn fetch_next(&mut self, now: Now, effects: &mut Effects<StrongDone>) {
        let asked = self.owners.iter().any(|owner| {
            matches!(
                owner.state,
                OwnerState::InFlight { slow: false, .. } | OwnerState::Done
            )
        });
        let idle = |owner: &&Owner| owner.state == OwnerState::Idle;
        let next = self.owners.iter().find(idle).map(|owner| owner.node);
        if let (false, Some(next)) = (asked, next) {
            self.send(next, now, effects);
        }
    }

    /// Takes what an owner sent: the value, if it still shows the same ballot.
    pub(super) fn take_value(&mut self, node: NodeId, promise: Promise) {
        let (bucket, key) = (self.start.bucket().number, &self.start.key[..]);
        let wanted = self.votes.accepted();
        self.highest = self.highest.max(promise.promised);
        let found = promise.accepted.filter(|shown| shown.ballot == wanted);
        let value = found.and_then(|shown| {
            let head = self.votes.highest().map(|highest| highest.head)?;
            let value = shown.value?;
            let sound = head.verify_value(bucket, key, &value).is_ok();
            (sound && shown.head == head).then_some(value)
        });
        match value {
            Some(value) => {
                self.owners.set(node, OwnerState::Done);
                self.votes.note_value(value);
            }
            None => {
                // It has gone on to another round.
                self.outbid = true;
                let why = format!("server {node} has the value no more that it showed");
                self.owners
                    .lose(node, Error::new(ErrorKind::Unavailable, why));
            }
        }
    }

    /// Goes on with the value, or to the next who may have it.
    pub(super) fn fetch_further(
        &mut self,
        core: &mut Core,
        now: Now,
        effects: &mut Effects<StrongDone>,
    ) {
        match (self.votes.value().cloned(), &mut self.proposal) {
            (Some(value), Some(proposal)) => {
                proposal.complete(value);
                self.cancel_looks(effects);
                self.begin_accept(core, now, effects);
            }
            (Some(_), None) => self.show(core, now, effects),
            (None, _) => {
                self.fetch_next(now, effects);
                self.give_up_if_stuck(core, now, effects);
            }
        }
    }
}
