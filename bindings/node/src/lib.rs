//! The native module of the Node package: translates between JavaScript and the façade of the
//! client core, and decides nothing.
//!
//! What crosses over is kept small, since each object and each property costs: results are arrays
//! that the package around this module makes objects of.
//!
//! # Layout
//! - [`client`], [`bucket`]: handles, whose calls begin operations
//! - [`port`]: operations that run, and how results reach an event loop, many with one wake-up
//! - [`values`]: what JavaScript gets

/// Of Rust's part only: what the engine owns is its own business.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod bucket;
mod client;
mod port;
mod values;
