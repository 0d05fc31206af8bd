//! The rows of one table from one chunk: ID, key, references, columns. Of a chunk whose rows are all records, only the
//! values that rows need are read. Must never touch a file of the output.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray, UInt32Array, UInt64Array,
};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use seriatim_pipeline::model::{Id, OnConflict};

use crate::context::RunContext;
use crate::error::{IngestError, Result};
use crate::keys::NO_KEY;
use crate::number::{Ids, Reserved, id_of, out_of_range};
use crate::pages::{Fault, gather, gather_indices};
use crate::scan::{ChunkScan, Part};
use crate::source::{SourceColumn, contain};

/// Which of a chunk's records make rows of a table, and with which places in its sequence.
pub(super) struct Chosen {
    pub(super) table: u32,
    /// The records; `None` for all.
    records: Option<Vec<u32>>,
    places: Places,
}

enum Places {
    Range(Range<u64>),
    List(Vec<u64>),
}

impl Chosen {
    pub(super) fn len(&self) -> usize {
        match &self.places {
            Places::Range(range) => (range.end - range.start) as usize,
            Places::List(list) => list.len(),
        }
    }

    /// Whether every record makes a row.
    pub(super) fn is_all(&self) -> bool {
        self.records.is_none()
    }

    /// The place of the first row; the others follow it. Only where all records make rows.
    pub(super) fn first(&self) -> u64 {
        match &self.places {
            Places::Range(range) => range.start,
            Places::List(list) => list.first().copied().unwrap_or_default(),
        }
    }
}

/// Chooses the records of a chunk that make rows of a table.
pub(super) fn choose(run: &RunContext, reserved: &Reserved, table: u32, chunk: u32) -> Result<Chosen> {
    let layout = run.table(table);
    let block = &reserved.tables[table as usize];
    let numbering = run.numbering(table, block)?;
    let places = Places::Range(numbering.chunk(chunk));
    if !layout.is_keyed() {
        return Ok(Chosen { table, records: None, places });
    }
    let positions = run.first_position(chunk)..run.first_position(chunk + 1);
    let base = positions.start;
    if layout.on_conflict != OnConflict::Last {
        let records = numbering.firsts(positions).map(|position| position - base).collect();
        return Ok(Chosen { table, records: Some(records), places });
    }
    let mut rows: Vec<(u64, u32)> = Vec::new();
    for shard in 0..run.plan.shards {
        let resolution = run.resolution(table, shard, &block.segments)?;
        let last = &resolution.last;
        let from = last.partition_point(|&(last, _)| last < positions.start);
        let here = last[from..].iter().take_while(|&&(last, _)| last < positions.end);
        rows.extend(here.map(|&(last, first)| (numbering.place(first), last - base)));
    }
    rows.sort_unstable();
    let records = rows.iter().map(|(_, record)| *record).collect();
    let places = Places::List(rows.into_iter().map(|(place, _)| place).collect());
    Ok(Chosen { table, records: Some(records), places })
}

/// The record columns that a table's rows hold.
fn row_columns(run: &RunContext, table: u32) -> impl Iterator<Item = &String> {
    let layout = run.table(table);
    layout.key.iter().chain(&layout.columns)
}

/// Builds the rows of the chosen tables of a chunk, and gives them to `write`.
pub(super) fn build(
    run: &RunContext,
    chunk: u32,
    scan: &ChunkScan,
    chosen: &[Chosen],
    ids: &BTreeMap<usize, Ids<'_>>,
    mut write: impl FnMut(u32, &RecordBatch) -> Result<()>,
) -> Result<()> {
    // Rows that pages give are written before those of the next table are read: they need room.
    let mut later = Vec::new();
    let mut missing: Vec<String> = Vec::new();
    for rows in chosen {
        let columns = gather_columns(run, chunk, scan, rows)?;
        let names = row_columns(run, rows.table).zip(&columns);
        let absent: Vec<&String> = names.filter(|(_, column)| column.is_none()).map(|(name, _)| name).collect();
        if absent.is_empty() {
            let references = references(run, chunk, scan, rows, ids)?;
            let values = columns.into_iter().flatten().collect();
            write(rows.table, &assemble(run, rows, values, references)?)?;
            continue;
        }
        for name in absent {
            if !missing.contains(name) {
                missing.push(name.clone());
            }
        }
        later.push((rows, columns));
    }
    if later.is_empty() {
        return Ok(());
    }
    let records = run.read(chunk, &missing)?.without(&scan.quarantine)?.batch;
    for (rows, columns) in later {
        let picker = rows.records.as_ref().map(|records| UInt32Array::from(records.clone()));
        let mut values = Vec::with_capacity(columns.len());
        for (name, column) in row_columns(run, rows.table).zip(columns) {
            if let Some(column) = column {
                values.push(column);
                continue;
            }
            let column = records.column_by_name(name);
            let column = column.ok_or_else(|| IngestError::internal(format!("column '{name}' was not read")))?;
            values.push(match &picker {
                None => column.clone(),
                Some(records) => take(column, records, None).map_err(|e| IngestError::internal(e.to_string()))?,
            });
        }
        let references = references(run, chunk, scan, rows, ids)?;
        write(rows.table, &assemble(run, rows, values, references)?)?;
    }
    Ok(())
}

