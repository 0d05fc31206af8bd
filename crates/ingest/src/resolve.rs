//! Resolve: which of the chunks' keys are new. One call takes one hash shard of one table and goes through the chunks
//! in order, against the key map; shards know nothing of each other. Must never give an ID: it only says who came first.

use crate::artifacts::{Artifact, Decoder, Encoder};
use crate::context::RunContext;
use crate::error::{IngestError, Result};
use crate::keymap::{ShardEntries, UNKNOWN, load_shard};
use crate::keys::{Interner, KeyRef};
use crate::layout::TableLayout;
use seriatim_pipeline::model::OnConflict;

/// What a chunk's key turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It appears here first.
    New,
    /// It appeared first in this run in another chunk, with this local number there.
    Earlier { chunk: u32, local: u32 },
    /// An earlier run gave it this place in the sequence.
    Known(u64),
}

// In 64 bits: the kind in the top two, then the chunk in 30 and the local number in 32, or the place in 62.
const EARLIER: u64 = 1 << 62;
const KNOWN: u64 = 2 << 62;
const PAYLOAD: u64 = EARLIER - 1;
/// Chunks of one run, at most.
pub(crate) const MOST_CHUNKS: usize = 1 << 30;

impl Origin {
    fn pack(self) -> u64 {
        match self {
            Self::New => 0,
            Self::Earlier { chunk, local } => EARLIER | u64::from(chunk) << 32 | u64::from(local),
            Self::Known(ordinal) => KNOWN | ordinal,
        }
    }

    fn unpack(packed: u64) -> Self {
        match packed & !PAYLOAD {
            0 => Self::New,
            EARLIER => Self::Earlier { chunk: ((packed & PAYLOAD) >> 32) as u32, local: packed as u32 },
            _ => Self::Known(packed & PAYLOAD),
        }
    }
}

/// One shard of one table, resolved.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ShardResolution {
    /// For each chunk, one packed origin for each of the chunk's keys in this shard, in their local order.
    chunks: Vec<Vec<u64>>,
    /// For each chunk the local numbers whose key is new in this run and appears last here; empty unless the last
    /// attributes win.
    pub(crate) last: Vec<Vec<u32>>,
    /// New keys.
    pub(crate) new: u64,
    /// Known keys that appear in this run.
    pub(crate) known: u64,
}

impl ShardResolution {
    /// The origins of a chunk's keys in this shard, in their local order.
    pub(crate) fn origins(&self, chunk: u32) -> impl Iterator<Item = Origin> + '_ {
        self.chunks[chunk as usize].iter().map(|&packed| Origin::unpack(packed))
    }
}

/// What is known of a key while a shard is resolved.
struct Seen {
    origin: Origin,
    attributes: u64,
    last: (u32, u32),
    met: bool,
}

/// Resolves one shard of a table against the key map in `segments`.
pub(crate) fn resolve(run: &RunContext, table: u32, shard: u32, segments: &[String]) -> Result<ShardResolution> {
    let layout = &run.layout.tables[table as usize];
    let codec = layout.codec.as_ref().ok_or_else(|| IngestError::internal("a table without key is not resolved"))?;
    let base = load_shard(&run.keymap_folder(table), segments, layout, shard, run.plan.shards)?;
    let mut interner = Interner::new(codec.is_fixed());
    let mut seen = Vec::with_capacity(base.ordinals.len());
    add_known(&base, &mut interner, &mut seen)?;
    let compares = layout.on_conflict == OnConflict::Error;
    let mut chunks = Vec::with_capacity(run.plan.chunks.len());
    let (mut new, mut known) = (0, 0);
    for chunk in 0..run.plan.chunks.len() as u32 {
        let scan = run.scan(chunk)?;
        let keys = &scan.tables[table as usize];
        let mut origins = Vec::with_capacity(keys.shard(shard).len());
        for &local in keys.shard(shard) {
            let key = keys.keys.get(local as usize);
            let (number, first) = interner.intern_hashed(key, keys.hashes[local as usize]);
            let attributes = if compares { keys.attributes[local as usize] } else { 0 };
            if first {
                let origin = Origin::Earlier { chunk, local };
                seen.push(Seen { origin, attributes, last: (chunk, local), met: true });
                origins.push(Origin::New.pack());
                new += 1;
                continue;
            }
            let before = &mut seen[number as usize];
            if before.attributes == UNKNOWN {
                // The key was kept while conflicts were no errors: from here on this record's attributes count.
                before.attributes = attributes;
            }
            if compares && before.attributes != attributes {
                return Err(conflict(run, layout, key, before.origin, chunk, keys.first[local as usize])?);
            }
            known += u64::from(!before.met);
            before.met = true;
            before.last = (chunk, local);
            origins.push(before.origin.pack());
        }
        chunks.push(origins);
    }
    let last = if layout.on_conflict == OnConflict::Last { last_places(&seen, chunks.len()) } else { Vec::new() };
    Ok(ShardResolution { chunks, last, new, known })
}

