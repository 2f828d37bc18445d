//! Reads and writes of one key.

use super::Bucket;
use crate::error::Result;
use crate::options::{Entry, ReadOptions, WriteOptions, Written};
use bytes::Bytes;

impl Bucket {
    /// The value under a key; `None` if there is none or it has expired.
    ///
    /// ```no_run
    /// # async fn example(carts: annulet::Bucket) -> annulet::Result<()> {
    /// if let Some(entry) = carts.get("user:1").await? {
    ///     println!("{} bytes", entry.value.len());
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput`, or `Unavailable`, `Timeout` or `Overloaded` if too few replicas answered.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Entry>> {
        self.get_with(key, &ReadOptions::default()).await
    }

    /// [`Bucket::get`] with options.
    ///
    /// # Errors
    /// As `get`.
    pub async fn get_with(
        &self,
        key: impl AsRef<[u8]>,
        options: &ReadOptions,
    ) -> Result<Option<Entry>> {
        self.get_bytes(Bytes::copy_from_slice(key.as_ref()), options)
            .await
    }

    /// Whether a key has a value that has not expired. The value itself is not sent.
    ///
    /// # Errors
    /// As [`Bucket::get`].
    pub async fn exists(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.exists_with(key, &ReadOptions::default()).await
    }

    /// [`Bucket::exists`] with options.
    ///
    /// # Errors
    /// As [`Bucket::get`].
    pub async fn exists_with(&self, key: impl AsRef<[u8]>, options: &ReadOptions) -> Result<bool> {
        let exists = self.try_exists(Bytes::copy_from_slice(key.as_ref()), options);
        self.counted_read(exists.await)
    }

    /// Stores a value under a key, in place of what was there.
    ///
    /// ```no_run
    /// # async fn example(carts: annulet::Bucket) -> annulet::Result<()> {
    /// carts.put("user:1", "three apples").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput`, or `Unavailable`, `Timeout` or `Overloaded` if too few replicas took it;
    /// [`Error::outcome`](crate::Error::outcome) says whether it may have been applied all the
    /// same.
    pub async fn put(&self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Result<Written> {
        self.put_with(key, value, &WriteOptions::default()).await
    }

    /// [`Bucket::put`] with options.
    ///
    /// # Errors
    /// As `put`.
    pub async fn put_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Bytes>,
        options: &WriteOptions,
    ) -> Result<Written> {
        let key = Bytes::copy_from_slice(key.as_ref());
        self.write(key, Some(value.into()), options).await
    }

    /// Removes what is under a key. Removing what is not there is not an error.
    ///
    /// # Errors
    /// As [`Bucket::put`].
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<Written> {
        self.delete_with(key, &WriteOptions::default()).await
    }

    /// [`Bucket::delete`] with options; a time to live means nothing here.
    ///
    /// # Errors
    /// As [`Bucket::put`].
    pub async fn delete_with(
        &self,
        key: impl AsRef<[u8]>,
        options: &WriteOptions,
    ) -> Result<Written> {
        self.write(Bytes::copy_from_slice(key.as_ref()), None, options)
            .await
    }

    /// The bucket's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}
