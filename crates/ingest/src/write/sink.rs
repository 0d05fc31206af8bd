//! One Parquet file on its way to disk. It appears under its name when it is whole and synced, never before.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{BrotliLevel, Compression as Codec, Encoding, GzipLevel, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use seriatim_pipeline::model::Compression;
use xxhash_rust::xxh3::Xxh3;

use crate::error::{IngestError, Result};
use crate::files::{make_folder, sync_folder};

/// Rows of a row group, at most: the unit in which readers work in parallel.
const ROW_GROUP: usize = 131_072;

/// What a finished file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) hash: String,
}

/// A file being written.
pub(crate) struct Sink {
    path: PathBuf,
    temporary: PathBuf,
    writer: ArrowWriter<Hashing>,
    rows: u64,
    durable: bool,
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
pub(crate) fn properties(compression: Compression, ids: &[&str]) -> Result<WriterProperties> {
    let wrong = |e: parquet::errors::ParquetError| IngestError::pipeline(format!("output.compression: {e}"));
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
    Ok(builder.build())
}

impl Sink {
    /// Begins the file that will be at `path`. A `durable` one is synced before it appears.
    pub(crate) fn create(
        path: PathBuf,
        schema: SchemaRef,
        properties: WriterProperties,
        durable: bool,
    ) -> Result<Self> {
        make_folder(path.parent().unwrap_or(Path::new(".")))?;
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".tmp");
        let temporary = path.with_file_name(name);
        let file = File::create(&temporary).map_err(|e| IngestError::io("create", &temporary, &e))?;
        let out = Hashing { file: BufWriter::with_capacity(1 << 18, file), hasher: Box::default(), bytes: 0 };
        let writer = ArrowWriter::try_new(out, schema, Some(properties)).map_err(|e| failed(&temporary, &e))?;
        Ok(Self { path, temporary, writer, rows: 0, durable })
    }

    /// Adds rows.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.writer.write(batch).map_err(|e| failed(&self.temporary, &e))?;
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// Ends the file and gives it its name.
    pub(crate) fn finish(self) -> Result<Finished> {
        let Self { path, temporary, writer, rows, durable } = self;
        let out = writer.into_inner().map_err(|e| failed(&temporary, &e))?;
        let file = out.file.into_inner().map_err(|e| IngestError::io("write", &temporary, e.error()))?;
        if durable {
            file.sync_all().map_err(|e| IngestError::io("sync", &temporary, &e))?;
        }
        std::fs::rename(&temporary, &path).map_err(|e| IngestError::io("rename", &temporary, &e))?;
        if durable {
            sync_folder(&path)?;
        }
        Ok(Finished { rows, bytes: out.bytes, hash: format!("{:032x}", out.hasher.digest128()) })
    }
}

fn failed(path: &Path, error: &parquet::errors::ParquetError) -> IngestError {
    if let parquet::errors::ParquetError::External(source) = error
        && let Some(io) = source.downcast_ref::<std::io::Error>()
    {
        return IngestError::io("write", path, io);
    }
    IngestError::io("write", path, &std::io::Error::other(error.to_string()))
}

/// The columns of a table that hold IDs.
pub(crate) fn id_columns(schema: &SchemaRef, key: usize, references: usize, has_id: bool) -> Vec<String> {
    let fields = schema.fields();
    let first_reference = usize::from(has_id) + key;
    let id = fields.iter().take(usize::from(has_id));
    let references = fields.iter().skip(first_reference).take(references);
    id.chain(references).filter(|f| *f.data_type() == DataType::Int64).map(|f| f.name().clone()).collect()
}

/// The schema of a piece: pieces are read back by this program alone.
pub(crate) fn piece_properties() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Codec::UNCOMPRESSED)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(parquet::file::properties::EnabledStatistics::None)
        .build()
}
