//! What must hold, checked while it happens.
//!
//! A **fact** is a freshness that at least so many owners of a key hold durably: an acknowledged
//! write makes one, and so does a completed read. A read must show at least every fact that was
//! there when it began and whose holders its own quorum must meet.
//!
//! Facts of `async` buckets end when a crash loses unsynced writes; facts of less than a majority
//! end when the key's owners change. Both are what the design promises.

use super::causal::Causal;
use super::levels::{Needs, PerRegion};
use super::touches::Touches;
use annulet::core::read::ReadDone;
use annulet_protocol::clock::Stamp;
use annulet_protocol::record::{Expiry, Head, Kind, Record, Version};
use std::collections::{BTreeMap, BTreeSet};

/// A key: the number of its bucket, and its own.
pub(crate) type KeyId = (u32, usize);

/// What decides which of two records is kept.
type Freshness = (Version, Option<(Stamp, u64)>);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    keys: BTreeMap<KeyId, Key>,
    /// Reads and writes under way, by number.
    pending: BTreeMap<u64, Pending>,
    /// The record of every write that was begun.
    minted: BTreeMap<Version, (u64, Record)>,
    /// Every expiry that a touch was to set.
    expiries: BTreeSet<(Version, Stamp, u64)>,
    /// Versions that a server holds or held.
    stored: BTreeSet<Version>,
    /// Versions of writes that were said not to be applied.
    not_applied: BTreeSet<Version>,
    /// Versions of writes that were acknowledged by servers that keep them for the owners.
    kept: BTreeSet<Version>,
    /// Writes that the network doubled: they may be refused once and applied once.
    doubled: BTreeSet<Version>,
    /// Times that a crash lost something.
    losses: u64,
    /// Times that owners changed.
    moves: u64,
    /// Furthest that a clock sample of a client was off, in milliseconds.
    clock_error_ms: u64,
    /// The same of concurrent values.
    pub(crate) causal: Causal,
    /// Outcomes of touches.
    pub(crate) touches: Touches,
    violation: Option<(&'static str, String)>,
}

