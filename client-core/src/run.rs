//! Runs coordinators: each operation is a cell that answers, timers and views come to, and that
//! says what it wants done.

use crate::core::client::{Core, Now};
use crate::core::{Attempt, Coordinator, Effect, Effects, Response};
use crate::error::{Error, ErrorKind, Result};
use crate::net::lane::Pending;
use crate::shared::Shared;
use annulet_protocol::ids::NodeId;
use annulet_protocol::view::View;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::oneshot;
use tracing::{Instrument, Span};

/// What an operation wants done.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every one is a message, and is moved once"
)]
pub(crate) enum Out {
    /// Send this.
    Send(Pending),
    /// The answer to this message of the operation is of no use any more.
    Cancel(NodeId, Attempt, Arc<dyn Target>),
    /// Get a view of this epoch and tell the operation.
    NeedView(u64, Arc<dyn Target>),
    /// Wake the operation at this monotonic millisecond.
    Wake(u64, Sleeper),
}

/// An operation that is to be woken.
#[derive(Clone)]
pub(crate) enum Sleeper {
    /// The messages under way keep it. If they are answered first, there may be nothing left to
    /// wake, and nothing left of what it held.
    Kept(Weak<dyn Target>),
    /// Nothing else keeps it.
    Idle(Arc<dyn Target>),
}

impl Sleeper {
    /// The operation, if there still is one.
    pub(crate) fn target(self) -> Option<Arc<dyn Target>> {
        match self {
            Self::Kept(target) => target.upgrade(),
            Self::Idle(target) => Some(target),
        }
    }
}

impl std::fmt::Debug for Sleeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Kept(_) => "Kept",
            Self::Idle(_) => "Idle",
        })
    }
}

/// An operation, whatever its kind.
pub(crate) trait Target: std::marker::Send + Sync {
    fn respond(
        self: Arc<Self>,
        core: &mut Core,
        now: Now,
        from: (NodeId, Attempt),
        epoch: Option<u64>,
        response: Response,
        out: &mut Vec<Out>,
    );
    fn view(self: Arc<Self>, core: &mut Core, now: Now, view: &Arc<View>, out: &mut Vec<Out>);
    fn wake(self: Arc<Self>, core: &mut Core, now: Now, out: &mut Vec<Out>);
    fn hurry(self: Arc<Self>, core: &mut Core, now: Now, out: &mut Vec<Out>);
    /// Whether a message of it that has not been sent yet should be.
    fn is_waiting(&self, now_ms: u64, node: NodeId, attempt: Attempt) -> bool;
}

struct Cell<C: Coordinator> {
    state: Mutex<State<C>>,
    deadline_ms: u64,
}

struct State<C: Coordinator> {
    machine: C,
    done: Option<oneshot::Sender<Result<C::Done>>>,
    /// The earliest wake-up that is under way.
    armed_ms: u64,
    /// Whether something keeps the operation until then, messages under way apart: its caller, or
    /// who wakes it.
    is_kept: bool,
}

impl<C> Cell<C>
where
    C: Coordinator + std::marker::Send + 'static,
    C::Done: std::marker::Send,
{
    /// A coordinator that panicked is not called again, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a call of the coordinator gave back.
    fn settle(
        self: &Arc<Self>,
        state: &mut State<C>,
        effects: Effects<C::Done>,
        out: &mut Vec<Out>,
    ) {
        for effect in effects {
            match effect {
                Effect::Send(send) => {
                    let target = Arc::clone(self) as Arc<dyn Target>;
                    out.push(Out::Send(Pending { send, target }));
                }
                Effect::Cancel(node, attempt) => {
                    let target = Arc::clone(self) as Arc<dyn Target>;
                    out.push(Out::Cancel(node, attempt, target));
                }
                Effect::NeedView(epoch) => {
                    out.push(Out::NeedView(epoch, Arc::clone(self) as Arc<dyn Target>));
                }
                Effect::Complete(result) => {
                    if let Some(done) = state.done.take() {
                        // Nobody waits any more: the result is nobody's business.
                        let _ = done.send(result);
                    }
                }
            }
        }
        // At the deadline a caller that waits wakes it, and a lane gives up what nobody answered.
        let Some(wake_ms) = state.machine.next_wake_ms() else {
            return;
        };
        let idle = !state.is_kept && state.machine.is_idle();
        if wake_ms < self.deadline_ms && (wake_ms < state.armed_ms || idle) {
            state.armed_ms = wake_ms;
            state.is_kept |= idle;
            let target = Arc::clone(self) as Arc<dyn Target>;
            let sleeper = match idle {
                true => Sleeper::Idle(target),
                false => Sleeper::Kept(Arc::downgrade(&target)),
            };
            out.push(Out::Wake(wake_ms, sleeper));
        }
    }
}

