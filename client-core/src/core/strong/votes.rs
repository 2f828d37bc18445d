//! What the owners of a key promised and accepted, and what follows from it.

use crate::core::client::Core;
use annulet_protocol::ballot::Ballot;
use annulet_protocol::ids::NodeId;
use annulet_protocol::register::message::{Promise, Shown};
use annulet_ring::owners::Nodes;
use annulet_ring::quorum::Quorum;
use bytes::Bytes;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Votes {
    list: Vec<(NodeId, Promise)>,
}

impl Votes {
    /// Notes what an owner shows, in place of what it showed before.
    pub fn note(&mut self, node: NodeId, promise: Promise) {
        self.forget(node);
        self.list.push((node, promise));
    }

    /// Forgets what an owner showed.
    pub fn forget(&mut self, node: NodeId) {
        self.list.retain(|(seen, _)| *seen != node);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.list.clear();
    }

    /// Whether an owner has shown anything.
    pub fn has(&self, node: NodeId) -> bool {
        self.list.iter().any(|(seen, _)| *seen == node)
    }

    /// What was accepted under the highest ballot. A round goes on from it: if anything was agreed
    /// on before, this is it or follows it.
    pub fn highest(&self) -> Option<&Shown> {
        let shown = self.list.iter().filter_map(|(_, p)| p.accepted.as_ref());
        shown.max_by_key(|shown| shown.ballot)
    }

    /// The highest ballot under which anything was accepted; zero: nothing was.
    pub fn accepted(&self) -> Ballot {
        self.highest().map(|shown| shown.ballot).unwrap_or_default()
    }

    /// The highest promise.
    pub fn promised(&self) -> Ballot {
        let promised = self.list.iter().map(|(_, promise)| promise.promised);
        promised.max().unwrap_or_default()
    }

    /// Who accepted what was accepted under the highest ballot.
    pub fn holders(&self) -> Nodes {
        let highest = self.accepted();
        let holding = self.list.iter().filter(|(_, p)| accepted(p) == highest);
        holding.map(|(node, _)| *node).collect()
    }

    /// The value that was accepted under the highest ballot, if an owner sent it.
    pub fn value(&self) -> Option<&Bytes> {
        let highest = self.accepted();
        let shown = self.list.iter().filter_map(|(_, p)| p.accepted.as_ref());
        let mut values = shown.filter(|shown| shown.ballot == highest);
        values.find_map(|shown| shown.value.as_ref())
    }

    /// Notes the value that was accepted under the highest ballot, fetched by itself.
    pub fn note_value(&mut self, value: Bytes) {
        let highest = self.accepted();
        let shown = self
            .list
            .iter_mut()
            .filter_map(|(_, p)| p.accepted.as_mut());
        if let Some(shown) = shown.into_iter().find(|shown| shown.ballot == highest) {
            shown.value = Some(value);
        }
    }

    /// Whether a quorum accepted what is the newest, and none of it has promised another round to
    /// go on: then it is agreed on, and nothing else can be yet that the reader should know of.
    pub fn are_clean(&self, core: &Core, quorum: &Quorum) -> bool {
        quorum.is_met(|node| self.is_clean(core, node))
    }

    /// Whether an owner accepted what is the newest and promised nothing beyond it. The ballot that
    /// was reserved with it is no other round: its proposer goes on from this very register.
    pub fn is_clean(&self, core: &Core, node: NodeId) -> bool {
        let highest = self.accepted();
        let shown = self.list.iter().find(|(seen, _)| *seen == node);
        shown.is_some_and(|(_, promise)| {
            let Promise {
                promised,
                accepted: shown,
            } = promise;
            let next = shown.as_ref().and_then(|shown| shown.next);
            let open = *promised > highest && next != Some(*promised);
            let trusted = core.ignores_promises()
                || core.takes_promises_below_next() && Some(*promised) <= self.next();
            accepted(promise) == highest && (!open || trusted)
        })
    }

    /// The ballot reserved with what is the newest, as far as anybody shows it.
    fn next(&self) -> Option<Ballot> {
        let highest = self.accepted();
        let shown = self.list.iter().filter_map(|(_, p)| p.accepted.as_ref());
        let newest = shown.filter(|shown| shown.ballot == highest);
        newest.filter_map(|shown| shown.next).max()
    }
}

fn accepted(promise: &Promise) -> Ballot {
    let shown = promise.accepted.as_ref();
    shown.map(|shown| shown.ballot).unwrap_or_default()
}
