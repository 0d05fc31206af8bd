//! Where things are in a run. A record's position is known from the plan; an element's only when the elements of all
//! chunks before it are counted. So keys of elements are scanned with places that leave room in each chunk, and get their
//! positions when all chunks were scanned: both are in the same order. Must never give two things one position.

use std::ops::Range;

use super::RunContext;
use crate::error::{IngestError, Result};
use crate::resolve::MOST_RECORDS;

/// The positions of a table's things: of records, or of the elements of its list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Positions<'a> {
    /// The position of each chunk's first one; one more at the end.
    starts: &'a [u32],
    /// The places of records, and how many places of elements there are for each; `None`: places are positions.
    scanned: Option<(&'a [u32], u32)>,
}

impl Positions<'_> {
    /// How many there are.
    pub(crate) fn end(self) -> u32 {
        self.starts.last().copied().unwrap_or_default()
    }

    /// The position of a chunk's first one; of the chunk after the last one, the end.
    pub(crate) fn start(self, chunk: u32) -> u32 {
        self.starts[chunk as usize]
    }

    /// Those of some chunks.
    pub(crate) fn of_chunks(self, chunks: Range<u32>) -> Range<u32> {
        self.start(chunks.start)..self.start(chunks.end)
    }

    /// The chunk that a position is in, and which one of those there.
    pub(crate) fn chunk_at(self, position: u32) -> (u32, u32) {
        let chunk = self.starts.partition_point(|&first| first <= position) - 1;
        (chunk as u32, position - self.starts[chunk])
    }

    /// The position of what was scanned at a place.
    pub(crate) fn of_place(self, place: u32) -> u32 {
        let Some((records, room)) = self.scanned else { return place };
        let chunk = records.partition_point(|&first| first <= place / room) - 1;
        self.starts[chunk] + (place - records[chunk] * room)
    }
}

/// How many places of elements there are for each record of a run, so that all of them are 32-bit numbers.
fn room(records: u32) -> u32 {
    MOST_RECORDS as u32 / records.max(1)
}

impl RunContext {
    /// The position in the run of a chunk's first record; of the chunk after the last one, the end.
    pub(crate) fn first_record(&self, chunk: u32) -> u32 {
        self.records_at[chunk as usize]
    }

    /// How many positions of records the run has.
    fn records_end(&self) -> u32 {
        self.records_at[self.plan.chunks.len()]
    }

    /// The place of the first of a chunk's `count` things of a table, while chunks are scanned.
    pub(crate) fn scan_place(&self, table: u32, chunk: u32, count: usize) -> Result<u32> {
        let first = self.first_record(chunk);
        let Some(list) = self.table(table).list else { return Ok(first) };
        let room = room(self.records_end());
        let rows = self.plan.chunks[chunk as usize].rows;
        if count as u64 > u64::from(rows) * u64::from(room) {
            let planned = &self.plan.chunks[chunk as usize];
            return Err(IngestError::input(format!(
                "{}: the {rows} records from there on have {count} elements of '{}', more than a run of {} records can \
                 have there",
                self.place(planned, 0),
                self.layout.lists[list].path,
                self.records_end()
            ))
            .help("ingest the files in several runs: `--set source.files=...`"));
        }
        Ok(first * room)
    }

    /// The positions of a table's things. Only after all chunks were scanned, if they are elements.
    pub(crate) fn positions(&self, table: u32) -> Result<Positions<'_>> {
        let Some(list) = self.table(table).list else {
            return Ok(Positions { starts: &self.records_at, scanned: None });
        };
        let scanned = Some((self.records_at.as_slice(), room(self.records_end())));
        let known = &self.elements_at[list];
        if let Some(starts) = known.get() {
            return Ok(Positions { starts, scanned });
        }
        let mut starts = vec![0];
        let mut sum = 0_u64;
        for chunk in 0..self.plan.chunks.len() as u32 {
            sum += self.things_in(table, chunk)?;
            // Each chunk has no more than there are places for it.
            starts.push(u32::try_from(sum).map_err(|_| IngestError::internal("more elements than positions"))?);
        }
        Ok(Positions { starts: known.get_or_init(|| starts), scanned })
    }

    /// How many of a chunk's things may be rows of a table: records, or elements of its list.
    pub(crate) fn things_in(&self, table: u32, chunk: u32) -> Result<u64> {
        let facts = self.scan_facts(chunk)?;
        match self.table(table).list {
            None => Ok(facts.records),
            Some(list) => {
                facts.elements.get(list).copied().ok_or_else(|| IngestError::internal("a list was not counted"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g3_places_and_positions_are_in_the_same_order() {
        let records = [0, 10, 11, 500];
        let room = room(500);
        assert!(u64::from(room) * 500 <= MOST_RECORDS);
        // Seven elements in the first chunk, none in the second, three in the third.
        let positions = Positions { starts: &[0, 7, 7, 10], scanned: Some((&records, room)) };
        let place = |chunk: usize, element: u32| records[chunk] * room + element;
        let places = (0..7).map(|n| place(0, n)).chain((0..3).map(|n| place(2, n)));
        assert_eq!(places.map(|place| positions.of_place(place)).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        assert_eq!([0, 6, 7, 9].map(|at| positions.chunk_at(at)), [(0, 0), (0, 6), (2, 0), (2, 2)]);
        // The last place of a chunk is before the first one of the next.
        assert!(place(0, 10 * room - 1) < place(1, 0));
        assert_eq!(room_of_many(), (1, 4_294_967_294));
    }

    fn room_of_many() -> (u32, u32) {
        (room(MOST_RECORDS as u32), room(0))
    }
}
