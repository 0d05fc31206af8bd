//! Recovering: a state folder that is empty, or older than the output, is brought up to what is published, from the
//! facts that are kept beside it. An orchestration that holds the sequences, as a run does, so that no run can be under
//! way meanwhile. Must never take anything back: a state folder that is as new as the output, or newer, stays as it is.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use seriatim_durable::EntityId;
use seriatim_pipeline::model::Pipeline;

use crate::committed::{Committed, write_committed};
use crate::context::pipeline_folder;
use crate::engine::{Engine, Step};
use crate::error::{IngestError, Result};
use crate::facts::{Facts, read_facts};
use crate::files::{make_folder, sync_folder};
use crate::keymap::count_keys;
use crate::manifest::{Manifest, ManifestFile, ManifestTable};
use crate::output::{Held, Output};
use crate::process::{Doable, Steps};
use crate::project::Project;
use crate::sequence::{CatalogState, RestoreCatalog, RestoreSequence, SequenceState, catalog_id, sequence_id};
use crate::withdraw::withdraw_stale;

/// The orchestration's name.
pub(crate) const RECOVER: &str = "recover";

/// The instance that recovers a pipeline. No run has such a name: a pipeline's has no dot.
pub(crate) fn recovery_id(pipeline: &str) -> String {
    format!("{pipeline}.recover")
}

/// Input of the orchestration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RecoverInput {
    pub(crate) pipeline: Pipeline,
    /// The folder that relative paths start at.
    pub(crate) folder: PathBuf,
    /// The id of the state folder.
    pub(crate) owner: String,
}

/// What recovering came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoverReport {
    /// The pipeline's name.
    pub pipeline: String,
    /// Where its tables are.
    pub output: String,
    /// How many runs are published there; 0: there is nothing to recover.
    pub published: u64,
    /// How many of them the state folder knew before. As many as are published, or more: it was left as it is.
    pub known: u64,
    /// The tables, as they now go on; empty if the state folder was left as it is.
    pub tables: Vec<RecoveredTable>,
}

impl RecoverReport {
    /// Whether the state folder was brought up to the output.
    pub fn is_recovered(&self) -> bool {
        self.known < self.published
    }
}

/// Where a table goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveredTable {
    /// The table's name.
    pub table: String,
    /// Its rows, which is how many IDs are given.
    pub rows: u64,
    /// Files of its key map that were brought back.
    pub key_maps: usize,
}

/// The way of a recovery.
pub(crate) async fn recover<E: Engine>(engine: E, input: RecoverInput) -> Result<RecoverReport> {
    let name = &input.pipeline.name;
    let sequences: Vec<EntityId> = input.pipeline.tables.iter().map(|t| sequence_id(name, &t.name)).collect();
    let mut locks = sequences.clone();
    locks.push(catalog_id(name));
    engine.hold(locks, critical_section(&engine, &input, &sequences)).await
}

async fn critical_section<E: Engine>(
    engine: &E,
    input: &RecoverInput,
    sequences: &[EntityId],
) -> Result<RecoverReport> {
    let catalog_id = catalog_id(&input.pipeline.name);
    let catalog: Vec<CatalogState> = engine.call("get", vec![(catalog_id.clone(), ())]).await?;
    let catalog = catalog.into_iter().next().unwrap_or_default();
    let calls = sequences.iter().map(|id| (id.clone(), ())).collect();
    let states: Vec<SequenceState> = engine.call("get", calls).await?;
    let bring_back = BringBack { input: input.clone(), catalog: catalog.clone(), sequences: states.clone() };
    let found = engine.step(bring_back).await?;
    let Some(restored) = found.restored else { return Ok(found.report) };
    let calls = sequences.iter().zip(&states).zip(&restored.tables).map(|((id, state), table)| {
        let restore = RestoreSequence {
            before: state.next,
            next: table.next,
            segments: table.segments.clone(),
            others: table.others,
            source: table.source.clone(),
            last: table.last.clone(),
            groups: table.groups.clone(),
            adopted: table.adopted,
        };
        (id.clone(), restore)
    });
    let _: Vec<()> = engine.call("restore", calls.collect()).await?;
    let (before, number) = (catalog.number, restored.number);
    let (layout, source) = (restored.layout.clone(), restored.source.clone());
    let restore = RestoreCatalog { before, number, layout, source };
    let _: Vec<()> = engine.call("restore", vec![(catalog_id, restore)]).await?;
    let pipeline = input.pipeline.name.clone();
    engine.step(KeepRestored { pipeline, committed: restored }).await?;
    Ok(found.report)
}

