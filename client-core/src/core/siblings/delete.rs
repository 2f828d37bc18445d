//! Delete of what was seen: the context itself goes to every owner, which merges it. Nothing is
//! minted and nothing is left behind, and it may come any number of times.
//!
//! Without a context a read finds out first what there is. A value that comes in between stays.

use super::put::check_context;
use super::read::{SiblingsDone, SiblingsRead};
use crate::core::Coordinator;
use crate::core::client::{Core, Now, Start};
use crate::core::then::{Joined, Link, ROUND, Then};
use crate::core::write::{WriteDone, WriteOperation};
use crate::error::{Error, ErrorKind, Outcome, Result};
use annulet_protocol::level::Level;
use annulet_protocol::session::Known;
use annulet_protocol::view::View;
use annulet_ring::quorum::Side;
use bytes::Bytes;
use std::sync::Arc;

/// A delete under this context: a write like any other.
///
/// # Errors
/// `InvalidInput` if the context is none of this key, or the level asks for more owners than there
/// are; nothing was sent.
pub fn under(start: Start, context: Bytes) -> Result<WriteOperation> {
    let refuse = |why: String| {
        let error = Error::new(ErrorKind::InvalidInput, why);
        error.with_outcome(Outcome::NotApplied)
    };
    check_context(&start, &context).map_err(refuse)?;
    WriteOperation::merge(start, context, 0)
}

/// A delete of whatever a read finds.
pub type SiblingsDelete = Then<Deleting>;

/// What a delete that is done says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteDone {
    /// What was seen and deleted, sealed.
    pub context: Bytes,
    /// Whether there was anything.
    pub found: bool,
}

/// What joins a delete's read and its write.
#[derive(Debug)]
pub struct Deleting {
    /// For the second part.
    start: Start,
    context: Bytes,
}

impl Then<Deleting> {
    /// A delete of all that a read finds at level `quorum`, or at the delete's own level if that
    /// asks more owners. `floor`: what its session has seen of the key.
    ///
    /// # Errors
    /// `InvalidInput` if the level asks for more owners than there are; nothing was sent.
    pub fn delete(start: Start, floor: Option<Known>) -> Result<Self> {
        let refuse = |error: Error| error.with_outcome(Outcome::NotApplied);
        let owners = start.owners();
        start.quorum(Side::Write, &owners).map_err(refuse)?;
        let level = match start.level {
            Level::All | Level::EachQuorum => start.level,
            Level::Explicit { read, .. } if usize::from(read) > owners.count() / 2 => start.level,
            Level::Explicit { .. }
            | Level::One
            | Level::Quorum
            | Level::LocalQuorum
            | Level::Available => Level::Quorum,
        };
        let mut read = SiblingsRead::new(start.at(level), true).map_err(refuse)?;
        if let Some(floor) = floor {
            read = read.at_least(floor);
        }
        let context = Bytes::new();
        Ok(Self::new(Deleting { start, context }, read))
    }
}

impl Link for Deleting {
    type First = SiblingsRead;
    type Second = WriteOperation;
    type Done = DeleteDone;

    fn join(
        &mut self,
        core: &mut Core,
        now: Now,
        view: Option<&Arc<View>>,
        first: Result<SiblingsDone>,
    ) -> Joined<Self> {
        let refuse = |error: Error| Joined::Over(Err(error.with_outcome(Outcome::NotApplied)));
        let shown = match first {
            Ok(shown) => shown,
            Err(error) => return refuse(error),
        };
        if shown.record.iter().len() == 0 {
            // Nothing seen, nothing to write.
            return Joined::Over(Ok(DeleteDone {
                context: shown.context,
                found: false,
            }));
        }
        let mut start = self.start.clone();
        if let Some(view) = view
            && view.ordinal() > start.view.ordinal()
            && !start.move_to(view, core.home())
        {
            return refuse(start.bucket_deleted());
        }
        self.context = shown.context.clone();
        match WriteOperation::merge(start, shown.context, ROUND) {
            Ok(mut write) => {
                let effects = write.start(core, now);
                Joined::Second(write, effects)
            }
            Err(error) => refuse(error),
        }
    }

    fn end(&mut self, second: Result<WriteDone>) -> Result<DeleteDone> {
        second.map(|_| DeleteDone {
            context: self.context.clone(),
            found: true,
        })
    }
}
