//! Copies what a server is to own from those who own it.
//!
//! While a partition is joint, every owner of its next list asks every owner of the lists as they
//! are for all that it holds of the arc, be it new there or not: a new one takes all of it, one
//! that stays compares, page by page, and takes what is different. A copy is over when a majority
//! of the owners in every prefix of the lists that buckets use has been asked to the end, and the
//! others, too, as far as they answer. All of it is under the epoch that set these lists: what came
//! under another one counts for nothing. Where an operator has accepted the loss of members, and
//! those that are left are no majority, all that are left will do.
//!
//! How far each owner was asked is noted in the batch that holds what it told, so a copy goes on
//! after a restart where it was.
//!
//! # Layout
//! - this file: what is to be asked, and what is done
//! - [`page`]: what is told; [`brought`]: an entry of it, read; `notes`: how far it is
//! - [`empty`]: what goes before it begins; [`handover`]: and after it is over
//! - [`throttle`]: how fast it may be beside clients; [`pace`]: how fast it is

pub mod brought;
pub mod empty;
mod faults;
pub mod handover;
mod notes;
pub mod pace;
pub mod page;
#[cfg(test)]
mod tests;
pub mod throttle;

use crate::holdings::Holding;
use crate::rules::Task;
use crate::store::{Store, StoreError};
use annulet_protocol::copy::{Copied, CopyArc};
use annulet_protocol::epoch::ListPlace;
use annulet_protocol::hash::KeyHash;
use annulet_protocol::ids::NodeId;
use annulet_protocol::message::Answer;
use annulet_protocol::status::CopyState;
use annulet_protocol::table::Joint;
use annulet_protocol::view::{MemberState, View};
use annulet_ring::owners::{Nodes, current_lists, next_lists};
use annulet_ring::quorum::majority;
use bytes::Bytes;
#[cfg(feature = "faults")]
pub use faults::Fault;
use page::Between;
use std::collections::{BTreeMap, BTreeSet};
use xxhash_rust::xxh3::xxh3_64;

/// Pages that are on the way at a time, unless configured.
const UNDER_WAY_MAX: usize = 8;
/// Of these, pages of one owner.
const OF_ONE_MAX: usize = 4;
/// Bytes of a page, unless one record alone has more: short enough that no request of a client
/// waits long for one, and long enough that what a page costs besides hardly counts.
pub const PAGE_BYTES: usize = 256 << 10;
/// The pause, unless configured.
const PAUSE_MS: u64 = 500;
/// The failures, unless configured.
const FAILURES_MAX: u32 = 3;

/// See the module.
#[derive(Clone, Debug)]
pub struct Copier {
    /// Pages that are on the way at a time.
    pub under_way_max: usize,
    /// How long to wait after an owner told nothing, or what it told could not be taken, in
    /// milliseconds.
    pub pause_ms: u64,
    /// So often an owner is asked in vain before a majority of the others will do.
    pub failures_max: u32,
    jobs: BTreeMap<Job, Progress>,
    /// A rule that is broken on purpose, so that tests can show that they would notice.
    #[cfg(feature = "faults")]
    pub fault: Option<Fault>,
}

/// One owner to ask for one arc.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Job {
    from: KeyHash,
    until: KeyHash,
    /// The epoch that set the lists.
    since: u64,
    source: NodeId,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Progress {
    /// The storage key up to which it was asked.
    after: Bytes,
    over: bool,
    busy: bool,
    failures: u32,
    due_ms: u64,
}

/// A page that is on the way; [`Copier::handle_answer`], [`Copier::handle_failure`] or
/// [`Copier::put_off`] must follow.
#[derive(Clone, Debug, PartialEq)]
pub struct Errand {
    /// Whom to ask.
    pub owner: NodeId,
    /// What to ask.
    pub asked: CopyArc,
}

impl Default for Copier {
    fn default() -> Self {
        Self {
            under_way_max: UNDER_WAY_MAX,
            pause_ms: PAUSE_MS,
            failures_max: FAILURES_MAX,
            jobs: BTreeMap::new(),
            #[cfg(feature = "faults")]
            fault: None,
        }
    }
}

impl Job {
    fn covers(&self, other: &Self) -> bool {
        self.from <= other.from && other.until <= self.until && self.source == other.source
    }
}

