//! Source files that are objects of a storage service: what their footers say, from the objects' ends alone. Must never
//! take bytes of another version of an object than the one that is planned.

use std::io::{Cursor, Read};

use bytes::Bytes;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use seriatim_storage::{Location, Version};

use super::footer::{facts_of, not_parquet, options};
use super::{FileFacts, SourceFile, contain};
use crate::error::{IngestError, Result};

/// What is read of an object's end at first: most footers are smaller.
const TAIL: u64 = 32 << 10;

/// An object as it was listed.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) place: Location,
    pub(crate) bytes: u64,
    pub(crate) version: Version,
}

impl Object {
    /// A planned one.
    pub(crate) fn planned(file: &SourceFile) -> Result<Self> {
        // A URL starts at no folder.
        let place = Location::parse(&file.name, std::path::Path::new(""))?;
        Ok(Self { place, bytes: file.bytes, version: Version(file.hash.clone()) })
    }

    /// Some of its bytes.
    fn read(&self, name: &str, range: std::ops::Range<u64>) -> Result<Bytes> {
        let read = self.place.read_ranges("", &[range], Some(&self.version));
        let mut read = read.map_err(|e| self.refused(name, e))?;
        read.pop().ok_or_else(|| IngestError::internal("a range was not read"))
    }

    /// Why it could not be read.
    pub(crate) fn refused(&self, name: &str, error: seriatim_storage::Error) -> IngestError {
        use seriatim_storage::ErrorKind::{Changed, NotFound};
        // To a service, an object that is gone may be one whose condition does not hold.
        let is_gone = error.kind == NotFound || (error.kind == Changed && matches!(self.place.head(""), Ok(None)));
        if is_gone {
            return IngestError::input(format!("{name} was planned and is gone: {error}"))
                .help("bring it back, or cancel the run");
        }
        if error.kind == Changed { super::changed(name, "since this run was planned") } else { error.into() }
    }

    /// What its footer says.
    pub(crate) fn footer(&self, name: &str) -> Result<ArrowReaderMetadata> {
        let mut start = self.bytes.saturating_sub(TAIL);
        let mut tail = self.read(name, start..self.bytes)?;
        // The last eight bytes say how long the footer is.
        if let Some((rest, [a, b, c, d, magic @ ..])) = tail.split_last_chunk::<8>()
            && magic == b"PAR1"
        {
            let length = u64::from(u32::from_le_bytes([*a, *b, *c, *d]));
            if length > rest.len() as u64 && length + 8 <= self.bytes {
                let more = self.bytes - length - 8;
                tail = [self.read(name, more..start)?, tail].concat().into();
                start = more;
            }
        }
        let end = End { bytes: tail, start };
        contain(|| ArrowReaderMetadata::load(&end, options()).map_err(|e| e.to_string())).map_err(|e| {
            let starts_right = self.read(name, 0..self.bytes.min(4)).is_ok_and(|bytes| bytes == b"PAR1"[..]);
            not_parquet(name, starts_right, &e)
        })
    }

    /// Its identity and what its footer says.
    pub(crate) fn facts(&self, name: &str) -> Result<FileFacts> {
        if self.bytes == 0 {
            return Err(super::footer::empty(name));
        }
        let footer = self.footer(name)?;
        facts_of(name, (self.bytes, 0), self.version.0.clone(), footer)
    }
}

/// The end of an object, for the reader of footers.
struct End {
    bytes: Bytes,
    start: u64,
}

impl Length for End {
    fn len(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

impl ChunkReader for End {
    type T = Cursor<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let end = self.len();
        Ok(Cursor::new(self.get_bytes(start, end.saturating_sub(start) as usize)?))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let from = start.checked_sub(self.start).map(|from| from as usize);
        let range = from.and_then(|from| Some(from..from.checked_add(length)?));
        let range = range.filter(|range| range.end <= self.bytes.len());
        let range = range.ok_or_else(|| ParquetError::EOF("the footer reaches beyond the file".to_owned()))?;
        Ok(self.bytes.slice(range))
    }
}

/// The first bytes of a local file, to see what it is.
pub(super) fn starts_like_parquet(mut file: impl Read) -> bool {
    let mut start = [0; 4];
    file.read_exact(&mut start).is_ok() && &start == b"PAR1"
}
