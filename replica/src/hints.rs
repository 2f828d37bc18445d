//! Records kept for owners that could not be reached, as the store holds them.
//!
//! There is one record for a key, whoever it is for: under the storage key in [`Hints`] lies one
//! byte of format, one of flags, when it was taken (8), the epoch it was taken at (8), the number
//! of owners (2) and their ids (8 each), then the record as [`layout`] writes it, whole; last a
//! checksum over all before (4). All numbers are big-endian.
//!
//! In [`Notes`] lies, for each owner of each kept record, an entry whose key is one byte of tag,
//! the owner's id and the storage key, and whose value is when the record was taken (8): what waits
//! for one owner is one range. And one entry with the [`Tally`] of all, written in the same batch
//! as what it counts.
//!
//! [`Hints`]: crate::store::Family::Hints
//! [`Notes`]: crate::store::Family::Notes

use crate::layout::siblings::{self as siblings_layout, Marks};
use crate::layout::{self, Stored, StoredValue};
use crate::rules::Moment;
use crate::store::{Family, Span, Store, StoreError};
use annulet_protocol::clock::Stamp;
use annulet_protocol::ids::NodeId;
use annulet_protocol::limits::OWNERS_MAX;
use annulet_protocol::record::{Record, Version};
use annulet_protocol::siblings::Siblings;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::collections::BTreeMap;

/// Format byte of a kept record.
const FORMAT: u8 = 1;
const ASIDE: u8 = 1;
/// What a kept record takes besides its key and value, roughly: its heads and its notes.
const OVERHEAD_BYTES: u64 = 200;

/// Tag of a note that a record waits for an owner.
const WAITING: u8 = 1;
/// Tag of a note that a record was set aside.
const SET_ASIDE: u8 = 2;
/// The key of the tally.
const TALLY: &[u8] = &[0];

/// A record kept for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// When it was taken, by this server's clock.
    pub since_ms: u64,
    /// The epoch whose owners it was for.
    pub epoch: u64,
    /// It is not handed over by itself any more.
    pub aside: bool,
    /// Owners that have not got it, each once.
    pub owners: Vec<NodeId>,
    /// The record.
    pub record: KeptRecord,
}

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeptRecord {
    /// Of a last-write-wins bucket.
    Lww(Record),
    /// Of a bucket that keeps concurrent writes.
    Siblings {
        /// The record.
        record: Siblings,
        /// When this server began to keep the key: takes the place of the epoch in its actor.
        tenure: Stamp,
    },
}

impl KeptRecord {
    /// The record of a last-write-wins bucket.
    pub fn lww(&self) -> Option<&Record> {
        match self {
            Self::Lww(record) => Some(record),
            Self::Siblings { .. } => None,
        }
    }

    /// Its version; of concurrent values the newest stamp and the fingerprint.
    pub fn version(&self) -> Version {
        match self {
            Self::Lww(record) => record.head.version,
            Self::Siblings { record, .. } => Version {
                stamp: record.newest(),
                checksum: record.fingerprint(),
                ..Version::default()
            },
        }
    }

    /// Bytes of what may be long in it.
    fn long_bytes(&self) -> usize {
        match self {
            Self::Lww(record) => record.value.len(),
            Self::Siblings { record, .. } => record.wire_bytes(),
        }
    }

    fn encode(&self) -> Bytes {
        match self {
            Self::Lww(record) => layout::encode_whole(record),
            Self::Siblings { record, tenure } => {
                let marks = Marks {
                    tenure: Some(*tenure),
                };
                siblings_layout::encode_whole(record, marks)
            }
        }
    }

    fn decode(bytes: Bytes) -> Result<Self, String> {
        if bytes.first() == Some(&siblings_layout::FORMAT) {
            let stored = siblings_layout::decode(bytes)?;
            return match (stored.apart, stored.marks.tenure) {
                (None, Some(tenure)) => Ok(Self::Siblings {
                    record: stored.record,
                    tenure,
                }),
                _ => Err("a kept record has lost its values".into()),
            };
        }
        let Stored { head, value } = layout::decode(bytes)?;
        let StoredValue::Inline(value) = value else {
            return Err("a kept record has lost its value".into());
        };
        Ok(Self::Lww(Record { head, value }))
    }
}

