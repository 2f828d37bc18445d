//! The chain of epochs: what follows an epoch, questions of servers that propose one, and changes
//! of buckets and members; a chain that is begun anew.

use super::State;
use super::body;
use super::respond::{self, Refused, Response, refusal};
use crate::epochs::propose::{self, NotMade};
use crate::epochs::{self, recover};
use crate::pipeline::Failed;
use annulet_protocol::codec::{self, CHAIN_BYTES_MAX};
use annulet_protocol::epoch::{ChainReply, Point};
use annulet_protocol::limits::REQUEST_OVERHEAD_BYTES;
use annulet_protocol::members::MemberCommand;
use annulet_protocol::message::FailureKind;
use annulet_ring::chain::Objection;
use http::{Request, StatusCode, Uri};
use hyper::body::Incoming;
use serde::Serialize;
use std::sync::Arc;

/// The records that follow the epoch that the path names.
pub(super) async fn deltas(state: &Arc<State>, uri: &Uri) -> Result<Response, Refused> {
    let after = after(uri.query().unwrap_or_default())
        .map_err(|why| refusal(StatusCode::BAD_REQUEST, FailureKind::InvalidInput, why))?;
    let deltas = epochs::deltas(state, after).await.map_err(|error| {
        let why = format!("the chain of epochs cannot be read: {error}");
        internal(why)
    })?;
    Ok(message(&deltas))
}

/// Reads `after=NUMBER&hash=HASH&generation=GENERATION`; without a generation it is 0.
fn after(query: &str) -> Result<Point, String> {
    let mut point = Point::default();
    for part in query.split('&') {
        match part.split_once('=') {
            Some(("after", number)) => {
                let number = number.parse();
                point.number = number.map_err(|_| "`after` must be the number of an epoch")?;
            }
            Some(("hash", hash)) => point.hash = hash.parse()?,
            Some(("generation", generation)) => {
                let generation = generation.parse();
                point.generation = generation.map_err(|_| "`generation` must be a number")?;
            }
            Some(_) | None => {}
        }
    }
    Ok(point)
}

/// Answers a server that proposes an epoch, or has one to tell.
pub(super) async fn answer(
    state: &Arc<State>,
    request: Request<Incoming>,
) -> Result<Response, Refused> {
    let (body, _share) = body::message(state, request, CHAIN_BYTES_MAX).await?;
    let request = codec::decode_chain_request(&body)?;
    let cluster = state.view().cluster;
    if request.cluster != cluster {
        return Err(respond::wrong_cluster(request.cluster, cluster));
    }
    let answer = epochs::answer(state, request.question).await;
    let answer = answer.map_err(|Failed| internal("this server stops"))?;
    let node = state.node;
    Ok(message(&ChainReply {
        cluster,
        node,
        answer,
    }))
}

/// Makes a change of a bucket.
pub(super) async fn change(
    state: &Arc<State>,
    request: Request<Incoming>,
) -> Result<Response, Refused> {
    let (body, _share) = body::message(state, request, REQUEST_OVERHEAD_BYTES).await?;
    let request = codec::decode_bucket_request(&body)?;
    let cluster = state.view().cluster;
    if request.cluster != cluster {
        return Err(respond::wrong_cluster(request.cluster, cluster));
    }
    // It goes on if the caller does not wait: what was begun is better finished.
    let changing = Arc::clone(state);
    let changed = tokio::spawn(async move { propose::change(&changing, &request).await });
    made(changed.await.unwrap_or(Err(NotMade::Failed)))
}

/// Makes a change of a member. A server may do no more than join.
pub(super) async fn change_member(
    state: &Arc<State>,
    request: Request<Incoming>,
    is_peer: bool,
) -> Result<Response, Refused> {
    let (body, _share) = body::message(state, request, REQUEST_OVERHEAD_BYTES).await?;
    let request = codec::decode_member_request(&body)?;
    let cluster = state.view().cluster;
    if request.cluster != cluster {
        return Err(respond::wrong_cluster(request.cluster, cluster));
    }
    if is_peer && !matches!(request.command, MemberCommand::Join(_)) {
        let why = "a server may join; for other changes of members role admin is needed";
        let (status, kind) = (StatusCode::FORBIDDEN, FailureKind::Unauthorized);
        return Err(refusal(status, kind, why));
    }
    let changing = Arc::clone(state);
    let changed = tokio::spawn(async move { propose::change_member(&changing, &request).await });
    made(changed.await.unwrap_or(Err(NotMade::Failed)))
}

/// Begins the chain anew, or says what would be done.
pub(super) async fn recover(
    state: &Arc<State>,
    request: Request<Incoming>,
) -> Result<Response, Refused> {
    let (body, _share) = body::message(state, request, REQUEST_OVERHEAD_BYTES).await?;
    let request = codec::decode_recover_request(&body)?;
    let cluster = state.view().cluster;
    if request.cluster != cluster {
        return Err(respond::wrong_cluster(request.cluster, cluster));
    }
    // It goes on if the caller does not wait: members that are sealed need an end.
    let recovering = Arc::clone(state);
    let recovered = tokio::spawn(async move { recover::recover(&recovering, request).await });
    match recovered.await.unwrap_or(Err(Failed)) {
        Ok(reply) => Ok(message(&reply)),
        Err(Failed) => Err(internal(
            "this server stops; the recovery may have been begun",
        )),
    }
}

/// What is told of a change.
fn made(changed: Result<impl Serialize, NotMade>) -> Result<Response, Refused> {
    match changed {
        Ok(reply) => Ok(message(&reply)),
        Err(NotMade::Objection(Objection::Conflict(why))) => {
            Err(refusal(StatusCode::CONFLICT, FailureKind::Conflict, why))
        }
        Err(NotMade::Objection(Objection::Invalid(why))) => Err(refusal(
            StatusCode::BAD_REQUEST,
            FailureKind::InvalidInput,
            why,
        )),
        Err(NotMade::Unavailable { why, exposed }) => {
            let later = match exposed {
                true => "; the change may be made later all the same",
                false => "",
            };
            let status = StatusCode::SERVICE_UNAVAILABLE;
            let why = format!("{why}{later}");
            Err(refusal(status, FailureKind::Unavailable, why))
        }
        Err(NotMade::Failed) => Err(internal("this server stops; the change may be made later")),
    }
}

fn message(message: &impl Serialize) -> Response {
    let bytes = codec::encode(message).into();
    respond::of(StatusCode::OK, codec::CONTENT_TYPE, bytes)
}

fn internal(why: impl Into<String>) -> Refused {
    refusal(
        StatusCode::INTERNAL_SERVER_ERROR,
        FailureKind::Internal,
        why,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use annulet_protocol::ids::EpochHash;

    #[test]
    fn the_epoch_is_read_off_the_path() {
        let hash = EpochHash([0xab; 16]);
        let point = Point {
            number: 7,
            hash,
            ..Point::default()
        };
        assert_eq!(after(&format!("after=7&hash={hash}")), Ok(point));
        assert_eq!(after(&format!("hash={hash}&more=1&after=7")), Ok(point));
        let later = Point {
            generation: 2,
            ..point
        };
        let path = format!("after=7&hash={hash}&generation=2");
        assert_eq!(after(&path), Ok(later));
        assert_eq!(after(""), Ok(Point::default()));
        for bad in ["after=-1", "after=x", "hash=12", "after=", "generation=x"] {
            assert!(after(bad).is_err(), "{bad}");
        }
    }
}
