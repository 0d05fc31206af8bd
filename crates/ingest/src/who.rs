//! Where a row comes from: from its ID to the published file, the run, the source file, and the record in it. The ledger
//! says which part of the source it is; the record itself is looked up there, as long as the source is what it was. Must
//! never write anything, and never take another record for the one that was ingested.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Int64Type, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::committed::read_committed;
use crate::context::RunContext;
use crate::drift::Known;
use crate::elements::{Kind, Things};
use crate::error::{ErrorKind, IngestError, Result};
use crate::files::scratch;
use crate::layout::TableLayout;
use crate::ledger::{LedgerChunk, read_ledger};
use crate::manifest::{Manifest, ManifestFile, ManifestTable};
use crate::number::ordinal_of;
use crate::output::Output;
use crate::partition::complete;
use crate::plan::{FileMemory, Purpose, make_plan};
use crate::progress::Progress;
use crate::project::Project;
use crate::publish::known;
use crate::record::runs;
use crate::report::WhoReport;
use crate::runner::RunnerOptions;
use crate::settled::settle;
use crate::write::QUARANTINE_COLUMNS;

/// Finds out where the row of a table with this ID comes from.
pub fn who(project: &Project, table: &str, id: i64) -> Result<WhoReport> {
    let output = project.output()?;
    let manifest = output.published()?;
    let index = manifest.table_index(table)?;
    let of = &manifest.tables[index];
    let (file, row) = find_file(&output, of, id)?;
    let batch = read_row(&output, of, file, row)?;
    let mut report = WhoReport {
        table: table.to_owned(),
        id,
        run: file.run,
        run_name: None,
        started: None,
        output_file: file.path.clone(),
        output_row: row,
        values: texts(&batch)?,
        source_file: None,
        source_row: None,
        source_element: None,
        source_rows: None,
        source_values: Vec::new(),
        remark: None,
    };
    let Some(ledger) = read_ledger(project, &output, &manifest, file.run)? else {
        report.remark = Some(format!(
            "the ledger of run {} is neither in the state folder nor beside the output, so the source is not known",
            file.run
        ));
        return Ok(report);
    };
    report.started = runs(&project.state())?.into_iter().find(|run| run.run == ledger.run).map(|run| run.started);
    report.run_name = Some(ledger.run.clone());
    let place = ledger.tables.iter().position(|name| name == table);
    let step = of.id.as_ref().map_or(1, |id| id.step);
    let chunk = ledger.chunks.iter().find_map(|chunk| {
        let (first, count) = chunk.ids.get(place?).copied().flatten()?;
        let nth = u64::try_from((id - first) / step).ok().filter(|nth| *nth < count)?;
        Some((chunk, nth))
    });
    let Some((chunk, nth)) = chunk else {
        return Err(IngestError::state(format!("the ledger of run {} has no '{table}' {id}", file.run))
            .help("`seriatim verify` says whether the output is as it was published"));
    };
    report.source_file = Some(chunk.file.clone());
    report.source_rows = Some((chunk.first_row, chunk.rows.into()));
    // Sources come and go; that one cannot be looked into is no reason to hold back what is known.
    match find_record(project, of, &batch, chunk, nth) {
        Ok(Some(Record { row, element, values })) => {
            (report.source_row, report.source_element, report.source_values) = (Some(row), element, values);
            before_replay(&manifest, file.run, &mut report);
        }
        Ok(None) => {
            report.remark = Some(format!(
                "the record was not found in {}: has the pipeline's transform or the table changed since?",
                chunk.file
            ));
        }
        Err(error) if error.kind == ErrorKind::Input => report.remark = Some(error.message),
        Err(error) => return Err(error),
    }
    Ok(report)
}

