//! Connections: accepted up to a bound, shaken hands with in bounded time, served until they end,
//! are idle for too long, have to make room, or the server stops.

use super::coalesce::Coalescing;
use super::respond::Response;
use super::room::{Closing, Requests, Room, Seat, UnderWay};
use super::tasks::{Begun, Tasks};
use super::{State, handle, handshake};
use crate::tls::role::Caller;
use crate::tls::{ALPN_H2, Tls};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

/// Bytes that a sender may be ahead of us, for one request and for a connection. Together with the
/// bound on connections this bounds what waits unread; on fast networks it does not slow a sender
/// down.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Longest frame: long values in fewer pieces.
const FRAME_BYTES_MAX: u32 = 64 << 10;
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// Bytes of one reply that wait for the connection.
const SEND_BUFFER_BYTES: usize = 1 << 20;
/// How often a silent connection is asked whether it is alive, and how long it has to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// How long to wait before accepting again after the system refused: it has no descriptor or no
/// memory, and will have some when connections end.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// An answer that is longer takes time to send: its request is under way until it is taken.
const LONG_ANSWER_BYTES: usize = 64 << 10;
/// How long the other end of an idle connection has to agree that it ends, so that a request that
/// is on its way is still answered.
const IDLE_GRACE: Duration = Duration::from_secs(1);

/// Accepts and serves until told to stop; then waits until connections have ended, at most for the
/// time configured.
pub(crate) async fn serve(
    listener: TcpListener,
    state: Arc<State>,
    tls: Arc<Tls>,
    most: usize,
    mut stop: watch::Receiver<bool>,
) {
    let room = Room::new(most, state.metrics.clone());
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = told(&mut stop) => break,
            accepted = listener.accept() => accepted,
        };
        while connections.try_join_next().is_some() {}
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        // Further ones wait in the system's backlog meanwhile.
        let seat = tokio::select! {
            () = told(&mut stop) => break,
            seat = room.seat() => seat,
        };
        let (state, tls, stop) = (state.clone(), tls.clone(), stop.clone());
        connections.spawn(connection(stream, state, tls, stop, seat));
    }
    drop(listener);
    let time = Duration::from_millis(state.limits.stop_ms);
    let ended = timeout(time, async {
        while connections.join_next().await.is_some() {}
    })
    .await;
    if ended.is_err() {
        tracing::warn!(
            left = connections.len(),
            "connections are cut: they did not end in time"
        );
        connections.shutdown().await;
    }
}

/// Waits until the server is told to stop, or is gone.
async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// What a part of a connection's life does. Each is allocated by itself, and gone when it is over:
/// there are many connections, most of them idle.
type Part<T> = Pin<Box<dyn Future<Output = T> + Send>>;

async fn connection(
    stream: TcpStream,
    state: Arc<State>,
    tls: Arc<Tls>,
    stop: watch::Receiver<bool>,
    seat: Seat,
) {
    // A handshake has a bound of its own, so that it can only have to make room.
    let limit = Duration::from_millis(state.limits.handshake_ms);
    let handshake: Part<_> = Box::pin(timeout(limit, handshake::perform(stream, tls)));
    let shaken = tokio::select! {
        shaken = handshake => shaken,
        why = seat.closing(Duration::MAX, Duration::MAX) => return seat.count(why),
    };
    match shaken {
        Ok(Ok(stream)) => converse(stream, state, stop, seat).await,
        Ok(Err(error)) => {
            state.metrics.handshakes_failed.inc();
            tracing::debug!(%error, "a handshake failed");
        }
        Err(_) => {
            state.metrics.handshakes_failed.inc();
            tracing::debug!("a handshake took too long");
        }
    }
}

