//! The one port: HTTPS for clients and peers.
//!
//! | endpoint | who | answer |
//! |---|---|---|
//! | `POST /v1/ops` | client, admin, peer; anyone if data is open | a reply to a request |
//! | `GET /v1/view` | the same | the view, compressed if the caller takes zstd |
//! | `GET /v1/chain?after=N&hash=H` | the same | the records that follow an epoch |
//! | `POST /v1/buckets` | admin | a bucket that was made, changed or deleted |
//! | `POST /v1/members` | admin; a peer that joins | a member that was admitted or changed |
//! | `POST /v1/recover` | admin | what was found of the chain, and whether it was begun anew |
//! | `GET /v1/hints` | client, admin, peer; anyone if data is open | what is kept for others |
//! | `GET /v1/status` | the same | how much is held, and how far copies are |
//! | `GET /v1/safe-to-stop` | the same | 200, or 409 with reasons to wait |
//! | `POST /v1/peer/hello` | peer | a greeting to a greeting |
//! | `POST /v1/peer/chain` | peer | an answer about the chain of epochs |
//! | `GET /metrics` | any role | the metrics as text |
//! | `GET /healthz`, `GET /readyz` | anyone | 200, or 503 while it starts, joins or stops |
//!
//! # Layout
//! - `accept`: connections; `handshake`: their beginning; `room`: how many, and which one goes
//! - `tasks`: the requests of a connection; `coalesce`: its writes
//! - `body`: bodies within bounds
//! - `ops`: requests for data; `chain`: about the chain of epochs; `status`: how this server is
//! - `respond`: responses

pub(crate) mod accept;
mod body;
mod chain;
mod coalesce;
mod handshake;
mod ops;
mod respond;
mod room;
mod status;
mod tasks;

use crate::budget::Budget;
use crate::clock;
use crate::config::Limits;
use crate::epochs::membership::Membership;
use crate::epochs::{Epochs, follow};
use crate::metrics::{self, Metrics};
use crate::peers::Peers;
use crate::pipeline::Pipeline;
use crate::served::ServedView;
use crate::tls::role::{Caller, Role};
use crate::upkeep::Upkeep;
use annulet_protocol::codec;
use annulet_protocol::ids::NodeId;
use annulet_protocol::limits::REQUEST_OVERHEAD_BYTES;
use annulet_protocol::message::{DiskState, FailureKind, Hello};
use annulet_protocol::view::{MemberState, View};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use respond::{Refused, Response, plain, refusal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What every request may need.
pub(crate) struct State {
    pub(crate) node: NodeId,
    pub(crate) epochs: Epochs,
    pub(crate) open_data: bool,
    pub(crate) limits: Limits,
    pub(crate) pipeline: Pipeline,
    pub(crate) peers: Peers,
    /// As what it is to be a member, if no cluster file says it.
    pub(crate) membership: Option<Membership>,
    pub(crate) upkeep: Upkeep,
    pub(crate) metrics: Arc<Metrics>,
    /// Memory of requests and replies.
    pub(crate) memory: Arc<Budget>,
    pub(crate) stopping: AtomicBool,
}

impl State {
    /// What this server says of itself.
    pub(crate) fn hello(&self, time_ms: u64) -> Hello {
        let disk = self.pipeline.disk().state();
        let first = self.epochs.first();
        self.served().hello(self.node, time_ms, disk, first)
    }

    /// The view that this server acts under, and its bytes.
    pub(crate) fn served(&self) -> Arc<ServedView> {
        self.epochs.served()
    }

    /// Whether it may own something.
    fn is_member(&self) -> bool {
        let view = self.view();
        let member = view.member(self.node);
        member.is_some_and(|member| member.state != MemberState::Joining)
    }

    /// The view that this server acts under.
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.served().view)
    }
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint {
    Ops,
    View,
    Hints,
    Status,
    Stop,
    Chain,
    Buckets,
    Members,
    Recover,
    Hello,
    Propose,
    Metrics,
    Health,
    Ready,
}

impl Endpoint {
    fn at(path: &str) -> Option<Self> {
        Some(match path {
            "/v1/ops" => Self::Ops,
            "/v1/view" => Self::View,
            "/v1/hints" => Self::Hints,
            "/v1/status" => Self::Status,
            "/v1/safe-to-stop" => Self::Stop,
            "/v1/chain" => Self::Chain,
            "/v1/buckets" => Self::Buckets,
            "/v1/members" => Self::Members,
            "/v1/recover" => Self::Recover,
            "/v1/peer/hello" => Self::Hello,
            "/v1/peer/chain" => Self::Propose,
            "/metrics" => Self::Metrics,
            "/healthz" => Self::Health,
            "/readyz" => Self::Ready,
            _ => return None,
        })
    }

