//! Everything in a bucket, page after page. A page that could not be read is asked for again a few
//! times.

use crate::connect::Session;
use crate::failure::Failure;
use crate::patience::{self, PAUSES};
use annulet::{Bucket, Scan, ScanOptions, ScanPage};

/// The pages of a bucket.
pub(crate) struct Pages {
    bucket: Bucket,
    options: ScanOptions,
    scan: Scan,
    /// Entries that are still wanted; `None`: all there are.
    left: Option<u64>,
}

impl Pages {
    /// The pages that `options` ask for, with at most `limit` entries together.
    pub(crate) fn new(
        session: &Session,
        mut options: ScanOptions,
        limit: Option<u64>,
    ) -> Result<Self, Failure> {
        options.page_entries = fitting(options.page_entries, limit);
        let bucket = session.bucket.clone();
        Ok(Self {
            scan: bucket.scan(options.clone())?,
            bucket,
            options,
            left: limit,
        })
    }

    /// The next page; `None` after the last one. `say` is told why it takes longer. Dropping the
    /// future loses nothing, and after an error the page can be asked for again.
    pub(crate) async fn next(&mut self, say: impl Fn(&str)) -> Result<Option<ScanPage>, Failure> {
        if self.left == Some(0) {
            return Ok(None);
        }
        let fitting = fitting(self.options.page_entries, self.left);
        if fitting != self.options.page_entries {
            // Another scan, so that the cursor of its page is that of the last entry wanted.
            self.options.page_entries = fitting;
            self.scan = self.bucket.scan(self.options.clone())?;
        }
        let page = self.patiently(say).await?;
        if let Some(page) = &page {
            self.options.cursor.clone_from(&page.cursor);
            let entries = page.entries.len() as u64;
            self.left = self.left.map(|left| left.saturating_sub(entries));
            if page.cursor.is_none() {
                self.left = Some(0);
            }
        }
        Ok(page)
    }

    /// Where the next page begins; `None` before the first one and after the last.
    pub(crate) fn cursor(&self) -> Option<&str> {
        self.options.cursor.as_deref()
    }

    async fn patiently(&mut self, say: impl Fn(&str)) -> Result<Option<ScanPage>, annulet::Error> {
        for pause in PAUSES {
            match self.scan.next_page().await {
                Err(error) if error.is_retryable() => {
                    say(&patience::again("asking for this page", &error, pause));
                    tokio::time::sleep(pause).await;
                }
                done => return done,
            }
        }
        self.scan.next_page().await
    }
}

fn fitting(page_entries: u32, left: Option<u64>) -> u32 {
    let left = left.and_then(|left| u32::try_from(left).ok());
    page_entries.min(left.unwrap_or(u32::MAX))
}
