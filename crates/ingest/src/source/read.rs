//! The records of a chunk: source columns as the file has them, then the transform. A decoder that panics on a damaged
//! file is that file's error. Must never change the order of rows, nor drop one that the transform keeps.

use std::cell::Cell;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Once};

use arrow::array::{BooleanArray, RecordBatch, RecordBatchOptions, RecordBatchReader};
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Schema, SchemaRef};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReader, RowSelection, RowSelector};
use parquet::arrow::{ProjectionMask, parquet_to_arrow_field_levels};
use seriatim_pipeline::model::Pipeline;
use seriatim_transform::{Projected, Transform, TransformError};

use super::groups::Groups;
use super::path::FieldPath;
use super::view::{FileColumn, Renames, in_source, place_in};
use crate::error::{BadFile, IngestError, Result};
use crate::lookups::Lookups;
use crate::plan::Chunk;

thread_local! {
    /// How many decoders this thread is in.
    static CONTAINED: Cell<u32> = const { Cell::new(0) };
}

/// A decoder that gives up is told as an error of its file; what the panic itself would print besides is nothing that a
/// person could use.
fn quieten() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if CONTAINED.get() == 0 {
                before(panic);
            }
        }));
    });
}

/// Runs `decode`; a panic in it becomes an error.
pub(crate) fn contain<T>(decode: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    quieten();
    CONTAINED.set(CONTAINED.get() + 1);
    let done = catch_unwind(AssertUnwindSafe(decode));
    CONTAINED.set(CONTAINED.get() - 1);
    done.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(format!("the decoder gave up: {}", text.unwrap_or("no reason given")))
    })
}

/// What the tables see: the source's columns, or the transform's.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    source: SchemaRef,
    renames: Renames,
    transform: Option<Transform>,
    lookups: Arc<Lookups>,
}

impl Records {
    /// The records of files with this schema. Columns count as nullable, whatever one file or another says of itself.
    pub(crate) fn new(source: &Schema, pipeline: &Pipeline, lookups: &Arc<Lookups>) -> Result<Self> {
        let sql = pipeline.transform.as_deref();
        let fields: Vec<Field> = source.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
        let source = Arc::new(Schema::new(fields));
        let joined = lookups.for_transform(pipeline);
        let transform = sql.map(|sql| Transform::with_lookups(sql, source.clone(), &joined)).transpose();
        let transform = transform.map_err(|e| transform_error(&e))?;
        Ok(Self { source, renames: pipeline.source.rename.clone(), transform, lookups: lookups.clone() })
    }

    /// The columns of a record.
    pub(crate) fn schema(&self) -> SchemaRef {
        self.transform.as_ref().map_or_else(|| self.source.clone(), Transform::schema)
    }

    /// The source's columns.
    pub(crate) fn source_schema(&self) -> &SchemaRef {
        &self.source
    }

    /// Where a file with this schema has these columns of the source.
    pub(crate) fn columns_in(&self, file: &Schema, columns: &[String]) -> Result<Vec<FileColumn>> {
        let column = |name: &String| {
            let field = self.source.fields().find(name);
            let (_, field) =
                field.ok_or_else(|| IngestError::internal(format!("the source has no column '{name}'")))?;
            Ok(FileColumn { field: field.clone(), own: place_in(file, &self.renames, name) })
        };
        columns.iter().map(column).collect()
    }

    /// The names that a file with this schema has for those of these columns of the source that it has.
    pub(crate) fn names_in(&self, file: &Schema, columns: &[String]) -> Vec<String> {
        let places = columns.iter().filter_map(|name| place_in(file, &self.renames, name));
        places.map(|place| file.field(place).name().clone()).collect()
    }

    /// The source column that a column of the records is, unchanged; rows may be missing.
    pub(crate) fn pass_through<'a>(&'a self, column: &'a str) -> Option<&'a str> {
        match &self.transform {
            Some(transform) => transform.pass_through(column),
            None => Some(column),
        }
    }

    /// Whether reading a chunk can give fewer rows than it has.
    pub(crate) fn filters_rows(&self) -> bool {
        self.transform.as_ref().is_some_and(Transform::filters_rows)
    }

    /// The source columns that the records need for these of their columns.
    pub(crate) fn source_columns(&self, columns: &[&str]) -> Vec<String> {
        let (roots, _) = self.roots(columns);
        match &self.transform {
            Some(transform) => transform.source_columns(&texts(&roots)),
            None => roots,
        }
    }

