//! Which owners were asked, and how that went.

use super::client::{Core, Now, Start};
use super::policy::retry::{TRIES_MAX, backoff_ms};
use super::{Attempt, SendFailure};
use crate::error::{Error, ErrorKind};
use annulet_protocol::ids::NodeId;
use annulet_protocol::message::{Refusal, RefusalKind};
use smallvec::SmallVec;

/// Where one owner stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerState {
    /// Not asked yet.
    Idle,
    /// Asked; no answer yet.
    InFlight {
        /// The message.
        attempt: Attempt,
        /// When it was sent.
        since_ms: u64,
        /// It takes long, and another owner was asked instead; an answer still counts.
        slow: bool,
        /// It takes so long that it may have stopped.
        overdue: bool,
    },
    /// To be asked again at this time.
    Waiting {
        /// Monotonic milliseconds.
        until_ms: u64,
    },
    /// Did what was asked.
    Done,
    /// Will not do it, whatever the number of attempts.
    Lost,
}

/// One owner of the key.
#[derive(Clone, Debug)]
pub struct Owner {
    /// Who.
    pub node: NodeId,
    /// Where it stands.
    pub state: OwnerState,
    /// Messages sent to it.
    pub tries: u32,
    /// It could not be reached, or could not do what was asked for now, the last time.
    pub absent: bool,
}

/// The owners of one operation under one view.
#[derive(Clone, Debug, Default)]
pub struct Owners {
    list: SmallVec<[Owner; 3]>,
    round: u16,
    messages: u32,
    /// Why an owner did not do what was asked, the last that did not.
    error: Option<Error>,
    /// The epoch of the view that was asked for.
    wanted_epoch: u64,
}

impl Owners {
    /// None asked yet, in the order given.
    pub fn new(nodes: impl IntoIterator<Item = NodeId>) -> Self {
        let idle = |node| Owner {
            node,
            state: OwnerState::Idle,
            tries: 0,
            absent: false,
        };
        Self {
            list: nodes.into_iter().map(idle).collect(),
            ..Self::default()
        }
    }

    /// The same, whose messages are named from this round on: two of them in one operation are told
    /// apart by it.
    pub fn from_round(mut self, round: u16) -> Self {
        self.round = round;
        self
    }

    /// Adds nodes that were not asked yet, behind the others.
    pub fn add(&mut self, nodes: impl IntoIterator<Item = NodeId>) {
        self.list.extend(Self::new(nodes).list);
    }

    /// Starts over with these owners; answers to earlier messages are no longer expected.
    pub fn restart(&mut self, nodes: impl IntoIterator<Item = NodeId>) {
        self.list = Self::new(nodes).list;
        self.round = self.round.wrapping_add(1);
    }

    /// Names a message.
    pub fn name(&mut self) -> Attempt {
        self.messages += 1;
        Attempt {
            round: self.round,
            part: 0,
            number: self.messages,
        }
    }

    /// Notes that a message goes to this owner, and names it.
    pub fn sent(&mut self, node: NodeId, now_ms: u64) -> Attempt {
        let attempt = self.name();
        if let Some(owner) = self.get_mut(node) {
            owner.tries += 1;
            owner.state = OwnerState::InFlight {
                attempt,
                since_ms: now_ms,
                slow: false,
                overdue: false,
            };
        }
        attempt
    }

    /// Sets where an owner stands.
    pub fn set(&mut self, node: NodeId, state: OwnerState) {
        if let Some(owner) = self.get_mut(node) {
            owner.state = state;
        }
    }

    /// Takes a refusal. Gives the epoch of the view to get, if a newer one is needed and was not
    /// asked for before. `epoch`: the server's.
    pub fn refused(
        &mut self,
        core: &mut Core,
        (now, start): (Now, &Start),
        node: NodeId,
        (refusal, epoch): (&Refusal, u64),
    ) -> Option<u64> {
        self.error = Some(refusal_error(node, refusal));
        self.note_absence(node, is_passing(refusal.kind));
        if refusal.kind == RefusalKind::Overloaded {
            core.hedging.note_overload(now.mono_ms);
        }
        let newer = epoch > start.view.ordinal();
        let verdict = match judge_refusal(refusal) {
            // A server that knows no newer view will not change its mind.
            Verdict::Refresh if !newer => Verdict::Lost,
            verdict => verdict,
        };
        self.failed(core, (now, start), node, (verdict, true));
        let wanted = verdict == Verdict::Refresh && epoch > self.wanted_epoch;
        wanted.then(|| {
            self.wanted_epoch = epoch;
            epoch
        })
    }