/// A record that came from quarantine is told with its place in the source.
fn before_replay(manifest: &Manifest, run: u64, report: &mut WhoReport) {
    if !manifest.runs.iter().any(|of| of.number == run && !of.replayed.is_empty()) {
        return;
    }
    let value =
        |name: &str| report.source_values.iter().find(|(of, _)| of == name).and_then(|(_, value)| value.clone());
    let Some(((file, row), before)) = value("_file").zip(value("_row")).zip(value("_run")) else { return };
    report.remark = Some(format!("run {before} set the record aside, and run {run} took it out of quarantine"));
    report.source_values.retain(|(name, _)| !QUARANTINE_COLUMNS.contains(&name.as_str()));
    (report.source_file, report.source_row, report.source_rows) = (Some(file), row.parse().ok(), None);
}

/// The published file that has the ID, and the row in it.
fn find_file<'m>(output: &Output, table: &'m ManifestTable, id: i64) -> Result<(&'m ManifestFile, u64)> {
    let name = &table.table;
    let Some(of) = &table.id else {
        return Err(IngestError::pipeline(format!("table '{name}' has no ID column"))
            .help("give the table an `id`; IDs are what this looks for"));
    };
    let place = |id| ordinal_of(of, id);
    for file in &table.files {
        let Some((first, last)) = file.ids.and_then(|(first, last)| place(first).zip(place(last))) else { continue };
        let Some(nth) = place(id).filter(|nth| (first..=last).contains(nth)) else { continue };
        if table.partition_by.is_empty() && file.things() == file.rows {
            return Ok((file, nth - first));
        }
        // Other partitions may have it, too, and there may be versions: the files say which.
        if let Some(row) = find_row(output, file, &of.column, id)? {
            return Ok((file, row));
        }
    }
    let ends = table.files.iter().filter_map(|file| file.ids);
    // By their places: a sequence may go down.
    let ends = ends.fold(None, |all: Option<(i64, i64)>, (first, last)| {
        let (before, after) = all.unwrap_or((first, last));
        Some((
            if place(first) < place(before) { first } else { before },
            if place(last) > place(after) { last } else { after },
        ))
    });
    Err(IngestError::input(format!("'{name}' has no row with the {} {id}", of.column)).help(match ends {
        _ if table.adopted.as_ref().is_some_and(|adopted| place(id).is_some_and(|place| place < adopted.places)) => {
            "if there is one, it is of the table that the pipeline has adopted: its row is there".to_owned()
        }
        Some((first, last)) => format!("what is published has {first} to {last}, step {}", of.step),
        None => "no row of this table is published".to_owned(),
    }))
}

fn damaged(output: &Output, file: &ManifestFile, text: &str) -> IngestError {
    IngestError::output(format!("{}: {text}", output.place_of(&file.path)))
        .help("`seriatim verify` says whether the output is as it was published")
}

/// The row of a file that has the ID, if one has.
fn find_row(output: &Output, file: &ManifestFile, column: &str, id: i64) -> Result<Option<u64>> {
    let damaged = |text: String| damaged(output, file, &text);
    let builder =
        ParquetRecordBatchReaderBuilder::try_new(output.open(&file.path)?).map_err(|e| damaged(e.to_string()))?;
    let ids = ProjectionMask::columns(builder.parquet_schema(), [column]);
    let (mut before, mut found) = (0, None);
    for batch in builder.with_projection(ids).build().map_err(|e| damaged(e.to_string()))? {
        let batch = batch.map_err(|e| damaged(e.to_string()))?;
        let ids = batch.column_by_name(column).and_then(|ids| ids.as_primitive_opt::<Int64Type>());
        let ids = ids.ok_or_else(|| damaged(format!("there is no column '{column}' of IDs")))?;
        // Of several versions the last one.
        if let Some(row) = ids.iter().rposition(|value| value == Some(id)) {
            found = Some(before + row as u64);
        } else if found.is_some() {
            break;
        }
        before += ids.len() as u64;
    }
    Ok(found)
}

fn read_row(output: &Output, table: &ManifestTable, file: &ManifestFile, row: u64) -> Result<RecordBatch> {
    let damaged = |text: String| damaged(output, file, &text);
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(output.open(&file.path)?).map_err(|e| damaged(e.to_string()))?;
    let mut reader = reader.with_offset(row as usize).with_limit(1).build().map_err(|e| damaged(e.to_string()))?;
    let batch = reader.next().ok_or_else(|| damaged(format!("there is no row {row}")))?;
    complete(table, file, &batch.map_err(|e| damaged(e.to_string()))?).map_err(damaged)
}