    fn method(self) -> Method {
        match self {
            Self::Ops | Self::Hello | Self::Propose => Method::POST,
            Self::Buckets | Self::Members | Self::Recover => Method::POST,
            Self::View | Self::Chain | Self::Hints | Self::Status | Self::Stop => Method::GET,
            Self::Metrics | Self::Health | Self::Ready => Method::GET,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ops => "ops",
            Self::View => "view",
            Self::Hints => "hints",
            Self::Status => "status",
            Self::Stop => "safe_to_stop",
            Self::Chain => "chain",
            Self::Buckets => "buckets",
            Self::Members => "members",
            Self::Recover => "recover",
            Self::Hello => "hello",
            Self::Propose => "peer_chain",
            Self::Metrics => "metrics",
            Self::Health => "healthz",
            Self::Ready => "readyz",
        }
    }

    /// Whether a role opens it; `None`: it is open to everyone.
    fn roles(self, open_data: bool) -> Option<&'static [Role]> {
        match self {
            Self::Health | Self::Ready => None,
            Self::Ops | Self::View | Self::Chain if open_data => None,
            Self::Hints | Self::Status | Self::Stop if open_data => None,
            Self::Ops | Self::View | Self::Chain => Some(ANY_ROLE),
            Self::Hints | Self::Status | Self::Stop | Self::Metrics => Some(ANY_ROLE),
            Self::Buckets | Self::Recover => Some(&[Role::Admin]),
            // A server asks to join by itself.
            Self::Members => Some(&[Role::Admin, Role::Peer]),
            Self::Hello | Self::Propose => Some(&[Role::Peer]),
        }
    }
}

const ANY_ROLE: &[Role] = &[Role::Client, Role::Admin, Role::Peer];

/// Answers one request.
pub(crate) async fn handle(
    state: Arc<State>,
    caller: Arc<Caller>,
    request: Request<Incoming>,
) -> Response {
    let endpoint = Endpoint::at(request.uri().path());
    let response = match endpoint {
        None => Err(refusal(
            StatusCode::NOT_FOUND,
            FailureKind::NotFound,
            format!("there is no `{}` here", request.uri().path()),
        )),
        Some(endpoint) => answer(&state, &caller, endpoint, request).await,
    };
    let response = response.unwrap_or_else(Refused::into_response);
    let name = endpoint.map_or("unknown", Endpoint::name);
    state
        .metrics
        .count_request(name, response.status().as_u16());
    response
}

async fn answer(
    state: &Arc<State>,
    caller: &Caller,
    endpoint: Endpoint,
    request: Request<Incoming>,
) -> Result<Response, Refused> {
    if request.method() != endpoint.method() {
        let why = format!("only {} is answered here", endpoint.method());
        let refused = refusal(StatusCode::METHOD_NOT_ALLOWED, FailureKind::NotFound, why);
        return Err(refused.allowing(endpoint.method()));
    }
    if let Some(roles) = endpoint.roles(state.open_data) {
        admit(caller, roles)?;
    }
    match endpoint {
        Endpoint::Ops => ops::answer(state, request, is_peer(caller)).await,
        Endpoint::View => Ok(view(state, request.headers())),
        Endpoint::Hints => status::hints(state).await,
        Endpoint::Status => status::status(state).await,
        Endpoint::Stop => status::safe_to_stop(state).await,
        Endpoint::Chain => chain::deltas(state, request.uri()).await,
        Endpoint::Buckets => chain::change(state, request).await,
        Endpoint::Members => chain::change_member(state, request, is_peer(caller)).await,
        Endpoint::Recover => chain::recover(state, request).await,
        Endpoint::Hello => hello(state, request).await,
        Endpoint::Propose => chain::answer(state, request).await,
        Endpoint::Metrics => {
            let (under_way, usage) = (state.pipeline.under_way(), state.pipeline.engine().usage());
            let room = state.pipeline.disk().room().unwrap_or_default();
            let text = state.metrics.text(under_way, usage, room);
            Ok(respond::of(
                StatusCode::OK,
                metrics::CONTENT_TYPE,
                text.into(),
            ))
        }
        Endpoint::Health => Ok(plain(StatusCode::OK, "ok\n")),
        Endpoint::Ready if state.stopping.load(Ordering::Acquire) => {
            Ok(plain(StatusCode::SERVICE_UNAVAILABLE, "stopping\n"))
        }
        Endpoint::Ready if !state.epochs.has_begun() => {
            Ok(plain(StatusCode::SERVICE_UNAVAILABLE, "starting\n"))
        }
        Endpoint::Ready if !state.is_member() => {
            Ok(plain(StatusCode::SERVICE_UNAVAILABLE, "no member\n"))
        }
        Endpoint::Ready => Ok(plain(
            StatusCode::OK,
            match state.pipeline.disk().state() {
                DiskState::Full => "ready, disk full\n",
                DiskState::Filling => "ready, disk filling\n",
                DiskState::Ok | DiskState::Other => "ready\n",
            },
        )),
    }
}

