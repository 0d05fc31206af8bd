//! The folder of a demo:
//!
//! ```text
//! seriatim-demo/
//!   .seriatim-demo.json   the marker: who made this, from what, and which files
//!   retail.yaml           the pipeline
//!   data/                 the records, one file per month
//!   later/                one more month, to be moved to data/ by whoever tries a second run
//!   out/                  the tables
//!   .seriatim/            the state
//! ```
//!
//! Must never remove or replace anything that the marker, or the layout above in a folder with a marker, does not show
//! to be the demo's own.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::data::{self, Parameters};
use crate::error::CliError;

const MARKER: &str = ".seriatim-demo.json";
const UNFINISHED_MARKER: &str = ".seriatim-demo.tmp";
const PIPELINE: &str = "retail.yaml";
const PIPELINE_TEXT: &str = include_str!("pipeline.yaml");
/// The tables of the pipeline above.
const TABLES: [&str; 4] = ["customers", "products", "orders", "order_lines"];

/// What stands in the marker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Marker {
    made_by: String,
    parameters: Parameters,
    /// The bytes of each file, the later one last; `None` until all of them are whole.
    bytes: Option<Vec<u64>>,
}

/// A demo's folder, locked against other demos as long as this value lives.
#[derive(Debug)]
pub(crate) struct DemoFolder {
    path: PathBuf,
    marker: Option<Marker>,
    _lock: File,
}

/// What became of the data.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Made {
    /// From what.
    #[serde(flatten)]
    pub(crate) parameters: Parameters,
    /// The bytes of all files, without the later one.
    pub(crate) bytes: u64,
    /// Whether an earlier demo had made it.
    pub(crate) reused: bool,
    /// How long it took.
    pub(crate) seconds: f64,
}

impl DemoFolder {
    /// Takes the folder at `path`: a new or empty one, or that of an earlier demo.
    pub(crate) fn open(path: &Path) -> Result<Self, CliError> {
        fs::create_dir_all(path).map_err(|error| CliError::io("make the folder", path, &error))?;
        // The lock is on the folder itself, so that the marker can be replaced as a whole.
        let lock = File::open(path).map_err(|error| CliError::io("open", path, &error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let message = format!("another demo is at work in {}", path.display());
                return Err(CliError::failed_with(message, "wait until it is done, or choose another --folder"));
            }
            Err(fs::TryLockError::Error(error)) => return Err(CliError::io("lock", path, &error)),
        }
        let marker = read_marker(&path.join(MARKER))?;
        if marker.is_none() && !is_empty(path)? {
            return Err(CliError::CommandLine {
                message: format!("{} is not empty, and no demo made it", path.display()),
                help: "name a new or an empty folder with --folder".to_owned(),
            });
        }
        Ok(Self { path: path.to_owned(), marker, _lock: lock })
    }

    /// The pipeline file.
    pub(crate) fn pipeline(&self) -> PathBuf {
        self.path.join(PIPELINE)
    }

    /// The folder of the source files.
    pub(crate) fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    /// The folder of the file for a second run.
    pub(crate) fn later(&self) -> PathBuf {
        self.path.join("later")
    }

    /// The state folder.
    pub(crate) fn state(&self) -> PathBuf {
        self.path.join(".seriatim")
    }

    fn out(&self) -> PathBuf {
        self.path.join("out")
    }

    /// Sees to it that the files are there, as `parameters` have them: keeps those of an earlier demo, or makes them.
    pub(crate) fn make_data(&mut self, parameters: Parameters, workers: usize) -> Result<Made, CliError> {
        let start = Instant::now();
        let kept = self.keep_data(parameters)?;
        let reused = kept.is_some();
        let bytes = match kept {
            Some(bytes) => bytes,
            None => self.write_data(parameters, workers)?,
        };
        let bytes = bytes.iter().take(parameters.files as usize).sum();
        Ok(Made { parameters, bytes, reused, seconds: start.elapsed().as_secs_f64() })
    }

