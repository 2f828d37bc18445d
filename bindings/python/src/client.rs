//! A client and its sessions.

use crate::bucket::Bucket;
use crate::convert::{Milliseconds, Value, Whole};
use crate::errors::raised;
use crate::operation::Operation;
use crate::values::Show;
use annulet::facade::{self, BucketChanges, BucketOptions, ConnectOptions};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::path::PathBuf;

/// A client of one cluster.
#[pyclass(frozen, module = "annulet._annulet")]
pub(crate) struct Client {
    client: facade::Client,
}

/// A session of a client.
#[pyclass(frozen, module = "annulet._annulet")]
pub(crate) struct Session {
    session: facade::Session,
}

/// Connects; gives a client.
#[pyfunction]
#[expect(
    clippy::too_many_arguments,
    reason = "each is a keyword argument in Python"
)]
pub(crate) fn connect(
    profile: Option<PathBuf>,
    timeout: Option<Milliseconds>,
    level: Option<String>,
    zone: Option<String>,
    region: Option<String>,
    connections_max: Option<Whole>,
    idle_after: Option<Milliseconds>,
    check_one_in: Option<Whole>,
) -> Operation {
    Operation::new(facade::Client::connect(ConnectOptions {
        profile,
        timeout_ms: timeout.map(|ms| ms.0),
        level,
        zone,
        region,
        connections_max: connections_max.map(|most| most.0),
        idle_after_ms: idle_after.map(|ms| ms.0),
        check_one_in: check_one_in.map(|one_in| one_in.0),
    }))
}

impl Show for facade::Client {
    fn show<'py>(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Client { client: self }.into_bound_py_any(py)
    }
}

#[pymethods]
impl Client {
    fn bucket(&self, py: Python<'_>, name: &str) -> PyResult<Bucket> {
        let bucket = self
            .client
            .bucket(name)
            .map_err(|error| raised(py, &error))?;
        Ok(Bucket::new(bucket))
    }

    fn session(&self, py: Python<'_>) -> PyResult<Session> {
        let session = self.client.session().map_err(|error| raised(py, &error))?;
        Ok(Session { session })
    }

    fn session_from(&self, py: Python<'_>, token: Value) -> PyResult<Session> {
        let session = self.client.session_from(&token.0);
        let session = session.map_err(|error| raised(py, &error))?;
        Ok(Session { session })
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "each is a keyword argument in Python"
    )]
    fn create_bucket(
        &self,
        name: String,
        mode: Option<String>,
        replicas: Option<Whole>,
        durability: Option<String>,
        read_level: Option<String>,
        write_level: Option<String>,
        ttl: Option<Milliseconds>,
        merge: Option<String>,
    ) -> Operation {
        let options = BucketOptions {
            mode,
            replicas: replicas.map(|replicas| replicas.0),
            durability,
            read_level,
            write_level,
            ttl_ms: ttl.map(|ms| ms.0),
            merge,
        };
        Operation::new(self.client.create_bucket(name, options))
    }

    fn set_bucket(
        &self,
        name: String,
        read_level: Option<String>,
        write_level: Option<String>,
        ttl: Option<Milliseconds>,
    ) -> Operation {
        let changes = BucketChanges {
            read_level,
            write_level,
            ttl_ms: ttl.map(|ms| ms.0),
        };
        Operation::new(self.client.set_bucket(name, changes))
    }

    fn delete_bucket(&self, name: String) -> Operation {
        Operation::new(self.client.delete_bucket(name))
    }

    fn buckets(&self) -> Operation {
        Operation::new(self.client.buckets())
    }

    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let statistics = self
            .client
            .statistics()
            .map_err(|error| raised(py, &error))?;
        let counts = PyDict::new(py);
        for (name, count) in statistics.by_name() {
            counts.set_item(name, count)?;
        }
        Ok(counts)
    }

    fn close(&self) -> Operation {
        Operation::new(self.client.close())
    }
}

#[pymethods]
impl Session {
    fn bucket(&self, py: Python<'_>, name: &str) -> PyResult<Bucket> {
        let bucket = self
            .session
            .bucket(name)
            .map_err(|error| raised(py, &error))?;
        Ok(Bucket::new(bucket))
    }

    fn to_bytes(&self) -> Operation {
        Operation::new(self.session.to_bytes())
    }
}
