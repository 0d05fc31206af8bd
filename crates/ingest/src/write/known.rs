//! What a run's records say of known keys, where a table has a history: the record that counts of each key, with its
//! references and columns, in pieces for those who hold them against the published files. Like other pieces they are
//! artifacts: one that is not there is made again. Must never say anything of a key that is new.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::datatypes::{Field, FieldRef, Schema, UInt32Type};

use super::elements::referenced;
use super::piece::{Piece, PieceOf};
use super::quarantine_index;
use super::rows::{Chosen, no_time};
use super::span::all_referenced_ids;
use crate::context::RunContext;
use crate::elements::Things;
use crate::error::{IngestError, Result};
use crate::history::{FileIndex, bucket_of};
use crate::layout::TableLayout;
use crate::manifest::ManifestTable;
use crate::number::{Ids, Reserved, id_of};
use crate::partition::{Values, pick, split};
use crate::scan::ChunkScan;

/// The columns before those of the table: a key's place, the position of its record, and the published file it is in.
pub(crate) const KNOWN_COLUMNS: usize = 3;

/// Leaves what a span's records say of known keys.
pub(super) fn keep_known(
    run: &RunContext,
    reserved: &Reserved,
    span: u32,
    ids: &BTreeMap<usize, Ids<'_>>,
) -> Result<()> {
    for table in 0..quarantine_index(run) {
        if !has_known(run, reserved, table, span)? {
            continue;
        }
        let before = run.published_before(reserved.number)?;
        let published = &before.tables[before.table_index(&run.table(table).name)?];
        let index = FileIndex::new(published);
        let mut buckets: BTreeMap<u32, Vec<RecordBatch>> = BTreeMap::new();
        for chunk in run.span_chunks(span) {
            let of = OfChunk { run, reserved, table, chunk, published, index: &index };
            for (bucket, batch) in of.rows(ids)? {
                buckets.entry(bucket).or_default().push(batch);
            }
        }
        let of = |bucket| PieceOf { table, span, bucket, is_known: true };
        let there = UInt32Array::from_iter_values(buckets.keys().copied());
        for (bucket, batches) in buckets {
            run.keep_piece(of(Some(bucket)), Piece(batches))?;
        }
        // Last: where it is, the others are, unless something has removed them.
        run.keep_piece(of(None), Piece(vec![batch(vec![Arc::new(there)])?]))?;
    }
    Ok(())
}

/// Whether a span has records of known keys that count.
fn has_known(run: &RunContext, reserved: &Reserved, table: u32, span: u32) -> Result<bool> {
    if run.table(table).history.is_none() {
        return Ok(false);
    }
    let positions = run.positions(table)?.of_chunks(run.span_chunks(span));
    Ok(!run.seen(table, &reserved.tables[table as usize].segments)?.within(positions).is_empty())
}

/// What all records say of the known keys in a bucket of published files.
pub(crate) fn known(run: &RunContext, reserved: &Reserved, table: u32, bucket: u32) -> Result<Vec<RecordBatch>> {
    let mut batches = Vec::new();
    for span in 0..run.plan.spans.len() as u32 {
        if !has_known(run, reserved, table, span)? {
            continue;
        }
        let there = find(run, reserved, PieceOf { table, span, bucket: None, is_known: true })?;
        let is_there = |batch: &RecordBatch| batch.column(0).as_primitive::<UInt32Type>().values().contains(&bucket);
        if there.0.iter().any(is_there) {
            let of = PieceOf { table, span, bucket: Some(bucket), is_known: true };
            batches.extend(find(run, reserved, of)?.0.iter().cloned());
            run.drop_piece(of);
        }
    }
    Ok(batches)
}

fn find(run: &RunContext, reserved: &Reserved, of: PieceOf) -> Result<Arc<Piece>> {
    if let Some(piece) = run.piece(of)? {
        return Ok(piece);
    }
    let _one = run.lock_span(of.span);
    if let Some(piece) = run.piece(of)? {
        return Ok(piece);
    }
    keep_known(run, reserved, of.span, &all_referenced_ids(run, reserved, run.part_of_span(of.span))?)?;
    run.piece(of)?.ok_or_else(|| IngestError::internal("a span left nothing of known keys where it has some"))
}

/// Columns without names.
fn batch(columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    let field = |(at, column): (usize, &ArrayRef)| Field::new(at.to_string(), column.data_type().clone(), true);
    let fields: Vec<Field> = columns.iter().enumerate().map(field).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|e| IngestError::internal(e.to_string()))
}

/// A chunk, and the published files that its known keys are in.
struct OfChunk<'a> {
    run: &'a RunContext,
    reserved: &'a Reserved,
    table: u32,
    chunk: u32,
    published: &'a ManifestTable,
    index: &'a FileIndex<'a>,
}