    /// The bytes of the files of an earlier demo, if it made them from the same parameters and they are as they were.
    fn keep_data(&self, parameters: Parameters) -> Result<Option<Vec<u64>>, CliError> {
        let Some(Marker { parameters: made_from, bytes: Some(bytes), .. }) = &self.marker else { return Ok(None) };
        if *made_from != parameters {
            return Ok(None);
        }
        // Whoever tried a second run has moved the later file.
        let (home, moved) = (self.later().join(parameters.later_name()), self.data().join(parameters.later_name()));
        if !home.exists() && moved.exists() {
            fs::rename(&moved, &home).map_err(|error| CliError::io("move back", &moved, &error))?;
        }
        let paths = self.files(parameters);
        let same = paths.iter().zip(bytes).all(|(path, bytes)| path.metadata().is_ok_and(|m| m.len() == *bytes));
        Ok((same && paths.len() == bytes.len()).then(|| bytes.clone()))
    }

    fn write_data(&mut self, parameters: Parameters, workers: usize) -> Result<Vec<u64>, CliError> {
        refuse_link(&self.data())?;
        refuse_link(&self.later())?;
        if let Some(marker) = &self.marker {
            for path in self.places(marker.parameters) {
                remove_file(&path)?;
                remove_file(&path.with_extension(data::UNFINISHED))?;
            }
        }
        if let Some(path) = self.places(parameters).into_iter().find(|path| path.exists()) {
            let message = format!("{} is in the way, and no demo made it", path.display());
            return Err(CliError::failed_with(message, "move it away, or choose another --folder"));
        }
        // From here on the files of these parameters are the demo's, whole or not.
        self.write_marker(parameters, None)?;
        for folder in [self.data(), self.later()] {
            fs::create_dir_all(&folder).map_err(|error| CliError::io("make the folder", &folder, &error))?;
        }
        let bytes = data::write(&self.data(), &self.later(), parameters, workers)
            .map_err(|error| CliError::failed(error.to_string()))?;
        self.write_marker(parameters, Some(bytes.clone()))?;
        Ok(bytes)
    }

    /// The files of these parameters, the later one last.
    fn files(&self, parameters: Parameters) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = parameters.file_names().iter().map(|name| self.data().join(name)).collect();
        files.push(self.later().join(parameters.later_name()));
        files
    }

    /// Where the files of these parameters may be: the later one in either folder.
    fn places(&self, parameters: Parameters) -> Vec<PathBuf> {
        let mut places = self.files(parameters);
        places.push(self.data().join(parameters.later_name()));
        places
    }

    /// Writes the pipeline file. One that was edited is kept under another name, which is returned.
    pub(crate) fn write_pipeline(&self) -> Result<Option<PathBuf>, CliError> {
        let path = self.pipeline();
        let edited = match fs::read(&path) {
            Ok(text) if text == PIPELINE_TEXT.as_bytes() => return Ok(None),
            Ok(_) => Some(self.keep_edited(&path)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(CliError::io("read", &path, &error)),
        };
        fs::write(&path, PIPELINE_TEXT).map_err(|error| CliError::io("write", &path, &error))?;
        Ok(edited)
    }

    fn keep_edited(&self, path: &Path) -> Result<PathBuf, CliError> {
        let mut names = (1..1_000).map(|n| self.path.join(format!("retail.edited-{n}.yaml")));
        let kept = names.find(|path| !path.exists()).ok_or_else(|| {
            let message = format!("a thousand edited pipelines are kept in {}", self.path.display());
            CliError::failed_with(message, "remove some, or choose another --folder")
        })?;
        fs::rename(path, &kept).map_err(|error| CliError::io("rename", path, &error))?;
        Ok(kept)
    }

    /// Removes state and tables of an earlier ingest, so that the next one starts afresh; whether there were any. The
    /// caller has made sure that no process has the state.
    pub(crate) fn clear(&self) -> Result<bool, CliError> {
        if self.marker.is_none() {
            return Ok(false);
        }
        let (state, out) = (self.state(), self.out());
        let had_any = state.exists() || out.exists();
        refuse_link(&state)?;
        remove_folder(&state)?;
        if out.exists() {
            refuse_link(&out)?;
            for table in TABLES {
                remove_parquet(&out.join(table))?;
            }
            let own = out.join("_seriatim");
            refuse_link(&own)?;
            remove_folder(&own)?;
            remove_if_empty(&out)?;
        }
        Ok(had_any)
    }

    fn write_marker(&mut self, parameters: Parameters, bytes: Option<Vec<u64>>) -> Result<(), CliError> {
        let path = self.path.join(MARKER);
        let marker = Marker { made_by: "seriatim demo".to_owned(), parameters, bytes };
        let mut text = serde_json::to_string_pretty(&marker)
            .map_err(|error| CliError::failed(format!("cannot write {}: {error}", path.display())))?;
        text.push('\n');
        let unfinished = self.path.join(UNFINISHED_MARKER);
        fs::write(&unfinished, text).map_err(|error| CliError::io("write", &unfinished, &error))?;
        fs::rename(&unfinished, &path).map_err(|error| CliError::io("write", &path, &error))?;
        self.marker = Some(marker);
        Ok(())
    }
}

