//! Objects as local files with holes: of each, a file of the same size, in which the bytes are that have been fetched.
//! Whoever reads such a file says before what of it; what is not there yet is fetched then, each byte once however many
//! threads want it, and what comes next in the meantime. All else of the program sees files. Must never let a byte be
//! read that was not fetched.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

use super::coverage::Coverage;
use super::object::Object;
use super::{SourceFile, footer::open_planned};
use crate::error::{IngestError, Result};
use crate::files::make_folder;

/// Threads that fetch ahead: they wait for answers most of the time.
const AHEAD: usize = 2;

/// The source files of a run, as far as they are objects.
#[derive(Debug)]
pub(crate) struct Mirrors {
    folder: PathBuf,
    files: Mutex<Vec<Option<Arc<Mirror>>>>,
    ahead: OnceLock<Mutex<Sender<Errand>>>,
}

/// What is to be fetched before it is needed.
type Errand = (Arc<Mirror>, Vec<Range<u64>>);

impl Mirrors {
    /// Keeps its files in `folder`, which is made when there is the first one.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, files: Mutex::default(), ahead: OnceLock::new() }
    }

    /// Opens a planned file: the file itself if it is local, else the one with holes.
    pub(crate) fn open(&self, index: u32, planned: &SourceFile, base: &Path) -> Result<Opened> {
        if !planned.is_object() {
            return Ok(Opened::whole(open_planned(planned, &base.join(&planned.name))?));
        }
        let mirror = self.mirror(index, planned)?;
        // Every reader has a file of its own, for each is at another place of it.
        let file = File::open(&mirror.path).map_err(|e| IngestError::io("open", &mirror.path, &e))?;
        Ok(Opened { file, mirror: Some(mirror) })
    }

    fn mirror(&self, index: u32, planned: &SourceFile) -> Result<Arc<Mirror>> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let index = index as usize;
        if files.len() <= index {
            files.resize(index + 1, None);
        }
        if let Some(mirror) = &files[index] {
            return Ok(mirror.clone());
        }
        make_folder(&self.folder)?;
        let mirror = Arc::new(Mirror::new(planned, self.folder.join(index.to_string()))?);
        files[index] = Some(mirror.clone());
        Ok(mirror)
    }

    /// Begins to fetch what will be needed soon; who needs it finds it there, or waits for it, or meets the error.
    pub(crate) fn fetch_ahead(&self, index: u32, planned: &SourceFile, ranges: Vec<Range<u64>>) -> Result<()> {
        let mirror = self.mirror(index, planned)?;
        if mirror.lacks(&ranges) {
            let sender = self.ahead.get_or_init(|| Mutex::new(start_ahead()));
            // Without these threads everything is fetched when it is needed.
            let _ = sender.lock().unwrap_or_else(PoisonError::into_inner).send((mirror, ranges));
        }
        Ok(())
    }
}

impl Drop for Mirrors {
    fn drop(&mut self) {
        if !self.files.get_mut().unwrap_or_else(PoisonError::into_inner).is_empty() {
            // The run's work folder is removed as a whole later on.
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

fn start_ahead() -> Sender<Errand> {
    let (sender, receiver) = channel::<Errand>();
    let receiver = Arc::new(Mutex::new(receiver));
    for _ in 0..AHEAD {
        let receiver = receiver.clone();
        let fetch = move || {
            while let Some((mirror, ranges)) = next(&receiver) {
                // Whoever needs the bytes will ask again, and be told.
                let _ = mirror.ensure(&ranges);
            }
        };
        // As above: it is not needed.
        let _ = std::thread::Builder::new().name("fetch-ahead".to_owned()).spawn(fetch);
    }
    sender
}

fn next(errands: &Mutex<Receiver<Errand>>) -> Option<Errand> {
    errands.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// A source file that is open.
#[derive(Debug)]
pub(crate) struct Opened {
    file: File,
    mirror: Option<Arc<Mirror>>,
}

impl Opened {
    /// A file all of which is there.
    pub(crate) fn whole(file: File) -> Self {
        Self { file, mirror: None }
    }

    /// Sees to it that these bytes can be read.
    pub(crate) fn ensure(&self, ranges: impl FnOnce() -> Vec<Range<u64>>) -> Result<()> {
        match &self.mirror {
            None => Ok(()),
            Some(mirror) => mirror.ensure(&ranges()),
        }
    }

    /// The file, of which only those bytes may be read that were [ensured](Self::ensure).
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// The same, to keep.
    pub(crate) fn into_file(self) -> File {
        self.file
    }
}

/// An object as a file with holes.
#[derive(Debug)]
struct Mirror {
    name: String,
    object: Object,
    path: PathBuf,
    file: File,
    state: Mutex<State>,
    fetched: Condvar,
}

#[derive(Debug, Default)]
struct State {
    there: Coverage,
    /// What threads are fetching; no byte is in two of these.
    coming: Vec<Range<u64>>,
}

impl Mirror {
    fn new(planned: &SourceFile, path: PathBuf) -> Result<Self> {
        let object = Object::planned(planned)?;
        let file = File::create(&path).map_err(|e| IngestError::io("make", &path, &e))?;
        file.set_len(object.bytes).map_err(|e| IngestError::io("make", &path, &e))?;
        Ok(Self { name: planned.name.clone(), object, path, file, state: Mutex::default(), fetched: Condvar::new() })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether some of these bytes are neither there nor coming.
    fn lacks(&self, ranges: &[Range<u64>]) -> bool {
        let state = self.lock();
        !not_coming(&state.there.missing(ranges), &state.coming).is_empty()
    }

    /// Returns when all these bytes are there.
    fn ensure(&self, ranges: &[Range<u64>]) -> Result<()> {
        let mut state = self.lock();
        loop {
            let missing = state.there.missing(ranges);
            if missing.is_empty() {
                return Ok(());
            }
            let mine = not_coming(&missing, &state.coming);
            if mine.is_empty() {
                state = self.fetched.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.coming.extend(mine.iter().cloned());
            drop(state);
            let mut coming = Coming { mirror: self, ranges: &mine, came: false };
            self.fetch(&mine)?;
            coming.came = true;
            drop(coming);
            state = self.lock();
        }
    }

    fn fetch(&self, ranges: &[Range<u64>]) -> Result<()> {
        let keep = |place, bytes: bytes::Bytes| {
            self.file.write_all_at(&bytes, place).map_err(|e| seriatim_storage::Error::io("write", &self.path, &e))
        };
        let fetched = self.object.place.fetch("", ranges, Some(&self.object.version), keep);
        fetched.map_err(|e| self.object.refused(&self.name, e))
    }
}

/// Bytes that a thread is fetching. When it is done, or gave up, those who wait look again.
struct Coming<'a> {
    mirror: &'a Mirror,
    ranges: &'a [Range<u64>],
    came: bool,
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        let mut state = self.mirror.lock();
        state.coming.retain(|range| !self.ranges.contains(range));
        if self.came {
            self.ranges.iter().cloned().for_each(|range| state.there.add(range));
        }
        drop(state);
        self.mirror.fetched.notify_all();
    }
}

/// What of `missing` nobody is fetching.
fn not_coming(missing: &[Range<u64>], coming: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut known = Coverage::default();
    coming.iter().cloned().for_each(|range| known.add(range));
    known.missing(missing)
}
