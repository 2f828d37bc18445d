//! Where the operations of other languages run: one runtime for all clients of a process.
//!
//! A process that was forked has none of its parent's threads: it gets a runtime of its own, and
//! whatever belonged to the parent's is left alone, since any lock of it may have been held by a
//! thread that is not there.

use super::completions::Completions;
use crate::error::{Error, ErrorKind, Result};
use arc_swap::ArcSwapOption;
use futures_util::FutureExt;
use futures_util::future::{AbortHandle, abortable};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Threads of the runtime. One manages more operations a second than another language begins, and
/// what it does alone need not be handed from one to another.
const THREADS: usize = 1;
/// How often a caller that waits is asked whether it still wants to.
const LOOK: Duration = Duration::from_millis(50);

/// The runtime of this process. No lock guards it: one could be held at a fork.
static RUNTIME: ArcSwapOption<Owned> = ArcSwapOption::const_empty();

struct Owned {
    /// The process that it belongs to.
    process: u32,
    runtime: Runtime,
    /// Operations that were begun by threads that are not the runtime's. To wake one of its threads
    /// for each costs more than most of them do: it is woken for the first, and takes all that are
    /// there.
    begun: Arc<Completions<Begun>>,
}

/// An operation, up to the call of whom it is done for.
type Begun = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The runtime of this process, made if there is none.
fn current() -> Result<Arc<Owned>> {
    let process = std::process::id();
    loop {
        let found = RUNTIME.load_full();
        if let Some(owned) = &found {
            if owned.process == process {
                return Ok(Arc::clone(owned));
            }
            // The parent's: ending it would wait for threads that are not there.
            std::mem::forget(Arc::clone(owned));
        }
        let owned = Some(Arc::new(Owned::new(process, build()?)));
        // Another thread may have been faster: then this one goes again.
        RUNTIME.compare_and_swap(&found, owned);
    }
}

impl Owned {
    fn new(process: u32, runtime: Runtime) -> Self {
        let is_waiting = Arc::new(Notify::new());
        let wake = Arc::clone(&is_waiting);
        let begun = Arc::new(Completions::new(move || wake.notify_one()));
        let waiting = Arc::clone(&begun);
        runtime.spawn(async move {
            let mut taken = Vec::new();
            loop {
                is_waiting.notified().await;
                waiting.take(&mut taken);
                for operation in taken.drain(..) {
                    tokio::spawn(operation);
                }
            }
        });
        Self {
            process,
            runtime,
            begun,
        }
    }
}

/// A write to a connection that the other side has closed raises SIGPIPE, which ends the process
/// unless its runtime ignores it. Those of Rust, Python and Node do, that of Swift does not; and
/// what the process as a whole does is not ours to choose.
fn take_no_broken_pipe() {
    #[cfg(unix)]
    {
        use nix::sys::signal::{SigSet, Signal};
        // Only a signal that is none can be refused.
        let _ = SigSet::from(Signal::SIGPIPE).thread_block();
    }
}

fn build() -> Result<Runtime> {
    let built = Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("annulet")
        .on_thread_start(take_no_broken_pipe)
        .enable_all()
        .build();
    built.map_err(|error| {
        let why = format!("no threads for the client's work: {error}");
        Error::new(ErrorKind::Internal, why)
    })
}

/// An operation that was begun. Dropping it changes nothing.
#[derive(Clone, Debug)]
pub struct Call {
    /// The process that it runs in.
    process: u32,
    abort: AbortHandle,
}

impl Call {
    /// Gives the operation up: nothing more is sent for it, and whoever waits for it is told so,
    /// unless it was over. A write may have been applied all the same. In a process that was forked
    /// from the one that it runs in there is nothing to give up.
    pub fn cancel(&self) {
        if self.process == std::process::id() {
            self.abort.abort();
        }
    }
}

