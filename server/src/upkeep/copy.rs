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
use annulet_protocol::copy::Copied;
use annulet_protocol::ids::NodeId;
use annulet_protocol::message::{Answer, Operation, RefusalKind};
use annulet_replica::copy::empty::Emptier;
use annulet_replica::copy::handover::{Handover, Round};
use annulet_replica::copy::{Copier, Errand, PAGE_BYTES};
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
    let mut views = state.pipeline.view_changes();
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
        while let Some(errand) = next(state) {
            let link = links.get_mut(&errand.owner).and_then(Vec::pop);
            let (state, tls) = (Arc::clone(state), Arc::clone(tls));
            under_way.spawn(async move { fetch(&state, &tls, errand, link).await });
        }
        if under_way.is_empty() {
            // Connections that nobody uses are closed.
            links.clear();
        }
        let ended = tokio::select! {
            Some(ended) = under_way.join_next() => ended,
            _ = views.changed() => continue,
            () = tokio::time::sleep(EVERY) => continue,
        };
        if let Ok((owner, Some(link))) = ended {
            let idle = links.entry(owner).or_default();
            if idle.len() < LINKS_MAX {
                idle.push(link);
            }
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
fn next(state: &State) -> Option<Errand> {
    let served = state.served();
    let mut copier = state.upkeep.copier();
    copier.next(state.node, &served.unready, clock::now_ms())
}

/// A page that is on the way: if nothing comes of it, it is put off.
struct Asked<'a> {
    state: &'a State,
    errand: Option<Errand>,
}

impl Asked<'_> {
    /// Something came of it: it is not put off.
    fn end(mut self) {
        self.errand = None;
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if let Some(errand) = &self.errand {
            self.state.upkeep.copier().put_off(errand);
        }
    }
}

/// Fetches a page and merges it. Gives the connection back if it is of use.
async fn fetch(
    state: &Arc<State>,
    tls: &Tls,
    mut errand: Errand,
    mut link: Option<Link>,
) -> (NodeId, Option<Link>) {
    let owner = errand.owner;
    let asked = Asked {
        state,
        errand: Some(errand.clone()),
    };
    let Some(passed) = state
        .upkeep
        .gate
        .pass(PAGE_BYTES, clock::now() + PAGE)
        .await
    else {
        return (owner, link);
    };
    let compared = in_store(state, move |state| {
        let store = Plain(state.pipeline.engine());
        errand.compare(&store, &state.view()).map(|()| errand)
    });
    let errand = match compared.await {
        Some(Ok(errand)) => errand,
        Some(Err(error)) => {
            tracing::error!(%error, "an arc that is copied cannot be read here");
            return (owner, link);
        }
        None => return (owner, link),
    };
    let longest = request_bytes_max(state.view().value_bytes_max as usize);
    let limits = (PAGE, longest + PAGE_BYTES);
    let question = vec![Operation::CopyArc(errand.asked.clone())];
    let answers = ask((state, tls), &mut link, owner, question, limits).await;
    match answers.map(|mut answers| answers.pop()) {
        Ok(Some(Answer::Copied(page))) => {
            passed.had(page.bytes());
            take(state, asked, &errand, page).await;
        }
        Ok(Some(Answer::Refused(refusal))) if is_busy(refusal.kind) => {}
        other => {
            tracing::debug!(%owner, ?other, "an owner does not tell what it holds of an arc");
            asked.end();
            state.upkeep.copier().handle_failure(&errand);
        }
    }
    (owner, link)
}

/// Whether an owner is there and has too much to do.
fn is_busy(kind: RefusalKind) -> bool {
    matches!(kind, RefusalKind::Overloaded | RefusalKind::TooLate)
}

/// Merges a page.
async fn take(state: &State, asked: Asked<'_>, errand: &Errand, page: Copied) {
    let bytes = page.bytes();
    let tasks = state.upkeep.copier().handle_answer(errand, page);
    let mutations = tasks.iter().cloned().map(Mutation::Task).collect();
    // It is never closed.
    let turn = state.upkeep.written.0.acquire().await;
    let noted = state.pipeline.note(mutations).await;
    drop(turn);
    match noted {
        Ok(Some(answers)) => {
            asked.end();
            let mut copier = state.upkeep.copier();
            copier.handle_done(errand, &tasks, &answers);
            state.metrics.copied_bytes.inc_by(bytes as u64);
        }
        // There is no room in the lane, or the server ends: no owner is to blame.
        Ok(None) | Err(_) => drop(asked),
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
