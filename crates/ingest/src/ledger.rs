//! The ledger: which IDs the rows of each part of a source file were given. It is kept for each published run in the state
//! folder, and beside the output. Must never be needed to give out IDs.

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::committed::{ledger_name, ledger_path};
use crate::context::{RunContext, work_folder};
use crate::error::{IngestError, Result};
use crate::facts::read_facts;
use crate::files::{make_folder, read_json, write_json, write_whole};
use crate::manifest::Manifest;
use crate::number::{Reserved, id_of};
use crate::output::Output;
use crate::project::Project;
use crate::report::{IdRange, LedgerEntry, LedgerReport, LedgerTable};

/// Which IDs each chunk was given.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ledger {
    pub(crate) run: String,
    pub(crate) number: u64,
    pub(crate) tables: Vec<String>,
    pub(crate) chunks: Vec<LedgerChunk>,
}

/// A chunk's part of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LedgerChunk {
    pub(crate) file: String,
    pub(crate) first_row: u64,
    pub(crate) rows: u32,
    /// For each table the first ID and how many; null where there is none.
    pub(crate) ids: Vec<Option<(i64, u64)>>,
}

/// Writes the ledger into the run's work folder while rows are written: a run that has only to be published must need
/// its sources no more.
pub(crate) fn draft_ledger(run: &RunContext, reserved: &Reserved) -> Result<()> {
    let mut chunks = Vec::with_capacity(run.plan.chunks.len());
    for (index, chunk) in (0..).zip(&run.plan.chunks) {
        let mut ids = Vec::with_capacity(run.layout.tables.len());
        for (table, layout) in (0..).zip(&run.layout.tables) {
            let places = run.numbering(table, &reserved.tables[table as usize])?.chunk(index);
            let count = places.end - places.start;
            ids.push(
                layout.id.as_ref().and_then(|id| id_of(id, places.start)).map(|id| (id, count)).filter(|_| count > 0),
            );
        }
        let file = run.plan.files[chunk.file as usize].name.clone();
        chunks.push(LedgerChunk { file, first_row: chunk.first_row, rows: chunk.rows, ids });
    }
    let tables = run.layout.tables.iter().map(|t| t.name.clone()).collect();
    let ledger = Ledger { run: run.plan.run.clone(), number: reserved.number, tables, chunks };
    if let Some(shared) = run.shared() {
        let text = serde_json::to_vec_pretty(&ledger).map_err(|e| IngestError::internal(e.to_string()))?;
        return shared.work.put(LEDGER, text);
    }
    write_json(&ledger_draft(run), &ledger)
}

/// The ledger of a shared run, until it is published.
const LEDGER: &str = "ledger";

fn ledger_draft(run: &RunContext) -> PathBuf {
    work_folder(run.state(), &run.plan.run).join("ledger.json")
}

/// Keeps the ledger of a run that is published.
pub(crate) fn keep_ledger(run: &RunContext, reserved: &Reserved) -> Result<()> {
    let path = ledger_path(run.state(), &run.plan.pipeline.name, reserved.number);
    make_folder(path.parent().unwrap_or(&path))?;
    if let Some(shared) = run.shared() {
        let mut draft = shared.work.get(LEDGER)?;
        if draft.is_none() {
            draft_ledger(run, reserved)?;
            draft = shared.work.get(LEDGER)?;
        }
        let gone = || {
            IngestError::state(format!("{} is gone", shared.work.place_of(LEDGER)))
                .help("something removed it: run again, nothing was published")
        };
        return write_whole(&path, &draft.ok_or_else(gone)?);
    }
    let draft = ledger_draft(run);
    if !draft.exists() {
        draft_ledger(run, reserved)?;
    }
    write_whole(&path, &fs::read(&draft).map_err(|e| IngestError::io("read", &draft, &e))?)
}

/// The ledger of a published run: of the state folder, else what is kept beside the output; `None` if it is nowhere.
pub(crate) fn read_ledger(
    project: &Project,
    output: &Output,
    manifest: &Manifest,
    number: u64,
) -> Result<Option<Ledger>> {
    let (pipeline, state) = (&project.pipeline().name, project.state());
    if let Some(ledger) = read_json::<Ledger>(&ledger_path(&state, pipeline, number))? {
        return Ok(Some(ledger));
    }
    let Some(facts) = read_facts(output, manifest.number())? else { return Ok(None) };
    let Some(fact) = facts.files.iter().find(|fact| fact.file == ledger_name(number)) else { return Ok(None) };
    let name = fact.path();
    let Some((bytes, _)) = output.read(&name)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| {
        IngestError::output(format!("{} is damaged: {e}", output.place_of(&name)))
            .help("bring it back from a backup, or see which program changed it")
    })
}

/// Which IDs the published runs have given to the records of which files: of all runs or one, of all tables or one.
pub fn ledger(project: &Project, run: Option<u64>, table: Option<&str>) -> Result<LedgerReport> {
    let output = project.output()?;
    let manifest = output.published()?;
    let only = table.map(|name| manifest.table_index(name)).transpose()?;
    if let Some(run) = run.filter(|run| !manifest.runs.iter().any(|known| known.number == *run)) {
        return Err(IngestError::pipeline(format!("{output} has no run {run}"))
            .help(format!("its runs are 1 to {}", manifest.number())));
    }
    let mut report = LedgerReport { pipeline: manifest.pipeline.clone(), entries: Vec::new(), missing: Vec::new() };
    for number in manifest.runs.iter().map(|known| known.number).filter(|known| run.is_none_or(|run| run == *known)) {
        match read_ledger(project, &output, &manifest, number)? {
            Some(ledger) => add_entries(&mut report.entries, &ledger, &manifest, only),
            None => report.missing.push(number),
        }
    }
    Ok(report)
}

/// Adds a run's chunks; those of a file that follow each other are one entry.
fn add_entries(entries: &mut Vec<LedgerEntry>, ledger: &Ledger, manifest: &Manifest, only: Option<usize>) {
    for chunk in &ledger.chunks {
        let mut tables = Vec::new();
        for (index, table) in manifest.tables.iter().enumerate().filter(|(index, _)| only.is_none_or(|o| o == *index)) {
            let place = ledger.tables.iter().position(|name| *name == table.table);
            let given = place.and_then(|place| chunk.ids.get(place).copied().flatten());
            let ids = given.zip(table.id.as_ref()).map(|((first, count), id)| IdRange {
                first,
                last: first + (count as i64 - 1) * id.step,
                step: id.step,
                count,
            });
            tables.push(LedgerTable { table: manifest.tables[index].table.clone(), ids });
        }
        match entries.last_mut().filter(|last| last.run == ledger.number && last.file == chunk.file) {
            Some(last) if last.first_row + last.rows == chunk.first_row => last.extend(u64::from(chunk.rows), tables),
            _ => entries.push(LedgerEntry {
                run: ledger.number,
                name: ledger.run.clone(),
                file: chunk.file.clone(),
                first_row: chunk.first_row,
                rows: chunk.rows.into(),
                tables,
            }),
        }
    }
}
