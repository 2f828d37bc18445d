//! What the packages of other languages are made of: the whole API in plain types.
//!
//! A binding translates and decides nothing. It takes what its language gives, hands it on as one
//! of the flat options here, lets an operation run by [`begin`], [`spawn`] or [`wait`], and makes
//! its language's own values or errors of what comes back. Levels, durations and names of modes are
//! read here, so that every language takes the same ones and says the same of a wrong one. What is
//! not given is left to the core: a binding knows no default.
//!
//! # Layout
//! - [`Client`], [`Session`], [`Bucket`]: handles; an operation is a future that owns all it needs
//! - [`Scan`], [`Update`], [`Merging`]: operations in steps, for languages that cannot pass a
//!   function or a loop
//! - [`ReadOptions`] and its like: options as languages without types for them give them
//! - [`begin`], [`spawn`], [`wait`]: three ways to let an operation run, each on the runtime that
//!   all clients of a process share; [`Completions`]: results on their way to another language's
//!   thread, many with one wake-up
//! - errors: [`crate::Error`], whose kind, message, outcome and name of a write are plain already

mod bucket;
mod client;
mod completions;
mod given;
mod runtime;
mod steps;

pub use bucket::Bucket;
pub use client::{Client, Session};
pub use completions::Completions;
pub use given::{
    BucketChanges, BucketOptions, BucketPolicy, ConnectOptions, ReadOptions, ScanOptions,
    WriteOptions, op_id,
};
pub use runtime::{Call, Task, begin, spawn, wait};
pub use steps::{Committed, Merging, NumberedPage, Scan, Update};
