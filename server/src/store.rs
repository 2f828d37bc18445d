//! The server's storage: what the pipeline needs of it beyond the replica's [`Store`].

pub mod identity;
pub mod rocks;
pub(crate) mod wrap;

use annulet_replica::memory::MemoryStore;
use annulet_replica::store::{Family, Store, StoreError};
use bytes::Bytes;

/// What is read of one key.
pub type Entry = Result<Option<Bytes>, StoreError>;

/// A store that threads share.
pub trait Engine: Store + Send + Sync {
    /// Reads records if all of them are in memory; else `None`, without having waited for a disk.
    /// Unlike in [`Store::read`], each key is read as of its own moment.
    fn read_cached(&self, keys: &[Bytes]) -> Option<Vec<Entry>>;

    /// How much it holds, for the metrics.
    fn usage(&self) -> Usage {
        Usage::default()
    }

    /// A number that every change makes larger.
    fn changes(&self) -> u64 {
        0
    }

    /// Gives the disk back what was deleted or overwritten, as far as `room` bytes that are free
    /// suffice for the work. It may take long; others go on reading and writing meanwhile.
    ///
    /// # Errors
    /// If the disk does not take what has to be written for it.
    fn reclaim(&self, _room: u64) -> Result<(), StoreError> {
        Ok(())
    }

    /// Sees to what it does by itself in the background: to be called now and then.
    fn tend(&self) {}

    /// Writes out what only memory and log hold, so that the next start is quick. Nothing depends
    /// on it.
    ///
    /// # Errors
    /// If the disk does not take it.
    fn settle(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// How much a store holds, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Writes that are not yet in sorted files.
    pub memtables: u64,
    /// Sorted files.
    pub tables: u64,
    /// Files of long values.
    pub blobs: u64,
    /// Blocks in memory.
    pub cache: u64,
    /// What compaction still has to rewrite.
    pub pending_compaction: u64,
    /// Keys, roughly.
    pub keys: u64,
}

impl Engine for MemoryStore {
    fn read_cached(&self, keys: &[Bytes]) -> Option<Vec<Entry>> {
        Some(self.read(Family::Records, keys))
    }
}
