//! Scan: what a bucket holds in one arc of the ring, a page at a time, in order of hashes.
//!
//! Each page is read from as many owners as the bucket's read level needs. One sends values, the
//! others heads. A page ends where the first of those answers ends that were cut off: up to there
//! each answer is whole, so a key that one of them lacks is absent there. A key of which they
//! differ is left to be read by itself, with repair.
//!
//! A cursor is the storage key of the last entry, or the beginning of an arc. It means the same
//! under any view, so a page that is refused for a newer one is asked again from the same cursor.

use super::attempts::{OwnerState, Owners};
use super::client::{Core, Now, Start};
use super::read::SLOW_MS;
use super::{Attempt, Coordinator, Effect, Effects, Response, Send};
use crate::error::{Error, ErrorKind, Result};
use annulet_protocol::bucket::Mode;
use annulet_protocol::hash::{KeyHash, storage_key};
use annulet_protocol::ids::NodeId;
use annulet_protocol::message::{Answer, Operation};
use annulet_protocol::record::{Head, Kind, Record};
use annulet_protocol::scan::{Page, PageEntry, Scan};
use annulet_protocol::view::View;
use annulet_ring::owners::Nodes;
use annulet_ring::quorum::{Quorum, Side};
use bytes::Bytes;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a page is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLimits {
    /// Most entries.
    pub entries: u32,
    /// Most bytes of keys and values, one long key apart.
    pub bytes: u32,
    /// Longest value that comes with its key; 0: none does.
    pub value_bytes: u32,
}

/// One page, or a part of one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScanDone {
    /// Keys on which the owners that were asked agree, deleted and expired ones among them, in
    /// order of hashes.
    pub entries: Vec<Scanned>,
    /// Keys on which they do not: each is to be read by itself.
    pub unsettled: Vec<Bytes>,
    /// Where the next page begins; `None`: this was the end of the ring.
    pub cursor: Option<Bytes>,
    /// Whether the arc was read to its end.
    pub is_whole: bool,
}

/// A key on which the owners agree.
#[derive(Clone, Debug, PartialEq)]
pub struct Scanned {
    /// The key.
    pub key: Bytes,
    /// The head.
    pub head: Head,
    /// The value, where it came along.
    pub value: Option<Bytes>,
}

/// One page.
#[derive(Debug)]
pub struct ScanOperation {
    start: Start,
    limits: PageLimits,
    /// Only what comes after this.
    after: Bytes,
    /// First and last position of the arc.
    arc: (KeyHash, KeyHash),
    order: Nodes,
    quorum: Quorum,
    owners: Owners,
    pages: Vec<(NodeId, Page)>,
    /// Who was asked for values.
    asked_whole: Nodes,
    completed: bool,
}

impl ScanOperation {
    /// A page after this cursor; empty: from the beginning of the ring. `start` is of no key.
    ///
    /// # Errors
    /// `InvalidInput` if the level asks for more owners than there are, or the bucket is of another
    /// mode; nothing was sent.
    pub fn new(start: Start, after: Bytes, limits: PageLimits) -> Result<Self> {
        start.expect(Mode::Lww, "scan")?;
        let mut scan = Self {
            arc: (KeyHash(0), KeyHash(0)),
            order: Nodes::new(),
            quorum: Quorum::none(),
            owners: Owners::default(),
            pages: Vec::new(),
            asked_whole: Nodes::new(),
            completed: false,
            start,
            limits,
            after,
        };
        scan.place()?;
        Ok(scan)
    }

    /// Finds the arc that the cursor is in, and its owners.
    fn place(&mut self) -> Result<()> {
        let partitions = self.start.view.table.partitions;
        let from = position(&self.after);
        let (_, until) = KeyHash::arc(from.partition(partitions), partitions);
        self.arc = (from, until);
        self.start.hash = from;
        let owners = self.start.owners();
        self.quorum = self.start.quorum(Side::Read, &owners)?;
        self.order = owners.all().collect();
        self.owners.restart(owners.all());
        self.pages.clear();
        self.asked_whole.clear();
        Ok(())
    }

    fn send_more(&mut self, now: Now, effects: &mut Effects<ScanDone>) {
        for node in self.order.clone() {
            let idle = self.owners.is(node, |state| state == OwnerState::Idle);
            if !idle || !self.quorum.wants(node, |node| self.counts(node)) {
                continue;
            }
            let whole = self.limits.value_bytes > 0
                && !self.asked_whole.iter().any(|asked| self.counts(*asked));
            if whole {
                self.asked_whole.push(node);
            }
            effects.push(Effect::Send(Send {
                node,
                attempt: self.owners.sent(node, now.mono_ms),
                epoch: self.start.view.ordinal(),
                budget_ms: self.start.budget_ms(now.mono_ms),
                operation: Operation::Scan(Scan {
                    bucket: self.start.bucket().number,
                    from: self.arc.0,
                    until: self.arc.1,
                    after: self.after.clone(),
                    entries_max: self.limits.entries,
                    bytes_max: self.limits.bytes,
                    value_bytes_max: if whole { self.limits.value_bytes } else { 0 },
                }),
            }));
        }
    }

