//! Who owns what, and how many of them must agree.
//!
//! Everything here is plain data and synchronous code: no clock, no socket, no randomness but
//! seeded.
//!
//! # Layout
//! - [`owners`]: the owner lists of a key, read off the view's table
//! - [`quorum`]: from each of these owner lists, at least so many
//! - [`planner`]: the table for given members
//! - [`chain`]: the rules by which one view follows another, and how the next one is decided
//! - [`cluster`]: a first view from a list of members and buckets
//! - [`forecast`]: what would move if members were changed
//! - [`loss`]: what is lost when members are gone for good
//! - [`stopping`]: whether a server can be stopped
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod chain;
pub mod cluster;
pub mod forecast;
pub mod loss;
pub mod owners;
pub mod planner;
pub mod quorum;
pub mod stopping;
