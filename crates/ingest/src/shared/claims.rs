//! Which worker writes which part. Engines hand out steps without asking who knows what, so a write step names no part:
//! its worker claims one, first of those that it has scanned itself, whose rows it need not read again. Claims only
//! spare work: what comes of two workers that write the same part is the same, and a part that nobody has written in the
//! end is written by name.

use std::sync::atomic::Ordering::Relaxed;

use crate::context::RunContext;
use crate::error::Result;

use super::Shared;

const CLAIM: &str = "claim-";

/// Claims a part that nobody has claimed; `None` if all are.
pub(crate) fn claim(run: &RunContext, shared: &Shared) -> Result<Option<u32>> {
    let all = 0..run.plan.parts.len() as u32;
    let is_free = |part: &u32| !shared.parts[*part as usize].taken.load(Relaxed);
    let is_own = |part: &u32| shared.parts[*part as usize].scanned.load(Relaxed);
    if let Some(part) = first_free(shared, all.clone().filter(is_free).filter(is_own))? {
        return Ok(Some(part));
    }
    let taken = shared.work.names(CLAIM)?;
    // From the end: whoever has scanned these comes from the front.
    first_free(shared, all.filter(|part| !taken.contains(&part.to_string())).rev())
}

/// Whether anybody has begun to write rows. All that the run puts into its output comes after that.
pub(crate) fn is_being_written(shared: &Shared) -> Result<bool> {
    Ok(!shared.work.names(CLAIM)?.is_empty())
}

fn first_free(shared: &Shared, parts: impl Iterator<Item = u32>) -> Result<Option<u32>> {
    for part in parts {
        shared.parts[part as usize].taken.store(true, Relaxed);
        if shared.work.create(&format!("{CLAIM}{part}"), Vec::new())? {
            return Ok(Some(part));
        }
    }
    Ok(None)
}
