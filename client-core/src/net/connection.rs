//! One HTTP/2 connection to one server.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the client's socket module"
)]

use crate::core::SendFailure;
use crate::error::{Error, ErrorKind};
use annulet_protocol::codec;
use annulet_protocol::limits::{REQUEST_OVERHEAD_BYTES, VALUE_BYTES_MAX};
use annulet_protocol::message::FailureKind;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{ClientConfig, HandshakeKind};
use rustls_pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

/// Window of one stream: a value of a megabyte arrives without a pause.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// Window of a connection: what its streams may have on the way together.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// How often a connection in use is checked, and how long the other side has to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Longest time from a connection's end to its task's word about it.
const ENDING_MAX: Duration = Duration::from_millis(100);
/// Longest answer: what a server may put in one reply.
const REPLY_BYTES_MAX: usize = VALUE_BYTES_MAX + 16 * REQUEST_OVERHEAD_BYTES;

/// An open connection. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    authority: Arc<str>,
    /// Why the connection ended, once it has.
    ended: watch::Receiver<Option<Ended>>,
    /// Whether TLS resumed an earlier session.
    pub(crate) resumed: bool,
}

#[derive(Clone, Debug)]
struct Ended {
    why: String,
    certificate: bool,
}

impl Connection {
    /// Connects to `address`, `host:port`, within `limit`.
    pub(crate) async fn open(
        address: &str,
        tls: Arc<ClientConfig>,
        limit: Duration,
    ) -> Result<Self, SendFailure> {
        let open = Self::open_unlimited(address, tls);
        tokio::time::timeout(limit, open).await.unwrap_or_else(|_| {
            let why = format!("no connection to {address} within {} ms", limit.as_millis());
            Err(SendFailure::NotSent(why))
        })
    }

    async fn open_unlimited(address: &str, tls: Arc<ClientConfig>) -> Result<Self, SendFailure> {
        let at = |what: &str, error: &(dyn std::error::Error + 'static)| {
            let why = format!("{what} {address}: {}", describe(error));
            if is_certificate_trouble(error) {
                return SendFailure::Rejected(Error::new(ErrorKind::Unauthorized, why), None);
            }
            SendFailure::NotSent(why)
        };
        let name = server_name(address).map_err(SendFailure::NotSent)?;
        let tcp = TcpStream::connect(address)
            .await
            .map_err(|e| at("connecting to", &e))?;
        tcp.set_nodelay(true).map_err(|e| at("connecting to", &e))?;
        let stream = TlsConnector::from(tls).connect(name, tcp).await;
        let stream = stream.map_err(|e| at("TLS with", &e))?;
        let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| at("HTTP/2 with", &e))?;
        let (end, ended) = watch::channel(None);
        tokio::spawn(async move {
            let error = connection.await.err();
            let end = end;
            end.send_replace(error.map(|error| Ended {
                why: describe(&error),
                certificate: is_certificate_trouble(&error),
            }));
        });
        let authority = address.into();
        Ok(Self {
            sender,
            authority,
            ended,
            resumed,
        })
    }

    /// Whether it can take no more requests.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Posts a message and gives the answer's body.
    pub(crate) async fn post(&mut self, path: &str, body: Bytes) -> Result<Bytes, SendFailure> {
        let (status, answer) = self.exchange(Method::POST, path, body).await?;
        accepted(status, answer)
    }

    /// Gets a document.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Bytes, SendFailure> {
        let (status, answer) = self.get_any(path).await?;
        accepted(status, answer)
    }

    /// Gets a document that says something with any status.
    pub(crate) async fn get_any(&mut self, path: &str) -> Result<(StatusCode, Bytes), SendFailure> {
        self.exchange(Method::GET, path, Bytes::new()).await
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), SendFailure> {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", self.authority))
            .header(http::header::CONTENT_TYPE, codec::CONTENT_TYPE)
            .header(http::header::ACCEPT_ENCODING, "zstd")
            .body(Full::new(body))
            .map_err(|e| SendFailure::NotSent(format!("a malformed request: {e}")))?;
        if let Err(error) = self.sender.ready().await {
            return Err(self.failure(true, &error).await);
        }
        let response = match self.sender.try_send_request(request).await {
            Ok(response) => response,
            Err(mut error) => {
                // A request that is handed back was never put on the wire.
                let unsent = error.take_message().is_some();
                return Err(self.failure(unsent, error.error()).await);
            }
        };
        let status = response.status();
        let (head, body) = response.into_parts();
        let body = Limited::new(body, REPLY_BYTES_MAX).collect().await;
        let body = body
            .map_err(|e| SendFailure::Unanswered(e.to_string()))?
            .to_bytes();
        let body = match head.headers.get(http::header::CONTENT_ENCODING) {
            Some(encoding) if encoding == "zstd" => {
                unpack(&body).map_err(SendFailure::Unanswered)?
            }
            Some(_) | None => body,
        };
        Ok((status, body))
    }
}

