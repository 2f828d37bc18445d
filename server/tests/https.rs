//! A whole server over real TLS: who may do what, and what of malformed or immoderate requests.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

mod support;

use annulet_protocol::codec;
use annulet_protocol::ids::{ClusterId, EpochHash};
use annulet_protocol::message::{Answer, DiskState, FailureKind, Hello, Operation, RefusalKind};
use annulet_server::Config;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use hyper_util::rt::TokioIo;
use std::pin::Pin;
use std::task::{Context, Poll};
use support::{
    Authority, CLUSTER, Caller, NODE, PATIENCE, Running, VALUE_BYTES_MAX, alone, connect,
    eventually, get, now_ms, put, request, value,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const HTTP1: &[u8] = b"http/1.1";
const H2: &[u8] = b"h2";

struct Cluster {
    _folder: tempfile::TempDir,
    authority: Authority,
    server: Running,
}

impl Cluster {
    async fn start() -> Self {
        Self::start_with(|config| config).await
    }

    async fn start_with(change: impl FnOnce(Config) -> Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let server = Running::start(change(alone(folder.path(), &authority))).await;
        Self {
            _folder: folder,
            authority,
            server,
        }
    }

    /// A caller that need not send all of a body to hear that it is too long.
    async fn caller_over_h2(&self, role: &str) -> Caller {
        let identity = self.authority.issue(CLUSTER, role);
        let client = self.authority.client(Some(&identity), H2);
        let stream = self.server.tls(&client.into()).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(H2));
        Caller::http2(stream).await
    }

    /// A caller of this role; of none, one without a certificate.
    async fn caller(&self, role: &str) -> Caller {
        let identity = self.authority.issue(CLUSTER, role);
        let identity = (!role.is_empty()).then_some(&identity);
        self.server
            .caller(self.authority.client(identity, HTTP1))
            .await
    }
}

