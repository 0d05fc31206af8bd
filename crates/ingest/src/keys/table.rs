//! The distinct keys of one table in one run, shared by all workers: hash shards that keys are merged into while chunks
//! are scanned. A key gets a *handle*, and the table remembers the first position at which it appeared. Handles depend
//! on who came first and must never leave the process; positions, and whatever else is remembered, do not: they are
//! least and greatest values, which come out the same in any order.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::shard::{KeyShard, MOST_KEY_BYTES, TOUCHED};
use super::{KeyRef, shard_of};
use crate::artifacts::{Decoder, Encoder};
use crate::error::{IngestError, Result};

/// Stands in for the handle of a record whose key is null.
pub(crate) const NO_KEY: u32 = u32::MAX;

/// What a table remembers of a key besides its first position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tracks {
    /// Nothing.
    First,
    /// The last position.
    Last,
    /// The hash of its attributes, and whether all records agreed on them.
    Attributes,
}

/// Keys to be merged: of each the key, and the position within the chunk where it first appears.
pub(crate) trait KeySource {
    /// How many.
    fn len(&self) -> usize;
    /// The key, unless it is null or nobody uses it.
    fn key(&self, index: usize) -> Option<KeyRef<'_>>;
    /// Where it appears first in the chunk.
    fn first(&self, index: usize) -> u32;
    /// The hash of its attributes there.
    fn attributes(&self, index: usize) -> u64;
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
        Self { fixed, tracks, shards: (0..shards).map(|_| slot()).collect(), folder, bytes: AtomicI64::new(0) }
    }

    /// The shard and the number in it of a handle.
    pub(crate) fn place(&self, handle: u32) -> (u32, u32) {
        let bits = self.shards.len().trailing_zeros();
        if bits == 0 { (0, handle) } else { (handle >> (32 - bits), handle & (u32::MAX >> bits)) }
    }

    fn handle(&self, shard: u32, number: u32) -> Option<u32> {
        let bits = self.shards.len().trailing_zeros();
        // The very last handle means "no key".
        let most = if bits == 0 { NO_KEY } else { u32::MAX >> bits };
        (number < most).then(|| if bits == 0 { number } else { shard << (32 - bits) | number })
    }

    /// The bytes that the keys take in memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed).max(0) as u64
    }

    fn lock(&self, shard: u32) -> MutexGuard<'_, Slot> {
        self.shards[shard as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Merges keys, each source with the position at which its chunk begins; gives a handle for each. Workers that begin
    /// at different shards (`turn`) rarely wait for each other. Merging the same again changes nothing.
    pub(crate) fn merge<S: KeySource>(&self, sources: &[(&S, u32)], turn: u32) -> Result<Vec<Vec<u32>>> {
        let shards = self.shards.len() as u32;
        let sorted: Vec<Sorted> = sources.iter().map(|(source, _)| Sorted::new(*source, shards)).collect();
        let mut handles: Vec<Vec<u32>> = sources.iter().map(|(source, _)| vec![NO_KEY; source.len()]).collect();
        for step in 0..shards {
            let shard = (turn.wrapping_add(step)) % shards;
            if sorted.iter().all(|sorted| sorted.shard(shard).is_empty()) {
                continue;
            }
            let mut slot = self.lock(shard);
            let before = slot.keys.bytes();
            for ((&(source, base), sorted), handles) in sources.iter().zip(&sorted).zip(&mut handles) {
                self.merge_items(shard, &mut slot, source, base, sorted.shard(shard), handles)?;
            }
            self.bytes.fetch_add(slot.keys.bytes() as i64 - before as i64, Relaxed);
        }
        Ok(handles)
    }

    fn merge_items(
        &self,
        shard: u32,
        slot: &mut Slot,
        source: &impl KeySource,
        base: u32,
        items: &[Item],
        handles: &mut [u32],
    ) -> Result<()> {
        for batch in items.chunks(TOUCHED) {
            let mut keys = [KeyRef::Fixed(0); TOUCHED];
            for (key, item) in keys.iter_mut().zip(batch) {
                *key = source.key(item.index as usize).unwrap_or(KeyRef::Fixed(0));
            }
            touch(&keys);
            slot.keys.touch(batch.iter().map(|item| item.hash));
            for (&key, item) in keys.iter().zip(batch) {
                if slot.keys.is_full(key) {
                    self.spill_slot(shard, slot)?;
                }
                let index = item.index as usize;
                let position = base + source.first(index);
                let number = slot.keys.intern(key, item.hash, position, source.attributes(index));
                let handle = slot.base.checked_add(number).and_then(|number| self.handle(shard, number));
                handles[index] = handle.ok_or_else(too_many)?;
            }
        }
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
        let count = slot.keys.len();
        slot.base = slot.base.checked_add(count).ok_or_else(too_many)?;
        slot.spilled.push(count);
        slot.keys = KeyShard::new(self.fixed, self.tracks);
        Ok(())
    }

    fn path(&self, shard: u32, generation: usize) -> PathBuf {
        self.folder.join(format!("{shard}-{generation}.keys"))
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
            let part = Decoder::new(&bytes).and_then(|mut from| KeyShard::decode(&mut from, self.fixed, self.tracks));
            let part = part.ok_or_else(|| {
                IngestError::state(format!("{} is damaged", path.display()))
                    .help("something changed the run's work folder, or the disk is failing: run again")
            })?;
            if part.len() != slot.spilled[generation] || !whole.absorb(&part, &mut numbers) {
                return Err(too_many());
            }
        }
        work(&whole, Some(&numbers))
    }
}

