//! How results reach an event loop. Threads of the core push them to a list and wake the loop
//! through a socket that it watches, which needs no lock of the interpreter; the loop takes all
//! that are there at once.

use crate::errors::{exception, raised};
use crate::operation::{Answer, Work};
use annulet::facade::{self, Call, Completions};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use slab::Slab;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The ports of this process by their event loops.
static PORTS: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
/// `asyncio.get_running_loop`.
static GET_RUNNING_LOOP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Where the results for one event loop arrive.
#[pyclass(frozen, module = "annulet._annulet")]
pub(crate) struct Port {
    create_future: Py<PyAny>,
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
    /// The port of the event loop that runs in this thread.
    pub(crate) fn of_running_loop(py: Python<'_>) -> PyResult<Bound<'_, Self>> {
        let running = GET_RUNNING_LOOP
            .import(py, "asyncio", "get_running_loop")?
            .call0()?;
        let ports = PORTS.get_or_init(py, || PyDict::new(py).unbind()).bind(py);
        if let Some(port) = ports.get_item(&running)? {
            return Ok(port.cast_into::<Self>()?);
        }
        // Loops that were closed need theirs no more.
        for known in ports.keys() {
            if known.call_method0(intern!(py, "is_closed"))?.is_truthy()? {
                ports.del_item(&known)?;
            }
        }
        let port = Self::open(py, &running)?;
        ports.set_item(&running, &port)?;
        Ok(port)
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
            create_future: event_loop.getattr("create_future")?.unbind(),
            waiting: Mutex::default(),
            completions: Arc::new(Completions::new(wake)),
            woken,
        };
        let port = Bound::new(py, port)?;
        let descriptor = port.get().woken.as_raw_fd();
        event_loop.call_method1("add_reader", (descriptor, port.getattr("deliver")?))?;
        Ok(port)
    }

    /// Lets an operation run whose result goes to the future.
    pub(crate) fn begin<'py>(
        &self,
        py: Python<'py>,
        work: Work,
    ) -> PyResult<(Bound<'py, PyAny>, Call)> {
        let future = self.create_future.bind(py).call0()?;
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
        let failed = match completed.result {
            Ok(answer) => match answer(py) {
                Ok(value) => {
                    future.call_method1(intern!(py, "set_result"), (value,))?;
                    return Ok(());
                }
                Err(error) => error.into_value(py).into_any().into_bound(py),
            },
            Err(error) => exception(py, &error)?,
        };
        future.call_method1(intern!(py, "set_exception"), (failed,))?;
        Ok(())
    }
}

#[pymethods]
impl Port {
    /// Called by the event loop when there are results.
    fn deliver(&self, py: Python<'_>) -> PyResult<()> {
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
