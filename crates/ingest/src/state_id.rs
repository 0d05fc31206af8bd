//! Who a state folder is: an id made once for each, so that what a run leaves in the output can be told from what runs
//! of another state folder leave there. Must never be copied from one state folder to another by this program.

use std::fs;
use std::path::Path;

use uuid::Uuid;

use crate::error::{IngestError, Result};
use crate::files::make_folder;

/// The id of a state folder; it is made if there is none.
///
/// It is not synced: a run keeps the id that it began with in its history, so a power cut that takes the file away only
/// gives later runs another id.
pub(crate) fn state_id(state: &Path) -> Result<String> {
    let path = state.join("id");
    if let Some(id) = read(&path) {
        return Ok(id);
    }
    make_folder(state)?;
    let id = Uuid::new_v4().as_simple().to_string();
    let own = state.join(format!("id-{id}"));
    fs::write(&own, &id).map_err(|e| IngestError::io("write", &own, &e))?;
    // Of two processes that make one at once, the second finds the first one's; one that was cut short is replaced.
    let linked = fs::hard_link(&own, &path);
    let kept = if linked.is_err() { read(&path) } else { Some(id.clone()) };
    if let Some(kept) = kept {
        let _ = fs::remove_file(&own);
        return Ok(kept);
    }
    fs::rename(&own, &path).map_err(|e| IngestError::io("rename", &own, &e))?;
    Ok(id)
}

fn read(path: &Path) -> Option<String> {
    let id = fs::read_to_string(path).ok()?;
    Uuid::try_parse(id.trim()).ok().map(|id| id.as_simple().to_string())
}
