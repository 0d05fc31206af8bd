//! Numbering: from a reserved block to the ID of every thing. An ID is the block's first plus the rank of its key's
//! first position among all first positions, so numbers need no counter and follow first appearance. Must never look at
//! a key.

use std::sync::Arc;

use arrow::array::Int64Array;
use arrow::buffer::NullBuffer;
use serde::{Deserialize, Serialize};
use seriatim_pipeline::model::Id;

use crate::artifacts::{Artifact, Decoder, Encoder};
use crate::context::RunContext;
use crate::error::{IngestError, Result};
use crate::keys::NO_KEY;
use crate::near::ask_for;
use crate::pages::IdValues;
use crate::resolve::Origin;

/// What the critical section has given to a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reserved {
    /// The number that the run will have among the published ones.
    pub(crate) number: u64,
    /// One for each table.
    pub(crate) tables: Vec<ReservedTable>,
    /// The run's name in a counter outside, if IDs come from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) holder: Option<String>,
    /// When the run was accepted, in microseconds since 1970, if some version holds since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) accepted: Option<i64>,
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
    /// Places before `first` that are not this pipeline's.
    #[serde(default, skip_serializing_if = "crate::sequence::is_zero")]
    pub(crate) others: u64,
    /// The segments that have the last number of each group, if rows are numbered within groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) groups: Vec<String>,
    /// How many keys were taken over from a table that existed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) adopted: Option<u64>,
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
    /// At which positions of the run a key appears first; empty for a table without key.
    firsts: Ranks,
}

impl Numbering {
    /// The places of a chunk's new things.
    pub(crate) fn chunk(&self, chunk: u32) -> std::ops::Range<u64> {
        self.bases[chunk as usize]..self.bases[chunk as usize + 1]
    }

    /// The place of the key that appears first at this position.
    pub(crate) fn place(&self, first: u32) -> u64 {
        self.bases[0] + self.firsts.rank(first)
    }

    /// Whether the key that appears first at this position of the run is new.
    pub(crate) fn is_first(&self, position: u32) -> bool {
        self.firsts.words[position as usize / 64] >> (position % 64) & 1 == 1
    }

    /// The positions in a range at which a key appears first, ascending.
    pub(crate) fn firsts(&self, positions: std::ops::Range<u32>) -> impl Iterator<Item = u32> + '_ {
        self.firsts.ones(positions)
    }
}

/// A bitmap that knows how many bits are set before any place.
#[derive(Debug, PartialEq, Eq)]
struct Ranks {
    words: Vec<u64>,
    /// Bits before each word; one more at the end.
    before: Vec<u32>,
}

impl Ranks {
    fn new(words: Vec<u64>) -> Self {
        let mut sum = 0;
        let mut before = Vec::with_capacity(words.len() + 1);
        before.push(0);
        for word in &words {
            sum += word.count_ones();
            before.push(sum);
        }
        Self { words, before }
    }

    fn rank(&self, bit: u32) -> u64 {
        let word = (bit / 64) as usize;
        let below = self.words.get(word).map_or(0, |bits| bits & ((1 << (bit % 64)) - 1));
        let before = self.before.get(word).or(self.before.last()).copied().unwrap_or_default();
        u64::from(before + below.count_ones())
    }

    fn ones(&self, bits: std::ops::Range<u32>) -> impl Iterator<Item = u32> + '_ {
        let words = bits.start / 64..bits.end.div_ceil(64);
        words.flat_map(move |index| {
            let mut rest = self.words[index as usize];
            if index * 64 < bits.start {
                rest &= u64::MAX << (bits.start % 64);
            }
            if bits.end - index * 64 < 64 {
                rest &= (1 << (bits.end % 64)) - 1;
            }
            std::iter::from_fn(move || {
                (rest != 0).then(|| {
                    let bit = rest.trailing_zeros();
                    rest &= rest - 1;
                    index * 64 + bit
                })
            })
        })
    }
}

/// Numbers a table's things within the block at `reserved`.
pub(crate) fn number(run: &RunContext, table: u32, reserved: &ReservedTable) -> Result<Numbering> {
    let keyed = run.table(table).is_keyed();
    let firsts = if keyed { Ranks::new(run.first_words(table, &reserved.segments)?) } else { Ranks::new(Vec::new()) };
    let chunks = run.plan.chunks.len() as u32;
    let positions = run.positions(table)?;
    let mut bases = Vec::with_capacity(chunks as usize + 1);
    let mut next = reserved.first;
    bases.push(next);
    for chunk in 0..chunks {
        next = if keyed {
            reserved.first + firsts.rank(positions.start(chunk + 1))
        } else {
            next + run.things_in(table, chunk)?
        };
        bases.push(next);
    }
    if next != reserved.first + reserved.count {
        return Err(IngestError::internal(format!(
            "table '{}': {} new things where {} were counted",
            run.table(table).name,
            next - reserved.first,
            reserved.count
        )));
    }
    Ok(Numbering { bases, firsts })
}