    /// The source columns that the transform cannot do without, because it names them.
    pub(crate) fn named_columns(&self) -> Vec<String> {
        self.transform.as_ref().map(Transform::named_columns).unwrap_or_default()
    }

    /// The source columns that decide which rows are kept.
    pub(crate) fn filter_columns(&self) -> Vec<String> {
        self.transform.as_ref().map(|t| t.source_columns(&[])).unwrap_or_default()
    }

    /// A reader of just these columns of the records.
    pub(crate) fn select(&self, columns: &[&str]) -> Result<Selected> {
        let (roots, paths) = self.roots(columns);
        match &self.transform {
            Some(transform) => {
                self.lookups.fill(transform)?;
                let projected = transform.project(&texts(&roots)).map_err(|e| transform_error(&e))?;
                Ok(Selected { inputs: projected.input_columns().to_vec(), projected: Some(projected), paths })
            }
            None => Ok(Selected { inputs: roots, projected: None, paths }),
        }
    }

    /// The columns that these columns and fields of structs are of; and, if there is a field among them, where each is.
    fn roots(&self, columns: &[&str]) -> (Vec<String>, Option<Vec<(String, FieldPath)>>) {
        let schema = self.schema();
        let names = || columns.iter().map(|&name| name.to_owned());
        if columns.iter().all(|name| schema.field_with_name(name).is_ok()) {
            return (names().collect(), None);
        }
        // Of a name that leads nowhere, whoever looks for the column will tell.
        let paths = names().map(|name| Some((name.clone(), FieldPath::find(schema.fields(), &name).ok()?)));
        let Some(paths) = paths.collect::<Option<Vec<_>>>() else { return (names().collect(), None) };
        let mut roots: Vec<String> = Vec::new();
        for (_, path) in &paths {
            if !roots.contains(&path.root) {
                roots.push(path.root.clone());
            }
        }
        (roots, Some(paths))
    }
}

