//! What this server comes to own: emptied, copied from those who own it; and what it owns no more:
//! handed over, then dropped.

use super::ask::ask;
use super::{in_store, note};
use crate::clock;
use crate::http::State;
use crate::peers::link::Link;
use crate::store::wrap::Plain;
use crate::tls::Tls;
use annulet_protocol::codec::request_bytes_max;
use annulet_protocol::ids::NodeId;
use annulet_protocol::limits::PAGE_BYTES_MAX;
use annulet_protocol::message::{Answer, Operation};
use annulet_replica::copy::empty::Emptier;
use annulet_replica::copy::handover::{Handover, Round};
use annulet_replica::copy::{Copier, Errand};
use annulet_replica::holdings::Holdings;
use annulet_replica::rules::{Mutation, Task};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Time between two looks while there is nothing to do.
const EVERY: Duration = Duration::from_millis(200);
/// Longest time that an owner has for a page.
const PAGE: Duration = Duration::from_secs(30);
/// Longest time that an owner has to compare.
const COMPARE: Duration = Duration::from_secs(10);
/// Longest answer to a comparison.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Once the write lane takes so long, copies wait for the writes of clients.
const DELAYED: Duration = Duration::from_millis(10);
/// How often longer than that a copy waits then.
const YIELDS: u32 = 2;
/// Idle connections kept to each owner.
const LINKS_MAX: usize = 4;

/// Empties and copies for ever.
pub(super) async fn run(state: &Arc<State>, tls: &Arc<Tls>) {
    let loaded = in_store(state, |state| Copier::load(&Plain(state.pipeline.engine())));
    match loaded.await {
        Some(Ok(copier)) => *state.upkeep.copier() = copier,
        Some(Err(error)) => {
            // What is noted is only how far copies are: they begin anew.
            tracing::error!(%error, "it cannot be read how far copies are");
        }
        None => return,
    }
    let mut emptier = Emptier::default();
    let mut followed = None;
    let start = clock::now();
    let mut under_way = JoinSet::new();
    let mut links = HashMap::<NodeId, Vec<Link>>::new();
    loop {
        emptier = match empty(state, emptier).await {
            Some(emptier) => emptier,
            None => return,
        };
        let view = state.view();
        if followed != Some(view.ordinal()) {
            let stale = state.upkeep.copier().follow(&view, state.node);
            note(state, stale.into_iter().map(Mutation::Task).collect()).await;
            state.upkeep.pace().follow(&view, state.node);
            followed = Some(view.ordinal());
        }
        let states = || state.upkeep.copier().states(&view, state.node);
        let (now_ms, bytes) = (
            clock::since(start).as_millis(),
            state.metrics.copied_bytes.get(),
        );
        state.upkeep.pace().sample(now_ms as u64, states, bytes);
        while let Some(errand) = next(state).await {
            let link = links.get_mut(&errand.owner).and_then(Vec::pop);
            let (state, tls) = (Arc::clone(state), Arc::clone(tls));
            under_way.spawn(async move { fetch(&state, &tls, errand, link).await });
        }
        let ended = tokio::time::timeout(EVERY, under_way.join_next()).await;
        match ended {
            Ok(Some(Ok((owner, Some(link))))) => {
                let idle = links.entry(owner).or_default();
                if idle.len() < LINKS_MAX {
                    idle.push(link);
                }
            }
            Ok(Some(_)) => {}
            // Nothing is on the way: connections that nobody uses are closed.
            Ok(None) => {
                links.clear();
                tokio::time::sleep(EVERY).await;
            }
            Err(_) => {}
        }
    }
}

/// Empties what was gained, as far as there is something. `None`: the runtime ends.
async fn empty(state: &Arc<State>, mut emptier: Emptier) -> Option<Emptier> {
    loop {
        let served = state.served();
        if served.unready.is_empty() {
            return Some(emptier);
        }
        let stepped = in_store(state, move |state| {
            let store = Plain(state.pipeline.engine());
            let tasks = emptier.step(&store, &served.view, &served.unready);
            (emptier, tasks)
        });
        let tasks;
        (emptier, tasks) = stepped.await?;
        match tasks {
            Ok(tasks) => note(state, tasks.into_iter().map(Mutation::Task).collect()).await,
            Err(error) => {
                tracing::error!(%error, "what is to be owned anew cannot be emptied");
                return Some(emptier);
            }
        }
        if state.pipeline.failed().is_some() {
            return None;
        }
    }
}

