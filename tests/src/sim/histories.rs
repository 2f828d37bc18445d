//! What must hold of strong buckets: the operations on each key have one order that explains them.
//!
//! Every operation is noted with its times and what came of it, and in the end the checker of
//! histories looks for that order. What an operation proposes is noted as well, by the version that
//! it makes: so reads that show no value, and those of what any one owner has, can be checked too.
//!
//! In a register a value does not go by itself, so keys whose values expire are not part of it.
//! Their versions must rise, and nothing may be shown that is over, or said to be absent before a
//! round has settled that.

use super::causal::Wrong;
use super::oracle::KeyId;
use super::scenario::Micros;
use annulet::core::strong::{Resolved, StrongDone};
use annulet::{OpId, Outcome};
use annulet_history::{Answer, Op, Operation, STEPS_MAX, check, check_versions};
use annulet_protocol::ballot::Ballot;
use annulet_protocol::ids;
use annulet_protocol::record::Kind;
use annulet_protocol::register::message::Accept;
use annulet_protocol::register::{Fate, Head, Log};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Versions of a key that somebody remembers.
const REMEMBERED_MAX: usize = 6;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Histories {
    under_way: BTreeMap<u64, Asked>,
    /// What is over, by the number of the operation.
    operations: BTreeMap<u64, Operation>,
    /// What a round may make of a key, by its version.
    proposed: BTreeMap<(KeyId, Ballot), Proposed>,
    /// Every end of a value that a round may have set.
    ends: BTreeSet<(KeyId, Ballot, Option<u64>)>,
    /// The version that an operation was said to have made.
    applied: BTreeMap<ids::OpId, Ballot>,
    not_applied: BTreeSet<ids::OpId>,
    /// Writes whose value was shown as the newest.
    shown: BTreeSet<ids::OpId>,
    /// Writes of unknown outcome, with their keys.
    open: BTreeMap<u64, (KeyId, OpId)>,
    /// What was said of these.
    resolved: BTreeMap<u64, (ids::OpId, Option<Resolved<Ballot>>)>,
    seen: BTreeMap<KeyId, Vec<Ballot>>,
    /// The highest version of each key that was shown or made.
    highest: BTreeMap<KeyId, Ballot>,
}

/// An operation as it is called.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) key: KeyId,
    pub(crate) name: ids::OpId,
    pub(crate) what: What,
    /// Who calls it, a client in one of its lives.
    pub(crate) process: u64,
    pub(crate) start_us: Micros,
    /// Values of the key expire.
    pub(crate) expires: bool,
    /// Rounds that it began by asking for promises.
    pub(crate) prepared: BTreeSet<Ballot>,
    /// It proposed before anybody promised anything.
    pub(crate) by_reserved: bool,
    proposed: bool,
    /// The network doubled what it proposes: that may be refused once and accepted once.
    doubled: bool,
    /// The highest version of the key when it was called.
    floor: Ballot,
}

/// What is asked of a key.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// The value, or only whether there is one; of any owner, or the newest.
    Read { stale: bool },
    /// A put or a delete, on whatever condition.
    Write(Op),
    /// Another end for the value.
    Touch,
    /// What became of a write.
    Resolve { write: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Proposed {
    /// Who made it.
    by: ids::OpId,
    /// `None`: there is no value.
    value: Option<Bytes>,
}

/// When a read returned, and how far its client's clock may be off then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now_us: Micros,
    /// The true time, in milliseconds since the Unix epoch.
    pub(crate) at_ms: u64,
    pub(crate) margin_ms: u64,
}

impl Asked {
    pub(crate) fn new(
        (key, expires): (KeyId, bool),
        name: ids::OpId,
        what: What,
        (process, start_us): (u64, Micros),
    ) -> Self {
        Self {
            key,
            name,
            what,
            process,
            start_us,
            expires,
            prepared: BTreeSet::new(),
            by_reserved: false,
            proposed: false,
            doubled: false,
            floor: Ballot::default(),
        }
    }

    fn over(&self, op: Op, end_us: Option<Micros>, outcome: annulet_history::Outcome) -> Operation {
        let (bucket, key) = self.key;
        Operation {
            process: self.process,
            key: format!("{bucket}/{key}").into(),
            op,
            start_ns: self.start_us * 1_000,
            end_ns: end_us.map(|end_us| end_us * 1_000),
            outcome,
        }
    }
}

fn wrong(oracle: &'static str, why: String) -> Wrong {
    Err((oracle, why))
}

