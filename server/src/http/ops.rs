//! Requests for data.

use super::State;
use super::body;
use super::respond::{self, Refused, Response, held, overloaded, refusal};
use crate::clock;
use crate::epochs::follow;
use crate::pipeline::{Answered, Failed};
use annulet_protocol::codec;
use annulet_protocol::limits::BUDGET_MS_MAX;
use annulet_protocol::message::{self, Answer, FailureKind, Operation, Reply};
use annulet_replica::copy::PAGE_BYTES;
use annulet_replica::copy::throttle::Kind;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The part of their time that pages may wait.
const PAGE_WAITS: u32 = 3;

/// Only other servers may ask for pages.
fn refuse_pages(operations: &[Operation]) -> Result<(), Refused> {
    let is_page = |operation: &Operation| matches!(operation, Operation::CopyArc(_));
    if !operations.iter().any(is_page) {
        return Ok(());
    }
    let why = "what a server holds of an arc is told to other servers only";
    let (status, kind) = (StatusCode::FORBIDDEN, FailureKind::Unauthorized);
    Err(refusal(status, kind, why))
}

/// Bytes of the pages that are asked for.
fn page_bytes(operations: &[Operation]) -> usize {
    let pages = operations.iter().map(|operation| match operation {
        Operation::CopyArc(asked) => (asked.bytes_max as usize).min(PAGE_BYTES),
        _ => 0,
    });
    pages.sum()
}

/// Whether a request of these operations waits for the disk.
fn kind(operations: &[Operation]) -> Kind {
    let reads = |operation: &Operation| {
        use Operation::{Read, ReadRegister, Scan};
        matches!(operation, Read(_) | ReadRegister(_) | Scan(_))
    };
    match operations.iter().all(reads) {
        true => Kind::Read,
        false => Kind::Write,
    }
}

/// Answers a request's operations.
pub(super) async fn answer(
    state: &Arc<State>,
    request: Request<Incoming>,
    is_peer: bool,
) -> Result<Response, Refused> {
    let arrived = clock::now();
    let view = state.view();
    let value_bytes_max = view.value_bytes_max as usize;
    let most = codec::request_bytes_max(value_bytes_max);
    let (body, _share) = body::message(state, request, most).await?;
    let request = codec::decode_request(&body, value_bytes_max)?;
    // Its content was copied out; only what is needed stays in memory while the lanes work.
    drop(body);
    if !is_peer {
        refuse_pages(&request.operations)?;
    }
    if request.cluster != view.cluster {
        return Err(respond::wrong_cluster(request.cluster, view.cluster));
    }
    let budget = Duration::from_millis(u64::from(request.budget_ms.min(BUDGET_MS_MAX)));
    let deadline = arrived + budget;
    if !state.epochs.begun(deadline).await {
        let why = "this server has just started, and still asks the others for the newest epoch";
        return Err(overloaded(why));
    }
    if request.epoch > view.ordinal() {
        follow::catch_up(state, request.epoch, deadline).await;
    }
    let is_page = page_bytes(&request.operations) > 0;
    let answered = work(state, request, (arrived, budget), is_peer).await;
    let answered = answered.map_err(|Failed| {
        let why = "the store failed; it is not known what was written. This server stops";
        refusal(
            StatusCode::INTERNAL_SERVER_ERROR,
            FailureKind::Internal,
            why,
        )
    })?;
    let reply = Reply {
        cluster: view.cluster,
        node: state.node,
        // It may have changed while the lanes worked: a refusal that tells of a newer epoch must
        // not come with an older one, which would tell the client that there is nothing to fetch.
        epoch: state.view().ordinal(),
        time_ms: clock::now_ms(),
        load: state.pipeline.load(),
        results: answered.answers,
    };
    let bytes = codec::encode(&reply);
    drop((reply, answered.shares));
    // A refusal would say that nothing was done.
    let share = match answered.may_have_written {
        true => state.memory.take_anyway(bytes.len()),
        false => {
            let share = state.memory.take(bytes.len());
            share.ok_or_else(|| overloaded("too many bytes of replies are under way"))?
        }
    };
    state.metrics.sent_bytes.inc_by(bytes.len() as u64);
    if !is_page {
        let took = clock::since(arrived);
        state.metrics.request_seconds.observe(took.as_secs_f64());
    }
    Ok(respond::of(
        StatusCode::OK,
        codec::CONTENT_TYPE,
        held(bytes, share),
    ))
}

/// Lets the lanes work. Pages for other servers wait until they may move; for how long clients wait
/// is noted for that.
async fn work(
    state: &State,
    request: message::Request,
    (arrived, budget): (Instant, Duration),
    is_peer: bool,
) -> Result<Answered, Failed> {
    let gate = &state.upkeep.gate;
    let timed = (!is_peer).then(|| gate.times(kind(&request.operations)));
    let waits_until = arrived + budget / PAGE_WAITS;
    let passed = gate.pass(page_bytes(&request.operations), waits_until);
    let passed = passed.await;
    // What waited too long is refused as too late, and asked for again: nobody is to take this
    // server for absent.
    let deadline = match passed {
        Some(_) => arrived + budget,
        None => arrived,
    };
    let answered = state
        .pipeline
        .answer(request.epoch, request.operations, arrived, deadline)
        .await?;
    let is_refused = |answer: &Answer| matches!(answer, Answer::Refused(_));
    if let Some(timed) = timed.filter(|_| answered.answers.iter().any(is_refused)) {
        timed.forget();
    }
    if let Some(passed) = passed {
        let bytes = |answer: &Answer| match answer {
            Answer::Copied(page) => page.bytes(),
            _ => 0,
        };
        passed.had(answered.answers.iter().map(bytes).sum());
    }
    Ok(answered)
}
