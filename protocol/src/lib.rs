//! The language that Annulet's servers and clients share: keys and their hashes, versions, records,
//! buckets, the ring view, and the messages with their codecs and limits.
//!
//! Everything here is plain data and synchronous code: no clock, no socket, no randomness. Time
//! comes in as an argument, in milliseconds since the Unix epoch.
//!
//! # Layout
//! - [`limits`]: every bound on what may come over the wire
//! - [`ids`]: clusters, nodes, clients, operations
//! - [`hash`]: where a key lies on the ring
//! - [`clock`]: hybrid logical time
//! - [`record`]: what is stored under a key, its version, expiry and checksums
//! - [`siblings`]: the same where concurrent writes are kept
//! - [`register`]: the same where all writes have one order; [`ballot`]: attempts to agree
//! - [`session`]: what a reader has seen, to hand on
//! - [`bucket`]: namespaces and their policy; [`level`]: how many replicas must agree
//! - [`view`]: the members, the partition table and the buckets of one epoch; [`epoch`]: what leads
//!   from one view to the next, and how it is agreed on
//! - [`message`]: requests and replies; [`scan`]: those about whole arcs; [`hints`]: what is kept
//!   for others; [`status`]: how a server is; [`codec`]: their bytes
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod ballot;
mod bounded;
pub mod bucket;
pub mod clock;
pub mod codec;
pub mod copy;
pub mod epoch;
pub mod hash;
pub mod hints;
pub mod ids;
pub mod level;
pub mod limits;
pub mod members;
pub mod message;
mod names;
pub mod record;
pub mod recovery;
pub mod register;
pub mod scan;
pub mod session;
pub mod siblings;
pub mod status;
pub mod table;
pub mod view;
