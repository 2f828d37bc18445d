//! Operations in buckets that keep concurrent writes.

use super::{Bucket, expires_at_ms_of, refuse_stale};
use crate::core::client::Start;
use crate::core::siblings::delete::{self, SiblingsDelete};
use crate::core::siblings::put::SiblingsPut;
use crate::core::siblings::read::{SiblingsDone, SiblingsRead};
use crate::core::siblings::resolve::Resolution;
use crate::error::{Error, Outcome, Result};
use crate::options::{Context, Entry, ReadOptions, WriteOptions, Written};
use crate::run::run;
use annulet_protocol::bucket::Mode;
use annulet_protocol::session::Known;
use annulet_protocol::siblings::merges::Merge;
use annulet_protocol::siblings::{Siblings, Write};
use bytes::Bytes;

impl Bucket {
    /// [`Bucket::get_with`] in a bucket of mode `siblings`, whose concurrent values the application
    /// merges: `resolve` is called with all of them where there are several and the bucket has no
    /// merge of its own, and what it gives is the entry's value. Write it back under the entry's
    /// context to make it what is stored.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let carts = client.bucket("carts");
    /// # carts.delete("user:get_merged").await?;
    /// use annulet::{ReadOptions, WriteOptions};
    ///
    /// carts.put("user:get_merged", "apples").await?;
    /// carts.put("user:get_merged", "pears").await?;
    ///
    /// let join = |carts: &[bytes::Bytes]| carts.join(&b'\n').into();
    /// let cart = carts.get_merged("user:get_merged", &ReadOptions::default(), join).await?;
    /// if let Some(cart) = cart {
    ///     assert_eq!((cart.siblings.len(), cart.is_merged), (2, true));
    ///     let seen = WriteOptions {
    ///         context: Some(cart.context),
    ///         ..WriteOptions::default()
    ///     };
    ///     let written = carts.put_with("user:get_merged", cart.value, &seen).await?;
    ///     assert_eq!(written.siblings, 1);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Bucket::get`]; `InvalidInput` in a bucket of another mode.
    pub async fn get_merged(
        &self,
        key: impl AsRef<[u8]>,
        options: &ReadOptions,
        resolve: impl FnOnce(&[Bytes]) -> Bytes,
    ) -> Result<Option<Entry>> {
        let found = self.begin_merge(key, options).await?;
        let merged = found.unmerged().map(|values| resolve(&values));
        Ok(found.finish(merged))
    }

    /// The steps of [`Bucket::get_merged`] one by one, for whoever cannot pass a function.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let carts = client.bucket("carts");
    /// # carts.delete("user:begin_merge").await?;
    /// use annulet::ReadOptions;
    ///
    /// carts.put("user:begin_merge", "apples").await?;
    /// let found = carts.begin_merge("user:begin_merge", &ReadOptions::default()).await?;
    /// assert_eq!(found.unmerged(), None); // There is only one value.
    /// let cart = found.finish(None);
    /// assert_eq!(cart.map(|cart| cart.value), Some("apples".into()));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As `get_merged`.
    pub async fn begin_merge(
        &self,
        key: impl AsRef<[u8]>,
        options: &ReadOptions,
    ) -> Result<Merging> {
        let key = Bytes::copy_from_slice(key.as_ref());
        let read = async {
            let start = self.begin_read(key, options).await?;
            start.expect(Mode::Siblings, "merge of concurrent values")?;
            self.read_siblings(start, options, false).await
        };
        let found = Resolution::new(self.counted_read(read.await)?);
        Ok(Merging { found })
    }

    /// Notes in the session what a delete has merged away.
    async fn note_context(&self, start: &Start, context: &Bytes) {
        let seen = Siblings::unseal(start.bucket().number, &start.key, context);
        if let Ok(seen) = seen {
            self.note_written(start, || Known::Siblings(seen)).await;
        }
    }

    /// A get or an exists that was begun.
    pub(super) async fn read_siblings(
        &self,
        start: Start,
        options: &ReadOptions,
        head_only: bool,
    ) -> Result<SiblingsDone> {
        refuse_stale(options)?;
        let (start, floor) = self.in_order(start);
        let deadline_ms = start.deadline_ms;
        let span = tracing::debug_span!("annulet.read", bucket = %self.name, level = %start.level);
        let mut operation = SiblingsRead::new(start.clone(), head_only)?;
        if let Some(floor) = floor {
            operation = operation.at_least(floor);
        }
        let done = run(span, self.client.shared(), operation, deadline_ms).await?;
        self.note_seen(&start, || Known::Siblings(done.record.bare()))
            .await?;
        Ok(done)
    }

