//! An output in the hands of who may change it. A folder is held by whoever holds the sequences; objects in a store are
//! held by a lease as well, which is looked at before each change. The manifest is only ever put in place of the one that
//! was seen. Must never change anything once the lease is lost.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use seriatim_storage::{Created, Location, Replaced};

use super::lease::{Before, Lease};
use super::{MANIFEST, Output, Version, folder, store};
use crate::error::{IngestError, Result};
use crate::files::{as_json, make_folder, remove_file, remove_folder, write_whole};
use crate::manifest::Manifest;
use crate::write::Staged;

/// An output that may be changed.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    output: Output,
    lease: Option<Arc<Lease>>,
    /// Whether workers with state folders of their own do steps of the same run.
    others: bool,
}

/// What came of writing something that others may write, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    Done,
    /// Somebody else was first.
    Refused,
}

impl Held {
    /// Takes an output for a run that begins to change it, and holds its sequences. What a run that was abandoned may
    /// still have on its way is kept from becoming visible: the manifest becomes another version than the one that such
    /// a run has seen; where there is none yet, it becomes `first`.
    pub(crate) fn take(output: &Output, owner: &str, run: &str, first: Option<&Manifest>) -> Result<Self> {
        let lease = match output {
            Output::Folder(_) => None,
            Output::Store(location) => {
                let (lease, before) = Lease::take(location, owner, run)?;
                if before == Before::Abandoned {
                    fence(location, &lease, first)?;
                }
                Some(Arc::new(lease))
            }
        };
        Ok(Self { output: output.clone(), lease, others: false })
    }

    /// The same for a run that has taken the output before; an error if somebody else has had it since.
    pub(crate) fn keep_on(output: &Output, owner: &str, run: &str) -> Result<Self> {
        let lease = match output {
            Output::Folder(_) => None,
            Output::Store(location) => Some(Arc::new(Lease::keep(location, owner, run)?)),
        };
        Ok(Self { output: output.clone(), lease, others: false })
    }

    /// The same where workers with state folders of their own may do steps of the same run.
    pub(crate) fn among(self, others: bool) -> Self {
        Self { others, ..self }
    }

    /// Lets others have it.
    pub(crate) fn give_back(&self) -> Result<()> {
        self.lease.as_ref().map_or(Ok(()), |lease| lease.give_back())
    }

    /// An error if somebody else has it now. Asked before anything is removed or made visible, so that clocks that are
    /// further apart than is allowed do no harm if they can be found out.
    pub(crate) fn confirm(&self) -> Result<()> {
        self.lease.as_ref().map_or(Ok(()), |lease| lease.confirm())
    }

    /// Makes the manifest another version than the one that this run has seen: one that it has sent, and not heard of
    /// again, cannot become visible any more. Where there is none yet, it becomes `first`.
    pub(crate) fn fence(&self, first: Option<&Manifest>) -> Result<()> {
        match (&self.output, &self.lease) {
            (Output::Store(location), Some(lease)) => fence(location, lease, first),
            _ => Ok(()),
        }
    }

    /// An error if a change may not begin now.
    fn check(&self) -> Result<()> {
        self.lease.as_ref().map_or(Ok(()), |lease| lease.check())
    }

    /// What is held.
    pub(crate) fn output(&self) -> &Output {
        &self.output
    }

    /// Replaces the manifest that was `seen`; this is the moment at which a run becomes visible.
    pub(crate) fn put_manifest(&self, manifest: &Manifest, seen: Option<&Version>) -> Result<Put> {
        let bytes = as_json(manifest)?;
        match (&self.output, seen) {
            (Output::Folder(path), seen) => folder::put_manifest(path, &bytes, seen, self.others),
            (Output::Store(location), Some(Version::Object(seen))) => {
                self.check()?;
                match location.replace(MANIFEST, bytes, seen).map_err(store::failed)? {
                    Replaced::Replaced(_) => Ok(Put::Done),
                    Replaced::Changed => Ok(Put::Refused),
                }
            }
            (Output::Store(location), _) => self.create_object(location, MANIFEST, bytes),
        }
    }

