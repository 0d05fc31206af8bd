//! What every step of one run shares in one process: the plan, the tables, the artifacts, the folders. It can be made
//! anew from the run's work folder at any time, so it must never hold the only copy of anything.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};

use crate::artifacts::{Artifact, ArtifactKey, Artifacts, Decoder, Encoder};
use crate::error::{ErrorKind, IngestError, Result};
use crate::files::{make_folder, own_folder, read_json, write_json, write_whole};
use crate::keys::{KeyCodec, KeyShard, KeyTable, Tracks};
use crate::layout::{Layout, TableLayout};
use crate::manifest::Manifest;
use crate::new_keys::{NewKeys, is_kept};
use crate::number::{Numbering, Places, ReservedTable, number};
use crate::output::{Held, Output};
use crate::plan::{Bound, Chunk, Paths, Plan, bind};
use crate::progress::Progress;
use crate::resolve::{Firsts, ShardResolution, resolve};
use crate::scan::{ChunkRecords, ChunkScan, scan};
use crate::shared::{self, Place, Shared, Work};
use crate::source::{Mirrors, Object, Opened, Records, SourceColumn, byte_ranges, damaged, read_footer};
use crate::write::Piece;
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
    /// The output in this run's hands, once it has taken it.
    held: Mutex<Option<Held>>,
    /// The plan's file as it was when this was made.
    edition: Option<(SystemTime, u64)>,
    artifacts: Artifacts,
    footers: Mutex<HashMap<u32, ArrowReaderMetadata>>,
    mirrors: Mirrors,
    /// Whether no rows will be written.
    looks: bool,
    /// Of each table, whether the last chunk that was scanned brought keys. A guess for what to fetch, no more.
    grows: Vec<AtomicBool>,
    // Small, and asked for often: never spilled.
    facts: Mutex<HashMap<u32, Facts>>,
    /// The position in the run of each chunk's first record; one more at the end.
    positions: Vec<u32>,
    /// The keys of each table; of a table without key there are none.
    keys: Vec<KeyTable>,
    firsts: Vec<Firsts>,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) records: u64,
    pub(crate) quarantined: u64,
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
        let mut positions = vec![0];
        positions.extend(plan.chunks.iter().scan(0, |sum, chunk| {
            *sum += chunk.rows;
            Some(*sum)
        }));
        let records = u64::from(positions[plan.chunks.len()]);
        // What is being decoded and encoded needs room too, and so does the program itself.
        let share = memory.saturating_sub(WORKING_MEMORY.min(memory / 8 * 5)) / 2;
        let tables = bound.layout.tables.iter().enumerate();
        let keys = tables.map(|(index, table)| key_table(&plan, table, spill.join(format!("keys-{index}")))).collect();
        let here = if shared.is_none() { records } else { 0 };
        let firsts = bound.layout.tables.iter().map(|t| Firsts::new(if t.is_keyed() { here } else { 0 })).collect();
        Self {
            artifacts: Artifacts::new(spill, share),
            keys_budget: share,
            footers: Mutex::new(bound.footers),
            mirrors,
            looks: false,
            grows: bound.layout.tables.iter().map(|_| AtomicBool::new(true)).collect(),
            facts: Mutex::default(),
            spans: plan.spans.iter().map(|_| Mutex::default()).collect(),
            scans: Done::new(plan.chunks.len()),
            scan_locks: plan.chunks.iter().map(|_| Mutex::default()).collect(),
            resolutions: bound.layout.tables.iter().map(|_| Done::new(plan.shards as usize)).collect(),
            positions,
            keys,
            firsts,
            records: bound.records,
            layout: bound.layout,
            progress,
            edition: if shared.is_none() { edition(state, &plan.run) } else { None },
            shared,
            plan,
            state: state.to_owned(),
            output: OnceLock::new(),
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
        let bound = bind(&plan.pipeline, &*kept_schema(state, run)?)?;
        Ok(Self::new(plan, bound, state, memory, progress))
    }

    /// The same for who only looks: no rows will be written, and what is fetched of the source lies in this folder.
    pub(crate) fn for_a_look(mut self, folder: PathBuf) -> Self {
        self.mirrors = Mirrors::new(folder);
        self.looks = true;
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
        let bound = bind(&plan.pipeline, loaded.map_err(|e| damaged(e.to_string()))?.schema())?;
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

    /// Takes the output, so that this run may change it. Only for a run that has just come to hold its sequences.
    pub(crate) fn take_output(&self) -> Result<Held> {
        let first = Manifest::new(&self.plan.pipeline.name, &self.layout);
        let held = Held::take(self.output()?, &self.plan.owner, &self.plan.run, Some(&first))?;
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held.clone());
        Ok(held)
    }

    /// The output, which this run has taken before, in this process or in an earlier one.
    pub(crate) fn held_output(&self) -> Result<Held> {
        let mut slot = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = &*slot {
            return Ok(held.clone());
        }
        let held = Held::keep_on(self.output()?, &self.plan.owner, &self.plan.run)?;
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
        pipeline_folder(&self.state, &self.plan.pipeline.name)
            .join("keys")
            .join(&self.layout.tables[table as usize].name)
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

    /// What a file's footer says.
    fn footer(&self, file: u32) -> Result<ArrowReaderMetadata> {
        let mut footers = self.footers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(footer) = footers.get(&file) {
            return Ok(footer.clone());
        }
        let planned = &self.plan.files[file as usize];
        let name = &planned.name;
        let footer = if planned.is_object() {
            Object::planned(planned)?.footer(name)?
        } else {
            let open = self.mirrors.open(file, planned, &self.plan.folder)?;
            read_footer(name, open.file(), planned.bytes)?
        };
        footers.insert(file, footer.clone());
        Ok(footer)
    }

    /// The file of a chunk, and what its footer says.
    fn open(&self, chunk: &Chunk) -> Result<(Opened, ArrowReaderMetadata)> {
        let opened = self.mirrors.open(chunk.file, &self.plan.files[chunk.file as usize], &self.plan.folder)?;
        Ok((opened, self.footer(chunk.file)?))
    }

    /// The file of a chunk, in which these of its columns can be read.
    fn open_for(&self, chunk: &Chunk, columns: &[String]) -> Result<(File, ArrowReaderMetadata)> {
        let (opened, footer) = self.open(chunk)?;
        opened.ensure(|| byte_ranges(footer.metadata(), chunk.row_groups(), columns))?;
        Ok((opened.into_file(), footer))
    }

    /// Reads these columns of a chunk's records.
    pub(crate) fn read(&self, chunk: u32, columns: &[String]) -> Result<ChunkRecords> {
        let chunk = &self.plan.chunks[chunk as usize];
        let name = &self.plan.files[chunk.file as usize].name;
        let names: Vec<&str> = columns.iter().map(String::as_str).collect();
        let selected = self.records.select(&names)?;
        let (file, footer) = self.open_for(chunk, selected.inputs())?;
        let (batch, kept) = selected.read(file, &footer, chunk, name)?;
        Ok(ChunkRecords::new(batch, kept))
    }

    /// Reads these columns of a chunk's rows as the source has them.
    pub(crate) fn read_source(&self, chunk: u32, columns: &[String]) -> Result<arrow::array::RecordBatch> {
        let chunk = &self.plan.chunks[chunk as usize];
        let (file, footer) = self.open_for(chunk, columns)?;
        let name = &self.plan.files[chunk.file as usize].name;
        crate::source::read_chunk(file, &footer, chunk, columns, name)
    }

    /// The source column that a column of the records is, in a chunk; `None` if it is none, or nested.
    pub(crate) fn source_column(&self, chunk: u32, column: &str) -> Result<Option<SourceColumn>> {
        match self.records.pass_through(column) {
            Some(source) => self.file_column(chunk, source),
            None => Ok(None),
        }
    }

    /// A column of the source in a chunk; `None` if it is nested.
    pub(crate) fn file_column(&self, chunk: u32, source: &str) -> Result<Option<SourceColumn>> {
        let Ok(field) = self.records.source_schema().field_with_name(source) else { return Ok(None) };
        let chunk = &self.plan.chunks[chunk as usize];
        let (file, footer) = self.open(chunk)?;
        Ok(SourceColumn::new(file, footer.metadata().clone(), chunk, source, field.data_type()))
    }

    /// Whether a chunk's file is an object, so that it costs something to read it; not, if there is no such chunk.
    pub(crate) fn is_far(&self, chunk: u32) -> bool {
        let chunk = self.plan.chunks.get(chunk as usize);
        chunk.is_some_and(|chunk| self.plan.files[chunk.file as usize].is_object())
    }

    /// Where columns of the records of a chunk are in its file: in the row groups that have rows for which `wanted`
    /// holds, by their places in the chunk.
    pub(crate) fn to_fetch(
        &self,
        chunk: u32,
        columns: &[String],
        wanted: impl Fn(Range<u32>) -> bool,
    ) -> Result<Vec<Range<u64>>> {
        let chunk = &self.plan.chunks[chunk as usize];
        let names: Vec<&str> = columns.iter().map(String::as_str).collect();
        let columns = self.records.source_columns(&names);
        let footer = self.footer(chunk.file)?;
        let (mut ranges, mut row) = (Vec::new(), 0);
        for group in chunk.row_groups() {
            let end = row + footer.metadata().row_group(group).num_rows() as u32;
            // A chunk that is a part of a row group needs that group, wherever its rows are in it.
            if chunk.skip > 0 || chunk.partial || wanted(row..end) {
                ranges.extend(byte_ranges(footer.metadata(), group..group + 1, &columns));
            }
            row = end;
        }
        Ok(ranges)
    }

    /// Fetches these bytes of a chunk's file, and returns when they are there.
    pub(crate) fn fetch(&self, chunk: u32, ranges: Vec<Range<u64>>) -> Result<()> {
        self.open(&self.plan.chunks[chunk as usize])?.0.ensure(|| ranges)
    }

    /// Begins to fetch them.
    pub(crate) fn fetch_ahead(&self, chunk: u32, ranges: Vec<Range<u64>>) -> Result<()> {
        let file = self.plan.chunks[chunk as usize].file;
        self.mirrors.fetch_ahead(file, &self.plan.files[file as usize], ranges)
    }

    /// Whether rows of a table are expected of every chunk that is not scanned yet: of a table without key, and in a
    /// first run of one that has grown with each chunk so far. In later runs most keys may be known ones.
    pub(crate) fn expects_rows(&self, table: usize) -> bool {
        let is_keyed = self.layout.tables[table].is_keyed();
        !self.looks && (!is_keyed || (self.plan.files_known == 0 && self.grows[table].load(SeqCst)))
    }

    /// Remembers which tables had new keys in the chunk that was scanned last.
    pub(crate) fn note_growth(&self, grown: impl Iterator<Item = bool>) {
        for (grown, grows) in grown.zip(&self.grows) {
            grows.store(grown, SeqCst);
        }
    }

    /// The rows of each row group of a chunk.
    pub(crate) fn group_rows(&self, chunk: u32) -> Result<Vec<u32>> {
        let chunk = &self.plan.chunks[chunk as usize];
        let footer = self.footer(chunk.file)?;
        Ok(chunk.row_groups().map(|group| footer.metadata().row_group(group).num_rows() as u32).collect())
    }

    /// Whether a chunk may be worked on as pages: it is made of whole row groups.
    pub(crate) fn pages_allowed(&self, chunk: u32) -> bool {
        let place = &self.plan.chunks[chunk as usize];
        self.plan.paths != Paths::General && place.skip == 0 && !place.partial
    }

    /// A chunk that cannot be read: a column in a row group, counted within the chunk.
    pub(crate) fn damaged(&self, chunk: u32, group: usize, column: &str, text: &str) -> IngestError {
        let chunk = &self.plan.chunks[chunk as usize];
        let place = Some((chunk.first_group as usize + group, column));
        damaged(&self.plan.files[chunk.file as usize].name, chunk, place, text)
    }

    /// The keys of a table in this run.
    pub(crate) fn keys(&self, table: u32) -> &KeyTable {
        &self.keys[table as usize]
    }

    /// Where the keys of a table appear first.
    pub(crate) fn firsts(&self, table: u32) -> &Firsts {
        &self.firsts[table as usize]
    }

    /// Writes keys out of memory if they take more than their share of it.
    pub(crate) fn relieve_keys(&self) -> Result<()> {
        if self.keys.iter().map(KeyTable::bytes).sum::<u64>() > self.keys_budget {
            self.keys.iter().try_for_each(KeyTable::spill)?;
        }
        Ok(())
    }

    /// The position in the run of a chunk's first record; of the chunk after the last one, the end.
    pub(crate) fn first_position(&self, chunk: u32) -> u32 {
        self.positions[chunk as usize]
    }

    /// The chunk that a position is in, and the record there.
    pub(crate) fn chunk_at(&self, position: u32) -> (u32, u32) {
        let chunk = self.positions.partition_point(|&first| first <= position) - 1;
        (chunk as u32, position - self.positions[chunk])
    }

    /// Where the record at a position is, for people.
    pub(crate) fn place_of(&self, position: u32) -> Result<String> {
        let (chunk, record) = self.chunk_at(position);
        let chunk = &self.plan.chunks[chunk as usize];
        Ok(self.place(chunk, self.record_rows(chunk, &[record])?[0]))
    }

    /// The scan of a chunk. Its keys are in the key tables then, or in the work location.
    pub(crate) fn scan(&self, chunk: u32) -> Result<Arc<ChunkScan>> {
        if let Some(shared) = &self.shared {
            return shared::chunk_scan(self, shared, chunk);
        }
        let scan = self.artifacts.get(ArtifactKey::Scan(chunk), || {
            if self.scans.is_all() {
                // Handles given now would be of keys that nobody resolves any more.
                return Err(IngestError::state("what a scan had found is gone from the run's work folder")
                    .help("something removed or changed it, or the disk is failing: run again"));
            }
            scan(self, &self.keys, chunk)
        })?;
        self.scans.set(chunk);
        Ok(scan)
    }

    /// Scans consecutive chunks.
    pub(crate) fn scan_all(&self, chunks: Range<u32>) -> Result<()> {
        // A step may run twice, also at once with itself: the second finds everything done.
        let _one = self.scan_locks[chunks.start as usize].lock().unwrap_or_else(PoisonError::into_inner);
        let left: Vec<u32> = chunks.filter(|&chunk| !self.scans.is_set(chunk)).collect();
        left.into_iter().try_for_each(|chunk| self.scan(chunk).map(|_| ()))
    }

    /// Scans what this process has not: all of it when it takes up another one's run.
    pub(crate) fn ensure_scanned(&self) -> Result<()> {
        self.scans.ensure(|chunk| self.scan(chunk).map(|_| ()))
    }

    /// Resolves the shards of a table that this process has not.
    pub(crate) fn ensure_resolved(&self, table: u32, segments: &[String]) -> Result<()> {
        self.resolutions[table as usize].ensure(|shard| self.resolution(table, shard, segments).map(|_| ()))
    }

    /// The scan of a chunk, if this process has it.
    pub(crate) fn kept_scan(&self, chunk: u32) -> Option<Arc<ChunkScan>> {
        self.artifacts.peek(ArtifactKey::Scan(chunk))
    }

    /// Keeps a scan.
    pub(crate) fn keep_scan(&self, chunk: u32, scan: ChunkScan) -> Result<()> {
        self.artifacts.put(ArtifactKey::Scan(chunk), scan)
    }

    /// A folder for what this process alone reads back.
    pub(crate) fn own_folder(&self, name: &str) -> PathBuf {
        work_folder(&self.state, &self.plan.run).join(own_folder("spill")).join(name)
    }

    /// How many positions the run has.
    pub(crate) fn positions(&self) -> u32 {
        self.positions[self.plan.chunks.len()]
    }

    /// The part of the run that a span is in; a run that one process carries out is one part.
    pub(crate) fn part_of_span(&self, span: u32) -> u32 {
        (self.plan.parts.partition_point(|&(first, _)| first <= span) as u32).saturating_sub(1)
    }

    /// The part that a chunk is in.
    pub(crate) fn part_of_chunk(&self, chunk: u32) -> u32 {
        self.part_of_span((self.plan.spans.partition_point(|&(first, _)| first <= chunk) as u32).saturating_sub(1))
    }

    /// What is small of a chunk's scan.
    pub(crate) fn scan_facts(&self, chunk: u32) -> Result<Facts> {
        if let Some(shared) = &self.shared {
            let facts = shared::chunk_facts(self, shared, chunk)?;
            return Ok(Facts { records: facts.records, quarantined: facts.quarantined });
        }
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
        let resolution =
            self.artifacts.get(ArtifactKey::Shard(table, shard), || resolve(self, table, shard, segments))?;
        self.resolutions[table as usize].set(shard);
        Ok(resolution)
    }

    /// The numbering of a table within its reserved block.
    pub(crate) fn numbering(&self, table: u32, reserved: &ReservedTable) -> Result<Arc<Numbering>> {
        self.artifacts.get(ArtifactKey::Numbering(table), || number(self, table, reserved))
    }

    /// The places of a table's keys within its sequence, of those in a part of the run.
    pub(crate) fn places(&self, table: u32, part: u32, reserved: &ReservedTable) -> Result<Arc<Places>> {
        self.artifacts.get(ArtifactKey::Places(table, part), || Places::new(self, table, part, reserved))
    }

    /// Calls `work` with one shard of a table, each of its keys once.
    pub(crate) fn with_keys<T>(&self, table: u32, shard: u32, work: impl FnOnce(&KeyShard) -> Result<T>) -> Result<T> {
        match &self.shared {
            Some(others) => shared::with_keys(self, others, table, shard, work),
            None => self.keys(table).settled(shard, |keys, _| work(keys)),
        }
    }

    /// Calls `visit` for each shard of a table, in order, with the packed origins of the keys that handles of this part
    /// of the run stand for.
    pub(crate) fn each_shard(
        &self,
        table: u32,
        part: u32,
        segments: &[String],
        mut visit: impl FnMut(&[u64]),
    ) -> Result<()> {
        if let Some(shared) = &self.shared {
            return shared::each_origin(self, shared, table, part, segments, visit);
        }
        (0..self.plan.shards).try_for_each(|shard| {
            visit(&self.resolution(table, shard, segments)?.origins);
            Ok(())
        })
    }

    /// Calls `visit` with the last and the first position of each new key that appears last in a range of positions,
    /// which is within one part of the run.
    pub(crate) fn each_last(
        &self,
        table: u32,
        positions: Range<u32>,
        segments: &[String],
        mut visit: impl FnMut(u32, u32),
    ) -> Result<()> {
        let mut within = |pairs: &[(u32, u32)]| {
            let from = pairs.partition_point(|&(last, _)| last < positions.start);
            let here = pairs[from..].iter().take_while(|&&(last, _)| last < positions.end);
            here.for_each(|&(last, first)| visit(last, first));
        };
        if let Some(shared) = &self.shared {
            let part = self.part_of_chunk(self.chunk_at(positions.start).0);
            let find = || Ok(LastRecords(shared::last_records(self, shared, table, part, segments)?));
            within(&self.artifacts.get(ArtifactKey::Last(table, part), find)?.0);
            return Ok(());
        }
        (0..self.plan.shards).try_for_each(|shard| {
            within(&self.resolution(table, shard, segments)?.last);
            Ok(())
        })
    }

    /// Brings segments of a table's key map that this process's state folder lacks.
    pub(crate) fn bring_segments(&self, table: u32, segments: &[String]) -> Result<()> {
        match &self.shared {
            Some(shared) => shared::bring_segments(self, shared, table, segments),
            None => Ok(()),
        }
    }

    /// Where the new keys of a table appear first, 64 positions to a word.
    pub(crate) fn first_words(&self, table: u32, segments: &[String]) -> Result<Vec<u64>> {
        if let Some(shared) = &self.shared {
            return shared::first_words(self, shared, table, segments);
        }
        self.ensure_resolved(table, segments)?;
        Ok(self.firsts(table).words())
    }

    /// A table's new keys by place, if they are of a kind that is kept and all in memory.
    pub(crate) fn new_keys(&self, table: u32, reserved: &ReservedTable) -> Result<Option<Arc<NewKeys>>> {
        // In a shared run, whoever writes rows reads their keys from the source: new keys go to who keeps the key map.
        if self.shared.is_some() || !is_kept(self.table(table)) {
            return Ok(None);
        }
        // A process that takes up another's run knows no keys yet.
        self.ensure_resolved(table, &reserved.segments)?;
        if self.keys(table).has_spilled() {
            return Ok(None);
        }
        self.artifacts.get(ArtifactKey::NewKeys(table), || NewKeys::new(self, table, reserved)).map(Some)
    }

    /// Keeps the rows that a span leaves for a file that several spans share.
    pub(crate) fn keep_piece(&self, table: u32, span: u32, piece: Piece) -> Result<()> {
        match &self.shared {
            Some(shared) => shared::keep_piece(shared, table, span, &piece),
            None => self.artifacts.put(ArtifactKey::Piece(table, span), piece),
        }
    }

    /// Takes them back, if they are there.
    pub(crate) fn piece(&self, table: u32, span: u32) -> Result<Option<Arc<Piece>>> {
        match &self.shared {
            Some(shared) => Ok(shared::find_piece(shared, table, span)?.map(Arc::new)),
            None => Ok(self.artifacts.peek(ArtifactKey::Piece(table, span))),
        }
    }

    /// Forgets them.
    pub(crate) fn drop_piece(&self, table: u32, span: u32) {
        if self.shared.is_none() {
            self.artifacts.remove(ArtifactKey::Piece(table, span));
        }
    }

    /// Waits until no other thread writes this span.
    pub(crate) fn lock_span(&self, span: u32) -> std::sync::MutexGuard<'_, ()> {
        self.spans[span as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The chunks of a span.
    pub(crate) fn span_chunks(&self, span: u32) -> Range<u32> {
        let (from, to) = self.plan.spans[span as usize];
        from..to
    }

    /// A table by its index.
    pub(crate) fn table(&self, table: u32) -> &TableLayout {
        &self.layout.tables[table as usize]
    }
}

/// What is remembered of a table's keys.
pub(crate) fn tracks(table: &TableLayout) -> Tracks {
    match table.on_conflict {
        OnConflict::First => Tracks::First,
        OnConflict::Last => Tracks::Last,
        OnConflict::Error => Tracks::Attributes,
    }
}

/// A table for keys, of which there are none yet.
pub(crate) fn key_table(plan: &Plan, table: &TableLayout, folder: PathBuf) -> KeyTable {
    let fixed = table.codec.as_ref().is_some_and(KeyCodec::is_fixed);
    KeyTable::new(fixed, tracks(table), plan.shards, folder)
}

/// Last and first positions of new keys, ascending by the last.
#[derive(Debug, PartialEq, Eq)]
struct LastRecords(Vec<(u32, u32)>);

impl Artifact for LastRecords {
    fn bytes(&self) -> u64 {
        self.0.capacity() as u64 * 8
    }

    fn encode(&self, out: &mut Encoder) {
        out.u32s(&self.0.iter().flat_map(|&(last, first)| [last, first]).collect::<Vec<_>>());
    }

    fn decode(from: &mut Decoder<'_>) -> Option<Self> {
        Some(Self(from.u32s()?.as_chunks::<2>().0.iter().map(|&[last, first]| (last, first)).collect()))
    }
}

/// Which of a number of things this process has done. Many threads may do them at once.
#[derive(Debug)]
struct Done {
    flags: Vec<AtomicBool>,
    left: AtomicUsize,
    next: AtomicUsize,
}

impl Done {
    fn new(count: usize) -> Self {
        let flags = (0..count).map(|_| AtomicBool::new(false)).collect();
        Self { flags, left: AtomicUsize::new(count), next: AtomicUsize::new(0) }
    }

    fn set(&self, index: u32) {
        if !self.flags[index as usize].swap(true, SeqCst) {
            self.left.fetch_sub(1, SeqCst);
        }
    }

    fn is_set(&self, index: u32) -> bool {
        self.flags[index as usize].load(SeqCst)
    }

    fn is_all(&self) -> bool {
        self.left.load(SeqCst) == 0
    }

    /// Does what is not done, together with whoever else asks for it.
    fn ensure(&self, mut work: impl FnMut(u32) -> Result<()>) -> Result<()> {
        if self.is_all() {
            return Ok(());
        }
        while let Some(index) = Some(self.next.fetch_add(1, SeqCst)).filter(|&index| index < self.flags.len()) {
            if !self.flags[index].load(SeqCst) {
                work(index as u32)?;
            }
        }
        // What others are at is waited for, and done if they failed.
        (0..self.flags.len()).filter(|&index| !self.flags[index].load(SeqCst)).try_for_each(|index| work(index as u32))
    }
}

/// The folder of what a pipeline has committed: key maps, files, sequences.
pub(crate) fn pipeline_folder(state: &Path, pipeline: &str) -> PathBuf {
    state.join("pipelines").join(pipeline)
}
