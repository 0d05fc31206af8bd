//! The plan of a run: the new files in their order, cut into chunks and spans. A plan is made once, kept with the run,
//! and never changes; everything that a run computes is a function of it. Must never read a record.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arrow::datatypes::Schema;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::basic::Type as Physical;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use serde::{Deserialize, Serialize};
use seriatim_pipeline::model::{OnBadFile, Pipeline, Source};

use crate::delta::refuse_types;
use crate::drift::{Drift, Known, SourceTypes, bind_files};
use crate::error::{IngestError, Result};
use crate::file_size::{records_of_files, rows_of_files};
use crate::files::scratch;
use crate::layout::Layout;
use crate::lookups::{Lookups, PlannedLookup};
use crate::output::REPLAY;
use crate::project::Project;
use crate::resolve::MOST_RECORDS;
use crate::settled::{Adopted, Settled};
use crate::source::{
    FileFacts, Found, Listing, Records, SourceFile, bad_file, changed, content_hash, file_facts, list, stamp,
};
use crate::text::{Texts, form_of, take_up};
use crate::write::QUARANTINE_COLUMNS;

/// Consecutive rows of one source file: the unit of fan-out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Chunk {
    /// Index into the plan's files.
    pub(crate) file: u32,
    /// The first row, counted from 0 in the file.
    pub(crate) first_row: u64,
    pub(crate) rows: u32,
    /// The row groups that hold these rows.
    pub(crate) first_group: u32,
    pub(crate) groups: u32,
    /// Rows of the first group that come before the chunk.
    pub(crate) skip: u64,
    /// Whether the chunk ends before its last group does.
    pub(crate) partial: bool,
}

impl Chunk {
    /// The row groups that hold these rows.
    pub(crate) fn row_groups(&self) -> std::ops::Range<usize> {
        self.first_group as usize..(self.first_group + self.groups) as usize
    }
}

/// What a run will do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) run: String,
    /// The id of the state folder whose run this is.
    #[serde(default)]
    pub(crate) owner: String,
    pub(crate) pipeline: Pipeline,
    /// The folder that relative paths start at.
    pub(crate) folder: PathBuf,
    /// The new files, in order.
    pub(crate) files: Vec<SourceFile>,
    /// How many listed files earlier runs have ingested.
    pub(crate) files_known: u64,
    /// New files that are set aside because they cannot be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) aside: Vec<SourceFile>,
    /// How many listed files earlier runs have set aside.
    #[serde(default, skip_serializing_if = "crate::sequence::is_zero")]
    pub(crate) aside_known: u64,
    /// Tables that exist and are taken over, because no run is published yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) adopted: Vec<Adopted>,
    /// The look-ups that the transform joins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) lookups: Vec<PlannedLookup>,
    /// The columns that these files have together, in the order of names: what a record in quarantine shows of its source.
    pub(crate) source_columns: Vec<String>,
    /// The files of the quarantine whose records the source is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) replayed: Vec<String>,
    /// What the files differ in.
    #[serde(default, skip_serializing_if = "Drift::is_none")]
    pub(crate) drift: Drift,
    /// The types of the columns of text files.
    #[serde(default, skip_serializing_if = "SourceTypes::is_empty")]
    pub(crate) texts: SourceTypes,
    pub(crate) chunks: Vec<Chunk>,
    /// Consecutive chunks that are written together: index of the first, index after the last.
    pub(crate) spans: Vec<(u32, u32)>,
    /// Consecutive spans that are scanned and written by one worker, where several carry out a run: index of the first,
    /// index after the last. None where one process does.
    #[serde(default)]
    pub(crate) parts: Vec<(u32, u32)>,
    /// Hash shards per table.
    pub(crate) shards: u32,
    /// Rows that make a file of their own.
    pub(crate) file_rows: u64,
    /// The same for each table, where files are to have a size.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) table_rows: Vec<u64>,
    /// How columns are read and written.
    #[serde(default)]
    pub(crate) paths: Paths,
}

impl Plan {
    /// The file that a column of the records has its type from: one that brings more than what is published, else the first.
    pub(crate) fn brings(&self, records: &Records, column: &str) -> &str {
        let first = || self.files.first().map_or("the source", |file| file.name.as_str());
        self.drift.wider(records, column).unwrap_or_else(first)
    }

