//! What must hold of concurrent values, by the causal history of every write.
//!
//! Every put has a value of its own, by which it is known here. A write has **seen** what its
//! context was made from: the values that a read showed, the value that a put left alone, and all
//! that these had seen. A value is **overwritten** once a write was begun that has seen it.
//!
//! A **fact** says that so many owners know of a put, of a delete, or that a value is gone: an
//! acknowledged write makes one, and so does a completed read. A read must heed every fact that was
//! there when it began and whose holders its own quorum must meet: it shows the value, unless that
//! was overwritten, and it does not show what was.

use super::levels::{Needs, PerRegion};
use super::oracle::KeyId;
use annulet_protocol::ids::OpId;
use annulet_protocol::siblings::message::Merge;
use annulet_protocol::siblings::{Siblings, Write};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Writes by their numbers.
type Writes = BTreeSet<u64>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Causal {
    keys: BTreeMap<KeyId, Key>,
    pending: BTreeMap<u64, Pending>,
    /// Puts by their values.
    puts: BTreeMap<Bytes, Put>,
    /// Puts by their op ids.
    by_op: BTreeMap<OpId, u64>,
    seen: BTreeMap<u64, Writes>,
    overwritten: Writes,
    stored: Writes,
    not_applied: Writes,
    /// Puts that the network doubled: they may be refused once and applied once.
    doubled: Writes,
    losses: u64,
    moves: u64,
}

#[derive(Debug, Default)]
struct Key {
    group: bool,
    facts: BTreeSet<Fact>,
}

/// So many owners know this of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fact {
    needs: Needs,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// A put or a delete, and so all that it has seen.
    Write(u64),
    /// A value that was overwritten.
    Gone(u64),
}

#[derive(Clone, Copy, Debug)]
struct Put {
    number: u64,
    expires_at_ms: Option<u64>,
}

#[derive(Debug)]
struct Pending {
    key: KeyId,
    needs: Needs,
    floor: Vec<Fact>,
    losses: u64,
    moves: u64,
}

/// What a read shows.
#[derive(Debug)]
pub(crate) struct Shown<'a> {
    /// Every value in the record, be it over or not.
    pub(crate) all: Vec<Bytes>,
    /// Those that the application is given.
    pub(crate) live: Vec<&'a Bytes>,
    /// The true time, in milliseconds since the Unix epoch.
    pub(crate) at_ms: u64,
    /// Furthest that the client's clock may be off, in milliseconds.
    pub(crate) margin_ms: u64,
}