/// The IDs that rows refer to, table by table.
fn references(
    run: &RunContext,
    chunk: u32,
    scan: &ChunkScan,
    rows: &Chosen,
    ids: &BTreeMap<usize, Ids<'_>>,
) -> Result<Vec<Int64Array>> {
    let mut references = Vec::new();
    for &target in &run.table(rows.table).references {
        let ids = ids.get(&target).ok_or_else(|| IngestError::internal("the IDs of a reference are missing"))?;
        references.push(ids.array(&handles(run, chunk, scan, target, rows.records.as_deref())?));
    }
    Ok(references)
}

fn assemble(
    run: &RunContext,
    rows: &Chosen,
    values: Vec<ArrayRef>,
    references: Vec<Int64Array>,
) -> Result<RecordBatch> {
    let layout = run.table(rows.table);
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(layout.schema.fields().len());
    if let Some(id) = &layout.id {
        let ids = match &rows.places {
            Places::Range(places) => ids_in(id, places.clone())?,
            Places::List(places) => ids_at(id, places)?,
        };
        columns.push(Arc::new(Int64Array::from(ids)));
    }
    let mut values = values.into_iter();
    columns.extend(values.by_ref().take(layout.key.len()));
    columns.extend(references.into_iter().map(|ids| Arc::new(ids) as ArrayRef));
    columns.extend(values);
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(layout.schema.clone(), columns, &options)
        .map_err(|e| IngestError::internal(format!("table '{}': {e}", layout.name)))
}

/// The IDs at these places.
fn ids_at(id: &Id, places: &[u64]) -> Result<Vec<i64>> {
    let ids: Option<Vec<i64>> = places.iter().map(|&place| id_of(id, place)).collect();
    ids.ok_or_else(|| out_of_range(id))
}

/// The same of places that follow each other.
pub(super) fn ids_in(id: &Id, places: Range<u64>) -> Result<Vec<i64>> {
    let Some(last) = places.end.checked_sub(1).filter(|_| !places.is_empty()) else { return Ok(Vec::new()) };
    let (first, _) = id_of(id, places.start).zip(id_of(id, last)).ok_or_else(|| out_of_range(id))?;
    // Both ends are in range, so every ID between them is.
    Ok((0..places.end - places.start).map(|n| first.wrapping_add(id.step.wrapping_mul(n as i64))).collect())
}

/// For each column of a table's rows the values, from pages; `None` where pages do not give them.
fn gather_columns(run: &RunContext, chunk: u32, scan: &ChunkScan, rows: &Chosen) -> Result<Vec<Option<ArrayRef>>> {
    let whole = run.pages_allowed(chunk) && scan.records == run.plan.chunks[chunk as usize].rows;
    let records = rows.records.as_deref().filter(|records| whole && records.is_sorted());
    let Some(records) = records else { return Ok(row_columns(run, rows.table).map(|_| None).collect()) };
    let gather = |name: &String| -> Result<Option<ArrayRef>> {
        match run.source_column(chunk, name)?.filter(SourceColumn::is_readable) {
            Some(column) => gather_column(run, chunk, &column, records),
            None => Ok(None),
        }
    };
    row_columns(run, rows.table).map(gather).collect()
}

fn gather_column(run: &RunContext, chunk: u32, column: &SourceColumn, records: &[u32]) -> Result<Option<ArrayRef>> {
    let mut parts: Vec<ArrayRef> = Vec::new();
    let (mut rest, mut base) = (records, 0);
    for group in 0..column.groups() {
        let end = base + column.group_rows(group);
        let (here, later) = rest.split_at(rest.partition_point(|&record| record < end));
        rest = later;
        if !here.is_empty() {
            let rows: Vec<u32> = here.iter().map(|record| record - base).collect();
            match contain(|| Ok(column.read(group).and_then(|bytes| gather(&bytes, &rows, column.data_type())))) {
                Ok(Ok(array)) => parts.push(array),
                Ok(Err(Fault::Unsupported)) => return Ok(None),
                Ok(Err(Fault::Damaged(text))) | Err(text) => return Err(run.damaged(chunk, &text)),
            }
        }
        base = end;
    }
    match parts.as_slice() {
        [only] => Ok(Some(only.clone())),
        [] => Ok(Some(arrow::array::new_empty_array(column.data_type()))),
        several => {
            let several: Vec<&dyn Array> = several.iter().map(AsRef::as_ref).collect();
            concat(&several).map(Some).map_err(|e| IngestError::internal(e.to_string()))
        }
    }
}

