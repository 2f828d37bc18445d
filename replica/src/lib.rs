//! What a server decides: the rules of a replica over a [`store::Store`], and when an answer may be
//! given.
//!
//! Everything here is plain data and synchronous code: no clock, no socket, no randomness. The
//! server runs it over RocksDB, the simulator over [`memory::MemoryStore`].
//!
//! # Layout
//! - [`store`]: what a replica needs of its storage; [`memory`]: the in-memory twin
//! - [`layout`]: keys and values as the store holds them
//! - [`hints`]: records kept for owners that could not be reached, as the store holds them
//! - [`rules`]: what is answered to each operation
//! - [`courier`]: hands kept records over; [`spread`]: sends on what was minted here
//! - [`holdings`]: what views give a server and take from it; [`copy`]: fetches what it is to own
//! - [`sweep`]: finds what is over; [`restore`]: brings back what is damaged
//! - [`acceptor`]: what one of those that agree on a value must remember
//! - [`chain`]: a server's part in the chain of epochs
//! - [`gate`]: answers wait until what they rest on is durable
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod acceptor;
pub mod chain;
pub mod copy;
pub mod courier;
pub mod gate;
pub mod hints;
pub mod holdings;
pub mod layout;
pub mod memory;
pub mod restore;
pub mod rules;
pub mod spread;
pub mod store;
pub mod sweep;
#[cfg(test)]
mod testing;
