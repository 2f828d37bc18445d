//! Pages of what is copied: the same reading for whoever is asked and for whoever compares.

use crate::layout::register::{self as register_layout, StoredRegister};
use crate::layout::siblings as siblings_layout;
use crate::layout::{self, StoredValue};
use crate::store::{Family, Slice, Span, Store, StoreError};
use annulet_protocol::bucket::{Bucket, Mode};
use annulet_protocol::copy::{Copied, CopiedEntry, CopyArc};
use annulet_protocol::hash::{KeyHash, parse_storage_key};
use annulet_protocol::ids::NodeId;
use annulet_protocol::limits::{PAGE_BYTES_MAX, PAGE_ENTRIES_MAX};
use annulet_protocol::view::View;
use annulet_ring::owners::{Lists, Owners};
use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

/// Most entries looked at for one page, those that are not copied among them.
const EXAMINED_MAX: usize = 4_096;
/// Entries read from the store at a time.
const STEP: usize = 256;

/// What is copied from whom to whom.
#[derive(Clone, Copy, Debug)]
pub struct Between<'a> {
    /// The view of both.
    pub view: &'a View,
    /// Who owns it.
    pub source: NodeId,
    /// Who is to own it.
    pub target: NodeId,
}

/// A part of an arc, as far as the store was looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gathered {
    /// Storage keys and entries, without what lies apart.
    pub entries: Vec<(Bytes, Bytes)>,
    /// The storage key up to which was looked; `None`: to the end.
    pub reached: Option<Bytes>,
}

impl Between<'_> {
    /// Whether a key is owned by the one and to be owned by the other.
    fn takes(&self, bucket: &Bucket, hash: KeyHash) -> bool {
        let owners = Owners::of(self.view, bucket, hash);
        let owns = |lists: &Lists, node| lists.iter().any(|list| list.nodes.contains(&node));
        let next = owners.next.as_deref().unwrap_or(&owners.regions);
        owns(&owners.regions, self.source) && owns(next, self.target)
    }

    /// What is in an arc after one storage key, up to another, as far as a page goes.
    ///
    /// # Errors
    /// What the store says.
    pub fn gather(
        &self,
        store: &impl Store,
        (from, until): (KeyHash, KeyHash),
        (after, last): (&Bytes, &Bytes),
        bytes_max: usize,
    ) -> Result<Gathered, StoreError> {
        let mut found = Gathered::default();
        let (mut bytes, mut examined) = (0, 0);
        let mut after = after.clone();
        loop {
            let span = Span::arc(from, until, STEP, bytes_max);
            let span = match after.is_empty() {
                true => span,
                false => span.after(&after),
            };
            let Slice { entries, cut } = store.range(Family::Records, &span)?;
            for (key, entry) in entries {
                if !last.is_empty() && key > *last {
                    found.reached = Some(last.clone());
                    return Ok(found);
                }
                let most = PAGE_ENTRIES_MAX as usize;
                let full = found.entries.len() >= most || bytes >= bytes_max;
                if full || examined >= EXAMINED_MAX {
                    found.reached = Some(after);
                    return Ok(found);
                }
                examined += 1;
                after = key.clone();
                let Some((hash, number, _)) = parse_storage_key(&key) else {
                    return Err(StoreError::Damaged("a storage key that is none".into()));
                };
                let bucket = self.view.bucket(number);
                if bucket.is_some_and(|bucket| self.takes(bucket, hash)) {
                    bytes += key.len() + entry.len();
                    found.entries.push((key, entry));
                }
            }
            if !cut {
                found.reached = (!last.is_empty()).then(|| last.clone());
                return Ok(found);
            }
        }
    }

    /// The digest of entries: the same where nothing would change if one were merged into the
    /// other.
    ///
    /// # Errors
    /// If one of them is damaged.
    pub fn digest(&self, entries: &[(Bytes, Bytes)]) -> Result<u64, StoreError> {
        let mut digest = Xxh3::new();
        for (key, entry) in entries {
            digest.update(&(key.len() as u64).to_be_bytes());
            digest.update(key);
            let bucket = parse_storage_key(key).and_then(|(_, number, _)| self.view.bucket(number));
            // Which operations were overwritten is not compared, nor what a server notes for
            // itself.
            let mode = bucket.map(|bucket| bucket.mode);
            let fingerprint = match mode {
                Some(Mode::Siblings) => {
                    let stored = siblings_layout::decode(entry.clone());
                    stored.map_err(StoreError::Damaged)?.record.fingerprint()
                }
                Some(Mode::Lww | Mode::Strong) | None => xxhash_rust::xxh3::xxh3_64(entry),
            };
            digest.update(&fingerprint.to_be_bytes());
        }
        Ok(digest.digest())
    }

    /// Answers whoever copies an arc.
    ///
    /// # Errors
    /// What the store says. What is damaged refuses the page: what it would leave out must not be
    /// taken for absent.
    pub fn page(&self, store: &impl Store, asked: &CopyArc) -> Result<Copied, StoreError> {
        let bytes_max = asked.bytes_max.clamp(1, PAGE_BYTES_MAX) as usize;
        let arc = (asked.from, asked.until);
        let within = (&asked.after, &asked.last);
        let Gathered { entries, reached } = self.gather(store, arc, within, bytes_max)?;
        let whole = match (&reached, asked.last.is_empty()) {
            (None, _) => true,
            (Some(reached), false) => *reached == asked.last,
            (Some(_), true) => false,
        };
        if whole && asked.digest.is_some() && asked.digest == Some(self.digest(&entries)?) {
            let entries = Vec::new();
            return Ok(Copied { entries, reached });
        }
        let mut copied = Copied::default();
        let mut bytes = 0;
        for (key, entry) in entries {
            if bytes >= bytes_max {
                let last = copied.entries.last();
                copied.reached = last.map(|entry: &CopiedEntry| entry.key.clone());
                return Ok(copied);
            }
            if let Some(entry) = self.complete(store, key, entry)? {
                let value = entry.value.as_ref().map_or(0, Bytes::len);
                bytes += entry.key.len() + entry.entry.len() + value;
                copied.entries.push(entry);
            }
        }
        copied.reached = reached;
        Ok(copied)
    }

    /// One entry with what lies apart; `None`: there is nothing under the key.
    ///
    /// # Errors
    /// What the store says.
    pub fn entry(
        &self,
        store: &impl Store,
        key: &Bytes,
    ) -> Result<Option<CopiedEntry>, StoreError> {
        let entry = store.read(Family::Records, std::slice::from_ref(key)).pop();
        match entry.unwrap_or(Ok(None))? {
            Some(entry) => self.complete(store, key.clone(), entry),
            None => Ok(None),
        }
    }

    /// Adds what lies apart. It may be replaced between the two reads: then both are read again.
    /// `None`: there is nothing any more.
    fn complete(
        &self,
        store: &impl Store,
        key: Bytes,
        mut entry: Bytes,
    ) -> Result<Option<CopiedEntry>, StoreError> {
        /// One replacement after each read would need a writer faster than this loop, each time.
        const ATTEMPTS: usize = 8;
        let bucket = parse_storage_key(&key).and_then(|(_, number, _)| self.view.bucket(number));
        let mode = bucket.map_or(Mode::Lww, |bucket| bucket.mode);
        let keys = [key.clone()];
        let mut why = String::new();
        for _ in 0..ATTEMPTS {
            if !lies_apart(mode, &entry)? {
                let value = None;
                return Ok(Some(CopiedEntry { key, entry, value }));
            }
            let value = store.read(Family::Values, &keys).pop();
            match value.unwrap_or(Ok(None))? {
                Some(value) if belongs(mode, &entry, &value)? => {
                    let value = Some(value);
                    return Ok(Some(CopiedEntry { key, entry, value }));
                }
                Some(_) => why = "a stored value belongs to another record".into(),
                None => why = "the value of a stored record is missing".into(),
            }
            let again = store.read(Family::Records, &keys).pop();
            match again.unwrap_or(Ok(None))? {
                Some(again) => entry = again,
                None => return Ok(None),
            }
        }
        Err(StoreError::Damaged(why))
    }
}

