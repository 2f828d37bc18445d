//! Get and exists of concurrent values: the records of all that were asked are merged.
//!
//! Contexts and values are made from whole records only: a record without the vector that its dots
//! came with would claim knowledge that its holder does not have.

use crate::core::client::{Core, Now, Start};
use crate::core::read::Reading;
use crate::core::read::shown::{Asked, Shown};
use annulet_protocol::bucket::Mode;
use annulet_protocol::ids::NodeId;
use annulet_protocol::message::{Answer, Operation, Source};
use annulet_protocol::session::Known;
use annulet_protocol::siblings::message::{Found, Merge};
use annulet_protocol::siblings::{Sibling, Siblings};
use annulet_ring::owners::Nodes;
use bytes::Bytes;

/// One get or exists.
pub type SiblingsRead = Reading<Records>;

/// What a read that is done says.
#[derive(Clone, Debug, PartialEq)]
pub struct SiblingsDone {
    /// The record, whole if values were asked for.
    pub record: Siblings,
    /// What to hand back with the next write: all of this was seen.
    pub context: Bytes,
    /// The concurrent values that have not expired; empty if they were not asked for.
    pub values: Vec<Sibling>,
    /// What the bucket's merge makes of them. `None`: there is no merge, or nothing to merge, or a
    /// value is not what the merge takes.
    pub merged: Option<Bytes>,
    /// Whether there is a value that has not expired.
    pub live: bool,
}

impl SiblingsDone {
    /// What a reader is told of a record.
    pub fn of(record: Siblings, start: &Start, judged_ms: u64, with_values: bool) -> Self {
        let bucket = start.bucket();
        let lives = |one: &&Sibling| !one.write.is_expired(judged_ms);
        let live = record.iter().any(|one| lives(&one));
        let values: Vec<_> = match with_values {
            true => record.iter().filter(lives).cloned().collect(),
            false => Vec::new(),
        };
        let merged = bucket.merge.filter(|_| values.len() > 1);
        let merged = merged.and_then(|merge| merge.apply(&values).ok().flatten());
        Self {
            context: record.context().seal(bucket.number, &start.key),
            record,
            values,
            merged,
            live,
        }
    }
}

/// What the owners of a key have shown.
#[derive(Debug, Default)]
pub struct Records {
    shown: Vec<One>,
    /// What the reader has seen before, without values.
    must_show: Siblings,
}

#[derive(Debug)]
struct One {
    node: NodeId,
    record: Siblings,
    /// Its values were left out.
    bare: bool,
}

impl Records {
    /// All records together, with every value that anybody sent.
    fn together(&self) -> Siblings {
        let whole = self.shown.iter().filter(|one| !one.bare);
        let bare = self.shown.iter().filter(|one| one.bare);
        // Of two equal siblings the first one's value stays.
        let all = whole.chain(bare).map(|one| &one.record);
        let all = all.fold(Siblings::default(), |merged, record| merged.merge(record));
        all.merge(&self.must_show)
    }

    /// Whether somebody sent this sibling's value.
    fn has_value(&self, sibling: &Sibling) -> bool {
        let mut whole = self.shown.iter().filter(|one| !one.bare);
        whole.any(|one| one.record.sibling(&sibling.write.op).is_some())
    }
}

impl Shown for Records {
    const MODE: Mode = Mode::Siblings;
    type Done = SiblingsDone;

    fn take(&mut self, asked: Asked<'_>, node: NodeId, answer: Answer) -> Result<(), String> {
        let (bucket, key) = (asked.start.bucket().number, &asked.start.key);
        let (record, bare) = match answer {
            Answer::Absent(_) => (Siblings::default(), false),
            Answer::Siblings(Found { record, bare }) => {
                let damaged = |why: String| format!("server {node} sent a damaged record: {why}");
                let record = Siblings::unseal(bucket, key, &record);
                let record = record.map_err(|error| damaged(error.to_string()))?;
                let unsound = |one: &Sibling| !one.write.is_sound(bucket, key);
                if !bare && record.iter().any(unsound) && asked.core.checks_records() {
                    return Err(damaged("a value does not match its checksum".into()));
                }
                (record, bare)
            }
            other => return Err(format!("server {node} answered a read with {other:?}")),
        };
        if bare && asked.fetched {
            return Err(format!(
                "server {node} left out the values it was asked for"
            ));
        }
        self.forget(node);
        self.shown.push(One { node, record, bare });
        Ok(())
    }

    fn must_show(&mut self, floor: &Known) {
        if let Known::Siblings(record) = floor {
            self.must_show = record.clone();
        }
    }

    /// What is known to be overwritten is left out by the merge; what is known to stand must have
    /// been shown by somebody.
    fn meets_floor(&self) -> bool {
        let together = self.together();
        let seen = self.must_show.iter().map(|one| one.write.op);
        let mut standing = seen.filter(|op| together.sibling(op).is_some());
        standing.all(|op| {
            self.shown
                .iter()
                .any(|one| one.record.sibling(&op).is_some())
        })
    }

    fn forget(&mut self, node: NodeId) {
        self.shown.retain(|one| one.node != node);
    }

    fn has(&self, node: NodeId) -> bool {
        self.shown.iter().any(|one| one.node == node)
    }

    fn nodes(&self) -> Nodes {
        self.shown.iter().map(|one| one.node).collect()
    }

    fn holders(&self) -> Nodes {
        let together = self.together();
        let holding = self.shown.iter();
        let holding = holding.filter(|one| one.record.agrees(&together));
        holding.map(|one| one.node).collect()
    }

    fn sources(&self) -> Nodes {
        let together = self.together();
        let lacking = together.iter().filter(|sibling| !self.has_value(sibling));
        let lacking: Vec<_> = lacking.map(|sibling| sibling.write.op).collect();
        let sends = |one: &&One| lacking.iter().any(|op| one.record.sibling(op).is_some());
        self.shown
            .iter()
            .filter(sends)
            .map(|one| one.node)
            .collect()
    }

    fn is_whole(&self, _core: &Core) -> bool {
        let together = self.together();
        together.iter().all(|sibling| self.has_value(sibling))
    }

    fn is_gone(&self) -> bool {
        false
    }

    fn is_live(&self, core: &Core, now: Now) -> bool {
        let judged_ms = core.judged_ms(now);
        let together = self.together();
        together.iter().any(|one| !one.write.is_expired(judged_ms))
    }

    fn repair(&self, start: &Start) -> Operation {
        let bucket = start.bucket().number;
        Operation::Merge(Merge {
            bucket,
            key: start.key.clone(),
            source: Source::Repair,
            record: self.together().seal(bucket, &start.key),
            owners: Vec::new(),
        })
    }

    fn done(&self, core: &mut Core, now: Now, start: &Start, with_value: bool) -> SiblingsDone {
        SiblingsDone::of(self.together(), start, core.judged_ms(now), with_value)
    }
}