fn converse(
    stream: TlsStream<TcpStream>,
    state: Arc<State>,
    stop: watch::Receiver<bool>,
    seat: Seat,
) -> Part<()> {
    let (_, session) = stream.get_ref();
    let cluster = state.view().cluster;
    let caller = Arc::new(Caller::of(session.peer_certificates(), cluster));
    if matches!(*caller, Caller::Known { .. }) {
        seat.note_known();
    }
    let h2 = session.alpn_protocol() == Some(ALPN_H2);
    let requests = seat.requests();
    let service = {
        let state = state.clone();
        service_fn(move |request| serve_one(state.clone(), caller.clone(), &requests, request))
    };
    if h2 {
        let mut tasks = Tasks::default();
        let io = TokioIo::new(Coalescing::new(stream));
        let connection = http2_settings(&state, tasks.begun()).serve_connection(io, service);
        Box::pin(async move {
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = tasks.drive(connection.as_mut()) => ended,
                grace = end(&seat, &state, stop) => {
                    connection.as_mut().graceful_shutdown();
                    within(grace, tasks.drive(connection)).await
                }
            };
            note(ended);
        })
    } else {
        let connection = http1_settings(&state).serve_connection(TokioIo::new(stream), service);
        Box::pin(async move {
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = &mut connection => ended,
                grace = end(&seat, &state, stop) => {
                    connection.as_mut().graceful_shutdown();
                    within(grace, connection).await
                }
            };
            note(ended);
        })
    }
}

fn note(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Waits until a connection must end, and gives the time that it has for that. `None`: all that
/// it takes until its requests are answered.
async fn end(seat: &Seat, state: &State, mut stop: watch::Receiver<bool>) -> Option<Duration> {
    let idle = Duration::from_millis(state.limits.idle_ms);
    let stalled = Duration::from_millis(state.limits.request_ms);
    tokio::select! {
        () = told(&mut stop) => None,
        why = seat.closing(idle, stalled) => {
            seat.count(why);
            match why {
                Closing::Idle => Some(IDLE_GRACE),
                // It is told, if it takes that at once; somebody waits for its place.
                Closing::Room | Closing::Stalled => Some(Duration::ZERO),
            }
        }
    }
}

/// Lets a connection end in the time that it has for that; then it is cut.
async fn within(
    grace: Option<Duration>,
    ending: impl Future<Output = hyper::Result<()>>,
) -> hyper::Result<()> {
    match grace {
        None => ending.await,
        Some(grace) => timeout(grace, ending).await.unwrap_or(Ok(())),
    }
}

/// Answers one request. It is under way from here until its answer is sent.
fn serve_one(
    state: Arc<State>,
    caller: Arc<Caller>,
    requests: &Requests,
    request: Request<Incoming>,
) -> impl Future<Output = Result<http::Response<Full<Bytes>>, Infallible>> + use<> {
    let under_way = requests.begin();
    async move {
        let response = handle(state, caller, request).await;
        Ok(keep(response, under_way))
    }
}

/// Keeps a request under way until its answer is sent, if that is long. A short one fits into the
/// system's buffers, or else its reader does not read.
fn keep(response: Response, mut under_way: UnderWay) -> http::Response<Full<Bytes>> {
    struct Kept {
        bytes: Bytes,
        _under_way: UnderWay,
    }
    impl AsRef<[u8]> for Kept {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }
    response.map(|bytes| {
        if bytes.len() <= LONG_ANSWER_BYTES {
            return Full::new(bytes);
        }
        under_way.answer();
        Full::new(Bytes::from_owner(Kept {
            bytes,
            _under_way: under_way,
        }))
    })
}

fn http2_settings(state: &State, requests: Begun) -> http2::Builder<Begun> {
    let mut settings = http2::Builder::new(requests);
    settings
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_concurrent_streams(state.limits.streams)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    settings
}

fn http1_settings(state: &State) -> http1::Builder {
    let mut settings = http1::Builder::new();
    settings
        .timer(TokioTimer::new())
        // Who has said all and ends its side still gets its answer.
        .half_close(true)
        .header_read_timeout(Duration::from_millis(state.limits.request_ms))
        .max_buf_size(HEADER_BYTES_MAX as usize);
    settings
}
