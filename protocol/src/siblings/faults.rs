//! What no rule of siblings allows, for rules that tests break on purpose.

use super::Siblings;
use crate::clock::Stamp;
use crate::ids::OpId;

impl Siblings {
    /// It with the value of one operation alone, as if all others were overwritten.
    #[must_use]
    pub fn only(&self, op: &OpId) -> Self {
        let mut only = self.clone();
        only.siblings.retain(|sibling, _| sibling == op);
        only
    }

    /// It as if this operation had never been overwritten.
    #[must_use]
    pub fn forgetting(&self, op: &OpId) -> Self {
        let mut forgetting = self.clone();
        forgetting.past.remove(op);
        forgetting
    }

    /// It as if no base travelled with it: it knows its own dots and those in its vector.
    #[must_use]
    pub fn without_base(&self) -> Self {
        let mut without = self.clone();
        without.base = Stamp::default();
        for minting in self.iter().flat_map(|sibling| &sibling.minted) {
            let known = without.vector.entry(minting.dot.actor).or_default();
            *known = (*known).max(minting.dot.stamp);
        }
        without
    }
}
