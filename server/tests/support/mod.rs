//! What tests of a whole server share: certificates, a server on a free port, a plain client.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.
#![allow(dead_code)] // Each test program uses a part of it.

pub(crate) mod many;

use annulet_protocol::clock::Stamp;
use annulet_protocol::codec;
use annulet_protocol::ids::{ClusterId, Incarnation, NodeId, OpId};
use annulet_protocol::message::{Answer, Failure, Operation, Read, Reply, Request, Source, Write};
use annulet_protocol::record::{Origin, Record};
use annulet_server::cluster_file::{ClusterFile, MemberEntry};
use annulet_server::{Config, Server, ServerError, TlsFiles};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) const CLUSTER: ClusterId = ClusterId([0xc1; 16]);
pub(crate) const NODE: NodeId = NodeId(1);
pub(crate) const BUCKET: u32 = 1;
/// Longest value that the test's cluster takes.
pub(crate) const VALUE_BYTES_MAX: usize = 1 << 20;
/// Longer than any of these tests should take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A certificate authority.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, PEM.
pub(crate) struct Identity {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { pem, issuer }
    }

    pub(crate) fn issue(&self, cluster: ClusterId, role: &str) -> Identity {
        self.issue_for(&format!("annulet://{cluster}/{role}/test"))
    }

    pub(crate) fn issue_for(&self, uri: &str) -> Identity {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params
            .subject_alt_names
            .push(SanType::URI(uri.try_into().unwrap()));
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }

    /// A client's settings; with no identity it presents no certificate.
    pub(crate) fn client(&self, identity: Option<&Identity>, alpn: &[u8]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(Identity { cert, key }) => {
                let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        config
    }
}

/// Writes the files of a server into a folder.
pub(crate) fn write_files(
    folder: &Path,
    authority: &Authority,
    members: Vec<MemberEntry>,
) -> Config {
    let mut file = ClusterFile::new(CLUSTER, "test", members);
    file.value_bytes_max = VALUE_BYTES_MAX as u32;
    file.write(&folder.join("cluster.toml")).unwrap();
    write_certificates(folder, authority, &authority.issue(CLUSTER, "peer"));
    let tls = TlsFiles {
        ca: folder.join("ca.pem"),
        cert: folder.join("node.pem"),
        key: folder.join("node.key"),
    };
    let cluster = folder.join("cluster.toml");
    Config {
        cluster: Some(cluster),
        ..Config::new(folder.join("data"), "127.0.0.1:0", tls)
    }
}

pub(crate) fn write_certificates(folder: &Path, authority: &Authority, identity: &Identity) {
    std::fs::write(folder.join("ca.pem"), &authority.pem).unwrap();
    std::fs::write(folder.join("node.pem"), &identity.cert).unwrap();
    std::fs::write(folder.join("node.key"), &identity.key).unwrap();
}

pub(crate) fn member(id: NodeId, address: &str) -> MemberEntry {
    MemberEntry {
        id,
        address: address.to_owned(),
        capacity: 1,
        zone: String::new(),
        region: String::new(),
    }
}

/// A configuration of a cluster of one.
pub(crate) fn alone(folder: &Path, authority: &Authority) -> Config {
    let config = write_files(folder, authority, vec![member(NODE, "localhost:1")]);
    Config {
        advertise: Some("localhost:1".into()),
        ..config
    }
}

/// A server that serves until this is dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<Result<(), ServerError>>,
}

impl Running {
    pub(crate) async fn start(config: Config) -> Self {
        Self::serve(Server::bind(config).await.unwrap())
    }

    pub(crate) fn serve(server: Server) -> Self {
        let address = server.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server.run(async { drop(stopped.await) }));
        Self {
            address,
            stop: Some(stop),
            task,
        }
    }

    /// Tells it to stop, and waits until it did.
    pub(crate) async fn stop(mut self) -> Result<(), ServerError> {
        self.begin_stop();
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .expect("it stops in time")
            .unwrap()
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(self) -> Result<(), ServerError> {
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .expect("it ends in time")
            .unwrap()
    }

    pub(crate) fn begin_stop(&mut self) {
        drop(self.stop.take());
    }

    pub(crate) async fn tls(
        &self,
        client: &Arc<ClientConfig>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = connect(self.address).await;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(client.clone())
            .connect(name, stream)
            .await
    }

    /// A connection that speaks HTTP/1.1.
    pub(crate) async fn caller(&self, client: ClientConfig) -> Caller {
        let stream = self.tls(&Arc::new(client)).await.unwrap();
        Caller::http1(stream).await
    }
}

