//! Responses.

use crate::budget::Share;
use annulet_protocol::codec::{self, DecodeError};
use annulet_protocol::ids::ClusterId;
use annulet_protocol::message::{Failure, FailureKind};
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, StatusCode};

pub(crate) type Response = http::Response<Bytes>;

/// A refusal of a whole request.
#[derive(Debug)]
pub(crate) struct Refused {
    status: StatusCode,
    failure: Failure,
    allow: Option<Method>,
}

impl Refused {
    pub(crate) fn into_response(self) -> Response {
        let body = codec::encode(&self.failure).into();
        let mut response = of(self.status, codec::CONTENT_TYPE, body);
        let headers = response.headers_mut();
        let allow = self
            .allow
            .and_then(|m| HeaderValue::from_str(m.as_str()).ok());
        if let Some(allow) = allow {
            headers.insert(header::ALLOW, allow);
        }
        if let Some(ms) = self.failure.retry_after_ms {
            // HTTP knows whole seconds only; the body has the milliseconds.
            headers.insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000)));
        }
        response
    }

    pub(crate) fn allowing(mut self, method: Method) -> Self {
        self.allow = Some(method);
        self
    }
}

impl From<DecodeError> for Refused {
    fn from(error: DecodeError) -> Self {
        let status = match error {
            DecodeError::Malformed(_) => StatusCode::BAD_REQUEST,
            DecodeError::Limit(_) => StatusCode::PAYLOAD_TOO_LARGE,
        };
        refusal(status, FailureKind::InvalidInput, error.to_string())
    }
}

pub(crate) fn refusal(
    status: StatusCode,
    kind: FailureKind,
    message: impl Into<String>,
) -> Refused {
    let failure = Failure {
        kind,
        message: message.into(),
        retry_after_ms: None,
    };
    Refused {
        status,
        failure,
        allow: None,
    }
}

/// Too much to do: come back a moment later.
pub(crate) fn overloaded(message: &str) -> Refused {
    let kind = FailureKind::Overloaded;
    let mut refused = refusal(StatusCode::SERVICE_UNAVAILABLE, kind, message);
    refused.failure.retry_after_ms = Some(RETRY_MS);
    refused
}

/// About as long as the requests that hold the memory take.
const RETRY_MS: u32 = 100;

pub(crate) fn wrong_cluster(theirs: ClusterId, ours: ClusterId) -> Refused {
    let why = format!("cluster {theirs} is meant, this server is of {ours}");
    refusal(
        StatusCode::MISDIRECTED_REQUEST,
        FailureKind::WrongCluster,
        why,
    )
}

pub(crate) fn plain(status: StatusCode, text: &'static str) -> Response {
    of(
        status,
        "text/plain; charset=utf-8",
        Bytes::from_static(text.as_bytes()),
    )
}

pub(crate) fn of(status: StatusCode, content_type: &'static str, body: Bytes) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}

/// Bytes that give back their share of the memory when they are sent and dropped.
pub(crate) fn held(bytes: Vec<u8>, share: Share) -> Bytes {
    struct Held(
        Vec<u8>,
        #[expect(dead_code, reason = "held, not read")] Share,
    );
    impl AsRef<[u8]> for Held {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    Bytes::from_owner(Held(bytes, share))
}
