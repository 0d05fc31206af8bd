//! The distinct keys of one table in one run, shared by all workers: hash shards that keys are merged into while chunks
//! are scanned. A key gets a *handle*, and the table remembers the first position at which it appeared. Handles depend
//! on who came first and must never leave the process; positions, and whatever else is remembered, do not: they are
//! least and greatest values, which come out the same in any order.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::shard::{KeyShard, Refused};
use super::sorted::{ShardItems, SortedKeys};
use crate::artifacts::{Decoder, Encoder};
use crate::error::{IngestError, Result};

/// Stands in for the handle of a record whose key is null.
pub(crate) const NO_KEY: u32 = u32::MAX;

/// What a table remembers of a key besides its first position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tracks {
    /// The last position.
    pub(crate) last: bool,
    /// The hash of the attributes of the record that counts, which is the last one with `last`, else the first; and
    /// whether all records agreed on them.
    pub(crate) attributes: bool,
}

impl Tracks {
    /// Nothing.
    pub(crate) const FIRST: Self = Self { last: false, attributes: false };
}

/// The distinct keys of a table.
#[derive(Debug)]
pub(crate) struct KeyTable {
    fixed: bool,
    tracks: Tracks,
    shards: Vec<Mutex<Slot>>,
    /// Where shards that do not fit into memory go.
    folder: PathBuf,
    bytes: AtomicI64,
    has_spilled: AtomicBool,
}

/// A shard: the keys in memory, and how many were written out before them.
#[derive(Debug)]
struct Slot {
    keys: KeyShard,
    spilled: Vec<u32>,
    base: u32,
}

impl KeyTable {
    /// No keys, of the kind that `fixed` says, in `shards` (a power of two) shards.
    pub(crate) fn new(fixed: bool, tracks: Tracks, shards: u32, folder: PathBuf) -> Self {
        let slot = || Mutex::new(Slot { keys: KeyShard::new(fixed, tracks), spilled: Vec::new(), base: 0 });
        Self {
            fixed,
            tracks,
            shards: (0..shards).map(|_| slot()).collect(),
            folder,
            bytes: AtomicI64::new(0),
            has_spilled: AtomicBool::new(false),
        }
    }

    /// How many of a handle's low bits are a number in its shard; those above are the shard.
    pub(crate) fn shift(&self) -> u32 {
        u32::BITS - self.shards.len().trailing_zeros()
    }

    /// How many numbers a shard has.
    fn most_numbers(&self) -> u32 {
        u32::MAX.checked_shr(self.shards.len().trailing_zeros()).unwrap_or_default()
    }

    /// What distinguishes a shard's handles from those of others.
    fn prefix(&self, shard: u32) -> u32 {
        shard.checked_shl(32 - self.shards.len().trailing_zeros()).unwrap_or_default()
    }

