//! The native library of the Swift package: translates between Swift and the façade of the client
//! core, and decides nothing.
//!
//! UniFFI makes Swift code of what is exported here, the module `AnnuletCore`; what users see is
//! written by hand around it, in `Sources/Annulet`. UniFFI does not tell Rust when a task of Swift
//! is cancelled, so each operation is given a [`token::Token`] that does.
//!
//! # Layout
//! - [`client`], [`bucket`]: handles, whose calls begin operations
//! - [`steps`]: operations in steps
//! - [`token`]: an operation that runs, and how it is given up
//! - [`given`]: options as Swift gives them; [`values`]: what Swift gets

uniffi::setup_scaffolding!("annulet");

/// Of Rust's part only: what the program around it owns is its own business.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod bucket;
mod client;
mod given;
mod steps;
mod token;
mod values;
