//! Everything in a bucket, a page at a time.

use crate::bucket::Bucket;
use crate::core::scan::{PageLimits, ScanDone, Scanned, arc_after};
use crate::error::{Error, ErrorKind, Result};
use crate::options::{ReadOptions, expires_at_ms};
use annulet_protocol::hash::parse_storage_key;
use annulet_protocol::level::Level;
use annulet_protocol::limits::{KEY_BYTES_MAX, PAGE_BYTES_MAX, PAGE_ENTRIES_MAX};
use annulet_protocol::record::Head;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Arcs of the ring that are asked at a time.
const ARCS_AT_ONCE: usize = 16;
/// Longest value that comes along with its key. A longer one is asked for by itself.
const VALUE_BYTES: u32 = 64 << 10;
/// Values that are asked for by themselves at a time; each may be as long as values can be.
const READS_AT_ONCE: usize = 4;
/// A page ends when it has so many bytes of keys and values.
const FULL_BYTES: usize = 8 << 20;

/// Options of a scan.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> annulet::Result<()> {
/// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
/// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
/// # let profiles = client.bucket("plain");
/// use annulet::ScanOptions;
///
/// profiles.put("options:1", "a long value").await?;
/// let keys_only = ScanOptions {
///     keys_only: true,
///     page_entries: 1_024,
///     ..ScanOptions::default()
/// };
/// if let Some(page) = profiles.scan(keys_only)?.next_page().await? {
///     assert!(page.entries.iter().all(|entry| entry.value.is_none()));
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanOptions {
    /// Whether values are left out, which is far cheaper where they are long.
    pub keys_only: bool,
    /// Most entries of a page, 1 to 1,024. A page of long values may have fewer.
    pub page_entries: u32,
    /// Where to begin: the cursor of a page of an earlier scan; `None`: with everything.
    pub cursor: Option<String>,
    /// How many owners must answer; `None`: the client's or the bucket's level.
    pub level: Option<Level>,
    /// How long each request for a part of a page may take, 1 ms to 10 minutes; `None`: the
    /// client's timeout.
    pub timeout: Option<Duration>,
}

impl Default for ScanOptions {
    fn default() -> Self {
        Self {
            keys_only: false,
            page_entries: 256,
            cursor: None,
            level: None,
            timeout: None,
        }
    }
}

/// A part of what is in a bucket.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> annulet::Result<()> {
/// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
/// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
/// # let profiles = client.bucket("plain");
/// use annulet::ScanOptions;
///
/// let entries = ["page:1", "page:2"].map(|key| (key.into(), "Ada".into()));
/// profiles.multi_put(entries).await.into_iter().collect::<annulet::Result<Vec<_>>>()?;
/// let one = ScanOptions { page_entries: 1, ..ScanOptions::default() };
/// let first = profiles.scan(one)?.next_page().await?;
///
/// // Later, perhaps in another process:
/// let rest = ScanOptions {
///     cursor: first.and_then(|page| page.cursor),
///     ..ScanOptions::default()
/// };
/// assert!(profiles.scan(rest)?.next_page().await?.is_some());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanPage {
    /// The entries, in order of the hashes of their keys.
    pub entries: Vec<ScanEntry>,
    /// Where the next page begins, an opaque string that any later scan of this bucket takes;
    /// `None`: there is none.
    pub cursor: Option<String>,
}

/// A key that was found.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> annulet::Result<()> {
/// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
/// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
/// # let profiles = client.bucket("plain");
/// profiles.put("entry:1", "Ada").await?;
/// let mut scan = profiles.scan(annulet::ScanOptions::default())?;
/// while let Some(page) = scan.next_page().await? {
///     for entry in page.entries {
///         println!("{:?} = {:?}, version {}", entry.key, entry.value, entry.version);
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanEntry {
    /// The key.
    pub key: Bytes,
    /// Its value; `None` in a scan of keys only.
    pub value: Option<Bytes>,
    /// The version of the value, an opaque string.
    pub version: String,
    /// When it expires, in milliseconds since the Unix epoch; `None`: it does not.
    pub expires_at_ms: Option<u64>,
}

