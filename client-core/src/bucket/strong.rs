//! Operations on a strong bucket: conditional writes, updates, and what became of a write.

use super::{Bucket, Live, Read, expires_at_ms_of};
use crate::core::client::Start;
use crate::core::session::By;
use crate::core::strong::update::{Step, Update as Loop};
use crate::core::strong::{Resolved, StrongDone, StrongOperation, Task};
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::op_id::OpId;
use crate::options::{Entry, ReadOptions, WriteOptions, Written};
use crate::run::run;
use crate::statistics::add;
use annulet_protocol::ballot::Ballot;
use annulet_protocol::bucket::Mode;
use annulet_protocol::register::{Change, Condition};
use annulet_protocol::session::Known;
use annulet_ring::quorum::Side;
use bytes::Bytes;
use std::time::Duration;

impl Bucket {
    /// Stores a value in place of one of this version, in a strong bucket.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let flags = client.bucket("strong");
    /// use annulet::ErrorKind;
    ///
    /// let first = flags.put("flag:put_if", "off").await?;
    /// flags.put_if_version("flag:put_if", "on", &first.version).await?;
    ///
    /// // Somebody was here meanwhile.
    /// let late = flags.put_if_version("flag:put_if", "off", &first.version).await;
    /// assert_eq!(late.map_err(|error| error.kind()), Err(ErrorKind::Conflict));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Conflict` if the key has another version or no value: nothing was changed. Else as
    /// [`Bucket::put`]; what became of a write of unknown outcome is told by [`Bucket::resolve`].
    pub async fn put_if_version(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Bytes>,
        version: &str,
    ) -> Result<Written> {
        let options = WriteOptions::default();
        self.put_if_version_with(key, value, version, &options)
            .await
    }

