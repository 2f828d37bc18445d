//! What a store holds of a key, and whether that is sound.

use super::strong::{is_strong, stored, value_apart};
use super::world::{HASTY, SIBLINGS};
use annulet_protocol::hash::parse_storage_key;
use annulet_protocol::record::Record;
use annulet_protocol::register::Register;
use annulet_replica::layout::register::Stored;
use annulet_replica::layout::siblings::StoredSiblings;
use annulet_replica::layout::{self, StoredValue};
use annulet_replica::memory::MemoryStore;
use annulet_replica::restore::Copy;
use annulet_replica::store::{Family, Store};
use bytes::Bytes;

/// What a store holds of a key, if it can be read.
pub(crate) fn held(store: &MemoryStore, storage_key: &Bytes) -> Option<Copy> {
    let keys = [storage_key.clone()];
    let entry = store.read(Family::Records, &keys).pop()?.ok()??;
    let stored = layout::decode(entry).ok()?;
    let value = match stored.value {
        StoredValue::Inline(value) => value,
        StoredValue::Gone => {
            return Some(Copy {
                head: stored.head,
                value: None,
            });
        }
        StoredValue::Apart(length) => {
            let value = store.read(Family::Values, &keys).pop()?.ok()??;
            layout::decode_value(value, &stored.head.version, length).ok()?
        }
    };
    Some(Copy {
        head: stored.head,
        value: Some(value),
    })
}

/// The concurrent values that a store holds of a key, if they can be read.
pub(crate) fn held_siblings(store: &MemoryStore, storage_key: &Bytes) -> Option<StoredSiblings> {
    let keys = [storage_key.clone()];
    let entry = store.read(Family::Records, &keys).pop()?.ok()??;
    let mut stored = layout::siblings::decode(entry).ok()?;
    if let Some(apart) = stored.apart {
        let values = store.read(Family::Values, &keys).pop()?.ok()??;
        stored.record = layout::siblings::decode_values(values, apart).ok()?;
    }
    Some(stored)
}

/// Whether what a store holds of a key cannot be read or is not what was written.
pub(crate) fn damaged(store: &MemoryStore, bucket: u32, key: &[u8], storage_key: &Bytes) -> bool {
    let entry = store
        .read(Family::Records, std::slice::from_ref(storage_key))
        .pop();
    let there = matches!(entry, Some(Ok(Some(_))));
    if is_strong(bucket) {
        let sound = |stored: &Stored| {
            let apart = value_apart(store, storage_key, stored);
            stored.accepted().is_none_or(|accepted| {
                let Register { head, .. } = &accepted.value.register;
                let value = apart.is_ok_and(|value| {
                    value.is_none_or(|value| head.verify_value(bucket, key, &value).is_ok())
                });
                value && accepted.value.register.verify(bucket, key).is_ok()
            })
        };
        let stored = stored(store, storage_key);
        return there && !stored.is_ok_and(|stored| stored.as_ref().is_some_and(sound));
    }
    if matches!(bucket, SIBLINGS | HASTY) {
        let sound = |stored: StoredSiblings| {
            let mut all = stored.record.iter();
            all.all(|one| one.write.is_sound(bucket, key))
        };
        return there && !held_siblings(store, storage_key).is_some_and(sound);
    }
    let sound = |Copy { head, value }| match value {
        Some(value) => Record { head, value }.verify(bucket, key).is_ok(),
        None => head.verify_expiry(bucket, key).is_ok(),
    };
    there && !held(store, storage_key).is_some_and(sound)
}

pub(crate) fn any_damaged(store: &MemoryStore) -> bool {
    store
        .entries(Family::Records)
        .iter()
        .any(|(storage_key, _)| {
            parse_storage_key(storage_key)
                .is_some_and(|(_, bucket, key)| damaged(store, bucket, key, storage_key))
        })
}
