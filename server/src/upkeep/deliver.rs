//! Handing over what is kept for others.

use super::ask::ask;
use super::{Upkeep, in_store, note};
use crate::clock;
use crate::http::State;
use crate::peers::link::Link;
use crate::random;
use crate::store::wrap::Plain;
use crate::tls::Tls;
use annulet_protocol::ids::NodeId;
use annulet_protocol::message::Answer;
use annulet_replica::courier::Parcel;
use annulet_replica::hints::Tally;
use annulet_replica::rules::Mutation;
use annulet_replica::store::StoreError;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Owners that are served at a time.
const OWNERS_MAX: usize = 8;
/// Longest time that an owner has for a parcel.
const PARCEL: Duration = Duration::from_secs(10);
/// Longest answer to a parcel.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Delivers for ever.
pub(super) async fn run(state: &Arc<State>, tls: &Arc<Tls>) {
    let every = Duration::from_millis(state.limits.deliver_ms);
    let mut underway = JoinSet::new();
    loop {
        tokio::time::sleep(every).await;
        while underway.try_join_next().is_some() {}
        let room = OWNERS_MAX.saturating_sub(underway.len());
        let due = in_store(state, |state| {
            let tally = Tally::of(&Plain(state.pipeline.engine()))?;
            let due = state.upkeep.courier().due(&tally, clock::now_ms());
            Ok::<_, StoreError>((due, tally))
        });
        let (due, tally) = match due.await {
            Some(Ok(due)) => due,
            Some(Err(error)) => {
                tracing::error!(%error, "it cannot be read what is kept for others");
                continue;
            }
            None => return,
        };
        state.metrics.note_hints(&tally);
        for owner in due.into_iter().take(room) {
            if let Some(parcel) = pack(state, owner).await {
                let (state, tls) = (state.clone(), tls.clone());
                underway.spawn(async move { deliver(&state, &tls, parcel).await });
            }
        }
    }
}

/// Serves one owner until nothing can go to it now. A parcel that was packed is on the way until it
/// is settled.
async fn deliver(state: &Arc<State>, tls: &Tls, mut parcel: Parcel) {
    let mut link = None;
    loop {
        let answers = match send(state, tls, &mut link, &parcel).await {
            Ok(answers) => Some(answers),
            Err(why) => {
                tracing::debug!(owner = %parcel.owner, %why, "an owner does not take its hints");
                link = None;
                None
            }
        };
        let owner = parcel.owner;
        settle(state, &parcel, answers.as_deref()).await;
        let more = in_store(state, move |state| {
            let tally = Tally::of(&Plain(state.pipeline.engine())).ok()?;
            let due = state.upkeep.courier().due(&tally, clock::now_ms());
            due.contains(&owner).then_some(())
        });
        let Some(Some(())) = more.await else { return };
        parcel = match pack(state, owner).await {
            Some(parcel) => parcel,
            None => return,
        };
    }
}

/// The next parcel for an owner; `None`: there is none, for a reason that is logged.
async fn pack(state: &Arc<State>, owner: NodeId) -> Option<Parcel> {
    let packed = in_store(state, move |state| {
        let store = Plain(state.pipeline.engine());
        let view = &state.view();
        let mut courier = Upkeep::courier(&state.upkeep);
        courier.parcel(&store, view, state.node, owner)
    });
    match packed.await? {
        Ok(parcel) => Some(parcel),
        Err(error) => {
            tracing::error!(%owner, %error, "what is kept for an owner cannot be read");
            None
        }
    }
}

/// Sends a parcel and gives the answers to its records.
async fn send(
    state: &State,
    tls: &Tls,
    link: &mut Option<Link>,
    parcel: &Parcel,
) -> Result<Vec<Answer>, String> {
    let items = parcel.items.iter();
    let operations = items.map(|item| item.operation.clone()).collect();
    let limits = (PARCEL, ANSWER_BYTES_MAX);
    ask((state, tls), link, parcel.owner, operations, limits).await
}

/// Notes what became of a parcel, and what was found out when it was packed.
async fn settle(state: &State, parcel: &Parcel, answers: Option<&[Answer]>) {
    let metrics = &state.metrics;
    metrics.hints_damaged.inc_by(parcel.damaged as u64);
    let taken = answers.unwrap_or_default().iter();
    let taken = taken
        .filter(|answer| matches!(answer, Answer::Written(_)))
        .count();
    metrics.hints_delivered.inc_by(taken as u64);
    let tasks = {
        let mut courier = state.upkeep.courier();
        courier.handle_answers(parcel, answers, clock::now_ms(), random::spread())
    };
    let own = parcel.own.iter().cloned();
    let tasks = parcel
        .tasks
        .iter()
        .cloned()
        .chain(tasks)
        .map(Mutation::Task);
    note(state, own.chain(tasks).collect()).await;
}
