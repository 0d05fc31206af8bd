//! Which pipeline, which state folder, and whether a run's process is alive. Must never change anything.

use std::path::{Path, PathBuf};

use seriatim_ingest::{Project, RunReport, RunStatus};
use seriatim_pipeline::{Overrides, load};

use crate::args::{PipelineArgs, StateArgs};
use crate::engine;
use crate::error::CliError;

/// The state folder where nothing else is said, as in the pipeline file.
const DEFAULT_STATE: &str = ".seriatim";

/// Reads a pipeline file, with the settings of the command line in the place of its own.
pub(crate) fn project(args: &PipelineArgs) -> Result<Project, CliError> {
    open_project(&args.pipeline, &args.set)
}

/// Reads the pipeline file at `path`.
pub(crate) fn open_project(path: &Path, set: &[String]) -> Result<Project, CliError> {
    let overrides = Overrides::from_args(set)?;
    let loaded = load(path, &overrides, &|name: &str| std::env::var(name).ok())?;
    Ok(Project::new(loaded.pipeline, loaded.folder))
}

/// A state folder to look into.
#[derive(Debug)]
pub(crate) struct StateFolder {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// The pipeline whose runs are wanted; `None` for all.
    pub(crate) pipeline: Option<String>,
}

impl StateFolder {
    /// As the command line says. A folder that was named and is not there is a mistake of the command line; one that a
    /// pipeline will make with its first run is not.
    pub(crate) fn find(args: &StateArgs) -> Result<Self, CliError> {
        if let Some(path) = &args.pipeline {
            let project = open_project(path, &[])?;
            let pipeline = Some(project.pipeline().name.clone());
            return Ok(Self { path: project.state(), pipeline });
        }
        let path = args.state.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_STATE));
        if !path.is_dir() {
            return Err(CliError::CommandLine {
                message: format!("there is no state folder {}", path.display()),
                help: "name it with --state DIR, or name its pipeline with --pipeline PIPELINE".to_owned(),
            });
        }
        Ok(Self { path, pipeline: None })
    }
}

/// Shows a run that is `Running` without a process as what it is. The lock of the state folder is what tells: a record
/// cannot say by itself that its writer is dead.
pub(crate) fn mark_interrupted(reports: &mut [RunReport], state: &Path) -> Result<(), CliError> {
    // What a hub elsewhere has goes on without a process here.
    let is_here = |report: &RunReport| report.status == RunStatus::Running && report.hub.is_none();
    if reports.iter().any(is_here) && !engine::is_held(state)? {
        for report in reports.iter_mut().filter(|report| is_here(report)) {
            report.status = RunStatus::Interrupted;
        }
    }
    Ok(())
}
