//! Writes source files the many ways in which Parquet writers do. Must never change what a file says, only how.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};

use crate::cells::{Cell, Kind, TextForm, array_of};
use crate::oracle::Record;
use crate::rng::Rng;

/// A source column.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

impl Column {
    pub(crate) fn new(name: &str, kind: Kind) -> Self {
        Self { name: name.to_owned(), kind }
    }
}

/// How a file is written.
#[expect(clippy::struct_excessive_bools, reason = "independent settings of a writer, each of them on or off")]
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) row_group: usize,
    pub(crate) page_rows: usize,
    pub(crate) page_bytes: usize,
    pub(crate) dictionary: bool,
    /// A small limit makes the writer begin with a dictionary and fall back to plain pages.
    pub(crate) dictionary_bytes: usize,
    pub(crate) version: WriterVersion,
    pub(crate) compression: Compression,
    pub(crate) statistics: EnabledStatistics,
    /// Whether Arrow's own description of the schema is in the file; writers other than Arrow leave it out.
    pub(crate) arrow_schema: bool,
    pub(crate) text: TextForm,
    /// Columns without nulls are written as required.
    pub(crate) required: bool,
    /// Columns in another order than in other files: readers go by name.
    pub(crate) reversed: bool,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            row_group: 1 << 20,
            page_rows: 20_000,
            page_bytes: 1 << 20,
            dictionary: true,
            dictionary_bytes: 1 << 20,
            version: WriterVersion::PARQUET_1_0,
            compression: Compression::SNAPPY,
            statistics: EnabledStatistics::Page,
            arrow_schema: true,
            text: TextForm::Small,
            required: false,
            reversed: false,
        }
    }
}

impl Layout {
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let zstd = Compression::ZSTD(ZstdLevel::try_new(1).expect("a level of zstd"));
        let gzip = Compression::GZIP(GzipLevel::try_new(1).expect("a level of gzip"));
        Self {
            row_group: rng.pick(&[1, 7, 50, 1000, 1 << 20]),
            page_rows: rng.pick(&[1, 10, 100, 20_000]),
            page_bytes: rng.pick(&[64, 4096, 1 << 20]),
            dictionary: rng.percent(70),
            dictionary_bytes: rng.pick(&[16, 300, 1 << 20, 1 << 20]),
            version: rng.pick(&[WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0]),
            compression: rng.pick(&[Compression::UNCOMPRESSED, Compression::SNAPPY, zstd, Compression::LZ4_RAW, gzip]),
            statistics: rng.pick(&[EnabledStatistics::None, EnabledStatistics::Chunk, EnabledStatistics::Page]),
            arrow_schema: rng.percent(60),
            text: rng.pick(&[TextForm::Small, TextForm::Small, TextForm::Large, TextForm::Dictionary]),
            required: rng.percent(50),
            reversed: rng.percent(20),
        }
    }

    fn properties(&self) -> WriterProperties {
        WriterProperties::builder()
            .set_max_row_group_row_count(Some(self.row_group))
            .set_data_page_row_count_limit(self.page_rows)
            .set_data_page_size_limit(self.page_bytes)
            .set_write_batch_size(self.page_rows.clamp(1, 1024))
            .set_dictionary_enabled(self.dictionary)
            .set_dictionary_page_size_limit(self.dictionary_bytes)
            .set_writer_version(self.version)
            .set_compression(self.compression)
            .set_statistics_enabled(self.statistics)
            .build()
    }
}

/// Writes one file, and the folders above it.
pub(crate) fn write(path: &Path, columns: &[Column], records: &[Record], layout: &Layout) {
    fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("folders can be made");
    let mut order: Vec<usize> = (0..columns.len()).collect();
    if layout.reversed {
        order.reverse();
    }
    let mut fields = Vec::new();
    let mut arrays = Vec::new();
    for at in order {
        let cells: Vec<Cell> = records.iter().map(|record| record[at].clone()).collect();
        let array = array_of(columns[at].kind, layout.text, &cells);
        let nullable = !layout.required || cells.contains(&Cell::Null);
        fields.push(Field::new(&columns[at].name, array.data_type().clone(), nullable));
        arrays.push(array);
    }
    let schema = Arc::new(Schema::new(fields));
    let options =
        ArrowWriterOptions::new().with_properties(layout.properties()).with_skip_arrow_metadata(!layout.arrow_schema);
    let file = File::create(path).expect("the file can be made");
    let mut writer = ArrowWriter::try_new_with_options(file, schema.clone(), options).expect("a schema of Parquet");
    let batch = RecordBatch::try_new(schema, arrays).expect("equal columns");
    // Group by group: given more at once, the writer calls itself for the rest, and small groups overflow its stack.
    for first in (0..batch.num_rows()).step_by(layout.row_group) {
        let rows = layout.row_group.min(batch.num_rows() - first);
        writer.write(&batch.slice(first, rows)).expect("the file can be written");
    }
    writer.close().expect("the file can be finished");
}