impl ScanEntry {
    fn of(key: Bytes, head: &Head, value: Option<Bytes>) -> Self {
        Self {
            key,
            value,
            version: head.version.to_string(),
            expires_at_ms: expires_at_ms(head),
        }
    }

    fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// A scan of a bucket, see [`Bucket::scan`]. It is no snapshot: a key that is there throughout
/// comes exactly once, one that is written or deleted meanwhile may come or not.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> annulet::Result<()> {
/// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
/// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
/// # let profiles = client.bucket("plain");
/// profiles.put("scan:1", "Ada").await?;
/// let mut scan = profiles.scan(annulet::ScanOptions::default())?;
/// let mut found = Vec::new();
/// while let Some(page) = scan.next_page().await? {
///     found.extend(page.entries.into_iter().map(|entry| entry.key));
/// }
/// assert!(found.contains(&"scan:1".into()));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Scan {
    bucket: Bucket,
    options: ScanOptions,
    /// Everything up to here is in `found`, or was given out; `None`: the whole bucket is.
    position: Option<Bytes>,
    /// Parts that are under way, in order.
    ahead: VecDeque<Fetch>,
    found: VecDeque<Found>,
    /// The page that is being filled. It is kept here so that giving up on a page loses nothing.
    page: Vec<ScanEntry>,
    page_bytes: usize,
    /// The storage key of the last entry that is in a page.
    last: Option<Bytes>,
}

/// A key of the part that was read last.
#[derive(Clone, Debug)]
enum Found {
    /// All that is needed of it.
    Whole(Scanned),
    /// Its owners differ, or its value did not come along.
    Unread(Bytes),
}

