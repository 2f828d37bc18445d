//! What follows a view by itself: lists move towards a balanced table, who has joined comes to own
//! its share, who leaves is gone in the end. One keeper proposes it, the first that is there; two
//! at a time are only in each other's way.

use super::propose::{self, NotMade};
use crate::clock;
use crate::http::State;
use crate::random;
use annulet_protocol::epoch::{
    ChainAnswer, ChainQuestion, Copies, CopiesOver, EpochRecord, ListChange, ListPlace, Offer, Step,
};
use annulet_protocol::ids::{ChangeId, NodeId};
use annulet_protocol::table::Joint;
use annulet_protocol::view::{MemberState, View};
use annulet_ring::chain::course::{self, Missing};
use annulet_ring::chain::{self, Objection};
use annulet_ring::owners::next_lists;
use annulet_ring::planner::Limits;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Time between two looks while nothing is under way.
const EVERY: Duration = Duration::from_secs(1);
/// The same after something was proposed. While what is under way is not over, it is twice as long
/// from look to look, up to [`EVERY`], and never shorter than a look: with many servers, and with
/// much to copy, there is no hurry.
const SOON: Duration = Duration::from_millis(50);
/// How long a server that is to leave does not answer until nobody waits for it any more.
const SILENT_MAX: Duration = Duration::from_secs(10);
/// Servers that are asked at a time.
const ASKED_MAX: usize = 64;
/// How much moves at a time: in the whole cluster, to one server, and from one.
const LIMITS: Limits = Limits {
    total: 1_024,
    arriving: 16,
    giving: 16,
};

/// Looks for ever.
pub(super) async fn run(state: &Arc<State>) {
    // The epoch after which nothing was to follow.
    let mut still = None;
    let mut silent = Silent::default();
    let (mut pause, mut soon) = (EVERY, SOON);
    loop {
        tokio::time::sleep(pause).await;
        pause = EVERY;
        let view = state.view();
        if !leads(state, &view) || still == Some(view.ordinal()) {
            continue;
        }
        let began = clock::now();
        let stepped = step(state, &view, &mut silent).await;
        let took = clock::since(began);
        match stepped {
            Ok(true) => (soon, pause) = (SOON, SOON.max(took)),
            Ok(false) if waits(&view) => {
                pause = soon.max(took);
                soon = (soon * 2).min(EVERY);
            }
            // Those that do not answer now may come back.
            Ok(false) if course::lacks_keepers(&view) || !silent.0.is_empty() => {}
            Ok(false) => still = Some(view.ordinal()),
            Err(NotMade::Objection(objection)) => {
                tracing::debug!(%objection, "what was to follow the view does not any more");
            }
            Err(NotMade::Unavailable { why, .. }) => {
                tracing::warn!(%why, "what is to follow the view cannot be decided now");
            }
            Err(NotMade::Failed) => return,
        }
    }
}

/// Whether this server is the first keeper that is there.
fn leads(state: &State, view: &View) -> bool {
    let mut keepers = view.tip.keepers.iter();
    let first = keepers.find(|keeper| **keeper == state.node || state.peers.is_heard(**keeper));
    first == Some(&state.node)
}

/// Whether something is under way that ends by itself.
fn waits(view: &View) -> bool {
    let joining = |state| state == MemberState::Joining;
    !view.table.joint.is_empty()
        || view.members.iter().any(|m| joining(m.state))
        || !course::emptied(view).is_empty()
}

/// Proposes what should follow. Says whether there was something.
async fn step(state: &Arc<State>, view: &Arc<View>, silent: &mut Silent) -> Result<bool, NotMade> {
    let Ok(bits) = random::bytes() else {
        return Ok(false);
    };
    let change = ChangeId(bits);
    let ready = ready(state, view).await;
    let record = match chain::activate(view, change, &ready) {
        Some(record) => Some(record),
        None => {
            let done = done(state, view, silent).await;
            follow(state, view, change, done, silent).await?
        }
    };
    let Some(record) = record else {
        return Ok(false);
    };
    let (opened, members) = (record.lists.len(), record.members.len());
    tracing::info!(lists = opened, members, "the ring goes on");
    let own = |now: &View| match now.point() == view.point() {
        true => Ok(record.clone()),
        false => Err(Objection::Conflict("the view is another one".into())),
    };
    propose::make(state, change, own).await?;
    Ok(true)
}