impl Connection {
    /// Why a request failed. Where the connection went with it, that is the better reason.
    async fn failure(&mut self, unsent: bool, error: &hyper::Error) -> SendFailure {
        let mut why = describe(error);
        let mut certificate = is_certificate_trouble(error);
        if self.sender.is_closed() {
            // The connection's task says why in the moment that it ends, or leaves without a word.
            let ended = self.ended.wait_for(Option::is_some);
            if let Ok(Ok(ended)) = tokio::time::timeout(ENDING_MAX, ended).await
                && let Some(ended) = ended.as_ref()
            {
                why.clone_from(&ended.why);
                certificate |= ended.certificate;
            }
        }
        if certificate {
            let why = format!(
                "{} and this client do not accept each other: {why}",
                self.authority
            );
            return SendFailure::Rejected(Error::new(ErrorKind::Unauthorized, why), None);
        }
        if unsent {
            SendFailure::NotSent(why)
        } else {
            SendFailure::Unanswered(why)
        }
    }
}

/// The whole chain of causes of a transport error.
fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |error| error.source()) {
        let cause = cause.to_string();
        // Some errors already say what their cause says.
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Whether one side does not accept the other's certificate. With TLS 1.3 a server refuses a
/// client's only after the client thinks that it is connected, so this may come with any request.
fn is_certificate_trouble(error: &(dyn std::error::Error + 'static)) -> bool {
    /// Alerts that speak of a certificate, as rustls prints them: HTTP/2 hands its transport's
    /// errors on as text alone.
    const ALERTS: [&str; 8] = [
        "UnknownCA",
        "BadCertificate",
        "CertificateUnknown",
        "CertificateExpired",
        "CertificateRequired",
        "UnsupportedCertificate",
        "AccessDenied",
        "DecryptError",
    ];
    std::iter::successors(Some(error), |error| error.source()).any(|error| {
        let io = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        let tls = io.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if matches!(tls, Some(rustls::Error::InvalidCertificate(_))) {
            return true;
        }
        let text = error.to_string();
        let alert = text
            .split_once("received fatal alert: ")
            .map(|(_, alert)| alert);
        alert.is_some_and(|alert| ALERTS.contains(&alert.trim_end()))
    })
}

/// The body of what was answered with 200, and an error for any other status.
pub(crate) fn accepted(status: StatusCode, body: Bytes) -> Result<Bytes, SendFailure> {
    match status {
        StatusCode::OK => Ok(body),
        other => Err(rejection(other, &body)),
    }
}

/// What a status other than 200 means.
fn rejection(status: StatusCode, body: &[u8]) -> SendFailure {
    let Ok(failure) = codec::decode_failure(body) else {
        let why = format!("the server answered {status} without saying why");
        return SendFailure::Rejected(Error::new(ErrorKind::Internal, why), None);
    };
    let kind = match failure.kind {
        FailureKind::InvalidInput => ErrorKind::InvalidInput,
        FailureKind::Unauthorized => ErrorKind::Unauthorized,
        FailureKind::Overloaded => ErrorKind::Overloaded,
        FailureKind::Conflict => ErrorKind::Conflict,
        FailureKind::WrongCluster | FailureKind::Unavailable => ErrorKind::Unavailable,
        FailureKind::NotFound | FailureKind::Internal => ErrorKind::Internal,
    };
    SendFailure::Rejected(Error::new(kind, failure.message), failure.retry_after_ms)
}

/// Undoes the compression of an answer, within the limit.
fn unpack(body: &[u8]) -> Result<Bytes, String> {
    use std::io::Read;
    let decoder = zstd::Decoder::new(body).map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    let most = annulet_protocol::limits::VIEW_BYTES_MAX as u64;
    decoder
        .take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| e.to_string())?;
    if bytes.len() as u64 > most {
        return Err(format!("an answer of over {most} bytes"));
    }
    Ok(bytes.into())
}

/// The name that the server's certificate must have.
fn server_name(address: &str) -> Result<ServerName<'static>, String> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned()).map_err(|_| format!("`{address}` is not host:port"))
}
