//! A pipeline bound to its folders: where relative paths start, where state and output are. This module must never
//! read what is in those folders.

use std::path::{Path, PathBuf};

use seriatim_pipeline::model::{Ids, Pipeline};
use seriatim_storage::Location;

use crate::error::Result;
use crate::output::Output;

/// A pipeline and the folder that its relative paths start at.
#[derive(Debug, Clone)]
pub struct Project {
    pipeline: Pipeline,
    folder: PathBuf,
    /// The files of the quarantine whose records the source is; none for a run over the pipeline's own source.
    replayed: Vec<String>,
}

impl Project {
    /// Binds `pipeline` to `folder`, the absolute path of the folder that holds the pipeline file.
    pub fn new(pipeline: Pipeline, folder: PathBuf) -> Self {
        Self { pipeline, folder, replayed: Vec::new() }
    }

    /// The same as a run over what was in these files of the quarantine.
    #[must_use]
    pub(crate) fn replaying(self, replayed: Vec<String>) -> Self {
        Self { replayed, ..self }
    }

    /// The files of the quarantine whose records the source is.
    pub(crate) fn replayed(&self) -> &[String] {
        &self.replayed
    }

    /// The same with IDs from the pipeline's own entities, whatever the pipeline says: for comparisons, in a state folder
    /// of their own.
    #[must_use]
    pub fn with_own_ids(mut self) -> Self {
        self.pipeline.ids = Ids::default();
        for id in self.pipeline.tables.iter_mut().filter_map(|table| table.id.as_mut()) {
            id.sequence = None;
        }
        self
    }

    /// Says where the IDs of a table begin; the table is given by its place.
    pub(crate) fn set_start(&mut self, table: usize, start: i64) {
        if let Some(id) = self.pipeline.tables.get_mut(table).and_then(|table| table.id.as_mut()) {
            id.start = start;
        }
    }

    /// The pipeline.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// The folder that relative paths start at.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Refuses addresses of the source that make no sense, or hold a credential: a pipeline is kept with its runs.
    pub(crate) fn check_places(&self) -> Result<()> {
        Ok(self.places().try_for_each(|pattern| Location::check(pattern))?)
    }

    /// Every path and address of files that are read.
    fn places(&self) -> impl Iterator<Item = &String> {
        let tables = self.pipeline.tables.iter();
        let existing = tables.flat_map(|table| {
            let after = table.id.iter().filter_map(|id| id.after.as_ref()).flat_map(|after| &after.files);
            after.chain(table.adopt.iter().flat_map(|adopt| &adopt.files))
        });
        self.pipeline.source.files.iter().chain(existing)
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
