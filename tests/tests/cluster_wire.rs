//! Raw bytes to a real server process, written down here by hand and apart from our client and
//! codec: what is asked wrongly gets its documented answer, and the server lives on.
#![cfg(feature = "cluster")]
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use annulet_tests::cluster::wire::{ask, connect, http, say, tls};
use annulet_tests::cluster::{CLUSTER, Cluster, connect_tcp};
use std::sync::Arc;

/// Longest value, as `VALUE_BYTES_DEFAULT` documents it.
const VALUE_BYTES_MAX: usize = 16 << 20;

// MessagePack by hand: the few kinds that a request is made of.
fn map(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = vec![0x80 | u8::try_from(entries.len()).unwrap()];
    for (name, value) in entries {
        bytes.push(0xa0 | u8::try_from(name.len()).unwrap());
        bytes.extend(name.as_bytes());
        bytes.extend(value);
    }
    bytes
}

fn list(items: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0x90 | u8::try_from(items.len()).unwrap()];
    bytes.extend(items.concat());
    bytes
}

fn bin(content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xc6];
    bytes.extend(u32::try_from(content.len()).unwrap().to_be_bytes());
    bytes.extend(content);
    bytes
}

fn text(content: &str) -> Vec<u8> {
    let mut bytes = vec![0xa0 | u8::try_from(content.len()).unwrap()];
    bytes.extend(content.as_bytes());
    bytes
}

fn number(n: u64) -> Vec<u8> {
    let mut bytes = vec![0xcf];
    bytes.extend(n.to_be_bytes());
    bytes
}

fn request_of(cluster: u128, operation: Vec<u8>) -> Vec<u8> {
    map(&[
        ("cluster", bin(&cluster.to_be_bytes())),
        ("epoch", number(1)),
        ("budget_ms", number(5_000)),
        ("operations", list(&[operation])),
    ])
}

fn request(operation: Vec<u8>) -> Vec<u8> {
    request_of(u128::from_str_radix(CLUSTER, 16).unwrap(), operation)
}

fn read(key: &[u8]) -> Vec<u8> {
    map(&[("read", map(&[("bucket", number(1)), ("key", bin(key))]))])
}

/// A write whose checksum is not right, for what is refused before or because of it.
fn write(value: &[u8]) -> Vec<u8> {
    let writer = bin(&[7; 16]);
    let version = map(&[
        ("stamp", number(1 << 16)),
        ("writer", writer.clone()),
        ("checksum", number(1)),
    ]);
    let op = map(&[
        ("client", writer),
        ("sequence", number(1)),
        ("first_sent_ms", number(1)),
    ]);
    let head = map(&[("version", version), ("op", op), ("kind", text("value"))]);
    let record = map(&[("head", head), ("value", bin(value))]);
    let write = map(&[
        ("bucket", number(1)),
        ("key", bin(b"k")),
        ("source", text("first_hand")),
        ("record", record),
    ]);
    map(&[("write", write)])
}

const MSGPACK: &str = "application/vnd.msgpack";

fn ops(body: &[u8]) -> Vec<u8> {
    http("POST", "/v1/ops", MSGPACK, body.len(), body)
}

fn holds(answer: &[u8], part: &str) -> bool {
    let mut windows = answer.windows(part.len().max(1));
    part.is_empty() || windows.any(|window| window == part.as_bytes())
}

/// A request, and what its answer must hold.
struct Case {
    what: &'static str,
    /// Whose certificate it comes with.
    name: Option<&'static str>,
    bytes: Vec<u8>,
    status: u16,
    part: &'static str,
}

/// A case of the client `tester`.
fn case(what: &'static str, bytes: Vec<u8>, status: u16, part: &'static str) -> Case {
    Case {
        what,
        name: Some("tester"),
        bytes,
        status,
        part,
    }
}

/// A case without a certificate.
fn stranger(what: &'static str, bytes: Vec<u8>, status: u16, part: &'static str) -> Case {
    Case {
        name: None,
        ..case(what, bytes, status, part)
    }
}

