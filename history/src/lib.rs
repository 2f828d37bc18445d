//! Histories of operations on single keys, and whether a store that is linearizable can have given
//! their answers.
//!
//! Linearizable means: each operation takes effect at one moment between its call and its return,
//! and in the order of these moments every answer is that of a register which one process uses
//! alone. Keys have nothing to do with each other, so each is checked by itself.
//!
//! # Layout
//! - [`operation`]: what was asked and what came of it; [`lines`]: the same as JSON Lines
//! - [`mod@check`]: is there such an order? [`register`]: what an operation asks of it
//! - [`versions`]: do versions rise? [`failure`]: what is wrong, for people
//!
//! Nothing here runs operations or reads clocks: the simulator and `annulet check` do.

pub mod check;
pub mod failure;
pub mod lines;
pub mod operation;
mod register;
#[cfg(test)]
mod sample;
pub mod versions;

pub use check::{STEPS_MAX, check};
pub use failure::{Evidence, Failure};
pub use operation::{Answer, Condition, Op, Operation, Outcome};
pub use versions::check_versions;