impl Kept {
    /// This record in place of the one that is kept already, for the owners of both: who waited for
    /// the older one needs this as well.
    pub fn join(
        current: Option<&Self>,
        record: KeptRecord,
        owners: &[NodeId],
        moment: Moment<'_>,
    ) -> Self {
        let mut kept = Self {
            since_ms: current.map_or(moment.now_ms, |kept| kept.since_ms),
            epoch: current.map_or(moment.view.epoch, |kept| kept.epoch),
            aside: current.is_some_and(|kept| kept.aside),
            owners: Vec::new(),
            record,
        };
        let waiting = current.iter().flat_map(|kept| &kept.owners);
        for owner in waiting.chain(owners) {
            if !kept.owners.contains(owner) {
                kept.owners.push(*owner);
            }
        }
        kept
    }

    /// It as it is stored.
    pub fn encode(&self) -> Bytes {
        let record = self.record.encode();
        let mut bytes = BytesMut::with_capacity(40 + 8 * self.owners.len() + record.len());
        bytes.put_u8(FORMAT);
        bytes.put_u8(if self.aside { ASIDE } else { 0 });
        bytes.put_u64(self.since_ms);
        bytes.put_u64(self.epoch);
        bytes.put_u16(self.owners.len() as u16);
        for owner in &self.owners {
            bytes.put_u64(owner.0);
        }
        bytes.put_slice(&record);
        layout::seal(bytes)
    }

    /// Reads what is stored.
    ///
    /// # Errors
    /// If it is damaged, or of a newer version of this program.
    pub fn decode(mut bytes: Bytes) -> Result<Self, String> {
        let read = |e: bytes::TryGetError| format!("a kept record is cut off: {e}");
        layout::unseal(&mut bytes)?;
        let format = bytes.try_get_u8().map_err(read)?;
        let flags = bytes.try_get_u8().map_err(read)?;
        if format != FORMAT || flags & !ASIDE != 0 {
            return Err(format!(
                "a kept record has format {format}, flags {flags:#b}"
            ));
        }
        let since_ms = bytes.try_get_u64().map_err(read)?;
        let epoch = bytes.try_get_u64().map_err(read)?;
        let count = usize::from(bytes.try_get_u16().map_err(read)?);
        if count > OWNERS_MAX {
            return Err(format!("a kept record is for {count} owners"));
        }
        let owners = (0..count).map(|_| bytes.try_get_u64().map(NodeId));
        let owners = owners.collect::<Result<_, _>>().map_err(read)?;
        Ok(Self {
            since_ms,
            epoch,
            aside: flags & ASIDE != 0,
            owners,
            record: KeptRecord::decode(bytes)?,
        })
    }

    /// Bytes that it counts for.
    pub fn bytes(&self, storage_key: &[u8]) -> u64 {
        OVERHEAD_BYTES + (storage_key.len() + self.record.long_bytes()) as u64
    }

    /// Its notes, keys and values.
    pub fn notes(&self, storage_key: &[u8]) -> impl Iterator<Item = (Bytes, Bytes)> {
        let tag = if self.aside { SET_ASIDE } else { WAITING };
        let since = Bytes::copy_from_slice(&self.since_ms.to_be_bytes());
        let owners = self.owners.iter();
        owners.map(move |owner| (note(tag, *owner, storage_key), since.clone()))
    }
}

/// What a note says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Storage key of the kept record.
    pub key: Bytes,
    /// When the record was taken, by this server's clock.
    pub since_ms: u64,
}

fn note(tag: u8, owner: NodeId, storage_key: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(9 + storage_key.len());
    bytes.put_u8(tag);
    bytes.put_u64(owner.0);
    bytes.put_slice(storage_key);
    bytes.freeze()
}

/// How many records are kept, and for whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Bytes of all kept records, those set aside among them.
    pub bytes: u64,
    /// Records that were set aside.
    pub aside: u64,
    /// Records that wait for each owner; an owner without any is left out.
    pub waiting: BTreeMap<NodeId, u64>,
}

impl Tally {
    /// The tally of a store.
    ///
    /// # Errors
    /// What the store says. A tally that cannot be read is damage: what is kept would be forgotten.
    pub fn of(store: &impl Store) -> Result<Self, StoreError> {
        let found = store.read(Family::Notes, &[Self::key()]).pop();
        match found.unwrap_or(Ok(None))? {
            None => Ok(Self::default()),
            Some(bytes) => Self::decode(bytes).map_err(StoreError::Damaged),
        }
    }

