//! The same operations on a local folder. What is written is on disk when a call returns, and whole: it is written
//! aside, synced and renamed. A file's version is its size and the time of its last change, which grows with every
//! write. Must never leave a half-written file under a name that readers know.

use std::fs::{self, File};
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rustix::fs::{FlockOperation, flock};

use crate::error::{Error, Result};
use crate::location::{Created, Entry, Replaced, Version};

/// The end of names of files that are being written.
const ASIDE: &str = ".storage-tmp";

/// All files under `folder` whose path from there begins with `prefix`, by path.
pub(crate) fn list(folder: &Path, prefix: &str) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    // Only the folders that the prefix names are walked.
    let start = prefix.rsplit_once('/').map_or("", |(folders, _)| folders);
    walk(folder, start, &mut |entry| {
        if entry.name.starts_with(prefix) && entry.name.len() > prefix.len() && !entry.name.ends_with(ASIDE) {
            entries.push(entry);
        }
    })?;
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

fn walk(root: &Path, relative: &str, found: &mut impl FnMut(Entry)) -> Result<()> {
    let folder = root.join(relative);
    let children = match fs::read_dir(&folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        children => children.map_err(|e| Error::io("list", &folder, &e))?,
    };
    for child in children {
        let child = child.map_err(|e| Error::io("list", &folder, &e))?;
        let Ok(name) = child.file_name().into_string() else { continue };
        let name = if relative.is_empty() { name } else { format!("{relative}/{name}") };
        let Some(metadata) = existing(fs::metadata(child.path()), "look at", &child.path())? else { continue };
        if metadata.is_dir() {
            walk(root, &name, found)?;
        } else {
            found(Entry { name, size: metadata.len(), version: version(&metadata) });
        }
    }
    Ok(())
}

fn existing<T>(outcome: std::io::Result<T>, doing: &str, path: &Path) -> Result<Option<T>> {
    match outcome {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        outcome => outcome.map(Some).map_err(|e| Error::io(doing, path, &e)),
    }
}

fn version(metadata: &fs::Metadata) -> Version {
    let changed = metadata.modified().unwrap_or(UNIX_EPOCH).duration_since(UNIX_EPOCH).unwrap_or_default();
    Version(format!("{}-{}", metadata.len(), changed.as_nanos()))
}

/// What a file is now; `None` if there is none.
pub(crate) fn head(path: &Path, name: &str) -> Result<Option<Entry>> {
    let metadata = existing(fs::metadata(path), "look at", path)?.filter(fs::Metadata::is_file);
    Ok(metadata.map(|m| Entry { name: name.to_owned(), size: m.len(), version: version(&m) }))
}

/// A whole file; `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<(Bytes, Version)>> {
    let Some(mut file) = existing(File::open(path), "open", path)? else { return Ok(None) };
    let metadata = file.metadata().map_err(|e| Error::io("look at", path, &e))?;
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    std::io::Read::read_to_end(&mut file, &mut bytes).map_err(|e| Error::io("read", path, &e))?;
    Ok(Some((bytes.into(), version(&metadata))))
}

/// Some of a file's bytes, if it is still the one of `wanted`.
pub(crate) fn read_ranges(path: &Path, ranges: &[Range<u64>], wanted: Option<&Version>) -> Result<Vec<Bytes>> {
    let file = File::open(path).map_err(|e| Error::io("open", path, &e))?;
    let metadata = file.metadata().map_err(|e| Error::io("look at", path, &e))?;
    let is_other = wanted.is_some_and(|wanted| *wanted != version(&metadata));
    if is_other || ranges.iter().any(|range| range.end > metadata.len()) {
        return Err(Error::changed(&path.display().to_string()));
    }
    let read = |range: &Range<u64>| {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        file.read_exact_at(&mut bytes, range.start).map(|()| bytes.into()).map_err(|e| Error::io("read", path, &e))
    };
    ranges.iter().map(read).collect()
}

/// The folder of a file, held by this caller alone among those that write through this module.
struct Held {
    folder: File,
    path: PathBuf,
}

impl Held {
    fn of(path: &Path) -> Result<Self> {
        let folder = path.parent().unwrap_or(path);
        let open = File::open(folder).map_err(|e| Error::io("open", folder, &e))?;
        flock(&open, FlockOperation::LockExclusive).map_err(|e| Error::io("lock", folder, &e.into()))?;
        Ok(Self { folder: open, path: folder.to_owned() })
    }

    fn sync(&self) -> Result<()> {
        self.folder.sync_all().map_err(|e| Error::io("sync", &self.path, &e))
    }
}

/// Fills a file aside, which gets its name when it is whole.
struct Aside(PathBuf);

impl Aside {
    fn new(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Self(path.with_file_name(format!("{name}.{}{ASIDE}", uuid::Uuid::new_v4().as_simple())))
    }

