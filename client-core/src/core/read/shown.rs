//! What owners show of a key: the part of a read that depends on the mode of the bucket.

use crate::core::client::{Core, Now, Start};
use annulet_protocol::bucket::Mode;
use annulet_protocol::ids::NodeId;
use annulet_protocol::message::{Answer, Operation};
use annulet_protocol::session::Known;
use annulet_ring::owners::Nodes;
use std::fmt::Debug;

/// What an answer came to.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// What the client knows.
    pub core: &'a Core,
    /// When.
    pub now: Now,
    /// The read.
    pub start: &'a Start,
    /// The node was asked for all of it, however long.
    pub whole: bool,
    /// It was asked since it had shown what the reader lacks.
    pub fetched: bool,
}

/// What the owners of a key have shown so far.
pub trait Shown: Debug + Default {
    /// The mode of such buckets.
    const MODE: Mode;

    /// What a read that is done says.
    type Done;

    /// Takes a node's answer, in place of what it showed before.
    ///
    /// # Errors
    /// Says why the answer counts for nothing.
    fn take(&mut self, asked: Asked<'_>, node: NodeId, answer: Answer) -> Result<(), String>;

    /// What the reader has seen before: it must not be shown less.
    fn must_show(&mut self, floor: &Known);

    /// Whether what was shown is at least what the reader has seen before.
    fn meets_floor(&self) -> bool;

    /// Forgets what a node showed.
    fn forget(&mut self, node: NodeId);

    /// Whether a node has shown anything.
    fn has(&self, node: NodeId) -> bool;

    /// Who has shown anything.
    fn nodes(&self) -> Nodes;

    /// Who showed all that anybody did.
    fn holders(&self) -> Nodes;

    /// Who can send what the reader lacks of it.
    fn sources(&self) -> Nodes;

    /// Whether the reader has all of it, values too.
    fn is_whole(&self, core: &Core) -> bool;

    /// Whether nobody has its value any more, since it expired long ago.
    fn is_gone(&self) -> bool;

    /// Whether there is a value that has not expired.
    fn is_live(&self, core: &Core, now: Now) -> bool;

    /// What brings it to an owner.
    fn repair(&self, start: &Start) -> Operation;

    /// The result. `with_value`: values are asked for.
    fn done(&self, core: &mut Core, now: Now, start: &Start, with_value: bool) -> Self::Done;
}