impl Histories {
    /// An operation is called.
    pub(crate) fn begin(&mut self, op: u64, asked: Asked) {
        let floor = self.highest.get(&asked.key).copied().unwrap_or_default();
        self.under_way.insert(op, Asked { floor, ..asked });
    }

    pub(crate) fn under_way(&self, op: u64) -> Option<&Asked> {
        self.under_way.get(&op)
    }

    /// An operation asks for promises. Says whether it was outbid before.
    pub(crate) fn prepares(&mut self, op: u64, ballot: Ballot) -> bool {
        self.under_way.get_mut(&op).is_some_and(|asked| {
            let again = !asked.prepared.is_empty() || asked.proposed;
            asked.prepared.insert(ballot) && again
        })
    }

    /// An operation proposes something.
    pub(crate) fn proposes(&mut self, op: u64, accept: &Accept) -> Wrong {
        let Some(asked) = self.under_way.get_mut(&op) else {
            return Ok(());
        };
        asked.by_reserved |= asked.prepared.is_empty();
        asked.proposed = true;
        let (head, key) = (&accept.head, asked.key);
        self.ends.insert((key, head.version, head.expires_at_ms));
        if head.version != accept.ballot {
            return Ok(());
        }
        let new = Proposed {
            by: head.op,
            value: (head.kind == Kind::Value).then(|| accept.value.clone()),
        };
        let before = self
            .proposed
            .entry((key, head.version))
            .or_insert(new.clone());
        match *before == new {
            true => Ok(()),
            false => wrong(
                "one-stamp",
                format!("operation {op} proposes {new:?} and {before:?}"),
            ),
        }
    }

    /// The network doubled what an operation proposes.
    pub(crate) fn doubled(&mut self, op: u64) {
        if let Some(asked) = self.under_way.get_mut(&op) {
            asked.doubled = true;
        }
    }

    /// A read returned.
    pub(crate) fn read(&mut self, op: u64, done: &StrongDone, moment: Moment) -> Wrong {
        let Some(asked) = self.under_way.remove(&op) else {
            return Ok(());
        };
        let head = done.head.filter(|head| head.version != Ballot::default());
        let Some(head) = head else {
            return self.found_nothing(op, &asked, moment);
        };
        let Some(proposed) = self.proposed.get(&(asked.key, head.version)).cloned() else {
            return wrong(
                "phantom",
                format!("read {op} shows {head:?}, which nobody wrote"),
            );
        };
        let same = proposed.value.is_some() == (head.kind == Kind::Value);
        let value = done.value.as_ref();
        if !same || value.is_some_and(|value| Some(value) != proposed.value.as_ref()) {
            let why = format!("read {op} shows {head:?} with {value:?}, written was {proposed:?}");
            return wrong("phantom", why);
        }
        self.check_end(op, &asked, (&head, done.live), moment)?;
        if matches!(asked.what, What::Read { stale: true }) {
            return Ok(());
        }
        self.sees(op, &asked, head.version, false)?;
        // Whoever finds that a value is over puts a tombstone in its place, and may want no more.
        let is_effect = proposed.value.is_some() || !asked.expires;
        if is_effect {
            self.shown.insert(proposed.by);
        }
        if is_effect && self.not_applied.contains(&proposed.by) {
            let why = format!("read {op} shows {head:?}, said not to be applied");
            return wrong("not-applied", why);
        }
        let answer = match proposed.value.filter(|_| done.live) {
            Some(value) => Answer::Found {
                value,
                version: Some(head.version.to_string()),
            },
            None => Answer::Absent,
        };
        self.answered(op, &asked, answer, moment.now_us);
        Ok(())
    }

    fn found_nothing(&mut self, op: u64, asked: &Asked, moment: Moment) -> Wrong {
        if !matches!(asked.what, What::Read { stale: true }) {
            self.sees(op, asked, Ballot::default(), false)?;
            self.answered(op, asked, Answer::Absent, moment.now_us);
        }
        Ok(())
    }

