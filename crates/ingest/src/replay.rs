//! Records in quarantine, once more: which of them wait, and a run over them. What a later pipeline lets pass, or a person
//! has mended, is ingested and takes the next IDs; what still fails goes to quarantine again. The records of a replay are
//! kept beside the output in one file, which is that run's source. Must never take a record out of quarantine that the run
//! does not read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, UInt64Array, new_null_array};
use arrow::compute::{CastOptions, cast_with_options, concat_batches, interleave};
use arrow::datatypes::{Field, Schema, SchemaRef, UInt64Type};
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use seriatim_pipeline::model::{OnBadFile, SourceFormat};

use crate::context::work_folder;
use crate::error::{IngestError, Result};
use crate::files::{make_folder, sync_folder};
use crate::manifest::{Manifest, ManifestFile};
use crate::output::{Output, REPLAY};
use crate::project::Project;
use crate::report::{QuarantineReason, QuarantineReport};
use crate::source::{Found, list};
use crate::state_id::state_id;
use crate::write::{Done, QUARANTINE_COLUMNS, write_file};

/// What of a quarantine's own columns a replayed record keeps: why it was set aside, and where it is in the source.
const KEPT: [&str; 4] = ["_reason", "_file", "_row", "_run"];

/// The files of the quarantine that no run has replayed.
fn waiting(manifest: &Manifest) -> Vec<&ManifestFile> {
    let replayed: BTreeSet<&str> = manifest.runs.iter().flat_map(|run| &run.replayed).map(String::as_str).collect();
    manifest.quarantine.iter().filter(|file| !replayed.contains(file.path.as_str())).collect()
}

/// What waits in quarantine, and why.
pub fn quarantine(project: &Project) -> Result<QuarantineReport> {
    let output = project.output()?;
    let manifest = output.published()?;
    let mut reasons: BTreeMap<String, QuarantineReason> = BTreeMap::new();
    let files = waiting(&manifest);
    for file in &files {
        for batch in read(&output, file)? {
            let batch = batch?;
            let of = text_column(&batch, "_reason", &file.path)?;
            for reason in of.iter().flatten() {
                let entry = reasons.entry(reason.to_owned()).or_insert_with(|| QuarantineReason {
                    reason: reason.to_owned(),
                    records: 0,
                    last_run: 0,
                });
                entry.records += 1;
                entry.last_run = entry.last_run.max(file.run);
            }
        }
    }
    let mut reasons: Vec<QuarantineReason> = reasons.into_values().collect();
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.records));
    Ok(QuarantineReport {
        pipeline: manifest.pipeline.clone(),
        records: files.iter().map(|file| file.rows).sum(),
        files: files.iter().map(|file| output.place_of(&file.path)).collect(),
        reasons,
    })
}

/// The project as a run over what waits in quarantine; `None` if nothing does. `mended` are Parquet files with records that
/// take the place of those with the same `_file` and `_row`.
pub fn replay(project: &Project, mended: &[String]) -> Result<Option<Project>> {
    let output = project.output()?;
    let manifest = output.published()?;
    let files = waiting(&manifest);
    if files.is_empty() {
        return match mended.first() {
            None => Ok(None),
            Some(pattern) => {
                Err(IngestError::input(format!("no record waits in quarantine that '{pattern}' could mend"))
                    .help("a mended record that was never in quarantine belongs into a source file"))
            }
        };
    }
    let schema = joined(&output, &files)?;
    let mut mended = Mended::read(project, mended, &schema)?;
    let batches = files.iter().flat_map(|file| match read(&output, file) {
        Ok(batches) => batches,
        Err(error) => Box::new(std::iter::once(Err(error))),
    });
    let batches = batches.map(|batch| mended.put_in(&aligned(&batch?, &schema)?));
    let (written, done) = write(project, &output, &schema, batches)?;
    if let Err(error) = mended.refuse_unused() {
        let _ = std::fs::remove_file(&written);
        return Err(error);
    }
    let name = keep(&output, &written, &done)?;
    let mut pipeline = project.pipeline().clone();
    pipeline.source.files = vec![format!("{}/{name}", pipeline.output.path.trim_end_matches('/'))];
    pipeline.source.on_bad_file = OnBadFile::Fail;
    pipeline.source.format = Some(SourceFormat::Parquet);
    let replayed = files.iter().map(|file| file.path.clone()).collect();
    Ok(Some(Project::new(pipeline, project.folder().to_owned()).replaying(replayed)))
}

type Batches = Box<dyn Iterator<Item = Result<RecordBatch>>>;

/// The records of a file of the quarantine.
fn read(output: &Output, file: &ManifestFile) -> Result<Batches> {
    let place = output.place_of(&file.path);
    let reader = open(output, file)?;
    Ok(Box::new(reader.map(move |batch| batch.map_err(|e| damaged(&place, &e.to_string())))))
}