/// The record that follows by itself, which gives something only to servers that answer.
async fn follow(
    state: &Arc<State>,
    view: &Arc<View>,
    change: ChangeId,
    done: (Vec<u32>, Vec<NodeId>),
    silent: &mut Silent,
) -> Result<Option<EpochRecord>, NotMade> {
    let done = Arc::new(done);
    let mut asked = BTreeSet::new();
    loop {
        let (lost, now) = (silent.lost(clock::now()), silent.all());
        let absent = propose::absent(state, view);
        let (before, done) = (Arc::clone(view), Arc::clone(&done));
        // It takes some hundred milliseconds where there are tens of thousands of servers.
        let follows = move || {
            let missing = Missing {
                lost: &lost,
                silent: &now,
                absent: &absent,
            };
            course::follow(&before, change, (&done.0, &done.1), missing, LIMITS)
        };
        let record = match tokio::task::spawn_blocking(follows).await {
            Ok(Ok(record)) => record,
            Ok(Err(error)) => {
                tracing::error!(%error, "no table can be planned for these members");
                return Ok(None);
            }
            Err(_) => return Err(NotMade::Failed),
        };
        let gain = record.as_ref().map(|record| gaining(view, record));
        let gain: Vec<_> = gain.into_iter().flatten().collect();
        let new: Vec<_> = gain
            .into_iter()
            .filter(|node| asked.insert(*node))
            .collect();
        if new.is_empty() || !silent.ask(state, new).await {
            return Ok(record);
        }
    }
}

/// Members that come to own something by a record.
fn gaining(view: &View, record: &EpochRecord) -> BTreeSet<NodeId> {
    let opened = record.lists.iter().filter_map(|change| match change {
        ListChange::Opened(next) => Some(next.step),
        ListChange::Closed(_) | ListChange::Aborted(_) => None,
    });
    let comes = opened.filter_map(|step| match step {
        Step::Replaced { owner, .. } | Step::Inserted { owner, .. } => Some(owner),
        Step::Removed { .. } | Step::Swapped { .. } => None,
    });
    let members = comes.filter_map(|owner| view.members.get(owner as usize));
    members.map(|member| member.id).collect()
}

/// Members that have joined and hold the view.
async fn ready(state: &Arc<State>, view: &View) -> Vec<NodeId> {
    let joining = view.members.iter();
    let joining = joining.filter(|member| member.state == MemberState::Joining);
    let joining = joining.map(|member| member.id).collect();
    let held = held_by(state, joining).await.into_iter();
    let ready = held.filter(|(_, epoch)| *epoch >= view.ordinal());
    ready.map(|(node, _)| node).collect()
}

/// The newest epoch, as an ordinal, that each of these servers holds, of those that answer.
pub(crate) async fn held_by(state: &Arc<State>, nodes: Vec<NodeId>) -> BTreeMap<NodeId, u64> {
    let offer = ChainQuestion::Offer(Offer::question());
    let answers = ask_all(state, nodes, &offer).await.into_iter();
    let held = answers.filter_map(|(node, answer)| match answer {
        ChainAnswer::Holds(point) => Some((node, point.ordinal())),
        _ => None,
    });
    held.collect()
}

/// Since when servers were asked in vain.
#[derive(Debug, Default)]
struct Silent(BTreeMap<NodeId, Instant>);

impl Silent {
    fn note(&mut self, asked: &[NodeId], answers: &[(NodeId, ChainAnswer)], now: Instant) {
        for node in asked {
            if answers.iter().any(|(from, _)| from == node) {
                self.0.remove(node);
            } else {
                self.0.entry(*node).or_insert(now);
            }
        }
    }

