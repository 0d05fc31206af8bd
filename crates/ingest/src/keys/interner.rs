//! Gives each distinct key a small number, in order of first appearance. Knows keys in canonical form only; it must
//! never forget or renumber one.

use hashbrown::HashTable;

use super::{hash_bytes, hash_fixed};

/// Distinct keys in canonical form, by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Keys {
    /// Keys that fit into 64 bits.
    Fixed(Vec<u64>),
    /// All others: bytes one after another, and where each ends.
    Bytes {
        /// The end of each key in `data`.
        ends: Vec<u64>,
        /// The bytes of all keys.
        data: Vec<u8>,
    },
}

/// One key, in canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyRef<'a> {
    /// A key that fits into 64 bits.
    Fixed(u64),
    /// Any other.
    Bytes(&'a [u8]),
}

impl KeyRef<'_> {
    /// The key's hash.
    pub(crate) fn hash(self) -> u64 {
        match self {
            Self::Fixed(key) => hash_fixed(key),
            Self::Bytes(key) => hash_bytes(key),
        }
    }
}

impl Keys {
    /// No keys, of the kind that `fixed` says.
    pub(crate) fn new(fixed: bool) -> Self {
        Self::with_capacity(fixed, 0)
    }

    /// No keys yet, with room for so many.
    pub(crate) fn with_capacity(fixed: bool, count: usize) -> Self {
        if fixed {
            Self::Fixed(Vec::with_capacity(count))
        } else {
            Self::Bytes { ends: Vec::with_capacity(count), data: Vec::new() }
        }
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Fixed(keys) => keys.len(),
            Self::Bytes { ends, .. } => ends.len(),
        }
    }

    /// The key with number `index`, which must be below `len`.
    pub(crate) fn get(&self, index: usize) -> KeyRef<'_> {
        match self {
            Self::Fixed(keys) => KeyRef::Fixed(keys[index]),
            Self::Bytes { ends, data } => {
                let from = if index == 0 { 0 } else { ends[index - 1] as usize };
                KeyRef::Bytes(&data[from..ends[index] as usize])
            }
        }
    }

    /// Adds a key, which must be of the same kind.
    pub(crate) fn push(&mut self, key: KeyRef<'_>) {
        match (self, key) {
            (Self::Fixed(keys), KeyRef::Fixed(key)) => keys.push(key),
            (Self::Bytes { ends, data }, KeyRef::Bytes(key)) => {
                data.extend_from_slice(key);
                ends.push(data.len() as u64);
            }
            _ => unreachable!("a table's keys are all of the kind that its codec says"),
        }
    }
}

/// Distinct keys with their hashes and a way to find them.
#[derive(Debug)]
pub(crate) struct Interner {
    index: HashTable<u32>,
    hashes: Vec<u64>,
    keys: Keys,
    // Rows of one thing tend to stand together (the lines of an order), so the last answer is often the next.
    last: u32,
}

impl Interner {
    /// An empty one for keys of the kind that `fixed` says.
    pub(crate) fn new(fixed: bool) -> Self {
        Self { index: HashTable::new(), hashes: Vec::new(), keys: Keys::new(fixed), last: u32::MAX }
    }

    /// How many distinct keys there are.
    pub(crate) fn len(&self) -> usize {
        self.hashes.len()
    }

    /// The hashes of all keys, by number.
    pub(crate) fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    /// The keys, by number.
    pub(crate) fn into_keys(self) -> Keys {
        self.keys
    }

    /// The number of a key that is known; `None` if it is not.
    pub(crate) fn find(&self, key: KeyRef<'_>, hash: u64) -> Option<u32> {
        let Self { index, hashes, keys, .. } = self;
        let is_it = |&number: &u32| hashes[number as usize] == hash && keys.get(number as usize) == key;
        index.find(hash, is_it).copied()
    }

    /// The number of `key`, and whether it is new.
    pub(crate) fn intern(&mut self, key: KeyRef<'_>) -> (u32, bool) {
        if let Some(last) = self.hashes.len().checked_sub(1).map(|_| self.last)
            && self.keys.get(last as usize) == key
        {
            return (last, false);
        }
        self.intern_hashed(key, key.hash())
    }

    /// The same where the hash is known already.
    pub(crate) fn intern_hashed(&mut self, key: KeyRef<'_>, hash: u64) -> (u32, bool) {
        let Self { index, hashes, keys, last } = self;
        if let Some(&number) =
            index.find(hash, |&number| hashes[number as usize] == hash && keys.get(number as usize) == key)
        {
            *last = number;
            return (number, false);
        }
        let number = hashes.len() as u32;
        hashes.push(hash);
        keys.push(key);
        index.insert_unique(hash, number, |&number| hashes[number as usize]);
        *last = number;
        (number, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g3_numbers_follow_first_appearance() {
        let mut interner = Interner::new(false);
        let numbers: Vec<u32> = ["b", "a", "b", "", "a", "c", ""]
            .iter()
            .map(|key| interner.intern(KeyRef::Bytes(key.as_bytes())).0)
            .collect();
        assert_eq!(numbers, [0, 1, 0, 2, 1, 3, 2]);
        assert_eq!(interner.len(), 4);
        assert_eq!(interner.keys.get(2), KeyRef::Bytes(b""));
    }

    #[test]
    fn g1_equal_hashes_do_not_make_equal_keys() {
        let mut interner = Interner::new(true);
        assert_eq!(interner.intern_hashed(KeyRef::Fixed(1), 7), (0, true));
        assert_eq!(interner.intern_hashed(KeyRef::Fixed(2), 7), (1, true));
        assert_eq!(interner.intern_hashed(KeyRef::Fixed(1), 7), (0, false));
    }
}
