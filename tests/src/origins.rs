//! How a search came to each state that it found.

use std::fmt::Debug;

/// For each state, by its number, which one it came from, and how. The first has number 0.
pub(crate) struct Origins<S>(Vec<(u32, S)>);

impl<S: Debug> Origins<S> {
    /// Of the first state alone.
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    /// Notes a state that came from another one by this step. Gives its number.
    pub(crate) fn note(&mut self, from: u32, step: S) -> u32 {
        self.0.push((from, step));
        // Searches end long before.
        self.0.len() as u32
    }

    /// The steps from the first state to one.
    pub(crate) fn course(&self, last: u32) -> Vec<String> {
        let mut steps = Vec::new();
        let mut at = last;
        while at != 0 {
            let (before, step) = &self.0[at as usize - 1];
            steps.push(format!("{step:?}"));
            at = *before;
        }
        steps.reverse();
        steps
    }
}
