//! Tests of Annulet as a whole. [`sim`] runs clusters of the real coordinators and replica rules
//! in one thread from one seed, [`rounds`] clients of one key of a strong bucket, [`recoveries`]
//! chains of epochs that are begun anew; [`ring_model`], [`siblings_model`] and [`chain_model`] try
//! every course of few operations; [`decoders`] lists what reads bytes from outside, and what must
//! hold for it whatever the bytes are.
// One module may count what is allocated, which takes the word `unsafe`.
#![deny(unsafe_code)]

pub mod chain_model;
#[cfg(feature = "cluster")]
pub mod cluster;
#[cfg(feature = "cluster")]
pub mod conformance;
pub mod decoders;
mod mixed;
mod origins;
pub mod recoveries;
pub mod ring_model;
pub mod rounds;
pub mod seeds;
pub mod siblings_model;
pub mod sim;
