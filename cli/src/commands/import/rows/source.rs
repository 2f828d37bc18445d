//! The bytes of a file of rows.

use super::TOO_LONG;
use crate::transfer::record::ROW_BYTES_MAX;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A file that counts what is read of it, and does not let one row fill the memory: a quote that
/// is never closed would take all the rest of the file into one row.
pub(super) struct Source {
    file: Box<dyn Read + Send>,
    pub(super) total: Arc<AtomicU64>,
    pub(super) of_row: Arc<AtomicU64>,
}

impl Source {
    pub(super) fn new(file: Box<dyn Read + Send>) -> Self {
        Self {
            file,
            total: Arc::default(),
            of_row: Arc::default(),
        }
    }
}

impl Read for Source {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.of_row.load(Ordering::Relaxed) > ROW_BYTES_MAX {
            return Err(io::Error::other(format!(
                "{TOO_LONG}; is a quote not closed?"
            )));
        }
        let read = self.file.read(into)?;
        self.total.fetch_add(read as u64, Ordering::Relaxed);
        self.of_row.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
