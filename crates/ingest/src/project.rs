//! A pipeline bound to its folders: where relative paths start, where state and output are. This module must never
//! read what is in those folders.

use std::path::{Path, PathBuf};

use seriatim_pipeline::model::Pipeline;

use crate::error::Result;
use crate::output::Output;

/// A pipeline and the folder that its relative paths start at.
#[derive(Debug, Clone)]
pub struct Project {
    pipeline: Pipeline,
    folder: PathBuf,
}

impl Project {
    /// Binds `pipeline` to `folder`, the absolute path of the folder that holds the pipeline file.
    pub fn new(pipeline: Pipeline, folder: PathBuf) -> Self {
        Self { pipeline, folder }
    }

    /// The pipeline.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// The folder that relative paths start at.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The state folder.
    pub fn state(&self) -> PathBuf {
        self.folder.join(&self.pipeline.state)
    }

    /// Where the tables go.
    pub(crate) fn output(&self) -> Result<Output> {
        Output::parse(&self.pipeline.output.path, &self.folder)
    }
}