/// Each column of the first row, as text.
fn texts(batch: &RecordBatch) -> Result<Vec<(String, Option<String>)>> {
    let options = FormatOptions::default();
    let text = |(index, column): (usize, &ArrayRef)| {
        let name = batch.schema_ref().field(index).name().clone();
        if column.is_null(0) {
            return Ok((name, None));
        }
        let formatter = ArrayFormatter::try_new(column, &options).and_then(|f| f.value(0).try_to_string());
        formatter.map(|text| (name, Some(text))).map_err(|e| IngestError::internal(e.to_string()))
    };
    batch.columns().iter().enumerate().map(text).collect()
}

/// A record of the source.
struct Record {
    row: u64,
    /// The element that is meant, of a table of elements.
    element: Option<String>,
    values: Vec<(String, Option<String>)>,
}

/// The record that the row is of: of a thing with a key the first one that has the key, else the `nth` of the chunk, if it
/// has the row's values. Its row in the source file, and what stands there. Of a table of elements, the same for these.
fn find_record(
    project: &Project,
    table: &ManifestTable,
    row: &RecordBatch,
    part: &LedgerChunk,
    nth: u64,
) -> Result<Option<Record>> {
    let run = open_source(project, &part.file)?;
    let rows = part.first_row..part.first_row + u64::from(part.rows);
    let (columns, own): (Vec<String>, Vec<String>) = compared(&run, table).into_iter().unzip();
    let kind = kind_of(&run, table);
    let inputs: Vec<String> = run.layout.inputs(kind, &columns).into_iter().map(str::to_owned).collect();
    let mut left = nth;
    for (index, chunk) in (0..).zip(&run.plan.chunks) {
        let begin = chunk.first_row;
        if begin >= rows.end || begin + u64::from(chunk.rows) <= rows.start {
            continue;
        }
        let quarantine: HashSet<u32> = run.scan(index)?.quarantine.iter().map(|(row, _)| *row).collect();
        let records = run.read(index, &inputs)?;
        let source_rows = records.source_rows();
        let things = Things::new(&run.layout, records.batch)?;
        let batch = batch_of(&things, kind, &columns, &own)?;
        let same = same_key(&run, table, row, &batch)?;
        for (thing, record) in things.within(kind, None, None)?.into_iter().enumerate() {
            let at = source_rows[record as usize];
            if !rows.contains(&(begin + u64::from(at))) || quarantine.contains(&at) {
                continue;
            }
            let is_it = match &same {
                Some(same) => same[thing],
                None => left == 0,
            };
            if is_it {
                // The pipeline may have changed since, and its `WHERE` count other records.
                let has_values = same.is_some() || has_values(row, &batch.slice(thing, 1))?;
                let found = || {
                    let element = kind.map(|list| things.place(list, thing as u32)).transpose()?;
                    Ok(Record { row: begin + u64::from(at), element, values: source_values(&run, index, at)? })
                };
                return has_values.then(found).transpose();
            }
            left = left.saturating_sub(1);
        }
    }
    Ok(None)
}

/// Which columns of the records tell the one that is looked for, and what the table calls them: the key's; without one all
/// that the row has, or any, since that there is a record is all that is asked then.
fn compared(run: &RunContext, table: &ManifestTable) -> Vec<(String, String)> {
    let layout = run.layout.tables.iter().find(|layout| layout.name == table.table);
    let columns = layout.into_iter().flat_map(TableLayout::own_columns);
    let mut own: Vec<(String, String)> = columns.map(|(name, field)| (name.clone(), field.name().clone())).collect();
    if table.key.is_empty() {
        let is_kept = |own: &str| table.columns.iter().any(|(role, name, _)| role == "column" && name == own);
        own.retain(|(_, own)| is_kept(own));
    } else {
        own.retain(|(_, own)| table.key.contains(own));
    }
    // Elements are there with their list.
    if !own.is_empty() || layout.is_some_and(|layout| layout.list.is_some()) {
        return own;
    }
    run.layout.used_columns().into_iter().take(1).map(|name| (name.to_owned(), name.to_owned())).collect()
}

