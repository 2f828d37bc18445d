//! The only place of this program that asks the system for randomness.
#![expect(
    clippy::disallowed_methods,
    reason = "ids and seeds come from the system; everything else is given its generator"
)]

use crate::failure::Failure;

/// Random bytes, for a new id or as the seed of a generator.
pub(crate) fn draw<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::failed(format!("the system gives no randomness: {error}")))?;
    Ok(bytes)
}
