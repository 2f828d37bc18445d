//! Whether this server can be stopped: what it knows itself, and what the peers answer with which
//! it owns something. What was heard of them a while ago would not do: the one that was stopped
//! just before is the one that matters.

use super::in_store;
use crate::clock;
use crate::epochs::course;
use crate::http::State;
use crate::store::wrap::Plain;
use annulet_protocol::status::{STOP_REASONS_MAX, StopReason, StopReasonKind, StopReply};
use annulet_replica::hints::Tally;
use annulet_replica::holdings::Holdings;
use annulet_replica::spread;
use annulet_replica::store::StoreError;
use annulet_ring::stopping::{self, Reason, Surroundings};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// For so long an answer is given again: whoever asks much does not make this server ask others as
/// much.
const FRESH: Duration = Duration::from_millis(500);
/// What was minted so short a time ago is on its way from the client that wrote it, in
/// milliseconds.
const ON_ITS_WAY_MS: u64 = 2_000;

/// The last answer, and when it was given. Held while others are asked, once for all who wait.
#[derive(Debug, Default)]
pub(crate) struct Last(Mutex<Option<(Instant, StopReply)>>);

/// Whether this server can be stopped now.
///
/// # Errors
/// What the store says.
pub(crate) async fn ask(state: &Arc<State>) -> Result<StopReply, StoreError> {
    let mut last = state.upkeep.stop.0.lock().await;
    if let Some((at, reply)) = &*last
        && clock::since(*at) < FRESH
    {
        return Ok(reply.clone());
    }
    let reply = look(state).await?;
    *last = Some((clock::now(), reply.clone()));
    Ok(reply)
}

async fn look(state: &Arc<State>) -> Result<StopReply, StoreError> {
    let stops = || StoreError::Failed("the server stops".into());
    let asked = in_store(state, |state| stopping::to_ask(&state.view(), state.node));
    let asked = asked.await.ok_or_else(stops)?;
    let peers = course::held_by(state, asked.into_iter().collect()).await;
    let undecided = state.epochs.is_undecided().await;
    let looked = in_store(state, move |state| {
        let store = Plain(state.pipeline.engine());
        let view = state.view();
        let before_ms = clock::now_ms().saturating_sub(ON_ITS_WAY_MS);
        let covered = |key: &[u8], stamp| state.pipeline.confirmed().covers(key, stamp);
        let known = Surroundings {
            view: &view,
            own: state.node,
            peers: &peers,
            has_begun: state.epochs.has_begun(),
            hints: &Tally::of(&store)?.waiting,
            unspread: spread::unspread(&store, before_ms, covered)?,
            handing_over: Holdings::load(&store)?.lost.len(),
            undecided,
        };
        let reasons = stopping::reasons(&known).into_iter().take(STOP_REASONS_MAX);
        let reasons = reasons.map(|reason| StopReason {
            kind: kind(&reason),
            message: reason.describe(&view),
        });
        Ok(StopReply {
            node: state.node,
            epoch: view.epoch,
            reasons: reasons.collect(),
        })
    });
    looked.await.unwrap_or_else(|| Err(stops()))
}

fn kind(reason: &Reason) -> StopReasonKind {
    match reason {
        Reason::Starting => StopReasonKind::Starting,
        Reason::Behind(_) => StopReasonKind::Behind,
        Reason::Quorum { .. } => StopReasonKind::Quorum,
        Reason::Keepers { .. } => StopReasonKind::Keepers,
        Reason::Hints { .. } => StopReasonKind::Hints,
        Reason::Unspread(_) => StopReasonKind::Unspread,
        Reason::HandingOver(_) => StopReasonKind::HandingOver,
        Reason::Undecided => StopReasonKind::Undecided,
    }
}
