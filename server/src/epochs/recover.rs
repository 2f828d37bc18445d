//! The chain is begun anew after a majority of its keepers was lost: connections and time for what
//! `annulet_ring::chain::recovery` decides. Only an operator asks for it.

use super::propose::{self, attempt};
use super::{answer, follow, in_chain};
use crate::http::State;
use crate::pipeline::Failed;
use crate::store::wrap::Plain;
use annulet_protocol::epoch::{ChainAnswer, ChainQuestion, EpochRecord, Offer, Point};
use annulet_protocol::ids::ChangeId;
use annulet_protocol::recovery::{Anew, RecoverOutcome, RecoverReply, RecoverRequest};
use annulet_protocol::view::View;
use annulet_replica::chain::Unfinished;
use annulet_ring::chain::Relation;
use annulet_ring::chain::proposer::{Outcome as Spread, Proposer, Question};
use annulet_ring::chain::recovery::{Effect, Outcome, Recovery, Report};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Longest time until an attempt that is under way is over.
const TURN: Duration = Duration::from_secs(5);
/// Longest time to fetch from a member that has more.
const FETCH: Duration = Duration::from_secs(5);
/// Members that are asked at a time.
const ASKED_MAX: usize = 64;
/// How often the new keepers are told before the rest is left to the background.
const SPREADS_MAX: usize = 5;
/// Time between two of these.
const SPREAD_AGAIN: Duration = Duration::from_millis(200);

/// Begins the chain anew, or says why not, or what would be done.
///
/// # Errors
/// [`Failed`]: the server is about to stop.
pub(crate) async fn recover(
    state: &Arc<State>,
    request: RecoverRequest,
) -> Result<RecoverReply, Failed> {
    let RecoverRequest {
        recovery, proceed, ..
    } = request;
    let Ok(_turn) = timeout(TURN, state.epochs.turn.lock()).await else {
        let why = "this server is busy with a change: ask again".into();
        return Ok(reply(state, empty(state), RecoverOutcome::Refused(why)));
    };
    if let Some(begun) = begun(state, recovery).await {
        // It was asked for before, and the answer was lost.
        let report = drive(state, recovery, false).await?;
        let outcome = settle(state, begun).await?;
        return Ok(reply(state, report, outcome));
    }
    let mut report = drive(state, recovery, proceed).await?;
    let nothing = Outcome::Refused(String::new());
    let outcome = match std::mem::replace(&mut report.outcome, nothing) {
        Outcome::Possible(anew) => RecoverOutcome::Possible(anew),
        Outcome::Refused(why) => RecoverOutcome::Refused(why),
        Outcome::Interrupted(why) => RecoverOutcome::Interrupted(why),
        Outcome::Behind(node) => {
            let why = format!("{node} holds newer epochs, which cannot be fetched: ask it itself");
            RecoverOutcome::Refused(why)
        }
        Outcome::Begun(record, anew) => {
            warn(&report, &anew);
            settle(state, (record, anew)).await?
        }
    };
    Ok(reply(state, report, outcome))
}

/// Loudly: what only those knew that did not answer is lost.
fn warn(report: &Report, anew: &Anew) {
    let silent = report.members.iter().filter(|found| found.newest.is_none());
    let silent: Vec<_> = silent.map(|found| found.id.to_string()).collect();
    let Point {
        generation, number, ..
    } = anew.epoch;
    tracing::warn!(
        generation,
        epoch = number,
        lost = silent.join(", "),
        "the chain of epochs is BEGUN ANEW: epochs that only the lost members knew are given up"
    );
}

fn reply(state: &State, report: Report, outcome: RecoverOutcome) -> RecoverReply {
    let Report {
        members,
        newest,
        keepers,
        ..
    } = report;
    RecoverReply {
        cluster: state.view().cluster,
        node: state.node,
        members,
        newest,
        keepers,
        outcome,
    }
}

fn empty(state: &State) -> Report {
    let view = state.view();
    Report {
        members: Vec::new(),
        newest: view.point(),
        keepers: view.tip.keepers.clone(),
        outcome: Outcome::Refused(String::new()),
    }
}

