//! Connections: accepted up to a bound, shaken hands with in bounded time, served until they end or
//! the server stops.

use super::coalesce::Coalescing;
use super::tasks::{Begun, Tasks};
use super::{State, handle, handshake};
use crate::tls::role::Caller;
use crate::tls::{ALPN_H2, Tls};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
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

/// Accepts and serves until told to stop; then waits until connections have ended, at most for the
/// time configured.
pub(crate) async fn serve(
    listener: TcpListener,
    state: Arc<State>,
    tls: Arc<Tls>,
    most: usize,
    mut stop: watch::Receiver<bool>,
) {
    let room = Arc::new(Semaphore::new(most));
    let mut connections = JoinSet::new();
    loop {
        let place = tokio::select! {
            () = told(&mut stop) => break,
            place = room.clone().acquire_owned() => place,
        };
        // The semaphore is never closed.
        let Ok(place) = place else { break };
        let accepted = tokio::select! {
            () = told(&mut stop) => break,
            accepted = listener.accept() => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let (state, tls, stop) = (state.clone(), tls.clone(), stop.clone());
                connections.spawn(connection(stream, state, tls, stop, place));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
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

async fn connection(
    stream: TcpStream,
    state: Arc<State>,
    tls: Arc<Tls>,
    stop: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
) {
    let connections = state.metrics.connections.clone();
    connections.inc();
    let time = Duration::from_millis(state.limits.handshake_ms);
    match timeout(time, handshake::perform(stream, &tls)).await {
        Ok(Ok(stream)) => converse(stream, state, stop).await,
        Ok(Err(error)) => {
            state.metrics.handshakes_failed.inc();
            tracing::debug!(%error, "a handshake failed");
        }
        Err(_) => {
            state.metrics.handshakes_failed.inc();
            tracing::debug!("a handshake took too long");
        }
    }
    connections.dec();
}

async fn converse(
    stream: TlsStream<TcpStream>,
    state: Arc<State>,
    mut stop: watch::Receiver<bool>,
) {
    let (_, session) = stream.get_ref();
    let cluster = state.served.view.cluster;
    let caller = Arc::new(Caller::of(session.peer_certificates(), cluster));
    let h2 = session.alpn_protocol() == Some(ALPN_H2);
    let service = {
        let state = state.clone();
        service_fn(move |request| {
            let (state, caller) = (state.clone(), caller.clone());
            async move { Ok::<_, Infallible>(handle(state, caller, request).await) }
        })
    };
    let ended = if h2 {
        let io = TokioIo::new(Coalescing::new(stream));
        let mut tasks = Tasks::default();
        let connection = http2_settings(&state, tasks.begun()).serve_connection(io, service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            ended = tasks.drive(connection.as_mut()) => ended,
            () = told(&mut stop) => {
                connection.as_mut().graceful_shutdown();
                tasks.drive(connection).await
            }
        }
    } else {
        let io = TokioIo::new(stream);
        let connection = http1_settings(&state).serve_connection(io, service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            ended = &mut connection => ended,
            () = told(&mut stop) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
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
