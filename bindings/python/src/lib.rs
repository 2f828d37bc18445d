//! The native module of the Python package: translates between Python and the façade of the client
//! core, and decides nothing.
//!
//! # Layout
//! - [`client`], [`bucket`]: handles, whose calls give operations
//! - [`operation`]: a call that was made, and two ways to let it run: for a caller that blocks, and
//!   for an event loop
//! - [`port`]: how results reach an event loop, many with one wake-up
//! - [`convert`]: what Python gives; [`values`]: what it gets; [`errors`]: and what is raised

/// Of Rust's part only: what the interpreter owns is its own business.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod bucket;
mod client;
mod convert;
mod errors;
mod operation;
mod port;
mod values;

/// The module; the package around it is what users import.
#[pyo3::pymodule]
mod _annulet {
    #[pymodule_export]
    use crate::bucket::{Bucket, Merging, Scan, Update};
    #[pymodule_export]
    use crate::client::{Client, Session, connect};
    #[pymodule_export]
    use crate::operation::Operation;
    #[pymodule_export]
    use crate::port::Port;
    #[pymodule_export]
    use crate::values::{BucketPolicy, Entry, ScanEntry, Written};
}