/// The next page to ask for.
async fn next(state: &Arc<State>) -> Option<Errand> {
    let next = in_store(state, |state| {
        let served = state.served();
        let store = Plain(state.pipeline.engine());
        let (view, unready) = (&served.view, &served.unready);
        let mut copier = state.upkeep.copier();
        copier.next(&store, view, state.node, unready, clock::now_ms())
    });
    match next.await? {
        Ok(errand) => errand,
        Err(error) => {
            tracing::error!(%error, "an arc that is copied cannot be read here");
            None
        }
    }
}

/// Fetches a page and merges it. Gives the connection back if it is of use.
async fn fetch(
    state: &Arc<State>,
    tls: &Tls,
    errand: Errand,
    mut link: Option<Link>,
) -> (NodeId, Option<Link>) {
    yield_to_clients(state).await;
    let owner = errand.owner;
    let longest = request_bytes_max(state.view().value_bytes_max as usize);
    let limits = (PAGE, longest + PAGE_BYTES_MAX as usize);
    let asked = vec![Operation::CopyArc(errand.asked.clone())];
    let answers = ask((state, tls), &mut link, owner, asked, limits).await;
    let page = match answers.map(|mut answers| answers.pop()) {
        Ok(Some(Answer::Copied(page))) => page,
        other => {
            tracing::debug!(%owner, ?other, "an owner does not tell what it holds of an arc");
            state.upkeep.copier().handle_failure(&errand);
            return (owner, link);
        }
    };
    let value = |entry: &annulet_protocol::copy::CopiedEntry| {
        entry.key.len() + entry.entry.len() + entry.value.as_ref().map_or(0, |value| value.len())
    };
    let bytes: usize = page.entries.iter().map(value).sum();
    let tasks = state.upkeep.copier().handle_answer(&errand, page);
    let mutations = tasks.iter().cloned().map(Mutation::Task).collect();
    match state.pipeline.note(mutations).await {
        Ok(Some(answers)) => {
            let mut copier = state.upkeep.copier();
            copier.handle_done(&errand, &tasks, &answers);
            state.metrics.copied_bytes.inc_by(bytes as u64);
        }
        Ok(None) | Err(_) => state.upkeep.copier().handle_failure(&errand),
    }
    (owner, link)
}

/// Waits while what clients write takes long.
async fn yield_to_clients(state: &State) {
    let delay = state.pipeline.write_delay();
    if delay > DELAYED {
        tokio::time::sleep((delay * YIELDS).min(Duration::from_secs(1))).await;
    }
}

/// Hands over for ever.
pub(super) async fn hand_over(state: &Arc<State>, tls: &Arc<Tls>) {
    let mut handover = Handover::default();
    loop {
        let looked = in_store(state, move |state| {
            let store = Plain(state.pipeline.engine());
            let view = &state.view();
            let round = Holdings::load(&store).and_then(|noted| {
                handover.round(&store, view, state.node, &noted, clock::now_ms())
            });
            (handover, round)
        });
        let round;
        (handover, round) = match looked.await {
            Some(looked) => looked,
            None => return,
        };
        match round {
            Ok(Some(round)) => {
                for key in round.damaged() {
                    state.metrics.damaged.inc();
                    tracing::error!(
                        ?key,
                        "a damaged record cannot be handed over: it stays here, and those who own \
                         it have what others had of it. Look after this server's disk"
                    );
                }
                let tasks = compare(state, tls, round, &mut handover).await;
                note(state, tasks.into_iter().map(Mutation::Task).collect()).await;
            }
            Ok(None) => tokio::time::sleep(EVERY).await,
            Err(error) => {
                tracing::error!(%error, "it cannot be read what is to be handed over");
                tokio::time::sleep(EVERY).await;
            }
        }
    }
}

/// Compares, and brings what was found to be lacking.
async fn compare(
    state: &Arc<State>,
    tls: &Arc<Tls>,
    mut round: Round,
    handover: &mut Handover,
) -> Vec<Task> {
    loop {
        let mut asked = JoinSet::new();
        for (owner, operations) in round.questions() {
            let (state, tls) = (state.clone(), tls.clone());
            asked.spawn(async move {
                let limits = (COMPARE, ANSWER_BYTES_MAX);
                let answers = ask((&state, &tls), &mut None, owner, operations, limits).await;
                (owner, answers)
            });
        }
        for (owner, answers) in asked.join_all().await {
            match answers {
                Ok(answers) => round.take(owner, &answers),
                Err(why) => tracing::debug!(%owner, %why, "an owner takes nothing over"),
            }
        }
        match round.end() {
            Ok(next) => round = next,
            Err(ended) => return handover.handle_end(ended, clock::now_ms()),
        }
    }
}