    /// A name that no run of another state folder has.
    pub(crate) fn own_name(&self) -> String {
        format!("{}-{}", self.run, self.owner.get(..12).unwrap_or(&self.owner))
    }
}

/// The files that earlier runs have ingested, by name.
pub(crate) type FileMemory = BTreeMap<String, SourceFile>;

/// How columns are read and written: as pages, or as Arrow arrays. The result is the same; the setting is for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Paths {
    /// As pages where that can be and is worth it.
    #[default]
    Auto,
    /// As Arrow arrays always.
    General,
    /// As pages wherever that can be, however small the row groups.
    Pages,
}

/// How a plan is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cut {
    pub(crate) chunk_rows: u32,
    /// 0: as many as suit the number of records.
    pub(crate) shards: u32,
    #[serde(default)]
    pub(crate) paths: Paths,
}

/// Row groups up to this many times the size of a chunk are not cut, so that their columns can be copied.
const WHOLE_GROUP: u32 = 8;

/// A chunk's rows are decoded together, so they are cut to about this size; 256 MiB, so that string columns stay far
/// below the 2 GiB that Arrow's 32-bit offsets reach.
const CHUNK_BYTES: u64 = 256 << 20;

/// Objects whose footers are read at once, at least.
const OBJECTS_AT_ONCE: usize = 12;

/// Whether new files are read to the end for their hash: a run must, for its memory; a look need not. And where the copies
/// of text files lie: those of a run in this folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose<'a> {
    Run(&'a Path),
    Look,
}

/// Makes the plan of `run`, which goes on from what is `known`; with no new file, its `files` are empty. `aside`: files that were found to be bad while an
/// earlier plan was carried out; what has changed since is looked at anew.
pub(crate) fn make_plan(
    settled: &Settled,
    run: &str,
    known: &Known,
    cut: Cut,
    workers: usize,
    purpose: Purpose<'_>,
    aside: &[SourceFile],
) -> Result<(Plan, Option<Bound>)> {
    let project = &settled.project;
    let source = &project.pipeline().source;
    let listing = list(project.folder(), &source.files, source.format, "source.files")?;
    refuse_own_output(project, &listing)?;
    if listing.files.is_empty() && known.files.is_empty() {
        let patterns = listing.unmatched.join("', '");
        return Err(IngestError::input(format!("no file matches '{patterns}'"))
            .help(format!("correct `source.files`; relative paths start at {}", project.folder().display())));
    }
    let sets_aside = source.on_bad_file == OnBadFile::Quarantine;
    let listed: Vec<(String, Found)> = listing.files.into_iter().collect();
    // To look at an object is to wait for its service.
    let threads =
        if listed.iter().any(|(_, found)| found.is_object()) { workers.max(OBJECTS_AT_ONCE) } else { workers };
    let looked = in_parallel(threads, &listed, |(name, found)| match known.files.get(name) {
        Some(ingested) if ingested.bad.is_none() => still_the_same(ingested, found).map(|()| Look::Known),
        Some(bad) if sets_aside && is_same(bad, found)? => Ok(Look::KnownBad),
        _ => look_at(name, found, source, purpose, aside),
    })?;
    let (mut new, mut bad, mut files_known, mut aside_known) = (Vec::new(), Vec::new(), 0, 0);
    for look in looked {
        match look {
            Look::Known => files_known += 1,
            Look::KnownBad => aside_known += 1,
            Look::New(file) => new.push(New::Parquet(*file)),
            Look::Text(file) => new.push(New::Text(*file)),
            Look::Bad(file) => bad.push(*file),
        }
    }
    let (facts, texts) = take_up_texts(project, new, known, purpose, workers, &mut bad)?;
    let (mut bound, mut source_columns, mut drift) = (None, Vec::new(), Drift::default());
    let mut lookups = Vec::new();
    if !facts.is_empty() {
        let found = Lookups::find(project)?;
        let mut together = bind_files(project.pipeline(), &facts, known, &found)?;
        lookups = found.planned();
        together.bound.texts = texts;
        let objects = (0..).zip(&facts).filter(|(_, facts)| facts.file.is_object());
        together.bound.footers = objects.map(|(index, facts)| (index, facts.footer.clone())).collect();
        (bound, source_columns, drift) = (Some(together.bound), together.columns, together.drift);
    }
    let records: u64 = facts.iter().map(|f| f.file.rows).sum();
    if records > MOST_RECORDS {
        return Err(IngestError::input(format!("{records} records are more than one run can have ({MOST_RECORDS})"))
            .help("ingest the files in several runs: `--set source.files=...`"));
    }
    let mut span_rows = u64::from(cut.chunk_rows.max(1)) * 2;
    let mut cut = cut;
    let (mut whole, mut table_rows) = (WHOLE_GROUP, Vec::new());
    if let (Some(target), Some(bound)) = (project.pipeline().output.target_file_size, &bound) {
        table_rows = rows_of_files(target, &bound.layout, &facts);
        // Files are of whole spans: where one is wanted to have less, spans are smaller, and row groups are cut.
        let least = records_of_files(&table_rows, &bound.layout, &facts).unwrap_or(span_rows).min(span_rows);
        (span_rows, cut.chunk_rows, whole) = (least, cut.chunk_rows.min(least as u32), 1);
    }
    let cut_one = |(index, facts): (usize, &FileFacts)| cut_file(index as u32, facts.footer.metadata(), cut, whole);
    let chunks: Vec<Chunk> = facts.iter().enumerate().flat_map(cut_one).collect();
    if !project.replayed().is_empty() {
        source_columns.retain(|name| !QUARANTINE_COLUMNS.contains(&name.as_str()));
    }
    let plan = Plan {
        run: run.to_owned(),
        owner: String::new(),
        pipeline: project.pipeline().clone(),
        folder: project.folder().to_owned(),
        files: facts.into_iter().map(|f| f.file).collect(),
        files_known,
        aside: bad,
        aside_known,
        adopted: settled.adopted.clone(),
        lookups,
        source_columns,
        replayed: project.replayed().to_vec(),
        drift,
        texts: bound.as_ref().and_then(|bound| bound.texts.as_ref()).map(Texts::kept_types).unwrap_or_default(),
        spans: cut_spans(&chunks, span_rows),
        chunks,
        parts: Vec::new(),
        shards: if cut.shards == 0 { suited_shards(records) } else { cut.shards },
        file_rows: span_rows,
        table_rows,
        paths: cut.paths,
    };
    Ok((plan, bound))
}

