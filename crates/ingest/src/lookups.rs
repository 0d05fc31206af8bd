//! Look-ups: small tables beside the source that the transform joins by key. A plan finds their files and keeps what they
//! are; whoever evaluates the transform reads them once, and must find the same. They are listed and read as sources are,
//! local files and objects, Parquet and text files alike. Must never let a key stand for two rows, nor give a run other rows
//! than those that it was planned with.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::row::{Row, RowConverter, SortField};
use arrow::util::display::array_value_to_string;
use serde::{Deserialize, Serialize};
use seriatim_pipeline::model::{self, Pipeline, Source};
use seriatim_transform::{Transform, TransformError};

use crate::context::RunContext;
use crate::drift::Known;
use crate::error::{IngestError, Result};
use crate::files::scratch;
use crate::keys::is_key_type;
use crate::plan::{Cut, Paths, Plan, Purpose, make_plan};
use crate::progress::Progress;
use crate::project::Project;
use crate::settled::Settled;
use crate::source::{SourceFile, list};

/// What a look-up may take in memory: each process holds all of it.
const MOST_BYTES: usize = 64 << 20;

/// Rows that are read at once.
const CHUNK_ROWS: u32 = 65_536;

/// A look-up as a run was planned with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlannedLookup {
    pub(crate) name: String,
    /// Its files, in order.
    pub(crate) files: Vec<SourceFile>,
    /// Names and types of its columns.
    columns: Vec<(String, String)>,
}

/// The look-ups of a pipeline, in its order.
#[derive(Debug, Default)]
pub(crate) struct Lookups {
    /// The pipeline's; of one without look-ups `None`.
    project: Option<Project>,
    all: Vec<Lookup>,
    /// Held while one of them is read, so that each is read once.
    filling: Mutex<()>,
}

#[derive(Debug)]
struct Lookup {
    planned: PlannedLookup,
    schema: SchemaRef,
    rows: OnceLock<RecordBatch>,
}

impl Lookup {
    fn new(planned: PlannedLookup) -> Result<Self> {
        let name = &planned.name;
        let field = |(column, text): &(String, String)| {
            let kind: DataType = text.parse().map_err(|_| {
                IngestError::pipeline(format!(
                    "look-up '{name}': the column '{column}' is a {text}, which no look-up can have"
                ))
                .help("leave the column out where the file is written")
            })?;
            Ok(Field::new(column, kind, true))
        };
        let fields = planned.columns.iter().map(field).collect::<Result<Vec<_>>>()?;
        let schema = Arc::new(Schema::new(fields));
        Ok(Self { planned, schema, rows: OnceLock::new() })
    }
}

impl Lookups {
    /// Finds the files of a pipeline's look-ups, and reads them.
    pub(crate) fn find(project: &Project) -> Result<Arc<Self>> {
        let wanted = &project.pipeline().lookups;
        if wanted.is_empty() {
            return Ok(Arc::default());
        }
        let mut all = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            let (planned, rows) = read(project, wanted)?;
            let lookup = Lookup::new(planned)?;
            let _ = lookup.rows.set(rows);
            all.push(lookup);
        }
        Ok(Arc::new(Self { project: Some(project.clone()), all, filling: Mutex::default() }))
    }

    /// Those of a run that is planned. They are read when they are needed: a run that needs them no more comes to its end
    /// without them.
    pub(crate) fn of(plan: &Plan) -> Result<Arc<Self>> {
        if plan.lookups.is_empty() {
            return Ok(Arc::default());
        }
        let all = plan.lookups.iter().cloned().map(Lookup::new).collect::<Result<_>>()?;
        let project = Some(Project::new(plan.pipeline.clone(), plan.folder.clone()));
        Ok(Arc::new(Self { project, all, filling: Mutex::default() }))
    }

    /// As a plan keeps them.
    pub(crate) fn planned(&self) -> Vec<PlannedLookup> {
        self.all.iter().map(|lookup| lookup.planned.clone()).collect()
    }

    /// As a transform is planned with them.
    pub(crate) fn for_transform(&self, pipeline: &Pipeline) -> Vec<seriatim_transform::Lookup> {
        let key = |name: &str| {
            let lookup = pipeline.lookups.iter().find(|lookup| lookup.name == name);
            lookup.map(|lookup| lookup.key.clone()).unwrap_or_default()
        };
        let lookup = |lookup: &Lookup| seriatim_transform::Lookup {
            name: lookup.planned.name.clone(),
            key: key(&lookup.planned.name),
            schema: lookup.schema.clone(),
        };
        self.all.iter().map(lookup).collect()
    }

    /// Brings what they hold to a transform.
    pub(crate) fn fill(&self, transform: &Transform) -> Result<()> {
        if self.all.is_empty() {
            return Ok(());
        }
        let _one = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        self.all.iter().try_for_each(|lookup| {
            let rows = self.rows(lookup)?;
            transform.fill(&lookup.planned.name, rows).map_err(|e| cannot_compare(&lookup.planned.name, &e))
        })
    }

    fn rows<'l>(&self, lookup: &'l Lookup) -> Result<&'l RecordBatch> {
        if let Some(rows) = lookup.rows.get() {
            return Ok(rows);
        }
        let missing = || IngestError::internal("a run has a look-up that its pipeline has not");
        let project = self.project.as_ref().ok_or_else(missing)?;
        let wanted = project.pipeline().lookups.iter().find(|wanted| wanted.name == lookup.planned.name);
        let (now, rows) = read(project, wanted.ok_or_else(missing)?)?;
        refuse_changes(&lookup.planned, &now)?;
        Ok(lookup.rows.get_or_init(|| rows))
    }
}