fn kind(answer: &Answer) -> RefusalKind {
    match answer {
        Answer::Refused(refusal) => refusal.kind,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn values_are_read_as_they_were_written_over_both_versions_of_http() {
    let cluster = Cluster::start().await;
    let mut over_h2 = cluster.caller_over_h2("client").await;
    let mut over_http1 = cluster.caller("client").await;
    let long: Bytes = (0..=255u8).cycle().take(700_000).collect::<Vec<_>>().into();
    let answers = over_h2
        .operations(vec![put("a", "1"), put("long", long.clone())])
        .await;
    assert!(
        answers
            .iter()
            .all(|answer| matches!(answer, Answer::Written(_))),
        "{answers:?}"
    );
    for caller in [&mut over_h2, &mut over_http1] {
        let answers = caller
            .operations(vec![get("long"), get("none"), get("a")])
            .await;
        let values: Vec<_> = answers.iter().map(value).collect();
        assert_eq!(values, [Some(long.clone()), None, Some("1".into())]);
    }
    let got = over_h2
        .post("/v1/ops", codec::encode(&request(vec![get("a")])))
        .await;
    let reply = got.reply();
    assert_eq!((reply.cluster, reply.node, reply.epoch), (CLUSTER, NODE, 1));
    assert!(reply.time_ms.abs_diff(now_ms()) < 60_000);
    assert!(reply.load.in_flight < 10);
}

#[tokio::test]
async fn every_endpoint_asks_for_its_role() {
    let cluster = Cluster::start().await;
    let hello = Hello {
        cluster: CLUSTER,
        node: NODE,
        epoch: 1,
        view_digest: 0,
        time_ms: 0,
        disk: DiskState::Ok,
        hash: EpochHash::default(),
        first: 0,
        generation: 0,
    };
    let operations = codec::encode(&request(vec![get("a")]));
    for (role, data, hellos, metrics) in [
        ("", 401, 401, 401),
        ("client", 200, 403, 200),
        ("admin", 200, 403, 200),
        ("peer", 200, 200, 200),
        ("owner", 403, 403, 403),
    ] {
        let mut caller = cluster.caller(role).await;
        let expected = [
            (caller.post("/v1/ops", operations.clone()).await, data),
            (caller.get("/v1/view").await, data),
            (caller.get("/v1/hints").await, data),
            (caller.get("/v1/status").await, data),
            (
                caller.post("/v1/peer/hello", codec::encode(&hello)).await,
                hellos,
            ),
            (caller.get("/metrics").await, metrics),
            (caller.get("/healthz").await, 200),
            (caller.get("/readyz").await, 200),
        ];
        for (got, status) in expected {
            assert_eq!(got.status, status, "{role}: {:?}", got.body);
            if status != 200 {
                assert_eq!(got.failure().kind, FailureKind::Unauthorized);
            }
        }
        let stop = caller.get("/v1/safe-to-stop").await.status;
        let needed = if data == 200 { 409 } else { data };
        assert_eq!(stop, needed, "{role}: there is no other server");
    }
    let stranger = cluster.authority.issue(ClusterId([9; 16]), "client");
    let stranger = cluster.authority.client(Some(&stranger), HTTP1);
    let got = cluster
        .server
        .caller(stranger)
        .await
        .post("/v1/ops", operations)
        .await;
    assert_eq!(
        (got.status, got.failure().kind),
        (403, FailureKind::Unauthorized)
    );
    assert!(
        got.failure().message.contains("for cluster 0909"),
        "{}",
        got.failure().message
    );
}

#[tokio::test]
async fn open_data_needs_no_certificate_but_peers_do() {
    let open = |config| Config {
        open_data: true,
        ..config
    };
    let cluster = Cluster::start_with(open).await;
    let mut caller = cluster.caller("").await;
    assert_eq!(value(&caller.operations(vec![get("a")]).await[0]), None);
    assert_eq!(caller.get("/v1/view").await.status, 200);
    assert_eq!(caller.get("/metrics").await.status, 401);
    assert_eq!(caller.post("/v1/peer/hello", "").await.status, 401);
}

#[tokio::test]
async fn what_is_not_there_is_said_to_be() {
    let cluster = Cluster::start().await;
    let mut caller = cluster.caller("client").await;
    let got = caller.get("/v1/nothing").await;
    assert_eq!(
        (got.status, got.failure().kind),
        (404, FailureKind::NotFound)
    );
    let got = caller.get("/v1/ops").await;
    assert_eq!(
        (got.status, got.failure().kind),
        (405, FailureKind::NotFound)
    );
    assert_eq!(got.headers["allow"], "POST");
    assert_eq!(caller.post("/v1/view", "").await.status, 405);

    let mut request = caller.request("POST", "/v1/ops", Bytes::new());
    request
        .headers_mut()
        .insert("content-type", "application/json".parse().unwrap());
    let got = caller.send(request).await.unwrap();
    assert_eq!(
        (got.status, got.failure().kind),
        (415, FailureKind::InvalidInput)
    );
}

#[tokio::test]
async fn malformed_bodies_are_refused() {
    let cluster = Cluster::start().await;
    let mut caller = cluster.caller("client").await;
    let whole = codec::encode(&request(vec![put("a", vec![1; 1000]), get("b")]));
    let trailing = [&whole[..], &[0]].concat();
    // A nest of arrays, and an array that says to be of 4 billion elements.
    let (deep, wide) = (vec![0x91; 100_000], b"\xdd\xff\xff\xff\xff".to_vec());
    for body in [
        &[][..],
        &whole[..whole.len() / 2],
        &whole[..1],
        &trailing,
        &deep,
        &wide,
    ] {
        let got = caller.post("/v1/ops", Bytes::copy_from_slice(body)).await;
        assert_eq!(got.status, 400, "{:?}", &body[..body.len().min(20)]);
        assert_eq!(got.failure().kind, FailureKind::InvalidInput);
    }
    let many = codec::encode(&request(vec![get("a"); 1025]));
    let got = caller.post("/v1/ops", many).await;
    assert_eq!(
        (got.status, got.failure().kind),
        (413, FailureKind::InvalidInput)
    );
    let mut foreign = request(vec![get("a")]);
    foreign.cluster = ClusterId([9; 16]);
    let got = caller.post("/v1/ops", codec::encode(&foreign)).await;
    assert_eq!(
        (got.status, got.failure().kind),
        (421, FailureKind::WrongCluster)
    );
    assert_eq!(
        caller.operations(vec![get("a")]).await.len(),
        1,
        "the connection is as good as new"
    );
}

#[tokio::test]
async fn operations_that_cannot_be_are_refused_by_themselves() {
    let cluster = Cluster::start().await;
    let mut caller = cluster.caller("client").await;
    let over = vec![1; VALUE_BYTES_MAX + 1];
    let operations = vec![
        get(""),
        put("", "1"),
        put("over", over),
        Operation::Unknown,
        get(&"k".repeat(4097)),
        put("good", "1"),
    ];
    let answers = caller.operations(operations).await;
    let kinds: Vec<_> = answers[..5].iter().map(kind).collect();
    use RefusalKind::{TooLarge, Unsupported};
    assert_eq!(kinds, [TooLarge, TooLarge, TooLarge, Unsupported, TooLarge]);
    assert!(matches!(answers[5], Answer::Written(_)));
    let most = vec![1; VALUE_BYTES_MAX];
    let answers = caller.operations(vec![put("most", most.clone())]).await;
    assert!(matches!(answers[0], Answer::Written(_)), "{:?}", answers[0]);
    let answers = caller.operations(vec![get("most")]).await;
    assert_eq!(value(&answers[0]), Some(most.into()));

    let mut behind = request(vec![get("a")]);
    behind.epoch = 2;
    let got = caller.post("/v1/ops", codec::encode(&behind)).await;
    assert_eq!(kind(&got.reply().results[0]), RefusalKind::Behind);
    let mut late = request(vec![get("a"), put("a", "1")]);
    late.budget_ms = 0;
    let got = caller.post("/v1/ops", codec::encode(&late)).await;
    assert!(
        got.reply()
            .results
            .iter()
            .all(|answer| kind(answer) == RefusalKind::TooLate)
    );
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let cluster = Cluster::start().await;
    let most = codec::request_bytes_max(VALUE_BYTES_MAX);
    let mut caller = cluster.caller_over_h2("client").await;
    let got = caller.post("/v1/ops", vec![0; most + 1]).await;
    assert_eq!(
        (got.status, got.failure().kind),
        (413, FailureKind::InvalidInput)
    );
    assert_eq!(
        caller.operations(vec![get("a")]).await.len(),
        1,
        "the connection goes on"
    );

    // Announced, and not sent.
    let identity = cluster.authority.issue(CLUSTER, "client");
    let client = cluster.authority.client(Some(&identity), HTTP1).into();
    let mut stream = cluster.server.tls(&client).await.unwrap();
    let head = format!(
        "POST /v1/ops HTTP/1.1\r\nhost: localhost\r\ncontent-type: {}\r\n\
         content-length: {}\r\n\r\n",
        codec::CONTENT_TYPE,
        most + 1
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 413");

    // Never announced, and without end.
    let client = cluster.authority.client(Some(&identity), H2).into();
    let stream = cluster.server.tls(&client).await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(executor, TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let (frames, queue) = tokio::sync::mpsc::channel(1);
    let endless = tokio::spawn(async move {
        let chunk = Bytes::from(vec![0; 64 << 10]);
        while frames.send(chunk.clone()).await.is_ok() {}
    });
    let request = http::Request::post("https://localhost/v1/ops")
        .header("content-type", codec::CONTENT_TYPE)
        .body(Frames(queue))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 413);
    tokio::time::timeout(PATIENCE, endless)
        .await
        .unwrap()
        .unwrap();
}

/// A body of what comes through a channel.
struct Frames(tokio::sync::mpsc::Receiver<Bytes>);

impl Body for Frames {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0
            .poll_recv(context)
            .map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

#[tokio::test]
async fn bodies_and_replies_together_are_bounded() {
    let small = |mut config: Config| {
        config.limits.message_bytes = 2 * codec::request_bytes_max(VALUE_BYTES_MAX);
        config
    };
    let cluster = Cluster::start_with(small).await;
    let mut caller = cluster.caller("client").await;
    // Half again as much as there is memory for.
    let names: Vec<String> = (0..15).map(|number| number.to_string()).collect();
    for name in &names {
        let value = vec![1; VALUE_BYTES_MAX];
        let answers = caller.operations(vec![put(name, value)]).await;
        assert!(matches!(answers[0], Answer::Written(_)));
    }
    let keys = names.iter().map(|name| get(name)).collect();
    let got = caller.post("/v1/ops", codec::encode(&request(keys))).await;
    // Some values fit, and their reply does not fit beside them or does.
    let overloaded = match got.status {
        503 => got.failure().retry_after_ms.is_some(),
        _ => got.reply().results.iter().any(|a| {
            matches!(a, Answer::Refused(r) if
            r.kind == RefusalKind::Overloaded && r.retry_after_ms.is_some())
        }),
    };
    assert!(overloaded);
    let answers = caller.operations(vec![get("7")]).await;
    assert!(
        matches!(answers[0], Answer::Found(_)),
        "the memory is free again"
    );
}

#[tokio::test]
async fn who_speaks_plain_http_is_told_so_in_plain_text() {
    let cluster = Cluster::start().await;
    for hello in [
        "GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\0",
    ] {
        let mut stream = connect(cluster.server.address).await;
        stream.write_all(hello.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{answer}"
        );
        assert!(answer.contains("This port speaks HTTPS"), "{answer}");
    }
}

#[tokio::test]
async fn a_handshake_that_does_not_come_ends_in_time() {
    let hasty = |mut config: Config| {
        config.limits.handshake_ms = 50;
        config.limits.connections = 1;
        config
    };
    let cluster = Cluster::start_with(hasty).await;
    let mut silent = connect(cluster.server.address).await;
    let read = tokio::time::timeout(PATIENCE, silent.read(&mut [0]))
        .await
        .unwrap();
    assert!(read.is_err() || read.is_ok_and(|read| read == 0));
    assert_eq!(
        cluster.caller("").await.get("/healthz").await.status,
        200,
        "its place is free"
    );
}

#[tokio::test]
async fn the_view_is_sent_compressed_and_only_once() {
    let cluster = Cluster::start().await;
    let mut caller = cluster.caller("client").await;
    let got = caller.get("/v1/view").await;
    let view = codec::decode_view(&got.body).unwrap();
    assert_eq!((view.cluster, view.epoch), (CLUSTER, 1));
    assert_eq!(got.headers["annulet-epoch"], "1");
    assert!(!got.headers.contains_key("content-encoding"));

    let mut asking = caller.request("GET", "/v1/view", Bytes::new());
    asking
        .headers_mut()
        .insert("accept-encoding", "gzip, zstd".parse().unwrap());
    let compressed = caller.send(asking.clone()).await.unwrap();
    assert_eq!(compressed.headers["content-encoding"], "zstd");
    assert!(compressed.body.len() < got.body.len());
    assert_eq!(
        zstd::bulk::decompress(&compressed.body, 1 << 20).unwrap(),
        got.body
    );

    asking
        .headers_mut()
        .insert("if-none-match", got.headers["etag"].clone());
    let unchanged = caller.send(asking).await.unwrap();
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
}

#[tokio::test]
async fn a_greeting_is_returned_with_the_digest_of_the_view() {
    let cluster = Cluster::start().await;
    let mut peer = cluster.caller("peer").await;
    let mut hello = Hello {
        cluster: CLUSTER,
        node: NODE,
        epoch: 1,
        view_digest: 0,
        time_ms: 0,
        disk: DiskState::Ok,
        hash: EpochHash::default(),
        first: 0,
        generation: 0,
    };
    let got = peer.post("/v1/peer/hello", codec::encode(&hello)).await;
    let theirs = codec::decode_hello(&got.body).unwrap();
    let view = peer.get("/v1/view").await;
    assert_eq!(theirs.view_digest, xxhash_rust::xxh3::xxh3_64(&view.body));
    assert!(theirs.time_ms.abs_diff(now_ms()) < 60_000);
    hello.cluster = ClusterId([9; 16]);
    assert_eq!(
        peer.post("/v1/peer/hello", codec::encode(&hello))
            .await
            .status,
        421
    );
    assert_eq!(peer.post("/v1/peer/hello", "x").await.status, 400);
}

#[tokio::test]
async fn metrics_tell_what_was_done() {
    let cluster = Cluster::start().await;
    let mut caller = cluster.caller("client").await;
    caller
        .operations(vec![put("a", "1"), get("a"), get(""), get("")])
        .await;
    let text = caller.get("/metrics").await;
    let text = String::from_utf8(text.body.to_vec()).unwrap();
    for line in [
        "annulet_requests_total{endpoint=\"ops\",status=\"200\"} 1",
        "annulet_writes_total 1",
        "annulet_reads_total 3",
        "annulet_refusals_total{kind=\"too_large\"} 2",
        "annulet_sync_seconds_count 1",
        "annulet_connections 1",
        "annulet_writes_queued 0",
    ] {
        assert!(
            text.lines().any(|is| is == line),
            "{line} is not in:\n{text}"
        );
    }
    let cache = text
        .lines()
        .find_map(|line| line.strip_prefix("annulet_store_memtable_bytes "));
    assert!(cache.unwrap().parse::<u64>().unwrap() > 0);
}

#[tokio::test]
async fn a_stopping_server_finishes_what_it_has_begun() {
    let mut cluster = Cluster::start().await;
    let identity = cluster.authority.issue(CLUSTER, "client");
    let client = cluster.authority.client(Some(&identity), HTTP1).into();
    let stream = cluster.server.tls(&client).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let (frames, queue) = tokio::sync::mpsc::channel(1);
    let whole = Bytes::from(codec::encode(&request(vec![put("a", "1")])));
    frames.send(whole.slice(..10)).await.unwrap();
    let begun = http::Request::post("/v1/ops")
        .header("host", "localhost")
        .header("content-type", codec::CONTENT_TYPE)
        .body(Frames(queue))
        .unwrap();
    let answer = tokio::spawn(async move { sender.send_request(begun).await });
    // The second chunk fits into the channel when the first was sent.
    frames.send(whole.slice(10..20)).await.unwrap();
    frames.send(whole.slice(20..30)).await.unwrap();

    let address = cluster.server.address;
    cluster.server.begin_stop();
    eventually(async || support::try_connect(address).await.is_err()).await;
    frames.send(whole.slice(30..)).await.unwrap();
    drop(frames);
    let response = answer.await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let reply = codec::decode_reply(&body).unwrap();
    assert!(matches!(reply.results[0], Answer::Written(_)));
    cluster.server.stop().await.unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let mut config = alone(folder.path(), &authority);
    // A connection that is idle ends at once: to wait for it would be noticed.
    config.limits.stop_ms = 2 * PATIENCE.as_millis() as u64;
    let identity = authority.issue(CLUSTER, "client");
    for round in 0..3 {
        let server = Running::start(config.clone()).await;
        let mut caller = server
            .caller(authority.client(Some(&identity), HTTP1))
            .await;
        let key = |round: i32| format!("key {round}");
        for earlier in 0..round {
            let answers = caller.operations(vec![get(&key(earlier))]).await;
            assert_eq!(value(&answers[0]), Some(vec![earlier as u8; 9000].into()));
        }
        caller
            .operations(vec![put(&key(round), vec![round as u8; 9000])])
            .await;
        server.stop().await.unwrap();
        drop(caller);
    }
}
