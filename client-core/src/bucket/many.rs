//! Many keys at once.

use super::Bucket;
use crate::error::Result;
use crate::options::{Entry, ReadOptions, WriteOptions, Written};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};

impl Bucket {
    /// Gets many keys, each with a result of its own, in order. There is no limit to their number;
    /// each has its timeout from when its turn comes.
    pub async fn multi_get(
        &self,
        keys: impl IntoIterator<Item = Bytes>,
    ) -> Vec<Result<Option<Entry>>> {
        self.multi_get_with(keys, &ReadOptions::default()).await
    }

    /// [`Bucket::multi_get`] with options.
    pub async fn multi_get_with(
        &self,
        keys: impl IntoIterator<Item = Bytes>,
        options: &ReadOptions,
    ) -> Vec<Result<Option<Entry>>> {
        let each = keys.into_iter().map(|key| self.get_bytes(key, options));
        stream::iter(each).buffered(AT_ONCE).collect().await
    }

    /// Puts many values, each with a result of its own, in order. Two values for one key end as
    /// the later of the two.
    pub async fn multi_put(
        &self,
        entries: impl IntoIterator<Item = (Bytes, Bytes)>,
    ) -> Vec<Result<Written>> {
        self.multi_put_with(entries, &WriteOptions::default()).await
    }

    /// [`Bucket::multi_put`] with options.
    pub async fn multi_put_with(
        &self,
        entries: impl IntoIterator<Item = (Bytes, Bytes)>,
        options: &WriteOptions,
    ) -> Vec<Result<Written>> {
        let each = entries
            .into_iter()
            .map(|(key, value)| self.write(key, Some(value), options));
        stream::iter(each).buffered(AT_ONCE).collect().await
    }

    /// Deletes many keys, each with a result of its own, in order.
    pub async fn multi_delete(
        &self,
        keys: impl IntoIterator<Item = Bytes>,
    ) -> Vec<Result<Written>> {
        self.multi_delete_with(keys, &WriteOptions::default()).await
    }

    /// [`Bucket::multi_delete`] with options.
    pub async fn multi_delete_with(
        &self,
        keys: impl IntoIterator<Item = Bytes>,
        options: &WriteOptions,
    ) -> Vec<Result<Written>> {
        let each = keys.into_iter().map(|key| self.write(key, None, options));
        stream::iter(each).buffered(AT_ONCE).collect().await
    }
}

/// Keys of one multi-call that are worked on at a time.
const AT_ONCE: usize = 1_024;
