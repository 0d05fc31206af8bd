//! Small habits with files that durability needs: write aside, sync, rename, sync the folder. Must never leave a file
//! half-written under the name that readers know.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{IngestError, Result};

/// What tells the temporary files of this process from those of others that work in the same folders, if there are any.
static APART: OnceLock<String> = OnceLock::new();

/// From now on other processes may work in the same folders, on the same runs: what this one has not finished gets
/// names that no other process uses.
pub(crate) fn keep_apart() {
    APART.get_or_init(|| uuid::Uuid::new_v4().as_simple().to_string());
}

/// The name of a folder for what this process alone reads back.
pub(crate) fn own_folder(name: &str) -> String {
    APART.get().map_or_else(|| name.to_owned(), |apart| format!("{name}-{apart}"))
}

/// A place, outside of every output and state folder, for what is gone when whoever uses it has ended. It is made when it
/// is needed.
pub(crate) fn scratch(what: &str) -> PathBuf {
    std::env::temp_dir().join(format!("seriatim-{what}-{}", uuid::Uuid::new_v4().as_simple()))
}

/// Where the file that will be at `path` is written. Without other processes it is always the same place, so that what
/// a crash left there is written over.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    match APART.get() {
        Some(apart) => path.with_extension(format!("{apart}.tmp")),
        None => path.with_extension("tmp"),
    }
}

/// Begins the file that will be at `path`, where it is written. What a crash left there goes first: it may be a second
/// name of a file that readers know, which must not become empty.
pub(crate) fn create_aside(path: &Path) -> Result<(PathBuf, File)> {
    let temporary = temporary(path);
    let file = match File::create_new(&temporary) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            remove_file(&temporary)?;
            File::create_new(&temporary)
        }
        first => first,
    };
    let file = file.map_err(|e| IngestError::io("create", &temporary, &e))?;
    Ok((temporary, file))
}

/// Syncs the folder that holds `path`, so that a rename in it survives a power cut.
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| IngestError::io("sync", folder, &e))
}

/// Makes a folder and all above it.
pub(crate) fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|e| IngestError::io("make the folder", path, &e))
}

/// Puts `bytes` at `path`, whole or not at all, and on disk when it returns.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let (temporary, mut file) = create_aside(path)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|e| IngestError::io("write", &temporary, &e))?;
    fs::rename(&temporary, path).map_err(|e| IngestError::io("rename", &temporary, &e))?;
    sync_folder(path)
}

/// The same for a value, as JSON.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    write_whole(path, &as_json(value)?)
}

/// A value as JSON that people can read.
pub(crate) fn as_json<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| IngestError::internal(e.to_string()))?;
    text.push(b'\n');
    Ok(text)
}

/// Reads a JSON file; `None` if it does not exist.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(IngestError::io("read", path, &e)),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| {
        IngestError::state(format!("{} is damaged: {e}", path.display()))
            .help("bring it back from a backup, or see which program changed it")
    })
}

/// Removes a file, if it exists.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(IngestError::io("remove", path, &e)),
        _ => Ok(()),
    }
}

/// Removes a folder and all in it, if it exists.
pub(crate) fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(IngestError::io("remove", path, &e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Symptom: a key map was empty, and the run after it said that the state folder is damaged. Cause: the name of what is
    /// not finished was a second name of the key map, and beginning a file there emptied both. Mend: a file is begun where
    /// there is none.
    #[test]
    fn g4_g5_what_is_begun_aside_empties_no_file_that_readers_know() {
        let folder = tempfile::tempdir().unwrap();
        let (kept, next) = (folder.path().join("kept.parquet"), folder.path().join("next.parquet"));
        fs::write(&kept, "keys").unwrap();
        fs::hard_link(&kept, temporary(&next)).unwrap();
        let (aside, mut file) = create_aside(&next).unwrap();
        file.write_all(b"others").unwrap();
        assert_eq!((fs::read(&kept).unwrap(), fs::read(&aside).unwrap()), (b"keys".to_vec(), b"others".to_vec()));
        write_whole(&next, b"whole").unwrap();
        assert_eq!((fs::read(&kept).unwrap(), fs::read(&next).unwrap()), (b"keys".to_vec(), b"whole".to_vec()));
    }
}