fn cannot_compare(name: &str, error: &TransformError) -> IngestError {
    IngestError::pipeline(format!("look-up '{name}': its key cannot be compared: {error}"))
        .help("cast the record's side in the `ON` of the transform, so that both sides have one type")
}

/// A run reads what it was planned with, or nothing.
fn refuse_changes(planned: &PlannedLookup, now: &PlannedLookup) -> Result<()> {
    let pairs = || planned.files.iter().zip(&now.files);
    let changed = pairs().find(|(before, now)| !before.is_same(now)).map(|(before, _)| before);
    let other = planned.files.len().min(now.files.len());
    let changed = changed.or(planned.files.get(other)).or(now.files.get(other));
    match changed {
        None => Ok(()),
        Some(file) => Err(IngestError::input(format!(
            "look-up '{}': {} has changed since the run was planned",
            planned.name, file.name
        ))
        .help(
            "leave look-ups as they are while a run is under way; run again, which plans anew with what is there now",
        )),
    }
}

/// Where the rows of a part of the files are.
struct Part {
    file: String,
    /// The place of its first row among all.
    begin: usize,
    /// The same in its file.
    first_row: u64,
}

/// The row of a look-up at a place, for people.
fn place_of(parts: &[Part], at: usize) -> String {
    let part = parts.iter().rev().find(|part| part.begin <= at);
    part.map_or_else(String::new, |part| format!("{}, row {}", part.file, part.first_row + (at - part.begin) as u64))
}

/// Reads a look-up: what it is, and its rows.
fn read(project: &Project, wanted: &model::Lookup) -> Result<(PlannedLookup, RecordBatch)> {
    let setting = format!("lookups.{}.files", wanted.name);
    if list(project.folder(), &wanted.files, None, &setting)?.files.is_empty() {
        return Err(IngestError::input(format!("no file matches '{}'", wanted.files.join("', '")))
            .help(format!("correct `{setting}`; relative paths start at {}", project.folder().display())));
    }
    let folder = scratch("lookup");
    let read = read_in(project, wanted, &folder);
    // Copies of text files, and what was fetched of objects.
    let _ = fs::remove_dir_all(&folder);
    read.map_err(|error| {
        let named = format!("look-up '{}'", wanted.name);
        let message = match error.message.strip_prefix(&named) {
            Some(_) => error.message,
            None => format!("{named}: {}", error.message),
        };
        // It is none of the source's files, which may be set aside.
        IngestError { message, file: None, ..error }
    })
}