/// The place in its sequence of each of a table's keys, by handle. They are looked up at random, so small ones are kept
/// small: more of them are near.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Places {
    /// Where each shard's places begin.
    starts: Vec<u32>,
    values: PlaceValues,
}

/// Numbers that are mostly small.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PlaceValues {
    Narrow(Vec<u32>),
    Wide(Vec<u64>),
}

impl Places {
    /// From the resolutions of a table's shards; `part`: of the keys that are in this part of the run.
    pub(crate) fn new(run: &RunContext, table: u32, part: u32, reserved: &ReservedTable) -> Result<Self> {
        let numbering = run.numbering(table, reserved)?;
        let place = |origin| match origin {
            Origin::New(first) => numbering.place(first),
            Origin::Known(place) => place,
        };
        let mut starts = Vec::with_capacity(run.plan.shards as usize);
        let mut values = PlaceValues::Narrow(Vec::with_capacity(run.keys(table).handles()));
        // One shard at a time: with little memory, each is read from disk.
        run.each_shard(table, part, &reserved.segments, |origins| {
            // Handles are 32-bit numbers, and so are places among them.
            starts.push(values.len() as u32);
            for &packed in origins {
                values.push(place(Origin::unpack(packed)));
            }
        })?;
        Ok(Self { starts, values })
    }
}

impl PlaceValues {
    /// None yet, with room for so many small ones.
    pub(crate) fn with_capacity(count: usize) -> Self {
        Self::Narrow(Vec::with_capacity(count))
    }

    /// The one at a place, which must be below [`Self::len`].
    pub(crate) fn get(&self, at: usize) -> u64 {
        match self {
            Self::Narrow(values) => values[at].into(),
            Self::Wide(values) => values[at],
        }
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> u64 {
        (match self {
            Self::Narrow(values) => values.capacity() * 4,
            Self::Wide(values) => values.capacity() * 8,
        }) as u64
    }

    /// Appends their form on disk.
    pub(crate) fn encode(&self, out: &mut Encoder) {
        match self {
            Self::Narrow(values) => {
                out.u64(0);
                out.u32s(values);
            }
            Self::Wide(values) => {
                out.u64(1);
                out.u64s(values);
            }
        }
    }

    /// Reads them back.
    pub(crate) fn decode(from: &mut Decoder<'_>) -> Option<Self> {
        Some(if from.u64()? == 0 { Self::Narrow(from.u32s()?) } else { Self::Wide(from.u64s()?) })
    }

    fn len(&self) -> usize {
        match self {
            Self::Narrow(values) => values.len(),
            Self::Wide(values) => values.len(),
        }
    }

    pub(crate) fn push(&mut self, place: u64) {
        match (&mut *self, u32::try_from(place)) {
            (Self::Narrow(values), Ok(place)) => values.push(place),
            (Self::Wide(values), _) => values.push(place),
            (Self::Narrow(values), Err(_)) => {
                let mut wide: Vec<u64> = Vec::with_capacity(values.capacity());
                wide.extend(values.iter().map(|&place| u64::from(place)));
                wide.push(place);
                *self = Self::Wide(wide);
            }
        }
    }
}

/// How many look-ups ahead a place is asked for.
const AHEAD: usize = 24;

/// The IDs of a table's keys, by handle.
pub(crate) struct Ids<'a> {
    id: &'a Id,
    /// How far a handle's shard is above its number there.
    shift: u32,
    places: Arc<Places>,
}

impl<'a> Ids<'a> {
    /// All IDs of a table in a part of this run.
    pub(crate) fn new(run: &'a RunContext, table: u32, part: u32, reserved: &ReservedTable) -> Result<Self> {
        let id = run.table(table).id.as_ref();
        let id = id.ok_or_else(|| IngestError::internal("a table that is referred to has IDs"))?;
        if reserved.count > 0 && id_of(id, reserved.first + reserved.count - 1).is_none() {
            return Err(out_of_range(id));
        }
        Ok(Self { id, shift: run.keys(table).shift(), places: run.places(table, part, reserved)? })
    }

