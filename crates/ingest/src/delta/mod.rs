//! Delta Lake: each table's folder has a log, by which readers of Delta see whole runs of the table and nothing between.
//! The log follows the manifest: what the manifest names and the log does not is committed, one version for each run
//! that has rows of the table, with the run's number as the transaction's, so that nothing is ever committed twice.
//! Written by hand, and not with a library of Delta: a commit has to be on disk when it counts, its bytes must follow
//! from the manifest alone, and requests go through `seriatim-storage` with its retries and its care for secrets. Must
//! never name a file that the manifest does not name.

mod commit;
mod log;
mod schema;

use seriatim_pipeline::model::{Format, Pipeline};

use crate::error::{IngestError, Result};
use crate::layout::Layout;
use crate::manifest::{Manifest, ManifestTable};
use crate::output::{Held, Output, Put};
use crate::report::VerifyCheck;
use commit::{app_id, commit};
use log::{head, replay};

/// The folder of a table's log, in the table's folder.
pub(crate) const LOG: &str = "_delta_log";

/// How often a commit is tried again that met another one.
const ATTEMPTS: usize = 8;

/// An error if the tables that a pipeline makes cannot be tables of Delta, where they are to be.
pub(crate) fn refuse_types(pipeline: &Pipeline, layout: &Layout) -> Result<()> {
    if pipeline.output.format != Format::Delta {
        return Ok(());
    }
    let fields = layout.tables.iter().flat_map(|table| table.schema.fields().iter().map(move |field| (table, field)));
    for (table, field) in fields {
        schema::refuse(&table.name, field)?;
    }
    Ok(())
}

/// Brings the logs of all tables up to the manifest.
pub(crate) fn follow(held: &Held, manifest: &Manifest) -> Result<()> {
    manifest.tables.iter().try_for_each(|table| follow_table(held, manifest, table))
}

fn follow_table(held: &Held, manifest: &Manifest, table: &ManifestTable) -> Result<()> {
    let app = app_id(&manifest.pipeline, &table.table);
    for _ in 0..ATTEMPTS {
        let (known, mut next) = match head(held.output(), &table.table, &app)? {
            None => (0, 0),
            Some(last) => (known_run(held.output(), manifest, table, last.run)?, last.version + 1),
        };
        let mut put = Put::Done;
        for run in manifest.runs.iter().filter(|run| run.number > known) {
            let is_first = next == 0;
            if !is_first && table.files.iter().all(|file| file.run != run.number) {
                continue;
            }
            let bytes = commit(manifest, table, run.number, is_first)?;
            put = held.put_new(&log::commit_name(&table.table, next), bytes)?;
            if put == Put::Refused {
                break;
            }
            next += 1;
        }
        if put == Put::Done {
            return Ok(());
        }
    }
    Err(IngestError::output(format!("{} is being written to by somebody else", place(held.output(), &table.table)))
        .help("see which programs write to this table, then run again: the log is brought up to the manifest"))
}

/// The last run that a log has, which the manifest must have, too.
fn known_run(output: &Output, manifest: &Manifest, table: &ManifestTable, run: Option<u64>) -> Result<u64> {
    let place = place(output, &table.table);
    match run {
        None => Err(IngestError::output(format!("{place} is not of pipeline '{}'", manifest.pipeline))
            .help("give this pipeline an `output.path` of its own")),
        Some(run) if run > manifest.number() => {
            Err(IngestError::output(format!("{place} has run {run}, and the manifest has {} runs", manifest.number()))
                .help("parts of the output are of different times: bring all of it back from one backup"))
        }
        Some(run) => Ok(run),
    }
}

/// Whether some log is not as far as the manifest. It may be that what follows is no row of its table.
pub(crate) fn is_behind(output: &Output, manifest: &Manifest) -> Result<bool> {
    for table in &manifest.tables {
        let last = head(output, &table.table, &app_id(&manifest.pipeline, &table.table))?;
        let Some(last) = last else { return Ok(manifest.number() > 0) };
        let known = known_run(output, manifest, table, last.run)?;
        if table.files.iter().any(|file| file.run > known) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Where a table's log is, for people.
pub(crate) fn place(output: &Output, table: &str) -> String {
    output.place_of(&format!("{table}/{LOG}"))
}

/// Holds the log of a table against the manifest: the same files, with the same rows.
pub(crate) fn audit(output: &Output, manifest: &Manifest, table: &ManifestTable) -> VerifyCheck {
    let (ok, message) = match compare(output, manifest, table) {
        Ok(message) => (true, message),
        Err(problem) => (false, problem),
    };
    VerifyCheck { guarantee: "delta".to_owned(), table: Some(table.table.clone()), ok, message, help: None }
}

fn compare(output: &Output, manifest: &Manifest, table: &ManifestTable) -> Result<String, String> {
    let place = place(output, &table.table);
    let active = replay(output, &table.table, &app_id(&manifest.pipeline, &table.table)).map_err(|e| e.message)?;
    let active = active.ok_or_else(|| format!("{place} is empty: the next run brings it up to the manifest"))?;
    let last = table.files.iter().map(|file| file.run).max().unwrap_or(0);
    let run = known_run(output, manifest, table, active.run).map_err(|e| e.message)?;
    if run < last {
        return Err(format!(
            "{place} has runs up to {run}, the manifest up to {last}: the next run brings it up to that"
        ));
    }
    let prefix = format!("{}/", table.table);
    for file in &table.files {
        let name = file.path.strip_prefix(&prefix).unwrap_or(&file.path);
        match active.files.get(name) {
            None => return Err(format!("{place} does not have {name}, which is published")),
            Some(found) if (found.bytes, found.rows) != (file.bytes, Some(file.rows)) => {
                let rows = found.rows.map_or_else(|| "no".to_owned(), |rows| rows.to_string());
                return Err(format!(
                    "{place} has {name} with {} bytes and {rows} rows; it has {} bytes and {} rows",
                    found.bytes, file.bytes, file.rows
                ));
            }
            Some(_) => {}
        }
    }
    if active.files.len() != table.files.len() {
        let ours = |name: &str| table.files.iter().any(|file| file.path.strip_prefix(&prefix) == Some(name));
        let stranger = active.files.keys().find(|name| !ours(name)).map(String::as_str).unwrap_or_default();
        return Err(format!("{place} has {stranger}, which is not published"));
    }
    let rows: u64 = table.files.iter().map(|file| file.rows).sum();
    Ok(format!("version {}: {} files with {rows} rows, as in the manifest", active.version, active.files.len()))
}
