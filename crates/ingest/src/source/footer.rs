//! What a file's footer says, and whether a file is still the one that was planned. Must never read records.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use arrow::datatypes::SchemaRef;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use xxhash_rust::xxh3::Xxh3;

use super::object::starts_like_parquet;
use super::{SourceFile, contain};
use crate::error::{IngestError, Result};

/// How files are opened: types come from Parquet alone, not from the Arrow schema that some writers leave beside it,
/// so that files of different writers have the same types.
pub(crate) fn options() -> ArrowReaderOptions {
    ArrowReaderOptions::new().with_skip_arrow_metadata(true)
}

/// A file's identity and what its footer says.
#[derive(Debug, Clone)]
pub(crate) struct FileFacts {
    pub(crate) file: SourceFile,
    pub(crate) footer: ArrowReaderMetadata,
}

impl FileFacts {
    pub(crate) fn schema(&self) -> &SchemaRef {
        self.footer.schema()
    }
}

/// Size and time of last change, without opening the file.
pub(crate) fn stamp(path: &Path) -> Result<(u64, i128)> {
    let metadata = std::fs::metadata(path).map_err(|e| IngestError::io("look at", path, &e))?;
    let modified = metadata.modified().map_err(|e| IngestError::io("look at", path, &e))?;
    let nanoseconds = match modified.duration_since(std::time::UNIX_EPOCH) {
        Ok(after) => after.as_nanos() as i128,
        Err(before) => -(before.duration().as_nanos() as i128),
    };
    Ok((metadata.len(), nanoseconds))
}

/// Reads the facts of a new file. With `hash`, its whole content is read once.
pub(crate) fn file_facts(name: &str, path: &Path, hash: bool) -> Result<FileFacts> {
    let (bytes, modified) = stamp(path)?;
    if bytes == 0 {
        return Err(empty(name));
    }
    let file = File::open(path).map_err(|e| IngestError::io("open", path, &e))?;
    let starts_right = || File::open(path).is_ok_and(starts_like_parquet);
    let loaded = contain(|| ArrowReaderMetadata::load(&file, options()).map_err(|e| e.to_string()))
        .map_err(|e| not_parquet(name, starts_right(), &e))?;
    let hash = if hash { content_hash(path)? } else { String::new() };
    facts_of(name, (bytes, modified), hash, loaded)
}

/// The facts of a file with this footer.
pub(super) fn facts_of(
    name: &str,
    (bytes, modified): (u64, i128),
    hash: String,
    footer: ArrowReaderMetadata,
) -> Result<FileFacts> {
    let rows: i64 =
        footer.metadata().row_groups().iter().map(parquet::file::metadata::RowGroupMetaData::num_rows).sum();
    let declared = footer.metadata().file_metadata().num_rows();
    if rows != declared || rows < 0 {
        let text = format!("the footer declares {declared} rows, its row groups have {rows}");
        return Err(not_parquet(name, true, &text));
    }
    let file = SourceFile { name: name.to_owned(), bytes, modified, hash, rows: rows as u64 };
    Ok(FileFacts { file, footer })
}

/// A file that nobody has written to its end.
pub(super) fn empty(name: &str) -> IngestError {
    IngestError::input(format!("{name} is empty (0 bytes)"))
        .help("its writer did not finish: write the file again, or remove it")
}

/// The hash of a file's content.
pub(crate) fn content_hash(path: &Path) -> Result<String> {
    let file = File::open(path).map_err(|e| IngestError::io("open", path, &e))?;
    hash_of(file).map_err(|e| IngestError::io("read", path, &e))
}

/// The hash of all that can be read.
pub(crate) fn hash_of(mut content: impl Read) -> std::io::Result<String> {
    // Small enough to be near when it is hashed.
    let (mut hasher, mut buffer) = (Xxh3::new(), vec![0; 1 << 17]);
    loop {
        match content.read(&mut buffer)? {
            0 => return Ok(format!("{:032x}", hasher.digest128())),
            bytes => hasher.update(&buffer[..bytes]),
        }
    }
}

/// Opens a planned file, if it is still the one that was planned.
pub(crate) fn open_planned(planned: &SourceFile, path: &Path) -> Result<File> {
    let file = File::open(path).map_err(|e| {
        IngestError::io("open", path, &e).help("the file was planned and is gone: bring it back, or cancel the run")
    })?;
    let (bytes, modified) = stamp(path)?;
    if (bytes, modified) == (planned.bytes, planned.modified)
        || (bytes == planned.bytes && content_hash(path)? == planned.hash)
    {
        return Ok(file);
    }
    Err(changed(&planned.name, "since this run was planned"))
}

/// A file is not what it was.
pub(crate) fn changed(name: &str, since: &str) -> IngestError {
    IngestError::input(format!("{name} has changed {since}")).help(
        "bring the old content back under that name, and give new records a file with a new name: \
         what was ingested keeps its IDs",
    )
}

/// A file that cannot be read at all; whether it begins as Parquet files do.
pub(super) fn not_parquet(name: &str, starts_right: bool, error: &str) -> IngestError {
    if starts_right {
        IngestError::input(format!("{name} is a damaged or truncated Parquet file: {error}"))
            .help("its writer may not have finished: write the file again, or remove it")
    } else {
        IngestError::input(format!("{name} is not a Parquet file: {error}"))
            .help("remove it from `source.files`, or convert it to Parquet")
    }
}