impl Copier {
    /// One that goes on where its notes say.
    ///
    /// # Errors
    /// What the store says.
    pub fn load(store: &impl Store) -> Result<Self, StoreError> {
        let mut copier = Self::default();
        for (job, after, over) in notes::load(store)? {
            let progress = Progress {
                after,
                over,
                ..Progress::default()
            };
            copier.jobs.insert(job, progress);
        }
        Ok(copier)
    }

    /// Brings what is to be asked in line with a view. Gives what is to be noted no more.
    pub fn follow(&mut self, view: &View, own: NodeId) -> Vec<Task> {
        let before = std::mem::take(&mut self.jobs);
        for joint in &view.table.joint {
            for job in self.wanted(view, own, joint) {
                let known = before.get(&job).cloned();
                // The halves of a partition go on where the whole was.
                let inherited = || {
                    let wholes = before.iter().filter(|(whole, _)| {
                        let same = whole.since == job.since || self.takes_old_copies();
                        same && whole.covers(&job)
                    });
                    wholes
                        .map(|(_, progress)| part(&job, progress))
                        .max_by(further)
                };
                let progress = known.or_else(inherited).unwrap_or_default();
                self.jobs.insert(job, progress);
            }
        }
        let gone = before.keys().filter(|job| !self.jobs.contains_key(job));
        gone.map(|job| Task::Note {
            key: notes::key(job),
            value: None,
            durable: false,
            rests_on: 0,
        })
        .collect()
    }

    /// Whom to ask for a partition that this server is to own.
    fn wanted(&self, view: &View, own: NodeId, joint: &Joint) -> Vec<Job> {
        let partition = joint.partition;
        if !is_next_owner(view, own, joint) {
            return Vec::new();
        }
        let (from, until) = KeyHash::arc(partition, view.table.partitions);
        let since = view.table.lists_epoch(partition);
        let owners = current_owners(view, partition);
        if owners.contains(&own) && self.skips_comparing() {
            return Vec::new();
        }
        let others = owners.into_iter().filter(|owner| *owner != own);
        let job = |source| Job {
            from,
            until,
            since,
            source,
        };
        others.map(job).collect()
    }

    /// Whom to ask next. One owner of an arc is asked at a time, to the end: what the next one has
    /// is then only compared. Different arcs are begun with different owners.
    fn due(&self, unready: &[Holding], now_ms: u64) -> Option<Job> {
        let (mut busy, mut asked) = (BTreeSet::new(), BTreeMap::<_, usize>::new());
        for (job, _) in self.jobs.iter().filter(|(_, progress)| progress.busy) {
            busy.insert((job.from, job.until));
            *asked.entry(job.source).or_default() += 1;
        }
        if busy.len() >= self.under_way_max {
            return None;
        }
        // One that is slow must not keep those from being asked that are not.
        let is_free = |source| asked.get(&source).is_none_or(|n| *n < OF_ONE_MAX);
        let is_ready = |job: &Job| !unready.iter().any(|h| h.meets(job.from, job.until));
        let due = self.jobs.iter().filter(|(job, progress)| {
            let idle = !progress.over && !busy.contains(&(job.from, job.until));
            let idle = idle && is_free(job.source);
            idle && progress.is_due(now_ms, self.pause_ms) && is_ready(job)
        });
        let turn = |(job, progress): &(&Job, &Progress)| {
            let bytes = [job.from.0.to_be_bytes(), job.source.0.to_be_bytes()].concat();
            (
                progress.failures,
                progress.after.is_empty(),
                xxh3_64(&bytes),
            )
        };
        due.min_by_key(turn).map(|(job, _)| *job)
    }

    /// The next page to ask for; `None`: none just now. `unready`: what has to be emptied before it
    /// is copied. [`Errand::compare`] is to follow.
    pub fn next(&mut self, own: NodeId, unready: &[Holding], now_ms: u64) -> Option<Errand> {
        let pause_ms = self.pause_ms;
        let job = self.due(unready, now_ms)?;
        let progress = self.jobs.get_mut(&job)?;
        progress.due_ms = now_ms + pause_ms;
        progress.busy = true;
        Some(Errand {
            owner: job.source,
            asked: CopyArc {
                node: own,
                since: job.since,
                from: job.from,
                until: job.until,
                after: progress.after.clone(),
                last: Bytes::new(),
                digest: None,
                bytes_max: PAGE_BYTES as u32,
            },
        })
    }

