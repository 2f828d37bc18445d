//! Operations on the keys of one bucket.
//!
//! # Layout
//! Documentation lists methods in the order of these modules.
//! - `basic`: one key; `many`: many keys at once; `scanning`: all of them
//! - `siblings`, `strong`: what only buckets of these modes have; `touch`: new times to live
//! - this file: what all of them are made of

mod basic;
mod many;
mod scanning;
mod siblings;
mod strong;
mod touch;

use crate::client::Client;
use crate::core::client::{Call, Core, Now, Start};
use crate::core::read::{ReadDone, ReadOperation};
use crate::core::session::By;
use crate::core::write::{WriteDone, WriteOperation};
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::options::{Context, Entry, ReadOptions, Ttl, WriteOptions, Written, expires_at_ms};
use crate::run::run;
use crate::session::State;
use crate::statistics::add;
use annulet_protocol::bucket::Mode;
use annulet_protocol::clock::Stamp;
use annulet_protocol::level::Level;
use annulet_protocol::limits::BUDGET_MS_MAX;
use annulet_protocol::record::Origin;
use annulet_protocol::register::Condition;
use annulet_protocol::session::Known;
use annulet_ring::quorum::Side;
use bytes::Bytes;
pub use siblings::Merging;
use std::sync::Arc;
use std::time::Duration;
pub use strong::{Committed, Update};

/// A bucket of a cluster. Cheap to clone; making one asks no server.
///
/// Keys are 1 to 4,096 bytes, values up to 16 MiB unless the cluster says otherwise.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> annulet::Result<()> {
/// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
/// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
/// let profiles = client.bucket("default");
/// profiles.put("user:bucket", "Ada").await?;
/// let profile = profiles.get("user:bucket").await?;
/// assert_eq!(profile.map(|entry| entry.value), Some("Ada".into()));
/// profiles.delete("user:bucket").await?;
/// assert!(!profiles.exists("user:bucket").await?);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Bucket {
    client: Client,
    name: Arc<str>,
    /// What the session has seen that it is used in.
    session: Option<Arc<State>>,
}

impl Bucket {
    pub(crate) fn new(client: Client, name: String) -> Self {
        Self {
            client,
            name: name.into(),
            session: None,
        }
    }

    pub(crate) fn in_session(mut self, session: Arc<State>) -> Self {
        self.session = Some(session);
        self
    }

    async fn try_exists(&self, key: Bytes, options: &ReadOptions) -> Result<bool> {
        let start = self.begin_read(key, options).await?;
        match start.bucket().mode {
            Mode::Siblings => {
                let read = Box::pin(self.read_siblings(start, options, true));
                Ok(read.await?.live)
            }
            Mode::Lww | Mode::Strong => {
                let read = self.run_read(start, options, true).await?;
                Ok(read.live.is_some())
            }
        }
    }

    pub(crate) async fn get_bytes(
        &self,
        key: Bytes,
        options: &ReadOptions,
    ) -> Result<Option<Entry>> {
        let get = self.try_get(key, options);
        self.counted_read(get.await)
    }

    /// What not every bucket needs is boxed, here and below: a future is as large as the largest
    /// that it may wait for, and is moved a few times before it rests.
    async fn try_get(&self, key: Bytes, options: &ReadOptions) -> Result<Option<Entry>> {
        let start = self.begin_read(key, options).await?;
        match start.bucket().mode {
            Mode::Siblings => {
                let read = Box::pin(self.read_siblings(start, options, false));
                Ok(siblings::entry(read.await?))
            }
            Mode::Lww | Mode::Strong => Ok(entry(self.run_read(start, options, false).await?)),
        }
    }