/// Whether another server of the cluster asks.
fn is_peer(caller: &Caller) -> bool {
    admit(caller, &[Role::Peer]).is_ok()
}

/// Refuses who may not: 401 to whom a certificate would help, else 403.
fn admit(caller: &Caller, roles: &[Role]) -> Result<(), Refused> {
    let (status, why) = match caller {
        Caller::Known { role, until_ms, .. } if roles.contains(role) => {
            if clock::now_ms() < *until_ms {
                return Ok(());
            }
            (
                StatusCode::UNAUTHORIZED,
                "the certificate has expired: connect with a new one".into(),
            )
        }
        Caller::Known { role, name, .. } => {
            let why = format!("`{name}` has role {role:?}, which may not do this");
            (StatusCode::FORBIDDEN, why)
        }
        Caller::Unusable(why) => (StatusCode::FORBIDDEN, why.clone()),
        Caller::Unknown => (
            StatusCode::UNAUTHORIZED,
            "a certificate of the cluster is needed".into(),
        ),
    };
    Err(refusal(status, FailureKind::Unauthorized, why))
}

/// The view as it was encoded when it took effect.
fn view(state: &State, headers: &HeaderMap) -> Response {
    let served = state.served();
    let known = headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|tag| *tag == served.tag);
    let zstd = headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .any(accepts_zstd);
    let mut response = if known {
        respond::of(StatusCode::NOT_MODIFIED, codec::CONTENT_TYPE, Bytes::new())
    } else {
        let body = if zstd {
            &served.compressed
        } else {
            &served.encoded
        };
        respond::of(StatusCode::OK, codec::CONTENT_TYPE, body.clone())
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, served.tag.clone());
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert("annulet-epoch", HeaderValue::from(served.view.epoch));
    if zstd && !known {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("zstd"));
    }
    response
}

/// Whether a list of encodings names zstd without forbidding it.
fn accepts_zstd(list: &HeaderValue) -> bool {
    let list = list.to_str().unwrap_or_default();
    let refuses = |quality: &str| quality.trim().trim_start_matches("q=").parse() == Ok(0.0);
    list.split(',').any(|encoding| {
        let (name, quality) = encoding.split_once(';').unwrap_or((encoding, ""));
        name.trim().eq_ignore_ascii_case("zstd") && !refuses(quality)
    })
}

async fn hello(state: &Arc<State>, request: Request<Incoming>) -> Result<Response, Refused> {
    let (body, _share) = body::message(state, request, REQUEST_OVERHEAD_BYTES).await?;
    let theirs = codec::decode_hello(&body).map_err(Refused::from)?;
    let ours = state.hello(clock::now_ms());
    if theirs.cluster != ours.cluster {
        return Err(respond::wrong_cluster(theirs.cluster, ours.cluster));
    }
    state.peers.compare(&theirs, &ours);
    state.upkeep.heard_of(theirs.node);
    follow::heard(state, &theirs);
    Ok(respond::of(
        StatusCode::OK,
        codec::CONTENT_TYPE,
        codec::encode(&ours).into(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zstd_is_used_only_where_it_is_taken() {
        for (list, expected) in [
            ("zstd", true),
            ("gzip, ZSTD;q=0.5", true),
            ("gzip", false),
            ("zstd;q=0", false),
            ("zstd; q=0.0", false),
            ("xzstd", false),
        ] {
            assert_eq!(
                accepts_zstd(&HeaderValue::from_static(list)),
                expected,
                "{list}"
            );
        }
    }
}
