//! The keys of some records on their way into a key table, laid out by hash shard: what one shard takes lies together
//! and is read from front to back, so that only the table itself is looked at here and there. Bytes of keys are copied
//! for the same reason. Must never drop a key that a record has.

use super::{hash_bytes, hash_fixed, shard_of};

/// A key that fits into 64 bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct FixedItem {
    pub(super) key: u64,
    /// Where it appears, in the run.
    pub(super) position: u32,
    /// Its place among the keys that were given.
    pub(super) index: u32,
}

/// A key that is a byte string; the bytes lie apart, in the same order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct BytesItem {
    /// The low half of the key's hash.
    pub(super) hash: u32,
    pub(super) position: u32,
    pub(super) index: u32,
    pub(super) length: u32,
}

/// Keys by shard.
#[derive(Debug)]
pub(crate) struct SortedKeys {
    /// Where each shard's items end.
    ends: Vec<u32>,
    items: Items,
}

#[derive(Debug)]
enum Items {
    Fixed(Vec<FixedItem>),
    Bytes { items: Vec<BytesItem>, data: Vec<u8>, data_ends: Vec<usize> },
}

/// The items of one shard.
#[derive(Debug, Clone, Copy)]
pub(super) enum ShardItems<'a> {
    Fixed(&'a [FixedItem]),
    Bytes(&'a [BytesItem], &'a [u8]),
}

impl SortedKeys {
    /// Sorts keys that fit into 64 bits; each with its place among all that there are and its position in the run.
    pub(crate) fn fixed(shards: u32, keys: impl Iterator<Item = (u64, u32, u32)> + Clone) -> Self {
        let mut counts = vec![0; shards as usize];
        for (key, _, _) in keys.clone() {
            counts[shard_of(hash_fixed(key), shards) as usize] += 1;
        }
        let mut next = starts(&counts);
        let mut items = vec![FixedItem::default(); counts.iter().map(|&count| count as usize).sum()];
        for (key, index, position) in keys {
            let next = &mut next[shard_of(hash_fixed(key), shards) as usize];
            items[*next as usize] = FixedItem { key, position, index };
            *next += 1;
        }
        Self { ends: next, items: Items::Fixed(items) }
    }

    /// The same for keys that are byte strings.
    pub(crate) fn bytes<'a>(shards: u32, keys: impl Iterator<Item = (&'a [u8], u32, u32)> + Clone) -> Self {
        let (mut counts, mut sizes) = (vec![0; shards as usize], vec![0_usize; shards as usize]);
        let mut hashes = Vec::with_capacity(keys.size_hint().1.unwrap_or_default());
        for (key, _, _) in keys.clone() {
            let hash = hash_bytes(key);
            hashes.push(hash);
            counts[shard_of(hash, shards) as usize] += 1;
            sizes[shard_of(hash, shards) as usize] += key.len();
        }
        let mut next = starts(&counts);
        let mut next_data: Vec<usize> =
            sizes.iter().scan(0, |sum, size| Some(std::mem::replace(sum, *sum + size))).collect();
        let mut items = vec![BytesItem::default(); hashes.len()];
        let mut data = vec![0; sizes.iter().sum()];
        for ((key, index, position), hash) in keys.zip(hashes) {
            let shard = shard_of(hash, shards) as usize;
            // A key is shorter than a page, whose size is a 32-bit number.
            items[next[shard] as usize] = BytesItem { hash: hash as u32, position, index, length: key.len() as u32 };
            next[shard] += 1;
            let at = next_data[shard];
            data[at..at + key.len()].copy_from_slice(key);
            next_data[shard] = at + key.len();
        }
        Self { ends: next, items: Items::Bytes { items, data, data_ends: next_data } }
    }

    /// Whether all keys are valid UTF-8; true for keys that are no byte strings.
    pub(crate) fn is_text(&self) -> bool {
        let Items::Bytes { items, data, .. } = &self.items else { return true };
        // What is valid as a whole is valid in parts if each of them begins with a character.
        let mut at = 0;
        let whole_characters = items.iter().all(|item| {
            let first = if item.length == 0 { 0 } else { data[at] };
            at += item.length as usize;
            first & 0xc0 != 0x80
        });
        whole_characters && simdutf8::basic::from_utf8(data).is_ok()
    }

    /// The items of a shard.
    pub(super) fn shard(&self, shard: u32) -> ShardItems<'_> {
        let range = |ends: &[u32]| {
            let from = if shard == 0 { 0 } else { ends[shard as usize - 1] };
            from as usize..ends[shard as usize] as usize
        };
        match &self.items {
            Items::Fixed(items) => ShardItems::Fixed(&items[range(&self.ends)]),
            Items::Bytes { items, data, data_ends } => {
                let from = if shard == 0 { 0 } else { data_ends[shard as usize - 1] };
                ShardItems::Bytes(&items[range(&self.ends)], &data[from..data_ends[shard as usize]])
            }
        }
    }
}

impl ShardItems<'_> {
    pub(super) fn len(self) -> usize {
        match self {
            Self::Fixed(items) => items.len(),
            Self::Bytes(items, _) => items.len(),
        }
    }

    pub(super) fn is_empty(self) -> bool {
        self.len() == 0
    }
}

fn starts(counts: &[u32]) -> Vec<u32> {
    counts.iter().scan(0, |sum, count| Some(std::mem::replace(sum, *sum + count))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(keys: &[&[u8]], shards: u32) -> SortedKeys {
        SortedKeys::bytes(shards, (0..).zip(keys).map(|(index, key)| (*key, index, 100 + index)))
    }

    #[test]
    fn g4_every_key_is_in_its_shard_with_its_bytes_and_its_place() {
        let keys: Vec<String> = (0..500).map(|n| "x".repeat(n % 37) + &n.to_string()).collect();
        let keys: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
        for shards in [1, 2, 64] {
            let sorted = sorted(&keys, shards);
            let mut found = vec![false; keys.len()];
            for shard in 0..shards {
                let ShardItems::Bytes(items, mut data) = sorted.shard(shard) else { panic!("keys are byte strings") };
                for item in items {
                    let (key, rest) = data.split_at(item.length as usize);
                    data = rest;
                    assert_eq!(key, keys[item.index as usize]);
                    assert_eq!((item.hash, item.position), (hash_bytes(key) as u32, 100 + item.index));
                    assert_eq!(shard_of(hash_bytes(key), shards), shard);
                    found[item.index as usize] = true;
                }
                assert!(data.is_empty());
            }
            assert!(!found.contains(&false), "{shards} shards");
        }
    }

    #[test]
    fn halves_of_a_character_are_no_text_although_they_are_beside_each_other() {
        assert!(sorted(&["".as_bytes(), "é".as_bytes(), b"a"], 1).is_text());
        assert!(!sorted(&[b"\xc3", b"\xa9"], 1).is_text());
        assert!(!sorted(&[b"a\xc3", b"\xa9b"], 1).is_text());
        assert!(!sorted(&[b"\xff"], 4).is_text());
    }
}
