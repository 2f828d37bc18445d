//! Reads and writes of one key.

use super::Bucket;
use crate::error::Result;
use crate::options::{Entry, ReadOptions, WriteOptions, Written};
use bytes::Bytes;

impl Bucket {
    /// The value under a key; `None` if there is none or it has expired.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let profiles = client.bucket("default");
    /// profiles.put("user:get", "Ada").await?;
    /// let profile = profiles.get("user:get").await?;
    /// assert_eq!(profile.map(|entry| entry.value), Some("Ada".into()));
    /// assert_eq!(profiles.get("user:nobody").await?, None);
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
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let profiles = client.bucket("default");
    /// use annulet::{Level, ReadOptions};
    /// use std::time::Duration;
    ///
    /// // What the nearest owner has, or nothing at all within a second.
    /// let quick = ReadOptions {
    ///     level: Some(Level::One),
    ///     timeout: Some(Duration::from_secs(1)),
    ///     ..ReadOptions::default()
    /// };
    /// if let Some(profile) = profiles.get_with("user:get_with", &quick).await? {
    ///     println!("{} bytes", profile.value.len());
    /// }
    /// # Ok(()) }
    /// ```
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
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let profiles = client.bucket("default");
    /// profiles.put("user:exists", "Ada").await?;
    /// assert!(profiles.exists("user:exists").await?);
    /// assert!(!profiles.exists("user:nobody").await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Bucket::get`].
    pub async fn exists(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.exists_with(key, &ReadOptions::default()).await
    }

    /// [`Bucket::exists`] with options.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let profiles = client.bucket("default");
    /// use annulet::{Level, ReadOptions};
    ///
    /// let everywhere = ReadOptions { level: Some(Level::All), ..ReadOptions::default() };
    /// assert!(!profiles.exists_with("user:nobody", &everywhere).await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Bucket::get`].
    pub async fn exists_with(&self, key: impl AsRef<[u8]>, options: &ReadOptions) -> Result<bool> {
        let exists = self.try_exists(Bytes::copy_from_slice(key.as_ref()), options);
        self.counted_read(exists.await)
    }

    /// Stores a value under a key, in place of what was there. In a bucket of mode `siblings` it
    /// stands beside what was there, unless [`WriteOptions::context`] says that it was seen.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let profiles = client.bucket("default");
    /// let written = profiles.put("user:put", "Ada").await?;
    /// println!("stored as {}", written.version);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput`, or `Unavailable`, `Timeout` or `Overloaded` if too few replicas took it;
    /// [`Error::outcome`](crate::Error::outcome) says whether it may have been applied all the
    /// same. `Overloaded` also if their disks are full, `Conflict` if the key has 100 concurrent
    /// values already.
    pub async fn put(&self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Result<Written> {
        self.put_with(key, value, &WriteOptions::default()).await
    }

    /// [`Bucket::put`] with options.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let sessions = client.bucket("default");
    /// use annulet::{Ttl, WriteOptions};
    /// use std::time::Duration;
    ///
    /// let for_an_hour = WriteOptions {
    ///     ttl: Ttl::After(Duration::from_secs(3_600)),
    ///     ..WriteOptions::default()
    /// };
    /// sessions.put_with("session:put_with", "user:1", &for_an_hour).await?;
    /// let session = sessions.get("session:put_with").await?;
    /// assert!(session.is_some_and(|session| session.expires_at_ms.is_some()));
    /// # Ok(()) }
    /// ```
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
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let profiles = client.bucket("default");
    /// profiles.put("user:delete", "Ada").await?;
    /// profiles.delete("user:delete").await?;
    /// assert_eq!(profiles.get("user:delete").await?, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Bucket::put`].
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<Written> {
        self.delete_with(key, &WriteOptions::default()).await
    }

    /// [`Bucket::delete`] with options; a time to live means nothing here.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let profiles = client.bucket("default");
    /// use annulet::{Level, WriteOptions};
    ///
    /// // Nobody who reads at any level sees it afterwards.
    /// let everywhere = WriteOptions { level: Some(Level::All), ..WriteOptions::default() };
    /// profiles.delete_with("user:delete_with", &everywhere).await?;
    /// # Ok(()) }
    /// ```
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
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// assert_eq!(client.bucket("default").name(), "default");
    /// # Ok(()) }
    /// ```
    pub fn name(&self) -> &str {
        &self.name
    }
}