    /// The IDs of keys; `None` where a handle stands for no key.
    pub(crate) fn optional<'b>(&'b self, handles: &'b [u32]) -> Vec<Option<i64>> {
        handles.iter().map(|&handle| (handle != NO_KEY).then(|| self.get(handle))).collect()
    }

    fn get(&self, handle: u32) -> i64 {
        match &self.places.values {
            PlaceValues::Narrow(values) => self.id_at(values[self.index(handle)].into()),
            PlaceValues::Wide(values) => self.id_at(values[self.index(handle)]),
        }
    }

    fn index(&self, handle: u32) -> usize {
        let shard = u64::from(handle) >> self.shift;
        let number = u64::from(handle) & ((1 << self.shift) - 1);
        self.places.starts[shard as usize] as usize + number as usize
    }

    fn id_at(&self, place: u64) -> i64 {
        // The end of the block is in range, so every ID before it is.
        self.id.start.wrapping_add(self.id.step.wrapping_mul(place as i64))
    }

    /// The IDs that records refer to: none where a record has no key.
    pub(crate) fn values(&self, handles: &[u32]) -> IdValues {
        let known: Vec<u32>;
        let (handles, present) = if handles.contains(&NO_KEY) {
            let present = handles.iter().map(|&handle| handle != NO_KEY).collect();
            known = handles.iter().copied().filter(|&handle| handle != NO_KEY).collect();
            (known.as_slice(), Some(present))
        } else {
            (handles, None)
        };
        let ids = match &self.places.values {
            PlaceValues::Narrow(values) => self.look_up(handles, values),
            PlaceValues::Wide(values) => self.look_up(handles, values),
        };
        IdValues { ids, present }
    }

    fn look_up<T: Copy + Into<u64>>(&self, handles: &[u32], places: &[T]) -> Vec<i64> {
        let ahead = handles.iter().skip(AHEAD).map(Some).chain(std::iter::repeat(None));
        let look_up = |(&handle, ahead): (&u32, Option<&u32>)| {
            if let Some(&ahead) = ahead {
                ask_for(places, self.index(ahead));
            }
            self.id_at(places[self.index(handle)].into())
        };
        handles.iter().zip(ahead).map(look_up).collect()
    }

    /// The same as an array.
    pub(crate) fn array(&self, handles: &[u32]) -> Int64Array {
        let IdValues { ids, present } = self.values(handles);
        let Some(present) = present else { return Int64Array::from(ids) };
        let mut ids = ids.into_iter();
        let spread = present.iter().map(|&valid| if valid { ids.next().unwrap_or_default() } else { 0 }).collect();
        Int64Array::new(spread, Some(NullBuffer::from(present)))
    }
}

/// A sequence has reached the end of 64 bits.
pub(crate) fn out_of_range(id: &Id) -> IngestError {
    IngestError::pipeline(format!("the sequence of '{}' has no 64-bit IDs left", id.column))
        .help("choose another `start` or `step` for a new state and output")
}

impl Artifact for Numbering {
    fn bytes(&self) -> u64 {
        (self.bases.len() * 8 + self.firsts.words.len() * 12) as u64
    }

    fn encode(&self, out: &mut Encoder) {
        out.u64s(&self.bases);
        out.u64s(&self.firsts.words);
    }

    fn decode(from: &mut Decoder<'_>) -> Option<Self> {
        Some(Self { bases: from.u64s()?, firsts: Ranks::new(from.u64s()?) })
    }
}

impl Artifact for Places {
    fn bytes(&self) -> u64 {
        self.values.bytes() + self.starts.len() as u64 * 4
    }

    fn encode(&self, out: &mut Encoder) {
        out.u32s(&self.starts);
        self.values.encode(out);
    }

    fn decode(from: &mut Decoder<'_>) -> Option<Self> {
        Some(Self { starts: from.u32s()?, values: PlaceValues::decode(from)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g2_ids_and_places_are_each_other_s_inverse_up_to_the_last_id() {
        for (start, step) in [(1, 1), (0, 5), (-7, -3), (i64::MIN, 1), (i64::MAX, -1)] {
            let id = Id { start, step, ..Id::new("id") };
            for place in [0, 1, 2, 1000] {
                assert_eq!(ordinal_of(&id, id_of(&id, place).unwrap()), Some(place));
            }
        }
        let id = Id { start: i64::MAX - 1, ..Id::new("id") };
        assert_eq!((id_of(&id, 1), id_of(&id, 2)), (Some(i64::MAX), None));
        let fives = Id { start: 10, step: 5, ..Id::new("id") };
        assert_eq!((ordinal_of(&fives, 12), ordinal_of(&fives, 5)), (None, None));
    }

    #[test]
    fn g4_places_beyond_32_bits_are_kept_whole() {
        let places = [0, 7, u64::from(u32::MAX), u64::from(u32::MAX) + 1, 3, 1 << 40];
        let mut values = PlaceValues::Narrow(Vec::new());
        for (count, &place) in places.iter().enumerate() {
            values.push(place);
            assert_eq!(values.len(), count + 1);
        }
        assert_eq!(values, PlaceValues::Wide(places.to_vec()));
    }

    #[test]
    fn ranks_count_the_bits_before() {
        let ranks = Ranks::new(vec![0b1011, 1 << 63, 1]);
        assert_eq!(ranks.ones(0..192).collect::<Vec<_>>(), [0, 1, 3, 127, 128]);
        assert_eq!(ranks.ones(1..128).collect::<Vec<_>>(), [1, 3, 127]);
        assert_eq!(ranks.ones(2..3).count() + ranks.ones(64..127).count() + ranks.ones(5..5).count(), 0);
        assert_eq!([0, 1, 3, 127, 128, 192].map(|bit| ranks.rank(bit)), [0, 1, 2, 3, 4, 5]);
    }
}
