//! Touch: a new expiry for exactly the version that a read finds, so that renewing a session never
//! brings an older value back, nor a newer one down.
//!
//! First a read at the bucket's read level looks for the version, and repairs what differs. Then
//! the expiry goes to all owners like a write. An owner that has moved on to a newer version in
//! the meantime says so, and keeps it.

use super::client::{Core, Now, Start};
use super::read::{ReadDone, ReadOperation};
use super::write::{WriteDone, WriteOperation};
use super::{Attempt, Coordinator, Effect, Effects, Response};
use crate::error::{Error, Outcome, Result};
use annulet_protocol::ids::NodeId;
use annulet_protocol::record::{Expiry, Head, Version};
use annulet_protocol::view::View;
use annulet_ring::quorum::Side;
use std::sync::Arc;

/// Messages of the second part are named from this round on.
const ROUND: u16 = 1 << 15;

/// What a touch that is done says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TouchDone {
    /// The version that was touched; `None`: there is no value that has not expired.
    pub touched: Option<Version>,
    /// A newer version that an owner held already: its expiry stays as it is.
    pub superseded: Option<Version>,
}

/// One touch.
#[derive(Debug)]
pub struct TouchOperation {
    /// For the second part.
    start: Start,
    /// When the value is to expire, in milliseconds since the Unix epoch; `None`: never.
    expires_at_ms: Option<u64>,
    read: ReadOperation,
    write: Option<WriteOperation>,
    /// The newest view that came while the first part was under way.
    view: Option<Arc<View>>,
    completed: bool,
}

impl TouchOperation {
    /// A touch. `reading`, `writing`: what its two parts begin with, one operation.
    ///
    /// # Errors
    /// `InvalidInput` if a level asks for more owners than there are; nothing was sent.
    pub fn new(reading: Start, writing: Start, expires_at_ms: Option<u64>) -> Result<Self> {
        let refuse = |error: Error| error.with_outcome(Outcome::NotApplied);
        let owners = writing.owners();
        writing.quorum(Side::Write, &owners).map_err(refuse)?;
        Ok(Self {
            read: ReadOperation::new(reading, true).map_err(refuse)?,
            start: writing,
            expires_at_ms,
            write: None,
            view: None,
            completed: false,
        })
    }

    /// The expiry that is to be set, once it is known for which version.
    pub fn expiry(&self) -> Option<Expiry> {
        self.write.as_ref().and_then(WriteOperation::expiry)
    }

    /// Takes what the first part wants done; where it is done, the second begins.
    fn after_read(
        &mut self,
        core: &mut Core,
        now: Now,
        effects: Effects<ReadDone>,
    ) -> Effects<TouchDone> {
        let mut out = Effects::new();
        for effect in effects {
            match effect {
                Effect::Send(send) => out.push(Effect::Send(send)),
                Effect::Cancel(node, attempt) => out.push(Effect::Cancel(node, attempt)),
                Effect::NeedView(epoch) => out.push(Effect::NeedView(epoch)),
                Effect::Complete(Ok(ReadDone {
                    head: Some(head),
                    live: true,
                    ..
                })) => out.extend(self.begin_write(core, now, head)),
                Effect::Complete(Ok(_)) => {
                    let done = TouchDone {
                        touched: None,
                        superseded: None,
                    };
                    self.complete(Ok(done), &mut out);
                }
                Effect::Complete(Err(error)) => {
                    self.complete(Err(error.with_outcome(Outcome::NotApplied)), &mut out);
                }
            }
        }
        out
    }

    fn begin_write(&mut self, core: &mut Core, now: Now, head: Head) -> Effects<TouchDone> {
        let mut start = self.start.clone();
        let mut out = Effects::new();
        if let Some(view) = &self.view
            && !start.move_to(view, core.home())
        {
            self.complete(Err(start.bucket_deleted()), &mut out);
            return out;
        }
        if let Some(expiry) = head.expiry {
            core.clock.observe(start.hash, expiry.stamp, now.wall_ms);
        }
        let stamp = core.mint(start.hash, now);
        let at_ms = self.expires_at_ms.unwrap_or(0);
        let bucket = start.bucket().number;
        let expiry = Expiry::seal(bucket, &start.key, &head.version, at_ms, stamp);
        match WriteOperation::touch(start, head, expiry, ROUND) {
            Err(error) => self.complete(Err(error), &mut out),
            Ok(mut write) => {
                let effects = write.start(core, now);
                self.write = Some(write);
                out.extend(self.after_write(effects));
            }
        }
        out
    }

