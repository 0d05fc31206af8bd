//! The rows of tables whose rows are elements of lists, from one chunk: the element's own columns, those of what it is in,
//! and references to things around it. A chunk has as many elements as it likes, so rows are made some at a time. Must
//! never touch a file of the output.

use std::collections::BTreeMap;

use arrow::array::{ArrayRef, Int64Array};

use super::gather::handles;
use super::rows::{Chosen, Destination, assemble, row_columns};
use crate::context::RunContext;
use crate::elements::Things;
use crate::error::{IngestError, Result};
use crate::number::{Ids, Reserved};
use crate::scan::ChunkScan;

/// Rows that are made at once: what is carried along from the record takes room in each of its elements.
const AT_ONCE: usize = 1 << 18;

/// Builds the rows of the chosen tables of a chunk, and gives them to where they go.
pub(super) fn build(
    run: &RunContext,
    reserved: &Reserved,
    chunk: u32,
    scan: &ChunkScan,
    chosen: &[&Chosen],
    ids: &BTreeMap<usize, Ids<'_>>,
    to: &mut impl Destination,
) -> Result<()> {
    if chosen.is_empty() {
        return Ok(());
    }
    let mut columns: Vec<String> = Vec::new();
    for rows in chosen {
        for column in run.layout.inputs(run.table(rows.table()).list, row_columns(run, rows.table())) {
            if !columns.iter().any(|known| known == column) {
                columns.push(column.to_owned());
            }
        }
    }
    let records = run.read(chunk, &columns)?.without(&scan.quarantine)?.batch;
    let things = Things::new(&run.layout, records)?;
    for rows in chosen {
        let table = rows.table();
        let list = run.table(table).list;
        if things.count(list)? != scan.count(list) as usize {
            return Err(IngestError::internal("a chunk has other elements than when it was scanned"));
        }
        let others = referenced(run, chunk, scan, &things, rows, ids)?;
        let mut from = 0;
        while from < rows.len() {
            let range = from..rows.len().min(from + AT_ONCE);
            let part = rows.part(range.clone());
            let column = |name: &String| things.column(list, name, part.records());
            let values: Vec<ArrayRef> = row_columns(run, table).map(column).collect::<Result<_>>()?;
            let references: Vec<Int64Array> =
                others.iter().map(|(ids, handles)| ids.array(&handles[range.clone()])).collect();
            to.write(table, &assemble(run, reserved, chunk, &part, values, references)?)?;
            from = range.end;
        }
    }
    Ok(())
}

/// For each table that rows refer to, its IDs and the handle of the key that each row has there: its own, or that of what
/// the element is in.
pub(super) fn referenced<'a>(
    run: &RunContext,
    chunk: u32,
    scan: &ChunkScan,
    things: &Things<'_>,
    rows: &Chosen,
    ids: &'a BTreeMap<usize, Ids<'a>>,
) -> Result<Vec<(&'a Ids<'a>, Vec<u32>)>> {
    let table = run.table(rows.table());
    let mut referenced = Vec::new();
    for &target in &table.references {
        let ids = ids.get(&target).ok_or_else(|| IngestError::internal("the IDs of a reference are missing"))?;
        let around = run.layout.tables[target].list;
        let found = if around == table.list {
            handles(run, chunk, scan, target, rows.records())?
        } else {
            let all = handles(run, chunk, scan, target, None)?;
            let within = things.within(table.list, around, rows.records())?;
            within.into_iter().map(|at| all[at as usize]).collect()
        };
        referenced.push((ids, found));
    }
    Ok(referenced)
}
