//! Raw bytes to a server, by TLS settings of the tests' own and apart from the client library.

use super::{Cluster, PATIENCE, connect_tcp};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// TLS with `name`'s certificate, or none.
pub fn tls(cluster: &Cluster, name: Option<&str>) -> Arc<ClientConfig> {
    let certs = cluster.folder().join("certs");
    let chain = |file: &Path| -> Vec<_> {
        let read = CertificateDer::pem_file_iter(file).expect("a certificate");
        read.map(|one| one.expect("a certificate")).collect()
    };
    let mut roots = RootCertStore::empty();
    for authority in chain(&certs.join("ca.pem")) {
        roots.add(authority).expect("an authority");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions of this library")
        .with_root_certificates(roots);
    Arc::new(match name {
        None => config.with_no_client_auth(),
        Some(name) => {
            let key = PrivateKeyDer::from_pem_file(certs.join(format!("{name}.key")));
            let chain = chain(&certs.join(format!("{name}.pem")));
            let config = config.with_client_auth_cert(chain, key.expect("a key"));
            config.expect("a key that fits")
        }
    })
}

/// Shakes hands with the server at an address.
///
/// # Errors
/// If one side does not accept the other.
pub async fn connect(
    address: &str,
    tls: &Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let (host, _) = address.rsplit_once(':').expect("an address");
    let host = ServerName::try_from(host.to_owned()).expect("a host");
    let tcp = connect_tcp(address).await;
    TlsConnector::from(Arc::clone(tls)).connect(host, tcp).await
}

/// Sends bytes, ends its side, and gives all that comes back. Being cut off is an answer too.
pub async fn say(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    let exchange = async {
        // A server that has heard enough may stop listening; what it says counts.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut answer).await;
    };
    timeout(PATIENCE, exchange)
        .await
        .expect("an answer in time");
    answer
}

/// Sends bytes with `name`'s certificate, or none, and gives all that comes back.
pub async fn ask(cluster: &Cluster, node: usize, name: Option<&str>, bytes: &[u8]) -> Vec<u8> {
    ask_at(&cluster.address(node), &tls(cluster, name), bytes).await
}

async fn ask_at(address: &str, tls: &Arc<ClientConfig>, bytes: &[u8]) -> Vec<u8> {
    let stream = connect(address, tls).await;
    say(stream.expect("the server's certificate is good"), bytes).await
}

/// An HTTP/1.1 request; `announced`: the length it claims to have.
pub fn http(method: &str, path: &str, kind: &str, announced: usize, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\
         content-type: {kind}\r\ncontent-length: {announced}\r\n\r\n"
    )
    .into_bytes();
    bytes.extend(body);
    bytes
}

/// What the server at an address has counted under this name, summed over all labels.
pub async fn metric(address: &str, tls: &Arc<ClientConfig>, name: &str) -> f64 {
    let request = http("GET", "/metrics", "text/plain", 0, b"");
    let answer = ask_at(address, tls, &request).await;
    let text = String::from_utf8_lossy(&answer);
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    text.lines().filter_map(|line| value(line, name)).sum()
}

/// The value of a line of this name, with labels or without.
fn value(line: &str, name: &str) -> Option<f64> {
    let rest = line.strip_prefix(name)?;
    let (labels, value) = rest.rsplit_once(' ')?;
    let whole = labels.is_empty() || labels.starts_with('{');
    whole.then(|| value.parse().ok())?
}
