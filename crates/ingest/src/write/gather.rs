//! The values that the rows of a table need of a chunk whose rows are all records, from pages: only these are read. Must
//! never decide which rows there are.

use arrow::array::{Array, ArrayRef};
use arrow::compute::concat;
use arrow::datatypes::DataType;

use super::rows::{Chosen, Places, row_columns};
use crate::context::RunContext;
use crate::error::{IngestError, Result};
use crate::keys::NO_KEY;
use crate::number::Reserved;
use crate::pages::{Fault, Picked, Values, gather, gather_indices};
use crate::scan::{ChunkScan, Part};
use crate::source::{SourceColumn, contain};

/// The values of a column in some rows of a chunk, row group by row group.
#[derive(Clone)]
pub(super) struct Gathered {
    pub(super) parts: Vec<Picked>,
    pub(super) data_type: DataType,
}

impl Gathered {
    pub(super) fn into_array(self) -> Result<ArrayRef> {
        let array = |part: Picked| match part.into_array(&self.data_type) {
            Ok(array) => Ok(array),
            // The column is readable, or nothing would have been gathered.
            Err(Fault::Unsupported) => Err(IngestError::internal("gathered values cannot be an array")),
            Err(Fault::Damaged(text)) => Err(IngestError::internal(text)),
            Err(Fault::Unread(error)) => Err(*error),
        };
        let mut arrays = self.parts.into_iter().map(array).collect::<Result<Vec<_>>>()?;
        match arrays.len() {
            0 => Ok(arrow::array::new_empty_array(&self.data_type)),
            1 => Ok(arrays.remove(0)),
            _ => {
                let several: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
                concat(&several).map_err(|e| IngestError::internal(e.to_string()))
            }
        }
    }
}

/// For each column of a table's rows the values, from pages; `None` where pages do not give them.
pub(super) fn gather_columns(
    run: &RunContext,
    reserved: &Reserved,
    chunk: u32,
    scan: &ChunkScan,
    rows: &Chosen,
) -> Result<Vec<Option<Gathered>>> {
    let whole = run.pages_allowed(chunk) && scan.records == run.plan.chunks[chunk as usize].rows;
    let records = rows.records().filter(|records| whole && records.is_sorted());
    let Some(records) = records else { return Ok(row_columns(run, rows.table()).map(|_| None).collect()) };
    let layout = run.table(rows.table());
    let gather = |name: &String| -> Result<Option<Gathered>> {
        let Some(column) = run.source_column(chunk, name)?.filter(SourceColumn::is_readable) else { return Ok(None) };
        if layout.key == [name.as_str()]
            && let Some(keys) = kept_keys(run, reserved, chunk, &column, rows)?
        {
            return Ok(Some(keys));
        }
        gather_column(run, chunk, &column, records)
    };
    row_columns(run, rows.table()).map(gather).collect()
}

/// The key column of new things, if the keys are at hand; it is as it would be if it were gathered from pages, which can
/// be done, too.
fn kept_keys(
    run: &RunContext,
    reserved: &Reserved,
    chunk: u32,
    column: &SourceColumn,
    rows: &Chosen,
) -> Result<Option<Gathered>> {
    let Places::Range(places) = &rows.places else { return Ok(None) };
    if run.plan.chunks[chunk as usize].groups != 1 || !column.is_plain() {
        return Ok(None);
    }
    let Some(keys) = run.new_keys(rows.table(), &reserved.tables[rows.table() as usize])? else { return Ok(None) };
    let values = Values::new(column.descriptor()).and_then(|like| keys.values(places.clone(), &like));
    Ok(values.map(|values| Gathered { parts: vec![Picked::all(values)], data_type: column.data_type().clone() }))
}

fn gather_column(run: &RunContext, chunk: u32, column: &SourceColumn, records: &[u32]) -> Result<Option<Gathered>> {
    let mut parts = Vec::new();
    let (mut rest, mut base) = (records, 0);
    for group in 0..column.groups() {
        let end = base + column.group_rows(group);
        let (here, later) = rest.split_at(rest.partition_point(|&record| record < end));
        rest = later;
        if !here.is_empty() {
            let rows: Vec<u32> = here.iter().map(|record| record - base).collect();
            match contain(|| Ok(column.read(group).and_then(|bytes| gather(&bytes, &rows, column.data_type())))) {
                Ok(Ok(picked)) => parts.push(picked),
                Ok(Err(Fault::Unsupported)) => return Ok(None),
                Ok(Err(Fault::Unread(error))) => return Err(*error),
                Ok(Err(Fault::Damaged(text))) | Err(text) => {
                    return Err(run.damaged(chunk, group, column.name(), &text));
                }
            }
        }
        base = end;
    }
    Ok(Some(Gathered { parts, data_type: column.data_type().clone() }))
}

/// The handles of the keys that a chunk's records, or elements, have in a table; of these records, or of all.
pub(super) fn handles(
    run: &RunContext,
    chunk: u32,
    scan: &ChunkScan,
    table: usize,
    records: Option<&[u32]>,
) -> Result<Vec<u32>> {
    let all: Vec<u32>;
    let records = if let Some(records) = records {
        records
    } else {
        all = (0..scan.count(run.layout.tables[table].list)).collect();
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
        Ok(Err(Fault::Unread(error))) => Err(*error),
        Ok(Err(Fault::Damaged(text))) | Err(text) => Err(run.damaged(chunk, group, column.name(), &text)),
    }
}
