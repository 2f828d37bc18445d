//! What a call may say besides its key and value, and what it gives back.

use crate::error::{Error, ErrorKind, Result};
use annulet_protocol::level::Level;
use annulet_protocol::record::Head;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD;
use bytes::Bytes;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Options of a read. The default leaves everything to the bucket and the client.
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
/// let options = ReadOptions {
///     level: Some(Level::All),
///     timeout: Some(Duration::from_secs(10)),
///     ..ReadOptions::default()
/// };
/// assert_eq!(profiles.get_with("user:nobody", &options).await?, None);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// How many replicas must answer; `None`: the client's or the bucket's level.
    pub level: Option<Level>,
    /// How long the call may take, 1 ms to 10 minutes; `None`: the client's timeout.
    pub timeout: Option<Duration>,
    /// In a strong bucket: what any one owner has. It is quick, and may be old, or a write in
    /// progress that never takes effect.
    pub stale: bool,
}

/// Options of a write. The default leaves everything to the bucket and the client.
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
/// let options = WriteOptions {
///     level: Some(Level::All),
///     ttl: Ttl::After(Duration::from_secs(1_800)),
///     ..WriteOptions::default()
/// };
/// sessions.put_with("session:options", "user:1", &options).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// How many replicas must take it; `None`: the client's or the bucket's level.
    pub level: Option<Level>,
    /// How long the call may take, 1 ms to 10 minutes; `None`: the client's timeout.
    pub timeout: Option<Duration>,
    /// How long the value lives.
    pub ttl: Ttl,
    /// What a read or a write of this key gave, in a bucket of mode `siblings`: the write replaces
    /// what was seen then. Without it a put stands beside what is there, and a delete reads first.
    pub context: Option<Context>,
}

/// What a reader has seen of a key: opaque, to be handed back with a write of the same key, by any
/// client, any time later. As text it is URL-safe base64.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> annulet::Result<()> {
/// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
/// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
/// # let carts = client.bucket("carts");
/// # carts.delete("user:context").await?;
/// use annulet::{Context, WriteOptions};
///
/// let first = carts.put("user:context", "apples").await?;
/// // A browser may keep it, as text.
/// let text = first.context.unwrap_or_default().to_string();
///
/// let seen = WriteOptions {
///     context: Some(text.parse::<Context>()?),
///     ..WriteOptions::default()
/// };
/// carts.put_with("user:context", "apples and pears", &seen).await?;
/// let cart = carts.get("user:context").await?;
/// assert_eq!(cart.map(|cart| cart.siblings), Some(vec!["apples and pears".into()]));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Context(Bytes);

impl Context {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// Whether nothing was seen.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let profiles = client.bucket("default");
    /// assert!(annulet::Context::default().is_empty());
    /// // Outside of mode `siblings` there is nothing to hand back.
    /// profiles.put("user:is_empty", "Ada").await?;
    /// assert!(profiles.get("user:is_empty").await?.is_some_and(|entry| entry.context.is_empty()));
    /// # Ok(()) }
    /// ```
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its bytes, for whoever keeps it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let carts = client.bucket("carts");
    /// carts.put("user:to_bytes", "apples").await?;
    /// if let Some(cart) = carts.get("user:to_bytes").await? {
    ///     let kept = cart.context.to_bytes();
    ///     assert_eq!(annulet::Context::from_bytes(kept), cart.context);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// What [`Context::to_bytes`] gave. Whether it is a context of the key is checked when it is
    /// used.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let carts = client.bucket("carts");
    /// use annulet::{Context, WriteOptions};
    ///
    /// let written = carts.put("user:from_bytes", "apples").await?;
    /// let kept = written.context.unwrap_or_default().to_bytes();
    ///
    /// let seen = WriteOptions {
    ///     context: Some(Context::from_bytes(kept)),
    ///     ..WriteOptions::default()
    /// };
    /// carts.delete_with("user:from_bytes", &seen).await?;
    /// # Ok(()) }
    /// ```
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(&self.0))
    }
}

impl FromStr for Context {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|error| {
            let why = format!("a context that is none: {error}; hand it back as it was given");
            Error::new(ErrorKind::InvalidInput, why)
        })?;
        Ok(Self(bytes.into()))
    }
}

/// How long a value lives.
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
/// for (ttl, ends) in [
///     (Ttl::Never, false),
///     (Ttl::After(Duration::from_secs(1_800)), true),
///     (Ttl::Until(4_102_444_800_000), true), // the year 2100
/// ] {
///     let options = WriteOptions { ttl, ..WriteOptions::default() };
///     sessions.put_with("session:ttl", "user:1", &options).await?;
///     let session = sessions.get("session:ttl").await?;
///     assert_eq!(session.map(|session| session.expires_at_ms.is_some()), Some(ends));
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ttl {
    /// As long as the bucket says.
    #[default]
    Bucket,
    /// Until it is overwritten or deleted.
    Never,
    /// This long from now, at least 1 ms.
    After(Duration),
    /// Up to this moment, in milliseconds since the Unix epoch, which may have passed.
    Until(u64),
}

/// A value that was found.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> annulet::Result<()> {
/// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
/// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
/// # let carts = client.bucket("carts");
/// # carts.delete("user:entry").await?;
/// carts.put("user:entry", "apples").await?;
/// carts.put("user:entry", "pears").await?;
/// if let Some(cart) = carts.get("user:entry").await? {
///     // Both were written without having seen the other.
///     assert_eq!(cart.siblings.len(), 2);
///     assert!(!cart.is_merged && !cart.context.is_empty());
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The value. Of concurrent values that stand unmerged, the one written last: look at
    /// `siblings` before it is taken for all there is.
    pub value: Bytes,
    /// Whether `value` is all there is: there is one value, or they were merged.
    pub is_merged: bool,
    /// All concurrent values, in an order that is the same for every reader; one where there is no
    /// conflict.
    pub siblings: Vec<Bytes>,
    /// What was seen, to be handed back with the next write; empty outside of mode `siblings`.
    pub context: Context,
    /// Its version, an opaque string: two reads of one version give one value.
    pub version: String,
    /// When it expires, in milliseconds since the Unix epoch; `None`: it does not.
    pub expires_at_ms: Option<u64>,
}

/// When a value expires; `None`: never.
pub(crate) fn expires_at_ms(head: &Head) -> Option<u64> {
    head.expiry.map(|e| e.at_ms).filter(|at_ms| *at_ms != 0)
}

/// A write that was done.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> annulet::Result<()> {
/// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
/// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
/// # let profiles = client.bucket("default");
/// let written = profiles.put("user:written", "Ada").await?;
/// let profile = profiles.get("user:written").await?;
/// assert!(profile.is_some_and(|profile| profile.version == written.version));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The version written, an opaque string; empty for a delete of concurrent values, which leaves
    /// none.
    pub version: String,
    /// Whether a newer version was there already, so that readers see that one. It happens when
    /// two clients write one key at the same time, or their clocks differ.
    pub superseded: bool,
    /// In a bucket of mode `siblings`: what to hand back with the next write. `None` where other
    /// values stand beside this one: read the key first.
    pub context: Option<Context>,
    /// In a bucket of mode `siblings`: how many concurrent values there are now.
    pub siblings: usize,
}