#[derive(Clone, Debug)]
struct Key {
    owners: PerRegion,
    /// Whether its writes are durable before they are acknowledged.
    group: bool,
    facts: BTreeMap<Needs, Fact>,
    /// The newest write that was acknowledged and that no owner had then: it is kept for them.
    promise: Option<(Freshness, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct Fact {
    fresh: Freshness,
    tombstone: bool,
    /// The operation that it comes from.
    by: u64,
    by_read: bool,
}

#[derive(Clone, Debug)]
struct Pending {
    key: KeyId,
    needs: Needs,
    floor: Vec<(Needs, Fact)>,
    losses: u64,
    moves: u64,
}

/// Half of what servers take: a client's clock follows stamps that far ahead.
const CLOCK_FOLLOWS_MS: u64 = 500;

impl Oracle {
    pub(crate) fn fail(&mut self, oracle: &'static str, detail: impl Into<String>) {
        self.violation.get_or_insert((oracle, detail.into()));
    }

    pub(crate) fn violation(&mut self) -> Option<(&'static str, String)> {
        self.violation.take()
    }

    /// Notes a key of a bucket with so many owners in each region.
    pub(crate) fn know(&mut self, key: KeyId, owners: PerRegion, group: bool) {
        self.causal.know(key, group);
        let facts = BTreeMap::new();
        self.keys.entry(key).or_insert(Key {
            owners,
            group,
            facts,
            promise: None,
        });
    }

    pub(crate) fn owners(&self, key: KeyId) -> PerRegion {
        self.keys.get(&key).map_or([0; 2], |key| key.owners)
    }

    /// An operation begins.
    pub(crate) fn begin(&mut self, op: u64, key: KeyId, needs: Needs) {
        let facts = self.keys.get(&key).map(|key| &key.facts);
        let floor = facts.into_iter().flatten().map(|(n, f)| (*n, *f)).collect();
        let (losses, moves) = (self.losses, self.moves);
        self.pending.insert(
            op,
            Pending {
                key,
                needs,
                floor,
                losses,
                moves,
            },
        );
    }

    /// A write's record, as it is first sent.
    pub(crate) fn minted(&mut self, op: u64, record: &Record) {
        let version = record.head.version;
        match self.minted.get(&version) {
            None => {
                self.minted.insert(version, (op, record.clone()));
            }
            Some((first, sent)) if *first == op && sent == record => {}
            Some((first, sent)) => {
                let why =
                    format!("operation {op} sends {record:?}, operation {first} sent {sent:?}");
                self.fail("one-stamp", why);
            }
        }
    }

    /// An operation succeeds with so many answers of one epoch from each region.
    pub(crate) fn counted(&mut self, op: u64, answered: PerRegion) {
        let needs = self.pending.get(&op).map(|pending| pending.needs);
        if let Some(needs) = needs.filter(|needs| !needs.is_met(answered)) {
            let why = format!("operation {op} succeeds with {answered:?} of {needs:?}");
            self.fail("quorum", why);
        }
    }

    /// A write was acknowledged.
    pub(crate) fn written(&mut self, op: u64, version: Version) {
        let Some(pending) = self.pending.remove(&op) else {
            return;
        };
        let Some((_, record)) = self.minted.get(&version) else {
            return self.fail(
                "phantom",
                format!("operation {op} wrote unknown {version:?}"),
            );
        };
        let head = record.head;
        self.settle(op, &pending, pending.needs, &head, false);
    }

    /// A touch sends this expiry.
    pub(crate) fn touching(&mut self, op: u64, version: Version, expiry: Expiry) {
        if !self.minted.contains_key(&version) {
            self.fail("phantom", format!("touch {op} of unknown {version:?}"));
        }
        self.expiries.insert((version, expiry.stamp, expiry.at_ms));
        self.touches.sends(op, version, expiry);
    }

    /// A touch was acknowledged.
    pub(crate) fn touched(&mut self, op: u64, version: Version, expiry: Option<Expiry>) {
        let Some(pending) = self.pending.remove(&op) else {
            return;
        };
        let Some((_, record)) = self.minted.get(&version) else {
            return self.fail("phantom", format!("touch {op} of unknown {version:?}"));
        };
        let head = Head {
            expiry,
            ..record.head
        };
        self.settle(op, &pending, pending.needs, &head, false);
    }

    /// A write was acknowledged by servers that keep it for the owners, of which none has it yet.
    pub(crate) fn promised(&mut self, op: u64, version: Version) {
        let Some(pending) = self.pending.get(&op) else {
            return;
        };
        self.kept.insert(version);
        let fresh = self.minted.get(&version).map(|(_, r)| freshness(&r.head));
        let Some(key) = self.keys.get_mut(&pending.key) else {
            return;
        };
        let lasts = key.group || pending.losses == self.losses;
        let promise = fresh.filter(|_| lasts).map(|fresh| (fresh, op));
        key.promise = key.promise.max(promise);
    }

    /// Whether a write was acknowledged by servers that keep it for the owners.
    pub(crate) fn is_kept(&self, version: Version) -> bool {
        self.kept.contains(&version)
    }

    /// The only copy of something may be gone: what was promised may be, too.
    pub(crate) fn promises_end(&mut self) {
        self.keys.values_mut().for_each(|key| key.promise = None);
    }

    /// In the end the owners of a key hold this.
    pub(crate) fn held(&mut self, key: KeyId, head: Option<&Head>) {
        let promise = self.keys.get(&key).and_then(|key| key.promise);
        if let Some((fresh, op)) = promise
            && head.map(freshness) < Some(fresh)
        {
            let why =
                format!("write {op} of {key:?} was to be handed over, and they hold {head:?}");
            self.fail("handed-over", why);
        }
    }

    /// A write failed, and was said not to be applied.
    pub(crate) fn not_applied(&mut self, op: u64) {
        self.pending.remove(&op);
        let minted = self.minted.iter().find(|(_, (by, _))| *by == op);
        let Some(version) = minted.map(|(version, _)| *version) else {
            return;
        };
        if self.stored.contains(&version) && !self.doubled.contains(&version) {
            let why = format!("operation {op} was said not to be applied, and a server has it");
            self.fail("not-applied", why);
        }
        self.not_applied.insert(version);
    }

    /// An operation failed, or its client is gone: nothing is known of it.
    pub(crate) fn forget(&mut self, op: u64) {
        self.pending.remove(&op);
    }

    /// The network doubled a message with this write.
    pub(crate) fn doubled(&mut self, version: Version) {
        self.doubled.insert(version);
    }

    /// A server stored a record.
    pub(crate) fn stored(&mut self, version: Version) {
        self.stored.insert(version);
        if self.not_applied.contains(&version) && !self.doubled.contains(&version) {
            let why = format!("{version:?} was said not to be applied, and a server stored it");
            self.fail("not-applied", why);
        }
    }

    /// A read returned. Checks it against what was known when it began.
    pub(crate) fn read(&mut self, op: u64, done: &ReadDone, exists: bool, at_ms: u64) {
        let (head, live) = (done.head.as_ref(), done.live);
        let Some(pending) = self.pending.remove(&op) else {
            return;
        };
        let Some(key) = self.keys.get(&pending.key) else {
            return;
        };
        let shown = head.map(freshness);
        let exempt = !key.group && pending.losses != self.losses;
        let owners = key.owners;
        for (needs, fact) in &pending.floor {
            let kept = pending.moves == self.moves || needs.is_majority(owners);
            let seen = shown >= Some(fact.fresh);
            if seen || exempt || !kept || !needs.meets(pending.needs, owners) {
                continue;
            }
            let oracle = match (fact.tombstone, fact.by_read) {
                (true, _) if live => "resurrected",
                (_, true) => "monotonic",
                (_, false) => "lost",
            };
            let Pending {
                key, needs: asked, ..
            } = &pending;
            let Fact { fresh, by, .. } = fact;
            let why = format!(
                "read {op} of key {key:?} at {asked:?} shows {shown:?}; operation {by} left \
                 {fresh:?} at {needs:?}"
            );
            return self.fail(oracle, why);
        }
        let Some(head) = head else {
            if live || done.value.is_some() {
                self.fail("phantom", format!("read {op} shows nothing, and a value"));
            }
            return;
        };
        self.check_head(op, head, at_ms, live);
        let value = self
            .minted
            .get(&head.version)
            .map(|(_, record)| &record.value);
        let due = value.filter(|_| live && !exists);
        if done.value.as_ref() != due {
            self.fail(
                "phantom",
                format!("read {op} returned another value than was written"),
            );
        }
        let held = pending.needs.held_after_read(owners);
        self.settle(op, &pending, held, head, true);
    }

    /// What is shown was written, and is not over.
    fn check_head(&mut self, op: u64, head: &Head, at_ms: u64, live: bool) {
        let version = head.version;
        let touched = |expiry: Option<Expiry>| {
            expiry.is_some_and(|e| self.expiries.contains(&(version, e.stamp, e.at_ms)))
        };
        let known = self.minted.get(&version).is_some_and(|(_, r)| {
            let own = Head {
                expiry: head.expiry,
                ..r.head
            };
            own == *head && (r.head.expiry == head.expiry || touched(head.expiry))
        });
        if !known {
            self.fail(
                "phantom",
                format!("read {op} shows {head:?}, which nobody wrote"),
            );
        }
        if self.not_applied.contains(&version) && !self.doubled.contains(&version) {
            let why = format!("read {op} shows {version:?}, which was said not to be applied");
            self.fail("not-applied", why);
        }
        let Some(expiry) = head.expiry.filter(|_| head.kind == Kind::Value) else {
            if live != (head.kind == Kind::Value) {
                self.fail("expired", format!("read {op} says live={live} of {head:?}"));
            }
            return;
        };
        if expiry.at_ms == 0 {
            if !live {
                self.fail("expired", format!("read {op} hides {head:?}"));
            }
            return;
        }
        let margin = self.clock_error_ms + 1;
        let over = at_ms > expiry.at_ms + margin;
        let early = at_ms + margin + CLOCK_FOLLOWS_MS < expiry.at_ms;
        if live && over || !live && early {
            let why = format!("read {op} at {at_ms} says live={live} of {head:?}, margin {margin}");
            self.fail("expired", why);
        }
    }

    /// Notes that at least so many owners hold a head.
    fn settle(&mut self, op: u64, pending: &Pending, needs: Needs, head: &Head, by_read: bool) {
        let Some(key) = self.keys.get_mut(&pending.key) else {
            return;
        };
        let lasts = (key.group || pending.losses == self.losses)
            && (pending.moves == self.moves || needs.is_majority(key.owners));
        if !lasts {
            return;
        }
        let fact = Fact {
            fresh: freshness(head),
            tombstone: head.kind == Kind::Tombstone,
            by: op,
            by_read,
        };
        let known = key.facts.entry(needs).or_insert(fact);
        if fact.fresh > known.fresh {
            *known = fact;
        }
    }

    /// A crash lost what was not synced.
    pub(crate) fn lost_unsynced(&mut self) {
        self.losses += 1;
        self.causal.lost_unsynced();
        for key in self.keys.values_mut().filter(|key| !key.group) {
            key.facts.clear();
            key.promise = None;
        }
    }

    /// The owners of keys changed.
    pub(crate) fn moved(&mut self) {
        self.moves += 1;
        self.promises_end();
        let owners = |key: KeyId| self.keys.get(&key).map_or([0; 2], |key| key.owners);
        self.causal.moved(owners);
        for key in self.keys.values_mut() {
            let owners = key.owners;
            key.facts.retain(|needs, _| needs.is_majority(owners));
        }
    }

    /// A bucket is gone, and what was known of it.
    pub(crate) fn bucket_deleted(&mut self, bucket: u32) {
        self.causal.bucket_deleted(bucket);
        self.keys.retain(|(of, _), _| *of != bucket);
    }

    /// Furthest that a client may misjudge an expiry, in milliseconds.
    pub(crate) fn expiry_margin_ms(&self) -> u64 {
        self.clock_error_ms + 1 + CLOCK_FOLLOWS_MS
    }

    /// A client took a sample of a server's clock that was this far off.
    pub(crate) fn clock_sample(&mut self, error_ms: u64) {
        self.clock_error_ms = self.clock_error_ms.max(error_ms);
    }
}

fn freshness(head: &Head) -> Freshness {
    (head.version, head.expiry.map(|e| (e.stamp, e.at_ms)))
}
