//! One Parquet file on its way to disk. It appears under its name when it is whole and synced, never before.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{BrotliLevel, Compression as Codec, Encoding, GzipLevel, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnDescPtr, ColumnPath, SchemaDescriptor};
use seriatim_pipeline::model::Compression;
use xxhash_rust::xxh3::Xxh3;

use crate::error::{IngestError, Result};
use crate::files::{create_aside, make_folder, sync_folder};
use crate::layout::TableLayout;
use crate::pages::{Finished, IdValues, Picked, encoded_ids, encoded_values};

/// Rows of a row group, at most: the unit in which readers work in parallel.
pub(crate) const ROW_GROUP: usize = 131_072;

/// Rows that come at once and make a row group of their own, usually.
pub(super) const OWN_GROUP: usize = 32_768;

/// What a finished file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) hash: String,
}

/// A file being written.
pub(crate) struct Sink {
    path: PathBuf,
    temporary: PathBuf,
    writer: SerializedFileWriter<Hashing>,
    factory: ArrowRowGroupWriterFactory,
    schema: SchemaRef,
    /// The fields that hold IDs.
    ids: Vec<usize>,
    /// How what is not an ID is compressed.
    codec: Codec,
    /// Rows that come at once and make a row group of their own.
    own_group: usize,
    /// The row group that batches go to, and its rows.
    open: Option<(Vec<ArrowColumnWriter>, usize)>,
    groups: usize,
    rows: u64,
}

/// A column of a whole row group.
pub(super) enum GroupColumn {
    /// A column chunk that is finished.
    Chunk(Box<Finished>),
    /// Values to be encoded.
    Values(ArrayRef),
}

/// Counts and hashes what goes through to the file.
struct Hashing {
    file: BufWriter<File>,
    hasher: Box<Xxh3>,
    bytes: u64,
}

impl Write for Hashing {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.hasher.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// How a file is written: `ids` are the columns of sequential numbers.
/// `unique` are columns in which no value is twice.
pub(crate) fn properties(compression: Compression, ids: &[&str], unique: &[&str]) -> Result<WriterProperties> {
    let wrong = |e: ParquetError| IngestError::pipeline(format!("output.compression: {e}"));
    let codec = match compression {
        Compression::None => Codec::UNCOMPRESSED,
        Compression::Snappy => Codec::SNAPPY,
        Compression::Lz4 => Codec::LZ4_RAW,
        Compression::Gzip(level) => Codec::GZIP(GzipLevel::try_new(level).map_err(wrong)?),
        Compression::Brotli(level) => Codec::BROTLI(BrotliLevel::try_new(level).map_err(wrong)?),
        Compression::Zstd(level) => Codec::ZSTD(ZstdLevel::try_new(level).map_err(wrong)?),
    };
    let mut builder = WriterProperties::builder()
        .set_compression(codec)
        .set_created_by("seriatim".to_owned())
        .set_max_row_group_row_count(Some(ROW_GROUP));
    for id in ids {
        // Sequential and near-sequential numbers are a few bits each as differences, and no dictionary is tried first.
        let column = ColumnPath::new(vec![(*id).to_owned()]);
        builder = builder
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
    }
    for unique in unique {
        builder = builder.set_column_dictionary_enabled(ColumnPath::new(vec![(*unique).to_owned()]), false);
    }
    Ok(builder.build())
}

impl Sink {
    /// Begins the file that will be at `path`.
    pub(crate) fn create(
        path: PathBuf,
        schema: SchemaRef,
        ids: &[String],
        properties: WriterProperties,
        own_group: usize,
    ) -> Result<Self> {
        make_folder(path.parent().unwrap_or(Path::new(".")))?;
        let (temporary, file) = create_aside(&path)?;
        let codec = properties.compression(&ColumnPath::new(Vec::new()));
        let out = Hashing { file: BufWriter::with_capacity(1 << 18, file), hasher: Box::default(), bytes: 0 };
        let writer = ArrowWriter::try_new(out, schema.clone(), Some(properties));
        let (writer, factory) =
            writer.and_then(ArrowWriter::into_serialized_writer).map_err(|e| failed(&temporary, &e))?;
        let ids = ids.iter().filter_map(|id| schema.index_of(id).ok()).collect();
        Ok(Self { path, temporary, writer, factory, schema, ids, codec, own_group, open: None, groups: 0, rows: 0 })
    }

