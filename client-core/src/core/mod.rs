//! What a client decides: coordinators of operations as state machines, and small policies.
//!
//! Everything here is plain data and synchronous code. Inputs are `handle_*` calls, outputs are
//! [`Effect`]s, time and events come from outside. The client's shell drives it over real
//! connections, the simulator over imagined ones.
//!
//! # Layout
//! - [`client`]: what all operations of a client share: view, clock, peers, budget
//! - [`write`](mod@write): put and delete; [`read`]: get and exists, with repair; [`touch`]: a new
//!   expiry; [`scan`]: a page of all
//! - [`siblings`]: the same where concurrent values are kept; [`strong`]: all of it in a strong
//!   bucket
//! - [`session`]: what was seen, so that nothing older is shown
//! - [`then`]: two of them, one after the other
//! - [`attempts`]: which owner was asked, and how that went
//! - [`policy`]: the choice of replicas, and when to try again

pub mod attempts;
pub mod client;
pub mod clock;
pub mod many;
pub mod policy;
pub mod read;
pub mod scan;
pub mod session;
pub mod siblings;
pub mod strong;
#[cfg(test)]
pub(crate) mod testing;
pub mod then;
pub mod touch;
pub mod write;

use crate::error::Error;
use annulet_protocol::ids::NodeId;
use annulet_protocol::message::{Answer, Operation};
use annulet_protocol::view::View;
use client::{Core, Now};
use smallvec::SmallVec;
use std::sync::Arc;

/// What a coordinator wants done. Its shell does it and calls back.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect<T> {
    /// Send this and call `handle_answer` or `handle_failure` with the same node and attempt.
    Send(Send),
    /// The answer to this message is of no use any more: it need not be sent, or worked on.
    Cancel(NodeId, Attempt),
    /// Get a view of at least this epoch and call `handle_view`.
    NeedView(u64),
    /// The operation's result, once. The coordinator may go on in the background.
    Complete(Result<T, Error>),
}

/// One message to one server.
#[derive(Clone, Debug, PartialEq)]
pub struct Send {
    /// To whom.
    pub node: NodeId,
    /// Names this message in the calls that answer it.
    pub attempt: Attempt,
    /// The epoch that the owners were chosen by.
    pub epoch: u64,
    /// How long the sender waits, in milliseconds.
    pub budget_ms: u32,
    /// What is asked.
    pub operation: Operation,
}

/// Names one message of an operation: the number of times it started under a view, and the number
/// of the message; and which of several operations that go together it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Attempt {
    /// Counts the views the operation was started under.
    pub round: u16,
    /// The operation among those that go together, 0 of one by itself.
    pub part: u16,
    /// Counts its messages.
    pub number: u32,
}

/// What a coordinator's call gives back.
pub type Effects<T> = SmallVec<[Effect<T>; 4]>;

/// Why a message has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendFailure {
    /// It never left: the server could not be reached.
    NotSent(String),
    /// It may have arrived: the connection broke, or no answer came in time.
    Unanswered(String),
    /// The server refused the whole request unread: this kind of error, when to come back.
    Rejected(Error, Option<u32>),
}

/// The two ways a message ends.
pub type Response = Result<Answer, SendFailure>;

/// An operation as a state machine. Its shell calls `start`, does what the effects say, and hands
/// in what happens until [`Coordinator::is_finished`].
pub trait Coordinator {
    /// What it gives when it succeeds.
    type Done;

    /// Sends the first messages.
    fn start(&mut self, core: &mut Core, now: Now) -> Effects<Self::Done>;

    /// Takes what became of a message. `epoch`: the server's, if it answered.
    fn handle_response(
        &mut self,
        core: &mut Core,
        now: Now,
        from: (NodeId, Attempt),
        epoch: Option<u64>,
        response: Response,
    ) -> Effects<Self::Done>;

    /// Starts over if this view is newer than its own.
    fn handle_view(&mut self, core: &mut Core, now: Now, view: &Arc<View>) -> Effects<Self::Done>;

    /// Takes the passing of time.
    fn handle_timer(&mut self, core: &mut Core, now: Now) -> Effects<Self::Done>;

    /// When to call `handle_timer` next, in monotonic milliseconds; `None` when there is nothing
    /// to wait for.
    fn next_wake_ms(&self) -> Option<u64>;

    /// Whether nothing is left to do, in the background either.
    fn is_finished(&self) -> bool;

    /// Whether no answer is outstanding: if it is not finished, time alone brings it further.
    fn is_idle(&self) -> bool;

    /// Whether the answer to this message is of any use.
    fn awaits(&self, node: NodeId, attempt: Attempt) -> bool;

    /// The client is about to close: what is left to do in the background is done at once, or not
    /// at all.
    fn hurry(&mut self, _core: &mut Core, _now: Now) -> Effects<Self::Done> {
        Effects::new()
    }

    /// The caller has gone. What was sent was sent; nothing more will be.
    fn cancel(&mut self);
}
