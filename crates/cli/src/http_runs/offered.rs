//! Which pipelines are offered: the files under one folder whose names end in `.yaml` or `.yml`. A pipeline is named by
//! its path in that folder, with or without the ending, and found by comparing names with what is there, so that no
//! name can lead out of the folder. Must never open a file by a name that a client sent.

use std::path::{Path, PathBuf};

use seriatim_http::RunsError;
use seriatim_ingest::Project;

use super::message;
use crate::error::CliError;
use crate::state;

/// Folders in folders are followed so deep.
const DEPTH: usize = 8;

/// The pipelines of a folder.
#[derive(Debug)]
pub(super) struct Offered {
    /// The folder's real path.
    root: PathBuf,
}

/// A pipeline file.
#[derive(Debug)]
struct Candidate {
    /// Its path in the folder, with `/` between the parts.
    name: String,
    path: PathBuf,
}

impl Offered {
    /// The pipelines in `folder`.
    pub(super) fn new(folder: &Path) -> Result<Self, CliError> {
        let root = folder.canonicalize().map_err(|error| CliError::io("open the pipelines' folder", folder, &error))?;
        if root.is_dir() {
            return Ok(Self { root });
        }
        Err(CliError::CommandLine {
            message: format!("{} is not a folder", folder.display()),
            help: "name the folder that holds the pipeline files".to_owned(),
        })
    }

    /// The pipeline of this name.
    pub(super) fn project(&self, name: &str) -> Result<Project, RunsError> {
        let mut found: Vec<Candidate> = self.candidates();
        found.retain(|one| one.name == name || stem(&one.name) == name);
        // A name with its ending means one file, also if another one differs only in that.
        if found.iter().any(|one| one.name == name) {
            found.retain(|one| one.name == name);
        }
        match found.as_slice() {
            [] => Err(RunsError::NotFound(format!("there is no pipeline \"{name}\""))),
            [one] => self.load(&one.path).map_err(|error| match error {
                CliError::Pipeline(_) => RunsError::Invalid(self.without_root(&message(&error))),
                error => RunsError::Failed(message(&error)),
            }),
            _ => Err(RunsError::NotPossibleNow(format!("two files are named \"{name}\": add .yaml or .yml"))),
        }
    }

    /// All pipelines that can be read.
    pub(super) fn projects(&self) -> Vec<Project> {
        let files = self.candidates().into_iter();
        files
            .filter_map(|one| match self.load(&one.path) {
                Ok(project) => Some(project),
                Err(error) => {
                    tracing::debug!(file = one.name, error = message(&error), "a file is not offered as a pipeline");
                    None
                }
            })
            .collect()
    }

    fn load(&self, path: &Path) -> Result<Project, CliError> {
        // Between listing and loading, the file may have been replaced by a link that leads elsewhere.
        let real = path.canonicalize().map_err(|error| CliError::io("open", path, &error))?;
        if !real.starts_with(&self.root) {
            return Err(CliError::failed(format!("{} leads out of {}", path.display(), self.root.display())));
        }
        state::open_project(path, &[])
    }

    /// Where the folder lies on this machine is not for clients.
    fn without_root(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.root.display()), "")
    }

    fn candidates(&self) -> Vec<Candidate> {
        let mut found = Vec::new();
        self.look_into(&self.root, "", DEPTH, &mut found);
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    /// Looks into a folder. Hidden files and folders are passed over, and links that lead out of the folder too.
    fn look_into(&self, folder: &Path, prefix: &str, depth: usize, found: &mut Vec<Candidate>) {
        let Ok(entries) = folder.read_dir() else {
            return;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            let inside = path.canonicalize().is_ok_and(|real| real.starts_with(&self.root));
            if name.starts_with('.') || !inside {
                continue;
            }
            let name = format!("{prefix}{name}");
            if path.is_dir() {
                if depth > 1 {
                    self.look_into(&path, &format!("{name}/"), depth - 1, found);
                }
            } else if stem(&name) != name {
                found.push(Candidate { name, path });
            }
        }
    }
}

/// A name without its ending; the same name if it has none of a pipeline's.
fn stem(name: &str) -> &str {
    name.strip_suffix(".yaml").or_else(|| name.strip_suffix(".yml")).unwrap_or(name)
}
