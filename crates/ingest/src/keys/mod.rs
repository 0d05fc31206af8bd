//! Natural keys: their canonical form, their hash, and interning. The canonical form decides which keys are equal and
//! in which shard a key lives, for ever; it must never depend on the file, the writer or the machine that a key comes
//! from, and changing it would orphan every key map.

mod codec;
mod interner;
mod shard;
mod sorted;
mod table;

pub(crate) use codec::{KeyCodec, RowKeys, is_key_type, row_hashes};
pub(crate) use interner::{Interner, KeyRef, Keys};
pub(crate) use shard::{Entry, KeyShard, Refused};
pub(crate) use sorted::SortedKeys;
pub(crate) use table::{KeyTable, NO_KEY, Tracks, too_many};

/// The hash of a canonical key: XXH3, 64 bits, seed 0. Its top bits are the key's shard, on disk too.
pub(crate) fn hash_bytes(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

/// The hash of a key that fits into 64 bits: that of its little-endian bytes.
#[inline]
pub(crate) fn hash_fixed(key: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64(&key.to_le_bytes())
}

/// The shard of a hash, of `shards` (a power of two).
pub(crate) fn shard_of(hash: u64, shards: u32) -> u32 {
    if shards <= 1 { 0 } else { (hash >> (64 - shards.trailing_zeros())) as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Symptom to prevent: a build that hashes otherwise looks for known keys in the wrong shard and numbers them anew.
    #[test]
    fn g4_hashes_and_shards_are_those_of_every_version() {
        assert_eq!(hash_bytes(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(hash_fixed(1), hash_bytes(&[1, 0, 0, 0, 0, 0, 0, 0]));
        assert_eq!(shard_of(u64::MAX, 1), 0);
        assert_eq!(shard_of(u64::MAX, 16), 15);
        assert_eq!(shard_of(1 << 60, 16), 1);
    }
}
