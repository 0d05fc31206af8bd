//! The manifest: what is published, in one file that is replaced whole. A reader that follows it sees every run or
//! nothing of it. It holds no time and no run name, so that the same records give the same bytes. Must never name a
//! file that is not whole and in place.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use seriatim_pipeline::model::Id;

use crate::error::{IngestError, Result};
use crate::layout::TableSignature;
use crate::number::ordinal_of;
use crate::partition::Values;
use crate::report::AsideFile;
use crate::write::stem;

/// The version of the manifest's form.
pub(crate) const FORMAT: u32 = 1;

/// Everything that is published in an output folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) format: u32,
    pub(crate) pipeline: String,
    pub(crate) runs: Vec<ManifestRun>,
    pub(crate) tables: Vec<ManifestTable>,
    pub(crate) quarantine: Vec<ManifestFile>,
}

/// What one run read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestRun {
    pub(crate) number: u64,
    pub(crate) files: u64,
    pub(crate) records: u64,
    pub(crate) filtered: u64,
    pub(crate) quarantined: u64,
    /// For each list whose elements are rows of tables how many it has, in records that were not set aside.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) elements: BTreeMap<String, u64>,
    /// Files that it set aside: none of their records is in the output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) aside: Vec<AsideFile>,
    /// Files of the quarantine whose records it has read once more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) replayed: Vec<String>,
    /// What it changed of things that were published before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) changes: Vec<TableChanges>,
    /// When it was accepted, in microseconds since 1970, if versions hold since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) accepted: Option<i64>,
}

/// What a run changed in one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TableChanges {
    pub(crate) table: String,
    /// Known keys that got other attributes.
    pub(crate) updated: u64,
    /// Published files that were written anew.
    pub(crate) rewritten: u64,
}

/// One table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestTable {
    pub(crate) table: String,
    pub(crate) id: Option<Id>,
    pub(crate) key: Vec<String>,
    /// Column and the table that it refers to.
    pub(crate) references: Vec<(String, String)>,
    /// Role, name and type of each column.
    pub(crate) columns: Vec<(String, String, String)>,
    /// The columns that are not in the files: their values are in the names of folders, and stand with each file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) partition_by: Vec<String>,
    pub(crate) rows: u64,
    pub(crate) files: Vec<ManifestFile>,
    /// The list whose elements are its rows, instead of the records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    /// What the first run took over from a table that existed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) adopted: Option<AdoptedPlaces>,
}

/// Keys with IDs that no file here has a row of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AdoptedPlaces {
    pub(crate) keys: u64,
    /// Their IDs are among so many places of the sequence, before the first row's.
    pub(crate) places: u64,
}

impl ManifestTable {
    /// The places that each run has in the sequence: the run, the first place, and how many. None for a table without IDs.
    pub(crate) fn blocks(&self) -> Vec<(u64, u64, u64)> {
        let Some(id) = &self.id else { return Vec::new() };
        let mut blocks: Vec<(u64, u64, u64)> = Vec::new();
        for file in &self.files {
            let Some(first) = file.ids.and_then(|(first, _)| ordinal_of(id, first)) else { continue };
            match blocks.last_mut() {
                // Files of partitions are in no order of IDs, but a run's are one block together.
                Some((run, start, count)) if *run == file.run => {
                    *start = first.min(*start);
                    *count += file.things();
                }
                _ => blocks.push((file.run, first, file.things())),
            }
        }
        blocks
    }

    /// How many things have rows in it: as many as it has IDs.
    pub(crate) fn things(&self) -> u64 {
        self.files.iter().map(ManifestFile::things).sum()
    }

    /// How many of its rows are later versions of things.
    pub(crate) fn versions(&self) -> u64 {
        self.files.iter().map(|file| file.rows - file.things()).sum()
    }
}

