//! The distinct keys of one table in one run, shared by all workers: hash shards that keys are merged into while chunks
//! are scanned. A key gets a *handle*, and the table remembers the first position at which it appeared. Handles depend
//! on who came first and must never leave the process; positions, and whatever else is remembered, do not: they are
//! least and greatest values, which come out the same in any order.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::shard::{KeyShard, MOST_KEY_BYTES};
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

    /// Merges keys whose chunk begins at position `base`; appends a handle for each to `handles`. Workers that begin at
    /// different shards (`turn`) rarely wait for each other. Merging the same again changes nothing.
    pub(crate) fn merge(&self, source: &impl KeySource, base: u32, turn: u32, handles: &mut Vec<u32>) -> Result<()> {
        let shards = self.shards.len() as u32;
        let from = handles.len();
        handles.resize(from + source.len(), NO_KEY);
        let sorted = Sorted::new(source, shards);
        for step in 0..shards {
            let shard = (turn.wrapping_add(step)) % shards;
            let items = sorted.shard(shard);
            if items.is_empty() {
                continue;
            }
            let mut slot = self.lock(shard);
            let before = slot.keys.bytes();
            for batch in items.chunks(32) {
                // Reading where each will look, before any is looked up, lets memory answer for all of them at once.
                slot.keys.touch(batch.iter().map(|&item| sorted.hashes[item as usize]));
                for &item in batch {
                    let Some(key) = source.key(item as usize) else { continue };
                    if slot.keys.is_full(key) {
                        self.spill_slot(shard, &mut slot)?;
                    }
                    let position = base + source.first(item as usize);
                    let hash = sorted.hashes[item as usize];
                    let number = slot.keys.intern(key, hash, position, source.attributes(item as usize));
                    let handle = slot.base.checked_add(number).and_then(|number| self.handle(shard, number));
                    handles[from + item as usize] = handle.ok_or_else(too_many)?;
                }
            }
            self.bytes.fetch_add(slot.keys.bytes() as i64 - before as i64, Relaxed);
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

/// The items of a source with their hashes, by shard.
struct Sorted {
    hashes: Vec<u64>,
    items: Vec<u32>,
    ends: Vec<u32>,
}

impl Sorted {
    fn new(source: &impl KeySource, shards: u32) -> Self {
        let mut hashes = Vec::with_capacity(source.len());
        let mut ends = vec![0_u32; shards as usize];
        for index in 0..source.len() {
            let hash = source.key(index).map(KeyRef::hash);
            hashes.push(hash.unwrap_or_default());
            if let Some(hash) = hash {
                ends[shard_of(hash, shards) as usize] += 1;
            }
        }
        let mut sum = 0;
        for end in &mut ends {
            (*end, sum) = (sum, sum + *end);
        }
        let mut items = vec![0; sum as usize];
        for (index, &hash) in hashes.iter().enumerate() {
            if source.key(index).is_some() {
                let next = &mut ends[shard_of(hash, shards) as usize];
                items[*next as usize] = index as u32;
                *next += 1;
            }
        }
        Self { hashes, items, ends }
    }

    fn shard(&self, shard: u32) -> &[u32] {
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
                        table.merge(&chunks[chunk], chunk as u32 * 10, chunk as u32, &mut handles[chunk]).unwrap();
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
