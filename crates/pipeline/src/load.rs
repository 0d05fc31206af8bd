//! From a file, or its text, to a pipeline: the steps in their order. This is the only module of the crate that reads a
//! file; it must never read the environment, which the caller hands in.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::error::{PipelineErrors, Problems};
use crate::model::Pipeline;
use crate::overrides::Overrides;
use crate::yaml::{self, Piece};
use crate::{decode, validate};

/// The largest pipeline file that is read, in bytes: 1 MiB. Ten thousand columns fit in; a Parquet file given by
/// mistake does not.
pub const MAX_FILE_BYTES: usize = 1 << 20;

/// A pipeline and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The pipeline.
    pub pipeline: Pipeline,
    /// The absolute path of its file.
    pub path: PathBuf,
    /// The absolute path of the folder that the file is in. The pipeline's relative paths start here.
    pub folder: PathBuf,
}

/// Reads a pipeline file and checks it.
///
/// `env` gives the value of an environment variable, or `None` if it is not set. The errors hold everything that is
/// wrong, as far as one problem does not hide another.
pub fn load(
    path: &Path,
    overrides: &Overrides,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, PipelineErrors> {
    let name = path.display().to_string();
    let unreadable = |error: &io::Error| {
        let help = match error.kind() {
            io::ErrorKind::NotFound => "give the path of a pipeline file; a relative one starts at the current folder",
            io::ErrorKind::PermissionDenied => "let this user read it",
            _ => "give the path of a pipeline file that can be read",
        };
        PipelineErrors::whole(&name, format!("the pipeline file cannot be read: {error}"), help)
    };
    let absolute = std::path::absolute(path).map_err(|e| unreadable(&e))?;
    let text = read(path).map_err(|e| unreadable(&e))?;
    let text = String::from_utf8(text).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let message = format!("the pipeline file is not text in UTF-8: its byte {offset} does not belong there");
        PipelineErrors::whole(&name, message, "save it as UTF-8; if it is a data file, name it in a pipeline file")
    })?;
    let pipeline = parse(&text, &name, overrides, env)?;
    let folder = absolute.parent().unwrap_or(&absolute).to_path_buf();
    Ok(Loaded { pipeline, path: absolute, folder })
}

/// The bytes of a file, or one more than are allowed of a larger one.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Checks the text of a pipeline file. `file_name` is what errors call it; `env` gives the value of an environment
/// variable, or `None` if it is not set.
pub fn parse(
    text: &str,
    file_name: &str,
    overrides: &Overrides,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Pipeline, PipelineErrors> {
    if text.len() > MAX_FILE_BYTES {
        let help = "is it a pipeline file? many files of data are written as one glob, `data/*.parquet`";
        return Err(PipelineErrors::whole(file_name, "the pipeline file is larger than 1 MiB", help));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut problems = Problems::new(file_name, text);
    let root = yaml::read(text, Piece { source: 0, offset: 0 }, &mut problems);
    let pipeline = match root {
        Some(mut root) => {
            overrides.apply(&mut root, &mut problems);
            decode::decode(&root, &mut problems, env).and_then(|raw| validate::validate(&raw, &mut problems))
        }
        None => None,
    };
    problems.finish()?;
    pipeline.ok_or_else(|| {
        let help = "a file begins with `version: 1`, and has `name`, `source`, `tables` and `output`";
        PipelineErrors::whole(file_name, "the pipeline file is empty", help)
    })
}
