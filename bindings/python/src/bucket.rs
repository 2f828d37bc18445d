//! A bucket, and its operations in steps.

use crate::convert::{Key, Milliseconds, Moment, Value, Whole};
use crate::errors::raised;
use crate::operation::Operation;
use crate::values::Show;
use annulet::facade::{self, ReadOptions, ScanOptions, WriteOptions};
use bytes::Bytes;
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

/// A bucket.
#[pyclass(frozen, module = "annulet._annulet")]
pub(crate) struct Bucket {
    bucket: facade::Bucket,
}

/// Everything in a bucket, a page at a time.
#[pyclass(frozen, module = "annulet._annulet")]
pub(crate) struct Scan {
    scan: facade::Scan,
}

/// An update in steps.
#[pyclass(frozen, module = "annulet._annulet")]
pub(crate) struct Update {
    update: facade::Update,
}

/// Concurrent values that are to be merged.
#[pyclass(frozen, module = "annulet._annulet")]
pub(crate) struct Merging {
    merging: facade::Merging,
}

impl Bucket {
    pub(crate) fn new(bucket: facade::Bucket) -> Self {
        Self { bucket }
    }
}

fn reading(level: Option<&str>, timeout: Option<Milliseconds>) -> ReadOptions<'_> {
    ReadOptions {
        level,
        timeout_ms: timeout.map(|ms| ms.0),
        stale: false,
    }
}

fn writing<'a>(
    level: Option<&'a str>,
    timeout: Option<Milliseconds>,
    ttl: Option<Milliseconds>,
    expires_at: Option<Moment>,
) -> WriteOptions<'a> {
    WriteOptions {
        level,
        timeout_ms: timeout.map(|ms| ms.0),
        ttl_ms: ttl.map(|ms| ms.0),
        expires_at_ms: expires_at.map(|at| at.0),
        context: None,
    }
}

fn all(keys: Vec<Key>) -> Vec<Bytes> {
    keys.into_iter().map(|key| key.0).collect()
}

#[pymethods]
#[expect(
    clippy::too_many_arguments,
    reason = "each is a keyword argument in Python"
)]
impl Bucket {
    fn get(
        &self,
        key: Key,
        level: Option<&str>,
        timeout: Option<Milliseconds>,
        stale: bool,
    ) -> Operation {
        let options = ReadOptions {
            stale,
            ..reading(level, timeout)
        };
        Operation::new(self.bucket.get(key.0, options))
    }

    fn begin_merge(
        &self,
        key: Key,
        level: Option<&str>,
        timeout: Option<Milliseconds>,
    ) -> Operation {
        Operation::new(self.bucket.begin_merge(key.0, reading(level, timeout)))
    }

    fn exists(
        &self,
        key: Key,
        level: Option<&str>,
        timeout: Option<Milliseconds>,
        stale: bool,
    ) -> Operation {
        let options = ReadOptions {
            stale,
            ..reading(level, timeout)
        };
        Operation::new(self.bucket.exists(key.0, options))
    }

    fn put(
        &self,
        key: Key,
        value: Value,
        ttl: Option<Milliseconds>,
        expires_at: Option<Moment>,
        context: Option<Value>,
        level: Option<&str>,
        timeout: Option<Milliseconds>,
    ) -> Operation {
        let options = WriteOptions {
            context: context.map(|context| context.0),
            ..writing(level, timeout, ttl, expires_at)
        };
        Operation::new(self.bucket.put(key.0, value.0, options))
    }

    fn delete(
        &self,
        key: Key,
        context: Option<Value>,
        level: Option<&str>,
        timeout: Option<Milliseconds>,
    ) -> Operation {
        let options = WriteOptions {
            context: context.map(|context| context.0),
            ..writing(level, timeout, None, None)
        };
        Operation::new(self.bucket.delete(key.0, options))
    }

    fn touch(
        &self,
        key: Key,
        ttl: Option<Milliseconds>,
        expires_at: Option<Moment>,
        level: Option<&str>,
        timeout: Option<Milliseconds>,
    ) -> Operation {
        let options = writing(level, timeout, ttl, expires_at);
        Operation::new(self.bucket.touch(key.0, options))
    }