/// Whether the value of an entry lies apart.
fn lies_apart(mode: Mode, entry: &Bytes) -> Result<bool, StoreError> {
    let apart = match mode {
        Mode::Lww => layout::decode(entry.clone())
            .map(|stored| matches!(stored.value, StoredValue::Apart(_))),
        Mode::Siblings => {
            siblings_layout::decode(entry.clone()).map(|stored| stored.apart.is_some())
        }
        Mode::Strong => register_layout::decode(entry.clone()).map(|stored| {
            let accepted = stored.accepted();
            accepted.is_some_and(|accepted| accepted.value.is_apart())
        }),
    };
    apart.map_err(StoreError::Damaged)
}

/// Whether what lies apart is that of the entry.
fn belongs(mode: Mode, entry: &Bytes, value: &Bytes) -> Result<bool, StoreError> {
    let (entry, value) = (entry.clone(), value.clone());
    let belongs = match mode {
        Mode::Lww => layout::decode(entry).map(|stored| match stored.value {
            StoredValue::Apart(length) => {
                layout::decode_value(value, &stored.head.version, length).is_ok()
            }
            StoredValue::Inline(_) | StoredValue::Gone => false,
        }),
        Mode::Siblings => siblings_layout::decode(entry).map(|stored| {
            let apart = stored.apart;
            apart.is_some_and(|apart| siblings_layout::decode_values(value, apart).is_ok())
        }),
        Mode::Strong => register_layout::decode(entry).map(|stored| {
            let accepted = stored.accepted();
            accepted.is_some_and(|accepted| {
                let StoredRegister { register, .. } = &accepted.value;
                register_layout::decode_value(value, &register.head).is_ok()
            })
        }),
    };
    belongs.map_err(StoreError::Damaged)
}