/// Brings the files of the state folder back; says where the entities have to go on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct BringBack {
    input: RecoverInput,
    catalog: CatalogState,
    sequences: Vec<SequenceState>,
}

/// What was found in the output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Found {
    report: RecoverReport,
    /// Where the sequences go on, in the order of the pipeline's tables; `None`: the state folder is as new.
    restored: Option<Committed>,
}

impl Step for BringBack {
    const NAME: &'static str = "bring-back";
    type Output = Found;
}

impl Doable for BringBack {
    fn run(self, steps: &Steps) -> Result<Found> {
        let RecoverInput { pipeline, folder, owner } = self.input;
        let project = Project::new(pipeline, folder);
        let output = project.output()?;
        let known = Known { runs: self.catalog.number, sequences: self.sequences };
        let published = output.manifest()?.map_or(0, |manifest| manifest.number());
        if published <= known.runs {
            return Ok(Found { report: report(&project, &output, published, &known), restored: None });
        }
        // While facts are read, nobody may go on and remove them.
        let held = Held::take(&output, &owner, &recovery_id(&project.pipeline().name), None)?;
        let found = bring_back(&steps.state, &project, &held, &known);
        // What cannot be given back runs out by itself.
        let _ = held.give_back();
        found
    }
}

/// What the state folder knows.
struct Known {
    runs: u64,
    sequences: Vec<SequenceState>,
}

fn report(project: &Project, output: &Output, published: u64, known: &Known) -> RecoverReport {
    RecoverReport {
        pipeline: project.pipeline().name.clone(),
        output: output.to_string(),
        published,
        known: known.runs,
        tables: Vec::new(),
    }
}

fn bring_back(state: &Path, project: &Project, held: &Held, known: &Known) -> Result<Found> {
    let (pipeline, output) = (project.pipeline(), held.output());
    let gone = || IngestError::output(format!("the manifest of {output} is gone"));
    let manifest = output.manifest()?.ok_or_else(gone)?;
    if manifest.pipeline != pipeline.name {
        return Err(IngestError::output(format!("{output} holds the output of pipeline '{}'", manifest.pipeline))
            .help("correct the pipeline's `name`, or its `output.path`"));
    }
    let number = manifest.number();
    let facts = read_facts(output, number)?.ok_or_else(|| {
        IngestError::output(format!("{output} keeps no facts of its run {number}, so nothing can be recovered"))
            .help("bring the state folder back from a backup; if there is none, ingest everything anew")
    })?;
    let mut restored = in_order(pipeline, &facts.committed)?;
    restored.output.clone_from(&pipeline.output.path);
    check_history(&manifest, &restored, known)?;
    bring_files(state, &pipeline.name, output, &facts)?;
    check_counts(state, pipeline, &manifest, &restored)?;
    withdraw_stale(held, pipeline, None, || Ok(()))?;
    let tables = restored.tables.iter();
    let tables = tables
        .map(|t| RecoveredTable { table: t.table.clone(), rows: t.next - t.others, key_maps: t.segments.len() })
        .collect();
    let report = RecoverReport { tables, ..report(project, output, number, known) };
    Ok(Found { report, restored: Some(restored) })
}

/// What was committed, with the tables in the pipeline's order.
fn in_order(pipeline: &Pipeline, committed: &Committed) -> Result<Committed> {
    let find = |name: &str| committed.tables.iter().find(|t| t.table == name).cloned();
    let tables: Option<Vec<_>> = pipeline.tables.iter().map(|t| find(&t.name)).collect();
    match tables {
        Some(tables) if tables.len() == committed.tables.len() => Ok(Committed { tables, ..committed.clone() }),
        _ => {
            let published: Vec<&str> = committed.tables.iter().map(|t| t.table.as_str()).collect();
            Err(IngestError::pipeline(format!(
                "the pipeline's tables are not those that are published: {}",
                published.join(", ")
            ))
            .help("change them back: a pipeline's tables are fixed once a run is published"))
        }
    }
}

