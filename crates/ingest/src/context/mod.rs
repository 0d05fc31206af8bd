//! What every step of one run shares in one process: the plan, the tables, the artifacts, the folders. It can be made
//! anew from the run's work folder at any time, so it must never hold the only copy of anything.

mod done;
mod found;
mod positions;
mod reading;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};

use done::Done;

use crate::artifacts::Artifacts;
use crate::error::{ErrorKind, IngestError, Result};
use crate::files::{make_folder, own_folder, read_json, write_json, write_whole};
use crate::keys::{KeyCodec, KeyTable, Tracks};
use crate::layout::{Layout, TableLayout};
use crate::lookups::Lookups;
use crate::manifest::Manifest;
use crate::output::{Held, Output};
use crate::plan::{Bound, Chunk, Plan, bind};
use crate::progress::Progress;
use crate::resolve::Firsts;
use crate::shared::{Place, Shared, Work};
use crate::source::{Mirrors, Records};
use crate::text::Texts;
use seriatim_pipeline::model::OnConflict;

/// One run, in this process.
#[derive(Debug)]
pub(crate) struct RunContext {
    pub(crate) plan: Plan,
    pub(crate) records: Records,
    pub(crate) layout: Layout,
    pub(crate) progress: Arc<Progress>,
    state: PathBuf,
    output: OnceLock<Output>,
    /// What was published before this run, once somebody has asked.
    before: OnceLock<Arc<Manifest>>,
    /// The output in this run's hands, once it has taken it.
    held: Mutex<Option<Held>>,
    /// The plan's file as it was when this was made.
    edition: Option<(SystemTime, u64)>,
    artifacts: Artifacts,
    footers: Mutex<HashMap<u32, ArrowReaderMetadata>>,
    mirrors: Mirrors,
    /// Where key maps are, if not in the state folder.
    key_maps: Option<PathBuf>,
    texts: Option<Texts>,
    /// Whether no rows will be written.
    looks: bool,
    /// Of each table, whether the last chunk that was scanned brought keys. A guess for what to fetch, no more.
    grows: Vec<AtomicBool>,
    // Small, and asked for often: never spilled.
    facts: Mutex<HashMap<u32, Facts>>,
    /// The position in the run of each chunk's first record; one more at the end.
    records_at: Vec<u32>,
    /// The same of the elements of each list, once all chunks were scanned.
    elements_at: Vec<OnceLock<Vec<u32>>>,
    /// The keys of each table; of a table without key there are none.
    keys: Vec<KeyTable>,
    firsts: Vec<OnceLock<Firsts>>,
    keys_budget: u64,
    scans: Done,
    scan_locks: Vec<Mutex<()>>,
    resolutions: Vec<Done>,
    /// Where other workers are, if they have state folders of their own.
    shared: Option<Shared>,
    // A span is written by one thread at a time, also when an assembly finds a piece missing.
    spans: Vec<Mutex<()>>,
}

/// How many of a chunk's rows are records of the tables, and how many are in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) records: u64,
    pub(crate) quarantined: u64,
    /// How many elements each list has.
    pub(crate) elements: Vec<u64>,
}

/// How many runs this process has loaded: a step that is at its end may still use what an earlier life of its run has
/// fetched, so each has a folder of its own for that.
static LIVES: AtomicUsize = AtomicUsize::new(0);

/// What is not counted piece by piece: the columns that workers are at, and the allocator's reserves.
const WORKING_MEMORY: u64 = 320 << 20;

/// The folder of a run's plan and artifacts.
pub(crate) fn work_folder(state: &Path, run: &str) -> PathBuf {
    state.join("work").join(run)
}

/// The folder of the copies of a run's text files.
pub(crate) fn texts_folder(state: &Path, run: &str) -> PathBuf {
    work_folder(state, run).join(own_folder("spill")).join("texts")
}

fn plan_path(state: &Path, run: &str) -> PathBuf {
    work_folder(state, run).join("plan.json")
}

/// The request to cancel a run.
pub(crate) fn cancel_path(state: &Path, run: &str) -> PathBuf {
    state.join("runs").join(format!("{run}.cancel"))
}

