//! A server and a well-behaved client, while others let something loose on that server.

use super::machine::resident_bytes;
use super::{Cluster, Options, PATIENCE, wire};
use annulet::Client;
use rustls::ClientConfig;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::client::TlsStream;

/// A mebibyte.
pub const MIB: u64 = 1 << 20;

/// A server, and a client that goes on all the time.
pub struct Scene {
    /// The server.
    pub cluster: Cluster,
    /// The client.
    pub client: Client,
    done: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    load: JoinHandle<()>,
    /// Memory of the server before anything happened.
    before: u64,
}

impl Scene {
    /// Starts both; `limits`: lines of the server's `[limits]`.
    pub async fn begin(limits: &str) -> Self {
        let options = Options {
            limits: limits.into(),
            ..Options::servers(1)
        };
        let cluster = Cluster::start_with(options).await;
        let client = cluster.client().await;
        let (done, stop) = (Arc::default(), Arc::default());
        let load = tokio::spawn(go_on(client.clone(), Arc::clone(&done), Arc::clone(&stop)));
        let scene = Self {
            client,
            done,
            stop,
            load,
            before: 0,
            cluster,
        };
        scene.goes_on().await;
        let before = resident_bytes(scene.cluster.process(0));
        Self { before, ..scene }
    }

    /// The server's address.
    pub fn address(&self) -> String {
        self.cluster.address(0)
    }

    /// TLS settings of somebody with the client's certificate, or without any.
    pub fn tls(&self, known: bool, alpn: &str) -> Arc<ClientConfig> {
        let tls = wire::tls(&self.cluster, known.then_some("tester"));
        let mut tls = (*tls).clone();
        tls.alpn_protocols = vec![alpn.into()];
        Arc::new(tls)
    }

    /// A connection to the server.
    pub async fn connect(&self, known: bool, alpn: &str) -> TlsStream<TcpStream> {
        let connected = wire::connect(&self.address(), &self.tls(known, alpn)).await;
        connected.expect("a server that shakes hands")
    }

    /// What the server has counted under this name.
    pub async fn metric(&self, name: &str) -> u64 {
        let tls = wire::tls(&self.cluster, Some("tester"));
        wire::metric(&self.address(), &tls, name).await as u64
    }

    /// Memory that the server has taken since the beginning.
    pub fn grown(&self) -> u64 {
        resident_bytes(self.cluster.process(0)).saturating_sub(self.before)
    }

    /// Waits for some more puts and gets of the client.
    pub async fn goes_on(&self) {
        let target = self.done.load(Ordering::Relaxed) + 20;
        let waiting = async {
            while self.done.load(Ordering::Relaxed) < target && !self.load.is_finished() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = timeout(PATIENCE, waiting).await;
        waited.expect("the client goes on in time");
    }

    /// Ends both.
    ///
    /// # Panics
    /// If the client has noticed anything, or the server has taken so much memory.
    pub async fn end(self, memory_max: u64) {
        self.goes_on().await;
        let grown = self.grown();
        self.stop.store(true, Ordering::Relaxed);
        let load = timeout(PATIENCE, self.load).await;
        let load = load.expect("the client ends in time");
        load.expect("all that the client asked for");
        let statistics = self.client.statistics();
        eprintln!(
            "{} puts and gets meanwhile; the server took {} MiB; {} connections opened",
            self.done.load(Ordering::Relaxed),
            grown / MIB,
            statistics.connections
        );
        assert_eq!(statistics.errors, 0, "{statistics:?}");
        assert!(grown < memory_max, "{} MiB", grown / MIB);
    }
}

async fn go_on(client: Client, done: Arc<AtomicUsize>, stop: Arc<AtomicBool>) {
    let bucket = client.bucket("default");
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (key, value) = (format!("k{}", number % 100), format!("value {number}"));
        let put = bucket.put(&key, value.clone()).await;
        put.unwrap_or_else(|error| panic!("{key}: {error}"));
        let entry = bucket.get(&key).await;
        let entry = entry.unwrap_or_else(|error| panic!("{key}: {error}"));
        assert!(entry.is_some_and(|entry| entry.value == value), "{key}");
        done.fetch_add(1, Ordering::Relaxed);
        // There is somebody else to be served.
        sleep(Duration::from_millis(2)).await;
    }
}