fn open(output: &Output, file: &ManifestFile) -> Result<ParquetRecordBatchReader> {
    let place = output.place_of(&file.path);
    reader(output.open(&file.path)?).map_err(|e| damaged(&place, &e))
}

/// As sources are read: types come from Parquet alone.
fn reader(file: std::fs::File) -> std::result::Result<ParquetRecordBatchReader, String> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options);
    builder.and_then(ParquetRecordBatchReaderBuilder::build).map_err(|e| e.to_string())
}

fn damaged(place: &str, text: &str) -> IngestError {
    IngestError::output(format!("{place}: {text}"))
        .help("`seriatim verify` says whether the output is as it was published")
}

/// The columns of all these files together: why and where from, then the source's in the order of names.
fn joined(output: &Output, files: &[&ManifestFile]) -> Result<SchemaRef> {
    let mut own: Vec<Option<Field>> = KEPT.iter().map(|_| None).collect();
    let mut source: BTreeMap<String, (Field, &str)> = BTreeMap::new();
    for file in files {
        use arrow::array::RecordBatchReader as _;
        for field in open(output, file)?.schema().fields() {
            let field = field.as_ref().clone().with_nullable(true);
            if let Some(at) = KEPT.iter().position(|name| name == field.name()) {
                own[at] = Some(field);
            } else if !QUARANTINE_COLUMNS.contains(&field.name().as_str()) {
                let (first, of) = source.entry(field.name().clone()).or_insert((field.clone(), file.path.as_str()));
                if first.data_type() != field.data_type() {
                    return Err(IngestError::output(format!(
                        "column '{}' is a {} in {of} and a {} in {}",
                        field.name(),
                        first.data_type(),
                        field.data_type(),
                        file.path
                    ))
                    .help("the source has changed its type; put the mended records into a source file instead"));
                }
            }
        }
    }
    let fields: Vec<Field> = own.into_iter().flatten().chain(source.into_values().map(|(field, _)| field)).collect();
    Ok(Arc::new(Schema::new(fields)))
}

/// A batch with all columns of a schema; those that it lacks are null.
fn aligned(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let column = |field: &Arc<Field>| match batch.column_by_name(field.name()) {
        Some(column) => column.clone(),
        None => new_null_array(field.data_type(), batch.num_rows()),
    };
    let columns = schema.fields().iter().map(column).collect();
    RecordBatch::try_new(schema.clone(), columns).map_err(|e| IngestError::internal(e.to_string()))
}

/// Writes the records aside, near to where they will be kept; the file, and what is in it.
fn write(
    project: &Project,
    output: &Output,
    schema: &SchemaRef,
    batches: impl Iterator<Item = Result<RecordBatch>>,
) -> Result<(PathBuf, Done)> {
    let state = project.state();
    let folder = match output {
        Output::Folder(path) => path.join(REPLAY),
        Output::Store(_) => work_folder(&state, "replay"),
    };
    make_folder(&folder)?;
    // The name is this state folder's, which one process has at a time: what a crash has left is written over.
    let written = folder.join(format!("{}.written", state_id(&state)?));
    let done = write_file(&written, schema, project.pipeline().output.compression, batches)?;
    Ok((written, done))
}

/// Gives what was written its name in the output, which follows from what is in it. No glob for tables finds it, like all that
/// is kept there.
fn keep(output: &Output, written: &Path, done: &Done) -> Result<String> {
    let name = format!("{REPLAY}/{}.records", done.hash);
    match output {
        Output::Folder(path) => {
            let kept = path.join(&name);
            std::fs::rename(written, &kept).map_err(|e| IngestError::io("rename", written, &e))?;
            sync_folder(&kept)?;
        }
        Output::Store(_) => {
            let staged = output.stage(written, &name, done.bytes);
            let _ = std::fs::remove_file(written);
            staged?;
        }
    }
    Ok(name)
}

/// A record's place in the source.
type At = (String, u64);

/// Records that somebody has mended.
struct Mended {
    records: RecordBatch,
    /// Where each of them is in `records`, and whether it has found its place.
    rows: HashMap<At, (usize, bool)>,
}

