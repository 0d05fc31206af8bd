//! The new keys of a table in the order of their places, where they are numbers and no key of the table had to leave
//! memory: the rows of new things and the key map are then written without looking for keys again. It only spares work:
//! nothing may come out differently where it cannot be had.

use std::ops::Range;

use crate::artifacts::{Artifact, Decoder, Encoder};
use crate::context::RunContext;
use crate::error::{IngestError, Result};
use crate::keys::KeyRef;
use crate::number::ReservedTable;

/// New keys that fit into 64 bits, in canonical form, by place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NewKeys {
    /// The place of the first one.
    first: u64,
    keys: Vec<u64>,
}

impl NewKeys {
    /// All of a table's new keys in this run; its keys must be numbers.
    pub(crate) fn new(run: &RunContext, table: u32, reserved: &ReservedTable) -> Result<Self> {
        let numbering = run.numbering(table, reserved)?;
        let mut keys = vec![0; reserved.count as usize];
        for shard in 0..run.plan.shards {
            run.keys(table).settled(shard, |shard, _| {
                for entry in shard.iter().filter(|entry| numbering.is_first(entry.first)) {
                    let slot = keys.get_mut((numbering.place(entry.first) - reserved.first) as usize);
                    let (Some(slot), KeyRef::Fixed(key)) = (slot, entry.key) else {
                        return Err(IngestError::internal("a new key has no place, or is no number"));
                    };
                    *slot = key;
                }
                Ok(())
            })?;
        }
        Ok(Self { first: reserved.first, keys })
    }

    /// All of them; the first one is at the first place of the run's block.
    pub(crate) fn all(&self) -> &[u64] {
        &self.keys
    }

    /// Those at these places.
    pub(crate) fn at(&self, places: Range<u64>) -> &[u64] {
        &self.keys[(places.start - self.first) as usize..(places.end - self.first) as usize]
    }
}

impl Artifact for NewKeys {
    fn bytes(&self) -> u64 {
        self.keys.capacity() as u64 * 8
    }

    fn encode(&self, out: &mut Encoder) {
        out.u64(self.first);
        out.u64s(&self.keys);
    }

    fn decode(from: &mut Decoder<'_>) -> Option<Self> {
        Some(Self { first: from.u64()?, keys: from.u64s()? })
    }
}