    /// What is over is not shown, and not said to be over before a round has settled that.
    fn check_end(
        &self,
        op: u64,
        asked: &Asked,
        (head, live): (&Head, bool),
        moment: Moment,
    ) -> Wrong {
        if !self
            .ends
            .contains(&(asked.key, head.version, head.expires_at_ms))
        {
            return wrong(
                "phantom",
                format!("read {op} shows an end that nobody set: {head:?}"),
            );
        }
        let Moment {
            at_ms, margin_ms, ..
        } = moment;
        let over = head
            .expires_at_ms
            .is_some_and(|end| end + margin_ms < at_ms);
        let settled = matches!(asked.what, What::Read { stale: false });
        if live && over || settled && !live && head.kind == Kind::Value {
            let why = format!("read {op} at {at_ms} says live={live} of {head:?}");
            return wrong("expired", why);
        }
        Ok(())
    }

    /// An operation has shown or made a version.
    fn sees(&mut self, op: u64, asked: &Asked, version: Ballot, made: bool) -> Wrong {
        let highest = self.highest.entry(asked.key).or_default();
        *highest = version.max(*highest);
        if version < asked.floor || made && version == asked.floor {
            let why = format!("operation {op} is at {version}, after {}", asked.floor);
            return wrong("monotonic", why);
        }
        let seen = self.seen.entry(asked.key).or_default();
        if version != Ballot::default() && seen.last() != Some(&version) {
            seen.push(version);
        }
        if seen.len() > REMEMBERED_MAX {
            seen.remove(0);
        }
        Ok(())
    }

    fn answered(&mut self, op: u64, asked: &Asked, answer: Answer, now_us: Micros) {
        let what = match &asked.what {
            What::Read { .. } => Op::Get,
            What::Write(write) => write.clone(),
            What::Touch | What::Resolve { .. } => return,
        };
        if !asked.expires {
            let outcome = annulet_history::Outcome::Ok(answer);
            let operation = asked.over(what, Some(now_us), outcome);
            self.operations.insert(op, operation);
        }
    }

    /// A write was applied.
    pub(crate) fn written(&mut self, op: u64, version: Ballot, now_us: Micros) -> Wrong {
        let Some(asked) = self.under_way.remove(&op) else {
            return Ok(());
        };
        let made = !matches!(asked.what, What::Touch);
        if !self.proposed.contains_key(&(asked.key, version)) {
            return wrong(
                "phantom",
                format!("write {op} made {version}, which nobody proposed"),
            );
        }
        self.sees(op, &asked, version, made)?;
        if made {
            self.applied.insert(asked.name, version);
        }
        let version = Some(version.to_string());
        self.answered(op, &asked, Answer::Written { version }, now_us);
        Ok(())
    }

    /// The condition of a write did not hold.
    pub(crate) fn not_held(&mut self, op: u64, now_us: Micros) -> Wrong {
        let Some(asked) = self.under_way.remove(&op) else {
            return Ok(());
        };
        self.is_not_applied(op, asked.name)?;
        if !matches!(asked.what, What::Write(Op::Cas { .. })) {
            return wrong(
                "not-applied",
                format!("{op} has no condition that could not hold"),
            );
        }
        self.answered(op, &asked, Answer::NotHeld, now_us);
        Ok(())
    }

    /// An operation failed; a write with this outcome, and its name if anybody can ask what became
    /// of it.
    pub(crate) fn failed(
        &mut self,
        op: u64,
        outcome: Option<Outcome>,
        name: Option<OpId>,
        now_us: Micros,
    ) -> Wrong {
        let Some(asked) = self.under_way.remove(&op) else {
            return Ok(());
        };
        let what = match &asked.what {
            What::Read { .. } | What::Resolve { .. } => return Ok(()),
            What::Write(write) => Some(write.clone()),
            What::Touch => None,
        };
        let said = match (outcome, name) {
            (Some(Outcome::NotApplied), _) if asked.doubled => annulet_history::Outcome::Unknown,
            (Some(Outcome::NotApplied), _) => {
                self.is_not_applied(op, asked.name)?;
                annulet_history::Outcome::NotApplied
            }
            (Some(Outcome::Unknown), Some(name)) => {
                self.open.insert(op, (asked.key, name));
                annulet_history::Outcome::Unknown
            }
            (Some(Outcome::Unknown), None) => {
                return wrong("not-applied", format!("nobody can ask about write {op}"));
            }
            (None, _) => return wrong("not-applied", format!("write {op} says nothing")),
        };
        if let (Some(what), false) = (what, asked.expires) {
            self.operations
                .insert(op, asked.over(what, Some(now_us), said));
        }
        self.resolved.insert(op, (asked.name, None));
        Ok(())
    }

