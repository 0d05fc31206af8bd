//! What earlier runs have published, for a worker whose state folder does not know it: it is kept beside the output, and
//! each worker brings what it needs into its own state folder. What lies there of attempts that were never published
//! must never be taken for it.

use std::path::Path;

use seriatim_pipeline::model::Pipeline;

use super::{Shared, lock};
use crate::adopt::bring_adopted;
use crate::committed::{files_name, read_committed, write_committed};
use crate::context::{RunContext, SegmentKind, pipeline_folder};
use crate::error::{IngestError, Result};
use crate::facts::{Fact, Facts, read_facts};
use crate::files::make_folder;
use crate::output::Output;

/// The facts of what is published now; `None` if nothing is, or if the version that published it kept none.
fn published(output: &Output) -> Result<Option<Facts>> {
    match output.manifest()? {
        Some(manifest) => read_facts(output, manifest.number()),
        None => Ok(None),
    }
}

/// Brings what a pipeline has committed, and its memory of files, into the state folder. Gives the number of the run that
/// this is of; `None` if nothing is kept beside the output.
pub(crate) fn bring_committed(output: &Output, pipeline: &Pipeline, state: &Path) -> Result<Option<u64>> {
    let name = &pipeline.name;
    let Some(facts) = published(output)? else { return Ok(None) };
    let memory = files_name(facts.committed.number);
    if let Some(fact) = facts.files.iter().find(|fact| fact.file == memory) {
        bring(output, fact, &pipeline_folder(state, name))?;
    }
    let mut committed = facts.committed;
    committed.output.clone_from(&pipeline.output.path);
    if read_committed(state, name)? != committed {
        write_committed(state, name, &committed)?;
    }
    Ok(Some(committed.number))
}

/// Brings segments of a table into the state folder, those that are not there.
pub(crate) fn bring_segments(
    run: &RunContext,
    shared: &Shared,
    kind: SegmentKind,
    table: u32,
    segments: &[String],
) -> Result<()> {
    let mut brought = lock(&shared.brought);
    let name = |segment: &String| kind.file(&run.table(table).name, segment);
    let wanted: Vec<String> = segments.iter().map(name).filter(|file| !brought.contains(file)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let output = run.output()?;
    let facts = published(output)?;
    let folder = pipeline_folder(run.state(), &run.plan.pipeline.name);
    for file in wanted {
        let fact = facts.iter().flat_map(|facts| &facts.files).find(|fact| fact.file == file);
        let here = std::fs::metadata(folder.join(&file)).ok().map(|metadata| metadata.len());
        match fact {
            Some(fact) if here == Some(fact.bytes) => {}
            Some(fact) => bring(output, fact, &folder)?,
            None if here.is_some() => {}
            // Of this run: a table was taken over.
            None if file == name(&run.segment_name(0, false)) => bring_adopted(run, shared, table)?,
            None => {
                return Err(IngestError::state(format!(
                    "{file} is neither in the state folder nor kept beside {output}"
                ))
                .help(
                    "give this worker the state folder of the runs before this version, or bring it back from a backup",
                ));
            }
        }
        brought.insert(file);
    }
    Ok(())
}

fn bring(output: &Output, fact: &Fact, folder: &Path) -> Result<()> {
    let path = folder.join(&fact.file);
    make_folder(path.parent().unwrap_or(folder))?;
    output.fetch(&fact.path(), &path)
}
