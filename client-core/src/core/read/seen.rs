//! What the owners of a key in a last-write-wins bucket have shown: the freshest head wins.

use super::ReadDone;
use super::shown::{Asked, Shown};
use crate::core::client::{Core, Now, Start};
use annulet_protocol::bucket::Mode;
use annulet_protocol::clock::Stamp;
use annulet_protocol::ids::NodeId;
use annulet_protocol::message::{Answer, Operation, Source, Write};
use annulet_protocol::record::{Head, Record, Version};
use annulet_protocol::session::Known;
use annulet_ring::owners::Nodes;
use bytes::Bytes;
use std::cmp::Ordering;

/// See the module.
#[derive(Debug, Default)]
pub struct Seen {
    /// What each owner showed; `None`: nothing stored.
    heads: Vec<(NodeId, Option<Head>)>,
    /// The freshest record that an owner sent.
    record: Option<Record>,
    /// The freshest head whose owner has the value no more.
    gone: Option<Head>,
    /// What the reader has seen before.
    must_show: Option<Version>,
    /// What was at or below this may have been deleted and forgotten.
    floor: Stamp,
}

impl Seen {
    fn note_record(&mut self, record: Record) {
        let newer = self
            .record
            .as_ref()
            .is_none_or(|newest| record.head.freshness(&newest.head) == Ordering::Greater);
        if newer {
            self.record = Some(record);
        }
    }

    /// Notes that an owner has the value of this head no more, since it expired long ago.
    fn note_gone(&mut self, head: Head) {
        let newer = self
            .gone
            .is_none_or(|gone| head.freshness(&gone) == Ordering::Greater);
        if newer {
            self.gone = Some(head);
        }
    }

    /// The freshest head that an owner showed.
    fn newest(&self) -> Option<Head> {
        let heads = self.heads.iter().filter_map(|(_, head)| *head);
        heads.max_by(Head::freshness)
    }

    /// The record of the freshest head, if an owner sent it.
    fn record(&self) -> Option<&Record> {
        let newest = self.newest();
        let record = self.record.as_ref();
        record.filter(|record| same(Some(&record.head), newest.as_ref()))
    }
}

impl Shown for Seen {
    const MODE: Mode = Mode::Lww;
    type Done = ReadDone;

    fn take(&mut self, asked: Asked<'_>, node: NodeId, answer: Answer) -> Result<(), String> {
        let Asked {
            core, now, start, ..
        } = asked;
        let (bucket, key) = (start.bucket().number, &start.key);
        let head = match answer {
            Answer::Found(record) => {
                let sound = record.verify(bucket, key);
                if let (Err(damage), true) = (sound, core.checks_records()) {
                    return Err(format!("server {node} sent a damaged record: {damage}"));
                }
                let head = record.head;
                self.note_record(record);
                Some(head)
            }
            Answer::FoundHead(head) => {
                if let Err(damage) = head.verify_expiry(bucket, key) {
                    return Err(format!("server {node} sent a damaged head: {damage}"));
                }
                if asked.fetched && lives(core, now, &head) {
                    return Err(format!(
                        "server {node} has the value no more that it showed"
                    ));
                }
                if asked.fetched || asked.whole {
                    self.note_gone(head);
                }
                Some(head)
            }
            Answer::Absent(absent) => {
                self.floor = self.floor.max(absent.floor);
                None
            }
            other => return Err(format!("server {node} answered a read with {other:?}")),
        };
        self.forget(node);
        self.heads.push((node, head));
        Ok(())
    }

    fn must_show(&mut self, floor: &Known) {
        if let Known::Version(version) = floor {
            self.must_show = Some(*version);
        }
    }

    fn meets_floor(&self) -> bool {
        let newest = self.newest().map(|head| head.version);
        self.must_show
            .is_none_or(|seen| newest >= Some(seen) || self.floor >= seen.stamp)
    }

    fn forget(&mut self, node: NodeId) {
        self.heads.retain(|(seen, _)| *seen != node);
    }

    fn has(&self, node: NodeId) -> bool {
        self.heads.iter().any(|(seen, _)| *seen == node)
    }

    fn nodes(&self) -> Nodes {
        self.heads.iter().map(|(node, _)| *node).collect()
    }

    /// Who showed the freshest head, or nothing if nobody showed anything stored.
    fn holders(&self) -> Nodes {
        let newest = self.newest();
        let holding = self
            .heads
            .iter()
            .filter(|(_, head)| same(head.as_ref(), newest.as_ref()));
        holding.map(|(node, _)| *node).collect()
    }

    fn sources(&self) -> Nodes {
        self.holders()
    }

    fn is_whole(&self, core: &Core) -> bool {
        let any = core.trusts_digests() && self.record.is_some();
        self.newest().is_none() || self.record().is_some() || any
    }

    fn is_gone(&self) -> bool {
        let newest = self.newest();
        newest.is_some() && same(self.gone.as_ref(), newest.as_ref())
    }

    fn is_live(&self, core: &Core, now: Now) -> bool {
        self.newest().is_some_and(|head| lives(core, now, &head))
    }

    /// The newest record, or its head alone where nobody has its value any more.
    fn repair(&self, start: &Start) -> Operation {
        let record = self.record().cloned();
        let Some(head) = self.newest() else {
            // Where nobody showed anything there is nothing to bring.
            return Operation::Unknown;
        };
        Operation::Write(Write {
            bucket: start.bucket().number,
            key: start.key.clone(),
            source: Source::Repair,
            gone: record.is_none(),
            record: record.unwrap_or_else(|| Record {
                head,
                value: Bytes::new(),
            }),
        })
    }

    fn done(&self, core: &mut Core, now: Now, start: &Start, with_value: bool) -> ReadDone {
        let head = self.newest();
        if let Some(head) = &head {
            core.clock
                .observe(start.hash, head.version.stamp, now.wall_ms);
        }
        let live = self.is_live(core, now);
        let record = match core.trusts_digests() {
            true => self.record.as_ref(),
            false => self.record(),
        };
        let value = record.filter(|_| live && with_value);
        let value = value.map(|record| record.value.clone());
        ReadDone { head, value, live }
    }
}

/// Whether a head is of a value that has not expired, by this client's clock.
fn lives(core: &Core, now: Now, head: &Head) -> bool {
    head.is_live(core.judged_ms(now))
}

fn same(a: Option<&Head>, b: Option<&Head>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.freshness(b) == Ordering::Equal,
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}
