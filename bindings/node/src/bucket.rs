//! A bucket, and its operations in steps.

use crate::port::Port;
use crate::values::{Show, buffer, given};
use annulet::facade::{self, ReadOptions, ScanOptions, WriteOptions};
use bytes::Bytes;
use napi::bindgen_prelude::*;
use napi_derive::napi;

/// A bucket.
#[napi]
pub struct Bucket {
    bucket: facade::Bucket,
}

/// Everything in a bucket, a page at a time.
#[napi]
pub struct Scan {
    scan: facade::Scan,
}

/// An update in steps.
#[napi]
pub struct Update {
    update: facade::Update,
}

/// Concurrent values that are to be merged.
#[napi]
pub struct Merging {
    merging: facade::Merging,
}

impl Bucket {
    pub(crate) fn new(bucket: facade::Bucket) -> Self {
        Self { bucket }
    }
}

fn copied(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn all(keys: &[Uint8Array]) -> Vec<Bytes> {
    keys.iter().map(|key| copied(key)).collect()
}

fn writing<'a>(
    level: Option<&'a String>,
    timeout_ms: Option<f64>,
    (ttl_ms, expires_at_ms): (Option<f64>, Option<f64>),
) -> WriteOptions<'a> {
    WriteOptions {
        level: level.map(String::as_str),
        timeout_ms,
        ttl_ms,
        expires_at_ms,
        context: None,
    }
}

fn reading(level: Option<&String>, timeout_ms: Option<f64>, stale: bool) -> ReadOptions<'_> {
    ReadOptions {
        level: level.map(String::as_str),
        timeout_ms,
        stale,
    }
}

#[napi]
#[expect(clippy::too_many_arguments, reason = "each is an option in JavaScript")]
impl Bucket {
    #[napi]
    pub fn get(
        &self,
        port: &Port,
        key: &[u8],
        level: Option<String>,
        timeout_ms: Option<f64>,
        stale: bool,
    ) -> u32 {
        let options = reading(level.as_ref(), timeout_ms, stale);
        port.begin(self.bucket.get(copied(key), options))
    }

    #[napi]
    pub fn begin_merge(
        &self,
        port: &Port,
        key: &[u8],
        level: Option<String>,
        timeout_ms: Option<f64>,
    ) -> u32 {
        let options = reading(level.as_ref(), timeout_ms, false);
        port.begin(self.bucket.begin_merge(copied(key), options))
    }

    #[napi]
    pub fn exists(
        &self,
        port: &Port,
        key: &[u8],
        level: Option<String>,
        timeout_ms: Option<f64>,
        stale: bool,
    ) -> u32 {
        let options = reading(level.as_ref(), timeout_ms, stale);
        port.begin(self.bucket.exists(copied(key), options))
    }

    #[napi]
    pub fn put(
        &self,
        port: &Port,
        key: &[u8],
        value: &[u8],
        ttl_ms: Option<f64>,
        expires_at_ms: Option<f64>,
        context: Option<&[u8]>,
        level: Option<String>,
        timeout_ms: Option<f64>,
    ) -> u32 {
        let options = WriteOptions {
            context: context.map(copied),
            ..writing(level.as_ref(), timeout_ms, (ttl_ms, expires_at_ms))
        };
        port.begin(self.bucket.put(copied(key), copied(value), options))
    }

    #[napi]
    pub fn delete(
        &self,
        port: &Port,
        key: &[u8],
        context: Option<&[u8]>,
        level: Option<String>,
        timeout_ms: Option<f64>,
    ) -> u32 {
        let options = WriteOptions {
            context: context.map(copied),
            ..writing(level.as_ref(), timeout_ms, (None, None))
        };
        port.begin(self.bucket.delete(copied(key), options))
    }

    #[napi]
    pub fn touch(
        &self,
        port: &Port,
        key: &[u8],
        ttl_ms: Option<f64>,
        expires_at_ms: Option<f64>,
        level: Option<String>,
        timeout_ms: Option<f64>,
    ) -> u32 {
        let options = writing(level.as_ref(), timeout_ms, (ttl_ms, expires_at_ms));
        port.begin(self.bucket.touch(copied(key), options))
    }

    #[napi]
    pub fn put_if_version(
        &self,
        port: &Port,
        key: &[u8],
        value: &[u8],
        version: String,
        ttl_ms: Option<f64>,
        expires_at_ms: Option<f64>,
        timeout_ms: Option<f64>,
    ) -> u32 {
        let options = writing(None, timeout_ms, (ttl_ms, expires_at_ms));
        let (key, value) = (copied(key), copied(value));
        port.begin(self.bucket.put_if_version(key, value, version, options))
    }

