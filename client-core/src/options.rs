//! What a call may say besides its key and value, and what it gives back.

use annulet_protocol::level::Level;
use annulet_protocol::record::Head;
use bytes::Bytes;
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// How many replicas must take it; `None`: the client's or the bucket's level.
    pub level: Option<Level>,
    /// How long the call may take, 1 ms to 10 minutes; `None`: the client's timeout.
    pub timeout: Option<Duration>,
    /// How long the value lives.
    pub ttl: Ttl,
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
    /// The value.
    pub value: Bytes,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The version written, an opaque string.
    pub version: String,
    /// Whether a newer version was there already, so that readers see that one. It happens when
    /// two clients write one key at the same time, or their clocks differ.
    pub superseded: bool,
}
