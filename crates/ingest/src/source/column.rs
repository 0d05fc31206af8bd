//! One column of the source in one chunk, row group by row group, as pages. Must never decode a value.

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::DataType;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::schema::types::ColumnDescriptor;

use crate::pages::{ColumnBytes, Fault, is_supported};
use crate::plan::Chunk;
use crate::source::Opened;

/// A column at the top of the source's schema, in one chunk.
#[derive(Debug)]
pub(crate) struct SourceColumn {
    file: Opened,
    metadata: Arc<ParquetMetaData>,
    leaf: usize,
    groups: Range<usize>,
    data_type: DataType,
}

impl SourceColumn {
    /// The column that the file calls `name`, which the general reader gives as `data_type`; `None` if it is nested.
    pub(crate) fn new(
        file: Opened,
        metadata: Arc<ParquetMetaData>,
        chunk: &Chunk,
        name: &str,
        data_type: &DataType,
    ) -> Option<Self> {
        let columns = metadata.file_metadata().schema_descr().columns();
        let leaf = columns.iter().position(|c| matches!(c.path().parts(), [only] if only == name))?;
        let groups = chunk.first_group as usize..(chunk.first_group + chunk.groups) as usize;
        Some(Self { file, metadata, leaf, groups, data_type: data_type.clone() })
    }

    /// What the file's schema says of it.
    pub(crate) fn descriptor(&self) -> &ColumnDescriptor {
        self.metadata.file_metadata().schema_descr().columns()[self.leaf].as_ref()
    }

    /// Its name in the file.
    pub(crate) fn name(&self) -> &str {
        self.descriptor().name()
    }

    /// How the general reader gives it.
    pub(crate) fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// Whether its values can be read from pages.
    pub(crate) fn is_readable(&self) -> bool {
        is_supported(self.descriptor(), &self.data_type)
    }

    /// Whether the footer tells of no encodings but plain values and dictionaries of them.
    pub(crate) fn is_plain(&self) -> bool {
        use parquet::basic::Encoding::{PLAIN, PLAIN_DICTIONARY, RLE, RLE_DICTIONARY};
        let is_plain = |encoding| matches!(encoding, PLAIN | RLE | PLAIN_DICTIONARY | RLE_DICTIONARY);
        let mut groups = self.groups.clone();
        groups.all(|group| self.metadata.row_group(group).column(self.leaf).encodings().all(is_plain))
    }

    /// How many row groups the chunk has.
    pub(crate) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// The rows of a row group, counted from the chunk's first.
    pub(crate) fn group_rows(&self, group: usize) -> u32 {
        self.metadata.row_group(self.groups.start + group).num_rows() as u32
    }

    /// The bytes of a row group's column chunk.
    pub(crate) fn read(&self, group: usize) -> std::result::Result<ColumnBytes, Fault> {
        let column = self.metadata.row_group(self.groups.start + group).column(self.leaf);
        self.file.ensure(|| byte_range(column).into_iter().collect()).map_err(|e| Fault::Unread(Box::new(e)))?;
        ColumnBytes::read(self.file.file(), column, self.group_rows(group))
    }
}

/// Where a column chunk is in its file, as far as the footer makes sense; readers check it anew.
fn byte_range(column: &ColumnChunkMetaData) -> Option<Range<u64>> {
    let start = u64::try_from(column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset())).ok()?;
    let end = start.checked_add(u64::try_from(column.compressed_size()).ok()?)?;
    Some(start..end)
}

/// The bytes of these columns of a file, with all that is nested in them, in some row groups.
pub(crate) fn byte_ranges(metadata: &ParquetMetaData, groups: Range<usize>, columns: &[String]) -> Vec<Range<u64>> {
    let in_group = |group: usize| {
        let leaves = metadata.row_group(group).columns().iter();
        leaves.filter(|leaf| leaf.column_path().parts().first().is_some_and(|root| columns.contains(root)))
    };
    groups.flat_map(in_group).filter_map(byte_range).collect()
}