impl OfChunk<'_> {
    fn layout(&self) -> &TableLayout {
        self.run.table(self.table)
    }

    /// What the chunk's records say, by bucket.
    fn rows(&self, ids: &BTreeMap<usize, Ids<'_>>) -> Result<Vec<(u32, RecordBatch)>> {
        let (run, layout) = (self.run, self.layout());
        let positions = run.positions(self.table)?.of_chunks(self.chunk..self.chunk + 1);
        let base = positions.start;
        let seen = run.seen(self.table, &self.reserved.tables[self.table as usize].segments)?;
        let here = seen.within(positions);
        if here.is_empty() {
            return Ok(Vec::new());
        }
        let scan = run.scan(self.chunk)?;
        let records: Vec<u32> = here.iter().map(|(position, _)| position - base).collect();
        let things = Things::new(&run.layout, self.read(&scan)?)?;
        let column = |name: &String| things.column(layout.list, name, Some(&records));
        let chosen = Chosen::known(self.table, records.clone(), here.iter().map(|(_, place)| *place).collect());
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from_iter_values(here.iter().map(|(_, place)| *place))),
            Arc::new(UInt32Array::from_iter_values(here.iter().map(|(position, _)| *position))),
            Arc::new(self.files(here, &things, &records)?),
        ];
        let references = referenced(run, self.chunk, &scan, &things, &chosen, ids)?;
        columns.extend(references.into_iter().map(|(ids, handles)| Arc::new(ids.array(&handles)) as ArrayRef));
        columns.extend(layout.columns.iter().map(column).collect::<Result<Vec<_>>>()?);
        if let Some(name) = layout.valid_from() {
            let since = column(name)?;
            if let Some(row) = (0..since.len()).find(|&row| since.is_null(row)) {
                return Err(no_time(run, self.table, self.chunk, records[row])?);
            }
            columns.push(since);
        }
        self.by_bucket(&batch(columns)?)
    }

    /// The columns that folders are called by, with what the table makes of them.
    fn folders(&self) -> impl Iterator<Item = (&String, &FieldRef)> {
        let layout = self.layout();
        layout.own_columns().filter(|(_, field)| layout.partition_by.contains(field.name()))
    }

    /// What there is to read of the chunk's records.
    fn read(&self, scan: &ChunkScan) -> Result<RecordBatch> {
        let layout = self.layout();
        let names = layout.columns.iter().chain(layout.valid_from()).chain(self.folders().map(|(name, _)| name));
        let inputs: Vec<String> = self.run.layout.inputs(layout.list, names).into_iter().map(str::to_owned).collect();
        if inputs.is_empty() {
            return Ok(RecordBatch::new_empty(Arc::new(Schema::empty())));
        }
        Ok(self.run.read(self.chunk, &inputs)?.without(&scan.quarantine)?.batch)
    }

    /// The published file that each key is in; `records` are those of the keys.
    fn files(&self, here: &[(u32, u64)], things: &Things<'_>, records: &[u32]) -> Result<UInt32Array> {
        let layout = self.layout();
        let mut partitions: Vec<(Values, Vec<u32>)> = Vec::new();
        if layout.is_partitioned() {
            let (mut fields, mut columns) = (Vec::new(), Vec::new());
            for (name, field) in self.folders() {
                columns.push(things.column(layout.list, name, Some(records))?);
                fields.push(field.as_ref().clone().with_nullable(true));
            }
            let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns);
            let batch = batch.map_err(|e| IngestError::internal(e.to_string()))?;
            partitions.extend(split(layout, &batch)?.into_iter().map(|part| (part.values, part.rows)));
        } else {
            partitions.push((Values::new(), (0..here.len() as u32).collect()));
        }
        let mut files = vec![0; here.len()];
        for (values, rows) in partitions {
            for row in rows {
                let place = here[row as usize].1;
                files[row as usize] = self.index.file_of(&values, place).ok_or_else(|| self.lost(place))?;
            }
        }
        Ok(UInt32Array::from(files))
    }

    fn lost(&self, place: u64) -> IngestError {
        let id = self.layout().id.as_ref().and_then(|id| Some(format!("{} {}", id.column, id_of(id, place)?)));
        IngestError::output(format!(
            "no published file of '{}' has the {}",
            self.layout().name,
            id.unwrap_or_else(|| format!("place {place}"))
        ))
        .help("`seriatim verify` says whether the output is as it was published")
    }

    fn by_bucket(&self, batch: &RecordBatch) -> Result<Vec<(u32, RecordBatch)>> {
        let mut rows: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        let files = batch.column(2).as_primitive::<UInt32Type>();
        for (row, &file) in (0..).zip(files.values()) {
            rows.entry(bucket_of(file, self.published.files.len())).or_default().push(row);
        }
        rows.into_iter().map(|(bucket, rows)| Ok((bucket, pick(batch, rows)?))).collect()
    }
}
