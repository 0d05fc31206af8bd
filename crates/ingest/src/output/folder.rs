//! What an output does that is a folder. Renames and links do the work, so a file that others may read is never written
//! where it lies.

use std::fs;
use std::io::ErrorKind::NotFound;
use std::path::Path;

use crate::error::{IngestError, Result};
use crate::files::{make_folder, sync_folder, temporary};
use crate::write::Staged;

pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == NotFound => Ok(None),
        Err(e) => Err(IngestError::io("read", path, &e)),
    }
}

pub(super) fn size(path: &Path) -> Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(e) if e.kind() == NotFound => Ok(None),
        Err(e) => Err(IngestError::io("look at", path, &e)),
    }
}

pub(super) fn children(folder: &Path) -> Result<Vec<String>> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(Vec::new()) };
    let name = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.map_err(|e| IngestError::io("list", folder, &e))?;
        Ok(entry.file_name().to_string_lossy().into_owned())
    };
    entries.map(name).collect()
}

/// Gives a file that nobody changes any more a second name: costs no room and no reading where both are on one file
/// system, else it is copied. The folder of `to` is not synced.
pub(super) fn link(from: &Path, to: &Path) -> Result<()> {
    let temporary = temporary(to);
    remove(&temporary)?;
    if fs::hard_link(from, &temporary).is_err() {
        let copied = fs::copy(from, &temporary).and_then(|_| fs::File::open(&temporary)?.sync_all());
        copied.map_err(|e| IngestError::io("copy", from, &e))?;
    }
    fs::rename(&temporary, to).map_err(|e| IngestError::io("rename", &temporary, &e))?;
    // Renaming one name of a file onto another of the same file leaves both.
    remove(&temporary)
}

pub(super) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != NotFound => Err(IngestError::io("remove", path, &e)),
        _ => Ok(()),
    }
}

/// Gives a staged file its final name. It may have it already.
fn place(from: &Path, to: &Path, bytes: u64) -> Result<()> {
    if size(from)? == Some(bytes) {
        make_folder(to.parent().unwrap_or(to))?;
        return fs::rename(from, to).map_err(|e| IngestError::io("rename", from, &e));
    }
    if size(to)? == Some(bytes) {
        return Ok(());
    }
    Err(super::not_as_staged(&from.display().to_string()))
}

/// Gives staged files their final names, and has that on disk.
pub(super) fn place_all(output: &Path, files: &[(String, String, &Staged)]) -> Result<()> {
    make_folder(output)?;
    for (from, to, file) in files {
        place(&output.join(from), &output.join(to), file.bytes)?;
    }
    let mut folders: Vec<_> =
        files.iter().filter_map(|(_, to, _)| output.join(to).parent().map(Path::to_owned)).collect();
    folders.dedup();
    // The folders themselves may be new.
    folders.push(output.to_owned());
    folders.iter().try_for_each(|folder| sync_folder(&folder.join("_")))
}
