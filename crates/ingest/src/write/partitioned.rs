//! The files of a table that is partitioned. Its partitions are shared out to *buckets*, by their names; a span leaves the
//! rows of each bucket as a piece, and the files of a bucket's partitions are assembled from the pieces of all spans. So a
//! partition has few files in a run, however many spans have rows of it. Within a partition rows are in the order of their
//! IDs, and files in that of their names. Must never depend on which worker assembles what.

use std::collections::{BTreeMap, VecDeque};

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::Int64Type;
use xxhash_rust::xxh3::xxh3_64;

use super::assemble::piece;
use super::piece::{Piece, PieceOf};
use super::sink::{ROW_GROUP, Sink};
use super::span::open_file;
use super::{FileOf, Group, Staged, finish, is_reordered, rows_of_file};
use crate::context::RunContext;
use crate::error::{IngestError, Result};
use crate::layout::TableLayout;
use crate::number::{Reserved, ordinal_of};
use crate::partition::{MOST_PARTITIONS, Values, pick, split, too_many};

/// Buckets, at most: enough for many workers.
const MOST_BUCKETS: u64 = 64;

/// The buckets of a table's partitions: so many that one of them has the rows of a file, about.
pub(super) fn buckets(run: &RunContext, reserved: &Reserved, table: u32) -> Vec<Group> {
    let rows = reserved.tables[table as usize].count;
    let count = (rows / rows_of_file(run, table).max(1)).clamp(1, MOST_BUCKETS);
    let bucket = Group { from: 0, to: run.plan.spans.len() as u32, rows: rows / count, assembled: true };
    vec![bucket; count as usize]
}

/// Leaves a span's rows for the buckets that they are of.
pub(super) fn keep_buckets(run: &RunContext, table: u32, span: u32, buckets: u32, rows: &[RecordBatch]) -> Result<()> {
    let mut pieces: Vec<Vec<RecordBatch>> = vec![Vec::new(); buckets as usize];
    for batch in rows {
        let mut chosen: Vec<Vec<u32>> = vec![Vec::new(); buckets as usize];
        for part in split(run.table(table), batch)? {
            chosen[(xxh3_64(part.folder.as_bytes()) % u64::from(buckets)) as usize].extend(part.rows);
        }
        for (piece, mut rows) in pieces.iter_mut().zip(chosen).filter(|(_, rows)| !rows.is_empty()) {
            rows.sort_unstable();
            piece.push(pick(batch, rows)?);
        }
    }
    // Also those that are empty: a piece that is not there is one that is lost.
    (0..).zip(pieces).try_for_each(|(bucket, batches)| {
        run.keep_piece(PieceOf { table, span, bucket: Some(bucket), is_known: false }, Piece(batches))
    })
}

/// A partition on its way into files.
struct Open {
    values: Values,
    /// Rows that are in no file yet.
    rows: usize,
    batches: VecDeque<RecordBatch>,
    file: Option<Writing>,
    files: u32,
}

/// The file that a partition's rows go to now.
struct Writing {
    sink: Sink,
    first: u64,
    last: Option<u64>,
    rows: usize,
}

/// Assembles the files of all partitions in a bucket.
pub(crate) fn assemble_bucket(run: &RunContext, reserved: &Reserved, table: u32, bucket: u32) -> Result<Vec<Staged>> {
    let to = Files { run, reserved, table, most: rows_of_file(run, table).max(1) as usize };
    let layout = run.table(table);
    let reordered = is_reordered(run, table);
    let mut open: BTreeMap<String, Open> = BTreeMap::new();
    let mut staged = Vec::new();
    for span in 0..run.plan.spans.len() as u32 {
        let of = PieceOf { table, span, bucket: Some(bucket), is_known: false };
        let Some(piece) = piece(run, reserved, of)? else { continue };
        for batch in &piece.0 {
            for part in split(layout, batch)? {
                let rows = part.rows.len();
                let picked = pick(batch, part.rows)?;
                let empty = || Open { values: part.values, rows: 0, batches: VecDeque::new(), file: None, files: 0 };
                let open = open.entry(part.folder).or_insert_with(empty);
                open.rows += rows;
                open.batches.push_back(picked);
            }
        }
        if open.len() > MOST_PARTITIONS {
            return Err(too_many(&layout.name, &layout.partition_by));
        }
        // Where the last record of a thing counts, a row that belongs before these may still come.
        if !reordered {
            for (folder, open) in open.iter_mut().filter(|(_, open)| open.rows >= ROW_GROUP) {
                to.write(folder, open, false, &mut staged)?;
            }
        }
        run.drop_piece(of);
    }
    for (folder, open) in &mut open {
        if reordered {
            open.bring_in_order(layout)?;
        }
        to.write(folder, open, true, &mut staged)?;
        open.batches.clear();
    }
    Ok(staged)
}