/// A part that is under way.
#[derive(Debug)]
struct Fetch {
    /// It is of what comes after this.
    after: Bytes,
    task: JoinHandle<Result<ScanDone>>,
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Scan {
    pub(crate) fn new(bucket: Bucket, options: ScanOptions) -> Result<Self> {
        if !(1..=PAGE_ENTRIES_MAX).contains(&options.page_entries) {
            let why = format!(
                "a page of {} entries; it must be 1 to {PAGE_ENTRIES_MAX}",
                options.page_entries
            );
            return Err(Error::new(ErrorKind::InvalidInput, why));
        }
        let position = match &options.cursor {
            Some(cursor) => parse_cursor(cursor)?,
            None => Bytes::new(),
        };
        Ok(Self {
            bucket,
            options,
            position: Some(position),
            ahead: VecDeque::new(),
            found: VecDeque::new(),
            page: Vec::new(),
            page_bytes: 0,
            last: None,
        })
    }

    /// The next page; `None` once everything was given out. After an error that
    /// [`Error::is_retryable`] it can be called again and goes on where it was. A future that is
    /// dropped before it is done loses nothing.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let profiles = client.bucket("plain");
    /// profiles.put("next_page:1", "Ada").await?;
    /// let mut scan = profiles.scan(annulet::ScanOptions::default())?;
    /// let mut entries = 0;
    /// loop {
    ///     match scan.next_page().await {
    ///         Ok(Some(page)) => entries += page.entries.len(),
    ///         Ok(None) => break,
    ///         // Servers are away for a moment: it goes on where it was.
    ///         Err(error) if error.is_retryable() => continue,
    ///         Err(error) => return Err(error),
    ///     }
    /// }
    /// assert!(entries > 0);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` if there is no such bucket, or it is not of mode `lww`; `Unavailable`,
    /// `Timeout` or `Overloaded` if too few owners of a part of the bucket answered.
    pub async fn next_page(&mut self) -> Result<Option<ScanPage>> {
        while self.page.len() < self.options.page_entries as usize && self.page_bytes < FULL_BYTES {
            let more = match self.found.is_empty() {
                true if self.position.is_none() => break,
                true => self.fetch().await,
                false => self.fill().await,
            };
            match more {
                // What there is goes first. If the reason lasts, the next page finds it again.
                Err(_) if !self.page.is_empty() => break,
                more => more?,
            }
        }
        if self.page.is_empty() {
            return Ok(None);
        }
        self.page_bytes = 0;
        Ok(Some(ScanPage {
            entries: std::mem::take(&mut self.page),
            cursor: self.cursor().map(|cursor| hexadecimal(&cursor)),
        }))
    }

    /// Gives up what was asked for ahead, for whoever stops in the middle and keeps the scan. It
    /// goes on all the same.
    pub(crate) fn forget_ahead(&mut self) {
        self.ahead.clear();
    }

    /// Where the next page begins.
    fn cursor(&self) -> Option<Bytes> {
        match self.found.is_empty() {
            true => self.position.clone(),
            false => self.last.clone(),
        }
    }

    /// Reads the next part.
    async fn fetch(&mut self) -> Result<()> {
        self.look_ahead();
        let Some(fetch) = self.ahead.front_mut() else {
            return Ok(());
        };
        let done = (&mut fetch.task).await;
        self.ahead.pop_front();
        let lost = |_| Err(Error::new(ErrorKind::Internal, "a part of a scan was lost"));
        let done = done
            .unwrap_or_else(lost)
            .inspect_err(|_| self.ahead.clear())?;
        self.position = done.cursor;
        self.found = self.in_order(done.entries, done.unsettled);
        Ok(())
    }

    /// Sees to it that the part at the position and some after it are under way.
    fn look_ahead(&mut self) {
        let Some(position) = self.position.clone() else {
            return;
        };
        while self.ahead.front().is_some_and(|f| f.after < position) {
            self.ahead.pop_front();
        }
        if self.ahead.front().is_none_or(|f| f.after != position) {
            let fetch = self.begin(position);
            self.ahead.push_front(fetch);
        }
        let view = self.bucket.view();
        while self.ahead.len() < ARCS_AT_ONCE
            && let Some(last) = self.ahead.back()
            && let Some(after) = arc_after(&view, &last.after)
        {
            let fetch = self.begin(after);
            self.ahead.push_back(fetch);
        }
    }

    fn begin(&self, after: Bytes) -> Fetch {
        let limits = PageLimits {
            entries: self.options.page_entries,
            bytes: PAGE_BYTES_MAX,
            value_bytes: if self.options.keys_only {
                0
            } else {
                VALUE_BYTES
            },
        };
        let (bucket, reading) = (self.bucket.clone(), self.reading());
        let part = after.clone();
        let task = self
            .bucket
            .spawn(async move { bucket.scan_part(part, limits, &reading).await });
        Fetch { after, task }
    }

    /// The keys of a part that may have a value, in order of their hashes.
    fn in_order(&self, entries: Vec<Scanned>, unsettled: Vec<Bytes>) -> VecDeque<Found> {
        let now_ms = self.bucket.now_ms();
        let live = entries.into_iter().filter(|e| e.head.is_live(now_ms));
        let mut found: Vec<_> = live
            .map(
                |entry| match entry.value.is_some() || self.options.keys_only {
                    true => Found::Whole(entry),
                    false => Found::Unread(entry.key),
                },
            )
            .chain(unsettled.into_iter().map(Found::Unread))
            .collect();
        found.sort_by_cached_key(|found| self.bucket.storage_key(found.key()));
        found.into()
    }

    /// Moves what fits of `found` to the page.
    async fn fill(&mut self) -> Result<()> {
        let room = self.options.page_entries as usize - self.page.len();
        let mut unread = 0;
        let next = self.found.iter().take(room).take_while(|found| {
            unread += usize::from(matches!(found, Found::Unread(_)));
            unread <= READS_AT_ONCE
        });
        let next: Vec<_> = next.cloned().collect();
        let this = &*self;
        let read = stream::iter(next).map(|found| this.read(found));
        let read: Vec<_> = read.buffered(READS_AT_ONCE).collect().await;
        for entry in read {
            let entry = entry?;
            let Some(found) = self.found.pop_front() else {
                break;
            };
            self.last = self.bucket.storage_key(found.key());
            if let Some(entry) = entry {
                self.page_bytes += entry.bytes();
                self.page.push(entry);
            }
            if self.page_bytes >= FULL_BYTES {
                break;
            }
        }
        Ok(())
    }

    /// The entry of a key, if there is one.
    async fn read(&self, found: Found) -> Result<Option<ScanEntry>> {
        let key = match found {
            Found::Whole(Scanned { key, head, value }) => {
                return Ok(Some(ScanEntry::of(key, &head, value)));
            }
            Found::Unread(key) => key,
        };
        let (reading, keys_only) = (self.reading(), self.options.keys_only);
        let read = self.bucket.read(key.clone(), &reading, keys_only).await?;
        Ok(read.live.map(|live| ScanEntry {
            key,
            value: read.value,
            version: live.version,
            expires_at_ms: live.expires_at_ms,
        }))
    }

    fn reading(&self) -> ReadOptions {
        ReadOptions {
            level: self.options.level,
            timeout: self.options.timeout,
            stale: false,
        }
    }
}

impl Found {
    fn key(&self) -> &Bytes {
        match self {
            Self::Whole(scanned) => &scanned.key,
            Self::Unread(key) => key,
        }
    }
}

/// Cursors are hexadecimal digits: they go into files, URLs and logs as they are.
fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The storage key, or the beginning of an arc, that a cursor stands for.
fn parse_cursor(cursor: &str) -> Result<Bytes> {
    let byte = |pair: &[u8]| {
        let digits = std::str::from_utf8(pair).ok()?;
        let is_digit = |digit: &u8| digit.is_ascii_hexdigit();
        u8::from_str_radix(digits, 16)
            .ok()
            .filter(|_| pair.iter().all(is_digit))
    };
    let pairs = cursor.as_bytes().chunks(2);
    let bytes: Option<Vec<u8>> =
        match cursor.len() <= CURSOR_DIGITS_MAX && cursor.len().is_multiple_of(2) {
            true => pairs.map(byte).collect(),
            false => None,
        };
    match bytes {
        Some(bytes) if bytes.len() == 8 || parse_storage_key(&bytes).is_some() => Ok(bytes.into()),
        Some(_) | None => Err(Error::new(
            ErrorKind::InvalidInput,
            "this is no cursor of a scan: take one from a page, as it is",
        )),
    }
}

/// A hash, the bucket's number and the longest key.
const CURSOR_DIGITS_MAX: usize = 2 * (12 + KEY_BYTES_MAX);

#[cfg(test)]
mod tests {
    use super::*;
    use annulet_protocol::hash::{KeyHash, storage_key};

    #[test]
    fn a_cursor_is_read_back_and_nothing_else_is() {
        for key in [&b"k"[..], &[0xff; KEY_BYTES_MAX]] {
            let bytes = storage_key(KeyHash(7), 3, key);
            assert_eq!(parse_cursor(&hexadecimal(&bytes)), Ok(bytes));
        }
        let beginning = Bytes::from_static(&[0xab; 8]);
        assert_eq!(parse_cursor(&hexadecimal(&beginning)), Ok(beginning));
        let long = "00".repeat(CURSOR_DIGITS_MAX);
        for bad in [
            "",
            "0",
            "zz",
            "+1020304050607",
            "0011223344556677889",
            "äöü",
            "00 0",
            &long,
        ] {
            let error = parse_cursor(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad}");
        }
    }
}