    /// Writes a small JSON file that is not there yet. In a folder, one that is there is of a run that was never
    /// published, and makes way.
    pub(crate) fn create<T: Serialize>(&self, name: &str, value: &T) -> Result<Put> {
        let bytes = as_json(value)?;
        match &self.output {
            Output::Folder(path) => write_in(path, name, &bytes),
            Output::Store(location) => self.create_object(location, name, bytes),
        }
    }

    /// Writes a small file of a table where there is none of that name; what is there stays.
    pub(crate) fn put_new(&self, name: &str, bytes: Vec<u8>) -> Result<Put> {
        match &self.output {
            Output::Folder(path) => folder::put_new(path, name, &bytes),
            Output::Store(location) => self.create_object(location, name, bytes),
        }
    }

    fn create_object(&self, location: &Location, name: &str, bytes: Vec<u8>) -> Result<Put> {
        self.check()?;
        Ok(match location.create(name, bytes).map_err(store::failed)? {
            Created::Created(_) => Put::Done,
            Created::Exists => Put::Refused,
        })
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
            Output::Store(location) => {
                self.check()?;
                location.upload(name, from).map(|_| ()).map_err(store::failed)
            }
        }
    }

    /// Gives staged files their final names, for good: (staged name, final name, what it is).
    pub(crate) fn place(&self, files: &[(String, String, &Staged)]) -> Result<()> {
        match &self.output {
            Output::Folder(path) => folder::place_all(path, files),
            Output::Store(location) => store::place(location, files, || self.check()),
        }
    }

    /// Removes files of a folder, those that are there.
    pub(crate) fn remove(&self, names: &[String]) -> Result<()> {
        match &self.output {
            Output::Folder(path) => names.iter().try_for_each(|name| remove_file(&path.join(name))),
            Output::Store(location) => store::remove_all(location, names, || self.check()),
        }
    }

    /// Removes a folder and all in it, if it is there.
    pub(crate) fn remove_folder(&self, name: &str) -> Result<()> {
        match &self.output {
            Output::Folder(path) => remove_folder(&path.join(name)),
            Output::Store(location) => {
                let entries = location.list(&format!("{name}/")).map_err(store::failed)?;
                let names: Vec<String> = entries.into_iter().map(|entry| entry.name).collect();
                store::remove_all(location, &names, || self.check())
            }
        }
    }

    /// Removes a folder that is empty; one that holds something stays. Stores have no folders.
    pub(crate) fn tidy(&self, name: &str) {
        if let Some(path) = self.output.as_folder() {
            let _ = std::fs::remove_dir(path.join(name));
        }
    }
}

fn write_in(folder: &Path, name: &str, bytes: &[u8]) -> Result<Put> {
    let path = folder.join(name);
    make_folder(path.parent().unwrap_or(&path))?;
    write_whole(&path, bytes)?;
    Ok(Put::Done)
}

/// Makes the manifest another version with the same content. Where versions follow from the content, a line end is added,
/// which the next run takes away again.
fn fence(location: &Location, lease: &Lease, first: Option<&Manifest>) -> Result<()> {
    for _ in 0..8 {
        lease.check()?;
        let Some((bytes, seen)) = location.read(MANIFEST).map_err(store::failed)? else {
            let Some(first) = first else { return Ok(()) };
            match location.create(MANIFEST, as_json(first)?).map_err(store::failed)? {
                Created::Created(_) => return Ok(()),
                Created::Exists => continue,
            }
        };
        let Replaced::Replaced(now) = location.replace(MANIFEST, bytes.clone(), &seen).map_err(store::failed)? else {
            continue;
        };
        if now != seen {
            return Ok(());
        }
        let longer = [&bytes[..], b"\n"].concat();
        if let Replaced::Replaced(_) = location.replace(MANIFEST, longer, &now).map_err(store::failed)? {
            return Ok(());
        }
    }
    Err(IngestError::output(format!("{location} is being published to by another machine"))
        .help("see which machines run this pipeline, and let only one of them"))
}
