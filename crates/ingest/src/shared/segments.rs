//! Key map segments on their way from the worker that writes one to the worker that publishes the run. A segment is kept
//! in the state folder of whoever wrote it; another worker finds it in the work location until the run is published.

use crate::context::RunContext;
use crate::error::{IngestError, Result};
use crate::files::make_folder;

use super::Shared;

fn object(table: &str, segment: &str) -> String {
    format!("segment/{table}/{segment}")
}

/// Leaves a segment that this process wrote for the others.
pub(crate) fn keep_segment(run: &RunContext, shared: &Shared, table: u32, segment: &str) -> Result<()> {
    shared.work.upload(&object(&run.table(table).name, segment), &run.keymap_folder(table).join(segment))
}

/// Brings a segment of this run into the state folder, if it is not there.
pub(crate) fn bring_kept(run: &RunContext, shared: &Shared, table: u32, segment: &str) -> Result<()> {
    let folder = run.keymap_folder(table);
    let path = folder.join(segment);
    if path.exists() {
        return Ok(());
    }
    make_folder(&folder)?;
    let object = object(&run.table(table).name, segment);
    if shared.work.download(&object, &path)? {
        return Ok(());
    }
    Err(IngestError::state(format!("{} is gone", shared.work.place_of(&object)))
        .help("something removed or changed it: run again, nothing was published"))
}
