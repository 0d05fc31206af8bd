//! The rows of a table without key where every row of a chunk is one: source columns go into the output as the column
//! chunks that they are, references as the key's indices into another dictionary. Only what cannot be had so is encoded.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use parquet::file::statistics::Statistics;
use seriatim_pipeline::model::Id;

use super::rows::ids_in;
use super::sink::{GroupColumn, Sink};
use crate::context::RunContext;
use crate::error::{IngestError, Result};
use crate::in_group::InGroup;
use crate::number::{Ids, Reserved};
use crate::pages::{Fault, IdValues, copied, exchanged, is_copyable};
use crate::plan::Paths;
use crate::scan::{ChunkScan, LocalTable, Part};
use crate::source::{SourceColumn, contain};
use crate::text_ids::TextIds;

/// Rows that a row group must have to be worth copying, on average: readers like large ones.
const COPY_ROWS: u32 = 16_384;

/// Whether the rows of a chunk can be written as copies.
pub(super) fn is_possible(run: &RunContext, chunk: u32, scan: &ChunkScan) -> bool {
    let place = &run.plan.chunks[chunk as usize];
    let worth = place.rows / place.groups.max(1) >= COPY_ROWS || run.plan.paths == Paths::Pages;
    worth && run.pages_allowed(chunk) && scan.records == place.rows && !run.plan.pipeline.output.recompress
}

/// Where the values of a column come from.
enum Origin<'a> {
    /// The places of the rows, as IDs.
    Own(&'a Id),
    /// The numbers of these rows within their groups.
    Number(Arc<InGroup>),
    /// The texts of these IDs, or of these numbers.
    Text(&'a Id, &'a TextIds, Option<Arc<InGroup>>),
    /// The IDs of another table's keys.
    Reference { ids: &'a Ids<'a>, keys: &'a LocalTable, column: Option<SourceColumn> },
    /// A column of the source that may be copied.
    Source(String, SourceColumn),
    /// A column of the records.
    Records(String),
}

/// Writes all rows of a chunk to the file of a table without key; the first row is at `first` in its sequence.
pub(super) fn write_copies(
    run: &RunContext,
    reserved: &Reserved,
    sink: &mut Sink,
    (table, chunk): (u32, u32),
    first: u64,
    scan: &ChunkScan,
    ids: &BTreeMap<usize, Ids<'_>>,
) -> Result<()> {
    let numbers = if run.table(table).group.is_some() { Some(run.in_group(table, reserved)?) } else { None };
    let origins = origins(run, sink, (table, chunk), scan, ids, numbers)?;
    let mut read = Reader { run, chunk, columns: record_columns(&origins), batch: None };
    let place = &run.plan.chunks[chunk as usize];
    let mut row = 0;
    for (group, rows) in (0..).zip(run.group_rows(chunk)?) {
        let mut columns = Vec::with_capacity(origins.len());
        for (field, origin) in origins.iter().enumerate() {
            let position = Position { field, group, row, rows };
            columns.push(column(run, sink, &mut read, origin, &position, first)?);
        }
        sink.write_group(rows, columns)?;
        row += rows;
    }
    if row != place.rows {
        return Err(IngestError::internal("row groups have other sizes than when they were planned"));
    }
    Ok(())
}

fn origins<'a>(
    run: &'a RunContext,
    sink: &Sink,
    (table, chunk): (u32, u32),
    scan: &'a ChunkScan,
    ids: &'a BTreeMap<usize, Ids<'a>>,
    numbers: Option<Arc<InGroup>>,
) -> Result<Vec<Origin<'a>>> {
    let layout = run.table(table);
    let mut origins = Vec::with_capacity(layout.schema.fields().len());
    origins.extend(layout.id.as_ref().map(Origin::Own));
    origins.extend(numbers.clone().map(Origin::Number));
    let texts = layout.id.as_ref().zip(layout.texts.as_ref());
    origins.extend(texts.map(|(id, texts)| Origin::Text(id, texts, numbers)));
    for &target in &layout.references {
        let ids = ids.get(&target).ok_or_else(|| IngestError::internal("the IDs of a reference are missing"))?;
        let column = match run.layout.tables[target].key.as_slice() {
            [key] => run.source_column(chunk, key)?,
            _ => None,
        };
        origins.push(Origin::Reference { ids, keys: &scan.tables[target], column });
    }
    for name in &layout.columns {
        let target = sink.column(origins.len());
        let source = run.source_column(chunk, name)?;
        let copyable = |source: &SourceColumn| target.is_some_and(|target| is_copyable(source.descriptor(), &target));
        origins.push(match source {
            Some(source) if copyable(&source) => Origin::Source(name.clone(), source),
            _ => Origin::Records(name.clone()),
        });
    }
    Ok(origins)
}

/// The columns of the records that have to be encoded, whatever the pages are like.
fn record_columns(origins: &[Origin<'_>]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for origin in origins {
        let needed = match origin {
            Origin::Records(name) => std::slice::from_ref(name),
            Origin::Text(_, texts, _) => texts.columns(),
            Origin::Own(_) | Origin::Number(_) | Origin::Reference { .. } | Origin::Source(..) => &[],
        };
        for name in needed.iter().filter(|name| !names.contains(name)).cloned().collect::<Vec<_>>() {
            names.push(name);
        }
    }
    names
}

/// A column of a row group of the output.
struct Position {
    field: usize,
    group: usize,
    /// The group's first row in the chunk.
    row: u32,
    rows: u32,
}