/// Where the rows of a table's partitions go.
struct Files<'a> {
    run: &'a RunContext,
    reserved: &'a Reserved,
    table: u32,
    /// Rows of a file, at most.
    most: usize,
}

impl Files<'_> {
    /// Writes a partition's rows, as many as make whole row groups; in the end all of them.
    fn write(&self, folder: &str, open: &mut Open, is_end: bool, staged: &mut Vec<Staged>) -> Result<()> {
        while open.rows > 0 {
            let unit = ROW_GROUP.min(self.most - open.file.as_ref().map_or(0, |writing| writing.rows));
            if unit > open.rows && !is_end {
                return Ok(());
            }
            let file = FileOf { table: self.table, folder, group: open.files };
            let mut writing = match open.file.take() {
                Some(writing) => writing,
                None => Writing { sink: open_file(self.run, self.reserved, file)?, first: 0, last: None, rows: 0 },
            };
            for batch in open.take(unit) {
                self.append(&mut writing, &batch)?;
            }
            if writing.rows == self.most {
                staged.push(self.end(file, open, writing)?);
            } else {
                open.file = Some(writing);
            }
        }
        if is_end && let Some(writing) = open.file.take() {
            let file = FileOf { table: self.table, folder, group: open.files };
            staged.push(self.end(file, open, writing)?);
        }
        Ok(())
    }

    fn append(&self, writing: &mut Writing, batch: &RecordBatch) -> Result<()> {
        let layout = self.run.table(self.table);
        let fields = layout.schema.fields().iter().enumerate();
        let kept = fields.filter(|(_, field)| !layout.partition_by.contains(field.name()));
        let kept: Vec<usize> = kept.map(|(index, _)| index).collect();
        writing.sink.write(&batch.project(&kept).map_err(|e| IngestError::internal(e.to_string()))?)?;
        let places = places(layout, batch)?;
        if writing.rows == 0 {
            writing.first = places.first().copied().unwrap_or(0);
        }
        writing.last = places.last().copied();
        writing.rows += batch.num_rows();
        Ok(())
    }

    fn end(&self, file: FileOf<'_>, open: &mut Open, writing: Writing) -> Result<Staged> {
        let staged = finish(self.run, self.reserved, file, writing.first, writing.sink)?;
        open.files += 1;
        Ok(Staged { last: writing.last, partition: open.values.clone(), ..staged })
    }
}

impl Open {
    /// The first rows, which are not left then.
    fn take(&mut self, rows: usize) -> Vec<RecordBatch> {
        let (mut taken, mut wanted) = (Vec::new(), rows.min(self.rows));
        self.rows -= wanted;
        while wanted > 0
            && let Some(batch) = self.batches.pop_front()
        {
            let here = wanted.min(batch.num_rows());
            taken.push(batch.slice(0, here));
            wanted -= here;
            if here < batch.num_rows() {
                self.batches.push_front(batch.slice(here, batch.num_rows() - here));
            }
        }
        taken
    }

    /// Brings all rows in the order of their IDs, row group by row group.
    fn bring_in_order(&mut self, layout: &TableLayout) -> Result<()> {
        let mut order = Vec::with_capacity(self.rows);
        for (index, batch) in self.batches.iter().enumerate() {
            order.extend(places(layout, batch)?.into_iter().enumerate().map(|(row, place)| (place, index, row)));
        }
        order.sort_unstable();
        let order: Vec<(usize, usize)> = order.into_iter().map(|(_, index, row)| (index, row)).collect();
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        let sorted = order.chunks(ROW_GROUP).map(|rows| interleave_record_batch(&batches, rows));
        let sorted: Result<VecDeque<RecordBatch>, _> = sorted.collect();
        self.batches = sorted.map_err(|e| IngestError::internal(e.to_string()))?;
        Ok(())
    }
}

/// The places in its sequence of a batch's rows; none for a table without ID.
fn places(layout: &TableLayout, batch: &RecordBatch) -> Result<Vec<u64>> {
    let Some(id) = &layout.id else { return Ok(Vec::new()) };
    let ids = batch.column(0).as_primitive::<Int64Type>().values();
    let places: Option<Vec<u64>> = ids.iter().map(|&value| ordinal_of(id, value)).collect();
    places.ok_or_else(|| IngestError::internal(format!("table '{}': an ID is not of its sequence", layout.name)))
}
