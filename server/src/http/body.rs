//! Bodies of requests, within bounds.

use super::State;
use super::respond::{Refused, overloaded, refusal};
use crate::budget::{Budget, Share};
use annulet_protocol::codec::CONTENT_TYPE;
use annulet_protocol::message::FailureKind;
use bytes::{Bytes, BytesMut};
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use std::sync::Arc;
use std::time::Duration;

/// Reads a message of at most `most` bytes, and what it takes of the memory.
///
/// # Errors
/// 415 for another type of content, 413 as soon as it is known to be too long, 503 if there is no
/// memory for it, 408 if it does not come, 400 if it breaks off.
pub(super) async fn message(
    state: &State,
    request: Request<Incoming>,
    most: usize,
) -> Result<(Bytes, Share), Refused> {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    if content_type.is_none_or(|is| is != CONTENT_TYPE) {
        let why = format!("the body must be of type {CONTENT_TYPE}");
        return Err(refusal(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            FailureKind::InvalidInput,
            why,
        ));
    }
    let body = request.into_body();
    if body.size_hint().lower() > most as u64 {
        return Err(too_long(most));
    }
    let time = Duration::from_millis(state.limits.request_ms);
    let collected = tokio::time::timeout(time, collect(body, most, &state.memory)).await;
    let (bytes, share) = collected.unwrap_or_else(|_| {
        let why = "the body did not come in time";
        Err(refusal(
            StatusCode::REQUEST_TIMEOUT,
            FailureKind::InvalidInput,
            why,
        ))
    })?;
    state.metrics.received_bytes.inc_by(bytes.len() as u64);
    Ok((bytes, share))
}

/// Takes memory as bytes come, not as they are announced: who announces much and sends little must
/// not keep others out.
async fn collect(
    mut body: Incoming,
    most: usize,
    memory: &Arc<Budget>,
) -> Result<(Bytes, Share), Refused> {
    let no_room = || overloaded("too many bytes of requests are under way");
    let mut share = memory.take(0).ok_or_else(no_room)?;
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(most);
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let why = format!("the body broke off: {error}");
            refusal(StatusCode::BAD_REQUEST, FailureKind::InvalidInput, why)
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        length += data.len();
        if length > most {
            return Err(too_long(most));
        }
        if !share.grow(data.len()) {
            return Err(no_room());
        }
        // Most messages come in one piece, and are not copied.
        if first.is_empty() && all.is_empty() {
            first = data;
            continue;
        }
        if all.is_empty() {
            all.reserve(announced.min(RESERVE_MAX).max(length));
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&data);
    }
    let bytes = if all.is_empty() { first } else { all.freeze() };
    Ok((bytes, share))
}

/// Most memory that is set aside because it was announced.
const RESERVE_MAX: usize = 1 << 20;

fn too_long(most: usize) -> Refused {
    let why = format!("the body has more than {most} bytes");
    refusal(
        StatusCode::PAYLOAD_TOO_LARGE,
        FailureKind::InvalidInput,
        why,
    )
}
