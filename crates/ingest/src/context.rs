//! What every step of one run shares in one process: the plan, the tables, the artifacts, the folders. It can be made
//! anew from the run's work folder at any time, so it must never hold the only copy of anything.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};

use crate::artifacts::{ArtifactKey, Artifacts};
use crate::error::{ErrorKind, IngestError, Result};
use crate::files::{make_folder, read_json, write_json, write_whole};
use crate::layout::{Layout, TableLayout};
use crate::number::{Numbering, ReservedTable, number};
use crate::plan::{Bound, Chunk, Plan, bind};
use crate::progress::Progress;
use crate::project::Project;
use crate::resolve::{ShardResolution, resolve};
use crate::scan::{ChunkRecords, ChunkScan, scan};
use crate::source::{Records, contain, open_planned, options};

/// One run, in this process.
#[derive(Debug)]
pub(crate) struct RunContext {
    pub(crate) plan: Plan,
    pub(crate) records: Records,
    pub(crate) layout: Layout,
    pub(crate) progress: Arc<Progress>,
    state: PathBuf,
    artifacts: Artifacts,
    footers: Mutex<HashMap<u32, ArrowReaderMetadata>>,
    // Small, and asked for often: never spilled.
    facts: Mutex<HashMap<u32, Facts>>,
    // A span is written by one thread at a time, also when an assembly finds a piece missing.
    spans: Vec<Mutex<()>>,
}

/// How many of a chunk's rows are records of the tables, and how many are in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) records: u64,
    pub(crate) quarantined: u64,
}

/// The folder of a run's plan and artifacts.
pub(crate) fn work_folder(state: &Path, run: &str) -> PathBuf {
    state.join("work").join(run)
}

fn plan_path(state: &Path, run: &str) -> PathBuf {
    work_folder(state, run).join("plan.json")
}

/// The request to cancel a run.
pub(crate) fn cancel_path(state: &Path, run: &str) -> PathBuf {
    state.join("runs").join(format!("{run}.cancel"))
}

fn schema_path(state: &Path, run: &str) -> PathBuf {
    work_folder(state, run).join("schema.parquet")
}

/// Keeps a plan in the run's work folder, with the source's schema as a Parquet file without rows: a run that is taken
/// up must come to its end also if its source files are gone by then.
pub(crate) fn keep_plan(state: &Path, plan: &Plan, source: &SchemaRef) -> Result<()> {
    make_folder(&work_folder(state, &plan.run))?;
    let broken = |e: parquet::errors::ParquetError| IngestError::internal(format!("the source's schema: {e}"));
    let writer = ArrowWriter::try_new(Vec::new(), source.clone(), None).map_err(broken)?;
    write_whole(&schema_path(state, &plan.run), &writer.into_inner().map_err(broken)?)?;
    write_json(&plan_path(state, &plan.run), plan)
}

fn kept_schema(state: &Path, run: &str) -> Result<SchemaRef> {
    let path = schema_path(state, run);
    let file = File::open(&path).map_err(|e| IngestError::io("open", &path, &e))?;
    let loaded = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new());
    Ok(loaded.map_err(|e| IngestError::state(format!("{} is damaged: {e}", path.display())))?.schema().clone())
}

impl RunContext {
    /// A run whose plan was just made.
    pub(crate) fn new(plan: Plan, bound: Bound, state: &Path, memory: u64, progress: Arc<Progress>) -> Self {
        let spans = plan.spans.iter().map(|_| Mutex::default()).collect();
        let artifacts = Artifacts::new(work_folder(state, &plan.run).join("spill"), memory);
        Self {
            plan,
            records: bound.records,
            layout: bound.layout,
            progress,
            state: state.to_owned(),
            artifacts,
            footers: Mutex::default(),
            facts: Mutex::default(),
            spans,
        }
    }

    /// A run that another process, or an earlier life of this one, has planned.
    pub(crate) fn load(run: &str, state: &Path, memory: u64, progress: Arc<Progress>) -> Result<Self> {
        let path = plan_path(state, run);
        let plan: Plan = read_json(&path)?.ok_or_else(|| {
            IngestError::state(format!("the plan of run '{run}' is gone: {}", path.display()))
                .help(format!("`seriatim cancel {run}`, then run again: nothing of it was published"))
        })?;
        let bound = bind(&plan.pipeline, &*kept_schema(state, run)?)?;
        Ok(Self::new(plan, bound, state, memory, progress))
    }

    /// The output folder.
    pub(crate) fn output(&self) -> PathBuf {
        Project::new(self.plan.pipeline.clone(), self.plan.folder.clone()).output()
    }

    /// The state folder.
    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    /// The run's own folder.
    pub(crate) fn work(&self) -> PathBuf {
        work_folder(&self.state, &self.plan.run)
    }