    /// Takes a failure to get any answer.
    pub fn unanswered(
        &mut self,
        core: &mut Core,
        at: (Now, &Start),
        node: NodeId,
        failure: &SendFailure,
    ) {
        self.error = Some(failure_error(node, failure));
        self.note_absence(node, is_absence(failure));
        if matches!(failure, SendFailure::Rejected(e, _) if e.kind() == ErrorKind::Overloaded) {
            core.hedging.note_overload(at.0.mono_ms);
        }
        // What was never sent costs no server anything, and connections have limits of their own.
        let was_sent = !matches!(failure, SendFailure::NotSent(_));
        self.failed(core, at, node, (judge_failure(failure), was_sent));
    }

    /// Gives an owner up.
    pub fn lose(&mut self, node: NodeId, error: Error) {
        self.error = Some(error);
        self.set(node, OwnerState::Lost);
    }

    /// Why the operation cannot go on: `what` was not reached, and the last reason for it.
    pub fn failure(&mut self, what: &str) -> Error {
        match self.error.take() {
            Some(error) => Error::new(error.kind(), format!("{what}: {}", error.message())),
            None => Error::new(ErrorKind::Unavailable, format!("{what}: no owner answered")),
        }
    }

    /// Why the operation ends at its deadline: what an owner said, if all have said something,
    /// else that time is over.
    pub fn timeout(&mut self, what: &str) -> Error {
        if self.error.is_some() && !self.any_in_flight() {
            return self.failure(what);
        }
        Error::new(ErrorKind::Timeout, format!("{what} before its deadline"))
    }

    /// An owner did not do what was asked: it is asked again later if the verdict, the number of
    /// tries and, for what was sent, the retry budget allow it.
    fn failed(
        &mut self,
        core: &mut Core,
        (now, start): (Now, &Start),
        node: NodeId,
        (verdict, was_sent): (Verdict, bool),
    ) {
        let Some(owner) = self.get_mut(node) else {
            return;
        };
        // One change of the ring makes all owners refuse all that is under way, and none of them is
        // in trouble: what is asked again under the new view is no retry.
        let (after, is_retry) = match verdict {
            Verdict::Lost => (None, false),
            Verdict::Again(after) => (Some(after), was_sent),
            Verdict::Refresh => (Some(None), false),
        };
        owner.state = match after {
            Some(after) if owner.tries < TRIES_MAX && (!is_retry || core.retries.spend()) => {
                OwnerState::Waiting {
                    until_ms: now.mono_ms + backoff_ms(&start.op, owner.tries, after),
                }
            }
            Some(_) | None => OwnerState::Lost,
        };
    }

    fn note_absence(&mut self, node: NodeId, absent: bool) {
        if let Some(owner) = self.get_mut(node) {
            owner.absent = absent;
        }
    }

    /// Notes why an owner, or somebody in its place, did not do what was asked.
    pub fn note_error(&mut self, error: Error) {
        self.error = Some(error);
    }