/// The record of this recovery, if it was begun here.
async fn begun(state: &Arc<State>, recovery: ChangeId) -> Option<(Bytes, Anew)> {
    let made = in_chain(state, move |chain, state| {
        if let Some(Unfinished::Held(record)) = chain.unfinished() {
            return Ok(EpochRecord::decode(&record).ok());
        }
        chain.made(&Plain(state.pipeline.engine()), recovery)
    });
    let record = made.await.ok().flatten()?;
    let anew = Anew {
        epoch: record.point(),
        keepers: record.keepers.clone(),
    };
    (record.change == recovery).then(|| (record.encode(), anew))
}

/// Sees to it that a majority of the new keepers holds the record.
async fn settle(
    state: &Arc<State>,
    (record, anew): (Bytes, Anew),
) -> Result<RecoverOutcome, Failed> {
    for _ in 0..SPREADS_MAX {
        if state.view().ordinal() >= anew.epoch.ordinal() {
            return Ok(RecoverOutcome::Done(anew));
        }
        let proposer = Proposer::spreading(&state.view(), record.clone());
        if let Spread::Settled(record) = attempt(state, proposer, &mut false).await? {
            propose::conclude(state, record).await?;
            return Ok(RecoverOutcome::Done(anew));
        }
        tokio::time::sleep(SPREAD_AGAIN).await;
    }
    Ok(RecoverOutcome::Unsettled(anew))
}

/// Drives a recovery until the record that begins anew is held here. If another member holds more,
/// that is fetched once.
async fn drive(state: &Arc<State>, recovery: ChangeId, proceed: bool) -> Result<Report, Failed> {
    let mut fetched = false;
    loop {
        let base = in_chain(state, |chain, _| {
            Ok((View::clone(chain.newest_view()), chain.first()))
        });
        let Ok(base) = base.await else {
            return Err(Failed);
        };
        let machine = Recovery::new(state.node, recovery, base, proceed, fetched);
        let report = run(state, machine).await?;
        match report.outcome {
            Outcome::Behind(node) if !fetched => {
                fetched = true;
                let fetching = timeout(FETCH, follow::fetch(state, node)).await;
                if let Ok(Err(why)) = fetching {
                    tracing::warn!(peer = %node, %why, "newer epochs cannot be fetched");
                }
            }
            _ => return Ok(report),
        }
    }
}

type Said = (Question, Result<(ChainAnswer, Relation), String>);

async fn run(state: &Arc<State>, mut machine: Recovery) -> Result<Report, Failed> {
    let room = Arc::new(Semaphore::new(ASKED_MAX));
    let mut asked = JoinSet::<Said>::new();
    let mut effects = VecDeque::from(machine.start());
    loop {
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Ask(to, question) => {
                    let (state, room) = (Arc::clone(state), Arc::clone(&room));
                    asked.spawn(async move {
                        // It is never closed.
                        let _place = room.acquire_owned().await;
                        (to, ask(&state, to, question).await)
                    });
                }
                Effect::Take(records) => {
                    let point = state.view().point();
                    let offer = ChainQuestion::Offer(Offer::new(records, point, point));
                    effects.extend(match answer(state, offer).await? {
                        ChainAnswer::Holds(_) => machine.handle_taken(),
                        other => {
                            let why = format!("it cannot be held here: {other:?}");
                            machine.handle_not_taken(why)
                        }
                    });
                }
                Effect::Done(report) => return Ok(*report),
            }
        }
        match asked.join_next().await {
            Some(Ok((from, Ok((answer, relation))))) => {
                effects.extend(machine.handle_answer(from, answer, relation));
            }
            Some(Ok((from, Err(why)))) => effects.extend(machine.handle_failure(from, why)),
            // Every question is answered or fails, so it was over before.
            Some(Err(_)) | None => return Err(Failed),
        }
    }
}

/// Asks a member, and compares where it stands with what is held here.
async fn ask(
    state: &Arc<State>,
    to: Question,
    question: ChainQuestion,
) -> Result<(ChainAnswer, Relation), String> {
    let answer = propose::ask(state, to.node, question).await?;
    let ChainAnswer::Stands(stands) = &answer else {
        return Ok((answer, Relation::Same));
    };
    let theirs = stands.newest;
    let relation = in_chain(state, move |chain, state| {
        chain.relation(&Plain(state.pipeline.engine()), theirs)
    });
    let relation = relation.await.map_err(|error| error.to_string())?;
    Ok((answer, relation))
}