    /// The bytes that the keys take in memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed).max(0) as u64
    }

    /// Whether some of the keys were written out of memory.
    pub(crate) fn has_spilled(&self) -> bool {
        self.has_spilled.load(Relaxed)
    }

    /// Makes room for about as many keys in each shard as were found in one like it.
    pub(crate) fn expect(&self, keys: &[u32]) {
        for (shard, &keys) in (0..).zip(keys).take(self.shards.len()) {
            let mut slot = self.lock(shard);
            let before = slot.keys.bytes();
            slot.keys.expect(keys as usize);
            self.bytes.fetch_add(slot.keys.bytes() as i64 - before as i64, Relaxed);
        }
    }

    /// How many handles were given.
    pub(crate) fn handles(&self) -> usize {
        let of_shard = |shard| {
            let slot = self.lock(shard);
            slot.base as usize + slot.keys.len() as usize
        };
        (0..self.shards.len() as u32).map(of_shard).sum()
    }

    fn lock(&self, shard: u32) -> MutexGuard<'_, Slot> {
        self.shards[shard as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Merges keys, and puts the handle of each at its index into `handles`; `attributes` has their hashes by the same
    /// index, if these are tracked. A shard that another worker is at is left for later. Merging the same again changes
    /// nothing.
    pub(crate) fn merge(&self, keys: &SortedKeys, attributes: &[u64], turn: u32, handles: &mut [u32]) -> Result<()> {
        let shards = self.shards.len() as u32;
        // Workers begin far from each other.
        let first = turn.wrapping_mul(0x9e37_79b9) >> 16;
        let mut later = Vec::new();
        for step in 0..shards {
            let shard = first.wrapping_add(step) % shards;
            let items = keys.shard(shard);
            if items.is_empty() {
                continue;
            }
            match self.shards[shard as usize].try_lock() {
                Ok(mut slot) => self.merge_shard(shard, &mut slot, items, attributes, handles)?,
                Err(_) => later.push(shard),
            }
        }
        for shard in later {
            self.merge_shard(shard, &mut self.lock(shard), keys.shard(shard), attributes, handles)?;
        }
        Ok(())
    }

    fn merge_shard(
        &self,
        shard: u32,
        slot: &mut Slot,
        mut items: ShardItems<'_>,
        attributes: &[u64],
        handles: &mut [u32],
    ) -> Result<()> {
        let before = slot.keys.bytes();
        while !items.is_empty() {
            // As if all of them were new; the last handle of the last shard stands for "no key".
            let most = u64::from(slot.base) + u64::from(slot.keys.len()) + items.len() as u64;
            if most >= u64::from(self.most_numbers()) {
                return Err(too_many());
            }
            let (base, prefix) = (slot.base, self.prefix(shard));
            let done = |index: u32, number: u32| handles[index as usize] = prefix | (base + number);
            items = match items {
                ShardItems::Fixed(keys) => {
                    let taken = slot.keys.merge_fixed(keys, attributes, done);
                    ShardItems::Fixed(&keys[taken..])
                }
                ShardItems::Bytes(keys, data) => {
                    let taken = slot.keys.merge_bytes(keys, data, attributes, done);
                    let bytes: usize = keys[..taken].iter().map(|item| item.length as usize).sum();
                    ShardItems::Bytes(&keys[taken..], &data[bytes..])
                }
            };
            if !items.is_empty() {
                self.spill_slot(shard, slot)?;
            }
        }
        self.bytes.fetch_add(slot.keys.bytes() as i64 - before as i64, Relaxed);
        Ok(())
    }

    /// Writes all keys out of memory; later ones begin anew, and are brought together when a shard is settled.
    pub(crate) fn spill(&self) -> Result<()> {
        for shard in 0..self.shards.len() as u32 {
            let mut slot = self.lock(shard);
            if slot.keys.len() > 0 {
                let before = slot.keys.bytes();
                self.spill_slot(shard, &mut slot)?;
                self.bytes.fetch_add(slot.keys.bytes() as i64 - before as i64, Relaxed);
            }
        }
        Ok(())
    }

    fn spill_slot(&self, shard: u32, slot: &mut Slot) -> Result<()> {
        let path = self.path(shard, slot.spilled.len());
        let mut out = Encoder::default();
        slot.keys.encode(&mut out);
        fs::create_dir_all(&self.folder)
            .and_then(|()| fs::write(&path, out.finish()))
            .map_err(|e| IngestError::io("write", &path, &e))?;
        self.has_spilled.store(true, Relaxed);
        let count = slot.keys.len();
        slot.base = slot.base.checked_add(count).ok_or_else(too_many)?;
        slot.spilled.push(count);
        slot.keys = KeyShard::new(self.fixed, self.tracks);
        Ok(())
    }

    fn path(&self, shard: u32, generation: usize) -> PathBuf {
        self.folder.join(format!("{shard}-{generation}.keys"))
    }

    /// Appends the keys of a shard that is all in memory, in the order of their numbers; gives how many they are.
    pub(crate) fn encode(&self, shard: u32, out: &mut Encoder) -> Result<u32> {
        let slot = self.lock(shard);
        if !slot.spilled.is_empty() {
            return Err(IngestError::internal("keys that left memory cannot be handed on"));
        }
        slot.keys.encode(out);
        Ok(slot.keys.len())
    }

    /// A shard with each of its keys once, for as long as `work` needs it, and the number there of each handle's key
    /// (`None`: they are the handles' own). Only after all chunks were scanned.
    pub(crate) fn settled<T>(
        &self,
        shard: u32,
        work: impl FnOnce(&KeyShard, Option<&[u32]>) -> Result<T>,
    ) -> Result<T> {
        let mut slot = self.lock(shard);
        if slot.spilled.is_empty() {
            return work(&slot.keys, None);
        }
        if slot.keys.len() > 0 {
            let before = slot.keys.bytes();
            self.spill_slot(shard, &mut slot)?;
            self.bytes.fetch_add(slot.keys.bytes() as i64 - before as i64, Relaxed);
        }
        let mut whole = KeyShard::new(self.fixed, self.tracks);
        let mut numbers = Vec::with_capacity(slot.base as usize);
        for generation in 0..slot.spilled.len() {
            let path = self.path(shard, generation);
            let bytes = fs::read(&path).map_err(|e| IngestError::io("read", &path, &e))?;
            let before = numbers.len();
            let absorbed =
                Decoder::new(&bytes).map_or(Err(Refused::Damaged), |mut from| whole.absorb(&mut from, &mut numbers));
            match absorbed {
                Ok(()) if numbers.len() - before == slot.spilled[generation] as usize => {}
                Err(Refused::Full) => return Err(too_many()),
                Ok(()) | Err(Refused::Damaged) => {
                    return Err(IngestError::state(format!("{} is damaged", path.display()))
                        .help("something changed the run's work folder, or the disk is failing: run again"));
                }
            }
        }
        work(&whole, Some(&numbers))
    }
}

