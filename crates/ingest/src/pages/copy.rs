//! Column chunks for a new file, made without decoding a value: copied as they are, or with another dictionary before
//! the same indices. What is copied is checked as far as that goes without decoding: every page is whole, has its
//! checksum if it declares one, and all of them have as many values as the footer says.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, EncodingMask, Repetition, Type as Physical};
use parquet::column::page::{CompressedPage, Page, PageWriteSpec, PageWriter};
use parquet::column::writer::{ColumnCloseResult, ColumnWriter, get_column_writer};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, OffsetIndexBuilder};
use parquet::file::page_index::offset_index::OffsetIndexMetaData;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::{ColumnDescPtr, ColumnDescriptor, ColumnPath, Type};

use super::chunk::{ColumnBytes, Fault, RawPage, is_flat};
use super::header::PageKind;
use super::hybrid::run_of_bits;

/// A finished column chunk: its bytes, and what a row group needs to know of it.
pub(crate) type Finished = (Bytes, ColumnCloseResult);

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

/// A column chunk being put together, page by page, in memory.
pub(crate) struct ColumnBuilder {
    target: ColumnDescPtr,
    codec: Compression,
    sink: TrackedWrite<Vec<u8>>,
    encodings: EncodingMask,
    dictionary: bool,
    data_offset: Option<u64>,
    uncompressed: usize,
    values: u32,
    locations: OffsetIndexBuilder,
}

impl ColumnBuilder {
    fn new(target: ColumnDescPtr, codec: Compression) -> Self {
        Self {
            target,
            codec,
            sink: TrackedWrite::new(Vec::new()),
            encodings: EncodingMask::default(),
            dictionary: false,
            data_offset: None,
            uncompressed: 0,
            values: 0,
            locations: OffsetIndexBuilder::new(),
        }
    }

    fn write(&mut self, page: Page, uncompressed: usize) -> Result<PageWriteSpec, Fault> {
        let spec = SerializedPageWriter::new(&mut self.sink).write_page(CompressedPage::new(page, uncompressed))?;
        self.uncompressed += spec.uncompressed_size;
        Ok(spec)
    }

    fn dictionary(&mut self, body: Bytes, size: usize, entries: u32, encoding: Encoding) -> Result<(), Fault> {
        self.dictionary = true;
        self.encodings.insert(encoding);
        let page = Page::DictionaryPage { buf: body, num_values: entries, encoding, is_sorted: false };
        self.write(page, size).map(|_| ())
    }

    /// Adds a data page of `column` with its body as it is, or with levels before it if it has none and needs some.
    fn data(&mut self, column: &ColumnBytes, page: &RawPage, instead: Option<Encoding>) -> Result<(), Fault> {
        let body = column.bytes().slice(page.body.clone());
        let size = page.header.uncompressed as usize;
        let levels = self.target.max_def_level() == 1 && !column.is_optional();
        let (count, made, size) = match page.header.kind {
            PageKind::Data { values, encoding: code, definition_levels, .. } => {
                let encoding = instead.map_or_else(|| encoding(code), Ok)?;
                self.encodings.insert(encoding);
                if levels {
                    let (body, added) = with_levels(&body, values);
                    (
                        values,
                        self.v2(body, values, 0, encoding, added, self.codec != Compression::UNCOMPRESSED),
                        size + added,
                    )
                } else if column.is_optional() && definition_levels != LEVELS_RLE {
                    return Err(Fault::Unsupported);
                } else {
                    let page = Page::DataPage {
                        buf: body,
                        num_values: values,
                        encoding,
                        def_level_encoding: Encoding::RLE,
                        rep_level_encoding: Encoding::RLE,
                        statistics: None,
                    };
                    (values, page, size)
                }
            }
            PageKind::DataV2 {
                values, nulls, encoding: code, definition_bytes, repetition_bytes, compressed, ..
            } => {
                if repetition_bytes != 0 {
                    return Err(Fault::Unsupported);
                }
                let encoding = instead.map_or_else(|| encoding(code), Ok)?;
                self.encodings.insert(encoding);
                if levels {
                    if definition_bytes != 0 {
                        return Err(Fault::Unsupported);
                    }
                    let (body, added) = with_levels(&body, values);
                    (values, self.v2(body, values, 0, encoding, added, compressed), size + added)
                } else {
                    (values, self.v2(body, values, nulls, encoding, definition_bytes as usize, compressed), size)
                }
            }
            PageKind::Dictionary { .. } | PageKind::Other => return Err(Fault::Unsupported),
        };
        self.encodings.insert(Encoding::RLE);
        let spec = self.write(made, size)?;
        self.data_offset.get_or_insert(spec.offset);
        self.values += count;
        self.locations.append_row_count(i64::from(count));
        self.locations.append_offset_and_size(spec.offset as i64, spec.compressed_size as i32);
        Ok(())
    }

    fn v2(&self, body: Bytes, values: u32, nulls: u32, encoding: Encoding, levels: usize, is_compressed: bool) -> Page {
        debug_assert!(is_flat(&self.target));
        Page::DataPageV2 {
            buf: body,
            num_values: values,
            encoding,
            num_nulls: nulls,
            num_rows: values,
            def_levels_byte_len: levels as u32,
            rep_levels_byte_len: 0,
            is_compressed,
            statistics: None,
        }
    }

    fn finish(self, rows: u32, statistics: Option<Statistics>, unencoded: Option<i64>) -> Result<Finished, Fault> {
        if self.values != rows {
            return Err(Fault::damaged(format!("a column has {} values in {rows} rows", self.values)));
        }
        let written = self.sink.bytes_written();
        let bytes = Bytes::from(self.sink.into_inner()?);
        let mut builder = ColumnChunkMetaData::builder(self.target)
            .set_compression(self.codec)
            .set_encodings_mask(self.encodings)
            .set_total_compressed_size(written as i64)
            .set_total_uncompressed_size(self.uncompressed as i64)
            .set_num_values(i64::from(self.values))
            .set_data_page_offset(self.data_offset.unwrap_or(written as u64) as i64)
            .set_dictionary_page_offset(self.dictionary.then_some(0))
            .set_unencoded_byte_array_data_bytes(unencoded);
        if let Some(statistics) = statistics {
            builder = builder.set_statistics(statistics);
        }
        let close = ColumnCloseResult {
            bytes_written: written as u64,
            rows_written: rows.into(),
            metadata: builder.build()?,
            bloom_filter: None,
            column_index: None,
            offset_index: Some(self.locations.build()),
        };
        Ok((bytes, close))
    }
}

/// The code of the RLE encoding in page headers.
const LEVELS_RLE: i32 = 3;

fn with_levels(body: &[u8], values: u32) -> (Bytes, usize) {
    let mut bytes = run_of_bits(values, true);
    let levels = bytes.len();
    bytes.extend_from_slice(body);
    (bytes.into(), levels)
}

/// An encoding by its code in page headers.
fn encoding(code: i32) -> Result<Encoding, Fault> {
    Ok(match code {
        0 => Encoding::PLAIN,
        2 => Encoding::PLAIN_DICTIONARY,
        3 => Encoding::RLE,
        5 => Encoding::DELTA_BINARY_PACKED,
        6 => Encoding::DELTA_LENGTH_BYTE_ARRAY,
        7 => Encoding::DELTA_BYTE_ARRAY,
        8 => Encoding::RLE_DICTIONARY,
        9 => Encoding::BYTE_STREAM_SPLIT,
        _ => return Err(Fault::Unsupported),
    })
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
