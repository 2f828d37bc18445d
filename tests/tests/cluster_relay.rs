//! The relay that stands in for a network, by itself and in front of servers.
#![cfg(feature = "cluster")]
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use annulet::{ErrorKind, Level, WriteOptions};
use annulet_tests::cluster::relay::{Passage, Relay};
use annulet_tests::cluster::{Cluster, Options, PATIENCE, connect_tcp};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

/// Long enough to be told from the time that a loaded machine takes for nothing.
const DELAY: Duration = Duration::from_millis(200);

/// The moment, for what must not come too early.
#[allow(clippy::disallowed_methods)] // It is time itself that is tested.
fn now() -> Instant {
    Instant::now()
}

/// A listener at a free port, and a relay in front of it.
#[allow(clippy::disallowed_methods)] // The other end of the relay.
async fn target() -> (TcpListener, Relay) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, Relay::to(address))
}

/// Both ends of a connection through a relay.
async fn ends(listener: &TcpListener, relay: &Relay) -> (TcpStream, TcpStream) {
    let near = connect_tcp(&relay.address().to_string()).await;
    let far = within(listener.accept()).await.unwrap().0;
    for end in [&near, &far] {
        end.set_nodelay(true).unwrap();
    }
    (near, far)
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("in time")
}

async fn read(end: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    within(end.read_exact(&mut bytes)).await.unwrap();
    bytes
}

