//! What a file's footer says, as far as it can be true, and whether a file is still the one that was planned. Must never
//! read records, nor believe a footer that was not held against its file.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::metadata::ParquetMetaDataReader;
use xxhash_rust::xxh3::Xxh3;

use super::budget::check_budget;
use super::shape::{FOOTER_BYTES, check_shape};
use super::{SourceFile, contain};
use crate::error::{BadFile, IngestError, Result};

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
    let file = File::open(path).map_err(|e| IngestError::io("open", path, &e))?;
    let footer = read_footer(name, &file, bytes)?;
    let hash = if hash { content_hash(path)? } else { String::new() };
    Ok(facts_of(name, (bytes, modified), hash, footer))
}

/// What the footer of a local file of `bytes` bytes says.
pub(crate) fn read_footer(name: &str, file: &File, bytes: u64) -> Result<ArrowReaderMetadata> {
    let starts_right = || {
        let mut start = [0; 4];
        file.read_exact_at(&mut start, 0).is_ok() && &start == b"PAR1"
    };
    let read = |length: u64, at: u64| {
        let mut read = vec![0; length as usize];
        file.read_exact_at(&mut read, at).map(|()| read).map_err(|e| IngestError::io("read", Path::new(name), &e))
    };
    if bytes == 0 {
        return Err(empty(name));
    }
    let tail = read(bytes.min(TAIL), bytes.saturating_sub(TAIL))?;
    let length = footer_length(&tail, bytes).map_err(|e| not_parquet(name, starts_right(), &e))?;
    parse_footer(name, &read(length, bytes - TAIL - length)?, bytes, starts_right)
}

/// A file that cannot be read, as it is now. With `hash`, its whole content is read once.
pub(crate) fn bad_file(name: &str, path: &Path, hash: bool, bad: BadFile) -> Result<SourceFile> {
    let (bytes, modified) = stamp(path)?;
    let hash = if hash { content_hash(path)? } else { String::new() };
    Ok(SourceFile { name: name.to_owned(), bytes, modified, hash, rows: 0, bad: Some(bad) })
}

/// How long the end of a file is that says how long its footer is.
pub(super) const TAIL: u64 = 8;

/// How long the footer of a file of `bytes` bytes is, by its end.
pub(super) fn footer_length(end: &[u8], bytes: u64) -> Result<u64, String> {
    let length = match end.last_chunk::<8>() {
        Some([a, b, c, d, b'P', b'A', b'R', b'1']) => u64::from(u32::from_le_bytes([*a, *b, *c, *d])),
        Some([.., b'P', b'A', b'R', b'E']) => return Err("its footer is encrypted, which is not supported".to_owned()),
        _ => return Err("it does not end as one".to_owned()),
    };
    // Before the footer there are the four bytes that a file begins with.
    if length + TAIL + 4 > bytes {
        return Err(format!("its footer declares {length} bytes, and all of it has {bytes}"));
    }
    if length > FOOTER_BYTES {
        return Err(format!("its footer has {length} bytes; {FOOTER_BYTES} are the most"));
    }
    Ok(length)
}

/// What a footer says, if it can be true of a file of `bytes` bytes.
pub(super) fn parse_footer(
    name: &str,
    footer: &[u8],
    bytes: u64,
    starts_right: impl Fn() -> bool,
) -> Result<ArrowReaderMetadata> {
    let refused = |e: String| not_parquet(name, starts_right(), &e);
    check_shape(footer).map_err(refused)?;
    let decoded = contain(|| ParquetMetaDataReader::decode_metadata(footer).map_err(|e| e.to_string()));
    let metadata = decoded.map_err(refused)?;
    check_budget(name, &metadata, bytes, bytes - TAIL - footer.len() as u64).map_err(IngestError::bad_file)?;
    contain(|| ArrowReaderMetadata::try_new(Arc::new(metadata), options()).map_err(|e| e.to_string())).map_err(refused)
}

/// The facts of a file with this footer.
pub(super) fn facts_of(
    name: &str,
    (bytes, modified): (u64, i128),
    hash: String,
    footer: ArrowReaderMetadata,
) -> FileFacts {
    // Held against the file when the footer was read: none is negative, and the sum is small.
    let rows = footer.metadata().row_groups().iter().map(|group| group.num_rows().max(0) as u64).sum();
    let file = SourceFile { name: name.to_owned(), bytes, modified, hash, rows, bad: None };
    FileFacts { file, footer }
}

/// A file that nobody has written to its end.
pub(super) fn empty(name: &str) -> IngestError {
    let file = Some(Box::new(BadFile::new(name, "it is empty (0 bytes)")));
    IngestError { file, ..IngestError::input(format!("{name} is empty (0 bytes)")) }
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
    let (what, help) = if starts_right {
        ("a damaged or truncated Parquet file", "its writer may not have finished: write the file again, or remove it")
    } else {
        ("not a Parquet file", "remove it from `source.files`, or say what it is: `source.format: csv` or `ndjson`")
    };
    let file = Some(Box::new(BadFile::new(name, format!("{what}: {error}"))));
    IngestError { file, ..IngestError::input(format!("{name} is {what}: {error}")) }.help(help)
}
