//! Where a key lies on the ring of 2^64 hashes.

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
        }
    }
}