/// Lets an operation run and tells `done` what came of it, exactly once, on a thread of the
/// runtime: for languages that are called back.
///
/// # Errors
/// `Internal` if no thread can be started; `done` is not called then.
pub fn begin<T: Send + 'static>(
    operation: impl Future<Output = Result<T>> + Send + 'static,
    done: impl FnOnce(Result<T>) + Send + 'static,
) -> Result<Call> {
    let owned = current()?;
    let mut done = Done {
        tell: Some(done),
        result: Err(given_up()),
    };
    // What is around it is moved a few times, and it may be large.
    let (operation, abort) = abortable(unbroken(Box::pin(operation)));
    owned.begun.push(Box::pin(async move {
        if let Ok(result) = operation.await {
            done.note(result);
        }
    }));
    Ok(Call {
        process: owned.process,
        abort,
    })
}

/// Lets an operation run; the task is a future for whatever executor polls it: for languages that
/// await Rust.
///
/// # Errors
/// `Internal` if no thread can be started.
pub fn spawn<T: Send + 'static>(
    operation: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<Task<T>> {
    let owned = current()?;
    let (operation, abort) = abortable(unbroken(Box::pin(operation)));
    let operation = async { operation.await.unwrap_or_else(|_| Err(given_up())) };
    Ok(Task {
        process: owned.process,
        abort,
        handle: owned.runtime.spawn(operation),
    })
}

/// Lets an operation run and waits for it, for callers that block. From time to time `go_on` is
/// asked whether to wait on; if not, the operation is given up and the result is `None`. It may
/// itself wait for other operations.
///
/// # Errors
/// What the operation gives; `Internal` if no thread can be started.
///
/// It runs on the runtime and not on the caller's thread, whose timers would have to wake the
/// runtime as well.
pub fn wait<T: Send + 'static>(
    operation: impl Future<Output = Result<T>> + Send + 'static,
    mut go_on: impl FnMut() -> bool,
) -> Option<Result<T>> {
    let (tell, told) = mpsc::channel();
    let begun = begin(operation, move |result| {
        // A caller who has given up wants nothing more.
        tell.send(result).ok();
    });
    let call = match begun {
        Ok(call) => call,
        Err(error) => return Some(Err(error)),
    };
    loop {
        match told.recv_timeout(LOOK) {
            Ok(result) => return Some(result),
            Err(RecvTimeoutError::Timeout) if go_on() => {}
            Err(RecvTimeoutError::Timeout) => {
                call.cancel();
                return None;
            }
            Err(RecvTimeoutError::Disconnected) => return Some(Err(given_up())),
        }
    }
}

/// The operation; one that panics is an error of ours, and no other language's business.
async fn unbroken<T>(operation: impl Future<Output = Result<T>>) -> Result<T> {
    let result = AssertUnwindSafe(operation).catch_unwind().await;
    result.unwrap_or_else(|_| {
        let why = "a fault in an operation: report it, with what was printed";
        Err(Error::new(ErrorKind::Internal, why))
    })
}

/// An operation that runs, and its result once it is over. Dropping it gives the operation up.
#[derive(Debug)]
pub struct Task<T> {
    process: u32,
    abort: AbortHandle,
    handle: JoinHandle<Result<T>>,
}

impl<T> Task<T> {
    /// What gives the operation up.
    pub fn call(&self) -> Call {
        Call {
            process: self.process,
            abort: self.abort.clone(),
        }
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let joined = ready!(Pin::new(&mut self.handle).poll(context));
        Poll::Ready(joined.unwrap_or_else(|_| Err(given_up())))
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.call().cancel();
    }
}

/// Whom to tell the result, told when this is dropped: so also of an operation that was given up.
struct Done<T, F: FnOnce(Result<T>)> {
    tell: Option<F>,
    result: Result<T>,
}

impl<T, F: FnOnce(Result<T>)> Done<T, F> {
    fn note(&mut self, result: Result<T>) {
        self.result = result;
    }
}

impl<T, F: FnOnce(Result<T>)> Drop for Done<T, F> {
    fn drop(&mut self) {
        let result = std::mem::replace(&mut self.result, Err(given_up()));
        if let Some(tell) = self.tell.take() {
            tell(result);
        }
    }
}