    /// Where it lies among the notes.
    pub fn key() -> Bytes {
        Bytes::from_static(TALLY)
    }

    /// It as it is stored.
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(32 + 16 * self.waiting.len());
        bytes.put_u8(FORMAT);
        bytes.put_u64(self.bytes);
        bytes.put_u64(self.aside);
        for (owner, count) in &self.waiting {
            bytes.put_u64(owner.0);
            bytes.put_u64(*count);
        }
        layout::seal(bytes)
    }

    /// Reads what is stored.
    ///
    /// # Errors
    /// If it is damaged, or of a newer version of this program.
    pub fn decode(mut bytes: Bytes) -> Result<Self, String> {
        let read = |e: bytes::TryGetError| format!("the tally of hints is cut off: {e}");
        layout::unseal(&mut bytes)?;
        let format = bytes.try_get_u8().map_err(read)?;
        if format != FORMAT {
            return Err(format!("the tally of hints has format {format}"));
        }
        let mut tally = Self {
            bytes: bytes.try_get_u64().map_err(read)?,
            aside: bytes.try_get_u64().map_err(read)?,
            waiting: BTreeMap::new(),
        };
        while bytes.has_remaining() {
            let owner = NodeId(bytes.try_get_u64().map_err(read)?);
            let count = bytes.try_get_u64().map_err(read)?;
            tally.waiting.insert(owner, count);
        }
        Ok(tally)
    }

    /// Takes a kept record into account.
    pub fn add(&mut self, storage_key: &[u8], kept: &Kept) {
        self.bytes += kept.bytes(storage_key);
        match kept.aside {
            true => self.aside += 1,
            false => {
                for owner in &kept.owners {
                    *self.waiting.entry(*owner).or_default() += 1;
                }
            }
        }
    }

    /// Takes a kept record out of account.
    pub fn remove(&mut self, storage_key: &[u8], kept: &Kept) {
        self.bytes = self.bytes.saturating_sub(kept.bytes(storage_key));
        if kept.aside {
            self.aside = self.aside.saturating_sub(1);
            return;
        }
        for owner in &kept.owners {
            if let Some(count) = self.waiting.get_mut(owner) {
                *count = count.saturating_sub(1);
            }
        }
        self.waiting.retain(|_, count| *count > 0);
    }
}

/// Records that wait for an owner, those after this storage key, in order.
///
/// # Errors
/// What the store says.
pub fn waiting_for(
    store: &impl Store,
    owner: NodeId,
    after: &[u8],
    most: usize,
) -> Result<Vec<Waiting>, StoreError> {
    let span = Span::prefix(&note(WAITING, owner, &[]), most, usize::MAX);
    listed(store, span.after(&note(WAITING, owner, after)))
}

/// Storage keys of records that were set aside, the first of them, each once.
///
/// # Errors
/// What the store says.
pub fn set_aside(store: &impl Store, most: usize) -> Result<Vec<Bytes>, StoreError> {
    let notes = listed(store, Span::prefix(&[SET_ASIDE], most, usize::MAX))?;
    let mut keys: Vec<_> = notes.into_iter().map(|note| note.key).collect();
    keys.sort_unstable();
    keys.dedup();
    Ok(keys)
}

fn listed(store: &impl Store, span: Span) -> Result<Vec<Waiting>, StoreError> {
    let slice = store.range(Family::Notes, &span)?;
    let read = |(note, since): (Bytes, Bytes)| Waiting {
        key: note.slice(NOTE_BYTES.min(note.len())..),
        // A note without its time is as old as can be.
        since_ms: since.clone().try_get_u64().unwrap_or(0),
    };
    Ok(slice.entries.into_iter().map(read).collect())
}

/// Tag and owner in front of the storage key.
const NOTE_BYTES: usize = 9;