    /// Writes all of it, to the disk, before anybody has to wait for this writer.
    fn write(&self, bytes: &[u8]) -> Result<File> {
        if let Some(folder) = self.0.parent() {
            fs::create_dir_all(folder).map_err(|e| Error::io("make the folder", folder, &e))?;
        }
        let mut file = File::create_new(&self.0).map_err(|e| Error::io("write", &self.0, &e))?;
        file.write_all(bytes).map_err(|e| Error::io("write", &self.0, &e))?;
        self.sync(&file)?;
        Ok(file)
    }

    fn sync(&self, file: &File) -> Result<()> {
        file.sync_all().map_err(|e| Error::io("sync", &self.0, &e))
    }

    /// Makes it the file at `path`.
    fn publish(&self, file: &File, path: &Path, held: &Held) -> Result<Version> {
        let before = existing(fs::metadata(path), "look at", path)?;
        // Two writes within one tick of the file system's clock must not look alike.
        if let Some(before) = before.and_then(|m| m.modified().ok())
            && file.metadata().and_then(|m| m.modified()).is_ok_and(|now| now <= before)
        {
            let later: SystemTime = before + Duration::from_micros(1);
            file.set_modified(later).map_err(|e| Error::io("write", &self.0, &e))?;
            self.sync(file)?;
        }
        let metadata = file.metadata().map_err(|e| Error::io("look at", &self.0, &e))?;
        fs::rename(&self.0, path).map_err(|e| Error::io("rename", &self.0, &e))?;
        held.sync()?;
        Ok(version(&metadata))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // It is there only if something failed.
        let _ = fs::remove_file(&self.0);
    }
}

pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<Version> {
    let aside = Aside::new(path);
    let file = aside.write(bytes)?;
    aside.publish(&file, path, &Held::of(path)?)
}

pub(crate) fn create(path: &Path, bytes: &[u8]) -> Result<Created> {
    if existing(fs::symlink_metadata(path), "look at", path)?.is_some() {
        return Ok(Created::Exists);
    }
    let aside = Aside::new(path);
    let file = aside.write(bytes)?;
    let held = Held::of(path)?;
    // A link, unlike a rename, does not replace what another has put there meanwhile.
    match fs::hard_link(&aside.0, path) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => return Ok(Created::Exists),
        linked => linked.map_err(|e| Error::io("write", path, &e))?,
    }
    held.sync()?;
    let metadata = file.metadata().map_err(|e| Error::io("look at", path, &e))?;
    Ok(Created::Created(version(&metadata)))
}

pub(crate) fn replace(path: &Path, bytes: &[u8], wanted: &Version) -> Result<Replaced> {
    let is_it = || Ok(existing(fs::metadata(path), "look at", path)?.is_some_and(|now| version(&now) == *wanted));
    if !is_it()? {
        return Ok(Replaced::Changed);
    }
    let aside = Aside::new(path);
    let file = aside.write(bytes)?;
    let held = Held::of(path)?;
    if !is_it()? {
        return Ok(Replaced::Changed);
    }
    aside.publish(&file, path, &held).map(Replaced::Replaced)
}

/// Copies a file; with `absent`, only where none is. Whether it was copied.
pub(crate) fn copy(from: &Path, to: &Path, absent: bool) -> Result<bool> {
    let aside = Aside::new(to);
    let mut file = aside.write(&[])?;
    let mut source = File::open(from).map_err(|e| Error::io("open", from, &e))?;
    std::io::copy(&mut source, &mut file).map_err(|e| Error::io("copy", from, &e))?;
    aside.sync(&file)?;
    let held = Held::of(to)?;
    if absent && existing(fs::symlink_metadata(to), "look at", to)?.is_some() {
        return Ok(false);
    }
    aside.publish(&file, to, &held)?;
    Ok(true)
}

/// A file that is filled in any order, and gets its name when it is whole.
pub(crate) struct Filling {
    aside: Aside,
    file: File,
    path: PathBuf,
}

impl Filling {
    pub(crate) fn new(path: &Path) -> Result<Self> {
        let aside = Aside::new(path);
        let file = aside.write(&[])?;
        Ok(Self { aside, file, path: path.to_owned() })
    }

    pub(crate) fn put(&self, place: u64, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, place).map_err(|e| Error::io("write", &self.aside.0, &e))
    }

    pub(crate) fn publish(self) -> Result<()> {
        self.aside.sync(&self.file)?;
        let held = Held::of(&self.path)?;
        self.aside.publish(&self.file, &self.path, &held).map(|_| ())
    }
}

pub(crate) fn delete(path: &Path) -> Result<()> {
    existing(fs::remove_file(path), "remove", path).map(|_| ())
}
