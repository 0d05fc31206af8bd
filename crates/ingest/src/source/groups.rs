//! The general reader's view of a file: the columns of some row groups, page by page, each checked before it is handed
//! on. Where the reader is at any moment is kept, so that what goes wrong has a place; and what the system has refused
//! is kept apart from what the file is to blame for. Must never hold a whole column chunk.

use std::fs::File;
use std::io::{BufReader, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use parquet::arrow::arrow_reader::RowGroups;
use parquet::column::page::{PageIterator, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};

use crate::pages::guarded;

/// Some row groups of a file, to be read.
#[derive(Debug)]
pub(super) struct Groups {
    file: Arc<Watched>,
    metadata: Arc<ParquetMetaData>,
    range: Range<usize>,
    place: Arc<Place>,
}

impl Groups {
    pub(super) fn new(file: File, metadata: Arc<ParquetMetaData>, groups: Range<usize>) -> std::io::Result<Self> {
        let length = file.metadata()?.len();
        let file = Arc::new(Watched(Arc::new(Inner { file, length, refused: Mutex::default() })));
        Ok(Self { file, metadata, range: groups, place: Arc::default() })
    }

    /// The row group and the column that were being read last.
    pub(super) fn place(&self) -> Option<(usize, String)> {
        let (group, leaf) = self.place.get()?;
        let column = self.metadata.row_group(group).column(leaf).column_path().string();
        Some((group, column))
    }

    /// What the system has refused to read, if it has.
    pub(super) fn refused(&self) -> Option<std::io::Error> {
        self.file.0.refused.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl RowGroups for Groups {
    fn num_rows(&self) -> usize {
        self.row_groups().map(|group| group.num_rows() as usize).sum()
    }

    fn column_chunks(&self, leaf: usize) -> Result<Box<dyn PageIterator>> {
        Ok(Box::new(Chunks {
            file: self.file.clone(),
            metadata: self.metadata.clone(),
            range: self.range.clone(),
            leaf,
            place: self.place.clone(),
        }))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(self.metadata.row_groups()[self.range.clone()].iter())
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }
}

/// The chunks of one column.
struct Chunks {
    file: Arc<Watched>,
    metadata: Arc<ParquetMetaData>,
    range: Range<usize>,
    leaf: usize,
    place: Arc<Place>,
}

impl Iterator for Chunks {
    type Item = Result<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        let (group, leaf, place) = (self.range.next()?, self.leaf, self.place.clone());
        let row_group = self.metadata.row_group(group);
        let rows = u64::try_from(row_group.num_rows()).unwrap_or_default();
        Some(guarded(self.file.clone(), row_group.column(leaf), rows, move || place.set(group, leaf)))
    }
}

impl PageIterator for Chunks {}

/// A row group and a column; 0: none yet.
#[derive(Debug, Default)]
struct Place(AtomicU64);

impl Place {
    fn set(&self, group: usize, leaf: usize) {
        self.0.store((group as u64) << 32 | (leaf as u64 + 1), Relaxed);
    }

    fn get(&self) -> Option<(usize, usize)> {
        let place = self.0.load(Relaxed);
        Some(((place >> 32) as usize, (place as u32 as usize).checked_sub(1)?))
    }
}

/// A file whose refusals are kept.
#[derive(Debug, Clone)]
struct Watched(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: File,
    length: u64,
    refused: Mutex<Option<std::io::Error>>,
}

impl Watched {
    /// Remembers what the system has refused; that a file ends is nobody's refusal.
    fn watch<T>(&self, read: std::io::Result<T>) -> std::io::Result<T> {
        if let Err(error) = &read
            && !matches!(error.kind(), std::io::ErrorKind::Interrupted | std::io::ErrorKind::UnexpectedEof)
        {
            let kept = error.raw_os_error().map_or_else(|| error.kind().into(), std::io::Error::from_raw_os_error);
            *self.0.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
        }
        read
    }
}

impl Length for Watched {
    fn len(&self) -> u64 {
        self.0.length
    }
}

impl ChunkReader for Watched {
    type T = BufReader<From>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        // Page headers are read so, and most are shorter.
        Ok(BufReader::with_capacity(512, From { file: self.clone(), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.0.length) {
            return Err(ParquetError::EOF("a page reaches beyond the end of the file".to_owned()));
        }
        let mut bytes = vec![0; length];
        self.watch(self.0.file.read_exact_at(&mut bytes, start))?;
        Ok(bytes.into())
    }
}

/// A file from some place on.
#[derive(Debug)]
struct From {
    file: Watched,
    at: u64,
}

impl Read for From {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.watch(self.file.0.file.read_at(buffer, self.at))?;
        self.at += read as u64;
        Ok(read)
    }
}
