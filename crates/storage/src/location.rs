//! A location: a place and what can be done there, the same way whatever it is. Names are paths from the location, with
//! `/` between their parts; the empty name is the location itself, where that is one file or object.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::error::{Error, ErrorKind, Result};
use crate::local;
use crate::place::{Place, tidy};
use crate::ranges::requests;
use crate::remote::Remote;

/// Tells a version of an object from every other: its e-tag; of a local file, its size and time of last change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub String);

/// An object or a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the location that was asked.
    pub name: String,
    /// In bytes.
    pub size: u64,
    /// Which one it is.
    pub version: Version,
}

/// The outcome of [`Location::create`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// This call has made it, and this is its version.
    Created(Version),
    /// There is one already, and it was left as it is.
    Exists,
}

/// The outcome of [`Location::replace`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replaced {
    /// This call has replaced it, and this is its version now.
    Replaced(Version),
    /// It is another one than the caller believes, or gone, and was left as it is.
    Changed,
}

/// What has travelled between this process and a container, all locations in it together. Zero for local folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Requests for data, lists and conditions; those that the client library repeated count once.
    pub requests: u64,
    /// Bytes of objects that were read, without headers.
    pub bytes_read: u64,
    /// Bytes of objects that were written.
    pub bytes_written: u64,
}

/// A folder, a file, a container, an object, or the beginning of objects' paths.
#[derive(Clone)]
pub struct Location {
    at: At,
}

#[derive(Clone)]
enum At {
    Local(PathBuf),
    Remote { remote: Arc<Remote>, path: String },
}

impl Location {
    /// A path, which starts at `base` if it is relative, or a URL. Nothing is asked of a service yet.
    pub fn parse(text: &str, base: &Path) -> Result<Self> {
        if !Self::is_url(text) {
            return Ok(Self { at: At::Local(base.join(text)) });
        }
        Self::parse_in(text, base, &Environment::process())
    }

    /// The same with these variables in the place of the process's.
    pub fn parse_in(text: &str, base: &Path, environment: &Environment) -> Result<Self> {
        let at = match Place::parse(text, base)? {
            Place::Local(path) => At::Local(path),
            Place::Object { cloud, container, root, path } => {
                At::Remote { remote: Remote::open(&cloud, &container, &root, environment)?, path }
            }
        };
        Ok(Self { at })
    }

    /// Whether a text can be a location: a path, or a URL of a known kind without a credential in it.
    pub fn check(text: &str) -> Result<()> {
        Place::parse(text, Path::new("")).map(|_| ())
    }

    /// Whether a text is a URL, and not a path.
    pub fn is_url(text: &str) -> bool {
        text.contains("://")
    }

    /// The path, if it is local.
    pub fn as_local(&self) -> Option<&Path> {
        match &self.at {
            At::Local(path) => Some(path),
            At::Remote { .. } => None,
        }
    }

    /// The location of a name in this one.
    pub fn join(&self, name: &str) -> Result<Self> {
        let at = match &self.at {
            At::Local(_) => At::Local(self.file(name)),
            At::Remote { remote, .. } => At::Remote { remote: remote.clone(), path: self.object(name)? },
        };
        Ok(Self { at })
    }

    /// The container that this location is in, and its path there; `None` if it is local.
    pub fn in_container(&self) -> Option<(Self, &str)> {
        match &self.at {
            At::Local(_) => None,
            At::Remote { remote, path } => {
                Some((Self { at: At::Remote { remote: remote.clone(), path: String::new() } }, path))
            }
        }
    }

    /// Tells whether two locations are the same place, however they are written. Links are not followed.
    pub fn identity(&self) -> String {
        match &self.at {
            At::Local(path) => path.display().to_string(),
            At::Remote { remote, path } => format!("{}/{path}", remote.client.identity),
        }
    }