    /// [`Bucket::put_if_version`] with options.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let locks = client.bucket("strong");
    /// use annulet::{Ttl, WriteOptions};
    /// use std::time::Duration;
    ///
    /// let lock = locks.put("job:put_if", "worker-3").await?;
    /// // Whoever holds it renews it.
    /// let for_a_minute = WriteOptions {
    ///     ttl: Ttl::After(Duration::from_secs(60)),
    ///     ..WriteOptions::default()
    /// };
    /// locks.put_if_version_with("job:put_if", "worker-3", &lock.version, &for_a_minute).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As `put_if_version`.
    pub async fn put_if_version_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Bytes>,
        version: &str,
        options: &WriteOptions,
    ) -> Result<Written> {
        let condition = Condition::Version(parse(version)?);
        self.put_if(key, value.into(), condition, options).await
    }

    /// Stores a value under a key that has none, in a strong bucket.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let names = client.bucket("strong");
    /// # names.delete("name:ada").await?;
    /// use annulet::ErrorKind;
    ///
    /// names.put_if_absent("name:ada", "user:1").await?;
    /// let taken = names.put_if_absent("name:ada", "user:2").await;
    /// assert_eq!(taken.map_err(|error| error.kind()), Err(ErrorKind::Conflict));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Conflict` if it has one; else as [`Bucket::put_if_version`].
    pub async fn put_if_absent(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Bytes>,
    ) -> Result<Written> {
        self.put_if_absent_with(key, value, &WriteOptions::default())
            .await
    }

    /// [`Bucket::put_if_absent`] with options.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let locks = client.bucket("strong");
    /// # locks.delete("job:if_absent").await?;
    /// use annulet::{Ttl, WriteOptions};
    /// use std::time::Duration;
    ///
    /// // If the holder fails, the lock is free again after half a minute.
    /// let lease = WriteOptions {
    ///     ttl: Ttl::After(Duration::from_secs(30)),
    ///     ..WriteOptions::default()
    /// };
    /// let lock = locks.put_if_absent_with("job:if_absent", "worker-3", &lease).await?;
    /// println!("held as version {}", lock.version);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As `put_if_absent`.
    pub async fn put_if_absent_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Bytes>,
        options: &WriteOptions,
    ) -> Result<Written> {
        self.put_if(key, value.into(), Condition::Absent, options)
            .await
    }

    /// Removes a value of this version, in a strong bucket.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let locks = client.bucket("strong");
    /// let lock = locks.put("job:delete_if", "worker-3").await?;
    /// // Whoever still holds it gives it back, and nobody else.
    /// locks.delete_if_version("job:delete_if", &lock.version).await?;
    /// assert!(!locks.exists("job:delete_if").await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Bucket::put_if_version`].
    pub async fn delete_if_version(&self, key: impl AsRef<[u8]>, version: &str) -> Result<Written> {
        self.delete_if_version_with(key, version, &WriteOptions::default())
            .await
    }

    /// [`Bucket::delete_if_version`] with options; a time to live means nothing here.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let locks = client.bucket("strong");
    /// use annulet::WriteOptions;
    /// use std::time::Duration;
    ///
    /// let lock = locks.put("job:delete_with", "worker-3").await?;
    /// let patient = WriteOptions {
    ///     timeout: Some(Duration::from_secs(10)),
    ///     ..WriteOptions::default()
    /// };
    /// locks.delete_if_version_with("job:delete_with", &lock.version, &patient).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As `delete_if_version`.
    pub async fn delete_if_version_with(
        &self,
        key: impl AsRef<[u8]>,
        version: &str,
        options: &WriteOptions,
    ) -> Result<Written> {
        let condition = Condition::Version(parse(version)?);
        let key = Bytes::copy_from_slice(key.as_ref());
        self.write_if(key, None, condition, options).await
    }

    /// Changes a value by a function of it, in a strong bucket: the function is called anew with
    /// the newest value until nobody else changed it meanwhile. `None` stands for no value, before
    /// and after. The result is `None` if there was none and is none.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let counters = client.bucket("strong");
    /// # counters.delete("visits:update").await?;
    /// let visit = |value: Option<&bytes::Bytes>| {
    ///     let visits = value.and_then(|value| String::from_utf8_lossy(value).parse().ok());
    ///     Some((visits.unwrap_or(0u64) + 1).to_string().into())
    /// };
    /// counters.update("visits:update", visit).await?;
    /// counters.update("visits:update", visit).await?;
    /// let visits = counters.get("visits:update").await?;
    /// assert_eq!(visits.map(|entry| entry.value), Some("2".into()));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Bucket::put_if_version`]; `Timeout` if others always came between.
    pub async fn update(
        &self,
        key: impl AsRef<[u8]>,
        change: impl FnMut(Option<&Bytes>) -> Option<Bytes>,
    ) -> Result<Option<Written>> {
        self.update_with(key, change, &WriteOptions::default())
            .await
    }

    /// [`Bucket::update`] with options. The timeout is for all tries together.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let queues = client.bucket("strong");
    /// # queues.delete("queue:update").await?;
    /// use annulet::WriteOptions;
    /// use std::time::Duration;
    ///
    /// // So many change it that it may take some tries.
    /// let patient = WriteOptions {
    ///     timeout: Some(Duration::from_secs(10)),
    ///     ..WriteOptions::default()
    /// };
    /// let push = |queue: Option<&bytes::Bytes>| {
    ///     let mut queue = queue.map(|queue| queue.to_vec()).unwrap_or_default();
    ///     queue.extend(b"job-7\n");
    ///     Some(queue.into())
    /// };
    /// queues.update_with("queue:update", push, &patient).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As `update`.
    pub async fn update_with(
        &self,
        key: impl AsRef<[u8]>,
        mut change: impl FnMut(Option<&Bytes>) -> Option<Bytes>,
        options: &WriteOptions,
    ) -> Result<Option<Written>> {
        let mut update = self.begin_update(key, options).await?;
        loop {
            let entry = update.value().await?;
            let next = change(entry.as_ref().map(|entry| &entry.value));
            if let Committed::Done(written) = update.commit(next).await? {
                return Ok(written);
            }
        }
    }

    /// The steps of [`Bucket::update`] one by one, for whoever cannot pass a function.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let flags = client.bucket("strong");
    /// use annulet::{Committed, WriteOptions};
    ///
    /// let mut update = flags.begin_update("flag:begin", &WriteOptions::default()).await?;
    /// loop {
    ///     let on = update.value().await?.is_some_and(|flag| flag.value == "on");
    ///     let flipped = if on { "off" } else { "on" };
    ///     if let Committed::Done(_) = update.commit(Some(flipped.into())).await? {
    ///         break;
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput`; nothing was sent.
    pub async fn begin_update(
        &self,
        key: impl AsRef<[u8]>,
        options: &WriteOptions,
    ) -> Result<Update> {
        let key = Bytes::copy_from_slice(key.as_ref());
        let call = self.call(key.clone(), None, options.timeout);
        let start = self.begin_call(Side::Write, call).await?;
        start.expect(Mode::Strong, "update")?;
        refuse_level(options)?;
        Ok(Update {
            bucket: self.clone(),
            key,
            options: options.clone(),
            state: Loop::new(start.op, start.deadline_ms),
        })
    }

    /// What became of a write of unknown outcome in a strong bucket. If it has not been applied, it
    /// never will be.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let locks = client.bucket("strong");
    /// # let op_id = "00112233445566778899aabbccddeeff-2-18bcfe56800-1".parse()?;
    /// use annulet::Resolved;
    ///
    /// // `op_id` is what `Error::op_id` gave.
    /// match locks.resolve("job:resolve", &op_id).await? {
    ///     Resolved::Applied { version } => println!("it is stored as {version}"),
    ///     Resolved::NotApplied => println!("it is not stored, and never will be"),
    ///     Resolved::Forgotten => println!("others have written since, over it or without it"),
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput`, or `Unavailable`, `Timeout` or `Overloaded` if too few replicas answered:
    /// ask again.
    pub async fn resolve(&self, key: impl AsRef<[u8]>, op_id: &OpId) -> Result<Resolved> {
        let counters = &self.client.shared().counters;
        add(&counters.writes, 1);
        let key = Bytes::copy_from_slice(key.as_ref());
        let done = self.try_resolve(key, op_id).await;
        let done = done.inspect_err(|_| add(&counters.errors, 1))?;
        Ok(match done.resolved {
            Some(Resolved::Applied { version }) => Resolved::Applied {
                version: version.to_string(),
            },
            Some(Resolved::Forgotten) => Resolved::Forgotten,
            Some(Resolved::NotApplied) | None => Resolved::NotApplied,
        })
    }

    async fn try_resolve(&self, key: Bytes, op_id: &OpId) -> Result<StrongDone> {
        self.client.shared().check_open()?;
        let call = self.call(key, None, None);
        let start = self.begin_call(Side::Write, call).await?;
        self.run_strong(start, Task::Resolve(*op_id)).await
    }

    /// A read of a strong bucket.
    pub(super) async fn read_strong(
        &self,
        start: Start,
        options: &ReadOptions,
        head_only: bool,
    ) -> Result<StrongDone> {
        if options.level.is_some() {
            let why = "a strong bucket takes no level: its reads see every write that was \
                       acknowledged, or, with `stale`, what any one owner has";
            return Err(Error::new(ErrorKind::InvalidInput, why));
        }
        let stale = options.stale;
        self.run_strong(start, Task::Read { head_only, stale })
            .await
    }

    /// The same in a session: what any one owner has may be older than what was seen.
    pub(super) async fn read_strong_in_order(
        &self,
        start: Start,
        options: &ReadOptions,
        head_only: bool,
        floor: Option<Known>,
    ) -> Result<Read> {
        let again = start.clone();
        let mut options = self.strong_options(&start, options);
        let mut done = self.read_strong(start, &options, head_only).await?;
        let version = |done: &StrongDone| done.head.as_ref().map(|head| head.version);
        if let Some(Known::Register(seen)) = floor
            && version(&done) < Some(seen)
        {
            self.client.shared().core().counts.widened += 1;
            options.stale = false;
            done = self.read_strong(again.clone(), &options, head_only).await?;
        }
        let by = match options.stale {
            true => By::StaleRead,
            false => By::Read,
        };
        if let Some(version) = version(&done) {
            self.note(&again, by, || Known::Register(version)).await?;
        }
        let live = done.head.filter(|_| done.live).map(|head| Live {
            version: head.version.to_string(),
            expires_at_ms: head.expires_at_ms,
        });
        let value = done.value;
        Ok(Read { value, live })
    }

    /// How a key is read: what its session has forgotten of it, any one owner may lack.
    pub(super) fn strong_options(&self, start: &Start, options: &ReadOptions) -> ReadOptions {
        let session = self.session.as_ref();
        let may_be_stale = session.is_none_or(|session| session.may_be_stale(start.hash));
        ReadOptions {
            stale: options.stale && may_be_stale,
            ..*options
        }
    }

    /// A write of a strong bucket.
    pub(super) async fn write_strong(
        &self,
        start: Start,
        value: Option<Bytes>,
        condition: Condition,
        options: &WriteOptions,
    ) -> Result<Written> {
        refuse_level(options)?;
        let refused = |error: Error| error.with_outcome(Outcome::NotApplied);
        let of_bucket = start.bucket().ttl_ms;
        let expires_at_ms = expires_at_ms_of(options.ttl, of_bucket, self.now_ms());
        let expires_at_ms = expires_at_ms.map_err(refused)?;
        let change = match value {
            Some(value) => Change::Set {
                value,
                expires_at_ms,
                condition,
            },
            None => Change::Delete { condition },
        };
        let done = self.run_strong(start.clone(), Task::Write(change)).await?;
        let version = done.written.unwrap_or_default();
        self.note_written(&start, || Known::Register(version)).await;
        Ok(written(version))
    }

    /// A touch in a strong bucket.
    pub(super) async fn touch_strong(
        &self,
        start: Start,
        options: &WriteOptions,
    ) -> Result<Option<Written>> {
        refuse_level(options)?;
        let refused = |error: Error| error.with_outcome(Outcome::NotApplied);
        let of_bucket = start.bucket().ttl_ms;
        let expires_at_ms = expires_at_ms_of(options.ttl, of_bucket, self.now_ms());
        let expires_at_ms = expires_at_ms.map_err(refused)?;
        let touch = Task::Write(Change::Touch { expires_at_ms });
        // A round finds the newest, whatever the session has seen.
        let done = self.run_strong(start.clone(), touch).await?;
        if let Some(seen) = done.written.or(done.head.map(|head| head.version)) {
            self.note_written(&start, || Known::Register(seen)).await;
        }
        Ok(done.written.map(written))
    }

    async fn run_strong(&self, start: Start, task: Task) -> Result<StrongDone> {
        let deadline_ms = start.deadline_ms;
        let span = tracing::debug_span!("annulet.strong", bucket = %self.name);
        let operation = StrongOperation::new(start, task)?;
        run(span, self.client.shared(), operation, deadline_ms).await
    }

    async fn put_if(
        &self,
        key: impl AsRef<[u8]>,
        value: Bytes,
        condition: Condition,
        options: &WriteOptions,
    ) -> Result<Written> {
        let key = Bytes::copy_from_slice(key.as_ref());
        self.write_if(key, Some(value), condition, options).await
    }

    async fn write_if(
        &self,
        key: Bytes,
        value: Option<Bytes>,
        condition: Condition,
        options: &WriteOptions,
    ) -> Result<Written> {
        let counters = &self.client.shared().counters;
        add(&counters.writes, 1);
        let done = self.try_write(key, value, condition, options).await;
        done.inspect_err(|_| add(&counters.errors, 1))
    }
}