/// What the marker says; `None` if there is none.
fn read_marker(path: &Path) -> Result<Option<Marker>, CliError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(CliError::io("read", path, &error)),
    };
    serde_json::from_str(&text).map(Some).map_err(|error| {
        let message = format!("{} is not a demo's marker: {error}", path.display());
        CliError::failed_with(message, "remove this folder yourself, or choose another --folder")
    })
}

/// Whether nothing is in the folder but, perhaps, a marker that a crash kept from being finished.
fn is_empty(folder: &Path) -> Result<bool, CliError> {
    let entries = fs::read_dir(folder).map_err(|error| CliError::io("read the folder", folder, &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| CliError::io("read the folder", folder, &error))?;
        if entry.file_name() != UNFINISHED_MARKER {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A link may lead out of the demo's folder, to something that the demo did not make.
fn refuse_link(path: &Path) -> Result<(), CliError> {
    if path.is_symlink() {
        let message = format!("{} is a link, which no demo makes", path.display());
        return Err(CliError::failed_with(message, "remove the link, or choose another --folder"));
    }
    Ok(())
}

fn remove_file(path: &Path) -> Result<(), CliError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(CliError::io("remove", path, &error)),
        _ => Ok(()),
    }
}

fn remove_folder(path: &Path) -> Result<(), CliError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(CliError::io("remove", path, &error)),
        _ => Ok(()),
    }
}

/// Removes the Parquet files of a table's folder, and the folder.
fn remove_parquet(folder: &Path) -> Result<(), CliError> {
    if !folder.exists() {
        return Ok(());
    }
    refuse_link(folder)?;
    let entries = fs::read_dir(folder).map_err(|error| CliError::io("read the folder", folder, &error))?;
    for entry in entries {
        let path = entry.map_err(|error| CliError::io("read the folder", folder, &error))?.path();
        if path.extension().is_some_and(|extension| extension == "parquet") {
            remove_file(&path)?;
        }
    }
    remove_if_empty(folder)
}

