//! Which connections a server closes by itself, and which it keeps.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

mod support;

use annulet_protocol::codec;
use annulet_server::{Config, Limits};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::time::Duration;
use support::{
    Authority, CLUSTER, Caller, PATIENCE, Running, VALUE_BYTES_MAX, alone, eventually, get, put,
    request,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

const HTTP1: &[u8] = b"http/1.1";
const H2: &[u8] = b"h2";
const IDLE: Duration = Duration::from_millis(400);
/// What a client of HTTP/2 says first: that it is one, and empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

struct Cluster {
    _folder: tempfile::TempDir,
    authority: Authority,
    server: Running,
}

impl Cluster {
    async fn start(change: impl FnOnce(&mut Limits)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let mut config: Config = alone(folder.path(), &authority);
        change(&mut config.limits);
        let server = Running::start(config).await;
        Self {
            _folder: folder,
            authority,
            server,
        }
    }

    /// A connection with a client's certificate, or with none.
    async fn connect(&self, known: bool, alpn: &[u8]) -> TlsStream<TcpStream> {
        let identity = self.authority.issue(CLUSTER, "client");
        let identity = known.then_some(&identity);
        let client = self.authority.client(identity, alpn).into();
        self.server.tls(&client).await.unwrap()
    }

    /// How many connections were closed for this reason.
    async fn closed(&self, why: &str) -> u64 {
        let mut caller = Caller::http1(self.connect(true, HTTP1).await).await;
        let text = caller.get("/metrics").await.body;
        let text = String::from_utf8_lossy(&text);
        let name = format!("annulet_connections_closed_total{{why=\"{why}\"}} ");
        let count = text.lines().find_map(|line| line.strip_prefix(&name));
        count.map_or(0, |count| count.parse().unwrap())
    }
}

/// Begins to put a record, waits until the server wants the body, and gives that.
async fn begin_put(stream: &mut TlsStream<TcpStream>) -> Vec<u8> {
    const GO_ON: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
    let body = codec::encode(&request(vec![put("a", "1")]));
    let head = format!(
        "POST /v1/ops HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-type: {}\r\n\
         content-length: {}\r\nexpect: 100-continue\r\n\r\n",
        codec::CONTENT_TYPE,
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut said = [0; GO_ON.len()];
    stream.read_exact(&mut said).await.unwrap();
    assert_eq!(said, GO_ON);
    body
}

/// Waits until the other end has closed, and gives what it said before.
async fn rest(mut stream: TlsStream<TcpStream>) -> Vec<u8> {
    let mut said = Vec::new();
    // It may be closed without the last word of TLS.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut said))
        .await
        .expect("closed in time");
    said
}

/// Whether a connection is open: nothing has come, not even its end.
async fn is_open(stream: &mut TlsStream<TcpStream>) -> bool {
    let read = timeout(Duration::from_millis(1), stream.read(&mut [0; 64])).await;
    read.is_err()
}

#[tokio::test]
async fn connections_without_a_request_are_closed_however_far_they_came() {
    let cluster = Cluster::start(|limits| limits.idle_ms = IDLE.as_millis() as u64).await;
    // Without the first word of HTTP/2, with it, in the middle of headers, and after an answer.
    let silent = cluster.connect(true, H2).await;
    let mut polite = cluster.connect(false, H2).await;
    polite.write_all(PREFACE).await.unwrap();
    let mut halting = cluster.connect(true, HTTP1).await;
    halting.write_all(b"GET /healthz HT").await.unwrap();
    let mut served = cluster.connect(false, HTTP1).await;
    let whole = b"GET /healthz HTTP/1.1\r\nhost: test\r\n\r\n";
    served.write_all(whole).await.unwrap();
    rest(silent).await;
    let said = rest(polite).await;
    let goaway = said.windows(6).any(|bytes| bytes[0..=3] == [0, 0, 8, 7]);
    assert!(goaway, "it is told: {said:?}");
    rest(halting).await;
    assert!(rest(served).await.starts_with(b"HTTP/1.1 200 OK"));
    assert_eq!(cluster.closed("idle").await, 4);
    cluster.server.stop().await.unwrap();
}

#[tokio::test]
async fn a_connection_in_use_stays_open_and_so_does_one_whose_request_is_slow() {
    let cluster = Cluster::start(|limits| limits.idle_ms = IDLE.as_millis() as u64).await;
    let mut caller = Caller::http2(cluster.connect(true, H2).await).await;
    let mut slow = cluster.connect(true, HTTP1).await;
    let body = begin_put(&mut slow).await;
    for part in body.chunks(body.len().div_ceil(20)) {
        slow.write_all(part).await.unwrap();
        assert_eq!(caller.get("/healthz").await.status, 200);
        tokio::time::sleep(IDLE / 8).await;
    }
    assert!(rest(slow).await.starts_with(b"HTTP/1.1 200 OK"));
    assert_eq!(caller.get("/healthz").await.status, 200);
    assert_eq!(cluster.closed("idle").await, 0);
}

#[tokio::test]
async fn who_does_not_take_a_long_answer_is_cut_off() {
    let cluster = Cluster::start(|limits| {
        limits.request_ms = 500;
        limits.idle_ms = 3_600_000;
    })
    .await;
    let mut caller = Caller::http2(cluster.connect(true, H2).await).await;
    let long = vec![7; VALUE_BYTES_MAX];
    caller.operations(vec![put("long", long)]).await;
    // This client takes 64 KiB of an answer, and more when that is read, which it is not.
    let made = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(65_535)
        .handshake(TokioIo::new(cluster.connect(true, H2).await))
        .await;
    let (mut sender, connection) = made.unwrap();
    let driven = tokio::spawn(connection);
    let body = Bytes::from(codec::encode(&request(vec![get("long")])));
    let asked = caller.request("POST", "/v1/ops", body);
    let response = sender.send_request(asked).await.unwrap();
    assert_eq!(response.status(), 200);
    let ended = timeout(PATIENCE, driven).await.expect("cut off in time");
    drop(ended);
    let body = response.into_body().collect().await;
    assert!(body.is_err(), "it cannot have come whole");
    assert_eq!(cluster.closed("stalled").await, 1);
    // Who takes it has it.
    let got = caller.operations(vec![get("long")]).await;
    assert_eq!(support::value(&got[0]).unwrap().len(), VALUE_BYTES_MAX);
}

#[tokio::test]
async fn newcomers_take_the_places_of_idle_strangers_then_of_idle_clients_never_of_busy_ones() {
    let cluster = Cluster::start(|limits| limits.connections = 4).await;
    let mut busy = cluster.connect(true, HTTP1).await;
    let body = begin_put(&mut busy).await;
    let mut early = cluster.connect(true, HTTP1).await;
    let mut late = cluster.connect(true, HTTP1).await;
    let stranger = cluster.connect(false, HTTP1).await;
    for stream in [&mut early, &mut late] {
        let whole = b"GET /healthz HTTP/1.1\r\nhost: test\r\n\r\n";
        stream.write_all(whole).await.unwrap();
        let mut line = [0; 12];
        stream.read_exact(&mut line).await.unwrap();
        assert_eq!(&line, b"HTTP/1.1 200");
        while !is_open(stream).await {}
    }
    let first = cluster.connect(true, HTTP1).await;
    rest(stranger).await;
    assert!(is_open(&mut early).await && is_open(&mut late).await);
    let second = cluster.connect(true, HTTP1).await;
    rest(early).await;
    assert!(is_open(&mut late).await);
    drop((first, second));
    busy.write_all(&body).await.unwrap();
    assert!(rest(busy).await.starts_with(b"HTTP/1.1 200 OK"));
    eventually(async || cluster.closed("room").await >= 2).await;
}

#[tokio::test]
async fn handshakes_that_never_come_keep_nobody_out() {
    let cluster = Cluster::start(|limits| {
        limits.connections = 8;
        limits.handshake_ms = 3_600_000;
    })
    .await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(support::connect(cluster.server.address).await);
        let mut caller = Caller::http2(cluster.connect(true, H2).await).await;
        assert_eq!(caller.get("/readyz").await.status, 200);
    }
}
