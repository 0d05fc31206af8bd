//! What steps compute and later steps need, in memory within a budget, beyond it in the run's work folder. Everything
//! here is a pure function of the plan: what is missing is computed again, so nothing here must ever be relied on to
//! exist, and nothing else may be kept here.

use std::any::Any;
use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{IngestError, Result};
use crate::write::PieceOf;

/// Names an artifact within a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ArtifactKey {
    /// The scan of a chunk.
    Scan(u32),
    /// The resolution of a shard of a table.
    Shard(u32, u32),
    /// The numbering of a table.
    Numbering(u32),
    /// The places of the keys of a table in a part of the run.
    Places(u32, u32),
    /// Where the things of a table that have their last record in a part of the run are first and last.
    Last(u32, u32),
    /// How many things of a table have their last record in each span.
    LastInSpans(u32),
    /// The new keys of a table.
    NewKeys(u32),
    /// The groups of the rows that a chunk brings to a table.
    Groups(u32, u32),
    /// The numbers of a table's new things within their groups.
    InGroup(u32),
    /// The known keys of a table with a history that are met in the run.
    Seen(u32),
    /// The rows of a table that a span leaves for a shared file.
    Piece(PieceOf),
}

impl ArtifactKey {
    /// Whether every span needs it; the others are needed once, or a few times close together.
    fn is_for_all(self) -> bool {
        matches!(
            self,
            Self::Numbering(_)
                | Self::Places(..)
                | Self::LastInSpans(_)
                | Self::NewKeys(_)
                | Self::InGroup(_)
                | Self::Seen(_)
        )
    }

    fn file_name(self) -> String {
        match self {
            Self::Scan(chunk) => format!("scan-{chunk}"),
            Self::Shard(table, shard) => format!("shard-{table}-{shard}"),
            Self::Numbering(table) => format!("numbering-{table}"),
            Self::Places(table, part) => format!("places-{table}-{part}"),
            Self::Last(table, part) => format!("last-{table}-{part}"),
            Self::LastInSpans(table) => format!("last-in-spans-{table}"),
            Self::NewKeys(table) => format!("new-keys-{table}"),
            Self::Groups(table, chunk) => format!("groups-{table}-{chunk}"),
            Self::InGroup(table) => format!("in-group-{table}"),
            Self::Seen(table) => format!("seen-{table}"),
            Self::Piece(piece) => piece.to_string(),
        }
    }
}