    /// Owners that have not done what was asked and do not seem to be able to now, or have not
    /// answered for so long that they were marked slow. `impatient`: those that could not be
    /// reached once and are to be asked again among them, not only those that could not be twice.
    pub fn missing(&self, impatient: bool) -> impl Iterator<Item = NodeId> + '_ {
        let missing = move |owner: &&Owner| match owner.state {
            OwnerState::Lost => owner.absent,
            OwnerState::Waiting { .. } => owner.absent && (impatient || owner.tries > 1),
            OwnerState::InFlight { slow, .. } => slow,
            OwnerState::Idle | OwnerState::Done => false,
        };
        self.list.iter().filter(missing).map(|owner| owner.node)
    }

    /// Whether one of them refused for a newer view than it was asked under.
    pub fn want_view(&self, epoch: u64) -> bool {
        self.wanted_epoch > epoch
    }

    /// Whether this node is one of them.
    pub fn has(&self, node: NodeId) -> bool {
        self.is(node, |_| true)
    }

    /// Whether this owner did what was asked.
    pub fn is_done(&self, node: NodeId) -> bool {
        self.is(node, |state| state == OwnerState::Done)
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Owner> {
        self.list.iter()
    }

    /// One.
    fn get_mut(&mut self, node: NodeId) -> Option<&mut Owner> {
        self.list.iter_mut().find(|owner| owner.node == node)
    }

    /// Whether this owner's state is one for which `is` holds.
    pub fn is(&self, node: NodeId, is: impl Fn(OwnerState) -> bool) -> bool {
        self.list
            .iter()
            .any(|owner| owner.node == node && is(owner.state))
    }

    /// Whether this owner is waiting for an answer to this very message.
    pub fn expects(&self, node: NodeId, attempt: Attempt) -> bool {
        self.is(
            node,
            |state| matches!(state, OwnerState::InFlight { attempt: a, .. } if a == attempt),
        )
    }

    /// Whether an answer is outstanding.
    pub fn any_in_flight(&self) -> bool {
        self.list
            .iter()
            .any(|owner| matches!(owner.state, OwnerState::InFlight { .. }))
    }

    /// Whether an owner is to be asked again later.
    pub fn any_waiting(&self) -> bool {
        self.list
            .iter()
            .any(|owner| matches!(owner.state, OwnerState::Waiting { .. }))
    }

    /// The earliest time at which an owner is to be asked again.
    pub fn next_wake_ms(&self) -> Option<u64> {
        let until = |owner: &Owner| match owner.state {
            OwnerState::Waiting { until_ms } => Some(until_ms),
            OwnerState::Idle
            | OwnerState::InFlight { .. }
            | OwnerState::Done
            | OwnerState::Lost => None,
        };
        self.list.iter().filter_map(until).min()
    }

    /// Marks the owners slow that have not answered for `after_ms`, as they may have stopped, and
    /// says which are newly so.
    pub fn mark_slow(&mut self, now_ms: u64, after_ms: u64) -> SmallVec<[NodeId; 3]> {
        let mut newly = SmallVec::new();
        for owner in &mut self.list {
            if let OwnerState::InFlight {
                since_ms,
                slow,
                overdue,
                ..
            } = &mut owner.state
                && !*overdue
                && *since_ms + after_ms <= now_ms
            {
                (*slow, *overdue) = (true, true);
                newly.push(owner.node);
            }
        }
        newly
    }

    /// Marks those slow of which `is_late` holds, given when they were asked.
    pub fn set_aside(&mut self, is_late: impl Fn(u64) -> bool) {
        for owner in &mut self.list {
            if let OwnerState::InFlight { since_ms, slow, .. } = &mut owner.state {
                *slow |= is_late(*since_ms);
            }
        }
    }

    /// The earliest time at which an owner is to be marked slow.
    pub fn next_slow_ms(&self, after_ms: u64) -> Option<u64> {
        let at = |owner: &Owner| match owner.state {
            OwnerState::InFlight {
                since_ms,
                overdue: false,
                ..
            } => Some(since_ms + after_ms),
            OwnerState::InFlight { overdue: true, .. }
            | OwnerState::Idle
            | OwnerState::Waiting { .. }
            | OwnerState::Done
            | OwnerState::Lost => None,
        };
        self.list.iter().filter_map(at).min()
    }

    /// When the first of those was asked that have not answered and are not slow.
    pub fn first_sent_ms(&self) -> Option<u64> {
        let at = |owner: &Owner| match owner.state {
            OwnerState::InFlight {
                since_ms,
                slow: false,
                ..
            } => Some(since_ms),
            OwnerState::InFlight { slow: true, .. }
            | OwnerState::Idle
            | OwnerState::Waiting { .. }
            | OwnerState::Done
            | OwnerState::Lost => None,
        };
        self.list.iter().filter_map(at).min()
    }

    /// Messages that have no answer yet.
    pub fn outstanding(&self) -> impl Iterator<Item = (NodeId, Attempt)> + '_ {
        self.list.iter().filter_map(|owner| match owner.state {
            OwnerState::InFlight { attempt, .. } => Some((owner.node, attempt)),
            OwnerState::Idle | OwnerState::Waiting { .. } | OwnerState::Done | OwnerState::Lost => {
                None
            }
        })
    }

    /// Owners whose waiting is over.
    pub fn due(&self, now_ms: u64) -> SmallVec<[NodeId; 3]> {
        let due = |owner: &&Owner| match owner.state {
            OwnerState::Waiting { until_ms } => until_ms <= now_ms,
            OwnerState::Idle
            | OwnerState::InFlight { .. }
            | OwnerState::Done
            | OwnerState::Lost => false,
        };
        self.list
            .iter()
            .filter(due)
            .map(|owner| owner.node)
            .collect()
    }
}

