//! The work location of a run: one folder of objects for each execution of its orchestration, so that a run that is
//! planned anew never meets what it had found out before. Objects are written whole, with a checksum in what they hold;
//! one that is written again holds the same. Must never be listed or removed for a run that may be at work.

use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use seriatim_storage::{Created, ErrorKind as Failure, Location};

use crate::artifacts::{Decoder, Encoder};
use crate::error::{ErrorKind, IngestError, Result};

/// Where a run's work is, as its input has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The work location, as it was written.
    pub(crate) work: String,
    /// Where a relative path starts.
    pub(crate) folder: PathBuf,
    pub(crate) run: String,
    pub(crate) execution: String,
}

/// The objects of one execution of a run.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    /// All of the run.
    run: Location,
    execution: String,
}

/// The object whose presence asks a run to end.
const CANCEL: &str = "cancel";
const PLAN: &str = "plan";

/// A work location, as it was written; a relative path starts at `folder`.
fn location(work: &str, folder: &Path) -> Result<Location> {
    Location::parse(work, folder).map_err(failed)
}

/// Asks a shared run to end: its next step fails, and it releases what it holds.
pub(crate) fn request_cancel(work: &str, folder: &Path, run: &str) -> Result<()> {
    let run = location(work, folder)?.join(run).map_err(failed)?;
    run.write(CANCEL, Bytes::from_static(b"cancel\n")).map(|_| ()).map_err(failed)
}

/// Removes all of a run that has ended.
pub(crate) fn clear(work: &str, folder: &Path, run: &str) -> Result<()> {
    let all = location(work, folder)?;
    if let Some(path) = all.as_local() {
        crate::files::remove_folder(&path.join(run))?;
        // One that other runs work in stays, and so does one that the user has made.
        if path.ends_with("_seriatim/work") {
            let _ = std::fs::remove_dir(path);
            path.parent().map(std::fs::remove_dir);
        }
        return Ok(());
    }
    let entries = all.list(&format!("{run}/")).map_err(failed)?;
    all.delete_all(&entries.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>()).map_err(failed)
}

impl Work {
    pub(crate) fn open(place: &Place) -> Result<Self> {
        let run = location(&place.work, &place.folder)?.join(&place.run).map_err(failed)?;
        Ok(Self { run, execution: place.execution.clone() })
    }

    /// What tells this execution from every other.
    pub(crate) fn execution(&self) -> &str {
        &self.execution
    }

    /// Whether asking it takes as long as asking another machine.
    pub(crate) fn is_remote(&self) -> bool {
        self.run.as_local().is_none()
    }

    fn name(&self, object: &str) -> String {
        format!("{}/{object}", self.execution)
    }

    /// Where an object is, for people.
    pub(crate) fn place_of(&self, object: &str) -> String {
        self.run.shown(&self.name(object))
    }

    /// Whether the run has a plan: one that has come to its end has none any more.
    pub(crate) fn has_plan(&self) -> Result<bool> {
        Ok(self.run.head(&self.name(PLAN)).map_err(failed)?.is_some())
    }

    /// An error if the run is to be cancelled.
    pub(crate) fn check_cancelled(&self, run: &str) -> Result<()> {
        match self.run.head(CANCEL).map_err(failed)? {
            Some(_) => Err(IngestError::new(ErrorKind::Cancelled, format!("run '{run}' was cancelled"))),
            None => Ok(()),
        }
    }

    /// Keeps the plan and the source's schema, if this execution has none yet.
    pub(crate) fn keep_plan(&self, plan: &[u8], schema: &[u8]) -> Result<()> {
        let mut out = Encoder::default();
        out.bytes(plan);
        out.bytes(schema);
        self.run.create(&self.name(PLAN), out.finish()).map(|_: Created| ()).map_err(failed)
    }

    /// The plan and the source's schema.
    pub(crate) fn plan(&self) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        let Some(bytes) = self.get(PLAN)? else { return Ok(None) };
        let decode = |mut from: Decoder<'_>| Some((from.bytes()?, from.bytes()?));
        let decoded = Decoder::new(&bytes).and_then(decode);
        decoded.map(Some).ok_or_else(|| IngestError::state(format!("{} is damaged", self.place_of(PLAN))))
    }

    /// Puts an object, whole or not at all.
    pub(crate) fn put(&self, object: &str, bytes: Vec<u8>) -> Result<()> {
        self.run.write(&self.name(object), bytes).map(|_| ()).map_err(failed)
    }

    /// Puts an object that nobody has put yet; `false` if somebody has.
    pub(crate) fn create(&self, object: &str, bytes: Vec<u8>) -> Result<bool> {
        match self.run.create(&self.name(object), bytes).map_err(failed)? {
            Created::Created(_) => Ok(true),
            Created::Exists => Ok(false),
        }
    }

    /// An object; `None` if there is none.
    pub(crate) fn get(&self, object: &str) -> Result<Option<Bytes>> {
        Ok(self.run.read(&self.name(object)).map_err(failed)?.map(|(bytes, _)| bytes))
    }

    /// Parts of an object; `None` if there is none, or if it is too short.
    pub(crate) fn get_ranges(&self, object: &str, ranges: &[Range<u64>]) -> Result<Option<Vec<Bytes>>> {
        match self.run.read_ranges(&self.name(object), ranges, None) {
            Ok(parts) => {
                let whole = parts.iter().zip(ranges).all(|(part, range)| part.len() as u64 == range.end - range.start);
                Ok(whole.then_some(parts))
            }
            Err(e) if matches!(e.kind, Failure::NotFound | Failure::Changed) => Ok(None),
            Err(e) => {
                let end = ranges.iter().map(|range| range.end).max().unwrap_or_default();
                let entry = self.run.head(&self.name(object)).map_err(failed)?;
                if entry.is_some_and(|entry| entry.size >= end) { Err(failed(e)) } else { Ok(None) }
            }
        }
    }

    /// The objects whose names begin like this, without that beginning.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let prefix = self.name(prefix);
        let entries = self.run.list(&prefix).map_err(failed)?;
        Ok(entries.into_iter().filter_map(|e| e.name.strip_prefix(&prefix).map(str::to_owned)).collect())
    }

    /// Puts a file.
    pub(crate) fn upload(&self, object: &str, from: &Path) -> Result<()> {
        self.run.upload(&self.name(object), from).map(|_| ()).map_err(failed)
    }

    /// Brings a file; `false` if there is none.
    pub(crate) fn download(&self, object: &str, to: &Path) -> Result<bool> {
        match self.run.download(&self.name(object), to) {
            Ok(_) => Ok(true),
            Err(e) if e.kind == Failure::NotFound => Ok(false),
            Err(e) => Err(failed(e)),
        }
    }
}

/// A failure of the work location. Trying again may help where the service is away.
fn failed(error: seriatim_storage::Error) -> IngestError {
    let kind = match error.kind {
        Failure::Unavailable | Failure::Other => ErrorKind::System,
        _ => ErrorKind::State,
    };
    let e = IngestError::new(kind, format!("the run's work location: {}", error.message));
    match error.help {
        Some(help) => e.help(help),
        None => e,
    }
}