fn read_in(project: &Project, wanted: &model::Lookup, folder: &Path) -> Result<(PlannedLookup, RecordBatch)> {
    // Its files are none of the source's, and have nothing of what is said of those.
    let pipeline = Pipeline {
        source: Source { files: wanted.files.clone(), columns: wanted.columns.clone(), ..Source::default() },
        transform: None,
        lookups: Vec::new(),
        checks: Vec::new(),
        tables: Vec::new(),
        ..project.pipeline().clone()
    };
    let own = Settled::without_looking(&Project::new(pipeline, project.folder().to_owned()));
    let cut = Cut { chunk_rows: CHUNK_ROWS, shards: 1, paths: Paths::General };
    let (plan, bound) = make_plan(&own, "lookup", &Known::default(), cut, 1, Purpose::Run(folder), &[])?;
    let bound = bound.ok_or_else(|| IngestError::internal("files that were listed are gone"))?;
    let files = plan.files.clone();
    let columns: Vec<String> = bound.records.source_schema().fields().iter().map(|f| f.name().clone()).collect();
    if let Some(column) = columns.iter().find(|column| !plan.source_columns.contains(column)) {
        return Err(IngestError::input(format!(
            "look-up '{}': the column '{column}' is not in all of its files, or not with one type",
            wanted.name
        ))
        .help("write its files with the same columns, or as one"));
    }
    refuse_keys(wanted, bound.records.source_schema())?;
    let look = RunContext::new(plan, bound, &project.state(), u64::MAX, Arc::new(Progress::default()));
    let look = look.for_a_look(folder.join("objects"));
    let (mut parts, mut batches, mut rows, mut bytes) = (Vec::new(), Vec::new(), 0, 0);
    for (index, chunk) in (0..).zip(&look.plan.chunks) {
        let batch = look.read_source(index, &columns)?;
        bytes += batch.get_array_memory_size();
        if bytes > MOST_BYTES {
            return Err(IngestError::input(format!(
                "look-up '{}' takes more than {} MiB in memory, and each process holds all of it",
                wanted.name,
                MOST_BYTES >> 20
            ))
            .help(
                "write it with fewer rows, or only the columns that the transform takes; what is as large as a source is joined \
                 before or after",
            ));
        }
        parts.push(Part { file: files[chunk.file as usize].name.clone(), begin: rows, first_row: chunk.first_row });
        rows += batch.num_rows();
        batches.push(batch);
    }
    let schema = look.records.source_schema();
    let fields: Vec<Field> =
        schema.fields().iter().map(|f| Field::new(f.name(), f.data_type().clone(), true)).collect();
    let kept = fields.iter().map(|field| (field.name().clone(), field.data_type().to_string())).collect();
    let planned = PlannedLookup { name: wanted.name.clone(), files, columns: kept };
    let schema = batches.first().map_or_else(|| Arc::new(Schema::new(fields)), RecordBatch::schema);
    let batch = concat_batches(&schema, &batches).map_err(|e| IngestError::internal(e.to_string()))?;
    check_keys(wanted, &batch, &parts)?;
    Ok((planned, batch))
}

/// The key must be columns that it has, and of types that can be compared.
fn refuse_keys(wanted: &model::Lookup, schema: &Schema) -> Result<()> {
    let name = &wanted.name;
    for column in &wanted.key {
        let names = || schema.fields().iter().map(|field| field.name().as_str());
        let Ok(field) = schema.field_with_name(column) else {
            let error = IngestError::pipeline(format!("look-up '{name}' has no column '{column}' for its key"));
            return Err(error.help(match seriatim_pipeline::nearest(column, names()) {
                Some(near) => format!("did you mean '{near}'?"),
                None => format!("there are: {}", names().collect::<Vec<_>>().join(", ")),
            }));
        };
        if !is_key_type(field.data_type()) {
            return Err(IngestError::pipeline(format!(
                "look-up '{name}': the key column '{column}' is a {}, which cannot be part of a key",
                field.data_type()
            ))
            .help("use columns of numbers, strings, binaries, dates, times, timestamps or booleans"));
        }
    }
    Ok(())
}

/// No key may be null, or there twice.
fn check_keys(wanted: &model::Lookup, rows: &RecordBatch, parts: &[Part]) -> Result<()> {
    let name = &wanted.name;
    let columns: Vec<ArrayRef> = wanted.key.iter().filter_map(|key| rows.column_by_name(key).cloned()).collect();
    for (column, key) in columns.iter().zip(&wanted.key) {
        if let Some(row) = (0..column.len()).find(|&row| column.is_null(row)) {
            return Err(IngestError::input(format!(
                "{}: the key of look-up '{name}' is null in column '{key}'",
                place_of(parts, row)
            ))
            .help("remove the row, or give it a key: null finds nothing"));
        }
    }
    let wrong = |e: arrow::error::ArrowError| IngestError::internal(e.to_string());
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let keys = RowConverter::new(fields).and_then(|converter| converter.convert_columns(&columns)).map_err(wrong)?;
    let mut seen: HashMap<Row<'_>, usize> = HashMap::with_capacity(rows.num_rows());
    for (row, key) in keys.iter().enumerate() {
        if let Some(first) = seen.insert(key, row) {
            let value = |(column, array): (&String, &ArrayRef)| {
                format!("{column} = {}", array_value_to_string(array, row).unwrap_or_default())
            };
            let shown: Vec<String> = wanted.key.iter().zip(&columns).map(value).collect();
            return Err(IngestError::input(format!(
                "{}: the key of look-up '{name}' is there twice: {} (first in {})",
                place_of(parts, row),
                shown.join(", "),
                place_of(parts, first)
            ))
            .help(format!(
                "a record must find one row at the most: remove one of the two, or add the column that tells them apart to \
                 `lookups.{name}.key`"
            )));
        }
    }
    Ok(())
}
