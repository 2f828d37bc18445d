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
    owned: Arc<Owned<Mutex<Pages>>>,
}

/// A scan and the page that it gave last.
#[derive(Debug)]
struct Pages {
    scan: scan::Scan,
    last: NumberedPage,
}

/// A page and its number, from 1; the page after the last one is `None`.
#[derive(Clone, Debug, Default)]
pub struct NumberedPage {
    /// Its number.
    pub number: u64,
    /// What is in it.
    pub page: Option<ScanPage>,
}

impl Scan {
    pub(super) fn new(scan: scan::Scan) -> Self {
        Self {
            owned: Arc::new(Owned::new(Mutex::new(Pages {
                scan,
                last: NumberedPage::default(),
            }))),
        }
    }

    /// Lets go of what was fetched ahead, for whoever stops in the middle: another language may
    /// keep the scan for long. It goes on all the same.
    pub fn leave(&self) {
        if let Ok(owned) = self.owned.get()
            && let Ok(mut pages) = owned.try_lock()
        {
            pages.scan.forget_ahead();
        }
    }

    /// The page after those `seen` so far, see [`crate::Scan::next_page`]. One that was on its way
    /// to a caller who had given up is given again, so nothing is lost; callers that come together
    /// are given the same one, and tell so by its number.
    ///
    /// # Errors
    /// As there.
    pub fn next_page(
        &self,
        seen: u64,
    ) -> impl Future<Output = Result<NumberedPage>> + Send + use<> {
        let owned = Arc::clone(&self.owned);
        async move {
            let mut pages = owned.get()?.lock().await;
            if pages.last.number <= seen {
                let page = pages.scan.next_page().await?;
                let number = pages.last.number + 1;
                pages.last = NumberedPage { number, page };
            }
            Ok(pages.last.clone())
        }
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
    /// `InvalidInput` if it was finished before, or if nothing was made of values that stand
    /// unmerged: one of them would be taken for all.
    pub fn finish(&self, merged: Option<Bytes>) -> Result<Option<Entry>> {
        let mut merging = self.merging.lock().unwrap_or_else(PoisonError::into_inner);
        let stands = merging
            .as_ref()
            .is_some_and(|found| found.unmerged().is_some());
        if stands && merged.is_none() {
            let why = "nothing was made of the concurrent values: give one value for all of them";
            return Err(Error::new(ErrorKind::InvalidInput, why));
        }
        match merging.take() {
            Some(merging) => Ok(merging.finish(merged)),
            None => Err(Error::new(
                ErrorKind::InvalidInput,
                "these values were merged before: read the key again",
            )),
        }
    }
}