    fn call(&self, key: Bytes, level: Option<Level>, timeout: Option<Duration>) -> Call<'_> {
        Call {
            bucket: &self.name,
            key,
            level: level.or(self.client.shared().config.level),
            timeout_ms: self.timeout_ms(timeout),
        }
    }

    fn timeout_ms(&self, timeout: Option<Duration>) -> u64 {
        let timeout = timeout.unwrap_or(self.client.shared().config.timeout);
        u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)
    }

    /// Begins an operation. A bucket that the view does not know may be new: then a newer view is
    /// looked for, in the time of the operation.
    async fn begin(
        &self,
        timeout_ms: u64,
        begin: impl Fn(&mut Core, Now) -> Result<Start>,
    ) -> Result<Start> {
        let shared = self.client.shared();
        let called = shared.clock.now();
        let begun = begin(&mut shared.core(), called);
        match begun {
            Ok(start) => Ok(start),
            Err(unknown) => Box::pin(self.begin_anew(timeout_ms, (called, unknown), begin)).await,
        }
    }

    /// Begins an operation once a newer view is there, if there is one.
    async fn begin_anew(
        &self,
        timeout_ms: u64,
        (called, unknown): (Now, Error),
        begin: impl Fn(&mut Core, Now) -> Result<Start>,
    ) -> Result<Start> {
        let shared = self.client.shared();
        let limit_ms = timeout_ms.min(u64::from(BUDGET_MS_MAX));
        let deadline = shared.clock.instant(called.mono_ms + limit_ms);
        let look = shared.look_for_bucket(&self.name);
        match tokio::time::timeout_at(deadline, look).await {
            Ok(true) => {
                let now = Now {
                    mono_ms: called.mono_ms,
                    ..shared.clock.now()
                };
                begin(&mut shared.core(), now)
            }
            Ok(false) => Err(unknown),
            Err(_) => {
                let why = format!(
                    "{unknown}, as far as is known, and no server said more within {limit_ms} ms"
                );
                Err(Error::new(ErrorKind::Timeout, why))
            }
        }
    }

    async fn begin_call(&self, side: Side, call: Call<'_>) -> Result<Start> {
        let timeout_ms = call.timeout_ms;
        self.begin(timeout_ms, |core, now| core.begin(now, side, call.clone()))
            .await
    }

    async fn begin_read(&self, key: Bytes, options: &ReadOptions) -> Result<Start> {
        self.client.shared().check_open()?;
        let call = self.call(key, options.level, options.timeout);
        self.begin_call(Side::Read, call).await
    }

    /// Counts a read, and its error.
    fn counted_read<T>(&self, read: Result<T>) -> Result<T> {
        let counters = &self.client.shared().counters;
        add(&counters.reads, 1);
        read.inspect_err(|_| add(&counters.errors, 1))
    }

    /// A read of a last-write-wins record.
    pub(crate) async fn read(
        &self,
        key: Bytes,
        options: &ReadOptions,
        head_only: bool,
    ) -> Result<Read> {
        let read = async {
            let start = self.begin_read(key, options).await?;
            self.run_read(start, options, head_only).await
        };
        self.counted_read(read.await)
    }

    async fn run_read(&self, start: Start, options: &ReadOptions, head_only: bool) -> Result<Read> {
        let (start, floor) = self.in_order(start);
        if start.bucket().mode == Mode::Strong {
            return Box::pin(self.read_strong_in_order(start, options, head_only, floor)).await;
        }
        refuse_stale(options)?;
        let deadline_ms = start.deadline_ms;
        let span = tracing::debug_span!("annulet.read", bucket = %self.name, level = %start.level);
        let operation = read_operation(&start, head_only, floor)?;
        let done = run(span, self.client.shared(), operation, deadline_ms).await?;
        self.shown(&start, done).await
    }

    /// What a read has found, once its session has noted it.
    async fn shown(&self, start: &Start, done: ReadDone) -> Result<Read> {
        let ReadDone { head, value, live } = done;
        if let Some(head) = &head {
            self.note_seen(start, || Known::Version(head.version))
                .await?;
        }
        let live = head.filter(|_| live).map(|head| Live {
            version: head.version.to_string(),
            expires_at_ms: expires_at_ms(&head),
        });
        Ok(Read { value, live })
    }

    /// The same of a write, which is done whatever becomes of another key.
    async fn note_written(&self, start: &Start, known: impl FnOnce() -> Known) {
        forgets_later(self.note(start, By::Write, known).await);
    }

    /// What a read must show in its session, if it has one, and how it is made there.
    fn in_order(&self, start: Start) -> (Start, Option<Known>) {
        match &self.session {
            Some(session) => session.prepare(start),
            None => (start, None),
        }
    }

    /// Notes in the session what was seen. If it knows too many keys that a majority of
    /// their owners may not have, one of them is settled first.
    async fn note_seen(&self, start: &Start, known: impl FnOnce() -> Known) -> Result<()> {
        self.note(start, By::Read, known).await
    }

    async fn note(&self, start: &Start, by: By, known: impl FnOnce() -> Known) -> Result<()> {
        let Some(session) = &self.session else {
            return Ok(());
        };
        let Some(unsettled) = session.observe(start, by, known()) else {
            return Ok(());
        };
        match start.budget_ms(self.client.shared().clock.now().mono_ms) {
            0 => {
                let why = "no time is left to see that a majority has what the session forgets";
                Err(Error::new(ErrorKind::Timeout, why))
            }
            left_ms => {
                let left = Some(Duration::from_millis(left_ms.into()));
                Box::pin(session.settle(&self.client, unsettled, left)).await
            }
        }
    }

    async fn write(
        &self,
        key: Bytes,
        value: Option<Bytes>,
        options: &WriteOptions,
    ) -> Result<Written> {
        let always = Condition::Always;
        let done = self.try_write(key, value, always, options).await;
        self.counted_write(done)
    }

    /// Counts a write, and its error.
    fn counted_write<T>(&self, write: Result<T>) -> Result<T> {
        let counters = &self.client.shared().counters;
        add(&counters.writes, 1);
        write.inspect_err(|_| add(&counters.errors, 1))
    }

    /// A stamp for a write, after all that its session has seen of the key, and the time by which
    /// its expiry is set.
    fn mint(&self, start: &Start) -> (Stamp, u64) {
        let session = self.session.as_ref();
        let seen = session.and_then(|session| session.seen(start.hash));
        let shared = self.client.shared();
        let now = shared.clock.now();
        let mut core = shared.core();
        let stamp = core.mint_after(start.hash, seen.as_ref(), now);
        (stamp, core.clock.corrected_ms(now.wall_ms))
    }

    async fn try_write(
        &self,
        key: Bytes,
        value: Option<Bytes>,
        condition: Condition,
        options: &WriteOptions,
    ) -> Result<Written> {
        let refused = |error: Error| error.with_outcome(Outcome::NotApplied);
        let start = self.begin_write(key, options).await?;
        let has_context = options
            .context
            .as_ref()
            .is_some_and(|context| !context.is_empty());
        if has_context {
            start.expect(Mode::Siblings, "context").map_err(refused)?;
        }
        if start.bucket().mode == Mode::Strong || condition != Condition::Always {
            return Box::pin(self.write_strong(start, value, condition, options)).await;
        }
        if start.bucket().mode == Mode::Siblings {
            return Box::pin(self.write_siblings(start, value, options)).await;
        }
        let deadline_ms = start.deadline_ms;
        let span = tracing::debug_span!("annulet.write", bucket = %self.name, level = %start.level);
        let operation = self.write_operation(&start, value, options)?;
        let done = run(span, self.client.shared(), operation, deadline_ms).await?;
        Ok(self.written(&start, done).await)
    }

    /// Begins a put or a delete. What fails here was not applied.
    async fn begin_write(&self, key: Bytes, options: &WriteOptions) -> Result<Start> {
        let refused = |error: Error| error.with_outcome(Outcome::NotApplied);
        self.client.shared().check_open().map_err(refused)?;
        let call = self.call(key, options.level, options.timeout);
        self.begin_call(Side::Write, call).await.map_err(refused)
    }

    /// A write of a last-write-wins record, with its stamp.
    fn write_operation(
        &self,
        start: &Start,
        value: Option<Bytes>,
        options: &WriteOptions,
    ) -> Result<WriteOperation> {
        let refused = |error: Error| error.with_outcome(Outcome::NotApplied);
        let (stamp, now_ms) = self.mint(start);
        let of_bucket = start.bucket().ttl_ms;
        let expires_at_ms = expires_at_ms_of(options.ttl, of_bucket, now_ms).map_err(refused)?;
        let expires_at_ms = expires_at_ms.filter(|_| value.is_some());
        let origin = Origin {
            stamp,
            op: start.op,
        };
        WriteOperation::new(start.clone(), origin, value, expires_at_ms)
    }

    /// What a write has done, once its session has noted it.
    async fn written(&self, start: &Start, done: WriteDone) -> Written {
        let WriteDone {
            version,
            superseded,
            ..
        } = done;
        let newest = superseded.unwrap_or(version).max(version);
        self.note_written(start, || Known::Version(newest)).await;
        Written {
            version: version.to_string(),
            superseded: superseded.is_some(),
            ..Written::default()
        }
    }
}

