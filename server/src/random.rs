//! The only place of this crate that asks the system for randomness.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the module that clippy.toml sends callers to"
)]

/// 128 random bits.
///
/// # Errors
/// If the system has none to give.
pub(crate) fn bytes() -> std::io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(bytes)
}

/// 64 random bits, for choices that only have to be spread: without randomness of the system they
/// are all the same, and nothing worse.
pub(crate) fn spread() -> u64 {
    let mut number = [0; 8];
    let _ = getrandom::fill(&mut number);
    u64::from_be_bytes(number)
}
