//! Options as Swift gives them: names as text, durations and moments as milliseconds.

use annulet::facade;
use bytes::Bytes;

/// See [`facade::ConnectOptions`].
#[derive(uniffi::Record)]
pub(crate) struct ConnectOptions {
    profile: Option<String>,
    timeout_ms: Option<f64>,
    level: Option<String>,
    zone: Option<String>,
    region: Option<String>,
    connections_max: Option<i64>,
    idle_after_ms: Option<f64>,
    check_one_in: Option<i64>,
}

/// See [`facade::ReadOptions`].
#[derive(uniffi::Record)]
pub(crate) struct ReadOptions {
    level: Option<String>,
    timeout_ms: Option<f64>,
    stale: bool,
}

/// See [`facade::WriteOptions`].
#[derive(uniffi::Record)]
pub(crate) struct WriteOptions {
    level: Option<String>,
    timeout_ms: Option<f64>,
    ttl_ms: Option<f64>,
    expires_at_ms: Option<f64>,
    context: Option<Vec<u8>>,
}

/// See [`facade::ScanOptions`].
#[derive(uniffi::Record)]
pub(crate) struct ScanOptions {
    keys_only: bool,
    page_entries: Option<i64>,
    cursor: Option<String>,
    level: Option<String>,
    timeout_ms: Option<f64>,
}

/// See [`facade::BucketOptions`].
#[derive(uniffi::Record)]
pub(crate) struct BucketOptions {
    mode: Option<String>,
    replicas: Option<i64>,
    durability: Option<String>,
    read_level: Option<String>,
    write_level: Option<String>,
    ttl_ms: Option<f64>,
    merge: Option<String>,
}

/// See [`facade::BucketChanges`].
#[derive(uniffi::Record)]
pub(crate) struct BucketChanges {
    read_level: Option<String>,
    write_level: Option<String>,
    ttl_ms: Option<f64>,
}

/// A value that is to be put.
#[derive(uniffi::Record)]
pub(crate) struct Pair {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

impl From<ConnectOptions> for facade::ConnectOptions {
    fn from(given: ConnectOptions) -> Self {
        Self {
            profile: given.profile.map(Into::into),
            timeout_ms: given.timeout_ms,
            level: given.level,
            zone: given.zone,
            region: given.region,
            connections_max: given.connections_max,
            idle_after_ms: given.idle_after_ms,
            check_one_in: given.check_one_in,
        }
    }
}

impl ReadOptions {
    pub(crate) fn given(&self) -> facade::ReadOptions<'_> {
        facade::ReadOptions {
            level: self.level.as_deref(),
            timeout_ms: self.timeout_ms,
            stale: self.stale,
        }
    }
}

impl WriteOptions {
    pub(crate) fn given(&mut self) -> facade::WriteOptions<'_> {
        facade::WriteOptions {
            context: self.context.take().map(Bytes::from),
            level: self.level.as_deref(),
            timeout_ms: self.timeout_ms,
            ttl_ms: self.ttl_ms,
            expires_at_ms: self.expires_at_ms,
        }
    }
}

impl ScanOptions {
    pub(crate) fn given(&mut self) -> facade::ScanOptions<'_> {
        facade::ScanOptions {
            cursor: self.cursor.take(),
            keys_only: self.keys_only,
            page_entries: self.page_entries,
            level: self.level.as_deref(),
            timeout_ms: self.timeout_ms,
        }
    }
}

impl From<BucketOptions> for facade::BucketOptions {
    fn from(given: BucketOptions) -> Self {
        Self {
            mode: given.mode,
            replicas: given.replicas,
            durability: given.durability,
            read_level: given.read_level,
            write_level: given.write_level,
            ttl_ms: given.ttl_ms,
            merge: given.merge,
        }
    }
}

impl From<BucketChanges> for facade::BucketChanges {
    fn from(given: BucketChanges) -> Self {
        Self {
            read_level: given.read_level,
            write_level: given.write_level,
            ttl_ms: given.ttl_ms,
        }
    }
}