/// So many hash shards that one of them is near while it is looked at, however many keys there are.
fn suited_shards(records: u64) -> u32 {
    (records / 100_000).clamp(16, 1024).next_power_of_two() as u32
}

/// The records and the tables of a plan.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) records: Records,
    pub(crate) layout: Layout,
    /// Footers by file, as far as it would cost something to read them again.
    pub(crate) footers: HashMap<u32, ArrowReaderMetadata>,
    /// The text files and their copies, if there are any.
    pub(crate) texts: Option<Texts>,
}

/// Binds the pipeline to the columns of the source.
pub(crate) fn bind(pipeline: &Pipeline, source: &Schema, lookups: &Arc<Lookups>) -> Result<Bound> {
    let records = Records::new(source, pipeline, lookups)?;
    let layout = Layout::new(pipeline, &records.schema())?;
    refuse_types(pipeline, &layout)?;
    Ok(Bound { records, layout, footers: HashMap::new(), texts: None })
}

/// What a listed file is.
enum Look {
    /// Ingested by an earlier run.
    Known,
    /// Set aside by an earlier run, and no other since.
    KnownBad,
    New(Box<FileFacts>),
    /// New, and a text file, of which no more is known than what it is.
    Text(Box<SourceFile>),
    /// New, and it cannot be read.
    Bad(Box<SourceFile>),
}

/// A file that is to be ingested.
enum New {
    Parquet(FileFacts),
    Text(SourceFile),
}