/// What to do about an owner that did not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Ask it again, not before so many milliseconds if it named a time.
    Again(Option<u32>),
    /// Get a newer view, then start over.
    Refresh,
    /// Leave it.
    Lost,
}

/// Sorts a refusal.
#[deny(clippy::wildcard_enum_match_arm)]
fn judge_refusal(refusal: &Refusal) -> Verdict {
    match refusal.kind {
        RefusalKind::StaleEpoch | RefusalKind::NotOwner | RefusalKind::UnknownBucket => {
            Verdict::Refresh
        }
        // The server will catch up, drain or restart.
        RefusalKind::Behind | RefusalKind::Overloaded | RefusalKind::Stopping => {
            Verdict::Again(refusal.retry_after_ms)
        }
        // It waited too long in a queue; there is a little time left, or the deadline ends it.
        RefusalKind::TooLate => Verdict::Again(None),
        // An operation has one stamp for life: refused once, another attempt cannot succeed.
        RefusalKind::SkewedClock
        | RefusalKind::Conflict
        | RefusalKind::WrongMode
        | RefusalKind::TooLarge
        | RefusalKind::BadChecksum
        | RefusalKind::Damaged
        | RefusalKind::Contradiction
        | RefusalKind::Full
        | RefusalKind::Unsupported
        | RefusalKind::Other => Verdict::Lost,
    }
}

/// Whether a refusal says that the server cannot do it now, and not that it never will.
#[deny(clippy::wildcard_enum_match_arm)]
fn is_passing(kind: RefusalKind) -> bool {
    match kind {
        RefusalKind::Behind
        | RefusalKind::Damaged
        | RefusalKind::Overloaded
        | RefusalKind::Full
        | RefusalKind::TooLate
        | RefusalKind::Stopping => true,
        RefusalKind::StaleEpoch
        | RefusalKind::NotOwner
        | RefusalKind::UnknownBucket
        | RefusalKind::WrongMode
        | RefusalKind::SkewedClock
        | RefusalKind::TooLarge
        | RefusalKind::BadChecksum
        | RefusalKind::Conflict
        | RefusalKind::Contradiction
        | RefusalKind::Unsupported
        | RefusalKind::Other => false,
    }
}

/// Whether a failure says that the server could not be reached or has too much to do.
fn is_absence(failure: &SendFailure) -> bool {
    match failure {
        SendFailure::NotSent(_) | SendFailure::Unanswered(_) => true,
        SendFailure::Rejected(error, _) => error.is_retryable(),
    }
}

/// Sorts a failure to get any answer.
fn judge_failure(failure: &SendFailure) -> Verdict {
    match failure {
        SendFailure::NotSent(_) | SendFailure::Unanswered(_) => Verdict::Again(None),
        SendFailure::Rejected(error, after) if error.is_retryable() => Verdict::Again(*after),
        SendFailure::Rejected(..) => Verdict::Lost,
    }
}

/// The public error that a refusal becomes when it decides an operation.
pub(super) fn refusal_error(node: NodeId, refusal: &Refusal) -> Error {
    let kind = match refusal.kind {
        RefusalKind::UnknownBucket | RefusalKind::WrongMode | RefusalKind::TooLarge => {
            ErrorKind::InvalidInput
        }
        RefusalKind::Conflict => ErrorKind::Conflict,
        RefusalKind::Overloaded | RefusalKind::Full => ErrorKind::Overloaded,
        RefusalKind::TooLate => ErrorKind::Timeout,
        RefusalKind::StaleEpoch
        | RefusalKind::Behind
        | RefusalKind::NotOwner
        | RefusalKind::SkewedClock
        | RefusalKind::Damaged
        | RefusalKind::Stopping => ErrorKind::Unavailable,
        RefusalKind::BadChecksum
        | RefusalKind::Contradiction
        | RefusalKind::Unsupported
        | RefusalKind::Other => ErrorKind::Internal,
    };
    Error::new(kind, format!("server {node}: {}", refusal.message))
}

/// The public error that a failure becomes when it decides an operation.
pub(super) fn failure_error(node: NodeId, failure: &SendFailure) -> Error {
    match failure {
        SendFailure::NotSent(why) => Error::new(
            ErrorKind::Unavailable,
            format!("server {node} cannot be reached: {why}"),
        ),
        SendFailure::Unanswered(why) => Error::new(
            ErrorKind::Unavailable,
            format!("server {node} did not answer: {why}"),
        ),
        SendFailure::Rejected(error, _) => error.clone(),
    }
}
