//! What a store holds of a key, and whether that is sound.

use annulet_protocol::record::Record;
use annulet_replica::layout::{self, StoredValue};
use annulet_replica::memory::MemoryStore;
use annulet_replica::store::{Family, Store};
use bytes::Bytes;

/// What a store holds of a key, if it can be read.
pub(crate) fn held(store: &MemoryStore, storage_key: &Bytes) -> Option<Record> {
    let keys = [storage_key.clone()];
    let entry = store.read(Family::Records, &keys).pop()?.ok()??;
    let stored = layout::decode(entry).ok()?;
    let value = match stored.value {
        StoredValue::Inline(value) => value,
        StoredValue::Apart(length) => {
            let value = store.read(Family::Values, &keys).pop()?.ok()??;
            layout::decode_value(value, &stored.head.version, length).ok()?
        }
    };
    Some(Record {
        head: stored.head,
        value,
    })
}

/// Whether what a store holds of a key cannot be read or is not what was written.
pub(crate) fn damaged(store: &MemoryStore, bucket: u32, key: &[u8], storage_key: &Bytes) -> bool {
    let entry = store
        .read(Family::Records, std::slice::from_ref(storage_key))
        .pop();
    let there = matches!(entry, Some(Ok(Some(_))));
    let sound = |record: Record| record.verify(bucket, key).is_ok();
    there && !held(store, storage_key).is_some_and(sound)
}

pub(crate) fn any_damaged(store: &MemoryStore) -> bool {
    store
        .entries(Family::Records)
        .iter()
        .any(|(storage_key, _)| {
            layout::parse_storage_key(storage_key)
                .is_some_and(|(_, bucket, key)| damaged(store, bucket, key, storage_key))
        })
}
