//! Values that stand unmerged, and what the application makes of them: one step that any language
//! can drive.

use super::read::SiblingsDone;
use bytes::Bytes;

/// What a read has found, to be merged by the application if need be.
///
/// ```
/// # use annulet::core::siblings::resolve::Resolution;
/// # fn longest(values: &[bytes::Bytes]) -> bytes::Bytes {
/// #     values.iter().max_by_key(|value| value.len()).cloned().unwrap_or_default()
/// # }
/// # fn example(mut found: Resolution) {
/// if let Some(values) = found.unmerged() {
///     let merged = longest(&values);
///     found.merge(merged);
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Resolution {
    done: SiblingsDone,
}

impl Resolution {
    /// Begins with what a read found.
    pub fn new(done: SiblingsDone) -> Self {
        Self { done }
    }

    /// The concurrent values that nobody has merged, in an order that is the same for every reader;
    /// `None`: there is one value, or none, or the bucket's own merge has made one of them.
    pub fn unmerged(&self) -> Option<Vec<Bytes>> {
        let stands = self.done.merged.is_none() && self.done.values.len() > 1;
        let values = self.done.values.iter();
        stands.then(|| values.map(|one| one.write.value.clone()).collect())
    }

    /// Takes what the application made of them. It is what this reader sees; the next write under
    /// the same context makes it what is stored.
    pub fn merge(&mut self, value: Bytes) {
        self.done.merged = Some(value);
    }

    /// What was found, with what was made of it.
    pub fn finish(self) -> SiblingsDone {
        self.done
    }
}