    /// The folder of a table's key map.
    pub(crate) fn keymap_folder(&self, table: u32) -> PathBuf {
        pipeline_folder(&self.state, &self.plan.pipeline.name)
            .join("keys")
            .join(&self.layout.tables[table as usize].name)
    }

    /// An error if the run is to be cancelled.
    pub(crate) fn check_cancelled(&self) -> Result<()> {
        if cancel_path(&self.state, &self.plan.run).exists() {
            return Err(IngestError::new(ErrorKind::Cancelled, format!("run '{}' was cancelled", self.plan.run)));
        }
        Ok(())
    }

    /// Where a row of a chunk is, for people: rows count from 0, as readers of Parquet count them.
    pub(crate) fn place(&self, chunk: &Chunk, row: u32) -> String {
        format!("{}, row {}", self.plan.files[chunk.file as usize].name, chunk.first_row + u64::from(row))
    }

    fn footer(&self, file: u32, open: &std::fs::File) -> Result<ArrowReaderMetadata> {
        let mut footers = self.footers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(footer) = footers.get(&file) {
            return Ok(footer.clone());
        }
        let name = &self.plan.files[file as usize].name;
        let footer = contain(|| ArrowReaderMetadata::load(open, options()).map_err(|e| e.to_string()))
            .map_err(|e| IngestError::input(format!("{name} cannot be read: {e}")))?;
        footers.insert(file, footer.clone());
        Ok(footer)
    }

    /// Reads these columns of a chunk's records.
    pub(crate) fn read(&self, chunk: u32, columns: &[String]) -> Result<ChunkRecords> {
        let chunk = &self.plan.chunks[chunk as usize];
        let planned = &self.plan.files[chunk.file as usize];
        let file = open_planned(planned, &self.plan.folder.join(&planned.name))?;
        let footer = self.footer(chunk.file, &file)?;
        let names: Vec<&str> = columns.iter().map(String::as_str).collect();
        let (batch, kept) = self.records.select(&names)?.read(file, &footer, chunk, &planned.name)?;
        Ok(ChunkRecords::new(batch, kept))
    }

    /// Reads a chunk's rows as the source has them, with every column that all files of the run have.
    pub(crate) fn read_source(&self, chunk: u32) -> Result<arrow::array::RecordBatch> {
        let chunk = &self.plan.chunks[chunk as usize];
        let planned = &self.plan.files[chunk.file as usize];
        let file = open_planned(planned, &self.plan.folder.join(&planned.name))?;
        let footer = self.footer(chunk.file, &file)?;
        crate::source::read_chunk(file, &footer, chunk, &self.plan.source_columns, &planned.name)
    }

    /// The scan of a chunk.
    pub(crate) fn scan(&self, chunk: u32) -> Result<Arc<ChunkScan>> {
        self.artifacts.get(ArtifactKey::Scan(chunk), || scan(self, chunk))
    }

    /// What is small of a chunk's scan.
    pub(crate) fn scan_facts(&self, chunk: u32) -> Result<Facts> {
        if let Some(facts) = self.facts.lock().unwrap_or_else(PoisonError::into_inner).get(&chunk) {
            return Ok(*facts);
        }
        let scan = self.scan(chunk)?;
        let facts = Facts { records: scan.records.into(), quarantined: scan.quarantine.len() as u64 };
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).insert(chunk, facts);
        Ok(facts)
    }

    /// One shard of a table, resolved against these segments of its key map.
    pub(crate) fn resolution(&self, table: u32, shard: u32, segments: &[String]) -> Result<Arc<ShardResolution>> {
        self.artifacts.get(ArtifactKey::Shard(table, shard), || resolve(self, table, shard, segments))
    }

    /// The numbering of a table within its reserved block.
    pub(crate) fn numbering(&self, table: u32, reserved: &ReservedTable) -> Result<Arc<Numbering>> {
        self.artifacts.get(ArtifactKey::Numbering(table), || number(self, table, reserved))
    }

    /// Waits until no other thread writes this span.
    pub(crate) fn lock_span(&self, span: u32) -> std::sync::MutexGuard<'_, ()> {
        self.spans[span as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The chunks of a span.
    pub(crate) fn span_chunks(&self, span: u32) -> std::ops::Range<u32> {
        let (from, to) = self.plan.spans[span as usize];
        from..to
    }

    /// A table by its index.
    pub(crate) fn table(&self, table: u32) -> &TableLayout {
        &self.layout.tables[table as usize]
    }
}

/// The folder of what a pipeline has committed: key maps, files, sequences.
pub(crate) fn pipeline_folder(state: &Path, pipeline: &str) -> PathBuf {
    state.join("pipelines").join(pipeline)
}
