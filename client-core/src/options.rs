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
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Context(Bytes);

impl Context {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// Whether nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its bytes, for whoever keeps it.
    pub fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// What [`Context::to_bytes`] gave. Whether it is a context of the key is checked when it is
    /// used.
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
    /// When it expires, in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<u64>,
}

/// When a value expires; `None`: never.
pub(crate) fn expires_at_ms(head: &Head) -> Option<u64> {
    head.expiry.map(|e| e.at_ms).filter(|at_ms| *at_ms != 0)
}

/// A write that was done.
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
