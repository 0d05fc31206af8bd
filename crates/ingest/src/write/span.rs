//! Writing one span: each of its chunks is read once, and its rows go to every table that has some.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};

use super::known::keep_known;
use super::partitioned::keep_buckets;
use super::piece::{Piece, PieceOf};
use super::quarantine::{quarantine_rows, quarantine_schema};
use super::rows::{Chosen, Destination, build, choose, fetch};
use super::sink::{OWN_GROUP, Sink, id_columns, properties};
use super::{FileOf, Group, Staged, copy, finish, groups, is_partitioned, is_reordered, quarantine_index, staged_path};
use crate::context::RunContext;
use crate::error::{IngestError, Result};
use crate::layout::TableLayout;
use crate::ledger::draft_ledger;
use crate::number::{Ids, Reserved};
use crate::partition::file_schema;
use crate::plan::Paths;

/// What writing a span left.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct SpanOutcome {
    /// Files that are whole.
    pub(crate) staged: Vec<Staged>,
    /// Files that the span left a piece for.
    pub(crate) pieces: BTreeSet<Shared>,
}

/// A file that several spans have rows of; the order is that in which such files are assembled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Shared {
    /// Large ones first, so that no worker is left alone with one.
    pub(crate) rows: std::cmp::Reverse<u64>,
    pub(crate) table: u32,
    /// The file's place among those of its table.
    pub(crate) group: u32,
}

/// Where a span's rows of one table go.
struct Target {
    table: u32,
    /// The table's groups; only those that take rows of this span matter.
    groups: Vec<Group>,
    place: Place,
}

enum Place {
    Nowhere,
    File(Box<Sink>),
    Piece(Vec<RecordBatch>),
    /// Rows that are written when the file is assembled.
    Later,
}

impl Target {
    /// The group of this span, if its file is written here and now.
    fn direct(&self, span: u32) -> Option<u32> {
        let index = self.groups.iter().position(|g| g.from <= span && span < g.to)?;
        (!self.groups[index].assembled).then_some(index as u32)
    }

    /// The file that the rows go to directly, if they do.
    fn file(&mut self, run: &RunContext, reserved: &Reserved, span: u32) -> Result<Option<&mut Sink>> {
        if let Place::Nowhere = self.place {
            self.place = match self.direct(span) {
                Some(group) => {
                    let file = FileOf::plain(self.table, group);
                    Place::File(Box::new(open_file(run, reserved, file)?))
                }
                None if is_partitioned(run, self.table) => Place::Piece(Vec::new()),
                None if self.table < quarantine_index(run) && !run.table(self.table).is_keyed() => Place::Later,
                None => Place::Piece(Vec::new()),
            };
        }
        Ok(match &mut self.place {
            Place::File(sink) => Some(sink),
            Place::Nowhere | Place::Piece(_) | Place::Later => None,
        })
    }

    fn write(&mut self, run: &RunContext, reserved: &Reserved, span: u32, batch: &RecordBatch) -> Result<()> {
        if let Some(sink) = self.file(run, reserved, span)? {
            return sink.write(batch);
        }
        if let Place::Piece(batches) = &mut self.place {
            batches.push(batch.clone());
        }
        Ok(())
    }
}

/// The schema of a table's files.
pub(super) fn schema(run: &RunContext, table: u32) -> arrow::datatypes::SchemaRef {
    if table == quarantine_index(run) { quarantine_schema(run) } else { run.table(table).schema.clone() }
}

/// Begins a file that will be published.
pub(super) fn open_file(run: &RunContext, reserved: &Reserved, file: FileOf<'_>) -> Result<Sink> {
    open_at(run, file.table, staged_path(run, reserved, file)?)
}

/// The same at this path.
pub(super) fn open_at(run: &RunContext, table: u32, path: PathBuf) -> Result<Sink> {
    let mut schema = schema(run, table);
    let ids = if table == quarantine_index(run) { Vec::new() } else { id_columns(run.table(table)) };
    let names: Vec<&str> = ids.iter().map(String::as_str).collect();
    let unique = if table == quarantine_index(run) { Vec::new() } else { unique_columns(run.table(table)) };
    let properties = properties(run.plan.pipeline.output.compression, &names, &unique)?;
    let own_group = if run.plan.paths == Paths::Pages { 1 } else { OWN_GROUP };
    if is_partitioned(run, table) {
        schema = file_schema(&schema, &run.table(table).partition_by);
    }
    Sink::create(path, schema, &ids, properties, own_group)
}

/// The columns in which no value is twice, beside the ID: its text, and a key that is one column.
fn unique_columns(table: &TableLayout) -> Vec<&str> {
    let text = table.id.as_ref().and_then(|id| id.text.as_ref()).map(|text| text.column.as_str());
    let key = if let [key] = table.key_fields() { Some(key.name().as_str()) } else { None };
    text.into_iter().chain(key).collect()
}

