//! Touch: a new expiry for exactly the version that a read finds, so that renewing a session never
//! brings an older value back, nor a newer one down.
//!
//! First a read at the bucket's read level looks for the version, and repairs what differs. Then
//! the expiry goes to all owners like a write. An owner that has moved on to a newer version in
//! the meantime says so, and keeps it.

use super::client::{Core, Now, Start};
use super::read::{ReadDone, ReadOperation};
use super::then::{Joined, Link, ROUND, Then};
use super::write::{WriteDone, WriteOperation};
use super::{Coordinator, Effects};
use crate::error::{Error, Outcome, Result};
use annulet_protocol::record::{Expiry, Head, Version};
use annulet_protocol::session::Known;
use annulet_protocol::view::View;
use annulet_ring::quorum::Side;
use std::sync::Arc;

/// What a touch that is done says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TouchDone {
    /// The version that was touched; `None`: there is no value that has not expired.
    pub touched: Option<Version>,
    /// A newer version that an owner held already: its expiry stays as it is.
    pub superseded: Option<Version>,
    /// What the read has found, live or not.
    pub seen: Option<Version>,
}

/// One touch.
pub type TouchOperation = Then<Touching>;

/// What joins a touch's read and its write.
#[derive(Debug)]
pub struct Touching {
    /// For the second part.
    start: Start,
    /// When the value is to expire, in milliseconds since the Unix epoch; `None`: never.
    expires_at_ms: Option<u64>,
    /// What the first part has found.
    seen: Option<Version>,
}

impl Then<Touching> {
    /// A touch. `reading`, `writing`: what its two parts begin with, one operation.
    ///
    /// # Errors
    /// `InvalidInput` if a level asks for more owners than there are; nothing was sent.
    pub fn touch(reading: Start, writing: Start, expires_at_ms: Option<u64>) -> Result<Self> {
        let refuse = |error: Error| error.with_outcome(Outcome::NotApplied);
        let owners = writing.owners();
        writing.quorum(Side::Write, &owners).map_err(refuse)?;
        let link = Touching {
            start: writing,
            expires_at_ms,
            seen: None,
        };
        let read = ReadOperation::new(reading, true).map_err(refuse)?;
        Ok(Self::new(link, read))
    }

    /// The same, of a session that has seen this of the key: its read shows no less, or asks more
    /// owners.
    #[must_use]
    pub fn at_least(mut self, floor: Known) -> Self {
        self.first = self.first.at_least(floor);
        self
    }

    /// The expiry that is to be set, once it is known for which version.
    pub fn expiry(&self) -> Option<Expiry> {
        self.second.as_ref().and_then(WriteOperation::expiry)
    }
}

impl Touching {
    fn begin_write(
        &self,
        core: &mut Core,
        now: Now,
        view: Option<&Arc<View>>,
        head: Head,
    ) -> Result<(WriteOperation, Effects<WriteDone>)> {
        let mut start = self.start.clone();
        if let Some(view) = view
            && !start.move_to(view, core.home())
        {
            return Err(start.bucket_deleted());
        }
        if let Some(expiry) = head.expiry {
            core.clock.observe(start.hash, expiry.stamp, now.wall_ms);
        }
        let stamp = core.mint(start.hash, now);
        let at_ms = self.expires_at_ms.unwrap_or(0);
        let bucket = start.bucket().number;
        let expiry = Expiry::seal(bucket, &start.key, &head.version, at_ms, stamp);
        let mut write = WriteOperation::touch(start, head, expiry, ROUND)?;
        let effects = write.start(core, now);
        Ok((write, effects))
    }
}

impl Link for Touching {
    type First = ReadOperation;
    type Second = WriteOperation;
    type Done = TouchDone;

    fn join(
        &mut self,
        core: &mut Core,
        now: Now,
        view: Option<&Arc<View>>,
        first: Result<ReadDone>,
    ) -> Joined<Self> {
        let done = match first {
            Ok(done) => done,
            Err(error) => return Joined::Over(Err(error.with_outcome(Outcome::NotApplied))),
        };
        self.seen = done.head.map(|head| head.version);
        let Some(head) = done.head.filter(|_| done.live) else {
            return Joined::Over(Ok(TouchDone {
                touched: None,
                superseded: None,
                seen: self.seen,
            }));
        };
        match self.begin_write(core, now, view, head) {
            Ok((write, effects)) => Joined::Second(write, effects),
            Err(error) => Joined::Over(Err(error.with_outcome(Outcome::NotApplied))),
        }
    }

    fn end(&mut self, second: Result<WriteDone>) -> Result<TouchDone> {
        second.map(|done| TouchDone {
            touched: Some(done.version),
            superseded: done.superseded,
            seen: self.seen,
        })
    }
}

#[cfg(test)]
mod tests;
