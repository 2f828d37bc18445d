//! Operations in a bucket that keeps concurrent writes.
//!
//! - [`read`](mod@read): all concurrent values, and the context to write under
//! - [`put`]: one owner mints the value, and its record goes to the rest
//! - [`delete`]: what was seen is merged away by every owner
//! - [`resolve`]: values that stand unmerged, merged by the application

pub mod delete;
pub mod put;
pub mod read;
pub mod resolve;
#[cfg(test)]
mod tests;