    fn put_if_version(
        &self,
        key: Key,
        value: Value,
        version: String,
        ttl: Option<Milliseconds>,
        expires_at: Option<Moment>,
        timeout: Option<Milliseconds>,
    ) -> Operation {
        let options = writing(None, timeout, ttl, expires_at);
        let put = self.bucket.put_if_version(key.0, value.0, version, options);
        Operation::new(put)
    }

    fn put_if_absent(
        &self,
        key: Key,
        value: Value,
        ttl: Option<Milliseconds>,
        expires_at: Option<Moment>,
        timeout: Option<Milliseconds>,
    ) -> Operation {
        let options = writing(None, timeout, ttl, expires_at);
        Operation::new(self.bucket.put_if_absent(key.0, value.0, options))
    }

    fn delete_if_version(
        &self,
        key: Key,
        version: String,
        timeout: Option<Milliseconds>,
    ) -> Operation {
        let options = writing(None, timeout, None, None);
        Operation::new(self.bucket.delete_if_version(key.0, version, options))
    }

    fn begin_update(
        &self,
        key: Key,
        ttl: Option<Milliseconds>,
        expires_at: Option<Moment>,
        timeout: Option<Milliseconds>,
    ) -> Operation {
        let options = writing(None, timeout, ttl, expires_at);
        Operation::new(self.bucket.begin_update(key.0, options))
    }

    fn resolve(&self, key: Key, op_id: &str) -> Operation {
        Operation::new(self.bucket.resolve(key.0, facade::op_id(op_id)))
    }

    fn multi_get(
        &self,
        keys: Vec<Key>,
        level: Option<&str>,
        timeout: Option<Milliseconds>,
        stale: bool,
    ) -> Operation {
        let options = ReadOptions {
            stale,
            ..reading(level, timeout)
        };
        Operation::new(self.bucket.multi_get(all(keys), options))
    }

    fn multi_put(
        &self,
        entries: Vec<(Key, Value)>,
        ttl: Option<Milliseconds>,
        expires_at: Option<Moment>,
        level: Option<&str>,
        timeout: Option<Milliseconds>,
    ) -> Operation {
        let entries = entries.into_iter().map(|(key, value)| (key.0, value.0));
        let options = writing(level, timeout, ttl, expires_at);
        Operation::new(self.bucket.multi_put(entries.collect(), options))
    }

    fn multi_delete(
        &self,
        keys: Vec<Key>,
        level: Option<&str>,
        timeout: Option<Milliseconds>,
    ) -> Operation {
        let options = writing(level, timeout, None, None);
        Operation::new(self.bucket.multi_delete(all(keys), options))
    }

    fn scan(
        &self,
        py: Python<'_>,
        keys_only: bool,
        page_entries: Option<Whole>,
        cursor: Option<String>,
        level: Option<&str>,
        timeout: Option<Milliseconds>,
    ) -> PyResult<Scan> {
        let options = ScanOptions {
            keys_only,
            page_entries: page_entries.map(|entries| entries.0),
            cursor,
            level,
            timeout_ms: timeout.map(|ms| ms.0),
        };
        let scan = self
            .bucket
            .scan(options)
            .map_err(|error| raised(py, &error))?;
        Ok(Scan { scan })
    }
}

#[pymethods]
impl Scan {
    fn next_page(&self, seen: u64) -> Operation {
        Operation::new(self.scan.next_page(seen))
    }
}

#[pymethods]
impl Update {
    fn value(&self) -> Operation {
        Operation::new(self.update.value())
    }

    fn commit(&self, value: Option<Value>) -> Operation {
        Operation::new(self.update.commit(value.map(|value| value.0)))
    }
}

impl Show for facade::Update {
    fn show<'py>(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Update { update: self }.into_bound_py_any(py)
    }
}

#[pymethods]
impl Merging {
    /// The values to be merged; `None`: there are none.
    fn unmerged<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyList>>> {
        let values = self.merging.unmerged();
        let list = |values: Vec<Bytes>| {
            PyList::new(py, values.iter().map(|value| PyBytes::new(py, value)))
        };
        values.map(list).transpose()
    }

    /// The entry, with what was made of them.
    fn finish<'py>(&self, py: Python<'py>, merged: Option<Value>) -> PyResult<Bound<'py, PyAny>> {
        let finished = self.merging.finish(merged.map(|value| value.0));
        finished.map_err(|error| raised(py, &error))?.show(py)
    }
}

impl Show for facade::Merging {
    fn show<'py>(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Merging { merging: self }.into_bound_py_any(py)
    }
}