    /// A put or a delete that was begun.
    pub(super) async fn write_siblings(
        &self,
        start: Start,
        value: Option<Bytes>,
        options: &WriteOptions,
    ) -> Result<Written> {
        let shared = self.client.shared();
        let refused = |error: Error| error.with_outcome(Outcome::NotApplied);
        let deadline_ms = start.deadline_ms;
        let span = tracing::debug_span!("annulet.write", bucket = %self.name, level = %start.level);
        let context = options.context.as_ref().map(Context::to_bytes);
        let Some(value) = value else {
            match context.filter(|context| !context.is_empty()) {
                Some(context) => {
                    let operation = delete::under(start.clone(), context.clone())?;
                    run(span, shared, operation, deadline_ms).await?;
                    self.note_context(&start, &context).await;
                }
                None => {
                    // Its level stays: the read before it has one of its own.
                    let (_, floor) = self.in_order(start.clone());
                    let operation = SiblingsDelete::delete(start.clone(), floor)?;
                    let done = run(span, shared, operation, deadline_ms).await?;
                    self.note_context(&start, &done.context).await;
                }
            }
            return Ok(Written::default());
        };
        let of_bucket = start.bucket().ttl_ms;
        let expires_at_ms = expires_at_ms_of(options.ttl, of_bucket, self.now_ms());
        let expires_at_ms = expires_at_ms.map_err(refused)?;
        let bucket = start.bucket().number;
        let write = Write::seal(bucket, &start.key, start.op, value, expires_at_ms);
        let context = context.unwrap_or_default();
        let operation = SiblingsPut::put(start.clone(), write, context)?;
        let done = run(span, shared, operation, deadline_ms).await?;
        self.note_written(&start, || Known::Siblings(done.record.bare()))
            .await;
        Ok(Written {
            version: format!("{:016x}", done.record.fingerprint()),
            superseded: false,
            context: done.context.map(Context::new),
            siblings: done.siblings,
        })
    }
}

/// What a read found in a bucket of mode `siblings`, to be merged by the application.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> annulet::Result<()> {
/// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
/// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
/// # let carts = client.bucket("carts");
/// # carts.delete("user:merging").await?;
/// use annulet::ReadOptions;
///
/// carts.put("user:merging", "apples").await?;
/// carts.put("user:merging", "pears").await?;
/// let found = carts.begin_merge("user:merging", &ReadOptions::default()).await?;
/// let merged = found.unmerged().map(|carts| carts.join(&b'\n').into());
/// let cart = found.finish(merged);
/// assert!(cart.is_some_and(|cart| cart.is_merged && cart.value.len() == "apples\npears".len()));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Merging {
    found: Resolution,
}

impl Merging {
    /// The concurrent values that nobody has merged, in an order that is the same for every reader;
    /// `None`: there is one value, or none, or the bucket's own merge has made one of them.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let carts = client.bucket("carts");
    /// # carts.delete("user:unmerged").await?;
    /// use annulet::ReadOptions;
    ///
    /// carts.put("user:unmerged", "apples").await?;
    /// carts.put("user:unmerged", "pears").await?;
    /// let found = carts.begin_merge("user:unmerged", &ReadOptions::default()).await?;
    /// assert_eq!(found.unmerged().map(|carts| carts.len()), Some(2));
    /// # Ok(()) }
    /// ```
    pub fn unmerged(&self) -> Option<Vec<Bytes>> {
        self.found.unmerged()
    }

    /// The entry, whose value is what was made of the unmerged ones; `None`: there is no value. Of
    /// values that were left unmerged it is the one written last.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let carts = client.bucket("carts");
    /// # carts.delete("user:finish").await?;
    /// use annulet::ReadOptions;
    ///
    /// carts.put("user:finish", "apples").await?;
    /// carts.put("user:finish", "pears").await?;
    /// let found = carts.begin_merge("user:finish", &ReadOptions::default()).await?;
    /// let cart = found.finish(Some("apples and pears".into()));
    /// assert_eq!(cart.map(|cart| cart.value), Some("apples and pears".into()));
    /// # Ok(()) }
    /// ```
    pub fn finish(mut self, merged: Option<Bytes>) -> Option<Entry> {
        if let Some(merged) = merged {
            self.found.merge(merged);
        }
        entry(self.found.finish())
    }
}

/// What a reader is told; `None`: there is no value.
pub(super) fn entry(done: SiblingsDone) -> Option<Entry> {
    let latest = Merge::Lww.apply(&done.values).ok().flatten();
    let value = done.merged.clone().or(latest)?;
    let ends = done.values.iter().map(|one| one.write.expires_at_ms);
    Some(Entry {
        value,
        is_merged: done.merged.is_some() || done.values.len() == 1,
        siblings: done
            .values
            .iter()
            .map(|one| one.write.value.clone())
            .collect(),
        context: Context::new(done.context),
        version: format!("{:016x}", done.record.fingerprint()),
        // It lives as long as one of them does.
        expires_at_ms: ends
            .collect::<Option<Vec<_>>>()
            .and_then(|ends| ends.into_iter().max()),
    })
}
