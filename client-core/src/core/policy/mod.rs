//! Decisions that stand alone: each is a small piece of data and a function over it.

pub mod hedge;
pub mod replicas;
pub mod retry;
pub mod throttle;
pub mod waiting;
