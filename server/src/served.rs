//! The view that this server serves, encoded once.

use annulet_protocol::codec;
use annulet_protocol::ids::NodeId;
use annulet_protocol::message::{DiskState, Hello};
use annulet_protocol::view::View;
use bytes::Bytes;
use http::HeaderValue;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Fast, and nearly as small as it gets: owner lists are close to random.
const ZSTD_LEVEL: i32 = 3;

/// A view and its bytes.
#[derive(Debug)]
pub(crate) struct ServedView {
    pub(crate) view: Arc<View>,
    pub(crate) encoded: Bytes,
    pub(crate) compressed: Bytes,
    /// xxh3 of `encoded`.
    pub(crate) digest: u64,
    /// Entity tag: the digest.
    pub(crate) tag: HeaderValue,
}

impl ServedView {
    /// # Errors
    /// If the compressor gets no memory.
    pub(crate) fn new(view: View) -> std::io::Result<Self> {
        let encoded = codec::encode(&view);
        let digest = xxh3_64(&encoded);
        let tag = format!("\"{digest:016x}\"");
        Ok(Self {
            compressed: zstd::bulk::compress(&encoded, ZSTD_LEVEL)?.into(),
            encoded: encoded.into(),
            digest,
            tag: HeaderValue::try_from(tag).map_err(std::io::Error::other)?,
            view: Arc::new(view),
        })
    }

    /// What this server says of itself.
    pub(crate) fn hello(&self, node: NodeId, time_ms: u64, disk: DiskState) -> Hello {
        Hello {
            cluster: self.view.cluster,
            node,
            epoch: self.view.epoch,
            view_digest: self.digest,
            time_ms,
            disk,
        }
    }
}
