//! What Python gives: keys, values, durations, moments.

use bytes::Bytes;
use pyo3::exceptions::{PyBufferError, PyOverflowError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView, PyString};

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
        // A copy also where it is long: threads of the core would hold what is Python's, and a
        // process that is forked meanwhile could not let go of it.
        match given.cast::<PyBytes>() {
            Ok(bytes) => Ok(Self(Bytes::copy_from_slice(bytes.as_bytes()))),
            Err(_) => Ok(Self(viewed(&given, "a value is bytes-like")?)),
        }
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
    let py = given.py();
    match given.extract::<f64>() {
        Ok(seconds) => return Ok(seconds * 1e3),
        Err(error) if error.is_instance_of::<PyTypeError>(py) => {}
        // A number, but of no use.
        Err(error) => return Err(error),
    }
    let Some(method) = given.getattr_opt(method)? else {
        let name = given.get_type().name()?;
        return Err(PyTypeError::new_err(format!("{what}, not {name}")));
    };
    Ok(method.call0()?.extract::<f64>()? * 1e3)
}

/// A whole number; one that no computer counts to is as large as there is.
#[derive(Clone, Copy)]
pub(crate) struct Whole(pub(crate) i64);

impl<'py> FromPyObject<'_, 'py> for Whole {
    type Error = PyErr;

    fn extract(given: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match given.extract::<i64>() {
            Ok(number) => Ok(Self(number)),
            Err(error) if error.is_instance_of::<PyOverflowError>(given.py()) => {
                let negative = given.lt(0)?;
                Ok(Self(if negative { i64::MIN } else { i64::MAX }))
            }
            Err(error) => Err(error),
        }
    }
}
