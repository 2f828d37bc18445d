//! Where a key lies on the ring of 2^64 hashes, and in a store.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A position on the ring.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
pub struct KeyHash(pub u64);

impl KeyHash {
    /// The position of `key` of the bucket numbered `bucket`: xxh3 over the bucket's number
    /// (big-endian) and the key, with the cluster's seed.
    pub fn of(seed: u64, bucket: u32, key: &[u8]) -> Self {
        // Nearly every key fits the buffer: one pass over contiguous bytes, no allocation.
        let mut buffer = [0u8; 260];
        buffer[..4].copy_from_slice(&bucket.to_be_bytes());
        if let Some(room) = buffer.get_mut(4..4 + key.len()) {
            room.copy_from_slice(key);
            return Self(xxh3_64_with_seed(&buffer[..4 + key.len()], seed));
        }
        let mut long = Vec::with_capacity(4 + key.len());
        long.extend_from_slice(&bucket.to_be_bytes());
        long.extend_from_slice(key);
        Self(xxh3_64_with_seed(&long, seed))
    }

    /// The partition this position lies in, of `partitions` equal arcs (a power of two).
    pub fn partition(self, partitions: u32) -> u32 {
        debug_assert!(partitions.is_power_of_two());
        let bits = partitions.trailing_zeros();
        if bits == 0 {
            0
        } else {
            (self.0 >> (64 - bits)) as u32
        }
    }

    /// First and last position of one of `partitions` equal arcs (a power of two).
    pub fn arc(partition: u32, partitions: u32) -> (Self, Self) {
        debug_assert!(partitions.is_power_of_two() && partition < partitions);
        let bits = partitions.trailing_zeros();
        if bits == 0 {
            return (Self(0), Self(u64::MAX));
        }
        let first = u64::from(partition) << (64 - bits);
        (Self(first), Self(first | (u64::MAX >> bits)))
    }
}

/// The key under which a store holds a key: its hash (8 bytes, big-endian), the bucket's number (4
/// bytes, big-endian) and the key, so that any arc of the ring is one contiguous range.
pub fn storage_key(hash: KeyHash, bucket: u32, key: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(12 + key.len());
    bytes.put_u64(hash.0);
    bytes.put_u32(bucket);
    bytes.put_slice(key);
    bytes.freeze()
}

/// Takes a storage key apart. `None` if it is too short to be one.
pub fn parse_storage_key(bytes: &[u8]) -> Option<(KeyHash, u32, &[u8])> {
    let (hash, rest) = bytes.split_first_chunk::<8>()?;
    let (bucket, key) = rest.split_first_chunk::<4>()?;
    Some((
        KeyHash(u64::from_be_bytes(*hash)),
        u32::from_be_bytes(*bucket),
        key,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_hash_of_a_key_never_changes() {
        // Part of the disk format and of every table: a change loses all data.
        assert_eq!(KeyHash::of(0, 1, b"user:1").0, 18_300_106_919_443_400_529);
    }

    proptest! {
        #[test]
        fn short_and_long_keys_hash_by_the_same_rule(
            key in prop::collection::vec(any::<u8>(), 0..600), bucket: u32, seed: u64
        ) {
            let mut joined = bucket.to_be_bytes().to_vec();
            joined.extend_from_slice(&key);
            prop_assert_eq!(KeyHash::of(seed, bucket, &key).0, xxh3_64_with_seed(&joined, seed));
        }

        #[test]
        fn partitions_are_equal_arcs_in_order(hash: u64, bits in 0u32..=20) {
            let partition = KeyHash(hash).partition(1 << bits);
            prop_assert!(partition < 1 << bits);
            prop_assert_eq!(u128::from(partition), (u128::from(hash) << bits) >> 64);
            let (first, last) = KeyHash::arc(partition, 1 << bits);
            prop_assert!((first..=last).contains(&KeyHash(hash)));
            prop_assert_eq!(first.partition(1 << bits), last.partition(1 << bits));
            prop_assert_eq!(u128::from(last.0 - first.0) + 1, 1u128 << (64 - bits));
        }

        #[test]
        fn storage_keys_lie_in_the_order_of_hashes(
            a: u64, b: u64, bucket: u32, key in prop::collection::vec(any::<u8>(), 1..40)
        ) {
            let at = |hash| storage_key(KeyHash(hash), bucket, &key);
            prop_assert_eq!(a.cmp(&b), at(a).cmp(&at(b)));
            let stored = at(a);
            prop_assert_eq!(parse_storage_key(&stored), Some((KeyHash(a), bucket, &key[..])));
        }
    }
}
