//! Column chunks for a new file, made without decoding a value: copied as they are, or with another dictionary before
//! the same indices. What is copied is checked as far as that goes without decoding: every page is whole, has its
//! checksum if it declares one, and all of them have as many values as the footer says.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, Repetition, Type as Physical};
use parquet::column::page::{CompressedPage, Page, PageWriteSpec, PageWriter};
use parquet::column::writer::{ColumnCloseResult, ColumnWriter, get_column_writer};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, OffsetIndexBuilder};
use parquet::file::page_index::offset_index::OffsetIndexMetaData;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::statistics::Statistics;
use parquet::schema::types::{ColumnDescPtr, ColumnDescriptor, ColumnPath, Type};

use super::builder::{ColumnBuilder, Finished, encoding};
use super::chunk::{ColumnBytes, Fault, is_flat};
use super::header::PageKind;
use super::walk::RawPage;

/// Whether a column of a source file can become `target` of an output file without being decoded: the same physical
/// type, and no nulls that `target` would not have. That both mean the same is the caller's to know.
pub(crate) fn is_copyable(source: &ColumnDescriptor, target: &ColumnDescriptor) -> bool {
    is_flat(source)
        && is_flat(target)
        && source.physical_type() == target.physical_type()
        && (source.physical_type() != Physical::FIXED_LEN_BYTE_ARRAY || source.type_length() == target.type_length())
        && (source.max_def_level() == target.max_def_level() || target.max_def_level() == 1)
}

/// The column chunk as it is, as `target` of an output file.
pub(crate) fn copied(column: &ColumnBytes, target: &ColumnDescPtr) -> Result<Finished, Fault> {
    let pages = column.raw_pages()?;
    let source = column.column();
    if column.is_optional() != (target.self_type().get_basic_info().repetition() == Repetition::OPTIONAL) {
        return widened(column, &pages, target);
    }
    let data = source.data_page_offset() - column.start() as i64;
    let mut builder = ColumnChunkMetaData::builder(target.clone())
        .set_compression_codec(source.compression_codec())
        .set_encodings_mask(*source.encodings_mask())
        .set_total_compressed_size(source.compressed_size())
        .set_total_uncompressed_size(source.uncompressed_size())
        .set_num_values(source.num_values())
        .set_data_page_offset(data)
        .set_dictionary_page_offset(source.dictionary_page_offset().map(|_| 0))
        .set_unencoded_byte_array_data_bytes(source.unencoded_byte_array_data_bytes());
    if let Some(statistics) = source.statistics() {
        builder = builder.set_statistics(statistics.clone());
    }
    if let Some(stats) = source.page_encoding_stats() {
        builder = builder.set_page_encoding_stats(stats.clone());
    }
    let close = ColumnCloseResult {
        bytes_written: column.bytes().len() as u64,
        rows_written: column.rows().into(),
        metadata: builder.build()?,
        bloom_filter: None,
        column_index: None,
        offset_index: Some(offsets(&pages)),
    };
    Ok((column.bytes().clone(), close))
}

/// A required column as one that could have nulls: every page gets levels that say that it has none.
fn widened(column: &ColumnBytes, pages: &[RawPage], target: &ColumnDescPtr) -> Result<Finished, Fault> {
    let mut builder = ColumnBuilder::new(target.clone(), column.column().compression());
    for page in pages {
        if let PageKind::Dictionary { values, encoding: code } = page.header.kind {
            let body = column.bytes().slice(page.body.clone());
            builder.dictionary(body, page.header.uncompressed as usize, values, encoding(code)?)?;
        } else {
            builder.data(column, page, None)?;
        }
    }
    let source = column.column();
    builder.finish(column.rows(), source.statistics().cloned(), source.unencoded_byte_array_data_bytes())
}

/// The reference that a key column becomes: the same indices into a dictionary of `ids`, one for each entry of the
/// column's own dictionary. Only for a column chunk that is dictionary-encoded throughout.
pub(crate) fn exchanged(
    column: &ColumnBytes,
    target: &ColumnDescPtr,
    ids: &[i64],
    statistics: Statistics,
) -> Result<Finished, Fault> {
    let codec = column.column().compression();
    let mut builder = ColumnBuilder::new(target.clone(), codec);
    let (body, size) = plain_page(ids, codec)?;
    let entries = u32::try_from(ids.len()).map_err(|_| Fault::Unsupported)?;
    builder.dictionary(body, size, entries, Encoding::PLAIN)?;
    for page in column.raw_pages()? {
        if !matches!(page.header.kind, PageKind::Dictionary { .. }) {
            builder.data(column, &page, Some(Encoding::RLE_DICTIONARY))?;
        }
    }
    builder.finish(column.rows(), Some(statistics), None)
}

fn offsets(pages: &[RawPage]) -> OffsetIndexMetaData {
    let mut builder = OffsetIndexBuilder::new();
    for page in pages {
        if let PageKind::Data { values, .. } | PageKind::DataV2 { values, .. } = page.header.kind {
            builder.append_row_count(i64::from(values));
            builder.append_offset_and_size(page.start as i64, (page.body.end - page.start) as i32);
        }
    }
    builder.build()
}

/// Catches the pages that a column writer makes.
#[derive(Clone, Default)]
struct Caught(Arc<Mutex<Vec<CompressedPage>>>);

impl PageWriter for Caught {
    fn write_page(&mut self, page: CompressedPage) -> Result<PageWriteSpec, ParquetError> {
        let mut spec = PageWriteSpec::new();
        spec.page_type = page.page_type();
        spec.uncompressed_size = page.uncompressed_size();
        spec.compressed_size = page.compressed_size();
        spec.num_values = page.num_values();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(page);
        Ok(spec)
    }

    fn close(&mut self) -> Result<(), ParquetError> {
        Ok(())
    }
}

/// Numbers as the body of a plain page without levels, compressed, and its size before that. A column writer makes it:
/// it knows the codecs.
fn plain_page(values: &[i64], codec: Compression) -> Result<(Bytes, usize), Fault> {
    if values.is_empty() {
        // An empty page would not be written; a dictionary of one entry that nobody uses is.
        return plain_page(&[0], codec);
    }
    let leaf = Type::primitive_type_builder("id", Physical::INT64).with_repetition(Repetition::REQUIRED).build()?;
    let descriptor = Arc::new(ColumnDescriptor::new(Arc::new(leaf), 0, 0, ColumnPath::from("id")));
    let properties = WriterProperties::builder()
        .set_compression(codec)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_data_page_size_limit(usize::MAX)
        .set_data_page_row_count_limit(usize::MAX)
        .build();
    let caught = Caught::default();
    let writer = get_column_writer(descriptor, Arc::new(properties), Box::new(caught.clone()));
    let ColumnWriter::Int64ColumnWriter(mut writer) = writer else { return Err(Fault::Unsupported) };
    writer.write_batch(values, None, None)?;
    writer.close()?;
    let pages = std::mem::take(&mut *caught.0.lock().unwrap_or_else(PoisonError::into_inner));
    match <[CompressedPage; 1]>::try_from(pages) {
        Ok([page]) => match page.compressed_page() {
            Page::DataPage { buf, .. } => Ok((buf.clone(), page.uncompressed_size())),
            _ => Err(Fault::Unsupported),
        },
        Err(_) => Err(Fault::Unsupported),
    }
}