fn texts(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

/// Some columns of the records.
#[derive(Debug)]
pub(crate) struct Selected {
    inputs: Vec<String>,
    projected: Option<Projected>,
    /// Where each of them is, if some are fields of structs.
    paths: Option<Vec<(String, FieldPath)>>,
}

impl Selected {
    /// The source columns that they are made of.
    pub(crate) fn inputs(&self) -> &[String] {
        &self.inputs
    }

    /// Reads a chunk, where the inputs are these columns: the records, in order, and which of the chunk's rows the transform kept (`None`: all).
    pub(crate) fn read(
        &self,
        file: File,
        metadata: &ArrowReaderMetadata,
        chunk: &Chunk,
        columns: &[FileColumn],
        name: &str,
    ) -> Result<(RecordBatch, Option<BooleanArray>)> {
        let (batch, kept) = self.read_columns(file, metadata, chunk, columns, name)?;
        match &self.paths {
            None => Ok((batch, kept)),
            Some(paths) => Ok((taken(&batch, paths)?, kept)),
        }
    }

    fn read_columns(
        &self,
        file: File,
        metadata: &ArrowReaderMetadata,
        chunk: &Chunk,
        columns: &[FileColumn],
        name: &str,
    ) -> Result<(RecordBatch, Option<BooleanArray>)> {
        let batch = read_chunk(file, metadata, chunk, columns, name)?;
        let Some(projected) = &self.projected else { return Ok((batch, None)) };
        projected.apply(&batch).map_err(|e| {
            let error = transform_error(&e);
            match e {
                TransformError::Row { row, .. } => {
                    let message = format!("{name}, row {}: {}", chunk.first_row + row as u64, error.message);
                    IngestError { kind: crate::error::ErrorKind::Input, message, ..error }
                }
                _ => error,
            }
        })
    }
}

/// The columns and fields at these paths, each called as it was asked for.
fn taken(batch: &RecordBatch, paths: &[(String, FieldPath)]) -> Result<RecordBatch> {
    let (mut fields, mut columns) = (Vec::with_capacity(paths.len()), Vec::with_capacity(paths.len()));
    for (name, path) in paths {
        let column = batch.column_by_name(&path.root);
        let column = column.ok_or_else(|| IngestError::internal(format!("column '{}' was not read", path.root)))?;
        let values = path.take(column)?;
        fields.push(path.field.clone().with_name(name).with_data_type(values.data_type().clone()).with_nullable(true));
        columns.push(values);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .map_err(|e| IngestError::internal(e.to_string()))
}

fn transform_error(error: &TransformError) -> IngestError {
    let e = IngestError::pipeline(format!("transform: {error}"));
    match error.help() {
        Some(help) => e.help(help),
        None => e,
    }
}

/// Reads these columns of a chunk, in this order, as one batch: as the source has them, whatever the file's own types.
pub(crate) fn read_chunk(
    file: File,
    metadata: &ArrowReaderMetadata,
    chunk: &Chunk,
    columns: &[FileColumn],
    name: &str,
) -> Result<RecordBatch> {
    let mut roots: Vec<usize> = columns.iter().filter_map(|column| column.own).collect();
    roots.sort_unstable();
    roots.dedup();
    let groups = Groups::new(file, metadata.metadata().clone(), chunk.row_groups())
        .map_err(|e| IngestError::io("look at", Path::new(name), &e))?;
    let batch = contain(|| decode(&groups, metadata, chunk, &roots)).map_err(|text| match groups.refused() {
        Some(refused) => IngestError::io("read", Path::new(name), &refused),
        None => match groups.place() {
            Some((group, column)) => damaged(name, chunk, Some((group, &column)), &text),
            None => damaged(name, chunk, None, &text),
        },
    })?;
    let mut fields = Vec::with_capacity(columns.len());
    let mut arrays = Vec::with_capacity(columns.len());
    for column in columns {
        // The reader gives columns in the file's order.
        let at = column.own.and_then(|own| roots.binary_search(&own).ok());
        let own = column.own.map_or("", |own| metadata.schema().field(own).name());
        let values = in_source(column, at.map(|at| batch.column(at)), own, chunk, name)?;
        // Of what is nested, the file's own field tells more.
        fields.push(column.field.as_ref().clone().with_data_type(values.data_type().clone()).with_nullable(true));
        arrays.push(values);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
        .map_err(|e| IngestError::internal(e.to_string()))
}

/// A chunk cannot be read; the row group and the column, if they are known.
pub(crate) fn damaged(name: &str, chunk: &Chunk, place: Option<(usize, &str)>, text: &str) -> IngestError {
    let last = chunk.first_row + u64::from(chunk.rows).saturating_sub(1);
    let bad = BadFile::new(name, format!("{text} (in rows {} to {last})", chunk.first_row));
    IngestError::bad_file(match place {
        Some((group, column)) => bad.at(group, column),
        None => bad,
    })
}

fn decode(
    groups: &Groups,
    metadata: &ArrowReaderMetadata,
    chunk: &Chunk,
    roots: &[usize],
) -> Result<RecordBatch, String> {
    let mask = ProjectionMask::roots(metadata.parquet_schema(), roots.iter().copied());
    // Without a hint, types come from Parquet alone.
    let levels = parquet_to_arrow_field_levels(metadata.parquet_schema(), mask, None).map_err(|e| e.to_string())?;
    let selection = (chunk.skip > 0 || chunk.partial).then(|| {
        RowSelection::from(vec![RowSelector::skip(chunk.skip as usize), RowSelector::select(chunk.rows as usize)])
    });
    let size = (chunk.rows as usize).max(1);
    let reader = ParquetRecordBatchReader::try_new_with_row_groups(&levels, groups, size, selection);
    let reader = reader.map_err(|e| e.to_string())?;
    let read_schema = RecordBatchReader::schema(&reader);
    let batches: Vec<RecordBatch> = reader.collect::<Result<_, _>>().map_err(|e| plain(&e))?;
    let read: usize = batches.iter().map(RecordBatch::num_rows).sum();
    if read != chunk.rows as usize {
        return Err(format!("{read} rows were read where the footer declares {}", chunk.rows));
    }
    match <[RecordBatch; 1]>::try_from(batches) {
        Ok([batch]) => Ok(batch),
        Err(batches) => concat_batches(&read_schema, &batches).map_err(|e| e.to_string()),
    }
}

/// What went wrong, without the names of the libraries that it came through.
fn plain(error: &arrow::error::ArrowError) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("Parquet argument error: ").unwrap_or(&text);
    text.strip_prefix("Parquet error: ").unwrap_or(text).to_owned()
}
