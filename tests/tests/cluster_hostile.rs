//! Connections that mean no good, or nothing at all: each test lets them loose on a server, while
//! a well-behaved client goes on and must not notice.
#![cfg(all(feature = "cluster", target_os = "linux"))]
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use annulet_tests::cluster::frames::{self, NEWEST};
use annulet_tests::cluster::machine::allow_open_files;
use annulet_tests::cluster::scene::{MIB, Scene};
use annulet_tests::cluster::wire::{self, say};
use annulet_tests::cluster::{PATIENCE, connect_tcp};
use rustls::ClientConfig;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::client::TlsStream;

async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("in time")
}

/// Waits until the server has closed, and gives what it said before.
async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut said = Vec::new();
    // It may end with a reset, or without the last word of TLS.
    let _ = within(stream.read_to_end(&mut said)).await;
    said
}

/// The content of the first frame of this kind in what came over HTTP/2.
fn frame_of(mut said: &[u8], kind: u8) -> Option<&[u8]> {
    while let [a, b, c, is, ..] = *said {
        let end = 9 + u32::from_be_bytes([0, a, b, c]) as usize;
        let content = said.get(9..end)?;
        if is == kind {
            return Some(content);
        }
        said = &said[end..];
    }
    None
}

/// Why the server has ended an HTTP/2 connection, if it could say so.
fn goaway(said: &[u8]) -> Option<u8> {
    // The last stream, and four bytes of a reason.
    frame_of(said, 7).map(|content| content[7])
}

const NO_ERROR: u8 = 0;
const ENHANCE_YOUR_CALM: u8 = 0xb;

