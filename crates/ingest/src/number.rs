//! Numbering: from a reserved block to the ID of every thing. An ID is its chunk's base plus the rank of its key among
//! the chunk's new ones, so numbers need no counter and follow first appearance. Must never look at a key.

use serde::{Deserialize, Serialize};
use seriatim_pipeline::model::Id;

use crate::artifacts::{Artifact, Decoder, Encoder};
use crate::context::RunContext;
use crate::error::{IngestError, Result};
use crate::resolve::Origin;
use crate::scan::NO_KEY;

/// What the critical section has given to a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reserved {
    /// The number that the run will have among the published ones.
    pub(crate) number: u64,
    /// One for each table.
    pub(crate) tables: Vec<ReservedTable>,
}

/// One table's block of a sequence, and the key map that it was reserved against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReservedTable {
    /// The place in the sequence of the block's first ID, counted from 0.
    pub(crate) first: u64,
    /// IDs in the block.
    pub(crate) count: u64,
    /// The key map's segments.
    pub(crate) segments: Vec<String>,
}

/// The ID at a place of a sequence; `None` if it does not fit into 64 bits.
pub(crate) fn id_of(id: &Id, ordinal: u64) -> Option<i64> {
    i64::try_from(i128::from(id.start) + i128::from(id.step) * i128::from(ordinal)).ok()
}

/// The place of an ID in its sequence; `None` if it is not of the sequence.
pub(crate) fn ordinal_of(id: &Id, value: i64) -> Option<u64> {
    let distance = i128::from(value) - i128::from(id.start);
    let step = i128::from(id.step);
    (distance % step == 0).then(|| u64::try_from(distance / step).ok()).flatten()
}

/// Where each chunk's new things stand in a sequence.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Numbering {
    /// For each chunk the place of its first new thing; one more at the end.
    bases: Vec<u64>,
    /// For each chunk which of its keys are new; empty for a table without key.
    new: Vec<Ranks>,
}

impl Numbering {
    /// The places of a chunk's new things.
    pub(crate) fn chunk(&self, chunk: u32) -> std::ops::Range<u64> {
        self.bases[chunk as usize]..self.bases[chunk as usize + 1]
    }

    /// The place of a key that appears first in this chunk.
    pub(crate) fn place(&self, chunk: u32, local: u32) -> u64 {
        self.bases[chunk as usize] + self.new[chunk as usize].rank(local)
    }

    /// The local numbers of the keys that appear first in this chunk, ascending.
    pub(crate) fn new_keys(&self, chunk: u32) -> impl Iterator<Item = u32> + '_ {
        self.new[chunk as usize].ones()
    }
}

/// A bitmap that knows how many bits are set before any place.
#[derive(Debug, PartialEq, Eq)]
struct Ranks {
    words: Vec<u64>,
    before: Vec<u32>,
}

impl Ranks {
    fn new(words: Vec<u64>) -> Self {
        let mut sum = 0;
        let before = words
            .iter()
            .map(|word| {
                let before = sum;
                sum += word.count_ones();
                before
            })
            .collect();
        Self { words, before }
    }

    fn rank(&self, bit: u32) -> u64 {
        let word = (bit / 64) as usize;
        let below = self.words[word] & ((1 << (bit % 64)) - 1);
        u64::from(self.before[word] + below.count_ones())
    }

    fn count(&self) -> u64 {
        self.words.iter().map(|w| u64::from(w.count_ones())).sum()
    }

    fn ones(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().enumerate().flat_map(|(index, &word)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                (rest != 0).then(|| {
                    let bit = rest.trailing_zeros();
                    rest &= rest - 1;
                    index as u32 * 64 + bit
                })
            })
        })
    }
}