/// The handles of the keys that a chunk's records have in a table; of these records, or of all.
fn handles(run: &RunContext, chunk: u32, scan: &ChunkScan, table: usize, records: Option<&[u32]>) -> Result<Vec<u32>> {
    let all: Vec<u32>;
    let records = if let Some(records) = records {
        records
    } else {
        all = (0..scan.records).collect();
        &all
    };
    let mut found = vec![NO_KEY; records.len()];
    // Where the last record of a thing counts, records are in no order.
    let mut order: Vec<u32> = (0..records.len() as u32).collect();
    if !records.is_sorted() {
        order.sort_by_key(|&at| records[at as usize]);
    }
    let (mut rest, mut base) = (order.as_slice(), 0);
    for (group, part) in scan.tables[table].parts.iter().enumerate() {
        let end = base
            + match part {
                Part::Rows(handles) => handles.len() as u32,
                Part::Dictionary { rows, .. } => *rows,
            };
        let (here, later) = rest.split_at(rest.partition_point(|&at| records[at as usize] < end));
        rest = later;
        let rows = here.iter().map(|&at| records[at as usize] - base);
        let picked: Vec<u32> = match part {
            Part::Rows(handles) => rows.map(|row| handles[row as usize]).collect(),
            Part::Dictionary { handles, .. } => {
                let rows: Vec<u32> = rows.collect();
                let entries = key_indices(run, chunk, table, group, &rows, handles.len())?;
                entries.iter().map(|&entry| handles.get(entry as usize).copied().unwrap_or(NO_KEY)).collect()
            }
        };
        for (&at, handle) in here.iter().zip(picked) {
            found[at as usize] = handle;
        }
        base = end;
    }
    Ok(found)
}

fn key_indices(
    run: &RunContext,
    chunk: u32,
    table: usize,
    group: usize,
    rows: &[u32],
    entries: usize,
) -> Result<Vec<u32>> {
    let [key] = run.layout.tables[table].key.as_slice() else {
        return Err(IngestError::internal("a key of several columns was read from pages"));
    };
    let column = run.source_column(chunk, key)?;
    let column = column.ok_or_else(|| IngestError::internal("a key's pages are of no source column"))?;
    match contain(|| Ok(column.read(group).and_then(|bytes| gather_indices(&bytes, rows, entries)))) {
        Ok(Ok(indices)) => Ok(indices),
        Ok(Err(Fault::Unsupported)) => Err(IngestError::internal("pages that were scanned cannot be read")),
        Ok(Err(Fault::Damaged(text))) | Err(text) => Err(run.damaged(chunk, &text)),
    }
}

/// The columns of a quarantined record: why and where from, then what the source says, in the order of names.
pub(super) fn quarantine_schema(run: &RunContext) -> SchemaRef {
    let mut fields = vec![
        Field::new("_reason", DataType::Utf8, false),
        Field::new("_table", DataType::Utf8, false),
        Field::new("_file", DataType::Utf8, false),
        Field::new("_row", DataType::UInt64, false),
        Field::new("_run", DataType::UInt64, false),
    ];
    let source = run.records.source_schema();
    fields.extend(run.plan.source_columns.iter().filter_map(|name| source.field_with_name(name).ok().cloned()));
    Arc::new(Schema::new(fields))
}

/// The quarantined records of a chunk.
pub(super) fn quarantine_rows(run: &RunContext, number: u64, chunk: u32) -> Result<RecordBatch> {
    let scan = run.scan(chunk)?;
    let source = run.read_source(chunk)?;
    let place = &run.plan.chunks[chunk as usize];
    let rows: UInt32Array = scan.quarantine.iter().map(|(row, _)| Some(*row)).collect();
    let tables: Vec<&str> = scan.quarantine.iter().map(|(_, table)| run.table(*table).name.as_str()).collect();
    let reasons: Vec<String> = scan
        .quarantine
        .iter()
        .map(|(_, table)| {
            format!("the key of table '{}' ({}) is null", run.table(*table).name, run.table(*table).key.join(", "))
        })
        .collect();
    let count = rows.len();
    let file = run.plan.files[place.file as usize].name.as_str();
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(reasons)),
        Arc::new(StringArray::from(tables)),
        Arc::new(StringArray::from(vec![file; count])),
        Arc::new(UInt64Array::from_iter_values(rows.values().iter().map(|&row| place.first_row + u64::from(row)))),
        Arc::new(UInt64Array::from(vec![number; count])),
    ];
    for column in source.columns() {
        columns.push(take(column, &rows, None).map_err(|e| IngestError::internal(e.to_string()))?);
    }
    RecordBatch::try_new(quarantine_schema(run), columns).map_err(|e| IngestError::internal(e.to_string()))
}