pub(crate) fn too_many() -> IngestError {
    IngestError::input("one run has more distinct keys in a table than can be told apart (about 4 billion)")
        .help("ingest the files in several runs: `--set source.files=...`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeyRef;

    fn merge(table: &KeyTable, keys: &[Option<&str>], base: u32, turn: u32) -> Vec<u32> {
        let used = (0..).zip(keys).filter_map(|(index, key)| key.map(|key| (key.as_bytes(), index, base + index)));
        let mut handles = vec![NO_KEY; keys.len()];
        table.merge(&SortedKeys::bytes(table.shards.len() as u32, used), &[], turn, &mut handles).unwrap();
        handles
    }

    /// Each key with its first position, whatever the handles are.
    fn firsts(table: &KeyTable) -> Vec<(Vec<u8>, u32)> {
        let mut all = Vec::new();
        for shard in 0..table.shards.len() as u32 {
            table
                .settled(shard, |keys, _| {
                    all.extend(keys.iter().map(|entry| match entry.key {
                        KeyRef::Bytes(bytes) => (bytes.to_vec(), entry.first),
                        KeyRef::Fixed(_) => unreachable!(),
                    }));
                    Ok(())
                })
                .unwrap();
        }
        all.sort();
        all
    }

    #[test]
    fn g3_first_positions_do_not_depend_on_the_order_of_chunks_nor_on_spilling() {
        let folder = tempfile::tempdir().unwrap();
        let chunks = [
            vec![Some("b"), None, Some("a"), Some("b")],
            vec![Some("c"), Some("a"), Some("")],
            vec![Some("a"), Some("d")],
        ];
        let expected =
            [("", 12), ("a", 2), ("b", 0), ("c", 10), ("d", 21)].map(|(key, at)| (key.as_bytes().to_vec(), at));
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            for shards in [1, 4] {
                for spill in [false, true] {
                    let path = folder.path().join(format!("{order:?}-{shards}-{spill}"));
                    let table = KeyTable::new(false, Tracks::FIRST, shards, path);
                    let mut handles = vec![Vec::new(); 3];
                    for chunk in order {
                        handles[chunk] = merge(&table, &chunks[chunk], chunk as u32 * 10, chunk as u32);
                        if spill {
                            table.spill().unwrap();
                        }
                    }
                    assert_eq!(firsts(&table), expected);
                    assert_eq!(handles[0][0], handles[0][3]);
                    assert_eq!(handles[0][1], NO_KEY);
                    assert_eq!(spill, handles[0][2] != handles[1][1] || handles[0][2] != handles[2][0]);
                }
            }
        }
    }
}