    /// Whether a node has answered, or still may in good time.
    fn counts(&self, node: NodeId) -> bool {
        self.owners.is(node, |state| match state {
            OwnerState::Done => true,
            OwnerState::InFlight { slow, .. } => !slow,
            OwnerState::Idle | OwnerState::Waiting { .. } | OwnerState::Lost => false,
        })
    }

    fn advance(&mut self, core: &Core, now: Now, effects: &mut Effects<ScanDone>) {
        if self.completed {
            return;
        }
        let has = |node| self.pages.iter().any(|(from, _)| *from == node);
        if self.quorum.is_met(has) {
            self.completed = true;
            let outstanding = self.owners.outstanding();
            effects.extend(outstanding.map(|(node, attempt)| Effect::Cancel(node, attempt)));
            effects.push(Effect::Complete(Ok(self.merge(core))));
            return;
        }
        self.send_more(now, effects);
        if !self.owners.any_in_flight() && !self.owners.any_waiting() {
            let error = self.owners.failure("too few owners answered the scan");
            self.fail(error, effects);
        }
    }

    /// One page out of those that the owners sent.
    fn merge(&mut self, core: &Core) -> ScanDone {
        let bucket = self.start.bucket().number;
        let pages: Vec<_> = self.pages.drain(..).map(|(_, page)| page).collect();
        let count = pages.len();
        let cuts = pages.iter().filter_map(|page| page.reached.clone());
        let cut = match core.ignores_cuts() {
            true => cuts.max(),
            false => cuts.min(),
        };
        let mut keys = BTreeMap::<Bytes, Vec<PageEntry>>::new();
        for entry in pages.into_iter().flat_map(|page| page.entries) {
            let hash = self.start.view.hash(bucket, &entry.key);
            let at = storage_key(hash, bucket, &entry.key);
            if cut.as_ref().is_none_or(|cut| at <= *cut) {
                keys.entry(at).or_default().push(entry);
            }
        }
        let mut done = ScanDone {
            is_whole: cut.is_none(),
            cursor: cut.or_else(|| beginning_after(self.arc.1)),
            ..ScanDone::default()
        };
        for entries in keys.into_values() {
            match settle(bucket, entries, count) {
                Ok(scanned) => done.entries.push(scanned),
                Err(key) => done.unsettled.push(key),
            }
        }
        done
    }

    fn fail(&mut self, error: Error, effects: &mut Effects<ScanDone>) {
        if !std::mem::replace(&mut self.completed, true) {
            effects.push(Effect::Complete(Err(error)));
        }
    }

    /// Checks that a page is one to this question.
    fn check(&self, page: &Page) -> std::result::Result<(), &'static str> {
        let bucket = self.start.bucket().number;
        let mut last = self.after.clone();
        for entry in &page.entries {
            let hash = self.start.view.hash(bucket, &entry.key);
            let at = storage_key(hash, bucket, &entry.key);
            if hash < self.arc.0 || hash > self.arc.1 || at <= last {
                return Err("keys out of order or of another arc");
            }
            last = at;
        }
        match &page.reached {
            Some(reached) if *reached < last || *reached <= self.after => Err("a page that ends \
                                                                               before it begins"),
            Some(reached) if position(reached) > self.arc.1 => Err("a page of another arc"),
            Some(_) | None => Ok(()),
        }
    }
}

/// What all owners that were asked say of a key, or the key if they differ or the value is damaged.
fn settle(
    bucket: u32,
    entries: Vec<PageEntry>,
    count: usize,
) -> std::result::Result<Scanned, Bytes> {
    let (first, others) = entries.split_first().expect("a key comes with an entry");
    let same = |entry: &PageEntry| entry.head.freshness(&first.head) == Ordering::Equal;
    let agree = entries.len() == count && others.iter().all(same);
    let (key, head) = (first.key.clone(), first.head);
    let value = entries.into_iter().find_map(|entry| entry.value);
    let sound = match (&value, head.kind) {
        (Some(value), Kind::Value) => {
            let value = value.clone();
            Record { head, value }.verify(bucket, &key)
        }
        (Some(_), Kind::Tombstone) | (None, _) => head.verify_expiry(bucket, &key),
    };
    match agree && sound.is_ok() {
        true => Ok(Scanned { key, head, value }),
        false => Err(key),
    }
}

/// The position of a cursor.
fn position(cursor: &[u8]) -> KeyHash {
    let bytes = cursor.first_chunk::<8>().copied();
    KeyHash(bytes.map_or(0, u64::from_be_bytes))
}

