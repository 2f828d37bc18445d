//! What Python gives: keys, values, durations, moments.

use bytes::Bytes;
use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyMemoryView, PyString};

/// From so many bytes on a value is borrowed from Python until it is sent, and not copied.
const BORROWED_BYTES: usize = 16 << 10;

/// A key: `str`, which stands for its UTF-8, or anything like `bytes`.
pub(crate) struct Key(pub(crate) Bytes);

/// A value: anything like `bytes`.
pub(crate) struct Value(pub(crate) Bytes);

/// A duration, in milliseconds; Python gives seconds, or a `timedelta`.
#[derive(Clone, Copy)]
pub(crate) struct Milliseconds(pub(crate) f64);

/// A moment, in milliseconds since the Unix epoch; Python gives seconds, or a `datetime`.
#[derive(Clone, Copy)]
pub(crate) struct Moment(pub(crate) f64);

impl<'py> FromPyObject<'_, 'py> for Key {
    type Error = PyErr;

    fn extract(given: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(text) = given.cast::<PyString>() {
            return Ok(Self(Bytes::copy_from_slice(text.to_str()?.as_bytes())));
        }
        match given.cast::<PyBytes>() {
            Ok(bytes) => Ok(Self(Bytes::copy_from_slice(bytes.as_bytes()))),
            Err(_) => Ok(Self(viewed(&given, "a key is str or bytes-like")?)),
        }
    }
}

impl<'py> FromPyObject<'_, 'py> for Value {
    type Error = PyErr;

    fn extract(given: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let Ok(bytes) = given.cast::<PyBytes>() else {
            return Ok(Self(viewed(&given, "a value is bytes-like")?));
        };
        let long = bytes.as_bytes().len() >= BORROWED_BYTES;
        Ok(Self(match long {
            true => Bytes::from_owner(PyBackedBytes::from(bytes.to_owned())),
            false => Bytes::copy_from_slice(bytes.as_bytes()),
        }))
    }
}

/// A copy of what something like `bytes` holds now.
fn viewed(given: &Bound<'_, PyAny>, expected: &str) -> PyResult<Bytes> {
    let py = given.py();
    let wrong = || {
        let hint = match given.is_instance_of::<PyString>() {
            true => ": encode it first",
            false => "",
        };
        let name = given.get_type().name().map(|name| name.to_string());
        let name = name.unwrap_or_else(|_| "something else".into());
        PyTypeError::new_err(format!("{expected}, not {name}{hint}"))
    };
    let view = match PyMemoryView::from(given) {
        Ok(view) => view,
        Err(error) if error.is_instance_of::<PyBufferError>(py) => return Err(error),
        Err(_) => return Err(wrong()),
    };
    let copy = view.call_method0(intern!(py, "tobytes"))?;
    Ok(Bytes::copy_from_slice(copy.cast::<PyBytes>()?.as_bytes()))
}

impl<'py> FromPyObject<'_, 'py> for Milliseconds {
    type Error = PyErr;

    fn extract(given: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let what = "a duration is a number of seconds or a timedelta";
        seconds(&given, intern!(given.py(), "total_seconds"), what).map(Self)
    }
}

impl<'py> FromPyObject<'_, 'py> for Moment {
    type Error = PyErr;

    fn extract(given: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let what = "a moment is a number of seconds since 1970 or a datetime";
        seconds(&given, intern!(given.py(), "timestamp"), what).map(Self)
    }
}

/// Seconds as a number, or as what the method gives, in milliseconds.
fn seconds(given: &Bound<'_, PyAny>, method: &Bound<'_, PyString>, what: &str) -> PyResult<f64> {
    if let Ok(seconds) = given.extract::<f64>() {
        return Ok(seconds * 1e3);
    }
    match given.call_method0(method) {
        Ok(seconds) => Ok(seconds.extract::<f64>()? * 1e3),
        Err(_) => {
            let name = given.get_type().name()?;
            Err(PyTypeError::new_err(format!("{what}, not {name}")))
        }
    }
}