/// Numbers a table's things within the block at `reserved`.
pub(crate) fn number(run: &RunContext, table: u32, reserved: &ReservedTable) -> Result<Numbering> {
    let chunks = run.plan.chunks.len() as u32;
    let mut bases = Vec::with_capacity(chunks as usize + 1);
    let mut new = Vec::new();
    let mut next = reserved.first;
    bases.push(next);
    let keyed = run.layout.tables[table as usize].is_keyed();
    let shards = if keyed { run.plan.shards } else { 0 };
    let resolutions: Vec<_> =
        (0..shards).map(|shard| run.resolution(table, shard, &reserved.segments)).collect::<Result<_>>()?;
    for chunk in 0..chunks {
        next += if keyed {
            let scan = run.scan(chunk)?;
            let keys = &scan.tables[table as usize];
            let mut bits = vec![0_u64; keys.hashes.len().div_ceil(64)];
            for (shard, resolution) in (0..).zip(&resolutions) {
                for (&local, origin) in keys.shard(shard).iter().zip(resolution.origins(chunk)) {
                    if origin == Origin::New {
                        bits[(local / 64) as usize] |= 1 << (local % 64);
                    }
                }
            }
            let ranks = Ranks::new(bits);
            let count = ranks.count();
            new.push(ranks);
            count
        } else {
            run.scan_facts(chunk)?.records
        };
        bases.push(next);
    }
    if next != reserved.first + reserved.count {
        return Err(IngestError::internal(format!(
            "table '{}': {} new things where {} were counted",
            run.layout.tables[table as usize].name,
            next - reserved.first,
            reserved.count
        )));
    }
    Ok(Numbering { bases, new })
}

/// The place in the sequence of each of a chunk's keys, by local number.
pub(crate) fn places(run: &RunContext, table: u32, chunk: u32, reserved: &ReservedTable) -> Result<Vec<u64>> {
    let numbering = run.numbering(table, reserved)?;
    let scan = run.scan(chunk)?;
    let keys = &scan.tables[table as usize];
    let mut places = vec![0; keys.hashes.len()];
    for shard in 0..run.plan.shards {
        let locals = keys.shard(shard);
        if locals.is_empty() {
            continue;
        }
        let resolution = run.resolution(table, shard, &reserved.segments)?;
        for (&local, origin) in locals.iter().zip(resolution.origins(chunk)) {
            places[local as usize] = match origin {
                Origin::New => numbering.place(chunk, local),
                Origin::Earlier { chunk, local } => numbering.place(chunk, local),
                Origin::Known(place) => place,
            };
        }
    }
    Ok(places)
}

/// The IDs that records refer to: `None` where a record has no key.
pub(crate) fn reference_ids(id: &Id, rows: &[u32], places: &[u64]) -> Result<arrow::array::Int64Array> {
    let ids: Vec<i64> = places.iter().map(|&p| id_of(id, p)).collect::<Option<_>>().ok_or_else(|| out_of_range(id))?;
    Ok(rows.iter().map(|&local| (local != NO_KEY).then(|| ids[local as usize])).collect())
}

/// A sequence has reached the end of 64 bits.
pub(crate) fn out_of_range(id: &Id) -> IngestError {
    IngestError::pipeline(format!("the sequence of '{}' has no 64-bit IDs left", id.column))
        .help("choose another `start` or `step` for a new state and output")
}

impl Artifact for Numbering {
    fn bytes(&self) -> u64 {
        (self.bases.len() * 8 + self.new.iter().map(|r| r.words.len() * 12).sum::<usize>()) as u64
    }

    fn encode(&self, out: &mut Encoder) {
        out.u64s(&self.bases);
        out.u64(self.new.len() as u64);
        self.new.iter().for_each(|ranks| out.u64s(&ranks.words));
    }

    fn decode(from: &mut Decoder<'_>) -> Option<Self> {
        let bases = from.u64s()?;
        let new = (0..from.u64()?).map(|_| from.u64s().map(Ranks::new)).collect::<Option<_>>()?;
        Some(Self { bases, new })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g2_ids_and_places_are_each_other_s_inverse_up_to_the_last_id() {
        for (start, step) in [(1, 1), (0, 5), (-7, -3), (i64::MIN, 1), (i64::MAX, -1)] {
            let id = Id { column: "id".to_owned(), start, step };
            for place in [0, 1, 2, 1000] {
                assert_eq!(ordinal_of(&id, id_of(&id, place).unwrap()), Some(place));
            }
        }
        let id = Id { column: "id".to_owned(), start: i64::MAX - 1, step: 1 };
        assert_eq!((id_of(&id, 1), id_of(&id, 2)), (Some(i64::MAX), None));
        let fives = Id { column: "id".to_owned(), start: 10, step: 5 };
        assert_eq!((ordinal_of(&fives, 12), ordinal_of(&fives, 5)), (None, None));
    }

    #[test]
    fn ranks_count_the_bits_before() {
        let ranks = Ranks::new(vec![0b1011, 1 << 63, 1]);
        assert_eq!(ranks.ones().collect::<Vec<_>>(), [0, 1, 3, 127, 128]);
        assert_eq!([0, 1, 3, 127, 128].map(|bit| ranks.rank(bit)), [0, 1, 2, 3, 4]);
        assert_eq!(ranks.count(), 5);
    }
}
