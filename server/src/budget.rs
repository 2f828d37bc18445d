//! Bounds on what is under way: memory, operations, bytes in a queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So much may be taken at a time.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicUsize,
    most: usize,
}

/// A part of a budget; given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    amount: usize,
}

impl Budget {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        let used = AtomicUsize::new(0);
        Arc::new(Self { used, most })
    }

    /// What is taken now.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes a part, or `None` if there is no room. A part larger than the whole budget is given
    /// while nothing else is taken, so that nothing waits for ever.
    pub(crate) fn take(self: &Arc<Self>, amount: usize) -> Option<Share> {
        let alone = |used: usize| used == 0;
        self.claim(amount, alone).then(|| Share {
            budget: self.clone(),
            amount,
        })
    }

    /// Takes a part although there may be no room: of what cannot be turned away any more.
    pub(crate) fn take_anyway(self: &Arc<Self>, amount: usize) -> Share {
        self.claim(amount, |_| true);
        Share {
            budget: self.clone(),
            amount,
        }
    }

    fn claim(&self, more: usize, exempt: impl Fn(usize) -> bool) -> bool {
        let fits = |used: usize| exempt(used) || used.saturating_add(more) <= self.most;
        let claim = |used: usize| fits(used).then(|| used.saturating_add(more));
        let claimed = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim);
        claimed.is_ok()
    }
}

impl Share {
    /// Takes more of the same budget; `false` if there is no room, then nothing changes.
    pub(crate) fn grow(&mut self, more: usize) -> bool {
        let grown = self.budget.claim(more, |_| false);
        if grown {
            self.amount += more;
        }
        grown
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.amount, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_can_be_taken_again() {
        let budget = Budget::new(10);
        let mut six = budget.take(6).unwrap();
        assert!(budget.take(5).is_none());
        assert!(six.grow(4) && !six.grow(1));
        assert_eq!(budget.used(), 10);
        drop(six);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn what_cannot_be_turned_away_keeps_others_out() {
        let budget = Budget::new(10);
        let six = budget.take(6).unwrap();
        let more = budget.take_anyway(6);
        assert_eq!(budget.used(), 12);
        drop(six);
        assert!(budget.take(5).is_none());
        drop(more);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn what_is_larger_than_the_budget_is_taken_alone() {
        let budget = Budget::new(10);
        let large = budget.take(50).unwrap();
        assert!(budget.take(1).is_none());
        drop(large);
        let small = budget.take(1).unwrap();
        assert!(budget.take(50).is_none());
        drop(small);
    }
}
