//! What the owners of a key have shown so far.

use annulet_protocol::ids::NodeId;
use annulet_protocol::record::{Head, Record};
use annulet_ring::owners::Nodes;
use std::cmp::Ordering;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// What each owner showed; `None`: nothing stored.
    heads: Vec<(NodeId, Option<Head>)>,
    /// The freshest record that an owner sent.
    record: Option<Record>,
    /// The freshest head whose owner has the value no more.
    gone: Option<Head>,
}

impl Seen {
    /// Notes what an owner shows, in place of what it showed before.
    pub(super) fn note(&mut self, node: NodeId, head: Option<Head>) {
        self.forget(node);
        self.heads.push((node, head));
    }

    /// Notes a record that an owner sent.
    pub(super) fn note_record(&mut self, record: Record) {
        let newer = self
            .record
            .as_ref()
            .is_none_or(|newest| record.head.freshness(&newest.head) == Ordering::Greater);
        if newer {
            self.record = Some(record);
        }
    }

    /// Notes that an owner has the value of this head no more, since it expired long ago.
    pub(super) fn note_gone(&mut self, head: Head) {
        let newer = self
            .gone
            .is_none_or(|gone| head.freshness(&gone) == Ordering::Greater);
        if newer {
            self.gone = Some(head);
        }
    }

    /// Forgets what an owner showed.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.heads.retain(|(seen, _)| *seen != node);
    }

    /// Whether an owner has shown anything.
    pub(super) fn has(&self, node: NodeId) -> bool {
        self.heads.iter().any(|(seen, _)| *seen == node)
    }

    /// Who has shown anything.
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.heads.iter().map(|(node, _)| *node)
    }

    /// The freshest head that an owner showed.
    pub(super) fn newest(&self) -> Option<Head> {
        let heads = self.heads.iter().filter_map(|(_, head)| *head);
        heads.max_by(Head::freshness)
    }

    /// Who showed the freshest head, or nothing if nobody showed anything stored.
    pub(super) fn holders(&self) -> Nodes {
        let newest = self.newest();
        let holding = self
            .heads
            .iter()
            .filter(|(_, head)| same(head.as_ref(), newest.as_ref()));
        holding.map(|(node, _)| *node).collect()
    }

    /// The record of this head, if an owner sent it.
    pub(super) fn record(&self, head: &Head) -> Option<&Record> {
        let record = self.record.as_ref();
        record.filter(|record| same(Some(&record.head), Some(head)))
    }

    /// The freshest record that an owner sent, whatever the others showed.
    pub(super) fn any_record(&self) -> Option<&Record> {
        self.record.as_ref()
    }

    /// Whether an owner said that it has the value of this head no more.
    pub(super) fn is_gone(&self, head: &Head) -> bool {
        same(self.gone.as_ref(), Some(head))
    }
}

fn same(a: Option<&Head>, b: Option<&Head>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.freshness(b) == Ordering::Equal,
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}