/// The facts of new files, in order: of text files, those of their copies. Those that cannot be read are set aside, or an
/// error.
fn take_up_texts(
    project: &Project,
    new: Vec<New>,
    known: &Known,
    purpose: Purpose<'_>,
    workers: usize,
    bad: &mut Vec<SourceFile>,
) -> Result<(Vec<FileFacts>, Option<Texts>)> {
    let is_text = |file: &New| match file {
        New::Text(file) => Some(file.clone()),
        New::Parquet(_) => None,
    };
    let files: Vec<SourceFile> = new.iter().filter_map(is_text).collect();
    let (mut texts, mut taken) = (None, Vec::new());
    if !files.is_empty() {
        let published = known.text_types(project.pipeline());
        let (folder, is_scratch) = match purpose {
            Purpose::Run(folder) => (folder.to_owned(), false),
            Purpose::Look => (scratch("texts"), true),
        };
        let found = take_up(project, &files, &published, folder, is_scratch, workers)?;
        (texts, taken) = (Some(found.0), found.1);
    }
    let sets_aside = project.pipeline().source.on_bad_file == OnBadFile::Quarantine;
    let mut taken = taken.into_iter();
    let mut facts = Vec::with_capacity(new.len());
    for file in new {
        let file = match file {
            New::Parquet(found) => {
                facts.push(found);
                continue;
            }
            New::Text(file) => file,
        };
        match taken.next() {
            Some(Ok(found)) => facts.push(found),
            Some(Err(IngestError { file: Some(what), .. })) if sets_aside => {
                bad.push(SourceFile { bad: Some(*what), ..file });
            }
            Some(Err(error)) => return Err(error),
            None => return Err(IngestError::internal("a text file was not taken up")),
        }
    }
    bad.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((facts, texts))
}

/// Looks at a file that was not ingested.
fn look_at(name: &str, found: &Found, source: &Source, purpose: Purpose<'_>, aside: &[SourceFile]) -> Result<Look> {
    let sets_aside = source.on_bad_file == OnBadFile::Quarantine;
    if sets_aside
        && let Some(bad) = aside.iter().find(|bad| bad.name == *name)
        && is_same(bad, found)?
    {
        return Ok(Look::Bad(Box::new(bad.clone())));
    }
    let hash = purpose != Purpose::Look;
    if form_of(name, source.format).is_some() {
        return found.as_text(name, hash).map(|file| Look::Text(Box::new(file)));
    }
    let facts = match found {
        Found::Local(path) => file_facts(name, path, hash),
        Found::Object(object) => object.facts(name),
    };
    match (facts, found) {
        (Err(IngestError { file: Some(bad), .. }), Found::Local(path)) if sets_aside => {
            bad_file(name, path, hash, *bad).map(|file| Look::Bad(Box::new(file)))
        }
        (Err(IngestError { file: Some(bad), .. }), Found::Object(object)) if sets_aside => {
            Ok(Look::Bad(Box::new(object.bad(name, *bad))))
        }
        (facts, _) => facts.map(|facts| Look::New(Box::new(facts))),
    }
}

/// A file that was ingested must be what it was.
fn still_the_same(ingested: &SourceFile, found: &Found) -> Result<()> {
    if is_same(ingested, found)? { Ok(()) } else { Err(changed(&ingested.name, "since it was ingested")) }
}

/// Whether a file is what it was.
fn is_same(before: &SourceFile, found: &Found) -> Result<bool> {
    Ok(match found {
        Found::Local(path) => {
            let (bytes, modified) = stamp(path)?;
            (bytes, modified) == (before.bytes, before.modified)
                || (bytes == before.bytes && !before.hash.is_empty() && content_hash(path)? == before.hash)
        }
        Found::Object(object) => object.bytes == before.bytes && object.version.0 == before.hash,
    })
}

fn refuse_own_output(project: &Project, listing: &Listing) -> Result<()> {
    let canonical = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let output = project.output()?;
    let own: Vec<PathBuf> = output.as_folder().into_iter().chain([&*project.state()]).map(canonical).collect();
    // The records of a replay are kept there.
    let is_replay = |found: &Found| match (found, output.as_folder()) {
        (Found::Local(path), Some(folder)) => canonical(path).starts_with(canonical(&folder.join(REPLAY))),
        (Found::Object(object), None) => output.holds_in(REPLAY, &object.place),
        _ => false,
    };
    let is_own = |found: &Found| match found {
        Found::Local(path) => own.iter().any(|o| canonical(path).starts_with(o)),
        Found::Object(object) => output.holds(&object.place),
    };
    match listing.files.iter().find(|(_, found)| is_own(found) && !is_replay(found)) {
        None => Ok(()),
        Some((name, _)) => {
            Err(IngestError::pipeline(format!("`source.files` reaches into the pipeline's own output: {name}"))
                .help("narrow `source.files`, or put `output.path` and `state` elsewhere"))
        }
    }
}

