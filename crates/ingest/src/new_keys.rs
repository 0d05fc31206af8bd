//! The new keys of a table in the order of their places, where none of the table's keys had to leave memory and they take
//! little of it: the rows of new things and the key map are then written without looking for keys again. It only spares
//! work: nothing may come out differently where it cannot be had.

use std::ops::Range;

use arrow::datatypes::DataType;

use crate::artifacts::{Artifact, Decoder, Encoder};
use crate::context::RunContext;
use crate::error::{IngestError, Result};
use crate::keys::{KeyCodec, KeyRef, KeyShard, Keys};
use crate::layout::TableLayout;
use crate::number::{Numbering, ReservedTable};
use crate::pages::Values;

/// Byte strings are kept here up to so many bytes: of more, reading them again from front to back is faster than
/// bringing them into order.
const MOST_BYTES: u64 = 1 << 24;

/// New keys in canonical form, by place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NewKeys {
    /// The place of the first one.
    first: u64,
    /// None if they would be too large.
    keys: Option<Keys>,
}

/// Whether a table's keys are of a kind that is kept here: numbers, or one column of byte strings.
pub(crate) fn is_kept(table: &TableLayout) -> bool {
    let is_one = |codec: &KeyCodec| matches!(codec.single_type(), Some(DataType::Utf8 | DataType::Binary));
    table.codec.as_ref().is_some_and(|codec| codec.is_fixed() || is_one(codec))
}

impl NewKeys {
    /// All of a table's new keys in this run, which must be of a kind that is kept.
    pub(crate) fn new(run: &RunContext, table: u32, reserved: &ReservedTable) -> Result<Self> {
        let fixed = run.table(table).codec.as_ref().is_some_and(KeyCodec::is_fixed);
        let numbering = run.numbering(table, reserved)?;
        let places = Places { run, table, numbering: &numbering, reserved };
        let keys = if fixed { Some(places.numbers()?) } else { places.strings()? };
        Ok(Self { first: reserved.first, keys })
    }

    /// All of them if they are numbers; the first one is at the first place of the run's block.
    pub(crate) fn numbers(&self) -> Option<&[u64]> {
        match &self.keys {
            Some(Keys::Fixed(keys)) => Some(keys),
            Some(Keys::Bytes { .. }) | None => None,
        }
    }

    /// Those at these places, as values of a column with the type that `like` has; `None` if they are not kept, or are
    /// no values of that type.
    pub(crate) fn values(&self, places: Range<u64>, like: &Values) -> Option<Values> {
        let range = (places.start - self.first) as usize..(places.end - self.first) as usize;
        match (self.keys.as_ref()?, like) {
            (Keys::Fixed(keys), Values::I32(_)) => {
                Some(Values::I32(keys[range].iter().map(|&key| key as i32).collect()))
            }
            (Keys::Fixed(keys), Values::I64(_)) => {
                Some(Values::I64(keys[range].iter().map(|&key| key as i64).collect()))
            }
            (Keys::Bytes { ends, data }, Values::Bytes { .. }) => {
                let start = if range.start == 0 { 0 } else { ends[range.start - 1] };
                let end = if range.end == 0 { 0 } else { ends[range.end - 1] };
                // They are few bytes, all together.
                let offset = |end: u64| (end - start) as i32;
                let offsets = std::iter::once(0).chain(ends[range].iter().map(|&end| offset(end))).collect();
                Some(Values::Bytes { offsets, data: data[start as usize..end as usize].to_vec() })
            }
            _ => None,
        }
    }
}

/// Finds keys and their places.
struct Places<'a> {
    run: &'a RunContext,
    table: u32,
    numbering: &'a Numbering,
    reserved: &'a ReservedTable,
}

impl Places<'_> {
    /// Calls `visit` with each new key and its place in the block.
    fn each(&self, mut visit: impl FnMut(usize, KeyRef<'_>)) -> Result<()> {
        let count = self.reserved.count as usize;
        let positions = self.run.positions(self.table)?;
        let mut visit_shard = |shard: &KeyShard| {
            for entry in shard.iter() {
                let first = positions.of_place(entry.first);
                if !self.numbering.is_first(first) {
                    continue;
                }
                let index = (self.numbering.place(first) - self.reserved.first) as usize;
                if index >= count {
                    return Err(IngestError::internal("a new key has no place in the run's block"));
                }
                visit(index, entry.key);
            }
            Ok(())
        };
        (0..self.run.plan.shards)
            .try_for_each(|shard| self.run.keys(self.table).settled(shard, |shard, _| visit_shard(shard)))
    }

    fn numbers(&self) -> Result<Keys> {
        let mut keys = vec![0; self.reserved.count as usize];
        self.each(|index, key| {
            if let KeyRef::Fixed(key) = key {
                keys[index] = key;
            }
        })?;
        Ok(Keys::Fixed(keys))
    }

    fn strings(&self) -> Result<Option<Keys>> {
        let mut ends = vec![0; self.reserved.count as usize];
        self.each(|index, key| {
            if let KeyRef::Bytes(key) = key {
                ends[index] = key.len() as u64;
            }
        })?;
        let mut size = 0;
        for end in &mut ends {
            size += *end;
            *end = size;
        }
        if size > MOST_BYTES {
            return Ok(None);
        }
        let mut data = vec![0; size as usize];
        self.each(|index, key| {
            if let KeyRef::Bytes(key) = key {
                let end = ends[index] as usize;
                data[end - key.len()..end].copy_from_slice(key);
            }
        })?;
        Ok(Some(Keys::Bytes { ends, data }))
    }
}

impl Artifact for NewKeys {
    fn bytes(&self) -> u64 {
        match &self.keys {
            Some(Keys::Fixed(keys)) => keys.capacity() as u64 * 8,
            Some(Keys::Bytes { ends, data }) => (ends.capacity() * 8 + data.capacity()) as u64,
            None => 0,
        }
    }

    fn encode(&self, out: &mut Encoder) {
        out.u64(self.first);
        match &self.keys {
            None => out.u64(0),
            Some(Keys::Fixed(keys)) => {
                out.u64(1);
                out.u64s(keys);
            }
            Some(Keys::Bytes { ends, data }) => {
                out.u64(2);
                out.u64s(ends);
                out.bytes(data);
            }
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Option<Self> {
        let first = from.u64()?;
        let keys = match from.u64()? {
            0 => None,
            1 => Some(Keys::Fixed(from.u64s()?)),
            2 => Some(Keys::Bytes { ends: from.u64s()?, data: from.bytes()? }),
            _ => return None,
        };
        Some(Self { first, keys })
    }
}
