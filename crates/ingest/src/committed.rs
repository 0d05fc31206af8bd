//! What a pipeline has committed, as files in the state folder: the files that were ingested, and a copy of its
//! sequences for readers that do not open the hub. The entities are the truth; a run checks that the copy agrees with
//! them before it relies on it. Must never be written before the run is published.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::context::pipeline_folder;
use crate::error::{IngestError, Result};
use crate::files::{make_folder, read_json, write_json, write_whole};
use crate::layout::TableSignature;
use crate::plan::FileMemory;
use crate::sequence::Range;
use crate::source::SourceFile;

/// A copy of a pipeline's entities.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Committed {
    /// How many runs are published.
    pub(crate) number: u64,
    /// The output folder, as the pipeline file has it.
    pub(crate) output: String,
    pub(crate) layout: Vec<TableSignature>,
    pub(crate) tables: Vec<CommittedTable>,
}

/// A copy of one sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CommittedTable {
    pub(crate) table: String,
    pub(crate) next: u64,
    pub(crate) segments: Vec<String>,
    /// Places before `next` that are not this pipeline's.
    #[serde(default, skip_serializing_if = "crate::sequence::is_zero")]
    pub(crate) others: u64,
    /// The counter that IDs come from, if it is not the entity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    /// The last block, where IDs come from a counter outside: there it may be open still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last: Option<Range>,
}

fn committed_path(state: &Path, pipeline: &str) -> PathBuf {
    pipeline_folder(state, pipeline).join("committed.json")
}

/// The memory of files after a run, by its name in the pipeline's folder.
pub(crate) fn files_name(number: u64) -> String {
    format!("files-{number:06}.jsonl")
}

/// The ledger of a run, by its name in the pipeline's folder.
pub(crate) fn ledger_name(number: u64) -> String {
    format!("ledger/{number:06}.json")
}

fn files_path(state: &Path, pipeline: &str, number: u64) -> PathBuf {
    pipeline_folder(state, pipeline).join(files_name(number))
}

/// Where the ledger of a run is.
pub(crate) fn ledger_path(state: &Path, pipeline: &str, number: u64) -> PathBuf {
    pipeline_folder(state, pipeline).join(ledger_name(number))
}

/// What a pipeline has committed; the default before its first run.
pub(crate) fn read_committed(state: &Path, pipeline: &str) -> Result<Committed> {
    Ok(read_json(&committed_path(state, pipeline))?.unwrap_or_default())
}

/// Keeps what a pipeline has committed.
pub(crate) fn write_committed(state: &Path, pipeline: &str, committed: &Committed) -> Result<()> {
    make_folder(&pipeline_folder(state, pipeline))?;
    write_json(&committed_path(state, pipeline), committed)?;
    // The memory of files is kept whole for each run, so that a crash leaves the old one; only the last two matter.
    if let Some(old) = committed.number.checked_sub(2) {
        let _ = std::fs::remove_file(files_path(state, pipeline, old));
    }
    Ok(())
}

/// The files that the first `number` runs have ingested.
pub(crate) fn read_files(state: &Path, pipeline: &str, number: u64) -> Result<FileMemory> {
    if number == 0 {
        return Ok(FileMemory::new());
    }
    let path = files_path(state, pipeline, number);
    let text = std::fs::read_to_string(&path).map_err(|e| IngestError::io("read", &path, &e))?;
    let mut memory = FileMemory::new();
    for line in text.lines() {
        let file: SourceFile = serde_json::from_str(line).map_err(|e| {
            IngestError::state(format!("{} is damaged: {e}", path.display()))
                .help("bring the state folder back from a backup taken together with the output")
        })?;
        memory.insert(file.name.clone(), file);
    }
    Ok(memory)
}

/// Keeps the files that the first `number` runs have ingested.
pub(crate) fn write_files(state: &Path, pipeline: &str, number: u64, memory: &FileMemory) -> Result<()> {
    make_folder(&pipeline_folder(state, pipeline))?;
    let mut text = Vec::new();
    for file in memory.values() {
        serde_json::to_writer(&mut text, file).map_err(|e| IngestError::internal(e.to_string()))?;
        text.push(b'\n');
    }
    write_whole(&files_path(state, pipeline, number), &text)
}