/// One published file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestFile {
    /// Relative to the output folder.
    pub(crate) path: String,
    /// The run that gave its IDs.
    pub(crate) run: u64,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// XXH3, 128 bits, of the content, in hexadecimal.
    pub(crate) xxh3: String,
    /// The first and the last ID in it.
    pub(crate) ids: Option<(i64, i64)>,
    /// The values of the columns by which its table is partitioned, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) partition: Values,
    /// How many things its rows are, if some of them are versions of one thing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) things: Option<u64>,
    /// The run that wrote it anew, in the place of an earlier file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rewritten: Option<u64>,
}

impl ManifestFile {
    /// How many things its rows are.
    pub(crate) fn things(&self) -> u64 {
        self.things.unwrap_or(self.rows).min(self.rows)
    }

    /// The run that wrote it.
    pub(crate) fn written_by(&self) -> u64 {
        self.rewritten.unwrap_or(self.run)
    }

    /// Whether a later run than this one has written it anew, and otherwise it is the same file.
    fn comes_after(&self, before: &Self, number: u64) -> bool {
        let of = |file: &Self| (stem(&file.path).to_owned(), file.run, file.ids, file.partition.clone());
        self.rewritten.is_some_and(|run| run > number) && of(self) == of(before)
    }

    /// Whether it is the file that a run has published, or one that has taken its place since.
    pub(crate) fn continues(&self, before: &Self, number: u64) -> bool {
        self == before || self.comes_after(before, number)
    }
}

impl Manifest {
    /// The manifest of an output folder before the first run.
    pub(crate) fn new(pipeline: &str, layout: &crate::layout::Layout) -> Self {
        let tables = layout.tables.iter().zip(layout.signatures());
        let table = |(table, signature): (&crate::layout::TableLayout, TableSignature)| ManifestTable {
            table: table.name.clone(),
            id: table.id.clone(),
            key: table.key_fields().iter().map(|field| field.name().clone()).collect(),
            references: signature
                .columns
                .iter()
                .filter_map(|(role, name, _)| role.strip_prefix("reference to ").map(|t| (name.clone(), t.to_owned())))
                .collect(),
            columns: signature.columns,
            partition_by: signature.partition_by,
            rows: 0,
            files: Vec::new(),
            from: signature.from,
            adopted: None,
        };
        Self {
            format: FORMAT,
            pipeline: pipeline.to_owned(),
            runs: Vec::new(),
            tables: tables.map(table).collect(),
            quarantine: Vec::new(),
        }
    }

    /// Reads a manifest; `place` is where it is, for people.
    pub(crate) fn parse(bytes: &[u8], place: &str) -> Result<Self> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|e| {
            IngestError::state(format!("{place} is damaged: {e}"))
                .help("bring it back from a backup, or see which program changed it")
        })?;
        if manifest.format != FORMAT {
            return Err(IngestError::output(format!(
                "{place} has form {}; this program reads {FORMAT}",
                manifest.format
            ))
            .help("use the version of the program that wrote it, or a newer one"));
        }
        Ok(manifest)
    }

    /// The number of the last published run; 0 before the first.
    pub(crate) fn number(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.number)
    }

    /// A table's place, by its name.
    pub(crate) fn table_index(&self, name: &str) -> Result<usize> {
        self.tables.iter().position(|table| table.table == name).ok_or_else(|| {
            let names: Vec<&str> = self.tables.iter().map(|table| table.table.as_str()).collect();
            IngestError::pipeline(format!("pipeline '{}' has no table '{name}'", self.pipeline))
                .help(format!("its tables are: {}", names.join(", ")))
        })
    }

    /// Whether some of its files have taken the place of others.
    pub(crate) fn has_rewritten(&self) -> bool {
        self.tables.iter().flat_map(|table| &table.files).any(|file| file.rewritten.is_some())
    }

    /// The files of all tables and of the quarantine.
    pub(crate) fn files(&self) -> impl Iterator<Item = &ManifestFile> {
        self.tables.iter().flat_map(|t| &t.files).chain(&self.quarantine)
    }
}