/// Something that can be kept: it knows its size and its form on disk.
pub(crate) trait Artifact: Any + Send + Sync + Sized {
    /// Bytes in memory, about.
    fn bytes(&self) -> u64;
    /// Appends its form on disk.
    fn encode(&self, out: &mut Encoder);
    /// Reads it back; `None` if the bytes are not of that form.
    fn decode(from: &mut Decoder<'_>) -> Option<Self>;
}

/// The artifacts of one run.
#[derive(Debug)]
pub(crate) struct Artifacts {
    folder: PathBuf,
    budget: u64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    slots: HashMap<ArtifactKey, Slot>,
    used: u64,
    clock: u64,
}

#[derive(Debug)]
struct Slot {
    value: Option<Arc<dyn Any + Send + Sync>>,
    encode: fn(&(dyn Any + Send + Sync), &mut Encoder),
    bytes: u64,
    used_at: u64,
    on_disk: bool,
    // On its way out of memory.
    leaving: bool,
    // One thread computes, the others that want the same wait for it.
    computing: Arc<Mutex<()>>,
}

impl Artifacts {
    /// Artifacts that may hold `budget` bytes in memory, and spill to `folder`.
    pub(crate) fn new(folder: PathBuf, budget: u64) -> Self {
        Self { folder, budget, inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The slot of an artifact, and its value if that is in memory.
    fn slot<T: Artifact>(&self, key: ArtifactKey) -> (Arc<Mutex<()>>, Option<Arc<T>>) {
        let mut inner = self.lock();
        inner.clock += 1;
        let now = inner.clock;
        let slot = inner.slots.entry(key).or_insert_with(|| Slot {
            value: None,
            encode: |any, out| {
                if let Some(value) = any.downcast_ref::<T>() {
                    value.encode(out);
                }
            },
            bytes: 0,
            used_at: now,
            on_disk: false,
            leaving: false,
            computing: Arc::default(),
        });
        slot.used_at = now;
        (slot.computing.clone(), slot.value.clone().and_then(|v| v.downcast::<T>().ok()))
    }

    /// The artifact, from memory, from disk, or computed now.
    pub(crate) fn get<T: Artifact>(&self, key: ArtifactKey, compute: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        self.find(key, || compute().map(Some))?.ok_or_else(|| IngestError::internal("nothing was computed"))
    }

    /// The artifact, if it is in memory or on disk.
    pub(crate) fn peek<T: Artifact>(&self, key: ArtifactKey) -> Option<Arc<T>> {
        self.find(key, || Ok(None)).ok().flatten()
    }

    fn find<T: Artifact>(
        &self,
        key: ArtifactKey,
        compute: impl FnOnce() -> Result<Option<T>>,
    ) -> Result<Option<Arc<T>>> {
        let (computing, present) = self.slot::<T>(key);
        if present.is_some() {
            return Ok(present);
        }
        let _one = computing.lock().unwrap_or_else(PoisonError::into_inner);
        let (present, on_disk) = {
            let inner = self.lock();
            inner.slots.get(&key).map_or((None, false), |s| (s.value.clone(), s.on_disk))
        };
        if let Some(value) = present.and_then(|v| v.downcast::<T>().ok()) {
            return Ok(Some(value));
        }
        let read = if on_disk { self.read_spilled(key) } else { None };
        let from_disk = read.is_some();
        let value = match read {
            Some(value) => Some(value),
            None => compute()?,
        };
        let Some(value) = value.map(Arc::new) else { return Ok(None) };
        self.keep(key, &value, from_disk)?;
        Ok(Some(value))
    }

    /// Keeps an artifact that was computed elsewhere.
    pub(crate) fn put<T: Artifact>(&self, key: ArtifactKey, value: T) -> Result<()> {
        let (computing, _) = self.slot::<T>(key);
        let _one = computing.lock().unwrap_or_else(PoisonError::into_inner);
        self.remove_value(key);
        self.keep(key, &Arc::new(value), false)
    }

    /// Forgets an artifact that nobody needs any more.
    pub(crate) fn remove(&self, key: ArtifactKey) {
        self.remove_value(key);
        self.lock().slots.remove(&key);
    }

    fn remove_value(&self, key: ArtifactKey) {
        let mut inner = self.lock();
        let Inner { slots, used, .. } = &mut *inner;
        if let Some(slot) = slots.get_mut(&key) {
            if slot.value.take().is_some() {
                *used -= slot.bytes;
            }
            slot.on_disk = false;
            slot.leaving = false;
        }
    }

    fn keep<T: Artifact>(&self, key: ArtifactKey, value: &Arc<T>, on_disk: bool) -> Result<()> {
        let mut leaving = Vec::new();
        {
            let mut inner = self.lock();
            let Inner { slots, used, .. } = &mut *inner;
            if let Some(slot) = slots.get_mut(&key) {
                slot.bytes = value.bytes();
                slot.value = Some(value.clone());
                slot.on_disk |= on_disk;
                *used += slot.bytes;
            }
            let mut left = *used;
            // A value of its own size over budget stays until the next one comes.
            while left > self.budget {
                let stays = |(k, s): &(&ArtifactKey, &mut Slot)| **k != key && s.value.is_some() && !s.leaving;
                let rank = |(k, s): &(&ArtifactKey, &mut Slot)| (k.is_for_all(), s.used_at);
                let Some((key, slot)) = slots.iter_mut().filter(stays).min_by_key(rank) else { break };
                slot.leaving = true;
                left = left.saturating_sub(slot.bytes);
                leaving.push((*key, slot.value.clone().filter(|_| !slot.on_disk), slot.encode));
            }
        }
        // Whoever asks for one of these meanwhile still finds it in memory.
        let written: Vec<Result<()>> =
            leaving.iter().map(|(key, value, encode)| self.write(*key, value.as_ref(), *encode)).collect();
        let mut inner = self.lock();
        let Inner { slots, used, .. } = &mut *inner;
        for ((key, _, _), written) in leaving.iter().zip(&written) {
            if let Some(slot) = slots.get_mut(key).filter(|slot| slot.leaving) {
                slot.leaving = false;
                if written.is_ok() {
                    slot.on_disk = true;
                    slot.value = None;
                    *used -= slot.bytes;
                }
            }
        }
        written.into_iter().collect()
    }

    fn write(
        &self,
        key: ArtifactKey,
        value: Option<&Arc<dyn Any + Send + Sync>>,
        encode: fn(&(dyn Any + Send + Sync), &mut Encoder),
    ) -> Result<()> {
        let Some(value) = value else { return Ok(()) };
        let mut out = Encoder::default();
        encode(&**value, &mut out);
        self.spill(key, &out.finish())
    }

    fn spill(&self, key: ArtifactKey, bytes: &[u8]) -> Result<()> {
        let path = self.folder.join(key.file_name());
        fs::create_dir_all(&self.folder)
            .and_then(|()| fs::write(&path, bytes))
            .map_err(|e| IngestError::io("write", &path, &e))
    }

    /// `None` if the file is not there or not whole: a reader that comes between eviction and writing computes.
    fn read_spilled<T: Artifact>(&self, key: ArtifactKey) -> Option<T> {
        let bytes = fs::read(self.folder.join(key.file_name())).ok()?;
        let mut decoder = Decoder::new(&bytes)?;
        T::decode(&mut decoder)
    }
}

/// Writes numbers and bytes one after another, and a checksum at the end.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    bytes: Vec<u8>,
    /// Where it began to write.
    from: usize,
}

impl Encoder {
    /// Writes after what is there already, which the checksum leaves out.
    pub(crate) fn after(bytes: Vec<u8>) -> Self {
        Self { from: bytes.len(), bytes }
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.u64(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn u32s(&mut self, values: &[u32]) {
        self.u64(values.len() as u64);
        for (to, value) in self.room::<4>(values.len()).iter_mut().zip(values) {
            *to = value.to_le_bytes();
        }
    }

    pub(crate) fn u64s(&mut self, values: &[u64]) {
        self.u64(values.len() as u64);
        for (to, value) in self.room::<8>(values.len()).iter_mut().zip(values) {
            *to = value.to_le_bytes();
        }
    }

    /// Room for so many values, which are to be filled in.
    fn room<const SIZE: usize>(&mut self, values: usize) -> &mut [[u8; SIZE]] {
        let start = self.bytes.len();
        self.bytes.resize(start + values * SIZE, 0);
        self.bytes[start..].as_chunks_mut::<SIZE>().0
    }

    /// What was there before, and what was written, with its checksum.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let checksum = xxhash_rust::xxh3::xxh3_64(&self.bytes[self.from..]);
        self.u64(checksum);
        self.bytes
    }

    /// What was there before.
    pub(crate) fn undone(mut self) -> Vec<u8> {
        self.bytes.truncate(self.from);
        self.bytes
    }
}

/// Reads what an [`Encoder`] wrote.
#[derive(Debug)]
pub(crate) struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Option<Self> {
        let (body, checksum) = bytes.split_last_chunk::<8>()?;
        (xxhash_rust::xxh3::xxh3_64(body) == u64::from_le_bytes(*checksum)).then_some(Self(body))
    }

