//! A bucket, as a handle of other languages.

use super::client::Owned;
use super::given::{ReadOptions, ScanOptions, WriteOptions};
use super::steps::{Merging, Scan, Update};
use crate::bucket;
use crate::core::strong::Resolved;
use crate::error::{Outcome, Result};
use crate::op_id::OpId;
use crate::options::{self, Entry, Written};
use bytes::Bytes;
use std::sync::Arc;

/// A bucket, see [`crate::Bucket`]. Options are read when the call is made; the operation begins
/// when its future is polled first, and owns all that it needs. Every operation fails with `Closed`
/// in a process that was forked from the one that connected.
#[derive(Clone, Debug)]
pub struct Bucket {
    owned: Arc<Owned<bucket::Bucket>>,
}

/// The results of a multi-call, one a key.
type Each<T> = Vec<Result<T>>;
/// What an operation needs.
type Begun<O> = (Arc<Owned<bucket::Bucket>>, Result<O>);

impl Bucket {
    pub(super) fn new(bucket: bucket::Bucket) -> Self {
        Self {
            owned: Arc::new(Owned::new(bucket)),
        }
    }

    fn reading(&self, options: ReadOptions<'_>) -> Begun<options::ReadOptions> {
        (Arc::clone(&self.owned), options.read())
    }

    fn writing(&self, options: WriteOptions<'_>) -> Begun<options::WriteOptions> {
        (Arc::clone(&self.owned), options.read())
    }

    /// See [`crate::Bucket::get_with`].
    ///
    /// # Errors
    /// As there.
    pub fn get(
        &self,
        key: Bytes,
        options: ReadOptions<'_>,
    ) -> impl Future<Output = Result<Option<Entry>>> + Send + use<> {
        let (owned, options) = self.reading(options);
        async move {
            let (bucket, options) = (owned.get()?, options?);
            bucket.get_bytes(key, &options).await
        }
    }

    /// See [`crate::Bucket::begin_merge`].
    ///
    /// # Errors
    /// As there.
    pub fn begin_merge(
        &self,
        key: Bytes,
        options: ReadOptions<'_>,
    ) -> impl Future<Output = Result<Merging>> + Send + use<> {
        let (owned, options) = self.reading(options);
        async move {
            let (bucket, options) = (owned.get()?, options?);
            let merging = bucket.begin_merge(key, &options).await?;
            Ok(Merging::new(merging))
        }
    }

    /// See [`crate::Bucket::exists_with`].
    ///
    /// # Errors
    /// As there.
    pub fn exists(
        &self,
        key: Bytes,
        options: ReadOptions<'_>,
    ) -> impl Future<Output = Result<bool>> + Send + use<> {
        let (owned, options) = self.reading(options);
        async move {
            let (bucket, options) = (owned.get()?, options?);
            bucket.exists_with(key, &options).await
        }
    }

    /// See [`crate::Bucket::put_with`].
    ///
    /// # Errors
    /// As there.
    pub fn put(
        &self,
        key: Bytes,
        value: Bytes,
        options: WriteOptions<'_>,
    ) -> impl Future<Output = Result<Written>> + Send + use<> {
        let (owned, options) = self.writing(options);
        async move {
            let (bucket, options) = (used(&owned)?, options?);
            bucket.put_with(key, value, &options).await
        }
    }

    /// See [`crate::Bucket::delete_with`].
    ///
    /// # Errors
    /// As there.
    pub fn delete(
        &self,
        key: Bytes,
        options: WriteOptions<'_>,
    ) -> impl Future<Output = Result<Written>> + Send + use<> {
        let (owned, options) = self.writing(options);
        async move {
            let (bucket, options) = (used(&owned)?, options?);
            bucket.delete_with(key, &options).await
        }
    }

    /// See [`crate::Bucket::touch_with`].
    ///
    /// # Errors
    /// As there.
    pub fn touch(
        &self,
        key: Bytes,
        options: WriteOptions<'_>,
    ) -> impl Future<Output = Result<Option<Written>>> + Send + use<> {
        let (owned, options) = self.writing(options);
        async move {
            let (bucket, options) = (used(&owned)?, options?);
            bucket.touch_with(key, &options).await
        }
    }

    /// See [`crate::Bucket::put_if_version_with`].
    ///
    /// # Errors
    /// As there.
    pub fn put_if_version(
        &self,
        key: Bytes,
        value: Bytes,
        version: String,
        options: WriteOptions<'_>,
    ) -> impl Future<Output = Result<Written>> + Send + use<> {
        let (owned, options) = self.writing(options);
        async move {
            let (bucket, options) = (used(&owned)?, options?);
            let put = bucket.put_if_version_with(key, value, &version, &options);
            put.await
        }
    }