/// Writes a span's rows.
pub(crate) fn write_span(run: &RunContext, reserved: &Reserved, span: u32) -> Result<SpanOutcome> {
    let _one = run.lock_span(span);
    if span == 0 {
        draft_ledger(run, reserved)?;
    }
    let mut targets = Vec::new();
    for table in 0..=quarantine_index(run) {
        targets.push(Target { table, groups: groups(run, reserved, table)?, place: Place::Nowhere });
    }
    let ids = all_referenced_ids(run, reserved, run.part_of_span(span))?;
    for chunk in run.span_chunks(span) {
        write_chunk(run, reserved, span, chunk, &mut targets, &ids)?;
        run.progress.written.fetch_add(run.plan.chunks[chunk as usize].rows.into(), Relaxed);
    }
    keep_known(run, reserved, span, &ids)?;
    let mut outcome = SpanOutcome::default();
    for target in targets {
        let direct = target.direct(span);
        match (target.place, direct) {
            (Place::Nowhere, _) => {}
            (Place::File(sink), group) => {
                let group = group.ok_or_else(|| IngestError::internal("a file belongs to no group"))?;
                let first = first_place(run, reserved, target.table, span)?;
                let file = FileOf::plain(target.table, group);
                outcome.staged.push(finish(run, reserved, file, first, *sink)?);
            }
            (place @ (Place::Piece(_) | Place::Later), _) => {
                match place {
                    Place::Piece(batches) if is_partitioned(run, target.table) => {
                        keep_buckets(run, target.table, span, target.groups.len() as u32, &batches)?;
                    }
                    Place::Piece(batches) => {
                        run.keep_piece(
                            PieceOf { table: target.table, span, bucket: None, is_known: false },
                            Piece(batches),
                        )?;
                    }
                    _ => {}
                }
                // Rows of a reordered table may belong to any group up to this span's.
                let reordered = is_reordered(run, target.table);
                let takes = |g: &Group| g.from <= span && (reordered || span < g.to);
                let groups = (0..).zip(&target.groups).filter(|(_, group)| takes(group));
                outcome.pieces.extend(groups.map(|(index, group)| Shared {
                    rows: std::cmp::Reverse(group.rows),
                    table: target.table,
                    group: index,
                }));
            }
        }
    }
    Ok(outcome)
}

/// The place in its sequence of a table's first row in a span.
pub(super) fn first_place(run: &RunContext, reserved: &Reserved, table: u32, span: u32) -> Result<u64> {
    if table == quarantine_index(run) {
        return Ok(0);
    }
    let chunk = run.span_chunks(span).start;
    Ok(run.numbering(table, &reserved.tables[table as usize])?.chunk(chunk).start)
}

/// The IDs of every table that some tables refer to, of the keys in a part of the run.
pub(super) fn all_referenced_ids<'a>(
    run: &'a RunContext,
    reserved: &Reserved,
    part: u32,
) -> Result<BTreeMap<usize, Ids<'a>>> {
    let mut ids = BTreeMap::new();
    for table in 0..quarantine_index(run) {
        ids.extend(referenced_ids(run, reserved, table, part)?);
    }
    Ok(ids)
}

/// The IDs of every table that a table refers to, of the keys in a part of the run.
pub(super) fn referenced_ids<'a>(
    run: &'a RunContext,
    reserved: &Reserved,
    table: u32,
    part: u32,
) -> Result<BTreeMap<usize, Ids<'a>>> {
    let mut ids = BTreeMap::new();
    for &target in &run.table(table).references {
        if let Entry::Vacant(vacant) = ids.entry(target) {
            vacant.insert(Ids::new(run, target as u32, part, &reserved.tables[target])?);
        }
    }
    Ok(ids)
}

fn write_chunk(
    run: &RunContext,
    reserved: &Reserved,
    span: u32,
    chunk: u32,
    targets: &mut [Target],
    ids: &BTreeMap<usize, Ids<'_>>,
) -> Result<()> {
    let found = run.scan(chunk)?;
    fetch(run, reserved, chunk)?;
    let copies = copy::is_possible(run, chunk, &found);
    let mut chosen: Vec<Chosen> = Vec::new();
    for table in 0..quarantine_index(run) {
        let rows = choose(run, reserved, table, chunk)?;
        if rows.len() == 0 {
            continue;
        }
        if !rows.is_all() || is_partitioned(run, table) {
            chosen.push(rows);
        } else if let Some(sink) = targets[table as usize].file(run, reserved, span)? {
            if copies && run.table(table).list.is_none() {
                copy::write_copies(run, reserved, sink, (table, chunk), rows.first(), &found, ids)?;
            } else {
                chosen.push(rows);
            }
        }
    }
    build(run, reserved, chunk, &found, &chosen, ids, &mut OfSpan { run, reserved, span, targets })?;
    if !found.quarantine.is_empty() {
        let batch = quarantine_rows(run, reserved.number, chunk)?;
        targets[quarantine_index(run) as usize].write(run, reserved, span, &batch)?;
    }
    Ok(())
}

/// Writes the rows of a chunk to the file of a table without key.
pub(super) fn write_all_rows(
    run: &RunContext,
    reserved: &Reserved,
    sink: &mut Sink,
    table: u32,
    chunk: u32,
    ids: &BTreeMap<usize, Ids<'_>>,
) -> Result<()> {
    let scan = run.scan(chunk)?;
    let rows = choose(run, reserved, table, chunk)?;
    if rows.len() == 0 {
        return Ok(());
    }
    if run.table(table).list.is_none() && copy::is_possible(run, chunk, &scan) {
        return copy::write_copies(run, reserved, sink, (table, chunk), rows.first(), &scan, ids);
    }
    build(run, reserved, chunk, &scan, &[rows], ids, sink)
}

/// The tables of a span as where rows go.
struct OfSpan<'a> {
    run: &'a RunContext,
    reserved: &'a Reserved,
    span: u32,
    targets: &'a mut [Target],
}

impl Destination for OfSpan<'_> {
    fn file(&mut self, table: u32) -> Result<Option<&mut Sink>> {
        self.targets[table as usize].file(self.run, self.reserved, self.span)
    }

    fn write(&mut self, table: u32, rows: &RecordBatch) -> Result<()> {
        self.targets[table as usize].write(self.run, self.reserved, self.span, rows)
    }
}

impl Destination for Sink {
    fn file(&mut self, _table: u32) -> Result<Option<&mut Sink>> {
        Ok(Some(self))
    }

    fn write(&mut self, _table: u32, rows: &RecordBatch) -> Result<()> {
        self.write(rows)
    }
}