    /// A write was said not to be applied, now and for ever.
    fn is_not_applied(&mut self, op: u64, name: ids::OpId) -> Wrong {
        self.not_applied.insert(name);
        match self.shown.contains(&name) {
            true => wrong(
                "not-applied",
                format!("write {op} was shown, and is not applied"),
            ),
            false => Ok(()),
        }
    }

    /// Nobody will hear of an operation any more: its client died, or does not wait.
    pub(crate) fn forget(&mut self, op: u64) {
        let Some(asked) = self.under_way.remove(&op) else {
            return;
        };
        if let (What::Write(write), false) = (&asked.what, asked.expires) {
            let unknown = annulet_history::Outcome::Unknown;
            self.operations
                .insert(op, asked.over(write.clone(), None, unknown));
        }
    }

    /// It was said what became of a write.
    pub(crate) fn resolved(&mut self, op: u64, said: &Resolved<Ballot>, now_us: Micros) -> Wrong {
        let Some(asked) = self.under_way.remove(&op) else {
            return Ok(());
        };
        let What::Resolve { write } = asked.what else {
            return Ok(());
        };
        let Some((name, before)) = self.resolved.get(&write).cloned() else {
            return Ok(());
        };
        if let Some(before) = before.filter(|before| before != said)
            && !matches!(
                (&before, said),
                (_, Resolved::Forgotten) | (Resolved::Forgotten, _)
            )
        {
            let why = format!("write {write} was {before:?}, and is {said:?}");
            return wrong("not-applied", why);
        }
        self.resolved.insert(write, (name, Some(said.clone())));
        match said {
            Resolved::Applied { version } => {
                if let Some(operation) = self.operations.get_mut(&write)
                    && operation.outcome == annulet_history::Outcome::Unknown
                {
                    let version = Some(version.to_string());
                    operation.outcome = annulet_history::Outcome::Ok(Answer::Written { version });
                    operation.end_ns = Some(now_us * 1_000);
                }
                self.applied.insert(name, *version);
                self.applied_after_all(write, name)
            }
            Resolved::NotApplied => {
                if let Some(operation) = self.operations.get_mut(&write) {
                    operation.outcome = annulet_history::Outcome::NotApplied;
                }
                self.is_not_applied(write, name)
            }
            Resolved::Forgotten => Ok(()),
        }
    }

    fn applied_after_all(&self, write: u64, name: ids::OpId) -> Wrong {
        match self.not_applied.contains(&name) {
            true => wrong(
                "not-applied",
                format!("write {write} was not applied, and is"),
            ),
            false => Ok(()),
        }
    }

    /// Writes of a key of which nobody knows what became of them.
    pub(crate) fn open(&self, key: KeyId) -> Vec<(u64, OpId)> {
        let open = self.open.iter().filter(|(_, (of, _))| *of == key);
        open.map(|(write, (_, name))| (*write, *name)).collect()
    }

    /// Versions of a key that somebody has seen, the last one at the end.
    pub(crate) fn seen(&self, key: KeyId) -> &[Ballot] {
        self.seen.get(&key).map_or(&[], |seen| seen)
    }

    /// What a majority holds in the end remembers the last operations: each was applied at most
    /// once, and none of those that were said not to be.
    pub(crate) fn remembers(&self, key: KeyId, log: &Log) -> Wrong {
        let mut applied = BTreeSet::new();
        for entry in log.iter().filter(|entry| entry.fate == Fate::Applied) {
            if !applied.insert(entry.op) {
                return wrong("twin", format!("{key:?}: {:?} was applied twice", entry.op));
            }
            let told = self.applied.get(&entry.op);
            if self.not_applied.contains(&entry.op) || told.is_some_and(|told| *told != entry.at) {
                let why = format!("{key:?}: {entry:?} was applied, and told was {told:?}");
                return wrong("not-applied", why);
            }
        }
        let refused = log.iter().filter(|entry| entry.fate == Fate::Refused);
        for entry in refused {
            if applied.contains(&entry.op) || self.applied.contains_key(&entry.op) {
                return wrong("not-applied", format!("{key:?}: {entry:?} was applied"));
            }
        }
        Ok(())
    }

    /// One order explains all that was answered.
    pub(crate) fn check(&mut self) -> Wrong {
        for op in self.under_way.keys().copied().collect::<Vec<_>>() {
            self.forget(op);
        }
        let all: Vec<_> = self.operations.values().cloned().collect();
        let checked = check(&all, STEPS_MAX).and_then(|()| check_versions(&all));
        checked.map_err(|failure| ("linearizable", failure.to_string()))
    }
}
