//! What no rule of siblings allows, for rules that tests break on purpose.

use super::Siblings;
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
}