fn remove_if_empty(folder: &Path) -> Result<(), CliError> {
    let mut entries = fs::read_dir(folder).map_err(|error| CliError::io("read the folder", folder, &error))?;
    if let Some(Ok(entry)) = entries.next() {
        let message = format!("{} is in the way, and no demo made it", entry.path().display());
        return Err(CliError::failed_with(message, "move it away, or choose another --folder"));
    }
    fs::remove_dir(folder).map_err(|error| CliError::io("remove", folder, &error))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use seriatim_pipeline::{Overrides, load};

    use super::{DemoFolder, PIPELINE_TEXT, Parameters, TABLES};
    use crate::error::CliError;

    const SMALL: Parameters = Parameters { rows: 500, files: 2, seed: 1 };

    fn message(error: CliError) -> String {
        match error {
            CliError::CommandLine { message, .. } | CliError::Failed { message, .. } => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn data_is_made_once_and_made_anew_for_other_parameters() {
        let place = tempfile::tempdir().unwrap();
        let make = |parameters| DemoFolder::open(place.path()).unwrap().make_data(parameters, 1).unwrap();
        assert!(!make(SMALL).reused);
        assert!(make(SMALL).reused);
        let names = || {
            let entries = fs::read_dir(place.path().join("data")).unwrap();
            let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        assert_eq!(names(), ["sales-2025-01.parquet", "sales-2025-02.parquet"]);
        assert!(!make(Parameters { files: 1, ..SMALL }).reused);
        assert_eq!(names(), ["sales-2025-01.parquet"]);
        // A file that is not what it was is made anew.
        fs::write(place.path().join("data/sales-2025-01.parquet"), "short").unwrap();
        assert!(!make(Parameters { files: 1, ..SMALL }).reused);
    }

    #[test]
    fn a_later_file_that_was_moved_comes_back() {
        let place = tempfile::tempdir().unwrap();
        DemoFolder::open(place.path()).unwrap().make_data(SMALL, 1).unwrap();
        let (home, moved) =
            (place.path().join("later/sales-2025-03.parquet"), place.path().join("data/sales-2025-03.parquet"));
        fs::rename(&home, &moved).unwrap();
        assert!(DemoFolder::open(place.path()).unwrap().make_data(SMALL, 1).unwrap().reused);
        assert!(home.exists() && !moved.exists());
    }

    #[test]
    fn what_the_demo_did_not_make_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("thesis.txt"), "years of work").unwrap();
        assert!(message(DemoFolder::open(place.path()).unwrap_err()).contains("no demo made it"));
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);

        let place = tempfile::tempdir().unwrap();
        let mut folder = DemoFolder::open(place.path()).unwrap();
        fs::create_dir(place.path().join("data")).unwrap();
        fs::write(place.path().join("data/sales-2025-02.parquet"), "mine").unwrap();
        assert!(message(folder.make_data(SMALL, 1).unwrap_err()).contains("in the way"));

        let place = tempfile::tempdir().unwrap();
        let mut folder = DemoFolder::open(place.path()).unwrap();
        folder.make_data(SMALL, 1).unwrap();
        fs::create_dir_all(place.path().join("out/orders")).unwrap();
        fs::write(place.path().join("out/orders/a.parquet"), "").unwrap();
        fs::write(place.path().join("out/notes.txt"), "mine").unwrap();
        assert!(message(folder.clear().unwrap_err()).contains("out/notes.txt"));
        assert_eq!(fs::read_to_string(place.path().join("out/notes.txt")).unwrap(), "mine");
        fs::remove_file(place.path().join("out/notes.txt")).unwrap();
        assert!(folder.clear().unwrap());
        assert!(!place.path().join("out").exists());
        assert!(!folder.clear().unwrap(), "nothing was left");
    }

    #[test]
    fn a_link_is_not_followed() {
        let (place, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(elsewhere.path().join("state.db"), "precious").unwrap();
        let mut folder = DemoFolder::open(place.path()).unwrap();
        folder.make_data(SMALL, 1).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), place.path().join(".seriatim")).unwrap();
        assert!(message(folder.clear().unwrap_err()).contains("is a link"));
        assert!(elsewhere.path().join("state.db").exists());
    }

    #[test]
    fn two_demos_do_not_share_a_folder() {
        let place = tempfile::tempdir().unwrap();
        let _first = DemoFolder::open(place.path()).unwrap();
        assert!(message(DemoFolder::open(place.path()).unwrap_err()).contains("another demo"));
    }

    #[test]
    fn the_pipeline_is_valid_and_edits_of_it_are_kept() {
        let place = tempfile::tempdir().unwrap();
        let folder = DemoFolder::open(place.path()).unwrap();
        assert_eq!(folder.write_pipeline().unwrap(), None);
        assert_eq!(folder.write_pipeline().unwrap(), None);
        let loaded = load(&folder.pipeline(), &Overrides::none(), &|_: &str| None).unwrap();
        let names: Vec<_> = loaded.pipeline.tables.iter().map(|table| table.name.as_str()).collect();
        assert_eq!(names, TABLES);
        fs::write(folder.pipeline(), "name: mine").unwrap();
        let kept = folder.write_pipeline().unwrap().unwrap();
        assert_eq!(fs::read_to_string(kept).unwrap(), "name: mine");
        assert_eq!(fs::read_to_string(folder.pipeline()).unwrap(), PIPELINE_TEXT);
    }
}