pub(crate) async fn connect(address: SocketAddr) -> TcpStream {
    let stream = try_connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

#[allow(clippy::disallowed_methods)] // A test's own client.
pub(crate) async fn try_connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    TcpStream::connect(address).await
}

/// Listens on a free port.
#[allow(clippy::disallowed_methods)] // Taken before the cluster file can name it.
pub(crate) fn listener() -> TcpListener {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    TcpListener::from_std(listener).unwrap()
}

#[allow(clippy::disallowed_methods)] // A test's own clock.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis() as u64
}

/// An answer: status, headers, body.
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Got {
    pub(crate) fn failure(&self) -> Failure {
        codec::decode_failure(&self.body).unwrap()
    }

    pub(crate) fn reply(&self) -> Reply {
        assert_eq!(self.status, 200, "{:?}", codec::decode_failure(&self.body));
        codec::decode_reply(&self.body).unwrap()
    }
}

/// One connection.
pub(crate) enum Caller {
    Http1(hyper::client::conn::http1::SendRequest<Full<Bytes>>),
    Http2(hyper::client::conn::http2::SendRequest<Full<Bytes>>),
}

impl Caller {
    pub(crate) async fn http1(stream: TlsStream<TcpStream>) -> Self {
        let made = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = made.unwrap();
        tokio::spawn(connection);
        Self::Http1(sender)
    }

    pub(crate) async fn http2(stream: TlsStream<TcpStream>) -> Self {
        let executor = TokioExecutor::new();
        let made = hyper::client::conn::http2::handshake(executor, TokioIo::new(stream)).await;
        let (sender, connection) = made.unwrap();
        tokio::spawn(connection);
        Self::Http2(sender)
    }

    pub(crate) async fn send(&mut self, request: http::Request<Full<Bytes>>) -> hyper::Result<Got> {
        let response = match self {
            Self::Http1(sender) => sender.send_request(request).await?,
            Self::Http2(sender) => sender.send_request(request).await?,
        };
        let (parts, body) = response.into_parts();
        Ok(Got {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: body.collect().await?.to_bytes(),
        })
    }

    pub(crate) async fn get(&mut self, path: &str) -> Got {
        self.send(self.request("GET", path, Bytes::new()))
            .await
            .unwrap()
    }

    pub(crate) async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> Got {
        self.send(self.request("POST", path, body.into()))
            .await
            .unwrap()
    }

    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        body: Bytes,
    ) -> http::Request<Full<Bytes>> {
        let uri = match self {
            Self::Http1(_) => path.to_owned(),
            Self::Http2(_) => format!("https://localhost{path}"),
        };
        let builder = http::Request::builder().method(method).uri(uri);
        let builder = builder.header("host", "localhost");
        builder
            .header("content-type", codec::CONTENT_TYPE)
            .body(Full::new(body))
            .unwrap()
    }

    pub(crate) async fn operations(&mut self, operations: Vec<Operation>) -> Vec<Answer> {
        let got = self
            .post("/v1/ops", codec::encode(&request(operations)))
            .await;
        got.reply().results
    }
}

pub(crate) fn request(operations: Vec<Operation>) -> Request {
    Request {
        cluster: CLUSTER,
        epoch: 1,
        budget_ms: 10_000,
        operations,
    }
}

pub(crate) fn put(key: &str, value: impl Into<Bytes>) -> Operation {
    let now_ms = now_ms();
    let op = OpId {
        client: Incarnation([5; 16]),
        sequence: 1,
        first_sent_ms: now_ms,
    };
    let origin = Origin {
        stamp: Stamp::at(now_ms),
        op,
    };
    Operation::Write(Write {
        bucket: BUCKET,
        key: Bytes::copy_from_slice(key.as_bytes()),
        source: Source::FirstHand,
        record: Record::seal(BUCKET, key.as_bytes(), origin, Some(value.into()), None),
        gone: false,
    })
}

pub(crate) fn get(key: &str) -> Operation {
    Operation::Read(Read::new(BUCKET, Bytes::copy_from_slice(key.as_bytes())))
}

/// The value of an answer; `None`: absent.
pub(crate) fn value(answer: &Answer) -> Option<Bytes> {
    match answer {
        Answer::Found(record) => Some(record.value.clone()),
        Answer::Absent(_) => None,
        other => panic!("{other:?}"),
    }
}

/// Waits for a condition, not for a time.
pub(crate) async fn eventually(mut condition: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("it never came to pass");
}
