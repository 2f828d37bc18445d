//! The client of Annulet, a distributed key-value store whose consistency is chosen per bucket and
//! per request.
//!
//! ```no_run
//! # async fn example() -> annulet::Result<()> {
//! let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
//! let carts = client.bucket("default");
//! carts.put("user:1", "three apples").await?;
//! let entry = carts.get("user:1").await?;
//! assert_eq!(entry.map(|entry| entry.value), Some("three apples".into()));
//! client.close().await;
//! # Ok(()) }
//! ```
//!
//! # Layout
//! - [`core`]: everything that decides, as plain synchronous code: coordinators and policies
//! - `net`: connections, batching, views; `run` and `shared`: coordinators over them
//! - [`Client::plan`], [`Progress`]: what would move, and how far it is with what moves
//! - [`Client`], [`Bucket`], [`Profile`], [`Config`], [`Error`]: what users hold
//! - [`facade`]: the same in plain types, for the packages of other languages
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod bucket;
mod buckets;
mod changes;
mod client;
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

pub use annulet_protocol::bucket::{Bucket as BucketPolicy, Durability, Mode};
pub use annulet_protocol::epoch::Point;
pub use annulet_protocol::hints::HintsReport;
pub use annulet_protocol::ids::NodeId;
pub use annulet_protocol::level::Level;
pub use annulet_protocol::recovery::{Anew, MemberFound, RecoverOutcome, RecoverReply};
pub use annulet_protocol::siblings::merges::{Counter, Merge, Set};
pub use annulet_protocol::status::{
    CopyState, StatusReport, StopReason, StopReasonKind, StopReply,
};
pub use annulet_protocol::table::Joint;
pub use annulet_protocol::view::{Member, MemberState, View};
pub use annulet_ring::forecast::{
    Forecast, Holder, Idle, IdleCause, MemberForecast, Newcomer, RegionZones, RingChange, Transfer,
};
pub use annulet_ring::loss::BucketLoss;
pub use bucket::{Bucket, Committed, Merging, Update};
pub use buckets::{BucketChanges, BucketOptions};
pub use client::{Client, MemberHints, MemberStatus};
pub use config::Config;
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
