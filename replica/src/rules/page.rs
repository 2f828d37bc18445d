//! Arcs, read in pages.

use super::{Moment, ReadAnswers, Replica, decode_stored, fetch_value, refusal};
use crate::holdings::Holding;
use crate::layout::{Stored, StoredValue};
use crate::store::{Family, Slice, Span, Store, StoreError};
use annulet_protocol::bucket::{Durability, Mode};
use annulet_protocol::hash::parse_storage_key;
use annulet_protocol::limits::{PAGE_BYTES_MAX, PAGE_ENTRIES_MAX};
use annulet_protocol::message::{Refusal, RefusalKind};
use annulet_protocol::scan::{Page, PageEntry, Scan};
use annulet_protocol::view::View;
use annulet_ring::owners::Owners;
use bytes::Bytes;

/// Most entries looked at for one page, those of other buckets among them: what is over is left to
/// the next page, so that no page takes long.
const EXAMINED_MAX: usize = 4_096;
/// Entries read from the store at a time.
const STEP: usize = 256;

impl Replica {
    /// One page of an arc that lies within one partition of this server's.
    ///
    /// # Errors
    /// Why there is none. A part that cannot be read refuses the page: what it would leave out must
    /// not be taken for absent.
    pub(super) fn page(
        &self,
        store: &impl Store,
        moment: Moment<'_>,
        epoch: u64,
        scan: &Scan,
        read: &mut ReadAnswers,
    ) -> Result<Page, Refusal> {
        let bucket = self.bucket(moment, (epoch, &[Mode::Lww]), scan.bucket, scan.from)?;
        if !is_arc(moment.view, scan) {
            let why = "the arc is not within one partition";
            return Err(Refusal::new(RefusalKind::NotOwner, why));
        }
        if !Owners::of(moment.view, bucket, scan.from).contains(self.node) {
            let why = format!("server {} does not own this arc", self.node);
            return Err(Refusal::new(RefusalKind::NotOwner, why));
        }
        let unready = |holding: &Holding| holding.covers(bucket, scan.from);
        if moment.unready.iter().any(unready) {
            let why = "this server is to own the arc, and is not ready yet";
            return Err(Refusal::new(RefusalKind::Behind, why));
        }
        let page = Reading::new(scan).read(store, &mut read.damaged);
        let page = page.map_err(refusal)?;
        if bucket.durability == Durability::Group && self.gates_reads() {
            let view = moment.view;
            let hashes = page.entries.iter().map(|e| view.hash(scan.bucket, &e.key));
            read.touched.extend(hashes);
        }
        Ok(page)
    }
}

fn is_arc(view: &View, scan: &Scan) -> bool {
    let partitions = view.table.partitions;
    scan.from <= scan.until && scan.from.partition(partitions) == scan.until.partition(partitions)
}

/// A page as far as it was read.
struct Reading<'a> {
    scan: &'a Scan,
    page: Page,
    bytes: usize,
    examined: usize,
}

impl<'a> Reading<'a> {
    fn new(scan: &'a Scan) -> Self {
        Self {
            scan,
            page: Page::default(),
            bytes: 0,
            examined: 0,
        }
    }

    fn read(mut self, store: &impl Store, damaged: &mut Vec<Bytes>) -> Result<Page, StoreError> {
        let Scan { from, until, .. } = self.scan;
        let mut after = self.scan.after.clone();
        loop {
            let span = Span::arc(*from, *until, STEP, PAGE_BYTES_MAX as usize);
            let span = match after.is_empty() {
                true => span,
                false => span.after(&after),
            };
            let Slice { entries, cut } = store.range(Family::Records, &span)?;
            for (key, entry) in entries {
                if self.is_full() {
                    self.page.reached = Some(after);
                    return Ok(self.page);
                }
                self.examined += 1;
                after = key.clone();
                if let Err(error) = self.take(store, key, entry) {
                    if let StoreError::Damaged(_) = error {
                        damaged.push(after);
                    }
                    return Err(error);
                }
            }
            if !cut {
                return Ok(self.page);
            }
        }
    }

    fn is_full(&self) -> bool {
        let Scan {
            entries_max,
            bytes_max,
            ..
        } = self.scan;
        let entries_max = (*entries_max).clamp(1, PAGE_ENTRIES_MAX) as usize;
        let bytes_max = (*bytes_max).min(PAGE_BYTES_MAX) as usize;
        let count = self.page.entries.len();
        self.examined >= EXAMINED_MAX
            || count >= entries_max
            || count > 0 && self.bytes >= bytes_max
    }

    fn take(&mut self, store: &impl Store, key: Bytes, entry: Bytes) -> Result<(), StoreError> {
        let Some((_, bucket, name)) = parse_storage_key(&key) else {
            return Err(StoreError::Damaged("a storage key that is none".into()));
        };
        if bucket != self.scan.bucket {
            return Ok(());
        }
        let name = key.slice(key.len() - name.len()..);
        let Some(stored) = decode_stored(Ok(Some(entry)), bucket, &name)? else {
            return Ok(());
        };
        let wanted = stored.value != StoredValue::Gone
            && stored.value_bytes() <= u64::from(self.scan.value_bytes_max)
            && self.scan.value_bytes_max > 0;
        let (head, value) = match wanted {
            true => fetch_value(store, (bucket, &name), key, stored)?,
            false => {
                let Stored { head, .. } = stored;
                (head, None)
            }
        };
        self.bytes += name.len() + value.as_ref().map_or(0, Bytes::len);
        let key = name;
        self.page.entries.push(PageEntry { key, head, value });
        Ok(())
    }
}
