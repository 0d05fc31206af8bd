//! What an output does that is a prefix of objects in a store. Nothing is renamed there: finished files are uploaded
//! aside and copied within the store to their names. Must never put anything over what a reader may be reading.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use seriatim_storage::{Error as StorageError, ErrorKind as StorageErrorKind, Location};
use xxhash_rust::xxh3::Xxh3;

use super::{OWN, not_as_staged};
use crate::error::{ErrorKind, IngestError, Result};
use crate::files::scratch;
use crate::partition::is_folder;
use crate::plan::in_parallel;
use crate::write::Staged;

/// Requests of one step that are under way at once.
const AT_ONCE: usize = 8;
/// Bytes of an object that are looked at at once.
const PIECE: u64 = 16 << 20;
/// How long a service may take to finish copies that it has begun.
const COPY_TIME: Duration = Duration::from_mins(2);
/// Objects that are removed in one request, or nearly.
const REMOVED_AT_ONCE: usize = 256;

/// An operation on the output's objects failed.
pub(super) fn failed(error: StorageError) -> IngestError {
    let kind = match error.kind {
        StorageErrorKind::NotFound | StorageErrorKind::Changed | StorageErrorKind::Unauthorised => ErrorKind::Output,
        StorageErrorKind::Unavailable | StorageErrorKind::Other => ErrorKind::System,
        StorageErrorKind::Invalid => ErrorKind::Pipeline,
    };
    let mapped = IngestError::new(kind, error.message);
    match error.help {
        Some(help) => mapped.help(help),
        None => mapped,
    }
}

/// What readers can see; one listing, or each folder would cost requests of its own.
pub(super) fn visible(location: &Location, folders: &[&str]) -> Result<Vec<String>> {
    let mut names = BTreeSet::new();
    for entry in location.list("").map_err(failed)? {
        let (first, rest) = entry.name.split_once('/').unwrap_or((&entry.name, ""));
        if folders.contains(&first) && !rest.is_empty() {
            names.insert(format!("{first}/{}", in_partitions(rest)));
        } else if first != OWN {
            names.insert(first.to_owned());
        }
    }
    Ok(names.into_iter().collect())
}

/// The part of a name in a table's folder that stands for what it is in: all of it in a partition, else its beginning.
fn in_partitions(name: &str) -> &str {
    let mut end = 0;
    for part in name.split_inclusive('/') {
        end += part.len();
        if !is_folder(part) {
            break;
        }
    }
    name[..end].trim_end_matches('/')
}

/// What is in a table's folder, and in those of its partitions.
pub(super) fn in_table(location: &Location, table: &str) -> Result<Vec<String>> {
    let prefix = format!("{table}/");
    let entries = location.list(&prefix).map_err(failed)?;
    let names: BTreeSet<String> =
        entries.iter().map(|entry| format!("{prefix}{}", in_partitions(&entry.name[prefix.len()..]))).collect();
    Ok(names.into_iter().collect())
}

