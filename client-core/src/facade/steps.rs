//! Operations in steps, for languages that pass no functions.

use super::client::Owned;
use crate::bucket;
pub use crate::bucket::Committed;
use crate::error::{Error, ErrorKind, Result};
use crate::options::Entry;
use crate::scan::{self, ScanPage};
use bytes::Bytes;
use std::sync::{Arc, Mutex as Lock, PoisonError};
use tokio::sync::Mutex;

/// A scan, see [`crate::Scan`]. Calls that come together take turns.
#[derive(Clone, Debug)]
pub struct Scan {
    owned: Arc<Owned<Mutex<scan::Scan>>>,
}

impl Scan {
    pub(super) fn new(scan: scan::Scan) -> Self {
        Self {
            owned: Arc::new(Owned::new(Mutex::new(scan))),
        }
    }

    /// See [`crate::Scan::next_page`].
    ///
    /// # Errors
    /// As there.
    pub fn next_page(&self) -> impl Future<Output = Result<Option<ScanPage>>> + Send + use<> {
        let owned = Arc::clone(&self.owned);
        async move { owned.get()?.lock().await.next_page().await }
    }
}

/// An update, see [`crate::Update`]. Calls that come together take turns.
#[derive(Clone, Debug)]
pub struct Update {
    owned: Arc<Owned<Mutex<bucket::Update>>>,
}

impl Update {
    pub(super) fn new(update: bucket::Update) -> Self {
        Self {
            owned: Arc::new(Owned::new(Mutex::new(update))),
        }
    }

    /// See [`crate::Update::value`].
    ///
    /// # Errors
    /// As there.
    pub fn value(&self) -> impl Future<Output = Result<Option<Entry>>> + Send + use<> {
        let owned = Arc::clone(&self.owned);
        async move { owned.get()?.lock().await.value().await }
    }

    /// See [`crate::Update::commit`].
    ///
    /// # Errors
    /// As there.
    pub fn commit(
        &self,
        value: Option<Bytes>,
    ) -> impl Future<Output = Result<Committed>> + Send + use<> {
        let owned = Arc::clone(&self.owned);
        async move { owned.get()?.lock().await.commit(value).await }
    }
}

/// Concurrent values that are to be merged, see [`crate::Merging`].
#[derive(Debug)]
pub struct Merging {
    merging: Lock<Option<bucket::Merging>>,
}

impl Merging {
    pub(super) fn new(merging: bucket::Merging) -> Self {
        Self {
            merging: Lock::new(Some(merging)),
        }
    }

    /// See [`crate::Merging::unmerged`]; `None` as well once it is finished.
    pub fn unmerged(&self) -> Option<Vec<Bytes>> {
        let merging = self.merging.lock().unwrap_or_else(PoisonError::into_inner);
        merging.as_ref().and_then(bucket::Merging::unmerged)
    }

    /// See [`crate::Merging::finish`].
    ///
    /// # Errors
    /// `InvalidInput` if it was finished before.
    pub fn finish(&self, merged: Option<Bytes>) -> Result<Option<Entry>> {
        let mut merging = self.merging.lock().unwrap_or_else(PoisonError::into_inner);
        match merging.take() {
            Some(merging) => Ok(merging.finish(merged)),
            None => Err(Error::new(
                ErrorKind::InvalidInput,
                "these values were merged before: read the key again",
            )),
        }
    }
}
