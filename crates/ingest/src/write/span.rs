//! Writing one span: each of its chunks is read once, and its rows go to every table that has some.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;

use serde::{Deserialize, Serialize};

use super::rows::{Chosen, build, choose, quarantine_rows, quarantine_schema, references, row_columns};
use super::sink::{Sink, id_columns, piece_properties, properties};
use super::{Group, Staged, groups, is_reordered, piece_path, quarantine_index, staged_path};
use crate::context::RunContext;
use crate::error::Result;
use crate::number::Reserved;

/// What writing a span left.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct SpanOutcome {
    /// Files that are whole.
    pub(crate) staged: Vec<Staged>,
    /// Tables and groups that the span left a piece for.
    pub(crate) pieces: BTreeSet<(u32, u32)>,
}

/// Where a span's rows of one table go.
struct Target {
    table: u32,
    /// The table's groups; only those that take rows of this span matter.
    groups: Vec<Group>,
    sink: Option<Sink>,
}

impl Target {
    /// The group of this span, if its file is written here and now.
    fn direct(&self, span: u32) -> Option<u32> {
        let index = self.groups.iter().position(|g| g.from <= span && span < g.to)?;
        (!self.groups[index].assembled).then_some(index as u32)
    }

    fn open(&mut self, run: &RunContext, reserved: &Reserved, span: u32) -> Result<&mut Sink> {
        if self.sink.is_none() {
            self.sink = Some(match self.direct(span) {
                Some(group) => open_file(run, reserved, self.table, group)?,
                None => {
                    Sink::create(piece_path(run, self.table, span), schema(run, self.table), piece_properties(), true)?
                }
            });
        }
        match &mut self.sink {
            Some(sink) => Ok(sink),
            None => Err(crate::error::IngestError::internal("a file was not opened")),
        }
    }
}

/// The schema of a table's files.
pub(super) fn schema(run: &RunContext, table: u32) -> arrow::datatypes::SchemaRef {
    if table == quarantine_index(run) { quarantine_schema(run) } else { run.table(table).schema.clone() }
}

/// Begins a file that will be published.
pub(super) fn open_file(run: &RunContext, reserved: &Reserved, table: u32, group: u32) -> Result<Sink> {
    let schema = schema(run, table);
    let ids = if table == quarantine_index(run) {
        Vec::new()
    } else {
        let layout = run.table(table);
        id_columns(&schema, layout.key.len(), layout.references.len(), layout.id.is_some())
    };
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let properties = properties(run.plan.pipeline.output.compression, &ids)?;
    Sink::create(staged_path(run, reserved, table, group), schema, properties, true)
}

/// Writes a span's rows.
pub(crate) fn write_span(run: &RunContext, reserved: &Reserved, span: u32) -> Result<SpanOutcome> {
    let _one = run.lock_span(span);
    let mut targets = Vec::new();
    for table in 0..=quarantine_index(run) {
        targets.push(Target { table, groups: groups(run, reserved, table)?, sink: None });
    }
    for chunk in run.span_chunks(span) {
        write_chunk(run, reserved, span, chunk, &mut targets)?;
        run.progress.written.fetch_add(run.plan.chunks[chunk as usize].rows.into(), Relaxed);
    }
    let mut outcome = SpanOutcome::default();
    for target in targets {
        let direct = target.direct(span);
        let Some(sink) = target.sink else { continue };
        let finished = sink.finish()?;
        if let Some(group) = direct {
            let first = first_place(run, reserved, target.table, target.groups[group as usize].from)?;
            let (rows, bytes, hash) = (finished.rows, finished.bytes, finished.hash);
            outcome.staged.push(Staged { table: target.table, group, rows, bytes, hash, first });
        } else {
            // Rows of a reordered table may belong to any group up to this span's.
            let reordered = is_reordered(run, target.table);
            let takes = |g: &Group| g.from <= span && (reordered || span < g.to);
            let groups = (0..).zip(&target.groups).filter(|(_, group)| takes(group));
            outcome.pieces.extend(groups.map(|(index, _)| (target.table, index)));
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

fn write_chunk(run: &RunContext, reserved: &Reserved, span: u32, chunk: u32, targets: &mut [Target]) -> Result<()> {
    let keys = run.scan(chunk)?;
    let mut chosen: Vec<(u32, Chosen)> = Vec::new();
    for table in 0..quarantine_index(run) {
        let rows = choose(run, reserved, table, chunk)?;
        if !rows.is_empty() {
            chosen.push((table, rows));
        }
    }
    if !chosen.is_empty() {
        let mut seen = BTreeSet::new();
        let columns: Vec<String> = chosen
            .iter()
            .flat_map(|(table, _)| row_columns(run, *table))
            .filter(|name| seen.insert(name.as_str()))
            .cloned()
            .collect();
        let records = run.read(chunk, &columns)?.without(&keys.quarantine)?;
        let tables: Vec<u32> = chosen.iter().map(|(table, _)| *table).collect();
        let references = references(run, reserved, chunk, &tables)?;
        for (table, rows) in &chosen {
            let batch = build(run, *table, rows, &records.batch, &references)?;
            targets[*table as usize].open(run, reserved, span)?.write(&batch)?;
        }
    }
    if !keys.quarantine.is_empty() {
        let batch = quarantine_rows(run, reserved.number, chunk)?;
        targets[quarantine_index(run) as usize].open(run, reserved, span)?.write(&batch)?;
    }
    Ok(())
}
