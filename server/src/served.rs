//! The view that this server acts under, encoded once.

use annulet_protocol::codec;
use annulet_protocol::ids::NodeId;
use annulet_protocol::message::{DiskState, Hello};
use annulet_protocol::view::View;
use annulet_replica::holdings::Holding;
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::HeaderValue;
use std::sync::Arc;
use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_64;

/// Fast, and nearly as small as it gets: owner lists are close to random.
const ZSTD_LEVEL: i32 = 3;

/// A view and its bytes.
#[derive(Clone, Debug)]
pub(crate) struct ServedView {
    pub(crate) view: Arc<View>,
    pub(crate) encoded: Bytes,
    pub(crate) compressed: Bytes,
    /// xxh3 of `encoded`.
    pub(crate) digest: u64,
    /// Entity tag: the digest.
    pub(crate) tag: HeaderValue,
    /// What it gives this server to own and what has still to be emptied.
    pub(crate) unready: Arc<[Holding]>,
}

impl ServedView {
    /// # Errors
    /// If the compressor gets no memory.
    pub(crate) fn new(view: Arc<View>) -> std::io::Result<Self> {
        let encoded = codec::encode(&*view);
        let digest = xxh3_64(&encoded);
        let tag = format!("\"{digest:016x}\"");
        Ok(Self {
            compressed: zstd::bulk::compress(&encoded, ZSTD_LEVEL)?.into(),
            encoded: encoded.into(),
            digest,
            tag: HeaderValue::try_from(tag).map_err(std::io::Error::other)?,
            view,
            unready: Arc::default(),
        })
    }

    /// The same with this to be emptied.
    pub(crate) fn with_unready(self: &Arc<Self>, unready: Vec<Holding>) -> Arc<Self> {
        Arc::new(Self {
            unready: unready.into(),
            ..Self::clone(self)
        })
    }

    /// What this server says of itself. `first`: the epoch that its chain begins with.
    pub(crate) fn hello(&self, node: NodeId, time_ms: u64, disk: DiskState, first: u64) -> Hello {
        Hello {
            cluster: self.view.cluster,
            node,
            epoch: self.view.epoch,
            view_digest: self.digest,
            time_ms,
            disk,
            hash: self.view.tip.hash,
            first,
            generation: self.view.tip.generation,
        }
    }
}

/// The view in use. A new one takes effect for reads at once, and for writes between two batches:
/// only the write lane sets it.
#[derive(Debug)]
pub(crate) struct Current {
    view: ArcSwap<ServedView>,
    changed: watch::Sender<()>,
}

impl Current {
    pub(crate) fn new(view: Arc<ServedView>) -> Self {
        Self {
            view: ArcSwap::new(view),
            changed: watch::Sender::new(()),
        }
    }

    pub(crate) fn load(&self) -> Arc<ServedView> {
        self.view.load_full()
    }

    pub(crate) fn set(&self, view: Arc<ServedView>) {
        self.view.store(view);
        self.changed.send_replace(());
    }

    /// Tells when another one is in use.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}