    /// The column of the file that a field is; `None` if it is several, being nested.
    pub(super) fn column(&self, field: usize) -> Option<ColumnDescPtr> {
        let columns = self.writer.schema_descr();
        let mut leaves = (0..columns.num_columns()).filter(|&leaf| columns.get_column_root_idx(leaf) == field);
        let first = leaves.next()?;
        leaves.next().is_none().then(|| columns.column(first))
    }

    /// Adds rows.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut from = 0;
        while from < batch.num_rows() {
            let left = batch.num_rows() - from;
            if self.takes_groups(left) {
                let take = left.min(ROW_GROUP);
                self.write_as_group(&batch.slice(from, take))?;
                from += take;
                continue;
            }
            if self.open.is_none() {
                let writers = self.factory.create_column_writers(self.groups);
                self.open = Some((writers.map_err(|e| failed(&self.temporary, &e))?, 0));
            }
            let Some((writers, rows)) = &mut self.open else { break };
            let take = (ROW_GROUP - *rows).min(left);
            let mut writers = writers.iter_mut();
            for (field, column) in self.schema.fields().iter().zip(batch.columns()) {
                encode(field, &column.slice(from, take), &mut writers).map_err(|e| failed(&self.temporary, &e))?;
            }
            *rows += take;
            self.rows += take as u64;
            from += take;
            if *rows == ROW_GROUP {
                self.end_group()?;
            }
        }
        Ok(())
    }

    fn write_as_group(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut columns = Vec::with_capacity(batch.num_columns());
        for (field, column) in batch.columns().iter().enumerate() {
            let ids = if self.ids.contains(&field) { column.as_primitive_opt::<Int64Type>() } else { None };
            columns.push(match ids {
                Some(ids) => self.encoded(field, &IdValues::from(ids))?,
                None => GroupColumn::Values(column.clone()),
            });
        }
        self.write_group(batch.num_rows() as u32, columns)
    }

    /// Whether so many rows that come at once are a row group of their own, or several.
    pub(super) fn takes_groups(&self, rows: usize) -> bool {
        self.open.is_none() && rows >= self.own_group
    }

    /// Picked values as the column of a row group that a field is; `None` if only arrays of them can be written.
    pub(super) fn picked(&self, field: usize, picked: &Picked, rows: Range<usize>) -> Option<GroupColumn> {
        let chunk = encoded_values(picked, rows, &self.column(field)?, self.codec).ok()?;
        Some(GroupColumn::Chunk(Box::new(chunk)))
    }

    /// IDs as the column of a row group that a field is.
    pub(super) fn encoded(&self, field: usize, ids: &IdValues) -> Result<GroupColumn> {
        let target = self.column(field).ok_or_else(|| IngestError::internal("a column of IDs is nested"))?;
        let chunk = encoded_ids(ids, &target).map_err(|_| IngestError::internal("IDs cannot be written"))?;
        Ok(GroupColumn::Chunk(Box::new(chunk)))
    }

    /// Adds a whole row group, given column by column.
    pub(super) fn write_group(&mut self, rows: u32, columns: Vec<GroupColumn>) -> Result<()> {
        self.end_group()?;
        let written = self.group(columns);
        written.map_err(|e| failed(&self.temporary, &e))?;
        self.rows += u64::from(rows);
        Ok(())
    }

    fn group(&mut self, columns: Vec<GroupColumn>) -> Result<(), ParquetError> {
        // Making writers costs something, also if they get nothing.
        let encodes = columns.iter().any(|column| matches!(column, GroupColumn::Values(_)));
        let writers = if encodes { self.factory.create_column_writers(self.groups)? } else { Vec::new() };
        let mut writers = writers.into_iter();
        let leaves: Vec<usize> =
            (0..self.schema.fields().len()).map(|field| leaves(self.writer.schema_descr(), field)).collect();
        let mut group = self.writer.next_row_group()?;
        for ((field, column), leaves) in self.schema.fields().iter().zip(columns).zip(leaves) {
            let mut own: Vec<ArrowColumnWriter> = writers.by_ref().take(leaves).collect();
            match column {
                GroupColumn::Chunk(chunk) => group.append_column(&chunk.0, chunk.1)?,
                GroupColumn::Values(array) => {
                    encode(field, &array, &mut own.iter_mut())?;
                    for writer in own {
                        writer.close()?.append_to_row_group(&mut group)?;
                    }
                }
            }
        }
        group.close()?;
        self.groups += 1;
        Ok(())
    }

