//! What Python gets: entries, and what became of writes.

use crate::errors::exception;
use annulet::facade;
use bytes::Bytes;
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

/// A result that Python can be shown.
pub(crate) trait Show: Send + 'static {
    /// As a value of Python.
    fn show<'py>(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>>;
}

/// A value that was found.
#[pyclass(frozen, get_all, module = "annulet")]
pub(crate) struct Entry {
    value: Py<PyBytes>,
    siblings: Py<PyList>,
    is_merged: bool,
    context: Py<PyBytes>,
    version: String,
    /// In seconds since the Unix epoch.
    expires_at: Option<f64>,
}

/// A write that was done.
#[pyclass(frozen, get_all, module = "annulet")]
pub(crate) struct Written {
    version: String,
    superseded: bool,
    context: Option<Py<PyBytes>>,
    siblings: usize,
}

/// A key that a scan found.
#[pyclass(frozen, get_all, module = "annulet")]
pub(crate) struct ScanEntry {
    key: Py<PyBytes>,
    value: Option<Py<PyBytes>>,
    version: String,
    expires_at: Option<f64>,
}

/// A bucket of a cluster.
#[pyclass(frozen, get_all, module = "annulet")]
pub(crate) struct BucketPolicy {
    name: String,
    mode: String,
    replicas: u8,
    durability: String,
    read_level: String,
    write_level: String,
    /// In seconds.
    ttl: Option<f64>,
    merge: Option<String>,
}

fn bytes(py: Python<'_>, bytes: &Bytes) -> Py<PyBytes> {
    PyBytes::new(py, bytes).unbind()
}

fn seconds(ms: Option<u64>) -> Option<f64> {
    ms.map(|ms| ms as f64 / 1e3)
}

/// As Python writes bytes, but not megabytes of them.
fn shortened(py: Python<'_>, bytes: &Py<PyBytes>) -> PyResult<String> {
    const SHOWN: usize = 64;
    let bytes = bytes.bind(py).as_bytes();
    match bytes.len() {
        0..=SHOWN => PyBytes::new(py, bytes).repr().map(|repr| repr.to_string()),
        length => {
            let beginning = PyBytes::new(py, &bytes[..SHOWN]).repr()?;
            Ok(format!("{beginning}... ({length} bytes)"))
        }
    }
}

#[pymethods]
impl Entry {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let value = shortened(py, &self.value)?;
        let siblings = self.siblings.bind(py).len();
        let version = &self.version;
        Ok(format!(
            "Entry(value={value}, version='{version}', siblings={siblings})"
        ))
    }
}

#[pymethods]
impl Written {
    fn __repr__(&self) -> String {
        let superseded = if self.superseded { "True" } else { "False" };
        format!(
            "Written(version='{}', superseded={superseded})",
            self.version
        )
    }
}

#[pymethods]
impl ScanEntry {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let key = shortened(py, &self.key)?;
        Ok(format!("ScanEntry(key={key}, version='{}')", self.version))
    }
}

#[pymethods]
impl BucketPolicy {
    fn __repr__(&self) -> String {
        let Self { name, mode, .. } = self;
        format!(
            "BucketPolicy(name='{name}', mode='{mode}', replicas={})",
            self.replicas
        )
    }
}

impl Show for annulet::Entry {
    fn show<'py>(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let value = bytes(py, &self.value);
        // Nearly always there is one, and it is the value.
        let one = self.siblings.len() == 1 && self.siblings.first() == Some(&self.value);
        let siblings = match one {
            true => PyList::new(py, [&value])?,
            false => PyList::new(py, self.siblings.iter().map(|one| bytes(py, one)))?,
        };
        let entry = Entry {
            value,
            siblings: siblings.unbind(),
            is_merged: self.is_merged,
            context: bytes(py, &self.context.to_bytes()),
            version: self.version,
            expires_at: seconds(self.expires_at_ms),
        };
        entry.into_bound_py_any(py)
    }
}

impl Show for annulet::Written {
    fn show<'py>(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let context = self.context.map(|context| context.to_bytes());
        let written = Written {
            version: self.version,
            superseded: self.superseded,
            context: context.map(|context| bytes(py, &context)),
            siblings: self.siblings,
        };
        written.into_bound_py_any(py)
    }
}

impl Show for facade::NumberedPage {
    /// Its number, its entries or `None`, and where the next one begins.
    fn show<'py>(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let entry = |entry: annulet::ScanEntry| ScanEntry {
            key: bytes(py, &entry.key),
            value: entry.value.map(|value| bytes(py, &value)),
            version: entry.version,
            expires_at: seconds(entry.expires_at_ms),
        };
        let Some(page) = self.page else {
            return (self.number, py.None(), py.None()).into_bound_py_any(py);
        };
        let entries: Vec<_> = page.entries.into_iter().map(entry).collect();
        (self.number, entries, page.cursor).into_bound_py_any(py)
    }
}

impl Show for facade::BucketPolicy {
    fn show<'py>(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let policy = BucketPolicy {
            name: self.name,
            mode: self.mode,
            replicas: self.replicas,
            durability: self.durability,
            read_level: self.read_level,
            write_level: self.write_level,
            ttl: seconds(self.ttl_ms),
            merge: self.merge,
        };
        policy.into_bound_py_any(py)
    }
}

impl Show for facade::Committed {
    /// Whether it is done, and what was written.
    fn show<'py>(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Done(written) => (true, written.show(py)?).into_bound_py_any(py),
            Self::Again => (false, py.None()).into_bound_py_any(py),
        }
    }
}

impl Show for annulet::Resolved {
    /// What became of it, and the version if it was applied.
    fn show<'py>(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let shown = match self {
            Self::Applied { version } => ("applied", Some(version)),
            Self::NotApplied => ("not_applied", None),
            Self::Forgotten => ("forgotten", None),
        };
        shown.into_bound_py_any(py)
    }
}

impl Show for Bytes {
    fn show<'py>(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(PyBytes::new(py, &self).into_any())
    }
}

impl Show for bool {
    fn show<'py>(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.into_bound_py_any(py)
    }
}

impl Show for () {
    fn show<'py>(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(py.None().into_bound(py))
    }
}

impl<T: Show> Show for Option<T> {
    fn show<'py>(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Some(shown) => shown.show(py),
            None => ().show(py),
        }
    }
}

impl<T: Show> Show for Vec<T> {
    fn show<'py>(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let list = PyList::empty(py);
        for one in self {
            list.append(one.show(py)?)?;
        }
        Ok(list.into_any())
    }
}

/// One of several results: its error stands in its place, and is not raised.
impl<T: Show> Show for annulet::Result<T> {
    fn show<'py>(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Ok(shown) => shown.show(py),
            Err(error) => exception(py, &error),
        }
    }
}