    /// Reads what was found to be whole already.
    pub(crate) fn verified(bytes: &'a [u8]) -> Option<Self> {
        Some(Self(bytes.split_last_chunk::<8>()?.0))
    }

    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (front, back) = self.0.split_at_checked(bytes)?;
        self.0 = back;
        Some(front)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    /// Bytes, where they are.
    pub(crate) fn slice(&mut self) -> Option<&'a [u8]> {
        let length = self.u64()? as usize;
        self.take(length)
    }

    /// 32-bit numbers, where they are.
    pub(crate) fn u32_bytes(&mut self) -> Option<&'a [[u8; 4]]> {
        let length = self.u64()? as usize;
        Some(self.take(length.checked_mul(4)?)?.as_chunks().0)
    }

    /// 64-bit numbers, where they are.
    pub(crate) fn u64_bytes(&mut self) -> Option<&'a [[u8; 8]]> {
        let length = self.u64()? as usize;
        Some(self.take(length.checked_mul(8)?)?.as_chunks().0)
    }

    pub(crate) fn bytes(&mut self) -> Option<Vec<u8>> {
        self.slice().map(<[u8]>::to_vec)
    }

    pub(crate) fn u32s(&mut self) -> Option<Vec<u32>> {
        Some(self.u32_bytes()?.iter().map(|b| u32::from_le_bytes(*b)).collect())
    }

    pub(crate) fn u64s(&mut self) -> Option<Vec<u64>> {
        Some(self.u64_bytes()?.iter().map(|b| u64::from_le_bytes(*b)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Numbers(Vec<u64>);

    impl Artifact for Numbers {
        fn bytes(&self) -> u64 {
            self.0.len() as u64 * 8
        }
        fn encode(&self, out: &mut Encoder) {
            out.u64s(&self.0);
        }
        fn decode(from: &mut Decoder<'_>) -> Option<Self> {
            from.u64s().map(Self)
        }
    }

    #[test]
    fn what_does_not_fit_goes_to_disk_and_comes_back_without_being_computed_again() {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::new(folder.path().to_owned(), 100);
        for n in 0..10 {
            artifacts.get(ArtifactKey::Scan(n), || Ok(Numbers(vec![u64::from(n); 5]))).unwrap();
        }
        for n in 0..10 {
            let again = artifacts.get::<Numbers>(ArtifactKey::Scan(n), || panic!("{n} was lost")).unwrap();
            assert_eq!(*again, Numbers(vec![u64::from(n); 5]));
        }
        assert!(artifacts.lock().used <= 100);
    }

    #[test]
    fn a_damaged_spill_file_is_computed_again() {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::new(folder.path().to_owned(), 1);
        for n in 0..2 {
            artifacts.get(ArtifactKey::Scan(n), || Ok(Numbers(vec![u64::from(n)]))).unwrap();
        }
        let path = folder.path().join("scan-0");
        let mut bytes = fs::read(&path).unwrap();
        bytes[9] ^= 1;
        fs::write(&path, bytes).unwrap();
        let again = artifacts.get(ArtifactKey::Scan(0), || Ok(Numbers(vec![77]))).unwrap();
        assert_eq!(*again, Numbers(vec![77]));
    }
}
