//! What a replica needs of its storage.

use bytes::Bytes;

/// Where in the store something lies. Families are written together and lost together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Records: heads, and the values that are small.
    Records,
    /// Values that are too long to be rewritten whenever their heads are touched.
    Values,
}

/// One change of a [`Batch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Put this under the key, in place of what was there.
    Put(Family, Bytes, Bytes),
    /// Remove what is under the key.
    Delete(Family, Bytes),
}

/// Changes that take effect together or not at all.
pub type Batch = Vec<Change>;

/// Why a store did not do as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// What is stored under this key is damaged; other keys may be well.
    #[error("stored data is damaged: {0}")]
    Damaged(String),
    /// What is stored is well, but cannot be had now, for want of memory for one: the sender may
    /// come back.
    #[error("{0}")]
    Busy(String),
    /// The store failed. After a failed write or sync nothing it says can be trusted: the server
    /// stops acknowledging and exits.
    #[error("the store failed: {0}")]
    Failed(String),
}

/// A key-value store with atomic batches, and durability only by [`Store::sync`].
pub trait Store {
    /// What is under each key, in order; what was written before is seen at once, durable or not.
    /// All keys are read as of one moment.
    fn read(&self, family: Family, keys: &[Bytes]) -> Vec<Result<Option<Bytes>, StoreError>>;

    /// Applies a batch. It is visible at once, and durable after the next sync.
    ///
    /// # Errors
    /// [`StoreError::Failed`]: the batch may or may not have been applied.
    fn write(&self, batch: Batch) -> Result<(), StoreError>;

    /// Makes everything written before durable.
    ///
    /// # Errors
    /// [`StoreError::Failed`]: anything not synced before may be lost.
    fn sync(&self) -> Result<(), StoreError>;
}
