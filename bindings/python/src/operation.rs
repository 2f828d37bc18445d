//! A call that was made, and how it is let run.

use crate::errors::raised;
use crate::port::Port;
use crate::values::Show;
use annulet::facade::{self, Call};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What came of an operation, still to be made a value of Python.
pub(crate) type Answer =
    Box<dyn for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyAny>> + Send>;
/// The work of an operation.
pub(crate) type Work = Pin<Box<dyn Future<Output = annulet::Result<Answer>> + Send>>;

/// A call that was made. Nothing of it is done before it is let run.
#[pyclass(frozen, module = "annulet._annulet")]
pub(crate) struct Operation {
    state: Mutex<State>,
}

enum State {
    Ready(Work),
    Running(Call),
    Taken,
}

impl Operation {
    pub(crate) fn new<T: Show>(
        work: impl Future<Output = annulet::Result<T>> + Send + 'static,
    ) -> Self {
        let work = async move {
            let done = work.await?;
            let answer: Answer = Box::new(move |py| done.show(py));
            Ok(answer)
        };
        Self {
            state: Mutex::new(State::Ready(Box::pin(work))),
        }
    }

    /// It is held for a moment, in which nothing of Python runs, so nobody waits for it who has
    /// the interpreter's lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> PyResult<Work> {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Ready(work) => Ok(work),
            other => {
                *state = other;
                Err(PyRuntimeError::new_err("the operation was begun before"))
            }
        }
    }
}

#[pymethods]
impl Operation {
    /// Lets it run and gives the future of the running event loop that gets its result.
    fn begin<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (event_loop, port) = Port::of_running_loop(py)?;
        let (future, call) = port.get().begin(&event_loop, self.take()?)?;
        *self.lock() = State::Running(call);
        Ok(future)
    }

    /// Gives it up, unless it is over.
    fn cancel(&self) {
        if let State::Running(call) = &*self.lock() {
            call.cancel();
        }
    }

    /// Lets it run and waits for its result. Signals are heeded meanwhile, and raise as usual.
    fn wait<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let work = self.take()?;
        let mut interrupted = None;
        let heed = || {
            Python::attach(|py| match py.check_signals() {
                Ok(()) => true,
                Err(raised) => {
                    interrupted = Some(raised);
                    false
                }
            })
        };
        let result = py.detach(|| facade::wait(work, heed));
        match (result, interrupted) {
            (Some(Ok(answer)), _) => answer(py),
            (Some(Err(error)), _) => Err(raised(py, &error)),
            (None, Some(interrupted)) => Err(interrupted),
            (None, None) => Err(PyRuntimeError::new_err("the operation was given up")),
        }
    }
}
