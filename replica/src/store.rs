//! What a replica needs of its storage.

use annulet_protocol::hash::KeyHash;
use bytes::Bytes;

/// Where in the store something lies. Families are written together and lost together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Records: heads, and the values that are small.
    Records,
    /// Values that are too long to be rewritten whenever their heads are touched.
    Values,
    /// Records kept for owners that could not be reached.
    Hints,
    /// What the server notes for itself: the hints of each owner, and how many there are.
    Notes,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 4] = [Self::Records, Self::Values, Self::Hints, Self::Notes];
}

/// One change of a [`Batch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Put this under the key, in place of what was there.
    Put(Family, Bytes, Bytes),
    /// Remove what is under the key.
    Delete(Family, Bytes),
    /// Remove all from the first key on, up to the second, which stays; `None`: to the end.
    DeleteRange(Family, Bytes, Option<Bytes>),
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

/// A part of a family to read, in order of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// First key, if it is there.
    pub from: Bytes,
    /// Keys from this one on are not read; `None`: to the end.
    pub until: Option<Bytes>,
    /// Most entries to read, at least 1.
    pub entries_max: usize,
    /// Once so many bytes were read, no further entry is.
    pub bytes_max: usize,
}

impl Span {
    /// All entries whose keys begin so, as far as the limits allow.
    pub fn prefix(prefix: &[u8], entries_max: usize, bytes_max: usize) -> Self {
        Self {
            from: Bytes::copy_from_slice(prefix),
            until: after_prefix(prefix),
            entries_max,
            bytes_max,
        }
    }

    /// All storage keys of an arc, as far as the limits allow.
    pub fn arc(from: KeyHash, until: KeyHash, entries_max: usize, bytes_max: usize) -> Self {
        let end = until.0.checked_add(1).map(u64::to_be_bytes);
        Self {
            from: Bytes::copy_from_slice(&from.0.to_be_bytes()),
            until: end.map(|end| Bytes::copy_from_slice(&end)),
            entries_max,
            bytes_max,
        }
    }

    /// The same, beginning after this key.
    #[must_use]
    pub fn after(self, key: &[u8]) -> Self {
        // No key lies between one and the same with a zero behind it.
        let from = Bytes::from([key, &[0]].concat());
        Self {
            from: self.from.max(from),
            ..self
        }
    }
}

/// The first key after all that begin so; `None`: there is none.
pub fn after_prefix(prefix: &[u8]) -> Option<Bytes> {
    let kept = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut after = prefix[..=kept].to_vec();
    after[kept] += 1;
    Some(after.into())
}

/// What was read of a span.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// Keys and what is under them, in order of keys.
    pub entries: Vec<(Bytes, Bytes)>,
    /// Whether a limit ended it, so that there may be more.
    pub cut: bool,
}

/// A key-value store with atomic batches, and durability only by [`Store::sync`].
pub trait Store {
    /// What is under each key, in order; what was written before is seen at once, durable or not.
    /// All keys are read as of one moment.
    fn read(&self, family: Family, keys: &[Bytes]) -> Vec<Result<Option<Bytes>, StoreError>>;

    /// The entries of a span, as of one moment.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if a part of the span cannot be read.
    fn range(&self, family: Family, span: &Span) -> Result<Slice, StoreError>;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_what_does_not_begin_so() {
        for (prefix, after) in [
            (&b"ab"[..], Some(&b"ac"[..])),
            (b"a\xff\xff", Some(b"b")),
            (b"\xff", None),
            (b"", None),
        ] {
            assert_eq!(after_prefix(prefix).as_deref(), after, "{prefix:?}");
        }
    }
}