/// Reads kept records. One that cannot be read is damaged.
pub fn read(store: &impl Store, keys: &[Bytes]) -> Vec<Result<Option<Kept>, StoreError>> {
    let found = store.read(Family::Hints, keys).into_iter();
    let kept = |entry: Result<Option<Bytes>, StoreError>| {
        let Some(bytes) = entry? else { return Ok(None) };
        Kept::decode(bytes).map(Some).map_err(StoreError::Damaged)
    };
    found.map(kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryStore;
    use crate::store::Change;
    use annulet_protocol::clock::Stamp;
    use annulet_protocol::ids::{Incarnation, OpId};
    use annulet_protocol::record::Origin;
    use proptest::prelude::*;

    fn kept(value: Vec<u8>, owners: &[u64], aside: bool) -> Kept {
        let op = OpId {
            client: Incarnation([5; 16]),
            sequence: 7,
            first_sent_ms: 90,
        };
        let origin = Origin {
            stamp: Stamp(3),
            op,
        };
        Kept {
            since_ms: 1_000,
            epoch: 7,
            aside,
            owners: owners.iter().copied().map(NodeId).collect(),
            record: KeptRecord::Lww(Record::seal(1, b"k", origin, Some(value.into()), None)),
        }
    }

    #[test]
    fn the_disk_format_never_changes() {
        let bytes = kept(b"v".to_vec(), &[2, 3], false).encode();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "010000000000000003e8000000000000000700020000000000000002\
             000000000000000301000000000000000003050505050505050505050505050505053208\
             ef7c29a8d1690000000000000007000000000000005a76d19233e3f149bc0f"
        );
        let tally = Tally {
            bytes: 5,
            aside: 1,
            waiting: BTreeMap::from([(NodeId(2), 3)]),
        };
        let hex: String = tally.encode().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "01000000000000000500000000000000010000000000000002000000000000000302303075"
        );
    }

    #[test]
    fn what_waits_for_an_owner_is_found_in_order() {
        let store = MemoryStore::default();
        let mut batch = Vec::new();
        for (key, owners, aside) in [
            (&b"c"[..], &[2][..], false),
            (b"a", &[2, 3], false),
            (b"b", &[3, 4], true),
        ] {
            for (note, since) in kept(Vec::new(), owners, aside).notes(key) {
                batch.push(Change::Put(Family::Notes, note, since));
            }
        }
        batch.push(Change::Put(
            Family::Notes,
            Tally::key(),
            Tally::default().encode(),
        ));
        store.write(batch).unwrap();
        let waiting = |owner, after: &[u8], most| {
            let found = waiting_for(&store, NodeId(owner), after, most).unwrap();
            assert!(found.iter().all(|waiting| waiting.since_ms == 1_000));
            found
                .into_iter()
                .map(|waiting| waiting.key)
                .collect::<Vec<_>>()
        };
        assert_eq!(waiting(2, b"", 9), ["a", "c"]);
        assert_eq!(waiting(2, b"", 1), ["a"]);
        assert_eq!(waiting(2, b"a", 9), ["c"]);
        assert_eq!(waiting(3, b"", 9), ["a"]);
        assert_eq!(waiting(4, b"", 9), [""; 0]);
        assert_eq!(set_aside(&store, 9).unwrap(), ["b"]);
    }

    proptest! {
        #[test]
        fn kept_records_are_read_as_they_were_written(
            value in prop::collection::vec(any::<u8>(), 0..6_000),
            owners in prop::collection::vec(any::<u64>(), 1..8),
            aside: bool,
        ) {
            let kept = kept(value, &owners, aside);
            prop_assert_eq!(Kept::decode(kept.encode()), Ok(kept));
        }

        #[test]
        fn damaged_entries_are_found_and_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200), bit: prop::sample::Index
        ) {
            let _ = Kept::decode(bytes.clone().into());
            let _ = Tally::decode(bytes.into());
            let mut damaged = kept(b"v".to_vec(), &[2, 3], false).encode().to_vec();
            let bit = bit.index(damaged.len() * 8);
            damaged[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Kept::decode(damaged.into()).is_err());
        }

        #[test]
        fn a_tally_counts_what_is_kept(
            kinds in prop::collection::vec((0u64..4, 0u64..4, any::<bool>()), 0..20)
        ) {
            let all: Vec<_> = kinds
                .iter()
                .map(|(a, b, aside)| kept(vec![1; *a as usize], &[*a, 10 + *b], *aside))
                .collect();
            let mut tally = Tally::default();
            all.iter().for_each(|kept| tally.add(b"key", kept));
            prop_assert_eq!(Tally::decode(tally.encode()), Ok(tally.clone()));
            let waiting = all.iter().filter(|kept| !kept.aside).count() as u64;
            prop_assert_eq!(tally.waiting.values().sum::<u64>(), 2 * waiting);
            prop_assert_eq!(tally.aside, all.len() as u64 - waiting);
            all.iter().for_each(|kept| tally.remove(b"key", kept));
            prop_assert_eq!(tally, Tally::default());
        }
    }
}