    /// Takes what the second part wants done.
    fn after_write(&mut self, effects: Effects<WriteDone>) -> Effects<TouchDone> {
        let mut out = Effects::new();
        for effect in effects {
            match effect {
                Effect::Send(send) => out.push(Effect::Send(send)),
                Effect::Cancel(node, attempt) => out.push(Effect::Cancel(node, attempt)),
                Effect::NeedView(epoch) => out.push(Effect::NeedView(epoch)),
                Effect::Complete(result) => {
                    let done = result.map(|done| TouchDone {
                        touched: Some(done.version),
                        superseded: done.superseded,
                    });
                    self.complete(done, &mut out);
                }
            }
        }
        out
    }

    fn complete(&mut self, result: Result<TouchDone>, out: &mut Effects<TouchDone>) {
        if !std::mem::replace(&mut self.completed, true) {
            out.push(Effect::Complete(result));
        }
    }
}

impl Coordinator for TouchOperation {
    type Done = TouchDone;

    fn start(&mut self, core: &mut Core, now: Now) -> Effects<TouchDone> {
        let effects = self.read.start(core, now);
        self.after_read(core, now, effects)
    }

    fn handle_response(
        &mut self,
        core: &mut Core,
        now: Now,
        from: (NodeId, Attempt),
        epoch: Option<u64>,
        response: Response,
    ) -> Effects<TouchDone> {
        match &mut self.write {
            Some(write) if from.1.round >= ROUND => {
                let effects = write.handle_response(core, now, from, epoch, response);
                self.after_write(effects)
            }
            Some(_) | None => {
                let effects = self.read.handle_response(core, now, from, epoch, response);
                self.after_read(core, now, effects)
            }
        }
    }

    fn handle_view(&mut self, core: &mut Core, now: Now, view: &Arc<View>) -> Effects<TouchDone> {
        self.view = Some(Arc::clone(view));
        let effects = self.read.handle_view(core, now, view);
        let mut out = self.after_read(core, now, effects);
        if let Some(write) = &mut self.write {
            let effects = write.handle_view(core, now, view);
            out.extend(self.after_write(effects));
        }
        out
    }

    fn handle_timer(&mut self, core: &mut Core, now: Now) -> Effects<TouchDone> {
        let mut out = Effects::new();
        if !self.read.is_finished() {
            let effects = self.read.handle_timer(core, now);
            out.extend(self.after_read(core, now, effects));
        }
        if let Some(write) = self.write.as_mut().filter(|write| !write.is_finished()) {
            let effects = write.handle_timer(core, now);
            out.extend(self.after_write(effects));
        }
        out
    }

    fn next_wake_ms(&self) -> Option<u64> {
        let write = self.write.as_ref().and_then(WriteOperation::next_wake_ms);
        [self.read.next_wake_ms(), write]
            .into_iter()
            .flatten()
            .min()
    }

    fn is_finished(&self) -> bool {
        let written = self.write.as_ref().is_none_or(WriteOperation::is_finished);
        self.completed && self.read.is_finished() && written
    }

    fn is_idle(&self) -> bool {
        let written = self.write.as_ref().is_none_or(WriteOperation::is_idle);
        self.read.is_idle() && written
    }

    fn awaits(&self, node: NodeId, attempt: Attempt) -> bool {
        match &self.write {
            Some(write) if attempt.round >= ROUND => write.awaits(node, attempt),
            Some(_) | None => self.read.awaits(node, attempt),
        }
    }

    fn cancel(&mut self) {
        self.completed = true;
        self.read.cancel();
        if let Some(write) = &mut self.write {
            write.cancel();
        }
    }
}

#[cfg(test)]
mod tests;
