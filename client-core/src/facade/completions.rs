//! Results on their way to a thread of another language.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Results on their way to a thread that must be woken to take them. Waking is what costs, far more
/// than handing over: the thread is woken by the first result only, and takes all that came until
/// it looked.
pub struct Completions<T> {
    ready: Mutex<Vec<T>>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl<T> Completions<T> {
    /// Results whose taker is woken so. It is called from any thread, holding no lock; where waking
    /// fails there is nobody left to take anything.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            ready: Mutex::default(),
            wake: Box::new(wake),
        }
    }

    /// Hands a result over.
    pub fn push(&self, result: T) {
        let mut ready = self.lock();
        ready.push(result);
        let is_first = ready.len() == 1;
        drop(ready);
        if is_first {
            (self.wake)();
        }
    }

    /// Takes all that is there, in the order in which it came; what comes from now on wakes the
    /// taker again. `into` is emptied, and its room used for what comes next.
    pub fn take(&self, into: &mut Vec<T>) {
        into.clear();
        std::mem::swap(&mut *self.lock(), into);
    }

    /// Nothing tears the list, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> std::fmt::Debug for Completions<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Completions")
            .field("ready", &self.lock().len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn many_results_wake_their_taker_once() {
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        let completions = Completions::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let mut taken = vec![9];
        for number in 0..100 {
            completions.push(number);
        }
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        completions.take(&mut taken);
        assert!(taken.iter().copied().eq(0..100));
        completions.push(100);
        assert_eq!(woken.load(Ordering::Relaxed), 2);
        completions.take(&mut taken);
        assert_eq!(taken, [100]);
        completions.take(&mut taken);
        assert_eq!(taken, []);
    }

    #[test]
    fn whoever_takes_while_others_push_gets_everything_once() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let completions = Completions::new(move || {
            // The taker has gone once it has all.
            let _ = sender.send(());
        });
        let completions = &completions;
        std::thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || {
                    for number in 0..1_000 {
                        completions.push(thread * 1_000 + number);
                    }
                });
            }
            let (mut all, mut taken) = (Vec::new(), Vec::new());
            while all.len() < 4_000 {
                receiver.recv().expect("somebody pushes still");
                completions.take(&mut taken);
                all.extend(taken.iter().copied());
            }
            all.sort_unstable();
            assert!(all.into_iter().eq(0..4_000));
        });
    }
}
