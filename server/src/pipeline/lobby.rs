//! Answers that wait until what they rest on is durable.

use annulet_protocol::hash::KeyHash;
use annulet_replica::gate::{Gate, SyncPoint};
use annulet_replica::rules::Decided;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Most answers that wait at a time; more are refused.
const WAITING_MAX: usize = 65_536;

/// The gate, and who waits at it. One lock for both: whoever finds the gate closed is in the list
/// before it opens.
#[derive(Debug, Default)]
pub(super) struct Lobby(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    gate: Gate,
    waiting: Vec<(SyncPoint, oneshot::Sender<()>)>,
    closed: bool,
}

/// Whether an answer may be given.
#[derive(Debug)]
pub(super) enum Rest {
    /// At once.
    Open,
    /// When this is received; never, if its sender is dropped.
    Until(oneshot::Receiver<()>),
    /// Too many wait already.
    Full,
}

impl Lobby {
    /// Notes a batch before it is written. Says which point its answers wait for, and whether that
    /// takes a sync.
    pub(super) fn enter(&self, decided: &Decided) -> (SyncPoint, bool) {
        let mut inner = self.lock();
        let point = decided.enter(&mut inner.gate);
        (point, !inner.gate.is_open(point))
    }

    /// Everything up to `point` is durable: lets go who waited for it.
    pub(super) fn synced(&self, point: SyncPoint) {
        let mut inner = self.lock();
        inner.gate.synced(point);
        let Inner { gate, waiting, .. } = &mut *inner;
        let released: Vec<_> = waiting
            .extract_if(.., |(point, _)| gate.is_open(*point))
            .collect();
        drop(inner);
        for (_, sender) in released {
            // Whoever gave up waiting needs no answer.
            let _ = sender.send(());
        }
    }

    /// What an answer about these keys waits for. Call it after the read.
    pub(super) fn rest(&self, touched: Vec<KeyHash>) -> Rest {
        if touched.is_empty() {
            return Rest::Open;
        }
        let mut inner = self.lock();
        let point = inner.gate.rests_on(touched);
        if inner.gate.is_open(point) {
            return Rest::Open;
        }
        if inner.waiting.len() >= WAITING_MAX {
            return Rest::Full;
        }
        let (sender, receiver) = oneshot::channel();
        if !inner.closed {
            inner.waiting.push((point, sender));
        }
        Rest::Until(receiver)
    }

    /// There will be no further sync: who waits, waits in vain.
    pub(super) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.waiting.clear();
    }

    /// A panic elsewhere does not tear the lists, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
