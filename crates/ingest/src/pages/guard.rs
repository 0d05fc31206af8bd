//! The pages of a column chunk for the general reader: what their headers declare is checked before the first one is
//! read, and what the heads of values declare before a page is handed on. The general reader believes both. Must never
//! change a page.

use std::sync::Arc;

use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::ChunkReader;
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::ColumnDescPtr;

use super::chunk::Fault;
use super::delta;
use super::header::read_header;
use super::walk::Walk;

/// What is read of a page to see its header, at first: most headers are shorter.
const HEAD: usize = 256;

/// The pages of a column chunk in a row group of `rows` rows. `mark` is called before each is read.
pub(crate) fn guarded<R: ChunkReader + 'static>(
    file: Arc<R>,
    column: &ColumnChunkMetaData,
    rows: u64,
    mark: impl Fn() + Send + 'static,
) -> Result<Box<dyn PageReader>> {
    mark();
    walk(&*file, column, rows).map_err(into_error)?;
    let inner = SerializedPageReader::new(file, column, usize::try_from(rows)?, None)?;
    Ok(Box::new(Guarded { inner, column: column.column_descr_ptr(), mark: Box::new(mark) }))
}

fn into_error(fault: Fault) -> ParquetError {
    match fault {
        Fault::Damaged(text) => ParquetError::General(text),
        Fault::Unsupported => ParquetError::NYI("a form of pages that is not known".to_owned()),
        Fault::Unread(error) => ParquetError::External(error),
    }
}

fn walk(file: &impl ChunkReader, column: &ColumnChunkMetaData, rows: u64) -> Result<(), Fault> {
    let (start, length) = column.byte_range();
    let length = usize::try_from(length).map_err(|_| Fault::Unsupported)?;
    let mut walk = Walk::new(column, rows);
    while walk.at() < length {
        let left = length - walk.at();
        let mut size = HEAD.min(left);
        let (header, header_length) = loop {
            match read_header(&file.get_bytes(start + walk.at() as u64, size)?) {
                Ok(read) => break read,
                // It may be longer than what was read of it.
                Err(_) if size < left => size = size.saturating_mul(16).min(left),
                Err(fault) => return Err(fault),
            }
        };
        walk.page(header, header_length, length)?;
    }
    walk.finish().map(|_| ())
}

struct Guarded<R: ChunkReader> {
    inner: SerializedPageReader<R>,
    column: ColumnDescPtr,
    mark: Box<dyn Fn() + Send>,
}

impl<R: ChunkReader> PageReader for Guarded<R> {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        (self.mark)();
        let page = self.inner.get_next_page()?;
        if let Some(page) = &page {
            delta::check(page, &self.column).map_err(into_error)?;
        }
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.inner.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.inner.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.inner.at_record_boundary()
    }
}

impl<R: ChunkReader> Iterator for Guarded<R> {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}
