//! One server of an Annulet cluster: the shell around the replica's rules. It keeps records in
//! RocksDB, speaks HTTPS, and reads the clock.
//!
//! Every queue and every message has a bound: what is over it is refused with a hint when to come
//! back. After a failed write or sync nothing is acknowledged any more and [`Server::run`] ends.
//!
//! # Layout
//! - [`server`]: from a [`config`] to a stop; [`error`]: what can be wrong
//! - [`cluster_file`], `first_view`: where a server finds its cluster
//! - [`store`]: data on disk, and whose it is; `disk`: the room for it
//! - `pipeline`: from operations to answers; `budget`: bounds on what is under way
//! - `http`: connections, endpoints; `served`: the view as it is sent
//! - `epochs`: the chain of epochs, and how it goes on
//! - `tls`: certificates and the roles in them
//! - `peers`: greetings between servers; `upkeep`: what a server does by itself
//! - `metrics`: what is counted
//! - `clock`, `random`, `net`, `descriptors`: all that is asked of the machine
#![forbid(unsafe_code)]
#![warn(missing_docs)]

// The tests inside share their support with the tests outside, which know the crate by its name.
#[cfg(test)]
extern crate self as annulet_server;

mod budget;
mod clock;
pub mod cluster_file;
pub mod config;
mod descriptors;
mod disk;
mod epochs;
pub mod error;
mod first_view;
mod http;
mod metrics;
mod net;
mod peers;
mod pipeline;
mod random;
mod served;
pub mod server;
pub mod store;
mod tls;
mod upkeep;

pub use config::{Config, Limits, TlsFiles};
pub use descriptors::raise_open_files;
pub use error::ServerError;
pub use server::Server;
