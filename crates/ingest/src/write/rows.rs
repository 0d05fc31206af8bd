//! The rows of one table from one chunk: ID, key, references, columns. Must never touch a file.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray, UInt32Array, UInt64Array,
};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use seriatim_pipeline::model::OnConflict;

use crate::context::RunContext;
use crate::error::{IngestError, Result};
use crate::number::{Reserved, id_of, out_of_range, places, reference_ids};

/// Which of a chunk's records make rows of a table, and with which places in its sequence.
pub(super) struct Chosen {
    /// The records; `None` for all.
    records: Option<UInt32Array>,
    places: Vec<u64>,
}

impl Chosen {
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

/// Chooses the records of a chunk that make rows of a table.
pub(super) fn choose(run: &RunContext, reserved: &Reserved, table: u32, chunk: u32) -> Result<Chosen> {
    let layout = run.table(table);
    let block = &reserved.tables[table as usize];
    let numbering = run.numbering(table, block)?;
    if !layout.is_keyed() {
        return Ok(Chosen { records: None, places: numbering.chunk(chunk).collect() });
    }
    let scan = run.scan(chunk)?;
    let keys = &scan.tables[table as usize];
    if layout.on_conflict != OnConflict::Last {
        let records = numbering.new_keys(chunk).map(|local| keys.first[local as usize]).collect();
        return Ok(Chosen { records: Some(records), places: numbering.chunk(chunk).collect() });
    }
    let mut locals = Vec::new();
    for shard in 0..run.plan.shards {
        let resolution = run.resolution(table, shard, &block.segments)?;
        locals.extend_from_slice(&resolution.last[chunk as usize]);
    }
    let all_places = if locals.is_empty() { Vec::new() } else { places(run, table, chunk, block)? };
    let mut rows: Vec<(u64, u32)> =
        locals.iter().map(|&local| (all_places[local as usize], keys.last[local as usize])).collect();
    rows.sort_unstable();
    let records = rows.iter().map(|(_, record)| *record).collect();
    Ok(Chosen { records: Some(records), places: rows.into_iter().map(|(place, _)| place).collect() })
}

/// The record columns that a table's rows hold.
pub(super) fn row_columns(run: &RunContext, table: u32) -> impl Iterator<Item = &String> {
    let layout = run.table(table);
    layout.key.iter().chain(&layout.columns)
}

/// Builds the rows. `references` has the IDs of each of the chunk's records for each table that is referred to.
pub(super) fn build(
    run: &RunContext,
    table: u32,
    chosen: &Chosen,
    batch: &RecordBatch,
    references: &[Option<Int64Array>],
) -> Result<RecordBatch> {
    let layout = run.table(table);
    let pick = |column: &dyn Array| -> Result<ArrayRef> {
        match &chosen.records {
            None => Ok(arrow::array::make_array(column.to_data())),
            Some(records) => take(column, records, None).map_err(|e| IngestError::internal(e.to_string())),
        }
    };
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(layout.schema.fields().len());
    if let Some(id) = &layout.id {
        let ids: Option<Vec<i64>> = chosen.places.iter().map(|&place| id_of(id, place)).collect();
        columns.push(Arc::new(Int64Array::from(ids.ok_or_else(|| out_of_range(id))?)));
    }
    let column = |name: &String| {
        batch.column_by_name(name).ok_or_else(|| IngestError::internal(format!("column '{name}' was not read")))
    };
    for name in &layout.key {
        columns.push(pick(column(name)?)?);
    }
    for &target in &layout.references {
        let ids = references[target].as_ref();
        columns.push(pick(ids.ok_or_else(|| IngestError::internal("a reference was not computed"))?)?);
    }
    for name in &layout.columns {
        columns.push(pick(column(name)?)?);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(chosen.places.len()));
    RecordBatch::try_new_with_options(layout.schema.clone(), columns, &options)
        .map_err(|e| IngestError::internal(format!("table '{}': {e}", layout.name)))
}

/// For each table that one of `tables` refers to, the IDs of the chunk's records.
pub(super) fn references(
    run: &RunContext,
    reserved: &Reserved,
    chunk: u32,
    tables: &[u32],
) -> Result<Vec<Option<Int64Array>>> {
    let mut ids: Vec<Option<Int64Array>> = run.layout.tables.iter().map(|_| None).collect();
    for &table in tables {
        for &target in &run.table(table).references {
            if ids[target].is_some() {
                continue;
            }
            let id = run.layout.tables[target].id.as_ref();
            let id = id.ok_or_else(|| IngestError::internal("a table that is referred to has IDs"))?;
            let places = places(run, target as u32, chunk, &reserved.tables[target])?;
            let scan = run.scan(chunk)?;
            ids[target] = Some(reference_ids(id, &scan.tables[target].rows, &places)?);
        }
    }
    Ok(ids)
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