/// What tells a plan's file from one that takes its place.
fn edition(state: &Path, run: &str) -> Option<(SystemTime, u64)> {
    let file = std::fs::metadata(plan_path(state, run)).ok()?;
    Some((file.modified().ok()?, file.len()))
}

fn schema_path(state: &Path, run: &str) -> PathBuf {
    work_folder(state, run).join("schema.parquet")
}

/// Keeps a plan in the run's work folder, with the source's schema as a Parquet file without rows: a run that is taken
/// up must come to its end also if its source files are gone by then.
pub(crate) fn keep_plan(state: &Path, plan: &Plan, source: &SchemaRef) -> Result<()> {
    make_folder(&work_folder(state, &plan.run))?;
    write_whole(&schema_path(state, &plan.run), &schema_file(source)?)?;
    write_json(&plan_path(state, &plan.run), plan)
}

/// The same in the work location of a run that workers with state folders of their own carry out. The first plan of an
/// execution stays.
pub(crate) fn keep_shared_plan(place: &Place, plan: &Plan, source: &SchemaRef) -> Result<()> {
    let text = serde_json::to_vec(plan).map_err(|e| IngestError::internal(e.to_string()))?;
    Work::open(place)?.keep_plan(&text, &schema_file(source)?)
}

fn schema_file(source: &SchemaRef) -> Result<Vec<u8>> {
    let broken = |e: parquet::errors::ParquetError| IngestError::internal(format!("the source's schema: {e}"));
    ArrowWriter::try_new(Vec::new(), source.clone(), None).and_then(ArrowWriter::into_inner).map_err(broken)
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
        Self::of(plan, bound, state, memory, progress, None)
    }

    fn of(
        plan: Plan,
        bound: Bound,
        state: &Path,
        memory: u64,
        progress: Arc<Progress>,
        shared: Option<Shared>,
    ) -> Self {
        let work = work_folder(state, &plan.run);
        let spill = work.join(own_folder("spill"));
        let mirrors = Mirrors::new(work.join(own_folder(&format!("source-{}", LIVES.fetch_add(1, SeqCst)))));
        let mut records_at = vec![0];
        records_at.extend(plan.chunks.iter().scan(0, |sum, chunk| {
            *sum += chunk.rows;
            Some(*sum)
        }));
        // What is being decoded and encoded needs room too, and so does the program itself.
        let share = memory.saturating_sub(WORKING_MEMORY.min(memory / 8 * 5)) / 2;
        let tables = bound.layout.tables.iter().enumerate();
        let keys = tables.map(|(index, table)| key_table(&plan, table, spill.join(format!("keys-{index}")))).collect();
        Self {
            artifacts: Artifacts::new(spill, share),
            keys_budget: share,
            footers: Mutex::new(bound.footers),
            mirrors,
            key_maps: None,
            texts: bound.texts,
            looks: false,
            grows: bound.layout.tables.iter().map(|_| AtomicBool::new(true)).collect(),
            facts: Mutex::default(),
            spans: plan.spans.iter().map(|_| Mutex::default()).collect(),
            scans: Done::new(plan.chunks.len()),
            scan_locks: plan.chunks.iter().map(|_| Mutex::default()).collect(),
            resolutions: bound.layout.tables.iter().map(|_| Done::new(plan.shards as usize)).collect(),
            records_at,
            elements_at: bound.layout.lists.iter().map(|_| OnceLock::new()).collect(),
            keys,
            firsts: bound.layout.tables.iter().map(|_| OnceLock::new()).collect(),
            records: bound.records,
            layout: bound.layout,
            progress,
            edition: if shared.is_none() { edition(state, &plan.run) } else { None },
            shared,
            plan,
            state: state.to_owned(),
            output: OnceLock::new(),
            before: OnceLock::new(),
            held: Mutex::default(),
        }
    }

    /// A run that another process, or an earlier life of this one, has planned.
    pub(crate) fn load(run: &str, state: &Path, memory: u64, progress: Arc<Progress>) -> Result<Self> {
        let path = plan_path(state, run);
        let plan: Plan = read_json(&path)?.ok_or_else(|| {
            IngestError::state(format!("the plan of run '{run}' is gone: {}", path.display()))
                .help(format!("`seriatim cancel {run}`, then run again: nothing of it was published"))
        })?;
        let mut bound = bind(&plan.pipeline, &*kept_schema(state, run)?, &Lookups::of(&plan)?)?;
        bound.texts = Texts::of(&plan, texts_folder(state, run))?;
        Ok(Self::new(plan, bound, state, memory, progress))
    }

    /// The same for who only looks: no rows will be written, and what is fetched of the source lies in this folder.
    pub(crate) fn for_a_look(mut self, folder: PathBuf) -> Self {
        self.mirrors = Mirrors::new(folder);
        self.looks = true;
        self
    }

    /// The same with key maps in this folder: of tables that would be taken over.
    pub(crate) fn with_key_maps(mut self, folder: PathBuf) -> Self {
        self.key_maps = Some(folder);
        self
    }

    /// A run that workers with state folders of their own carry out; `None` if it has no plan yet.
    pub(crate) fn find_shared(
        place: &Place,
        state: &Path,
        memory: u64,
        progress: Arc<Progress>,
    ) -> Result<Option<Self>> {
        let work = Work::open(place)?;
        let Some((plan, schema)) = work.plan()? else { return Ok(None) };
        let damaged = |text: String| IngestError::state(format!("the plan of run '{}' is damaged: {text}", place.run));
        let plan: Plan = serde_json::from_slice(&plan).map_err(|e| damaged(e.to_string()))?;
        let loaded = ArrowReaderMetadata::load(&Bytes::from(schema), ArrowReaderOptions::new());
        let loaded = loaded.map_err(|e| damaged(e.to_string()))?;
        let mut bound = bind(&plan.pipeline, loaded.schema(), &Lookups::of(&plan)?)?;
        bound.texts = Texts::of(&plan, texts_folder(state, &place.run))?;
        let shared = Shared::new(work, &plan);
        Ok(Some(Self::of(plan, bound, state, memory, progress, Some(shared))))
    }

    /// The same, of a run that must have a plan.
    pub(crate) fn load_shared(place: &Place, state: &Path, memory: u64, progress: Arc<Progress>) -> Result<Self> {
        Self::find_shared(place, state, memory, progress)?.ok_or_else(|| {
            IngestError::state(format!("the plan of run '{}' is gone from {}", place.run, place.work))
                .help("run again: nothing of it was published")
        })
    }

    /// Whether the run has not come to its end elsewhere. One that cannot be asked for counts as wanted.
    pub(crate) fn is_wanted(&self) -> bool {
        self.shared.as_ref().is_none_or(|shared| shared.work.has_plan().unwrap_or(true))
    }

    /// What others find of this run, if they have state folders of their own.
    pub(crate) fn shared(&self) -> Option<&Shared> {
        self.shared.as_ref()
    }

    /// Whether the plan is still the one that the run has: another process may have planned it anew, or ended it.
    pub(crate) fn is_current(&self) -> bool {
        // A shared run is planned anew in another place.
        self.shared.is_some() || (self.edition.is_some() && self.edition == edition(&self.state, &self.plan.run))
    }

    /// Where the tables go.
    pub(crate) fn output(&self) -> Result<&Output> {
        if let Some(output) = self.output.get() {
            return Ok(output);
        }
        let output = Output::parse(&self.plan.pipeline.output.path, &self.plan.folder)?;
        Ok(self.output.get_or_init(|| output))
    }

    /// What was published before this run, which has this number. Only while the run holds its sequences.
    pub(crate) fn published_before(&self, number: u64) -> Result<Arc<Manifest>> {
        if let Some(before) = self.before.get() {
            return Ok(before.clone());
        }
        let output = self.output()?;
        let before = output.manifest()?.filter(|manifest| manifest.number() + 1 == number).ok_or_else(|| {
            IngestError::output(format!("{output} does not have the runs before run {number}"))
                .help("run again: nothing of this run was published")
        })?;
        Ok(self.before.get_or_init(|| Arc::new(before)).clone())
    }

    /// Takes the output, so that this run may change it. Only for a run that has just come to hold its sequences.
    pub(crate) fn take_output(&self) -> Result<Held> {
        let first = Manifest::new(&self.plan.pipeline.name, &self.layout);
        let held = Held::take(self.output()?, &self.plan.owner, &self.plan.run, Some(&first))?;
        let held = held.among(self.shared.is_some());
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held.clone());
        Ok(held)
    }

    /// The output, which this run has taken before, in this process or in an earlier one.
    pub(crate) fn held_output(&self) -> Result<Held> {
        let mut slot = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = &*slot {
            return Ok(held.clone());
        }
        let held = Held::keep_on(self.output()?, &self.plan.owner, &self.plan.run)?.among(self.shared.is_some());
        *slot = Some(held.clone());
        Ok(held)
    }

    /// Lets others have the output, if this run has it.
    pub(crate) fn give_output_back(&self) -> Result<()> {
        match self.output()? {
            Output::Folder(_) => Ok(()),
            Output::Store(_) => self.held_output()?.give_back(),
        }
    }

    /// The state folder.
    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    /// The name of the key map's segment that this run writes. A shared run's is its own: what an earlier attempt has left
    /// in some worker's state folder must not be taken for it.
    pub(crate) fn segment_name(&self, number: u64, merged: bool) -> String {
        let merged = if merged { "-merged" } else { "" };
        match &self.shared {
            Some(shared) => format!("{number:06}{merged}-{}.parquet", shared.work.execution()),
            None => format!("{number:06}{merged}.parquet"),
        }
    }

    /// The folder of a table's key map.
    pub(crate) fn keymap_folder(&self, table: u32) -> PathBuf {
        match &self.key_maps {
            Some(folder) => folder.join(&self.layout.tables[table as usize].name),
            None => self.segment_folder(SegmentKind::Keys, table),
        }
    }

    /// The folder of a table's segments.
    pub(crate) fn segment_folder(&self, kind: SegmentKind, table: u32) -> PathBuf {
        let all = pipeline_folder(&self.state, &self.plan.pipeline.name).join(kind.folder());
        all.join(&self.layout.tables[table as usize].name)
    }

    /// An error if the run is to be cancelled.
    pub(crate) fn check_cancelled(&self) -> Result<()> {
        if let Some(shared) = &self.shared {
            return shared.work.check_cancelled(&self.plan.run);
        }
        if cancel_path(&self.state, &self.plan.run).exists() {
            return Err(IngestError::new(ErrorKind::Cancelled, format!("run '{}' was cancelled", self.plan.run)));
        }
        Ok(())
    }

    /// Where a row of a chunk is, for people: rows count from 0, as readers of Parquet count them.
    pub(crate) fn place(&self, chunk: &Chunk, row: u32) -> String {
        format!("{}, row {}", self.plan.files[chunk.file as usize].name, chunk.first_row + u64::from(row))
    }

    /// A table by its index.
    pub(crate) fn table(&self, table: u32) -> &TableLayout {
        &self.layout.tables[table as usize]
    }
}

/// What is kept of a table in segments, of which each run adds one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SegmentKind {
    /// Its key map.
    Keys,
    /// The last number of each group.
    Groups,
}

impl SegmentKind {
    /// The name of its folder in the pipeline's.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Groups => "groups",
        }
    }

    /// A segment's name in the pipeline's folder.
    pub(crate) fn file(self, table: &str, segment: &str) -> String {
        format!("{}/{table}/{segment}", self.folder())
    }
}

/// What is remembered of a table's keys.
pub(crate) fn tracks(table: &TableLayout) -> Tracks {
    Tracks { last: table.on_conflict == OnConflict::Last, attributes: table.compares() }
}

/// A table for keys, of which there are none yet.
pub(crate) fn key_table(plan: &Plan, table: &TableLayout, folder: PathBuf) -> KeyTable {
    let fixed = table.codec.as_ref().is_some_and(KeyCodec::is_fixed);
    KeyTable::new(fixed, tracks(table), plan.shards, folder)
}

/// The folder of what a pipeline has committed: key maps, files, sequences.
pub(crate) fn pipeline_folder(state: &Path, pipeline: &str) -> PathBuf {
    state.join("pipelines").join(pipeline)
}
