//! The client of Annulet, a distributed key-value store whose consistency is chosen per bucket and
//! per request.
//!
//! ```
//! #[tokio::main]
//! async fn main() -> annulet::Result<()> {
//!     # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
//!     let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
//!     let profiles = client.bucket("default");
//!     profiles.put("user:1", "Ada").await?;
//!     let entry = profiles.get("user:1").await?;
//!     assert_eq!(entry.map(|entry| entry.value), Some("Ada".into()));
//!     client.close().await;
//!     Ok(())
//! }
//! ```
//!
//! A [`Client`] is connected once in a program and kept: it holds the view of the ring, picks the
//! replicas, counts the quorums that a call asks for, hedges, merges and repairs. It works on the
//! tokio runtime that it was connected in; dropping a future of it gives the call up.
//!
//! # Which call for what
//! - read and write bytes under a key: [`Bucket::get`], [`Bucket::put`], [`Bucket::delete`],
//!   [`Bucket::exists`]
//! - renew a session without sending it: [`Bucket::touch`]
//! - many keys at once: [`Bucket::multi_get`], [`Bucket::multi_put`], [`Bucket::multi_delete`]
//! - go through a bucket: [`Bucket::scan`]
//! - compare and set, count exactly: [`Bucket::put_if_version`], [`Bucket::put_if_absent`],
//!   [`Bucket::update`], in a bucket of [`Mode::Strong`]
//! - keep concurrent writes and merge them: [`Entry::context`], [`Bucket::get_merged`], in a bucket
//!   of [`Mode::Siblings`]
//! - read what one has written, at any level: [`Client::session`]
//! - say how many replicas must answer: [`ReadOptions::level`], [`WriteOptions::level`], [`Level`]
//! - make and change buckets: [`Client::create_bucket`], [`Client::set_bucket`],
//!   [`Client::delete_bucket`]
//! - look after the servers: [`Client::members`], [`Client::plan`], [`Client::set_member`],
//!   [`Client::remove_member`]
//!
//! # Errors
//! There is one [`Error`]. Its [kind](Error::kind) says what to do, its [outcome](Error::outcome)
//! what became of a write that failed, and [`Error::is_retryable`] whether the same call may
//! succeed later. The client tries again by itself where that is safe, up to the call's deadline.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> annulet::Result<()> {
//! # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
//! # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
//! # let profiles = client.bucket("default");
//! use annulet::{ErrorKind, Outcome};
//!
//! match profiles.put("user:2", "Grace").await {
//!     Ok(written) => println!("stored as {}", written.version),
//!     Err(error) if error.outcome() == Some(Outcome::NotApplied) => println!("not stored"),
//!     Err(error) if error.kind() == ErrorKind::Timeout => println!("perhaps stored: {error}"),
//!     Err(error) => return Err(error),
//! }
//! # Ok(()) }
//! ```
//!
//! # Features
//! None that users need. `faults` breaks rules on purpose, for the tests of the tests: no program
//! turns it on.
//!
//! # Versions
//! Semantic versions: before 1.0 a minor version may break, a patch may not. The oldest Rust that
//! is tested is `rust-version` of the manifest, 1.95; asking for a newer one is no breaking change.
//! Enums and structs that may grow are `#[non_exhaustive]`, or options that have defaults: name
//! what you set and leave the rest to `..Default::default()`, then a new field breaks nothing. What
//! an error's message says may change any time.
//! [`core`] and [`facade`] are for the simulator and for the packages of other languages, and may
//! change with every version.
//!
//! # Layout
//! - [`Client`], [`Bucket`], [`Profile`], [`Config`], [`Error`]: what users hold
//! - [`Client::plan`], [`Progress`]: what would move, and how far it is with what moves
//! - [`core`]: everything that decides, as plain synchronous code: coordinators and policies
//! - `net`: connections, batching, views; `run` and `shared`: coordinators over them
//! - [`facade`]: the API in plain types, for the packages of other languages
#![forbid(unsafe_code)]
#![warn(missing_docs)]

// Ahead of the others: documentation lists methods in the order of the modules.
mod client;

mod bucket;
mod buckets;
mod changes;
mod config;
pub mod core;
mod error;
pub mod facade;
mod members;
mod net;
mod op_id;
mod options;
mod plan;
mod profile;
mod recover;
mod run;
mod scan;
mod session;
mod shared;
mod statistics;
mod system;
#[cfg(test)]
mod testing;

#[doc(inline)]
pub use annulet_protocol::bucket::{Bucket as BucketPolicy, Durability, Mode};
#[doc(inline)]
pub use annulet_protocol::epoch::Point;
#[doc(inline)]
pub use annulet_protocol::hints::HintsReport;
#[doc(inline)]
pub use annulet_protocol::ids::{Incarnation, NodeId};
#[doc(inline)]
pub use annulet_protocol::level::Level;
#[doc(inline)]
pub use annulet_protocol::recovery::{Anew, MemberFound, RecoverOutcome, RecoverReply};
#[doc(inline)]
pub use annulet_protocol::siblings::merges::{Counter, Merge, MergeError, Set};
#[doc(inline)]
pub use annulet_protocol::status::{
    CopyState, StatusReport, StopReason, StopReasonKind, StopReply,
};
#[doc(inline)]
pub use annulet_protocol::table::Joint;
#[doc(inline)]
pub use annulet_protocol::view::{Member, MemberState, View};
#[doc(inline)]
pub use annulet_ring::forecast::{
    Forecast, Holder, Idle, IdleCause, MemberForecast, Newcomer, RegionZones, RingChange, Transfer,
};
#[doc(inline)]
pub use annulet_ring::loss::BucketLoss;
pub use bucket::{Bucket, Committed, Merging, Update};
pub use buckets::{BucketChanges, BucketOptions};
pub use client::{Client, MemberHints, MemberStatus};
pub use config::Config;
#[doc(inline)]
pub use core::strong::Resolved;
pub use error::{Error, ErrorKind, Outcome, Result};
pub use members::MemberChanges;
pub use op_id::OpId;
pub use options::{Context, Entry, ReadOptions, Ttl, WriteOptions, Written};
pub use plan::{MoveProgress, OwnerProgress, Progress};
pub use profile::{PROFILE_VARIABLE, Profile};
pub use scan::{Scan, ScanEntry, ScanOptions, ScanPage};
pub use session::Session;
pub use statistics::Statistics;

/// The README's examples are compiled with the documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