    /// Those that did not answer when they were asked last.
    fn all(&self) -> Vec<NodeId> {
        self.0.keys().copied().collect()
    }

    /// Asks servers whether they are there. Says whether one of them is not.
    async fn ask(&mut self, state: &Arc<State>, nodes: Vec<NodeId>) -> bool {
        let question = ChainQuestion::Copies(Copies {});
        let answers = ask_all(state, nodes.clone(), &question).await;
        self.note(&nodes, &answers, clock::now());
        nodes.iter().any(|node| self.0.contains_key(node))
    }

    /// Those that nobody should wait for any more, if they are to leave anyway.
    fn lost(&self, now: Instant) -> Vec<NodeId> {
        let long = |since: &Instant| now.saturating_duration_since(*since) >= SILENT_MAX;
        let lost = self.0.iter().filter(|(_, since)| long(since));
        lost.map(|(node, _)| *node).collect()
    }
}

/// Joint partitions of which every owner to be has all that it should, and members that own nothing
/// any more and have handed over all that they had.
async fn done(state: &Arc<State>, view: &View, silent: &mut Silent) -> (Vec<u32>, Vec<NodeId>) {
    let emptied = course::emptied(view);
    let mut asked: BTreeSet<_> = emptied.iter().copied().collect();
    for joint in &view.table.joint {
        asked.extend(next_lists(view, joint).into_iter().flatten());
    }
    silent.0.retain(|node, _| view.member(*node).is_some());
    // Who comes back is to have its share.
    asked.extend(silent.all());
    let asked: Vec<_> = asked.into_iter().collect();
    let question = ChainQuestion::Copies(Copies {});
    let answers = ask_all(state, asked.clone(), &question).await;
    silent.note(&asked, &answers, clock::now());
    let copied = answers
        .into_iter()
        .filter_map(|(node, answer)| match answer {
            ChainAnswer::Copied(copied) => Some((node, copied)),
            _ => None,
        });
    let copied: BTreeMap<NodeId, CopiesOver> = copied.collect();
    let mut handed = emptied;
    handed.retain(|node| {
        let said = copied.get(node);
        said.is_some_and(|said| said.has_handed_over(view.ordinal()))
    });
    let places = |said: CopiesOver| -> BTreeSet<(u32, u64)> {
        let place = |place: ListPlace| (place.partition, place.since);
        said.over.into_iter().map(place).collect()
    };
    let of_this = copied.into_iter().filter(|(_, said)| said.is_of(view));
    let over = of_this.map(|(node, said)| (node, places(said)));
    let over: BTreeMap<NodeId, _> = over.collect();
    let is_done = |joint: &&Joint| {
        let place = (joint.partition, view.table.lists_epoch(joint.partition));
        let has = |node| over.get(&node).is_some_and(|over| over.contains(&place));
        course::awaited(view, joint).into_iter().all(has)
    };
    let done = view.table.joint.iter().filter(is_done);
    (done.map(|joint| joint.partition).collect(), handed)
}

/// What those who answer say.
async fn ask_all(
    state: &Arc<State>,
    nodes: Vec<NodeId>,
    question: &ChainQuestion,
) -> Vec<(NodeId, ChainAnswer)> {
    let mut answers = Vec::new();
    let mut asked = JoinSet::new();
    for node in nodes {
        if asked.len() >= ASKED_MAX {
            answers.extend(asked.join_next().await);
        }
        let (state, question) = (Arc::clone(state), question.clone());
        asked.spawn(async move { (node, propose::ask(&state, node, question).await) });
    }
    while let Some(answer) = asked.join_next().await {
        answers.push(answer);
    }
    let said = answers.into_iter().filter_map(|answer| {
        let (node, answer) = answer.ok()?;
        Some((node, answer.ok()?))
    });
    said.collect()
}