fn too_many() -> IngestError {
    IngestError::input("one run has more distinct keys in a table than can be told apart (about 4 billion)")
        .help("ingest the files in several runs: `--set source.files=...`")
}

/// Reads something of each key: they stand far apart, and are compared in a moment.
fn touch(keys: &[KeyRef<'_>; TOUCHED]) {
    let first = |key: &KeyRef<'_>| match key {
        KeyRef::Fixed(_) => 0,
        KeyRef::Bytes(bytes) => bytes.first().copied().unwrap_or_default(),
    };
    std::hint::black_box(keys.iter().map(first).fold(0, |sum: u8, byte| sum ^ byte));
}

/// The keys of a source that are used, by shard.
struct Sorted {
    items: Vec<Item>,
    ends: Vec<u32>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Item {
    hash: u64,
    index: u32,
}

impl Sorted {
    fn new(source: &impl KeySource, shards: u32) -> Self {
        let mut found = Vec::with_capacity(source.len());
        let mut ends = vec![0_u32; shards as usize];
        for index in 0..source.len() {
            if let Some(hash) = source.key(index).map(KeyRef::hash) {
                found.push(Item { hash, index: index as u32 });
                ends[shard_of(hash, shards) as usize] += 1;
            }
        }
        let mut sum = 0;
        for end in &mut ends {
            (*end, sum) = (sum, sum + *end);
        }
        let mut items = vec![Item::default(); found.len()];
        for item in found {
            let next = &mut ends[shard_of(item.hash, shards) as usize];
            items[*next as usize] = item;
            *next += 1;
        }
        Self { items, ends }
    }

    fn shard(&self, shard: u32) -> &[Item] {
        let from = if shard == 0 { 0 } else { self.ends[shard as usize - 1] };
        &self.items[from as usize..self.ends[shard as usize] as usize]
    }
}

const _: () = assert!(MOST_KEY_BYTES <= u32::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;

    struct Listed<'a>(Vec<Option<&'a str>>);

    impl KeySource for Listed<'_> {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn key(&self, index: usize) -> Option<KeyRef<'_>> {
            self.0[index].map(|key| KeyRef::Bytes(key.as_bytes()))
        }
        fn first(&self, index: usize) -> u32 {
            index as u32
        }
        fn attributes(&self, index: usize) -> u64 {
            index as u64
        }
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
            Listed(vec![Some("b"), None, Some("a"), Some("b")]),
            Listed(vec![Some("c"), Some("a"), Some("")]),
            Listed(vec![Some("a"), Some("d")]),
        ];
        let expected =
            [("", 12), ("a", 2), ("b", 0), ("c", 10), ("d", 21)].map(|(key, at)| (key.as_bytes().to_vec(), at));
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            for shards in [1, 4] {
                for spill in [false, true] {
                    let path = folder.path().join(format!("{order:?}-{shards}-{spill}"));
                    let table = KeyTable::new(false, Tracks::First, shards, path);
                    let mut handles = vec![Vec::new(); 3];
                    for chunk in order {
                        let merged = table.merge(&[(&chunks[chunk], chunk as u32 * 10)], chunk as u32).unwrap();
                        handles[chunk].clone_from(&merged[0]);
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