/// An HTTP/2 connection on which the server has said something.
async fn idle(address: &str, tls: &Arc<ClientConfig>) -> TlsStream<TcpStream> {
    let mut stream = wire::connect(address, tls).await.unwrap();
    stream.write_all(&frames::preface()).await.unwrap();
    stream.read_u8().await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_connections_take_bounded_memory_and_no_place_of_others() {
    const CONNECTIONS: u64 = 10_000;
    const AT_ONCE: u64 = 50;
    allow_open_files(CONNECTIONS + 1_000);
    let scene = Scene::begin("").await;
    let tls = scene.tls(false, "h2");
    let mut opening = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (address, tls) = (scene.address(), Arc::clone(&tls));
        opening.spawn(async move {
            let mut open = Vec::new();
            for _ in 0..CONNECTIONS / AT_ONCE {
                open.push(idle(&address, &tls).await);
            }
            open
        });
    }
    let open = within(opening.join_all()).await;
    assert!(scene.metric("annulet_connections").await >= CONNECTIONS);
    // A newcomer is served like before.
    let newcomer = scene.cluster.client().await;
    newcomer.bucket("default").get("k1").await.unwrap();
    let grown = scene.grown();
    eprintln!("{} bytes a connection", grown / CONNECTIONS);
    drop(open);
    within(async { while scene.metric("annulet_connections").await > 20 {} }).await;
    scene.end(400 * MIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_come_and_go_leave_nothing_behind() {
    const ROUND: usize = 1_500;
    let scene = Scene::begin("").await;
    let tls = scene.tls(false, "h2");
    let churn = async |count: usize| {
        let mut coming = JoinSet::new();
        for _ in 0..10 {
            let (address, tls) = (scene.address(), Arc::clone(&tls));
            coming.spawn(async move {
                for _ in 0..count / 10 {
                    drop(idle(&address, &tls).await);
                    drop(connect_tcp(&address).await);
                }
            });
        }
        within(coming.join_all()).await;
        within(async { while scene.metric("annulet_connections").await > 20 {} }).await;
    };
    churn(ROUND).await;
    let settled = scene.grown();
    churn(2 * ROUND).await;
    let more = scene.grown().saturating_sub(settled);
    eprintln!(
        "{} KiB after the first, {} KiB more",
        settled >> 10,
        more >> 10
    );
    assert!(
        more < 8 * MIB,
        "{} KiB of {} connections",
        more >> 10,
        4 * ROUND
    );
    scene.end(64 * MIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_that_take_all_places_lose_them_to_who_comes_later() {
    const PLACES: u64 = 50;
    let scene = Scene::begin(&format!("connections = {PLACES}")).await;
    let (address, tls) = (scene.address(), scene.tls(false, "h2"));
    let opened_before = scene.client.statistics().connections;
    let mut first = idle(&address, &tls).await;
    let mut open = Vec::new();
    for _ in 0..4 * PLACES {
        open.push(within(idle(&address, &tls)).await);
        // Some never begin the handshake.
        open.last_mut().unwrap().flush().await.unwrap();
        drop(within(connect_tcp(&address)).await);
    }
    // One byte was read before.
    let said = [vec![0], rest(&mut first).await].concat();
    assert_eq!(goaway(&said), Some(NO_ERROR), "{said:?}");
    assert!(scene.metric("annulet_connections").await <= PLACES);
    let closed = "annulet_connections_closed_total{why=\"room\"}";
    assert!(scene.metric(closed).await > 2 * PLACES);
    // The client has a certificate of the cluster, and kept its place.
    let opened = scene.client.statistics().connections;
    assert_eq!(opened, opened_before);
    scene.end(64 * MIB).await;
}

/// Sends a byte at a time until the server has had enough, and gives what it said.
async fn trickle(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: Vec<u8>) -> Vec<u8> {
    for byte in bytes {
        if stream.write_all(&[byte]).await.is_err() || stream.flush().await.is_err() {
            break;
        }
        let mut said = [0; 512];
        let wait = Duration::from_millis(50);
        match timeout(wait, stream.read(&mut said)).await {
            Ok(Ok(0) | Err(_)) => return Vec::new(),
            Ok(Ok(read)) => {
                let more = rest(&mut stream).await;
                return [&said[..read], &more].concat();
            }
            Err(_) => {}
        }
    }
    rest(&mut stream).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_a_byte_at_a_time_is_cut_off_in_time() {
    const EACH: usize = 20;
    /// Far more than passes in the time that it has.
    const LENGTH: usize = 2_000;
    let scene = Scene::begin("handshake_ms = 1000\nrequest_ms = 1000\nidle_ms = 1500").await;
    let mut slow: JoinSet<(&str, Vec<u8>, &[u8])> = JoinSet::new();
    for _ in 0..EACH {
        // The beginning of a handshake that announces 16 KiB.
        let hello = [&[0x16, 3, 1, 0x3f, 0xff][..], &[1; LENGTH]].concat();
        let stream = connect_tcp(&scene.address()).await;
        slow.spawn(async { ("handshake", trickle(stream, hello).await, &b""[..]) });

        let head = [&b"GET /healthz HTTP/1.1\r\nx: "[..], &[b'x'; LENGTH]].concat();
        let stream = scene.connect(true, "http/1.1").await;
        slow.spawn(async { ("headers", trickle(stream, head).await, &b""[..]) });

        let mut stream = scene.connect(true, "http/1.1").await;
        let kind = "application/vnd.msgpack";
        let head = wire::http("POST", "/v1/ops", kind, LENGTH, b"");
        stream.write_all(&head).await.unwrap();
        let body = vec![0x84; LENGTH];
        let answer = &b"HTTP/1.1 408 "[..];
        slow.spawn(async move { ("body", trickle(stream, body).await, answer) });
    }
    for (what, said, expected) in within(slow.join_all()).await {
        let shown = String::from_utf8_lossy(&said);
        assert!(said.starts_with(expected), "{what}: {shown}");
    }
    // Over HTTP/2 a connection says more by itself, so only its end is looked at.
    let mut slow = JoinSet::new();
    for _ in 0..EACH {
        let mut stream = scene.connect(true, "h2").await;
        stream.write_all(&frames::preface()).await.unwrap();
        slow.spawn(async move {
            let block = frames::header("x", &"x".repeat(LENGTH), false);
            for byte in frames::headers(1, &block, false) {
                if stream.write_all(&[byte]).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
                sleep(Duration::from_millis(50)).await;
            }
            panic!("all of it was taken");
        });
    }
    within(slow.join_all()).await;
    scene.end(64 * MIB).await;
}

/// Sends as much as the server takes of what never ends, and gives how much that was and what it
/// said.
async fn flood(
    stream: TlsStream<TcpStream>,
    first: Vec<u8>,
    again: Vec<u8>,
    most: usize,
) -> (usize, Vec<u8>) {
    let (mut from, mut to) = tokio::io::split(stream);
    let reading = tokio::spawn(async move {
        let mut said = Vec::new();
        let _ = from.read_to_end(&mut said).await;
        said
    });
    let mut sent = 0;
    let sending = async {
        to.write_all(&first).await?;
        while sent < most {
            to.write_all(&again).await?;
            sent += again.len();
        }
        to.flush().await
    };
    let _ = within(sending).await;
    (sent, within(reading).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_are_too_long_are_refused_before_they_are_kept() {
    const MOST: usize = 32 << 20;
    let scene = Scene::begin("idle_ms = 2000").await;
    for round in 0..5 {
        let known = round % 2 == 0;
        // One header that never ends, and headers without end.
        for again in ["x".repeat(1_000), format!("x: {}\r\n", "x".repeat(1_000))] {
            let first = b"GET /healthz HTTP/1.1\r\nhost: test\r\ny: ".to_vec();
            let stream = scene.connect(known, "http/1.1").await;
            let (sent, said) = flood(stream, first, again.into_bytes(), MOST).await;
            assert!(sent < MOST, "all of it was taken");
            let shown = String::from_utf8_lossy(&said);
            assert!(
                said.is_empty() || said.starts_with(b"HTTP/1.1 431 "),
                "{shown}"
            );
        }
        // Headers whose end is always announced for later: with content, and without any.
        for block in [frames::header("x", &"x".repeat(1_000), false), Vec::new()] {
            let first = [
                frames::preface(),
                frames::headers(1, &frames::get("/healthz"), false),
            ];
            let again = frames::continuation(1, &block);
            let stream = scene.connect(known, "h2").await;
            let (sent, said) = flood(stream, first.concat(), again, MOST).await;
            assert!(sent < MOST, "all of it was taken");
            // Its last words can be lost where it has closed with bytes unread.
            let why = goaway(&said).unwrap_or(ENHANCE_YOUR_CALM);
            assert_eq!(why, ENHANCE_YOUR_CALM, "{said:?}");
        }
        // A long header that is remembered, and then stands in each byte.
        let bomb = [
            frames::get("/healthz"),
            frames::header("x", &"x".repeat(4_000), true),
            vec![NEWEST; 8_000],
        ];
        let first = [
            frames::preface(),
            frames::headers(1, &bomb.concat(), true),
            frames::ping(),
        ];
        let mut stream = scene.connect(known, "h2").await;
        stream.write_all(&first.concat()).await.unwrap();
        let said = say(stream, b"").await;
        assert_eq!(goaway(&said), Some(ENHANCE_YOUR_CALM), "{said:?}");
    }
    scene.end(64 * MIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_after_the_handshake_ends_its_own_connection_only() {
    let scene = Scene::begin("request_ms = 2000\nidle_ms = 2000").await;
    // The same each time, and like nothing.
    let noise = |length: usize, seed: usize| -> Vec<u8> {
        let next = |n: usize| (n.wrapping_mul(2_654_435_761) >> 13) as u8;
        (0..length).map(|n| next(n + 7 * seed)).collect()
    };
    for round in 0..20 {
        for (alpn, first) in [
            ("http/1.1", Vec::new()),
            ("h2", Vec::new()),
            ("h2", frames::preface()),
            (
                "h2",
                [frames::preface(), frames::frame(0xee, 0xff, 3, b"?")].concat(),
            ),
        ] {
            let stream = scene.connect(round % 2 == 0, alpn).await;
            let all = [first, noise(10_000 + round, round)].concat();
            say(stream, &all).await;
        }
        // Bytes that are not even TLS any more.
        let stream = scene.connect(false, "h2").await;
        let (tcp, _) = stream.into_inner();
        say(tcp, &noise(10_000, round)).await;
    }
    scene.end(64 * MIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_frames_are_ended_or_borne() {
    const MOST: usize = 8 << 20;
    let scene = Scene::begin("idle_ms = 1000").await;
    // Requests that are taken back at once: HTTP/2's rapid reset.
    for path in ["/healthz", "/metrics"] {
        let mut burst = frames::preface();
        for stream in (1..40_000).step_by(2) {
            burst.extend(frames::headers(stream, &frames::get(path), true));
            burst.extend(frames::reset(stream));
        }
        let stream = scene.connect(true, "h2").await;
        let (_, said) = flood(stream, burst, Vec::new(), 0).await;
        assert_eq!(goaway(&said), Some(ENHANCE_YOUR_CALM), "{path}");
    }
    let mut floods = JoinSet::new();
    for (what, again) in [
        ("settings", frames::settings(&[(3, 100), (4, 70_000)])),
        ("pings", frames::ping()),
        ("priorities", frames::frame(2, 0, 1, &[0, 0, 0, 3, 7])),
        ("window updates", frames::frame(8, 0, 0, &[0, 0, 0, 1])),
        ("unknown frames", frames::frame(0xee, 0, 0, &[0; 100])),
    ] {
        let again = again.repeat(1_000);
        let stream = scene.connect(true, "h2").await;
        floods.spawn(async move {
            let (sent, said) = flood(stream, frames::preface(), again, MOST).await;
            eprintln!("{what}: {sent} bytes taken, {} answered", said.len());
        });
    }
    // Who does not read what is answered is not read any more either, and then has no request.
    let mut deaf = idle(&scene.address(), &scene.tls(true, "h2")).await;
    let pings = frames::ping().repeat(1_000);
    let talk = async {
        for _ in 0..3 * MOST / pings.len() {
            deaf.write_all(&pings).await?;
        }
        deaf.flush().await
    };
    let talked = within(talk).await;
    assert!(talked.is_err(), "all of it was taken");
    within(floods.join_all()).await;
    scene.end(64 * MIB).await;
}