    /// What has travelled so far.
    pub fn traffic(&self) -> Traffic {
        match &self.at {
            At::Local(_) => Traffic::default(),
            At::Remote { remote, .. } => Traffic {
                requests: remote.requests.load(Relaxed),
                bytes_read: remote.bytes_read.load(Relaxed),
                bytes_written: remote.bytes_written.load(Relaxed),
            },
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        match &self.at {
            At::Local(path) if name.is_empty() => path.clone(),
            At::Local(path) => path.join(name),
            At::Remote { path, .. } => PathBuf::from(path),
        }
    }

    fn object(&self, name: &str) -> Result<String> {
        let name = tidy(name, name)?;
        Ok(match &self.at {
            At::Remote { path, .. } if name.is_empty() => path.clone(),
            At::Remote { path, .. } if !path.is_empty() => format!("{path}/{name}"),
            _ => name,
        })
    }

    /// All files or objects whose name is longer than `prefix` and begins with it, by name. With an empty prefix: all.
    pub fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        match &self.at {
            At::Local(folder) => local::list(folder, prefix),
            At::Remote { remote, path } => {
                let before = if path.is_empty() { String::new() } else { format!("{path}/") };
                let mut entries = remote.list(format!("{before}{prefix}"))?;
                for entry in &mut entries {
                    entry.name.drain(..before.len());
                }
                Ok(entries)
            }
        }
    }

    /// What a file or an object is now; `None` if there is none. A missing container is an error.
    pub fn head(&self, name: &str) -> Result<Option<Entry>> {
        match &self.at {
            At::Local(_) => local::head(&self.file(name), name),
            At::Remote { remote, .. } => {
                let found = remote.head(self.object(name)?)?;
                Ok(found.map(|entry| Entry { name: name.to_owned(), ..entry }))
            }
        }
    }

    /// All bytes, and the version that they are of; `None` if there is no such file or object.
    pub fn read(&self, name: &str) -> Result<Option<(Bytes, Version)>> {
        match &self.at {
            At::Local(_) => local::read(&self.file(name)),
            At::Remote { remote, .. } => remote.read(self.object(name)?),
        }
    }

    /// The bytes of each range, in the order of `ranges`, each within the object; with a version, only of that one: an
    /// object that is another now is an error of kind [`ErrorKind::Changed`].
    pub fn read_ranges(&self, name: &str, ranges: &[Range<u64>], version: Option<&Version>) -> Result<Vec<Bytes>> {
        let At::Remote { .. } = &self.at else { return local::read_ranges(&self.file(name), ranges, version) };
        let parts = requests(ranges);
        let mut fetched: Vec<(u64, Bytes)> = Vec::with_capacity(parts.len());
        self.fetch(name, ranges, version, |place, bytes| {
            fetched.push((place, bytes));
            Ok(())
        })?;
        fetched.sort_unstable_by_key(|(place, _)| *place);
        Ok(ranges.iter().map(|range| cut(&fetched, range)).collect())
    }

    /// Fetches all that `ranges` cover, and gives it to `keep` piece by piece, each with its place in the object, in
    /// any order. Pieces may hold bytes between two ranges that lie close together.
    pub fn fetch(
        &self,
        name: &str,
        ranges: &[Range<u64>],
        version: Option<&Version>,
        mut keep: impl FnMut(u64, Bytes) -> Result<()>,
    ) -> Result<()> {
        match &self.at {
            At::Local(_) => {
                let all = local::read_ranges(&self.file(name), ranges, version)?;
                ranges.iter().zip(all).try_for_each(|(range, bytes)| keep(range.start, bytes))
            }
            At::Remote { remote, .. } => remote.fetch(&self.object(name)?, ranges, version, keep),
        }
    }

    /// Puts `bytes` there, whole or not at all, over what may be there.
    pub fn write(&self, name: &str, bytes: impl Into<Bytes>) -> Result<Version> {
        match &self.at {
            At::Local(_) => local::write(&self.file(name), &bytes.into()),
            At::Remote { remote, .. } => remote.write(self.object(name)?, bytes.into()),
        }
    }

    /// Puts `bytes` there if nothing is. Of several callers at once, one creates.
    pub fn create(&self, name: &str, bytes: impl Into<Bytes>) -> Result<Created> {
        match &self.at {
            At::Local(_) => local::create(&self.file(name), &bytes.into()),
            At::Remote { remote, .. } => remote.create(self.object(name)?, bytes.into()),
        }
    }

    /// Puts `bytes` there if what is there is of `version`. Of several callers at once, one replaces.
    pub fn replace(&self, name: &str, bytes: impl Into<Bytes>, version: &Version) -> Result<Replaced> {
        match &self.at {
            At::Local(_) => local::replace(&self.file(name), &bytes.into(), version),
            At::Remote { remote, .. } => remote.replace(self.object(name)?, bytes.into(), version.clone()),
        }
    }

