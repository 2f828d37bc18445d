//! A connection whose small writes leave together.
//!
//! To a connection that can write several buffers at once, h2 gives every short body by itself and
//! flushes it, which over TLS is a record and a system call for each answer. To any other it copies
//! bodies of up to a KiB together first.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// As long as a TLS record can be.
const BUFFER_BYTES: usize = 16 << 10;

/// A buffered stream that takes one buffer at a time: it keeps the defaults of the two methods on
/// vectored writes. Most connections are idle at most times, and then it holds no memory.
pub(super) struct Coalescing<S> {
    stream: S,
    waiting: Vec<u8>,
    /// How much of what waits has been written.
    written: usize,
}

impl<S: AsyncWrite + Unpin> Coalescing<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            waiting: Vec::new(),
            written: 0,
        }
    }

    /// Writes all that waits.
    fn poll_empty(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.waiting.len() {
            let left = &self.waiting[self.written..];
            match ready!(Pin::new(&mut self.stream).poll_write(context, left))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        self.waiting = Vec::new();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Coalescing<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Coalescing<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.waiting.len() + buffer.len() > BUFFER_BYTES {
            ready!(self.poll_empty(context))?;
        }
        if buffer.len() >= BUFFER_BYTES {
            return Pin::new(&mut self.stream).poll_write(context, buffer);
        }
        if self.waiting.is_empty() {
            self.waiting.reserve_exact(BUFFER_BYTES);
        }
        self.waiting.extend_from_slice(buffer);
        Poll::Ready(Ok(buffer.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_empty(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_empty(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn what_is_written_comes_out_whole_and_in_order_and_leaves_no_memory() {
        let (near, mut far) = tokio::io::duplex(1_000);
        let mut near = Coalescing::new(near);
        let lengths = [
            1,
            100,
            BUFFER_BYTES - 1,
            1,
            BUFFER_BYTES,
            5 * BUFFER_BYTES,
            7,
        ];
        let pieces = (0..).zip(lengths).map(|(n, length)| vec![n; length]);
        let all: Vec<Vec<u8>> = pieces.collect();
        let expected = all.concat();
        let writing = async {
            for piece in &all {
                near.write_all(piece).await.unwrap();
            }
            near.flush().await.unwrap();
            assert_eq!(near.waiting.capacity(), 0);
            near.write_all(b"last").await.unwrap();
            near.shutdown().await.unwrap();
        };
        let mut got = Vec::new();
        let (_, read) = tokio::join!(writing, far.read_to_end(&mut got));
        read.unwrap();
        assert_eq!(got, [expected, b"last".to_vec()].concat());
    }

    #[tokio::test]
    async fn small_writes_wait_for_the_flush() {
        let (near, mut far) = tokio::io::duplex(1_000);
        let mut near = Coalescing::new(near);
        near.write_all(b"a").await.unwrap();
        near.write_all(b"b").await.unwrap();
        let mut got = [0; 8];
        let early = tokio::time::timeout(std::time::Duration::ZERO, far.read(&mut got)).await;
        assert!(early.is_err(), "{early:?}");
        near.flush().await.unwrap();
        assert_eq!(far.read(&mut got).await.unwrap(), 2);
    }
}
