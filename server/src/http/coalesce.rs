//! A connection whose small writes leave together.
//!
//! To a connection that can write several buffers at once, h2 gives every short body by itself and
//! flushes it, which over TLS is a record and a system call for each answer. To any other it copies
//! bodies of up to a KiB together first.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf};

/// As long as a TLS record can be.
const BUFFER_BYTES: usize = 16 << 10;

/// A buffered stream that takes one buffer at a time: it keeps the defaults of the two methods on
/// vectored writes.
pub(super) struct Coalescing<S>(BufWriter<S>);

impl<S: AsyncWrite> Coalescing<S> {
    pub(super) fn new(stream: S) -> Self {
        Self(BufWriter::with_capacity(BUFFER_BYTES, stream))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Coalescing<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Coalescing<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