/// What the paths, methods and roles are asked.
fn cases_of_http() -> Vec<Case> {
    let get = |path| http("GET", path, MSGPACK, 0, b"");
    let body = request(read(b"k"));
    let hello = map(&[("cluster", bin(&[0; 16]))]);
    let to_peers = http("POST", "/v1/peer/hello", MSGPACK, hello.len(), &hello);
    let as_text = http("POST", "/v1/ops", "text/plain", body.len(), &body);
    let huge = http("POST", "/v1/ops", MSGPACK, 128 << 20, b"");
    let cut = http("POST", "/v1/ops", MSGPACK, body.len(), &body[..20]);
    let no_http = b"\0\x01\x02 hello\r\n\r\n".to_vec();
    vec![
        stranger("no certificate", ops(&body), 401, "Unauthorized"),
        case("a client among peers", to_peers, 403, "Unauthorized"),
        case("a body too long", huge, 413, "InvalidInput"),
        case("a body cut short", cut, 400, "InvalidInput"),
        case("another path", get("/v1/nothing"), 404, "NotFound"),
        case("another method", get("/v1/ops"), 405, "NotFound"),
        case("another type", as_text, 415, "InvalidInput"),
        case("no HTTP at all", no_http, 400, ""),
        stranger("health without a certificate", get("/healthz"), 200, "ok"),
        stranger("readiness without a certificate", get("/readyz"), 200, ""),
        case("the view", get("/v1/view"), 200, "members"),
        case("the metrics", get("/metrics"), 200, "annulet_"),
    ]
}

/// What the endpoint for data is asked.
fn cases_of_operations() -> Vec<Case> {
    let body = request(read(b"k"));
    let asked = |operation| ops(&request(operation));
    let of_later = map(&[("sing", number(1))]);
    let foreign = ops(&request_of(1, read(b"k")));
    let too_long = asked(write(&vec![1; VALUE_BYTES_MAX + 1]));
    vec![
        case("a read", ops(&body), 200, "absent"),
        case("an empty key", asked(read(b"")), 200, "too_large"),
        case(
            "a key too long",
            asked(read(&[b'k'; 4097])),
            200,
            "too_large",
        ),
        case("a value too long", too_long, 200, "too_large"),
        case("a wrong checksum", asked(write(b"v")), 200, "bad_checksum"),
        case("a message cut short", ops(&body[..20]), 400, "InvalidInput"),
        case("noise", ops(&[0xc1; 300]), 400, "InvalidInput"),
        case("an operation of later", asked(of_later), 200, "unsupported"),
        case("another cluster", foreign, 421, "WrongCluster"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_wrongly_gets_its_documented_answer_and_the_server_lives_on() {
    let cluster = Cluster::start(1).await;
    let process = cluster.process(0);
    let good = ops(&request(read(b"k")));
    for case in cases_of_http().into_iter().chain(cases_of_operations()) {
        let Case {
            what,
            name,
            bytes,
            status,
            part,
        } = case;
        let answer = ask(&cluster, 0, name, &bytes).await;
        let line = format!("HTTP/1.1 {status} ");
        let shown = String::from_utf8_lossy(&answer[..answer.len().min(300)]).into_owned();
        assert!(answer.starts_with(line.as_bytes()), "{what}: {shown}");
        assert!(holds(&answer, part), "{what}: {shown}");
        // The next one in line is served as if nothing had been.
        let next = ask(&cluster, 0, Some("tester"), &good).await;
        assert!(
            next.starts_with(b"HTTP/1.1 200 ") && holds(&next, "absent"),
            "after {what}"
        );
    }
    let plain = say(
        connect_tcp(&cluster.address(0)).await,
        b"GET / HTTP/1.1\r\n\r\n",
    )
    .await;
    assert!(plain.starts_with(b"HTTP/1.1 400 ") && holds(&plain, "speaks HTTPS"));
    let bucket = cluster.client().await.bucket("default");
    bucket.put("k", "v").await.unwrap();
    assert_eq!(bucket.get("k").await.unwrap().unwrap().value, "v");
    assert_eq!(cluster.process(0), process, "the very same process");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_another_authority_opens_nothing() {
    let cluster = Cluster::start(1).await;
    let other = Cluster::start(1).await;
    let mut config = (*tls(&cluster, None)).clone();
    config.client_auth_cert_resolver = tls(&other, Some("tester"))
        .client_auth_cert_resolver
        .clone();
    let stream = connect(&cluster.address(0), &Arc::new(config)).await;
    let answer = match stream {
        // With TLS 1.3 the server's refusal comes after the client's part of the handshake.
        Ok(stream) => say(stream, &http("GET", "/healthz", MSGPACK, 0, b"")).await,
        Err(_) => Vec::new(),
    };
    assert_eq!(answer, b"", "not even what is open to everyone");
    let next = ask(&cluster, 0, Some("tester"), &ops(&request(read(b"k")))).await;
    assert!(next.starts_with(b"HTTP/1.1 200 "));
}
