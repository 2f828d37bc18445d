//! What a server says of itself to people and their tools.

use super::State;
use super::respond::{self, Refused, Response, refusal};
use crate::upkeep::{self, stop};
use annulet_protocol::codec;
use annulet_protocol::message::FailureKind;
use annulet_replica::store::StoreError;
use http::StatusCode;
use serde::Serialize;
use std::sync::Arc;

/// What is kept for servers that are away.
pub(super) async fn hints(state: &Arc<State>) -> Result<Response, Refused> {
    let report = upkeep::report(state).await;
    let report = report.map_err(|error| unread("what is kept for others", &error))?;
    Ok(message(StatusCode::OK, &report))
}

/// How much is held, and how far copies are.
pub(super) async fn status(state: &Arc<State>) -> Result<Response, Refused> {
    let report = upkeep::status(state).await;
    let report = report.map_err(|error| unread("what is held", &error))?;
    Ok(message(StatusCode::OK, &report))
}

/// Whether this server can be stopped. A status says it, so that a script need not read the answer.
pub(super) async fn safe_to_stop(state: &Arc<State>) -> Result<Response, Refused> {
    let reply = stop::ask(state).await;
    let reply = reply.map_err(|error| unread("what is unfinished", &error))?;
    let status = match reply.reasons.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::CONFLICT,
    };
    Ok(message(status, &reply))
}

fn message(status: StatusCode, message: &impl Serialize) -> Response {
    respond::of(status, codec::CONTENT_TYPE, codec::encode(message).into())
}

fn unread(what: &str, error: &StoreError) -> Refused {
    let why = format!("{what} cannot be read: {error}; the server's log says more");
    refusal(
        StatusCode::INTERNAL_SERVER_ERROR,
        FailureKind::Internal,
        why,
    )
}