    /// Takes what an owner told. Gives what is to be done about it, all of it together, the last
    /// of it only if all else of it was: how far that owner was asked must not be noted of a page
    /// of which something is lacking. [`Copier::handle_done`] must follow.
    pub fn handle_answer(&self, errand: &Errand, page: Copied) -> Vec<Task> {
        let asked = &errand.asked;
        let over = page.reached.is_none();
        let rests_on = page.entries.len();
        let copied = page.entries.into_iter().map(|entry| Task::Copied {
            since: asked.since,
            entry,
        });
        let noted = Task::Note {
            key: notes::key(&errand.job()),
            value: Some(notes::encode(&page.reached.unwrap_or_default(), over)),
            durable: over,
            rests_on,
        };
        copied.chain([noted]).collect()
    }

    /// Takes what became of these tasks: the answers to them, in order.
    pub fn handle_done(&mut self, errand: &Errand, tasks: &[Task], answers: &[Answer]) {
        let taken = |answer: &Answer| matches!(answer, Answer::Written(_));
        if answers.len() != tasks.len() || !answers.iter().all(taken) {
            return self.handle_failure(errand);
        }
        let Some(Task::Note { value, .. }) = tasks.last() else {
            return;
        };
        let noted = value.clone().map(notes::decode);
        if let (Some(progress), Some(Ok((after, over)))) = (self.jobs.get_mut(&errand.job()), noted)
        {
            *progress = Progress {
                after,
                over,
                ..Progress::default()
            };
        }
    }

    /// It was not asked: what is here cannot be read now.
    pub fn put_off(&mut self, errand: &Errand) {
        if let Some(progress) = self.jobs.get_mut(&errand.job()) {
            progress.busy = false;
        }
    }

    /// An owner told nothing, or what it told could not be taken.
    pub fn handle_failure(&mut self, errand: &Errand) {
        if let Some(progress) = self.jobs.get_mut(&errand.job()) {
            progress.busy = false;
            progress.failures += 1;
        }
    }

    /// Partitions of which this server has all that it is to own.
    pub fn done(&self, view: &View, own: NodeId) -> Vec<ListPlace> {
        let joint = view.table.joint.iter();
        let owned = joint.filter(|joint| is_next_owner(view, own, joint));
        let over = owned.filter(|joint| self.is_over(view, own, joint));
        over.map(|joint| ListPlace {
            partition: joint.partition,
            since: view.table.lists_epoch(joint.partition),
        })
        .collect()
    }

    fn is_over(&self, view: &View, own: NodeId, joint: &Joint) -> bool {
        let since = view.table.lists_epoch(joint.partition);
        let (from, until) = KeyHash::arc(joint.partition, view.table.partitions);
        let progress = |source| {
            let job = Job {
                from,
                until,
                since,
                source,
            };
            self.jobs.get(&job)
        };
        let has = |owner: &NodeId| *owner == own || progress(*owner).is_some_and(|p| p.over);
        let owners = current_owners(view, joint.partition);
        if self.skips_comparing() && owners.contains(&own) {
            return true;
        }
        if self.takes_one_copy() {
            return owners.iter().any(has);
        }
        let most = |owner| match is_lost(view, owner) {
            true => 1,
            false => self.failures_max,
        };
        let away = |owner: &NodeId| progress(*owner).is_some_and(|p| p.failures >= most(*owner));
        if !owners.iter().all(|owner| has(owner) || away(owner)) {
            return false;
        }
        let mut lists = current_lists(view, joint.partition);
        lists.retain(|list| !list.is_empty());
        prefixes(view, own, joint).into_iter().all(|replicas| {
            lists.iter().all(|list| {
                let most = match self.takes_list_majority() {
                    true => list.len(),
                    false => list.len().min(replicas),
                };
                let prefix = &list[..most];
                // One of the lost that is back does not stand for one that is left.
                let mut left = prefix.iter().filter(|owner| !is_lost(view, **owner));
                prefix.iter().filter(|owner| has(owner)).count() >= majority(most) || left.all(has)
            })
        })
    }

