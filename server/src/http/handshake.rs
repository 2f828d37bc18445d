//! The beginning of a connection: TLS, or a word to whom came without.

use crate::tls::Tls;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A TLS connection begins with a record of this type.
const TLS_HANDSHAKE: u8 = 0x16;
/// Reads of what the other end still sends when it was told that it is refused.
const DRAIN_READS_MAX: usize = 64;

/// Shakes hands, as long as it takes.
///
/// # Errors
/// If it came without TLS, or one side does not accept the other.
pub(super) async fn perform(
    mut stream: TcpStream,
    tls: Arc<Tls>,
) -> io::Result<TlsStream<TcpStream>> {
    stream.set_nodelay(true)?;
    let mut first = [0];
    let read = stream.peek(&mut first).await?;
    if read == 1 && first[0] != TLS_HANDSHAKE {
        tell_plain(&mut stream).await?;
        return Err(io::Error::other("it began without TLS"));
    }
    let accept = TlsAcceptor::from(tls.server())
        .accept(stream)
        .into_fallible();
    match accept.await {
        Ok(stream) => Ok(stream),
        Err((error, mut stream)) => {
            // rustls has written the alert that says why; it must not be lost.
            stream.shutdown().await?;
            drain(&mut stream).await?;
            Err(error)
        }
    }
}

/// Tells somebody who came without TLS what is wrong, in the plainest way.
async fn tell_plain(stream: &mut TcpStream) -> io::Result<()> {
    const TEXT: &str = "This port speaks HTTPS: use https:// and a certificate of the cluster.\n";
    let response = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{TEXT}",
        TEXT.len()
    );
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await?;
    drain(stream).await
}

/// Reads what the other end still sends, until it ends or has sent too much: to close with bytes
/// unread would take the last words away from it.
async fn drain(stream: &mut TcpStream) -> io::Result<()> {
    let mut unread = [0; 1024];
    for _ in 0..DRAIN_READS_MAX {
        if stream.read(&mut unread).await? == 0 {
            break;
        }
    }
    Ok(())
}
