//! A column chunk being put together page by page, in memory: its pages, and what a row group needs to know of them.
//! Must never claim of a page what was not counted while it was added.

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, EncodingMask};
use parquet::column::page::{CompressedPage, Page, PageWriteSpec, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::file::metadata::{ColumnChunkMetaData, OffsetIndexBuilder};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

use super::chunk::{ColumnBytes, Fault, is_flat};
use super::header::PageKind;
use super::hybrid::run_of_bits;
use super::walk::RawPage;

/// A finished column chunk: its bytes, and what a row group needs to know of it.
pub(crate) type Finished = (Bytes, ColumnCloseResult);

/// A column chunk being put together.
pub(super) struct ColumnBuilder {
    target: ColumnDescPtr,
    codec: Compression,
    sink: TrackedWrite<Vec<u8>>,
    encodings: EncodingMask,
    dictionary: bool,
    data_offset: Option<u64>,
    uncompressed: usize,
    values: u32,
    locations: OffsetIndexBuilder,
    index: Option<ColumnIndexMetaData>,
}

impl ColumnBuilder {
    pub(super) fn new(target: ColumnDescPtr, codec: Compression) -> Self {
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
            index: None,
        }
    }

    fn write(&mut self, page: Page, uncompressed: usize) -> Result<PageWriteSpec, Fault> {
        let spec = SerializedPageWriter::new(&mut self.sink).write_page(CompressedPage::new(page, uncompressed))?;
        self.uncompressed += spec.uncompressed_size;
        Ok(spec)
    }

    /// Adds the dictionary, compressed already; `size` is what its body was before that.
    pub(super) fn dictionary(
        &mut self,
        body: Bytes,
        size: usize,
        entries: u32,
        encoding: Encoding,
    ) -> Result<(), Fault> {
        self.dictionary = true;
        self.encodings.insert(encoding);
        let page = Page::DictionaryPage { buf: body, num_values: entries, encoding, is_sorted: false };
        self.write(page, size).map(|_| ())
    }

    /// Adds a data page of `column` with its body as it is, or with levels before it if it has none and needs some.
    pub(super) fn data(
        &mut self,
        column: &ColumnBytes,
        page: &RawPage,
        instead: Option<Encoding>,
    ) -> Result<(), Fault> {
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
                    (values, v1(body, values, encoding), size)
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
        self.append(made, count, size)
    }

    /// Adds a data page of version 1, compressed already; `size` is what its body was before that.
    pub(super) fn page(&mut self, body: Bytes, size: usize, values: u32, encoding: Encoding) -> Result<(), Fault> {
        self.encodings.insert(encoding);
        self.append(v1(body, values, encoding), values, size)
    }

    /// What is known of the pages, one by one.
    pub(super) fn index(&mut self, index: ColumnIndexMetaData) {
        self.index = Some(index);
    }

    fn append(&mut self, page: Page, count: u32, size: usize) -> Result<(), Fault> {
        self.encodings.insert(Encoding::RLE);
        let spec = self.write(page, size)?;
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

    /// Ends the chunk of a row group with so many rows.
    pub(super) fn finish(
        self,
        rows: u32,
        statistics: Option<Statistics>,
        unencoded: Option<i64>,
    ) -> Result<Finished, Fault> {
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
            column_index: self.index,
            offset_index: Some(self.locations.build()),
        };
        Ok((bytes, close))
    }
}

/// A data page of version 1.
fn v1(body: Bytes, values: u32, encoding: Encoding) -> Page {
    Page::DataPage {
        buf: body,
        num_values: values,
        encoding,
        def_level_encoding: Encoding::RLE,
        rep_level_encoding: Encoding::RLE,
        statistics: None,
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
pub(super) fn encoding(code: i32) -> Result<Encoding, Fault> {
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
