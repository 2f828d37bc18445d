//! Errors of the core as exceptions of the package, one class a kind.

use annulet::{Error, ErrorKind};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

/// The module that declares the classes.
static CLASSES: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

/// The exception that stands for an error.
pub(crate) fn exception<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    let classes =
        CLASSES.get_or_try_init(py, || py.import("annulet._errors").map(Bound::unbind))?;
    let classes = classes.bind(py);
    // A kind that a later core may have is `Internal` here.
    let class = classes.getattr(error.kind().as_str());
    let class = class.or_else(|_| classes.getattr(ErrorKind::Internal.as_str()))?;
    let parts = PyDict::new(py);
    parts.set_item("outcome", error.outcome().map(|outcome| outcome.as_str()))?;
    parts.set_item("retryable", error.is_retryable())?;
    parts.set_item("op_id", error.op_id().map(ToString::to_string))?;
    class.call((error.message(),), Some(&parts))
}

/// What is raised for an error.
pub(crate) fn raised(py: Python<'_>, error: &Error) -> PyErr {
    match exception(py, error) {
        Ok(exception) => PyErr::from_value(exception),
        Err(failed) => failed,
    }
}
