//! Rules to break, so that tests can show that they would notice. Without the feature each is
//! a constant that the compiler removes.

use super::Copier;

/// A rule to break. Only test builds have these.
#[cfg(feature = "faults")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What one owner has told is taken for all.
    OneCopy,
    /// An owner that stays does not compare.
    StayerSkips,
    /// A majority of the list is asked, and not of each prefix of it.
    ListMajority,
    /// What was copied for another next list counts for this one.
    OldCopy,
}

impl Copier {
    #[cfg(feature = "faults")]
    fn breaks(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    pub(super) fn takes_one_copy(&self) -> bool {
        #[cfg(feature = "faults")]
        return self.breaks(Fault::OneCopy);
        #[cfg(not(feature = "faults"))]
        false
    }
    pub(super) fn skips_comparing(&self) -> bool {
        #[cfg(feature = "faults")]
        return self.breaks(Fault::StayerSkips);
        #[cfg(not(feature = "faults"))]
        false
    }
    pub(super) fn takes_list_majority(&self) -> bool {
        #[cfg(feature = "faults")]
        return self.breaks(Fault::ListMajority);
        #[cfg(not(feature = "faults"))]
        false
    }
    pub(super) fn takes_old_copies(&self) -> bool {
        #[cfg(feature = "faults")]
        return self.breaks(Fault::OldCopy);
        #[cfg(not(feature = "faults"))]
        false
    }
}
