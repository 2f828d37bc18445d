//! Connections to servers, and what travels over them.
//!
//! # Layout
//! - [`tls`]: the client's certificates; [`connection`]: one HTTP/2 connection to one server
//! - [`lane`]: messages of one class to one server, batched as they wait; `under_way`: those that
//!   are on the way, to be given up
//! - [`pool`]: all servers' lanes, with a cap on open connections
//! - [`views`]: where views come from

pub(crate) mod connection;
pub(crate) mod lane;
pub(crate) mod pool;
pub(crate) mod tls;
mod under_way;
pub(crate) mod views;
