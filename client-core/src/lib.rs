//! Client of Annulet.
#![forbid(unsafe_code)]
#![warn(missing_docs)]
pub mod core;
pub mod error;
