//! A new time to live for a value that stays as it is.

use super::{Bucket, expires_at_ms_of, forgets_later};
use crate::core::client::Start;
use crate::core::touch::{TouchDone, TouchOperation};
use crate::error::{Error, Outcome, Result};
use crate::options::{Ttl, WriteOptions, Written};
use crate::run::run;
use crate::statistics::add;
use annulet_protocol::bucket::Mode;
use annulet_protocol::session::Known;
use annulet_ring::quorum::Side;
use bytes::Bytes;

impl Bucket {
    /// Gives a value a new time to live from now on, without sending it: renewing a session never
    /// brings an older value back, nor a newer one down. `None` if there is no value.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let sessions = client.bucket("default");
    /// use annulet::Ttl;
    /// use std::time::Duration;
    ///
    /// sessions.put("session:touch", "user:1").await?;
    /// let half_an_hour = Ttl::After(Duration::from_secs(1_800));
    /// assert!(sessions.touch("session:touch", half_an_hour).await?.is_some());
    /// // It is over, or there never was one.
    /// assert_eq!(sessions.touch("session:nobody", half_an_hour).await?, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Bucket::put`]; `InvalidInput` in a bucket of mode `siblings`.
    pub async fn touch(&self, key: impl AsRef<[u8]>, ttl: Ttl) -> Result<Option<Written>> {
        let options = WriteOptions {
            ttl,
            ..WriteOptions::default()
        };
        self.touch_with(key, &options).await
    }

    /// [`Bucket::touch`] with options. The version of the result is the value's, which stays as it
    /// is; `superseded` says that a newer value was there already, whose expiry was left alone.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let sessions = client.bucket("default");
    /// use annulet::{Level, Ttl, WriteOptions};
    /// use std::time::Duration;
    ///
    /// let written = sessions.put("session:touch_with", "user:1").await?;
    /// let options = WriteOptions {
    ///     ttl: Ttl::After(Duration::from_secs(1_800)),
    ///     level: Some(Level::All),
    ///     ..WriteOptions::default()
    /// };
    /// let touched = sessions.touch_with("session:touch_with", &options).await?;
    /// assert_eq!(touched.map(|touched| touched.version), Some(written.version));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Bucket::put`].
    pub async fn touch_with(
        &self,
        key: impl AsRef<[u8]>,
        options: &WriteOptions,
    ) -> Result<Option<Written>> {
        let counters = &self.client.shared().counters;
        add(&counters.writes, 1);
        let done = self.try_touch(Bytes::copy_from_slice(key.as_ref()), options);
        done.await.inspect_err(|_| add(&counters.errors, 1))
    }

    async fn try_touch(&self, key: Bytes, options: &WriteOptions) -> Result<Option<Written>> {
        let shared = self.client.shared();
        let refused = |error: Error| error.with_outcome(Outcome::NotApplied);
        shared.check_open().map_err(refused)?;
        let call = self.call(key, options.level, options.timeout);
        let start = self.begin_call(Side::Write, call).await.map_err(refused)?;
        if start.bucket().mode == Mode::Strong {
            return self.touch_strong(start, options).await;
        }
        start.expect(Mode::Lww, "touch").map_err(refused)?;
        let of_bucket = start.bucket().ttl_ms;
        let expires_at_ms =
            expires_at_ms_of(options.ttl, of_bucket, self.now_ms()).map_err(refused)?;
        let deadline_ms = start.deadline_ms;
        let span = tracing::debug_span!("annulet.touch", bucket = %self.name, level = %start.level);
        let (operation, reading) = self.touching(&start, expires_at_ms)?;
        let done = run(span, shared, operation, deadline_ms).await?;
        self.note_touched((&reading, &start), &done).await;
        let TouchDone {
            touched,
            superseded,
            ..
        } = done;
        Ok(touched.map(|version| Written {
            version: version.to_string(),
            superseded: superseded.is_some(),
            ..Written::default()
        }))
    }

    /// A touch of what its session has seen at least, and what its read begins with.
    pub(super) fn touching(
        &self,
        start: &Start,
        at_ms: Option<u64>,
    ) -> Result<(TouchOperation, Start)> {
        let (reading, floor) = self.in_order(start.reading());
        let touch = TouchOperation::touch(reading.clone(), start.clone(), at_ms)?;
        let touch = match floor {
            Some(floor) => touch.at_least(floor),
            None => touch,
        };
        Ok((touch, reading))
    }

    /// Notes in the session what a touch has found, or left with so many owners as its level says.
    pub(super) async fn note_touched(&self, (reading, start): (&Start, &Start), done: &TouchDone) {
        let newest = done.superseded.max(done.touched);
        match (newest, done.seen) {
            (Some(newest), _) => self.note_written(start, || Known::Version(newest)).await,
            (None, Some(seen)) => {
                let seen = self.note_seen(reading, || Known::Version(seen)).await;
                forgets_later(seen);
            }
            (None, None) => {}
        }
    }
}
