//! Bringing back what is damaged.

use super::note;
use crate::clock;
use crate::http::State;
use crate::tls::Tls;
use annulet_protocol::codec::request_bytes_max;
use annulet_protocol::ids::NodeId;
use annulet_protocol::message::{Answer, Operation, Read};
use annulet_replica::restore::{Inquiry, Restorer};
use annulet_replica::rules::Mutation;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// How often damaged records are looked after.
const EVERY: Duration = Duration::from_millis(500);
/// Longest time that an owner has to say what it holds.
const ANSWER: Duration = Duration::from_secs(5);

/// Looks after damaged records for ever.
pub(super) async fn run(state: &Arc<State>, tls: &Arc<Tls>) {
    let mut restorer = Restorer::new(state.limits.damage_wait_ms);
    loop {
        tokio::time::sleep(EVERY).await;
        for key in state.pipeline.take_damaged() {
            if restorer.note(key.clone(), clock::now_ms()) {
                state.metrics.damaged.inc();
                let wait_ms = restorer.wait_ms;
                tracing::error!(
                    ?key,
                    wait_ms,
                    "a stored record is damaged: it is not served, and fetched from its other \
                     owners after a while. Look after this server's disk"
                );
            }
        }
        let view = &state.view();
        while let Some(inquiry) = restorer.due(view, state.node, clock::now_ms()) {
            let answers = ask(state, tls, &inquiry).await;
            match restorer.handle_answers(view, state.node, &inquiry, answers) {
                Some(task) => {
                    note(state, vec![Mutation::Task(task)]).await;
                    state.metrics.restored.inc();
                    tracing::info!(key = ?inquiry.key, "a damaged record was restored");
                }
                None => tracing::warn!(
                    key = ?inquiry.key,
                    "too few owners say what they hold of a damaged record; they are asked again"
                ),
            }
        }
        state.metrics.damaged_waiting.set(restorer.count() as i64);
    }
}

/// What the other owners say.
async fn ask(state: &Arc<State>, tls: &Arc<Tls>, inquiry: &Inquiry) -> Vec<(NodeId, Answer)> {
    let mut asked = JoinSet::new();
    for owner in inquiry.owners.iter().copied() {
        let (state, tls, read) = (state.clone(), tls.clone(), inquiry.read.clone());
        asked.spawn(async move {
            match ask_one(&state, &tls, owner, read).await {
                Ok(answer) => Some((owner, answer)),
                Err(why) => {
                    tracing::debug!(%owner, %why, "an owner does not say what it holds");
                    None
                }
            }
        });
    }
    let said = asked.join_all().await;
    said.into_iter().flatten().collect()
}

async fn ask_one(state: &State, tls: &Tls, owner: NodeId, read: Read) -> Result<Answer, String> {
    let most = request_bytes_max(state.view().value_bytes_max as usize);
    let operations = vec![Operation::Read(read)];
    let mut answers =
        super::ask::ask((state, tls), &mut None, owner, operations, (ANSWER, most)).await?;
    answers.pop().ok_or_else(|| "it answers nothing".into())
}
