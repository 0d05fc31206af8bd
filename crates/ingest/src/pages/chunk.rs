//! One column chunk: its bytes, its pages as they are in the file, and its pages decompressed. Everything that the
//! footer and the page headers declare is checked against the bytes before it is believed.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use parquet::basic::{Encoding, Repetition};
use parquet::column::page::{Page, PageReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::{ColumnDescPtr, ColumnDescriptor};

use crate::error::{ErrorKind, IngestError};

use super::header::read_header;
use super::hybrid;
use super::walk::{RawPage, Walk};

/// Why a column chunk cannot be worked on as pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It has a form that only the general reader knows.
    Unsupported,
    /// It is not what its headers say.
    Damaged(String),
    /// Its bytes could not be had.
    Unread(Box<IngestError>),
}

impl Fault {
    pub(crate) fn damaged(text: impl Into<String>) -> Self {
        Self::Damaged(text.into())
    }
}

impl From<ParquetError> for Fault {
    fn from(error: ParquetError) -> Self {
        Self::Damaged(match error {
            ParquetError::General(text) => text,
            other => other.to_string(),
        })
    }
}

/// The bytes of a column chunk in one row group, and what the footer says of it.
#[derive(Debug, Clone)]
pub(crate) struct ColumnBytes {
    bytes: Bytes,
    start: u64,
    column: ColumnChunkMetaData,
    rows: u32,
}

impl ColumnBytes {
    /// Reads a column chunk of a row group of `rows` rows.
    pub(crate) fn read(file: &File, column: &ColumnChunkMetaData, rows: u32) -> Result<Self, Fault> {
        let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
        let (start, length) = u64::try_from(start)
            .ok()
            .zip(u64::try_from(column.compressed_size()).ok())
            .ok_or_else(|| Fault::damaged("a column chunk has a negative place or size"))?;
        let size = file.metadata().map_err(|e| unread(&e))?.len();
        if start.checked_add(length).is_none_or(|end| end > size) {
            return Err(Fault::damaged("a column chunk reaches beyond the end of the file"));
        }
        let mut bytes = Vec::with_capacity(length as usize);
        let mut reader = file;
        let read = reader.seek(SeekFrom::Start(start)).and_then(|_| reader.take(length).read_to_end(&mut bytes));
        if read.map_err(|e| unread(&e))? as u64 != length {
            return Err(Fault::damaged("the file has become shorter"));
        }
        Ok(Self { bytes: bytes.into(), start, column: column.clone(), rows })
    }

    /// What the footer says of the chunk.
    pub(crate) fn column(&self) -> &ColumnChunkMetaData {
        &self.column
    }

    /// The rows of the chunk's row group.
    pub(crate) fn rows(&self) -> u32 {
        self.rows
    }

    pub(super) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Where the chunk begins in the file.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Whether values can be null.
    pub(super) fn is_optional(&self) -> bool {
        self.column.column_descr().self_type().get_basic_info().repetition() == Repetition::OPTIONAL
    }

    /// Where the pages are: each is within the chunk and declares what is possible, and together they have as many values
    /// as the footer says.
    fn walk(&self) -> Result<Vec<RawPage>, Fault> {
        let mut walk = Walk::new(&self.column, self.rows.into());
        while walk.at() < self.bytes.len() {
            let (header, length) = read_header(&self.bytes[walk.at()..])?;
            walk.page(header, length, self.bytes.len())?;
        }
        walk.finish()
    }

    /// All pages, each of which has the checksum that it declares, if it declares one.
    pub(super) fn raw_pages(&self) -> Result<Vec<RawPage>, Fault> {
        let pages = self.walk()?;
        for page in &pages {
            if page.header.crc.is_some_and(|crc| crc32fast::hash(&self.bytes[page.body.clone()]) != crc) {
                return Err(Fault::damaged("a page's checksum is wrong"));
            }
        }
        Ok(pages)
    }