/// Whether a new connection is reset: at once, or when something is expected of it.
#[allow(clippy::disallowed_methods)] // To see how connecting fails.
async fn turns_away(relay: &Relay) -> bool {
    match within(TcpStream::connect(relay.address())).await {
        Ok(mut end) => is_reset(&mut end).await,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

/// What a connection that was reset says.
async fn is_reset(end: &mut TcpStream) -> bool {
    let ended = within(end.read(&mut [0; 16])).await;
    ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_way_has_a_delay_of_its_own() {
    let (listener, relay) = target().await;
    relay.change(|conditions| conditions.delay_there = DELAY);
    let (mut near, mut far) = ends(&listener, &relay).await;
    let sent = now();
    near.write_all(b"ping").await.unwrap();
    assert_eq!(read(&mut far, 4).await, b"ping");
    assert!(now() - sent >= DELAY);
    relay.change(|conditions| conditions.delay_back = 2 * DELAY);
    let sent = now();
    far.write_all(b"pong").await.unwrap();
    assert_eq!(read(&mut near, 4).await, b"pong");
    assert!(now() - sent >= 2 * DELAY);
    // The end of one side is as late as its bytes, and the other side may still talk.
    let sent = now();
    near.shutdown().await.unwrap();
    assert_eq!(within(far.read(&mut [0; 16])).await.unwrap(), 0);
    assert!(now() - sent >= DELAY);
    far.write_all(b"last").await.unwrap();
    assert_eq!(read(&mut near, 4).await, b"last");
    let counts = relay.counts();
    assert_eq!(
        (counts.connections, counts.bytes_there, counts.bytes_back),
        (1, 4, 8)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delay_keeps_the_order_and_costs_no_throughput() {
    const PIECES: usize = 2_000;
    const PIECE: usize = 1_000;
    let (listener, relay) = target().await;
    relay.delay(DELAY);
    let (mut near, mut far) = ends(&listener, &relay).await;
    let sent = now();
    let sending = tokio::spawn(async move {
        for number in 0..PIECES {
            near.write_all(&[number as u8; PIECE]).await.unwrap();
        }
        near
    });
    let received = read(&mut far, PIECES * PIECE).await;
    let expected = (0..PIECES).flat_map(|number| [number as u8; PIECE]);
    assert!(received.into_iter().eq(expected));
    let took = now() - sent;
    // One after the other, a hundred pieces would take longer.
    assert!((DELAY..100 * DELAY).contains(&took), "{took:?}");
    within(sending).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_loses_bytes_in_silence_and_only_what_lost_some_is_reset_later() {
    let (listener, relay) = target().await;
    let (mut near, mut far) = ends(&listener, &relay).await;
    let (mut quiet, mut quiet_far) = ends(&listener, &relay).await;
    relay.set(Passage::Cut);
    near.write_all(b"into the void").await.unwrap();
    within(async {
        while relay.counts().bytes_lost < 13 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Nothing arrived, and nobody was told.
    let looks = [near.try_read(&mut [0; 16]), far.try_read(&mut [0; 16])];
    for look in looks {
        assert_eq!(look.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
    let mut early = connect_tcp(&relay.address().to_string()).await;
    early.write_all(b"patient").await.unwrap();
    relay.set(Passage::Open);
    assert!(is_reset(&mut near).await && is_reset(&mut far).await);
    quiet.write_all(b"still here").await.unwrap();
    assert_eq!(read(&mut quiet_far, 10).await, b"still here");
    let mut late = within(listener.accept()).await.unwrap().0;
    assert_eq!(read(&mut late, 7).await, b"patient");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_on_the_way_when_the_link_is_cut_is_lost() {
    let (listener, relay) = target().await;
    relay.delay(DELAY);
    let (mut near, mut far) = ends(&listener, &relay).await;
    near.write_all(b"on the way").await.unwrap();
    within(async {
        while relay.counts().bytes_there < 10 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    relay.set(Passage::Cut);
    within(async {
        while relay.counts().bytes_lost < 10 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    relay.set(Passage::Open);
    assert!(is_reset(&mut far).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_connections_are_reset_and_so_is_what_a_target_refuses() {
    let (listener, relay) = target().await;
    let (mut near, mut far) = ends(&listener, &relay).await;
    relay.set(Passage::Refused);
    assert!(is_reset(&mut near).await && is_reset(&mut far).await);
    assert!(turns_away(&relay).await);
    relay.set(Passage::Open);
    let (mut near, mut far) = ends(&listener, &relay).await;
    near.write_all(b"again").await.unwrap();
    assert_eq!(read(&mut far, 5).await, b"again");
    drop(listener);
    assert!(turns_away(&relay).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_link_carries_so_many_bytes_a_second() {
    let (listener, relay) = target().await;
    relay.change(|conditions| conditions.bytes_per_second = Some(100_000));
    let (mut near, mut far) = ends(&listener, &relay).await;
    let (mut other, mut other_far) = ends(&listener, &relay).await;
    let sent = now();
    near.write_all(&[1; 30_000]).await.unwrap();
    other.write_all(&[2; 30_000]).await.unwrap();
    read(&mut far, 30_000).await;
    read(&mut other_far, 30_000).await;
    let took = now() - sent;
    // Both share the link.
    assert!(took >= Duration::from_millis(590), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_waits_when_the_relay_holds_all_that_it_may() {
    const OFFERED: usize = 64 << 20;
    let (listener, relay) = target().await;
    let (mut near, far) = ends(&listener, &relay).await;
    // Nobody reads at the other end.
    let all = vec![0; OFFERED];
    let sending = timeout(DELAY, near.write_all(&all)).await;
    assert!(sending.is_err(), "it was taken whole");
    let held = relay.counts().bytes_there;
    // The most are in the system's buffers on both sides.
    assert!(held < OFFERED as u64 / 2, "{held} bytes");
    drop(far);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_behind_relays_serves_through_them_and_bears_one_dead_link() {
    let options = Options {
        relays: true,
        ..Options::servers(3)
    };
    let cluster = Cluster::start_with(options).await;
    let client = cluster.client().await;
    let bucket = client.bucket("default");
    bucket.put("k", "v").await.unwrap();
    for node in 0..3 {
        let counts = cluster.relay(node).counts();
        assert!(counts.bytes_there > 0, "node {node}: {counts:?}");
    }
    cluster.relay(1).set(Passage::Cut);
    bucket.put("k", "w").await.unwrap();
    assert_eq!(bucket.get("k").await.unwrap().unwrap().value, "w");
    let all = WriteOptions {
        level: Some(Level::All),
        timeout: Some(Duration::from_millis(500)),
        ..WriteOptions::default()
    };
    let error = bucket.put_with("k", "x", &all).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    cluster.relay(1).set(Passage::Open);
    let all = WriteOptions {
        timeout: Some(Duration::from_secs(1)),
        ..all
    };
    within(async { while bucket.put_with("k", "y", &all).await.is_err() {} }).await;
}
