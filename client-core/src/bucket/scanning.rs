//! Going through a bucket, and what that asks of it.

use super::Bucket;
use crate::core::scan::{PageLimits, ScanDone, ScanOperation};
use crate::error::Result;
use crate::options::ReadOptions;
use crate::run::run;
use crate::scan::{Scan, ScanOptions};
use crate::statistics::add;
use annulet_protocol::hash::storage_key;
use annulet_protocol::view::View;
use bytes::Bytes;
use std::sync::Arc;
use tokio::task::JoinHandle;

impl Bucket {
    /// Goes through everything in the bucket, a page at a time.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let profiles = client.bucket("plain");
    /// profiles.put("user:scan", "Ada").await?;
    /// let mut scan = profiles.scan(annulet::ScanOptions::default())?;
    /// while let Some(page) = scan.next_page().await? {
    ///     for entry in page.entries {
    ///         println!("{:?}: {} bytes", entry.key, entry.value.map_or(0, |value| value.len()));
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput`: the page is too long, or the cursor is none. That the bucket is of another
    /// mode than `lww`, where there is no scan yet, [`Scan::next_page`] says.
    pub fn scan(&self, options: ScanOptions) -> Result<Scan> {
        Scan::new(self.clone(), options)
    }

    /// What comes after a cursor in one arc of the ring.
    pub(crate) async fn scan_part(
        &self,
        after: Bytes,
        limits: PageLimits,
        options: &ReadOptions,
    ) -> Result<ScanDone> {
        let counters = &self.client.shared().counters;
        add(&counters.scans, 1);
        let done = self.try_scan_part(after, limits, options).await;
        done.inspect_err(|_| add(&counters.errors, 1))
    }

    async fn try_scan_part(
        &self,
        after: Bytes,
        limits: PageLimits,
        options: &ReadOptions,
    ) -> Result<ScanDone> {
        let shared = self.client.shared();
        shared.check_open()?;
        let level = options.level.or(shared.config.level);
        let timeout_ms = self.timeout_ms(options.timeout);
        let start = self
            .begin(timeout_ms, |core, now| {
                core.begin_scan(now, &self.name, level, timeout_ms)
            })
            .await?;
        let deadline_ms = start.deadline_ms;
        let span = tracing::debug_span!("annulet.scan", bucket = %self.name, level = %start.level);
        let operation = ScanOperation::new(start, after, limits)?;
        run(span, shared, operation, deadline_ms).await
    }

    /// The key under which servers hold a key of this bucket; `None` if the bucket is not known.
    pub(crate) fn storage_key(&self, key: &[u8]) -> Option<Bytes> {
        let view = self.view();
        let number = view.bucket_named(&self.name)?.number;
        Some(storage_key(view.hash(number, key), number, key))
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.client.view()
    }

    /// The time by which expiry is judged, in milliseconds since the Unix epoch.
    pub(crate) fn now_ms(&self) -> u64 {
        let shared = self.client.shared();
        let wall_ms = shared.clock.now().wall_ms;
        shared.core().clock.corrected_ms(wall_ms)
    }

    /// Runs a future where the client's work runs.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.client.shared().runtime.spawn(future)
    }
}