/// What is wrong: the oracle's name, and what was seen.
pub(crate) type Wrong = Result<(), (&'static str, String)>;

impl Causal {
    pub(crate) fn know(&mut self, key: KeyId, group: bool) {
        self.keys.entry(key).or_default().group = group;
    }

    /// A read or a write begins.
    pub(crate) fn begin(&mut self, op: u64, key: KeyId, needs: Needs) {
        let facts = self.keys.get(&key).map(|key| &key.facts);
        let floor = facts.into_iter().flatten().copied().collect();
        let (losses, moves) = (self.losses, self.moves);
        let pending = Pending {
            key,
            needs,
            floor,
            losses,
            moves,
        };
        self.pending.insert(op, pending);
    }

    /// A put is made by somebody who has seen this.
    pub(crate) fn put(&mut self, op: u64, write: &Write, seen: Writes) {
        let put = Put {
            number: op,
            expires_at_ms: write.expires_at_ms,
        };
        self.puts.insert(write.value.clone(), put);
        self.by_op.insert(write.op, op);
        self.writes(op, seen);
    }

    /// A write that has seen this is sent.
    pub(crate) fn writes(&mut self, op: u64, seen: Writes) {
        self.overwritten.extend(&seen);
        self.seen.insert(op, seen);
    }

    /// Whether a write was sent: a delete that finds nothing is not.
    pub(crate) fn is_sent(&self, op: u64) -> bool {
        self.seen.contains_key(&op)
    }

    /// A delete is sent, of what its own read has shown.
    pub(crate) fn deletes(&mut self, op: u64, merge: &Merge) {
        let context = Siblings::unseal(merge.bucket, &merge.key, &merge.record);
        let context = context.unwrap_or_default();
        let put = |(op, _): (&OpId, _)| self.by_op.get(op).copied();
        let puts: Writes = context.past().filter_map(put).collect();
        let before = puts.iter().filter_map(|put| self.seen.get(put)).flatten();
        let seen = puts.iter().chain(before).copied().collect();
        self.writes(op, seen);
    }

    /// The value of a write, also if it was left out.
    pub(crate) fn value(&self, write: &Write) -> Bytes {
        let number = self.by_op.get(&write.op);
        let put = self
            .puts
            .iter()
            .find(|(_, put)| Some(&put.number) == number);
        match put {
            Some((value, _)) if write.value.is_empty() => value.clone(),
            _ => write.value.clone(),
        }
    }

    /// The puts of these values.
    pub(crate) fn numbers(&self, values: &[Bytes]) -> Writes {
        let puts = values.iter().filter_map(|value| self.puts.get(value));
        puts.map(|put| put.number).collect()
    }

    /// Whether a value may be gone: overwritten by somebody, or over by then.
    pub(crate) fn may_be_gone(&self, write: u64, at_ms: u64) -> bool {
        let put = self.puts.values().find(|put| put.number == write);
        let over = put.is_some_and(|put| put.expires_at_ms.is_some_and(|end| end <= at_ms));
        over || self.overwritten.contains(&write)
    }

    /// All that a reader of these values has seen.
    pub(crate) fn seen_by(&self, values: &[Bytes]) -> Writes {
        let puts = values.iter().filter_map(|value| self.puts.get(value));
        let each = puts.flat_map(|put| {
            let before = self.seen.get(&put.number);
            before.into_iter().flatten().copied().chain([put.number])
        });
        each.collect()
    }

    /// All that the writer of this had seen before.
    pub(crate) fn seen_before(&self, op: u64) -> Writes {
        self.seen.get(&op).cloned().unwrap_or_default()
    }

    /// All that the writer of this put has seen once it is done.
    pub(crate) fn seen_after(&self, op: u64) -> Writes {
        let before = self.seen.get(&op);
        before.into_iter().flatten().copied().chain([op]).collect()
    }

    /// A write was acknowledged.
    pub(crate) fn written(&mut self, op: u64) {
        if let Some(pending) = self.pending.remove(&op) {
            let needs = pending.needs;
            self.settle(&pending, needs, What::Write(op));
        }
    }

    /// The network doubled a put of this value.
    pub(crate) fn doubled(&mut self, value: &Bytes) {
        let put = self.puts.get(value).map(|put| put.number);
        self.doubled.extend(put);
    }

    /// A server minted this value.
    pub(crate) fn stored(&mut self, value: &Bytes) -> Wrong {
        let Some(put) = self.puts.get(value).copied() else {
            return Ok(());
        };
        self.stored.insert(put.number);
        self.check_applied(put.number)
    }

    /// A write failed, and was said not to be applied.
    pub(crate) fn not_applied(&mut self, op: u64) -> Wrong {
        self.pending.remove(&op);
        self.not_applied.insert(op);
        match self.stored.contains(&op) {
            true => self.check_applied(op),
            false => Ok(()),
        }
    }

    fn check_applied(&self, op: u64) -> Wrong {
        if self.not_applied.contains(&op) && !self.doubled.contains(&op) {
            let why = format!("put {op} was said not to be applied, and a server minted it");
            return Err(("not-applied", why));
        }
        Ok(())
    }

    /// An operation failed, or its client is gone: nothing is known of it.
    pub(crate) fn forget(&mut self, op: u64) {
        self.pending.remove(&op);
    }

    /// A server has merged these values away. One whose clock is behind merges away what is over
    /// for others, so the latest of all clocks counts.
    pub(crate) fn dropped(&self, values: &BTreeSet<Bytes>, now_ms: u64) -> Wrong {
        for put in values.iter().filter_map(|value| self.puts.get(value)) {
            let over = put.expires_at_ms.is_some_and(|end| end <= now_ms);
            if !over && !self.overwritten.contains(&put.number) {
                let why = format!("put {} is gone, and nobody has overwritten it", put.number);
                return Err(("dropped", why));
            }
        }
        Ok(())
    }

    /// A read returned. Checks it against what was known when it began.
    pub(crate) fn read(&mut self, op: u64, shown: &Shown<'_>, owners: PerRegion) -> Wrong {
        let Some(pending) = self.pending.remove(&op) else {
            return Ok(());
        };
        let numbers = self.check_values(op, shown)?;
        let Some(key) = self.keys.get(&pending.key) else {
            return Ok(());
        };
        let exempt = !key.group && pending.losses != self.losses;
        let held = pending.needs.held_after_read(owners);
        let mut found = Vec::new();
        for fact in &pending.floor {
            let kept = pending.moves == self.moves || fact.needs.is_majority(owners);
            if exempt || !kept || !fact.needs.meets(pending.needs, owners) {
                continue;
            }
            self.check_fact(op, *fact, &numbers, shown)?;
            if let What::Write(write) = fact.what
                && !numbers.contains(&write)
            {
                found.push(What::Gone(write));
            }
        }
        found.extend(numbers.iter().map(|number| What::Write(*number)));
        for what in found {
            self.settle(&pending, held, what);
        }
        Ok(())
    }

    fn check_fact(&self, op: u64, fact: Fact, numbers: &Writes, shown: &Shown<'_>) -> Wrong {
        let of = |write: u64| self.puts.values().find(|put| put.number == write);
        let returned = |why: &str, gone: u64| {
            let why = format!("read {op} shows {gone} again: {why} at {:?}", fact.needs);
            Err(("resurrected", why))
        };
        match fact.what {
            What::Gone(write) if numbers.contains(&write) => returned("it was found gone", write),
            What::Gone(_) => Ok(()),
            What::Write(write) => {
                let before = self.seen.get(&write);
                let again = before.into_iter().flatten().find(|w| numbers.contains(w));
                if let Some(again) = again {
                    return returned(&format!("write {write} has seen it"), *again);
                }
                // A delete shows nothing.
                let Some(put) = of(write) else { return Ok(()) };
                let ends = put.expires_at_ms;
                let over = ends.is_some_and(|end| end <= shown.at_ms + shown.margin_ms);
                let missing = !numbers.contains(&write);
                if missing && !over && !self.overwritten.contains(&write) {
                    let why = format!(
                        "read {op} shows {numbers:?}; put {write}, at {:?}, is not overwritten",
                        fact.needs
                    );
                    return Err(("lost", why));
                }
                Ok(())
            }
        }
    }

    /// Every value was put, once, and is shown while it lives.
    fn check_values(&self, op: u64, shown: &Shown<'_>) -> Result<Writes, (&'static str, String)> {
        let mut numbers = Writes::new();
        for value in &shown.all {
            let Some(put) = self.puts.get(value) else {
                let why = format!("read {op} shows {value:?}, which nobody put");
                return Err(("phantom", why));
            };
            if !numbers.insert(put.number) {
                let why = format!("read {op} shows put {} twice", put.number);
                return Err(("twin", why));
            }
            if self.not_applied.contains(&put.number) && !self.doubled.contains(&put.number) {
                let why = format!("read {op} shows put {}, said not to be applied", put.number);
                return Err(("not-applied", why));
            }
            let given = shown.live.contains(&value);
            let ends = put.expires_at_ms.unwrap_or(u64::MAX);
            let over = ends < shown.at_ms.saturating_sub(shown.margin_ms);
            let alive = ends > shown.at_ms + shown.margin_ms;
            if given && over || !given && alive {
                let why = format!("read {op} at {} says live={given} of {put:?}", shown.at_ms);
                return Err(("expired", why));
            }
        }
        Ok(numbers)
    }

    fn settle(&mut self, pending: &Pending, needs: Needs, what: What) {
        let Some(key) = self.keys.get_mut(&pending.key) else {
            return;
        };
        // What is learned while something is lost or moved may be lost or moved with it.
        let same = pending.moves == self.moves;
        if (key.group || pending.losses == self.losses) && same {
            key.facts.insert(Fact { needs, what });
        }
    }

    pub(crate) fn lost_unsynced(&mut self) {
        self.losses += 1;
        for key in self.keys.values_mut().filter(|key| !key.group) {
            key.facts.clear();
        }
    }

    pub(crate) fn moved(&mut self, owners: impl Fn(KeyId) -> PerRegion) {
        self.moves += 1;
        for (id, key) in &mut self.keys {
            let owners = owners(*id);
            key.facts.retain(|fact| fact.needs.is_majority(owners));
        }
    }

    pub(crate) fn bucket_deleted(&mut self, bucket: u32) {
        self.keys.retain(|(of, _), _| *of != bucket);
    }
}
