//! An output in the hands of who may change it. A folder is held by whoever holds the sequences, because the hub in its
//! state folder has one owner; objects in a store are held by a lease as well. Must never change anything once the lease
//! is lost.

use std::path::Path;

use serde::Serialize;

use super::{MANIFEST, Output, Version, folder};
use crate::error::{IngestError, Result};
use crate::files::{make_folder, remove_folder, write_json};
use crate::manifest::Manifest;
use crate::write::Staged;

/// An output that may be changed.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    output: Output,
}

/// What came of writing something that others may write, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    Done,
    /// Somebody else was first.
    Refused,
}

impl Held {
    /// A folder, by who holds the sequences.
    pub(crate) fn folder(output: Output) -> Self {
        Self { output }
    }

    /// What is held.
    pub(crate) fn output(&self) -> &Output {
        &self.output
    }

    /// Replaces the manifest that was `seen`; this is the moment at which a run becomes visible.
    pub(crate) fn put_manifest(&self, manifest: &Manifest, seen: Option<&Version>) -> Result<Put> {
        match &self.output {
            Output::Folder(path) => {
                let path = path.join(MANIFEST);
                make_folder(path.parent().unwrap_or(&path))?;
                write_json(&path, manifest)?;
                Ok(Put::Done)
            }
        }
    }

    /// Writes a small JSON file that is not there yet. In a folder, one that is there is of a run that was never
    /// published, and makes way.
    pub(crate) fn create<T: Serialize>(&self, name: &str, value: &T) -> Result<Put> {
        match &self.output {
            Output::Folder(path) => {
                let path = path.join(name);
                make_folder(path.parent().unwrap_or(&path))?;
                write_json(&path, value)?;
                Ok(Put::Done)
            }
        }
    }

    /// Keeps a file that nobody changes any more under a name of the output, too. In a folder it is there for good when
    /// the next file beside it is created.
    pub(crate) fn keep(&self, from: &Path, name: &str) -> Result<()> {
        match &self.output {
            Output::Folder(path) => {
                let to = path.join(name);
                make_folder(to.parent().unwrap_or(&to))?;
                folder::link(from, &to)
            }
        }
    }

    /// Gives staged files their final names, for good: (staged name, final name, what it is).
    pub(crate) fn place(&self, files: &[(String, String, &Staged)]) -> Result<()> {
        match &self.output {
            Output::Folder(path) => {
                make_folder(path)?;
                for (from, to, file) in files {
                    folder::place(&path.join(from), &path.join(to), file.bytes)?;
                }
                let mut folders: Vec<_> =
                    files.iter().filter_map(|(_, to, _)| path.join(to).parent().map(Path::to_owned)).collect();
                folders.dedup();
                folders.iter().try_for_each(|path| folder::sync(path))?;
                // The folders themselves may be new.
                folder::sync(path)
            }
        }
    }

    /// Removes a file, if it is there.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        match &self.output {
            Output::Folder(path) => folder::remove(&path.join(name)),
        }
    }

    /// Removes a folder and all in it, if it is there.
    pub(crate) fn remove_folder(&self, name: &str) -> Result<()> {
        match &self.output {
            Output::Folder(path) => remove_folder(&path.join(name)),
        }
    }

    /// Removes a folder that is empty; one that holds something stays. Stores have no folders.
    pub(crate) fn tidy(&self, name: &str) {
        if let Some(path) = self.output.as_folder() {
            let _ = std::fs::remove_dir(path.join(name));
        }
    }
}