/// What a read found, whatever the bucket's mode.
pub(crate) struct Read {
    /// The value, if there is one and it was asked for.
    pub(crate) value: Option<Bytes>,
    /// What is known of it besides; `None`: there is none.
    pub(crate) live: Option<Live>,
}

/// A value that has not expired, without the value.
pub(crate) struct Live {
    pub(crate) version: String,
    pub(crate) expires_at_ms: Option<u64>,
}

/// A read of a last-write-wins record. `floor`: what its session has seen of it.
fn read_operation(start: &Start, head_only: bool, floor: Option<Known>) -> Result<ReadOperation> {
    let operation = ReadOperation::new(start.clone(), head_only)?;
    Ok(match floor {
        Some(floor) => operation.at_least(floor),
        None => operation,
    })
}

/// What was done is done, whatever becomes of another key.
fn forgets_later(noted: Result<()>) {
    if let Err(error) = noted {
        tracing::debug!(%error, "a session cannot forget a key yet");
    }
}

/// What a reader is told; `None`: there is no value.
fn entry(Read { value, live }: Read) -> Option<Entry> {
    let (value, live) = value.zip(live)?;
    Some(Entry {
        siblings: vec![value.clone()],
        value,
        is_merged: true,
        context: Context::default(),
        version: live.version,
        expires_at_ms: live.expires_at_ms,
    })
}

/// Other modes have levels for it.
fn refuse_stale(options: &ReadOptions) -> Result<()> {
    if !options.stale {
        return Ok(());
    }
    let why = "`stale` is for strong buckets: ask for level `one`";
    Err(Error::new(ErrorKind::InvalidInput, why))
}

/// When a value expires that is written at `now_ms`; `None`: never.
fn expires_at_ms_of(ttl: Ttl, of_bucket: Option<u64>, now_ms: u64) -> Result<Option<u64>> {
    let after = match ttl {
        Ttl::Bucket => return Ok(of_bucket.map(|ttl_ms| now_ms.saturating_add(ttl_ms))),
        Ttl::Never => return Ok(None),
        // Zero would mean never.
        Ttl::Until(at_ms) => return Ok(Some(at_ms.max(1))),
        Ttl::After(after) => u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
    };
    match after {
        0 => Err(Error::new(
            ErrorKind::InvalidInput,
            "a time to live of zero: use at least 1 ms",
        )),
        after => Ok(Some(now_ms.saturating_add(after))),
    }
}

#[cfg(test)]
mod tests;