    /// See [`crate::Bucket::put_if_absent_with`].
    ///
    /// # Errors
    /// As there.
    pub fn put_if_absent(
        &self,
        key: Bytes,
        value: Bytes,
        options: WriteOptions<'_>,
    ) -> impl Future<Output = Result<Written>> + Send + use<> {
        let (owned, options) = self.writing(options);
        async move {
            let (bucket, options) = (used(&owned)?, options?);
            bucket.put_if_absent_with(key, value, &options).await
        }
    }

    /// See [`crate::Bucket::delete_if_version_with`].
    ///
    /// # Errors
    /// As there.
    pub fn delete_if_version(
        &self,
        key: Bytes,
        version: String,
        options: WriteOptions<'_>,
    ) -> impl Future<Output = Result<Written>> + Send + use<> {
        let (owned, options) = self.writing(options);
        async move {
            let (bucket, options) = (used(&owned)?, options?);
            let delete = bucket.delete_if_version_with(key, &version, &options);
            delete.await
        }
    }

    /// See [`crate::Bucket::begin_update`].
    ///
    /// # Errors
    /// As there.
    pub fn begin_update(
        &self,
        key: Bytes,
        options: WriteOptions<'_>,
    ) -> impl Future<Output = Result<Update>> + Send + use<> {
        let (owned, options) = self.writing(options);
        async move {
            let (bucket, options) = (used(&owned)?, options?);
            let update = bucket.begin_update(key, &options).await?;
            Ok(Update::new(update))
        }
    }

    /// See [`crate::Bucket::resolve`].
    ///
    /// # Errors
    /// As there.
    pub fn resolve(
        &self,
        key: Bytes,
        op_id: Result<OpId>,
    ) -> impl Future<Output = Result<Resolved>> + Send + use<> {
        let owned = Arc::clone(&self.owned);
        async move { owned.get()?.resolve(key, &op_id?).await }
    }

    /// See [`crate::Bucket::multi_get_with`].
    ///
    /// # Errors
    /// Only of the options: each key has a result of its own.
    pub fn multi_get(
        &self,
        keys: Vec<Bytes>,
        options: ReadOptions<'_>,
    ) -> impl Future<Output = Result<Each<Option<Entry>>>> + Send + use<> {
        let (owned, options) = self.reading(options);
        async move {
            let (bucket, options) = (owned.get()?, options?);
            Ok(bucket.multi_get_with(keys, &options).await)
        }
    }

    /// See [`crate::Bucket::multi_put_with`].
    ///
    /// # Errors
    /// As [`Bucket::multi_get`].
    pub fn multi_put(
        &self,
        entries: Vec<(Bytes, Bytes)>,
        options: WriteOptions<'_>,
    ) -> impl Future<Output = Result<Each<Written>>> + Send + use<> {
        let (owned, options) = self.writing(options);
        async move {
            let (bucket, options) = (used(&owned)?, options?);
            Ok(bucket.multi_put_with(entries, &options).await)
        }
    }

    /// See [`crate::Bucket::multi_delete_with`].
    ///
    /// # Errors
    /// As [`Bucket::multi_get`].
    pub fn multi_delete(
        &self,
        keys: Vec<Bytes>,
        options: WriteOptions<'_>,
    ) -> impl Future<Output = Result<Each<Written>>> + Send + use<> {
        let (owned, options) = self.writing(options);
        async move {
            let (bucket, options) = (used(&owned)?, options?);
            Ok(bucket.multi_delete_with(keys, &options).await)
        }
    }

    /// See [`crate::Bucket::scan`].
    ///
    /// # Errors
    /// As there.
    pub fn scan(&self, options: ScanOptions<'_>) -> Result<Scan> {
        let bucket = self.owned.get()?;
        Ok(Scan::new(bucket.scan(options.read()?)?))
    }
}

/// The bucket of a write, which was not applied if it is another process's.
fn used(owned: &Owned<bucket::Bucket>) -> Result<&bucket::Bucket> {
    let bucket = owned.get();
    bucket.map_err(|error| error.with_outcome(Outcome::NotApplied))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Silent;

    #[tokio::test]
    async fn a_call_is_small_enough_to_be_moved_about() {
        let silent = Silent::new().await;
        let bucket = Bucket::new(silent.client.bucket("any"));
        let bytes = Bytes::from_static(b"k");
        let get = bucket.get(bytes.clone(), ReadOptions::default());
        let put = bucket.put(bytes.clone(), bytes, WriteOptions::default());
        // They were seven times as large when what an operation knows was a part of its future.
        assert!(size_of_val(&get) < 1_500, "{}", size_of_val(&get));
        assert!(size_of_val(&put) < 1_500, "{}", size_of_val(&put));
    }
}
