//! Source files that are objects of a storage service: what their footers say, from the objects' ends alone. Must never
//! take bytes of another version of an object than the one that is planned.

use bytes::Bytes;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use seriatim_storage::{Location, Version};

use super::footer::{TAIL, empty, facts_of, footer_length, not_parquet, parse_footer};
use super::{FileFacts, SourceFile};
use crate::error::{BadFile, IngestError, Result};

/// What is read of an object's end at first: most footers are smaller.
const FIRST: u64 = 32 << 10;

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
        if self.bytes == 0 {
            return Err(empty(name));
        }
        let starts_right = || self.read(name, 0..self.bytes.min(4)).is_ok_and(|bytes| bytes == b"PAR1"[..]);
        let from = self.bytes.saturating_sub(FIRST);
        let end = self.read(name, from..self.bytes)?;
        let length = footer_length(&end, self.bytes).map_err(|e| not_parquet(name, starts_right(), &e))?;
        let start = self.bytes - TAIL - length;
        let footer = match start.checked_sub(from) {
            Some(at) => end.slice(at as usize..end.len() - TAIL as usize),
            None => [self.read(name, start..from)?, end.slice(..end.len() - TAIL as usize)].concat().into(),
        };
        parse_footer(name, &footer, self.bytes, starts_right)
    }

    /// One that cannot be read.
    pub(crate) fn bad(&self, name: &str, bad: BadFile) -> SourceFile {
        let hash = self.version.0.clone();
        SourceFile { name: name.to_owned(), bytes: self.bytes, modified: 0, hash, rows: 0, bad: Some(bad) }
    }

    /// Its identity and what its footer says.
    pub(crate) fn facts(&self, name: &str) -> Result<FileFacts> {
        Ok(facts_of(name, (self.bytes, 0), self.version.0.clone(), self.footer(name)?))
    }
}
