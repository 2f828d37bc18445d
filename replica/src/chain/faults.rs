//! Rules to break, so that tests can show that they would notice. Without the feature each is
//! a constant that the compiler removes.

use super::Chain;

/// A rule to break. Only test builds have these.
#[cfg(feature = "faults")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Votes are not kept over a crash.
    VotesForgotten,
    /// A record is accepted although a higher ballot was promised.
    AcceptsBelowPromises,
    /// A record is acted under before its keepers hold it.
    ActsUnsettled,
    /// A server that is asked to seal itself says where it stands, and seals nothing.
    Unsealed,
}

impl Chain {
    #[cfg(feature = "faults")]
    fn breaks(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    pub(super) fn forgets_votes(&self) -> bool {
        #[cfg(feature = "faults")]
        return self.breaks(Fault::VotesForgotten);
        #[cfg(not(feature = "faults"))]
        false
    }

    pub(super) fn accepts_below_promises(&self) -> bool {
        #[cfg(feature = "faults")]
        return self.breaks(Fault::AcceptsBelowPromises);
        #[cfg(not(feature = "faults"))]
        false
    }

    pub(super) fn seals_nothing(&self) -> bool {
        #[cfg(feature = "faults")]
        return self.breaks(Fault::Unsealed);
        #[cfg(not(feature = "faults"))]
        false
    }

    pub(super) fn acts_unsettled(&self) -> bool {
        #[cfg(feature = "faults")]
        return self.breaks(Fault::ActsUnsettled);
        #[cfg(not(feature = "faults"))]
        false
    }
}