fn given_up() -> Error {
    Error::new(ErrorKind::Closed, "the operation was given up")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// What a caller is told of an operation, after something is done to it.
    fn told(
        operation: impl Future<Output = Result<u32>> + Send + 'static,
        then: impl FnOnce(&Call),
    ) -> Result<u32> {
        let (sender, receiver) = mpsc::channel();
        let tell = move |result| sender.send(result).expect("the test waits");
        then(&begin(operation, tell).expect("it is begun"));
        let result = receiver.recv_timeout(PATIENCE).expect("it is told");
        let again = receiver.recv_timeout(PATIENCE);
        assert_eq!(again, Err(mpsc::RecvTimeoutError::Disconnected));
        result
    }

    #[test]
    fn whoever_is_called_back_is_told_once_whatever_happens() {
        assert_eq!(told(async { Ok(7) }, |_| ()), Ok(7));
        let error = Error::new(ErrorKind::Overloaded, "too much to do");
        let failing = error.clone();
        assert_eq!(told(async { Err(failing) }, |_| ()), Err(error));
        let never = std::future::pending();
        assert_eq!(told(never, Call::cancel), Err(given_up()));
        let twice = |call: &Call| {
            call.cancel();
            call.cancel();
        };
        assert_eq!(told(std::future::pending(), twice), Err(given_up()));
        let broken = async { panic!("a fault in an operation") };
        let kind = |result: Result<u32>| result.map_err(|error| error.kind());
        assert_eq!(kind(told(broken, |_| ())), Err(ErrorKind::Internal));
        let broken = async { panic!("a fault in an operation") };
        assert_eq!(
            wait(broken, || true).map(kind),
            Some(Err(ErrorKind::Internal))
        );
    }

    #[test]
    fn whoever_waits_is_asked_whether_to_go_on() {
        assert_eq!(wait(async { Ok(7) }, || false), Some(Ok(7)));
        let mut asked = 0;
        let go_on = || {
            asked += 1;
            asked < 3
        };
        assert_eq!(wait(std::future::pending::<Result<u32>>(), go_on), None);
        assert_eq!(asked, 3);
        let mut inner = None;
        let go_on = || {
            inner = wait(async { Ok(7) }, || true);
            false
        };
        assert_eq!(wait(std::future::pending::<Result<u32>>(), go_on), None);
        assert_eq!(inner, Some(Ok(7)));
    }

    #[cfg(unix)]
    #[test]
    fn a_broken_connection_ends_no_program() {
        use nix::sys::signal::{SigSet, Signal};
        let blocked = async {
            let here = SigSet::thread_get_mask().expect("a mask");
            let there = tokio::task::spawn_blocking(SigSet::thread_get_mask);
            let there = there.await.expect("it ends").expect("a mask");
            Ok([here, there].map(|mask| mask.contains(Signal::SIGPIPE)))
        };
        assert_eq!(wait(blocked, || true), Some(Ok([true, true])));
    }

    #[test]
    fn a_call_of_another_process_is_left_alone() {
        let (sender, receiver) = mpsc::channel();
        let held = async move {
            receiver.recv().ok();
            Ok(7)
        };
        let task = spawn(async {
            tokio::task::spawn_blocking(|| ()).await.ok();
            held.await
        });
        let task = task.expect("it is begun");
        let theirs = Call {
            process: task.process + 1,
            ..task.call()
        };
        theirs.cancel();
        sender.send(()).expect("it waits");
        assert_eq!(wait(task, || true), Some(Ok(7)));
    }

    #[test]
    fn a_task_gives_its_result_to_any_executor_and_ends_when_it_is_dropped() {
        let task = spawn(async { Ok(7) }).expect("it is begun");
        assert_eq!(wait(task, || true), Some(Ok(7)));
        let (sender, receiver) = mpsc::channel::<()>();
        let held = async move {
            let _sender = sender;
            std::future::pending::<Result<()>>().await
        };
        drop(spawn(held).expect("it is begun"));
        let ended = receiver.recv_timeout(PATIENCE);
        assert_eq!(ended, Err(mpsc::RecvTimeoutError::Disconnected));
        let never = spawn(std::future::pending::<Result<()>>()).expect("it is begun");
        never.call().cancel();
        assert_eq!(wait(never, || true), Some(Err(given_up())));
    }
}