    /// The chunk's pages, decompressed. Only for a column that is not nested.
    pub(crate) fn pages(&self) -> Result<Pages, Fault> {
        let descriptor = self.column.column_descr();
        if !is_flat(descriptor) {
            return Err(Fault::Unsupported);
        }
        if self.column.num_values() != i64::from(self.rows) {
            return Err(Fault::damaged(format!(
                "a column has {} values where its row group has {} rows",
                self.column.num_values(),
                self.rows
            )));
        }
        self.walk()?;
        let window = Window { bytes: self.bytes.clone(), start: self.start };
        let reader = SerializedPageReader::new(Arc::new(window), &self.column, self.rows as usize, None)?;
        Ok(Pages { reader, descriptor: self.column.column_descr_ptr(), next_row: 0, rows: self.rows })
    }
}

/// The file is there and cannot be read: the machine's trouble, not the file's.
pub(crate) fn unread(error: &std::io::Error) -> Fault {
    Fault::Unread(Box::new(IngestError::new(ErrorKind::System, format!("cannot read a source file: {error}"))))
}

/// Whether a column stands at the top of its schema and is not repeated.
pub(super) fn is_flat(descriptor: &ColumnDescriptor) -> bool {
    descriptor.max_rep_level() == 0 && descriptor.max_def_level() <= 1 && descriptor.path().parts().len() == 1
}

/// A column chunk as a part of its file.
#[derive(Debug)]
struct Window {
    bytes: Bytes,
    start: u64,
}

impl Window {
    fn from(&self, start: u64) -> Result<usize, ParquetError> {
        let at = start.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
        at.filter(|&at| at <= self.bytes.len())
            .ok_or_else(|| ParquetError::EOF("a page lies outside of its column chunk".to_owned()))
    }
}

impl Length for Window {
    fn len(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

impl ChunkReader for Window {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(self.bytes.slice(self.from(start)?..).reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let at = self.from(start)?;
        let end = at.checked_add(length).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| ParquetError::EOF("a page reaches beyond its column chunk".to_owned()))?;
        Ok(self.bytes.slice(at..end))
    }
}

/// The pages of a column chunk, one after another.
pub(crate) struct Pages {
    reader: SerializedPageReader<Window>,
    descriptor: ColumnDescPtr,
    next_row: u32,
    rows: u32,
}

/// Which rows of a page have a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Presence {
    /// All.
    All,
    /// Those with a 1.
    Some(Vec<u32>),
}

/// A data page, decompressed.
#[derive(Debug, Clone)]
pub(crate) struct DecodedPage {
    /// The page's rows in its row group.
    pub(crate) rows: Range<u32>,
    pub(crate) presence: Presence,
    /// How many of the rows have a value.
    pub(crate) present: usize,
    pub(crate) encoding: Encoding,
    pub(crate) values: Bytes,
}

impl DecodedPage {
    /// How many rows have no value.
    pub(crate) fn nulls(&self) -> usize {
        self.rows.len() - self.present
    }

    /// Whether the values are indices into the dictionary.
    pub(crate) fn is_dictionary(&self) -> bool {
        matches!(self.encoding, Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY)
    }

    /// Appends the dictionary indices of the values to `out`; each is below `entries`.
    pub(crate) fn indices(&self, entries: usize, out: &mut Vec<u32>) -> Result<(), Fault> {
        if self.present == 0 {
            return Ok(());
        }
        let Some((&width, packed)) = self.values.split_first() else {
            return Err(Fault::damaged("a page of dictionary indices is empty"));
        };
        let from = out.len();
        hybrid::decode(packed, u32::from(width), self.present, out)?;
        if out[from..].iter().copied().max().is_some_and(|most| most as usize >= entries) {
            return Err(Fault::damaged("a dictionary index has no entry"));
        }
        Ok(())
    }
}

/// What comes next in a column chunk.
#[derive(Debug)]
pub(crate) enum Next {
    /// The dictionary: plain values, and how many.
    Dictionary(Bytes, usize),
    /// A data page.
    Page(DecodedPage),
    /// A data page that was not wanted.
    Skipped,
}

