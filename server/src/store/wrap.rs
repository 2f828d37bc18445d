//! A store as one request may use it: from memory only, or within what replies may hold.

use crate::budget::{Budget, Share};
use crate::store::{Engine, Entry};
use annulet_replica::store::{Batch, Family, Slice, Span, Store, StoreError};
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// What is in memory. What is not is answered as busy and noted.
pub(crate) struct InMemory<'a> {
    engine: &'a dyn Engine,
    missed: Cell<bool>,
}

impl<'a> InMemory<'a> {
    pub(crate) fn new(engine: &'a dyn Engine) -> Self {
        let missed = Cell::new(false);
        Self { engine, missed }
    }

    /// Whether something was asked for that is not in memory, so that the answers are none.
    pub(crate) fn missed(&self) -> bool {
        self.missed.get()
    }
}

impl Store for InMemory<'_> {
    fn read(&self, family: Family, keys: &[Bytes]) -> Vec<Entry> {
        // Long values are left to the readers even where they are in memory: copying one takes as
        // long as answering many.
        let cached = match family {
            _ if self.missed() => None,
            Family::Records => self.engine.read_cached(keys),
            Family::Values | Family::Hints | Family::Notes => None,
        };
        cached.unwrap_or_else(|| {
            self.missed.set(true);
            keys.iter()
                .map(|_| Err(busy("it is not in memory")))
                .collect()
        })
    }

    fn range(&self, _: Family, _: &Span) -> Result<Slice, StoreError> {
        self.missed.set(true);
        Err(busy("it is not in memory"))
    }

    fn write(&self, _: Batch) -> Result<(), StoreError> {
        Err(StoreError::Failed("reads only".into()))
    }

    fn sync(&self) -> Result<(), StoreError> {
        Err(StoreError::Failed("reads only".into()))
    }
}

/// A store whose long values count against the memory of replies.
pub(crate) struct Counted<'a> {
    engine: &'a dyn Engine,
    memory: &'a Arc<Budget>,
    share: RefCell<Option<Share>>,
}

impl<'a> Counted<'a> {
    pub(crate) fn new(engine: &'a dyn Engine, memory: &'a Arc<Budget>) -> Self {
        let share = RefCell::default();
        Self {
            engine,
            memory,
            share,
        }
    }

    /// What the values read take of the memory.
    pub(crate) fn into_share(self) -> Option<Share> {
        self.share.into_inner()
    }

    fn count(&self, bytes: usize) -> bool {
        let mut share = self.share.borrow_mut();
        match share.as_mut() {
            Some(share) => share.grow(bytes),
            None => {
                *share = self.memory.take(bytes);
                share.is_some()
            }
        }
    }
}

impl Store for Counted<'_> {
    fn read(&self, family: Family, keys: &[Bytes]) -> Vec<Entry> {
        let mut entries = self.engine.read(family, keys);
        if matches!(family, Family::Values | Family::Hints) {
            for entry in &mut entries {
                let bytes = entry
                    .as_ref()
                    .map_or(0, |value| value.as_ref().map_or(0, Bytes::len));
                if bytes > 0 && !self.count(bytes) {
                    *entry = Err(busy("the values asked for do not fit into memory just now"));
                }
            }
        }
        entries
    }

    fn range(&self, family: Family, span: &Span) -> Result<Slice, StoreError> {
        let slice = self.engine.range(family, span)?;
        let bytes = slice
            .entries
            .iter()
            .map(|(key, value)| key.len() + value.len());
        match self.count(bytes.sum()) {
            true => Ok(slice),
            false => Err(busy("the page asked for does not fit into memory just now")),
        }
    }

    fn write(&self, _: Batch) -> Result<(), StoreError> {
        Err(StoreError::Failed("reads only".into()))
    }

    fn sync(&self) -> Result<(), StoreError> {
        Err(StoreError::Failed("reads only".into()))
    }
}

/// A store behind a pointer, for the rules that take any store by its type.
pub(crate) struct Plain<'a>(pub(crate) &'a dyn Engine);

impl Store for Plain<'_> {
    fn read(&self, family: Family, keys: &[Bytes]) -> Vec<Entry> {
        self.0.read(family, keys)
    }

    fn range(&self, family: Family, span: &Span) -> Result<Slice, StoreError> {
        self.0.range(family, span)
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        self.0.write(batch)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.0.sync()
    }
}

fn busy(why: &str) -> StoreError {
    StoreError::Busy(why.into())
}