/// Whose rows a table has, in the pipeline as it is now.
fn kind_of(run: &RunContext, table: &ManifestTable) -> Kind {
    run.layout.tables.iter().find(|layout| layout.name == table.table).and_then(|layout| layout.list)
}

/// Columns of all things of a kind, with these names.
fn batch_of(things: &Things<'_>, kind: Kind, columns: &[String], names: &[String]) -> Result<RecordBatch> {
    let arrays = things.columns(kind, columns)?;
    let field = |(name, array): (&String, &ArrayRef)| Field::new(name, array.data_type().clone(), true);
    let schema = Schema::new(names.iter().zip(&arrays).map(field).collect::<Vec<_>>());
    let options = RecordBatchOptions::new().with_row_count(Some(things.count(kind)?));
    RecordBatch::try_new_with_options(Arc::new(schema), arrays, &options)
        .map_err(|e| IngestError::internal(e.to_string()))
}

/// Whether a record has the values that a row has, in the columns that both have.
fn has_values(row: &RecordBatch, record: &RecordBatch) -> Result<bool> {
    let row = texts(row)?;
    Ok(texts(record)?.iter().all(|(name, value)| row.iter().all(|(other, kept)| other != name || kept == value)))
}

/// The source file alone, as a run would read it; an error if it is gone, or not what was ingested.
fn open_source(project: &Project, file: &str) -> Result<RunContext> {
    let mut pipeline = project.pipeline().clone();
    pipeline.source.files = vec![file.to_owned()];
    let alone = Project::new(pipeline, project.folder().to_owned());
    let mut known = known(&project.state(), &project.pipeline().name)?;
    let ingested = known.files.remove(file).ok_or_else(|| {
        IngestError::input(format!(
            "the state folder does not remember {file}, so it is not known whether it has changed"
        ))
    })?;
    let cut = RunnerOptions::default().cut();
    let alone = settle(&alone, &read_committed(&project.state(), &project.pipeline().name)?)?;
    let look = |known: &Known| make_plan(&alone, "who", known, cut, 1, Purpose::Look, &[]);
    // With the memory of it, the file is only held against what was ingested.
    known.files = FileMemory::from([(file.to_owned(), ingested)]);
    look(&known)?;
    let (plan, bound) = look(&known.without_files())?;
    let bound = bound.ok_or_else(|| IngestError::input(format!("{file} cannot be read any more")))?;
    let folder = scratch("who");
    let progress = Arc::new(Progress::default());
    Ok(RunContext::new(plan, bound, &project.state(), u64::MAX, progress).for_a_look(folder))
}

/// Which records have the key of the row; `None` for a table without key.
fn same_key(
    run: &RunContext,
    table: &ManifestTable,
    row: &RecordBatch,
    records: &RecordBatch,
) -> Result<Option<Vec<bool>>> {
    let codec = run.layout.tables.iter().find(|layout| layout.name == table.table).and_then(|l| l.codec.as_ref());
    let Some(codec) = codec else { return Ok(None) };
    let of = |batch: &RecordBatch| {
        let column = |name: &String| {
            let found = batch.column_by_name(name).cloned();
            found.ok_or_else(|| IngestError::output(format!("table '{}' has no column '{name}'", table.table)))
        };
        table.key.iter().map(column).collect::<Result<Vec<ArrayRef>>>()
    };
    let (wanted, keys) = (codec.encode(&of(row)?), codec.encode(&of(records)?));
    let wanted = wanted.get(0);
    Ok(Some((0..records.num_rows()).map(|at| wanted.is_some() && keys.get(at) == wanted).collect()))
}

/// What stands in the source in a row of a chunk.
fn source_values(run: &RunContext, index: u32, at: u32) -> Result<Vec<(String, Option<String>)>> {
    let names: Vec<String> = run.records.source_schema().fields().iter().map(|field| field.name().clone()).collect();
    texts(&run.read_source(index, &run.present(index, names)?)?.slice(at as usize, 1))
}
