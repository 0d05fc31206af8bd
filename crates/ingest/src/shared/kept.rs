//! What earlier runs have published, for a worker whose state folder does not know it.

use crate::context::RunContext;
use crate::error::{IngestError, Result};
use crate::project::Project;
use std::path::Path;

/// Brings what a pipeline has committed into the state folder.
pub(crate) fn bring_committed(_project: &Project, _state: &Path) -> Result<()> {
    Ok(())
}

/// Brings segments of a table's key map.
pub(crate) fn bring_segments(run: &RunContext, table: u32, segments: &[String]) -> Result<()> {
    let folder = run.keymap_folder(table);
    match segments.iter().find(|segment| !folder.join(segment).exists()) {
        None => Ok(()),
        Some(segment) => Err(IngestError::state(format!("{} is gone", folder.join(segment).display()))),
    }
}