/// A state folder that knows some runs must know them as they are published. Another output's would give IDs twice.
fn check_history(manifest: &Manifest, restored: &Committed, known: &Known) -> Result<()> {
    for (table, state) in restored.tables.iter().zip(&known.sequences) {
        let published = manifest.tables.iter().find(|t| t.table == table.table);
        let files = published.into_iter().flat_map(|t| &t.files).filter(|f| f.run <= known.runs);
        let rows: u64 = files.map(ManifestFile::things).sum();
        // A recovery that was cut short may have moved some sequences.
        if state.next - state.others != rows && state.next != table.next {
            return Err(IngestError::state(format!(
                "the state folder is not of this output: after {} runs it has given {} IDs in table '{}', the \
                 output has {rows}",
                known.runs,
                state.next - state.others,
                table.table
            ))
            .help("recover into an empty state folder: give the pipeline another `state`"));
        }
    }
    Ok(())
}

/// What the facts say of each table must be what is published, and what its key map has: a sequence that went on from
/// elsewhere would give IDs twice, or leave some out.
fn check_counts(state: &Path, pipeline: &Pipeline, manifest: &Manifest, restored: &Committed) -> Result<()> {
    for (table, facts) in pipeline.tables.iter().zip(&restored.tables) {
        let published = manifest.tables.iter().find(|t| t.table == table.name);
        let rows = published.map_or(0, ManifestTable::things);
        let keys = if table.is_keyed() {
            let folder = pipeline_folder(state, &pipeline.name).join("keys").join(&table.name);
            Some(count_keys(&folder, &facts.segments)?)
        } else {
            None
        };
        let given = facts.next.checked_sub(facts.others);
        let alone = facts.source.is_none() && facts.adopted.is_none() && facts.others > 0;
        let known = rows + facts.adopted.unwrap_or_default();
        if given != Some(rows) || alone || keys.is_some_and(|keys| keys != known) {
            let keys = keys.map_or_else(String::new, |keys| format!(", its key map has {keys} keys"));
            return Err(IngestError::output(format!(
                "the facts beside the output are not of what is published: table '{}' has {rows} rows{keys}, and its IDs \
                 would go on from place {}, of which {} are others'",
                table.name, facts.next, facts.others
            ))
            .help("bring `_seriatim` in the output back from a backup, or see which program changed it"));
        }
    }
    Ok(())
}

fn bring_files(state: &Path, pipeline: &str, output: &Output, facts: &Facts) -> Result<()> {
    let folder = pipeline_folder(state, pipeline);
    let mut folders = std::collections::BTreeSet::new();
    for fact in &facts.files {
        let path = folder.join(&fact.file);
        let parent = path.parent().unwrap_or(&folder).to_owned();
        make_folder(&parent)?;
        folders.insert(parent);
        match output.size(&fact.path())? {
            Some(bytes) if bytes == fact.bytes => output.fetch(&fact.path(), &path)?,
            found => {
                let found = found.map_or_else(|| "gone".to_owned(), |bytes| format!("of {bytes} bytes"));
                return Err(IngestError::output(format!(
                    "{} is {found}; {} bytes were kept there",
                    output.place_of(&fact.path()),
                    fact.bytes
                ))
                .help("run `seriatim recover` again if another machine has published meanwhile, else bring it back from a backup"));
            }
        }
    }
    // The folders themselves may be new, and so may those above them.
    let above = folders.clone().into_iter().flat_map(|f| f.ancestors().take(4).map(Path::to_owned).collect::<Vec<_>>());
    folders.extend(above.filter(|path| path.starts_with(state)));
    folders.iter().try_for_each(|folder| sync_folder(&folder.join("_")))
}

/// Keeps the copy of the entities, once they are restored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct KeepRestored {
    pipeline: String,
    committed: Committed,
}

impl Step for KeepRestored {
    const NAME: &'static str = "keep-restored";
    type Output = ();
}

impl Doable for KeepRestored {
    fn run(self, steps: &Steps) -> Result<()> {
        write_committed(&steps.state, &self.pipeline, &self.committed)
    }
}