    #[napi]
    pub fn put_if_absent(
        &self,
        port: &Port,
        key: &[u8],
        value: &[u8],
        ttl_ms: Option<f64>,
        expires_at_ms: Option<f64>,
        timeout_ms: Option<f64>,
    ) -> u32 {
        let options = writing(None, timeout_ms, (ttl_ms, expires_at_ms));
        let put = self
            .bucket
            .put_if_absent(copied(key), copied(value), options);
        port.begin(put)
    }

    #[napi]
    pub fn delete_if_version(
        &self,
        port: &Port,
        key: &[u8],
        version: String,
        timeout_ms: Option<f64>,
    ) -> u32 {
        let options = writing(None, timeout_ms, (None, None));
        port.begin(self.bucket.delete_if_version(copied(key), version, options))
    }

    #[napi]
    pub fn begin_update(
        &self,
        port: &Port,
        key: &[u8],
        ttl_ms: Option<f64>,
        expires_at_ms: Option<f64>,
        timeout_ms: Option<f64>,
    ) -> u32 {
        let options = writing(None, timeout_ms, (ttl_ms, expires_at_ms));
        port.begin(self.bucket.begin_update(copied(key), options))
    }

    #[napi]
    pub fn resolve(&self, port: &Port, key: &[u8], op_id: String) -> u32 {
        port.begin(self.bucket.resolve(copied(key), facade::op_id(&op_id)))
    }

    #[napi]
    pub fn multi_get(
        &self,
        port: &Port,
        keys: Vec<Uint8Array>,
        level: Option<String>,
        timeout_ms: Option<f64>,
        stale: bool,
    ) -> u32 {
        let options = reading(level.as_ref(), timeout_ms, stale);
        port.begin(self.bucket.multi_get(all(&keys), options))
    }

    /// Keys and values in turn.
    #[napi]
    pub fn multi_put(
        &self,
        port: &Port,
        entries: Vec<Uint8Array>,
        ttl_ms: Option<f64>,
        expires_at_ms: Option<f64>,
        level: Option<String>,
        timeout_ms: Option<f64>,
    ) -> u32 {
        let options = writing(level.as_ref(), timeout_ms, (ttl_ms, expires_at_ms));
        let pairs = entries.chunks_exact(2);
        let entries = pairs.map(|pair| (copied(&pair[0]), copied(&pair[1])));
        port.begin(self.bucket.multi_put(entries.collect(), options))
    }

    #[napi]
    pub fn multi_delete(
        &self,
        port: &Port,
        keys: Vec<Uint8Array>,
        level: Option<String>,
        timeout_ms: Option<f64>,
    ) -> u32 {
        let options = writing(level.as_ref(), timeout_ms, (None, None));
        port.begin(self.bucket.multi_delete(all(&keys), options))
    }

    #[napi]
    pub fn scan<'env>(
        &self,
        env: &'env Env,
        keys_only: bool,
        page_entries: Option<i64>,
        cursor: Option<String>,
        level: Option<String>,
        timeout_ms: Option<f64>,
    ) -> Result<Unknown<'env>> {
        let options = ScanOptions {
            keys_only,
            page_entries,
            cursor,
            level: level.as_deref(),
            timeout_ms,
        };
        given(env, self.bucket.scan(options))
    }
}

impl Show for facade::Scan {
    fn show(self, env: &Env) -> Result<Unknown<'_>> {
        Scan { scan: self }.into_unknown(env)
    }
}

impl Show for facade::Update {
    fn show(self, env: &Env) -> Result<Unknown<'_>> {
        Update { update: self }.into_unknown(env)
    }
}

impl Show for facade::Merging {
    fn show(self, env: &Env) -> Result<Unknown<'_>> {
        Merging { merging: self }.into_unknown(env)
    }
}

#[napi]
impl Scan {
    #[napi]
    pub fn leave(&self) {
        self.scan.leave();
    }

    #[napi]
    pub fn next_page(&self, port: &Port, seen: u32) -> u32 {
        port.begin(self.scan.next_page(seen.into()))
    }
}

#[napi]
impl Update {
    #[napi]
    pub fn value(&self, port: &Port) -> u32 {
        port.begin(self.update.value())
    }

    #[napi]
    pub fn commit(&self, port: &Port, value: Option<&[u8]>) -> u32 {
        port.begin(self.update.commit(value.map(copied)))
    }
}

#[napi]
impl Merging {
    /// The values to be merged; `null`: there are none.
    #[napi]
    pub fn unmerged<'env>(&self, env: &'env Env) -> Result<Option<Vec<Unknown<'env>>>> {
        let values = self.merging.unmerged();
        let shown = values.map(|values| values.iter().map(|value| buffer(env, value)).collect());
        shown.transpose()
    }

    /// The entry, with what was made of them.
    #[napi]
    pub fn finish<'env>(&self, env: &'env Env, merged: Option<&[u8]>) -> Result<Unknown<'env>> {
        given(env, self.merging.finish(merged.map(copied)))
    }
}
