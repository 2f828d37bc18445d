//! Requests on the way, and which of their answers are still of use. One whose answers are all of
//! no use is given up: its stream is reset, and the server need not work on it.

use super::lane::Pending;
use crate::core::Attempt;
use crate::run::Target;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct UnderWay(Mutex<Vec<Entry>>);

#[derive(Debug)]
struct Entry {
    /// Messages whose answers are of use: the operation, by the address of its cell, and the
    /// message.
    awaited: Vec<(usize, Attempt)>,
    given_up: Arc<Notify>,
}

impl UnderWay {
    /// Notes a request that goes out. Says when it is to be given up.
    pub(super) fn note(&self, pending: &[Pending]) -> Arc<Notify> {
        let given_up = Arc::new(Notify::new());
        let awaited = pending.iter().map(|p| (address(&p.target), p.send.attempt));
        self.lock().push(Entry {
            awaited: awaited.collect(),
            given_up: Arc::clone(&given_up),
        });
        given_up
    }

    /// The answer to a message is of no use any more.
    pub(super) fn cancel(&self, target: &Arc<dyn Target>, attempt: Attempt) {
        let message = (address(target), attempt);
        let mut entries = self.lock();
        let holds = |entry: &&mut Entry| entry.awaited.contains(&message);
        let Some(entry) = entries.iter_mut().find(holds) else {
            return;
        };
        entry.awaited.retain(|awaited| *awaited != message);
        if entry.awaited.is_empty() {
            entry.given_up.notify_one();
        }
    }

    /// A request is over.
    pub(super) fn over(&self, given_up: &Arc<Notify>) {
        self.lock()
            .retain(|entry| !Arc::ptr_eq(&entry.given_up, given_up));
    }

    /// Nobody leaves the list torn, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names an operation for as long as somebody holds it.
fn address(target: &Arc<dyn Target>) -> usize {
    Arc::as_ptr(target).cast::<()>().addr()
}
