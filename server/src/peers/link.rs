//! A connection to a peer, for what servers say to each other while no client waits.

use crate::net;
use crate::tls::Tls;
use crate::tls::role::{Caller, Role};
use annulet_protocol::codec;
use annulet_protocol::ids::ClusterId;
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;

/// See the module. Requests go one after the other.
pub(crate) struct Link {
    address: String,
    sender: SendRequest<Full<Bytes>>,
    _connection: AbortOnDrop<Result<(), hyper::Error>>,
}

impl Link {
    /// Connects to the server at `host:port`, and checks that it is a peer.
    ///
    /// # Errors
    /// For people.
    pub(crate) async fn open(cluster: ClusterId, tls: &Tls, address: &str) -> Result<Self, String> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        let stream = net::connect(address)
            .await
            .map_err(|error| error.to_string())?;
        let stream = TlsConnector::from(tls.client()).connect(name, stream).await;
        let stream = stream.map_err(|error| error.to_string())?;
        match Caller::of(stream.get_ref().1.peer_certificates(), cluster) {
            Caller::Known {
                role: Role::Peer, ..
            } => {}
            other => return Err(format!("it is no peer: {other:?}")),
        }
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| error.to_string())?;
        Ok(Self {
            address: address.to_owned(),
            sender,
            _connection: AbortOnDrop(tokio::spawn(connection)),
        })
    }

    /// Posts a message and gives the answer's body, of at most `most` bytes.
    ///
    /// # Errors
    /// For people. After one the connection may be of no use.
    pub(crate) async fn post(
        &mut self,
        path: &str,
        body: Vec<u8>,
        most: usize,
    ) -> Result<Bytes, String> {
        self.exchange(Method::POST, path, body, most).await
    }

    /// Gets a document of at most `most` bytes.
    ///
    /// # Errors
    /// As those of [`Self::post`].
    pub(crate) async fn get(&mut self, path: &str, most: usize) -> Result<Bytes, String> {
        self.exchange(Method::GET, path, Vec::new(), most).await
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        most: usize,
    ) -> Result<Bytes, String> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.address)
            .header(header::CONTENT_TYPE, codec::CONTENT_TYPE)
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        let response = self.sender.send_request(request).await;
        let response = response.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), most).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        let failure = codec::decode_failure(&body).map(|failure| failure.message);
        Err(format!(
            "it answers {status}: {}",
            failure.unwrap_or_default()
        ))
    }
}

/// Ends a connection's task with the connection.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