/// The names of what is right below a folder; a name stands for all objects that are below it.
pub(super) fn children(location: &Location, folder: &str) -> Result<Vec<String>> {
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let mut names = Vec::new();
    for entry in location.list(&prefix).map_err(failed)? {
        let below = entry.name[prefix.len()..].split('/').next().unwrap_or_default();
        if names.last().is_none_or(|last: &String| last != below) {
            names.push(below.to_owned());
        }
    }
    // By bytes, `a/b` may come after `a.c` and before `a0`.
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// The XXH3 of an object's content.
pub(super) fn hash(location: &Location, name: &str) -> Result<String> {
    let entry = location.head(name).map_err(failed)?;
    let entry = entry.ok_or_else(|| IngestError::output(format!("{} is gone", location.shown(name))))?;
    let mut hasher = Xxh3::new();
    for from in (0..entry.size).step_by(PIECE as usize) {
        let range = from..(from + PIECE).min(entry.size);
        for bytes in location.read_ranges(name, &[range], Some(&entry.version)).map_err(failed)? {
            hasher.update(&bytes);
        }
    }
    Ok(format!("{:032x}", hasher.digest128()))
}

/// An object as a file without a name, which is gone when it is closed.
pub(super) fn open(location: &Location, name: &str) -> Result<File> {
    let path = scratch("object");
    let opened = location
        .download(name, &path)
        .map_err(failed)
        .and_then(|_| File::open(&path).map_err(|e| IngestError::io("open", &path, &e)));
    let _ = std::fs::remove_file(&path);
    opened
}

/// Copies staged objects to their final names: (staged name, final name, what it is). What has its name already must be
/// the same, byte for byte: an earlier attempt's then.
pub(super) fn place(
    location: &Location,
    files: &[(String, String, &Staged)],
    may_change: impl Fn() -> Result<()> + Sync,
) -> Result<()> {
    in_parallel(AT_ONCE, files, |(from, to, file)| {
        may_change()?;
        let copied = match location.copy_if_absent(from, to) {
            Err(e) if e.kind == StorageErrorKind::NotFound => Ok(false),
            copied => copied.map_err(failed),
        };
        if copied? {
            return Ok(());
        }
        match location.head(to).map_err(failed)? {
            None => Err(not_as_staged(&location.shown(from))),
            Some(found) if found.size == file.bytes && hash(location, to)? == file.hash => Ok(()),
            Some(_) => {
                Err(IngestError::output(format!("{} is there already, and not of this run", location.shown(to)))
                    .help("another machine is at work on this output: see that only one is, then run again"))
            }
        }
    })?;
    await_copies(location, files)
}

/// Copies of large objects may go on for a while after the service has agreed to make them.
fn await_copies(location: &Location, files: &[(String, String, &Staged)]) -> Result<()> {
    // A run's files of a table differ in their last number only.
    let run = |name: &str| match name.split('/').nth(2) {
        None => name.rsplit_once('-').map_or_else(|| name.to_owned(), |(run, _)| format!("{run}-")),
        // Of a table that is partitioned one list is less than one of each partition.
        Some(_) => name.split_inclusive('/').next().unwrap_or_default().to_owned(),
    };
    let mut prefixes: Vec<String> = files.iter().map(|(_, to, _)| run(to)).collect();
    prefixes.dedup();
    let since = Instant::now();
    loop {
        let mut sizes = BTreeMap::new();
        for prefix in &prefixes {
            let entries = location.list(prefix).map_err(failed)?;
            sizes.extend(entries.into_iter().map(|entry| (entry.name, entry.size)));
        }
        let Some((_, to, file)) = files.iter().find(|(_, to, file)| sizes.get(to) != Some(&file.bytes)) else {
            return Ok(());
        };
        if since.elapsed() > COPY_TIME {
            let found = sizes.get(to).map_or_else(|| "not there".to_owned(), |bytes| format!("of {bytes} bytes"));
            return Err(IngestError::output(format!(
                "{} is {found} after it was copied; it should have {} bytes",
                location.shown(to),
                file.bytes
            ))
            .help("run again: nothing was published"));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Removes objects.
pub(super) fn remove_all(location: &Location, names: &[String], may_change: impl Fn() -> Result<()>) -> Result<()> {
    for names in names.chunks(REMOVED_AT_ONCE) {
        may_change()?;
        location.delete_all(names).map_err(failed)?;
    }
    Ok(())
}

/// Uploads a finished file, which then is no longer needed here.
pub(super) fn stage(location: &Location, file: &Path, name: &str, bytes: u64) -> Result<()> {
    let entry = location.upload(name, file).map_err(failed)?;
    if entry.size != bytes {
        return Err(not_as_staged(&location.shown(name)));
    }
    let _ = std::fs::remove_file(file);
    Ok(())
}
