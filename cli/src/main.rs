//! The `annulet` program.
fn main() {}
