//! Tests of Annulet as a whole. [`sim`] runs clusters of the real coordinators and replica rules
//! in one thread from one seed.
#![forbid(unsafe_code)]

#[cfg(feature = "cluster")]
pub mod cluster;
pub mod sim;
