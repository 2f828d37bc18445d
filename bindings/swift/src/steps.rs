//! Operations in steps.

use crate::token::Token;
use crate::values::{Committed, Entry, Failure, Page};
use annulet::facade;
use bytes::Bytes;
use std::sync::Arc;

/// Everything in a bucket, a page at a time.
#[derive(uniffi::Object)]
pub(crate) struct Scan {
    scan: facade::Scan,
}

/// An update in steps.
#[derive(uniffi::Object)]
pub(crate) struct Update {
    update: facade::Update,
}

/// Concurrent values that are to be merged.
#[derive(uniffi::Object)]
pub(crate) struct Merging {
    merging: facade::Merging,
}

impl Scan {
    pub(crate) fn new(scan: facade::Scan) -> Arc<Self> {
        Arc::new(Self { scan })
    }
}

impl Update {
    pub(crate) fn new(update: facade::Update) -> Arc<Self> {
        Arc::new(Self { update })
    }
}

impl Merging {
    pub(crate) fn new(merging: facade::Merging) -> Arc<Self> {
        Arc::new(Self { merging })
    }
}

#[uniffi::export]
impl Scan {
    fn leave(&self) {
        self.scan.leave();
    }

    async fn next_page(&self, token: Arc<Token>, seen: u64) -> Result<Page, Failure> {
        Ok(token.run(self.scan.next_page(seen)).await?.into())
    }
}

#[uniffi::export]
impl Update {
    async fn value(&self, token: Arc<Token>) -> Result<Option<Entry>, Failure> {
        Ok(token.run(self.update.value()).await?.map(Into::into))
    }

    async fn commit(
        &self,
        token: Arc<Token>,
        value: Option<Vec<u8>>,
    ) -> Result<Committed, Failure> {
        let commit = self.update.commit(value.map(Bytes::from));
        Ok(token.run(commit).await?.into())
    }
}

#[uniffi::export]
impl Merging {
    /// The values to be merged; `None`: there are none.
    fn unmerged(&self) -> Option<Vec<Vec<u8>>> {
        let values = self.merging.unmerged()?;
        Some(values.into_iter().map(Into::into).collect())
    }

    /// The entry, with what was made of them.
    fn finish(&self, merged: Option<Vec<u8>>) -> Result<Option<Entry>, Failure> {
        let entry = self.merging.finish(merged.map(Bytes::from))?;
        Ok(entry.map(Into::into))
    }
}