    /// Puts a local file there, over what may be there; a large one in parts, several at once.
    pub fn upload(&self, name: &str, file: &Path) -> Result<Entry> {
        match &self.at {
            At::Local(_) => {
                local::copy(file, &self.file(name), false)?;
                let entry = local::head(&self.file(name), name)?;
                entry.ok_or_else(|| {
                    Error::new(ErrorKind::NotFound, format!("{name} is gone right after it was written"))
                })
            }
            At::Remote { remote, .. } => {
                let entry = remote.upload(self.object(name)?, file.to_owned())?;
                Ok(Entry { name: name.to_owned(), ..entry })
            }
        }
    }

    /// Brings a file or an object to a local path, whole or not at all, over what may be there.
    pub fn download(&self, name: &str, file: &Path) -> Result<Entry> {
        let missing = || Error::new(ErrorKind::NotFound, format!("there is no {}", self.shown(name)));
        let entry = self.head(name)?.ok_or_else(missing)?;
        match &self.at {
            At::Local(_) => {
                local::copy(&self.file(name), file, false)?;
            }
            At::Remote { .. } => {
                let target = local::Filling::new(file)?;
                let whole = 0..entry.size;
                let ranges = std::slice::from_ref(&whole);
                self.fetch(name, ranges, Some(&entry.version), |place, bytes| target.put(place, &bytes))?;
                target.publish()?;
            }
        }
        Ok(entry)
    }

    /// Copies within the location, without the bytes coming here, over what may be there.
    pub fn copy(&self, from: &str, to: &str) -> Result<()> {
        self.copied(from, to, false).map(|_| ())
    }

    /// The same where nothing is; whether it was copied.
    pub fn copy_if_absent(&self, from: &str, to: &str) -> Result<bool> {
        self.copied(from, to, true)
    }

    fn copied(&self, from: &str, to: &str, absent: bool) -> Result<bool> {
        match &self.at {
            At::Local(_) => local::copy(&self.file(from), &self.file(to), absent),
            At::Remote { remote, .. } => remote.copy(self.object(from)?, self.object(to)?, absent),
        }
    }

    /// Removes a file or an object, if it is there.
    pub fn delete(&self, name: &str) -> Result<()> {
        self.delete_all(&[name])
    }

    /// Removes several, those that are there; with few requests where the service can.
    pub fn delete_all<N: AsRef<str>>(&self, names: &[N]) -> Result<()> {
        match &self.at {
            At::Local(_) => names.iter().try_for_each(|name| local::delete(&self.file(name.as_ref()))),
            At::Remote { remote, .. } => {
                let paths = names.iter().map(|name| self.object(name.as_ref())).collect::<Result<Vec<_>>>()?;
                if paths.is_empty() { Ok(()) } else { remote.delete(paths) }
            }
        }
    }

    /// How a name here is shown to a user.
    pub fn shown(&self, name: &str) -> String {
        match (&self.at, self.object(name)) {
            (At::Local(_), _) => self.file(name).display().to_string(),
            (At::Remote { remote, .. }, Ok(path)) => remote.shown(&path),
            (At::Remote { remote, path }, Err(_)) => remote.shown(path),
        }
    }
}

/// The bytes of `range`, out of parts that lie one after another and cover it.
fn cut(parts: &[(u64, Bytes)], range: &Range<u64>) -> Bytes {
    if range.is_empty() {
        return Bytes::new();
    }
    let first = parts.partition_point(|(place, _)| *place <= range.start).saturating_sub(1);
    let piece = |(place, bytes): &(u64, Bytes)| {
        let from = range.start.saturating_sub(*place) as usize;
        let to = (range.end - place).min(bytes.len() as u64) as usize;
        bytes.slice(from..to)
    };
    let mut pieces = parts[first..].iter().take_while(|(place, _)| *place < range.end).map(piece);
    match (pieces.next(), pieces.next()) {
        (Some(only), None) => only,
        (Some(first), Some(second)) => {
            let mut all = first.to_vec();
            all.extend_from_slice(&second);
            pieces.for_each(|piece| all.extend_from_slice(&piece));
            all.into()
        }
        (None, _) => Bytes::new(),
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            At::Local(path) => write!(f, "{}", path.display()),
            At::Remote { remote, path } if path.is_empty() => f.write_str(&remote.root),
            At::Remote { remote, path } => f.write_str(&remote.shown(path)),
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({self})")
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
