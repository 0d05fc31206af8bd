//! What a pipeline has committed, as files in the state folder: the files that were ingested, and a copy of its
//! sequences for readers that do not open the hub. The entities are the truth; a run checks that the copy agrees with
//! them before it relies on it. Must never be written before the run is published.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::context::pipeline_folder;
use crate::drift::SourceTypes;
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
    /// The types of the source's columns, where files may differ in them.
    #[serde(default, skip_serializing_if = "SourceTypes::is_empty")]
    pub(crate) source: SourceTypes,
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
    /// The segments that have the last number of each group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) groups: Vec<String>,
    /// How many keys were taken over from a table that existed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) adopted: Option<u64>,
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

/// The first line of a memory of files. A name in which a byte has turned would be a file that nobody has ingested, and the
/// real one would be ingested again.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Heading {
    /// How many lines follow.
    files: usize,
    /// XXH3, 128 bits, of these lines, in hexadecimal.
    xxh3: String,
}

impl Heading {
    fn of(memory: &FileMemory, lines: &[u8]) -> Self {
        Self { files: memory.len(), xxh3: format!("{:032x}", xxh3_128(lines)) }
    }
}

/// The files that the first `number` runs have ingested.
pub(crate) fn read_files(state: &Path, pipeline: &str, number: u64) -> Result<FileMemory> {
    if number == 0 {
        return Ok(FileMemory::new());
    }
    let path = files_path(state, pipeline, number);
    let bytes = std::fs::read(&path).map_err(|e| IngestError::io("read", &path, &e))?;
    parse_files(&bytes).map_err(|text| {
        IngestError::state(format!("{} is damaged: {text}", path.display()))
            .help("bring the state folder back from a backup taken together with the output")
    })
}

fn parse_files(bytes: &[u8]) -> std::result::Result<FileMemory, String> {
    let end = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |end| end + 1);
    let (first, rest) = bytes.split_at(end);
    // Earlier versions had no heading.
    let first_file = serde_json::from_slice::<SourceFile>(first);
    let lines = if first_file.is_ok() { bytes } else { rest };
    let mut memory = FileMemory::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let file: SourceFile = serde_json::from_slice(line).map_err(|e| e.to_string())?;
        memory.insert(file.name.clone(), file);
    }
    if first_file.is_err() {
        let heading: Heading = serde_json::from_slice(first).map_err(|e| format!("its first line: {e}"))?;
        if heading != Heading::of(&memory, lines) {
            return Err("it is not what its first line says".to_owned());
        }
    }
    Ok(memory)
}

/// Keeps the files that the first `number` runs have ingested.
pub(crate) fn write_files(state: &Path, pipeline: &str, number: u64, memory: &FileMemory) -> Result<()> {
    make_folder(&pipeline_folder(state, pipeline))?;
    let internal = |e: serde_json::Error| IngestError::internal(e.to_string());
    let mut lines = Vec::new();
    for file in memory.values() {
        serde_json::to_writer(&mut lines, file).map_err(internal)?;
        lines.push(b'\n');
    }
    let mut text = serde_json::to_vec(&Heading::of(memory, &lines)).map_err(internal)?;
    text.push(b'\n');
    text.append(&mut lines);
    write_whole(&files_path(state, pipeline, number), &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Symptom: a file was ingested twice after a byte of its name had turned in the memory of files. Cause: the memory had no
    /// checksum. Mend: its first line has one.
    #[test]
    fn g7_a_memory_of_files_in_which_a_byte_has_turned_is_an_error_and_one_of_an_earlier_version_is_read() {
        let state = tempfile::tempdir().expect("a folder");
        let file = |name: &str| SourceFile {
            name: name.to_owned(),
            bytes: 700,
            modified: 1_790_000_000_000_000_000,
            hash: "00ff".to_owned(),
            rows: 12,
            bad: None,
        };
        let memory: FileMemory = ["a.parquet", "b.parquet"].map(|name| (name.to_owned(), file(name))).into();
        write_files(state.path(), "shop", 3, &memory).expect("it is kept");
        assert_eq!(read_files(state.path(), "shop", 3).expect("it is read"), memory);
        let path = files_path(state.path(), "shop", 3);
        let text = std::fs::read(&path).expect("it is there");
        for at in 0..text.len() {
            for bit in [0, 1, 5] {
                let mut changed = text.clone();
                changed[at] ^= 1 << bit;
                std::fs::write(&path, &changed).expect("it can be changed");
                let read = read_files(state.path(), "shop", 3);
                let error = read.expect_err(&format!("byte {at} has turned: {}", String::from_utf8_lossy(&changed)));
                assert!(error.message.contains("damaged"), "{error:?}");
            }
        }
        let lines = text.iter().position(|byte| *byte == b'\n').expect("a line ends") + 1;
        std::fs::write(&path, &text[lines..]).expect("it can be changed");
        assert_eq!(read_files(state.path(), "shop", 3).expect("it is read"), memory);
    }
}