/// One update of a value in steps: read it, decide, write it, until nobody came between.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> annulet::Result<()> {
/// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
/// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
/// # let stock = client.bucket("strong");
/// use annulet::{Committed, WriteOptions};
///
/// stock.put("apples:update", "3").await?;
/// let mut update = stock.begin_update("apples:update", &WriteOptions::default()).await?;
/// loop {
///     let left = update.value().await?;
///     let left = left.and_then(|left| String::from_utf8_lossy(&left.value).parse::<u32>().ok());
///     // None is left: the value goes.
///     let next = left.filter(|left| *left > 1).map(|left| (left - 1).to_string().into());
///     if let Committed::Done(_) = update.commit(next).await? {
///         break;
///     }
/// }
/// assert_eq!(stock.get("apples:update").await?.map(|left| left.value), Some("2".into()));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Update {
    bucket: Bucket,
    key: Bytes,
    options: WriteOptions,
    state: Loop,
}

/// What became of a step of an [`Update`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> annulet::Result<()> {
/// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
/// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
/// # let flags = client.bucket("strong");
/// use annulet::{Committed, WriteOptions};
///
/// flags.put("flag:committed", "off").await?;
/// let mut update = flags.begin_update("flag:committed", &WriteOptions::default()).await?;
/// update.value().await?;
/// // Somebody comes between.
/// flags.put("flag:committed", "on").await?;
/// assert_eq!(update.commit(None).await?, Committed::Again);
/// update.value().await?;
/// assert!(matches!(update.commit(None).await?, Committed::Done(Some(_))));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The value was written, or removed; `None`: there was none to remove.
    Done(Option<Written>),
    /// Somebody came between: look at the value again.
    Again,
}