/// Calls `f` for each item on up to `workers` threads; the results in order, or the first error in order.
pub(crate) fn in_parallel<T: Sync, R: Send>(
    workers: usize,
    items: &[T],
    f: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let threads = workers.clamp(1, items.len().max(1));
    if threads == 1 {
        return items.iter().map(f).collect();
    }
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<Result<R>>>> = Mutex::new(items.iter().map(|_| None).collect());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((index, item)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    items.get(index).map(|item| (index, item))
                } {
                    let result = f(item);
                    results.lock().unwrap_or_else(std::sync::PoisonError::into_inner)[index] = Some(result);
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    results.into_iter().map(|r| r.unwrap_or_else(|| Err(IngestError::internal("a thread ended early")))).collect()
}

/// Cuts a file into chunks of at most `chunk_rows` rows: small row groups together, large ones apart, but for those of up
/// to `whole` times as many.
pub(crate) fn cut_file(file: u32, metadata: &ParquetMetaData, cut: Cut, whole: u32) -> Vec<Chunk> {
    let chunk_rows = cut.chunk_rows.max(1);
    let whole = if cut.paths == Paths::General { chunk_rows } else { chunk_rows.saturating_mul(whole) };
    let mut chunks: Vec<Chunk> = Vec::new();
    let mut first_row = 0;
    let mut open: Option<Chunk> = None;
    for (index, group) in metadata.row_groups().iter().enumerate() {
        let rows = group.num_rows() as u64;
        if rows == 0 {
            continue;
        }
        let row_bytes = (decoded_bytes(group) / rows).max(1);
        let fits = (CHUNK_BYTES / row_bytes).max(1);
        let most = u64::from(chunk_rows).min(fits);
        if let Some(chunk) = &mut open
            && u64::from(chunk.rows) + rows <= most
            && chunk.first_group + chunk.groups == index as u32
        {
            chunk.rows += rows as u32;
            chunk.groups += 1;
        } else {
            chunks.extend(open.take());
            let pieces = if rows <= u64::from(whole).min(fits) { 1 } else { rows.div_ceil(most) };
            for piece in 0..pieces {
                let (from, to) = (rows * piece / pieces, rows * (piece + 1) / pieces);
                chunks.extend(open.take());
                open = Some(Chunk {
                    file,
                    first_row: first_row + from,
                    rows: (to - from) as u32,
                    first_group: index as u32,
                    groups: 1,
                    skip: from,
                    partial: to < rows,
                });
            }
            // A piece of a row group is not joined with the next group: its end would be read twice.
            if pieces > 1 {
                chunks.extend(open.take());
            }
        }
        first_row += rows;
    }
    chunks.extend(open);
    chunks
}

/// About what a row group takes when it is decoded: dictionaries can make it far smaller in the file.
fn decoded_bytes(group: &RowGroupMetaData) -> u64 {
    // Footers may declare anything.
    let positive = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
    let text = group.columns().iter().filter_map(ColumnChunkMetaData::unencoded_byte_array_data_bytes).map(positive);
    // A row of wide values takes their room even where they are null.
    let wide =
        group.columns().iter().filter(|c| c.column_type() == Physical::FIXED_LEN_BYTE_ARRAY).map(|column| {
            positive(column.column_descr().type_length().into()).saturating_mul(positive(group.num_rows()))
        });
    text.chain(wide).fold(positive(group.total_byte_size()), u64::saturating_add)
}

fn cut_spans(chunks: &[Chunk], span_rows: u64) -> Vec<(u32, u32)> {
    let mut spans: Vec<(u32, u32)> = Vec::new();
    let mut rows = 0;
    for (index, chunk) in chunks.iter().enumerate() {
        let index = index as u32;
        match spans.last_mut() {
            Some(span) if rows + u64::from(chunk.rows) <= span_rows => {
                span.1 = index + 1;
                rows += u64::from(chunk.rows);
            }
            _ => {
                spans.push((index, index + 1));
                rows = u64::from(chunk.rows);
            }
        }
    }
    spans
}