impl Mended {
    fn read(project: &Project, patterns: &[String], schema: &SchemaRef) -> Result<Self> {
        let mut batches = Vec::new();
        for (name, found) in list(project.folder(), patterns, Some(SourceFormat::Parquet), "--mended")?.files {
            let Found::Local(path) = found else {
                return Err(IngestError::input(format!("{name} is an object, and mended records are read from files"))
                    .help("bring the file here first"));
            };
            let file = std::fs::File::open(&path).map_err(|e| IngestError::io("open", &path, &e))?;
            let bad = |text: String| IngestError::input(format!("{name} cannot be read: {text}"));
            for batch in reader(file).map_err(bad)? {
                batches.push(typed(&batch.map_err(|e| bad(e.to_string()))?, schema, &name)?);
            }
        }
        let Some(first) = batches.first() else {
            if let Some(pattern) = patterns.first() {
                return Err(IngestError::input(format!("there is no mended record in '{pattern}'"))
                    .help("relative paths start at the pipeline file's folder"));
            }
            return Ok(Self { records: RecordBatch::new_empty(schema.clone()), rows: HashMap::new() });
        };
        let records = concat_batches(&first.schema(), &batches)
            .map_err(|_| IngestError::input("the files of mended records have different columns"))?;
        let mut rows = HashMap::new();
        for (row, at) in places(&records)?.into_iter().enumerate() {
            if rows.insert(at.clone(), (row, false)).is_some() {
                return Err(IngestError::input(format!("the record of {}, row {} is mended twice", at.0, at.1))
                    .help("keep one of the two"));
            }
        }
        Ok(Self { records, rows })
    }

    /// A batch of the quarantine with mended records in their places; a column that these lack stays as it was.
    fn put_in(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        if self.rows.is_empty() {
            return Ok(batch.clone());
        }
        let mut found = false;
        let mut indices = Vec::with_capacity(batch.num_rows());
        for (row, at) in places(batch)?.into_iter().enumerate() {
            indices.push(match self.rows.get_mut(&at) {
                None => (0, row),
                Some((mended, used)) => {
                    (*used, found) = (true, true);
                    (1, *mended)
                }
            });
        }
        if !found {
            return Ok(batch.clone());
        }
        let column = |(field, column): (&Arc<Field>, &ArrayRef)| match self.records.column_by_name(field.name()) {
            None => Ok(column.clone()),
            Some(mended) => interleave(&[column, mended], &indices),
        };
        let columns = batch.schema_ref().fields().iter().zip(batch.columns()).map(column);
        let columns = columns.collect::<std::result::Result<_, _>>();
        columns
            .and_then(|columns| RecordBatch::try_new(batch.schema(), columns))
            .map_err(|e| IngestError::internal(e.to_string()))
    }

    /// Nothing that somebody has mended may be forgotten.
    fn refuse_unused(&self) -> Result<()> {
        let unused = self.rows.iter().filter(|(_, (_, used))| !used).map(|(at, _)| at);
        let Some((file, row)) = unused.min() else { return Ok(()) };
        Err(IngestError::input(format!("no record of {file}, row {row} waits in quarantine, and one is mended"))
            .help("`_file` and `_row` must be as the quarantine has them; `seriatim quarantine` shows what waits"))
    }
}

/// The columns of mended records that the quarantine has too, in its types.
fn typed(batch: &RecordBatch, schema: &SchemaRef, name: &str) -> Result<RecordBatch> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        let Ok(wanted) = schema.field_with_name(field.name()) else {
            if QUARANTINE_COLUMNS.contains(&field.name().as_str()) {
                continue;
            }
            return Err(IngestError::input(format!(
                "{name} has a column '{}' that no record in quarantine has",
                field.name()
            ))
            .help("take it out: mended records have the source's columns, and `_file` and `_row`"));
        };
        let cast = cast_with_options(column, wanted.data_type(), &strict).map_err(|e| {
            IngestError::input(format!("column '{}' of {name} cannot be a {}: {e}", field.name(), wanted.data_type()))
        })?;
        fields.push(wanted.clone());
        columns.push(cast);
    }
    for needed in ["_file", "_row"] {
        if !fields.iter().any(|field| field.name() == needed) {
            return Err(IngestError::input(format!("{name} has no column '{needed}'"))
                .help("mended records have the `_file` and `_row` of the record in quarantine whose place they take"));
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|e| IngestError::internal(e.to_string()))
}

fn text_column<'a>(batch: &'a RecordBatch, name: &str, of: &str) -> Result<&'a StringArray> {
    let column = batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
    column.ok_or_else(|| damaged(of, &format!("there is no text column '{name}'")))
}

/// Where each record of a batch is in the source.
fn places(batch: &RecordBatch) -> Result<Vec<At>> {
    let files = text_column(batch, "_file", "a record in quarantine")?;
    let rows: Option<&UInt64Array> = batch.column_by_name("_row").and_then(|c| c.as_primitive_opt::<UInt64Type>());
    let rows = rows.ok_or_else(|| damaged("a record in quarantine", "there is no column '_row'"))?;
    (0..batch.num_rows())
        .map(|at| {
            if files.is_null(at) || rows.is_null(at) {
                return Err(IngestError::input("a mended record has no `_file`, or no `_row`")
                    .help("both say which record in quarantine it takes the place of"));
            }
            Ok((files.value(at).to_owned(), rows.value(at)))
        })
        .collect()
}