impl<C> Target for Cell<C>
where
    C: Coordinator + std::marker::Send + 'static,
    C::Done: std::marker::Send,
{
    fn respond(
        self: Arc<Self>,
        core: &mut Core,
        now: Now,
        from: (NodeId, Attempt),
        epoch: Option<u64>,
        response: Response,
        out: &mut Vec<Out>,
    ) {
        let mut state = self.lock();
        let effects = state
            .machine
            .handle_response(core, now, from, epoch, response);
        self.settle(&mut state, effects, out);
    }

    fn view(self: Arc<Self>, core: &mut Core, now: Now, view: &Arc<View>, out: &mut Vec<Out>) {
        let mut state = self.lock();
        let effects = state.machine.handle_view(core, now, view);
        self.settle(&mut state, effects, out);
    }

    fn wake(self: Arc<Self>, core: &mut Core, now: Now, out: &mut Vec<Out>) {
        let mut state = self.lock();
        state.armed_ms = u64::MAX;
        state.is_kept = state.done.is_some();
        let effects = state.machine.handle_timer(core, now);
        self.settle(&mut state, effects, out);
    }

    fn hurry(self: Arc<Self>, core: &mut Core, now: Now, out: &mut Vec<Out>) {
        let mut state = self.lock();
        let effects = state.machine.hurry(core, now);
        self.settle(&mut state, effects, out);
    }

    fn is_waiting(&self, now_ms: u64, node: NodeId, attempt: Attempt) -> bool {
        now_ms < self.deadline_ms && self.lock().machine.awaits(node, attempt)
    }
}

/// Runs an operation to its result. What it has left to do then goes on in the background. If the
/// returned future is dropped, the operation is cancelled: what was sent was sent.
///
/// The operation is begun here and not by the first poll: what is awaited is a handle of it, and
/// not itself, which is large and would be moved with every future around it.
pub(crate) fn run<C>(
    span: Span,
    shared: &Arc<Shared>,
    machine: C,
    deadline_ms: u64,
) -> impl Future<Output = Result<C::Done>> + std::marker::Send + use<C>
where
    C: Coordinator + std::marker::Send + 'static,
    C::Done: std::marker::Send,
{
    let (done, result) = oneshot::channel();
    let state = State {
        machine,
        done: Some(done),
        armed_ms: 0,
        is_kept: true,
    };
    let attended = Attended {
        cell: Arc::new(Cell {
            state: Mutex::new(state),
            deadline_ms,
        }),
        shared: Arc::clone(shared),
        over: false,
    };
    span.in_scope(|| attended.start());
    wait(attended, result).instrument(span)
}

async fn wait<C>(
    mut attended: Attended<C>,
    mut result: oneshot::Receiver<Result<C::Done>>,
) -> Result<C::Done>
where
    C: Coordinator + std::marker::Send + 'static,
    C::Done: std::marker::Send,
{
    loop {
        let wake_ms = attended.arm();
        tokio::select! {
            biased;
            done = &mut result => {
                attended.over = true;
                let lost = |_| Err(Error::new(ErrorKind::Internal, "an operation was lost"));
                return done.unwrap_or_else(lost);
            }
            () = tokio::time::sleep_until(attended.shared.clock.instant(wake_ms)) => {
                let target = Arc::clone(&attended.cell) as Arc<dyn Target>;
                attended.shared.wake(target);
            }
        }
    }
}

/// An operation whose caller waits.
struct Attended<C: Coordinator + std::marker::Send + 'static>
where
    C::Done: std::marker::Send,
{
    cell: Arc<Cell<C>>,
    shared: Arc<Shared>,
    over: bool,
}

impl<C: Coordinator + std::marker::Send + 'static> Attended<C>
where
    C::Done: std::marker::Send,
{
    fn start(&self) {
        let mut out = Vec::new();
        {
            let now = self.shared.clock.now();
            let mut core = self.shared.core();
            let mut state = self.cell.lock();
            let effects = state.machine.start(&mut core, now);
            self.cell.settle(&mut state, effects, &mut out);
        }
        self.shared.carry_out(out);
    }

    /// The caller's own timer serves as the operation's: no task is needed for it.
    fn arm(&self) -> u64 {
        let mut state = self.cell.lock();
        let wake_ms = state
            .machine
            .next_wake_ms()
            .unwrap_or(self.cell.deadline_ms);
        state.armed_ms = wake_ms;
        wake_ms
    }
}

impl<C: Coordinator + std::marker::Send + 'static> Drop for Attended<C>
where
    C::Done: std::marker::Send,
{
    fn drop(&mut self) {
        let mut out = Vec::new();
        let mut state = self.cell.lock();
        if self.over {
            // From here on nobody's timer serves the operation but its own.
            state.armed_ms = u64::MAX;
            state.is_kept = false;
            self.cell.settle(&mut state, Effects::new(), &mut out);
        } else {
            state.machine.cancel();
        }
        drop(state);
        self.shared.carry_out(out);
    }
}