impl Pages {
    /// The next page, or `None` at the end. Pages whose rows are not `wanted` are not even decompressed.
    pub(crate) fn next(&mut self, wanted: impl FnOnce(Range<u32>) -> bool) -> Result<Option<Next>, Fault> {
        let Some(ahead) = self.reader.peek_next_page()? else {
            if self.next_row != self.rows {
                return Err(Fault::damaged(format!("a column ends after {} of {} rows", self.next_row, self.rows)));
            }
            return Ok(None);
        };
        if !ahead.is_dict {
            let count = ahead.num_rows.or(ahead.num_levels).ok_or(Fault::Unsupported)?;
            let rows = self.advance(count)?;
            if !wanted(rows.clone()) {
                self.reader.skip_next_page()?;
                return Ok(Some(Next::Skipped));
            }
            let page = self.reader.get_next_page()?.ok_or_else(|| Fault::damaged("a page is missing"))?;
            return self.decoded(page, rows).map(|page| Some(Next::Page(page)));
        }
        match self.reader.get_next_page()? {
            Some(Page::DictionaryPage { buf, num_values, .. }) => Ok(Some(Next::Dictionary(buf, num_values as usize))),
            _ => Err(Fault::damaged("a dictionary is missing")),
        }
    }

    /// Goes past the dictionary, if that comes next.
    pub(crate) fn skip_dictionary(&mut self) -> Result<(), Fault> {
        if self.reader.peek_next_page()?.is_some_and(|next| next.is_dict) {
            self.reader.skip_next_page()?;
        }
        Ok(())
    }

    fn advance(&mut self, count: usize) -> Result<Range<u32>, Fault> {
        let from = self.next_row;
        let to = u32::try_from(count).ok().and_then(|count| from.checked_add(count)).filter(|&to| to <= self.rows);
        self.next_row = to.ok_or_else(|| Fault::damaged("a column has more values than its row group has rows"))?;
        Ok(from..self.next_row)
    }

    fn decoded(&self, page: Page, rows: Range<u32>) -> Result<DecodedPage, Fault> {
        let count = (rows.end - rows.start) as usize;
        let optional = self.descriptor.max_def_level() == 1;
        let short = || Fault::damaged("a page is shorter than its levels");
        let (encoding, levels, values) = match page {
            Page::DataPage { buf, num_values, encoding, def_level_encoding, .. } if num_values as usize == count => {
                if optional {
                    if def_level_encoding != Encoding::RLE {
                        return Err(Fault::Unsupported);
                    }
                    let length = buf.first_chunk::<4>().ok_or_else(short)?;
                    let end = (u32::from_le_bytes(*length) as usize).saturating_add(4);
                    if end > buf.len() {
                        return Err(short());
                    }
                    (encoding, Some(buf.slice(4..end)), buf.slice(end..))
                } else {
                    (encoding, None, buf)
                }
            }
            Page::DataPageV2 { buf, num_values, encoding, def_levels_byte_len, rep_levels_byte_len, .. }
                if num_values as usize == count && rep_levels_byte_len == 0 =>
            {
                let end = def_levels_byte_len as usize;
                if end > buf.len() {
                    return Err(short());
                }
                let levels = optional.then(|| buf.slice(..end));
                (encoding, levels, buf.slice(end..))
            }
            _ => return Err(Fault::Unsupported),
        };
        let (presence, present) = match levels {
            None => (Presence::All, count),
            Some(levels) => presence(&levels, count)?,
        };
        Ok(DecodedPage { rows, presence, present, encoding, values })
    }
}

fn presence(levels: &[u8], count: usize) -> Result<(Presence, usize), Fault> {
    if hybrid::constant(levels, 1, count) == Some(1) {
        return Ok((Presence::All, count));
    }
    let mut bits = Vec::with_capacity(count);
    hybrid::decode(levels, 1, count, &mut bits)?;
    let present = bits.iter().map(|&bit| bit as usize).sum();
    Ok(if present == count { (Presence::All, count) } else { (Presence::Some(bits), present) })
}
