//! Where a run's tables go: a folder, or a prefix of objects in a store. This is the reading half, which anybody may
//! use; only who holds the output ([`Held`]) may change it. Must never show a credential.

mod folder;
mod held;
mod lease;
mod store;

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

pub(crate) use held::{Held, Put};
use seriatim_storage::{Location, Version as ObjectVersion};

use crate::error::{IngestError, Result};
use crate::manifest::Manifest;
use crate::source::content_hash;

/// What belongs to the program.
const OWN: &str = "_seriatim";
/// Where the manifest is.
pub(crate) const MANIFEST: &str = "_seriatim/manifest.json";
/// Where what is finished waits to be published.
pub(crate) const STAGING: &str = "_seriatim/staging";
/// Where the records of replays are kept.
pub(crate) const REPLAY: &str = "_seriatim/replay";
/// Where a pipeline's durable facts are kept beside what is published.
pub(crate) const FACTS: &str = "_seriatim/state";
/// A file among the facts in a folder: one of several workers at a time holds a lock on it, while it puts the manifest. It
/// stays, or two of them could hold locks on two files of this name.
pub(crate) const LOCK: &str = "manifest.lock";

/// Where a run's tables go. Names in it are relative, with `/` between their parts.
#[derive(Debug, Clone)]
pub(crate) enum Output {
    /// A folder.
    Folder(PathBuf),
    /// A prefix of objects in a store.
    Store(Location),
}

/// What tells one content of a file from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Version {
    /// The XXH3 of what is in a folder's file.
    File(u128),
    Object(ObjectVersion),
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::Store(location) => write!(f, "{location}"),
        }
    }
}

impl Output {
    /// The output that a pipeline names: a URL, or a path, which starts at `folder` if it is relative.
    pub(crate) fn parse(text: &str, folder: &Path) -> Result<Self> {
        let location = Location::parse(text, folder).map_err(|e| {
            let e = store::failed(e);
            IngestError { message: format!("output.path: {}", e.message), ..e }
        })?;
        Ok(match location.as_local() {
            Some(path) => Self::Folder(path.to_owned()),
            None => Self::Store(location),
        })
    }

    /// The folder, if it is one.
    pub(crate) fn as_folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(path) => Some(path),
            Self::Store(_) => None,
        }
    }

    /// Whether an object is somewhere in it, however the two are written.
    pub(crate) fn holds(&self, object: &Location) -> bool {
        match self {
            Self::Folder(_) => false,
            Self::Store(location) => object.identity().starts_with(&format!("{}/", location.identity())),
        }
    }

    /// The same of one of its folders.
    pub(crate) fn holds_in(&self, folder: &str, object: &Location) -> bool {
        match self {
            Self::Folder(_) => false,
            Self::Store(location) => object.identity().starts_with(&format!("{}/{folder}/", location.identity())),
        }
    }

    /// The manifest; `None` before the first run.
    pub(crate) fn manifest(&self) -> Result<Option<Manifest>> {
        Ok(self.versioned_manifest()?.map(|(manifest, _)| manifest))
    }

    /// What is published; an error before the first run.
    pub(crate) fn published(&self) -> Result<Manifest> {
        self.manifest()?.filter(|manifest| manifest.number() > 0).ok_or_else(|| {
            IngestError::output(format!("nothing is published in {self}"))
                .help("run the pipeline first, or correct `output.path`")
        })
    }

    /// The manifest, and which one it is.
    pub(crate) fn versioned_manifest(&self) -> Result<Option<(Manifest, Version)>> {
        let Some((bytes, version)) = self.read(MANIFEST)? else { return Ok(None) };
        Ok(Some((Manifest::parse(&bytes, &self.place_of(MANIFEST))?, version)))
    }

    /// Where something in the output is, for people.
    pub(crate) fn place_of(&self, name: &str) -> String {
        match self {
            Self::Folder(path) => path.join(name).display().to_string(),
            Self::Store(location) => location.shown(name),
        }
    }

    /// A small file's content; `None` if there is none.
    pub(crate) fn read(&self, name: &str) -> Result<Option<(Vec<u8>, Version)>> {
        match self {
            Self::Folder(path) => {
                let found = folder::read(&path.join(name))?;
                Ok(found.map(|bytes| {
                    let version = folder::version(&bytes);
                    (bytes, version)
                }))
            }
            Self::Store(location) => {
                let found = location.read(name).map_err(store::failed)?;
                Ok(found.map(|(bytes, version)| (bytes.into(), Version::Object(version))))
            }
        }
    }

    /// The size of a file; `None` if there is none.
    pub(crate) fn size(&self, name: &str) -> Result<Option<u64>> {
        match self {
            Self::Folder(path) => folder::size(&path.join(name)),
            Self::Store(location) => Ok(location.head(name).map_err(store::failed)?.map(|entry| entry.size)),
        }
    }

    /// The names of what is in a folder of the output, folders among them; none if it does not exist.
    pub(crate) fn children(&self, folder: &str) -> Result<Vec<String>> {
        match self {
            Self::Folder(path) => folder::children(&path.join(folder)),
            Self::Store(location) => store::children(location, folder),
        }
    }

    /// What readers can see: what is in these folders and in those of their partitions, and what is beside them, but for
    /// what belongs to the program.
    pub(crate) fn visible(&self, folders: &[&str]) -> Result<Vec<String>> {
        if let Self::Store(location) = self {
            return store::visible(location, folders);
        }
        let mut names = self.children("")?;
        names.retain(|name| name != OWN && !folders.contains(&name.as_str()));
        for folder in folders {
            names.extend(self.in_table(folder)?);
        }
        Ok(names)
    }

    /// The names of what is in a table's folder, and in those of its partitions.
    pub(crate) fn in_table(&self, folder: &str) -> Result<Vec<String>> {
        match self {
            Self::Folder(path) => folder::in_table(path, folder),
            Self::Store(location) => store::in_table(location, folder),
        }
    }

    /// Brings a file to the path `to`, on disk when it returns.
    pub(crate) fn fetch(&self, name: &str, to: &Path) -> Result<()> {
        match self {
            Self::Folder(path) => folder::link(&path.join(name), to),
            Self::Store(location) => location.download(name, to).map(|_| ()).map_err(store::failed),
        }
    }

    /// The XXH3 of a file's content.
    pub(crate) fn hash(&self, name: &str) -> Result<String> {
        match self {
            Self::Folder(path) => content_hash(&path.join(name)),
            Self::Store(location) => store::hash(location, name),
        }
    }

    /// Opens a file to be read from front to back, or here and there.
    pub(crate) fn open(&self, name: &str) -> Result<File> {
        match self {
            Self::Folder(path) => {
                let path = path.join(name);
                File::open(&path).map_err(|e| IngestError::io("open", &path, &e))
            }
            Self::Store(location) => store::open(location, name),
        }
    }

    /// Brings a finished file to where it waits, which is not where readers look. Whoever does a step of a run may do
    /// this; the names are the run's own.
    pub(crate) fn stage(&self, file: &Path, name: &str, bytes: u64) -> Result<()> {
        match self {
            // It was written there.
            Self::Folder(_) => Ok(()),
            Self::Store(location) => store::stage(location, file, name, bytes),
        }
    }
}

/// A staged file is gone, or another one.
fn not_as_staged(place: &str) -> IngestError {
    IngestError::output(format!("{place} is not what was written there"))
        .help("something changed the output during the run; run again: nothing was published")
}
