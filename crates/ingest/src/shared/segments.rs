//! Segments of key maps and groups on their way from the worker that writes one to the worker that publishes the run. A
//! segment is kept in the state folder of whoever wrote it; another worker finds it in the work location until the run is
//! published. Must never be relied on after that.

use crate::context::{RunContext, SegmentKind};
use crate::error::{IngestError, Result};
use crate::files::make_folder;

use super::Shared;

fn object(kind: SegmentKind, table: &str, segment: &str) -> String {
    match kind {
        SegmentKind::Keys => format!("segment/{table}/{segment}"),
        SegmentKind::Groups => format!("segment/{table}.groups/{segment}"),
    }
}

/// Leaves a segment that this process wrote for the others.
pub(crate) fn keep_segment(
    run: &RunContext,
    shared: &Shared,
    kind: SegmentKind,
    table: u32,
    segment: &str,
) -> Result<()> {
    let path = run.segment_folder(kind, table).join(segment);
    shared.work.upload(&object(kind, &run.table(table).name, segment), &path)
}

/// Brings a segment of this run into the state folder, if it is not there.
pub(crate) fn bring_kept(
    run: &RunContext,
    shared: &Shared,
    kind: SegmentKind,
    table: u32,
    segment: &str,
) -> Result<()> {
    let folder = run.segment_folder(kind, table);
    let path = folder.join(segment);
    if path.exists() {
        return Ok(());
    }
    make_folder(&folder)?;
    let object = object(kind, &run.table(table).name, segment);
    if shared.work.download(&object, &path)? {
        return Ok(());
    }
    Err(IngestError::state(format!("{} is gone", shared.work.place_of(&object)))
        .help("something removed or changed it: run again, nothing was published"))
}
