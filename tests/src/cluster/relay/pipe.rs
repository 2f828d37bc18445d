//! One way of one connection.

use super::{Conditions, Passage};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// Bytes that are on the way in one pipe at most. With a delay of 50 ms it carries 20 MiB/s.
pub(super) const PIPE_BYTES_MAX: usize = 1 << 20;
/// Longest piece that is read at once.
const PIECE_BYTES_MAX: usize = 16 << 10;
/// What a piece takes of the room besides its bytes, so that short ones are bounded as well.
const PIECE_COST: usize = 256;
/// A slow road gives out what it carries in so long, in parts of its own.
const STEPS_PER_SECOND: u64 = 50;

/// What all pipes of one way share.
#[derive(Debug, Default)]
pub(super) struct Road {
    passed: AtomicU64,
    lost: AtomicU64,
    /// When a road of limited speed has carried all that was given to it.
    free: Mutex<Option<Instant>>,
}

impl Road {
    pub(super) fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Takes the road for so many bytes, after those that have taken it already.
    fn take(&self, bytes: usize, per_second: u64) -> Instant {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let begin = free.map_or(now, |free| free.max(now));
        let end = begin + Duration::from_secs_f64(bytes as f64 / per_second as f64);
        *free = Some(end);
        end
    }
}

/// One way of one connection, and what it needs to know.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) road: &'a Road,
    pub(super) conditions: &'a watch::Sender<Conditions>,
    /// Whether bytes of the connection were lost.
    pub(super) torn: &'a AtomicBool,
    pub(super) delay: fn(&Conditions) -> Duration,
}

/// Bytes on the way, or, if there are none, the end of what one side has to say.
struct Piece {
    /// `None`: at once. The clock of timers is a millisecond coarse.
    due: Option<Instant>,
    bytes: Box<[u8]>,
    _room: OwnedSemaphorePermit,
}

impl Way<'_> {
    /// Carries all that one end says to the other.
    pub(super) async fn carry(&self, from: ReadHalf<'_>, to: WriteHalf<'_>) -> io::Result<()> {
        // The room bounds the queue.
        let (sender, queue) = mpsc::unbounded_channel();
        tokio::try_join!(self.gather(from, sender), self.give(queue, to))?;
        Ok(())
    }

    async fn gather(
        &self,
        mut from: ReadHalf<'_>,
        queue: mpsc::UnboundedSender<Piece>,
    ) -> io::Result<()> {
        let room = Arc::new(Semaphore::new(PIPE_BYTES_MAX));
        let mut buffer = vec![0; PIECE_BYTES_MAX];
        loop {
            let read = from.read(&mut buffer).await;
            let delay = {
                let now = self.conditions.borrow();
                self.count(&self.road.passed, *read.as_ref().unwrap_or(&0));
                if now.passage == Passage::Cut {
                    self.lose(*read.as_ref().unwrap_or(&0));
                    None
                } else {
                    Some((self.delay)(&now))
                }
            };
            let Some(delay) = delay else {
                match read {
                    Ok(length) if length > 0 => continue,
                    // The other end does not learn of this while nothing passes, and then the
                    // connection is reset.
                    Ok(_) | Err(_) => return std::future::pending().await,
                }
            };
            let length = read?;
            let due = (!delay.is_zero()).then(|| Instant::now() + delay);
            // Both are far below four billion.
            let taken = (PIECE_COST + length) as u32;
            let Ok(room) = Arc::clone(&room).acquire_many_owned(taken).await else {
                return Ok(());
            };
            let bytes = buffer[..length].into();
            let piece = Piece {
                due,
                bytes,
                _room: room,
            };
            if queue.send(piece).is_err() || length == 0 {
                return Ok(());
            }
        }
    }

    async fn give(
        &self,
        mut queue: mpsc::UnboundedReceiver<Piece>,
        mut to: WriteHalf<'_>,
    ) -> io::Result<()> {
        while let Some(Piece { due, bytes, .. }) = queue.recv().await {
            if let Some(due) = due {
                sleep_until(due).await;
            }
            let mut left = &bytes[..];
            loop {
                let speed = self.conditions.borrow().bytes_per_second;
                let (part, rest) = match speed {
                    Some(speed) => left.split_at(step(speed).min(left.len())),
                    None => (left, &left[..0]),
                };
                if let Some(speed) = speed {
                    sleep_until(self.road.take(part.len(), speed)).await;
                }
                if self.conditions.borrow().passage == Passage::Cut {
                    self.lose(part.len());
                } else if part.is_empty() {
                    to.shutdown().await?;
                } else {
                    to.write_all(part).await?;
                }
                left = rest;
                if left.is_empty() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Notes that something was lost, be it the word that nothing more comes.
    fn lose(&self, bytes: usize) {
        self.torn.store(true, Ordering::Relaxed);
        self.count(&self.road.lost, bytes);
    }

    fn count(&self, counter: &AtomicU64, bytes: usize) {
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// Bytes that a road of this speed gives out at once.
fn step(per_second: u64) -> usize {
    usize::try_from(per_second / STEPS_PER_SECOND)
        .unwrap_or(PIECE_BYTES_MAX)
        .clamp(1, PIECE_BYTES_MAX)
}