fn column(
    run: &RunContext,
    sink: &Sink,
    read: &mut Reader<'_>,
    origin: &Origin<'_>,
    at: &Position,
    first: u64,
) -> Result<GroupColumn> {
    let range = at.row as usize..(at.row + at.rows) as usize;
    match origin {
        Origin::Own(id) => {
            let places = first + range.start as u64..first + range.end as u64;
            sink.encoded(at.field, &IdValues { ids: ids_in(id, places)?, present: None })
        }
        Origin::Number(numbers) => {
            let ids = numbers.at(first + range.start as u64..first + range.end as u64);
            sink.encoded(at.field, &IdValues { ids, present: None })
        }
        Origin::Text(id, texts, numbers) => {
            let places = first + range.start as u64..first + range.end as u64;
            let ids = match numbers {
                Some(numbers) => numbers.at(places),
                None => ids_in(id, places)?,
            };
            let values = texts.columns().iter().map(|name| read.column(name, at)).collect::<Result<Vec<_>>>()?;
            Ok(GroupColumn::Values(Arc::new(texts.of(&ids, &values)?)))
        }
        Origin::Reference { ids, keys, column } => match part(keys, at.group, range) {
            PartOf::Rows(handles) => sink.encoded(at.field, &ids.values(handles)),
            PartOf::Dictionary { nulls, handles } => {
                let column =
                    column.as_ref().ok_or_else(|| IngestError::internal("a key's pages are of no source column"))?;
                let target = sink.column(at.field).ok_or_else(|| IngestError::internal("a reference is nested"))?;
                let ids = ids.optional(handles);
                let statistics = statistics(&ids, nulls);
                let entries: Vec<i64> = ids.into_iter().map(Option::unwrap_or_default).collect();
                let made = || exchanged(&column.read(at.group)?, &target, &entries, statistics);
                let damaged = |text: &str| run.damaged(read.chunk, at.group, column.name(), text);
                Ok(GroupColumn::Chunk(Box::new(read_pages(damaged, made)?)))
            }
        },
        Origin::Source(name, source) => {
            let target = sink.column(at.field).ok_or_else(|| IngestError::internal("a copied column is nested"))?;
            match contain(|| Ok(source.read(at.group).and_then(|bytes| copied(&bytes, &target)))) {
                Ok(Ok(chunk)) => Ok(GroupColumn::Chunk(Box::new(chunk))),
                Ok(Err(Fault::Unsupported)) => Ok(GroupColumn::Values(read.column(name, at)?)),
                Ok(Err(Fault::Unread(error))) => Err(*error),
                Ok(Err(Fault::Damaged(text))) | Err(text) => {
                    Err(run.damaged(read.chunk, at.group, source.name(), &text))
                }
            }
        }
        Origin::Records(name) => Ok(GroupColumn::Values(read.column(name, at)?)),
    }
}

/// Works on pages that the scan has read, so that they are of a known kind.
fn read_pages<T>(
    damaged: impl FnOnce(&str) -> IngestError,
    work: impl FnOnce() -> std::result::Result<T, Fault>,
) -> Result<T> {
    match contain(|| Ok(work())).unwrap_or_else(|text| Err(Fault::Damaged(text))) {
        Ok(made) => Ok(made),
        Err(Fault::Unsupported) => Err(IngestError::internal("pages that were scanned cannot be read")),
        Err(Fault::Unread(error)) => Err(*error),
        Err(Fault::Damaged(text)) => Err(damaged(&text)),
    }
}

fn statistics(ids: &[Option<i64>], nulls: u32) -> Statistics {
    let used = ids.iter().flatten();
    Statistics::new(used.clone().min().copied(), used.max().copied(), None, Some(nulls.into()), false)
}

/// The keys of a row group's rows.
enum PartOf<'a> {
    Rows(&'a [u32]),
    Dictionary { nulls: u32, handles: &'a [u32] },
}

fn part(keys: &LocalTable, group: usize, range: std::ops::Range<usize>) -> PartOf<'_> {
    match keys.parts.as_slice() {
        // The chunk was scanned record by record, and every row is a record.
        [Part::Rows(handles)] => PartOf::Rows(&handles[range]),
        parts => match &parts[group] {
            Part::Rows(handles) => PartOf::Rows(handles),
            Part::Dictionary { nulls, handles, .. } => PartOf::Dictionary { nulls: *nulls, handles },
        },
    }
}

/// Reads the columns that have to be encoded, once for a chunk, and only if there are any.
struct Reader<'a> {
    run: &'a RunContext,
    chunk: u32,
    columns: Vec<String>,
    batch: Option<RecordBatch>,
}

impl Reader<'_> {
    fn column(&mut self, name: &str, at: &Position) -> Result<ArrayRef> {
        let missing = self.batch.as_ref().is_none_or(|batch| batch.column_by_name(name).is_none());
        if missing {
            if !self.columns.iter().any(|c| c == name) {
                self.columns.push(name.to_owned());
            }
            self.batch = Some(self.run.read(self.chunk, &self.columns)?.batch);
        }
        let column = self.batch.as_ref().and_then(|batch| batch.column_by_name(name));
        let column = column.ok_or_else(|| IngestError::internal(format!("column '{name}' was not read")))?;
        debug_assert!(column.len() >= (at.row + at.rows) as usize);
        Ok(column.slice(at.row as usize, at.rows as usize))
    }
}
