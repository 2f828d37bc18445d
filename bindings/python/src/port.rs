//! How results reach an event loop. Threads of the core push them to a list and wake the loop
//! through a socket that it watches, which needs no lock of the interpreter; the loop takes all
//! that are there at once.

use crate::errors::raised;
use crate::operation::{Answer, Work};
use annulet::facade::{self, Call, Completions};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};
use pyo3::{PyTraverseError, PyVisit};
use slab::Slab;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Weak references to ports by their event loops, which keep them: a loop that goes takes its own
/// along.
static PORTS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
/// `asyncio.get_running_loop`.
static GET_RUNNING_LOOP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
/// `contextvars.Context`.
static CONTEXT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Where the results for one event loop arrive.
#[pyclass(frozen, weakref, module = "annulet._annulet")]
pub(crate) struct Port {
    /// The process that it belongs to.
    process: u32,
    /// Futures of operations that run, so that no thread of the core holds anything of Python's.
    waiting: Mutex<Slab<Py<PyAny>>>,
    completions: Arc<Completions<Completed>>,
    /// The end that the loop watches.
    woken: UnixStream,
}

struct Completed {
    /// The future's place.
    place: usize,
    result: annulet::Result<Answer>,
}

impl Port {
    /// The event loop that runs in this thread, and its port.
    pub(crate) fn of_running_loop(py: Python<'_>) -> PyResult<(Bound<'_, PyAny>, Bound<'_, Self>)> {
        let running = GET_RUNNING_LOOP
            .import(py, "asyncio", "get_running_loop")?
            .call0()?;
        let ports = PORTS.get_or_try_init(py, || {
            let weak = py.import("weakref")?.getattr("WeakKeyDictionary")?;
            weak.call0().map(Bound::unbind)
        })?;
        let ports = ports.bind(py);
        let known = ports.call_method1(intern!(py, "get"), (&running,))?;
        if let Ok(known) = known.cast::<PyWeakrefReference>()
            && let Some(port) = known.upgrade_as::<Self>()?
        {
            port.get().check_process(py)?;
            return Ok((running, port));
        }
        let port = Self::open(py, &running)?;
        ports.set_item(&running, PyWeakrefReference::new(&port)?)?;
        Ok((running, port))
    }

    /// A loop that goes on in a forked process shares what it watches with its parent's.
    fn check_process(&self, py: Python<'_>) -> PyResult<()> {
        if self.process == std::process::id() {
            return Ok(());
        }
        let why = "this event loop ran before the process was forked: make a new one in the child, \
                   as `asyncio.run` does, and connect there";
        Err(raised(
            py,
            &annulet::Error::new(annulet::ErrorKind::Closed, why),
        ))
    }

    fn open<'py>(py: Python<'py>, event_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        let (woken, waker) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        waker.set_nonblocking(true)?;
        let wake = move || {
            // If the loop is closed nobody waits; a full socket wakes it as well.
            let _ = (&waker).write(&[1]);
        };
        let port = Self {
            process: std::process::id(),
            waiting: Mutex::default(),
            completions: Arc::new(Completions::new(wake)),
            woken,
        };
        let port = Bound::new(py, port)?;
        let descriptor = port.get().woken.as_raw_fd();
        // In a context of its own, or the loop would keep that of the first caller.
        let context = CONTEXT.import(py, "contextvars", "Context")?.call0()?;
        let add_reader = event_loop.getattr(intern!(py, "add_reader"))?;
        let deliver = port.getattr(intern!(py, "deliver"))?;
        context.call_method1(intern!(py, "run"), (add_reader, descriptor, deliver))?;
        Ok(port)
    }

    /// Lets an operation run whose result goes to the future.
    pub(crate) fn begin<'py>(
        &self,
        event_loop: &Bound<'py, PyAny>,
        work: Work,
    ) -> PyResult<(Bound<'py, PyAny>, Call)> {
        let py = event_loop.py();
        let future = event_loop.call_method0(intern!(py, "create_future"))?;
        let kept = future.clone().unbind();
        let place = self.waiting().insert(kept);
        let completions = Arc::clone(&self.completions);
        let tell = move |result| completions.push(Completed { place, result });
        match facade::begin(work, tell) {
            Ok(call) => Ok((future, call)),
            Err(error) => {
                // Not in one expression: the future goes when the lock is free again.
                let waiting = self.waiting().try_remove(place);
                drop(waiting);
                Err(raised(py, &error))
            }
        }
    }

    /// It is held for a moment, in which nothing of Python runs, so nobody waits for it who has
    /// the interpreter's lock.
    fn waiting(&self) -> MutexGuard<'_, Slab<Py<PyAny>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a future its result, unless nobody wants it any more.
    fn settle(&self, py: Python<'_>, completed: Completed) -> PyResult<()> {
        let waiting = self.waiting().try_remove(completed.place);
        let Some(future) = waiting else {
            return Ok(());
        };
        let future = future.bind(py);
        if future.call_method0(intern!(py, "done"))?.is_truthy()? {
            return Ok(());
        }
        let shown = match completed.result {
            Ok(answer) => answer(py),
            Err(error) => Err(raised(py, &error)),
        };
        match shown {
            Ok(value) => future.call_method1(intern!(py, "set_result"), (value,))?,
            Err(error) => {
                let error = error.into_value(py);
                future.call_method1(intern!(py, "set_exception"), (error,))?
            }
        };
        Ok(())
    }
}

#[pymethods]
impl Port {
    /// For the garbage collector: futures know their loop, which knows this.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Nobody holds it while the collector runs.
        let Ok(waiting) = self.waiting.try_lock() else {
            return Ok(());
        };
        waiting
            .iter()
            .try_for_each(|(_, future)| visit.call(future))
    }

    fn __clear__(&self) {
        let waiting = std::mem::take(&mut *self.waiting());
        drop(waiting);
    }

    /// Called by the event loop when there are results.
    fn deliver(&self, py: Python<'_>) -> PyResult<()> {
        // What a forked process would read here is its parent's.
        if self.process != std::process::id() {
            return Ok(());
        }
        // What is pushed from here on wakes the loop again.
        let mut woken = [0; 16];
        match (&self.woken).read(&mut woken) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        let mut completed = Vec::new();
        self.completions.take(&mut completed);
        let mut result = Ok(());
        for one in completed {
            // One future that takes no result must not keep the others from theirs.
            result = result.and(self.settle(py, one));
        }
        result
    }
}