    /// Ends the row group that batches went to.
    fn end_group(&mut self) -> Result<()> {
        let Some((writers, _)) = self.open.take() else { return Ok(()) };
        let end = |writer: &mut SerializedFileWriter<Hashing>| {
            let mut group = writer.next_row_group()?;
            for column in writers {
                column.close()?.append_to_row_group(&mut group)?;
            }
            group.close()
        };
        end(&mut self.writer).map_err(|e| failed(&self.temporary, &e))?;
        self.groups += 1;
        Ok(())
    }

    /// Ends the file, syncs it, and gives it its name.
    pub(crate) fn finish(mut self) -> Result<Done> {
        self.end_group()?;
        let Self { path, temporary, writer, rows, .. } = self;
        let out = writer.into_inner().map_err(|e| failed(&temporary, &e))?;
        let file = out.file.into_inner().map_err(|e| IngestError::io("write", &temporary, e.error()))?;
        file.sync_all().map_err(|e| IngestError::io("sync", &temporary, &e))?;
        std::fs::rename(&temporary, &path).map_err(|e| IngestError::io("rename", &temporary, &e))?;
        sync_folder(&path)?;
        Ok(Done { rows, bytes: out.bytes, hash: format!("{:032x}", out.hasher.digest128()) })
    }
}

fn leaves(columns: &SchemaDescriptor, field: usize) -> usize {
    (0..columns.num_columns()).filter(|&leaf| columns.get_column_root_idx(leaf) == field).count()
}

/// Encodes a field's values into the writers of its leaves.
fn encode<'a>(
    field: &Field,
    values: &ArrayRef,
    writers: &mut impl Iterator<Item = &'a mut ArrowColumnWriter>,
) -> Result<(), ParquetError> {
    for leaf in compute_leaves(field, values)? {
        let writer = writers.next().ok_or_else(|| ParquetError::General("a column has no writer".to_owned()))?;
        writer.write(&leaf)?;
    }
    Ok(())
}

/// What a writer of Parquet says when it cannot write to `path`.
pub(crate) fn failed(path: &Path, error: &ParquetError) -> IngestError {
    if let ParquetError::External(source) = error
        && let Some(io) = source.downcast_ref::<std::io::Error>()
    {
        return IngestError::io("write", path, io);
    }
    IngestError::io("write", path, &std::io::Error::other(error.to_string()))
}

/// The columns of a table that hold IDs.
pub(crate) fn id_columns(table: &TableLayout) -> Vec<String> {
    let (fields, references) = (table.schema.fields(), table.references.len());
    let first_reference = table.id_width() + table.key.len();
    let id = fields.iter().take(table.id_width());
    let references = fields.iter().skip(first_reference).take(references);
    id.chain(references).filter(|f| *f.data_type() == DataType::Int64).map(|f| f.name().clone()).collect()
}

/// How a piece is written that has to leave memory: it is read back by this process alone.
pub(super) fn piece_properties() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Codec::UNCOMPRESSED)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(parquet::file::properties::EnabledStatistics::None)
        .build()
}

/// Writes records to one file, which is none of a table's: whole and on disk when it returns.
pub(crate) fn write_file(
    path: &Path,
    schema: &SchemaRef,
    compression: Compression,
    batches: impl Iterator<Item = Result<RecordBatch>>,
) -> Result<Done> {
    let properties = properties(compression, &[], &[])?;
    let mut sink = Sink::create(path.to_owned(), schema.clone(), &[], properties, OWN_GROUP)?;
    for batch in batches {
        sink.write(&batch?)?;
    }
    sink.finish()
}
