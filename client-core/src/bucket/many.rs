//! Many keys at once.

use super::Bucket;
use crate::error::Result;
use crate::options::{Entry, ReadOptions, WriteOptions, Written};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};

impl Bucket {
    /// Gets many keys, each with a result of its own, in order: that of [`Bucket::get`]. There is
    /// no limit to their number; 1,024 are worked on at a time, and each has its timeout from when
    /// its turn comes.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let profiles = client.bucket("default");
    /// profiles.put("user:multi_get", "Ada").await?;
    /// let keys = ["user:multi_get", "user:nobody"];
    /// let found = profiles.multi_get(keys.map(Into::into)).await;
    /// for (key, profile) in keys.into_iter().zip(found) {
    ///     match profile? {
    ///         Some(profile) => println!("{key}: {} bytes", profile.value.len()),
    ///         None => println!("{key}: nothing"),
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn multi_get(
        &self,
        keys: impl IntoIterator<Item = Bytes>,
    ) -> Vec<Result<Option<Entry>>> {
        self.multi_get_with(keys, &ReadOptions::default()).await
    }

    /// [`Bucket::multi_get`] with options.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let profiles = client.bucket("default");
    /// use annulet::{Level, ReadOptions};
    ///
    /// let quick = ReadOptions { level: Some(Level::One), ..ReadOptions::default() };
    /// let keys = ["user:nobody", "user:no-one"].map(Into::into);
    /// let found = profiles.multi_get_with(keys, &quick).await;
    /// assert_eq!(found, [Ok(None), Ok(None)]);
    /// # Ok(()) }
    /// ```
    pub async fn multi_get_with(
        &self,
        keys: impl IntoIterator<Item = Bytes>,
        options: &ReadOptions,
    ) -> Vec<Result<Option<Entry>>> {
        let each = keys.into_iter().map(|key| self.get_bytes(key, options));
        stream::iter(each).buffered(AT_ONCE).collect().await
    }

    /// Puts many values, each with a result of its own, in order: that of [`Bucket::put`]. Some may
    /// fail and others not. Two values for one key end as the later of the two.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let profiles = client.bucket("default");
    /// let entries = [("user:multi_put:1", "Ada"), ("user:multi_put:2", "Grace")];
    /// let entries = entries.map(|(key, name)| (key.into(), name.into()));
    /// for written in profiles.multi_put(entries).await {
    ///     println!("stored as {}", written?.version);
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn multi_put(
        &self,
        entries: impl IntoIterator<Item = (Bytes, Bytes)>,
    ) -> Vec<Result<Written>> {
        self.multi_put_with(entries, &WriteOptions::default()).await
    }

    /// [`Bucket::multi_put`] with options.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let profiles = client.bucket("default");
    /// use annulet::{Ttl, WriteOptions};
    /// use std::time::Duration;
    ///
    /// let for_a_day = WriteOptions {
    ///     ttl: Ttl::After(Duration::from_secs(86_400)),
    ///     ..WriteOptions::default()
    /// };
    /// let entries = [("user:multi_put_with".into(), "Ada".into())];
    /// let written = profiles.multi_put_with(entries, &for_a_day).await;
    /// assert!(written.iter().all(Result::is_ok));
    /// # Ok(()) }
    /// ```
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

    /// Deletes many keys, each with a result of its own, in order: that of [`Bucket::delete`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let profiles = client.bucket("default");
    /// let keys = ["user:multi_delete:1", "user:multi_delete:2"].map(Into::into);
    /// let failed = profiles.multi_delete(keys).await.into_iter().filter(Result::is_err).count();
    /// assert_eq!(failed, 0);
    /// # Ok(()) }
    /// ```
    pub async fn multi_delete(
        &self,
        keys: impl IntoIterator<Item = Bytes>,
    ) -> Vec<Result<Written>> {
        self.multi_delete_with(keys, &WriteOptions::default()).await
    }

    /// [`Bucket::multi_delete`] with options.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let profiles = client.bucket("default");
    /// use annulet::{Level, WriteOptions};
    ///
    /// let everywhere = WriteOptions { level: Some(Level::All), ..WriteOptions::default() };
    /// let keys = ["user:multi_delete_with".into()];
    /// let deleted = profiles.multi_delete_with(keys, &everywhere).await;
    /// assert!(deleted.iter().all(Result::is_ok));
    /// # Ok(()) }
    /// ```
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