fn add_known(base: &ShardEntries, interner: &mut Interner, seen: &mut Vec<Seen>) -> Result<()> {
    for (index, &ordinal) in base.ordinals.iter().enumerate() {
        let (_, new) = interner.intern(base.keys.get(index));
        if !new {
            return Err(IngestError::state("the key map has a key twice")
                .help("the state folder is damaged: bring it back from a backup taken together with the output"));
        }
        let attributes = base.attributes.get(index).copied().unwrap_or_default();
        seen.push(Seen { origin: Origin::Known(ordinal), attributes, last: (0, 0), met: false });
    }
    Ok(())
}

fn last_places(seen: &[Seen], chunks: usize) -> Vec<Vec<u32>> {
    let mut places = vec![Vec::new(); chunks];
    for key in seen {
        if matches!(key.origin, Origin::Earlier { .. }) {
            places[key.last.0 as usize].push(key.last.1);
        }
    }
    for list in &mut places {
        list.sort_unstable();
    }
    places
}

/// Two records of one key do not agree, in different chunks or different runs.
fn conflict(
    run: &RunContext,
    table: &TableLayout,
    key: KeyRef<'_>,
    before: Origin,
    chunk: u32,
    record: u32,
) -> Result<IngestError> {
    let place = |chunk: u32, record: u32| -> Result<String> {
        let chunk = &run.plan.chunks[chunk as usize];
        Ok(run.place(chunk, run.record_rows(chunk, &[record])?[0]))
    };
    let first = match before {
        Origin::Earlier { chunk, local } => {
            let scan = run.scan(chunk)?;
            let index = run.layout.tables.iter().position(|t| t.name == table.name).unwrap_or_default();
            place(chunk, scan.tables[index].first[local as usize])?
        }
        Origin::Known(_) | Origin::New => "an earlier run's record".to_owned(),
    };
    Ok(run.conflict(table, key, &first, &place(chunk, record)?))
}

impl RunContext {
    /// The error for two records of one key that do not agree.
    pub(crate) fn conflict(&self, table: &TableLayout, key: KeyRef<'_>, first: &str, second: &str) -> IngestError {
        let key = table.codec.as_ref().map(|codec| codec.display(key)).unwrap_or_default();
        let compared = table.compared_columns(&self.layout).join(", ");
        IngestError::input(format!(
            "table '{}': two records of the key {key} differ in {compared}: {first}, and {second}",
            table.name
        ))
        .help("mend one of the records, or set `on_conflict: first` or `last` for the table")
    }
}

impl Artifact for ShardResolution {
    fn bytes(&self) -> u64 {
        let origins: usize = self.chunks.iter().map(|c| c.capacity() * 8).sum();
        let last: usize = self.last.iter().map(|l| l.capacity() * 4).sum();
        (origins + last) as u64
    }

    fn encode(&self, out: &mut Encoder) {
        out.u64(self.new);
        out.u64(self.known);
        out.u64(self.chunks.len() as u64);
        self.chunks.iter().for_each(|origins| out.u64s(origins));
        out.u64(self.last.len() as u64);
        self.last.iter().for_each(|list| out.u32s(list));
    }

    fn decode(from: &mut Decoder<'_>) -> Option<Self> {
        let (new, known) = (from.u64()?, from.u64()?);
        let chunks = (0..from.u64()?).map(|_| from.u64s()).collect::<Option<_>>()?;
        let last = (0..from.u64()?).map(|_| from.u32s()).collect::<Option<_>>()?;
        Some(Self { chunks, last, new, known })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_survive_packing_at_their_limits() {
        let most = (1 << 30) - 1;
        for origin in [
            Origin::New,
            Origin::Earlier { chunk: 0, local: 0 },
            Origin::Earlier { chunk: most, local: u32::MAX },
            Origin::Known(0),
            Origin::Known(PAYLOAD),
        ] {
            assert_eq!(Origin::unpack(origin.pack()), origin);
        }
    }
}