    /// How far each partition is that this server is to own, be it new there or not.
    pub fn states(&self, view: &View, own: NodeId) -> Vec<CopyState> {
        let mut parts = BTreeMap::<(u32, u64), (f64, usize)>::new();
        for (job, progress) in &self.jobs {
            let partition = job.from.partition(view.table.partitions);
            let (sum, count) = parts.entry((partition, job.since)).or_default();
            *sum += progress.part(job);
            *count += 1;
        }
        let joint = view.table.joint.iter();
        let owned = joint.filter(|joint| is_next_owner(view, own, joint));
        let state = |joint: &Joint| {
            let partition = joint.partition;
            let since = view.table.lists_epoch(partition);
            let over = self.is_over(view, own, joint);
            let part = match parts.get(&(partition, since)) {
                Some((sum, count)) => sum / *count as f64,
                // There is nobody to ask.
                None => f64::from(u8::from(over)),
            };
            CopyState {
                partition,
                since,
                copied_ppm: (part * 1e6) as u32,
                over,
            }
        };
        owned.map(state).collect()
    }
}

impl Progress {
    /// A time that is far ahead is of a clock that was ahead, and has been set right.
    fn is_due(&self, now_ms: u64, pause_ms: u64) -> bool {
        self.due_ms <= now_ms || self.due_ms > now_ms + pause_ms
    }

    /// The part of an arc that was asked for: keys lie evenly on the ring.
    fn part(&self, job: &Job) -> f64 {
        if self.over {
            return 1.0;
        }
        let at = annulet_protocol::hash::parse_storage_key(&self.after);
        let Some((at, _, _)) = at.filter(|(at, _, _)| *at >= job.from) else {
            return 0.0;
        };
        let whole = (job.until.0 - job.from.0) as f64;
        ((at.0 - job.from.0) as f64 / whole.max(1.0)).min(1.0)
    }
}

impl Errand {
    /// Adds what this server has already: an owner that stays has mostly all of it.
    ///
    /// # Errors
    /// What the store says.
    pub fn compare(&mut self, store: &impl Store, view: &View) -> Result<(), StoreError> {
        let asked = &mut self.asked;
        let between = Between {
            view,
            source: self.owner,
            target: asked.node,
        };
        let within = (&asked.after, &Bytes::new());
        let held = between.gather(store, (asked.from, asked.until), within, PAGE_BYTES)?;
        if !held.entries.is_empty() {
            asked.digest = Some(between.digest(&held.entries)?);
            asked.last = held.reached.unwrap_or_default();
        }
        Ok(())
    }

    fn job(&self) -> Job {
        Job {
            from: self.asked.from,
            until: self.asked.until,
            since: self.asked.since,
            source: self.owner,
        }
    }
}

/// What is done of a part of an arc of which so much is done.
fn part(job: &Job, whole: &Progress) -> Progress {
    let end = job.until.0.checked_add(1).map(u64::to_be_bytes);
    let past = end.is_some_and(|end| whole.after[..] >= end[..]);
    let within = whole.after[..] >= job.from.0.to_be_bytes()[..];
    Progress {
        after: match within && !past {
            true => whole.after.clone(),
            false => Bytes::new(),
        },
        over: whole.over || past,
        ..Progress::default()
    }
}

fn further(one: &Progress, other: &Progress) -> std::cmp::Ordering {
    (one.over, &one.after).cmp(&(other.over, &other.after))
}

/// Whether nobody is to wait any more for what only this member has.
fn is_lost(view: &View, node: NodeId) -> bool {
    let member = view.member(node);
    member.is_some_and(|member| member.state == MemberState::Lost)
}

/// All owners of a partition as its lists are, in every region.
fn current_owners(view: &View, partition: u32) -> Nodes {
    current_lists(view, partition)
        .into_iter()
        .flatten()
        .collect()
}

/// Whether a server is an owner by the lists to be.
fn is_next_owner(view: &View, own: NodeId, joint: &Joint) -> bool {
    next_lists(view, joint)
        .iter()
        .any(|list| list.contains(&own))
}

/// The numbers of replicas of buckets in which a server is to own a partition.
fn prefixes(view: &View, own: NodeId, joint: &Joint) -> BTreeSet<usize> {
    let next = next_lists(view, joint);
    let replicas = view.buckets.iter().map(|b| usize::from(b.replicas));
    let owns = |replicas: &usize| {
        let mut lists = next.iter();
        lists.any(|list| list.iter().take(*replicas).any(|owner| *owner == own))
    };
    replicas.filter(owns).collect()
}
