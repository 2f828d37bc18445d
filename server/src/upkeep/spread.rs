//! Sending on what was minted here.

use super::ask::ask;
use super::{in_store, note};
use crate::clock;
use crate::http::State;
use crate::store::wrap::Plain;
use crate::tls::Tls;
use annulet_protocol::ids::NodeId;
use annulet_protocol::message::{Answer, Operation};
use annulet_replica::rules::{Mutation, Task};
use annulet_replica::spread::{Round, Spreader};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Time between two rounds.
const EVERY: Duration = Duration::from_secs(1);
/// Longest time that an owner has to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Longest answer: a word for each record.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Spreads for ever.
pub(super) async fn run(state: &Arc<State>, tls: &Arc<Tls>) {
    let mut spreader = Spreader::new(state.limits.spread_after_ms);
    loop {
        tokio::time::sleep(EVERY).await;
        let looked = in_store(state, move |state| {
            let store = Plain(state.pipeline.engine());
            let view = &state.view();
            let confirmed = |note: &mut _| state.pipeline.confirmed().take_from(note);
            let round = spreader.round(&store, view, state.node, clock::now_ms(), confirmed);
            (spreader, round)
        });
        let round;
        (spreader, round) = match looked.await {
            Some(looked) => looked,
            None => return,
        };
        match round {
            Ok((round, tasks)) => {
                settle(state, tasks).await;
                work(state, tls, round).await;
            }
            Err(error) => tracing::error!(%error, "it cannot be read what is to be sent on"),
        }
    }
}

/// Compares, and sends what was found to be lacking.
async fn work(state: &Arc<State>, tls: &Arc<Tls>, mut round: Round) {
    while !round.is_empty() {
        for (owner, answers) in ask_all(state, tls, &round).await {
            round.take(owner, &answers);
        }
        let (tasks, next) = round.end();
        settle(state, tasks).await;
        round = next;
    }
}

/// What those who answer say.
async fn ask_all(state: &Arc<State>, tls: &Arc<Tls>, round: &Round) -> Vec<(NodeId, Vec<Answer>)> {
    let mut asked = JoinSet::new();
    for (owner, operations) in round.questions() {
        let sent = matches!(operations.first(), Some(Operation::Merge(_)));
        let count = operations.len() as u64;
        let (state, tls) = (state.clone(), tls.clone());
        asked.spawn(async move {
            let limits = (ANSWER, ANSWER_BYTES_MAX);
            match ask((&state, &tls), &mut None, owner, operations, limits).await {
                Ok(answers) => {
                    state.metrics.spread.inc_by(if sent { count } else { 0 });
                    Some((owner, answers))
                }
                Err(why) => {
                    tracing::debug!(%owner, %why, "an owner is not told what was minted here");
                    None
                }
            }
        });
    }
    asked.join_all().await.into_iter().flatten().collect()
}

async fn settle(state: &State, tasks: Vec<Task>) {
    note(state, tasks.into_iter().map(Mutation::Task).collect()).await;
}
