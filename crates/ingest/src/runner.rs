//! Runs pipelines on a task hub: starts or takes up a run, waits for it, cancels it, keeps a record of it in the state
//! folder. Must never do a step of a run itself.

use std::path::Path;
use std::sync::Arc;

use seriatim_durable::hub::TaskHub;

use crate::error::Result;
use crate::progress::Progress;
use crate::project::Project;
use crate::report::RunReport;

/// How a runner uses the machine.
#[derive(Debug, Clone)]
pub struct RunnerOptions {
    /// Steps that run at once. At least 1; default: one per core. Changes nothing in the output.
    pub workers: usize,
    /// Bytes that scans and mappings may hold in memory; the rest waits in the run's work folder.
    /// Default: half of the machine's memory. Changes nothing in the output.
    pub memory: u64,
    /// Records in a chunk, at most; default 131,072. It is part of a run's plan, so a run that is taken up keeps its
    /// own. For tests: another value gives other files, never other IDs.
    pub chunk_rows: u32,
    /// Hash shards per table, a power of two from 1 to 4,096; default 16. For tests: changes nothing in the output.
    pub shards: u32,
}