/// The cursor of what follows the arc that a cursor is in; `None`: it is the last one.
pub fn arc_after(view: &View, cursor: &[u8]) -> Option<Bytes> {
    let partitions = view.table.partitions;
    let (_, until) = KeyHash::arc(position(cursor).partition(partitions), partitions);
    beginning_after(until)
}

/// The cursor of what follows an arc; `None`: it was the last one.
fn beginning_after(until: KeyHash) -> Option<Bytes> {
    let next = until.0.checked_add(1)?;
    Some(Bytes::copy_from_slice(&next.to_be_bytes()))
}

impl Coordinator for ScanOperation {
    type Done = ScanDone;

    fn start(&mut self, core: &mut Core, now: Now) -> Effects<ScanDone> {
        core.rank(&self.start.op, &mut self.order, now);
        let mut effects = Effects::new();
        self.send_more(now, &mut effects);
        effects
    }

    fn handle_response(
        &mut self,
        core: &mut Core,
        now: Now,
        (node, attempt): (NodeId, Attempt),
        epoch: Option<u64>,
        response: Response,
    ) -> Effects<ScanDone> {
        let mut effects = Effects::new();
        if !self.owners.expects(node, attempt) {
            return effects;
        }
        let unsound = |why: &str| {
            let why = format!("server {node} answered a scan with {why}");
            Error::new(ErrorKind::Internal, why)
        };
        match response {
            Ok(Answer::Page(page)) => match self.check(&page) {
                Ok(()) => {
                    self.owners.set(node, OwnerState::Done);
                    self.pages.push((node, page));
                }
                Err(why) => self.owners.lose(node, unsound(why)),
            },
            Ok(Answer::Refused(refusal)) => {
                let refused = (&refusal, epoch.unwrap_or(0));
                let newer = self.owners.refused(core, (now, &self.start), node, refused);
                effects.extend(newer.map(Effect::NeedView));
            }
            Ok(other) => self.owners.lose(node, unsound(&format!("{other:?}"))),
            Err(failure) => {
                let at = (now, &self.start);
                self.owners.unanswered(core, at, node, &failure);
            }
        }
        self.advance(core, now, &mut effects);
        effects
    }

    fn handle_view(&mut self, core: &mut Core, now: Now, view: &Arc<View>) -> Effects<ScanDone> {
        let mut effects = Effects::new();
        let epoch = self.start.view.ordinal();
        if view.ordinal() <= epoch || self.completed {
            return effects;
        }
        let same_arc = view.table.partitions == self.start.view.table.partitions;
        let stays = same_arc && !self.owners.want_view(epoch);
        if stays && self.start.goes_on_under(view, core.home()) {
            return effects;
        }
        if !self.start.move_to(view, core.home()) {
            self.fail(self.start.bucket_deleted(), &mut effects);
            return effects;
        }
        let outstanding = self.owners.outstanding();
        effects.extend(outstanding.map(|(node, attempt)| Effect::Cancel(node, attempt)));
        match self.place() {
            Ok(()) => effects.extend(self.start(core, now)),
            Err(error) => self.fail(error, &mut effects),
        }
        effects
    }

    fn handle_timer(&mut self, core: &mut Core, now: Now) -> Effects<ScanDone> {
        let mut effects = Effects::new();
        if now.mono_ms >= self.start.deadline_ms {
            let error = self.owners.timeout("too few owners answered the scan");
            self.fail(error, &mut effects);
            return effects;
        }
        for node in self.owners.mark_slow(now.mono_ms, SLOW_MS) {
            core.note_failure(node);
        }
        for node in self.owners.due(now.mono_ms) {
            // Idle again: it is asked if it is still wanted.
            self.owners.set(node, OwnerState::Idle);
        }
        self.advance(core, now, &mut effects);
        effects
    }

    fn next_wake_ms(&self) -> Option<u64> {
        if self.completed {
            return None;
        }
        // Once nobody is left to be asked instead, slowness changes nothing.
        let mut owners = self.owners.iter();
        let idle = owners.any(|owner| owner.state == OwnerState::Idle);
        let slow = self.owners.next_slow_ms(SLOW_MS).filter(|_| idle);
        let soonest = [slow, self.owners.next_wake_ms()];
        let soonest = soonest.into_iter().flatten().min();
        Some(soonest.unwrap_or(u64::MAX).min(self.start.deadline_ms))
    }

    fn is_finished(&self) -> bool {
        self.completed
    }

    fn is_idle(&self) -> bool {
        !self.owners.any_in_flight()
    }

    fn awaits(&self, node: NodeId, attempt: Attempt) -> bool {
        !self.completed && self.owners.expects(node, attempt)
    }

    fn cancel(&mut self) {
        self.completed = true;
    }
}

#[cfg(test)]
mod tests;
