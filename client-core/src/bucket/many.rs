//! Many keys at once.

use super::{Bucket, entry, read_operation};
use crate::core::Coordinator;
use crate::core::client::Start;
use crate::core::many::Many;
use crate::error::{Error, ErrorKind, Result};
use crate::options::{Entry, ReadOptions, WriteOptions, Written};
use crate::run::run;
use annulet_protocol::bucket::Mode;
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
        let keys = keys.into_iter().collect();
        let get = |keys| self.get_together(keys, options);
        self.in_parts(keys, get).await
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
        let entries = entries.into_iter();
        let entries = entries.map(|(key, value)| (key, Some(value))).collect();
        let put = |entries| self.write_together(entries, options);
        self.in_parts(entries, put).await
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
        let entries = keys.into_iter().map(|key| (key, None)).collect();
        let delete = |entries| self.write_together(entries, options);
        self.in_parts(entries, delete).await
    }

    /// All results, in order, of what is done for so many keys at a time.
    async fn in_parts<K, T, F>(&self, keys: Vec<K>, each: impl Fn(Vec<K>) -> F) -> Vec<T>
    where
        F: Future<Output = Vec<T>>,
    {
        let mut keys = keys.into_iter();
        let parts = std::iter::from_fn(|| {
            let part: Vec<_> = keys.by_ref().take(TOGETHER).collect();
            (!part.is_empty()).then(|| each(part))
        });
        let results = stream::iter(parts).buffered(PARTS_AT_ONCE);
        results.concat().await
    }

    /// Gets keys as one operation; in a session, and in buckets of other modes, each by itself.
    async fn get_together(
        &self,
        keys: Vec<Bytes>,
        options: &ReadOptions,
    ) -> Vec<Result<Option<Entry>>> {
        if options.stale || !self.goes_together() {
            let each = keys.into_iter().map(|key| self.get_bytes(key, options));
            return stream::iter(each).buffered(TOGETHER).collect().await;
        }
        let mut begun = Vec::with_capacity(keys.len());
        for key in keys {
            let start = self.begin_read(key, options).await;
            begun.push(start.and_then(|start| {
                let operation = Box::new(read_operation(&start, false, None)?);
                Ok((start, operation))
            }));
        }
        let mut results = Vec::with_capacity(begun.len());
        for done in self.run_together(begun).await {
            let found = match done {
                Ok((start, done)) => self.shown(&start, done).await.map(entry),
                Err(error) => Err(error),
            };
            results.push(self.counted_read(found));
        }
        results
    }

    /// Puts and deletes as one operation, or each by itself as in [`Self::get_together`].
    async fn write_together(
        &self,
        entries: Vec<(Bytes, Option<Bytes>)>,
        options: &WriteOptions,
    ) -> Vec<Result<Written>> {
        if options.context.is_some() || !self.goes_together() {
            let each = entries.into_iter();
            let each = each.map(|(key, value)| self.write(key, value, options));
            return stream::iter(each).buffered(TOGETHER).collect().await;
        }
        let mut begun = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let start = self.begin_write(key, options).await;
            begun.push(start.and_then(|start| {
                let operation = Box::new(self.write_operation(&start, value, options)?);
                Ok((start, operation))
            }));
        }
        let mut results = Vec::with_capacity(begun.len());
        for done in self.run_together(begun).await {
            results.push(self.counted_write(match done {
                Ok((start, done)) => Ok(self.written(&start, done).await),
                Err(error) => Err(error),
            }));
        }
        results
    }

    /// A session notes each key as soon as it is done, which may take a while of its own.
    fn goes_together(&self) -> bool {
        if self.session.is_some() {
            return false;
        }
        let view = self.client.shared().view();
        let bucket = view.bucket_named(&self.name);
        bucket.is_some_and(|bucket| bucket.mode == Mode::Lww)
    }

    /// Runs what could be begun as one operation.
    async fn run_together<C>(
        &self,
        begun: Vec<Result<(Start, Box<C>)>>,
    ) -> Vec<Result<(Start, C::Done)>>
    where
        C: Coordinator + Send + 'static,
        C::Done: Send,
    {
        let mut machines = Vec::with_capacity(begun.len());
        let mut apart = |(start, machine)| {
            machines.push(machine);
            start
        };
        let starts: Vec<_> = begun
            .into_iter()
            .map(|begun| begun.map(&mut apart))
            .collect();
        let deadlines = starts.iter().flatten().map(|start| start.deadline_ms);
        let mut done = match deadlines.max() {
            Some(deadline_ms) => {
                let keys = machines.len();
                let span = tracing::debug_span!("annulet.many", bucket = %self.name, keys);
                let many = Many::new(machines);
                run(span, self.client.shared(), many, deadline_ms).await
            }
            None => Ok(Vec::new()),
        }
        .map(Vec::into_iter);
        let each = starts.into_iter().map(|start| {
            let start = start?;
            let lost = || Error::new(ErrorKind::Internal, "a part of an operation was lost");
            let done = done.as_mut().map_err(|error| error.clone())?;
            Ok((start, done.next().ok_or_else(lost)??))
        });
        each.collect()
    }
}

/// Keys of a multi-call that make one operation.
const TOGETHER: usize = 256;
/// Such operations of one call at a time.
const PARTS_AT_ONCE: usize = 4;