impl Update {
    /// The value as it is now; `None`: there is none.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let flags = client.bucket("strong");
    /// use annulet::WriteOptions;
    ///
    /// flags.put("flag:value", "on").await?;
    /// let mut update = flags.begin_update("flag:value", &WriteOptions::default()).await?;
    /// assert_eq!(update.value().await?.map(|flag| flag.value), Some("on".into()));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Bucket::get`]; `Timeout` if the time of the whole update is over.
    pub async fn value(&mut self) -> Result<Option<Entry>> {
        let options = ReadOptions {
            timeout: Some(self.left()?),
            ..ReadOptions::default()
        };
        let read = self.bucket.get_with(&self.key, &options).await;
        let entry = read.map_err(|error| error.with_outcome(Outcome::NotApplied))?;
        let version = entry.as_ref().map(|entry| parse(&entry.version));
        self.state.saw(version.transpose()?);
        Ok(entry)
    }

    /// Writes a value, or removes it, if it still is what [`Update::value`] gave. After
    /// [`Committed::Again`] it has waited a little for whoever came between.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let flags = client.bucket("strong");
    /// use annulet::{Committed, WriteOptions};
    ///
    /// flags.put("flag:commit", "on").await?;
    /// let mut update = flags.begin_update("flag:commit", &WriteOptions::default()).await?;
    /// update.value().await?;
    /// let committed = update.commit(Some("off".into())).await?;
    /// assert!(matches!(committed, Committed::Done(Some(_))));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Bucket::put_if_version`], but for `Conflict`.
    pub async fn commit(&mut self, value: Option<Bytes>) -> Result<Committed> {
        if value.is_none() && self.state.condition() == Condition::Absent {
            return Ok(Committed::Done(None));
        }
        let options = WriteOptions {
            timeout: Some(self.left()?),
            ..self.options.clone()
        };
        let (key, condition) = (self.key.clone(), self.state.condition());
        let result = self.bucket.write_if(key, value, condition, &options).await;
        match self.state.after(result, self.now_ms())? {
            Step::Done(written) => Ok(Committed::Done(Some(written))),
            Step::Again { wait_ms } => {
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                Ok(Committed::Again)
            }
        }
    }

    fn now_ms(&self) -> u64 {
        self.bucket.client.shared().clock.now().mono_ms
    }

    fn left(&self) -> Result<Duration> {
        self.state
            .budget_ms(self.now_ms())
            .map(Duration::from_millis)
    }
}

fn written(version: Ballot) -> Written {
    Written {
        version: version.to_string(),
        superseded: false,
        ..Written::default()
    }
}

fn parse(version: &str) -> Result<Ballot> {
    version.parse().map_err(|why: String| {
        Error::new(ErrorKind::InvalidInput, why).with_outcome(Outcome::NotApplied)
    })
}

/// Every write of a strong bucket needs a majority of the owners, no more and no less.
fn refuse_level(options: &WriteOptions) -> Result<()> {
    match options.level {
        None => Ok(()),
        Some(level) => {
            let why = format!("a strong bucket takes no level, and the write names `{level}`");
            let error = Error::new(ErrorKind::InvalidInput, why);
            Err(error.with_outcome(Outcome::NotApplied))
        }
    }
}
