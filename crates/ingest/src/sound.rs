//! Whether the files of a run can be read to their end, looked at before anything relies on them: for pipelines that set
//! bad files aside. Everything that the run may read is read here, both ways, so that what is wrong shows now, when no
//! key was numbered yet. Whether a file is bad is a function of its bytes and of the pipeline; it must never depend on
//! what is ingested already, on the number of workers, or on how columns will be read.

use std::collections::BTreeSet;
use std::ops::Range;

use seriatim_pipeline::model::OnNullKey;

use crate::context::RunContext;
use crate::error::{IngestError, Result};
use crate::pages::{Fault, check_whole};
use crate::source::{SourceFile, contain};

/// The source columns that a run may read.
fn needed(run: &RunContext) -> Vec<String> {
    let mut columns: BTreeSet<String> = run.records.source_columns(&run.layout.used_columns()).into_iter().collect();
    columns.extend(run.records.filter_columns());
    // A record in quarantine is shown with all that its source says.
    let by_null_key = run.layout.tables.iter().any(|table| table.on_null_key == OnNullKey::Quarantine);
    if by_null_key || run.layout.checks.set_aside() {
        columns.extend(run.plan.source_columns.iter().cloned());
    }
    columns.into_iter().collect()
}

/// The files of consecutive chunks that cannot be read, each with the first thing that is wrong in it.
pub(crate) fn find_bad(run: &RunContext, chunks: Range<u32>) -> Result<Vec<SourceFile>> {
    let columns = needed(run);
    let mut bad: Vec<SourceFile> = Vec::new();
    for index in chunks {
        let file = &run.plan.files[run.plan.chunks[index as usize].file as usize];
        if bad.last().is_some_and(|last| last.name == file.name) {
            continue;
        }
        for column in &columns {
            match check_column(run, index, column) {
                Ok(()) => {}
                Err(IngestError { file: Some(found), .. }) => {
                    bad.push(SourceFile { bad: Some(*found), ..file.clone() });
                    break;
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(bad)
}

fn check_column(run: &RunContext, index: u32, name: &str) -> Result<()> {
    run.read_source(index, &[name.to_owned()])?;
    let chunk = &run.plan.chunks[index as usize];
    // Pages are worked on row group by row group: those of one that is cut are looked at with its first piece.
    let column = if chunk.skip == 0 { run.own_column(index, name)? } else { None };
    let Some(column) = column.filter(crate::source::SourceColumn::is_readable) else { return Ok(()) };
    for group in 0..column.groups() {
        match contain(|| Ok(column.read(group).and_then(|bytes| check_whole(&bytes, column.data_type())))) {
            Ok(Ok(()) | Err(Fault::Unsupported)) => {}
            Ok(Err(Fault::Unread(error))) => return Err(*error),
            Ok(Err(Fault::Damaged(text))) | Err(text) => return Err(run.damaged(index, group, name, &text)),
        }
    }
    Ok(())
}

/// Adds files that are bad to those that are known to be: the first word about a file counts.
pub(crate) fn add(known: &mut Vec<SourceFile>, found: impl IntoIterator<Item = SourceFile>) {
    for file in found {
        match known.iter_mut().find(|kept| kept.name == file.name) {
            // It was another file then.
            Some(kept) if !kept.is_same(&file) => *kept = file,
            Some(_) => {}
            None => known.push(file),
        }
    }
}
